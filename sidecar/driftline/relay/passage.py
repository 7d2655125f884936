"""How a read of a response's body becomes what the client gets: nearly always as it came. Sans-IO."""

from __future__ import annotations

from driftline.relay import headers
from driftline.relay.usage import UsageCutter, notable


class AsItCame:
    """The way of all but two kinds of response; framing and trailers stay what they are."""

    __slots__ = ()
    open = True
    """An event in the middle of a stream goes to the client as it is."""

    def feed(self, data: bytes, body: bytes, end: bytes) -> bytes:
        """What the client gets of a read `data` that holds `body`; `end` is the last chunk if it is the last read."""
        return data

    def rest(self) -> bytes:
        """What it has held, when the response breaks off."""
        return b""


class Unframed(AsItCame):
    """Chunks for an HTTP/1.0 client, which knows none; its connection's end is the body's."""

    __slots__ = ()
    open = False

    def feed(self, data: bytes, body: bytes, end: bytes) -> bytes:
        return body


class Cut:
    """A stream of whose events one is taken out.

    It goes on as it came while nothing notable is in it, otherwise through the cutter, framed anew. The way as it came
    is open only where the last read ended at the end of an event and of an HTTP chunk: the read's last bytes are then
    the event's blank line and the chunk's line end.
    """

    __slots__ = ("_aligned", "_chunked", "_cutter", "_raw")

    def __init__(self, cutter: UsageCutter, *, from_chunks: bool, to_chunks: bool) -> None:
        self._cutter = cutter
        self._chunked = to_chunks
        self._raw = from_chunks and to_chunks
        self._aligned = True

    @property
    def open(self) -> bool:
        return self._raw and self._aligned and not self._cutter.holding

    def feed(self, data: bytes, body: bytes, end: bytes) -> bytes:
        ends_aligned = not body or body.endswith(b"\n\n")
        if self._raw:
            ends_aligned = ends_aligned and (bool(end) or data.endswith(b"\n\n\r\n"))
            if ends_aligned and self.open and not notable(body):
                return data
        out = self._cutter.feed(body)
        if end:
            out += self._cutter.flush()
        self._aligned = ends_aligned and not self._cutter.holding
        return headers.chunk(out) + end if self._chunked else out

    def rest(self) -> bytes:
        held = self._cutter.flush()
        return headers.chunk(held) if self._chunked else held


Passage = AsItCame | Cut
AS_IT_CAME, UNFRAMED = AsItCame(), Unframed()
