"""An alarm that latches: opened once, closed after a run of clean windows."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from driftline.drift.features import Feature, Severity
from driftline.drift.verdict import Test, Verdict

CLEAN = 0.01
"""Probability from which on a window looks like the reference: far above that of an alarm, so that a shift that is
close to the threshold does not open and close incidents by turns."""


class Term(msgspec.Struct, frozen=True):
    """One group's part of PSI."""

    group: str
    psi: float
    reference_share: float
    window_share: float


class Share(msgspec.Struct, frozen=True):
    """Of the calls that came to the groups that grew: how much of the growth one tenant brought."""

    tenant: str
    share: float
    """Can be below 0 and above 1, where tenants moved in opposite directions."""


class Incident(msgspec.Struct, kw_only=True):
    """One alarm with everything needed to understand it later. Times are seconds since the epoch."""

    id: str
    model: str
    variant: str
    feature: str
    severity: Severity
    opened_at: float
    """The end of the window that alarmed first. The figures below are of the window that gave it its severity."""
    closed_at: float | None = None
    closed_because: str = ""
    scale: str
    test: str
    value: float
    threshold: float
    probability: float
    psi: float | None
    ks: float | None
    samples: int
    reference_samples: int
    reference: str
    dispersion: float | None
    calibrated: bool
    scales: list[str]
    """All that alarmed since it opened."""
    explanation: str
    terms: list[Term]
    """Largest first."""
    tenants: list[Share]
    """Largest first."""
    trace_ids: list[str]
    """Up to five calls that landed in the groups that grew."""

    @property
    def open(self) -> bool:
        return self.closed_at is None


class Explanation(msgspec.Struct, frozen=True):
    sentence: str
    terms: list[Term]
    tenants: list[Share]
    trace_ids: list[str]


class Event(msgspec.Struct, frozen=True):
    """What happened to an incident in a tick."""

    kind: Literal["opened", "escalated", "closed"]
    """`escalated`: what was worth a ticket is now worth a page."""
    incident: Incident
    """As it was then."""

    @classmethod
    def of(cls, kind: Literal["opened", "escalated", "closed"], incident: Incident) -> Event:
        return cls(kind, msgspec.structs.replace(incident))


def worth(feature: Feature, verdict: Verdict, moved: float) -> Severity:
    """A page only where the law of the alarm can be trusted and the movement, from -1 to 1, hurts."""
    trusted = verdict.calibrated or "cusum" in verdict.alarms
    harmless = (feature.hurts == "up" and moved < 0) or (feature.hurts == "down" and moved > 0)
    return feature.severity if trusted and not harmless else "ticket"


def grounds(verdict: Verdict, severity: Severity) -> tuple[str, Test]:
    """The alarm that an incident rests on, with its name: a page never rests on a law that was not checked."""
    if severity == "page" and not verdict.calibrated:
        return "cusum", verdict.tests["cusum"]
    return verdict.foremost


def open_incident(verdict: Verdict, severity: Severity, explanation: Explanation) -> Incident:
    name, test = grounds(verdict, severity)
    key = f"{verdict.model}\0{verdict.variant}\0{verdict.feature}\0{verdict.window_end}"
    return Incident(
        id=hashlib.sha256(key.encode()).hexdigest()[:16],
        model=verdict.model,
        variant=verdict.variant,
        feature=verdict.feature,
        severity=severity,
        opened_at=verdict.window_end,
        scale=verdict.scale,
        test=name,
        value=test.value,
        threshold=test.threshold,
        probability=test.probability,
        psi=verdict.psi,
        ks=verdict.ks,
        samples=verdict.samples,
        reference_samples=verdict.reference_samples,
        reference=verdict.reference,
        dispersion=verdict.dispersion.factor if verdict.dispersion else None,
        calibrated=verdict.calibrated,
        scales=[],
        explanation=explanation.sentence,
        terms=explanation.terms,
        tenants=explanation.tenants,
        trace_ids=explanation.trace_ids,
    )


def escalate(incident: Incident, verdict: Verdict, explanation: Explanation) -> Incident:
    """The same incident as a page, with the figures of the window that made it one."""
    return msgspec.structs.replace(
        open_incident(verdict, "page", explanation),
        id=incident.id,
        opened_at=incident.opened_at,
        scales=incident.scales,
    )


class Latch:
    """The open incident of one feature of one model and variant, if any."""

    def __init__(self, clean_windows: int) -> None:
        self.clean_windows = clean_windows
        self.incident: Incident | None = None
        self.clean = 0

    def note(self, verdicts: list[Verdict]) -> bool:
        """Take in the verdicts of a slot, shortest scale first; whether the incident has ended.

        The shortest scale that alarmed decides: longer windows still hold what it saw. A window without an alarm
        is not clean yet: it has to look like the reference. One that could not be judged is neither.
        """
        assert self.incident is not None
        for verdict in verdicts:
            if verdict.alarms and verdict.scale not in self.incident.scales:
                self.incident.scales = [*self.incident.scales, verdict.scale]
        decisive = next(verdict for verdict in verdicts if verdict.scale in self.incident.scales)
        if decisive.samples and decisive.tests:
            self.clean = self.clean + 1 if decisive.probability > CLEAN else 0
        return self.clean >= self.clean_windows

    def close(self, at: float, because: str) -> Incident:
        assert self.incident is not None
        incident, self.incident, self.clean = self.incident, None, 0
        incident.closed_at, incident.closed_because = at, because
        return incident
