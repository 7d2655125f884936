"""Takes exchange records from the relays. Imports nothing heavy: it accepts before the observers are loaded."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import cast

from driftline.relay.channel import GOODBYE, GREETING, LENGTH, MAGIC, MAX_RECORD
from driftline.relay.counters import Block, Row, settle

_log = logging.getLogger(__name__)
_HOLD_BYTES = 64 * 1024 * 1024
"""Records kept while the observers load; more wait in the relays."""


class Intake:
    """All connections from relays. Records go to `consume` one by one, on the loop; it says whether it could read
    one."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self._consume: Callable[[bytes], bool] | None = None
        self._held: deque[tuple[bytes, Row]] = deque()
        self._held_bytes = 0
        self._connections: set[_Connection] = set()
        self._silent: set[tuple[int, int]] = set()
        """Rows and the incarnations that had them: a settled row is used again."""
        self._leaving = False

    def connection(self) -> asyncio.Protocol:
        return _Connection(self)

    def open(self, consume: Callable[[bytes], bool]) -> None:
        """The observers are ready: hand over what was held, then each record as it comes."""
        self._consume = consume
        while self._held:
            self.record(*self._held.popleft())
        for connection in self._connections:
            connection.resume()

    def record(self, record: bytes, row: Row) -> None:
        if self._consume is not None:
            row.add("observed" if self._consume(record) else "dropped.unreadable")
            return
        self._held.append((record, row))
        self._held_bytes += len(record)
        if self._held_bytes > _HOLD_BYTES:
            for connection in self._connections:
                connection.pause()

    # Whose books can be closed

    def settle_dead(self) -> None:
        """Close the books of relays that are gone and whose records are all read. Called every second: a row must
        have been silent at two looks, because a dead relay's connection may still wait to be accepted."""
        connected = {connection.row and connection.row.index for connection in self._connections}
        silent = {
            (row.index, row["incarnation"])
            for row in self.block.rows()
            if row["ended"] and not row["settled"] and row.index not in connected
        }
        if self._consume is None or self._held or None in connected or self._leaving:
            silent = set()
        for index, _ in silent & self._silent:
            lost = settle(self.block.row(index))
            if lost:
                _log.warning("a relay ended with %d requests that no one saw the end of", lost)
        self._silent = silent

    def say_goodbye(self) -> None:
        """Another observer follows: relays are to end what they send, and keep the rest for it.

        It closes the books, too: what a relay that ends now has kept waits to be read by it alone.
        """
        self._leaving = True
        for connection in self._connections:
            connection.say_goodbye()

    @property
    def idle(self) -> bool:
        """Every relay has said its last."""
        return not self._connections

    def joined(self, connection: _Connection) -> None:
        self._connections.add(connection)

    def left(self, connection: _Connection) -> None:
        self._connections.discard(connection)


class _Connection(asyncio.Protocol):
    """One relay's stream of records."""

    def __init__(self, intake: Intake) -> None:
        self.row: Row | None = None
        self._intake = intake
        self._buffer = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._intake.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._intake.left(self)

    def say_goodbye(self) -> None:
        self._transport.write(GOODBYE)

    def pause(self) -> None:
        self._transport.pause_reading()

    def resume(self) -> None:
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self.row is None and not self._greeted():
            return
        buffer, row, start = self._buffer, self.row, 0
        assert row is not None
        while len(buffer) - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(buffer, start)
            if length > MAX_RECORD:
                _log.error("a relay announced a record of %d bytes: its channel is closed", length)
                self._transport.abort()
                return
            end = start + LENGTH.size + length
            if len(buffer) < end:
                break
            self._intake.record(bytes(memoryview(buffer)[start + LENGTH.size : end]), row)
            start = end
        del buffer[:start]

    def _greeted(self) -> bool:
        if len(self._buffer) < GREETING.size:
            return False
        magic, index = GREETING.unpack_from(self._buffer)
        if magic != MAGIC:
            _log.error("something that is no relay connected to the channel: closed")
            self._transport.abort()
            return False
        del self._buffer[: GREETING.size]
        self.row = self._intake.block.row(index)
        return True
