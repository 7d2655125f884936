"""Thresholds: the law is the right one, and what it promises is kept."""

import numpy as np
import pytest
import scipy.stats

from driftline.drift.dispersion import Dispersion
from driftline.drift.laws import chi2_law, ks_law, psi_law
from driftline.drift.statistics import chi2, ks, psi

TENTHS = np.full(10, 0.1)
SIZES = (50, 100, 200, 500, 2_000, 10_000, 50_000)
IID = Dispersion(1.0, 9.0)


def alarms(rng, law, statistic, p, q, calls, windows):
    """Share of `windows` of `calls` that are above their threshold, each with a reference twenty times as large."""
    references = rng.multinomial(20 * calls, p, windows)
    samples = rng.multinomial(calls, q, windows)
    size = 1 / (20 * calls) + 1 / calls
    threshold, _ = law(0.0, size)
    return np.mean([statistic(n, m) > threshold for n, m in zip(references, samples, strict=True)])


def interval(alpha, windows):
    """In which the share lies but for one time in 1,000."""
    return [scipy.stats.binom.ppf(p, windows, alpha) / windows for p in (0.0005, 0.9995)]


@pytest.mark.parametrize("calls", SIZES)
def test_psi_alarms_as_often_as_it_may_when_nothing_moves(calls):
    """From 50 to 50,000 calls: no fixed threshold does that."""
    rng = np.random.default_rng(calls)
    share = alarms(
        rng, lambda v, s: psi_law(v, s, IID, tolerance=0.0, alpha=0.05), psi, TENTHS, TENTHS, calls, 3_000
    )
    low, high = interval(0.05, 3_000)
    assert low <= share <= high


@pytest.mark.parametrize("calls", SIZES[2:])
def test_psi_alarms_as_often_as_it_may_at_the_edge_of_what_is_tolerated(calls):
    """A true PSI of exactly the tolerance: the non-central law, not a shifted central one."""
    tilt = 0.5
    q = TENTHS.copy()
    q[0], q[9] = 0.1 * (1 + tilt), 0.1 * (1 - tilt)
    tolerance = float(((q - TENTHS) * np.log(q / TENTHS)).sum())
    rng = np.random.default_rng(calls)
    share = alarms(
        rng, lambda v, s: psi_law(v, s, IID, tolerance=tolerance, alpha=0.05), psi, TENTHS, q, calls, 3_000
    )
    low, high = interval(0.05, 3_000)
    assert low * 0.8 <= share <= high * 1.2


@pytest.mark.parametrize("calls", [200, 2_000, 20_000])
def test_chi2_alarms_as_often_as_it_may(calls):
    p = np.array([0.9, 0.06, 0.03, 0.01])
    rng = np.random.default_rng(calls)
    share = alarms(
        rng,
        lambda v, s: chi2_law(v, s, Dispersion(1.0, 3.0), tolerance=0.0, alpha=0.05),
        chi2, p, p, calls, 3_000,
    )  # fmt: skip
    low, high = interval(0.05, 3_000)
    assert low <= share <= high


@pytest.mark.parametrize("bins", [2, 5, 64])
def test_ks_alarms_at_most_as_often_as_it_may(bins):
    """Binning makes it conservative; with few bins the bound follows."""
    p = np.full(bins, 1 / bins)
    steps = np.cumsum(p)[:-1].tolist()
    rng = np.random.default_rng(bins)
    share = alarms(
        rng,
        lambda v, s: ks_law(v, s, IID, tolerance=0.0, alpha=0.05, steps=steps),
        lambda n, m: ks(n, m).low, p, p, 1_000, 3_000,
    )  # fmt: skip
    _, high = interval(0.05, 3_000)
    assert 0.015 <= share <= high


@pytest.mark.parametrize("size", [1 / 50, 1 / 500, 1 / 50_000])
@pytest.mark.parametrize("alpha", [0.05, 1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("dispersion", [IID, Dispersion(30.0, 2.5), Dispersion(4.0, 0.7)])
def test_the_psi_law_is_the_scaled_non_central_chi2(size, alpha, dispersion):
    scale = dispersion.factor * size
    law = scipy.stats.ncx2(dispersion.degrees, 0.02 / scale)
    threshold, _ = psi_law(0.0, size, dispersion, tolerance=0.02, alpha=alpha)
    assert threshold == pytest.approx(scale * law.isf(alpha), rel=1e-4)
    _, probability = psi_law(threshold, size, dispersion, tolerance=0.02, alpha=alpha)
    assert probability == pytest.approx(alpha, rel=1e-3)


def test_dispersion_widens_the_noise_and_not_the_tolerance():
    """With ever more calls the threshold comes down to the tolerance, however dispersed they are."""
    for factor in (1.0, 30.0):
        threshold, _ = psi_law(0.0, 1e-9, Dispersion(factor, 9.0), tolerance=0.02, alpha=1e-6)
        assert threshold == pytest.approx(0.02, rel=0.02)


def test_thresholds_fall_with_the_size_of_the_window():
    thresholds = [psi_law(0.0, 1 / n, IID, tolerance=0.02, alpha=1e-6)[0] for n in SIZES]
    assert thresholds == sorted(thresholds, reverse=True)


def test_ks_tolerates_the_distance_that_the_tolerated_psi_allows():
    """Two halves moved against each other are the worst case of Pinsker's inequality."""
    p, q = np.array([0.5, 0.5]), np.array([0.43, 0.57])
    allowed = ((q - p) * np.log(q / p)).sum()
    threshold, _ = ks_law(0.0, 1e-12, IID, tolerance=float(allowed), alpha=0.01, steps=[0.5])
    assert 0.07 <= threshold <= 0.0703
