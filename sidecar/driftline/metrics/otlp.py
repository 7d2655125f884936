"""The same metrics over OTLP, pushed at an interval where the standard variables ask for it.

Field numbers are those of opentelemetry-proto's `metrics/v1/metrics.proto`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter as Counts
from collections.abc import Mapping

from driftline.metrics.instruments import Counter, Histogram, Labels, Metric, Observed, Value, is_gauge
from driftline.otlp import environment
from driftline.otlp.connect import Destination, connect
from driftline.otlp.environment import Connection
from driftline.otlp.resource import Envelope
from driftline.otlp.sender import Sender, deliver
from driftline.otlp.wire import (
    attributes,
    double,
    fixed64,
    integer,
    message,
    packed_doubles,
    packed_fixed64,
    sfixed64,
    text,
)
from driftline.tracing.resource import SCOPE

log = logging.getLogger(__name__)

_TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
_CUMULATIVE = 2


def encode(metrics: list[Metric], started: int, now: int) -> list[bytes]:
    """Everything measured, as elements of `Envelope.request`. `started` and `now` are nanoseconds since the epoch."""
    return [
        message(2, text(1, metric.name) + text(2, metric.description) + text(3, metric.unit) + data)
        for metric in metrics
        if (data := _data(metric, started, now))
    ]


def _data(metric: Metric, started: int, now: int) -> bytes:
    """Nothing for a metric without a series."""
    times = fixed64(2, started) + fixed64(3, now)
    if isinstance(metric, Histogram):
        buckets = [message(1, _buckets(metric, times, *series)) for series in metric.read()]
        return message(9, b"".join(buckets) + integer(2, _CUMULATIVE)) if buckets else b""
    if is_gauge(metric):
        return message(5, numbers) if (numbers := _numbers(metric, fixed64(3, now))) else b""
    numbers = _numbers(metric, times)
    return message(7, numbers + integer(2, _CUMULATIVE) + integer(3, True)) if numbers else b""


def _numbers(metric: Counter | Observed, times: bytes) -> bytes:
    points = [
        times
        + (double(4, value) if isinstance(value, float) else sfixed64(6, value))
        + attributes(7, _attributes(metric, labels))
        for labels, value in metric.read()
    ]
    return b"".join([message(1, point) for point in points])


def _buckets(metric: Histogram, times: bytes, labels: Labels, counts: list[int], total: Value) -> bytes:
    return (
        times
        + fixed64(4, sum(counts))
        + double(5, total)
        + packed_fixed64(6, counts)
        + packed_doubles(7, metric.bounds)
        + attributes(9, _attributes(metric, labels))
    )


def _attributes(metric: Metric, labels: Labels) -> dict[str, str | int]:
    return {name: value for name, value in zip(metric.labels, labels, strict=True) if value != ""}


class Pusher:
    """Reads all metrics when a push is due and sends them from a task of its own.

    Nothing is lost by a push that fails, or is left out because the last one is still on its way: totals go on.
    """

    def __init__(
        self,
        senders: list[Sender],
        metrics: list[Metric],
        envelope: Envelope,
        *,
        interval: float,
        timeout: float,
        started: float,
    ) -> None:
        self.batches: Counts[str] = Counts()
        self.dropped: Counts[str] = Counts()
        self._senders = senders
        self._metrics = metrics
        self._envelope = envelope
        self._interval = interval
        self._timeout = timeout
        self._started = started
        self._due = started + interval
        self._pushing: asyncio.Task[None] | None = None

    @classmethod
    def from_env(
        cls, metrics: list[Metric], resource: Mapping[str, str], environ: Mapping[str, str], *, started: float
    ) -> Pusher:
        """Where `OTEL_METRICS_EXPORTER` or an OTLP endpoint says so; else it does nothing.

        Raises `ValueError` naming the variable that cannot be followed.
        """
        kinds = [] if environment.disabled(environ) else environment.exporters("METRICS", environ)
        if kinds and environ.get(_TEMPORALITY, "cumulative").strip().lower() != "cumulative":
            log.warning("%s is not followed: metrics are exported as cumulative totals", _TEMPORALITY)
        connection = Connection.from_env("METRICS", environ)
        return cls(
            [
                connect("METRICS", _destination(kind, environ), connection)
                for kind in kinds
                if kind in _PUSHED
            ],
            metrics,
            Envelope(resource, SCOPE),
            interval=environment.metric_interval(environ),
            timeout=connection.timeout,
            started=started,
        )

    def tick(self, now: float) -> None:
        """Push where it is time to. `now` is seconds since the epoch."""
        # Outside of the interval before it is due, the clock was set back: waiting for it could take hours.
        if self._senders and not 0 < self._due - now <= self._interval:
            self._due = now + self._interval
            if self._pushing is None or self._pushing.done():
                self._pushing = asyncio.create_task(self._push(self._read(now)), name="push-metrics")

    async def shutdown(self, now: float, within: float) -> None:
        """Push once more, for at most about `within` seconds, and stop."""
        if not self._senders:
            return
        last = asyncio.create_task(self._last(now))
        await asyncio.wait([last], timeout=within)
        last.cancel()
        await asyncio.gather(last, return_exceptions=True)
        for sender in self._senders:
            await sender.close()

    async def _last(self, now: float) -> None:
        if self._pushing is not None:
            await self._pushing
        await self._push(self._read(now))

    def _read(self, now: float) -> bytes:
        return self._envelope.request(encode(self._metrics, int(self._started * 1e9), int(now * 1e9)))

    async def _push(self, request: bytes) -> None:
        for sender in self._senders:
            try:
                outcome = await deliver(sender, request, self._timeout)
            except Exception:
                if not self.batches["failure"]:
                    log.exception("metrics could not be pushed")
                self.batches["failure"] += 1
                continue
            if not outcome.delivered and not self.batches["failure"]:
                log.warning(
                    "metrics could not be pushed: %s; further failures are only counted", outcome.reason
                )
            self.batches["success" if outcome.delivered else "failure"] += 1


_PUSHED = ("otlp", "console")


def _destination(kind: str, environ: Mapping[str, str]) -> Destination:
    if kind == "console":
        return Destination(protocol="console")
    protocol = environment.protocol("METRICS", environ)
    return Destination(
        protocol=protocol,
        endpoint=environment.endpoint("METRICS", environ, protocol),
        headers=environment.headers("METRICS", environ),
    )
