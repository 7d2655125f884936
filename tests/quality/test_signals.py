"""Each signal says what it applies to, and can be switched off."""

from __future__ import annotations

import pytest

from driftline.call import JsonMode, ReasoningPart, ToolCallPart
from driftline.quality import SIGNALS, Quality, adverse
from driftline.quality.empty import EmptySignal
from driftline.quality.settings import QualitySettings
from driftline.quality.truncated import TruncatedSignal
from tests.quality.replies import replied


@pytest.mark.parametrize(
    ("finish", "value"), [("length", True), ("stop", False), ("tool_call", False), (None, None)]
)
def test_truncated(finish, value):
    """By the finish reason alone."""
    assert TruncatedSignal().score(replied("Hi", finish=finish)) is value


@pytest.mark.parametrize(
    ("call", "value"),
    [
        (replied("Hi"), False),
        (replied(""), True),
        (replied(" \n"), True),
        (replied("Hi", ""), True),
        (replied([ReasoningPart("Hm.")]), True),
        (replied([ToolCallPart("t1", "now", "{}")]), False),
        (replied("", error_type="client_closed"), None),
        (replied("", truncated_record=True), None),
        (replied(), None),
    ],
)
def test_empty(call, value):
    """Neither text nor tool calls, in a reply that ended well."""
    assert EmptySignal().score(call) is value


def test_a_call_gets_every_signal_that_applies():
    """Those that do not apply leave no value."""
    call = replied("I can't help with that.", json_mode=JsonMode())
    Quality().observe(call)
    assert call.signals == {"refusal": "full", "json_invalid": "not_json", "truncated": False, "empty": False}
    bare = replied("Hi", finish=None)
    Quality().observe(bare)
    assert bare.signals == {"refusal": "none", "empty": False}


@pytest.mark.parametrize("name", SIGNALS)
def test_each_signal_can_be_switched_off(name):
    """By the key of its name."""
    call = replied("{}", json_mode=JsonMode())
    Quality(QualitySettings(**{name: False})).observe(call)
    assert set(call.signals) == set(SIGNALS) - {name}


@pytest.mark.parametrize(
    ("value", "expected"),
    [("full", True), ("partial", True), ("none", False), ("valid", False), ("tool_schema", True), ("cut", None), (True, True), (False, False)],
)  # fmt: skip
def test_which_values_speak_against_a_reply(value, expected):
    """Partial refusals do; what was cut is counted apart."""
    assert adverse(value) is expected
