"""Starts everything, plays the story, ends everything."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live

from driftline.demo.admin import Admin
from driftline.demo.sidecar import Sidecar
from driftline.demo.story import Act, Story
from driftline.demo.view import Facts, LiveView, PlainView
from driftline.listeners import Address, listen
from driftline.simulate.traffic import Traffic
from driftline.simulate.upstream import MODEL, SimulatedUpstream
from driftline.simulate.workload import PROFILES, SHIFTS, Workload

STREAM_INTERVAL = 8
"""Tokens per event, so that a laptop carries the traffic of a busy server."""
TOKENS_PER_STEP = 3.0
"""So that replies end within seconds: until then short ones are over-represented in what is learned."""
SLOT_CALLS, WINDOW_SLOTS, LEARN_SLOTS = 80, 6, 24
_LOOK_SECONDS = 0.5
_FRAME_SECONDS = 0.25
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Options(msgspec.Struct, kw_only=True):
    listen: str
    admin: str
    rate: float
    """Requests a second."""
    seed: int
    longer: float
    """Factor on the length of prompts."""
    once: bool
    """End when the incident has closed."""


def configuration(*, data: str, admin: str, upstream: str, rate: float, folder: Path) -> dict[str, Any]:
    """Of the demo's sidecar: seconds where a real one takes minutes and hours.

    Slots get shorter as the rate gets higher, so that the detector has as many calls to go by at any rate. A
    reference of four windows is the shortest that shows how much windows vary.
    """
    slot = round(1000 * SLOT_CALLS / rate)
    return {
        "listen": data,
        "admin": {"listen": admin},
        "state_dir": str(folder / "state"),
        "pools": [{"endpoints": [{"url": upstream}]}],
        "prices": [
            {
                "model": MODEL,
                "input": 0.15,
                "cached_input": 0.075,
                "output": 0.6,
                "source": "made up for the demo",
            }
        ],
        "drift": {
            "slot": _span(slot),
            "scales": [_span(WINDOW_SLOTS * slot)],
            "learn": _span(LEARN_SLOTS * slot),
            "minimum": 50,
        },
        "timeouts": {"drain": 1},
    }


def _span(milliseconds: int) -> str:
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"


async def perform(options: Options, console: Console) -> int:
    """The demo, until it is over or told to end; the exit status.

    Raises `SidecarError` or `Stuck`, and `OSError` where no port can be had.
    """
    stop = asyncio.Event()
    for number in _ENDINGS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="driftline-") as folder:
        async with _stage(options, console, Path(folder)) as (facts, sidecar, traffic, admin):
            play = asyncio.create_task(_play(options, console, facts, traffic, admin))
            watched = {
                play,
                asyncio.create_task(stop.wait()),
                asyncio.create_task(sidecar.ended()),
                asyncio.create_task(traffic.run()),
            }
            done, rest = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            console.print("ending the traffic, the sidecar and the simulated upstream")
            for task in done:
                task.result()
    return 0


@asynccontextmanager
async def _stage(
    options: Options, console: Console, folder: Path
) -> AsyncIterator[tuple[Facts, Sidecar, Traffic, Admin]]:
    """Everything that runs, started in order and ended in the opposite one."""
    upstream = SimulatedUpstream(
        seed=options.seed, stream_interval=STREAM_INTERVAL, tokens_per_step=TOKENS_PER_STEP
    )
    workload = Workload(PROFILES["mixed"], model=MODEL, seed=options.seed)
    async with upstream.serving() as upstream_url:
        console.print(f"simulated upstream (no model behind it) on {upstream_url}")
        config = configuration(
            data=_free(console, options.listen),
            admin=_free(console, options.admin),
            upstream=upstream_url,
            rate=options.rate,
            folder=folder,
        )
        async with Sidecar(config, folder) as sidecar:
            console.print(f"sidecar on {sidecar.data}, console on {sidecar.admin}/ (Ctrl-C ends everything)")
            facts = Facts(data=sidecar.data, admin=sidecar.admin, rate=options.rate, factor=options.longer)
            async with (
                Admin(sidecar.admin, MODEL) as admin,
                Traffic(sidecar.data, workload, rate=options.rate, seed=options.seed) as traffic,
            ):
                yield facts, sidecar, traffic, admin


def _free(console: Console, wanted: str) -> str:
    """`wanted`, or any other port of the same address where that one is taken."""
    address = Address(wanted)
    try:
        listen(address).close()
    except OSError as error:
        host = f"[{address.host}]" if ":" in address.host else address.host
        console.print(f"{error.strerror}: taking another")
        return f"{host}:0"
    return wanted


async def _play(options: Options, console: Console, facts: Facts, traffic: Traffic, admin: Admin) -> None:
    started = time.monotonic()
    story = Story(started, steady=3, show=4) if options.once else Story(started)
    if not console.is_terminal:
        plain = PlainView(facts, console)
        while not _over(options, story):
            await _look(options, story, facts, traffic, admin)
            plain.show(story.act, time.monotonic() - started)
            await asyncio.sleep(_LOOK_SECONDS)
        return
    live_view = LiveView(facts)
    with Live(console=console, auto_refresh=False) as live:
        while not _over(options, story):
            await _look(options, story, facts, traffic, admin)
            live.update(live_view.render(story.act, time.monotonic() - started), refresh=True)
            await asyncio.sleep(_FRAME_SECONDS)


def _over(options: Options, story: Story) -> bool:
    return options.once and story.act == Act.OVER


async def _look(options: Options, story: Story, facts: Facts, traffic: Traffic, admin: Admin) -> None:
    """One look at what the sidecar says, and what follows from it for the traffic."""
    facts.see(await admin.picture())
    story.next(facts.picture, time.monotonic())
    longer = (SHIFTS["longer_prompts"], options.longer)
    traffic.workload.shifts = [longer] if story.shifted else []
