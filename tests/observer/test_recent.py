"""The calls the console remembers."""

from __future__ import annotations

from driftline import dialects
from driftline.observer.recent import RecentCalls, detail, entry, summary
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
    assert [int(one["span_id"], 16) for one in recent.newest(10)] == [5, 4, 3]
    assert len(recent.newest(2)) == 2
    assert recent.of_trace((1).to_bytes(16, "big")) == []


def test_what_an_incident_points_to_is_not_forgotten():
    recent = RecentCalls(size=3, kept=2)
    recent.observe(call(1))
    recent.keep([(1).to_bytes(16, "big").hex(), "ff" * 16])
    for number in range(2, 9):
        recent.observe(call(number))
    assert [int(one["span_id"], 16) for one in recent.of_trace((1).to_bytes(16, "big"))] == [1]


def test_what_is_kept_is_bounded_in_bytes():
    """Whatever a call says of itself, and whether it comes once or again under one id."""
    recent = RecentCalls(most_bytes=10_000)
    for number in (*range(1, 60), 59, 59):
        recent.observe(call(number, error="x" * 900))
    assert [int(one["span_id"], 16) for one in recent.newest(100)] == list(range(59, 50, -1))


def test_what_is_kept_holds_nothing_that_was_said():
    """Not even out of sight: a memory dump, a swap file."""
    said = call(1, response_body=b'{"choices":[{"message":{"content":"secret words"}}]}')
    assert "secret" not in str(entry(said))


def test_calls_are_found_by_what_they_show():
    recent = RecentCalls()
    recent.observe(call(1, request_headers=[("x-driftline-team", "search")]))
    recent.observe(call(2))
    assert [int(one["span_id"], 16) for one in recent.newest(10, team="search")] == [1]


def test_what_was_said_is_not_shown():
    """Content is off by default, on this page too, and an engine's error may quote the request."""
    shown = str(detail(entry(call(1, response_body=b'{"error":{"message":"secret words"}}', status=400))))
    assert "secret" not in shown


def test_moments_that_did_not_happen_are_absent():
    one = dialects.read(recorded("python-frontend/chat-stream", first_byte=1_500_000, ended=2_000_000))
    assert detail(entry(one))["moments"] == {"first_byte": 0.0015, "ended": 0.002}
    assert summary(entry(one))["input_tokens"] is None
