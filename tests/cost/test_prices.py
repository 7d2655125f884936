"""Token prices are exact, come from the table alone, and are applied once."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline import dialects
from driftline.call import Call, Cost, Usage
from driftline.cost.prices import Price, TokenPricer
from tests.dialects.exchanges import exchange, recorded

DAY = 86_400 * 10**9


def table(*rows: dict[str, object]) -> TokenPricer:
    return TokenPricer(msgspec.convert(list(rows), list[Price]))


def call(
    usage: Usage | None, *, model: str | None = "m", response_model=None, operation="chat", at=0
) -> Call:
    return Call(
        exchange(received_at=at), "openai_chat", operation,
        request_model=model, response_model=response_model, usage=usage,
    )  # fmt: skip


PRICER = table({"model": "m", "input": "2.50", "cached_input": "1.25", "output": 10})


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(1_000_000, 0), Cost(2_500_000_000, 0, 0)),
        (Usage(1, 1), Cost(2500, 0, 10_000)),
        (Usage(10, 0, cached_tokens=0), Cost(25_000, 0, 0)),
        (Usage(10, 0, cached_tokens=4), Cost(15_000, 5000, 0)),
        (Usage(10, 0, cached_tokens=11), Cost(0, 12_500, 0)),
        (Usage(10, 0, cache_creation_tokens=10), Cost(25_000, 0, 0)),
        (Usage(0, 10, reasoning_tokens=7), Cost(0, 0, 100_000)),
        (Usage(None, 3, partial=True), Cost(0, 0, 30_000, partial=True)),
        (Usage(5, None), Cost(12_500, 0, 0, partial=True)),
        (Usage(5, 1, partial=True), Cost(12_500, 0, 10_000, partial=True)),
    ],
)
def test_what_a_call_costs(usage, cost):
    """Dollars per million tokens, in nano-dollars: cached tokens once, reasoning as output, gaps marked."""
    assert PRICER.price(call(usage)) == cost


def test_embeddings_have_no_output():
    """Their cost is whole without it."""
    assert PRICER.price(call(Usage(4), operation="embeddings")) == Cost(10_000, 0, 0)


def test_without_a_price_for_cached_input_it_is_input():
    """No discount is invented."""
    assert table({"model": "m", "input": 1}).price(call(Usage(10, 0, cached_tokens=4))) == Cost(6000, 4000, 0)


def test_all_choices_of_a_call_are_priced_once():
    """The engine counts the tokens of n choices together."""
    two_choices = dialects.read(recorded("python-frontend/chat-stream-logprobs-n2"))
    assert len(two_choices.output_messages) == 2
    assert PRICER.price(two_choices) == Cost(14 * 2500, 16 * 1250, 24 * 10_000)


def test_unknown_is_absent():
    """A model outside the table has no cost, and is counted; without a count there is nothing to price."""
    for stranger, unpriced in [(call(Usage(1, 1), model="other"), {"unpriced": True}), (call(None), {})]:
        PRICER.observe(stranger)
        assert (stranger.cost, stranger.signals) == (None, unpriced)
    known = call(Usage(1, 1))
    PRICER.observe(known)
    assert (known.cost, known.signals) == (Cost(2500, 0, 10_000), {"unpriced": False})


def test_an_empty_table_prices_and_counts_nothing():
    """Who states no prices wants no cost."""
    any_call = call(Usage(1, 1))
    TokenPricer([]).observe(any_call)
    assert (any_call.cost, any_call.signals) == (None, {})


PATTERNS = ["*", "*8b*", "llama-*", "llama-3.1-8b", "llama-3.[12]-8b", "qwen*"]


@pytest.mark.parametrize(
    ("model", "pattern"),
    [
        ("llama-3.1-8b", "llama-3.1-8b"),
        ("llama-3.2-8b", "llama-3.[12]-8b"),
        ("llama-3.3-8b", "llama-*"),
        ("tiny-8b", "*8b*"),
        ("Llama-3.1", "*"),
        ("qwen", "qwen*"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_most_specific_row_counts(model, pattern, order):
    """Whatever the order of the table."""
    pricer = table(*({"model": p, "input": PATTERNS.index(p)} for p in PATTERNS[::order]))
    assert pricer.price(call(Usage(1, 0), model=model)).input == PATTERNS.index(pattern) * 1000


def test_the_requested_model_goes_before_the_one_that_answered():
    """An alias may have its own price, or be priced by what it stands for."""
    pricer = table({"model": "fast", "input": 1}, {"model": "llama", "input": 2})
    assert pricer.price(call(Usage(1, 0), model="fast", response_model="llama")).input == 1000
    assert pricer.price(call(Usage(1, 0), model="auto", response_model="llama")).input == 2000
    assert pricer.price(call(Usage(1, 0), model=None)) is None


def test_a_price_counts_from_its_first_day_until_its_last():
    """By the day the request came, UTC; a gap is unpriced; a general row fills it."""
    rows = [
        {"model": "m", "input": 1, "until": "1970-01-03"},
        {"model": "m", "input": 2, "from": "1970-01-03", "until": "1970-01-04"},
        {"model": "m", "input": 3, "from": "1970-01-05"},
    ]
    moments = [0, 2 * DAY - 1, 2 * DAY, 3 * DAY - 1, 3 * DAY, 4 * DAY]

    def inputs(pricer: TokenPricer) -> list[int | None]:
        costs = [pricer.price(call(Usage(1, 0), at=at)) for at in moments]
        return [cost.input if cost else None for cost in costs]

    assert inputs(table(*rows)) == [1000, 1000, 2000, 2000, None, 3000]
    assert inputs(table(*rows, {"model": "*", "input": 9})) == [1000, 1000, 2000, 2000, 9000, 3000]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"model": "m", "input": -1}, "input is -1: give dollars per million tokens, 0 or more"),
        ({"model": "m", "input": "NaN"}, "input is NaN: give dollars per million tokens, 0 or more"),
        ({"model": "m", "input": 1, "output": "0.0000001"}, "output is 1E-7: give at most 6 decimals"),
        ({"model": "", "input": 1}, "model is empty"),
        ({"model": "m", "input": 1, "from": "2026-02-01", "until": "2026-02-01"}, "is not after from"),
        ({"model": "m", "input": 1, "currency": "EUR"}, "Invalid enum value 'EUR'"),
        ({"model": "m", "input": "cheap"}, "Invalid decimal"),
        ({"model": "m"}, "missing required field `input`"),
        ({"model": "m", "input": 1, "inputs": 1}, "unknown field `inputs`"),
        ({"model": "m", "input": 1, "from": "soon"}, "Invalid RFC3339"),
    ],
)
def test_a_bad_row_is_refused(row, complaint):
    """With its field, its value, and what would do."""
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.convert(row, Price)


def test_two_prices_on_one_day_are_refused():
    """There is no telling which one counts."""
    with pytest.raises(ValueError, match="m has two prices on one day"):
        table({"model": "m", "input": 1}, {"model": "m", "input": 2, "from": "2026-01-01"})


def test_numbers_may_be_written_as_yaml_has_them():
    """A float as it reads, not as it is stored."""
    price = msgspec.convert({"model": "m", "input": 0.1, "output": 3, "from": dt.date(2026, 1, 1)}, Price)
    assert (price.input, price.output) == (Decimal("0.1"), Decimal(3))


prices = st.decimals(0, 1000, places=6)
rows = st.fixed_dictionaries(
    {"model": st.just("m"), "input": prices, "cached_input": prices, "output": prices}
)
tokens = st.integers(0, 10**7)
usages = st.builds(
    Usage, tokens, tokens, cached_tokens=st.none() | tokens, reasoning_tokens=st.none() | tokens
)


@given(rows, usages)
def test_each_part_is_exact_to_half_a_nano_dollar(row, usage):
    """Compared with arithmetic in fractions."""
    cost = table(row).price(call(usage))
    cached = min(usage.cached_tokens or 0, usage.input_tokens)
    exact = {
        "input": (usage.input_tokens - cached) * Fraction(row["input"]) * 1000,
        "cached": cached * Fraction(row["cached_input"]) * 1000,
        "output": usage.output_tokens * Fraction(row["output"]) * 1000,
    }
    for part, value in exact.items():
        assert abs(getattr(cost, part) - value) <= Fraction(1, 2)
    assert cost.total == cost.input + cost.cached + cost.output


whole_prices = st.decimals(0, 1000, places=3)


@given(
    st.fixed_dictionaries(
        {"model": st.just("m"), "input": whole_prices, "cached_input": whole_prices, "output": whole_prices}
    ),
    st.lists(st.tuples(tokens, tokens, tokens), min_size=1, max_size=5),
)
def test_costs_add_up(row, calls):
    """At prices of up to three decimals, many small calls cost what one large one does, to the nano-dollar."""
    pricer = table(row)
    usages = [Usage(fresh + cached, out, cached_tokens=cached) for fresh, cached, out in calls]
    fresh, cached, out = (sum(column) for column in zip(*calls, strict=True))
    together = pricer.price(call(Usage(fresh + cached, out, cached_tokens=cached)))
    assert sum(pricer.price(call(usage)).total for usage in usages) == together.total


@given(rows, st.lists(tokens, min_size=2, max_size=6), tokens)
def test_more_tokens_never_cost_less(row, outputs, inputs):
    """Of input or output alike."""
    pricer = table(row)
    for less, more in pairwise(sorted(outputs)):
        assert pricer.price(call(Usage(inputs, less))).total <= pricer.price(call(Usage(inputs, more))).total
        assert pricer.price(call(Usage(less, inputs))).total <= pricer.price(call(Usage(more, inputs))).total


@given(rows, usages)
def test_reasoning_is_priced_once(row, usage):
    """As the part of the output that it is."""
    pricer = table(row)
    plain = Usage(usage.input_tokens, usage.output_tokens, cached_tokens=usage.cached_tokens)
    assert pricer.price(call(usage)) == pricer.price(call(plain))
