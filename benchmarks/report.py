"""From turns to figures: medians over rounds; ratios within a round, where a slow minute hits both sides."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import msgspec
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.turn import Load, Turn

REFERENCE = "nginx"
BASELINE = "direct"

Round = dict[str, "Turn"]
"""One turn of each peer, by name."""


class Figure(msgspec.Struct, frozen=True):
    """A quantity over the rounds."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure | None:
        return cls(statistics.median(values), min(values), max(values)) if values else None


class Role(msgspec.Struct, frozen=True):
    """One process of a peer."""

    chunk_us: Figure | None
    request_us: Figure | None
    idle_percent: Figure | None
    memory_mib: Figure | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One peer over all rounds. CPU in µs, added times in ms; None where there is nothing to compare with."""

    peer: str
    telemetry: str
    chunk_us: Figure | None
    """CPU of the proxy per streamed token, its share of the request included."""
    chunk_ratio: Figure | None
    request_us: Figure | None
    """CPU of the proxy per plain request."""
    request_ratio: Figure | None
    requests_per_second: Figure | None
    first_token_p50: Figure | None
    first_token_p99: Figure | None
    token_p50: Figure | None
    token_p99: Figure | None
    memory_mib: Figure | None
    roles: dict[str, Role]
    faults: dict[str, int]
    facts: dict[str, Figure | None]


def chunk_us(turn: Turn) -> float:
    return turn.proxy_cpu(turn.stream_load) / turn.streams.tokens * 1e6


def request_us(turn: Turn) -> float:
    return turn.proxy_cpu(turn.request_load) / turn.requests.complete * 1e6


def summarise(rounds: Sequence[Round]) -> list[Summary]:
    """One summary per peer, in the order of the first round."""
    return [_summary(peer, rounds) for peer in rounds[0]] if rounds else []


def _summary(peer: str, rounds: Sequence[Round]) -> Summary:
    turns = [turns[peer] for turns in rounds]
    proxied = [turn for turn in turns if turn.proxy_roles]

    def ratio(quantity: Callable[[Turn], float]) -> Figure | None:
        pairs = [(turns[peer], turns[REFERENCE]) for turns in rounds if REFERENCE in turns]
        return Figure.of([quantity(turn) / quantity(other) for turn, other in pairs if turn.proxy_roles])

    def added(quantity: Callable[[Turn], float]) -> Figure | None:
        pairs = [(turns[peer], turns[BASELINE]) for turns in rounds if BASELINE in turns]
        return Figure.of([quantity(turn) - quantity(other) for turn, other in pairs if turn.proxy_roles])

    return Summary(
        peer=peer,
        telemetry=turns[0].telemetry,
        chunk_us=Figure.of([chunk_us(turn) for turn in proxied]),
        chunk_ratio=ratio(chunk_us),
        request_us=Figure.of([request_us(turn) for turn in proxied]),
        request_ratio=ratio(request_us),
        requests_per_second=Figure.of([turn.requests.complete / turn.requests.seconds for turn in turns]),
        first_token_p50=added(lambda turn: turn.streams.first_token.p50),
        first_token_p99=added(lambda turn: turn.streams.first_token.p99),
        token_p50=added(lambda turn: turn.streams.token.p50),
        token_p99=added(lambda turn: turn.streams.token.p99),
        memory_mib=Figure.of([sum(turn.memory.values()) / 2**20 for turn in proxied]),
        roles={role: _role(role, turns) for role in turns[0].memory},
        faults=_faults(turns),
        facts={name: Figure.of([turn.facts[name] for turn in turns]) for name in turns[0].facts},
    )


def _role(role: str, turns: Sequence[Turn]) -> Role:
    return Role(
        chunk_us=Figure.of([turn.stream_load.cpu[role] / turn.streams.tokens * 1e6 for turn in turns]),
        request_us=Figure.of([turn.request_load.cpu[role] / turn.requests.complete * 1e6 for turn in turns]),
        idle_percent=Figure.of([turn.idle[role] * 100 for turn in turns]),
        memory_mib=Figure.of([turn.memory[role] / 2**20 for turn in turns]),
    )


def _faults(turns: Sequence[Turn]) -> dict[str, int]:
    faults: dict[str, int] = {}
    for turn in turns:
        for name, count in [*turn.streams.faults.items(), *turn.requests.faults.items()]:
            faults[name] = faults.get(name, 0) + count
    return faults


def warnings(rounds: Sequence[Round], interval_ms: float) -> list[str]:
    """What in these rounds casts doubt on the figures, in sentences."""
    found = []
    for number, turns in enumerate(rounds, 1):
        for peer, turn in turns.items():
            where = f"round {number}, {peer}"
            if turn.streams.interval_ms > 1.05 * interval_ms:
                found.append(
                    f"{where}: a token each {turn.streams.interval_ms:.1f} ms where {interval_ms:g} was asked"
                    ": the upstream could not keep its pace"
                )
            for load, name in [(turn.stream_load, "streams"), (turn.request_load, "requests")]:
                found += [f"{where}, {name}: {doubt}" for doubt in _doubts(load, name)]
    return found


def _doubts(load: Load, name: str) -> list[str]:
    doubts = []
    if load.proxy_core_foreign > 0.1:
        doubts.append(f"others took {load.proxy_core_foreign:.0%} of the proxy's core")
    if name == "streams" and load.rig_busy > 0.9:
        doubts.append(f"the other cores were {load.rig_busy:.0%} busy, so latencies are partly the rig's own")
    if load.stolen > 0.02:
        doubts.append(f"the hypervisor took {load.stolen:.0%} of the cores")
    return doubts


def tables(summaries: Sequence[Summary]) -> list[Table]:
    """What is printed: the peers, and the processes of those that have several."""
    return [_peers(summaries), _processes(summaries)]


def _peers(summaries: Sequence[Summary]) -> Table:
    table = Table(title="CPU of the proxy, and what it adds (medians of the rounds, lowest to highest)")
    table.add_column("proxy")
    table.add_column("telemetry")
    for header in (
        "µs / chunk",
        f"× {REFERENCE}",
        "µs / request",
        f"× {REFERENCE}",
        "requests/s",
        "first token\n+ms p50 / p99",
        "chunk\n+ms p50 / p99",
        "MiB",
        "faults",
    ):
        table.add_column(header, justify="right")
    for summary in summaries:
        table.add_row(
            summary.peer,
            summary.telemetry,
            _spread(summary.chunk_us),
            _cell(summary.chunk_ratio, ".2f"),
            _spread(summary.request_us),
            _cell(summary.request_ratio, ".2f"),
            _cell(summary.requests_per_second, ",.0f"),
            f"{_cell(summary.first_token_p50, '.2f')} / {_cell(summary.first_token_p99, '.2f')}",
            f"{_cell(summary.token_p50, '.2f')} / {_cell(summary.token_p99, '.2f')}",
            _cell(summary.memory_mib, ".0f"),
            ", ".join(f"{count} {name}" for name, count in summary.faults.items()) or "0",
        )
    return table


def _processes(summaries: Sequence[Summary]) -> Table:
    table = Table(title="The same by process, and what each says it did")
    table.add_column("proxy")
    table.add_column("process")
    for header in ("µs / chunk", "µs / request", "idle %", "MiB"):
        table.add_column(header, justify="right")
    for summary in summaries:
        for role, figures in summary.roles.items() if len(summary.roles) > 1 else ():
            table.add_row(
                summary.peer,
                role,
                _spread(figures.chunk_us),
                _spread(figures.request_us),
                _cell(figures.idle_percent, ".2f"),
                _cell(figures.memory_mib, ".1f"),
            )
        for name, figure in summary.facts.items():
            table.add_row(summary.peer, f"[dim]{name}", _cell(figure, ",.0f"))
    return table


def _cell(figure: Figure | None, form: str) -> str:
    return "–" if figure is None else format(figure.median, form)


def _spread(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    return f"{figure.median:.1f} ({figure.lowest:.1f}–{figure.highest:.1f})"
