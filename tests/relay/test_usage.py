"""Asking for usage and cutting the answer out again."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from driftline.relay.usage import UsageCutter, asking

STREAM = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"\\"usage\\": {"},"finish_reason":null}]}\n\n'
    b": a comment\n\n"
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"!"},"finish_reason":"stop"}]%b}\n\n'
    b"%bdata: [DONE]\n\n"
)
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}%b}\n\n'
FINGERPRINT = b',"system_fingerprint":"vllm-0.26.0-f5"'


def relayed(stream: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    cutter = UsageCutter()
    edges = [0, *sorted(cuts), len(stream)]
    seen = b"".join(cutter.feed(stream[a:b]) for a, b in pairwise(edges))
    return seen + cutter.flush(), cutter.usage_event


def test_the_usage_event_is_cut_wherever_the_reads_fall():
    """At every byte position the client sees the stream it would have seen without the sidecar."""
    asked = STREAM % (b"", USAGE % b"")
    for position in range(len(asked)):
        seen, usage = relayed(asked, [position])
        assert seen == STREAM % (b"", b"")
        assert json.loads(usage)["usage"]["completion_tokens"] == 2


def test_system_fingerprint_goes_back_to_the_finish_event():
    """vLLM 0.26 moves it to the usage event when usage is asked for (failure 24)."""
    asked = STREAM % (b"", USAGE % FINGERPRINT)
    for position in range(len(asked)):
        assert relayed(asked, [position])[0] == STREAM % (FINGERPRINT, b"")


def test_a_server_that_sends_usage_to_everyone_is_left_alone():
    """An ordinary event with usage means that the server forces it, so the client would have seen all of it."""
    forced = STREAM.replace(b'"stop"}]%b}', b'"stop"}],"usage":{"prompt_tokens":3}%b}') % (b"", USAGE % b"")
    assert relayed(forced, []) == (forced, b"")


def test_usage_inside_another_key_is_not_the_servers_answer():
    """Groq sends `x_groq.usage` with its last ordinary event, asked or not; the event we asked for is cut all the same."""
    nested = b',"x_groq":{"id":"r","usage":{"prompt_tokens":3}}'
    asked = STREAM % (nested, USAGE % nested)
    for position in range(len(asked)):
        seen, usage = relayed(asked, [position])
        assert seen == STREAM % (nested, b"")
        assert json.loads(usage)["usage"]["completion_tokens"] == 2


def test_a_stream_that_breaks_off_loses_nothing():
    asked = STREAM % (b"", USAGE % b"")
    without = STREAM % (b"", b"")
    for end in range(asked.index(USAGE % b"")):
        assert relayed(asked[:end], []) == (without[:end], b"")


@given(st.lists(st.integers(0, 700), max_size=12), st.booleans())
def test_any_cuts_give_the_same_stream(cuts, moved):
    asked = STREAM % (b"", USAGE % (FINGERPRINT if moved else b""))
    expected = STREAM % (FINGERPRINT if moved else b"", b"")
    assert relayed(asked, [min(cut, len(asked)) for cut in cuts])[0] == expected


@given(st.binary(max_size=400), st.integers(0, 400))
def test_bytes_that_are_no_usage_event_are_never_changed(data, cut):
    assert relayed(data, [min(cut, len(data))]) == (data, b"") or b'"usage"' in data


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(max_size=12), json_values, max_size=5),
    st.none()
    | st.dictionaries(st.sampled_from(["include_usage", "x"]), st.booleans() | st.none(), max_size=2),
    st.booleans(),
)
@example({"metadata": {"stream_options": None}, "note": '"stream_options": null'}, None, True)
@example({"metadata": {"stream_options": {"include_usage": False}}}, {"include_usage": False}, True)
def test_only_stream_options_changes(document, options, ascii_only):
    """What the server decodes is what the client sent, with `include_usage` true and nothing else different."""
    document = {
        key: value for key, value in document.items() if key not in ("stream", "stream_options", "model")
    }
    document |= {"model": "m", "stream": True}
    if options is not None:
        document["stream_options"] = options
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    ask = asking(body)
    if (options or {}).get("include_usage"):
        assert (ask.usage, ask.body) == ("requested", body)
    else:
        assert ask.usage == "injected"
        assert json.loads(ask.body) == document | {
            "stream_options": (options or {}) | {"include_usage": True}
        }
    assert ask.model == "m"


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (b'{"stream": false}', ""),
        (b"{}", ""),
        (b'{"stream": "true"}', ""),
        (b'{"stream": true, "stream_options": {"continuous_usage_stats": true}}', "not_requested"),
        (b'{"stream": true, "stream_options": 7}', ""),
        (b'{"stream": true', ""),
        (b'[{"stream": true}]', ""),
        (b"", ""),
        (b"\xff\xfe", ""),
    ],
)
def test_what_need_not_or_cannot_be_asked_is_untouched(body, usage):
    ask = asking(body)
    assert (ask.body, ask.usage) == (body, usage)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_body(body):
    assert asking(body).body == body or b'"include_usage":true' in asking(body).body
