"""The calls the console remembers."""

from __future__ import annotations

from driftline import dialects
from driftline.observer.recent import RecentCalls, detail, summary
from tests.dialects.exchanges import exchange, recorded


def call(number: int, **fields):
    body = {"model": "m", "messages": [{"role": "user", "content": "secret words"}]}
    return dialects.read(
        exchange(
            trace_id=number.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            request_body=body,
            **fields,
        )
    )


def test_the_oldest_are_forgotten_first():
    recent = RecentCalls(size=3)
    for number in range(1, 6):
        recent.observe(call(number))
    assert [one.exchange.span_id[-1] for one in recent.newest(10)] == [5, 4, 3]
    assert len(recent.newest(2)) == 2
    assert recent.of_trace((1).to_bytes(16, "big")) == []


def test_what_an_incident_points_to_is_not_forgotten():
    recent = RecentCalls(size=3, kept=2)
    recent.observe(call(1))
    recent.keep([(1).to_bytes(16, "big").hex(), "ff" * 16])
    for number in range(2, 9):
        recent.observe(call(number))
    assert [one.exchange.span_id[-1] for one in recent.of_trace((1).to_bytes(16, "big"))] == [1]


def test_calls_are_found_by_what_they_show():
    recent = RecentCalls()
    recent.observe(call(1, request_headers=[("x-driftline-team", "search")]))
    recent.observe(call(2))
    assert [one.exchange.span_id[-1] for one in recent.newest(10, team="search")] == [1]


def test_what_was_said_is_not_shown():
    """Content is off by default, on this page too, and an engine's error may quote the request."""
    shown = str(detail(call(1, response_body=b'{"error":{"message":"secret words"}}', status=400)))
    assert "secret" not in shown


def test_moments_that_did_not_happen_are_absent():
    one = dialects.read(recorded("python-frontend/chat-stream", first_byte=1_500_000, ended=2_000_000))
    assert detail(one)["moments"] == {"first_byte": 0.0015, "ended": 0.002}
    assert summary(one)["input_tokens"] is None
