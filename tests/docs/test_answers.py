"""The admin API answers in the shapes that docs/reference/http.md shows."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from driftline.exchange import encode
from driftline.observer.intake import Intake
from driftline.observer.service import Service
from driftline.relay.counters import Block
from tests.dialects.exchanges import exchange
from tests.docs.pages import examples

SECOND = 10**9
MOMENTS = ("connected", "request_sent", "first_byte", "first_content", "last_content", "last_byte", "ended")


def call(at: int, tokens: int) -> bytes:
    """The record of a call that began at `at`, nanoseconds since the epoch."""
    message = {"role": "assistant", "content": "ho"}
    return encode(
        exchange(
            received_at=at,
            span_id=at.to_bytes(8, "big"),
            request_body={"model": "m", "messages": [{"role": "user", "content": "hi"}]},
            response_body={
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": tokens, "completion_tokens": 3},
            },
            **{moment: i for i, moment in enumerate(MOMENTS, 1)},
        )
    )


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Of a real observer, after traffic that drifted."""
    counters, file = Block.create()
    config = {
        "state_dir": str(tmp_path_factory.mktemp("state")),
        "drift": {
            "slot": "1s",
            "scales": ["1s"],
            "learn": "10s",
            "minimum": 20,
            "features": ["input_tokens"],
        },
        "prices": [{"model": "m", "input": 1, "output": 2}],
    }
    service = Service(config, Intake(counters))
    service.processes = [{"role": "observer", "pid": 1, "restarts": 0, "replaced": 0, "since": 0.0}]
    start = int(service._started) + 1
    for second in range(start, start + 16):
        longer = 30 if second >= start + 13 else 1
        for i in range(40):
            service.consume(call(second * SECOND + i, (10 + i) * longer))
        service.tick(second + 1.0)
    yield {
        "GET /healthz": service.health(),
        "GET /api/v1/traces": {"traces": service.traces(1, {})},
        "GET /api/v1/traces/{trace_id}": {"trace_id": "", "calls": service.trace(bytes(16))[:1]},
        "GET /api/v1/drift": service.drift(),
        "GET /api/v1/incidents": {"incidents": service.incidents()},
        "GET /api/v1/baselines": {"baselines": service.baselines()},
    }
    file.close()


@pytest.mark.parametrize("example", [one for one in examples("json") if one.title], ids=lambda one: one.title)
def test_an_answer_has_the_keys_that_are_documented(example, answers):
    """All the way down, in their order."""
    assert shape(json.loads(example.text)) == shape(json.loads(msgspec.json.encode(answers[example.title])))


DATA = {"dropped", "outcomes", "signals", "tests", "features"}
"""Objects whose keys are data, such as names of features: only what is below them is compared."""


def shape(value: Any, key: str = "") -> Any:
    """Keys in order; of a list the first item's."""
    if isinstance(value, list):
        return shape(value[0]) if value else ""
    if not isinstance(value, dict):
        return ""
    if key in DATA:
        return shape(next(iter(value.values()), ""))
    return [(name, shape(inner, name)) for name, inner in value.items()]
