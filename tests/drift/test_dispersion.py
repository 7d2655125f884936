"""Held-out windows: how much noisier than independent calls traffic is."""

import numpy as np
import pytest

from driftline.drift.dispersion import CALIBRATED, Dispersion, fit


def test_independent_calls_have_a_factor_near_one():
    rng = np.random.default_rng(1)
    of = fit(rng.chisquare(9, 500), 10, 1_000.0, None)
    assert 1.0 <= of.factor < 1.2
    assert of.degrees == pytest.approx(9, rel=0.1)
    assert of.calibrated


def test_mean_and_variance_are_those_of_the_windows():
    """Windows that differ in one way only are few degrees, widely scattered."""
    rng = np.random.default_rng(2)
    windows = 40 * rng.chisquare(1.5, 5_000)
    of = fit(windows, 10, 1_000.0, None)
    assert of.factor * of.degrees == pytest.approx(windows.mean(), rel=0.05)
    assert 2 * of.factor**2 * of.degrees == pytest.approx(windows.var(), rel=0.1)


def test_nothing_is_quieter_than_independent_calls():
    of = fit([0.1, 0.2] * 200, 10, 1_000.0, None)
    assert of.factor >= 1.0
    assert of.degrees >= 9.0


def test_few_windows_mean_a_wide_threshold():
    rng = np.random.default_rng(3)
    factors = [fit(rng.chisquare(9, n), 10, 100.0, None).factor for n in (10, 100, 10_000)]
    assert factors == sorted(factors, reverse=True)


def test_very_few_windows_take_the_degrees_of_a_shorter_scale():
    shorter = Dispersion(8.0, 3.0, 300, 100.0)
    of = fit([30.0, 40.0, 50.0], 10, 1_000.0, shorter)
    assert of.degrees == 3.0
    assert of.factor > 40.0 / 3.0
    assert not of.calibrated


@pytest.mark.parametrize("windows", [CALIBRATED - 1, CALIBRATED])
def test_calibrated_means_enough_windows(windows):
    assert fit([9.0] * windows, 10, 100.0, None).calibrated == (windows == CALIBRATED)
