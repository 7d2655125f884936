"""Ask for token usage on a client's behalf, and take the answer out of what the client sees. Sans-IO.

OpenAI-compatible servers count tokens of a stream only when asked (`stream_options.include_usage`), and answer
with one more event whose `choices` is empty. `asking` edits a request body; `UsageCutter` edits the stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from driftline.exchange import Usage

INJECTED = b'{"include_usage":true}'


class _Request(msgspec.Struct):
    """The top-level keys that matter; the rest is skipped, not built."""

    model: Any = None
    stream: Any = False
    stream_options: msgspec.Raw = msgspec.Raw(b"null")


_decode_request = msgspec.json.Decoder(_Request).decode
_decode_options = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*"|[{}\[\]]', re.DOTALL)
_KEY = re.compile(rb'"stream_options"\s*:\s*', re.DOTALL)


class Ask(msgspec.Struct):
    """What was found in a request body, and the body to send."""

    body: bytes
    model: str = ""
    usage: Usage = ""


def asking(body: bytes) -> Ask:
    """Make a streaming request ask for usage, unless it does.

    Anything that is not a JSON object with `"stream": true` comes back untouched, byte for byte. An explicit
    `include_usage: false` counts as absent; `continuous_usage_stats: true` without `include_usage` is the
    client's own choice of form and left alone.
    """
    try:
        request = _decode_request(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Ask(body)
    ask = Ask(body, model=request.model if isinstance(request.model, str) else "")
    if request.stream is not True:
        return ask
    options = bytes(request.stream_options)
    if options != b"null":
        return _with_options(ask, options)
    start = body.index(b"{") + 1
    ask.usage = "injected"
    ask.body = _replaced(body, options, INJECTED) or b'%b"stream_options":%b,%b' % (
        body[:start],
        INJECTED,
        body[start:],
    )
    return ask


def _with_options(ask: Ask, options: bytes) -> Ask:
    try:
        fields = _decode_options(options)
    except (msgspec.DecodeError, ValueError):
        return ask  # not an object: the upstream will say so
    flags = {name: bytes(value) for name, value in fields.items()}
    if flags.get("include_usage", b"false") not in (b"false", b"null"):
        ask.usage = "requested"
        return ask
    if flags.get("continuous_usage_stats") == b"true":
        ask.usage = "not_requested"
        return ask
    fields["include_usage"] = msgspec.Raw(b"true")
    edited = _replaced(body := ask.body, options, msgspec.json.encode(fields))
    # None: the key is spelled with escapes, which is not worth a parser.
    ask.body, ask.usage = edited or body, "injected" if edited else "not_requested"
    return ask


def _replaced(body: bytes, old: bytes, new: bytes) -> bytes | None:
    """Replace the value of the last top-level `stream_options`: the one a JSON parser would keep."""
    if b'"stream_options"' not in body:
        return None
    for key in reversed(list(_top_level_keys(body))):
        value = _KEY.match(body, key)
        if value and body.startswith(old, value.end()):
            return body[: value.end()] + new + body[value.end() + len(old) :]
    return None


def _top_level_keys(body: bytes) -> Iterator[int]:
    """Offsets of strings directly inside the outermost object."""
    depth = 0
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
        elif depth == 1:
            yield token.start()


_EVENT_MOST = 256 * 1024
"""Bytes of an event that are gathered; no usage event is that large, so a larger one is passed on as it comes."""
_BOUNDARY = re.compile(rb"\n\n|\r\n\r\n|\r\r")
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
_FINGERPRINT = re.compile(rb'"system_fingerprint"\s*:\s*"(?:[^"\\]|\\.)*"')


class _Event(msgspec.Struct):
    """The top-level keys that matter: others may hold usage of their own (`x_groq`)."""

    usage: msgspec.Raw = msgspec.Raw(b"null")
    choices: msgspec.Raw = msgspec.Raw(b"")


_decode_event = msgspec.json.Decoder(_Event).decode


def _usage_of(event: bytes) -> tuple[bool, bool]:
    """Whether `event` says what was used, and whether it says nothing else: its `choices` is there and empty."""
    if not _USAGE.search(event):
        return False, False
    try:
        found = _decode_event(event.partition(b"data:")[2])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False, False
    usage = bytes(found.usage).startswith(b"{")
    return usage, usage and bytes(found.choices).startswith(b"[") and not bytes(found.choices)[1:-1].strip()


def notable(events: bytes) -> bool:
    """Whether whole events hold anything for a `UsageCutter`; if not, they may pass it unseen.

    Substrings rather than a pattern: this looks at every chunk, and a search for bytes takes 40 ns where a
    pattern that begins with a quotation mark stops at each of thirty. No one writes the finish reason otherwise;
    if someone did, only the place of `system_fingerprint` would be lost.
    """
    return b'"usage"' in events or b'"finish_reason":"' in events or b'"finish_reason": "' in events


class UsageCutter:
    """Event-stream bytes in, the same bytes out less the usage event we asked for.

    At most one incomplete event is held, and the last event with a finish reason until its successor: vLLM's
    Python frontend (0.26) moves `system_fingerprint` from the finish event to the usage event, and what is cut
    would be lost; it is put back where it would have been.
    """

    __slots__ = ("_buffer", "_finish", "_forced", "_passing", "usage_event")

    def __init__(self) -> None:
        self._buffer = b""
        self._finish = b""
        self._forced = False
        self._passing = False
        self.usage_event = b""
        """JSON of the event that was cut."""

    @property
    def holding(self) -> bool:
        return bool(self._buffer or self._finish or self._passing)

    def feed(self, data: bytes) -> bytes:
        """What may be passed on now."""
        data = self._buffer + data
        out: list[bytes] = []
        start = 0
        for boundary in _BOUNDARY.finditer(data):
            self._event(data[start : boundary.end()], out)
            start = boundary.end()
        self._buffer = data[start:]
        if len(self._buffer) > _EVENT_MOST or (self._passing and self._buffer):
            out += (self._finish, self._buffer)
            self._finish = self._buffer = b""
            self._passing = True
        return b"".join(out)

    def _event(self, event: bytes, out: list[bytes]) -> None:
        if self._passing:
            self._passing = False
            out.append(event)
            return
        usage, empty = _usage_of(event)
        # An ordinary event with usage: the server sends it to everyone, so the client would have seen it too.
        self._forced = self._forced or (usage and not empty)
        if empty and not self._forced and not self.usage_event:
            self.usage_event = event.partition(b"data:")[2].strip()
            out.append(_with_fingerprint(self._finish, event))
            self._finish = b""
            return
        out.append(self._finish)
        self._finish = b""
        if not self.usage_event and _FINISH.search(event):
            self._finish = event
        else:
            out.append(event)

    def flush(self) -> bytes:
        """What was held when the stream ended, however it ended."""
        held = self._finish + self._buffer
        self._buffer = self._finish = b""
        return held


def _with_fingerprint(finish: bytes, usage: bytes) -> bytes:
    fingerprint = _FINGERPRINT.search(usage)
    if not fingerprint or b'"system_fingerprint"' in finish:
        return finish
    body, brace, end = finish.rpartition(b"}")
    return b"%b,%b%b%b" % (body, fingerprint[0], brace, end) if brace else finish
