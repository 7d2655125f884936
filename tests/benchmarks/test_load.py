"""The load generator finds out every proxy that is not faithful, and loses nothing of one that is."""

import asyncio
import contextlib

import pytest

from benchmarks import client, load, recorded, splice, upstream, wire

TOKENS = 5
PACE = "spread-2ms"


async def streams(address, **chosen):
    """The load generator in a thread, as it has no loop of asyncio."""
    given = {"model": PACE, "streams": 4, "requests": 2, "tokens": TOKENS, "timeout": 20.0} | chosen
    return await asyncio.to_thread(load.run_streams, client.Target(address), **given)


async def requests(address):
    return await asyncio.to_thread(load.run_requests, client.Target(address), connections=3, seconds=0.05)


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
        running(await upstream.serve(0)) as address,
        running(await asyncio.start_server(serve, "127.0.0.1", 0)) as front,
    ):
        yield front


@pytest.mark.parametrize("model", ["spread-2ms", "burst-2ms"])
async def test_every_stream_of_a_faithful_server_is_complete(model):
    """Nothing is lost or miscounted when nothing is between load generator and upstream."""
    async with running(await upstream.serve(0)) as address:
        result = await streams(address, model=model)
    assert (result.asked, result.complete, result.tokens) == (8, 8, 8 * TOKENS)
    assert (result.faults, result.connections) == ({}, 4)


async def test_every_reply_of_a_faithful_server_counts():
    """The requests answered are the requests counted, on as many connections as asked for."""
    async with running(await upstream.serve(0)) as address:
        result = await requests(address)
    assert result.complete > 0
    assert (result.faults, result.connections) == ({}, 3)


async def test_the_bare_splice_is_a_faithful_proxy():
    """Python's floor is measured with the same checks as every other proxy."""
    async with (
        running(await upstream.serve(0)) as address,
        running(await splice.serve(0, "127.0.0.1", int(address.rpartition(":")[2]))) as front,
    ):
        streamed = await streams(front)
        plain = await requests(front)
    assert (streamed.complete, streamed.faults) == (8, {})
    assert plain.complete > 0
    assert plain.faults == {}


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
        result = await streams(front, streams=3)
    assert (result.complete, result.tokens, result.faults) == (0, 0, {fault: 6})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda data: data.replace(b'"content":"', b'"content": "').replace(b"bench", b"b"), ""),
        (lambda data: data.replace(b"data: [DONE]\n\n", b"data: [OVER]\n\n"), "incomplete"),
    ],
    ids=["writes events anew", "drops the end"],
)
async def test_a_gateway_that_writes_events_anew_is_judged_by_their_substance(change, fault):
    """All tokens in their order, and an end: less is asked of gateways that decode and encode each event."""

    def framed_alike(data):
        # Fewer bytes in a chunk than it announces would be no HTTP: blanks stand in for what went.
        changed = change(data)
        return changed.replace(
            b"\n\n", b" " * ((len(data) - len(changed)) // max(1, data.count(b"\n\n"))) + b"\n\n"
        )

    async with proxy(lambda data: data if b"[DONE]" in data and not fault else framed_alike(data)) as front:
        result = await streams(front, streams=1, requests=1, exact=False)
    assert (result.complete, result.faults) == ((0, {fault: 1}) if fault else (1, {}))


async def test_a_closed_port_is_a_fault_of_every_request():
    """A proxy that is down does not look like a fast one."""
    async with running(await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)) as address:
        pass
    result = await streams(address, streams=2, requests=1)
    assert result.complete == 0
    assert result.faults["ConnectionRefusedError"] >= 2


async def test_the_upstream_sends_usage_only_where_it_is_asked_for():
    """As vLLM: the relay has to ask for it, and to cut it out of what a client sees that did not."""
    ask = wire.request_body(1, tokens=2, stream=True, model=PACE)
    asked = ask.replace(b'"stream":true', b'"stream":true,"stream_options":{"include_usage":true}')
    async with running(await upstream.serve(0)) as address:
        without, with_usage = [await exchange(address, body) for body in (ask, asked)]
    assert (b'"usage":{' in without, b'"usage":{' in with_usage) == (False, True)


async def test_a_model_that_is_no_pace_is_named():
    """A misspelled pace is not taken for a slow upstream."""
    async with running(await upstream.serve(0)) as address:
        body = await exchange(address, wire.request_body(1, tokens=2, stream=True, model="sprad-2ms"))
    assert b"no model sprad-2ms" in body


async def exchange(address, body):
    """The body of the answer to one chat request."""
    target, seen = client.Target(address), []

    def ask():
        loop = client.Loop()
        requests = iter([(0, target.request("/v1/chat/completions", body))])
        client.Client(loop, target, requests, lambda _, answer: seen.append(answer)).begin(0.0)
        loop.run(20)

    await asyncio.to_thread(ask)
    return client.Decoded.of(seen[0]).body


@pytest.mark.parametrize("model", upstream.FORMS)
async def test_streams_of_a_replay_are_complete_and_speak_together(model, monkeypatch):
    """Copies of the recorded streams: every one is whole, and the writes of a step come in one burst."""
    steps = [recorded.Step(n * 0.02, (0, 1)) for n in range(TOKENS)]
    monkeypatch.setattr(recorded, "load", lambda _: recorded.Recording(steps, 2))
    async with running(await upstream.serve(0)) as address:
        result = await streams(address, model=model, streams=6, requests=2)
    assert (result.complete, result.faults, result.most_at_once) == (12, {}, 6)
    assert result.interval_ms == pytest.approx(20, rel=0.5)
    assert result.bursts.width.p50 < result.bursts.pause.p50
