"""The load generator: closed loops of streams or of plain requests, every byte of every reply checked.

    python -m benchmarks.load --target 127.0.0.1:8000 streams --streams 192 --requests 3 --tokens 128
    python -m benchmarks.load --target 127.0.0.1:8000 requests --connections 64 --seconds 3

Prints one JSON object, a `StreamResult` or a `RequestResult`.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import math
import random
import statistics
import time
from typing import NamedTuple, cast

import click
import httptools
import msgspec
import numpy as np
import uvloop

from benchmarks import wire

THINK = 0.02
"""Seconds a stream's client waits at most before its next request, so that requests do not come in step."""


class Quantiles(msgspec.Struct):
    """Of times in milliseconds."""

    p50: float
    p90: float
    p99: float
    p999: float

    @classmethod
    def of(cls, nanoseconds: list[int]) -> Quantiles:
        """Not-a-number where there are no times."""
        if not nanoseconds:
            return cls(*[math.nan] * 4)
        return cls(*(np.quantile(nanoseconds, [0.5, 0.9, 0.99, 0.999]) / 1e6).tolist())


class StreamResult(msgspec.Struct):
    asked: int
    complete: int
    """Streams that arrived whole and byte-exact; the others are in `faults`."""
    faults: dict[str, int]
    tokens: int
    """Token events that arrived in complete streams."""
    seconds: float
    connections: int
    """Opened; more than streams where the other side closed some."""
    reads_per_token: float
    """Socket reads of the client per token event: below one where events were joined on the way."""
    interval_ms: float
    """Mean between two tokens as the upstream sent them: where longer than asked, the rig was the limit."""
    first_token: Quantiles
    """From sending the request to its first event. The upstream answers at once: all of it is added."""
    token: Quantiles
    """From the upstream writing an event to the client reading it, one way."""


class RequestResult(msgspec.Struct):
    complete: int
    """Replies that arrived whole and byte-exact; the others are in `faults`."""
    faults: dict[str, int]
    seconds: float
    connections: int
    latency: Quantiles


class Answer(NamedTuple):
    asked_at: int
    """Nanoseconds, monotonic."""
    status: int
    body: bytes
    reads: list[tuple[int, int]]
    """For each piece of the body: its size, and when it was read."""


class Client(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, host: str) -> None:
        self._head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        )
        self._answer: asyncio.Future[Answer] | None = None
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, body: bytes) -> asyncio.Future[Answer]:
        """The answer to a request with `body`; fails with `ConnectionError` where none comes to an end."""
        self._answer = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._reads: list[tuple[int, int]] = []
        self._asked_at = time.monotonic_ns()
        self._transport.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic_ns()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)
        self._reads.append((len(data), self._now))

    def on_message_complete(self) -> None:
        self.usable = self._parser.should_keep_alive()
        answer = Answer(self._asked_at, self._parser.get_status_code(), b"".join(self._pieces), self._reads)
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionError("closed in the middle of an answer"))

    def _fail(self, error: Exception) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def close(self) -> None:
        self._transport.close()


