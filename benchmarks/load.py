"""The load generator: closed loops of streams or of plain requests, every byte of every reply checked.

    python -m benchmarks.load --target 127.0.0.1:8000 streams --model spread-10ms --streams 192 --tokens 128
    python -m benchmarks.load --target 127.0.0.1:8000 requests --connections 64 --seconds 3

Prints one JSON object, a `StreamResult` or a `RequestResult`.
"""

from __future__ import annotations

import functools
import gc
import os
import random
import time
from collections.abc import Iterator

import click
import msgspec

from benchmarks import judge, wire
from benchmarks.client import Answer, Client, Decoded, Loop, Target
from benchmarks.judge import Quantiles, RequestResult, StreamResult
from benchmarks.machine import LINUX
from benchmarks.upstream import FORMS

THINK = 0.02
"""Seconds a stream's client waits at most before its next request, so that requests do not come in step."""


def run_streams(
    target: Target,
    *,
    model: str,
    streams: int,
    requests: int,
    tokens: int,
    ramp: float = 0.0,
    exact: bool = True,
    timeout: float = 300.0,
) -> StreamResult:
    """`streams` clients at once, each asking for `requests` streams of `tokens` tokens in a row.

    They begin at random moments of the first `ramp` seconds, so that they end at random moments too. `exact`:
    whether every byte must be as the upstream wrote it, and not only every token. Raises `TimeoutError`.
    """
    answers: list[tuple[int, Answer]] = []
    delays = random.Random(0)
    loop = Loop()
    clients = [
        Client(
            loop,
            target,
            iter(
                [
                    (n, stream_request(target, model, n, tokens))
                    for n in range(i * requests, (i + 1) * requests)
                ]
            ),
            lambda number, answer: answers.append((number, answer)),
            lambda: delays.uniform(0, THINK),
        )
        for i in range(streams)
    ]
    for client in clients:
        client.connect()
    begin = time.monotonic()
    for client in clients:
        client.begin(begin + delays.uniform(0, max(ramp, THINK)))
    loop.run(timeout)
    check = judge.exact(FORMS.get(model, wire.chat), tokens) if exact else judge.in_substance(tokens)
    return judge.streams(answers, check, target, asked=streams * requests)


def stream_request(target: Target, model: str, number: int, tokens: int) -> bytes:
    """Request `number` for a stream of `model`, of the kind that was recorded where it was."""
    if model in FORMS:
        body = wire.completion_body(number, tokens=tokens, model=model)
        return target.request("/v1/completions", body)
    body = wire.request_body(number, tokens=tokens, stream=True, model=model)
    return target.request("/v1/chat/completions", body)


def run_requests(target: Target, *, connections: int, seconds: float, exact: bool = True) -> RequestResult:
    """`connections` clients at once, each asking for one plain reply after the other for `seconds`."""
    latencies: list[float] = []
    loop = Loop()
    begin = time.monotonic()

    def asking(number: int) -> Iterator[tuple[int, bytes]]:
        request = target.request("/v1/chat/completions", wire.request_body(number, tokens=40, stream=False))
        while time.monotonic() < begin + seconds:
            yield number, request

    def weigh(number: int, answer: Answer) -> None:
        if fault := reply_fault(number, answer, exact=exact):
            target.faults[fault] += 1
        else:
            latencies.append(answer.reads[-1].at - answer.asked_at)

    for number in range(connections):
        Client(loop, target, asking(number), weigh).begin(begin)
    loop.run(seconds + 60)
    return RequestResult(
        complete=len(latencies),
        faults=dict(target.faults),
        seconds=time.monotonic() - begin,
        connections=target.connections,
        latency=Quantiles.of(latencies),
    )


def reply_fault(number: int, answer: Answer, *, exact: bool = True) -> str:
    """What is wrong with the answer to plain request `number`; empty where nothing is."""
    decoded = Decoded.of(answer)
    if decoded.status != 200:
        return f"status {decoded.status}"
    expected = plain_reply(number)
    if exact:
        return "" if decoded.body == expected else "altered"
    return "" if content(decoded.body) == content(expected) else "altered"


plain_reply = functools.lru_cache(maxsize=1024)(wire.reply)


class Message(msgspec.Struct):
    content: str


class Choice(msgspec.Struct):
    message: Message


class Completion(msgspec.Struct):
    choices: list[Choice]


def content(body: bytes) -> list[str] | None:
    """What a reply says; None where it is none."""
    try:
        return [choice.message.content for choice in msgspec.json.decode(body, type=Completion).choices]
    except msgspec.MsgspecError:
        return None


@click.group()
@click.option("--target", required=True, help="host:port of the server or proxy.")
@click.option("--field", "fields", multiple=True, help="A header line of every request.")
@click.option("--exact/--in-substance", default=True, help="Every byte, or what it says.")
@click.pass_context
def main(context: click.Context, target: str, fields: tuple[str, ...], *, exact: bool) -> None:
    """Put load on a server and check every byte it answers."""
    context.obj = Target(target, "".join(f"{field}\r\n" for field in fields)), exact
    gc.disable()  # a run is short, and a collection in the middle would be read as latency
    if LINUX:
        # Reading may wait, as the kernel notes when a chunk came; the upstream's burst on the same core may not.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


@main.command()
@click.option("--model", default="spread-10ms", help="A pace of benchmarks.upstream.")
@click.option("--streams", default=192, help="At once.")
@click.option("--requests", default=2, help="By each stream's client, one after the other.")
@click.option("--tokens", default=128, help="Of each stream.")
@click.option("--ramp", default=0.0, help="Seconds in which the clients begin.")
@click.option("--timeout", default=300.0, help="Seconds for all of it.")
@click.pass_obj
def streams(
    given: tuple[Target, bool],
    model: str,
    streams: int,
    requests: int,
    tokens: int,
    ramp: float,
    timeout: float,
) -> None:
    """Streams, paced by the upstream."""
    target, exact = given
    report(
        run_streams(
            target,
            model=model,
            streams=streams,
            requests=requests,
            tokens=tokens,
            ramp=ramp,
            exact=exact,
            timeout=timeout,
        )
    )


@main.command()
@click.option("--connections", default=64, help="At once.")
@click.option("--seconds", default=3.0, help="To go on for.")
@click.pass_obj
def requests(given: tuple[Target, bool], connections: int, seconds: float) -> None:
    """Plain requests, as many as get through."""
    target, exact = given
    report(run_requests(target, connections=connections, seconds=seconds, exact=exact))


def report(result: StreamResult | RequestResult) -> None:
    """Print `result`, or fail where it holds no figure."""
    if not result.complete:
        raise click.ClickException(f"nothing arrived whole: {result.faults}")
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
