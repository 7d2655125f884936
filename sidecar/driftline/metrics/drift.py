"""Verdicts and incidents as metrics: for alerts, and for adding windows up over a fleet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from driftline.drift.incident import Incident
from driftline.drift.series import FeatureState
from driftline.drift.verdict import Verdict
from driftline.metrics.instruments import Labels, Metric, Observed, Value

_FEATURE = ("feature", "model", "variant")
_SCALE = (*_FEATURE, "scale")
_BIN = (*_SCALE, "bin", "reference")
_SEVERITIES = ("page", "ticket")


class BinTotal(NamedTuple):
    """Calls that ever landed in one bin."""

    feature: str
    model: str
    variant: str
    bin: str
    calls: int


class DriftSource(Protocol):
    """What is read of the detector."""

    def verdicts(self) -> Iterable[Verdict]:
        """Of the last completed windows."""

    def states(self) -> Iterable[FeatureState]:
        """Of each feature over all scales; drifting as long as an incident is open."""

    def incidents(self) -> Iterable[Incident]:
        """Those that are open; others are passed over."""

    def bin_totals(self) -> Iterable[BinTotal]:
        """Since the process started."""


def drift_metrics(source: DriftSource) -> list[Metric]:
    reader = _Reader(source)

    def gauge(name: str, description: str, labels: tuple[str, ...], unit: str = "") -> Observed:
        read = getattr(reader, name.removeprefix("driftline.").replace(".", "_"))
        return Observed(name=name, description=description, labels=labels, unit=unit, kind="gauge", read=read)

    return [
        gauge("driftline.drift.psi", "Population stability index of the last completed window.", _SCALE),
        gauge("driftline.drift.ks", "Smallest Kolmogorov-Smirnov statistic its bins allow.", _SCALE),
        gauge(
            "driftline.drift.threshold", "What a test's statistic must exceed to alarm.", (*_SCALE, "test")
        ),
        gauge("driftline.drift.window_samples", "Calls in the last completed window.", _SCALE, "{call}"),
        gauge("driftline.drift.state", "0 learning, 1 stable, 2 drifting, 3 insufficient.", _FEATURE),
        gauge("driftline.drift.calibrated", "1: the thresholds can be trusted with a page.", _SCALE),
        gauge("driftline.drift.incident", "1 while an incident is open.", (*_FEATURE, "severity")),
        gauge("driftline.window.bin_count", "Calls of the last completed window, by bin.", _BIN, "{call}"),
        gauge("driftline.window.le_count", "The same up to and including each bound.", _BIN, "{call}"),
        gauge("driftline.reference.bin_count", "Calls of the reference, by bin.", _BIN, "{call}"),
        gauge(
            "driftline.window.end_timestamp",
            "When the last completed window ended, since the epoch.",
            ("model", "variant", "scale", "reference"),
            "s",
        ),
        Observed(
            name="driftline.feature.bin",
            description="Calls by bin since the process started.",
            labels=(*_FEATURE, "bin"),
            unit="{call}",
            kind="counter",
            read=reader.feature_bin,
        ),
    ]


Points = Iterator[tuple[Labels, Value]]


class _Reader:
    """One method per metric, of its name."""

    def __init__(self, source: DriftSource) -> None:
        self._source = source

    def drift_psi(self) -> Points:
        return ((_scale(v), v.psi) for v in self._source.verdicts() if v.psi is not None)

    def drift_ks(self) -> Points:
        return ((_scale(v), v.ks) for v in self._source.verdicts() if v.ks is not None)

    def drift_threshold(self) -> Points:
        for verdict in self._source.verdicts():
            for name, test in verdict.tests.items():
                yield (*_scale(verdict), name), test.threshold

    def drift_window_samples(self) -> Points:
        return ((_scale(v), v.samples) for v in self._source.verdicts())

    def drift_state(self) -> Points:
        return ((_feature(state), int(state.state)) for state in self._source.states())

    def drift_calibrated(self) -> Points:
        return ((_scale(v), int(v.calibrated)) for v in self._source.verdicts())

    def drift_incident(self) -> Points:
        """0 where there is none, so that an alert resolves by a value and not by absence."""
        watched = {_feature(verdict): None for verdict in self._source.verdicts()}
        opened = {(*_feature(i), i.severity) for i in self._source.incidents() if i.open}
        for labels in {**watched, **dict.fromkeys(labels[:3] for labels in opened)}:
            for severity in _SEVERITIES:
                yield (*labels, severity), int((*labels, severity) in opened)

    def window_bin_count(self) -> Points:
        for verdict in self._source.verdicts():
            yield from _bins(verdict, verdict.groups, verdict.window_groups)

    def window_le_count(self) -> Points:
        for verdict in self._source.verdicts():
            bounds = [*(f"{edge:.6g}" for edge in verdict.edges), "+Inf"]
            yield from _bins(verdict, bounds, verdict.window_le)

    def reference_bin_count(self) -> Points:
        for verdict in self._source.verdicts():
            yield from _bins(verdict, verdict.groups, verdict.reference_groups)

    def window_end_timestamp(self) -> Points:
        ends = {
            (v.model, v.variant, v.scale, v.reference): v.window_end
            for v in self._source.verdicts()
            if v.reference
        }
        yield from ends.items()

    def feature_bin(self) -> Points:
        for total in self._source.bin_totals():
            yield (total.feature, total.model, total.variant, total.bin), total.calls


def _feature(of: Verdict | Incident | FeatureState) -> tuple[str, str, str]:
    return of.feature, of.model, of.variant


def _scale(verdict: Verdict) -> tuple[str, str, str, str]:
    return verdict.feature, verdict.model, verdict.variant, verdict.scale


def _bins(verdict: Verdict, names: list[str], counts: list[int]) -> Points:
    """Nothing where the window has no counts: it was not compared with anything."""
    for name, count in zip(names, counts, strict=False):
        yield (*_scale(verdict), name, verdict.reference), count
