"""From learned slots to a reference: bins, groups, and the dispersion of windows held out."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from driftline.drift.bins import FIRST, MISSING, OTHER
from driftline.drift.dispersion import Dispersion, fit
from driftline.drift.features import Feature
from driftline.drift.reference import COMMON, GROUPS, Binning, FeatureReference
from driftline.drift.statistics import psi
from driftline.drift.tally import Counts
from driftline.drift.window import SlotRing


def enrol(
    feature: Feature,
    slots: SlotRing,
    names: list[str],
    *,
    scales: Mapping[str, int],
    minimum: int,
    tenants: Mapping[str, Counts],
) -> FeatureReference:
    """The reference that `slots` make.

    `names` are the categories of the cells, `scales` the lengths of windows in slots, `minimum` the calls a window
    needs to be judged, `tenants` cells by tenant.
    """
    numbers = slots.numbers()
    cells = slots.total(numbers[-1], numbers[-1] - numbers[0] + 1)
    bare = _numeric(feature, cells) if feature.edges else _named(feature, cells, names)
    binning = Binning(feature, bare)
    dispersion: dict[str, Dispersion] = {}
    shorter = None
    for scale, length in scales.items():
        dispersion[scale] = shorter = _dispersion(
            binning, slots, names, length=length, minimum=minimum, shorter=shorter
        )
    by_tenant = {
        tenant: tuple(binning.grouped(binning.bins(of_tenant, names)).tolist())
        for tenant, of_tenant in tenants.items()
    }
    return msgspec.structs.replace(bare, dispersion=dispersion, tenants=by_tenant)


def _numeric(feature: Feature, cells: Counts) -> FeatureReference:
    """Up to 64 edges over the range that occurred, in about ten groups of equal share."""
    assert feature.edges is not None
    edges = feature.edges.values
    occurred = np.flatnonzero(cells[FIRST:])
    low, high = (occurred[0], occurred[-1]) if len(occurred) else (0, 0)
    kept = feature.edges.within(edges[max(low - 1, 0)], edges[min(high, len(edges) - 1)])
    bins = np.bincount(
        np.searchsorted(kept, [*edges, np.inf]), weights=cells[FIRST:], minlength=len(kept) + 1
    ).astype(np.int64)
    groups = _groups(bins)
    return FeatureReference(
        kind=feature.kind,
        edges=tuple(float(edge) for edge in kept),
        counts=(int(cells[MISSING]), int(cells[OTHER]), *bins.tolist()),
        groups=(MISSING, OTHER, *(FIRST + groups).tolist()),
        dispersion={},
    )


def _groups(bins: Counts) -> Counts:
    """The group of each bin, from 0: of the tenth in which its middle rank lies.

    Between a value that many calls share and what never occurred there is always a border: a shift from the one
    into the other would be invisible inside a group.
    """
    calls = max(int(bins.sum()), 1)
    tenths = np.minimum((np.cumsum(bins) - bins / 2) * GROUPS // calls, GROUPS - 1)
    common, empty = bins >= calls / GROUPS, bins == 0
    borders = (np.diff(tenths) > 0) | (common[1:] & empty[:-1]) | (common[:-1] & empty[1:])
    return np.concatenate([[0], np.cumsum(borders)])


def _named(feature: Feature, cells: Counts, names: list[str]) -> FeatureReference:
    """Categories by falling count; the rare ones are tested together, with what is new."""
    counts = dict(zip(names, cells[FIRST : FIRST + len(names)].tolist(), strict=True))
    if feature.kind == "binary":
        ranked = list(counts)
        groups = list(range(FIRST, FIRST + len(ranked)))
    else:
        ranked = sorted((name for name in counts if counts[name]), key=lambda name: (-counts[name], name))
        common = sum(counts[name] >= COMMON * cells.sum() for name in ranked)
        groups = [FIRST + i if i < common else OTHER for i in range(len(ranked))]
    return FeatureReference(
        kind=feature.kind,
        categories=tuple(ranked),
        counts=(int(cells[MISSING]), int(cells[OTHER]), *(counts[name] for name in ranked)),
        groups=(MISSING, OTHER, *groups),
        dispersion={},
    )


def _dispersion(
    binning: Binning,
    slots: SlotRing,
    names: list[str],
    *,
    length: int,
    minimum: int,
    shorter: Dispersion | None,
) -> Dispersion:
    """Of windows of `length` slots in one half of the time, against the other half.

    Halves, not all the rest: the rest surrounds a window in time and is more like it than the past is like the
    future, in which the reference will be used.
    """
    numbers = slots.numbers()
    first, middle, end = numbers[0], numbers[len(numbers) // 2], numbers[-1] + 1

    def total(start: int, stop: int) -> Counts:
        return binning.grouped(binning.bins(slots.total(stop - 1, stop - start), names))

    distances, sizes = [], []
    for begin, stop, rest in [(first, middle, total(middle, end)), (middle, end, total(first, middle))]:
        for start in range(begin, stop - length + 1, length):
            window = total(start, start + length)
            if window.sum() >= minimum and rest.sum() > 0:
                distances.append(psi(rest, window) / (1 / rest.sum() + 1 / window.sum()))
                sizes.append(float(window.sum()))
    occupied = int((binning.group_counts > 0).sum())
    return fit(distances, occupied, float(np.mean(sizes)) if sizes else 0.0, shorter)
