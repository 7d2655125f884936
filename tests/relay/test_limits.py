"""What goes wrong with a request, and what is said about it."""

from __future__ import annotations

import asyncio
import tracemalloc

from driftline.relay.settings import Endpoint, Limits, Timeouts
from tests.relay.rig import eventually, rig

GET = b"GET /v1/models HTTP/1.1\r\nHost: s\r\n\r\n"


async def answered(client):
    response = await client.reads_all()
    return int(response[9:12]), response.partition(b'"code": "')[2].partition(b'"')[0].decode()


async def test_a_header_larger_than_the_limit_is_431():
    async with rig(limits=Limits(header_bytes=2000)) as r:
        client = await r.client()
        await client.sends(b"GET / HTTP/1.1\r\nHost: s\r\nX: " + b"x" * 3000)
        assert await answered(client) == (431, "header_too_large")
        whole = await r.client()
        await whole.sends(b"GET / HTTP/1.1\r\nHost: s\r\nX: " + b"x" * 3000 + b"\r\n\r\n")
        assert await answered(whole) == (431, "header_too_large")
        assert r.upstream.connections == 0


async def test_it_is_the_header_that_was_too_large_where_the_body_comes_later():
    """As HTTP libraries send it: the header in one write, the body in the next."""
    for framing in (b"Content-Length: 2", b"Transfer-Encoding: chunked"):
        async with rig(limits=Limits(header_bytes=2000)) as r:
            client = await r.client()
            await client.sends(b"POST / HTTP/1.1\r\nHost: s\r\n%b\r\nX: %b\r\n\r\n" % (framing, b"x" * 3000))
            assert b"the request header is larger than 2000 bytes" in await client.reads_all()


async def test_a_body_with_a_length_has_no_framing_to_be_too_large():
    """However much is read at once before the next request's header."""
    async with rig(limits=Limits(header_bytes=2000)) as r:
        client = await r.client()
        post = b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 3000\r\n\r\n"
        await client.sends(post + b"x" * 3000 + post)
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"x" * 3000)
        await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
        await client.sends(b"x" * 3000)
        await upstream.reads_until(b"x" * 3000)
        await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb")
        await client.reads_until(b"\r\n\r\nb")


async def test_a_body_larger_than_the_limit_is_413_with_a_length_or_without():
    async with rig(limits=Limits(body_bytes=1000)) as r:
        declared = await r.client()
        await declared.sends(b"POST /up HTTP/1.1\r\nHost: s\r\nContent-Length: 1001\r\n\r\n")
        assert await answered(declared) == (413, "body_too_large")
        assert r.upstream.connections == 0
        chunked = await r.client()
        await chunked.sends(b"POST /up HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n")
        upstream = await r.upstream.accepts()
        await chunked.sends(b"3e9\r\n" + b"x" * 1001 + b"\r\n")
        assert await answered(chunked) == (413, "body_too_large")
        await upstream.sees_the_end()


async def test_a_large_upload_streams_through_without_being_held():
    """Half of it reaches the upstream before the other half exists."""
    half = b"x" * 4_000_000
    async with rig() as r:
        client = await r.client()
        await client.sends(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\n"
            b"Content-Length: 8000000\r\n\r\n"
        )
        sending = asyncio.create_task(client.sends(half))
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        assert await upstream.reads(len(half)) == half
        await sending
        sending = asyncio.create_task(client.sends(half))
        assert await upstream.reads(len(half)) == half
        await sending
        await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        record = await r.records.one()
        assert (record.request_body.size, record.request_body.whole) == (8_000_000, False)


