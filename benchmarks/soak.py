"""Whether the sidecar's memory stays flat over very many requests: `make soak`, or `python -m benchmarks.soak --help`.

Nine plain requests to one stream, from users of twenty teams in sessions of their own, telemetry fully on and
exported to a receiver on the same machine. Exits 1 where memory grows, where a reply was not what the upstream
said, where a process was started again, or where time ran out.
"""

from __future__ import annotations

import itertools
import math
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import psutil
from rich.console import Console

from benchmarks import judge, load, machine, turn, wire
from benchmarks.client import Answer, Client, Decoded, Loop, Target
from benchmarks.peers.driftline import Driftline, fetch
from benchmarks.report import WIDTH, Grid

SAMPLES = 100
"""Of memory, evenly over the requests."""
SHOWN = 10
STREAM_EVERY = 10
TOKENS = 16
STREAMS = "spread-2ms"
TEAMS = 20
SESSION = 5
"""Requests of one."""

GROWTH_LIMIT = 0.5
"""MiB per 100,000 requests: five bytes a request."""
NOISE = 2.0
"""MiB: what an allocator keeps or gives back from one moment to the next, whoever asks."""


class Sample(msgspec.Struct, frozen=True):
    requests: int
    """Answered so far."""
    seconds: float
    memory: dict[str, int]
    """Bytes by role of process, shared pages divided by their users."""
    private: int
    """Bytes that are shared with nobody, of all processes."""
    facts: dict[str, float]
    """What the sidecar says of the requests so far."""


class Growth(msgspec.Struct, frozen=True):
    """Of the private memory of all processes together, over the last half.

    Proportional memory moves by megabytes when a stranger who maps the same libraries comes or goes.
    """

    mib: float
    """The median of the last quarter's samples less that of the quarter before."""
    per_100_000: float
    """The same for 100,000 requests: the two medians are a quarter of the requests apart."""

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Growth:
        """Not-a-number where there are fewer than four samples."""
        quarter = len(samples) // 4
        if not quarter:
            return cls(math.nan, math.nan)
        last, before = samples[-quarter:], samples[-2 * quarter : -quarter]
        mib = (
            statistics.median(one.private for one in last) - statistics.median(one.private for one in before)
        ) / 2**20
        apart = statistics.median(one.requests for one in last) - statistics.median(
            one.requests for one in before
        )
        return cls(mib, mib / apart * 100_000)

    @property
    def flat(self) -> bool:
        """Not more than a stray allocation, or so little that a month of it is nothing."""
        return self.mib <= NOISE or self.per_100_000 <= GROWTH_LIMIT


class Soak:
    """The load and the samples taken meanwhile."""

    def __init__(self, target: Target, total: int, rate: float, deadline: float) -> None:
        self._target = target
        self._total = total
        self._rate = rate
        self._deadline = deadline
        self._numbers = itertools.count()
        self._streamed = judge.exact(wire.chat, TOKENS)
        self.done = 0

    def requests(self) -> Iterator[tuple[int, bytes]]:
        """Shared by all clients: each takes the next number."""
        while time.monotonic() < self._deadline and (number := next(self._numbers)) < self._total:
            streamed = number % STREAM_EVERY == 0
            body = wire.request_body(
                number,
                tokens=TOKENS if streamed else 40,
                stream=streamed,
                model=STREAMS if streamed else wire.MODEL,
            )
            session = number // SESSION
            fields = f"x-driftline-team: team-{session % TEAMS}\r\nx-driftline-session: session-{session}\r\n"
            yield number, self._target.request("/v1/chat/completions", body, fields)

    def pause(self, begin: float) -> float:
        """Seconds until the next request is due at the rate."""
        return max(0.0, begin + self.done / self._rate - time.monotonic())

    def weigh(self, number: int, answer: Answer) -> None:
        self.done += 1
        if fault := self._fault(number, answer):
            self._target.faults[fault] += 1

    def _fault(self, number: int, answer: Answer) -> str:
        if number % STREAM_EVERY:
            return load.reply_fault(number, answer)
        decoded = Decoded.of(answer)
        seen = self._streamed(number, decoded) if decoded.status == 200 else f"status {decoded.status}"
        return seen if isinstance(seen, str) else ""


