"""Event streams, parsed as the WHATWG HTML standard says (§9.2.6). Sans-IO."""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r")
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r)(?:\r\n|\n|\r)")
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    data: bytes
    type: str = "message"


class Parser:
    r"""Bytes in, in pieces of any size; events out as they become complete.

    Comments are skipped, and so are `id` and `retry`: they serve reconnection, which nobody does here. What
    follows the last blank line is not an event.

    >>> parser = Parser()
    >>> parser.feed(b"event: note\ndata: one\nda")
    []
    >>> parser.feed(b"ta: two\n\n")
    [Event(data=b'one\ntwo', type='note')]
    """

    __slots__ = ("_after_cr", "_buffer", "_data", "_started", "_type")

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[bytes] = []
        self._type = ""
        self._started = False
        self._after_cr = False

    def feed(self, data: bytes) -> list[Event]:
        if self._after_cr and data:
            data = data.removeprefix(b"\n")  # the second half of a CRLF
            self._after_cr = False
        text = self._buffer + data
        if not self._started:
            if len(text) < len(_BOM) and _BOM.startswith(text):
                self._buffer = text
                return []
            self._started = True
            text = text.removeprefix(_BOM)
        self._after_cr = self._after_cr or text.endswith(b"\r")
        *lines, self._buffer = _LINE_END.split(text) if b"\r" in text else text.split(b"\n")
        events: list[Event] = []
        for line in lines:
            self._line(line, events)
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                events.append(Event(b"\n".join(self._data), self._type or "message"))
            self._data = []
            self._type = ""
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")


def after_first_boundary(stream: bytes) -> bytes:
    """What follows the first blank line: whole events, where `stream` begins anywhere in one."""
    boundary = _EVENT_END.search(stream)
    return stream[boundary.end() :] if boundary else b""
