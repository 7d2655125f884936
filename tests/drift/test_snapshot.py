"""Restarts: what was counted is counted once, and a restart is no drift."""

import pytest

from driftline.drift.detector import Detector
from driftline.drift.snapshot import decode, decode_header
from tests.drift.traffic import START, Traffic, drive, opened, quick


def restarted(detector, settings=None, clock=None):
    """As a new process finds it on disk."""
    baselines = [reference.encode() for reference in detector.references()]
    clock = detector.clock if clock is None else clock
    return Detector.restore(settings or detector.settings, detector.snapshot(), baselines, clock)


@pytest.mark.parametrize("seconds", [5.25, 19.99, 20.5, 31.5, 34.5, 51.5])
def test_a_restart_in_mid_window_changes_nothing(seconds):
    """While learning, while stable, in an incident, and while it closes."""
    calls = [
        *(source := Traffic(1, rate=97)).calls(START, 30, tenants=("a", "b")),
        *source.calls(START + 30, 20, longer=3, tenants=("a", "b")),
        *source.calls(START + 50, 10, tenants=("a", "b")),
    ]
    uninterrupted = Detector(quick(), START)
    expected = drive(uninterrupted, calls)
    before = [call for call in calls if call.timestamp < START + seconds]
    first, events = Detector(quick(), START), []
    for call in before:
        events += first.tick(call.timestamp)
        first.observe(call)
    second = restarted(first)
    events += drive(second, calls[len(before) :])
    assert [(e.kind, e.incident) for e in events] == [(e.kind, e.incident) for e in expected]
    assert second.verdicts() == uninterrupted.verdicts()
    assert second.incidents() == uninterrupted.incidents()
    assert second.sequence == uninterrupted.sequence == len(calls)


def test_calls_that_are_sent_again_can_be_told_by_the_sequence():
    """The state says how many calls are in it, so nothing is counted twice."""
    calls = list(Traffic(1).calls(START, 25))
    killed = Detector(quick(), START)
    for call in calls[:1_234]:
        killed.observe(call)
    state = killed.snapshot()
    for call in calls[1_234:2_000]:
        killed.observe(call)  # lost with the process
    again = Detector.restore(quick(), state, [], START + 20)
    drive(again, calls[again.sequence :])
    once = Detector(quick(), START)
    drive(once, calls)
    assert again.verdicts() == once.verdicts()


def test_each_restart_is_a_new_epoch():
    detector = Detector(quick(), START)
    for _ in range(3):
        detector = restarted(detector)
    assert (detector.epoch, decode_header(detector.snapshot()).epoch) == (4, 4)


def test_calls_lost_in_a_restart_are_no_drift():
    """Ten seconds of traffic went unseen: windows hold fewer calls of the same kind."""
    source = Traffic(1)
    detector = Detector(quick(), START)
    drive(detector, source.calls(START, 30))
    again = restarted(detector, clock=START + 40)
    assert drive(again, source.calls(START + 40, 60)) == []


def test_a_restart_a_day_later_begins_with_empty_windows():
    source = Traffic(1)
    detector = Detector(quick(), START)
    drive(detector, source.calls(START, 30))
    again = restarted(detector, clock=START + 86_400)
    assert again.tick(START + 86_400) == []
    assert {v.samples for v in again.verdicts()} == {0}
    assert drive(again, source.calls(START + 86_400, 3)) == []


def test_windows_of_another_reference_are_not_taken_up():
    source = Traffic(1)
    detector = Detector(quick(), START)
    drive(detector, source.calls(START, 30))
    other = Detector(quick(), START)
    drive(other, Traffic(2).calls(START, 30))
    again = Detector.restore(quick(), detector.snapshot(), [other.export("llama", "")], START + 30)
    assert {v.samples for v in again.verdicts()} == {0}
    assert again.baselines()[0].reference == other.baselines()[0].reference


def test_an_incident_whose_reference_is_gone_is_closed():
    source = Traffic(1)
    detector = Detector(quick(), START)
    drive(detector, source.calls(START, 30))
    drive(detector, source.calls(START + 30, 5, longer=3))
    again = Detector.restore(quick(), detector.snapshot(), [], START + 40)
    assert [(i.feature, i.closed_because) for i in again.incidents()] == [
        ("input_tokens", "its reference is gone")
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": "2s", "scales": ("2s",), "learn": "40s"},
        {"features": ("refusal",)},
        {"scales": ("1s", "30s")},
        {"max_tenants": 1},
    ],
)
def test_settings_may_change_over_a_restart(changes):
    """What can be taken up is, the rest begins anew, and nothing alarms."""
    source = Traffic(1)
    detector = Detector(quick(), START)
    drive(detector, source.calls(START, 35.5, tenants=("a", "b")))
    again = restarted(detector, settings=quick(**changes))
    assert drive(again, source.calls(START + 36, 10)) == []
    assert opened(drive(again, source.calls(START + 46, 10, longer=3, refusals=0.5)))


def test_cells_that_have_changed_are_left_out(monkeypatch):
    """Counts of other bins would be nonsense in these."""
    detector = Detector(quick(), START)
    drive(detector, Traffic(1).calls(START, 10))
    monkeypatch.setattr(
        "driftline.drift.detector.layouts",
        lambda _: {"input_tokens": "of an older version", "refusal": "too"},
    )
    state = detector.snapshot()
    monkeypatch.undo()
    again = Detector.restore(quick(), state, [], START + 10)
    assert {v.feature for v in again.verdicts()} == {"finish_reason"}


def test_every_way_to_cut_a_snapshot_is_refused():
    detector = Detector(quick(features=("refusal",)), START)
    drive(detector, Traffic(1).calls(START, 1.5))
    whole = detector.snapshot()
    decode(whole)
    for length in range(len(whole)):
        with pytest.raises(ValueError, match="snapshot"):
            decode(whole[:length])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: data.replace(b'"schema":1', b'"schema":2'), "schema 2 and this version reads up to 1"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "the snapshot is broken"),
        (lambda _: b"", "not a snapshot"),
        (lambda _: b"{}\n", "not a snapshot"),
    ],
)
def test_a_snapshot_of_another_kind_is_refused(edit, message):
    with pytest.raises(ValueError, match=message):
        decode(edit(Detector(quick(), START).snapshot()))
