"""The drift detector in the observer: calls in, incidents to the log, state to disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec

from driftline.call import Call
from driftline.drift.incident import Event, Incident
from driftline.drift.series import FeatureState
from driftline.drift.settings import DriftSettings
from driftline.drift.store import Pending, StateError, Store
from driftline.drift.verdict import Verdict
from driftline.features import FeatureReader
from driftline.metrics.drift import BinTotal

_log = logging.getLogger(__name__)
_SAVE_SECONDS = 10.0
"""At most this much of a window is lost with a killed process."""


class DriftWatch:
    """An observer, and the source of everything that is shown of drift."""

    def __init__(self, settings: DriftSettings, store: Store, clock: float) -> None:
        self._reader = FeatureReader(settings.features)
        self._store = store
        self._saved_at = clock
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="drift-state")
        self._writing: Future[None] | None = None
        self._cannot_save = False
        self.detector = store.load(settings, clock)
        for refused in store.refused:
            _log.error("state refused: %s", refused)

    def observe(self, call: Call) -> None:
        observation = self._reader.observation(call)
        if observation is not None:
            self.detector.observe(observation)

    def tick(self, now: float) -> list[Event]:
        """What has happened to incidents; said in the log too."""
        events = self.detector.tick(now)
        for event in events:
            _report(event)
        if not 0 <= now - self._saved_at < _SAVE_SECONDS and (self._writing is None or self._writing.done()):
            self._saved_at = now
            self._writing = self._disk.submit(self._write, self._store.pending(self.detector))
        return events

    def stop(self) -> None:
        """Write what a restart needs, and wait for it."""
        self._disk.submit(self._write, self._store.pending(self.detector))
        self._disk.shutdown()

    def _write(self, pending: Pending) -> None:
        """In a thread: a slow disk must not hold the calls up. One that refuses is said once, and when it takes."""
        try:
            self._store.write(pending)
        except (OSError, StateError) as error:
            if not self._cannot_save:
                _log.error("drift state cannot be saved: %s; it is kept in memory and tried again", error)
            self._cannot_save = True
        else:
            if self._cannot_save:
                _log.info("drift state is saved again")
            self._cannot_save = False

    # As the metrics read it

    def verdicts(self) -> list[Verdict]:
        return self.detector.verdicts()

    def states(self) -> list[FeatureState]:
        return self.detector.states()

    def incidents(self) -> list[Incident]:
        return self.detector.incidents()

    def bin_totals(self) -> Iterator[BinTotal]:
        for key, calls in self.detector.feature_bin_totals().items():
            yield BinTotal(*key, calls)

    # As the console shows it

    def series(self) -> list[dict[str, Any]]:
        """Each model, variant, feature and scale, with the state by its name."""
        shown = []
        for verdict in self.detector.verdicts():
            facts = msgspec.to_builtins(verdict)
            facts["state"] = verdict.state.name.lower()
            shown.append(facts)
        return shown


def _report(event: Event) -> None:
    incident = event.incident
    log = _log.info if event.kind == "closed" else _log.warning
    log(
        "incident %s: %s",
        event.kind,
        incident.explanation,
        extra={
            "incident": incident.id,
            "severity": incident.severity,
            "feature": incident.feature,
            "model": incident.model,
            "variant": incident.variant,
            "trace_ids": incident.trace_ids,
        },
    )
