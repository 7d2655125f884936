"""The load generator finds out every proxy that is not faithful, and loses nothing of one that is."""

import asyncio
import contextlib

import pytest

from benchmarks import load, splice, upstream, wire

TOKENS = 5


@contextlib.asynccontextmanager
async def running(server):
    """The `host:port` of a server, closed afterwards."""
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()


@contextlib.asynccontextmanager
async def proxy(change):
    """A mock upstream behind a proxy that passes `change(bytes)` on; None closes the connection."""

    async def serve(reader, writer):
        upstream_reader, upstream_writer = await asyncio.open_connection(*address.split(":"))

        async def up():
            while data := await reader.read(65536):
                upstream_writer.write(data)
            upstream_writer.close()

        asking = asyncio.ensure_future(up())
        while data := await upstream_reader.read(65536):
            changed = change(data)
            if changed is None:
                break
            writer.write(changed)
        asking.cancel()
        upstream_writer.close()
        writer.close()

    async with (
        running(await upstream.serve(0, 0.002, "spread")) as address,
        running(await asyncio.start_server(serve, "127.0.0.1", 0)) as front,
    ):
        yield front


@pytest.mark.parametrize("phase", ["spread", "burst"])
async def test_every_stream_of_a_faithful_server_is_complete(phase):
    """Nothing is lost or miscounted when nothing is between load generator and upstream."""
    async with running(await upstream.serve(0, 0.002, phase)) as address:
        result = await load.run_streams(address, streams=4, requests=2, tokens=TOKENS)
    assert (result.asked, result.complete, result.tokens) == (8, 8, 8 * TOKENS)
    assert (result.faults, result.connections) == ({}, 4)


async def test_every_reply_of_a_faithful_server_counts():
    """The requests answered are the requests counted, on as many connections as asked for."""
    async with running(await upstream.serve(0, 0.002, "spread")) as address:
        result = await load.run_requests(address, connections=3, seconds=0.05)
    assert result.complete > 0
    assert (result.faults, result.connections) == ({}, 3)


async def test_the_bare_splice_is_a_faithful_proxy():
    """Python's floor is measured with the same checks as every other proxy."""
    async with (
        running(await upstream.serve(0, 0.002, "spread")) as address,
        running(await splice.serve(0, "127.0.0.1", int(address.rpartition(":")[2]))) as front,
    ):
        streams = await load.run_streams(front, streams=4, requests=2, tokens=TOKENS)
        requests = await load.run_requests(front, connections=3, seconds=0.05)
    assert (streams.complete, streams.faults) == (8, {})
    assert requests.complete > 0
    assert requests.faults == {}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda data: data.replace(b"assistant", b"assistent"), "altered"),
        (lambda data: data.replace(b"200 OK", b"502 OK"), "status 502"),
        (lambda data: data.replace(b"HTTP/1.1", b"JUNK/1.1"), "not HTTP"),
        (lambda data: None if b"[DONE]" in data else data, "broken off"),
        (lambda data: data.replace(wire.chunk(wire.DONE), b""), "incomplete"),
    ],
    ids=["alters a byte", "fails", "talks junk", "breaks streams off", "drops the end"],
)
async def test_an_unfaithful_proxy_is_found_out(change, fault):
    """Each fault is counted under its name, and no stream that suffered it counts as complete."""
    async with proxy(change) as front:
        result = await load.run_streams(front, streams=3, requests=2, tokens=TOKENS)
    assert (result.complete, result.tokens, result.faults) == (0, 0, {fault: 6})


async def test_a_closed_port_is_a_fault_of_every_request():
    """A proxy that is down does not look like a fast one."""
    async with running(await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)) as address:
        pass
    result = await load.run_streams(address, streams=2, requests=1, tokens=TOKENS)
    assert result.complete == 0
    assert result.faults["ConnectionRefusedError"] >= 2


async def test_the_upstream_sends_usage_only_where_it_is_asked_for():
    """As vLLM: the relay has to ask for it, and to cut it out of what a client sees that did not."""
    ask = wire.request_body(1, tokens=2, stream=True)
    asked = ask.replace(b'"stream":true', b'"stream":true,"stream_options":{"include_usage":true}')
    async with running(await upstream.serve(0, 0.002, "spread")) as address:
        target = load.Target(address)
        client, without = await target.ask(None, ask)
        _, with_usage = await target.ask(client, asked)
        client.close()
    assert (b'"usage":{' in without.body, b'"usage":{' in with_usage.body) == (False, True)
