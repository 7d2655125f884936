"""Settings: what cannot work is refused with the value and the fix."""

import pytest

from driftline.drift.plan import Plan
from driftline.drift.settings import DriftSettings, Span


@pytest.mark.parametrize(
    ("text", "amount", "requests"),
    [
        ("30s", 30, False),
        ("500ms", 0.5, False),
        (" 5 m ", 300, False),
        ("1.5h", 5400, False),
        ("7d", 604_800, False),
        ("1000 requests", 1000, True),
        ("1 request", 1, True),
    ],
)
def test_spans_are_times_or_numbers_of_requests(text, amount, requests):
    span = Span.parse(text)
    assert (span.amount, span.requests) == (amount, requests)


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "0s", "5 minutes", "5m ago", "1.5 requests", "1e3s"])
def test_what_is_no_span_is_refused_with_examples(text):
    with pytest.raises(ValueError, match=r"write a time such as 30s|must be whole"):
        Span.parse(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slot": "5"}, "slot: '5' is no span"),
        ({"slot": "1000 requests"}, "scales: '5m' and slot '1000 requests' do not go together"),
        ({"scales": ("7m",)}, "scales: '7m' is not a multiple of slot '5m'"),
        ({"scales": ("1m",)}, "scales: '1m' is not a multiple of slot '5m'"),
        ({"scales": ("1h", "5m")}, "must ascend"),
        ({"scales": ()}, "name at least one"),
        ({"scales": ("30d",)}, "make the slot longer"),
        ({"learn": "10m"}, "learn: '10m' is 2 slots of '5m'; 10 to"),
        ({"features": ("input_token",)}, "did you mean 'input_tokens'"),
        ({"features": ()}, "at least one"),
        ({"features": ("ttft", "ttft")}, "each feature once"),
        ({"minimum": 3}, "minimum: 3 is out of range; choose 20 to"),
        ({"tolerance": 2.0}, "tolerance: 2.0 is out of range"),
        ({"page_budget": 0.0}, "page_budget: 0.0 is out of range"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DriftSettings(**changes)


def test_expected_false_pages_stay_within_the_budget():
    """alpha, times every look that any test of any window of any series takes in 90 days, is the budget."""
    settings = DriftSettings(page_budget=2.0)
    plan = Plan(settings)
    looks = 90 * 288 * len(settings.scales) * len(settings.features) * (settings.max_series + 1) * 2
    assert plan.alpha(288) * looks == pytest.approx(2.0)


def test_a_longer_slot_looks_less_often():
    assert Plan(DriftSettings()).alpha(24) == pytest.approx(12 * Plan(DriftSettings()).alpha(288))
