"""Bodies are opened whatever they were packed in, within bounds, and say when something is missing."""

from __future__ import annotations

import gzip
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline import dialects
from driftline.dialects import content
from driftline.dialects.wire import Shape
from driftline.exchange import Body
from tests.dialects.exchanges import STREAMS, exchange, recorded, stream


class Event(msgspec.Struct):
    n: int | None = None


EVENT = Shape(Event)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (stream({"n": 1}, {"n": 2}), ([Event(1), Event(2)], True)),
        (stream({"n": 1}, {"n": 2}, done=False), ([Event(1), Event(2)], False)),
        (stream({"n": 1}, {"n": "x"}, {"n": 3}), ([Event(1), Event(), Event(3)], True)),
        (stream({"n": 1}, "oops", {"n": 3}), ([Event(1), Event(3)], True)),
        (stream({"n": 1}).replace(b"\n", b"\r\n"), ([Event(1)], True)),
        (stream({"n": 1}) + stream({"n": 2}), ([Event(1)], True)),
        (b": hello\n\n" + stream({"n": 1}), ([Event(1)], True)),
        (b'event: x\ndata: {"n":\ndata: 1}\n\n', ([Event(1)], False)),
        (b'event: x\ndata: {"n": 1}\n\nevent: y\ndata: {"n": 2}\n\n', ([Event(1), Event(2)], False)),
        (b'data: {"n": 1}\n\ndata: {"n": 2', ([Event(1)], False)),
        (b'data: {"n": 1}\n\ndata: {"n": 2}\n', ([Event(1)], False)),
        (b"data: [DONE]\n\n", ([], True)),
        (b"", ([], False)),
    ],
)
def test_events_of_a_stream(text, expected):
    """Complete events in order; what is not JSON, and what comes after `[DONE]`, is skipped."""
    assert content.events(text, EVENT) == expected


@given(
    st.lists(st.sampled_from([b'{"n": 1}', b'{"n": []}', b"{", b"[DONE]", b"", b'{"n": 2}\ndata: 3'])),
    st.binary(max_size=8),
)
def test_the_fast_way_reads_what_the_standard_says(payloads, end):
    """Decoding a stream at once and event by event give the same."""
    text = b"".join(b"data: " + payload + b"\n\n" for payload in payloads) + end
    assert content.events(text, EVENT) == content._one_by_one(text, EVENT)


PACKED = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("encoding", PACKED)
def test_compressed_bodies_are_read(encoding):
    """gzip and deflate, in both directions, tell what plain bodies tell."""
    plain = recorded("python-frontend/chat-stream-usage")
    header = [("content-encoding", encoding)]
    packed = recorded(
        "python-frontend/chat-stream-usage",
        request_body=PACKED[encoding](plain.request_body.head),
        response_body=PACKED[encoding](plain.response_body.head),
        request_headers=header,
        response_headers=header,
    )
    call, expected = dialects.read(packed), dialects.read(plain)
    expected.exchange = packed
    assert call == expected


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br"])
def test_other_encodings_are_left_unread_and_said_so(encoding):
    """What the exchange knows is kept, and why there is no more."""
    header = [("content-encoding", encoding)]
    call = dialects.read(
        exchange(model="m", request_headers=header, response_headers=header, response_body=b"\x0b")
    )
    assert (call.model, call.unread) == ("m", ["request_encoding", "response_encoding"])


def test_a_small_body_cannot_unfold_into_a_large_one():
    """A compression bomb is opened up to the bound and counts as cut."""
    bomb = zlib.compress(b" " * (content.INFLATED_BYTES + 1))
    call = dialects.read(exchange(request_body=bomb, request_headers=[("content-encoding", "deflate")]))
    assert len(bomb) < 5000
    assert call.truncated_record


def test_broken_compression_is_no_json():
    """Bytes that are not what their header says tell nothing, without raising."""
    call = dialects.read(exchange(request_body=b"plain", request_headers=[("content-encoding", "gzip")]))
    assert call.truncated_record
    assert call.input_messages == []


@pytest.mark.parametrize("name", [name for name in STREAMS if "n2" not in name and "tool" not in name])
def test_a_long_stream_is_read_from_both_its_ends(name):
    """With its middle gone, model, finish reasons and usage are as of the whole stream; the text is less."""
    whole = recorded(name)
    body = whole.response_body.head
    kept = len(body) * 2 // 5
    cut = recorded(name, response_body=Body(body[:kept], body[-kept:], len(body)))
    call, expected = dialects.read(cut), dialects.read(whole)
    assert call.truncated_record
    assert not expected.truncated_record
    assert call.finish_reasons == expected.finish_reasons
    assert call.response_model == expected.response_model
    if not expected.usage.partial:
        assert call.usage == expected.usage
    assert all(
        message.text.startswith(shorter.text[:1]) and len(shorter.text) < len(message.text)
        for shorter, message in zip(call.output_messages, expected.output_messages, strict=True)
    )
