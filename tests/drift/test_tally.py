"""Counting: every value has one cell, and counts of many workers add up to those of one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.drift.bins import FIRST, MAX_CATEGORIES, MISSING, OTHER
from driftline.drift.features import FEATURES
from driftline.drift.observation import Observation
from driftline.drift.tally import FOLDED, Tally

WATCHED = [FEATURES[name] for name in ("input_tokens", "ttft", "finish_reason", "refusal")]


def tally_of(*values, tenant="", max_tenants=16):
    tally = Tally(WATCHED, max_tenants=max_tenants)
    for i, value in enumerate(values):
        tally.add(Observation(0.0, "m", "", tenant, f"trace-{i}", value))
    return tally


def cells(tally, feature):
    return tally.counts().cells[tally.slices[feature]]


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (0, (-math.inf, 0)),
        (1, (0, 1)),
        (8, (7, 8)),
        (9, (8, 9)),
        (1000, (939, 1024)),
        (10**9, (2**20, math.inf)),
    ],
)
def test_a_number_is_counted_below_its_inclusive_upper_bound(value, bounds):
    counted = cells(tally_of({"input_tokens": value}), "input_tokens")
    edges = [-math.inf, *FEATURES["input_tokens"].edges.values, math.inf]
    cell = int(np.flatnonzero(counted)[0]) - FIRST
    assert (edges[cell], edges[cell + 1]) == bounds


@pytest.mark.parametrize(
    ("feature", "value", "cell"),
    [
        ("ttft", None, MISSING),
        ("ttft", math.nan, OTHER),
        ("ttft", "fast", OTHER),
        ("input_tokens", None, MISSING),
        ("input_tokens", [1], OTHER),
        ("finish_reason", None, MISSING),
        ("finish_reason", 3, OTHER),
        ("finish_reason", ["stop"], OTHER),
        ("finish_reason", "stop", FIRST),
        ("refusal", None, MISSING),
        ("refusal", False, FIRST),
        ("refusal", True, FIRST + 1),
        ("refusal", "perhaps", OTHER),
    ],
)
def test_what_is_no_value_is_counted_apart(feature, value, cell):
    """A value that is not there and one that makes no sense are two different things, and neither is lost."""
    assert np.flatnonzero(cells(tally_of({feature: value}), feature)).tolist() == [cell]


def test_a_feature_that_does_not_apply_is_not_counted():
    tally = tally_of({"refusal": True}, {"refusal": False, "unheard_of": 1})
    assert cells(tally, "refusal").sum() == 2
    assert tally.counts().cells.sum() == 2


def test_a_new_category_gets_a_cell_and_a_name():
    tally = tally_of({"finish_reason": "abort"}, {"finish_reason": "abort"})
    position = tally.names["finish_reason"].index("abort")
    assert cells(tally, "finish_reason")[FIRST + position] == 2


def test_categories_are_bounded_and_the_rest_is_other():
    tally = tally_of(*({"finish_reason": f"reason {i}"} for i in range(100)))
    assert len(tally.names["finish_reason"]) == MAX_CATEGORIES
    assert cells(tally, "finish_reason")[OTHER] == 100 - (MAX_CATEGORIES - 5)
    assert cells(tally, "finish_reason").sum() == 100


def test_tenants_are_bounded_and_the_rest_is_folded():
    tally = Tally(WATCHED, max_tenants=2)
    for tenant in ("a", "b", "c", "d", "a"):
        tally.add(Observation(0.0, "m", "", tenant, "", {"refusal": True}))
    of_tenant = {tenant: int(counts.sum()) for tenant, counts in tally.counts().tenants.items()}
    assert of_tenant == {"a": 2, "b": 1, FOLDED: 2}


def test_the_last_traces_of_each_category_are_known():
    tally = tally_of(*[{"refusal": True}] * 7, {"refusal": False})
    no, yes = tally.traces("refusal")[FIRST:]
    assert no == ["trace-7"]
    assert sorted(yes) == [f"trace-{i}" for i in (2, 3, 4, 5, 6)]


def test_the_last_trace_of_each_bin_is_known():
    tally = tally_of({"input_tokens": 3}, {"input_tokens": 4}, {"input_tokens": 3})
    assert [of for of in tally.traces("input_tokens") if of] == [["trace-2"], ["trace-1"]]


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": st.none() | st.integers(0, 3_000_000),
        "ttft": st.none() | st.floats(allow_nan=True),
        "finish_reason": st.none() | st.sampled_from(["stop", "length", "abort", "x", "y"]),
        "refusal": st.none() | st.booleans(),
    },
)


def by_name(tally):
    """Counts of all cells that are not 0, categories by name."""
    counts = tally.counts()
    found = {}
    for scope, vector in {"": counts.cells, **counts.tenants}.items():
        for feature, of in tally.slices.items():
            names = dict(enumerate(tally.names.get(feature, []), FIRST))
            for i in np.flatnonzero(vector[of]).tolist():
                found[scope, feature, names.get(i, i)] = int(vector[of][i])
    return found


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(VALUES, st.integers(0, 3)), max_size=60), st.permutations(range(4)))
def test_merging_workers_in_any_order_equals_one_worker(calls, order):
    """Bit for bit: counts are integers and merging is addition."""
    one = Tally(WATCHED, max_tenants=16)
    workers = [Tally(WATCHED, max_tenants=16) for _ in range(4)]
    for values, worker in calls:
        observation = Observation(0.0, "m", "", f"tenant {worker % 2}", "", values)
        one.add(observation)
        workers[worker].add(observation)
    merged = Tally(WATCHED, max_tenants=16)
    for worker in order:
        merged.merge(workers[worker])
    assert by_name(merged) == by_name(one)
    assert merged.calls == one.calls


@settings(max_examples=50, deadline=None)
@given(st.lists(VALUES, max_size=40))
def test_an_open_slot_survives_being_written_down(calls):
    tally = tally_of(*calls, tenant="acme")
    again = Tally(WATCHED, max_tenants=16)
    again.resume(tally.state())
    assert by_name(again) == by_name(tally)
    assert (again._traces, again.names, again.calls) == (tally._traces, tally.names, tally.calls)
