"""Where HTTP is easily got wrong: what one client sends may harm neither another one nor the relay."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys
from pathlib import Path

import pytest

from driftline.listeners import BACKLOG, Address, listen
from driftline.relay.counters import SIZE, Block
from driftline.relay.server import Relay
from driftline.relay.settings import DataPlane, Endpoint, Limits, Pool, RelaySettings, Timeouts
from tests.relay.rig import Records, eventually, rig

GET = b"GET /v1/models HTTP/1.1\r\nHost: sidecar\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(path, body, *fields):
    lines = [b"POST %b HTTP/1.1" % path, b"Host: s", *fields, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chat(body, *fields):
    return post(b"/v1/chat/completions", body, b"Content-Type: application/json", *fields)


async def test_a_client_cannot_take_the_length_off_its_body():
    """`Connection: content-length` must not turn a body into a second request on a shared connection."""
    hidden = b"GET /hidden HTTP/1.1\r\nHost: s\r\n\r\n"
    async with rig() as r:
        client = await r.client()
        await client.sends(post(b"/v1/x", hidden, b"Connection: content-length"))
        upstream = await r.upstream.accepts()
        head, body = await upstream.reads_request()
        assert (b"Content-Length: %d\r\n" % len(hidden) in head, body) == (True, hidden)


async def test_a_client_cannot_take_the_host_off_its_request():
    async with rig() as r:
        client = await r.client()
        await client.sends(b"GET / HTTP/1.1\r\nHost: s\r\nConnection: host\r\n\r\n")
        upstream = await r.upstream.accepts()
        assert b"\r\nHost: 127.0.0.1:%d\r\n" % r.upstream.port in await upstream.reads_until(b"\r\n\r\n")


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_request_that_offers_h2c_keeps_its_body(framing):
    """Java's HttpClient offers h2c with every plain request, POST included; the offer is ignored, not the body."""
    offer = [
        b"Connection: Upgrade, HTTP2-Settings",
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk",
        b"Upgrade: h2c",
    ]
    sent, seen = post(b"/v1/x", b"hello", *offer), b"hello"
    if framing == "chunks":
        seen = b"5\r\nhello\r\n0\r\n\r\n"
        sent = sent.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")[: -len(b"hello")] + seen
    async with rig() as r:
        client = await r.client()
        await client.sends(sent + GET)
        upstream = await r.upstream.accepts()
        head, body = await upstream.reads_request()
        assert (body, b"upgrade" in head.lower()) == (seen, False)
        await upstream.sends(OK)
        await client.reads_until(b"ok")
        assert (await upstream.reads_until(b"\r\n\r\n")).startswith(b"GET /v1/models")


