"""A request's header: as it was received, and as the upstream gets it."""

from __future__ import annotations

import re

from driftline.exchange import Exchange
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

_GENERATIONS = (b"/v1/chat/completions", b"/v1/completions")
"""The endpoints whose streams count tokens only when asked."""
_ABSOLUTE = re.compile(rb"https?://(?:[^/?#]*@)?([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_STOPPING = headers.HOP_BY_HOP | {b"traceparent"}
_STOPPING_WITH_STATE = _STOPPING | {b"tracestate"}
"""What a request brings of its trace context is replaced by ours."""
_NOT_IN_TRAILERS = frozenset({b"content-length", b"host"})
"""They say where a message ends and whom it is for, which is settled by then (RFC 9110 §6.5.1)."""


def join_trace(record: Exchange, received: Headers, sampler: Sampler) -> None:
    """Put the trace context that the exchange has, and passes on, into its record."""
    parents = received.all(b"traceparent")
    parent = parse_traceparent(parents[0]) if len(parents) == 1 else None
    record.span_id = new_span_id()
    if parent:
        record.trace_id, record.parent_span_id, flags = parent
        record.tracestate = parse_tracestate(*received.all(b"tracestate"))
        record.trace_flags = (flags & ~SAMPLED) | sampler.sampled(parent.trace_id, flags)
    else:
        record.trace_id = trace_id = new_trace_id()
        record.trace_flags = int(sampler.sampled(trace_id, None))


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
        "ours",
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
        self.headers = headers.NONE
        self.ours = frozenset[bytes]()
        """Names of the fields that are addressed to the sidecar."""
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
        if not self.target.startswith(b"/") and (absolute := _ABSOLUTE.fullmatch(self.target)):
            self._to_origin_form(*absolute.groups())
        self.headers = received = Headers(self.fields)
        self.ours = received.ours()
        options = received.options()
        self.keep_alive = version == "1.1" and b"close" not in options
        if b"upgrade" in options and version == "1.1":
            protocols = b", ".join(received.all(b"upgrade"))
            # Not even as one of several: the upstream might choose it, and the tunnel would hide what is asked there.
            if b"h2c" not in protocols.lower():
                self.upgrade = protocols
        if b"content-length" in received:
            self.length = int(received[b"content-length"])
        self.chunked = b"transfer-encoding" in received
        if b"expect" in received:
            self.expects_continue = (
                version == "1.1" and received[b"expect"].strip().lower() == b"100-continue"
            )

    def _to_origin_form(self, authority: bytes, rest: bytes) -> None:
        """A server is asked for a path; the URL's authority counts, whatever `Host` says (RFC 9112 §3.2.1, 3.2.2)."""
        server_wide = self.method == b"OPTIONS" and not rest
        self.target = b"*" if server_wide else rest if rest.startswith(b"/") else b"/" + rest
        self.fields = [(name, authority if name.lower() == b"host" else value) for name, value in self.fields]

    @property
    def path(self) -> str:
        return self.target.partition(b"?")[0].decode("latin-1")

    @property
    def size(self) -> int:
        """Bytes of the header."""
        return len(self.target) + sum([len(name) + len(value) + 4 for name, value in self.fields])

    def generates(self) -> bool:
        """It may be a streaming generation, with a body that can be read as it is."""
        path = self.target.partition(b"?")[0]
        return self.method == b"POST" and path.endswith(_GENERATIONS) and self.is_json()

    def is_json(self) -> bool:
        """Its body can be read as it is."""
        received = self.headers
        return (
            received.get(b"content-type", b"").lower().startswith(b"application/json")
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
        received = Headers(self.trailers)
        dropped = received.dropped() | received.ours() | _NOT_IN_TRAILERS
        return headers.head(
            b"0",
            [(name, value) for lower, name, value in received.fields if lower not in dropped],
        )

    def head_for(self, authority: bytes, record: Exchange, *, preserve_host: bool) -> bytes:
        """The header that the upstream at `authority` gets."""
        received = self.headers
        dropped = _STOPPING if record.tracestate else _STOPPING_WITH_STATE
        if self.ours or b"connection" in received:
            dropped = dropped | received.dropped() | self.ours
        replaced = {b"content-length": b"%d" % (self.length or 0)}
        if not preserve_host:
            replaced[b"host"] = authority
        fields = [
            (name, replaced.get(lower, value))
            for lower, name, value in received.fields
            if lower not in dropped
        ]
        if b"host" not in received:  # HTTP/1.0
            fields.insert(0, (b"Host", authority))
        if self.chunked:
            fields.append((b"Transfer-Encoding", b"chunked"))
        if self.upgrade:
            fields += [(b"Connection", b"Upgrade"), (b"Upgrade", self.upgrade)]
        context = format_traceparent(record.trace_id, record.span_id, record.trace_flags)
        fields.append((b"traceparent", context))
        return headers.head(b"%b %b HTTP/1.1" % (self.method, self.target), fields)
