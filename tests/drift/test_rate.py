"""Rates that rise: found soon, and by chance no more often than promised."""

import math

import numpy as np
import pytest

from driftline.drift.dispersion import Dispersion
from driftline.drift.rate import RateDetector, envelope

IID = Dispersion(1.0, 1.0)


def slots_until_alarm(rng, detector, rate, calls, threshold, most):
    for slot in range(1, most + 1):
        if detector.update(int(rng.binomial(calls, rate)), calls, threshold) >= threshold:
            return slot
    return most


def test_the_mean_time_to_a_false_alarm_is_at_least_what_is_promised():
    """At the edge of what is normal, where it is shortest."""
    rng = np.random.default_rng(1)
    runs = [slots_until_alarm(rng, RateDetector(0.02), 0.02, 100, math.log(50), 5_000) for _ in range(200)]
    assert np.mean(runs) > 50


def test_a_doubled_rate_is_found_at_an_exact_slot():
    """Refusals from 1 to 2 %: seeded, so that the slot is known."""
    rng = np.random.default_rng(7)
    detector = RateDetector(envelope(500, 50_000, IID, 0.2))
    threshold = math.log(1e8)
    for _ in range(200):
        assert detector.update(int(rng.binomial(500, 0.01)), 500, threshold) < threshold
    assert slots_until_alarm(rng, detector, 0.02, 500, threshold, 100) == 18


def test_a_rate_that_falls_is_no_alarm():
    detector = RateDetector(0.1)
    values = [detector.update(0, 1_000, 10.0) for _ in range(50)]
    assert max(values) < 0


def test_the_return_of_the_rate_shows_within_a_few_slots():
    """However long the alarm lasted: rises that are smaller than the one that alarmed do not linger."""
    detector = RateDetector(0.02)
    during = [detector.update(10, 100, 18.0) for _ in range(1_000)]
    assert during[0] < 18.0
    assert all(value > 18.0 for value in during[5:])
    back = [detector.update(1, 100, 18.0) for _ in range(5)]
    assert back == sorted(back, reverse=True)
    assert back[-1] < 4.6


def test_an_order_of_calls_inside_a_slot_does_not_matter_but_slots_do():
    """Counts have no order: a slot is one step."""
    together, apart = RateDetector(0.1), RateDetector(0.1)
    together.update(10, 20, 100.0)
    apart.update(10, 10, 100.0)
    apart.update(0, 10, 100.0)
    assert together.logs == pytest.approx(apart.logs)


@pytest.mark.parametrize(
    ("events", "calls", "dispersion", "expected"),
    [
        (0, 2_000, IID, 0.0027),  # z^2 / (n + z^2): none seen is not none possible
        (500, 50_000, IID, 0.012),  # the tolerance: 20 % above the rate
        (10, 1_000, IID, 0.0201),  # Wilson's interval
        (500, 50_000, Dispersion(5.0, 1.0, 300, 1_000.0), 0.0261),  # windows that differ by themselves
    ],
)
def test_the_normal_range_of_a_rate(events, calls, dispersion, expected):
    assert envelope(events, calls, dispersion, 0.2) == pytest.approx(expected, rel=0.02)
