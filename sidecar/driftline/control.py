"""The line between the supervisor and each of its processes: JSON lines over a socket pair.

The supervisor says the settings first. A process takes the end of the line as the word to stop, so it never outlives
its supervisor.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
_LIMIT = 16 * 1024 * 1024

UP = "up"
"""Says a process: it works."""
LEAVING = "leaving"
"""Says a process: somebody has told it to stop (SIGTERM); it does so once there is another in its place."""
RELOADED = "reloaded"
"""Answers a relay to new settings; anything else it answers is why not."""
REPLACED = "replaced"
"""Says the supervisor before it ends the line: a successor has the sockets, or is about to."""


class Control:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ended = False

    @classmethod
    async def over(cls, descriptor: int | socket.socket) -> Control:
        sock = socket.socket(fileno=descriptor) if isinstance(descriptor, int) else descriptor
        return cls(*await asyncio.open_connection(sock=sock, limit=_LIMIT))

    def say(self, message: Any) -> None:
        """Send one message; nothing happens if the line has ended."""
        if not (self._ended or self._writer.is_closing()):
            self._writer.write(msgspec.json.encode(message) + b"\n")

    async def receive(self, kind: type[T]) -> T:
        """The next message. Raises `EOFError` when the line has ended."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            raise EOFError("the other process is gone")
        return msgspec.json.decode(line, type=kind)

    def end(self) -> None:
        """Say that nothing more will be said: to a child, stop."""
        self._ended = True
        if not self._writer.is_closing():
            self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()
