"""An upstream and clients that check every byte, over plain sockets: what no HTTP library would repair for them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Self
from urllib.parse import urlsplit

EVENTS = 60
EVENT_SECONDS = 0.03
PIECES = 40
PIECE = 16 * 1024


def events(seed: str) -> list[bytes]:
    """The events of the stream of that name."""
    draw = random.Random(seed)
    return [b"data: " + draw.randbytes(draw.randint(1, 200)).hex().encode() + b"\n\n" for _ in range(EVENTS)]


class Upstream:
    """`/say/WORD` answers WORD, `/stream/SEED` the events of that seed, slowly, and `/digest` the SHA-256 of a body."""

    def __init__(self) -> None:
        self.url = ""
        self.requests = 0
        self.streaming = 0
        """Streams in flight."""
        self.may_end = asyncio.Event()
        """Cleared: streams stop in the middle until it is set."""
        self.may_end.set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await self._serve(await Message.read(reader), writer)
        writer.close()

    async def _serve(self, request: Message, writer: asyncio.StreamWriter) -> None:
        path = request.head.split()[1].decode()
        self.requests += path != "/health"
        if path.startswith("/stream/"):
            self.streaming += 1
            await self._stream(path.removeprefix("/stream/"), writer)
            self.streaming -= 1
        else:
            body = sha256(request.body).hexdigest() if path == "/digest" else path.removeprefix("/say/")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body.encode()))
        await writer.drain()

    async def _stream(self, seed: str, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for i, event in enumerate(events(seed)):
            if i == EVENTS // 2:
                await self.may_end.wait()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(EVENT_SECONDS)
        writer.write(b"0\r\n\r\n")


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    serving = Upstream()
    server = await asyncio.start_server(serving.connected, "127.0.0.1", 0)
    serving.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield serving
    finally:
        serving.may_end.set()
        server.close()


class Message:
    """A request or a response, its body out of its frame."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Self:
        head = await reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        if b"\r\ncontent-length:" in lower:
            length = int(lower.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            return cls(head, await reader.readexactly(length))
        body = b""
        while b"\r\ntransfer-encoding: chunked" in lower:
            size = int(await reader.readline(), 16)
            body += (await reader.readexactly(size + 2))[:-2]
            if not size:
                break
        return cls(head, body)

    @property
    def closes(self) -> bool:
        return b"\r\nconnection: close" in self.head.lower()


class Client:
    """One client that uses its connection until the server says that it closes it. Any other end is an error."""

    def __init__(self, url: str, **tls: object) -> None:
        self.answered = 0
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._tls = tls
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._connection is None:
            self._connection = await asyncio.open_connection(self._host, self._port, **self._tls)
        return self._connection

    async def answer(self) -> bytes:
        """The body of the next answer; goes on with another connection where that says so."""
        reader, writer = await self.connection()
        message = await Message.read(reader)
        assert message.head.startswith(b"HTTP/1.1 200 "), message.head
        if message.closes:
            assert await reader.read() == b""
            writer.close()
            self._connection = None
        self.answered += 1
        return message.body

    async def says(self, word: str) -> None:
        _, writer = await self.connection()
        writer.write(b"GET /say/%b HTTP/1.1\r\nHost: h\r\n\r\n" % word.encode())
        assert await self.answer() == word.encode()

    async def pipelines(self, words: list[str]) -> None:
        """All in one write."""
        _, writer = await self.connection()
        writer.write(b"".join(b"GET /say/%b HTTP/1.1\r\nHost: h\r\n\r\n" % word.encode() for word in words))
        assert [await self.answer() for _ in words] == [word.encode() for word in words]

    async def streams(self, seed: str) -> None:
        _, writer = await self.connection()
        writer.write(b"POST /stream/%b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}" % seed.encode())
        assert await self.answer() == b"".join(events(seed))

    async def uploads(self, seed: str, *, seconds: float) -> None:
        """A body in pieces, over about so many seconds."""
        _, writer = await self.connection()
        pieces = [random.Random(f"{seed}{i}").randbytes(PIECE) for i in range(PIECES)]
        writer.write(b"POST /digest HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (PIECES * PIECE))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(seconds / PIECES)
        assert await self.answer() == sha256(b"".join(pieces)).hexdigest().encode()

    def close(self) -> None:
        if self._connection is not None:
            self._connection[1].close()
