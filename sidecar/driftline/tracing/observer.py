"""Tracing as an observer: every sampled call becomes a span at every backend."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping

from driftline.call import Call
from driftline.relay.counters import Tally
from driftline.relay.tracecontext import SAMPLED
from driftline.tracing import semconv
from driftline.tracing.content import Capture, CaptureSettings
from driftline.otlp.environment import QueueSettings
from driftline.tracing.export import Exporter, connect
from driftline.tracing.presets import ExporterSettings, targets
from driftline.tracing.spans import SpanBuilder, resource

_SPAN_BYTES = 3072
"""About what a span without content takes, encoded."""
_CONTENT = (
    semconv.SYSTEM_INSTRUCTIONS,
    semconv.INPUT_MESSAGES,
    semconv.OUTPUT_MESSAGES,
    semconv.TOOL_DEFINITIONS,
)


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
        """Connect to every backend configured. `ValueError` says what is wrong with the configuration.

        `tally` gives the counters of each backend, by its number.
        """
        queue = QueueSettings.from_env(environ)
        builder = SpanBuilder(resource(), Capture(capture, environ), environ)
        backends = enumerate(targets(exporters, environ))
        return cls(builder, [Exporter(t.name, connect(t), queue, tally(number)) for number, t in backends])

    def observe(self, call: Call) -> None:
        if not self.exporters or not call.exchange.trace_flags & SAMPLED:
            return
        span = self._builder.span(call)
        attributes = span.attributes or {}
        size = _SPAN_BYTES + sum(len(str(attributes.get(name, ""))) for name in _CONTENT)
        for exporter in self.exporters:
            exporter.submit(span, size)

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

    def shutdown(self, timeout: float) -> None:
        """Flush all backends at once, in at most about `timeout` seconds."""
        closing = [threading.Thread(target=exporter.shutdown, args=(timeout,)) for exporter in self.exporters]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(timeout + 1)
