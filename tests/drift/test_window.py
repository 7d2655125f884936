"""Sums of slots: exact, whatever the gaps."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from driftline.drift.window import ATTRIBUTED_SLOTS, SlotRing, TenantRing


@given(
    st.dictionaries(st.integers(0, 60), st.integers(1, 2**40), max_size=30),
    st.integers(0, 80),
    st.integers(1, 12),
)
def test_a_window_is_the_sum_of_its_slots(slots, last, length):
    """Slots may be missing, may be far apart, and may hold more than small integers do."""
    ring = SlotRing(12, 2)
    for number in sorted(slots):
        if number <= last:
            ring.add(number, np.array([slots[number], 1]))
    expected = [count for number, count in slots.items() if last - length < number <= last]
    assert ring.total(last, length).tolist() == [sum(expected), len(expected)]


def test_adding_to_a_slot_again_sums():
    ring = SlotRing(4, 1)
    ring.add(7, np.array([250]))
    ring.add(7, np.array([250]))
    assert ring.total(7, 1).tolist() == [500]


def test_counts_are_kept_in_the_narrowest_integers_that_hold_them():
    ring = SlotRing(4, 1)
    widths = []
    for count in (255, 256, 65_536):
        ring.add(0, np.array([count]) - ring.total(0, 1))
        widths.append(ring._slots.itemsize)
    assert widths == [1, 2, 4]


def test_a_ring_survives_being_written_down():
    ring = SlotRing(4, 3)
    for number in (2, 3, 5, 9):
        ring.add(number, np.array([number, 0, 1]))
    again = SlotRing(4, 3)
    again.resume(ring.state())
    assert again.state() == ring.state() == {9: ([0, 2], [9, 1])}


def test_the_last_slots_know_their_tenants():
    ring = TenantRing()
    for number in range(20):
        ring.add(number, {"a": np.array([1, 0]), f"only in {number}": np.array([0, number])})
    total = ring.total(19, 2)
    assert {tenant: counts.tolist() for tenant, counts in total.items()} == {
        "a": [2, 0],
        "only in 18": [0, 18],
        "only in 19": [0, 19],
    }
    assert ring.total(19, 100)["a"].tolist() == [ATTRIBUTED_SLOTS, 0]
