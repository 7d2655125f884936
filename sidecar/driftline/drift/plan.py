"""The settings worked out: features, lengths in slots, and the chance of a false alarm each test may take."""

from __future__ import annotations

from driftline.drift.features import FEATURES, Feature
from driftline.drift.settings import DriftSettings, Span

BUDGET_DAYS = 90
TESTS_PER_WINDOW = 2


class Plan:
    """What every series shares."""

    def __init__(self, settings: DriftSettings) -> None:
        self.settings = settings
        self.features: dict[str, Feature] = {name: FEATURES[name] for name in settings.features}
        self.scales = {scale: settings.in_slots(scale) for scale in settings.scales}
        self.longest = max(self.scales.values())
        self.learn = settings.in_slots(settings.learn)
        slot = Span.parse(settings.slot)
        self.slot_seconds = None if slot.requests else slot.amount
        self.slot_requests = int(slot.amount) if slot.requests else None
        self.minimum_reference = 5 * settings.minimum

    def alpha(self, slots_per_day: float) -> float:
        """The chance that one test of one window may take to alarm while nothing moves.

        Every window of every scale is looked at once a slot. Expected false pages are a rate, and rates add
        whatever the dependence between tests, so the budget is divided evenly over windows, scales, features and
        series. Series that do not exist yet have their share from the start: a new model moves no threshold.
        """
        series = self.settings.max_series + 1
        windows = slots_per_day * BUDGET_DAYS * len(self.scales) * len(self.features) * series
        return min(0.05, self.settings.page_budget / (windows * TESTS_PER_WINDOW))
