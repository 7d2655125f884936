"""From turns to figures: medians over rounds; ratios and added times within a round, where a slow minute hits all."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import msgspec

from benchmarks.judge import Quantiles, StreamResult
from benchmarks.loads import Streams
from benchmarks.turn import Measured, Turn

REFERENCE = "nginx"
BASELINE = "direct"

Round = dict[str, Turn]
"""One turn of each peer, by name."""

TIMES: dict[str, Callable[[StreamResult], Quantiles]] = {
    "first token": lambda result: result.first_token,
    "chunk": lambda result: result.token,
    "time per token": lambda result: result.time_per_token,
}
"""What proxies add time to."""


class Figure(msgspec.Struct, frozen=True):
    """A quantity over the rounds."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure | None:
        return cls(statistics.median(values), min(values), max(values)) if values else None


class Role(msgspec.Struct, frozen=True):
    """One process of a peer under one load."""

    unit_us: Figure | None
    """Per chunk or request; of those requests that it saw, where it says so."""
    idle_percent: Figure | None
    memory_mib: Figure | None
    """After all loads."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One peer under one load over all rounds; None where there is nothing to compare with."""

    peer: str
    load: str
    telemetry: str
    unit_us: Figure | None
    """CPU of the proxy per chunk, its share of the request included, or per plain request."""
    ratio: Figure | None
    """The same beside nginx's."""
    rate: Figure | None
    """Chunks per second from the first to the last, or requests per second."""
    peak: Figure | None
    """Chunks in the second that had most."""
    added: dict[str, Figure | None]
    """Milliseconds above those without proxy, by `first token p50` and the like."""
    beyond_reference: Figure | None
    """Milliseconds that the p99 of a chunk is above nginx's."""
    stalls: Figure | None
    """Tokens and first tokens that took 35–45 ms, less those without proxy."""
    most_at_once: Figure | None
    stretched: Figure | None
    """How much longer than asked it was between two tokens, as a share; where much, the rig was the limit."""
    burst_ms: Figure | None
    """From the first to the last write of a burst, median."""
    reads: Figure | None
    """Of the client per chunk: well below one, chunks were joined on the way, which flatters the CPU per chunk."""
    rig_busy: Figure | None
    open_mib: Figure | None
    """Memory of all its processes with all streams open, the most of each."""
    after_mib: Figure | None
    """Memory of all its processes after all loads."""
    roles: dict[str, Role]
    faults: dict[str, int]
    facts: dict[str, Figure | None]

    def core_share(self, rate: float) -> float | None:
        """Of one core, to carry `rate` chunks per second."""
        return None if self.unit_us is None else self.unit_us.median * rate / 1e6


def summarise(rounds: Sequence[Round]) -> list[Summary]:
    """One summary per load and peer, in the order of the first round."""
    loads = dict.fromkeys(load for turns in rounds for turn in turns.values() for load in turn.measured)
    peers = dict.fromkeys(peer for turns in rounds for peer in turns)
    pairs = [(peer, load) for load in loads for peer in peers]
    return [one for one in (_summary(peer, load, rounds) for peer, load in pairs) if one is not None]


