"""Conversations between a client and an upstream, to be held directly and through a proxy.

A scene is a list of steps. Each side's bytes are given as they go over the wire, and every byte that the other side
gets is kept; `differences` compares two such records. Nothing here knows which proxy was between.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.relay.rig import DEADLINE, Peer, Upstream

# Steps


@dataclass(frozen=True)
class ClientSends:
    data: bytes


@dataclass(frozen=True)
class UpstreamSends:
    data: bytes
    if_asked: bytes = b""
    """Sent only where this has come."""


@dataclass(frozen=True)
class UpstreamHas:
    """Wait until the upstream has read `mark`, behind what was waited for before."""

    mark: bytes


@dataclass(frozen=True)
class ClientHas:
    mark: bytes


@dataclass(frozen=True)
class Leaves:
    """`side` ("client" or "upstream") ends its connection: "closes", "resets", or "half-closes"."""

    side: str
    how: str


@dataclass(frozen=True)
class UpstreamSeesTheEnd:
    """Wait until nothing more can come from the client."""


Step = ClientSends | UpstreamSends | UpstreamHas | ClientHas | Leaves | UpstreamSeesTheEnd
END = b"\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def request(*fields: bytes, line: bytes = b"GET /a HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join([line, b"Host: client.example", *fields]) + END + body


def exchange(asked: bytes, answer: bytes = OK, *, until: bytes = END) -> list[Step]:
    """One request, which ends with `until`, and its answer."""
    return [ClientSends(asked), UpstreamHas(until), UpstreamSends(answer), ClientHas(END)]


def answers(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK", body: bytes = b"") -> list[Step]:
    """An answer to a plain GET."""
    return exchange(request(), b"\r\n".join([line, *fields]) + END + body)


CHUNKED = b"Transfer-Encoding: chunked"
POST = b"POST /a HTTP/1.1"
SOCKET = [b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: a=="]
CHAT = b'{"model":"m","stream":true}'
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


SCENES: dict[str, list[Step]] = {
    # Requests
    "GET": exchange(
        request(b"Accept: */*", b"User-Agent: x/1", b"Authorization: Bearer k", b"Cookie: a=b; c=d")
    ),
    "names in odd case, order and number": exchange(
        request(b"x-B: 2", b"X-b: 1", b"ACCEPT: a", b"accept: b", b"X_under: 1", b"x.dot!: 1")
    ),
    "values with odd bytes": exchange(
        request(b"X-Empty:", b"X-Latin: caf\xe9", b"X-UTF: \xe2\x82\xac", b"X-Tab: a\tb", b"X-Wide:   a  b")
    ),
    "a very long value": exchange(request(b"X-Long: " + b"x" * 7000)),
    "hop-by-hop fields": exchange(
        request(
            *(
                b"Connection: keep-alive, X-Private",
                b"Keep-Alive: timeout=5",
                b"Proxy-Connection: keep-alive",
            ),
            *(b"TE: trailers", b"X-Private: 1", b"X-Public: 1"),
        )
    ),
    "fields of other proxies": exchange(
        request(b"Via: 1.1 a", b"Forwarded: for=1.2.3.4", b"X-Forwarded-For: 1.2.3.4", b"Max-Forwards: 3")
    ),
    "a trace": exchange(
        request(b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"tracestate: a=b")
    ),
    "fields for the sidecar": exchange(
        request(b"x-driftline-team: search", b"baggage: driftline.team=search")
    ),
    "a body with a length": exchange(request(b"Content-Length: 5", line=POST, body=b"hello"), until=b"hello"),
    "an empty body": exchange(request(b"Content-Length: 0", line=POST)),
    "no body and no length": exchange(request(line=POST)),
    "a body for GET": exchange(request(b"Content-Length: 5", body=b"hello"), until=b"hello"),
    "chunks of odd sizes": exchange(
        request(CHUNKED, line=POST, body=chunk(b"a") + b"0003\r\nbcd\r\n" + chunk(b"e" * 17) + b"0" + END),
        until=b"e" * 17,
    ),
    "chunk extensions": exchange(
        request(CHUNKED, line=POST, body=b'3;a=b;c="d"\r\nabc\r\n0;e' + END), until=b"abc"
    ),
    "request trailers": exchange(
        request(CHUNKED, b"Trailer: X-Sum", line=POST, body=b"3\r\nabc\r\n0\r\nX-Sum: 7" + END), until=b"abc"
    ),
    "a compressed body": exchange(
        request(
            *(b"Content-Encoding: gzip", b"Content-Length: %d" % len(gzip.compress(b"hi", mtime=0))),
            line=POST,
            body=gzip.compress(b"hi", mtime=0),
        ),
        until=gzip.compress(b"hi", mtime=0),
    ),
    "HEAD": exchange(request(line=b"HEAD /a HTTP/1.1"), b"HTTP/1.1 200 OK\r\nContent-Length: 99" + END),
    "HEAD, answered with chunked": exchange(
        request(line=b"HEAD /a HTTP/1.1"), b"HTTP/1.1 200 OK\r\n" + CHUNKED + END
    ),
    "OPTIONS *": exchange(request(line=b"OPTIONS * HTTP/1.1")),
    "PROPFIND": exchange(request(line=b"PROPFIND /a HTTP/1.1")),
    "M-SEARCH": exchange(request(line=b"M-SEARCH /a HTTP/1.1")),
    "a method nobody knows": exchange(request(line=b"BREW /pot HTTP/1.1")),
    "a URL for a target": exchange(request(line=b"GET http://other.example:81/a?b HTTP/1.1")),
    "dots, slashes and escapes in a path": exchange(
        request(line=b"GET /a//b/./../c/%2e%2E/%2F/~;x=1/{}?q=%20+a&&b=%00&c HTTP/1.1")
    ),
    "an empty query": exchange(request(line=b"GET /a? HTTP/1.1")),
    "an empty line before the request": exchange(b"\r\n" + request()),
    "three requests at once": [
        ClientSends(b"".join(request(line=b"GET /%d HTTP/1.1" % n) for n in range(3))),
        *(
            step
            for n in range(3)
            for step in (
                UpstreamHas(b"GET /%d " % n),
                *([] if n else [UpstreamHas(END)]),
                UpstreamSends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % n),
            )
        ),
    ],
    "HTTP/1.0 without a Host": exchange(b"GET /a HTTP/1.0\r\n\r\n"),
    "HTTP/1.0 that wants to keep its connection": exchange(
        b"GET /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"
    ),
    "chunks for an HTTP/1.0 client": exchange(
        b"GET /a HTTP/1.0\r\nHost: h\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + CHUNKED + END + b"2\r\nok\r\n0" + END
    ),
    # 1xx and expectations
    "an expectation that is met": [
        ClientSends(request(b"Expect: 100-continue", b"Content-Length: 5", line=POST)),
        UpstreamHas(END),
        UpstreamSends(b"HTTP/1.1 100 Continue\r\n\r\n", if_asked=b"100-continue"),
        ClientHas(b"100 Continue\r\n\r\n"),
        ClientSends(b"hello"),
        UpstreamHas(b"hello"),
        UpstreamSends(OK),
    ],
    "an expectation that is refused": [
        ClientSends(request(b"Expect: 100-continue", b"Content-Length: 5", line=POST)),
        UpstreamHas(END),
        UpstreamSends(b"HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"),
        Leaves("upstream", "closes"),
        ClientHas(b"\r\n\r\nno"),
    ],
    "early hints": exchange(
        request(),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n" + OK,
    ),
    # Responses
    "fields of a response": answers(
        *(b"Date: Mon, 23 Nov 2026 00:00:00 GMT", b"Server: uvicorn", b"x-Odd-CASE: 1", b"Set-Cookie: a=1"),
        *(
            b"Set-Cookie: b=2",
            b"X-Empty:",
            b"X-Latin: caf\xe9",
            b"X-Long: " + b"y" * 3000,
            b"Vary: a",
            b"vary: b",
        ),
        b"Content-Length: 2",
        body=b"ok",
    ),
    "hop-by-hop fields of a response": answers(
        b"Connection: keep-alive, X-Private",
        *(b"Keep-Alive: timeout=5", b"X-Private: 1", b"Proxy-Authenticate: Basic", b"Trailer: X-Sum"),
        b"Content-Length: 2",
        body=b"ok",
    ),
    "a reason of one's own": answers(b"Content-Length: 0", line=b"HTTP/1.1 299 Caf\xe9 Society"),
    "no reason": answers(b"Content-Length: 0", line=b"HTTP/1.1 200 "),
    "a status nobody knows": answers(b"Content-Length: 0", line=b"HTTP/1.1 799 Odd"),
    "chunks": answers(CHUNKED, body=chunk(b"a") + chunk(b"bc" * 40) + b"03\r\ndef\r\n0" + END),
    "extensions of a response": answers(CHUNKED, body=b"3;a=b\r\nabc\r\n0" + END),
    "response trailers": answers(CHUNKED, b"Trailer: X-Sum", body=b"3\r\nabc\r\n0\r\nX-Sum: 7" + END),
    "gzip with a length": answers(
        b"Content-Encoding: gzip",
        b"Content-Length: %d" % len(gzip.compress(b"hi" * 500, mtime=0)),
        body=gzip.compress(b"hi" * 500, mtime=0),
    ),
    "zstd in chunks": answers(
        b"Content-Encoding: zstd",
        CHUNKED,
        body=chunk(b"\x28\xb5\x2f\xfd\x04\x00\x09\x00\x00abcd") + b"0" + END,
    ),
    "br": answers(b"Content-Encoding: br", b"Content-Length: 6", body=b"\x0b\x00\x80a\n\x03"),
    "no length": [*answers(body=b"all of it"), Leaves("upstream", "closes")],
    "204": answers(line=b"HTTP/1.1 204 No Content"),
    "304": answers(b'ETag: "x"', b"Content-Length: 99", line=b"HTTP/1.1 304 Not Modified"),
    "an empty response": answers(b"Content-Length: 0"),
    "an HTTP/1.0 server": [
        *answers(b"Content-Length: 2", line=b"HTTP/1.0 200 OK", body=b"ok"),
        Leaves("upstream", "closes"),
    ],
    "a server that closes": [
        *answers(b"Connection: close", b"Content-Length: 2", body=b"ok"),
        Leaves("upstream", "closes"),
    ],
    # Upgrades
    "a websocket": [
        ClientSends(request(*SOCKET)),
        UpstreamHas(END),
        UpstreamSends(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi"
        ),
        ClientHas(b"\r\n\r\nhi"),
        ClientSends(b"\x81\x85abcdefghi"),
        UpstreamHas(b"\x81\x85abcdefghi"),
        Leaves("upstream", "closes"),
    ],
    "a websocket that is refused": exchange(request(*SOCKET)),
    "an offer of h2c": exchange(
        request(
            *(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
            b"Content-Length: 5",
            line=POST,
            body=b"hello",
        ),
        until=b"hello",
    ),
    # Failures
    "an answer before the request is complete": [
        ClientSends(request(b"Content-Length: 100", line=POST, body=b"x" * 10)),
        UpstreamHas(b"x" * 10),
        UpstreamSends(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"),
        ClientHas(b"\r\n\r\nno"),
        Leaves("upstream", "closes"),
    ],
    "an end in the middle of a length": [
        *answers(b"Content-Length: 10", body=b"half"),
        ClientHas(b"half"),
        Leaves("upstream", "closes"),
    ],
    "an end in the middle of chunks": [
        *answers(CHUNKED, body=b"4\r\nhalf\r\n"),
        ClientHas(b"half"),
        Leaves("upstream", "closes"),
    ],
    "a reset in a body without a length": [
        *answers(body=b"half"),
        ClientHas(b"half"),
        Leaves("upstream", "resets"),
    ],
    "no answer at all": [ClientSends(request()), UpstreamHas(END), Leaves("upstream", "closes")],
    "two responses for one request": exchange(
        request(), OK + b"HTTP/1.1 200 Evil\r\nContent-Length: 4\r\n\r\nevil"
    ),
    "a client that closes its half": [
        ClientSends(request()),
        UpstreamHas(END),
        Leaves("client", "half-closes"),
        UpstreamSeesTheEnd(),
        UpstreamSends(OK),
        ClientHas(b"\r\n\r\nok"),
        Leaves("upstream", "closes"),
    ],
    # The one exception
    "a stream that asks for no usage": [
        ClientSends(
            request(
                b"Content-Type: application/json",
                b"Content-Length: %d" % len(CHAT),
                line=b"POST /v1/chat/completions HTTP/1.1",
                body=CHAT,
            )
        ),
        UpstreamHas(b'"stream":true}'),
        UpstreamSends(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            + CHUNKED
            + END
            + chunk(EVENT)
            + chunk(USAGE)
        ),
        UpstreamSends(chunk(b"data: [DONE]\n\n") + b"0" + END),
        ClientHas(b"0\r\n\r\n"),
    ],
}

# Playing a scene

NEXT = b"GET /next HTTP/1.1\r\nHost: client.example\r\n\r\n"
NEXT_LINE = b"HTTP/1.1 200 Next\r\n"
PATIENCE = 0.3
"""Seconds for an end to come that need not come."""
NEXT_ANSWER = NEXT_LINE + b"Content-Length: 4\r\n\r\nnext"


@dataclass
class Record:
    """What each side got, and what became of the client's connection: "goes on", "ends" or "is reset"."""

    upstream: bytes = b""
    client: bytes = b""
    end: str = ""


