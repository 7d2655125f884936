"""What the sidecar knows about itself: what it relays, what it exported, what it lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from driftline.metrics.instruments import Labels, Metric, Observed
from driftline.metrics.labels import LabelBound
from driftline.relay.counters import Totals


class Export(Protocol):
    """One signal's way out."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """Items lost, by reason."""

    @property
    def batches(self) -> Mapping[str, int]:
        """Batches, by outcome: `success`, `failure`."""


@dataclass(frozen=True, kw_only=True)
class Books:
    """Where the sidecar's own figures are kept."""

    relay: Callable[[], Totals]
    exports: Mapping[str, Export]
    """By signal: `traces`, `metrics`."""
    faults: Mapping[str, int]
    """Calls that an observer failed on, by observer."""
    bound: LabelBound

    def requests(self) -> Iterator[tuple[Labels, int]]:
        for outcome, count in self.relay().requests.items():
            yield (outcome,), count

    def dropped(self) -> Iterator[tuple[Labels, int]]:
        for reason, count in self.relay().dropped.items():
            yield ("exchanges", reason), count
        for observer, count in self.faults.items():
            yield ("calls", f"{observer}_fault"), count
        for signal, export in self.exports.items():
            for reason, count in export.dropped.items():
                yield (signal, reason), count
        yield ("metrics", "label_folded"), self.bound.folded

    def exported(self) -> Iterator[tuple[Labels, int]]:
        for signal, export in self.exports.items():
            for outcome, count in export.batches.items():
                yield (signal, outcome), count


def telemetry_metrics(books: Books) -> list[Metric]:
    return [
        Observed(
            name="driftline.relay.active_requests",
            description="Requests in flight.",
            unit="{request}",
            kind="gauge",
            read=lambda: [((), books.relay().active)],
        ),
        Observed(
            name="driftline.relay.requests",
            description="Requests that ended, by how.",
            unit="{request}",
            labels=("outcome",),
            kind="counter",
            read=books.requests,
        ),
        Observed(
            name="driftline.telemetry.dropped",
            description="Records, calls, spans and label values that were lost on the way, by reason.",
            unit="{item}",
            labels=("signal", "reason"),
            kind="counter",
            read=books.dropped,
        ),
        Observed(
            name="driftline.telemetry.export",
            description="Batches sent to a backend, by outcome.",
            unit="{batch}",
            labels=("signal", "outcome"),
            kind="counter",
            read=books.exported,
        ),
    ]