def _summary(peer: str, load: str, rounds: Sequence[Round]) -> Summary | None:
    def taken(name: str) -> list[Measured | None]:
        """Of each round, where `name` took part in it."""
        turns = [turns.get(name) for turns in rounds]
        return [turn.measured.get(load) if turn else None for turn in turns]

    own = taken(peer)
    present = [one for one in own if one is not None]
    if not present:
        return None
    turns = [turns[peer] for turns in rounds if peer in turns and load in turns[peer].measured]
    proxied = bool(turns[0].proxy_roles)
    streams = isinstance(present[0].load, Streams)

    def over(quantity: Callable[[Measured], float], *, of: bool = True) -> Figure | None:
        return Figure.of([quantity(one) for one in present]) if of else None

    def beside(name: str, quantity: Callable[[Measured, Measured], float]) -> Figure | None:
        both = [(one, other) for one, other in zip(own, taken(name), strict=True) if one and other]
        return Figure.of([quantity(one, other) for one, other in both]) if proxied else None

    def added(of: Callable[[StreamResult], Quantiles], quantile: str) -> Figure | None:
        def above(one: Measured, other: Measured) -> float:
            return float(getattr(of(one.chunks), quantile) - getattr(of(other.chunks), quantile))

        return beside(BASELINE, above)

    return Summary(
        peer=peer,
        load=load,
        telemetry=turns[0].telemetry,
        unit_us=over(Measured.unit_us, of=proxied),
        ratio=beside(REFERENCE, lambda one, other: one.unit_us() / other.unit_us()),
        rate=over(lambda one: one.chunks.tokens_per_second if streams else one.units / one.result.seconds),
        peak=over(lambda one: one.chunks.tokens_in_peak_second, of=streams),
        added={
            f"{what} {quantile}": added(of, quantile)
            for what, of in TIMES.items()
            for quantile in ("p50", "p99")
            if streams
        },
        beyond_reference=beside(REFERENCE, lambda one, other: one.chunks.token.p99 - other.chunks.token.p99)
        if streams
        else None,
        stalls=beside(BASELINE, lambda one, other: one.chunks.stalls - other.chunks.stalls)
        if streams
        else None,
        most_at_once=over(lambda one: one.chunks.most_at_once, of=streams),
        stretched=over(_stretched, of=streams),
        burst_ms=over(lambda one: one.chunks.bursts.width.p50, of=streams),
        reads=over(lambda one: one.chunks.reads_per_token, of=streams),
        rig_busy=over(lambda one: one.cost.rig_busy),
        open_mib=Figure.of([sum(one.memory.values()) / 2**20 for one in present if one.memory]),
        after_mib=Figure.of([sum(turn.memory.values()) / 2**20 for turn in turns]) if proxied else None,
        roles={role: _role(role, load, turns) for role in turns[0].memory},
        faults=_faults(present),
        facts={name: Figure.of([one.cost.facts[name] for one in present]) for name in present[0].cost.facts},
    )


def _stretched(measured: Measured) -> float:
    assert isinstance(measured.load, Streams)
    return measured.chunks.interval_ms / measured.load.interval_ms - 1


def _role(role: str, load: str, turns: Sequence[Turn]) -> Role:
    def unit_us(turn: Turn) -> float:
        """Under the load without streams more may be relayed than can be observed."""
        one = turn.measured[load]
        observed = one.cost.facts.get("observed")
        plain = not isinstance(one.load, Streams) and role not in turn.proxy_roles
        return one.cost.cpu[role] / (observed if plain and observed else one.units) * 1e6

    return Role(
        unit_us=Figure.of([unit_us(turn) for turn in turns]),
        idle_percent=Figure.of([turn.idle[role] * 100 for turn in turns]),
        memory_mib=Figure.of([turn.memory[role] / 2**20 for turn in turns]),
    )


def _faults(measured: Sequence[Measured]) -> dict[str, int]:
    faults: dict[str, int] = {}
    for one in measured:
        for name, count in one.result.faults.items():
            faults[name] = faults.get(name, 0) + count
    return faults


def warnings(rounds: Sequence[Round]) -> list[str]:
    """What in these rounds casts doubt on the figures, one sentence of each kind."""
    measured = [one for turns in rounds for turn in turns.values() for one in turn.measured.values()]
    streams = [one for one in measured if isinstance(one.load, Streams)]
    doubts = [
        ("others took {} of the proxy's core", [one.cost.proxy_core_foreign for one in measured], 0.1),
        ("the hypervisor took {} of the cores", [one.cost.stolen for one in measured], 0.02),
        (
            "the other cores were {} busy: bursts were wider and gaps longer than asked",
            [one.cost.rig_busy for one in streams],
            0.9,
        ),
        (
            "the upstream was {} slower than asked: the rig was the limit",
            [_stretched(one) for one in streams],
            0.05,
        ),
    ]
    return [
        _warning(text, shares, limit) for text, shares, limit in doubts if max(shares, default=0.0) > limit
    ]


def _warning(text: str, shares: Sequence[float], limit: float) -> str:
    above = [share for share in shares if share > limit]
    return f"In {len(above)} of {len(shares)} loads " + text.format(f"up to {max(above):.0%}")
