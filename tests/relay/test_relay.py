"""What a client and an upstream see of each other through the relay."""

from __future__ import annotations

import asyncio

import pytest

from tests.relay.rig import eventually, rig

GET = b"GET /v1/models HTTP/1.1\r\nHost: sidecar\r\n\r\n"


def without_ours(response: bytes) -> bytes:
    """The response without the one header that the relay adds."""
    head, end, body = response.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"x-driftline-trace-id: ")]
    return b"\r\n".join(lines) + end + body


RESPONSES = {
    "length": b"HTTP/1.1 200 OK\r\nDate: now\r\nX-Odd-CASE: 1\r\nx-b: 2\r\nx-b: 3\r\nContent-Length: 5\r\n\r\nhello",
    "chunked": b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n",
    "empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 99\r\n\r\n",
    "trailers": b"HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-sum: 7\r\n\r\n",
    "binary": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x00\xff\r\n",
    "error": b"HTTP/1.1 422 Unprocessable Entity\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("piece", [1, 3, 10_000])
async def test_a_response_arrives_as_it_was_sent(name, piece):
    """Status line, header order and case, framing, trailers and body are the upstream's, however it is cut."""
    response = RESPONSES[name]
    async with rig() as r:
        client, upstream = await r.asks(GET)
        for start in range(0, len(response), piece):
            await upstream.sends(response[start : start + piece])
            await asyncio.sleep(0)
        head = await client.reads_until(b"\r\n\r\n")
        # Transfer-Encoding is hop-by-hop, so its place among the fields is ours: last.
        expected = response
        if b"Transfer-Encoding: chunked\r\n" in response:
            fields, end, body = response.replace(b"Transfer-Encoding: chunked\r\n", b"").partition(
                b"\r\n\r\n"
            )
            expected = fields + b"\r\nTransfer-Encoding: chunked" + end + body
        size = len(expected) - len(without_ours(head))
        seen = without_ours(head) + (await client.reads(size) if size else b"")
        assert sorted(seen.partition(b"\r\n\r\n")[0].split(b"\r\n")) == sorted(
            expected.partition(b"\r\n\r\n")[0].split(b"\r\n")
        )
        assert seen.partition(b"\r\n\r\n")[2] == expected.partition(b"\r\n\r\n")[2]
        record = await r.records.one()
        assert (record.outcome, record.status) == ("complete", int(response[9:12]))


async def test_a_request_arrives_as_it_was_sent():
    """Header order and case and the body are the client's; `Host` is the upstream's, `traceparent` a child."""
    body = b'{"model":"m"}'
    request = (
        b"POST /v1/score?x=1%%20y HTTP/1.1\r\nhOsT: sidecar\r\nAuthorization: Bearer k\r\nX-b: 1\r\nx-B: 2\r\n"
        b"x-driftline-team: search\r\nTE: trailers\r\nConnection: x-private\r\nX-Private: 1\r\n"
        b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    async with rig() as r:
        client = await r.client()
        await client.sends(request)
        upstream = await r.upstream.accepts()
        head, seen = await upstream.reads_request()
        *kept, traceparent = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert kept == [
            b"POST /v1/score?x=1%20y HTTP/1.1",
            b"hOsT: 127.0.0.1:%d" % r.upstream.port,
            b"Authorization: Bearer k",
            b"X-b: 1",
            b"x-B: 2",
            b"Content-Length: 13",
        ]
        assert traceparent.startswith(b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-")
        assert b"b7ad6b7169203331" not in traceparent
        assert seen == body
        await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        record = await r.records.one()
        assert record.parent_span_id.hex() == "b7ad6b7169203331"
        assert ("x-driftline-team", "search") in record.request_headers
        assert "Bearer" not in str(record.request_headers)


async def test_a_chunk_is_passed_on_before_the_next_one_exists():
    """Nothing waits for a buffer to fill or a timer to fire."""
    async with rig() as r:
        client, upstream = await r.asks(GET)
        await upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.reads_until(b"\r\n\r\n")
        for number in range(5):
            await upstream.sends(b"1\r\n%d\r\n" % number)
            assert await client.reads(6) == b"1\r\n%d\r\n" % number
        await upstream.sends(b"0\r\n\r\n")
        assert await client.reads(5) == b"0\r\n\r\n"


async def test_pipelined_requests_are_answered_in_order():
    """The second waits for the first, over one upstream connection; nothing is lost or mixed."""
    async with rig() as r:
        client = await r.client()
        await client.sends(b"".join(b"GET /%d HTTP/1.1\r\nHost: s\r\n\r\n" % n for n in range(20)))
        upstream = await r.upstream.accepts()
        for number in range(20):
            head = await upstream.reads_until(b"\r\n\r\n")
            assert head.startswith(b"GET /%d " % number)
            await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % number)
        for number in range(20):
            await client.reads_until(b"\r\n\r\n")
            assert await client.reads(2) == b"%02d" % number
        assert r.upstream.connections == 1
        assert len(await r.records.count(20)) == 20


@pytest.mark.parametrize("before_first_byte", [True, False])
@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_a_client_that_leaves_stops_the_upstream(before_first_byte, how):
    """The upstream's connection is closed at once, so that the engine stops generating."""
    async with rig() as r:
        client, upstream = await r.asks(GET)
        if not before_first_byte:
            await upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n+body+\r\n")
            await client.reads_until(b"+body+\r\n")
        getattr(client, how)()
        await upstream.sees_the_end()
        assert (await r.records.one()).outcome == "client_closed"


async def test_an_upstream_that_cannot_be_reached_is_a_502_in_openais_shape():
    async with rig() as r:
        r.upstream.stop()
        await asyncio.sleep(0)
        client = await r.client()
        await client.sends(GET)
        response = await client.reads_all()
        assert response.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert b'"code": "upstream_unreachable"' in response
        assert (await r.records.one()).outcome == "upstream_unreachable"


async def test_an_upstream_that_closes_before_its_first_byte_is_a_502():
    async with rig() as r:
        client, upstream = await r.asks(GET)
        upstream.closes()
        assert (await client.reads_all()).startswith(b"HTTP/1.1 502 ")
        assert (await r.records.one()).outcome == "upstream_failed"


async def test_an_upstream_that_fails_in_the_middle_ends_the_client_without_a_proper_end():
    """The client sees what it would have seen alone: bytes, then the connection's end, and no final chunk."""
    async with rig() as r:
        client, upstream = await r.asks(GET)
        await upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n+body+\r\n")
        await client.reads_until(b"+body+\r\n")
        upstream.closes()
        assert await client.reads_all() == b""
        assert (await r.records.one()).outcome == "upstream_broken"


async def test_a_body_that_is_not_chunked_as_it_says_ends_the_client_after_the_head():
    async with rig() as r:
        client, upstream = await r.asks(GET)
        await upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
        assert (await client.reads_all()).startswith(b"HTTP/1.1 200 OK\r\n")
        assert (await r.records.one()).outcome == "upstream_broken"


async def test_a_response_without_a_length_ends_with_its_connection():
    async with rig() as r:
        client, upstream = await r.asks(GET)
        await upstream.sends(b"HTTP/1.1 200 OK\r\n\r\nabc")
        upstream.closes()
        response = await client.reads_all()
        assert response.endswith(b"\r\n\r\nabc")
        assert b"Connection: close" in response
        assert (await r.records.one()).outcome == "complete"


async def test_head_has_no_body_and_keeps_the_connection():
    async with rig() as r:
        client = await r.client()
        for _ in range(2):
            await client.sends(GET.replace(b"GET", b"HEAD"))
        upstream = await r.upstream.accepts()
        for _ in range(2):
            await upstream.reads_until(b"\r\n\r\n")
            await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            assert b"Content-Length: 1000" in await client.reads_until(b"\r\n\r\n")
        assert r.upstream.connections == 1


async def test_an_informational_response_comes_before_the_final_one():
    async with rig() as r:
        client = await r.client()
        await client.sends(
            b"POST /upload HTTP/1.1\r\nHost: s\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        upstream = await r.upstream.accepts()
        assert b"Expect: 100-continue" in await upstream.reads_until(b"\r\n\r\n")
        await upstream.sends(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await client.reads_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.sends(b"abc")
        assert await upstream.reads(3) == b"abc"
        await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert (await client.reads_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")


async def test_a_client_waiting_to_continue_is_answered_when_its_body_is_inspected():
    """The upstream is not asked before the body is there, so only the relay can say `100 Continue`."""
    async with rig() as r:
        client = await r.client()
        await client.sends(
            b"POST /v1/completions HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert await client.reads_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.sends(b"{}")
        head, body = await (await r.upstream.accepts()).reads_request()
        assert b"Expect" not in head
        assert body == b"{}"


async def test_a_chunked_upload_streams_through_with_its_trailers():
    async with rig() as r:
        client = await r.client()
        await client.sends(b"POST /up HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        upstream = await r.upstream.accepts()
        assert b"Transfer-Encoding: chunked" in await upstream.reads_until(b"\r\n\r\n")
        assert await upstream.reads(8) == b"3\r\nabc\r\n"
        await client.sends(b"0\r\nx-sum: 1\r\n\r\n")
        assert await upstream.reads(15) == b"0\r\nx-sum: 1\r\n\r\n"


async def test_an_http_1_0_client_gets_a_body_without_chunks():
    async with rig() as r:
        client = await r.client()
        await client.sends(b"GET / HTTP/1.0\r\n\r\n")
        upstream = await r.upstream.accepts()
        assert b"Host: 127.0.0.1" in await upstream.reads_until(b"\r\n\r\n")
        await upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        response = await client.reads_all()
        assert response.endswith(b"\r\n\r\nabc")
        assert b"hunked" not in response


async def test_a_websocket_is_tunnelled_after_the_upgrade():
    async with rig() as r:
        client = await r.client()
        await client.sends(
            b"GET /ws HTTP/1.1\r\nHost: s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nearly"
        )
        upstream = await r.upstream.accepts()
        head = await upstream.reads_until(b"\r\n\r\n")
        assert b"Connection: Upgrade\r\nUpgrade: websocket" in head
        await upstream.sends(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n+welcome+")
        assert (await client.reads_until(b"+welcome+")).startswith(b"HTTP/1.1 101 ")
        assert await upstream.reads(5) == b"early"
        await client.sends(b"ping")
        assert await upstream.reads(4) == b"ping"
        await upstream.sends(b"pong")
        assert await client.reads(4) == b"pong"
        upstream.closes()
        await client.sees_the_end()
        assert (await r.records.one()).outcome == "tunnelled"


async def test_an_h2c_upgrade_is_ignored():
    """The request is served as HTTP/1.1, and so is the next one on the connection."""
    async with rig() as r:
        client = await r.client()
        h2c = b"GET /a HTTP/1.1\r\nHost: s\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        await client.sends(h2c + b"GET /b HTTP/1.1\r\nHost: s\r\n\r\n")
        upstream = await r.upstream.accepts()
        for path in (b"/a", b"/b"):
            head = await upstream.reads_until(b"\r\n\r\n")
            assert path in head
            assert b"pgrade" not in head
            await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await client.reads_until(b"\r\n\r\n")


BAD = {
    "not http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n",
    "both framings": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "odd length": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: +5\r\n\r\nhello",
    "chunked not last": b"POST / HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "folded field": b"GET / HTTP/1.1\r\nHost: s\r\nX: a\r\n b\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: s\n\n",
    "NUL in a field": b"GET / HTTP/1.1\r\nHost: s\r\nX: a\0b\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : s\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "unknown method": b"BREW /pot HTTP/1.1\r\nHost: s\r\n\r\n",
    "chunks in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_not_a_clean_request_gets_400_and_never_reaches_the_upstream(name):
    async with rig() as r:
        client = await r.client()
        await client.sends(BAD[name])
        response = await client.reads_all()
        assert response.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b'"error"' in response
        assert (await r.records.one()).outcome == "bad_request"
        assert r.upstream.connections == 0


async def test_a_good_request_before_a_bad_one_is_answered_first():
    async with rig() as r:
        client = await r.client()
        await client.sends(GET + b"nonsense\r\n\r\n")
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        response = await client.reads_all()
        assert response.index(b"\r\n\r\nok") < response.index(b"HTTP/1.1 400 ")
        assert [record.outcome for record in await r.records.count(2)] == ["complete", "bad_request"]


async def test_a_slow_client_slows_its_own_upstream_only():
    """Reading stops at a bounded amount; another stream on the same relay is not held up."""
    size = 64 * 1024 * 1024
    async with rig() as r:
        slow, quick = await r.client(), await r.client()
        await slow.sends(GET)
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        upstream.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        await quick.sends(GET)
        other = await r.upstream.accepts()
        await other.reads_until(b"\r\n\r\n")
        await other.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert await quick.reads_until(b"ok")
        unsent = upstream.writer.transport.get_write_buffer_size()
        assert unsent > size // 2
        await slow.reads_until(b"\r\n\r\n")
        assert await slow.reads(size) == bytes(size)
        record = (await r.records.count(2))[1]
        assert record.response_body.size == size
        assert len(record.response_body.head) + len(record.response_body.tail) == 256 * 1024


async def test_readiness_follows_the_upstreams_health():
    async with rig() as r:
        client = await r.client()
        await client.sends(b"GET /-/live HTTP/1.1\r\nHost: s\r\n\r\n")
        assert (await client.reads_until(b"}\n")).startswith(b"HTTP/1.1 200 ")
        endpoint = r.relay.router.endpoints[0]
        for status, ready in ((b"200", b"200"), (b"404", b"200"), (b"503", b"503")):
            probing = asyncio.create_task(endpoint.probe())
            upstream = await r.upstream.accepts()
            assert (await upstream.reads_until(b"\r\n\r\n")).startswith(b"GET /health HTTP/1.1\r\n")
            await upstream.sends(b"HTTP/1.1 %b X\r\n\r\n" % status)
            await probing
            await client.sends(b"GET /-/ready HTTP/1.1\r\nHost: s\r\n\r\n")
            assert (await client.reads_until(b"}\n")).startswith(b"HTTP/1.1 %b " % ready)


async def test_an_idle_connection_the_server_closes_is_not_used_again():
    """A pooled connection that becomes readable is retired, and the next request gets a fresh one."""
    async with rig() as r:
        client = await r.client()
        for number in range(2):
            await client.sends(GET)
            upstream = await r.upstream.accepts()
            await upstream.reads_until(b"\r\n\r\n")
            await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await client.reads_until(b"\r\n\r\n")
            upstream.closes()
            await eventually(lambda: not r.relay.router.endpoints[0]._idle)
            assert r.upstream.connections == number + 1
