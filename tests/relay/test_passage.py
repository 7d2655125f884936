"""What becomes of the reads of a response, byte by byte."""

from __future__ import annotations

import json

import pytest

from driftline.relay import headers
from driftline.relay.passage import AS_IT_CAME, UNFRAMED, Cut
from driftline.relay.usage import UsageCutter

END = b"0\r\n\r\n"


def event(text, *, finish=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"choices": [choice]}, separators=(",", ":")).encode()


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
EVENTS = [event("a"), event("b", finish="stop"), USAGE, DONE]
SEEN = EVENTS[0] + EVENTS[1] + DONE


def unframed(stream):
    """The body of chunks, and whether they end."""
    body = b""
    while stream:
        size, _, stream = stream.partition(b"\r\n")
        if size == b"0":
            return body, True
        body += stream[: int(size, 16)]
        stream = stream[int(size, 16) + 2 :]
    return body, False


def test_a_read_goes_on_as_it_came():
    assert AS_IT_CAME.feed(b"1\r\na\r\n", b"a", b"") == b"1\r\na\r\n"
    assert AS_IT_CAME.rest() == b""


def test_a_client_of_http_1_0_sees_no_chunks():
    assert UNFRAMED.feed(b"1\r\na\r\n0\r\n\r\n", b"a", END) == b"a"
    assert not UNFRAMED.open


@pytest.mark.parametrize("to_chunks", [True, False], ids=["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("cut_at", range(sum(map(len, EVENTS)) + 1))
def test_the_usage_event_is_cut_wherever_reads_end(cut_at, to_chunks):
    """Two reads, divided at each byte in turn, each as one HTTP chunk."""
    stream = b"".join(EVENTS)
    passage = Cut(UsageCutter(), from_chunks=True, to_chunks=to_chunks)
    first, second = stream[:cut_at], stream[cut_at:]
    out = passage.feed(headers.chunk(first), first, b"")
    out += passage.feed(headers.chunk(second) + END, second, END)
    assert (unframed(out) if to_chunks else (out, True)) == (SEEN, True)


def test_an_ordinary_event_is_not_framed_anew():
    """Chunk extensions are legal, and a client may look at them."""
    passage = Cut(UsageCutter(), from_chunks=True, to_chunks=True)
    odd = b"%x;ext=1\r\n%b\r\n" % (len(EVENTS[0]), EVENTS[0])
    assert passage.feed(odd, EVENTS[0], b"") == odd
    assert passage.open


def test_what_is_held_when_a_response_breaks_off_is_not_lost():
    passage = Cut(UsageCutter(), from_chunks=True, to_chunks=True)
    assert passage.feed(headers.chunk(b"data: {"), b"data: {", b"") == b""
    assert not passage.open
    assert passage.rest() == headers.chunk(b"data: {")
