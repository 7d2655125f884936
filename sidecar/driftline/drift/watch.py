"""A feature with a reference: judges every scale at the end of every slot, and keeps its incident."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from driftline.drift.bins import FIRST
from driftline.drift.explain import explain
from driftline.drift.features import Feature
from driftline.drift.incident import Event, Explanation, Incident, Latch, escalate, open_incident, worth
from driftline.drift.learner import Slot
from driftline.drift.plan import Plan
from driftline.drift.rate import RateDetector, envelope
from driftline.drift.reference import Binning, FeatureReference
from driftline.drift.statistics import movement
from driftline.drift.tally import Counts, Sparse
from driftline.drift.verdict import State, Test, Verdict, judge
from driftline.drift.window import SlotRing, TenantRing

Traces = Callable[[], list[list[str]]]


class WatchState(msgspec.Struct, frozen=True, tag="watching"):
    """A watch as it is kept on disk, without its reference."""

    slots: dict[int, Sparse]
    tenants: dict[int, dict[str, list[int]]]
    incident: Incident | None
    clean: int
    rate: list[float]
    leader: int | None


class Watch:
    """Raises `ValueError` where `reference` does not fit the feature."""

    def __init__(self, feature: Feature, cells: int, plan: Plan, reference: FeatureReference) -> None:
        self.feature = feature
        self.plan = plan
        self.binning = Binning(feature, reference)
        self.slots = SlotRing(plan.longest, cells)
        self.tenants = TenantRing()
        self.latch = Latch(plan.settings.clean_windows)
        self.rate = self._rate_detector() if feature.kind == "binary" else None
        self._verdicts: list[Verdict] = []

    def _rate_detector(self) -> RateDetector | None:
        quiet, events = self.binning.counts[FIRST:].tolist()
        if quiet + events == 0:
            return None
        settings = self.plan.settings
        dispersion = self.binning.reference.dispersion_at(settings.scales[-1])
        return RateDetector(envelope(events, quiet + events, dispersion, settings.rate_tolerance))

    def add(self, number: int, cells: Counts, tenants: Mapping[str, Counts], names: list[str]) -> None:
        """Take in the counts of slot `number`, of all calls and by tenant."""
        self.slots.add(number, cells)
        self.tenants.add(
            number,
            {
                tenant: self.binning.grouped(self.binning.bins(counts, names))
                for tenant, counts in tenants.items()
                if counts.any()
            },
        )

    def verdicts(self, slot: Slot) -> list[Verdict]:
        """As of the end of the last slot, one a scale, shortest first."""
        return self._verdicts or [self._verdict(slot, scale, []) for scale in self.plan.scales]

    def judge(self, slot: Slot, names: list[str], traces: Traces) -> list[Event]:
        """Bring the verdicts to the end of `slot`; what that does to the incident.

        `names` are the categories of the cells, `traces` gives the trace ids of each cell.
        """
        self._verdicts = [self._verdict(slot, scale, names) for scale in self.plan.scales]
        if self.rate is not None:
            self._judge_rate(self.rate, slot, names)
        if self.latch.incident is None:
            return self._open(slot, names, traces)
        return self._follow(slot, names, traces)

    def _verdict(self, slot: Slot, scale: str, names: list[str]) -> Verdict:
        verdict = Verdict(
            model=slot.model,
            variant=slot.variant,
            feature=self.feature.name,
            scale=scale,
            state=State.INSUFFICIENT,
            window_end=slot.end,
            reference=slot.reference,
        )
        settings = self.plan.settings
        bins = self.binning.bins(self._cells(slot, scale), names)
        judge(
            verdict,
            self.binning,
            bins,
            alpha=slot.alpha,
            tolerance=settings.tolerance,
            minimum=settings.minimum,
        )
        return verdict

    def _judge_rate(self, rate: RateDetector, slot: Slot, names: list[str]) -> None:
        """The sequential test sees every slot once and needs no minimum of calls."""
        quiet, events = self.binning.bins(self.slots.total(slot.number, 1), names)[FIRST:].tolist()
        threshold = -math.log(slot.alpha)
        value = rate.update(events, quiet + events, threshold)
        verdict = self._verdicts[0]
        verdict.tests["cusum"] = Test(value, threshold, min(1.0, math.exp(-value)))
        if verdict.alarms:
            verdict.state = State.DRIFTING

    def _open(self, slot: Slot, names: list[str], traces: Traces) -> list[Event]:
        alarmed = [verdict for verdict in self._verdicts if verdict.alarms]
        if not alarmed:
            return []
        severities = [worth(self.feature, verdict, self._moved(slot, names, verdict)) for verdict in alarmed]
        first = severities.index("page") if "page" in severities else 0
        verdict = alarmed[first]
        explanation = self._explain(slot, names, traces, verdict)
        self.latch.incident = open_incident(verdict, severities[first], explanation)
        self.latch.note(self._verdicts)
        return [Event.of("opened", self.latch.incident)]

    def _explain(self, slot: Slot, names: list[str], traces: Traces, verdict: Verdict) -> Explanation:
        cells = self._cells(slot, verdict.scale)
        tenants = self.tenants.total(slot.number, self.plan.scales[verdict.scale])
        return explain(verdict, self.binning, cells, names=names, traces=traces(), tenants=tenants)

    def _follow(self, slot: Slot, names: list[str], traces: Traces) -> list[Event]:
        incident = self.latch.incident
        assert incident is not None
        if self.latch.note(self._verdicts):
            return [self.close(slot.end, "back to the reference")]
        if incident.severity == "page":
            return []
        for verdict in self._verdicts:
            # The sequential test's alarm lasts through windows without a call, which explain nothing.
            alarmed = verdict.samples and verdict.alarms
            if alarmed and worth(self.feature, verdict, self._moved(slot, names, verdict)) == "page":
                explanation = self._explain(slot, names, traces, verdict)
                self.latch.incident = escalate(incident, verdict, explanation)
                return [Event.of("escalated", self.latch.incident)]
        return []

    def close(self, at: float, because: str) -> Event:
        """End the incident. Windows begin anew: what belonged to it is compared no more."""
        incident = self.latch.close(at, because)
        self.clear()
        return Event.of("closed", incident)

    def clear(self) -> None:
        """Empty the windows. An open incident stays open."""
        self.slots.clear()
        self.tenants.clear()
        if self.rate is not None:
            self.rate.reset()

    def _cells(self, slot: Slot, scale: str) -> Counts:
        return self.slots.total(slot.number, self.plan.scales[scale])

    def _moved(self, slot: Slot, names: list[str], verdict: Verdict) -> float:
        """Which way the values moved, from -1 to 1; 0 where they have no order."""
        values = self.binning.bins(self._cells(slot, verdict.scale), names)[FIRST:]
        reference = self.binning.counts[FIRST:]
        if self.feature.kind == "categorical" or not np.any(values) or not np.any(reference):
            return 0.0
        return movement(reference, values)

    def state(self) -> WatchState:
        return WatchState(
            self.slots.state(),
            self.tenants.state(),
            self.latch.incident,
            self.latch.clean,
            self.rate.logs if self.rate else [],
            self.rate.leader if self.rate else None,
        )

    def resume(self, state: WatchState) -> None:
        self.slots.resume(state.slots)
        self.tenants.resume(state.tenants)
        self.latch.incident, self.latch.clean = state.incident, state.clean
        if self.rate is not None and len(state.rate) == len(self.rate.logs):
            self.rate.logs, self.rate.leader = state.rate, state.leader
