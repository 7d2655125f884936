"""Distances: exact numbers, and bounds that hold."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from driftline.drift.statistics import chi2, ks, movement, psi, psi_terms

COUNTS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=20)


def vectors(pairs):
    reference, window = (np.array(side) for side in zip(*pairs, strict=True))
    assume(min(reference.sum(), window.sum()) > 1)  # below, scipy divides by 0
    return reference, window


def test_psi_by_hand():
    """Half a call is added to each bin of both sides: 50.5/101.5, 30.5/101.5, 20.5/101.5."""
    terms = psi_terms(np.array([50, 30, 20]), np.array([30, 30, 40]))
    expected = [
        (30.5 - 50.5) / 101.5 * math.log(30.5 / 50.5),
        0.0,
        (40.5 - 20.5) / 101.5 * math.log(40.5 / 20.5),
    ]
    assert terms.tolist() == pytest.approx(expected, abs=1e-15)
    assert psi(np.array([50, 30, 20]), np.array([30, 30, 40])) == pytest.approx(0.2335219, abs=1e-7)


def test_a_vanished_twentieth_is_worth_what_its_counts_are():
    """With a floor on probabilities it would be worth whatever the floor is: 0.31 for 1e-4, 35 for the smallest."""
    assert psi(np.array([19_000, 1_000]), np.array([2_000, 0])) == pytest.approx(0.2663, abs=1e-4)


def test_a_new_category_is_finite():
    assert psi(np.array([20_000, 0]), np.array([1_800, 200])) == pytest.approx(0.8416, abs=1e-4)


def test_a_bin_empty_on_both_sides_is_no_bin():
    assert psi(np.array([50, 30, 0, 20]), np.array([30, 30, 0, 40])) == psi(
        np.array([50, 30, 20]), np.array([30, 30, 40])
    )


@given(COUNTS)
def test_no_term_of_psi_is_negative_or_infinite(pairs):
    terms = psi_terms(*vectors(pairs))
    assert (terms >= 0).all()
    assert np.isfinite(terms).all()


@given(COUNTS)
def test_chi2_is_that_of_scipy(pairs):
    reference, window = vectors(pairs)
    present = (reference + window) > 0
    expected = scipy.stats.chi2_contingency(np.array([reference, window])[:, present], correction=False)
    assert chi2(reference, window) == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)


@given(COUNTS)
def test_ks_of_whole_bins_is_that_of_scipy(pairs):
    """Where every bin is one value, binning loses nothing."""
    reference, window = vectors(pairs)
    values = np.arange(len(reference))
    exact = scipy.stats.ks_2samp(np.repeat(values, reference), np.repeat(values, window), method="asymp")
    assert ks(reference, window).low == pytest.approx(exact.statistic, abs=1e-12)


@given(
    st.lists(st.floats(0, 10), min_size=2, max_size=40),
    st.lists(st.floats(0, 10), min_size=2, max_size=40),
    st.lists(st.floats(0.1, 9.9), min_size=1, max_size=6, unique=True),
)
def test_ks_of_the_values_lies_between_the_bounds_of_its_bins(reference, window, edges):
    edges = sorted(edges)
    binned = [
        np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
        for values in (reference, window)
    ]
    exact = scipy.stats.ks_2samp(reference, window, method="asymp").statistic
    bounds = ks(*binned)
    assert bounds.low - 1e-12 <= exact <= bounds.high + 1e-12
    largest = max((counts / counts.sum()).max() for counts in binned)
    assert bounds.high <= bounds.low + largest + 1e-12


def test_movement_is_the_difference_of_the_chances_to_be_above_and_below():
    assert movement(np.array([1, 0]), np.array([0, 1])) == 1.0
    assert movement(np.array([0, 1]), np.array([1, 0])) == -1.0
    assert movement(np.array([5, 5]), np.array([7, 7])) == 0.0
    assert movement(np.array([1, 1]), np.array([0, 1])) == 0.5
