"""From turns to figures: medians over rounds; ratios within a round, where a slow minute hits both sides."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import msgspec
from rich.table import Table

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
    stream_us: Figure | None
    """The same per stream, all its tokens together."""
    request_us: Figure | None
    """Of those that it saw, where it says so."""
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
    stream_facts: dict[str, Figure | None]
    request_facts: dict[str, Figure | None]


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
        stream_facts=_facts([turn.stream_load for turn in turns]),
        request_facts=_facts([turn.request_load for turn in turns]),
    )


def _facts(loads: Sequence[Load]) -> dict[str, Figure | None]:
    return {name: Figure.of([load.facts[name] for load in loads]) for name in loads[0].facts}


def _role(role: str, turns: Sequence[Turn]) -> Role:
    def seen(turn: Turn) -> float:
        """Under the load without streams more may be relayed than can be observed."""
        observed = turn.request_load.facts.get("observed")
        return turn.requests.complete if observed is None or role in turn.proxy_roles else observed

    return Role(
        chunk_us=Figure.of([turn.stream_load.cpu[role] / turn.streams.tokens * 1e6 for turn in turns]),
        stream_us=Figure.of([turn.stream_load.cpu[role] / turn.streams.complete * 1e6 for turn in turns]),
        request_us=Figure.of([turn.request_load.cpu[role] / seen(turn) * 1e6 for turn in turns]),
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
    """What in these rounds casts doubt on the figures, one sentence of each kind."""
    turns = [turn for turns in rounds for turn in turns.values()]
    stream_loads = [turn.stream_load for turn in turns]
    loads = stream_loads + [turn.request_load for turn in turns]
    late = [turn.streams.interval_ms / interval_ms - 1 for turn in turns]
    doubts = [
        ("others took {} of the proxy's core", [load.proxy_core_foreign for load in loads], 0.1),
        ("the hypervisor took {} of the cores", [load.stolen for load in loads], 0.02),
        (
            "the other cores were {} busy, so latencies are partly the rig's own",
            [load.rig_busy for load in stream_loads],
            0.9,
        ),
        ("the upstream was {} slower than asked", late, 0.05),
    ]
    return [_warning(text, shares, limit) for text, shares, limit in doubts if max(shares) > limit]


def _warning(text: str, shares: Sequence[float], limit: float) -> str:
    above = [share for share in shares if share > limit]
    return f"In {len(above)} of {len(shares)} loads " + text.format(f"up to {max(above):.0%}")


def tables(summaries: Sequence[Summary]) -> list[Table]:
    """What is printed: the peers, the processes of those that have several, and what those counted."""
    return [table for table in (_peers(summaries), _processes(summaries), _books(summaries)) if table.rows]


def _peers(summaries: Sequence[Summary]) -> Table:
    table = Table(title="CPU of the proxy, and what it adds: medians of the rounds")
    table.add_column()
    for summary in summaries:
        table.add_column(summary.peer, justify="right")
    rows: list[tuple[str, Callable[[Summary], str]]] = [
        ("records", lambda one: one.telemetry),
        ("µs of CPU per chunk", lambda one: _cell(one.chunk_us, ".1f")),
        (f"  × {REFERENCE}", lambda one: _cell(one.chunk_ratio, ".2f")),
        ("  [dim]lowest–highest", lambda one: _spread(one.chunk_ratio)),
        ("µs of CPU per request", lambda one: _cell(one.request_us, ".1f")),
        (f"  × {REFERENCE}", lambda one: _cell(one.request_ratio, ".2f")),
        ("  [dim]lowest–highest", lambda one: _spread(one.request_ratio)),
        ("requests per second", lambda one: _cell(one.requests_per_second, ",.0f")),
        ("ms added to the first token, p50", lambda one: _cell(one.first_token_p50, ".2f")),
        ("  p99", lambda one: _cell(one.first_token_p99, ".2f")),
        ("ms added to a chunk, p50", lambda one: _cell(one.token_p50, ".2f")),
        ("  p99", lambda one: _cell(one.token_p99, ".2f")),
        ("memory, MiB", lambda one: _cell(one.memory_mib, ".0f")),
        ("faults", lambda one: ", ".join(f"{count} {name}" for name, count in one.faults.items()) or "0"),
    ]
    for label, cell in rows:
        table.add_row(label, *[cell(summary) for summary in summaries])
    return table


def _processes(summaries: Sequence[Summary]) -> Table:
    table = Table(title="The same by process")
    table.add_column("proxy")
    table.add_column("process")
    for header in ("µs / chunk", "µs / stream", "µs / request seen", "idle %", "MiB"):
        table.add_column(header, justify="right", no_wrap=True)
    for summary in summaries:
        for role, figures in summary.roles.items() if len(summary.roles) > 1 else ():
            table.add_row(
                summary.peer,
                role,
                _cell(figures.chunk_us, ".1f"),
                _cell(figures.stream_us, ",.0f"),
                _cell(figures.request_us, ".1f"),
                _cell(figures.idle_percent, ".2f"),
                _cell(figures.memory_mib, ".1f"),
            )
    return table


def _books(summaries: Sequence[Summary]) -> Table:
    table = Table(title="What became of the requests, as each says")
    table.add_column("proxy")
    table.add_column("")
    table.add_column("streams", justify="right")
    table.add_column("requests", justify="right")
    for summary in summaries:
        for name, figure in summary.stream_facts.items():
            table.add_row(
                summary.peer, name, _cell(figure, ",.0f"), _cell(summary.request_facts[name], ",.0f")
            )
    return table


def _cell(figure: Figure | None, form: str) -> str:
    return "–" if figure is None else format(figure.median, form)


def _spread(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    return f"[dim]{figure.lowest:.2f}–{figure.highest:.2f}"
