"""Verdicts: as often wrong as promised, on traffic of independent calls and on traffic that is not."""

import msgspec
import numpy as np
import pytest
import scipy.stats

from driftline.drift.bins import FIRST
from driftline.drift.features import FEATURES
from driftline.drift.reference import Binning
from driftline.drift.verdict import State, Verdict, judge
from tests.drift.test_enrol import enrolled

FEATURE = FEATURES["input_tokens"]
ALPHA = 0.02


def slots(seed, count, copies=1, shift=1.0):
    """Slots of 500 calls, each call `copies` times."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        calls = rng.lognormal(5.5, 0.8, 500 // copies) * shift
        yield np.repeat(calls.astype(int) + 1, copies).tolist()


def judged(binning, values, *, alpha=ALPHA, tolerance=0.0, minimum=50):
    cells = np.zeros(FIRST + len(FEATURE.edges.values) + 1, np.int64)
    np.add.at(cells, FIRST + np.searchsorted(FEATURE.edges.values, values), 1)
    verdict = Verdict(
        model="m", variant="", feature=FEATURE.name, scale="1s", state=State.LEARNING, window_end=0.0
    )
    judge(verdict, binning, binning.bins(cells, []), alpha=alpha, tolerance=tolerance, minimum=minimum)
    return verdict


def rate(binning, windows, test="psi"):
    return np.mean([test in judged(binning, values).alarms for values in windows])


@pytest.mark.parametrize("copies", [1, 5])
def test_false_alarms_are_as_rare_as_promised(copies):
    """Also where each call comes five times; a little rarer, as the dispersion is the upper end of its interval."""
    reference = enrolled("input_tokens", list(slots(1, 400, copies)))
    false = rate(Binning(FEATURE, reference), slots(2, 1_000, copies))
    assert ALPHA / 8 < false < scipy.stats.binom.ppf(0.9995, 1_000, ALPHA) / 1_000


def test_without_dispersion_dependent_calls_would_alarm_all_the_time():
    reference = enrolled("input_tokens", list(slots(1, 400, copies=5)))
    independent = enrolled("input_tokens", list(slots(1, 400))).dispersion
    naive = msgspec.structs.replace(reference, dispersion=independent)
    assert rate(Binning(FEATURE, naive), slots(2, 100, copies=5)) > 0.9


def test_dispersion_does_not_hide_a_real_shift():
    """Prompts 1.4 times as long, each five times: 100 independent calls tell."""
    reference = enrolled("input_tokens", list(slots(1, 400, copies=5)))
    assert rate(Binning(FEATURE, reference), slots(3, 100, copies=5, shift=1.4)) > 0.6


def test_a_window_of_few_calls_has_figures_and_no_tests():
    reference = enrolled("input_tokens", list(slots(1, 20)))
    verdict = judged(Binning(FEATURE, reference), [100] * 49)
    assert (verdict.state, verdict.reason, verdict.tests) == (State.INSUFFICIENT, "few calls", {})
    assert verdict.psi > 1


def test_numbers_are_tested_by_psi_and_ks():
    reference = enrolled("input_tokens", list(slots(1, 20)))
    verdict = judged(Binning(FEATURE, reference), next(slots(2, 1)))
    assert set(verdict.tests) == {"psi", "ks"}
    assert verdict.ks <= verdict.ks_high
    assert verdict.tests["ks"].value == verdict.ks
