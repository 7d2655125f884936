"""Bytes of HTTP/1.1 taken apart just enough to say how two streams of them differ."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import zip_longest

_STANDS = {
    b"traceparent": re.compile(rb"[0-9a-f-]{55}"),
    b"x-driftline-trace-id": re.compile(rb"[0-9a-f]{32}"),
    b"host": re.compile(rb"127\.0\.0\.1:\d+"),
    b"date": re.compile(rb"\w{3}, .*"),
    b"server": re.compile(rb"nginx/[\d.]+"),
}
"""Values that are another in every run."""


@dataclass
class Message:
    line: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    framing: str = "no body"
    chunks: list[int] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    whole: bool = True


def messages(stream: bytes, methods: list[bytes] | None = None) -> list[Message]:
    """The requests in `stream`; or the responses, where `methods` are those of the requests they answer."""
    found: list[Message] = []
    methods = list(methods) if methods is not None else None
    while stream.strip(b"\r\n"):
        head, end, stream = stream.partition(b"\r\n\r\n")
        line, *fields = head.lstrip(b"\r\n").split(b"\r\n")
        message = Message(line.decode("latin-1"), _fields(fields), whole=bool(end))
        found.append(message)
        if methods is None:
            stream = _body(message, stream, otherwise="no body")
            continue
        status = int(line[9:12])
        if status == 101:
            message.framing, message.body, stream = "tunnel", stream, b""
        elif status >= 200:
            method = methods.pop(0) if methods else b"GET"
            if method != b"HEAD" and status not in (204, 304):
                stream = _body(message, stream, otherwise="to the connection's end")
    return found


def _fields(lines: list[bytes]) -> list[tuple[str, str]]:
    found = []
    for line in lines:
        name, _, value = line.partition(b":")
        value = value.strip(b" \t")
        if (stands := _STANDS.get(name.lower())) and stands.fullmatch(value):
            value = b"*"
        found.append((name.decode("latin-1"), value.decode("latin-1")))
    return found


def _body(message: Message, stream: bytes, *, otherwise: str) -> bytes:
    """Take `message`'s body from `stream`; what is left."""
    named = {name.lower(): value for name, value in message.fields}
    if "transfer-encoding" in named:
        message.framing = "chunked"
        return _chunks(message, stream)
    if "content-length" in named:
        message.framing, length = "length", int(named["content-length"])
        message.body, message.whole = stream[:length], len(stream) >= length
        return stream[length:]
    message.framing = otherwise
    if otherwise == "no body":
        return stream
    message.body = stream
    return b""


def _chunks(message: Message, stream: bytes) -> bytes:
    while True:
        line, end, rest = stream.partition(b"\r\n")
        if not end:
            message.whole = False
            return b""
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            break
        message.chunks.append(size if line == b"%x" % size else -size)
        message.body += rest[:size]
        message.whole = len(rest) >= size + 2
        if not message.whole:
            return b""
        stream = rest[size + 2 :]
    if rest.startswith(b"\r\n"):
        return rest[2:]
    trailers, _, stream = rest.partition(b"\r\n\r\n")
    message.trailers = _fields(trailers.split(b"\r\n"))
    return stream


def differences(kind: str, before: list[Message], after: list[Message]) -> list[str]:
    """What became of `before`, in words that are the same wherever the same thing happens. `kind`: "request", say."""
    found: list[str] = []
    for one, other in zip_longest(before, after):
        if other is None:
            found.append(f"{kind} missing: {one.line}")
        elif one is None:
            found.append(f"{kind} more: {other.line}")
        else:
            found += [f"{kind} {difference}" for difference in _between(one, other)]
    return found


def _between(one: Message, other: Message) -> list[str]:
    if one.line.startswith("HTTP/") and one.line.split()[1] != other.line.split()[1]:
        return [f"line: {one.line} → {other.line}"]  # another response altogether
    found = [f"line: {one.line} → {other.line}"] if one.line != other.line else []
    found += _of_fields("", one.fields, other.fields)
    if one.framing != other.framing:
        found.append(f"framing: {one.framing} → {other.framing}")
    elif one.chunks != other.chunks:
        found.append("chunks: cut anew")
    if one.body != other.body:
        found.append("body")
    if one.whole != other.whole:
        found.append(f"end: {'whole' if one.whole else 'cut'} → {'whole' if other.whole else 'cut'}")
    return found + _of_fields("trailer ", one.trailers, other.trailers)


def _of_fields(kind: str, one: list[tuple[str, str]], other: list[tuple[str, str]]) -> list[str]:
    found = []
    for name in dict.fromkeys(name.lower() for name, _ in [*one, *other]):
        was = [(spelled, value) for spelled, value in one if spelled.lower() == name]
        became = [(spelled, value) for spelled, value in other if spelled.lower() == name]
        if not became:
            found.append(f"- {kind}{name}")
        elif not was:
            found.append(f"+ {kind}{name}")
        elif was != became:
            spelling = [spelled for spelled, _ in was] != [spelled for spelled, _ in became]
            same = [value for _, value in was] == [value for _, value in became]
            found.append(f"~ {kind}{name}" + (" (spelling)" if spelling and same else ""))
    kept = {name.lower() for name, _ in one} & {name.lower() for name, _ in other}
    orders = [[name.lower() for name, _ in side if name.lower() in kept] for side in (one, other)]
    if orders[0] != orders[1]:
        found.append(f"{kind}order: " + ", ".join(_moved(*orders)))
    return found


def _moved(one: list[str], other: list[str]) -> list[str]:
    """Names without which both orders are the same: the fewest found from the front."""
    moved: list[str] = []
    for name in dict.fromkeys(one):
        rest = [[n for n in side if n not in (*moved, name)] for side in (one, other)]
        if rest[0] == rest[1]:
            return [*moved, name]
    for name in dict.fromkeys(one):
        moved.append(name)
        if [n for n in one if n not in moved] == [n for n in other if n not in moved]:
            break
    return moved
