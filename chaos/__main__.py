"""Kill the parts of a sidecar under load: `make chaos`, or `python -m chaos --help`."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from benchmarks import machine
from benchmarks.peers.driftline import fetch, otlp_sink
from chaos import books, judge, report
from chaos.ledger import Done, Ledger, Traffic
from chaos.load import PATIENCE
from chaos.rig import Hand, Sidecar, Upstream
from chaos.schedule import schedule

WIDTH = 100
"""Columns of the tables where there is no terminal to ask."""


class Document(msgspec.Struct):
    """The file of a run."""

    problems: list[str]
    figures: dict[str, report.Cells]
    ledger: Ledger


@click.command()
@click.option("--seconds", default=600.0, help="Of traffic.", type=click.FloatRange(10))
@click.option("--seed", type=int, help="Of the schedule and of the traffic; random unless given.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(__file__).parent / "results",
    help="Folder for the JSON file of this run.",
)
@click.option(
    "--again",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Kill nothing: judge the run in this file once more.",
)
def main(seconds: float, seed: int | None, results: Path, again: Path | None) -> None:
    """Kill observer, relays and upstream under load; exit 1 unless every promise held.

    Example: python -m chaos --seconds 60 --seed 7
    """
    # What was started is ended on the way out, which a signal's default action would skip.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    if again is not None:
        sys.exit(verdict(msgspec.json.decode(again.read_bytes(), type=Document).ledger, console))
    seed = random.randrange(2**32) if seed is None else seed
    console.print(f"Seed {seed}, {seconds:g} s.", highlight=False)
    file = results / f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H%M%SZ}-{seed}.json"
    results.mkdir(parents=True, exist_ok=True)
    ledger = run(seed, seconds, file.with_suffix(".log"), console)
    document = Document(judge.problems(ledger), report.figures(ledger), ledger)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))
    status = verdict(ledger, console)
    console.print(f"All of it: {file}, and .log is what the sidecar said", highlight=False, soft_wrap=True)
    sys.exit(status)


def verdict(ledger: Ledger, console: Console) -> int:
    """Show what happened and what should not have; the exit status."""
    console.print(report.tables(ledger))
    problems = judge.problems(ledger)
    for problem in problems:
        console.print(f"[red]{escape(problem)}", highlight=False)
    if problems:
        console.print(f"[red]{len(problems)} promises did not hold.", highlight=False)
        return 1
    console.print("Every broken request belonged to a killed process, and the books balance.")
    return 0


def run(seed: int, seconds: float, log: Path, console: Console) -> Ledger:
    """The ledger of one run; what the sidecar says goes to `log`."""
    with contextlib.ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="driftline-chaos-")))
        receiver = running.enter_context(otlp_sink(machine.Cores((), ()), directory))
        upstream = running.enter_context(contextlib.closing(Upstream(directory)))
        upstream.start()
        sidecar = Sidecar(upstream.url, receiver, directory, log, running)
        hand = Hand(upstream, sidecar)
        running.callback(hand.release)
        traffic = running.enter_context(contextlib.closing(Clients(sidecar.data, seconds, seed, directory)))
        steps = disturb(hand, seed, seconds, receiver, console)
        seen = traffic.wait(seconds)
        account = books.settled(sidecar.admin)
        return Ledger(
            seed=seed,
            seconds=seconds,
            steps=steps,
            traffic=seen,
            books=account,
            spans_received=fetch(f"{receiver}/spans"),
            faults=books.faults(sidecar.log),
        )


class Clients:
    """The process of `chaos.load`."""

    def __init__(self, target: str, seconds: float, seed: int, directory: Path) -> None:
        command = [sys.executable, "-m", "chaos.load", "--target", target]
        command += ["--seconds", str(seconds), "--seed", str(seed)]
        self._file = directory / "traffic.json"
        with self._file.open("wb") as output:
            self._process = subprocess.Popen(command, cwd=machine.ROOT, stdout=output)

    def wait(self, seconds: float) -> Traffic:
        """What they saw. Raises where they failed as a whole."""
        status = self._process.wait(seconds + PATIENCE + machine.DEADLINE)
        if status:
            raise RuntimeError(f"the clients ended with {status}; what they said stands above")
        return msgspec.json.decode(self._file.read_bytes(), type=Traffic)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def disturb(hand: Hand, seed: int, seconds: float, receiver: str, console: Console) -> list[Done]:
    """Do what is on the schedule, when it is time to."""
    begin, done = time.monotonic(), []
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=seconds)
        for step in schedule(seed, seconds):
            while (wait := begin + step.at - time.monotonic()) > 0:
                progress.update(task, completed=time.monotonic() - begin)
                time.sleep(min(wait, 0.5))
            done.append(hand.do(step))
            what = f"{step.at:6.1f} s  {step.do} {step.to}"
            progress.update(task, description=what)
            if not console.is_terminal:
                console.print(what + (f" ({done[-1].skipped})" if done[-1].skipped else ""), highlight=False)
            # Decoded there now and then, so that the receiver does not pile up a whole run.
            fetch(f"{receiver}/spans")
    hand.release()
    return done


if __name__ == "__main__":
    main()
