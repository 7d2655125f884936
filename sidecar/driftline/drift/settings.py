"""The `drift` section of the configuration."""

from __future__ import annotations

import difflib
import re
from typing import Literal

import msgspec

from driftline.drift.features import DEFAULT_FEATURES, FEATURES

MAX_LEARN_SLOTS = 30_000
MAX_SCALE_SLOTS = 2016

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(?P<amount>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d|requests?)")


class Span(msgspec.Struct, frozen=True):
    """A stretch of traffic: of time, or of requests to one model and variant."""

    amount: float
    """Seconds, or requests."""
    requests: bool
    text: str

    @classmethod
    def parse(cls, text: str) -> Span:
        """`30s`, `5m`, `1h`, `7d`, `1000 requests`.

        >>> Span.parse("5m").amount, Span.parse("1000 requests").requests
        (300.0, True)

        Raises `ValueError` for anything else.
        """
        match = _SPAN.fullmatch(text.strip())
        amount = float(match["amount"]) if match else 0.0
        if match is None or amount <= 0:
            raise ValueError(
                f"{text!r} is no span; write a time such as 30s, 5m, 1h or 7d, or a number such as 1000 requests"
            )
        if match["unit"].startswith("request"):
            if amount != int(amount):
                raise ValueError(f"{text!r} is no span; the number of requests must be whole")
            return cls(amount, True, f"{int(amount)} requests")
        return cls(amount * _SECONDS[match["unit"]], False, match["amount"] + match["unit"])


class DriftSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Slots, scales, what is watched, and how many false pages are acceptable.

    `slot`, `scales` and `learn` are all times, or all numbers of requests; scales and `learn` are whole numbers of
    slots.
    """

    slot: str = "5m"
    """Counts are closed and windows judged this often."""
    scales: tuple[str, ...] = ("5m", "1h", "6h")
    """Lengths of the windows that are compared with the reference."""
    learn: str = "24h"
    """Traffic a reference is learned from, for each feature of each model and variant."""
    pin: Literal["auto", "manual"] = "auto"
    """`auto` freezes a reference when it is learned; `manual` keeps learning from the last `learn` until asked."""
    minimum: int = 100
    """Calls below which a window is `insufficient`; a reference needs five times as many."""
    tolerance: float = 0.02
    """The largest PSI that is not worth an alarm."""
    rate_tolerance: float = 0.2
    """The relative rise of a rate (refusals, broken JSON) that is not worth an alarm."""
    page_budget: float = 1.0
    """False pages per 90 days that are acceptable from this process."""
    clean_windows: int = 3
    """Windows without an alarm, one after the other, that close an incident."""
    features: tuple[str, ...] = DEFAULT_FEATURES
    """What is watched, by name."""
    max_series: int = 16
    """Models times variants that are watched apart; the rest is `__other__`."""
    max_tenants: int = 16
    """Tenants of a slot that are counted apart, to explain incidents; the rest is `__other__`."""

    def __post_init__(self) -> None:
        self._check_spans()
        self._check_numbers()
        for name in self.features:
            if name not in FEATURES:
                near = difflib.get_close_matches(name, FEATURES, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(FEATURES)}"
                raise ValueError(f"features: {name!r} is not a feature; {hint}")
        if not self.features or len(set(self.features)) < len(self.features):
            raise ValueError("features: name each feature once, and at least one")

    def _check_spans(self) -> None:
        slot = _span("slot", self.slot)
        if not self.scales:
            raise ValueError("scales: name at least one, such as 5m")
        spans = [("scales", text, _span("scales", text)) for text in self.scales]
        for key, text, span in [*spans, ("learn", self.learn, _span("learn", self.learn))]:
            if span.requests != slot.requests:
                raise ValueError(
                    f"{key}: {text!r} and slot {self.slot!r} do not go together; "
                    "make slot, scales and learn all times, or all numbers of requests"
                )
            ratio = span.amount / slot.amount
            if ratio < 1 or abs(ratio - round(ratio)) > 1e-9:
                raise ValueError(
                    f"{key}: {text!r} is not a multiple of slot {self.slot!r}; "
                    "make it one, two or more times as long"
                )
        lengths = [span.amount for _, _, span in spans]
        if lengths != sorted(set(lengths)):
            raise ValueError(f"scales: {', '.join(self.scales)} must ascend, each once; sort them")
        if self.in_slots(self.scales[-1]) > MAX_SCALE_SLOTS:
            raise ValueError(
                f"scales: {self.scales[-1]!r} is more than {MAX_SCALE_SLOTS} slots of {self.slot!r}; "
                "make the slot longer"
            )
        if not 10 <= self.in_slots(self.learn) <= MAX_LEARN_SLOTS:
            raise ValueError(
                f"learn: {self.learn!r} is {self.in_slots(self.learn)} slots of {self.slot!r}; "
                f"10 to {MAX_LEARN_SLOTS} are needed, so that windows can be held out to measure how much they vary"
            )

    def _check_numbers(self) -> None:
        for key, low, high in [
            ("minimum", 20, 1_000_000),
            ("tolerance", 0.0, 1.0),
            ("rate_tolerance", 0.0, 10.0),
            ("page_budget", 1e-6, 1000.0),
            ("clean_windows", 1, 1000),
            ("max_series", 1, 1000),
            ("max_tenants", 1, 1000),
        ]:
            value = getattr(self, key)
            if not low <= value <= high:
                raise ValueError(f"{key}: {value} is out of range; choose {low} to {high}")

    def in_slots(self, text: str) -> int:
        """How many slots a scale has."""
        return round(Span.parse(text).amount / Span.parse(self.slot).amount)


def _span(key: str, text: str) -> Span:
    try:
        return Span.parse(text)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