def soak(
    soaking: Soak, target: Target, connections: int, meter: turn.Meter, total: int, timeout: float
) -> list[Sample]:
    """Put `total` requests through; samples of memory at even distances, the first before any of them."""
    loop, begin = Loop(), time.monotonic()

    def sample() -> Sample:
        private = sum(
            machine.private_bytes(pid) for pid in (meter.running.proxy | meter.running.beside).values()
        )
        return Sample(soaking.done, time.monotonic() - begin, meter.memory(), private, meter.running.facts())

    samples = [sample()]

    def look() -> None:
        if soaking.done >= len(samples) * total / SAMPLES:
            samples.append(sample())
        if clients_left():
            loop.at(time.monotonic() + 0.1, look)

    requests = soaking.requests()
    clients = [
        Client(loop, target, requests, soaking.weigh, lambda: soaking.pause(begin))
        for _ in range(connections)
    ]

    def clients_left() -> bool:
        return any(client.connected for client in clients)

    for client in clients:
        client.connect()
        client.begin(begin)
    loop.at(begin, look)
    loop.run(timeout + 60)
    meter.settle()
    return [*samples, sample()]


def restarted(admin: str) -> list[str]:
    """Processes that were started again."""
    processes: list[dict[str, Any]] = fetch(f"{admin}/healthz")["processes"]
    return [f"{process['role']}: {process['restarts']}" for process in processes if process["restarts"]]


def table(samples: Sequence[Sample]) -> Grid:
    """Ten of the samples, and the last one."""
    roles = list(samples[0].memory)
    shown = [*samples[:: max(1, len(samples) // SHOWN)][:SHOWN], samples[-1]]
    facts = [name for name in samples[-1].facts if name != "requests"]
    rows = [
        [f"{one.requests:,}", f"{one.seconds:,.0f}"]
        + [f"{one.memory[role] / 2**20:.1f}" for role in roles]
        + [
            f"{sum(one.memory.values()) / 2**20:.1f}",
            f"{one.private / 2**20:.1f}",
            *[f"{one.facts[name] - samples[0].facts[name]:,.0f}" for name in facts],
        ]
        for one in shown
    ]
    return Grid(
        "Memory (proportional set size, MiB)", ["requests", "s", *roles, "all", "private", *facts], rows
    )


def verdict(
    samples: Sequence[Sample], growth: Growth, total: int, faults: Mapping[str, int], again: Sequence[str]
) -> list[str]:
    """Everything that is wrong; nothing where memory is flat."""
    wrong = []
    if not growth.flat:
        wrong.append(
            f"memory grows: {growth.per_100_000:+.2f} MiB per 100,000 requests (limit {GROWTH_LIMIT})"
        )
    if samples[-1].requests + sum(faults.get(name, 0) for name in ("broken off", "not HTTP")) < total:
        wrong.append(
            f"time ran out after {samples[-1].requests:,} of {total:,} requests: allow more --minutes"
        )
    if faults:
        wrong.append(f"faults: {', '.join(f'{count} {name}' for name, count in faults.items())}")
    if again:
        wrong.append(f"started again: {', '.join(again)}")
    return wrong


@click.command()
@click.option("--requests", "total", default=1_000_000, type=click.IntRange(1000))
@click.option("--rate", default=2000.0, help="Requests per second, at most.")
@click.option("--connections", default=64)
@click.option("--relays", default=1)
@click.option("--minutes", default=30.0, help="After which it ends, done or not.")
@click.option("--json", "as_json", is_flag=True, help="Print all samples as JSON instead of a table.")
def main(*, total: int, rate: float, connections: int, relays: int, minutes: float, as_json: bool) -> None:
    """Put very many requests through the sidecar and see whether its memory stays flat.

    Example: python -m benchmarks.soak --requests 100000
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console.width = WIDTH
    nowhere = machine.Cores((), ())
    peer = Driftline("driftline", "", exporting=True, relays=relays)
    with (
        tempfile.TemporaryDirectory(prefix="driftline-soak-") as scratch,
        turn.mock_upstream(nowhere, Path(scratch)) as upstream,
        peer.start(upstream, nowhere, Path(scratch)) as running,
    ):
        target = Target(running.address)
        soaking = Soak(target, total, rate, time.monotonic() + minutes * 60)
        try:
            samples = soak(soaking, target, connections, turn.Meter(running, nowhere), total, minutes * 60)
        except psutil.NoSuchProcess as error:
            raise click.ClickException(f"a process of the sidecar ended: {error}") from None
        again = restarted(running.admin)
    growth = Growth.of(samples[1:-1])
    wrong = verdict(samples, growth, total, target.faults, again)
    if as_json:
        document = {"samples": samples, "growth": growth, "flat": growth.flat, "wrong": wrong}
        print(msgspec.json.format(msgspec.json.encode(document), indent=1).decode())
    else:
        console.print(table(samples).rich())
        console.print(
            f"Private, last half: {growth.mib:+.2f} MiB, {growth.per_100_000:+.2f} MiB per 100,000 requests. "
            f"Flat is at most {NOISE} MiB, or {GROWTH_LIMIT} MiB per 100,000 requests: "
            f"{'flat' if growth.flat else 'not flat'}."
        )
    if wrong:
        raise click.ClickException("; ".join(wrong))


if __name__ == "__main__":
    main()
