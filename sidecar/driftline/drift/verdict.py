"""Comparing one window of one feature with its reference."""

from __future__ import annotations

from enum import IntEnum

import msgspec
import numpy as np

from driftline.drift import laws
from driftline.drift.bins import FIRST
from driftline.drift.dispersion import Dispersion
from driftline.drift.reference import Binning
from driftline.drift.statistics import chi2, ks, psi
from driftline.drift.tally import Counts


class State(IntEnum):
    LEARNING = 0
    STABLE = 1
    DRIFTING = 2
    INSUFFICIENT = 3


class Test(msgspec.Struct, frozen=True):
    """One test of one window. It alarms where `value` is above `threshold`."""

    __test__ = False  # not pytest's

    value: float
    threshold: float
    probability: float
    """Of a value at least as large while nothing moves by more than is tolerated; 0 is below 1e-15."""

    @property
    def alarm(self) -> bool:
        return self.value > self.threshold


class Verdict(msgspec.Struct, kw_only=True):
    """What is known of one feature of one model and variant at one scale, at the end of the last slot."""

    model: str
    variant: str
    feature: str
    scale: str
    state: State
    reason: str = ""
    """Why a window is not judged: `no traffic`, `few calls`, `no reference`, `not in the reference`."""
    window_end: float
    """Seconds since the epoch."""
    samples: int = 0
    reference_samples: int = 0
    reference: str = ""
    """Id of the reference of this model and variant."""
    progress: float = 1.0
    """Of learning, from 0 to 1."""
    psi: float | None = None
    ks: float | None = None
    """The smallest Kolmogorov-Smirnov statistic that the bins allow, of a numeric feature."""
    ks_high: float | None = None
    """The largest."""
    tests: dict[str, Test] = {}
    """By name: `psi`, `ks`, `chi2`, `cusum`."""
    dispersion: Dispersion | None = None
    calibrated: bool = False
    """The law of the thresholds was checked on enough held-out windows to be trusted with a page."""
    groups: list[str] = []
    """Labels of the groups that PSI and chi-squared compare."""
    window_groups: list[int] = []
    reference_groups: list[int] = []
    edges: list[float] = []
    """Of a numeric feature: the inclusive upper bounds that KS compares at."""
    window_le: list[int] = []
    """Calls at or below each edge, then all that have a number."""
    reference_le: list[int] = []

    @property
    def alarms(self) -> dict[str, Test]:
        return {name: test for name, test in self.tests.items() if test.alarm}

    @property
    def foremost(self) -> tuple[str, Test]:
        """The alarm that is least likely to be false, with its name. There must be one."""
        return min(self.alarms.items(), key=lambda item: (item[1].probability, -item[1].value))

    @property
    def probability(self) -> float:
        """The smallest of the tests."""
        return min((test.probability for test in self.tests.values()), default=1.0)


def judge(
    verdict: Verdict, binning: Binning, bins: Counts, *, alpha: float, tolerance: float, minimum: int
) -> None:
    """Fill in `verdict` for a window whose counts by bin are `bins`.

    `alpha` is the chance of a false alarm that each test may take.
    """
    show(verdict, binning, bins)
    if verdict.samples == 0:
        verdict.state, verdict.reason = State.INSUFFICIENT, "no traffic"
        return
    reference_groups, window_groups = binning.group_counts, binning.grouped(bins)
    size = 1 / verdict.reference_samples + 1 / verdict.samples
    dispersion = binning.reference.dispersion_at(verdict.scale)
    verdict.dispersion, verdict.calibrated = dispersion, dispersion.calibrated
    verdict.psi = psi(reference_groups, window_groups)
    values, reference_values = bins[FIRST:], binning.counts[FIRST:]
    if binning.feature.edges and values.any() and reference_values.any():
        verdict.ks, verdict.ks_high = ks(reference_values, values)
    if verdict.samples < minimum:
        verdict.state, verdict.reason = State.INSUFFICIENT, "few calls"
        return
    limits = {"tolerance": tolerance, "alpha": alpha}
    verdict.tests["psi"] = Test(verdict.psi, *laws.psi_law(verdict.psi, size, dispersion, **limits))
    if verdict.ks is not None:
        of_values = 1 / int(reference_values.sum()) + 1 / int(values.sum())
        steps = (np.cumsum(reference_values) / reference_values.sum())[:-1].tolist()
        verdict.tests["ks"] = Test(
            verdict.ks, *laws.ks_law(verdict.ks, of_values, dispersion, **limits, steps=steps)
        )
    elif binning.feature.kind == "categorical":
        statistic = chi2(reference_groups, window_groups)
        verdict.tests["chi2"] = Test(statistic, *laws.chi2_law(statistic, size, dispersion, **limits))
    verdict.state = State.DRIFTING if verdict.alarms else State.STABLE


def show(verdict: Verdict, binning: Binning, bins: Counts) -> None:
    """Fill in the counts, for histograms and for adding up over a fleet."""
    verdict.samples = int(bins.sum())
    verdict.reference_samples = binning.reference.samples
    verdict.groups, verdict.reference_groups = binning.group_labels, binning.reference_groups
    verdict.window_groups = binning.grouped(bins).tolist()
    if binning.feature.edges:
        verdict.edges, verdict.reference_le = binning.edges, binning.reference_le
        verdict.window_le = np.cumsum(bins[FIRST:]).tolist()
