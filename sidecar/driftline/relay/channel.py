"""The way out of the data plane: exchange records to the observer, never waited for.

A Unix stream socket; each record is preceded by its length (4 bytes, big-endian), the first by a greeting that
names the relay's row of counters. What cannot be sent is dropped and counted; traffic does not notice.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import cast

from driftline import exchange as exchanges
from driftline.exchange import Exchange
from driftline.relay.counters import Row

LENGTH = struct.Struct(">I")
GREETING = struct.Struct(">4sI")
MAGIC = b"DRF1"
GOODBYE = b"\0"
"""All that an observer ever says: another one follows."""
MAX_RECORD = 4 * 1024 * 1024
"""Two bodies of 256 KiB and what was scanned, with room."""
BOUND = 64 * 1024 * 1024
"""Bytes that may wait for a slow observer: 512 streams that end in one step of the engine are some 31 MB."""
_GATHER_SECONDS = 0.005
_AGAIN_SECONDS = 0.2

_log = logging.getLogger(__name__)


class Channel(asyncio.Protocol):
    """Connects, and connects again, to the observer's socket."""

    def __init__(self, path: str, row: Row, *, bound: int = BOUND) -> None:
        self._path = path
        self._row = row
        self._bound = bound
        self._transport: asyncio.Transport | None = None
        self._gathered: list[bytes] = []
        """Lengths and records in turn."""
        self._gathered_bytes = 0
        self._handing_over = False
        """What was sent is on its way to an observer that leaves; the rest is for its successor."""
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._stay_connected(), name="channel")

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        said = False
        while True:
            began = loop.time()
            try:
                await loop.create_unix_connection(lambda: self, self._path)
            except OSError as error:
                # The supervisor keeps the listening socket open while the observer restarts, so this is rare.
                if not said:
                    _log.warning("no channel to the observer: %s; it is tried again", error)
                said = True
            else:
                said = False
                await self._lost.wait()
            if loop.time() - began < _AGAIN_SECONDS:
                # Refused, or taken and closed at once, as libuv does in a process without file descriptors.
                await asyncio.sleep(_AGAIN_SECONDS)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        self._lost.clear()
        # Whatever the last observer had not taken died with it.
        row = self._row
        taken = row["observed"] + row["dropped.unreadable"] + row["dropped.observer_lost"]
        row.add("dropped.observer_lost", row["sent"] - taken)
        transport.write(GREETING.pack(MAGIC, row.index))
        transport.set_write_buffer_limits(high=self._bound)
        self._transport = transport
        self._handing_over = False
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Goodbye. It reads what has been sent to the end, then closes, so that no record is in doubt."""
        if self._transport is not None and not self._handing_over:
            self._flush()
            self._handing_over = True
            self._transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost.set()

    def send(self, exchange: Exchange) -> None:
        """Hand over one record, or count why not."""
        transport, row = self._transport, self._row
        if not self._handing_over and (transport is None or transport.is_closing()):
            row.add("dropped.channel_closed")
            return
        if self._unsent + _least_size(exchange) > self._bound:
            row.add("dropped.channel_full")
            return
        record = exchanges.encode(exchange)
        if len(record) > MAX_RECORD:
            row.add("dropped.too_large")
        else:
            if not self._gathered:
                asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._flush)
            self._gathered += (LENGTH.pack(len(record)), record)
            self._gathered_bytes += len(record)

    def _flush(self) -> None:
        """Write what was gathered: a system call for many records rather than for each."""
        if self._handing_over:
            return
        records, self._gathered, self._gathered_bytes = self._gathered, [], 0
        if self._transport is None:
            self._row.add("dropped.channel_closed", len(records) // 2)
        elif records:
            self._transport.write(b"".join(records))
            self._row.add("sent", len(records) // 2)

    async def drain(self, deadline: float) -> None:
        """Let what was handed over reach the observer's socket; give up at `deadline` (loop time)."""
        loop = asyncio.get_running_loop()
        self._flush()
        while self._unsent and loop.time() < deadline:  # noqa: ASYNC110  # ends once, at shutdown
            await asyncio.sleep(0.01)
        self._row.add("dropped.channel_closed", len(self._gathered) // 2)
        if self._task:
            self._task.cancel()
        if self._transport:
            self._transport.close()

    @property
    def _unsent(self) -> int:
        """Bytes that the kernel has not taken."""
        return self._gathered_bytes + (self._transport.get_write_buffer_size() if self._transport else 0)


def _least_size(exchange: Exchange) -> int:
    """Bytes its record takes at least: known without encoding what there is no room for."""
    asked, answered = exchange.request_body, exchange.response_body
    return len(asked.head) + len(asked.tail) + len(answered.head) + len(answered.tail)
