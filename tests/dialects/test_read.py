"""Any exchange becomes a call or nothing, and never an exception."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline import dialects
from driftline.call import Call
from driftline.exchange import Body
from tests.dialects.exchanges import NAMES, STREAMS, exchange, recorded

PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]


@pytest.mark.parametrize(
    ("method", "target", "dialect"),
    [
        ("POST", "/v1/chat/completions", "openai_chat"),
        ("POST", "/v1/chat/completions?beta=1", "openai_chat"),
        ("POST", "/llama/v1/completions", "openai_completions"),
        ("POST", "/team/v1/proxy/v1/embeddings", "openai_embeddings"),
        ("POST", "/v1/responses", "openai_responses"),
        ("GET", "/v1/responses", None),
        ("GET", "/v1/responses/resp_1", None),
        ("POST", "/v1/responses/resp_1/cancel", None),
        ("POST", "/chat/completions", None),
        ("POST", "/api/embeddings", None),
        ("POST", "/v1/chat/completions/batch", None),
        ("GET", "/v1/models", None),
        ("GET", "/health", None),
        ("POST", "/v1x/completions", None),
    ],
)
def test_which_requests_are_calls(method, target, dialect):
    """By method and what stands from `/v1` on, with any prefix; everything else passes untraced."""
    call = dialects.read(exchange(target, method=method))
    assert (call.dialect if call else None) == dialect


def test_the_kind_of_route_decides_who_may_read():
    """On a route of another kind, and in a tunnel, nothing is taken for an OpenAI call."""
    assert dialects.read(exchange(kind="mcp")) is None
    assert dialects.read(exchange(outcome="tunnelled")) is None


def test_attribution_comes_with_every_call():
    """Whatever the API."""
    headers = [("x-driftline-team", "search")]
    teams = {dialects.read(exchange(path, request_headers=headers)).attribution.team for path in PATHS}
    assert teams == {"search"}


bodies = st.binary() | st.sampled_from(NAMES).map(lambda name: recorded(name).response_body.head) | st.builds(
    lambda value: json.dumps(value).encode(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(
            st.sampled_from(["choices", "delta", "message", "messages", "content", "tool_calls", "function", "usage", "error", "index", "input", "prompt", "data", "embedding", "output", "type", "response", "response_format", "tools", "text", "format", "stop"]), inner
        ),
        max_leaves=20,
    ),
)  # fmt: skip
encodings = st.sampled_from(["", "gzip", "deflate", "br"])


@given(
    path=st.sampled_from(PATHS),
    request=bodies,
    response=bodies,
    framed=st.booleans(),
    dropped=st.sampled_from([0, 0, 7]),
    streamed=st.booleans(),
    status=st.sampled_from([0, 200, 400, 500]),
    scanned=bodies,
    encoding=encodings,
)
def test_no_bytes_raise(path, request, response, framed, dropped, streamed, status, scanned, encoding):
    """Whatever both sides sent, a call comes out that can be written as JSON."""
    if framed:
        response = b"data: " + response + b"\n\n"
    headers = [("content-encoding", encoding)]
    half = len(response) // 2
    call = dialects.read(
        exchange(
            path,
            request_body=request,
            response_body=Body(response[:half], response[half:], len(response) + dropped),
            request_headers=headers,
            response_headers=headers,
            stream=streamed,
            status=status,
            usage_event=scanned,
        )
    )
    assert isinstance(call, Call)
    call.exchange = exchange()
    msgspec.json.encode(call)


@pytest.mark.parametrize("name", STREAMS)
def test_a_prefix_of_a_stream_tells_a_prefix_of_the_reply(name):
    """Cut after any byte: text and finish reasons are never other than the whole's, and errors are named."""
    whole = dialects.read(recorded(name))
    texts = [message.text for message in whole.output_messages]
    body = recorded(name).response_body.head
    longest = 0
    for end in range(len(body)):
        call = dialects.read(recorded(name, response_body=body[:end], outcome="client_closed"))
        for message in call.output_messages:
            assert any(text.startswith(message.text) for text in texts)
            assert message.finish_reason in (None, "length")
        length = sum(len(message.text) for message in call.output_messages)
        assert length >= longest
        longest = length
        finished = len(call.finish_reasons) == len(texts)
        assert call.error_type == (None if finished else "client_closed")
        if call.usage and not call.usage.partial:
            assert call.usage.output_tokens == whole.usage.output_tokens
    assert longest == sum(len(text) for text in texts)


@pytest.mark.parametrize("name", NAMES)
def test_a_prefix_of_a_request_is_still_a_call(name):
    """An upload that was cut has no parameters that the whole has not."""
    body = recorded(name).request_body.head[:400]
    for end in range(len(body)):
        call = dialects.read(recorded(name, request_body=body[:end], model="m"))
        assert call.model == "m"
        assert call.unread == ["request_not_json"]
