"""`driftline drift`: the detector over recorded traffic."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from driftline.config import ConfigError, load
from driftline.drift.recording import Recording, RecordingError, seconds
from driftline.drift.reference import Reference
from driftline.drift.replay import Replayed, learn, replay
from driftline.drift.settings import DriftSettings


@click.group()
def command() -> None:
    """Replay recorded traffic through the drift detector."""


@command.command(
    "replay",
    epilog="Example: driftline drift replay --reference last-week.csv --stream today.csv "
    "--column input_tokens=ContextTokens",
)
@click.option(
    "--reference",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Recorded normal traffic, or an exported baseline (.json).",
)
@click.option(
    "--stream",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Recorded traffic to judge: CSV with a header, or JSON lines.",
)
@click.option(
    "--learn",
    metavar="SPAN",
    help="Take the first part of the stream as the reference instead: 30m, or '5000 requests'.",
)
@click.option(
    "--column",
    "mapped",
    metavar="NAME=COLUMN",
    multiple=True,
    help="A feature, timestamp, model, variant, tenant or trace_id that has another name in the files.",
)
@click.option(
    "--changed-at", metavar="TIME", help="Count delays from this time instead of the stream's start."
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Configuration file; its drift section is used.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of tables.")
def replay_command(
    *,
    reference: Path | None,
    stream: Path,
    learn: str | None,
    mapped: tuple[str, ...],
    changed_at: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Judge recorded traffic against a reference and print windows, incidents and their delay.

    Columns have the names of features (input_tokens, output_tokens, ttft, finish_reason, refusal, ...) beside
    `timestamp` (seconds since the epoch or ISO 8601, ascending). `model`, `variant`, `tenant` and `trace_id` are
    optional. An empty cell means that the feature does not apply to the call, `null` that its value is missing.
    """
    if (reference is None) == (learn is None):
        raise click.UsageError(
            "give the normal traffic: either --reference FILE, or --learn SPAN of the stream itself"
        )
    try:
        settings = load(config, os.environ, serving=False).drift
        if learn is not None:
            settings = msgspec.structs.replace(settings, learn=learn)
        changed = None if changed_at is None else _time(changed_at)
        replayed = _Files(settings, _columns(mapped)).replay(reference, stream, changed)
    except (ConfigError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_plain(replayed)), indent=2).decode())
    else:
        _show(replayed, Console())


def _columns(mapped: tuple[str, ...]) -> dict[str, str]:
    columns = {}
    for pair in mapped:
        name, equals, column = pair.partition("=")
        if not (name and equals and column):
            raise click.UsageError(f"--column {pair}: write NAME=COLUMN, such as input_tokens=ContextTokens")
        if name in columns:
            raise click.UsageError(f"--column {name} is given twice; keep one")
        columns[name] = column
    return columns


def _time(written: str) -> float:
    try:
        return seconds(written)
    except ValueError:
        raise click.UsageError(
            f"--changed-at {written}: not a time; write seconds since the epoch or ISO 8601"
        ) from None


class _Files:
    """Reads recordings, showing how far it is on a terminal."""

    def __init__(self, settings: DriftSettings, columns: dict[str, str]) -> None:
        self._settings = settings
        self._columns = columns
        self._now = time.time()

    def replay(self, reference: Path | None, stream: Path, changed_at: float | None) -> Replayed:
        baselines: list[bytes] = []
        of: dict[str, str] = {}
        if reference is not None and reference.suffix == ".json":
            baselines = [reference.read_bytes()]
            try:
                decoded = Reference.decode(baselines[0])
            except ValueError as error:
                raise RecordingError(f"{reference}: {error}") from None
            of = {"model": decoded.model, "variant": decoded.variant}
        elif reference is not None:
            baselines = self._learn(reference)
        with self._reading(stream, **of) as recording:
            return replay(recording, self._settings, baselines=baselines, changed_at=changed_at)

    def _learn(self, path: Path) -> list[bytes]:
        with self._reading(path) as recording:
            for _ in recording:  # its span decides how many slots there are to keep
                pass
        with self._reading(path) as again:
            try:
                return learn(
                    again,
                    self._settings,
                    first=recording.first,
                    last=recording.last,
                    rows=recording.rows,
                )
            except RecordingError:
                raise
            except ValueError as error:
                raise RecordingError(f"{path}: {error}") from None

    @contextmanager
    def _reading(self, path: Path, **default: str) -> Iterator[Recording]:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        with bar, bar.open(path, "rt", encoding="utf-8", newline="", description=path.name) as lines:
            try:
                yield Recording(
                    lines,
                    str(path),
                    features=self._settings.features,
                    now=self._now,
                    columns=self._columns,
                    **default,
                )
            except UnicodeDecodeError as error:
                raise RecordingError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


