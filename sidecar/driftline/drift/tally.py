"""Counting one slot of one model and variant: the hot path."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from driftline.drift.bins import FIRST, MAX_CATEGORIES, MAX_NAME, MISSING, OTHER
from driftline.drift.features import Feature
from driftline.drift.observation import Observation, Value

Counts = npt.NDArray[np.int64]
UNKNOWN = -1

TRACES = 5
"""Trace ids that a category remembers. A numeric bin remembers one: there are many of them."""

FOLDED = "__other__"
"""The label of what is beyond a bound on labels."""


class SlotCounts(msgspec.Struct, frozen=True):
    """The cells of one slot: of all calls, and of each tenant."""

    cells: Counts
    tenants: dict[str, Counts]


Sparse = tuple[list[int], list[int]]
"""Cells, and the count of each; the rest is 0."""


class TallyState(msgspec.Struct, frozen=True):
    """An open slot as it is kept on disk. Cells are counted from the start of their feature."""

    calls: int
    names: dict[str, list[str]]
    traces: list[dict[str, dict[int, str]]]
    tenants: dict[str, dict[str, Sparse]]


class Tally:
    """Cells of all features in one flat list a tenant: counting is one bisection and two stores per feature."""

    def __init__(self, features: Iterable[Feature], *, max_tenants: int) -> None:
        self.names: dict[str, list[str]] = {}
        """Categories of each categorical or binary feature, in the order of their cells."""
        self.slices: dict[str, slice] = {}
        self.calls = 0
        self._places: dict[str, tuple[int, tuple[float, ...] | None, dict[Value, int]]] = {}
        size = named = 0
        for feature in sorted(features, key=lambda feature: feature.edges is not None):
            cells = self._place(feature, size)
            self.slices[feature.name] = slice(size, size + cells)
            size += cells
            named += cells if feature.edges is None else 0
        # By turns, one list for each call: the cells of categories come first and are in all of them.
        self._traces = [[""] * size, *([""] * named for _ in range(TRACES - 1))]
        self._size = size
        self._max_tenants = max_tenants
        self._tenants: dict[str, list[int]] = {}

    def _place(self, feature: Feature, offset: int) -> int:
        if feature.edges is not None:
            self._places[feature.name] = (offset + FIRST, feature.edges.values, {})
            return FIRST + len(feature.edges.values) + 1
        known: dict[Value, int] = {None: offset + MISSING}
        self._places[feature.name] = (offset + FIRST, None, known)
        if feature.kind == "binary":
            known.update({False: offset + FIRST, True: offset + FIRST + 1})
            self.names[feature.name] = ["false", "true"]
            return FIRST + 2
        known.update({name: offset + FIRST + i for i, name in enumerate(feature.categories)})
        self.names[feature.name] = list(feature.categories)
        return FIRST + MAX_CATEGORIES

    def add(self, observation: Observation) -> None:
        """Count `observation`. No allocation, once its tenant and its categories are known."""
        places, trace_id = self._places, observation.trace_id
        of_bins, of_categories = self._traces[0], self._traces[self.calls % TRACES]
        counts = self._tenants.get(observation.tenant) or self._tenant(observation.tenant)
        self.calls += 1
        for name, value in observation.values.items():
            place = places.get(name)
            if place is None:
                continue
            first, edges, known = place
            traces = of_bins if edges else of_categories
            try:
                if edges is None:
                    cell = known.get(value, UNKNOWN)
                    if cell == UNKNOWN:
                        cell = self._name(name, value)
                elif value is None:
                    cell = first - FIRST + MISSING
                elif value == value:  # noqa: PLR0124 - false for NaN alone, and cheaper than a call
                    cell = first + bisect_left(edges, value)
                else:
                    cell = first - FIRST + OTHER
            except TypeError:
                cell = first - FIRST + OTHER
            counts[cell] += 1
            traces[cell] = trace_id

    def _tenant(self, tenant: str) -> list[int]:
        if tenant not in self._tenants and len(self._tenants) >= self._max_tenants:
            tenant = FOLDED
        return self._tenants.setdefault(tenant, [0] * self._size)

    def _name(self, feature: str, value: Value) -> int:
        """The cell of a category not seen before."""
        first, _, known = self._places[feature]
        if not isinstance(value, str):
            return first - FIRST + OTHER
        value = value[:MAX_NAME]
        if value not in known:
            names, cells = self.names[feature], self.slices[feature]
            if first + len(names) == cells.stop:
                return first - FIRST + OTHER
            known[value] = first + len(names)
            names.append(value)
        return known[value]

    def merge(self, other: Tally) -> None:
        """Add the counts of a tally of the same features: exact, and in any order the same.

        Categories are matched by name; those beyond `MAX_CATEGORIES` distinct ones become other.
        """
        onto = self._cells_of(other)
        self.calls += other.calls
        for tenant, theirs in other._tenants.items():
            ours = self._tenants.get(tenant) or self._tenant(tenant)
            for cell, count in zip(onto, theirs, strict=True):
                ours[cell] += count
        for traces, more in zip(self._traces, other._traces, strict=True):
            for cell, trace_id in zip(onto, more, strict=False):
                traces[cell] = trace_id or traces[cell]

    def _cells_of(self, other: Tally) -> list[int]:
        onto = list(range(self._size))
        for feature, names in other.names.items():
            if names != self.names[feature]:
                start = self.slices[feature].start + FIRST
                for i, name in enumerate(names):
                    onto[start + i] = self._name(feature, name)
        return onto

    def counts(self) -> SlotCounts:
        """What has been counted since the last `reset`."""
        tenants = {tenant: np.array(cells, np.int64) for tenant, cells in self._tenants.items()}
        return SlotCounts(sum(tenants.values(), start=np.zeros(self._size, np.int64)), tenants)

    def traces(self, feature: str) -> list[list[str]]:
        """For each cell of a feature, the trace ids of some of the last calls that landed in it."""
        cells = self.slices[feature]
        return [
            [traces[cell] for traces in self._traces if cell < len(traces) and traces[cell]]
            for cell in range(cells.start, cells.stop)
        ]

    def reset(self) -> None:
        """Begin the next slot. Names of categories and trace ids stay."""
        self.calls = 0
        self._tenants = {}

    def state(self) -> TallyState:
        return TallyState(
            self.calls,
            self.names,
            [
                {
                    name: {i: trace_id for i, trace_id in enumerate(traces[cells]) if trace_id}
                    for name, cells in self.slices.items()
                }
                for traces in self._traces
            ],
            {tenant: self._by_feature(counts) for tenant, counts in self._tenants.items()},
        )

    def _by_feature(self, counts: list[int]) -> dict[str, Sparse]:
        sparse: dict[str, Sparse] = {}
        for name, cells in self.slices.items():
            filled = [(i, count) for i, count in enumerate(counts[cells]) if count]
            if filled:
                sparse[name] = ([i for i, _ in filled], [count for _, count in filled])
        return sparse

    def resume(self, state: TallyState) -> None:
        """Take up what `state` gave; features that are not counted any more are left out."""
        self.calls = state.calls
        for name, categories in state.names.items():
            for category in categories:
                if name in self.slices:
                    self._name(name, category)
        for tenant, counts in state.tenants.items():
            self._fill(self._tenant(tenant), counts)
        for ours, theirs in zip(self._traces, state.traces, strict=True):
            for name, traces in theirs.items():
                for i, trace_id in traces.items():
                    if name in self.slices:
                        ours[self.slices[name].start + i] = trace_id

    def _fill(self, counts: list[int], state: dict[str, Sparse]) -> None:
        for name, (cells, values) in state.items():
            if name in self.slices:
                for i, count in zip(cells, values, strict=True):
                    counts[self.slices[name].start + i] += count
