"""Tracing as an observer: every sampled call becomes a span at every backend."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from driftline.call import Call
from driftline.otlp.connect import connect
from driftline.otlp.environment import Connection, QueueSettings
from driftline.otlp.resource import Envelope
from driftline.otlp.trace import encode
from driftline.relay.counters import Tally
from driftline.relay.tracecontext import SAMPLED
from driftline.tracing.content import Capture, CaptureSettings
from driftline.tracing.export import Exporter
from driftline.tracing.presets import ExporterSettings, targets
from driftline.tracing.resource import SCOPE, resource
from driftline.tracing.spans import SpanBuilder


class TraceObserver:
    def __init__(self, builder: SpanBuilder, exporters: list[Exporter]) -> None:
        self._builder = builder
        self.exporters = exporters

    @classmethod
    def start(
        cls,
        exporters: list[ExporterSettings],
        capture: CaptureSettings,
        environ: Mapping[str, str],
        tally: Callable[[int], Tally] = lambda _: Tally(),
    ) -> TraceObserver:
        """Begin to export to every backend configured, on the running event loop. `ValueError` says what is wrong
        with the configuration.

        `tally` gives the counters of each backend, by its number.
        """
        queue, connection = QueueSettings.from_env(environ), Connection.from_env("TRACES", environ)
        who = resource(environ)
        envelope = Envelope(who, SCOPE)
        return cls(
            SpanBuilder(who, Capture(capture, environ), environ),
            [
                Exporter(
                    target.name,
                    connect("TRACES", target, connection),
                    envelope,
                    queue,
                    timeout=connection.timeout,
                    tally=tally(number),
                )
                for number, target in enumerate(targets(exporters, environ))
            ],
        )

    def observe(self, call: Call) -> None:
        if not self.exporters or not call.exchange.trace_flags & SAMPLED:
            return
        span = encode(self._builder.span(call))
        for exporter in self.exporters:
            exporter.submit(span)

    @property
    def dropped(self) -> Counter[str]:
        """Spans lost, by reason, over all backends."""
        return sum((exporter.dropped for exporter in self.exporters), Counter())

    @property
    def batches(self) -> Counter[str]:
        """Batches sent, by outcome, over all backends."""
        return sum((exporter.batches for exporter in self.exporters), Counter())

    @property
    def made(self) -> int:
        """Spans handed to a backend's queue, over all backends and all observers that ever ran."""
        return sum(exporter.tally["made"] for exporter in self.exporters)

    @property
    def exported(self) -> int:
        """Those that a backend took."""
        return sum(exporter.tally["exported"] for exporter in self.exporters)

    async def shutdown(self, within: float) -> None:
        """Flush all backends at once, in at most about `within` seconds."""
        await asyncio.gather(*(exporter.shutdown(within) for exporter in self.exporters))
