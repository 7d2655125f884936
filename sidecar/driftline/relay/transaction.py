"""One request and its response, from the first byte to the record. It ends in exactly one place: `finish`."""

from __future__ import annotations

from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, NamedTuple

from driftline.exchange import NEVER, Exchange, Outcome
from driftline.relay import headers, replies
from driftline.relay.counters import OUTCOMES, column
from driftline.relay.headers import RECORDED_REQUEST, RECORDED_RESPONSE, Fields, Headers
from driftline.relay.keeper import BodyKeeper
from driftline.relay.request import Request, join_trace
from driftline.relay.usage import UsageCutter, asking

if TYPE_CHECKING:
    from driftline.relay.client import ClientConnection
    from driftline.relay.pool import Endpoint, Pool
    from driftline.relay.upstream import UpstreamConnection

_STARTED, _ACTIVE = column("started"), column("active")
_OUTCOME = {outcome: column(f"outcome.{outcome}") for outcome in OUTCOMES}
_UPLOAD_BUFFER = 256 * 1024


class Refusal(NamedTuple):
    """Why a request is answered by us with an error, and its connection closed."""

    status: int
    message: str
    code: str


class Transaction:
    """Owned by the client connection; an upstream connection serves it while it lasts."""

    __slots__ = (
        "_out",
        "_out_size",
        "attached_at",
        "client",
        "cutter",
        "dispatched_at",
        "done",
        "endpoint",
        "finished_request",
        "held",
        "keep_alive",
        "pool",
        "record",
        "refusal",
        "relay",
        "request",
        "request_keeper",
        "responding",
        "response_headers",
        "response_keeper",
        "settings",
        "started",
        "t0",
        "upstream",
    )

    def __init__(self, client: ClientConnection, read_at: int) -> None:
        self.client = client
        self.relay = client.relay
        self.settings = client.relay.settings
        """Those it began with: a reload changes no request in flight."""
        self.t0 = read_at
        self.record = Exchange(received_at=time_ns())
        self.request = Request()
        self.keep_alive = False
        """The client's connection goes on after this."""
        self.finished_request = False
        self.refusal: Refusal | None = None
        # What goes to the upstream: pieces not written yet.
        self._out: list[bytes] = []
        self._out_size = 0
        self.held: bytearray | None = None
        """The body as far as it has come, while nothing may be sent: it is to be looked at."""
        self.dispatched_at = self.attached_at = 0
        # The other side.
        self.pool: Pool | None = None
        self.endpoint: Endpoint | None = None
        self.upstream: UpstreamConnection | None = None
        self.responding = False
        """The client has been sent response bytes: an error can no longer be put in words."""
        self.cutter: UsageCutter | None = None
        # What the record gets at the end.
        self.started = False
        self.done = False
        self.request_keeper = BodyKeeper()
        self.response_keeper = BodyKeeper()
        self.response_headers = headers.NONE

    # The request arrives.

    def head_complete(self, method: bytes, version: str) -> None:
        """The request's header is whole: decide what depends on it."""
        request, settings = self.request, self.settings.relay
        request.complete(method, version)
        self.keep_alive = request.keep_alive
        self.start()
        if self.refusal is None and self.relay.router.by_head(self):
            self.held = bytearray()
        if self.record.kind == "openai" and request.generates():
            self.record.usage = "not_requested"
            if settings.inject_usage and (request.length or 0) <= settings.inspect_body_bytes:
                self.held = bytearray()

    def start(self) -> None:
        """From here on there will be a record."""
        join_trace(self.record, self.request.headers, self.relay.sampler)
        self.started = True
        cells = self.relay.row.cells
        cells[_STARTED] += 1
        cells[_ACTIVE] += 1

    def request_body(self, data: bytes) -> None:
        self.request_keeper.append(data)
        limit = self.settings.limits.body_bytes
        if limit and self.request_keeper.size > limit:
            self.refusal = Refusal(413, f"the request body is larger than {limit} bytes", "body_too_large")
            return
        if self.held is not None:
            self.held += data
            if self.request_keeper.size <= self.settings.relay.inspect_body_bytes:
                return
            data = bytes(self.held)
            self.held = None
            if self.pool is None:
                self.relay.router.unread(self)
        self._queue(self.request.framed(data))

    def request_complete(self) -> None:
        self.finished_request = True
        request = self.request
        if self.held is not None:
            body = bytes(self.held)
            self.held = None
            if self.pool is None:
                self.relay.router.by_body(self, body)
            if self.record.usage and self.settings.relay.inject_usage:
                body = self._asking(body)
            if body:
                self._queue(request.framed(body))
        if request.chunked:
            self._queue(request.end())

    def _asking(self, body: bytes) -> bytes:
        """The whole `body`, made to ask for usage where it does not."""
        request, ask = self.request, asking(body)
        self.record.model = ask.model
        self.record.usage = ask.usage
        if ask.usage == "injected":
            self.cutter = UsageCutter()
            # What is compressed cannot be cut.
            request.headers = request.headers.without(b"accept-encoding")
        if request.length is not None:
            request.length = len(ask.body)
        return ask.body

    def promise_to_continue(self) -> bool:
        """Whether the client waits for a `100 Continue` that nobody but us can send, because the body is held."""
        if self.held is None or not self.request.expects_continue:
            return False
        self.request.continue_promised()
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
        assert self.pool is not None
        self.pool.serve(self)

    def attach(self, upstream: UpstreamConnection, endpoint: Endpoint) -> None:
        """`upstream` is connected and ours now."""
        self.attached_at = now = monotonic_ns()
        self.record.connected = now - self.t0
        self.upstream = upstream
        preserve_host = self.settings.relay.preserve_host
        head = self.request.head_for(endpoint.authority, self.record, preserve_host=preserve_host)
        self._out.insert(0, head)
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
            now, read_at, record = monotonic_ns(), self.client.read_at, self.record
            record.request_sent = now - self.t0
            if record.overhead_request == NEVER:
                waited = max(self.dispatched_at - read_at, 0)
                record.overhead_request = waited + now - max(self.attached_at, read_at)

    # The response begins.

    def response_head(self, status: int, received: Headers, *, closes: bool) -> Fields:
        """Note what the upstream answered; the header fields that the client gets."""
        record = self.record
        record.status = status
        self.response_headers = received
        self.responding = True
        record.stream = received.get(b"content-type", b"").lower().startswith(b"text/event-stream")
        if not record.stream or status != 200 or b"content-encoding" in received:
            self.cutter = None
        leaves = self.relay.draining and not self.client.pipelining
        if closes or leaves or not self.finished_request:
            self.keep_alive = False
        cut = self.cutter is not None
        passed = received.end_to_end()
        if cut and b"content-length" in received:
            passed = [field for field in passed if field[0].lower() != b"content-length"]
        # A 204 may not name one (RFC 9112 §6.1): some clients would wait for chunks.
        if self.request.version == "1.1" and (cut or b"transfer-encoding" in received) and status != 204:
            codings = b"chunked" if cut else b", ".join(received.all(b"transfer-encoding"))
            passed.append((b"Transfer-Encoding", codings))
        if not self.keep_alive:
            passed.append((b"Connection", b"close"))
        passed += self._trace_header()
        return passed

    def _trace_header(self) -> Fields:
        if not self.settings.relay.trace_header:
            return []
        return [(b"x-driftline-trace-id", self.record.trace_id.hex().encode())]

    # The end, whatever it was.

    def respond(self, reply: bytes, status: int) -> None:
        """Answer by ourselves, in place of the upstream."""
        self.record.status = status
        self.client.write(reply)

    def fail(self, status: int, outcome: Outcome, message: str, *, code: str) -> None:
        """End with an error: in words if the client has heard nothing yet, by closing if it has."""
        self.record.error = message
        if self.responding:
            self.keep_alive = False
            if not self._end_is_framed():
                self.client.break_off()
            self.finish(outcome)
            return
        kind = "invalid_request_error" if status < 500 else "upstream_error"
        self.keep_alive = False
        reply = replies.error_reply(status, message, kind=kind, code=code, fields=self._trace_header())
        if self.request.method == b"HEAD":
            reply = reply.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        self.respond(reply, status)
        self.finish(outcome)

    def _end_is_framed(self) -> bool:
        """The client knows from the response itself where it ends."""
        received = self.response_headers
        codings = received.get(b"transfer-encoding", b"").lower()
        framed = b"content-length" in received or codings.endswith(b"chunked")
        return framed and self.request.version == "1.1"

    def refuse(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self.fail(refusal.status, "bad_request", refusal.message, code=refusal.code)

    def check_timeouts(self, now: int) -> None:
        """End the exchange when one of the timeouts has passed. `now`: monotonic nanoseconds."""
        timeouts, record = self.settings.timeouts, self.record
        elapsed = now - self.t0
        if timeouts.body and not self.finished_request and now - self.client.read_at > timeouts.body * 1e9:
            if not self.client.paused:
                self.refuse(Refusal(408, f"no more of the request body for {timeouts.body:g} s", "slow_body"))
        elif timeouts.total and elapsed > timeouts.total * 1e9:
            self._timed_out(f"the response took longer than {timeouts.total:g} s")
        elif timeouts.first_byte and record.first_byte == NEVER and record.request_sent != NEVER:
            if elapsed - record.request_sent > timeouts.first_byte * 1e9:
                self._timed_out(f"the upstream sent nothing for {timeouts.first_byte:g} s")
        elif self.client.write_paused:
            pass  # the upstream is not silent: a client that reads slowly has us not listen
        elif timeouts.idle and record.last_byte != NEVER and elapsed - record.last_byte > timeouts.idle * 1e9:
            self._timed_out(f"the upstream paused for {timeouts.idle:g} s")

    def _timed_out(self, message: str) -> None:
        self.fail(504, "timeout", message, code="timeout")

    def client_gone(self, *, tunnelled: bool) -> None:
        """The client's connection is closed. The upstream's goes at once, so that the engine stops."""
        # A client that closes after the last event has seen everything (ai-gateway#2563).
        # The last event of the responses API holds the whole response.
        end = self.response_keeper.end(65536) if self.record.stream else b""
        seen_all = b"data: [DONE]" in end[-64:] or b"event: response.completed\n" in end
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
            cells[_OUTCOME[outcome]] += 1
            self.relay.channel.send(self._recorded(outcome))
        self.client.finished(self)

    def _recorded(self, outcome: Outcome) -> Exchange:
        """The record, with what is known at the end."""
        record, request = self.record, self.request
        record.ended = monotonic_ns() - self.t0
        record.outcome = outcome
        if self.pool is not None:
            record.pool = self.pool.name
        if self.endpoint is not None:
            record.upstream = self.endpoint.address
        record.method = request.method.decode("latin-1")
        record.target = request.target.decode("latin-1")
        record.request_headers = request.headers.recorded(RECORDED_REQUEST | request.ours)
        record.response_headers = self.response_headers.recorded(RECORDED_RESPONSE)
        record.request_body = self.request_keeper.body()
        record.response_body = self.response_keeper.body()
        if self.cutter is not None:
            record.usage_event = self.cutter.usage_event
        return record