@dataclass
class Stage:
    """The two ends, of which `upstream` may be reached over several connections."""

    client: Peer
    listening: Upstream
    record: Record = field(default_factory=Record)
    last: Peer | None = None
    upstream_ended: bool = False
    _peers: list[Peer] = field(default_factory=list)
    _left: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _seen: dict[str, int] = field(default_factory=lambda: {"upstream": 0, "client": 0})

    def begin(self) -> None:
        self._spawn(self._accept())
        self._spawn(self._read_client())

    def _spawn(self, work) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _tell(self, change: Callable[[], None]) -> None:
        async with self._changed:
            change()
            self._changed.notify_all()

    async def _until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(condition)

    async def _accept(self) -> None:
        while True:
            peer = await self.listening._arrived.get()
            self._peers.append(peer)
            self._spawn(self._read_upstream(peer))

    async def _read_upstream(self, peer: Peer) -> None:
        own = b""
        with contextlib.suppress(ConnectionError):
            while data := await peer.reader.read(65536):
                own += data
                self.last = peer
                await self._tell(
                    lambda data=data: setattr(self.record, "upstream", self.record.upstream + data)
                )
                if own.endswith(END) and b"GET /next " in own:
                    await peer.sends(NEXT_ANSWER)
        await self._tell(lambda: setattr(self, "upstream_ended", True))

    async def _read_client(self) -> None:
        end = "ends"
        try:
            while data := await self.client.reader.read(65536):
                await self._tell(lambda data=data: setattr(self.record, "client", self.record.client + data))
        except ConnectionError:
            end = "is reset"
        await self._tell(lambda: setattr(self.record, "end", end))

    async def plays(self, step: Step) -> None:
        if isinstance(step, ClientSends):
            await self.client.sends(step.data)
        elif isinstance(step, UpstreamSends):
            # Where there is no connection the proxy has answered by itself.
            if self.last is not None and step.if_asked in self.record.upstream:
                with contextlib.suppress(ConnectionError):
                    await self.last.sends(step.data)
        elif isinstance(step, Leaves):
            self._leaves(step)
        elif isinstance(step, UpstreamSeesTheEnd):
            await self._until(lambda: self.upstream_ended)
        else:
            side = "upstream" if isinstance(step, UpstreamHas) else "client"
            await self._until(lambda: self._found(side, step.mark) or self.record.end)

    def _found(self, side: str, mark: bytes) -> bool:
        at = getattr(self.record, side).find(mark, self._seen[side])
        if at >= 0:
            self._seen[side] = at + len(mark)
        return at >= 0

    def _leaves(self, step: Leaves) -> None:
        peer = self.client if step.side == "client" else self.last
        self._left = True
        if peer is None:
            return
        if step.how == "half-closes":
            peer.writer.write_eof()
        else:
            getattr(peer, step.how)()

    async def ends(self) -> Record:
        """What became of the client's connection is told by asking once more on it; but not where it may be ending,
        since what is sent to a closed connection resets it."""
        if self._left or b"\r\nconnection: close" in self.record.client.lower():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._until(lambda: self.record.end)
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self.client.sends(NEXT)
        await self._until(lambda: self.record.end or self.record.client.endswith(b"\r\n\r\nnext"))
        record = self.record
        if not record.end:
            record.end = "goes on"
            record.client = record.client[: record.client.rindex(NEXT_LINE)]
        record.upstream = record.upstream.partition(b"GET /next ")[0]
        return record

    async def clear(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in (self.client, *self._peers):
            peer.closes()


async def play(scene: list[Step], port: int, listening: Upstream) -> Record:
    """Hold the conversation with whoever listens on `port` and passes it on to `listening`."""
    stage = Stage(Peer(*await asyncio.open_connection("127.0.0.1", port)), listening)
    stage.begin()
    try:
        for step in scene:
            await stage.plays(step)
        return await stage.ends()
    finally:
        await stage.clear()
