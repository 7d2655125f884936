"""Cells: aligned with OpenTelemetry's exponential histograms, equal on every host, nested scale in scale."""

import math

import pytest

from driftline.drift.bins import MAX_EDGES, bin_labels, mirrored, octaves, whole_octaves
from driftline.drift.features import FEATURES


def test_edges_are_the_boundaries_of_a_scale_3_exponential_histogram():
    """Boundary i of scale 3 is 2^(i/8)."""
    edges = octaves(-2, 3).values
    assert edges[0] == 0.0
    assert edges[1:] == pytest.approx([2 ** (i / 8) for i in range(-16, 25)], rel=1e-15)


def test_powers_of_two_are_exact():
    """So whole octaves are equal bit for bit wherever they are computed."""
    assert [edge for edge in octaves(-3, 3).values if edge and math.frexp(edge)[0] == 0.5] == [
        0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0,
    ]  # fmt: skip


def test_whole_numbers_have_no_bin_without_a_number_in_it():
    assert whole_octaves(4).values == (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16)


def test_negative_values_mirror_positive_ones():
    assert mirrored(octaves(0, 1)).values == tuple(-edge for edge in reversed(octaves(0, 1).values))


@pytest.mark.parametrize("feature", [f for f in FEATURES.values() if f.edges], ids=lambda f: f.name)
def test_every_feature_has_ascending_edges_and_nested_scales(feature):
    edges = feature.edges
    assert list(edges.values) == sorted(set(edges.values))
    kept = [{v for v, s in zip(edges.values, edges.scales, strict=True) if s <= scale} for scale in range(4)]
    assert kept[0] < kept[1] <= kept[2] <= kept[3] == set(edges.values)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (100, 130), (90, 9000), (1, 2**20), (0, 2**20)])
def test_a_reference_keeps_at_most_64_edges_and_covers_its_range(low, high):
    edges = whole_octaves(20)
    kept = edges.within(low, high)
    assert len(kept) <= MAX_EDGES
    assert set(kept) <= set(edges.values)
    assert kept[0] <= max(low, 1)
    assert kept[-1] >= high


def test_a_narrow_range_keeps_the_finest_bins():
    assert whole_octaves(20).within(128, 256) == (128, 139, 152, 165, 181, 197, 215, 234, 256)


def test_labels_say_which_side_is_included():
    assert bin_labels((0.25, 1000.0, 32768.0)) == [
        "(-inf, 0.25]",
        "(0.25, 1000]",
        "(1000, 32768]",
        "(32768, +inf)",
    ]
