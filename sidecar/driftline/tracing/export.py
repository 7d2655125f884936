"""Getting spans out without ever making anyone wait.

One `Exporter` per backend: a queue of encoded spans, bounded in number and bytes, and a task that empties it in
batches. `submit` does no I/O; a backend that is slow, full or gone costs spans of its own, counted by reason, and
nobody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque

from driftline.otlp.environment import QueueSettings
from driftline.otlp.resource import Envelope
from driftline.otlp.sender import Outcome, Sender, deliver
from driftline.relay.counters import Tally

log = logging.getLogger(__name__)


class Exporter:
    """To be made and used on one event loop.

    `envelope` is what stands around each batch, `timeout` the seconds that one may take, tries again included.
    `tally` is where spans are counted; it outlives the process, and what a killed one held is counted as lost.
    """

    def __init__(
        self,
        name: str,
        sender: Sender,
        envelope: Envelope,
        settings: QueueSettings,
        *,
        timeout: float = 10.0,
        tally: Tally | None = None,
    ) -> None:
        self.name = name
        self.tally = tally or Tally()
        self.tally.settle()
        self.batches: Counter[str] = Counter()
        """Batches, by outcome: `success`, `failure`."""
        self._sender = sender
        self._envelope = envelope
        self._settings = settings
        self._timeout = timeout
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self._failing = False
        self._worker = asyncio.create_task(self._work(), name=f"export-{name}")

    @property
    def dropped(self) -> Counter[str]:
        """Spans that were lost, by reason: `queue_full`, `failed`, `rejected`, `shutdown`, `observer_lost`."""
        return Counter(self.tally.dropped)

    def submit(self, span: bytes) -> None:
        """Queue an encoded span, or count it as dropped."""
        settings = self._settings
        self.tally.add("made")
        if self._stopping:
            self.tally.add("dropped.shutdown")
        elif (
            len(self._queue) >= settings.max_queue_size or self._bytes + len(span) > settings.max_queue_bytes
        ):
            self.tally.add("dropped.queue_full")
        else:
            self._bytes += len(span)
            self._queue.append(span)
            if self._full_batch():
                self._wake.set()

    async def shutdown(self, within: float) -> None:
        """Send what is queued, for at most `within` seconds, and stop; what is left is counted as dropped."""
        self._stopping = True
        self._wake.set()
        await asyncio.wait([self._worker], timeout=within)
        self._worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._worker
        tally = self.tally
        tally.add("dropped.shutdown", tally["made"] - tally["exported"] - self.dropped.total())
        await self._sender.close()

    def _full_batch(self) -> bool:
        settings = self._settings
        return len(self._queue) >= settings.max_export_batch_size or self._bytes >= settings.max_batch_bytes

    async def _work(self) -> None:
        while not self._stopping or self._queue:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.schedule_delay):
                    await self._wake.wait()
            self._wake.clear()
            while batch := self._next_batch():
                await self._send(batch)
                if not self._stopping and not self._full_batch():
                    break

    def _next_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._queue and len(batch) < self._settings.max_export_batch_size:
            if batch and size + len(self._queue[0]) > self._settings.max_batch_bytes:
                break
            batch.append(self._queue.popleft())
            size += len(batch[-1])
        self._bytes -= size
        return batch

    async def _send(self, batch: list[bytes]) -> None:
        try:
            outcome = await deliver(self._sender, self._envelope.request(batch), self._timeout)
        except Exception as error:
            if not self._failing:
                log.exception("exporter %s failed", self.name)
            outcome = Outcome(delivered=False, reason=repr(error))
        delivered = outcome.delivered
        self.batches["success" if delivered else "failure"] += 1
        if delivered:
            rejected = min(outcome.rejected, len(batch))
            if rejected and not self.tally["dropped.rejected"]:
                log.warning("exporter %s: %d spans were rejected: %s", self.name, rejected, outcome.reason)
            self.tally.add("exported", len(batch) - rejected)
            self.tally.add("dropped.rejected", rejected)
        else:
            self.tally.add("dropped.failed", len(batch))
        if self._failing == delivered:
            self._failing = not delivered
            if delivered:
                lost = self.tally["dropped.failed"]
                log.info("exporter %s delivers again; %d spans were lost", self.name, lost)
            else:
                log.warning(
                    "exporter %s does not deliver: its spans are dropped until it does: %s",
                    self.name,
                    outcome.reason,
                )