async def test_an_upstream_that_answers_before_the_upload_ends_is_heard():
    """The client gets the refusal although it was still sending, and the connection ends."""
    async with rig() as r:
        client = await r.client()
        await client.sends(b"POST /up HTTP/1.1\r\nHost: s\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        upstream = await r.upstream.accepts()
        await upstream.reads(1000)
        await upstream.sends(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        response = await client.reads_all()
        assert response.startswith(b"HTTP/1.1 413 Too Large\r\n")
        assert response.endswith(b"\r\n\r\nno")
        assert b"Connection: close" in response


async def test_a_body_cut_by_the_client_closes_the_upstream():
    async with rig() as r:
        client = await r.client()
        await client.sends(b"POST /up HTTP/1.1\r\nHost: s\r\nContent-Length: 100\r\n\r\nhalf")
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"half")
        client.closes()
        await upstream.sees_the_end()
        assert (await r.records.one()).outcome == "client_closed"


async def test_half_a_held_body_never_reaches_the_upstream():
    async with rig() as r:
        client = await r.client()
        await client.sends(
            b"POST /v1/completions HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        await eventually(lambda: r.relay.row["started"])
        client.closes()
        assert (await r.records.one()).outcome == "client_closed"
        assert r.upstream.connections == 0


async def test_a_body_that_is_not_json_is_passed_on_untouched():
    async with rig() as r:
        client = await r.client()
        await client.sends(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\n"
            b"Content-Length: 10\r\n\r\n\xff not json"
        )
        _, body = await (await r.upstream.accepts()).reads_request()
        assert body == b"\xff not json"


async def test_a_slow_header_is_408():
    async with rig(timeouts=Timeouts(header=0.2)) as r:
        client = await r.client()
        await client.sends(b"GET / HTTP/1.1\r\nHo")
        assert await answered(client) == (408, "slow_header")


async def test_a_slow_body_is_408():
    async with rig(timeouts=Timeouts(body=0.2)) as r:
        client = await r.client()
        await client.sends(b"POST /up HTTP/1.1\r\nHost: s\r\nContent-Length: 10\r\n\r\nab")
        assert await answered(client) == (408, "slow_body")
        await (await r.upstream.accepts()).sees_the_end()


async def test_timeouts_of_the_response_are_504_before_it_begins_and_an_end_after():
    for timeouts in (Timeouts(first_byte=0.2), Timeouts(total=0.2)):
        async with rig(timeouts=timeouts) as r:
            client = await r.client()
            await client.sends(GET)
            upstream = await r.upstream.accepts()
            assert await answered(client) == (504, "timeout")
            await upstream.sees_the_end()
            assert (await r.records.one()).outcome == "timeout"
    async with rig(timeouts=Timeouts(idle=0.2)) as r:
        client = await r.client()
        await client.sends(GET)
        upstream = await r.upstream.accepts()
        await upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        assert (await client.reads_all()).endswith(b"\r\n\r\n1\r\na\r\n")
        assert (await r.records.one()).outcome == "timeout"


async def test_idle_connections_are_closed_after_keep_alive():
    async with rig(timeouts=Timeouts(keep_alive=0.2)) as r:
        client = await r.client()
        assert await client.reads_all() == b""


async def test_one_request_too_many_at_once_is_503():
    async with rig(limits=Limits(concurrent_requests=1)) as r:
        first, second = await r.client(), await r.client()
        await first.sends(GET)
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        await second.sends(GET)
        assert await answered(second) == (503, "too_many_requests")


async def test_a_request_goes_to_another_endpoint_when_one_refuses():
    """Nothing was sent yet, so nothing can happen twice."""
    async with rig() as r:
        dead = Endpoint(url="http://127.0.0.1:1", variant="dead")
        live = Endpoint(url=f"http://127.0.0.1:{r.upstream.port}", variant="live")
        async with rig(endpoints=[dead, live]) as both:
            client = await both.client()
            await client.sends(GET)
            upstream = await r.upstream.accepts()
            await upstream.reads_until(b"\r\n\r\n")
            await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await client.reads_until(b"ok")
            assert (await both.records.one()).variant == "live"


async def test_a_request_that_was_sent_is_never_sent_twice():
    async with rig() as r:
        url = f"http://127.0.0.1:{r.upstream.port}"
        async with rig(
            endpoints=[Endpoint(url=url), Endpoint(url=url.replace("127.0.0.1", "localhost"))]
        ) as both:
            client = await both.client()
            await client.sends(GET)
            upstream = await r.upstream.accepts()
            await upstream.reads_until(b"\r\n\r\n")
            upstream.resets()
            assert await answered(client) == (502, "upstream_failed")
            assert r.upstream.connections == 1


async def test_a_held_body_in_tiny_chunks_takes_about_the_memory_of_its_bytes():
    """Two bytes are 35 as an object, and another 8 in a list."""
    size = 600_000
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\n"
    async with rig() as r:
        client = await r.client()
        chunks = b"2\r\n{}\r\n" * (size // 20)
        tracemalloc.start()
        try:
            await client.sends(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(10):
                await client.sends(chunks)
            await eventually(
                lambda: [len(one._current.held) for one in r.relay.clients if one._current] == [size]
            )
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert taken < 20 * size
