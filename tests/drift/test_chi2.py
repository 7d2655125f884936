"""The chi-squared law is scipy's, over all that a verdict may ask of it."""

import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from driftline.drift.chi2 import quantile, tail, upper_gamma

DEGREES = (0.3, 0.7, 1.0, 2.0, 2.5, 9.0, 30.0, 64.0, 500.0, 30_000.0)
CENTRES = (0.0, 0.01, 0.5, 3.0, 20.0, 100.0, 1_000.0, 20_000.0)
PROBABILITIES = (0.999, 0.95, 0.5, 0.05, 1e-3, 1e-6, 1e-9, 1e-12)


def law(degrees, centre):
    return scipy.stats.ncx2(degrees, centre) if centre else scipy.stats.chi2(degrees)


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("degrees", DEGREES)
def test_quantile_and_tail_are_scipys_and_each_others(degrees, centre):
    for probability in PROBABILITIES:
        value = quantile(probability, degrees, centre)
        assert value == pytest.approx(law(degrees, centre).isf(probability), rel=1e-6)
        assert tail(value, degrees, centre) == pytest.approx(probability, rel=1e-8)
        assert tail(value, degrees, centre) == pytest.approx(law(degrees, centre).sf(value), rel=1e-6)


def test_a_tail_too_small_for_a_float_is_zero_and_nothing_fails():
    assert tail(1e6, 9.0, 20.0) == 0.0
    assert tail(0.0, 9.0, 20.0) == tail(-1.0, 9.0) == 1.0


@given(st.floats(0.05, 2_000), st.floats(1e-6, 4_000))
def test_the_incomplete_gamma_function_is_scipys(a, y):
    assert upper_gamma(a, y) == pytest.approx(scipy.special.gammaincc(a, y), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1])
def test_what_is_no_probability_is_refused(probability):
    with pytest.raises(ValueError, match="lies between 0 and 1"):
        quantile(probability, 9.0)
