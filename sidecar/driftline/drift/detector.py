"""Drift detection over the traffic of one process. Numbers in, verdicts out; time is always passed in."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Literal

import msgspec

from driftline.drift.incident import Event, Incident
from driftline.drift.observation import Observation
from driftline.drift.plan import Plan
from driftline.drift.reference import Reference
from driftline.drift.series import Baseline, FeatureState, Series
from driftline.drift.settings import DriftSettings
from driftline.drift.snapshot import DetectorState, Header, decode, encode, layouts, without_changed
from driftline.drift.tally import FOLDED
from driftline.drift.verdict import Verdict

HISTORY = 100
"""Closed incidents that are remembered."""
PATIENCE = 60.0
"""Seconds by which a call's time may be off the clock, or one slot if that is longer."""

Drop = Literal["late", "early"]


class Detector:
    """Watches every model and variant it sees.

    Slots that are times are the same for all of them, aligned to the epoch, and close when an observation or a
    tick of a later slot comes. Slots that are numbers of requests close at each series' own pace.
    """

    def __init__(self, settings: DriftSettings, clock: float) -> None:
        """`clock` is now, in seconds since the epoch."""
        self.settings = settings
        self.plan = Plan(settings)
        self.clock = clock
        self.epoch = 1
        """How often this state has been taken up by a process."""
        self.sequence = 0
        """Observations taken in, over all epochs."""
        self.dropped: dict[Drop, int] = {"late": 0, "early": 0}
        """Observations left out because their time is more than a slot off the clock."""
        self.folded = 0
        """Observations of models and variants beyond `max_series`."""
        self.clock_resets = 0
        self.windows = 0
        """That were judged since this process started."""
        self._series: dict[tuple[str, str], Series] = {}
        self._events: list[Event] = []
        self._closed: deque[Incident] = deque(maxlen=HISTORY)
        self._number = self._number_at(clock)
        self._set_bounds()

    # Taking in

    def observe(self, observation: Observation) -> None:
        """Count one call. Cheap, except for the one that ends a slot."""
        if not self._start <= observation.timestamp < self._end and not self._admit(observation.timestamp):
            return
        series = self._series.get((observation.model, observation.variant))
        if series is None:
            series = self._enter(observation.model, observation.variant, observation.timestamp)
        series.tally.add(observation)
        self.sequence += 1
        if series.tally.calls == self.plan.slot_requests:
            self.clock = max(self.clock, observation.timestamp)
            self._close(series, series.number, self.clock)
            series.number += 1

    def tick(self, now: float) -> list[Event]:
        """Close the slots that ended by `now`; what has happened to incidents since the last tick.

        Call it at least once a slot. A clock that goes back by more than a slot, or a minute, empties the windows.
        """
        if self.plan.slot_seconds is not None and now < self.clock - self._patience:
            self._restart(self._number_at(now))
        self.clock = now
        if self._number_at(now) > self._number:
            self._advance(self._number_at(now))
        events, self._events = self._events, []
        return events

    def _admit(self, timestamp: float) -> bool:
        """Whether to count a call whose time is not in the open slot."""
        if not math.isfinite(timestamp) or timestamp > self.clock + self._patience:
            self.dropped["early"] += 1
            return False
        if timestamp >= self._end:
            self._advance(self._number_at(timestamp))
            return True
        if timestamp >= self._start - self._patience:
            return True
        self.dropped["late"] += 1
        return False

    def _enter(self, model: str, variant: str, now: float) -> Series:
        key = (model, variant)
        if len(self._series) >= self.settings.max_series and key not in self._series:
            self.folded += 1
            key = (FOLDED, FOLDED)
        if key not in self._series:
            self._series[key] = Series(*key, self.plan, started=now)
        return self._series[key]

    # Slots

    def _number_at(self, now: float) -> int:
        return 0 if self.plan.slot_seconds is None else math.floor(now / self.plan.slot_seconds)

    @property
    def _patience(self) -> float:
        return max(PATIENCE, self.plan.slot_seconds or 0.0)

    @property
    def slot_end(self) -> float:
        """Of the open slot, in seconds since the epoch; now, where slots are numbers of requests."""
        return self._end if math.isfinite(self._end) else self.clock

    def _set_bounds(self) -> None:
        if self.plan.slot_seconds is None:
            self._start, self._end = -math.inf, math.inf
        else:
            self._start = self._number * self.plan.slot_seconds
            self._end = (self._number + 1) * self.plan.slot_seconds

    def _advance(self, number: int) -> None:
        """Close the open slot, and the empty ones after it as far as any window still reaches back to a call."""
        for closing in range(self._number, min(number, self._number + self.plan.longest + 1)):
            end = (closing + 1) * (self.plan.slot_seconds or 0.0)
            for series in self._series.values():
                self._close(series, closing, end)
        self._number = number
        self._set_bounds()

    def _close(self, series: Series, number: int, end: float) -> None:
        self._note(series.close(number, end))
        self.windows += sum(1 for verdict in series.verdicts() if verdict.tests)

    def _restart(self, number: int) -> None:
        """The clock went back: what was counted lies in its future, and would be counted in two windows."""
        self.clock_resets += 1
        for series in self._series.values():
            series.clear()
        self._number = number
        self._set_bounds()

    def _note(self, events: list[Event]) -> None:
        self._events += events
        self._closed.extend(event.incident for event in events if event.kind == "closed")

    # What is known

    def verdicts(self) -> list[Verdict]:
        """Of each model, variant, feature and scale, as of the end of the last slot."""
        return [verdict for series in self._series.values() for verdict in series.verdicts()]

    def states(self) -> list[FeatureState]:
        """Of each model, variant and feature."""
        return [state for series in self._series.values() for state in series.states()]

    def incidents(self) -> list[Incident]:
        """The open ones and the last that were closed, newest first."""
        still = [incident for series in self._series.values() for incident in series.incidents()]
        return sorted([*still, *self._closed], key=lambda incident: -incident.opened_at)

    def feature_bin_totals(self) -> dict[tuple[str, str, str, str], int]:
        """Calls by feature, model, variant and bin since this process started."""
        return {
            (feature, series.model, series.variant, bin_): count
            for series in self._series.values()
            for (feature, bin_), count in series.bin_totals().items()
        }

    # References

    def baselines(self) -> list[Baseline]:
        return [series.baseline() for series in self._series.values()]

    def pin(self, model: str, variant: str) -> str:
        """Freeze what has been learned, until `unpin`; the id of the reference.

        Raises `ValueError` where that is too little.
        """
        series = self._known(model, variant)
        return series.pin(self.clock)

    def unpin(self, model: str, variant: str) -> None:
        """Forget the reference and learn anew. Raises `ValueError` for a model and variant never seen."""
        self._note(self._known(model, variant).unpin(self.clock))

    def references(self) -> list[Reference]:
        """Of each model and variant that has one."""
        return [series.reference for series in self._series.values() if series.reference is not None]

    def export(self, model: str, variant: str) -> bytes:
        """The reference as a baseline file, frozen wherever it is used. Raises `ValueError` where there is none."""
        reference = self._known(model, variant).reference
        if reference is None:
            raise ValueError(
                f"model {model!r}, variant {variant!r} has no reference yet; it is still learning"
            )
        return msgspec.structs.replace(reference, frozen=True).encode()

    def import_(self, baseline: bytes, model: str | None = None, variant: str | None = None) -> Baseline:
        """Use an exported reference, frozen, for its own model and variant or for others.

        Raises `ValueError` where it is broken, of a newer version, or does not fit the features.
        """
        return self._use(msgspec.structs.replace(Reference.decode(baseline), frozen=True), model, variant)

    def _use(self, reference: Reference, model: str | None = None, variant: str | None = None) -> Baseline:
        model = reference.model if model is None else model
        variant = reference.variant if variant is None else variant
        series = self._series.get((model, variant))
        if series is None:
            if len(self._series) >= self.settings.max_series:
                raise ValueError(
                    f"there are {len(self._series)} models and variants already; raise drift.max_series to watch "
                    f"{model!r} {variant!r}"
                )
            series = Series(model, variant, self.plan, started=self.clock)
        self._note(series.use(reference, self.clock))
        self._series[model, variant] = series
        return series.baseline()

    def _known(self, model: str, variant: str) -> Series:
        series = self._series.get((model, variant))
        if series is None:
            known = ", ".join(f"{m!r} {v!r}" for m, v in self._series) or "none yet"
            raise ValueError(
                f"no traffic of model {model!r}, variant {variant!r} was seen; known are {known}"
            )
        return series

    # Restarts

    def snapshot(self) -> bytes:
        """Everything but the references, which are files of their own (`export`)."""
        return encode(
            Header(epoch=self.epoch, sequence=self.sequence),
            DetectorState(
                clock=self.clock,
                number=self._number,
                slot=self.settings.slot,
                layouts=layouts(self.plan),
                dropped=self.dropped,
                folded=self.folded,
                clock_resets=self.clock_resets,
                series=[series.state() for series in self._series.values()],
                closed=list(self._closed),
                events=self._events,
            ),
        )

    @classmethod
    def restore(
        cls, settings: DriftSettings, state: bytes | None, baselines: Iterable[bytes], clock: float
    ) -> Detector:
        """The detector as it was when it wrote `state`, with the references in `baselines`.

        Windows go on where their reference is the one they were compared with; else they begin anew. Where the
        length of slots or the cells of a feature have changed since, what was counted is left out.

        Raises `ValueError` for a state or a baseline that is broken or of a newer version.
        """
        detector = cls(settings, clock)
        for baseline in baselines:
            detector._use(Reference.decode(baseline))
        header, was = decode(state) if state else (None, None)
        if header is None or was is None:
            return detector
        detector.epoch, detector.sequence = header.epoch + 1, header.sequence
        detector.dropped, detector.folded, detector.clock_resets = was.dropped, was.folded, was.clock_resets
        detector._closed.extend(was.closed)
        if was.slot == settings.slot:
            detector._resume(without_changed(was, detector.plan))
        return detector

    def _resume(self, was: DetectorState) -> None:
        now, self.clock, self._number = self.clock, was.clock, was.number
        self._set_bounds()
        self._events = was.events
        for state in was.series:
            series = self._enter(state.model, state.variant, state.started)
            self._closed.extend(series.resume(state, now))
