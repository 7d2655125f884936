"""Counters that outlive the process that counts.

One block of shared memory, owned by the supervisor: a row of 64-bit integers per relay incarnation. A relay
writes its row, the observer writes the columns named after it in the same row; no cell has two writers, so no
lock is needed. Because the block survives both, the books can be balanced after any kill:

    started = observed + Σ dropped            (once nothing is in flight)

A row is given to one incarnation of a relay. When that process is gone and everything it had sent is read,
the observer settles the row: what it started and nobody saw is counted as `relay_lost`.

Behind the rows stand the observer's own counters of spans, one `Tally` per backend.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Mapping
from typing import IO, NamedTuple, get_args

from driftline.exchange import Outcome

OUTCOMES: tuple[str, ...] = get_args(Outcome)
DROP_REASONS = ("channel_full", "channel_closed", "too_large", "observer_lost", "unreadable", "relay_lost")

_COLUMNS = (
    "incarnation",  # 0: free. Written by the supervisor.
    "ended",  # 1: the process is gone. Written by the supervisor, which alone knows.
    "settled",  # 1: the process is gone and the books are balanced. Written by the observer.
    "ready",  # 1: an upstream answers its health check
    "beat",  # goes up while the process moves; in row 0 the observer's
    "started",
    "active",
    "sent",  # records handed to the channel
    "observed",  # records that became calls, or were read and need not
    "connections",
    *(f"outcome.{name}" for name in OUTCOMES),
    *(f"dropped.{reason}" for reason in DROP_REASONS),
)
_SUMS = _COLUMNS[_COLUMNS.index("started") :]
"""What a dead relay leaves behind."""
_INDEX = {name: i for i, name in enumerate(_COLUMNS)}
WIDTH = len(_COLUMNS)
ROWS = 256
"""Rows of live relays and of dead ones not settled yet; row 0 holds the sum of all that were settled."""

SPAN_DROP_REASONS = ("queue_full", "failed", "rejected", "shutdown", "observer_lost")
_SPAN_COLUMNS = ("made", "exported", *(f"dropped.{reason}" for reason in SPAN_DROP_REASONS))
_SPAN_INDEX = {name: i for i, name in enumerate(_SPAN_COLUMNS)}
_SPAN_WIDTH = len(_SPAN_COLUMNS)
BACKENDS = 64

_SPANS_FROM = ROWS * WIDTH
SIZE = (_SPANS_FROM + BACKENDS * _SPAN_WIDTH) * 8


def column(name: str) -> int:
    return _INDEX[name]


class _Cells:
    """Counters by name."""

    def __init__(self, cells: memoryview[int], index: Mapping[str, int]) -> None:
        self.cells = cells
        self._index = index

    def __getitem__(self, name: str) -> int:
        return self.cells[self._index[name]]

    def __setitem__(self, name: str, value: int) -> None:
        self.cells[self._index[name]] = value

    def add(self, name: str, amount: int = 1) -> None:
        self.cells[self._index[name]] += amount


class Row(_Cells):
    """One incarnation's counters. `row.cells[column("started")] += 1` is the hot path's whole cost."""

    def __init__(self, block: Block, index: int) -> None:
        super().__init__(block.cells[index * WIDTH : (index + 1) * WIDTH], _INDEX)
        self.index = index

    def dropped(self) -> int:
        return sum(self[f"dropped.{reason}"] for reason in DROP_REASONS)


class Tally(_Cells):
    """The spans for one backend, counted by the observer: once none is on its way, made = exported + Σ dropped."""

    def __init__(self, cells: memoryview[int] | None = None) -> None:
        """In memory of its own without `cells`."""
        super().__init__(
            memoryview(bytearray(_SPAN_WIDTH * 8)).cast("q") if cells is None else cells, _SPAN_INDEX
        )

    @property
    def dropped(self) -> dict[str, int]:
        """By reason, those that occurred."""
        return {reason: count for reason in SPAN_DROP_REASONS if (count := self[f"dropped.{reason}"])}

    def settle(self) -> None:
        """A new observer takes over: what the last one had not sent is gone with it."""
        self.add("dropped.observer_lost", self["made"] - self["exported"] - sum(self.dropped.values()))


class Totals(NamedTuple):
    """Sums over all relays that ever ran under this supervisor."""

    active: int
    started: int
    observed: int
    requests: dict[str, int]
    """By outcome; those of killed relays as `relay_lost`."""
    dropped: dict[str, int]
    """Exchange records that never reached an observer, by reason."""
    ready: bool


class Block:
    """The shared block. The supervisor creates it, the others map it by its descriptor."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self.cells = memoryview(self._map).cast("q")

    @classmethod
    def create(cls) -> tuple[Block, IO[bytes]]:
        """A new zeroed block and the file it lives in; keep the file open and pass its descriptor on."""
        file = tempfile.TemporaryFile(prefix="driftline-counters-")  # noqa: SIM115
        # Written, not only sized: a full disk must be an error here, and not a SIGBUS at a counter's first use.
        file.write(bytes(SIZE))
        file.flush()
        return cls(file.fileno()), file

    def row(self, index: int) -> Row:
        return Row(self, index)

    def tally(self, backend: int) -> Tally:
        """Of the spans for the backend of that number, in the order of the configuration."""
        if backend >= BACKENDS:
            raise ValueError(f"more than {BACKENDS} exporters: send to a Collector, and let it fan out")
        begin = _SPANS_FROM + backend * _SPAN_WIDTH
        return Tally(self.cells[begin : begin + _SPAN_WIDTH])

    def rows(self) -> list[Row]:
        """Rows in use, settled or not."""
        return [row for row in map(self.row, range(1, ROWS)) if row["incarnation"]]

    def allocate(self, incarnation: int) -> Row:
        """A row for a new relay process. Settled rows are folded into row 0 and used again."""
        for index in range(1, ROWS):
            row = self.row(index)
            if row["settled"]:
                self._fold(row)
            if not row["incarnation"]:
                row["incarnation"] = incarnation
                return row
        raise RuntimeError(f"{ROWS - 1} relays died and none could be settled: is the observer running?")

    def _fold(self, row: Row) -> None:
        past = self.row(0)
        for name in _SUMS:
            past.add(name, row[name])
        row.cells[:] = memoryview(bytes(WIDTH * 8)).cast("q")

    def totals(self) -> Totals:
        rows = [self.row(0), *self.rows()]
        live = [row for row in rows[1:] if not row["settled"]]
        # Of settled rows alone: those of the living change while they are read, and a counter must not go back.
        past = [rows[0], *(row for row in rows[1:] if row["settled"])]
        lost = sum(row["started"] - sum(row[f"outcome.{name}"] for name in OUTCOMES) for row in past)
        requests = {name: sum(row[f"outcome.{name}"] for row in rows) for name in OUTCOMES}
        dropped = {reason: sum(row[f"dropped.{reason}"] for row in rows) for reason in DROP_REASONS}
        started = sum(row["started"] for row in rows)
        active = sum(row["active"] for row in live)
        return Totals(
            active=active,
            started=started,
            observed=sum(row["observed"] for row in rows),
            requests=requests | {"relay_lost": lost},
            dropped=dropped,
            ready=any(row["ready"] for row in live),
        )


def settle(row: Row) -> int:
    """Balance a dead relay's row; returns how many of its requests were lost with it."""
    lost = row["started"] - row["observed"] - row.dropped()
    row.add("dropped.relay_lost", lost)
    row["active"] = 0
    row["ready"] = 0
    row["settled"] = 1
    return lost
