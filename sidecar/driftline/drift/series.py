"""One model and variant: what is counted in the open slot, and every feature's learner or watch."""

from __future__ import annotations

from functools import partial

import msgspec
import numpy as np

from driftline.drift.bins import FIRST, bin_labels
from driftline.drift.incident import Event, Incident
from driftline.drift.learner import Learner, LearnerState, Slot
from driftline.drift.plan import Plan
from driftline.drift.reference import FeatureReference, Reference
from driftline.drift.tally import Counts, SlotCounts, Tally, TallyState
from driftline.drift.verdict import State, Verdict
from driftline.drift.watch import Watch, WatchState


class FeatureState(msgspec.Struct, frozen=True, kw_only=True):
    """A feature over all scales. Drifting as long as its incident is open."""

    model: str
    variant: str
    feature: str
    state: State
    severity: str = ""
    """Of the open incident, if any."""
    incident: str = ""
    """Its id."""


class FeatureBaseline(msgspec.Struct, frozen=True, kw_only=True):
    state: str
    """`learning`, `pinned`, or `left out` of a frozen reference."""
    samples: int
    progress: float
    calibrated: list[str]
    """Scales whose thresholds rest on enough held-out windows to be trusted with a page."""


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """The reference of one model and variant, as people list it."""

    model: str
    variant: str
    state: str
    """`learning` until a feature is pinned, then `pinned`."""
    reference: str
    """Id; empty while learning."""
    created_at: float | None
    features: dict[str, FeatureBaseline]


class SeriesState(msgspec.Struct, frozen=True):
    """A series as it is kept on disk, without its reference."""

    model: str
    variant: str
    started: float
    number: int
    last: Slot
    tally: TallyState
    features: dict[str, LearnerState | WatchState]


