"""The detector over recorded traffic: the same code, as fast as the file can be read."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from driftline.drift.detector import Detector
from driftline.drift.incident import Incident
from driftline.drift.observation import Observation
from driftline.drift.plan import Plan
from driftline.drift.series import FeatureState
from driftline.drift.settings import DriftSettings
from driftline.drift.verdict import Verdict


class Opened(msgspec.Struct):
    """An incident, and how long it took."""

    incident: Incident
    delay_seconds: float
    """From the change, or the beginning of the stream, to the end of the window that alarmed."""
    delay_rows: int


class Replayed(msgspec.Struct):
    """What a stream did to the detector."""

    rows: int
    windows: int
    """That were judged: enough calls, and a reference."""
    incidents: list[Opened]
    """In the order in which they opened."""
    states: list[FeatureState]
    """At the end."""
    verdicts: list[Verdict]
    """Of the last windows."""
    worst: dict[tuple[str, str, str, str], Verdict]
    """By model, variant, feature and scale: of the window with the largest PSI."""


def learn(
    observations: Iterable[Observation], settings: DriftSettings, *, first: float, last: float, rows: int
) -> list[bytes]:
    """A baseline of all observations, for each model and variant.

    `first` and `last` are the timestamps of the first and last of `rows` observations. Raises `ValueError` where
    they are too few.
    """
    slot = Plan(settings)
    whole = math.ceil(rows / slot.slot_requests) if slot.slot_requests else 0
    if slot.slot_seconds:
        whole = math.floor(last / slot.slot_seconds) - math.floor(first / slot.slot_seconds) + 1
    learn = f"{max(whole, 10) * (slot.slot_requests or slot.slot_seconds or 0):g}" + (
        " requests" if slot.slot_requests else "s"
    )
    detector = Detector(msgspec.structs.replace(settings, learn=learn, pin="manual"), first)
    for observation in observations:
        detector.tick(observation.timestamp)
        detector.observe(observation)
    detector.tick(detector.slot_end)
    baselines = detector.baselines()
    for baseline in baselines:
        detector.pin(baseline.model, baseline.variant)
    return [detector.export(baseline.model, baseline.variant) for baseline in baselines]


def replay(
    observations: Iterable[Observation],
    settings: DriftSettings,
    *,
    baselines: Iterable[bytes] = (),
    changed_at: float | None = None,
) -> Replayed:
    """Run the detector over `observations`, in the order of their timestamps.

    Without a baseline the first `settings.learn` of the stream is the reference. Delays count from `changed_at`,
    seconds since the epoch, where it is known. Raises `ValueError` for a baseline that does not fit.
    """
    detector: Detector | None = None
    result = Replayed(0, 0, [], [], [], {})
    since = 0
    for observation in observations:
        if detector is None:
            detector = Detector(settings, observation.timestamp)
            for baseline in baselines:
                detector.import_(baseline)
            changed_at = observation.timestamp if changed_at is None else changed_at
        _tick(detector, observation.timestamp, result, changed_at, since)
        detector.observe(observation)
        result.rows += 1
        since += observation.timestamp >= (changed_at or 0.0)
    if detector is not None and changed_at is not None:
        _tick(detector, detector.slot_end, result, changed_at, since)
        result.states, result.verdicts = detector.states(), detector.verdicts()
    return result


def _tick(detector: Detector, now: float, result: Replayed, changed_at: float | None, since: int) -> None:
    for event in detector.tick(now):
        if event.kind == "opened":
            delay = event.incident.opened_at - (changed_at or 0.0)
            result.incidents.append(Opened(event.incident, delay, since))
            continue
        for opened in result.incidents:
            if opened.incident.id == event.incident.id:
                opened.incident = event.incident
    if detector.windows == result.windows:
        return
    result.windows = detector.windows
    for verdict in detector.verdicts():
        key = (verdict.model, verdict.variant, verdict.feature, verdict.scale)
        if verdict.tests and (key not in result.worst or (verdict.psi or 0) > (result.worst[key].psi or 0)):
            result.worst[key] = verdict
