"""A request's header: as it was received, and as the upstream gets it."""

from __future__ import annotations

import re

from driftline.relay import headers
from driftline.relay.headers import Fields, Headers
from driftline.relay.sampling import Sampler
from driftline.relay.tracecontext import (
    SAMPLED,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
    parse_tracestate,
)

_GENERATIONS = re.compile(rb"/v1/(?:chat/)?completions(?:\?|$)")
"""The endpoints whose streams count tokens only when asked."""
_UNKNOWN_UPGRADES = (b"", b"h2c")


class Trace:
    """The trace context that an exchange has, and passes on."""

    __slots__ = ("flags", "parent_id", "span_id", "state", "trace_id")

    def __init__(self, received: Headers, sampler: Sampler) -> None:
        parents = received.all(b"traceparent")
        parent = parse_traceparent(parents[0]) if len(parents) == 1 else None
        self.span_id = new_span_id()
        if parent:
            self.trace_id, self.parent_id, flags = parent
            self.state = parse_tracestate(*received.all(b"tracestate"))
        else:
            self.trace_id, self.parent_id, flags = new_trace_id(), b"", 0
            self.state = ""
        sampled = sampler.sampled(self.trace_id, flags if parent else None)
        self.flags = (flags & ~SAMPLED) | sampled


class Request:
    """Filled by the parser's callbacks; `complete` is called when the header is whole."""

    __slots__ = (
        "chunked",
        "expects_continue",
        "fields",
        "headers",
        "keep_alive",
        "length",
        "method",
        "target",
        "trailers",
        "upgrade",
        "version",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.version = ""
        self.fields: Fields = []
        self.trailers: Fields = []
        self.headers = Headers([])
        self.length: int | None = None
        """Of the body that is sent on, where the client declared one."""
        self.chunked = False
        self.expects_continue = False
        self.keep_alive = False
        """The client wants to use its connection again."""
        self.upgrade = b""
        """The protocol it asks to switch to; empty for none, and for h2c, which is ignored."""

    def complete(self, method: bytes, version: str) -> None:
        self.method = method
        self.version = version
        self.headers = received = Headers(self.fields)
        options = received.options()
        self.keep_alive = version == "1.1" and b"close" not in options
        if b"upgrade" in options and received.get(b"upgrade").lower() not in _UNKNOWN_UPGRADES:
            self.upgrade = received.get(b"upgrade")
        if b"content-length" in received:
            self.length = int(received.get(b"content-length"))
        self.chunked = b"transfer-encoding" in received
        self.expects_continue = version == "1.1" and received.get(b"expect").lower() == b"100-continue"

    @property
    def path(self) -> str:
        return self.target.partition(b"?")[0].decode("latin-1")

    @property
    def size(self) -> int:
        """Bytes of the header."""
        return len(self.target) + sum(len(name) + len(value) + 4 for name, value in self.fields)

    def generates(self) -> bool:
        """It may be a streaming generation, with a body that can be read as it is."""
        received = self.headers
        return (
            self.method == b"POST"
            and _GENERATIONS.search(self.target) is not None
            and received.get(b"content-type").lower().startswith(b"application/json")
            and received.get(b"content-encoding", b"identity").lower() == b"identity"
        )

    def continue_promised(self) -> None:
        """`100 Continue` was answered: the upstream is not asked for it."""
        self.expects_continue = False
        self.headers = self.headers.without(b"expect")

    def framed(self, data: bytes) -> bytes:
        """A piece of the body as it is sent."""
        return headers.chunk(data) if self.chunked else data

    def end(self) -> bytes:
        """What follows the body."""
        if not self.chunked:
            return b""
        trailers = Headers(self.trailers).end_to_end()
        return headers.head(b"0", [(name, value) for _, name, value in trailers])

    def head_for(self, authority: bytes, trace: Trace, *, preserve_host: bool) -> bytes:
        """The header that the upstream at `authority` gets."""
        fields: Fields = []
        for lower, name, value in self.headers.end_to_end():
            if (
                headers.is_ours(lower)
                or lower == b"traceparent"
                or (lower == b"tracestate" and not trace.state)
            ):
                continue
            if lower == b"host" and not preserve_host:
                fields.append((name, authority))
            elif lower == b"content-length":
                fields.append((name, b"%d" % (self.length or 0)))
            else:
                fields.append((name, value))
        if b"host" not in self.headers:  # HTTP/1.0
            fields.insert(0, (b"Host", authority))
        if self.chunked:
            fields.append((b"Transfer-Encoding", b", ".join(self.headers.all(b"transfer-encoding"))))
        if self.upgrade:
            fields += [(b"Connection", b"Upgrade"), (b"Upgrade", self.upgrade)]
        fields.append((b"traceparent", format_traceparent(trace.trace_id, trace.span_id, trace.flags)))
        return headers.head(b"%b %b HTTP/1.1" % (self.method, self.target), fields)
