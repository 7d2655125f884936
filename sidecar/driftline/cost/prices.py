"""What a call would cost at a list price."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import combinations
from math import inf
from typing import Literal

import msgspec

from driftline.call import Call, Cost
from driftline.settings import Settings

_PICO_PER_PRICE = 10**6
"""Dollars per million tokens → pico-dollars per token."""
_PICO_PER_NANO = 1000
_DECIMALS = 6
_WILDCARDS = "*?["


class Price(Settings, frozen=True, rename={"from_": "from"}):
    """A row of the price table: US dollars per million tokens of the models that match."""

    model: str
    """A name, or a pattern with `*`, `?` and `[…]`. Upper and lower case differ."""
    input: Decimal
    """Of input tokens."""
    output: Decimal = Decimal(0)
    """Of output tokens. Reasoning tokens are output."""
    cached_input: Decimal | None = None
    """Input tokens that came from the prefix cache. Not given: `input`, since no discount is known."""
    from_: dt.date | None = None
    """First day (UTC) it is in effect."""
    until: dt.date | None = None
    """First day (UTC) it is not in effect any more."""
    currency: Literal["USD"] = "USD"
    """The only one so far."""
    source: str = ""
    """Where the price was read, for people."""

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError('model is empty: name a model, or write "*" for all')
        for name in ("input", "output", "cached_input"):
            value = getattr(self, name)
            if value is not None:
                _pico_per_token(name, value)
        if self.from_ and self.until and self.until <= self.from_:
            raise ValueError(
                f"until ({self.until}) is not after from ({self.from_}): the price is never in effect"
            )

    def overlaps(self, other: Price) -> bool:
        """Both in effect on some day."""
        return (self.until is None or other.from_ is None or other.from_ < self.until) and (
            other.until is None or self.from_ is None or self.from_ < other.until
        )


def _pico_per_token(name: str, per_million: Decimal) -> int:
    """Exact: a price with more decimals would have to be rounded on every token."""
    if not per_million.is_finite() or per_million < 0:
        raise ValueError(f"{name} is {per_million}: give dollars per million tokens, 0 or more")
    pico = per_million * _PICO_PER_PRICE
    if pico != pico.to_integral_value():
        raise ValueError(
            f"{name} is {per_million}: give at most {_DECIMALS} decimals, it is per million tokens"
        )
    return int(pico)


class _Row(msgspec.Struct, frozen=True):
    """A `Price` in the units of the computation: pico-dollars per token, nanoseconds since the epoch."""

    input: int
    cached: int
    output: int
    start: float
    end: float


class TokenPricer:
    """Prices calls from a table; of several rows that match, the most specific one in effect counts.

    A name goes before a pattern, a pattern with more literal characters before one with fewer, and of two
    alike the one that stands first. The requested model is looked up before the one that answered.

    Raises `ValueError` for two rows of the same model that are in effect on the same day.
    """

    def __init__(self, prices: Sequence[Price]) -> None:
        for one, other in combinations(prices, 2):
            if one.model == other.model and one.overlaps(other):
                raise ValueError(
                    f"{one.model} has two prices on one day: set until on the earlier, from on the later"
                )
        ordered = sorted(prices, key=_specificity, reverse=True)
        self._table = [(price.model, _row(price)) for price in ordered]
        self._matching = lru_cache(maxsize=1024)(self._match)

    def observe(self, call: Call) -> None:
        """Set `call.cost`, and where tokens were counted the signal `unpriced`. An empty table sets nothing."""
        if self._table and call.usage is not None:
            call.cost = self.price(call)
            call.signals["unpriced"] = call.cost is None

    def price(self, call: Call) -> Cost | None:
        """None: no tokens were counted, or no row matches. Never a guess.

        Cached tokens are part of the input and priced once, at their own price. Each of the three amounts is
        exact in pico-dollars and rounded half to even to nano-dollars at the end.
        """
        usage = call.usage
        row = self._find(call) if usage else None
        if usage is None or row is None:
            return None
        inputs = usage.input_tokens or 0
        cached = min(usage.cached_tokens or 0, inputs)
        outputs = 0 if call.operation == "embeddings" else usage.output_tokens
        return Cost(
            input=_nano((inputs - cached) * row.input),
            cached=_nano(cached * row.cached),
            output=_nano((outputs or 0) * row.output),
            partial=usage.partial or usage.input_tokens is None or outputs is None,
        )

    def _find(self, call: Call) -> _Row | None:
        at = call.exchange.received_at
        for model in (call.request_model, call.response_model):
            for row in self._matching(model) if model else ():
                if row.start <= at < row.end:
                    return row
        return None

    def _match(self, model: str) -> list[_Row]:
        return [row for pattern, row in self._table if pattern == model or fnmatchcase(model, pattern)]


def _specificity(price: Price) -> tuple[bool, int]:
    literal = sum(character not in _WILDCARDS for character in price.model)
    return literal == len(price.model), literal


def _row(price: Price) -> _Row:
    per_token = _pico_per_token("input", price.input)
    cached = price.cached_input
    return _Row(
        input=per_token,
        cached=per_token if cached is None else _pico_per_token("cached_input", cached),
        output=_pico_per_token("output", price.output),
        start=_midnight(price.from_) if price.from_ else -inf,
        end=_midnight(price.until) if price.until else inf,
    )


def _midnight(day: dt.date) -> int:
    """Of UTC, nanoseconds since the epoch."""
    return (day - dt.date(1970, 1, 1)).days * 86_400_000_000_000


def _nano(pico: int) -> int:
    whole, rest = divmod(pico, _PICO_PER_NANO)
    half = _PICO_PER_NANO // 2
    return whole + (rest > half or (rest == half and whole % 2 == 1))
