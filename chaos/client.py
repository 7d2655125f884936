"""A client's connection that remembers what it saw of an answer that broke off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from typing import cast

import httptools


class Answer:
    """What has arrived so far."""

    def __init__(self) -> None:
        self.status = 0
        """0: no header yet."""
        self.fields: dict[str, str] = {}
        self.body = bytearray()
        self.whole = False
        self.fault = ""
        """What ended it before it was whole."""
        self.ended = asyncio.Event()


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.usable = True
        self.opened_at = time.monotonic_ns()
        self._answer: Answer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.port = int(transport.get_extra_info("sockname")[1])

    def ask(self, request: bytes) -> Answer:
        """Send `request`, or its beginning; what comes back is filled in as it comes."""
        self._answer = Answer()
        if self.transport.is_closing():
            self._answer.fault = "closed"
            self._answer.ended.set()
        self._parser = httptools.HttpResponseParser(self)
        self.write(request)
        return self._answer

    def write(self, data: bytes) -> None:
        """More of a request; nothing happens if the connection is gone."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def leave(self, *, reset: bool) -> None:
        """Go away in the middle, with a FIN or with a reset."""
        self.usable = False
        self._answer = None
        if reset and not self.transport.is_closing():
            own = self.transport.get_extra_info("socket")
            with contextlib.suppress(OSError):  # the other side was quicker
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()

    def close(self) -> None:
        self.usable = False
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.usable = False
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._end(type(exc).__name__ if exc else "closed")

    def _end(self, fault: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.whole:
            self.usable = False
            answer.fault = fault
            answer.ended.set()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._answer is not None
        self._answer.fields[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        assert self._answer is not None
        self._answer.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        assert self._answer is not None
        self._answer.body += data

    def on_message_complete(self) -> None:
        answer, self._answer = self._answer, None
        assert answer is not None
        answer.whole = True
        self.usable = self._parser.should_keep_alive()
        answer.ended.set()
