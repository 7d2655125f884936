"""One request and its response, from the first byte to the record. It ends in exactly one place: `finish`."""

from __future__ import annotations

import re
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, NamedTuple

from driftline.exchange import NEVER, Exchange, Outcome, Usage
from driftline.relay import headers, replies
from driftline.relay.counters import column
from driftline.relay.headers import Fields
from driftline.relay.keeper import BodyKeeper
from driftline.relay.tracecontext import (
    SAMPLED,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
    parse_tracestate,
)
from driftline.relay.usage import UsageCutter, asking

if TYPE_CHECKING:
    from driftline.relay.client import ClientConnection
    from driftline.relay.pool import Endpoint
    from driftline.relay.upstream import UpstreamConnection

_STARTED, _ACTIVE = column("started"), column("active")
_GENERATIONS = re.compile(r"/v1/(?:chat/)?completions$")
"""The endpoints whose streams count tokens only when asked."""
_UPLOAD_BUFFER = 256 * 1024
_BODILESS_STATUS = frozenset({204, 304})


class Refusal(NamedTuple):
    """Why a request is answered by us with an error, and its connection closed."""

    status: int
    message: str
    code: str


class Transaction:
    """Owned by the client connection; an upstream connection serves it while it lasts."""

    __slots__ = (
        "_held",
        "_out",
        "_out_size",
        "attached_at",
        "chunked_request",
        "client",
        "connected",
        "cutter",
        "dispatched_at",
        "done",
        "endpoint",
        "error",
        "expects_continue",
        "fields",
        "finished_request",
        "first_byte",
        "first_content",
        "head_only",
        "keep_alive",
        "last_byte",
        "last_content",
        "length",
        "method",
        "model",
        "overhead_chunks",
        "overhead_first_byte",
        "overhead_request",
        "parent_span_id",
        "reads",
        "received_at",
        "refusal",
        "relay",
        "request_keeper",
        "request_sent",
        "responding",
        "response_fields",
        "response_keeper",
        "span_id",
        "started",
        "status",
        "stream",
        "t0",
        "target",
        "trace_flags",
        "trace_id",
        "tracestate",
        "trailers",
        "upgrade",
        "upstream",
        "usage",
        "version",
    )

    def __init__(self, client: ClientConnection, read_at: int) -> None:
        self.client = client
        self.relay = client.relay
        self.t0 = read_at
        self.received_at = time_ns()
        # The request, as the parser reports it.
        self.method = b""
        self.target = b""
        self.version = ""
        self.fields: Fields = []
        self.trailers: Fields = []
        self.length: int | None = None
        self.chunked_request = False
        self.expects_continue = False
        self.keep_alive = False
        self.upgrade = False
        self.head_only = False
        self.finished_request = False
        self.refusal: Refusal | None = None
        # What goes to the upstream: pieces not written yet, and a body that is held to be looked at.
        self._out: list[bytes] = []
        self._out_size = 0
        self._held: list[bytes] | None = None
        # The other side.
        self.endpoint: Endpoint | None = None
        self.upstream: UpstreamConnection | None = None
        self.responding = False
        """The client has been sent response bytes: an error can no longer be put in words."""
        self.cutter: UsageCutter | None = None
        # The record.
        self.started = False
        self.done = False
        self.error = ""
        self.trace_id = self.span_id = self.parent_span_id = b""
        self.trace_flags = 0
        self.tracestate = ""
        self.request_keeper = BodyKeeper()
        self.response_keeper = BodyKeeper()
        self.response_fields: Fields = []
        self.status = 0
        self.stream = False
        self.model = ""
        self.usage: Usage = ""
        self.dispatched_at = self.attached_at = 0
        self.connected = self.request_sent = NEVER
        self.first_byte = self.first_content = self.last_content = self.last_byte = NEVER
        self.reads = 0
        self.overhead_request = self.overhead_first_byte = NEVER
        self.overhead_chunks = 0

    # The request arrives.

    @property
    def path(self) -> str:
        return self.target.partition(b"?")[0].decode("latin-1")

    def head_complete(self) -> None:
        """The request's header is whole: fix what depends on it."""
        self.head_only = self.method == b"HEAD"
        options = headers.connection_options(self.fields)
        self.keep_alive = self.version == "1.1" and b"close" not in options
        self.upgrade = b"upgrade" in options and (
            headers.first(self.fields, b"upgrade") or b""
        ).lower() not in (
            b"",
            b"h2c",
        )
        for name, value in self.fields:
            lower = name.lower()
            if lower == b"content-length":
                self.length = int(value)
            elif lower == b"transfer-encoding":
                self.chunked_request = True
            elif lower == b"expect":
                self.expects_continue = value.lower() == b"100-continue"
        self.start()
        if self._may_ask_for_usage():
            self._held = []

    def start(self) -> None:
        """From here on there will be a record."""
        self._begin_trace()
        self.started = True
        cells = self.relay.row.cells
        cells[_STARTED] += 1
        cells[_ACTIVE] += 1

    def _begin_trace(self) -> None:
        parents = [value for name, value in self.fields if name.lower() == b"traceparent"]
        parent = parse_traceparent(parents[0]) if len(parents) == 1 else None
        self.span_id = new_span_id()
        if parent:
            self.trace_id, self.parent_span_id, flags = parent
            sampled = self.relay.sampler.sampled(self.trace_id, flags)
            self.tracestate = parse_tracestate(
                *(value for name, value in self.fields if name.lower() == b"tracestate")
            )
        else:
            self.trace_id, flags = new_trace_id(), 0
            sampled = self.relay.sampler.sampled(self.trace_id, None)
        self.trace_flags = (flags & ~SAMPLED) | sampled

    def _may_ask_for_usage(self) -> bool:
        settings = self.relay.settings.relay
        if self.method != b"POST" or not _GENERATIONS.search(self.path):
            return False
        content_type = headers.first(self.fields, b"content-type") or b""
        encoding = headers.first(self.fields, b"content-encoding") or b"identity"
        if not content_type.lower().startswith(b"application/json") or encoding.lower() != b"identity":
            return False
        self.usage = "not_requested"
        fits = self.length is None or self.length <= settings.inspect_body_bytes
        return settings.inject_usage and fits

    def request_body(self, data: bytes) -> None:
        self.request_keeper.append(data)
        limit = self.relay.settings.limits.body_bytes
        if limit and self.request_keeper.size > limit:
            self.refusal = Refusal(413, f"the request body is larger than {limit} bytes", "body_too_large")
            return
        if self._held is not None:
            self._held.append(data)
            if self.request_keeper.size <= self.relay.settings.relay.inspect_body_bytes:
                return
            data = b"".join(self._held)
            self._held = None
        self._queue(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked_request else data)

    def request_complete(self) -> None:
        self.finished_request = True
        if self._held is not None:
            ask = asking(b"".join(self._held))
            self._held = None
            self.model = ask.model
            self.usage = ask.usage
            if ask.usage == "injected":
                self.cutter = UsageCutter()
            if self.length is not None:
                self.length = len(ask.body)
            if ask.body:
                self._queue(b"%x\r\n%b\r\n" % (len(ask.body), ask.body) if self.chunked_request else ask.body)
        if self.chunked_request:
            self._queue(headers.head(b"0", headers.end_to_end(self.trailers)))

    @property
    def held(self) -> bool:
        """Nothing may be sent yet: the body is still being gathered."""
        return self._held is not None

    def promise_to_continue(self) -> bool:
        """Whether the client waits for a `100 Continue` that nobody but us can send, because the body is held."""
        if not (self.held and self.expects_continue):
            return False
        self.expects_continue = False
        self.fields = [field for field in self.fields if field[0].lower() != b"expect"]
        return True

    def _queue(self, data: bytes) -> None:
        self._out.append(data)
        self._out_size += len(data)

    @property
    def upload_full(self) -> bool:
        return self._out_size > _UPLOAD_BUFFER

    # The request leaves.

    def dispatch(self) -> None:
        """Ask for a connection and send what has arrived so far."""
        self.dispatched_at = monotonic_ns()
        self.relay.pool.serve(self)

    def attach(self, upstream: UpstreamConnection, endpoint: Endpoint) -> None:
        """`upstream` is connected and ours now."""
        self.attached_at = now = monotonic_ns()
        self.connected = now - self.t0
        self.upstream = upstream
        self._out.insert(0, self._head_for(endpoint))
        upstream.serve(self)
        self.flush()

    def flush(self) -> None:
        """Send what has been queued, if there is a connection to send it on."""
        if self.upstream is None or not self._out:
            return
        self.upstream.write(b"".join(self._out) if len(self._out) > 1 else self._out[0])
        self._out = []
        self._out_size = 0
        if self.finished_request:
            now = monotonic_ns()
            self.request_sent = now - self.t0
            if self.overhead_request == NEVER:
                waited = max(self.dispatched_at - self.client.read_at, 0)
                self.overhead_request = waited + now - max(self.attached_at, self.client.read_at)

    def _head_for(self, endpoint: Endpoint) -> bytes:
        preserve_host = self.relay.settings.relay.preserve_host
        fields: Fields = []
        host_seen = False
        for name, value in headers.end_to_end(self.fields):
            lower = name.lower()
            if (
                headers.is_ours(lower)
                or lower == b"traceparent"
                or (lower == b"tracestate" and not self.tracestate)
            ):
                continue
            if lower == b"host":
                host_seen = True
                fields.append((name, value if preserve_host else endpoint.authority))
            elif lower == b"content-length" and self.length is not None:
                fields.append((name, b"%d" % self.length))
            else:
                fields.append((name, value))
        if not host_seen:  # HTTP/1.0
            fields.insert(0, (b"Host", endpoint.authority))
        if self.chunked_request:
            fields.append((b"Transfer-Encoding", b"chunked"))
        if self.upgrade:
            fields += [
                (b"Connection", b"Upgrade"),
                (b"Upgrade", headers.first(self.fields, b"upgrade") or b""),
            ]
        fields.append((b"traceparent", format_traceparent(self.trace_id, self.span_id, self.trace_flags)))
        return headers.head(b"%b %b HTTP/1.1" % (self.method, self.target), fields)

    # The response begins.

    def response_head(self, status: int, fields: Fields, *, closes: bool) -> Fields:
        """Note what the upstream answered; the header fields that the client gets."""
        self.status = status
        self.response_fields = fields
        self.responding = True
        content_type = headers.first(fields, b"content-type") or b""
        self.stream = content_type.lower().startswith(b"text/event-stream")
        encoded = headers.first(fields, b"content-encoding")
        if not self.stream or status != 200 or encoded:
            self.cutter = None
        if closes or self.relay.draining or not self.finished_request:
            self.keep_alive = False
        passed = headers.end_to_end(fields)
        if not self.keep_alive:
            passed.append((b"Connection", b"close"))
        if self.relay.settings.relay.trace_header:
            passed.append((b"x-driftline-trace-id", self.trace_id.hex().encode()))
        return passed

    def has_no_body(self, status: int) -> bool:
        return self.head_only or status in _BODILESS_STATUS

    # The end, whatever it was.

    def respond(self, reply: bytes, status: int) -> None:
        """Answer by ourselves, in place of the upstream."""
        self.status = status
        self.client.write(reply)

    def fail(self, status: int, outcome: Outcome, message: str, *, code: str) -> None:
        """End with an error: in words if the client has heard nothing yet, by closing if it has."""
        self.error = message
        if self.responding:
            self.keep_alive = False
            self.finish(outcome)
            return
        kind = "invalid_request_error" if status < 500 else "upstream_error"
        fields: Fields = []
        if self.trace_id and self.relay.settings.relay.trace_header:
            fields.append((b"x-driftline-trace-id", self.trace_id.hex().encode()))
        self.keep_alive = False
        self.respond(replies.error_reply(status, message, kind=kind, code=code, fields=fields), status)
        self.finish(outcome)

    def refuse(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self.fail(refusal.status, "bad_request", refusal.message, code=refusal.code)

    def check_timeouts(self, now: int) -> None:
        """End the exchange when one of the timeouts has passed. `now`: monotonic nanoseconds."""
        timeouts = self.relay.settings.timeouts
        elapsed = now - self.t0
        if timeouts.body and not self.finished_request and now - self.client.read_at > timeouts.body * 1e9:
            if not self.client.paused:
                self.refuse(Refusal(408, f"no more of the request body for {timeouts.body:g} s", "slow_body"))
        elif timeouts.total and elapsed > timeouts.total * 1e9:
            self._timed_out(f"the response took longer than {timeouts.total:g} s")
        elif timeouts.first_byte and self.first_byte == NEVER and self.request_sent != NEVER:
            if elapsed - self.request_sent > timeouts.first_byte * 1e9:
                self._timed_out(f"the upstream sent nothing for {timeouts.first_byte:g} s")
        elif timeouts.idle and self.last_byte != NEVER and elapsed - self.last_byte > timeouts.idle * 1e9:
            self._timed_out(f"the upstream paused for {timeouts.idle:g} s")

    def _timed_out(self, message: str) -> None:
        self.fail(504, "timeout", message, code="timeout")

    def client_gone(self, *, tunnelled: bool) -> None:
        """The client's connection is closed. The upstream's goes at once, so that the engine stops."""
        # A client that closes after the last event has seen everything (ai-gateway#2563).
        seen_all = self.stream and b"data: [DONE]" in self.response_keeper.end()
        self.finish("tunnelled" if tunnelled else "complete" if seen_all else "client_closed")

    def finish(self, outcome: Outcome) -> None:
        """Send the record and let go of both sides. Called any number of times, acts once."""
        if self.done:
            return
        self.done = True
        if self.upstream is not None:
            self.upstream.release()
        if self.endpoint is not None:
            self.endpoint.outstanding -= 1
        if self.started:
            cells = self.relay.row.cells
            cells[_ACTIVE] -= 1
            cells[column(f"outcome.{outcome}")] += 1
            self.relay.channel.send(self._exchange(outcome))
        self.client.finished(self)

    def _exchange(self, outcome: Outcome) -> Exchange:
        endpoint, pool = self.endpoint, self.relay.pool
        return Exchange(
            trace_id=self.trace_id,
            span_id=self.span_id,
            parent_span_id=self.parent_span_id,
            trace_flags=self.trace_flags,
            tracestate=self.tracestate,
            pool=pool.name,
            variant=endpoint.variant if endpoint else "",
            upstream=endpoint.address if endpoint else "",
            method=self.method.decode("latin-1"),
            target=self.target.decode("latin-1"),
            request_headers=headers.recorded(self.fields, headers.RECORDED_REQUEST),
            response_headers=headers.recorded(self.response_fields, headers.RECORDED_RESPONSE),
            request_body=self.request_keeper.body(),
            response_body=self.response_keeper.body(),
            status=self.status,
            outcome=outcome,
            error=self.error,
            received_at=self.received_at,
            connected=self.connected,
            request_sent=self.request_sent,
            first_byte=self.first_byte,
            first_content=self.first_content,
            last_content=self.last_content,
            last_byte=self.last_byte,
            ended=monotonic_ns() - self.t0,
            stream=self.stream,
            model=self.model,
            usage=self.usage,
            usage_event=self.cutter.usage_event if self.cutter else b"",
            reads=self.reads,
            overhead_request=self.overhead_request,
            overhead_first_byte=self.overhead_first_byte,
            overhead_chunks=self.overhead_chunks,
        )
