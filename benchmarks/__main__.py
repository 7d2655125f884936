"""Measure the sidecar beside its peers: `make bench`, or `python -m benchmarks --help`."""

from __future__ import annotations

import datetime as dt
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import psutil
from rich.console import Console
from rich.progress import Progress

from benchmarks import report, turn
from benchmarks.machine import LINUX, Cores
from benchmarks.peers import Peer
from benchmarks.peers.direct import Direct
from benchmarks.peers.driftline import Driftline
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.splice import Splice
from benchmarks.peers.vllm_router import VllmRouter

PEERS: list[Peer] = [
    Direct(),
    Nginx(),
    Splice(),
    VllmRouter(),
    Driftline("driftline local", "metrics, drift", exporting=False),
    Driftline("driftline", "spans with content too", exporting=True),
]
WIDTH = 120
"""Columns of the tables where there is no terminal to ask."""
QUICK = turn.Options(rounds=1, requests=1, seconds=1.0)


@click.command()
@click.option("--quick", is_flag=True, help="One short round: whether it works, hardly how fast.")
@click.option("--peers", help=f"Some of: {', '.join(peer.name for peer in PEERS)}.")
@click.option("--rounds", type=click.IntRange(1), help="Turns of each peer; they take turns.")
@click.option("--streams", type=click.IntRange(1), help="At once.")
@click.option("--requests", type=click.IntRange(1), help="By each stream's client, one after the other.")
@click.option("--tokens", type=click.IntRange(2), help="Of each stream.")
@click.option("--interval-ms", type=click.FloatRange(1), help="Between two tokens of a stream.")
@click.option(
    "--phase", type=click.Choice(["spread", "burst"]), help="Streams speak in turn, or all at once."
)
@click.option("--connections", type=click.IntRange(1), help="At once, in the load without streams.")
@click.option("--seconds", type=click.FloatRange(0.1), help="Of the load without streams.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(__file__).parent / "results",
    help="Folder for the JSON file of this run.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON instead of tables.")
def main(
    *, quick: bool, peers: str | None, results: Path, as_json: bool, **chosen: float | str | None
) -> None:
    """Measure CPU per streamed chunk and per request, added latency and memory of each proxy.

    Example: python -m benchmarks --peers direct,nginx,"driftline on" --rounds 5 --phase burst
    """
    # What was started is ended on the way out, which a signal's default action would skip.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console.width = WIDTH
    given = {name: value for name, value in chosen.items() if value is not None}
    options = msgspec.structs.replace(QUICK if quick else turn.Options(), **given)
    rounds = measure(select(peers, console), options, Cores.of_this_machine(), console)
    document = msgspec.json.format(msgspec.json.encode(outcome(rounds, options)), indent=1)
    results.mkdir(parents=True, exist_ok=True)
    file = results / f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H%M%SZ}.json"
    file.write_bytes(document)
    if as_json:
        print(document.decode())
        return
    console.print(*report.tables(report.summarise(rounds)))
    for warning in report.warnings(rounds, options.interval_ms):
        console.print(f"[yellow]{warning}")
    console.print(f"All figures: {file}")


def outcome(rounds: Sequence[report.Round], options: turn.Options) -> dict[str, Any]:
    """Everything that was measured, and what it depends on."""
    return {
        "machine": describe_machine(),
        "options": options,
        "summaries": report.summarise(rounds),
        "warnings": report.warnings(rounds, options.interval_ms),
        "rounds": rounds,
    }


def select(names: str | None, console: Console) -> list[Peer]:
    """The peers called `names` (comma-separated; None: all) that are installed; says which are not."""
    wanted = names.split(",") if names else [peer.name for peer in PEERS]
    known = {peer.name: peer for peer in PEERS}
    if unknown := [name for name in wanted if name not in known]:
        raise click.BadParameter(f"{', '.join(unknown)}: not one of {', '.join(known)}", param_hint="--peers")
    for name in wanted:
        if what := known[name].missing():
            console.print(f"[yellow]{name} is left out. To install it: {what}")
    return [known[name] for name in wanted if not known[name].missing()]


def measure(
    peers: Sequence[Peer], options: turn.Options, cores: Cores, console: Console
) -> list[report.Round]:
    """Every peer in turn, `options.rounds` times."""
    if cores.proxy:
        console.print(f"The proxy runs on core {cores.proxy[0]}, everything else on {list(cores.rig)}.")
    else:
        console.print("[yellow]Nothing is pinned to cores here: figures depend on what else runs.")
    rounds: list[report.Round] = [{} for _ in range(options.rounds)]
    with (
        tempfile.TemporaryDirectory(prefix="driftline-bench-") as scratch,
        Progress(console=console) as progress,
    ):
        task = progress.add_task("", total=options.rounds * len(peers))
        for number, turns in enumerate(rounds, 1):
            for peer in peers:
                progress.update(task, description=f"round {number}, {peer.name}")
                directory = Path(scratch) / f"{number}-{peer.name.replace(' ', '-')}"
                directory.mkdir()
                turns[peer.name] = turn.take(peer, options, cores, directory)
                progress.advance(task)
    return rounds


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
