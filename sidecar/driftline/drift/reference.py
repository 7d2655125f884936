"""What traffic is compared with: the counts of a time taken as normal, with their bins and their dispersion."""

from __future__ import annotations

import hashlib
from functools import cached_property

import msgspec
import numpy as np

from driftline.drift.bins import FIRST, MISSING, OTHER, bin_labels
from driftline.drift.dispersion import FEWEST, Dispersion
from driftline.drift.features import Feature, Kind
from driftline.drift.settings import Span
from driftline.drift.tally import Counts

SCHEMA = 1
GROUPS = 10
COMMON = 0.01
"""Share of the reference from which on a category is tested by itself."""


class FeatureReference(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one feature: missing, other, then bins or categories in order."""

    kind: Kind
    edges: tuple[float, ...] = ()
    """At most 64 inclusive upper bounds of numeric bins; a last bin beyond them is implied."""
    categories: tuple[str, ...] = ()
    counts: tuple[int, ...]
    groups: tuple[int, ...]
    """Of each bin: the group it belongs to in PSI and chi-squared."""
    dispersion: dict[str, Dispersion]
    """By scale, as the configuration writes it."""
    tenants: dict[str, tuple[int, ...]] = {}
    """Counts by group, of the largest tenants."""

    def __post_init__(self) -> None:
        bins = FIRST + (
            len(self.categories) if self.kind in ("categorical", "binary") else len(self.edges) + 1
        )
        groups = max(self.groups, default=-1) + 1
        if not len(self.counts) == len(self.groups) == bins:
            raise ValueError(f"{bins} bins need {bins} counts and groups, not {len(self.counts)}")
        if min(self.counts) < 0 or sum(self.counts) == 0:
            raise ValueError("counts must be at least 0, and not all 0")
        if set(self.groups) != set(range(groups)):
            raise ValueError("groups must be numbered from 0, none left out")
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError("edges must ascend")
        if any(len(counts) != groups for counts in self.tenants.values()):
            raise ValueError(f"the counts of a tenant must be {groups}, one for each group")

    @property
    def samples(self) -> int:
        return sum(self.counts)

    def dispersion_at(self, scale: str) -> Dispersion:
        """At a scale with held-out windows, else stretched from the longest shorter one that has them."""
        own = self.dispersion.get(scale, Dispersion(1.0, max(len(set(self.groups)) - 1.0, 1.0)))
        if own.windows >= FEWEST:
            return own
        length = Span.parse(scale).amount
        known = [
            (Span.parse(text).amount, of) for text, of in self.dispersion.items() if of.windows >= FEWEST
        ]
        shorter = [(amount, of) for amount, of in known if amount < length]
        if not shorter:
            return own
        amount, of = max(shorter, key=lambda pair: pair[0])
        return of.stretched(length / amount)


class Reference(msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="driftline-baseline"):
    """The pinned features of one model and variant. As JSON it is the file of a baseline."""

    schema: int = SCHEMA
    model: str
    variant: str
    created_at: float
    """Seconds since the epoch."""
    slots_per_day: float
    """Of the traffic it was learned from; fixed by the slot where that is a time."""
    features: dict[str, FeatureReference]
    frozen: bool = False
    """Someone chose it, by pinning or importing it: no feature is added to it as it is learned."""

    @property
    def id(self) -> str:
        """Of the content: equal where the same counts are compared with, whatever it is called there."""
        return hashlib.sha256(msgspec.json.encode(self.features, order="deterministic")).hexdigest()[:12]

    def encode(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def decode(cls, data: bytes) -> Reference:
        """Raises `ValueError` for anything that `encode` did not write, or a newer version did."""
        try:
            version = msgspec.json.decode(data, type=_Version)
        except msgspec.MsgspecError as error:
            raise ValueError(
                f"not a baseline: {error}; export one with `driftline baseline export`"
            ) from None
        if version.schema > SCHEMA:
            raise ValueError(
                f"the baseline has schema {version.schema} and this version reads up to {SCHEMA}; "
                "use the version that wrote it, or a newer one"
            )
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, ValueError) as error:
            raise ValueError(f"a broken baseline: {error}; export it again") from None


class _Version(msgspec.Struct, tag_field="format", tag="driftline-baseline"):
    schema: int


class Binning:
    """From the cells of a feature to the bins and groups of its reference.

    Raises `ValueError` where the edges of the reference are not edges of the cells: its counts would not be
    comparable.
    """

    def __init__(self, feature: Feature, reference: FeatureReference) -> None:
        self.feature = feature
        self.reference = reference
        self.counts = np.array(reference.counts, np.int64)
        self.groups = np.array(reference.groups)
        self.group_counts = self.grouped(self.counts)
        if feature.kind != reference.kind:
            raise ValueError(f"{feature.name} is {feature.kind} here and {reference.kind} in the reference")
        if feature.edges is None:
            self._of_name = {name: FIRST + i for i, name in enumerate(reference.categories)}
            return
        if not set(reference.edges) <= set(feature.edges.values):
            raise ValueError(
                f"{feature.name}: the bins of the reference are not of this version; learn a new one"
            )
        bins = np.searchsorted(reference.edges, [*feature.edges.values, np.inf])
        self._of_cell = np.concatenate([[MISSING, OTHER], FIRST + bins])

    def bins(self, cells: Counts, names: list[str]) -> Counts:
        """Counts by bin. `names` are the categories of the cells; those the reference has not are other."""
        of_cell = self.bins_of_cells(len(cells), names)
        return np.bincount(of_cell, weights=cells, minlength=len(self.counts)).astype(np.int64)

    def bins_of_cells(self, cells: int, names: list[str]) -> Counts:
        """The bin of each cell."""
        if self.feature.edges is not None:
            return self._of_cell
        of_cell = np.full(cells, OTHER)
        of_cell[MISSING] = MISSING
        of_cell[FIRST : FIRST + len(names)] = [self._of_name.get(name, OTHER) for name in names]
        return of_cell

    def grouped(self, bins: Counts) -> Counts:
        """Counts by group."""
        return np.bincount(self.groups, weights=bins).astype(np.int64)

    @cached_property
    def group_labels(self) -> list[str]:
        """`missing`, `other`, then a category or `(low, high]` each."""
        if self.feature.edges is None:
            common = [
                name for name, group in zip(self._of_name, self.groups[FIRST:], strict=True) if group >= FIRST
            ]
            return ["missing", "other", *common]
        borders = np.flatnonzero(np.diff(self.groups[FIRST:]))
        return ["missing", "other", *bin_labels(tuple(self.reference.edges[i] for i in borders))]

    @cached_property
    def reference_groups(self) -> list[int]:
        return [int(count) for count in self.group_counts]

    @cached_property
    def edges(self) -> list[float]:
        return list(self.reference.edges)

    @cached_property
    def reference_le(self) -> list[int]:
        """Calls at or below each edge, then all that have a number."""
        return [int(count) for count in np.cumsum(self.counts[FIRST:])]
