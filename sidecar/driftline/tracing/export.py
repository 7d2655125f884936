"""Getting spans out without ever making anyone wait.

One `Exporter` per backend: a bounded queue and a thread that empties it in batches. `submit` takes no lock
and does no I/O; a backend that is slow, full or gone costs spans of its own, counted by reason, and nobody
else's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from driftline.relay.counters import Tally
from driftline.otlp.environment import QueueSettings
from driftline.tracing.presets import Target

log = logging.getLogger(__name__)


class Sender(Protocol):
    """Delivers one batch, or does not. The stock OTLP exporters are senders."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult: ...

    def shutdown(self) -> None: ...


class Exporter:
    """`submit` is called from one thread; everything else may be called from any.

    `tally` is where spans are counted; it outlives the process, and what a killed one held is counted as lost.
    """

    def __init__(
        self, name: str, sender: Sender, settings: QueueSettings, tally: Tally | None = None
    ) -> None:
        self.name = name
        self.tally = tally or Tally()
        self.tally.settle()
        self.batches: Counter[str] = Counter()
        """Batches, by outcome: `success`, `failure`."""
        self._sender = sender
        self._settings = settings
        self._queue: deque[tuple[ReadableSpan, int]] = deque()
        # Bytes in the queue are the difference of two sums with one writer each, so neither needs a lock.
        self._bytes_in = 0
        self._bytes_out = 0
        self._wake = threading.Event()
        self._stopping = False
        self._closing = threading.Lock()
        self._closed = False
        self._failing = False
        self._worker = threading.Thread(target=self._work, name=f"export-{name}", daemon=True)
        self._worker.start()

    @property
    def dropped(self) -> Counter[str]:
        """Spans that were lost, by reason: `queue_full`, `failed`, `shutdown`, `observer_lost`."""
        return Counter(self.tally.dropped)

    def submit(self, span: ReadableSpan, size: int) -> None:
        """Queue `span`, of about `size` bytes, or count it as dropped."""
        settings = self._settings
        self.tally.add("made")
        if self._stopping:
            self.tally.add("dropped.shutdown")
            return
        if (
            len(self._queue) >= settings.max_queue_size
            or self._bytes_in - self._bytes_out + size > settings.max_queue_bytes
        ):
            self.tally.add("dropped.queue_full")
            return
        self._bytes_in += size
        self._queue.append((span, size))
        if len(self._queue) >= settings.max_export_batch_size:
            self._wake.set()

    def shutdown(self, timeout: float) -> None:
        """Send what is queued, for at most `timeout` seconds, and stop; what is left is counted as dropped.

        To be called when nothing is submitted any more.
        """
        deadline = time.monotonic() + timeout
        self._stopping = True
        self._wake.set()
        self._worker.join(max(0.0, deadline - time.monotonic()))
        with self._closing:
            self._closed = True
            self.tally.add(
                "dropped.shutdown", self.tally["made"] - self.tally["exported"] - self.dropped.total()
            )
        self._sender.shutdown()

    def _work(self) -> None:
        while True:
            self._wake.wait(self._settings.schedule_delay)
            self._wake.clear()
            while batch := self._next_batch():
                self._send(batch)
                if not self._stopping and len(self._queue) < self._settings.max_export_batch_size:
                    break
            if self._stopping and not self._queue:
                return

    def _next_batch(self) -> list[ReadableSpan]:
        batch: list[ReadableSpan] = []
        size = 0
        while self._queue and len(batch) < self._settings.max_export_batch_size:
            if batch and size + self._queue[0][1] > self._settings.max_batch_bytes:
                break
            span, span_size = self._queue.popleft()
            batch.append(span)
            size += span_size
            self._bytes_out += span_size
        return batch

    def _send(self, batch: list[ReadableSpan]) -> None:
        try:
            delivered = self._sender.export(batch) is SpanExportResult.SUCCESS
        except Exception:
            if not self._failing:
                log.exception("exporter %s failed", self.name)
            delivered = False
        with self._closing:
            if self._closed:
                return
            self.batches["success" if delivered else "failure"] += 1
            if delivered:
                self.tally.add("exported", len(batch))
            else:
                self.tally.add("dropped.failed", len(batch))
        if self._failing == delivered:
            self._failing = not delivered
            if delivered:
                log.info(
                    "exporter %s delivers again; %d spans were lost", self.name, self.tally["dropped.failed"]
                )
            else:
                log.warning("exporter %s does not deliver: its spans are dropped until it does", self.name)


class OncePerKind(logging.Filter):
    """Lets one line of each kind (logger and format string) through: a backend that is down says so once."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[tuple[str, str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        kind = (record.name, str(record.msg))
        new = kind not in self._seen
        self._seen.add(kind)
        return new


def connect(target: Target) -> SpanExporter:
    """The stock exporter for `target`. Imported late: a process needs one of three, and gRPC is large."""
    if target.protocol == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415

        return ConsoleSpanExporter()
    if target.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc  # noqa: PLC0415

        quieten("opentelemetry.exporter.otlp.proto.grpc.exporter")
        return grpc.OTLPSpanExporter(endpoint=target.endpoint, headers=target.headers or None)
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as http  # noqa: PLC0415

    quieten("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    return http.OTLPSpanExporter(endpoint=target.endpoint, headers=target.headers or None)


def quieten(logger: str) -> None:
    """Let the stock exporter that logs to `logger`, and its encoder, say each thing once."""
    for name in (logger, "opentelemetry.exporter.otlp.proto.common._internal"):
        filters = logging.getLogger(name).filters
        if not any(isinstance(one, OncePerKind) for one in filters):
            filters.append(OncePerKind())