async def test_an_upgrade_with_a_body_never_puts_its_connection_out_of_step():
    """An upstream that refuses early still expects the body: its connection must not carry the next request."""
    async with rig() as r:
        client = await r.client()
        await client.sends(
            b"POST /ws HTTP/1.1\r\nHost: s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 60\r\n\r\n"
        )
        try:
            async with asyncio.timeout(0.5):
                upstream = await r.upstream._arrived.get()
        except TimeoutError:
            return  # refused by the relay
        await upstream.reads_until(b"\r\n\r\n")
        await upstream.sends(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await client.reads_until(b"\r\n\r\n")
        other = await r.client()
        await other.sends(GET)
        assert await upstream.reads_all() == b""


async def test_a_connection_may_idle_after_a_long_response_too():
    """Keep-alive counts from the end of the last response, not from the request before a long generation."""
    async with rig(timeouts=Timeouts(keep_alive=1.0)) as r:
        client, upstream = await r.asks(GET)
        await asyncio.sleep(1.3)
        await upstream.sends(OK)
        await client.reads_until(b"ok")
        await asyncio.sleep(0.5)
        await client.sends(GET)
        await upstream.reads_until(b"\r\n\r\n")


async def test_a_body_that_had_to_wait_for_its_turn_is_not_slow():
    """Behind a long answer nobody reads it; the clock of the body begins when somebody does."""
    async with rig(timeouts=Timeouts(body=1.0)) as r:
        client = await r.client()
        await client.sends(GET + b"POST /x HTTP/1.1\r\nHost: s\r\nContent-Length: 4\r\n\r\nab")
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        await asyncio.sleep(1.3)
        await upstream.sends(OK)
        await client.reads_until(b"ok")
        await asyncio.sleep(0.5)
        await client.sends(b"cd")
        await upstream.reads_until(b"abcd")


async def test_a_client_is_heard_again_after_an_early_answer_to_a_large_upload():
    """The upstream answered (401, say) without reading the body; the client's next request is served."""
    body = b'{"model":"m","x":"' + b"x" * 8_000_000 + b'"}'
    async with rig(relay=RelaySettings(inspect_body_bytes=16 * 1024 * 1024)) as r:
        r.upstream._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client = await r.client()
        upload = asyncio.create_task(client.sends(chat(body)))
        upstream = await r.upstream.accepts()
        upstream.writer.transport.pause_reading()
        await upload
        (connection,) = r.relay.clients
        await eventually(lambda: connection.paused)
        await upstream.sends(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
        await client.reads_until(b"no")
        await client.sends(GET)
        await eventually(lambda: r.relay.row["started"] == 2)


async def test_what_follows_an_upgrade_request_is_bounded():
    """Until the upstream has switched, the client is held back, not stored."""
    async with rig() as r:
        client = await r.client()
        await client.sends(
            b"GET /ws HTTP/1.1\r\nHost: s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        sending = asyncio.create_task(client.sends(b"x" * 32_000_000))
        done, _ = await asyncio.wait({sending}, timeout=2)
        sending.cancel()
        assert not done, "32 MB were swallowed"


async def test_trailers_are_bounded_like_a_header():
    async with rig(limits=Limits(header_bytes=2000)) as r:
        client = await r.client()
        await client.sends(b"POST /x HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        with contextlib.suppress(ConnectionError):
            await client.sends(b"x-a: y\r\n" * 100_000)
        await eventually(lambda: r.records.all)
        assert r.records.all[0].outcome == "bad_request"


async def test_a_target_is_bounded_like_a_header():
    async with rig(limits=Limits(header_bytes=2000)) as r:
        client = await r.client()
        await client.sends(b"GET /%b HTTP/1.1\r\nHost: s\r\n\r\n" % (b"x" * 50_000))
        assert (await client.reads_until(b"\r\n\r\n")).startswith((b"HTTP/1.1 431", b"HTTP/1.1 414"))


async def test_an_event_without_an_end_is_not_gathered_for_ever():
    """Only so much of one event is held to look for usage in it; the rest passes on."""
    async with rig() as r:
        client = await r.client()
        await client.sends(chat(b'{"model":"m","stream":true}'))
        upstream = await r.upstream.accepts()
        await upstream.reads_request()
        await upstream.sends(STREAM)
        size = 4 * 1024 * 1024
        await upstream.sends(b"%x\r\ndata: %b\r\n" % (size, b"x" * (size - 6)))
        await client.reads_until(b"\r\n\r\n")
        await client.reads(1024)


async def test_a_large_body_does_not_count_as_the_next_header():
    """Two pipelined requests in one segment: the header limit is the header's."""
    body = b"x" * 100_000
    async with rig() as r:
        client = await r.client()
        await client.sends(post(b"/v1/x", body) + GET[:10])
        upstream = await r.upstream.accepts()
        await upstream.reads_request()
        await upstream.sends(OK)
        await client.reads_until(b"ok")
        await client.sends(GET[10:])
        second = asyncio.create_task(client.reads_until(b"\r\n\r\n"))
        asked = asyncio.create_task(upstream.reads_until(b"\r\n\r\n"))
        await asyncio.wait({second, asked}, return_when=asyncio.FIRST_COMPLETED)
        assert asked.done(), await second
        assert asked.exception() is None
        second.cancel()


async def test_a_connection_the_server_has_closed_is_not_used_even_when_nobody_looked_yet():
    """The request and the server's goodbye wait side by side when the relay wakes."""
    async with rig() as r:
        client, upstream = await r.asks(GET)
        await upstream.sends(OK)
        await client.reads_until(b"ok")
        # Both within one turn of the loop that the relay runs on.
        os.write(client.writer.get_extra_info("socket").fileno(), GET)
        copy = socket.socket(fileno=os.dup(upstream.writer.get_extra_info("socket").fileno()))
        copy.shutdown(socket.SHUT_RDWR)
        copy.close()
        reply = asyncio.create_task(client.reads_until(b"\r\n\r\n"))
        fresh = asyncio.create_task(r.upstream.accepts())
        await asyncio.wait({reply, fresh}, return_when=asyncio.FIRST_COMPLETED)
        assert fresh.done(), await reply
        reply.cancel()


async def test_no_compressed_stream_is_asked_for_when_the_usage_must_be_cut_out():
    """In a compressed stream the extra event could not be found, and clients that read choices[0] would break."""
    async with rig() as r:
        client = await r.client()
        await client.sends(chat(b'{"model":"m","stream":true}', b"Accept-Encoding: gzip, deflate"))
        upstream = await r.upstream.accepts()
        head, body = await upstream.reads_request()
        assert b"include_usage" in body
        assert b"gzip" not in head


@pytest.mark.parametrize(
    ("version", "framing", "how"),
    [(b"1.0", b"Transfer-Encoding: chunked\r\n", "closes"), (b"1.1", b"", "resets")],
)
async def test_a_cut_response_never_looks_whole(version, framing, how):
    """Where only the connection's end ends the body, a failure of the upstream must reset it."""
    async with rig() as r:
        client = await r.client()
        await client.sends(b"GET / HTTP/%b\r\nHost: s\r\n\r\n" % version)
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        await upstream.sends(b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (framing, b"2\r\nab\r\n" if framing else b"ab"))
        await client.reads_until(b"ab")
        getattr(upstream, how)()
        with pytest.raises(ConnectionError):
            await client.reads_all()
        assert (await r.records.one()).outcome == "upstream_broken"


@pytest.mark.parametrize("why", ["resets", "total"])
async def test_a_cut_response_never_looks_whole_although_its_request_is_not_either(why):
    async with rig(timeouts=Timeouts(total=0.5 if why == "total" else 0, drain=1)) as r:
        client = await r.client()
        await client.sends(b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 9\r\n\r\nabc")
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"abc")
        await upstream.sends(b"HTTP/1.1 200 OK\r\n\r\nab")
        await client.reads_until(b"ab")
        if why == "resets":
            upstream.resets()
        with pytest.raises(ConnectionError):
            await client.reads_all()


async def test_a_head_is_passed_on_although_the_body_behind_it_is_broken():
    """Both came in one read; the client sees a response that breaks off, not an empty reply."""
    async with rig() as r:
        client, upstream = await r.asks(GET)
        await upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
        assert (await client.reads_all()).startswith(b"HTTP/1.1 ")


async def test_what_follows_a_whole_response_does_not_take_it_away():
    async with rig() as r:
        client, upstream = await r.asks(GET)
        await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        await client.reads_until(b"\r\n\r\n")
        await upstream.sends(b"hello, and more")
        assert await client.reads(5) == b"hello"


async def test_a_line_end_after_a_response_is_not_the_clients():
    """Some servers send one too many; the client's next response must begin with its status line."""
    async with rig() as r:
        client, upstream = await r.asks(GET)
        await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\r\n")
        await client.reads_until(b"hello")
        await asyncio.sleep(0.05)
        await client.sends(b"GET /-/live HTTP/1.1\r\nHost: s\r\n\r\n")
        with contextlib.suppress(asyncio.IncompleteReadError):
            assert (await client.reads_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")


async def test_nothing_of_a_second_response_reaches_the_client():
    async with rig() as r:
        client, upstream = await r.asks(GET)
        await upstream.sends(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nX-Second: 1\r\nContent-Length: 2\r\n\r\nzz"
        )
        assert (await client.reads_all()).endswith(b"2\r\nab\r\n0\r\n\r\n")


async def test_a_response_is_whole_although_more_requests_wait_behind_it():
    """Closing with unread requests would reset the connection and take the response's end away."""
    size = 500_000
    async with rig() as r:
        client = await r.client()
        client.writer.transport.pause_reading()
        client.writer.write(GET * 20_000)
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        await upstream.sends(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * size)
        upstream.closes()
        await r.records.count(1) if False else await eventually(lambda: r.records.all)
        await asyncio.sleep(0.2)
        client.writer.transport.resume_reading()
        assert len((await client.reads_all()).partition(b"\r\n\r\n")[2]) == size


async def test_a_client_that_reads_nothing_is_let_go():
    """Its connection has been closed by us; what it will not read is thrown away in the end."""
    async with rig(timeouts=Timeouts(keep_alive=0.3)) as r:
        client = await r.client()
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.writer.transport.pause_reading()
        await client.sends(GET)
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        await upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        (connection,) = r.relay.clients
        while not connection.transport.get_write_buffer_size():
            await upstream.sends(b"2710\r\n%b\r\n" % (b"x" * 10_000))
            await asyncio.sleep(0.001)
        await upstream.sends(b"0\r\n\r\n")
        await r.records.one()
        await eventually(lambda: not r.relay.clients)


async def test_a_slow_client_is_not_an_idle_upstream():
    """While we do not read from it, that nothing comes is not the upstream's doing."""
    async with rig(timeouts=Timeouts(idle=0.5)) as r:
        client = await r.client()
        client.writer.transport.pause_reading()
        await client.sends(GET)
        upstream = await r.upstream.accepts()
        await upstream.reads_until(b"\r\n\r\n")
        size = 30_000_000
        upstream.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        await asyncio.sleep(1.5)
        assert [record.outcome for record in r.records.all] == []


async def test_silence_after_the_head_is_idle_too():
    async with rig(timeouts=Timeouts(idle=0.3)) as r:
        _, upstream = await r.asks(GET)
        await upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        assert (await r.records.one()).outcome == "timeout"


async def test_a_responses_stream_is_complete_when_its_client_closes_after_the_last_event():
    """That API has no `[DONE]`; `response.completed` is the last event, and some clients close on it."""
    event = b'event: response.completed\ndata: {"type":"response.completed","response":{"status":"completed"}}\n\n'
    async with rig() as r:
        client = await r.client()
        await client.sends(post(b"/v1/responses", b"{}", b"Content-Type: application/json"))
        upstream = await r.upstream.accepts()
        await upstream.reads_request()
        await upstream.sends(STREAM + b"%x\r\n%b\r\n" % (len(event), event))
        await client.reads_until(b"\n\n")
        client.closes()
        assert (await r.records.one()).outcome == "complete"


async def test_an_upstream_name_that_cannot_be_looked_up_is_a_502():
    async with rig(endpoints=[Endpoint(url="http://a..b:80")]) as r:
        client = await r.client()
        await client.sends(GET)
        assert (await client.reads_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 502")


async def test_a_transfer_coding_that_is_not_undone_is_still_named():
    async with rig() as r:
        client, upstream = await r.asks(GET)
        coded = b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
        await upstream.sends(b"HTTP/1.1 200 OK\r\n" + coded)
        assert b"gzip, chunked" in await client.reads_until(b"\r\n\r\n")


async def test_an_error_in_answer_to_head_has_no_body():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    async with rig(endpoints=[Endpoint(url=f"http://127.0.0.1:{port}")]) as r:
        client = await r.client()
        await client.sends(b"HEAD /v1/models HTTP/1.1\r\nHost: s\r\n\r\n")
        assert (await client.reads_all()).partition(b"\r\n\r\n")[2] == b""


async def test_an_http_1_0_client_is_never_told_to_continue():
    async with rig() as r:
        client = await r.client()
        await client.sends(
            b"POST /v1/chat/completions HTTP/1.0\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        )
        await asyncio.sleep(0.1)
        await client.sends(b"{}")
        upstream = await r.upstream.accepts()
        await upstream.reads_request()
        await upstream.sends(OK)
        assert (await client.reads_all()).startswith(b"HTTP/1.1 200")


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel in Linux's way")
async def test_a_burst_of_connections_finds_room_in_the_queue():
    """The listening queue keeps the length that it was opened with."""
    listener = listen(Address("127.0.0.1:0"))
    block, file = Block.create()
    plane = DataPlane(
        pools=[Pool(endpoints=[Endpoint(url="http://127.0.0.1:1")])],
        relay=RelaySettings(),
        limits=Limits(),
        timeouts=Timeouts(),
        sampler={},
    )
    relay = Relay(plane, Records(), block.allocate(1), probing=False)
    copy = socket.socket(fileno=os.dup(listener.fileno()))
    try:
        await relay.start(listener)
        # Linux: of a listening socket, tcpi_sacked is the length of its queue (tcp_diag does the same).
        info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        most = int(Path("/proc/sys/net/core/somaxconn").read_text())  # no disk behind it
        assert struct.unpack_from("I", info, 28)[0] == min(BACKLOG, most)
    finally:
        copy.close()
        await relay.stop()
        file.close()


async def test_a_request_that_cannot_be_taken_is_answered_and_recorded_all_the_same(monkeypatch):
    """Whatever goes wrong at its head, a client that waits for ever and books that never balance are worse."""
    async with rig() as r:
        monkeypatch.setattr(r.relay.router, "by_head", lambda _: 1 / 0)
        client = await r.client()
        await client.sends(GET)
        assert (await client.reads_all()).startswith(b"HTTP/1.1 500 ")
        await r.records.one()
        assert r.relay.row["active"] == 0


def test_the_counters_memory_is_reserved_at_the_start():
    """A page that cannot be had later, on a full disk, would kill whoever touches it (SIGBUS)."""
    _, file = Block.create()
    with file:
        assert os.fstat(file.fileno()).st_blocks * 512 >= SIZE
