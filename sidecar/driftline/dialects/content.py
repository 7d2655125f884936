"""An exchange's bodies as a dialect reads them: decompressed, typed, marked where something is missing."""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple, TypeVar

from driftline.call import Call
from driftline.dialects import fragments, sse
from driftline.dialects.wire import Shape, encodable
from driftline.exchange import Body

T = TypeVar("T")

INFLATED_BYTES = 4 * 1024 * 1024
"""Of a compressed body, so that a small one cannot fill the memory."""

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Content(NamedTuple):
    """The beginning of a body and, where its middle is `missing`, its end."""

    head: bytes
    tail: bytes = b""
    missing: bool = False


def request(call: Call, shape: Shape[T]) -> T | None:
    """The request as `shape`. None: not read, and `call.unread` says why."""
    content = _content(call.exchange.request_body, call.exchange.request_headers)
    if content is None:
        call.unread.append("request_encoding")
        return None
    call.truncated_record |= content.missing
    found = _object(content, shape)
    if found is None:
        call.unread.append("request_not_json")
    return found


def response(call: Call, shape: Shape[T]) -> T | None:
    """The response, not a stream, as `shape`. None: there was none, or `call.unread` says why not."""
    content = response_content(call)
    if content is None or not content.head:
        return None
    found = _object(content, shape)
    if found is None:
        call.unread.append("response_not_json")
    return found


def response_content(call: Call) -> Content | None:
    content = _content(call.exchange.response_body, call.exchange.response_headers)
    if content is None:
        call.unread.append("response_encoding")
        return None
    call.truncated_record |= content.missing
    return content


def response_events(call: Call, shape: Shape[T]) -> tuple[list[T], bool]:
    """The complete events of a stream, and whether `[DONE]` was the last."""
    content = response_content(call)
    if content is None:
        return [], False
    found, done = events(content.head, shape)
    if content.tail:
        more, done = events(sse.after_first_boundary(content.tail), shape)
        found += more
    return found, done


_DONE = b"[DONE]"
_END = b"\n\ndata: [DONE]\n\n"
_TYPE_LINE = re.compile(rb"\nevent: [^\n]*")


def events(stream: bytes, shape: Shape[T]) -> tuple[list[T], bool]:
    """The same of bytes. What is not a JSON object is skipped.

    A stream whose every event is one `data: ` line, as model servers write it, is line-delimited JSON with a
    prefix: a raw newline cannot stand inside JSON. It is decoded at once; any other goes event by event.
    `event: ` lines are left out, since the data repeat them.
    """
    done = stream.endswith(_END)
    body = stream[: -len(_END)] if done else stream.rpartition(b"\n\n")[0]
    if body.startswith(b"event: "):
        body = _TYPE_LINE.sub(b"", b"\n" + body)[1:]
    if body.startswith(b"data: "):
        try:
            # Spaces of the same number: replacing in place takes a third of the time that shortening does.
            return shape.strict_lines(body[6:].replace(b"\ndata: ", b"\n      ")), done
        except (ValueError, RecursionError):
            pass
    return _one_by_one(stream, shape)


def _one_by_one(stream: bytes, shape: Shape[T]) -> tuple[list[T], bool]:
    found: list[T] = []
    for event in sse.Parser().feed(stream):
        if event.data == _DONE:
            return found, True
        if (read := shape.decode(event.data)) is not None:
            found.append(read)
    return found, False


def _object(content: Content, shape: Shape[T]) -> T | None:
    if content.missing:
        found = fragments.members(content.head, content.tail)
        return shape.fit(encodable(found, content.head + content.tail))
    return shape.decode(content.head)


def _content(body: Body, headers: list[tuple[str, str]]) -> Content | None:
    """None: in an encoding that is not read here."""
    encoding = next((value for name, value in headers if name == "content-encoding"), "identity")
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return Content(body.head + body.tail) if body.whole else Content(body.head, body.tail, missing=True)
    if encoding not in _WINDOW_BITS:
        return None
    kept = body.head + body.tail if body.whole else body.head
    inflated, complete = _inflate(kept, _WINDOW_BITS[encoding])
    return Content(inflated, missing=not (complete and body.whole))


def _inflate(data: bytes, window_bits: int) -> tuple[bytes, bool]:
    """As much as there is, and whether that is all."""
    inflater = zlib.decompressobj(window_bits)
    try:
        inflated = inflater.decompress(data, INFLATED_BYTES)
    except zlib.error:
        return b"", False
    return inflated, inflater.eof
