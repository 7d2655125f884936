"""The detector over time: it learns, notices, latches, explains, and lets no clock confuse it."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.drift.detector import HISTORY, Detector
from driftline.drift.observation import Observation
from driftline.drift.tally import FOLDED
from driftline.drift.verdict import State
from tests.drift.traffic import START, Traffic, drive, opened, quick


def learned(seed=1, settings=None, seconds=30, **traffic):
    """A detector with a reference, `seconds` after `START`, and the traffic that it knows."""
    detector = Detector(settings or quick(), START)
    source = Traffic(seed)
    events = drive(detector, source.calls(START, seconds, **traffic))
    assert events == []
    return detector, source


def states(detector):
    return {state.feature: state.state for state in detector.states()}


PATIENT = quick(learn="200s", scales=("1s", "10s"))
"""Ten times the reference: smaller shifts are seen."""


# Learning


def test_it_learns_then_is_stable():
    detector, source = Detector(quick(), START), Traffic(1)
    drive(detector, source.calls(START, 10))
    assert set(states(detector).values()) == {State.LEARNING}
    assert detector.verdicts()[0].progress == pytest.approx(0.5)
    drive(detector, source.calls(START + 10, 11))
    assert set(states(detector).values()) == {State.STABLE}
    assert detector.baselines()[0].features["input_tokens"].samples == 2_000


def test_a_feature_that_comes_later_learns_later():
    """A first JSON request a week after the start is watched like any other."""
    settings = quick(features=("input_tokens", "json_invalid"))
    detector, source = learned(settings=settings)
    assert set(states(detector)) == {"input_tokens"}
    before = detector.baselines()[0].reference
    drive(detector, source.calls(START + 30, 10, values={"json_invalid": False}))
    assert states(detector) == {"input_tokens": State.STABLE, "json_invalid": State.LEARNING}
    drive(detector, source.calls(START + 40, 12, values={"json_invalid": False}))
    assert states(detector) == {"input_tokens": State.STABLE, "json_invalid": State.STABLE}
    assert detector.baselines()[0].reference != before


def test_too_few_calls_are_learned_for_longer():
    detector = Detector(quick(), START)
    drive(detector, Traffic(1, rate=10).calls(START, 24))
    assert set(states(detector).values()) == {State.LEARNING}
    assert detector.baselines()[0].features["input_tokens"].progress == pytest.approx(0.8, abs=0.01)


def test_pinning_by_hand_waits_to_be_asked():
    detector = Detector(quick(pin="manual"), START)
    source = Traffic(1)
    drive(detector, source.calls(START, 40))
    assert set(states(detector).values()) == {State.LEARNING}
    reference = detector.pin("llama", "")
    drive(detector, source.calls(START + 40, 2))
    assert set(states(detector).values()) == {State.STABLE}
    assert detector.baselines()[0].reference == reference
    assert detector.baselines()[0].features["input_tokens"].samples == 2_000  # the last 20 s


def test_there_is_nothing_to_pin_before_enough_calls_came():
    detector = Detector(quick(), START)
    drive(detector, Traffic(1).calls(START, 2))
    with pytest.raises(
        ValueError, match=r"needs 250 calls, five times drift.minimum \(50\), and input_tokens has 200"
    ):
        detector.pin("llama", "")
    with pytest.raises(
        ValueError, match="no traffic of model 'lama', variant '' was seen; known are 'llama' ''"
    ):
        detector.pin("lama", "")


def test_unpinning_learns_anew():
    detector, source = learned()
    detector.unpin("llama", "")
    drive(detector, source.calls(START + 30, 2))
    assert set(states(detector).values()) == {State.LEARNING}
    with pytest.raises(ValueError, match="still learning"):
        detector.export("llama", "")


def pinned(detector):
    detector.pin("llama", "")


def imported(detector):
    detector.import_(detector.export("llama", ""))


@pytest.mark.parametrize("choose", [pinned, imported])
def test_a_reference_that_someone_chose_does_not_change_by_itself(choose):
    """A feature that comes later is left out of it until someone asks for it."""
    settings = quick(features=("input_tokens", "json_invalid"))
    detector, source = learned(settings=settings)
    choose(detector)
    before = detector.baselines()[0].reference
    drive(detector, source.calls(START + 30, 40, values={"json_invalid": False}))
    assert states(detector) == {"input_tokens": State.STABLE, "json_invalid": State.INSUFFICIENT}
    assert {v.reason for v in detector.verdicts() if v.feature == "json_invalid"} == {"not in the reference"}
    assert detector.baselines()[0].features["json_invalid"].state == "left out"
    assert detector.baselines()[0].reference == before
    assert detector.pin("llama", "") != before
    assert detector.baselines()[0].features["json_invalid"].state == "pinned"


def test_after_unpinning_all_is_learned_again():
    detector, source = learned(settings=quick(features=("input_tokens", "json_invalid")))
    detector.pin("llama", "")
    detector.unpin("llama", "")
    drive(detector, source.calls(START + 30, 22, values={"json_invalid": False}))
    assert states(detector) == {"input_tokens": State.STABLE, "json_invalid": State.STABLE}


def test_what_was_pinned_by_itself_can_be_frozen():
    """Though there is nothing new to pin."""
    detector, source = learned(settings=quick(features=("input_tokens", "json_invalid")))
    drive(detector, source.calls(START + 30, 1, values={"json_invalid": False}))
    before = detector.baselines()[0].reference
    assert detector.pin("llama", "") == before
    assert states(detector)["json_invalid"] == State.INSUFFICIENT


def test_nothing_is_added_to_a_reference_during_an_incident():
    """It would be learned from traffic that has drifted."""
    detector, source = learned(settings=quick(features=("input_tokens", "json_invalid")))
    before = detector.baselines()[0].reference
    drive(detector, source.calls(START + 30, 40, longer=3, values={"json_invalid": False}))
    assert states(detector) == {"input_tokens": State.DRIFTING, "json_invalid": State.LEARNING}
    assert detector.baselines()[0].reference == before
    drive(detector, source.calls(START + 70, 10, values={"json_invalid": False}))
    assert states(detector) == {"input_tokens": State.STABLE, "json_invalid": State.STABLE}


def test_an_exported_reference_is_used_elsewhere():
    """For another model too, where the user says so."""
    detector, source = learned()
    baseline = detector.export("llama", "")
    other = Detector(quick(), START + 30)
    assert other.import_(baseline, model="qwen").reference == detector.baselines()[0].reference
    drive(other, source.calls(START + 30, 3, model="qwen"))
    assert set(states(other).values()) == {State.STABLE}
    assert opened(drive(other, source.calls(START + 33, 3, model="qwen", longer=3))) == [
        ("input_tokens", 34.0)
    ]


def test_a_reference_that_does_not_fit_changes_nothing():
    detector, _ = learned()
    other = Detector(quick(features=("ttft",)), START)
    with pytest.raises(ValueError, match="none of them is watched"):
        other.import_(detector.export("llama", ""))
    assert other.baselines() == []


# Noticing


def test_a_step_of_half_as_long_again_is_noticed_at_an_exact_slot():
    """Seeded: prompts 1.5 times as long from second 220 on; within 9 s, or 900 calls."""
    detector, source = learned(settings=PATIENT, seconds=220)
    assert opened(drive(detector, source.calls(START + 220, 30, longer=1.5))) == [("input_tokens", 229.0)]


def test_quiet_traffic_opens_nothing():
    """400 slots of 100 calls, three features, two scales."""
    detector, source = learned()
    assert drive(detector, source.calls(START + 30, 400)) == []


def test_refusals_that_double_are_noticed_by_the_sequential_test():
    """A PSI of 0.014 is tolerated; the rate is not. Its law needs no calibration, so it may page."""
    detector, source = learned(settings=PATIENT, seconds=220, refusals=0.02)
    events = drive(detector, source.calls(START + 220, 150, refusals=0.04))
    assert opened(events) == [("refusal", 283.0)]
    incident = events[0].incident
    assert (incident.test, incident.severity) == ("cusum", "page")
    assert "PSI" not in incident.explanation


def test_a_page_of_the_sequential_test_says_so():
    """PSI alarmed, too, and by more; but its law was not checked on enough windows to be trusted with a page."""
    detector, source = learned()
    (event,) = drive(detector, source.calls(START + 30, 2, refusals=0.5))
    incident = event.incident
    assert (incident.severity, incident.test, incident.calibrated) == ("page", "cusum", False)
    assert incident.value > incident.threshold
    assert "PSI is" in incident.explanation
    assert incident.explanation.endswith(
        f"; the sequential test has log evidence {incident.value:.3g} where {incident.threshold:.3g} is enough."
    )


def test_fewer_refusals_are_worth_a_ticket_at_most():
    detector, source = learned(refusals=0.5)
    events = drive(detector, source.calls(START + 30, 10, refusals=0.0))
    assert [(e.incident.feature, e.incident.severity) for e in events] == [("refusal", "ticket")]


def test_a_new_category_is_named():
    detector, source = learned()
    (event,) = drive(detector, source.calls(START + 30, 3, finish="abort"))
    assert event.incident.feature == "finish_reason"
    assert "other (abort) went from 0.0% to 93.0%" in event.incident.explanation
    assert all(math.isfinite(term.psi) for term in event.incident.terms)


def test_calls_of_a_category_that_grew_are_shown():
    detector, source = learned()
    calls = list(source.calls(START + 30, 1, refusals=0.5))
    (event,) = drive(detector, calls)
    refused = {call.trace_id for call in calls if call.values["refusal"]}
    assert len(event.incident.trace_ids) == 5
    assert set(event.incident.trace_ids) <= refused


def test_a_vanished_category_is_named():
    detector, source = learned()
    (event,) = drive(detector, source.calls(START + 30, 3, values={"finish_reason": "length"}))
    assert {term.group: term.window_share for term in event.incident.terms} == {"stop": 0.0, "length": 1.0}
    assert "stop went from 88.9% to 0.0%" in event.incident.explanation


def test_a_feature_that_goes_missing_is_noticed():
    detector, source = learned()
    (event,) = drive(detector, source.calls(START + 30, 3, values={"input_tokens": None}))
    assert event.incident.terms[0].group == "missing"


def test_a_constant_that_changes_is_noticed():
    detector, source = learned(values={"input_tokens": 100})
    (event,) = drive(detector, source.calls(START + 30, 3, values={"input_tokens": 130}))
    assert (event.incident.feature, event.incident.terms[0].group) == ("input_tokens", "(107, +inf)")


def test_what_was_always_missing_is_stable_while_it_is():
    detector, source = learned(values={"input_tokens": None})
    assert drive(detector, source.calls(START + 30, 5, values={"input_tokens": None})) == []
    assert states(detector)["input_tokens"] == State.STABLE


# Explaining


def test_the_traces_of_an_incident_landed_in_the_bins_that_grew():
    detector, source = learned()
    calls = list(source.calls(START + 30, 2, longer=3))
    (event,) = drive(detector, calls)
    prompts = {call.trace_id: call.values["input_tokens"] for call in calls}
    grown = [t.group for t in event.incident.terms if t.window_share > t.reference_share]
    bounds = [tuple(float(bound) for bound in group.strip("(])").split(", ")) for group in grown]
    assert len(event.incident.trace_ids) == 5
    for trace_id in event.incident.trace_ids:
        assert any(low < prompts[trace_id] <= high for low, high in bounds)


def test_a_burst_of_one_tenant_is_attributed_to_it():
    """Ten times its traffic, with prompts of its own."""
    detector = Detector(quick(), START)
    normal, burst = Traffic(1), Traffic(2, rate=90)
    drive(detector, normal.calls(START, 30, tenants=("a", "b", "c")))
    both = [
        *normal.calls(START + 30, 8, tenants=("a", "b", "c")),
        *burst.calls(START + 30, 8, longer=4, tenants=("b",)),
    ]
    (event,) = drive(detector, sorted(both, key=lambda call: call.timestamp))
    assert event.incident.tenants[0].tenant == "b"
    assert event.incident.tenants[0].share > 0.9
    assert "tenant b brought" in event.incident.explanation


def test_an_incident_holds_what_is_needed_to_understand_it_later():
    detector, source = learned()
    (event,) = drive(detector, source.calls(START + 30, 2, longer=3))
    incident = event.incident
    verdict = next(v for v in detector.verdicts() if (v.feature, v.scale) == ("input_tokens", "1s"))
    assert incident.reference == verdict.reference
    assert (incident.opened_at, incident.scale, incident.test) == (START + 31, "1s", "psi")
    assert incident.value > incident.threshold
    assert incident.probability < 1e-6
    assert incident.psi == incident.value
    assert incident.samples == 100
    assert incident.reference_samples == 2_000
    assert sum(term.psi for term in incident.terms) == pytest.approx(incident.psi)
    assert not incident.calibrated
    assert incident.severity == "ticket"
    assert msgspec.json.decode(msgspec.json.encode(incident), type=type(incident)) == incident


def test_a_verdict_holds_the_counts_that_a_fleet_adds_up():
    detector, source = learned()
    drive(detector, source.calls(START + 30, 5))
    for verdict in detector.verdicts():
        assert sum(verdict.window_groups) == verdict.samples == {"1s": 100, "5s": 500}[verdict.scale]
        assert sum(verdict.reference_groups) == verdict.reference_samples == 2_000
        assert len(verdict.groups) == len(verdict.window_groups) == len(verdict.reference_groups)
        assert verdict.window_end == START + 35
        if verdict.feature == "input_tokens":
            assert len(verdict.window_le) == len(verdict.reference_le) == len(verdict.edges) + 1
            assert verdict.window_le[-1] == verdict.samples
            assert verdict.reference_le == sorted(verdict.reference_le)


# Latching


def test_an_incident_pages_once_and_closes_after_three_clean_windows():
    detector, source = learned()
    during = drive(detector, source.calls(START + 30, 20, longer=3))
    assert [event.kind for event in during] == ["opened"]
    assert states(detector)["input_tokens"] == State.DRIFTING
    after = drive(detector, source.calls(START + 50, 10))
    assert [(event.kind, event.incident.closed_at) for event in after] == [("closed", START + 53)]
    assert states(detector)["input_tokens"] == State.STABLE
    assert [incident.open for incident in detector.incidents()] == [False]


def test_a_break_in_the_run_of_clean_windows_begins_it_anew():
    detector, source = learned()
    drive(detector, source.calls(START + 30, 5, longer=3))
    drive(detector, source.calls(START + 35, 2))
    drive(detector, source.calls(START + 37, 1, longer=3))
    (event,) = drive(detector, source.calls(START + 38, 5))
    assert (event.kind, event.incident.closed_at) == ("closed", START + 41)


def test_a_shift_close_to_the_threshold_does_not_open_and_close_by_turns():
    """What alarmed has to look like the reference again, not just to alarm no more."""
    detector, source = learned(settings=PATIENT, seconds=220)
    events = drive(detector, source.calls(START + 220, 300, longer=1.35))
    assert [event.kind for event in events] == ["opened"]


def test_an_incident_without_traffic_stays_open():
    """Silence is no proof that all is well."""
    detector, source = learned()
    drive(detector, source.calls(START + 30, 5, longer=3))
    for second in range(36, 120):
        assert detector.tick(START + second) == []
    assert states(detector)["input_tokens"] == State.DRIFTING


def test_after_an_incident_its_calls_are_compared_no_more():
    """Or the longer windows would alarm about what is over."""
    detector, source = learned(settings=quick(scales=("1s", "15s")))
    drive(detector, source.calls(START + 30, 20, longer=3))
    assert [e.kind for e in drive(detector, source.calls(START + 50, 30))] == ["closed"]


def test_unpinning_ends_the_incident():
    detector, source = learned()
    drive(detector, source.calls(START + 30, 5, longer=3))
    detector.unpin("llama", "")
    (event,) = detector.tick(START + 36)
    assert (event.kind, event.incident.closed_because) == ("closed", "its reference was unpinned")


def test_closed_incidents_are_remembered_up_to_a_bound():
    detector, source = learned()
    at = START + 30
    for _ in range(HISTORY // 50 + 1):
        drive(detector, source.calls(at, 2, longer=3))
        drive(detector, source.calls(at + 2, 6))
        at += 8
    times = [incident.opened_at for incident in detector.incidents()]
    assert times == sorted(times, reverse=True)
    assert len(times) == HISTORY // 50 + 1
    assert detector._closed.maxlen == HISTORY


# Severity


def test_a_calibrated_alarm_pages():
    """200 held-out windows: the law of the threshold was checked where it is used."""
    detector, source = learned(settings=PATIENT, seconds=220)
    assert detector.baselines()[0].features["input_tokens"].calibrated == ["1s"]
    (event,) = drive(detector, source.calls(START + 220, 2, longer=3))
    assert (event.incident.scale, event.incident.severity) == ("1s", "page")


def test_a_ticket_becomes_a_page_when_a_calibrated_scale_agrees():
    detector, source = learned(settings=PATIENT, seconds=220)
    small = drive(detector, source.calls(START + 220, 20, longer=1.5))
    assert [(e.kind, e.incident.scale, e.incident.severity) for e in small] == [("opened", "10s", "ticket")]
    large = drive(detector, source.calls(START + 240, 2, longer=3))
    assert [(e.kind, e.incident.severity) for e in large] == [("escalated", "page")]
    (before,), (after,) = [e.incident for e in small], [e.incident for e in large]
    assert (after.id, after.opened_at, after.scales) == (before.id, before.opened_at, ["10s", "1s"])
    assert (before.calibrated, after.calibrated) == (False, True)
    assert (after.scale, after.samples) == ("1s", 100)
    assert after.value > after.threshold > before.threshold
    assert "moved over 10s (1,000 calls)" in before.explanation
    assert "moved over 1s (100 calls)" in after.explanation
    assert detector.incidents() == [after]


# Little traffic


def test_few_calls_are_insufficient_never_stable():
    detector, _ = learned()
    drive(detector, Traffic(2, rate=8).calls(START + 30, 20))
    by_scale = {v.scale: v for v in detector.verdicts() if v.feature == "input_tokens"}
    assert (by_scale["1s"].state, by_scale["1s"].reason) == (State.INSUFFICIENT, "few calls")
    assert states(detector)["input_tokens"] == State.INSUFFICIENT


def test_no_traffic_is_told_from_little_traffic():
    detector, _ = learned()
    detector.tick(START + 60)
    for verdict in detector.verdicts():
        assert (verdict.state, verdict.reason, verdict.samples) == (State.INSUFFICIENT, "no traffic", 0)


# Bounds


def test_models_are_bounded_and_the_rest_is_folded_and_counted():
    detector = Detector(quick(max_series=2), START)
    for model in ("a", "b", "c", "d", "a"):
        detector.observe(Observation(START, model, "", "", "", {"input_tokens": 1}))
    detector.tick(START + 1)
    assert [(v.model, v.samples) for v in detector.verdicts() if v.scale == "1s"] == [
        ("a", 2),
        ("b", 1),
        (FOLDED, 2),
    ]
    assert detector.folded == 2


def test_a_new_model_moves_no_threshold():
    detector, source = learned()
    drive(detector, source.calls(START + 30, 1))
    before = [v.tests["psi"].threshold for v in detector.verdicts() if "psi" in v.tests]
    other, again = learned()
    other.observe(Observation(START + 30, "new", "", "", "", {"input_tokens": 1}))
    drive(other, again.calls(START + 30, 1))
    after = [v.tests["psi"].threshold for v in other.verdicts() if "psi" in v.tests]
    assert after == before


def test_bins_are_counted_since_the_start():
    """The open slot included, so that the counter moves with the traffic."""
    detector = Detector(quick(), START)
    for tokens in (100, 200, 200):
        detector.observe(Observation(START, "m", "v", "", "", {"input_tokens": tokens}))
    detector.tick(START + 1)
    detector.observe(Observation(START + 1, "m", "v", "", "", {"input_tokens": 200}))
    counted = {key: n for key, n in detector.feature_bin_totals().items() if n}
    assert counted == {
        ("input_tokens", "m", "v", "(64, 128]"): 1,
        ("input_tokens", "m", "v", "(128, 256]"): 3,
    }


# Time


def test_a_late_call_is_counted_once_and_a_very_late_one_left_out():
    detector = Detector(quick(), START)
    detector.tick(START + 100)
    for timestamp in (START + 99.5, START + 45, START - 86_400, math.nan):
        detector.observe(Observation(timestamp, "m", "", "", "", {"input_tokens": 1}))
    detector.tick(START + 101)
    assert [(v.scale, v.samples) for v in detector.verdicts()] == [("1s", 2), ("5s", 2)]
    assert detector.dropped == {"late": 1, "early": 1}


def test_a_call_from_the_future_does_not_move_the_clock():
    """One sender with milliseconds for seconds would empty every window."""
    detector, source = learned()
    detector.observe(Observation(START * 1_000, "llama", "", "", "", {"input_tokens": 1}))
    assert detector.dropped["early"] == 1
    drive(detector, source.calls(START + 30, 2))
    assert set(states(detector).values()) == {State.STABLE}


def test_a_clock_that_goes_back_a_little_changes_nothing():
    detector, source = learned()
    drive(detector, source.calls(START + 30, 2))
    before = detector.verdicts()
    assert detector.tick(START + 2) == []
    assert detector.verdicts() == before
    assert detector.clock_resets == 0


def test_a_clock_that_goes_back_an_hour_begins_the_windows_anew():
    """Nothing is counted twice, nothing alarms, and watching goes on at once."""
    detector, source = learned()
    drive(detector, source.calls(START + 30, 5))
    assert detector.tick(START - 3_600) == []
    assert drive(detector, source.calls(START - 3_600, 2)) == []
    assert {v.scale: v.samples for v in detector.verdicts()} == {"1s": 100, "5s": 200}
    assert detector.clock_resets == 1
    assert opened(drive(detector, source.calls(START - 3_598, 3, longer=3))) == [("input_tokens", -3_597.0)]


def test_a_gap_of_a_day_is_no_drift():
    detector, source = learned()
    tomorrow = START + 86_400
    assert detector.tick(tomorrow) == []
    assert {v.reason for v in detector.verdicts()} == {"no traffic"}
    assert drive(detector, source.calls(tomorrow, 3)) == []
    assert set(states(detector).values()) == {State.STABLE}


def test_a_gap_in_learning_begins_it_anew():
    """Half a reference of yesterday and half of today is neither."""
    detector, source = Detector(quick(), START), Traffic(1)
    drive(detector, source.calls(START, 10))
    drive(detector, source.calls(START + 86_400, 15))
    assert set(states(detector).values()) == {State.LEARNING}
    drive(detector, source.calls(START + 86_415, 6))
    assert detector.baselines()[0].features["input_tokens"].samples == 2_000


def test_slots_close_at_multiples_of_their_length():
    """So that windows of many hosts are the same windows."""
    detector = Detector(quick(slot="10s", scales=("10s",), learn="200s"), START + 3)
    detector.observe(Observation(START + 4, "m", "", "", "", {"input_tokens": 1}))
    detector.tick(START + 12)
    assert [v.window_end for v in detector.verdicts()] == [START + 10]


TIMES = st.floats(-2e5, 2e5) | st.sampled_from([0.0, -86_400.0, 86_400.0, math.inf, math.nan])


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(
        [{}, {"slot": "7 requests", "scales": ("7 requests", "70 requests"), "learn": "140 requests"}]
    ),
    st.lists(st.tuples(TIMES, st.booleans() | st.none() | st.text(max_size=3)), max_size=60),
)
def test_whatever_the_clocks_do_every_call_is_counted_once_or_left_out(changes, moments):
    """Ticks and calls of any time, in any order."""
    detector = Detector(quick(**changes), START)
    calls = 0
    for offset, what in moments:
        if what is True and math.isfinite(offset):
            assert detector.tick(START + offset) == []
            continue
        detector.observe(Observation(START + offset, "m", "", "", "", {"refusal": what, "input_tokens": 1}))
        calls += 1
    counted = [n for (feature, *_), n in detector.feature_bin_totals().items() if feature == "input_tokens"]
    assert sum(counted) == detector.sequence == calls - sum(detector.dropped.values())


# Slots of requests


def test_slots_can_be_numbers_of_requests():
    settings = quick(slot="100 requests", scales=("100 requests", "500 requests"), learn="2000 requests")
    detector, source = learned(settings=settings)
    assert {v.scale: v.samples for v in detector.verdicts() if v.feature == "refusal"} == {
        "100 requests": 100,
        "500 requests": 500,
    }
    events = drive(detector, source.calls(START + 30, 5, longer=3))
    assert [e.kind for e in events] == ["opened"]
    assert events[0].incident.opened_at == pytest.approx(START + 31, abs=0.02)


def test_slots_of_requests_survive_a_restart():
    settings = quick(slot="100 requests", scales=("100 requests", "500 requests"), learn="2000 requests")
    calls = list(Traffic(1).calls(START, 30))
    once = Detector(settings, START)
    drive(once, calls)
    first = Detector(settings, START)
    drive(first, calls[:2_345])
    baselines = [reference.encode() for reference in first.references()]
    second = Detector.restore(settings, first.snapshot(), baselines, first.clock)
    drive(second, calls[2_345:])
    assert second.verdicts() == once.verdicts()


def test_slots_of_requests_share_the_budget_at_the_pace_of_the_traffic():
    """As strict as slots of the time that so many requests take."""
    by_time, source = learned()
    drive(by_time, source.calls(START + 30, 1))
    settings = quick(slot="100 requests", scales=("100 requests", "500 requests"), learn="2000 requests")
    by_number, source = learned(settings=settings)
    drive(by_number, source.calls(START + 30, 1))
    thresholds = [
        next(v.tests["psi"].threshold for v in d.verdicts() if v.feature == "input_tokens")
        for d in (by_time, by_number)
    ]
    assert thresholds[1] == pytest.approx(thresholds[0], rel=0.02)
