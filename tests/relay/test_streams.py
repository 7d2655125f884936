"""Event streams through the relay, as recorded from real vLLM servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from driftline.relay.settings import RelaySettings
from tests.relay.rig import rig

RECORDINGS = Path(__file__).parents[1] / "dialects" / "recordings"
STREAMS = {
    (frontend, kind): (frontend, kind)
    for frontend in ("python-frontend", "rust-frontend")
    for kind in ("chat", "completion")
}


def recorded(frontend: str, name: str) -> bytes:
    return (RECORDINGS / frontend / f"{name}.response").read_bytes()


def events(framed: bytes) -> bytes:
    """The event stream inside HTTP chunks."""
    out, rest = b"", framed
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        out += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return out


def request(stream_options: dict | None = None, path: str = "/v1/chat/completions") -> bytes:
    body = {"model": "m", "stream": True} | ({"stream_options": stream_options} if stream_options else {})
    payload = json.dumps(body).encode()
    return (
        b"POST %b HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (path.encode(), len(payload), payload)
    )


async def through(asked: bytes, response: bytes, piece: int, settings: RelaySettings | None = None):
    """(request body the upstream got, framed response body the client got, the record)"""
    async with rig(relay=settings) as r:
        client = await r.client()
        await client.sends(asked)
        upstream = await r.upstream.accepts()
        _, body = await upstream.reads_request()
        for start in range(0, len(response), piece):
            await upstream.sends(response[start : start + piece])
        await client.reads_until(b"\r\n\r\n")
        framed = b""
        while not framed.endswith(b"0\r\n\r\n"):
            framed += await client.reads_until(b"\r\n")
        return body, framed, await r.records.one()


@pytest.mark.parametrize(("frontend", "kind"), STREAMS.values(), ids=str)
@pytest.mark.parametrize("piece", [1, 7, 100, 100_000])
async def test_usage_is_had_without_the_client_seeing_it(frontend, kind, piece):
    """The upstream is asked, the record has the count, and the client's stream has no usage event."""
    response = recorded(frontend, f"{kind}-stream-usage")
    path = "/v1/chat/completions" if kind == "chat" else "/v1/completions"
    body, framed, record = await through(request(path=path), response, piece)
    assert json.loads(body)["stream_options"] == {"include_usage": True}
    whole = events(response.partition(b"\r\n\r\n")[2])
    usage_event = next(e for e in whole.split(b"\n\n") if b'"choices":[]' in e)
    fingerprint = json.loads(usage_event.removeprefix(b"data: ")).get("system_fingerprint")
    seen = events(framed)
    assert usage_event not in seen
    expected = whole.replace(usage_event + b"\n\n", b"")
    if fingerprint:
        *before, finish, done, end = expected.split(b"\n\n")
        finish = finish[:-1] + b',"system_fingerprint":"%b"}' % fingerprint.encode()
        expected = b"\n\n".join([*before, finish, done, end])
    assert seen == expected
    assert json.loads(record.usage_event)["usage"]["completion_tokens"] == 12
    assert record.usage == "injected"
    assert record.response_body.head == whole
    assert 0 < record.first_byte <= record.first_content <= record.last_content <= record.ended


@pytest.mark.parametrize("piece", [1, 100, 100_000])
async def test_a_client_that_asks_for_usage_gets_every_byte(piece):
    response = recorded("python-frontend", "chat-stream-usage")
    body, framed, record = await through(request({"include_usage": True}), response, piece)
    assert json.loads(body)["stream_options"] == {"include_usage": True}
    assert framed == response.partition(b"\r\n\r\n")[2]
    assert record.usage == "requested"


@pytest.mark.parametrize("piece", [1, 100, 100_000])
async def test_nothing_is_touched_when_injection_is_off(piece):
    response = recorded("python-frontend", "chat-stream")
    asked = request()
    body, framed, record = await through(asked, response, piece, RelaySettings(inject_usage=False))
    assert body == asked.partition(b"\r\n\r\n")[2]
    assert framed == response.partition(b"\r\n\r\n")[2]
    assert record.usage == "not_requested"


async def test_a_body_too_large_to_inspect_streams_through_unchanged():
    asked = request().replace(b'"model": "m"', b'"model": "' + b"m" * 3000 + b'"')
    asked = asked.replace(b"Content-Length: 30", b"Content-Length: %d" % len(asked.partition(b"\r\n\r\n")[2]))
    settings = RelaySettings(inspect_body_bytes=1000)
    body, _, record = await through(asked, recorded("python-frontend", "chat-stream"), 100, settings)
    assert body == asked.partition(b"\r\n\r\n")[2]
    assert record.usage == "not_requested"


async def test_a_client_that_closes_after_done_has_seen_a_complete_stream():
    """It need not wait for the connection's end to be counted as served (failure 5)."""
    response = recorded("python-frontend", "chat-stream-usage").removesuffix(b"0\r\n\r\n")
    async with rig() as r:
        client = await r.client()
        await client.sends(request())
        upstream = await r.upstream.accepts()
        await upstream.reads_request()
        await upstream.sends(response)
        await client.reads_until(b"[DONE]\n\n")
        client.closes()
        record = await r.records.one()
        assert record.outcome == "complete"
        assert b'"completion_tokens"' in record.usage_event