class Target:
    """Where requests go. Hands out connections, counts them and what went wrong."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self.connections = 0
        self.faults: collections.Counter[str] = collections.Counter()

    async def connect(self) -> Client | None:
        """A new connection; None, and a fault counted, where none is accepted."""
        loop = asyncio.get_running_loop()
        try:
            _, client = await loop.create_connection(lambda: Client(self._address), self._host, self._port)
        except OSError as error:
            self.faults[type(error).__name__] += 1
            return None
        self.connections += 1
        return client

    async def ask(self, client: Client | None, body: bytes) -> tuple[Client | None, Answer | None]:
        """The answer to `body`, and the connection to use for the next request.

        A request that gets no answer is counted as a fault, and not tried again.
        """
        if client is None or not client.usable:
            client = await self.connect()
        if client is None:
            return None, None
        try:
            return client, await client.ask(body)
        except ConnectionError:
            self.faults["broken off"] += 1
        except httptools.HttpParserError:
            self.faults["not HTTP"] += 1
        client.close()
        return None, None


async def run_streams(
    address: str, *, streams: int, requests: int, tokens: int, ramp: float = 0.0
) -> StreamResult:
    """`streams` clients at once, each asking for `requests` streams of `tokens` tokens in a row.

    They begin at random moments of the first `ramp` seconds, so that they end at random moments too.
    """
    target = Target(address)
    answers: list[tuple[int, Answer]] = []
    delays = random.Random(0)

    async def one(stream: int, client: Client | None) -> None:
        await asyncio.sleep(delays.uniform(0, ramp))
        for request in range(stream * requests, (stream + 1) * requests):
            await asyncio.sleep(delays.uniform(0, THINK))
            client, answer = await target.ask(client, wire.request_body(request, tokens=tokens, stream=True))
            if answer is not None:
                answers.append((request, answer))
        if client is not None:
            client.close()

    # Connecting first keeps the rush of it out of the first streams' times.
    clients = [await target.connect() for _ in range(streams)]
    begin = time.monotonic()
    await asyncio.gather(*[one(stream, client) for stream, client in enumerate(clients)])
    return judge(answers, target, asked=streams * requests, tokens=tokens, seconds=time.monotonic() - begin)


def judge(
    answers: list[tuple[int, Answer]], target: Target, *, asked: int, tokens: int, seconds: float
) -> StreamResult:
    """Check every answer against what the upstream must have said; take the times of those that hold."""
    first_token: list[int] = []
    token: list[int] = []
    intervals: list[float] = []
    complete = reads = 0
    for request, answer in answers:
        expected = wire.Expected(request, tokens)
        moments = expected.check(answer.body) if answer.status == 200 else f"status {answer.status}"
        if isinstance(moments, str):
            target.faults[moments] += 1
            continue
        complete += 1
        reads += len({at for _, at in answer.reads})
        received = np.cumsum([size for size, _ in answer.reads])
        arrivals = [
            answer.reads[i][1] for i in np.searchsorted(received, [expected.first_size, *expected.ends])
        ]
        first_token.append(arrivals[0] - answer.asked_at)
        token += [arrival - moment for arrival, moment in zip(arrivals[1:], moments, strict=True)]
        intervals.append((moments[-1] - moments[0]) / max(1, tokens - 1) / 1e6)
    return StreamResult(
        asked=asked,
        complete=complete,
        faults=dict(target.faults),
        tokens=complete * tokens,
        seconds=seconds,
        connections=target.connections,
        reads_per_token=reads / max(1, complete * tokens),
        interval_ms=statistics.fmean(intervals) if intervals else math.nan,
        first_token=Quantiles.of(first_token),
        token=Quantiles.of(token),
    )


async def run_requests(address: str, *, connections: int, seconds: float) -> RequestResult:
    """`connections` clients at once, each asking for one plain reply after the other for `seconds`."""
    target = Target(address)
    latencies: list[int] = []

    async def one(number: int) -> None:
        client = None
        body, expected = wire.request_body(number, tokens=40, stream=False), wire.reply(number)
        while time.monotonic() < end:
            client, answer = await target.ask(client, body)
            if answer is None:
                await asyncio.sleep(THINK)
            elif answer.status != 200:
                target.faults[f"status {answer.status}"] += 1
            elif answer.body != expected:
                target.faults["altered"] += 1
            else:
                latencies.append(time.monotonic_ns() - answer.asked_at)
        if client is not None:
            client.close()

    begin = time.monotonic()
    end = begin + seconds
    await asyncio.gather(*[one(number) for number in range(connections)])
    return RequestResult(
        complete=len(latencies),
        faults=dict(target.faults),
        seconds=time.monotonic() - begin,
        connections=target.connections,
        latency=Quantiles.of(latencies),
    )


@click.group()
@click.option("--target", required=True, help="host:port of the server or proxy.")
@click.pass_context
def main(context: click.Context, target: str) -> None:
    """Put load on a server and check every byte it answers."""
    context.obj = target
    gc.disable()  # a run is short, and a collection in the middle would be read as latency


@main.command()
@click.option("--streams", default=192, help="At once.")
@click.option("--requests", default=3, help="By each stream's client, one after the other.")
@click.option("--tokens", default=128, help="Of each stream.")
@click.option("--ramp", default=0.0, help="Seconds in which the clients begin.")
@click.option("--timeout", default=300.0, help="Seconds for all of it.")
@click.pass_obj
def streams(target: str, streams: int, requests: int, tokens: int, ramp: float, timeout: float) -> None:
    """Streams, paced by the upstream."""
    run = run_streams(target, streams=streams, requests=requests, tokens=tokens, ramp=ramp)
    report(uvloop.run(asyncio.wait_for(run, timeout)))


@main.command()
@click.option("--connections", default=64, help="At once.")
@click.option("--seconds", default=3.0, help="To go on for.")
@click.pass_obj
def requests(target: str, connections: int, seconds: float) -> None:
    """Plain requests, as many as get through."""
    run = run_requests(target, connections=connections, seconds=seconds)
    report(uvloop.run(asyncio.wait_for(run, seconds + 60)))


def report(result: StreamResult | RequestResult) -> None:
    """Print `result`, or fail where it holds no figure."""
    if not result.complete:
        raise click.ClickException(f"nothing arrived whole: {result.faults}")
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
