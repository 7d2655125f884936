"""The drift detector in the observer: calls in, incidents to the log, state to disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import msgspec

from driftline.call import Call
from driftline.drift.detector import Detector
from driftline.drift.incident import Event, Incident
from driftline.drift.settings import DriftSettings
from driftline.drift.verdict import Verdict
from driftline.metrics.drift import BinTotal
from driftline.observer.features import FeatureReader

_log = logging.getLogger(__name__)


class DriftWatch:
    """An observer, and the source of everything that is shown of drift."""

    def __init__(self, settings: DriftSettings, clock: float) -> None:
        self._reader = FeatureReader(settings.features)
        self.detector = Detector(settings, clock)

    def observe(self, call: Call) -> None:
        observation = self._reader.observation(call)
        if observation is not None:
            self.detector.observe(observation)

    def tick(self, now: float) -> None:
        for event in self.detector.tick(now):
            _report(event)

    # As the metrics read it

    def verdicts(self) -> list[Verdict]:
        return self.detector.verdicts()

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
