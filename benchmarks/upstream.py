"""A paced mock of a vLLM server: cheap enough not to be what is measured.

Its models are paces. `spread-10ms`: a token every 10 ms, streams take turns within the interval, a millisecond
apart. `burst-10ms`: all of them at once, as the requests of one engine step. `rust-512` and `python-512`: as
recorded behind vLLM's two frontends (`benchmarks.recorded`), in the form of that frontend.

    python -m benchmarks.upstream --port 8000
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import time
from typing import Protocol, cast

import click
import httptools
import msgspec
import uvloop

from benchmarks import recorded, wire
from benchmarks.pace import Member, Pace, Replay

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 08:59:27 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n"
)
RUST_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\ndate: Mon, 23 Nov 2026 09:36:17 GMT\r\n"
)
REPLY_HEAD = (
    b"HTTP/1.1 %d OK\r\ndate: Mon, 23 Nov 2026 08:59:27 GMT\r\nserver: uvicorn\r\n"
    b"content-length: %d\r\ncontent-type: application/json\r\nvary: Origin\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Request(msgspec.Struct):
    """Of chat and of completions."""

    model: str = wire.MODEL
    max_tokens: int = 16
    seed: int = 0
    stream: bool = False
    stream_options: StreamOptions | None = None


_request = msgspec.json.Decoder(Request)


class Clock(Protocol):
    """What makes streams speak."""

    def join(self, member: Member) -> None: ...
    def leave(self, member: Member) -> None: ...


class Paces:
    """The paces by name, made when they are first asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, speed: float = 1.0) -> None:
        self._loop = loop
        self._speed = speed
        self._known: dict[str, Clock] = {}

    def __getitem__(self, model: str) -> Clock:
        """Raises `KeyError` for a model that is no pace, `OSError` where a recording is absent."""
        if model not in self._known:
            self._known[model] = self._make(model)
        return self._known[model]

    def _make(self, model: str) -> Clock:
        if model in FORMS:
            return Replay(self._loop, recorded.load(model.removesuffix("-512")), self._speed)
        if (named := re.fullmatch(r"(spread|burst)-([\d.]+)ms", model)) is None:
            raise KeyError(model)
        interval = float(named[2])
        return Pace(self._loop, interval / 1000, 1 if named[1] == "burst" else max(1, round(interval)))


FORMS = {"rust-512": wire.rust_completion, "python-512": wire.python_completion}
"""How the models that are recordings spell a stream."""


class Upstream(asyncio.Protocol):
    """One connection of a client."""

    fields = b""
    """Header lines of every answer, beside those of a vLLM server."""

    def __init__(self, paces: Paces) -> None:
        self._paces = paces
        self._pace: Clock | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._descriptor = self._transport.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pace is not None:
            self._pace.leave(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if self._url in (b"/v1/chat/completions", b"/v1/completions"):
            self._generate(_request.decode(self._body))
        elif self._url == b"/v1/models":
            self._reply(200, b'{"object":"list","data":[{"id":"%b","object":"model"}]}' % wire.MODEL.encode())
        elif self._url == b"/health":
            self._reply(200, b"")
        else:
            self._reply(404, b'{"detail":"Not Found"}')

    def _reply(self, status: int, body: bytes) -> None:
        self._transport.write(REPLY_HEAD % (status, len(body)) + self.fields + b"\r\n" + body)

    def _generate(self, request: Request) -> None:
        if not request.stream:
            self._reply(200, wire.reply(request.seed))
            return
        try:
            self._pace = self._paces[request.model]
        except (KeyError, OSError) as error:
            self._reply(
                404, msgspec.json.encode({"error": {"message": f"no model {request.model}: {error!r}"}})
            )
            return
        usage = request.stream_options is not None and request.stream_options.include_usage
        stream = FORMS.get(request.model, wire.chat)(request.seed, request.max_tokens, usage)
        self._delta, self._last = framed(stream.delta), framed(stream.last)
        self._ending = b"".join(wire.chunk(event) for event in stream.ending) + LAST_CHUNK
        self._left = request.max_tokens
        head = RUST_STREAM_HEAD if request.model == "rust-512" else STREAM_HEAD
        opening = wire.chunk(stream.opening) if stream.opening else b""
        self._send(head + self.fields + b"\r\n" + opening)
        self._pace.join(self)

    def step(self) -> None:
        """Send the next token."""
        self._left -= 1
        if self._left:
            self._send(self._delta % time.monotonic_ns())
        else:
            assert self._pace is not None
            self._pace.leave(self)
            self._send(self._last % time.monotonic_ns() + self._ending)

    def _send(self, data: bytes) -> None:
        """Write now. The transport would first collect what all streams of a step say, and be late with each."""
        if not self._transport.get_write_buffer_size():
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                pass
            except ConnectionError:  # the transport will find out too
                return
        if data:
            self._transport.write(data)


def framed(template: bytes) -> bytes:
    """The template of an event as one HTTP chunk: a moment of the right width stood in for its size."""
    return wire.chunk(template % 0).replace(b"0" * wire.DIGITS, b"%%0%dd" % wire.DIGITS)


async def serve(port: int, *, speed: float = 1.0) -> asyncio.Server:
    """Listen on `port` of the loopback interface (0: any); `speed`: of the replays, 1 being as recorded."""
    loop = asyncio.get_running_loop()
    paces = Paces(loop, speed=speed)
    return await loop.create_server(lambda: Upstream(paces), "127.0.0.1", port, backlog=4096)


@click.command()
@click.option("--port", required=True, type=int)
@click.option("--speed", default=1.0, help="Of what is replayed; 1 is as recorded.")
def main(port: int, speed: float) -> None:
    """Serve paced streams until interrupted."""
    gc.disable()  # a collection would hold a whole step back

    async def run() -> None:
        await (await serve(port, speed=speed)).serve_forever()

    uvloop.run(run())


if __name__ == "__main__":
    main()
