"""Event streams are parsed as the WHATWG standard says, however the network cut them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.dialects.sse import Event, Parser, after_first_boundary
from tests.dialects.exchanges import STREAMS, recorded

PIECES = [b"data: a", b"data:b", b"data", b"event: note", b": comment", b"id: 7", b"retry: 9", b"\r\n", b"\n", b"\r", b"\xef\xbb\xbf", b"x"]  # fmt: skip
streams = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event(b"YHOO\n+2\n10")]),
        (b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n", [Event(b"first event"), Event(b"second event")]),
        (b"data\n\ndata\ndata\n\ndata:", [Event(b""), Event(b"\n")]),
        (b"data:test\n\ndata: test\n\n", [Event(b"test"), Event(b"test")]),
        (b"data: crlf\r\n\r\ndata: cr\r\rdata: lf\n\n", [Event(b"crlf"), Event(b"cr"), Event(b"lf")]),
        (b"\xef\xbb\xbfdata: after a byte order mark\n\n", [Event(b"after a byte order mark")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: after two\n\n", []),
        (b"event: add\ndata: 7\n\ndata: 8\n\n", [Event(b"7", "add"), Event(b"8")]),
        (b"event: no data\n\ndata: 8\n\n", [Event(b"8")]),
        (b"data: [DONE]\n", []),
    ],
)  # fmt: skip
def test_the_standards_own_cases(stream, events):
    """The examples of the standard, and what its algorithm says of the corners."""
    assert Parser().feed(stream) == events


@given(streams, st.lists(st.integers(0, 200)))
def test_events_do_not_depend_on_how_the_bytes_arrive(stream, cuts):
    """Fed in any pieces, down to none, a stream has the events it has as a whole."""
    parser, seen, start = Parser(), [], 0
    for cut in [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]:
        seen += parser.feed(stream[start:cut])
        start = cut
    assert seen == Parser().feed(stream)


@pytest.mark.parametrize("name", STREAMS)
def test_a_real_stream_byte_by_byte(name):
    """vLLM's streams, a byte at a time."""
    stream = recorded(name).response_body.head
    parser = Parser()
    seen = [event for byte in stream for event in parser.feed(bytes([byte]))]
    assert seen == Parser().feed(stream)
    assert seen[-1] == Event(b"[DONE]")


@given(
    st.lists(st.sampled_from([b"one", b"two", b"three"])), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.data()
)
def test_events_after_a_gap_are_whole_ones(payloads, end, data):
    """From the first blank line on, what is left of a stream is a suffix of its events."""
    stream = b"".join(b"data: " + payload + end + end for payload in payloads)
    rest = stream[data.draw(st.integers(0, len(stream))) :]
    seen = Parser().feed(after_first_boundary(rest))
    assert seen == Parser().feed(stream)[len(payloads) - len(seen) :]
    assert len(seen) >= rest.count(b"data: ") - 1


@given(st.binary())
def test_any_bytes_are_some_stream(stream):
    """No input raises, and every event comes out before the input ends."""
    assert all(isinstance(event.data, bytes) for event in Parser().feed(stream))
