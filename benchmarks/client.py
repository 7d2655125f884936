"""Closed loops of HTTP requests over sockets, on one thread, with as little as can be between a chunk and its record.

No asyncio: a read costs one system call, one line in a list and one look of a C parser at the framing. What came
is judged afterwards, when nothing is measured any more.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import httptools

READ_BYTES = 65536
SO_TIMESTAMPNS = 35
"""Of Linux, in asm-generic/socket.h; the `socket` module of Python 3.11 has no name for it."""
TIMESTAMP = struct.Struct("qq")
STAMPS = sys.platform == "linux"
RETRY = 0.02
"""Seconds after a fault before the next request."""


class Read(NamedTuple):
    at: int
    """Nanoseconds, monotonic: when the last byte of it arrived at the socket; where the system does not say,
    when it was read."""
    data: bytes


class Answer(NamedTuple):
    asked_at: int
    """Nanoseconds, monotonic."""
    reads: list[Read]
    """The whole response, head and framing included, as it came."""


class Decoded(NamedTuple):
    """An answer without its framing."""

    status: int
    body: bytes
    sizes: list[int]
    """Bytes of the body up to and with each read."""

    @classmethod
    def of(cls, answer: Answer) -> Decoded:
        pieces: list[bytes] = []
        sizes = []
        size = 0
        parser = httptools.HttpResponseParser(_Body(pieces))
        for read in answer.reads:
            before = len(pieces)
            parser.feed_data(read.data)
            size += sum(map(len, pieces[before:]))
            sizes.append(size)
        return cls(parser.get_status_code(), b"".join(pieces), sizes)


class _Body:
    def __init__(self, pieces: list[bytes]) -> None:
        self.on_body = pieces.append


class Target:
    """Where requests go. Counts connections and what went wrong."""

    def __init__(self, address: str, fields: str = "") -> None:
        """`address`: host:port; `fields`: further header lines of every request, each with its line end."""
        host, _, port = address.rpartition(":")
        self.address = host, int(port)
        self._head = f"Host: {address}\r\nContent-Type: application/json\r\n{fields}Content-Length: "
        self.connections = 0
        self.faults: collections.Counter[str] = collections.Counter()
        # The kernel stamps with the time of day. Both clocks are slewed alike, so the difference stays.
        self.clocks_apart = time.time_ns() - time.monotonic_ns()

    def request(self, path: str, body: bytes, fields: str = "") -> bytes:
        return f"POST {path} HTTP/1.1\r\n{fields}{self._head}{len(body)}\r\n\r\n".encode() + body


class Connection:
    """One connection; one request at a time."""

    def __init__(self, target: Target, ended: Callable[[Answer | str], None]) -> None:
        """`ended`: called with each answer, or with what went wrong instead. Raises `OSError`."""
        self._ended = ended
        self._clocks_apart = target.clocks_apart
        self._socket = socket.create_connection(target.address)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if STAMPS:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        target.connections += 1
        self._begin()
        self.usable = True

    def fileno(self) -> int:
        return self._socket.fileno()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._complete = False
        self._reads: list[tuple[int, bytes, list[tuple[int, int, bytes]]]] = []
        self._asked_at = time.monotonic_ns()

    def ask(self, request: bytes) -> None:
        """Send `request`, which the socket's buffer must hold."""
        self._begin()
        try:
            self._socket.sendall(request)
        except OSError:
            self._fail("broken off")

    def readable(self) -> None:
        try:
            if STAMPS:
                data, stamps, _, _ = self._socket.recvmsg(READ_BYTES, 64)
            else:
                data, stamps = self._socket.recv(READ_BYTES), []
        except BlockingIOError:
            return
        except OSError:
            data, stamps = b"", []
        self._reads.append((time.monotonic_ns(), data, stamps))
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("not HTTP")
            return
        if self._complete:
            self._ended(Answer(self._asked_at, [self._read(*read) for read in self._reads]))
        elif not data:
            self._fail("broken off")

    def on_message_complete(self) -> None:
        self._complete = True
        self.usable = self._parser.should_keep_alive()  # true of this message only until the next read

    def _read(self, at: int, data: bytes, stamps: list[tuple[int, int, bytes]]) -> Read:
        if stamps:
            seconds, nanoseconds = TIMESTAMP.unpack(stamps[0][2])
            at = seconds * 10**9 + nanoseconds - self._clocks_apart
        return Read(at, data)

    def _fail(self, fault: str) -> None:
        self.usable = False
        self._ended(fault)

    def close(self) -> None:
        self.usable = False
        self._socket.close()


class Loop:
    """Reads sockets and calls what is due, until nothing is left to wait for."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._numbers), call))

    def add(self, connection: Connection) -> None:
        self._selector.register(connection, selectors.EVENT_READ, connection.readable)

    def remove(self, connection: Connection) -> None:
        self._selector.unregister(connection)
        connection.close()

    def run(self, timeout: float) -> None:
        """Raises `TimeoutError` where it takes longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            waiting = len(self._selector.get_map())
            if not waiting and not self._due:
                return
            if now > deadline:
                raise TimeoutError(f"{waiting} connections still wait after {timeout:g} s")
            wait = (self._due[0][0] if self._due else deadline) - now
            for key, _ in self._selector.select(max(0.0, wait)):
                key.data()


class Client:
    """A user who asks for one thing after the other."""

    def __init__(
        self,
        loop: Loop,
        target: Target,
        requests: Iterator[tuple[int, bytes]],
        judge: Callable[[int, Answer], None],
        think: Callable[[], float] = float,
    ) -> None:
        """`requests`: numbers and requests, asked one by one, each `think()` seconds after the last answer.

        A request that gets no answer is a fault of `target`, and not tried again.
        """
        self._loop = loop
        self._target = target
        self._requests = requests
        self._judge = judge
        self._think = think
        self._connection: Connection | None = None
        self._asking = False

    def connect(self) -> None:
        """Connect before the first request, so that the rush of many is over when it comes."""
        try:
            self._connection = Connection(self._target, self._ended)
        except OSError as error:
            self._target.faults[type(error).__name__] += 1
            self._connection = None
            return
        self._loop.add(self._connection)

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def begin(self, when: float) -> None:
        """Ask for the first thing at `when`, monotonic."""
        self._loop.at(when, self._next)

    def _next(self) -> None:
        numbered = next(self._requests, None)
        if numbered is None:
            self._drop()
            return
        if self._connection is None:
            self.connect()
        self._number, request = numbered
        if self._connection is None:
            self.begin(time.monotonic() + RETRY)
            return
        self._asking = True
        self._connection.ask(request)

    def _ended(self, answer: Answer | str) -> None:
        connection = self._connection
        assert connection is not None
        if not connection.usable:
            self._drop()
        if not self._asking:  # the server has closed a connection that waited for the next request
            return
        self._asking = False
        pause = self._think()
        if isinstance(answer, str):
            self._target.faults[answer] += 1
            pause = max(pause, RETRY)
        else:
            self._judge(self._number, answer)
        if pause:
            self.begin(time.monotonic() + pause)
        else:
            self._next()

    def _drop(self) -> None:
        if self._connection is not None:
            self._loop.remove(self._connection)
            self._connection = None
