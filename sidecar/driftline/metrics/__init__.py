"""Metrics: counted by small observers, shown on `/metrics`, pushed over OTLP."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from driftline.call import Call
from driftline.exchange import Exchange
from driftline.metrics.calls import CallMetrics
from driftline.metrics.drift import DriftSource, drift_metrics
from driftline.metrics.instruments import Metric
from driftline.metrics.labels import LabelBound
from driftline.metrics.otlp import Pusher
from driftline.metrics.prometheus import Exposition
from driftline.metrics.telemetry import Books, Export, telemetry_metrics
from driftline.relay.counters import Totals


class Metrics:
    """All metrics of one observer process.

    `relay` gives the relays' totals, `exports` each signal's way out, `faults` the calls that an observer failed
    on, by observer, `drift` what the detector found. `started` is seconds since the epoch.
    `label_values` is how many values a label may take before the rest is folded into `__other__`.
    """

    def __init__(
        self,
        *,
        relay: Callable[[], Totals],
        exports: Mapping[str, Export],
        faults: Mapping[str, int],
        drift: DriftSource | None = None,
        resource: Mapping[str, str],
        environ: Mapping[str, str],
        started: float,
        label_values: int = 100,
    ) -> None:
        bound = LabelBound(label_values)
        self._calls = CallMetrics(bound)
        ways_out = dict(exports)
        self.all: list[Metric] = [
            *self._calls.metrics,
            *telemetry_metrics(Books(relay=relay, exports=ways_out, faults=faults, bound=bound)),
            *(drift_metrics(drift) if drift is not None else []),
        ]
        self._exposition = Exposition(self.all)
        self._pusher = ways_out["metrics"] = Pusher.from_env(self.all, resource, environ, started=started)

    def observe(self, call: Call) -> None:
        self._calls.observe(call)

    def relayed(self, exchange: Exchange) -> None:
        """For every exchange, a call or not."""
        self._calls.relayed(exchange)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Body and content type of `/metrics`."""
        return self._exposition.render(accept)

    def tick(self, now: float) -> None:
        """Push, where metrics are pushed and it is time to. `now` is seconds since the epoch."""
        self._pusher.tick(now)

    async def shutdown(self, now: float, within: float) -> None:
        """Push once more where metrics are pushed, for at most about `within` seconds."""
        await self._pusher.shutdown(now, within)
