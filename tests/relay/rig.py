"""A relay between two real sockets, both in the test's hands."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from driftline.exchange import Exchange
from driftline.listeners import Address, listen
from driftline.relay.counters import Block
from driftline.relay.server import Relay
from driftline.relay.settings import (
    DataPlane,
    Endpoint,
    Limits,
    ListenerTls,
    Pool,
    RelaySettings,
    Route,
    Timeouts,
)

DEADLINE = 10.0
Handler = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One side of a TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def sends(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reads(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readexactly(size)

    async def reads_until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readuntil(mark)

    async def reads_all(self) -> bytes:
        """Everything until the other side closes."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read()

    async def reads_request(self) -> tuple[bytes, bytes]:
        """Head and body of a request with a length or in chunks (left framed)."""
        head = await self.reads_until(b"\r\n\r\n")
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            return head, await self.reads_until(b"0\r\n\r\n")
        if b"content-length:" in lower:
            length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
            return head, await self.reads(length)
        return head, b""

    async def sees_the_end(self) -> None:
        """The other side has closed or reset the connection."""
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass

    def closes(self) -> None:
        self.writer.close()

    def resets(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.writer.transport.abort()


class Records:
    """Stands where the channel to the observer is."""

    def __init__(self) -> None:
        self.all: list[Exchange] = []

    def send(self, exchange: Exchange) -> None:
        self.all.append(exchange)

    async def drain(self, deadline: float) -> None:
        pass

    async def one(self) -> Exchange:
        """The only record there is, once there is one."""
        (record,) = await self.count(1)
        return record

    async def count(self, number: int) -> list[Exchange]:
        await eventually(lambda: len(self.all) >= number)
        assert len(self.all) == number
        return self.all


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.002)


class Rig:
    """`async with rig(...) as r`: `r.upstream` is what the relay connects to, `r.client()` a new client."""

    def __init__(self, relay: Relay, records: Records, port: int, upstream: Upstream) -> None:
        self.relay = relay
        self.records = records
        self.port = port
        self.upstream = upstream
        self._open: list[Peer] = []

    async def client(self) -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port))
        self._open.append(peer)
        return peer

    async def asks(self, request: bytes) -> tuple[Peer, Peer]:
        """A new client has sent `request`, which has no body, and the upstream has read it."""
        client = await self.client()
        await client.sends(request)
        upstream = await self.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        return client, upstream

    def close(self) -> None:
        for peer in self._open:
            peer.closes()


class Upstream:
    """Listens, and hands each connection to the test in the order they come."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[Peer] = asyncio.Queue()
        self._server: asyncio.Server
        self.port = 0
        self.connections = 0

    async def start(self, path: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        """On a free port of loopback, or on a Unix socket at `path`."""
        if path is not None:
            self._server = await asyncio.start_unix_server(self._accept, path)
        else:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.connections += 1
        await self._arrived.put(peer)

    async def accepts(self) -> Peer:
        async with asyncio.timeout(DEADLINE):
            return await self._arrived.get()

    def stop(self) -> None:
        self._server.close()
        while not self._arrived.empty():
            self._arrived.get_nowait().closes()


@contextlib.asynccontextmanager
async def rig(
    *,
    relay: RelaySettings | None = None,
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    endpoints: list[Endpoint] | None = None,
    pools: list[Pool] | None = None,
    routes: list[Route] | None = None,
    sampler: dict[str, str] | None = None,
    tls: ListenerTls | None = None,
) -> AsyncIterator[Rig]:
    upstream = Upstream()
    await upstream.start()
    block, file = Block.create()
    records = Records()
    settings = DataPlane(
        pools=pools
        or [Pool(endpoints=endpoints or [Endpoint(url=f"http://127.0.0.1:{upstream.port}", variant="a")])],
        routes=routes or [],
        relay=relay or RelaySettings(),
        limits=limits or Limits(),
        timeouts=timeouts or Timeouts(drain=1.0),
        sampler=sampler or {},
        tls=tls,
    )
    server = Relay(settings, records, block.allocate(1), probing=False)
    listener = listen(Address("127.0.0.1:0"))
    port = listener.getsockname()[1]
    await server.start(listener)
    made = Rig(server, records, port, upstream)
    try:
        yield made
    finally:
        made.close()
        upstream.stop()
        await server.stop()
        file.close()
