"""The books of the relays balance, whoever dies when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.relay.counters import BACKENDS, ROWS, Block, settle

EVENTS = st.lists(st.sampled_from(["start", "end", "drop", "observe", "die"]), max_size=60)


@given(EVENTS)
def test_every_request_is_observed_or_dropped_for_a_reason(events):
    """Whatever a relay had started when it was killed, and nobody observed, counts as lost with it."""
    block, file = Block.create()
    with file:
        row, number = block.allocate(1), 1
        started = observed = sent = 0
        for event in events:
            if event == "start":
                row.add("started")
                row.add("active")
                started += 1
            elif event in ("end", "drop") and row["active"]:
                row.add("active", -1)
                row.add("outcome.complete")
                if event == "drop":
                    row.add("dropped.channel_full")
                else:
                    row.add("sent")
                    sent += 1
            elif event == "observe" and row["sent"] > row["observed"]:
                row.add("observed")
                observed += 1
            elif event == "die":
                settle(row)
                number += 1
                row = block.allocate(number)
        settle(row)
        totals = block.totals()
        assert totals.started == started == totals.observed + sum(totals.dropped.values())
        assert totals.observed == observed
        assert sum(totals.requests.values()) == started
        assert totals.active == 0


def test_rows_of_dead_relays_are_used_again():
    """A relay that dies ten thousand times needs no more room, and no count is lost."""
    block, file = Block.create()
    with file:
        for number in range(1, 10 * ROWS):
            row = block.allocate(number)
            row.add("started", 2)
            row.add("observed")
            row.add("outcome.complete")
            settle(row)
        totals = block.totals()
        assert totals.started == 2 * (10 * ROWS - 1)
        assert totals.dropped["relay_lost"] == totals.requests["relay_lost"] == 10 * ROWS - 1


def test_a_request_is_lost_with_its_relay_when_the_relay_is_known_to_be_dead():
    """Between two counters of a living one stands a request that is nowhere, which must not show as lost: the counter
    would go back when it arrives."""
    block, file = Block.create()
    with file:
        row = block.allocate(1)
        row.add("started")
        assert block.totals().requests["relay_lost"] == 0
        settle(row)
        assert block.totals().requests["relay_lost"] == 1


def test_another_process_sees_the_same_counters():
    block, file = Block.create()
    with file:
        row = block.allocate(7)
        row.add("started")
        assert Block(file.fileno()).row(row.index)["started"] == 1


def test_spans_are_counted_apart_from_rows_and_from_each_other():
    """Every backend has counters of its own, up to a number that nobody configures."""
    block, file = Block.create()
    with file:
        for backend in range(BACKENDS):
            block.tally(backend).add("made", backend)
            block.tally(backend).add("dropped.failed")
        assert [block.tally(backend)["made"] for backend in range(BACKENDS)] == list(range(BACKENDS))
        assert block.totals().started == 0
        assert block.allocate(1).dropped() == 0
        with pytest.raises(ValueError, match="more than 64 exporters: send to a Collector"):
            block.tally(BACKENDS)
