"""Figures as tables, for a terminal and for a document."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from rich.table import Table

from benchmarks.summary import REFERENCE, Figure, Summary

H100 = 16_200
"""Chunks per second that one saturated H100 with an 8B model speaks, behind vLLM's Rust frontend; its busiest
second had 24,600 (the recordings' README)."""
H100_PEAK = 24_600
NODE = 8
"""GPUs."""
WIDTH = 160
"""Columns of the tables where there is no terminal to ask."""


class Grid(msgspec.Struct, frozen=True):
    """A table of text."""

    title: str
    columns: list[str]
    """The first one is that of the rows' names."""
    rows: list[list[str]]

    def rich(self) -> Table:
        table = Table(title=self.title)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        table = "\n".join("| " + " | ".join(cell.strip() for cell in line) + " |" for line in lines)
        return f"**{self.title}**\n\n{table}\n"


Cell = Callable[[Summary], str]


def grids(summaries: Sequence[Summary], slow: Sequence[str] = ()) -> list[Grid]:
    """What is printed; `slow`: the peers that had a smaller load, which is said beside their names."""
    loads = list(dict.fromkeys(one.load for one in summaries))
    return [_grid(summaries, load, slow) for load in loads] + [
        grid for grid in (_needs(summaries), _processes(summaries), _books(summaries)) if grid.rows
    ]


def _added(what: str) -> list[tuple[str, Cell]]:
    return [
        (
            f"ms added to {'the first token' if what == 'first token' else what}, p50",
            lambda one: _ms(one, f"{what} p50"),
        ),
        ("  p99", lambda one: _ms(one, f"{what} p99")),
    ]


def _ms(one: Summary, name: str) -> str:
    return _cell(one.added.get(name), ".3f")


def _cpu(unit: str) -> list[tuple[str, Cell]]:
    return [
        (f"µs of CPU per {unit}", lambda one: _cell(one.unit_us, ".1f")),
        (f"  × {REFERENCE}", lambda one: _cell(one.ratio, ".2f")),
        ("  lowest–highest", lambda one: _spread(one.ratio)),
    ]


FAULTS: list[tuple[str, Cell]] = [
    ("faults", lambda one: ", ".join(f"{count} {name}" for name, count in one.faults.items()) or "0")
]
BURSTS: list[tuple[str, Cell]] = [
    ("chunks per second", lambda one: _cell(one.rate, ",.0f")),
    ("  in the busiest second", lambda one: _cell(one.peak, ",.0f")),
    ("  slower than recorded", lambda one: _cell(one.stretched, ".1%")),
    ("ms from the first to the last write of a burst", lambda one: _cell(one.burst_ms, ".1f")),
]
RECORDED: list[tuple[str, Cell]] = [
    *BURSTS,
    *_cpu("chunk"),
    ("share of a core", lambda one: _share(one, one.rate.median if one.rate else 0.0)),
    *_added("chunk"),
    (f"  p99, above {REFERENCE}'s", lambda one: _cell(one.beyond_reference, ".3f")),
    ("reads of the client per chunk", lambda one: _cell(one.reads, ".2f")),
    ("rig's cores busy", lambda one: _cell(one.rig_busy, ".0%")),
    *FAULTS,
]
ROWS: dict[str, tuple[str, list[tuple[str, Cell]]]] = {
    "chunks": (
        "192 streams, a chunk every 10 ms",
        [
            ("records", lambda one: one.telemetry),
            *_cpu("chunk"),
            *_added("first token"),
            *_added("chunk"),
            ("reads of the client per chunk", lambda one: _cell(one.reads, ".2f")),
            ("memory after all loads, MiB", lambda one: _cell(one.after_mib, ".0f")),
            *FAULTS,
        ],
    ),
    "requests": (
        "Plain requests, 64 at once, as many as get through",
        [*_cpu("request"), ("requests per second", lambda one: _cell(one.rate, ",.0f")), *FAULTS],
    ),
    "held": (
        "512 streams of 64 chunks, one every 20 ms",
        [
            ("streams at once", lambda one: _cell(one.most_at_once, ".0f")),
            ("chunks per second", lambda one: _cell(one.rate, ",.0f")),
            *_cpu("chunk"),
            *_added("first token"),
            *_added("time per token"),
            *_added("chunk"),
            ("reads of the client per chunk", lambda one: _cell(one.reads, ".2f")),
            ("chunks and first tokens 35–45 ms late, more than direct", lambda one: _cell(one.stalls, ".0f")),
            ("memory with all streams open, MiB", lambda one: _cell(one.open_mib, ".0f")),
            ("  after", lambda one: _cell(one.after_mib, ".0f")),
            *FAULTS,
        ],
    ),
    "recorded rust": ("The pace of an H100 behind vLLM's Rust frontend, 512 streams", RECORDED),
    "recorded python": ("The pace of an H100 behind vLLM's Python frontend, 512 streams", RECORDED),
}
"""By load: the title of its table, and its rows."""


def _grid(summaries: Sequence[Summary], load: str, slow: Sequence[str]) -> Grid:
    title, rows = ROWS[load]
    taking = [one for one in summaries if one.load == load]
    if any(one.peer in slow for one in taking):
        title += " (*: fewer, as these would take minutes)"
    names = [f"{one.peer} *" if one.peer in slow else one.peer for one in taking]
    return Grid(title, ["", *names], [[label, *map(cell, taking)] for label, cell in rows])


def _needs(summaries: Sequence[Summary]) -> Grid:
    """What GPUs need, from the CPU per chunk at their pace."""
    taking = [one for one in summaries if one.load == "recorded rust" and one.unit_us is not None]
    needs = [
        (f"a saturated H100, {H100:,} chunks/s", H100),
        (f"  its busiest second, {H100_PEAK:,}", H100_PEAK),
        (f"a node of eight, {NODE * H100:,}", NODE * H100),
    ]
    rows = [[label, *[_share(one, rate) for one in taking]] for label, rate in needs] if taking else []
    return Grid("Cores of the proxy that GPUs need", ["", *[one.peer for one in taking]], rows)


def _share(one: Summary, rate: float) -> str:
    share = one.core_share(rate)
    return "–" if share is None else f"{share:.2f}"


def _processes(summaries: Sequence[Summary]) -> Grid:
    columns = ["load", "proxy", "process", "µs / chunk or request seen", "idle %", "MiB after"]
    rows = [
        [
            one.load,
            one.peer,
            role,
            _cell(figures.unit_us, ".1f"),
            _cell(figures.idle_percent, ".2f"),
            _cell(figures.memory_mib, ".1f"),
        ]
        for one in summaries
        if len(one.roles) > 1
        for role, figures in one.roles.items()
    ]
    return Grid("The same by process", columns, rows)


def _books(summaries: Sequence[Summary]) -> Grid:
    rows = [
        [one.load, one.peer, name, _cell(figure, ",.0f")]
        for one in summaries
        for name, figure in one.facts.items()
    ]
    return Grid("What became of the requests, as each says", ["load", "proxy", "", "number"], rows)


def _cell(figure: Figure | None, form: str) -> str:
    return "–" if figure is None else format(figure.median, form)


def _spread(figure: Figure | None) -> str:
    return "–" if figure is None else f"{figure.lowest:.2f}–{figure.highest:.2f}"
