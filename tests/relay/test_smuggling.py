"""What one client or one upstream sends never becomes another one's request or response.

Each entry of the tables is a claim; `piece` is how many bytes go out at a time. The upstream is h11, a parser that
has nothing in common with the relay's.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncIterator
from itertools import pairwise

import h11
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from driftline.relay.settings import Limits, RelaySettings, Timeouts
from tests.relay.rig import Peer, Rig, eventually, rig

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n"
LENGTH = b"Content-Length: %d" % len(SMUGGLED)
CHUNKED = b"Transfer-Encoding: chunked"


def request(*fields: bytes, line: bytes = b"POST /a HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join([line, b"Host: s", *fields]) + b"\r\n\r\n" + body


def coded(coding: bytes, *fields: bytes) -> bytes:
    """A body that is empty to who reads chunks, and a second request to who does not."""
    return request(coding, *fields, body=b"0\r\n\r\n" + SMUGGLED)


def chunks(body: bytes) -> bytes:
    return request(CHUNKED, body=body)


# What the upstream sees


Seen = tuple[bytes, bytes, bytes, bool]
"""(method, target, body, whole)."""


def parsed(stream: bytes) -> tuple[list[Seen], bytes]:
    """The requests that h11 finds in `stream`, and what it says of the rest if that is none."""
    found: list[Seen] = []
    while stream:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(stream)
        head, body, whole, fault = None, b"", False, ""
        try:
            while not whole and isinstance(event := connection.next_event(), h11.Event):
                if isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                whole = isinstance(event, h11.EndOfMessage)
        except h11.RemoteProtocolError as error:
            fault = str(error)
        if head is not None:
            found.append((head.method, head.target, body, whole))
        if not whole:
            return found, fault.encode() or (b"" if head else stream)
        stream = connection.trailing_data[0]
    return found, b""


class Upstream:
    """Answers whole requests with 200, and keeps what came on each connection."""

    def __init__(self, r: Rig) -> None:
        self.streams: list[bytes] = []
        self.ended: set[int] = set()
        self._accepts = asyncio.create_task(self._accept(r))
        self._serves: list[asyncio.Task[None]] = []

    async def _accept(self, r: Rig) -> None:
        while True:
            peer = await r.upstream._arrived.get()
            self.streams.append(b"")
            self._serves.append(asyncio.create_task(self._serve(peer, len(self.streams) - 1)))

    async def _serve(self, peer: Peer, number: int) -> None:
        answered = 0
        with contextlib.suppress(ConnectionError):
            while data := await peer.reader.read(65536):
                self.streams[number] += data
                whole = sum(found[3] for found in parsed(self.streams[number])[0])
                await peer.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * (whole - answered))
                answered = whole
        self.ended.add(number)
        peer.closes()

    @property
    def seen(self) -> list[Seen]:
        return [found for stream in self.streams for found in parsed(stream)[0]]

    @property
    def unfinished(self) -> bool:
        """Some connection that something was sent on is open."""
        return any(stream and number not in self.ended for number, stream in enumerate(self.streams))

    async def stop(self) -> None:
        for task in (self._accepts, *self._serves):
            task.cancel()
        await asyncio.gather(self._accepts, *self._serves, return_exceptions=True)


@contextlib.asynccontextmanager
async def serving(**options: object) -> AsyncIterator[tuple[Rig, Upstream]]:
    async with rig(**options) as r:
        upstream = Upstream(r)
        try:
            yield r, upstream
        finally:
            await upstream.stop()


async def sends(client: Peer, data: bytes, piece: int) -> None:
    with contextlib.suppress(ConnectionError):  # it may have been closed for what it sent so far
        for start in range(0, len(data), piece):
            await client.sends(data[start : start + piece])
            await asyncio.sleep(0)


async def statuses(client: Peer) -> list[int]:
    """Of all responses until the relay closes the connection."""
    response = b""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            while data := await client.reader.read(65536):
                response += data
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", response)]


# Heads that are refused

REFUSED = {
    # Two framings, or one that parsers read differently (RFC 9112 §6.1, §6.3).
    "CL.TE": (400, request(b"Content-Length: 6", CHUNKED, body=b"0\r\n\r\nG" + SMUGGLED)),
    "TE.CL": (400, request(CHUNKED, b"Content-Length: 4", body=b"23\r\n" + SMUGGLED + b"\r\n0\r\n\r\n")),
    "space before the colon": (400, coded(b"Transfer-Encoding : chunked")),
    "vertical tab before the coding": (400, coded(b"Transfer-Encoding: \x0bchunked")),
    "NUL behind the coding": (400, coded(b"Transfer-Encoding: chunked\0")),
    "xchunked": (400, coded(b"Transfer-Encoding: xchunked")),
    "chunk ed": (400, coded(b"Transfer-Encoding: chunk ed")),
    '"chunked"': (400, coded(b'Transfer-Encoding: "chunked"')),
    "chunked;q=1": (400, coded(b"Transfer-Encoding: chunked;q=1")),
    "chunked, identity": (400, coded(b"Transfer-Encoding: chunked, identity")),
    "chunked,": (400, coded(b"Transfer-Encoding: chunked,")),
    "chunked, chunked": (400, coded(b"Transfer-Encoding: chunked, chunked")),
    "chunked twice": (400, coded(CHUNKED, CHUNKED)),
    "chunked, then another field": (400, coded(CHUNKED, b"Transfer-Encoding: x")),
    "identity": (400, coded(b"Transfer-Encoding: identity")),
    "no coding": (400, coded(b"Transfer-Encoding: ")),
    "identity, chunked": (501, coded(b"Transfer-Encoding: identity, chunked")),
    "gzip, chunked": (501, coded(b"Transfer-Encoding: gzip, chunked")),
    "x, chunked": (501, coded(b"Transfer-Encoding: x, chunked")),
    ", chunked": (501, coded(b"Transfer-Encoding: , chunked")),
    "another field, then chunked": (501, coded(b"Transfer-Encoding: x", CHUNKED)),
    "folded coding": (400, coded(b"Transfer-Encoding:\r\n chunked")),
    "coding folded into another field": (400, coded(b"X: y\r\n Transfer-Encoding: chunked")),
    "coding behind a bare LF": (400, coded(b"X: y\nTransfer-Encoding: chunked")),
    "coding behind a bare CR": (400, coded(b"X: y\rTransfer-Encoding: chunked")),
    "chunks in HTTP/1.0": (
        400,
        request(CHUNKED, line=b"POST /a HTTP/1.0", body=b"0\r\n\r\n" + SMUGGLED),
    ),
    "upgrade with a body": (
        400,
        request(b"Connection: upgrade", b"Upgrade: websocket", LENGTH, body=SMUGGLED),
    ),
    # Lengths (RFC 9110 §8.6).
    "two equal lengths": (400, request(b"Content-Length: 5", b"Content-Length: 5", body=b"hello")),
    "two lengths": (400, request(b"Content-Length: 0", LENGTH, body=SMUGGLED)),
    "5, 5": (400, request(b"Content-Length: 5, 5", body=b"hello")),
    "+5": (400, request(b"Content-Length: +5", body=b"hello")),
    "-5": (400, request(b"Content-Length: -5", body=b"hello")),
    "0x5": (400, request(b"Content-Length: 0x5", body=b"hello")),
    "A": (400, request(b"Content-Length: A", body=b"hellohello")),
    "5.0": (400, request(b"Content-Length: 5.0", body=b"hello")),
    "1 0": (400, request(b"Content-Length: 1 0", body=b"hellohello")),
    "1_0": (400, request(b"Content-Length: 1_0", body=b"hellohello")),
    "five in Arabic": (400, request(b"Content-Length: \xd9\xa5", body=b"hello")),
    "no number": (400, request(b"Content-Length: ", body=b"hello")),
    "2^64": (400, request(b"Content-Length: 18446744073709551616", body=b"hello")),
    "2^64 + 5": (400, request(b"Content-Length: 18446744073709551621", body=b"hello")),
    "2^63": (413, request(b"Content-Length: 9223372036854775808", body=b"hello")),
    # Lines and fields (RFC 9112 §2.2, §5).
    "bare LF everywhere": (400, b"GET / HTTP/1.1\nHost: s\n\n"),
    "bare LF behind the request line": (400, b"GET / HTTP/1.1\nHost: s\r\n\r\n"),
    "bare LF behind a field": (400, b"GET / HTTP/1.1\r\nHost: s\nX: y\r\n\r\n"),
    "bare LF for the empty line": (400, b"GET / HTTP/1.1\r\nHost: s\r\n\n"),
    "bare CR behind the request line": (400, b"GET / HTTP/1.1\rHost: s\r\n\r\n"),
    "bare CR in a field": (400, request(b"X: y\rZ: q")),
    "two CRs": (400, request(b"X: y\r")),
    "CR before a field": (400, b"GET / HTTP/1.1\r\nHost: s\r\n\rX: y\r\n\r\n"),
    "folded field": (400, request(b"X: a\r\n b")),
    "folded with a tab": (400, request(b"X: a\r\n\tb")),
    "space before the first field": (400, b"GET / HTTP/1.1\r\n Host: s\r\nHost: s\r\n\r\n"),
    "NUL in a value": (400, request(b"X: a\0b")),
    "control character in a value": (400, request(b"X: a\x01b")),
    "DEL in a value": (400, request(b"X: a\x7fb")),
    "NUL in a name": (400, request(b"X\0Y: a")),
    "space in a name": (400, request(b"X Y: a")),
    "space behind a name": (400, request(b"X : a")),
    "parentheses in a name": (400, request(b"X(): a")),
    "byte above 127 in a name": (400, request(b"X\xff: a")),
    "no name": (400, request(b": a")),
    "no colon": (400, request(b"abc")),
    # Request lines (RFC 9112 §3).
    "tabs between the parts": (400, request(line=b"GET\t/a\tHTTP/1.1")),
    "space before the method": (400, request(line=b" GET /a HTTP/1.1")),
    "space behind the version": (400, request(line=b"GET /a HTTP/1.1 ")),
    "space in the target": (400, request(line=b"GET /a b HTTP/1.1")),
    "NUL in the target": (400, request(line=b"GET /\0 HTTP/1.1")),
    "byte above 127 in the target": (400, request(line=b"GET /\xff HTTP/1.1")),
    "fragment in the target": (400, request(line=b"GET /a#b HTTP/1.1")),
    "target without a slash": (400, request(line=b"GET a HTTP/1.1")),
    "target of another scheme": (400, request(line=b"GET ftp://other/a HTTP/1.1")),
    "unknown method": (400, request(line=b"BREW /pot HTTP/1.1")),
    "method in lower case": (400, request(line=b"get /a HTTP/1.1")),
    "CONNECT": (405, request(line=b"CONNECT other:443 HTTP/1.1")),
    "TRACE": (405, request(b"Max-Forwards: 0", line=b"TRACE / HTTP/1.1")),
    "HTTP/0.9": (505, b"GET /a\r\n\r\n"),
    "HTTP/1.2": (400, request(line=b"GET /a HTTP/1.2")),
    "HTTP/1.10": (400, request(line=b"GET /a HTTP/1.10")),
    "HTTP/2.0": (505, request(line=b"GET /a HTTP/2.0")),
    "preface of HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "http in lower case": (400, request(line=b"GET /a http/1.1")),
    # Hosts (RFC 9112 §3.2).
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "two equal Hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    "space in the Host": (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "list of Hosts": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "user in the Host": (400, b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    "port that is none": (400, b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
}


@pytest.mark.parametrize("piece", [1, 100_000])
@pytest.mark.parametrize("name", REFUSED)
async def test_a_head_that_can_be_read_in_two_ways_is_refused(name, piece):
    """The client gets one error, its connection ends, and no upstream hears of it."""
    status, sent = REFUSED[name]
    async with serving() as (r, upstream):
        client = await r.client()
        await sends(client, sent, piece)
        assert await statuses(client) == [status]
        assert upstream.streams == []
        assert (await r.records.one()).outcome == "bad_request"


# Bodies that turn out not to be framed as they should

BROKEN = {
    "LF behind a size": b"5\nhello\r\n0\r\n\r\n",
    "CR behind a size": b"5\rhello\r\n0\r\n\r\n",
    "LF behind data": b"5\r\nhello\n0\r\n\r\n",
    "nothing behind data": b"5\r\nhello0\r\n\r\n",
    "two other bytes behind data": b"5\r\nhelloXX0\r\n\r\n",
    "-5": b"-5\r\nhello\r\n0\r\n\r\n",
    "+5": b"+5\r\nhello\r\n0\r\n\r\n",
    "0x5": b"0x5\r\nhello\r\n0\r\n\r\n",
    "1_0": b"1_0\r\nhello\r\n0\r\n\r\n",
    "space before a size": b" 5\r\nhello\r\n0\r\n\r\n",
    "space behind a size": b"5 \r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "2^64 + 5": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "2^68": b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "LF in an extension": b"5;a\nhello\r\n0\r\n\r\n",
    "LF in an extension that hides a line": b"2;\nxx\r\n24\r\n0\r\n\r\n",
    "CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;a\0b\r\nhello\r\n0\r\n\r\n",
    "extension without a name": b"5;\r\nhello\r\n0\r\n\r\n",
    "LFs at the end": b"5\r\nhello\r\n0\n\n",
    "LF for the last line": b"5\r\nhello\r\n0\r\n\n",
    "another byte for the last line": b"5\r\nhello\r\n0\r\nX",
    "length in the trailers": b"0\r\nContent-Length: 36\r\n\r\n",
    "coding in the trailers": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "folded trailer": b"0\r\nX: a\r\n b\r\n\r\n",
    "LF behind a trailer": b"0\r\nX: a\n\r\n",
    "NUL in a trailer": b"0\r\nX: \0\r\n\r\n",
}


@pytest.mark.parametrize("piece", [1, 100_000])
@pytest.mark.parametrize("name", BROKEN)
async def test_a_body_that_is_not_framed_as_it_says_takes_its_connections_with_it(name, piece):
    """The upstream sees one unfinished request at most, whose connection ends; nothing behind it is a request."""
    async with serving() as (r, upstream):
        client = await r.client()
        await sends(client, chunks(BROKEN[name]) + SMUGGLED, piece)
        assert await statuses(client) == [400]
        await eventually(lambda: not upstream.unfinished)
        assert [(method, target, whole) for method, target, _, whole in upstream.seen] in (
            [],
            [(b"POST", b"/a", False)],
        )
        assert b"smuggled" not in b"".join(upstream.streams)


# What is taken, and how it goes on

TAKEN = {
    # One request that means one thing may be spelled in many ways; the upstream sees only one of them.
    "empty lines before it": (b"\r\n\r\n" + SMUGGLED, [(b"GET", b"/smuggled", b"")]),
    "two spaces between the parts": (request(line=b"GET  /a  HTTP/1.1"), [(b"GET", b"/a", b"")]),
    "URL for a target": (request(line=b"GET http://other:1/a?b HTTP/1.1"), [(b"GET", b"/a?b", b"")]),
    "URL without a path": (request(line=b"GET http://other?b HTTP/1.1"), [(b"GET", b"/?b", b"")]),
    "URL of the server": (request(line=b"OPTIONS HTTPS://u:p@other HTTP/1.1"), [(b"OPTIONS", b"*", b"")]),
    "another protocol's version": (request(line=b"GET /a RTSP/1.1"), [(b"GET", b"/a", b"")]),
    "CHUNKED": (coded(b"TRANSFER-ENCODING: CHUNKED "), [(b"POST", b"/a", b""), (b"GET", b"/smuggled", b"")]),
    "tab before the coding": (
        coded(b"Transfer-Encoding:\tchunked"),
        [(b"POST", b"/a", b""), (b"GET", b"/smuggled", b"")],
    ),
    "underscore for the hyphen": (
        request(b"Transfer_Encoding: chunked", LENGTH, body=SMUGGLED),
        [(b"POST", b"/a", SMUGGLED)],
    ),
    "coding named by Connection": (
        coded(CHUNKED, b"Connection: transfer-encoding"),
        [(b"POST", b"/a", b""), (b"GET", b"/smuggled", b"")],
    ),
    "length named by Connection": (
        request(b"Connection: content-length", LENGTH, body=SMUGGLED),
        [(b"POST", b"/a", SMUGGLED)],
    ),
    "spaces around a length": (request(b"Content-Length: \t5 ", body=b"hello"), [(b"POST", b"/a", b"hello")]),
    "zeros before a length": (request(b"Content-Length: 005", body=b"hello"), [(b"POST", b"/a", b"hello")]),
    "CL.0": (
        request(LENGTH, line=b"GET /a HTTP/1.1", body=SMUGGLED),
        [(b"GET", b"/a", SMUGGLED)],
    ),
    "zeros before a size": (chunks(b"000005\r\nhello\r\n0\r\n\r\n"), [(b"POST", b"/a", b"hello")]),
    "extensions": (
        chunks(b'5;a=b;c="d;\\"e"\r\nhello\r\n0;x\r\n\r\n'),
        [(b"POST", b"/a", b"hello")],
    ),
    "Host in the trailers": (chunks(b"0\r\nHost: evil\r\n\r\n"), [(b"POST", b"/a", b"")]),
    "upgrade that is refused": (
        request(b"Connection: upgrade", b"Upgrade: websocket", line=b"GET /a HTTP/1.1") + SMUGGLED,
        [(b"GET", b"/a", b""), (b"GET", b"/smuggled", b"")],
    ),
    "upgrade to h2c among others": (
        request(b"Connection: upgrade", b"Upgrade: h2c, websocket", line=b"GET /a HTTP/1.1") + SMUGGLED,
        [(b"GET", b"/a", b""), (b"GET", b"/smuggled", b"")],
    ),
}


@pytest.mark.parametrize("piece", [1, 100_000])
@pytest.mark.parametrize("name", TAKEN)
async def test_what_can_be_read_in_one_way_only_goes_on_in_its_plainest_form(name, piece):
    """The upstream's parser finds exactly these requests, none broken, and the client gets one answer to each."""
    sent, expected = TAKEN[name]
    async with serving() as (r, upstream):
        client = await r.client()
        await sends(client, sent, piece)
        for _ in expected:
            assert (await client.reads_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert upstream.seen == [(*seen, True) for seen in expected]
        assert [parsed(stream)[1] for stream in upstream.streams] == [b""]
        head = upstream.streams[0].partition(b"\r\n\r\n")[0].lower()
        assert (head.count(b"transfer-encoding"), head.count(b"content-length")) in ((0, 0), (1, 0), (0, 1))
        assert (b"h2c" in head, b"evil" in upstream.streams[0]) == (False, False)


async def test_the_urls_host_counts_where_the_target_is_a_url():
    """RFC 9112 §3.2.2: whatever `Host` says is ignored, also where the client's host is kept."""
    async with serving(relay=RelaySettings(preserve_host=True)) as (r, upstream):
        client = await r.client()
        await client.sends(b"GET http://user@other:81/a HTTP/1.1\r\nHost: evil\r\n\r\n")
        await client.reads_until(b"\r\n\r\n")
        assert b"\r\nHost: other:81\r\n" in upstream.streams[0]
        assert b"evil" not in upstream.streams[0]


async def test_an_http_1_0_client_cannot_upgrade():
    """RFC 9110 §7.8."""
    async with serving() as (r, upstream):
        client = await r.client()
        await client.sends(
            b"GET /a HTTP/1.0\r\nHost: s\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + SMUGGLED
        )
        assert await statuses(client) == [200]
        assert upstream.seen == [(b"GET", b"/a", b"", True)]
        assert b"pgrade" not in upstream.streams[0]


# What has no end, and what never comes

ENDLESS = {
    "method": (400, b"", b"A"),
    "target": (431, b"GET /", b"a"),
    "field name": (431, b"GET / HTTP/1.1\r\nHost: s\r\n", b"a"),
    "field value": (431, b"GET / HTTP/1.1\r\nHost: s\r\nX: ", b"a"),
    "fields": (431, b"GET / HTTP/1.1\r\nHost: s\r\n", b"a: b\r\n"),
    "chunk extension": (431, request(CHUNKED) + b"1;", b"a"),
    "chunk size": (400, request(CHUNKED), b"f"),
    "zeros of a chunk size": (431, request(CHUNKED), b"0"),
    "trailer value": (431, request(CHUNKED) + b"0\r\nX: ", b"a"),
    "trailers": (431, request(CHUNKED) + b"0\r\n", b"a: b\r\n"),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_has_no_end_is_not_read_for_ever(name):
    """A client that goes on sending is told so and let go; no more of it is kept than a header may have."""
    status, begin, more = ENDLESS[name]
    async with serving(limits=Limits(header_bytes=10_000)) as (r, upstream):
        client = await r.client()
        await client.sends(begin)
        sending = asyncio.create_task(
            sends(client, more * (400_000 // len(more)), 2000 // len(more) * len(more))
        )
        assert await statuses(client) == [status]
        await sending
        await eventually(lambda: not upstream.unfinished)
        assert sum(map(len, upstream.streams)) < 10_000


SLOW = {
    "header": b"GET / HTTP/1.1\r\nHos",
    "body": request(b"Content-Length: 10", body=b"he"),
    "chunk size": request(CHUNKED, body=b"5"),
    "chunk": request(CHUNKED, body=b"5\r\nhe"),
    "trailers": request(CHUNKED, body=b"0\r\nX: "),
}


@pytest.mark.parametrize("name", SLOW)
async def test_what_does_not_come_is_not_waited_for_for_ever(name):
    async with serving(timeouts=Timeouts(header=0.2, body=0.2, drain=1.0)) as (r, upstream):
        client = await r.client()
        await client.sends(SLOW[name])
        assert await statuses(client) == [408]
        await eventually(lambda: not upstream.unfinished)


async def test_a_header_that_trickles_in_has_the_same_time_as_one_that_stops():
    """A byte now and then does not wind the clock up again (Slowloris)."""
    async with serving(timeouts=Timeouts(header=0.3, drain=1.0)) as (r, upstream):
        client = await r.client()

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                await client.sends(b"GET / HTTP/1.1\r\nX: ")
                while True:
                    await client.sends(b"a")
                    await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        assert await statuses(client) == [408]
        trickling.cancel()
        assert upstream.streams == []


# Responses


def response(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    return b"\r\n".join([line, *fields]) + b"\r\n\r\n" + body


EVIL = response(b"Content-Length: 4", body=b"evil")
"""What an attacker would have the next client see."""
OK = b"Content-Length: 2"

NOT_HTTP = {
    "both framings": response(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + EVIL),
    "both framings, turned": response(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n" + EVIL),
    "two lengths": response(OK, b"Content-Length: 3", body=b"ab" + EVIL),
    "two equal lengths": response(OK, OK, body=b"ab" + EVIL),
    "2, 2": response(b"Content-Length: 2, 2", body=b"ab" + EVIL),
    "-2": response(b"Content-Length: -2", body=b"ab" + EVIL),
    "+2": response(b"Content-Length: +2", body=b"ab" + EVIL),
    "2^64 + 4": response(b"Content-Length: 18446744073709551620", body=b"ab" + EVIL),
    "no number": response(b"Content-Length: ", body=b"ab" + EVIL),
    "chunked twice": response(CHUNKED, CHUNKED, body=b"0\r\n\r\n" + EVIL),
    "chunked, gzip": response(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n" + EVIL),
    "space before the colon": response(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + EVIL),
    "folded field": response(b"X: a\r\n b", OK, body=b"ab"),
    "folded first field": response(b" Content-Length: 2", body=b"ab"),
    "bare LF everywhere": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab",
    "bare LF behind a field": response(b"X: a\nY: b", OK, body=b"ab"),
    "bare LF behind the status line": b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nab",
    "bare CR in a field": response(b"X: a\rY: b", OK, body=b"ab"),
    "NUL in a value": response(b"X: a\0", OK, body=b"ab"),
    "NUL in a name": response(b"X\0: a", OK, body=b"ab"),
    "NUL in the reason": response(OK, line=b"HTTP/1.1 200 O\0K", body=b"ab"),
    "space in a name": response(b"X Y: a", OK, body=b"ab"),
    "no name": response(b": a", OK, body=b"ab"),
    "no colon": response(b"abc", OK, body=b"ab"),
    "status 000": response(OK, line=b"HTTP/1.1 000 OK", body=b"ab"),
    "status 99": response(OK, line=b"HTTP/1.1 99 OK", body=b"ab"),
    "status 1000": response(OK, line=b"HTTP/1.1 1000 OK", body=b"ab"),
    "two spaces": response(OK, line=b"HTTP/1.1  200 OK", body=b"ab"),
    "HTTP/2.0": response(OK, line=b"HTTP/2.0 200 OK", body=b"ab"),
    "RTSP/1.0": response(OK, line=b"RTSP/1.0 200 OK", body=b"ab"),
    "empty line before it": b"\r\n" + response(OK, body=b"ab"),
    "two empty lines before it": b"\r\n\r\n" + response(OK, body=b"ab"),
    "101 that nobody asked for": response(
        b"Upgrade: x", b"Connection: upgrade", line=b"HTTP/1.1 101 Switching"
    ),
    "101 without a reason": response(b"Upgrade: x", b"Connection: upgrade", line=b"HTTP/1.1 101"),
    "informational response with a bare LF": b"HTTP/1.1 103 Early\r\nX: a\nY: b\r\n\r\n" + EVIL,
    "endless informational responses": response(b"Link: x", line=b"HTTP/1.1 103 Early") * 20_000 + EVIL,
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 600_000,
    "endless fields": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000,
}


async def answered_with(r: Rig, answer: bytes, piece: int) -> tuple[bytes, bool]:
    """What a client gets that sends two requests at once, and whether the relay closed its connection.

    The first one is answered with `answer`, by a server that says no more and lets the connection open; the second
    one, if the upstream gets it, in order, and on whatever connection it comes.
    """
    client = await r.client()
    await client.sends(b"GET /1 HTTP/1.1\r\nHost: s\r\n\r\nGET /2 HTTP/1.1\r\nHost: s\r\n\r\n")
    first = await r.upstream.accepts()
    await first.reads_until(b"\r\n\r\n")

    async def serves(peer: Peer) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            await peer.reads_until(b"\r\n\r\n")
            await peer.sends(response(b"Content-Length: 6", body=b"second"))

    async def serves_others() -> None:
        await serves(await r.upstream._arrived.get())

    await sends(first, answer, piece)
    tasks = [asyncio.create_task(serves(first)), asyncio.create_task(serves_others())]
    got = b""
    try:
        async with asyncio.timeout(10):
            while b"\r\n\r\nsecond" not in got and (data := await client.reader.read(65536)):
                got += data
        closed = b"\r\n\r\nsecond" not in got
    except ConnectionError:
        closed = True
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    client.closes()
    return re.sub(rb"x-driftline-trace-id: \w+\r\n", b"", got), closed


@pytest.mark.parametrize("piece", [7, 1_000_000])
@pytest.mark.parametrize("name", NOT_HTTP)
async def test_an_answer_that_is_not_http_is_a_502(name, piece):
    """Its connection is never used again, the client's ends, and not a byte of what follows is taken for a response."""
    if len(NOT_HTTP[name]) > 100_000:
        piece *= 1000
    async with rig() as r:
        got, closed = await answered_with(r, NOT_HTTP[name], piece)
        final = got[got.rindex(b"HTTP/1.1 ") :]
        assert (final[9:12], b'"code": "upstream_failed"' in final, closed) == (b"502", True, True)
        assert b"evil" not in got
        assert r.records.all[0].outcome == "upstream_failed"
        await eventually(lambda: not r.relay.row["active"])


BROKEN_OFF = {
    "-2": b"-2\r\nab\r\n0\r\n\r\n",
    "LF behind a size": b"2\nab\r\n0\r\n\r\n",
    "space behind a size": b"2 \r\nab\r\n0\r\n\r\n",
    "2^68": b"fffffffffffffffff\r\nab\r\n0\r\n\r\n",
    "nothing behind data": b"2\r\nabc\r\n0\r\n\r\n",
    "LF behind data": b"2\r\nab\n0\r\n\r\n",
    "LF in an extension": b"2;a\nb\r\nab\r\n0\r\n\r\n",
    "length in the trailers": b"2\r\nab\r\n0\r\nContent-Length: 5\r\n\r\n",
    "NUL in a trailer": b"2\r\nab\r\n0\r\nX: \0\r\n\r\n",
    "folded trailer": b"2\r\nab\r\n0\r\nX: a\r\n b\r\n\r\n",
    "endless extension": b"2\r\nab\r\n2;" + b"a" * 600_000,
    "endless trailer": b"2\r\nab\r\n0\r\nX: " + b"a" * 600_000,
    "endless trailers": b"2\r\nab\r\n0\r\n" + b"a: b\r\n" * 100_000,
}


@pytest.mark.parametrize("piece", [7, 1_000_000])
@pytest.mark.parametrize("name", BROKEN_OFF)
async def test_an_answer_whose_body_is_not_framed_as_it_says_breaks_off(name, piece):
    """The client never sees its end, and no other response behind it: its connection is closed."""
    if len(BROKEN_OFF[name]) > 100_000:
        piece *= 1000
    async with rig() as r:
        got, closed = await answered_with(r, response(CHUNKED, body=BROKEN_OFF[name]) + EVIL, piece)
        head, _, body = got.partition(b"\r\n\r\n")
        assert (head, closed) == (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", True)
        ours = h11.Connection(h11.CLIENT)
        ours.send(h11.Request(method="GET", target="/", headers={"host": "s"}.items()))
        ours.receive_data(head + b"\r\n\r\n" + body)
        ours.receive_data(b"")
        with pytest.raises(h11.RemoteProtocolError):
            deque(iter(ours.next_event, h11.EndOfMessage()), maxlen=0)
        assert (b"evil" in got, r.records.all[0].outcome) == (False, "upstream_broken")


IN_STEP = {
    # name: (the upstream's answer, what the client gets of it, whether its connection then ends)
    "a second response": (response(OK, body=b"ab") + EVIL, response(OK, b"", body=b"ab"), True),
    "a second response behind chunks": (
        response(CHUNKED, body=b"2\r\nab\r\n0\r\n\r\n") + EVIL,
        response(CHUNKED, body=b"2\r\nab\r\n0\r\n\r\n"),
        True,
    ),
    "bytes behind the body": (response(OK, body=b"abXX"), response(OK, body=b"ab"), True),
    "a line end behind chunks": (
        response(CHUNKED, body=b"2\r\nab\r\n0\r\n\r\n\r\n"),
        response(CHUNKED, body=b"2\r\nab\r\n0\r\n\r\n"),
        False,
    ),
    "a body where none may be": (
        response(b"Content-Length: 4", body=b"evil", line=b"HTTP/1.1 304 Same"),
        None,
        True,
    ),
    "chunks where none may be": (
        response(CHUNKED, body=b"4\r\nevil\r\n0\r\n\r\n", line=b"HTTP/1.1 204 None"),
        response(line=b"HTTP/1.1 204 None"),
        True,
    ),
    "length in an informational response": (
        response(b"Content-Length: 40", b"Link: x", line=b"HTTP/1.1 103 Early") + response(OK, body=b"ab"),
        response(b"Link: x", line=b"HTTP/1.1 103 Early") + response(OK, body=b"ab"),
        False,
    ),
    "an end of the connection announced too early": (
        response(b"Connection: close", line=b"HTTP/1.1 103 Early") + response(OK, body=b"ab"),
        response(line=b"HTTP/1.1 103 Early") + response(OK, body=b"ab"),
        False,
    ),
    "length named by Connection": (
        response(OK, b"Connection: content-length", body=b"ab"),
        response(OK, body=b"ab"),
        False,
    ),
    "coding named by Connection": (
        response(CHUNKED, b"Connection: transfer-encoding", body=b"0\r\n\r\n"),
        response(CHUNKED, body=b"0\r\n\r\n"),
        False,
    ),
    "chunks in HTTP/1.0": (
        response(CHUNKED, line=b"HTTP/1.0 200 OK", body=b"0\r\n\r\n"),
        response(CHUNKED, body=b"0\r\n\r\n"),
        False,
    ),
}


@pytest.mark.parametrize("name", IN_STEP)
async def test_an_answer_ends_where_it_says_and_the_next_one_is_the_next_requests(name):
    answer, expected, ends = IN_STEP[name]
    async with rig() as r:
        got, closed = await answered_with(r, answer, 1_000_000)
        assert b"evil" not in got
        assert closed == ends
        if expected is not None:
            expected = expected.replace(b"\r\n\r\n\r\n", b"\r\n\r\n")
            assert got.startswith(expected)
            rest = got[len(expected) :]
            assert rest == b"" if ends else rest.startswith(b"HTTP/1.1 200 OK\r\n")


# Bytes that nobody thought of

WORDS = [
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"\x0b",
        b"\xff",
        b"0",
        b"1",
        b"f",
    ),
    *(
        b"chunked",
        b"Transfer-Encoding",
        b"Content-Length",
        b"\r\nContent-Length: 5",
        b"\r\nContent-Length: 0",
    ),
    *(b"\r\nTransfer-Encoding: chunked", b"\r\nConnection: close", b"\r\nHost: s", b"\r\n a", b"0\r\n\r\n"),
    *(
        b"5\r\nhello\r\n",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"GET /b HTTP/1.1\r\nHost: s\r\n\r\n",
        b"POST",
        b"_",
        b"+",
        b"-",
    ),
    *(
        b"\r\nConnection: upgrade\r\nUpgrade: websocket",
        b"\r\nExpect: 100-continue",
        b"http://other",
        b"#",
        b"*",
    ),
]
SOUND = [
    request(b"X: y", line=b"GET /a?b HTTP/1.1"),
    request(LENGTH, body=SMUGGLED),
    request(b"Content-Length: 0"),
    chunks(b"23\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
    chunks(b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"),
    request(line=b"HEAD /a HTTP/1.0"),
    request(b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: 5", body=b"hello"),
]
mutations = st.lists(
    st.tuples(
        st.sampled_from(["put", "put over", "take"]),
        st.integers(0, 300),
        st.sampled_from(WORDS) | st.binary(min_size=1, max_size=2),
    ),
    max_size=4,
)


def mutated(stream: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, word in changes:
        at = place % (len(stream) + 1)
        keep = at if kind == "put" else at + len(word)
        stream = stream[:at] + (b"" if kind == "take" else word) + stream[keep:]
    return stream


def plain(stream: bytes) -> bytes:
    """`stream` with its first request line as the relay would write it: what `TAKEN` lists as read in one way only."""
    line, end, rest = stream.lstrip(b"\r\n").partition(b"\r\n")
    line = re.sub(rb" +", b" ", line)
    line = re.sub(rb" (?:RTSP|ICE)/(1\.[01])$", rb" HTTP/\1", line)
    return line + end + rest


def reference(stream: bytes) -> list[Seen]:
    """What a strict server makes of a client's bytes, as far as it gets."""
    found: list[Seen] = []
    while stream:
        stream = plain(stream)
        (first, *_), _ = parsed(stream) if parsed(stream)[0] else ([None], b"")
        if first is None:
            break
        method, target, body, whole = first
        if match := re.fullmatch(rb"https?://[^/?#]*(.*)", target, re.IGNORECASE):
            target = match[1] if match[1].startswith(b"/") else b"/" + match[1]
            target = b"*" if (method, match[1]) == (b"OPTIONS", b"") else target
        found.append((method, target, body, whole))
        if not whole:
            break
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(stream)
        while not isinstance(connection.next_event(), h11.EndOfMessage):
            pass
        stream = connection.trailing_data[0]
    return found


async def quiet(r: Rig, upstream: Upstream) -> None:
    """Nothing has moved for a while. A request that came later still would go unseen, not fail."""
    before = None
    while before != (
        now := (list(upstream.streams), len(upstream.ended), r.relay.row["started"], len(r.records.all))
    ):
        before = now
        await asyncio.sleep(0.01)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(SOUND), min_size=1, max_size=2),
    mutations,
    st.lists(st.integers(0, 400), max_size=4),
)
@example([coded(b"Transfer-Encoding: x, chunked")], [], [])
@example([request(line=b"GET  /a HTTP/1.1")], [], [])
@example([request(line=b"GET http://other/a HTTP/1.1")], [], [])
async def test_mutated_requests_are_seen_as_a_strict_server_would_have_seen_them(sound, changes, cuts):
    """What the upstream saw is a prefix of that, and as a stream of bytes it has no second reading."""
    sent = mutated(b"".join(sound), changes)
    async with serving(timeouts=Timeouts(drain=0.1)) as (r, upstream):
        client = await r.client()
        edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
        for start, end in pairwise(edges):
            await sends(client, sent[start:end], 100_000)
        await quiet(r, upstream)
        expected = reference(sent)
        seen = upstream.seen
        assert len(seen) <= len(expected), (sent, expected, seen)
        for (method, target, body, whole), wanted in zip(seen, expected, strict=False):
            assert (method, target) == wanted[:2]
            assert (body, True) == wanted[2:] if whole else wanted[2].startswith(body)
        for stream in upstream.streams:
            _, fault = parsed(stream)
            assert fault == b"", (sent, stream)
