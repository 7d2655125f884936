"""`driftline traffic`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from driftline.simulate.traffic import Tally, Traffic, first_model
from driftline.simulate.workload import PROFILES, SHIFTS, Shift, Workload, known_shift

FULL_CONTEXT = 16_384
"""Context length that holds the profiles' longest prompts, doubled; for shorter ones all lengths shrink."""
PLAIN_EVERY = 5.0
"""Seconds between progress lines where there is no terminal."""

_EPILOG = f"""\b
Profiles:
{"".join(f"  {name:<16}{profile.about}{chr(10)}" for name, profile in PROFILES.items())}
\b
Shifts, as NAME or NAME=SIZE:
{"".join(f"  {name:<16}{shift.about} ({shift.size:g}){chr(10)}" for name, shift in SHIFTS.items())}
\b
Longer prompts, another language and truncation are the same on any server. Refusals and broken
JSON are asked of a simulated upstream with the header x-simulate, and of a model in words: a real
one may not obey (a server that enforces a grammar writes no broken JSON). Errors: simulated only.

\b
Example:
  driftline traffic --target http://127.0.0.1:8080 --rate 20 --shift longer_prompts=2 --after 60
"""


class _Known(click.ParamType[tuple[str, Shift, float]]):
    """A value that a function knows, or says why not."""

    name = "shift"

    def convert(
        self, value: str | tuple[str, Shift, float], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Shift, float]:
        if not isinstance(value, str):
            return value
        try:
            return (value, *known_shift(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _url(_: click.Context, __: click.Parameter, value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise click.BadParameter(f"{value!r} is not a server: write http://host:port")
    return value


class Plan(msgspec.Struct, kw_only=True):
    """What the options say, by their names."""

    target: str
    profile: str
    shifts: tuple[tuple[str, Shift, float], ...]
    after: float
    rate: float
    duration: float | None
    day: float
    seed: int
    model: str | None
    scale: float | None
    max_tokens: int | None
    concurrency: int
    as_json: bool


_positive = click.FloatRange(min=0, min_open=True)


@click.command(epilog=_EPILOG)
@click.option(
    "--target", required=True, metavar="URL", callback=_url, help="A server, or the sidecar before it."
)
@click.option("--profile", type=click.Choice(list(PROFILES)), default="chat", show_default=True)
@click.option(
    "--shift", "shifts", type=_Known(), multiple=True, metavar="NAME[=SIZE]", help="May be repeated."
)
@click.option("--after", type=click.FloatRange(min=0), default=0.0, help="Seconds before the shift begins.")
@click.option(
    "--rate", type=_positive, default=10.0, show_default=True, help="Requests a second, on average."
)
@click.option("--duration", type=_positive, help="Seconds; without it, until Ctrl-C.")
@click.option(
    "--day", type=click.FloatRange(min=0), default=0.0, help="Seconds in which the rate swings once."
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed asks the same.")
@click.option("--model", help="Without it, the first one that the server lists.")
@click.option(
    "--scale", type=_positive, help="Multiplies all lengths; without it, they fit the model's context."
)
@click.option("--max-tokens", type=click.IntRange(min=1), help="Bounds every reply.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=512, show_default=True, help="Most in flight."
)
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
def command(**options: Any) -> None:
    """Send synthetic traffic to an OpenAI-compatible server, and let it shift.

    Exits 0 where at least one request was answered, and 1 where none was.
    """
    plan = Plan(**options)
    try:
        summary = asyncio.run(_send(plan))
    except ConnectionError as error:
        raise click.ClickException(str(error)) from None
    if plan.as_json:
        click.echo(json.dumps(summary))
    else:
        for name, value in summary.items():
            click.echo(f"{name.replace('_', ' '):<16}{_words(value)}")
    if not summary["ok"]:
        sys.exit(1)


async def _send(plan: Plan) -> dict[str, Any]:
    model, scale = await _fitted(plan)
    workload = Workload(
        PROFILES[plan.profile], model=model, seed=plan.seed, scale=scale, most_tokens=plan.max_tokens or 0
    )
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(
        f"{plan.profile} traffic to {plan.target}, model {model}, {plan.rate:g} requests/s", highlight=False
    )
    if scale != 1:
        console.print(
            f"all lengths times {scale:.3g}, so that the longest fit the model's context", highlight=False
        )
    started = time.monotonic()
    async with Traffic(
        plan.target, workload, rate=plan.rate, seed=plan.seed, day=plan.day, concurrency=plan.concurrency
    ) as traffic:
        work = asyncio.create_task(_sending(plan, traffic, console))
        show = asyncio.create_task(_showing(traffic.tally, console, started))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, work.cancel)
        with suppress(asyncio.CancelledError):
            await work
        show.cancel()
        await asyncio.wait([show])
        took = time.monotonic() - started
        return _summary(traffic.tally, took)


async def _fitted(plan: Plan) -> tuple[str, float]:
    """The model's name, and the factor by which lengths shrink to fit its context."""
    if plan.model is not None and plan.scale is not None:
        return plan.model, plan.scale
    served = await first_model(plan.target)
    fits = 1.0 if served.max_model_len is None else min(1.0, served.max_model_len / FULL_CONTEXT)
    return plan.model or served.id, plan.scale or fits


async def _sending(plan: Plan, traffic: Traffic, console: Console) -> None:
    end = plan.duration if plan.duration is not None else float("inf")
    if plan.shifts:
        await traffic.run(min(plan.after, end))
        if plan.after < end:
            traffic.workload.shifts = [(shift, size) for _, shift, size in plan.shifts]
            words = ", ".join(f"{word} ({shift.about})" for word, shift, _ in plan.shifts)
            console.print(f"shift: {words}")
    await traffic.run(end)
    await traffic.drain()


async def _showing(tally: Tally, console: Console, started: float) -> None:
    """The counts so far: one line that changes on a terminal, a line now and then elsewhere."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(PLAIN_EVERY)
            console.print(_progress(tally, time.monotonic() - started))
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(Text(_progress(tally, time.monotonic() - started)), refresh=True)
            await asyncio.sleep(0.25)


def _progress(tally: Tally, took: float) -> str:
    parts = [f"{took:6.0f} s", f"{tally.sent} sent", f"{tally.ok} ok", f"{tally.in_flight} in flight"]
    parts += [f"{count} {kind}" for kind, count in sorted(tally.failed.items())]
    return "   ".join(parts)


def _summary(tally: Tally, took: float) -> dict[str, Any]:
    counts = msgspec.to_builtins(tally)
    rates = {"seconds": round(took, 1), "requests_per_second": round(tally.sent / took, 1)}
    return {**rates, **counts}


def _words(value: float | dict[str, int]) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} {kind}" for kind, count in sorted(value.items())) or "0"
    return f"{value:,}"
