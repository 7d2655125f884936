"""References: bins chosen from what was seen, dispersion from windows held out."""

import math

import numpy as np
import pytest

from driftline.drift.bins import FIRST, MAX_EDGES
from driftline.drift.enrol import enrol
from driftline.drift.features import FEATURES
from driftline.drift.observation import Observation
from driftline.drift.reference import Binning
from driftline.drift.tally import Tally
from driftline.drift.window import SlotRing


def enrolled(name, slots, *, scales=None, minimum=50, tenant="acme"):
    """The reference of a feature whose values are `slots`, one list each."""
    feature = FEATURES[name]
    tally = Tally([feature], max_tenants=16)
    size = tally.slices[name].stop
    ring = SlotRing(len(slots), size)
    total = np.zeros(size, np.int64)
    for number, values in enumerate(slots):
        for value in values:
            tally.add(Observation(0.0, "m", "", tenant, "", {name: value}))
        cells = tally.counts().cells
        ring.add(number, cells)
        total += cells
        tally.reset()
    names = tally.names.get(name, [])
    return enrol(
        feature, ring, names, scales=scales or {"1s": 1}, minimum=minimum, tenants={tenant: total}
    )  # fmt: skip


def drawn(seed, slots=40, calls=100, sigma=0.8):
    rng = np.random.default_rng(seed)
    return [(rng.lognormal(5.5, sigma, calls).astype(int) + 1).tolist() for _ in range(slots)]


def test_numbers_are_grouped_in_about_ten_equal_shares():
    reference = enrolled("input_tokens", drawn(1))
    groups = np.bincount(reference.groups, weights=reference.counts)[FIRST:]
    assert len(groups) == 10
    assert (groups / groups.sum() > 0.05).all()
    assert len(reference.edges) <= MAX_EDGES
    assert reference.samples == 4_000


def test_a_narrow_feature_has_the_finest_bins():
    reference = enrolled("ttft", [[0.100, 0.110, 0.115, 0.125] * 30] * 12)
    assert [edge for edge in reference.edges if 0.09 < edge < 0.13] == pytest.approx(
        [2 ** (i / 8) for i in range(-27, -23)]
    )


def test_ties_of_whole_numbers_are_one_bin_each():
    reference = enrolled("messages", [[1, 1, 1, 2, 3] * 20] * 12)
    assert reference.counts[FIRST:] == (0, 720, 240, 240, 0)
    assert reference.edges == (0, 1, 2, 3)
    assert reference.groups[FIRST:] == (2, 3, 4, 5, 6)


def test_a_constant_has_a_group_on_either_side():
    """So that any change shows."""
    reference = enrolled("input_tokens", [[100] * 50] * 12)
    binning = Binning(FEATURES["input_tokens"], reference)
    assert binning.group_counts[FIRST:].tolist() == [0, 600, 0]
    assert binning.group_labels[FIRST:] == ["(-inf, 98]", "(98, 107]", "(107, +inf)"]


def test_a_feature_that_was_always_missing_has_a_reference():
    reference = enrolled("ttft", [[None] * 50] * 12)
    assert reference.counts[0] == reference.samples == 600


def test_categories_are_ranked_and_rare_ones_tested_together():
    reference = enrolled("finish_reason", [["stop"] * 180 + ["length"] * 19 + ["abort"]] * 12)
    assert reference.categories == ("stop", "length", "abort")
    assert reference.counts == (0, 0, 2160, 228, 12)
    assert reference.groups == (0, 1, 2, 3, 1)


def test_independent_calls_are_not_dispersed():
    dispersion = enrolled("input_tokens", drawn(2, slots=400), scales={"1s": 1, "10s": 10}).dispersion
    assert dispersion["1s"].windows == 400
    assert dispersion["10s"].windows == 40
    assert 1.0 <= dispersion["1s"].factor < 1.25
    assert dispersion["1s"].factor * dispersion["1s"].degrees == pytest.approx(9, rel=0.1)
    assert dispersion["1s"].calibrated
    assert not dispersion["10s"].calibrated


def test_alike_calls_in_a_slot_are_dispersed():
    """Five copies of each call are worth a fifth of as many calls."""
    rng = np.random.default_rng(3)
    slots = [np.repeat(rng.lognormal(5.5, 0.8, 200).astype(int) + 1, 5).tolist() for _ in range(300)]
    dispersion = enrolled("input_tokens", slots).dispersion["1s"]
    assert dispersion.factor == pytest.approx(5, rel=0.25)
    assert dispersion.degrees == pytest.approx(9, rel=0.25)


def test_a_scale_without_held_out_windows_expects_the_worst():
    """As if longer windows told nothing more than the longest that were seen."""
    reference = enrolled("input_tokens", drawn(4, slots=40), scales={"1s": 1, "60s": 60})
    seen, unseen = reference.dispersion_at("1s"), reference.dispersion_at("60s")
    assert unseen.factor == pytest.approx(60 * seen.factor)
    assert not unseen.calibrated


def test_tenants_are_counted_by_group():
    reference = enrolled("finish_reason", [["stop"] * 100 + ["length"] * 10] * 12)
    assert reference.tenants == {"acme": (0, 0, 1200, 120)}


def test_bins_of_cells_keep_every_call():
    reference = enrolled("input_tokens", drawn(5))
    feature = FEATURES["input_tokens"]
    binning = Binning(feature, reference)
    cells = np.arange(FIRST + len(feature.edges.values) + 1)
    bins = binning.bins(cells, [])
    assert bins.sum() == cells.sum()
    for i, edge in enumerate([*feature.edges.values, math.inf]):
        bin_ = binning.bins_of_cells(len(cells), [])[FIRST + i] - FIRST
        low = -math.inf if bin_ == 0 else reference.edges[bin_ - 1]
        high = math.inf if bin_ == len(reference.edges) else reference.edges[bin_]
        assert low < edge <= high
