"""A feature without a reference: collects the slots one is made of."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from driftline.drift.enrol import enrol
from driftline.drift.features import Feature
from driftline.drift.plan import Plan
from driftline.drift.reference import FeatureReference
from driftline.drift.tally import FOLDED, Counts, Sparse
from driftline.drift.verdict import State, Verdict
from driftline.drift.window import SlotRing


class Slot(msgspec.Struct, frozen=True):
    """A slot that has ended, as every feature of a model and variant sees it."""

    model: str
    variant: str
    number: int
    end: float
    """Seconds since the epoch."""
    reference: str
    """Id of the reference that is compared with, if any."""
    alpha: float
    """The chance of a false alarm that one test may take."""


class LearnerState(msgspec.Struct, frozen=True, tag="learning"):
    """A learner as it is kept on disk."""

    first: int | None
    slots: dict[int, Sparse]
    tenants: dict[str, list[int]]


class Learner:
    def __init__(self, feature: Feature, cells: int, plan: Plan) -> None:
        self.feature = feature
        self.plan = plan
        self.slots = SlotRing(plan.learn, cells)
        self.tenants: dict[str, Counts] = {}
        self.first: int | None = None
        """The slot that learning began with."""

    def add(self, number: int, cells: Counts, tenants: Mapping[str, Counts], names: list[str]) -> None:
        """Take in the counts of slot `number`, of all calls and by tenant."""
        known = self.slots.numbers()
        if self.first is None or number - known[-1] >= self.plan.learn:
            self.clear()
            self.first = number
        self.slots.add(number, cells)
        for tenant, counts in tenants.items():
            room = tenant in self.tenants or len(self.tenants) < self.plan.settings.max_tenants
            label = tenant if room else FOLDED
            self.tenants[label] = self.tenants[label] + counts if label in self.tenants else counts

    def calls(self, number: int) -> int:
        """That would be in the reference, were it made at the end of slot `number`."""
        return int(self.slots.total(number, self.plan.learn).sum())

    def progress(self, number: int) -> float:
        """From 0 to 1."""
        elapsed = 0.0 if self.first is None else (number - self.first + 1) / self.plan.learn
        return min(1.0, elapsed, self.calls(number) / self.plan.minimum_reference)

    def learned(self, number: int, names: list[str]) -> FeatureReference | None:
        """The reference so far; None where too few calls were counted."""
        if self.calls(number) < self.plan.minimum_reference:
            return None
        return enrol(
            self.feature,
            self.slots,
            names,
            scales=self.plan.scales,
            minimum=self.plan.settings.minimum,
            tenants=self.tenants,
        )

    def verdicts(self, slot: Slot, *, left_out: bool) -> list[Verdict]:
        """One a scale: learning, or insufficient for good where it is `left_out` of a frozen reference."""
        progress = 1.0 if left_out else self.progress(slot.number)
        return [
            Verdict(
                model=slot.model,
                variant=slot.variant,
                feature=self.feature.name,
                scale=scale,
                state=State.INSUFFICIENT if left_out else State.LEARNING,
                reason="not in the reference" if left_out else "no reference",
                window_end=slot.end,
                samples=int(self.slots.total(slot.number, length).sum()),
                progress=progress,
            )
            for scale, length in self.plan.scales.items()
        ]

    def clear(self) -> None:
        """Begin anew."""
        self.slots.clear()
        self.tenants = {}
        self.first = None

    def state(self) -> LearnerState:
        tenants = {tenant: counts.tolist() for tenant, counts in self.tenants.items()}
        return LearnerState(self.first, self.slots.state(), tenants)

    def resume(self, state: LearnerState) -> None:
        self.first = state.first
        self.slots.resume(state.slots)
        self.tenants = {tenant: np.array(counts, np.int64) for tenant, counts in state.tenants.items()}