# Output


def _plain(replayed: Replayed) -> dict[str, Any]:
    """As JSON has it. `features` holds the series with the most calls, `series` each of them."""
    calls: dict[tuple[str, str], int] = {}
    for verdict in replayed.verdicts:
        calls[verdict.model, verdict.variant] = (
            calls.get((verdict.model, verdict.variant), 0) + verdict.samples
        )
    largest = max(calls, key=lambda key: calls[key], default=("", ""))
    return {
        "rows": replayed.rows,
        "windows": replayed.windows,
        "incidents": [
            {
                **msgspec.to_builtins(opened.incident),
                "delay_seconds": opened.delay_seconds,
                "delay_rows": opened.delay_rows,
            }
            for opened in replayed.incidents
        ],
        "features": {
            state.feature: _feature(replayed, state.feature, largest)
            for state in replayed.states
            if (state.model, state.variant) == largest
        },
        "series": [
            {**msgspec.to_builtins(verdict), "state": verdict.state.name.lower()}
            for verdict in replayed.verdicts
        ],
    }


def _feature(replayed: Replayed, name: str, series: tuple[str, str]) -> dict[str, Any]:
    """The feature's state at the end, and the figures of the last window, of the scale nearest to an alarm."""
    of = [v for v in replayed.verdicts if (v.model, v.variant) == series and v.feature == name]
    state = next(s.state for s in replayed.states if (s.model, s.variant) == series and s.feature == name)
    nearest = min(of, key=lambda verdict: verdict.probability)
    worst = [v for key, v in replayed.worst.items() if key[:3] == (*series, name)]
    return {
        "state": state.name.lower(),
        "scale": nearest.scale,
        "psi": nearest.psi,
        "ks": nearest.ks,
        "ks_high": nearest.ks_high,
        "tests": msgspec.to_builtins(nearest.tests),
        "samples": nearest.samples,
        "reference_samples": nearest.reference_samples,
        "dispersion": msgspec.to_builtins(nearest.dispersion),
        "calibrated": nearest.calibrated,
        "largest_psi": max((v.psi or 0.0 for v in worst), default=None),
    }


def _show(replayed: Replayed, console: Console) -> None:
    console.print(f"{replayed.rows:,} rows, {replayed.windows:,} windows judged", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for name in ("feature", "scale", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("calls", "PSI", "allowed", "largest", "KS", "dispersion"):
        table.add_column(name, justify="right")
    several = len({(v.model, v.variant) for v in replayed.verdicts}) > 1
    for verdict in replayed.verdicts:
        key = (verdict.model, verdict.variant, verdict.feature, verdict.scale)
        worst = replayed.worst.get(key)
        allowed = verdict.tests.get("psi") or (worst.tests.get("psi") if worst else None)
        table.add_row(
            f"{verdict.model} {verdict.variant} {verdict.feature}" if several else verdict.feature,
            verdict.scale,
            verdict.state.name.lower(),
            f"{verdict.samples:,}",
            _number(verdict.psi),
            _number(allowed.threshold if allowed else None),
            _number(worst.psi if worst else None),
            _number(verdict.ks),
            _number(verdict.dispersion.factor if verdict.dispersion else None, "{:.1f}"),
        )
    console.print(table)
    if not replayed.incidents:
        console.print("No incident.")
    for opened in replayed.incidents:
        incident = opened.incident
        ended = "still open" if incident.open else f"closed {_moment(incident.closed_at)}"
        console.print(
            f"\n[bold]{incident.severity}[/bold] {_moment(incident.opened_at)}, {ended}; after "
            f"{opened.delay_seconds:,.0f} s and {opened.delay_rows:,} rows",
            highlight=False,
        )
        console.print(incident.explanation, highlight=False, markup=False)
        if incident.trace_ids:
            console.print(f"such as {', '.join(incident.trace_ids)}", highlight=False, markup=False)


def _number(value: float | None, form: str = "{:.3f}") -> str:
    return "-" if value is None else form.format(value)


def _moment(timestamp: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(timestamp)) + " UTC"
