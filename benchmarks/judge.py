"""From what a load generator read to figures: every byte checked, every token timed."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from benchmarks import wire
from benchmarks.client import Answer, Decoded, Target

STALL_MS = (35.0, 45.0)
"""How late something is that waited for a delayed acknowledgement (40 ms in Linux)."""
QUIET = 5_000_000
"""Nanoseconds in which the upstream said nothing, between two bursts of a replay."""


class Quantiles(msgspec.Struct):
    """Of times in milliseconds."""

    p50: float
    p90: float
    p99: float
    p999: float

    @classmethod
    def of(cls, nanoseconds: Sequence[float]) -> Quantiles:
        """Not-a-number where there are no times."""
        if not nanoseconds:
            return cls(*[math.nan] * 4)
        return cls(*(np.quantile(nanoseconds, [0.5, 0.9, 0.99, 0.999]) / 1e6).tolist())


class Bursts(msgspec.Struct):
    """How the upstream spoke where its streams speak together."""

    width: Quantiles
    """From the first to the last write of a burst."""
    pause: Quantiles | None
    """From the first write of a burst to the first of the next; None where there was one burst."""

    @classmethod
    def of(cls, moments: Sequence[int]) -> Bursts:
        """`moments`: nanoseconds, of all writes of all streams."""
        ordered = sorted(moments)
        cuts = [i for i in range(1, len(ordered)) if ordered[i] - ordered[i - 1] > QUIET]
        begins, ends = ([0, *cuts], [*cuts, len(ordered)]) if ordered else ([], [])
        firsts = [ordered[begin] for begin in begins]
        return cls(
            width=Quantiles.of(
                [ordered[end - 1] - ordered[begin] for begin, end in zip(begins, ends, strict=True)]
            ),
            pause=Quantiles.of([after - before for before, after in itertools.pairwise(firsts)])
            if cuts
            else None,
        )


class StreamResult(msgspec.Struct, kw_only=True):
    asked: int
    complete: int
    """Streams that arrived whole and byte-exact; the others are in `faults`."""
    faults: dict[str, int]
    tokens: int
    """Token events that arrived in complete streams."""
    seconds: float
    """From the first request to the end of the last answer."""
    connections: int
    """Opened; more than clients where the other side closed some."""
    most_at_once: int
    """Streams that were under way at one moment, from request to end."""
    reads_per_token: float
    """Socket reads of the client per token event: below one where events were joined on the way."""
    bytes_per_token: float
    """As the client received them, framing and everything else included."""
    interval_ms: float
    """Mean between two tokens of a stream as the upstream sent them: where longer than asked, the rig was the limit."""
    tokens_per_second: float
    """From the upstream's first to its last token."""
    tokens_in_peak_second: int
    first_token: Quantiles
    """From sending the request to its first event. Paced upstreams answer at once: all of it is added."""
    token: Quantiles
    """From the upstream writing an event to its arrival at the client, one way."""
    time_per_token: Quantiles
    """Of each stream, from its first to its last token, divided by the intervals between."""
    stalls: int
    """Tokens that took 35–45 ms one way, and first events that took as long."""
    bursts: Bursts


class RequestResult(msgspec.Struct, kw_only=True):
    complete: int
    """Replies that arrived whole and byte-exact; the others are in `faults`."""
    faults: dict[str, int]
    seconds: float
    connections: int
    latency: Quantiles


Check = Callable[[int, Decoded], "list[tuple[int, int]] | str"]
"""What an answer holds: for each token the nanosecond it was sent, and where in the body its event ends; or what is
wrong with it."""


def exact(form: wire.Form, tokens: int) -> Check:
    """Every byte is as `form` says."""

    def check(number: int, answer: Decoded) -> list[tuple[int, int]] | str:
        expected = wire.Expected(number, tokens, form)
        moments = expected.check(answer.body)
        return moments if isinstance(moments, str) else list(zip(moments, expected.ends, strict=True))

    return check


def in_substance(tokens: int) -> Check:
    """For gateways that write every event anew: all tokens are there, in their order, and the stream has its end."""
    written = re.compile(rb'"content": ?"(\d{%d})"' % wire.DIGITS)

    def check(_: int, answer: Decoded) -> list[tuple[int, int]] | str:
        found = list(written.finditer(answer.body))
        moments = [int(token[1]) for token in found]
        if len(moments) < tokens or not answer.body.rstrip().endswith(b"data: [DONE]"):
            return "incomplete"
        if len(moments) > tokens or moments != sorted(moments):
            return "altered"
        return [(int(token[1]), token.end()) for token in found]

    return check


def streams(
    answers: Sequence[tuple[int, Answer]], check: Check, target: Target, *, asked: int
) -> StreamResult:
    """Check every answer; take the times of those that hold. Adds what is wrong to the faults of `target`."""
    first_event: list[float] = []
    late: list[float] = []
    per_token: list[float] = []
    intervals: list[float] = []
    moments: list[int] = []
    complete = reads = size = 0
    for number, answer in answers:
        decoded = Decoded.of(answer)
        held = check(number, decoded) if decoded.status == 200 else f"status {decoded.status}"
        if isinstance(held, str):
            target.faults[held] += 1
            continue
        complete += 1
        reads += sum(read.data != b"" for read in answer.reads)
        size += sum(len(read.data) for read in answer.reads)
        sent = [moment for moment, _ in held]
        arrived = [answer.reads[i].at for i in np.searchsorted(decoded.sizes, [end for _, end in held])]
        first_event.append(answer.reads[int(np.searchsorted(decoded.sizes, 1))].at - answer.asked_at)
        late += [arrival - moment for arrival, moment in zip(arrived, sent, strict=True)]
        per_token.append((arrived[-1] - arrived[0]) / max(1, len(sent) - 1))
        intervals.append((sent[-1] - sent[0]) / max(1, len(sent) - 1) / 1e6)
        moments += sent
    span = (max(moments) - min(moments)) / 1e9 if moments else 0.0
    return StreamResult(
        asked=asked,
        complete=complete,
        faults=dict(target.faults),
        tokens=len(moments),
        seconds=seconds_of(answers),
        connections=target.connections,
        most_at_once=most_at_once([(answer.asked_at, answer.reads[-1].at) for _, answer in answers]),
        reads_per_token=reads / max(1, len(moments)),
        bytes_per_token=size / max(1, len(moments)),
        interval_ms=statistics.fmean(intervals) if intervals else math.nan,
        tokens_per_second=len(moments) / span if span else math.nan,
        tokens_in_peak_second=most_in_a_second(moments),
        first_token=Quantiles.of(first_event),
        token=Quantiles.of(late),
        time_per_token=Quantiles.of(per_token),
        stalls=sum(STALL_MS[0] <= took / 1e6 <= STALL_MS[1] for took in itertools.chain(first_event, late)),
        bursts=Bursts.of(moments),
    )


def seconds_of(answers: Sequence[tuple[int, Answer]]) -> float:
    if not answers:
        return 0.0
    return (max(a.reads[-1].at for _, a in answers) - min(a.asked_at for _, a in answers)) / 1e9


def most_at_once(spans: Sequence[tuple[int, int]]) -> int:
    """The largest number of `spans` (begin, end) that hold one moment."""
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    return max(itertools.accumulate(change for _, change in edges), default=0)


def most_in_a_second(moments: Sequence[int]) -> int:
    """The largest number of `moments` (nanoseconds) within one second."""
    ordered = np.sort(np.array(moments, dtype=np.int64))
    ends = np.searchsorted(ordered, ordered + 10**9)
    return int((ends - np.arange(len(ordered))).max(initial=0))
