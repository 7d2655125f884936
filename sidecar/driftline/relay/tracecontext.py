"""W3C Trace Context, level 2: reading and writing `traceparent` and `tracestate`, and making ids.

https://www.w3.org/TR/trace-context-2/. What is not valid is as if it were absent: the caller starts a new
trace.
"""

from __future__ import annotations

import random
import re
from typing import NamedTuple

SAMPLED = 0x01
RANDOM = 0x02
"""The trace id's last seven bytes are random (level 2, §3.2.2.3.2)."""


class TraceParent(NamedTuple):
    trace_id: bytes
    """16 bytes, not all zero."""
    parent_id: bytes
    """8 bytes, not all zero."""
    flags: int
    """Only the bits that level 2 defines."""


# Version ff is invalid; a version we do not know may append fields, 00 may not (§4.3).
_TRACEPARENT = re.compile(
    rb"(?:00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"
    rb"|(?!ff|00)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?)",
    re.DOTALL,
)


def parse_traceparent(value: bytes | str) -> TraceParent | None:
    """The context in a `traceparent` value, None where it is not valid.

    >>> parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").flags
    1
    >>> parse_traceparent("00-00000000000000000000000000000000-b7ad6b7169203331-01") is None
    True
    """
    if isinstance(value, str):
        if not value.isascii():
            return None
        value = value.encode("ascii")
    match = _TRACEPARENT.fullmatch(value.strip(b" \t"))
    if match is None:
        return None
    trace_id, parent_id, flags = (bytes.fromhex(g.decode("ascii")) for g in match.groups() if g is not None)
    if not any(trace_id) or not any(parent_id):
        return None
    return TraceParent(trace_id, parent_id, flags[0] & (SAMPLED | RANDOM))


def format_traceparent(trace_id: bytes, span_id: bytes, flags: int) -> bytes:
    """The `traceparent` value that makes this span the parent of whatever receives it."""
    return b"00-%b-%b-%02x" % (trace_id.hex().encode(), span_id.hex().encode(), flags & (SAMPLED | RANDOM))


_KEY = rb"(?:[a-z][a-z0-9_*/@-]{0,255}|[a-z0-9][a-z0-9_*/@-]{0,240}@[a-z][a-z0-9_*/@-]{0,13})"
_VALUE = rb"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(rb"(%b)=(%b)" % (_KEY, _VALUE))
_MEMBERS = 32
_BYTES = 8192
"""The specification asks for at least 512 to be passed on; this only bounds what we look at."""


def parse_tracestate(*values: bytes | str) -> str:
    """The vendors' entries of all `tracestate` fields of a request, in order, joined by commas.

    Empty where any part is not valid (a bad entry, a key twice, more than 32 entries): then the whole of it
    is dropped, as §3.3.1 says, and the trace goes on without.

    >>> parse_tracestate("rojo=00f067aa0ba902b7, congo=t61rcWkgMzE", "")
    'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE'
    >>> parse_tracestate("a=1,a=2")
    ''
    """
    joined = b",".join(v.encode("latin-1", "replace") if isinstance(v, str) else v for v in values)
    if len(joined) > _BYTES:
        return ""
    members = [member for part in joined.split(b",") if (member := part.strip(b" \t"))]
    matches = [_MEMBER.fullmatch(member) for member in members]
    keys = {match.group(1) for match in matches if match}
    if len(keys) != len(members) or len(members) > _MEMBERS:
        return ""
    return b",".join(members).decode("ascii")


def new_trace_id() -> bytes:
    """16 random bytes, never all zero."""
    # Not a secret. `random` is seeded from the system in every spawned process and needs no system call.
    return (random.getrandbits(128) or 1).to_bytes(16, "big")


def new_span_id() -> bytes:
    """8 random bytes, never all zero."""
    return (random.getrandbits(64) or 1).to_bytes(8, "big")
