"""What the relay's own code takes, without sockets: `python -m benchmarks.relay`.

The real connections between transports that write nowhere, and the smallest of many times: what is left is Python,
warm, and the machine's other work hardly shows. Add the system calls to it (the bare splice of `make bench` is made of
little else), and caches that are cold, to come to what a relay takes.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Callable
from typing import Any

import click
import msgspec
import uvloop

from benchmarks import wire
from driftline.relay.channel import Channel
from driftline.relay.client import ClientConnection
from driftline.relay.counters import Block
from driftline.relay.server import Relay
from driftline.relay.settings import DataPlane, Endpoint, Limits, Pool, RelaySettings, Timeouts
from driftline.relay.upstream import UpstreamConnection

TOKENS = 128
REQUEST_HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: application/json\r\n"
    b"Accept-Encoding: gzip, deflate\r\nUser-Agent: OpenAI/Python 2.0.0\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer none\r\nX-Stainless-Lang: python\r\nX-Stainless-Retry-Count: 0\r\n"
    b"X-Stainless-Async: false\r\nContent-Length: %d\r\n\r\n"
)
"""As an official client sends it."""
RESPONSE_HEAD = b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 12:00:00 GMT\r\nserver: uvicorn\r\n"


class Figures(msgspec.Struct):
    """Microseconds, of the quickest round."""

    request: float
    """A plain request and its reply of 700 bytes each."""
    stream: float
    """A whole stream of `TOKENS` chunks."""
    chunk: float
    """One of its chunks."""


class Nowhere(asyncio.Transport):
    """A transport that is always ready, and forgets."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})

    def write(self, data: Any) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Rig:
    """One client's connection, one upstream's, and the relay between them."""

    def __init__(self) -> None:
        self._quiet = socket.socketpair()
        block, self._counters = Block.create()
        row = block.allocate(1)
        self._channel = Channel("", row)
        self._channel.connection_made(self._transport())
        settings = DataPlane(
            pools=[Pool(endpoints=[Endpoint(url="http://127.0.0.1:8000")])],
            relay=RelaySettings(),
            limits=Limits(),
            timeouts=Timeouts(),
            sampler={},
        )
        relay = Relay(settings, self._channel, row, probing=False)
        self._client = ClientConnection(relay)
        self._client.connection_made(self._transport())
        (endpoint,) = relay.router.endpoints
        self._upstream = UpstreamConnection(endpoint)
        self._upstream.connection_made(self._transport())
        endpoint.keep(self._upstream)
        self._row = row

    def _transport(self) -> Nowhere:
        return Nowhere(self._quiet[0])

    def request(self) -> None:
        self._client.data_received(REQUEST)
        self._upstream.data_received(REPLY)

    def stream(self) -> float:
        """The seconds its middle took."""
        self._client.data_received(STREAM_REQUEST)
        self._upstream.data_received(STREAM_BEGIN)
        began = time.perf_counter()
        for delta in DELTAS:
            self._upstream.data_received(delta)
        took = time.perf_counter() - began
        for event in STREAM_END:
            self._upstream.data_received(event)
        return took

    @property
    def complete(self) -> int:
        return self._row["outcome.complete"]


def _request(*, stream: bool) -> bytes:
    body = wire.request_body(1, tokens=TOKENS, stream=stream)
    return REQUEST_HEAD % len(body) + body


REQUEST, STREAM_REQUEST = _request(stream=False), _request(stream=True)
REPLY = b"%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    RESPONSE_HEAD,
    len(wire.reply(1)),
    wire.reply(1),
)
STREAM_BEGIN = b"%bcontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n%b" % (
    RESPONSE_HEAD,
    wire.chunk(wire.role_event(1)),
)
DELTAS = [wire.chunk(wire.delta_template(1) % moment) for moment in range(TOKENS - 1)]
STREAM_END = [
    wire.chunk(wire.finish_template(1, usage=True) % TOKENS),
    wire.chunk(wire.usage_event(1, TOKENS)),
    wire.chunk(wire.DONE) + b"0\r\n\r\n",
]


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


async def measure(rounds: int) -> Figures:
    """Raises `AssertionError` where not every request was relayed."""
    rig = Rig()
    # As a relay does once it is up.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)
    best = Figures(*[float("inf")] * 3)
    for _ in range(rounds):
        best.request = min(best.request, *[_timed(rig.request) for _ in range(20)])
        middle: list[float] = []
        best.stream = min(best.stream, _timed(lambda: middle.append(rig.stream())))  # noqa: B023  # called at once
        best.chunk = min(best.chunk, middle[0] / len(DELTAS))
        await asyncio.sleep(0.006)  # the channel gathers records for 5 ms
    assert rig.complete == rounds * 21
    return Figures(*[seconds * 1e6 for seconds in msgspec.structs.astuple(best)])


@click.command()
@click.option("--rounds", default=200, show_default=True, type=click.IntRange(1))
def main(rounds: int) -> None:
    """Measure what the relay's own code takes for a request, a stream and a chunk."""
    figures = uvloop.run(measure(rounds))
    for name, microseconds in msgspec.structs.asdict(figures).items():
        print(f"{name:10}{microseconds:8.2f} µs")


if __name__ == "__main__":
    main()
