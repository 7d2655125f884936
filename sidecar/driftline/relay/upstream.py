"""The upstream's side: reads a response and writes it to the client's transport, without a task per chunk."""

from __future__ import annotations

import asyncio
import re
import select
from time import monotonic_ns
from typing import TYPE_CHECKING, cast

import httptools

from driftline.exchange import NEVER
from driftline.relay import headers, strict
from driftline.relay.headers import Fields, Headers
from driftline.relay.keeper import WHOLE
from driftline.relay.passage import AS_IT_CAME, UNFRAMED, Cut, Passage
from driftline.relay.usage import notable

if TYPE_CHECKING:
    from driftline.relay.pool import Endpoint
    from driftline.relay.transaction import Transaction

_HEAD_LIMIT = 256 * 1024
_CONTENT = re.compile(
    rb'"(?:content|text|delta|reasoning|reasoning_content|arguments|refusal)"\s*:\s*"(?!")|"tool_calls"\s*:\s*\[\s*\{'
)
"""An event that carries something for the reader; the first one ends the time to first token."""
_DONE = b"data: [DONE]"
_READABLE = select.POLLIN | getattr(select, "POLLRDHUP", 0)


class UpstreamConnection(asyncio.Protocol):
    """One pooled connection to an endpoint. Serves one transaction at a time."""

    __slots__ = (
        "_add_field",
        "_bodies",
        "_complete",
        "_ended",
        "_fields",
        "_framing",
        "_head",
        "_in_head",
        "_informed",
        "_keep_alive",
        "_messages",
        "_of_first",
        "_overhead",
        "_parser",
        "_passage",
        "_poll",
        "_reply_head",
        "_steady",
        "_trailers",
        "_transaction",
        "_tunnel",
        "endpoint",
        "idle_since",
        "on_body",
        "transport",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before any data
        self.idle_since = 0.0
        self._transaction: Transaction | None = None
        self._poll = select.poll()
        self._head = b""
        self._fields: Fields = []
        self._trailers: Fields = []
        self._add_field = self._fields.append
        """Takes the next header field, or trailer."""
        self._in_head = True
        self._complete = False
        self._messages = 0
        self._of_first = 0
        self._framing = ""
        self._overhead = strict.Overhead()
        self._informed = 0
        """Bytes of informational responses before the final one."""
        self._keep_alive = self._ended = False
        self._steady = False
        """In the middle of a stream: an event that comes now goes to the client as it is."""
        self._bodies: list[bytes] = []
        # llhttp calls list.append itself: no Python frame per chunk.
        self.on_body = self._bodies.append
        self._parser = httptools.HttpResponseParser(self)
        self._passage: Passage = AS_IT_CAME
        self._reply_head = b""
        """Waits for the body of the same read: uvloop makes a system call of every write."""
        self._tunnel = False

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), _READABLE)

    def serve(self, transaction: Transaction) -> None:
        """Begin an exchange; the request is written next."""
        self._transaction = transaction
        self._complete = False
        self._steady = False
        self._reply_head = b""
        self._informed = self._overhead.size = 0
        self._expect_head()

    def _expect_head(self) -> None:
        self._fields = []
        self._trailers = []
        self._add_field = self._fields.append
        self._in_head = True
        self._messages = 0

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        began = monotonic_ns()
        transaction = self._transaction
        if transaction is None:
            # Readable while idle: the server is saying goodbye, or is out of step. Either way not to be used.
            self.endpoint.retire(self)
            return
        try:
            if self._tunnel:
                transaction.client.write(data)
            elif self._in_head:
                self._read_head(transaction, data, began)
            else:
                self._parser.feed_data(data)
                if not (self._steady and self._pass_event(transaction, data, began)):
                    self._read_body(transaction, data, began)
        except httptools.HttpParserError as error:
            if self._complete and not self._in_head:
                # Whole, with something behind it that is none.
                self._messages, self._of_first = 2, len(self._bodies)
                self._read_body(transaction, data, began)
            else:
                self._broken(f"the upstream's response is not HTTP: {error}")

    def _read_head(self, transaction: Transaction, data: bytes, began: int) -> None:
        record = transaction.record
        if record.first_byte == NEVER:
            record.first_byte = record.last_byte = began - transaction.t0
        rest, self._head = self._head + data if self._head else data, b""
        while self._in_head:
            end = rest.find(b"\r\n\r\n") + 4
            if end < 4:
                strict.check_part_of_head(rest, _HEAD_LIMIT)
                self._head = rest
                return
            block, rest = rest[:end], rest[end:]
            self._one_head(transaction, block)
        if self._tunnel:
            if rest:
                transaction.client.write(rest)
            return
        if self._complete and rest:  # a body where none may be
            self._keep_alive = transaction.keep_alive = False
            rest = b""
        record.overhead_first_byte = monotonic_ns() - began
        if rest:
            self._parser.feed_data(rest)
        if self._complete or rest:
            self._read_body(transaction, rest, began)
        else:
            transaction.client.write(self._reply_head)
            self._reply_head = b""

    def _one_head(self, transaction: Transaction, block: bytes) -> None:
        status, start_line = strict.status_line(block)
        if status == 101:
            if not transaction.request.upgrade:
                raise httptools.HttpParserError("101 for a request that asked for no upgrade")
            self._open_tunnel(transaction, block)
            return
        self._parser.feed_data(block)
        if status >= 200:
            self._begin_body(transaction, block, start_line, status)
            return
        self._informed += len(block)
        if self._informed > _HEAD_LIMIT:
            raise httptools.HttpParserError(f"more than {_HEAD_LIMIT} bytes of informational responses")
        if transaction.request.version == "1.1":
            # They have no body, so nothing in them may speak of one (RFC 9110 §8.6, RFC 9112 §6.1).
            fields = Headers(self._fields).without(b"content-length").end_to_end()
            transaction.client.write(headers.head(start_line, fields))
        self._parser = httptools.HttpResponseParser(self)
        self._expect_head()

    def _begin_body(self, transaction: Transaction, block: bytes, start_line: bytes, status: int) -> None:
        self._in_head = False
        received = Headers(self._fields)
        self._add_field = self._trailers.append
        self._framing = strict.framing(transaction.request.method, status, received)
        self._complete = self._complete or self._framing == "none"
        closes = self._framing == "close"
        self._keep_alive = not closes and block.startswith(b"HTTP/1.1") and b"close" not in received.options()
        passed = transaction.response_head(status, received, closes=closes)
        chunked, modern = self._framing == "chunked", transaction.request.version == "1.1"
        if transaction.cutter is not None:
            self._passage = Cut(transaction.cutter, from_chunks=chunked, to_chunks=modern)
        else:
            self._passage = UNFRAMED if chunked and not modern else AS_IT_CAME
        self._reply_head = headers.head(start_line, passed)

    def _open_tunnel(self, transaction: Transaction, block: bytes) -> None:
        self._tunnel = True
        self._in_head = False
        transaction.record.status = 101
        transaction.responding = True
        transaction.keep_alive = False
        transaction.client.write(block)
        transaction.client.tunnel(self.transport)

    # The body

    def _pass_event(self, transaction: Transaction, data: bytes, began: int) -> bool:
        """Pass on a read that is one event in the middle of a stream, as nearly all are; False: it is something else.

        Every token of every stream comes through here, so it is one frame with few look-ups.
        """
        if len(self._bodies) != 1 or self._complete or not data.endswith(b"\n\n\r\n"):
            return False
        body = self._bodies[0]
        keeper, record = transaction.response_keeper, transaction.record
        size = keeper.size + len(body)
        if size > WHOLE or body.startswith(_DONE) or notable(body):
            return False
        self._bodies.clear()
        keeper.size = size
        keeper.pieces.append(body)
        record.reads += 1
        record.last_byte = record.last_content = began - transaction.t0
        transaction.client.transport.write(data)
        record.overhead_chunks += monotonic_ns() - began
        return True

    def _read_body(self, transaction: Transaction, data: bytes, began: int) -> None:  # noqa: C901, PLR0912  # one after the other
        """`data` has been fed to the parser; what is body in it is in `_bodies`."""
        bodies, record = self._bodies, transaction.record
        record.last_byte = moment = began - transaction.t0
        if self._messages > 1:
            if self._framing == "chunked" and self._passage is AS_IT_CAME and not self._reply_head:
                # Where the first one ends in this read is not known, and half of a chunk may have been passed on.
                self._broken("the upstream sent a second response")
                return
            data = self._first_message_alone(transaction)
        elif self._complete:
            data = self._without_stray_line_end(data)
        keeper = transaction.response_keeper
        if bodies:
            record.reads += 1
            for body in bodies:
                keeper.size += len(body)
                if keeper.size <= WHOLE:
                    keeper.pieces.append(body)
                else:
                    keeper.overflow(body)
            if record.first_content == NEVER:
                if not record.stream or _CONTENT.search(b"".join(bodies)):
                    record.first_content = record.last_content = moment
            elif not bodies[0].startswith(_DONE):
                record.last_content = moment
        elif not self._complete and self._overhead.add(len(data), keeper.size) > _HEAD_LIMIT:
            self._broken(f"the upstream sent {_HEAD_LIMIT} bytes of chunk framing without any body")
            return
        if self._passage is AS_IT_CAME:
            out = data
        else:
            end = headers.head(b"0", self._trailers) if self._complete else b""
            out = self._passage.feed(data, b"".join(bodies), end)
        if self._reply_head:
            out, self._reply_head = self._reply_head + out, b""
        if out:
            transaction.client.transport.write(out)
        bodies.clear()
        self._steady = record.stream and record.first_content != NEVER and self._passage.open
        record.overhead_chunks += monotonic_ns() - began
        if self._complete:
            transaction.finish("complete")

    def _without_stray_line_end(self, data: bytes) -> bytes:
        """Some servers send one too many behind a response; the client's next one must begin with its status line."""
        if self._framing == "length":
            return b"".join(self._bodies)
        while data.endswith(b"\r\n\r\n\r\n"):
            data = data[:-2]
        return data

    def _first_message_alone(self, transaction: Transaction) -> bytes:
        """The read holds bytes of a second response that nobody asked for: what is left without them."""
        self._keep_alive = transaction.keep_alive = False
        del self._bodies[self._of_first :]
        body = b"".join(self._bodies)
        end = headers.head(b"0", self._trailers)
        return headers.chunk(body) + end if self._framing == "chunked" else body

    # httptools

    def on_message_begin(self) -> None:
        self._messages += 1
        if self._messages == 2:
            self._of_first = len(self._bodies)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._messages <= 1:
            self._add_field((name, value))

    def on_message_complete(self) -> None:
        self._complete = self._complete or self._parser.get_status_code() >= 200

    @property
    def silent(self) -> bool:
        """Open, and nothing waits to be read: no goodbye that the loop has not come to yet."""
        return not self.transport.is_closing() and not self._poll.poll(0)

    # Back-pressure

    def pause_writing(self) -> None:
        if self._transaction is not None:
            self._transaction.client.pause_reading("upstream")

    def resume_writing(self) -> None:
        if self._transaction is not None:
            self._transaction.client.resume_reading("upstream")

    def pause_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    # The end

    def release(self) -> None:
        """The transaction has ended: back to the pool if both sides are in step, closed otherwise.

        Closing is what makes the engine stop generating.
        """
        transaction, self._transaction = self._transaction, None
        self._bodies.clear()
        in_step = (
            self._complete
            and self._keep_alive
            and transaction is not None
            and transaction.finished_request
            and not self._tunnel
            and not self.transport.get_write_buffer_size()
        )
        if transaction is not None:
            transaction.client.resume_reading("upstream")
        if in_step and not self.transport.is_closing():
            if transaction is not None and transaction.client.write_paused:
                self.resume_reading()
            if self._framing == "none":  # the parser waits for a body
                self._parser = httptools.HttpResponseParser(self)
            self.endpoint.keep(self)
        else:
            self.transport.abort()

    def eof_received(self) -> None:
        """In good order: over TLS a cut has no close_notify, and is none of this (RFC 9112 §9.8)."""
        self._ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        transaction = self._transaction
        if transaction is None:
            self.endpoint.retire(self)
        elif self._tunnel:
            transaction.client.close()
            transaction.finish("tunnelled")
        elif self._framing == "close" and not self._in_head and self._ended:
            self._complete = True
            self._read_body(transaction, b"", monotonic_ns())
        else:
            self._broken("the upstream closed the connection" + (f": {exc}" if exc else ""))

    def _broken(self, message: str) -> None:
        transaction = self._transaction
        if transaction is None:
            return
        if transaction.responding:
            if self._reply_head:
                transaction.client.write(self._reply_head)
            if held := self._passage.rest():
                transaction.client.write(held)
            transaction.fail(
                502, "upstream_broken", f"{message} in the middle of the response", code="upstream_broken"
            )
        else:
            transaction.fail(502, "upstream_failed", f"{message} before it answered", code="upstream_failed")
