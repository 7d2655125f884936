"""The client's side: reads requests, keeps their order, answers one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, cast

import httptools

from driftline.relay import strict
from driftline.relay.resumed import ResumedBody
from driftline.relay.transaction import Refusal, Transaction

if TYPE_CHECKING:
    from driftline.relay.server import Relay

_log = logging.getLogger(__name__)
_UPGRADE_BUFFER = 64 * 1024
"""Bytes that may wait behind a request to upgrade."""
_LINGER = 2_000_000_000
"""Nanoseconds to read on after an error reply, as nginx does."""


class ClientConnection(asyncio.Protocol):
    """One connection of a client. Requests queue here when pipelined (RFC 9112 §9.3.2)."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before any data
        self.read_at = monotonic_ns()
        """When the last bytes arrived: the clock of the header, body and keep-alive timeouts."""
        self._parser = httptools.HttpRequestParser(self)
        self._parsing: Transaction | None = None
        self._add_field: Callable[[tuple[bytes, bytes]], None]
        """Takes the next header field, or trailer."""
        self._in_head = False
        self._head_began = 0
        self._head_size = 0
        """Bytes of the head's reads before the last."""
        self._read_size = 0
        self._current: Transaction | None = None
        self._waiting: deque[Transaction] = deque()
        self._tunnel: asyncio.Transport | None = None
        self._upgrading = False
        self._after_upgrade = b""
        self._paused_by: set[str] = set()
        self._deaf = False
        """No further request is read from this connection."""
        self._closing = False
        self._linger_until = 0
        self.write_paused = False
        self.one_too_many = False
        """There are file descriptors left for it, but not for an upstream connection of its own."""
        self._heads_begun = 0
        """In this read: the size of a read counts for a head only if nothing else is in it."""
        self._body_left = b""
        """Framing of a body that llhttp has left unread."""
        self._trailer_size = 0
        self._overhead = strict.Overhead()
        self._closed_at = 0
        self._breaking = False

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.relay.arriving.pop(self, None)
        self.relay.clients.add(self)
        self.one_too_many = len(self.relay.clients) > self.relay.room
        self.relay.row.add("connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self.relay.clients.discard(self)
        self.relay.row.add("connections", -1)
        self._closing = self._deaf = True
        if self._tunnel is not None:
            self._tunnel.close()
        unanswered = [self._current, *self._waiting, self._parsing]
        self._current = self._parsing = None
        self._waiting.clear()
        for transaction in unanswered:
            if transaction is not None and transaction.started:
                transaction.client_gone(tunnelled=self._tunnel is not None)

    def data_received(self, data: bytes) -> None:
        self.read_at = monotonic_ns()
        if self._tunnel is not None:
            self._tunnel.write(data)
        elif self._upgrading:
            self._after_upgrade += data
            if len(self._after_upgrade) > _UPGRADE_BUFFER:
                self.pause_reading("upgrade")
        elif not self._deaf:
            rest, self._after_upgrade = self._after_upgrade, b""
            self._parse(rest + data if rest else data)
            self._advance()

    def _parse(self, data: bytes) -> None:
        between, self._heads_begun = self._parsing is None, 0
        self._read_size = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._body_left:
                self._read_body_after_all(rest)
                return
            self._after_upgrade = rest
            self._upgrading = True
        except httptools.HttpParserCallbackError:
            _log.exception("could not take a request")
            self._refuse(Refusal(500, "the request could not be processed", "internal_error"))
        except httptools.HttpParserError as error:
            self._refuse(Refusal(400, f"not an HTTP request: {error}", "bad_http"))
        if self._in_head:
            if self._heads_begun == 0 or (between and self._heads_begun == 1):
                self._head_size += len(data)
                if self._head_size > self.relay.settings.limits.header_bytes:
                    self._refuse(self._too_large("request header is"))
        elif self._parsing is not None and self._parsing.request.chunked and self._parsing.refusal is None:
            framing = self._overhead.add(len(data), self._parsing.request_keeper.size)
            if framing > self.relay.settings.limits.header_bytes:
                self._refuse(self._too_large("chunk framing without any body is"))

    def _too_large(self, what: str) -> Refusal:
        limit = self.relay.settings.limits.header_bytes
        return Refusal(431, f"the {what} larger than {limit} bytes", "header_too_large")

    def _read_body_after_all(self, rest: bytes) -> None:
        """Go on with a body behind a head that names an upgrade which is not passed on.

        llhttp stops there, body or not; Java's HTTP client offers h2c with every request. Another parser is told
        the body's framing by a head of our own, whose events nobody hears.
        """
        events = ResumedBody(self)
        self._parser = httptools.HttpRequestParser(events)
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % self._body_left)
        events.heard = True
        self._body_left = b""
        if rest:
            self._parse(rest)

    def pause_writing(self) -> None:
        """The client reads slowly: read its own upstream slowly too."""
        self.write_paused = True
        if self._current is not None and self._current.upstream is not None:
            self._current.upstream.pause_reading()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._current is not None and self._current.upstream is not None:
            self._current.upstream.resume_reading()
        self._advance()

    # httptools

    def on_message_begin(self) -> None:
        self._heads_begun += 1
        self._parsing = transaction = Transaction(self, self.read_at)
        self._add_field = transaction.request.fields.append
        self._in_head = True
        self._overhead.size = 0
        self._head_began = self.read_at
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        assert self._parsing is not None
        self._parsing.request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._add_field((name, value))

    def _add_trailer(self, field: tuple[bytes, bytes]) -> None:
        transaction = self._parsing
        assert transaction is not None
        self._trailer_size += len(field[0]) + len(field[1]) + 4
        if self._trailer_size <= self.relay.settings.limits.header_bytes:
            transaction.request.trailers.append(field)
        else:
            transaction.refusal = self._too_large("trailers are")

    def on_headers_complete(self) -> None:
        transaction = self._parsing
        assert transaction is not None
        request, limit = transaction.request, self.relay.settings.limits.header_bytes
        self._in_head = False
        self._add_field = self._add_trailer
        self._trailer_size = 0
        if self._head_size + self._read_size > limit and request.size > limit:
            transaction.refusal = self._too_large("request header is")
        transaction.head_complete(self._parser.get_method(), self._parser.get_http_version())
        self._waiting.append(transaction)
        if self._parser.should_upgrade() and not request.upgrade and (request.chunked or request.length):
            framing = b"Transfer-Encoding: chunked", b"Content-Length: %d" % (request.length or 0)
            self._body_left = framing[0] if request.chunked else framing[1]

    def on_body(self, data: bytes) -> None:
        assert self._parsing is not None
        self._parsing.request_body(data)

    def on_message_complete(self) -> None:
        if self._body_left:
            return
        assert self._parsing is not None
        self._parsing.request_complete()
        self._parsing = None

    # One request at a time

    def _advance(self) -> None:
        """Begin the next request if none is being answered; send on what arrived of the one that is."""
        while self._current is None and self._waiting and not (self._closing or self.write_paused):
            self._current = self._waiting.popleft()
            self._begin(self._current)
        current = self._current
        if current is None:
            return
        if current.refusal is not None:
            self._deaf = True
            current.refuse(current.refusal)
            return
        if current.held is not None and current.promise_to_continue():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if current.dispatched_at or current.held is not None:
            current.flush()
        else:
            current.dispatch()
        if self._waiting:
            self.pause_reading("pipelined")
        elif current.upload_full:
            self.pause_reading("upload")

    def _begin(self, transaction: Transaction) -> None:
        refusal = transaction.refusal or self.relay.refusal(transaction)
        if refusal is not None:
            transaction.refuse(refusal)
        elif transaction.request.target.startswith(b"/-/"):
            self.relay.answer_locally(transaction)
        elif self._upgrading and not transaction.request.upgrade:
            self.not_upgraded()

    def finished(self, transaction: Transaction) -> None:
        """`transaction` has ended: on to the next, or close."""
        if transaction is not self._current:
            return
        self._current = None
        if self._breaking:
            self._reset()
        elif not transaction.finished_request or transaction.refusal is not None:
            self._linger()
        elif not transaction.keep_alive:
            self._end()
        else:
            self.read_at = monotonic_ns()
            self.resume_reading("pipelined")
            self.not_upgraded()
            if self._waiting:
                # Not from here: the call stack would grow with the pipeline.
                asyncio.get_running_loop().call_soon(self._advance)

    def _end(self) -> None:
        """No further request is answered here."""
        if self._waiting or self._paused_by:
            self._linger()
        else:
            self.close()

    # Upgrades: llhttp stops after a request that names one, and what follows is either the tunnel's or, when
    # the upgrade is refused or is none that we pass on (h2c), the next request.

    def not_upgraded(self) -> None:
        if self._upgrading:
            self._upgrading = False
            self.resume_reading("upgrade")
            self._parser = httptools.HttpRequestParser(self)
            if self._after_upgrade:
                # Not from here, as below; bytes that come before then are put behind these.
                asyncio.get_running_loop().call_soon(self.data_received, b"")

    def tunnel(self, upstream: asyncio.Transport) -> None:
        """The upstream switched protocols: bytes go both ways from now on, unread."""
        self._tunnel = upstream
        self._upgrading = False
        if self._after_upgrade:
            upstream.write(self._after_upgrade)
        self.resume_reading("upgrade")

    # Writing and closing

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_reading(self, reason: str) -> None:
        if not self._paused_by and not self.transport.is_closing():
            self.transport.pause_reading()
        self._paused_by.add(reason)

    def resume_reading(self, reason: str) -> None:
        if reason in self._paused_by:
            self._paused_by.discard(reason)
            if not self._paused_by and not self.transport.is_closing():
                self.transport.resume_reading()

    @property
    def paused(self) -> bool:
        """We are not reading, so that nothing arrives is not the client's doing."""
        return bool(self._paused_by)

    def break_off(self) -> None:
        """The response ends before its end, which only the connection's end would tell: reset it instead."""
        self._breaking = True

    def _reset(self) -> None:
        # Sends RST, which no client takes for the end of a body.
        self._closing = self._deaf = True
        with contextlib.suppress(OSError):
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self.transport.abort()

    def close(self) -> None:
        """Let what is written leave, then close."""
        self._closed_at = monotonic_ns()
        self._closing = self._deaf = True
        self.transport.close()

    def _linger(self) -> None:
        """Close, but read on for a while: closing with unread bytes resets the connection, and the client would
        lose the error it has been sent (RFC 9112 §9.6)."""
        self._closing = self._deaf = True
        self._linger_until = monotonic_ns() + _LINGER
        self._paused_by.clear()
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        # TLS has no half close here: the client ends the connection when it has read the error.
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def leave(self) -> None:
        """Close an idle connection. A request that crosses the end on its way is read and dropped: its client is told
        by an orderly end, after which it may ask again elsewhere (RFC 9112 §9.3.1), rather than by a reset."""
        if not self._closing:
            (self._linger if self.transport.can_write_eof() else self.close)()

    @property
    def pipelining(self) -> bool:
        """Another request has arrived behind the one that is answered."""
        return bool(self._waiting)

    def end_of_grace(self) -> None:
        """The shutdown waits no longer."""
        if self._current is not None:
            self._current.fail(503, "drained", "the sidecar is shutting down", code="shutting_down")
        self.close()

    @property
    def idle(self) -> bool:
        return self._current is None and not self._waiting and self._parsing is None and self._tunnel is None

    # Bad requests and slow ones

    def _refuse(self, refusal: Refusal) -> None:
        """What arrives is not a request, or not an acceptable one: say so after the answers before it, and close."""
        self._deaf = True
        transaction = self._parsing or Transaction(self, self.read_at)
        self._parsing, self._in_head = None, False
        if not transaction.started:
            transaction.start()
        if transaction is not self._current and transaction not in self._waiting:
            self._waiting.append(transaction)
        transaction.refusal = refusal
        if transaction is self._current:
            transaction.refuse(refusal)

    def check_timeouts(self, now: int) -> None:
        """Called a few times a second by the relay."""
        timeouts = self.relay.settings.timeouts
        unread = timeouts.keep_alive and self._closed_at and now - self._closed_at > timeouts.keep_alive * 1e9
        if unread or (self._linger_until and now > self._linger_until):
            self.transport.abort()
        if self._closing or self._tunnel is not None:
            return
        if self._current is not None:
            self._current.check_timeouts(now)
        elif self._in_head and timeouts.header and now - self._head_began > timeouts.header * 1e9:
            self._refuse(
                Refusal(408, f"the request header took longer than {timeouts.header:g} s", "slow_header")
            )
            self._advance()
        elif self.idle and timeouts.keep_alive and now - self.read_at > timeouts.keep_alive * 1e9:
            self.leave()
