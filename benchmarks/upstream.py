"""A paced mock of a vLLM server: cheap enough not to be what is measured.

One timer drives every stream. With phase `spread` the streams take turns within the interval, a millisecond
apart; with phase `burst` all of them speak at once, as the requests of one engine step do.

    python -m benchmarks.upstream --port 8000 --interval-ms 10 --phase spread
"""

from __future__ import annotations

import asyncio
import time
from typing import Literal, cast

import click
import httptools
import msgspec
import uvloop

from benchmarks import wire

Phase = Literal["spread", "burst"]

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 08:59:27 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n"
)
REPLY_HEAD = (
    b"HTTP/1.1 %d OK\r\ndate: Mon, 23 Nov 2026 08:59:27 GMT\r\nserver: uvicorn\r\n"
    b"content-length: %d\r\ncontent-type: application/json\r\nvary: Origin\r\n"
)
END = wire.chunk(wire.DONE) + b"0\r\n\r\n"


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class ChatRequest(msgspec.Struct):
    max_tokens: int = 16
    seed: int = 0
    stream: bool = False
    stream_options: StreamOptions | None = None


_chat_request = msgspec.json.Decoder(ChatRequest)


class Pace:
    """Calls `step` on every member once per interval; members are dealt evenly over its slots.

    A tick that comes late does not move the ones after it, so the mean rate holds whatever the load.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float, slots: int) -> None:
        self._loop = loop
        self._slots: list[set[Upstream]] = [set() for _ in range(slots)]
        self._step = interval / slots
        self._next = loop.time()
        self._turn = 0
        self._tick()

    def join(self, member: Upstream) -> None:
        min(self._slots, key=len).add(member)

    def leave(self, member: Upstream) -> None:
        for slot in self._slots:
            slot.discard(member)

    def _tick(self) -> None:
        while self._next <= self._loop.time():
            for member in tuple(self._slots[self._turn]):
                member.step()
            self._turn = (self._turn + 1) % len(self._slots)
            self._next += self._step
        self._loop.call_at(self._next, self._tick)


class Upstream(asyncio.Protocol):
    """One connection of a client."""

    fields = b""
    """Header lines of every answer, beside those of a vLLM server."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._parser = httptools.HttpRequestParser(self)
        self._url = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
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
        if self._url == b"/v1/chat/completions":
            self._chat(_chat_request.decode(self._body))
        elif self._url == b"/v1/models":
            self._reply(200, b'{"object":"list","data":[{"id":"%b","object":"model"}]}' % wire.MODEL.encode())
        elif self._url == b"/health":
            self._reply(200, b"")
        else:
            self._reply(404, b'{"detail":"Not Found"}')

    def _reply(self, status: int, body: bytes) -> None:
        self._transport.write(REPLY_HEAD % (status, len(body)) + self.fields + b"\r\n" + body)

    def _chat(self, request: ChatRequest) -> None:
        if not request.stream:
            self._reply(200, wire.reply(request.seed))
            return
        usage = request.stream_options is not None and request.stream_options.include_usage
        # The templates are framed with a moment of the right width standing in, so a step is one formatting.
        delta = wire.chunk(wire.delta_template(request.seed) % 0)
        self._delta = delta.replace(b"0" * wire.DIGITS, b"%%0%dd" % wire.DIGITS)
        finish = wire.chunk(wire.finish_template(request.seed, usage=usage) % 0)
        self._finish = finish.replace(b"0" * wire.DIGITS, b"%%0%dd" % wire.DIGITS)
        self._usage = wire.chunk(wire.usage_event(request.seed, request.max_tokens)) if usage else b""
        self._left = request.max_tokens
        self._transport.write(STREAM_HEAD + self.fields + b"\r\n" + wire.chunk(wire.role_event(request.seed)))
        self._pace.join(self)

    def step(self) -> None:
        """Send the next token."""
        self._left -= 1
        if self._left:
            self._transport.write(self._delta % time.monotonic_ns())
        else:
            self._pace.leave(self)
            self._transport.write(self._finish % time.monotonic_ns())
            self._transport.write(self._usage + END)


async def serve(port: int, interval: float, phase: Phase) -> asyncio.Server:
    """Listen on `port` of the loopback interface (0: any); `interval`: seconds between tokens of a stream."""
    loop = asyncio.get_running_loop()
    slots = 1 if phase == "burst" else max(1, round(interval * 1000))
    pace = Pace(loop, interval, slots)
    return await loop.create_server(lambda: Upstream(pace), "127.0.0.1", port, backlog=4096)


@click.command()
@click.option("--port", required=True, type=int)
@click.option("--interval-ms", default=10.0, help="Between two tokens of a stream.")
@click.option("--phase", type=click.Choice(["spread", "burst"]), default="spread")
def main(port: int, interval_ms: float, phase: Phase) -> None:
    """Serve paced streams until interrupted."""

    async def run() -> None:
        await (await serve(port, interval_ms / 1000, phase)).serve_forever()

    uvloop.run(run())


if __name__ == "__main__":
    main()
