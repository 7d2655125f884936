"""What drift sees of a call."""

from __future__ import annotations

import pytest

from driftline import dialects
from driftline.drift.features import DEFAULT_FEATURES, FEATURES
from driftline.features import READ, FeatureReader
from driftline.quality import Quality
from tests.dialects.exchanges import exchange, recorded, stream

JSON = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}],
    "response_format": {"type": "json_object"},
}
REPLY = {
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "{no"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3},
}


def values(exchange, features=DEFAULT_FEATURES):
    call = dialects.read(exchange)
    Quality().observe(call)
    observation = FeatureReader(features).observation(call)
    return observation and dict(observation.values)


def test_every_feature_that_is_read_is_declared():
    assert READ.keys() <= FEATURES.keys()
    assert set(DEFAULT_FEATURES) <= READ.keys()


def test_a_reply_shows_its_sizes_its_end_and_its_quality():
    assert values(exchange(request_body=JSON, response_body=REPLY)) == {
        "input_tokens": 7,
        "output_tokens": 3,
        "finish_reason": "stop",
        "refusal": False,
        "json_invalid": True,
    }


def test_time_to_first_token_is_of_streams_only():
    seen = values(recorded("python-frontend/chat-stream-usage", first_content=250_000_000))
    assert seen["ttft"] == 0.25
    assert (seen["input_tokens"], seen["output_tokens"]) == (30, 12)


def test_a_reply_cut_short_is_no_shorter_reply():
    """Calls that a client left or an error ended say nothing about lengths; the error kind is theirs."""
    left = exchange(request_body=JSON, response_body=stream(done=False), stream=True, outcome="client_closed")
    assert values(left) == {}
    assert values(left, ["error"]) == {"error": "client_closed"}


def test_tokens_that_nobody_counted_are_missing_not_guessed():
    """Without the engine's count the number of events is a lower bound, which would look like drift."""
    seen = values(recorded("python-frontend/chat-stream"))
    assert (seen["input_tokens"], seen["output_tokens"]) == (None, None)


@pytest.mark.parametrize("status", [0, 404])
def test_a_model_that_no_one_served_is_not_watched(status):
    """Its name is whatever a client wrote: it must not take a place among the models."""
    assert values(exchange(request_body=JSON, status=status)) is None


def test_a_feature_that_cannot_be_read_live_is_refused_by_name():
    with pytest.raises(ValueError, match="toxicity can be replayed but not read from live traffic yet"):
        FeatureReader(["toxicity"])
