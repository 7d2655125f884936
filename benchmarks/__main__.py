"""Measure the sidecar beside its peers: `make bench`, or `python -m benchmarks --help`."""

from __future__ import annotations

import datetime as dt
import platform
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import psutil
from rich.console import Console
from rich.progress import Progress

from benchmarks import loads, recorded, report, summary, turn
from benchmarks.machine import LINUX, Cores
from benchmarks.peers import Peer
from benchmarks.peers.direct import Direct
from benchmarks.peers.driftline import Driftline
from benchmarks.peers.litellm import LiteLlm
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.portkey import Portkey
from benchmarks.peers.splice import Splice
from benchmarks.peers.vllm_router import VllmRouter

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Direct(),
        Nginx(),
        Splice(),
        VllmRouter(),
        LiteLlm(),
        Portkey(),
        Driftline("driftline local", "metrics, drift", exporting=False),
        Driftline("driftline", "spans with content too", exporting=True),
        Driftline("driftline ×2", "spans with content too", exporting=True, relays=2),
        Driftline("driftline ×4", "spans with content too", exporting=True, relays=4),
    )
}


@click.command()
@click.option(
    "--scenario",
    "scenarios",
    type=click.Choice(list(loads.SCENARIOS)),
    multiple=True,
    help="Some of it; may be given several times.",
)
@click.option("--quick", is_flag=True, help="One short round: whether it works, hardly how fast.")
@click.option("--peers", help=f"Some of: {', '.join(PEERS)}.")
@click.option("--rounds", type=click.IntRange(1), help="Of every load, instead of its own number.")
@click.option("--speed", default=1.0, help="Of the recorded pace; 1 is as recorded.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(__file__).parent / "results",
    help="Folder for the JSON file of this run.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON instead of tables.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
def main(
    *,
    scenarios: tuple[str, ...],
    quick: bool,
    peers: str | None,
    rounds: int | None,
    speed: float,
    results: Path,
    as_json: bool,
    markdown: bool,
) -> None:
    """Measure CPU per streamed chunk and per request, added latency and memory of each proxy.

    Example: python -m benchmarks --scenario recorded --peers direct,nginx,driftline --rounds 3
    """
    # What was started is ended on the way out, which a signal's default action would skip.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    console = Console(stderr=as_json or markdown)
    if not console.is_terminal:
        console.width = report.WIDTH
    wanted = playable(scenarios or tuple(loads.SCENARIOS), console)
    chosen = loads.chosen(wanted, quick=quick, speed=speed)
    taking = {peer: loads.taken_by(peer.name, wanted) for peer in select(peers, wanted, console)}
    times = {name: rounds or (1 if quick else loads.ROUNDS.get(name, 1)) for name in chosen}
    seen = measure(taking, chosen, times, Cores.of_this_machine(), speed, console)
    document = msgspec.json.format(msgspec.json.encode(outcome(seen, times, speed)), indent=1)
    results.mkdir(parents=True, exist_ok=True)
    file = results / f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H%M%SZ}.json"
    file.write_bytes(document)
    if as_json:
        print(document.decode())
        return
    for grid in report.grids(summary.summarise(seen), [name for name, peer in PEERS.items() if peer.slow]):
        if markdown:
            print(grid.markdown())
        else:
            console.print(grid.rich())
    for warning in summary.warnings(seen):
        console.print(f"[yellow]{warning}")
    console.print(f"All figures: {file}")


def playable(scenarios: Sequence[str], console: Console) -> list[str]:
    """Those of `scenarios` whose recordings are there; says which are not."""
    need = {name for name in scenarios if set(loads.SCENARIOS[name]) - set(loads.FULL)}
    if not need or not (what := recorded.missing()):
        return list(scenarios)
    console.print(f"[yellow]{', '.join(sorted(need))} left out: {what}")
    if not (left := [name for name in scenarios if name not in need]):
        raise click.ClickException("nothing is left to measure")
    return left


def outcome(rounds: Sequence[summary.Round], times: dict[str, int], speed: float) -> dict[str, Any]:
    """Everything that was measured, and what it depends on."""
    return {
        "machine": describe_machine(),
        "rounds_of": times,
        "speed": speed,
        "summaries": summary.summarise(rounds),
        "warnings": summary.warnings(rounds),
        "rounds": rounds,
    }


def select(names: str | None, scenarios: Sequence[str], console: Console) -> list[Peer]:
    """The peers called `names` (comma-separated; None: all) that have a part in `scenarios` and are installed.

    Says which are not installed.
    """
    wanted = names.split(",") if names else list(PEERS)
    if unknown := [name for name in wanted if name not in PEERS]:
        raise click.BadParameter(f"{', '.join(unknown)}: not one of {', '.join(PEERS)}", param_hint="--peers")
    taking = [PEERS[name] for name in wanted if loads.taken_by(name, scenarios)]
    if not taking:
        raise click.BadParameter(f"{names}: no part in {', '.join(scenarios)}", param_hint="--peers")
    for peer in taking:
        if what := peer.missing():
            console.print(f"[yellow]{peer.name} is left out. To install it: {what}")
    return [peer for peer in taking if not peer.missing()]


def measure(
    taking: Mapping[Peer, Sequence[str]],
    chosen: Mapping[str, loads.Load],
    times: Mapping[str, int],
    cores: Cores,
    speed: float,
    console: Console,
) -> list[summary.Round]:
    """Every peer of `taking` in turn, under the loads named there, each as often as `times` says."""
    if cores.proxy:
        console.print(f"The proxy runs on core {cores.proxy[0]}, everything else on {list(cores.rig)}.")
    else:
        console.print("[yellow]Nothing is pinned to cores here: figures depend on what else runs.")
    plan = [
        (number, peer, now)
        for number in range(max(times.values()))
        for peer, names in taking.items()
        if (
            now := {
                name: load_for(peer, name, chosen) for name in names if number < times_of(peer, times[name])
            }
        )
    ]
    rounds: list[summary.Round] = [{} for _ in range(max(times.values()))]
    with (
        tempfile.TemporaryDirectory(prefix="driftline-bench-") as scratch,
        Progress(console=console) as progress,
    ):
        task = progress.add_task("", total=len(plan))
        for number, peer, now in plan:
            progress.update(task, description=f"round {number + 1}, {peer.name}: {', '.join(now)}")
            directory = Path(scratch) / f"{number}-{peer.name.replace(' ', '-')}"
            directory.mkdir()
            rounds[number][peer.name] = turn.take(peer, now, cores, directory, speed)
            progress.advance(task)
    return rounds


def load_for(peer: Peer, name: str, chosen: Mapping[str, loads.Load]) -> loads.Load:
    return loads.SLOW[name] if peer.slow else chosen[name]


def times_of(peer: Peer, times: int) -> int:
    """A slow peer is looked at once: it takes half a minute to start, and is far from the others."""
    return 1 if peer.slow else times


def describe_machine() -> dict[str, str | int | None]:
    """What the figures depend on."""
    model = platform.processor()
    if LINUX:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model
        )
    return {
        "cpu": model,
        "cores": psutil.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