class Series:
    def __init__(self, model: str, variant: str, plan: Plan, *, started: float) -> None:
        self.model = model
        self.variant = variant
        self.plan = plan
        self.started = started
        """Seconds since the epoch."""
        self.number = 0
        """Of the open slot, where slots are numbers of requests."""
        self.tally = Tally(plan.features.values(), max_tenants=plan.settings.max_tenants)
        self.features: dict[str, Learner | Watch] = {}
        """Of those that occurred."""
        self.reference: Reference | None = None
        self._reference_id = ""
        self._closed: Counts | None = None
        self._last = Slot(model, variant, 0, started, "", 1.0)

    def close(self, number: int, end: float) -> list[Event]:
        """End slot `number` at `end`, seconds since the epoch; the incidents that this opened or closed."""
        if self.tally.calls:
            self._count(number)
        self._last = Slot(
            self.model, self.variant, number, end, self._reference_id, self.plan.alpha(self._pace(end))
        )
        events: list[Event] = []
        for name, feature in self.features.items():
            if isinstance(feature, Watch):
                events += feature.judge(self._last, self._names(name), partial(self.tally.traces, name))
        if self.plan.settings.pin == "auto" and not self._frozen and not self.incidents():
            self._enrol(number, end, whole=True)
        return events

    def _count(self, number: int) -> None:
        counted = self._end_slot()
        for name in self.plan.features:
            cells = self.tally.slices[name]
            if not counted.cells[cells].any():
                continue
            if name not in self.features:
                self.features[name] = self._learner(name)
            of_tenants = {tenant: counts[cells] for tenant, counts in counted.tenants.items()}
            self.features[name].add(number, counted.cells[cells], of_tenants, self._names(name))

    def _end_slot(self) -> SlotCounts:
        counted = self.tally.counts()
        self.tally.reset()
        self._closed = counted.cells if self._closed is None else self._closed + counted.cells
        return counted

    def _learner(self, name: str) -> Learner:
        cells = self.tally.slices[name]
        return Learner(self.plan.features[name], cells.stop - cells.start, self.plan)

    def _watch(self, name: str, reference: FeatureReference) -> Watch:
        cells = self.tally.slices[name]
        return Watch(self.plan.features[name], cells.stop - cells.start, self.plan, reference)

    def _names(self, name: str) -> list[str]:
        return self.tally.names.get(name, [])

    def _pace(self, now: float) -> float:
        """Slots a day."""
        if self.plan.slot_seconds is not None:
            return 86400 / self.plan.slot_seconds
        if self.reference is not None:
            return self.reference.slots_per_day
        return 86400 * (self.number + 1) / max(now - self.started, 1.0)

    # References

    @property
    def _frozen(self) -> bool:
        return self.reference is not None and self.reference.frozen

    def _enrol(self, number: int, now: float, *, whole: bool) -> None:
        """Pin what has been learned: all of it, or as much as there is."""
        learned = {}
        for name, feature in self.features.items():
            if isinstance(feature, Learner) and (not whole or feature.progress(number) >= 1):
                reference = feature.learned(number, self._names(name))
                if reference is not None:
                    learned[name] = reference
        if not learned:
            return
        known = self.reference.features if self.reference else {}
        self.reference = Reference(
            model=self.model,
            variant=self.variant,
            created_at=now,
            slots_per_day=self._pace(now),
            features={**known, **learned},
        )
        self._reference_id = self.reference.id
        self.features.update({name: self._watch(name, reference) for name, reference in learned.items()})

    def pin(self, now: float) -> str:
        """Freeze what has been learned so far; the id of the reference.

        No feature is added from then on, unless this is called again. Raises `ValueError` where there is no
        reference and no feature has enough calls for one.
        """
        self._enrol(self._last.number, now, whole=False)
        if self.reference is None:
            raise ValueError(
                f"nothing to pin for model {self.model!r}, variant {self.variant!r}: "
                f"a reference needs {self.plan.minimum_reference} calls, "
                f"five times drift.minimum ({self.plan.settings.minimum}), and "
                + (self._learning() or "none came yet")
                + "; wait for more traffic, or lower drift.minimum"
            )
        self.reference = msgspec.structs.replace(self.reference, frozen=True)
        return self._reference_id

    def _learning(self) -> str:
        return ", ".join(
            f"{name} has {feature.calls(self._last.number)}"
            for name, feature in self.features.items()
            if isinstance(feature, Learner)
        )

    def unpin(self, now: float) -> list[Event]:
        """Forget the reference and learn anew."""
        events = self._end_incidents(now, "its reference was unpinned")
        self.features = {name: self._learner(name) for name in self.features}
        self.reference, self._reference_id = None, ""
        return events

    def use(self, reference: Reference, now: float) -> list[Event]:
        """Compare with `reference` from now on, with empty windows. Features it lacks are learned unless it is frozen.

        Raises `ValueError` where it does not fit the features of this version; nothing has changed then.
        """
        known = {name: of for name, of in reference.features.items() if name in self.plan.features}
        if not known:
            raise ValueError(
                f"the baseline has the features {', '.join(reference.features)}; "
                f"none of them is watched ({', '.join(self.plan.features)}): change drift.features"
            )
        watches = {name: self._watch(name, of) for name, of in known.items()}
        events = self._end_incidents(now, "its reference was replaced")
        self.features = {name: self._learner(name) for name in self.features if name not in watches}
        self.features.update(watches)
        self.reference = msgspec.structs.replace(reference, model=self.model, variant=self.variant)
        self._reference_id = self.reference.id
        return events

    def _end_incidents(self, now: float, because: str) -> list[Event]:
        return [
            feature.close(now, because)
            for feature in self.features.values()
            if isinstance(feature, Watch) and feature.latch.incident is not None
        ]

    def clear(self) -> None:
        """Empty every window and what is being learned, for a clock that went back."""
        self._end_slot()
        for feature in self.features.values():
            feature.clear()

    def state(self) -> SeriesState:
        return SeriesState(
            self.model,
            self.variant,
            self.started,
            self.number,
            self._last,
            self.tally.state(),
            {name: feature.state() for name, feature in self.features.items()},
        )

    def resume(self, state: SeriesState, now: float) -> list[Incident]:
        """Take up what `state` gave; the incidents whose reference is not there any more."""
        self.started, self.number, self._last = state.started, state.number, state.last
        self.tally.resume(state.tally)
        same = state.last.reference == self._reference_id
        lost = []
        for name, of in state.features.items():
            feature = self.features.get(name)
            if isinstance(of, LearnerState) and feature is None and name in self.plan.features:
                self.features[name] = learner = self._learner(name)
                learner.resume(of)
            elif isinstance(of, WatchState) and isinstance(feature, Watch) and same:
                feature.resume(of)
            elif isinstance(of, WatchState) and of.incident is not None:
                of.incident.closed_at, of.incident.closed_because = now, "its reference is gone"
                lost.append(of.incident)
        return lost

    # What is known

    def incidents(self) -> list[Incident]:
        """The open ones."""
        watches = [feature for feature in self.features.values() if isinstance(feature, Watch)]
        return [watch.latch.incident for watch in watches if watch.latch.incident is not None]

    def verdicts(self) -> list[Verdict]:
        return [verdict for feature in self.features.values() for verdict in self._verdicts(feature)]

    def _verdicts(self, feature: Learner | Watch) -> list[Verdict]:
        if isinstance(feature, Watch):
            return feature.verdicts(self._last)
        return feature.verdicts(self._last, left_out=self._frozen)

    def states(self) -> list[FeatureState]:
        return [self._state(name, feature) for name, feature in self.features.items()]

    def _state(self, name: str, feature: Learner | Watch) -> FeatureState:
        incident = feature.latch.incident if isinstance(feature, Watch) else None
        if incident is not None:
            return FeatureState(
                model=self.model,
                variant=self.variant,
                feature=name,
                state=State.DRIFTING,
                severity=incident.severity,
                incident=incident.id,
            )
        states = {verdict.state for verdict in self._verdicts(feature)}
        first = next(state for state in (State.LEARNING, State.STABLE, State.INSUFFICIENT) if state in states)
        return FeatureState(model=self.model, variant=self.variant, feature=name, state=first)

    def baseline(self) -> Baseline:
        return Baseline(
            model=self.model,
            variant=self.variant,
            state="pinned" if self.reference else "learning",
            reference=self._reference_id,
            created_at=self.reference.created_at if self.reference else None,
            features={name: self._feature_baseline(feature) for name, feature in self.features.items()},
        )

    def _feature_baseline(self, feature: Learner | Watch) -> FeatureBaseline:
        if isinstance(feature, Learner):
            number = self._last.number
            return FeatureBaseline(
                state="left out" if self._frozen else "learning",
                samples=feature.calls(number),
                progress=feature.progress(number),
                calibrated=[],
            )
        of = feature.binning.reference
        calibrated = [scale for scale in self.plan.scales if of.dispersion_at(scale).calibrated]
        return FeatureBaseline(state="pinned", samples=of.samples, progress=1.0, calibrated=calibrated)

    def bin_totals(self) -> dict[tuple[str, str], int]:
        """Calls by feature and bin since this process started, in bins an octave wide, the open slot included."""
        cells = self.tally.counts().cells
        if self._closed is not None:
            cells = cells + self._closed
        totals = {}
        for name, of in self.tally.slices.items():
            if cells[of].any():
                for label, count in self._octaves(name, cells[of]):
                    totals[name, label] = count
        return totals

    def _octaves(self, name: str, cells: Counts) -> list[tuple[str, int]]:
        edges = self.plan.features[name].edges
        if edges is None:
            labels, counts = self._names(name), cells[FIRST : FIRST + len(self._names(name))]
        else:
            coarse = tuple(
                value for value, scale in zip(edges.values, edges.scales, strict=True) if scale == 0
            )
            labels = bin_labels(coarse)
            onto = np.searchsorted(coarse, [*edges.values, np.inf])
            counts = np.bincount(onto, weights=cells[FIRST:], minlength=len(labels)).astype(np.int64)
        return list(
            zip(["missing", "other", *labels], [*cells[:FIRST].tolist(), *counts.tolist()], strict=True)
        )
