"""Real traffic: the public Azure trace of two LLM services (Patel et al. 2024), one hour each."""

import csv
import random

import pytest

from driftline.drift.observation import Observation
from driftline.drift.recording import seconds
from driftline.drift.replay import learn, replay
from driftline.drift.settings import DriftSettings
from tests.drift.traffic import DATA, needs_azure

pytestmark = needs_azure

SETTINGS = DriftSettings(
    slot="30s", scales=("30s", "5m"), learn="30m", features=("input_tokens", "output_tokens")
)


def tokens(row):
    return {"input_tokens": int(row["ContextTokens"]), "output_tokens": int(row["GeneratedTokens"])}


def trace(name):
    with (DATA / "azure-llm" / f"{name}.csv").open(newline="") as file:
        return [
            Observation(seconds(row["TIMESTAMP"]), name, "", "", f"{name}-{i}", tokens(row))
            for i, row in enumerate(csv.DictReader(file))
        ]


@pytest.fixture(scope="module")
def conversation():
    return trace("conv")


@pytest.fixture(scope="module")
def code():
    return trace("code")


def against(reference, stream, **changes):
    """What a stream does to a detector that learned `reference`."""
    baselines = learn(
        reference, SETTINGS, first=reference[0].timestamp, last=reference[-1].timestamp, rows=len(reference)
    )
    return replay(stream, SETTINGS, baselines=baselines, **changes)


def moved(call, seconds_later, model):
    return Observation(call.timestamp + seconds_later, model, "", "", call.trace_id, call.values)


def test_shuffled_conversation_is_quiet(conversation):
    """The same calls without their order in time are independent: no window is out of the ordinary."""
    values = [call.values for call in conversation]
    random.Random(1).shuffle(values)
    shuffled = [
        Observation(call.timestamp, "conv", "", "", call.trace_id, of)
        for call, of in zip(conversation, values, strict=True)
    ]
    half = len(shuffled) // 2
    replayed = against(shuffled[:half], shuffled[half:])
    assert replayed.incidents == []
    assert replayed.windows > 200
    for verdict in replayed.verdicts:
        assert verdict.dispersion.estimate < 1.5


def test_conversation_in_order_is_quiet_because_it_is_known_to_be_noisy(conversation):
    """Windows of half a minute differ ten times more than independent calls would: the price is power."""
    half = len(conversation) // 2
    replayed = against(conversation[:half], conversation[half:])
    assert replayed.incidents == []
    for verdict in replayed.verdicts:
        assert verdict.dispersion.factor > 10
        assert not verdict.calibrated


def test_conversation_spliced_into_code_is_noticed(code, conversation):
    """At the end of the first full slot by the replies, two minutes later by the prompts, which are more alike."""
    cut = len(code) * 2 // 3
    at = code[-1].timestamp + 1
    later = at - conversation[0].timestamp
    stream = [*code[cut:], *(moved(call, later, "code") for call in conversation)]
    replayed = against(code[:cut], stream, changed_at=at)
    opened = [(o.incident.feature, o.incident.open) for o in replayed.incidents]
    assert opened == [("output_tokens", True), ("input_tokens", True)]
    replies, prompts = replayed.incidents
    assert (round(replies.delay_seconds), replies.delay_rows) == (69, 242)
    assert (round(prompts.delay_seconds), prompts.delay_rows) == (189, 853)
    assert {trace_id.partition("-")[0] for trace_id in replies.incident.trace_ids} == {"conv"}
