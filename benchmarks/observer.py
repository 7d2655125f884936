"""Where the observer's time goes, stage by stage: recorded exchanges through the real service, spans to a real sink.

    python -m benchmarks.observer --calls 10000

One process and no relay, so that nothing but the observer's own work is measured: CPU time of its thread by stage,
and of the whole process for what has no stage (gathering batches, sending them). Figures are medians of batches of
100 calls, of the quickest of several rounds. In a sidecar every figure is larger, by half or more: calls come one by
one, and find the caches cold.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks import machine, wire
from benchmarks.peers.driftline import otlp_sink
from driftline import dialects
from driftline.exchange import Body, Exchange, decode, encode
from driftline.observer.intake import Intake
from driftline.observer.service import Service
from driftline.relay.counters import Block

BATCH = 100
EXPORTED = 500
"""Spans to a batch of the exporter, about its default; it is waited for, so that its queue is never full."""
SHORT, LONG = 16, 144
"""Tokens of the streams whose difference gives the cost of an event."""
Figures = dict[str, float]
"""Microseconds by stage."""


def record(number: int, tokens: int) -> bytes:
    """What a relay sends of a chat completion: streamed where there are `tokens`."""
    body = stream(number, tokens) if tokens else wire.reply(number)
    request = wire.request_body(number, tokens=tokens or 16, stream=bool(tokens))
    return encode(
        Exchange(
            trace_id=os.urandom(16),
            span_id=os.urandom(8),
            pool="default",
            upstream="127.0.0.1:8000",
            method="POST",
            target="/v1/chat/completions",
            request_headers=[("content-type", "application/json"), ("x-request-id", f"r-{number}")],
            response_headers=[("content-type", "text/event-stream" if tokens else "application/json")],
            request_body=Body(request, b"", len(request)),
            response_body=Body(body, b"", len(body)),
            status=200,
            outcome="complete",
            received_at=time.time_ns(),
            connected=100_000,
            request_sent=200_000,
            first_byte=9_000_000,
            first_content=10_000_000,
            last_content=90_000_000,
            last_byte=91_000_000,
            ended=92_000_000,
            stream=bool(tokens),
            model=wire.MODEL,
            usage="injected" if tokens else "",
            usage_event=wire.usage_event(number, tokens).removeprefix(b"data: ").strip() if tokens else b"",
            reads=tokens + 1,
            overhead_request=150_000,
            overhead_first_byte=30_000,
            overhead_chunks=20_000 * (tokens + 1),
        )
    )


def stream(number: int, tokens: int) -> bytes:
    delta, finish = wire.delta_template(number), wire.finish_template(number, usage=False)
    deltas = [delta % moment for moment in range(tokens - 1)]
    return b"".join((wire.role_event(number), *deltas, finish % tokens, wire.DONE))


class Stopwatch:
    """CPU time of this thread by stage."""

    def __init__(self) -> None:
        self.batches: dict[str, list[float]] = {}
        self.total = 0.0

    def time(self, stage: str, work: Callable[[Any], Any], batch: list[Any]) -> list[Any]:
        begun = time.thread_time()
        results = [work(one) for one in batch]
        spent = time.thread_time() - begun
        self.batches.setdefault(stage, []).append(spent / BATCH * 1e6)
        self.total += spent
        return results


async def measure(service: Service, tokens: int, calls: int) -> Figures:
    """Of `calls` calls, each passing all stages once."""
    watch, spent = Stopwatch(), 0.0
    for first in range(0, calls, BATCH):
        records = [record(number, tokens) for number in range(first, first + BATCH)]
        begun = time.process_time()
        calls_found = watch.time("dialect", dialects.read, watch.time("record", decode, records))
        for name, observe in service.observers:
            watch.time(name, observe, calls_found)
        if (first + BATCH) % EXPORTED == 0 or first + BATCH == calls:
            await sent(service)
        spent += time.process_time() - begun
    figures = {stage: statistics.median(times) for stage, times in watch.batches.items()}
    figures["export"] = (spent - watch.total) / calls * 1e6
    return figures | {"all": sum(figures.values())}


async def sent(service: Service) -> None:
    """Until no span is on its way."""
    while (spans := service.health()["spans"])["made"] > spans["exported"] + sum(spans["dropped"].values()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # asking takes CPU time too


async def run(calls: int, rounds: int) -> dict[str, Figures]:
    """By load. Rounds take turns, and the quickest of each load counts."""
    with tempfile.TemporaryDirectory() as directory:
        config = {
            "state_dir": directory,
            "prices": [{"model": wire.MODEL, "input": 1, "output": 2}],
            "capture": {"content": True},
        }
        service = Service(config, Intake(Block.create()[0]))
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        loads = {"plain": 0, f"{SHORT} tokens": SHORT, f"{LONG} tokens": LONG}
        found: dict[str, list[Figures]] = {load: [] for load in loads}
        for _ in range(rounds):
            for load, tokens in loads.items():
                found[load].append(await measure(service, tokens, calls))
        await service.stop()
    best = {load: min(figures, key=lambda one: one["all"]) for load, figures in found.items()}
    short, long = best[f"{SHORT} tokens"], best[f"{LONG} tokens"]
    return best | {"an event": {stage: (long[stage] - short[stage]) / (LONG - SHORT) for stage in long}}


@click.command()
@click.option("--calls", default=2000, type=click.IntRange(BATCH), help="Of each load, in each round.")
@click.option("--rounds", default=5, type=click.IntRange(1), help="The quickest counts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(calls: int, rounds: int, *, as_json: bool) -> None:
    """Measure the observer's CPU per call and per streamed event, by stage.

    Example: python -m benchmarks.observer --calls 10000 --rounds 3
    """
    with tempfile.TemporaryDirectory() as directory, otlp_sink(machine.Cores((), ()), Path(directory)) as url:
        # As the sidecar is configured: by the standard variables. What is left of a batch is not waited for.
        os.environ |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(EXPORTED),
            "OTEL_BSP_SCHEDULE_DELAY": "20",
        }
        figures = uvloop.run(run(calls - calls % BATCH, rounds))
    if as_json:
        click.echo(json.dumps(figures))
        return
    table = Table("µs", *figures, title="CPU of the observer", title_justify="left")
    for stage in figures["plain"]:
        table.add_row(
            stage, *(f"{one[stage]:.2f}" for one in figures.values()), end_section=stage == "export"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
