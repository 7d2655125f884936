"""What counts as flat memory, and what else makes a soak fail."""

import math

import pytest

from benchmarks import soak
from benchmarks.soak import Growth, Sample


def samples(*mib, apart=10_000):
    """One every `apart` requests."""
    return [
        Sample(n * apart, n * 5.0, {"relay": int(size * 2**20)}, int(size * 2**20), {"observed": n})
        for n, size in enumerate(mib)
    ]


def test_growth_is_that_of_the_last_half():
    """What is filled once, in the first half, is no growth; medians, so that one sample does not decide."""
    seen = Growth.of(samples(50, 80, 90, 100, 100, 100, 100, 100, 102, 150, 102, 102))
    assert (seen.mib, seen.per_100_000) == (pytest.approx(2.0), pytest.approx(2.0 / 30_000 * 100_000))
    assert seen.flat


@pytest.mark.parametrize(
    ("mib", "apart", "flat"),
    [
        ([100, 100, 103, 106], 10_000, False),
        ([100, 100, 101, 102], 10_000, True),
        ([100, 100, 103, 106], 1_000_000, True),
        ([100, 100, 90, 80], 10_000, True),
    ],
    ids=["three megabytes in 10,000 requests", "within the noise", "three in a million", "shrinks"],
)
def test_flat_is_little_altogether_or_little_per_request(mib, apart, flat):
    """A short soak is not failed by the allocator, a long one by a byte a request."""
    assert Growth.of(samples(*mib, apart=apart)).flat is flat


def test_too_few_samples_are_not_called_flat():
    """Nothing is said of what was not looked at."""
    seen = Growth.of(samples(100, 100, 100))
    assert math.isnan(seen.mib)
    assert not seen.flat


def test_everything_that_is_wrong_is_said():
    """Growth, time that ran out, replies that were altered, and processes that were started again."""
    grown = samples(*range(100, 500, 10))
    said = soak.verdict(grown, Growth.of(grown), 1_000_000, {"altered": 2}, ["observer: 1"])
    assert [line.partition(":")[0] for line in said] == [
        "memory grows",
        "time ran out after 390,000 of 1,000,000 requests",
        "faults",
        "started again",
    ]
    flat = samples(*[100] * 40)
    assert soak.verdict(flat, Growth.of(flat), 390_000, {}, []) == []


def test_ten_samples_and_the_last_are_shown():
    """However many were taken."""
    assert [row[0] for row in soak.table(samples(*[100] * 101)).rows] == [
        f"{n * 100_000:,}" for n in range(11)
    ]
