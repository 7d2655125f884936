"""Content is recorded where it was asked for, and nowhere else."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.call import Call, Message, OutputMessage, TextPart, Tool
from driftline.tracing.content import Capture, CaptureSettings
from tests.tracing.calls import bare, chat, exchange

VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def capture(**settings: object) -> Capture:
    return Capture(CaptureSettings(**settings), {})  # type: ignore[arg-type]


def asking(word: str | None) -> Call:
    headers = [] if word is None else [("x-driftline-capture", word)]
    return bare(exchange=exchange(request_headers=headers))


@pytest.mark.parametrize(
    ("content", "header", "recorded"),
    [
        (None, None, False),
        (None, "true", False),
        (False, None, False),
        (False, "true", False),
        ("by_request", None, False),
        ("by_request", "true", True),
        ("by_request", " ON ", True),
        ("by_request", "nonsense", False),
        (True, None, True),
        (True, "true", True),
        (True, "false", False),
        (True, "nonsense", False),
    ],
)
def test_who_decides(content: object, header: str | None, recorded: bool) -> None:
    """The configuration allows; within that a request may ask for it, and may always decline."""
    assert capture(content=content).wants(asking(header)) is recorded


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        ("true", True),
        ("True", True),
        ("SPAN_ONLY", True),
        ("span_and_event", True),
        ("", False),
        ("false", False),
        ("NO_CONTENT", False),
        ("EVENT_ONLY", False),
    ],
)
def test_the_standard_variable_is_understood(value: str, recorded: bool) -> None:
    assert Capture(CaptureSettings(), {VARIABLE: value}).wants(asking(None)) is recorded


def test_the_configuration_beats_the_variable() -> None:
    assert Capture(CaptureSettings(content=False), {VARIABLE: "true"}).wants(asking(None)) is False
    assert Capture(CaptureSettings(content=True), {VARIABLE: "false"}).wants(asking(None)) is True


def test_an_unknown_value_records_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert Capture(CaptureSettings(), {VARIABLE: "yes please"}).wants(asking(None)) is False
    assert "'yes please'" in caplog.text


def test_messages_have_the_conventions_schema() -> None:
    seen = capture(content=True).attributes(chat())
    assert {key: json.loads(str(value)) for key, value in seen.items()} == {
        "gen_ai.system_instructions": [{"type": "text", "content": "Be brief."}],
        "gen_ai.input.messages": [
            {"role": "user", "parts": [{"type": "text", "content": "Weather in Paris?"}]},
        ],
        "gen_ai.output.messages": [
            {"role": "assistant", "parts": [{"type": "text", "content": "Sunny."}], "finish_reason": "stop"},
            {
                "role": "assistant",
                "parts": [
                    {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": '{"city":"Paris"}'}
                ],
                "finish_reason": "tool_call",
            },
        ],
        "gen_ai.tool.definitions": [
            {
                "name": "weather",
                "description": "Looks out of the window",
                "parameters": None,
                "type": "function",
            }
        ],
    }


def test_what_there_is_not_is_absent() -> None:
    assert capture(content=True).attributes(bare()) == {}


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6000)


@given(st.lists(texts, max_size=6), texts, st.lists(texts, max_size=3), st.integers(1024, 8192))
def test_never_more_than_the_cap_and_always_json(
    prompts: list[str], reply: str, tools: list[str], max_bytes: int
) -> None:
    call = bare(
        input_messages=[Message(role="user", parts=[TextPart(content=prompt)]) for prompt in prompts],
        output_messages=[OutputMessage(role="assistant", parts=[TextPart(content=reply)])],
        tools=[Tool(name="t", description=text) for text in tools],
    )
    seen = capture(content=True, max_bytes=max_bytes).attributes(call)
    contents = {key: value for key, value in seen.items() if isinstance(value, str)}
    assert sum(len(value.encode()) for value in contents.values()) <= max_bytes
    assert all(isinstance(json.loads(value), list) for value in contents.values())

    whole = capture(content=True, max_bytes=1024 * 1024).attributes(call)
    cut = {key for key in whole if seen.get(key) != whole[key]}
    assert {key: seen["driftline.content.original_bytes." + key] for key in cut} == {
        key: len(str(whole[key]).encode()) for key in cut
    }


def test_a_small_attribute_leaves_its_room_to_a_large_one() -> None:
    call = bare(
        system_instructions=[TextPart(content="short")],
        input_messages=[Message(role="user", parts=[TextPart(content="x" * 10_000)])],
    )
    seen = capture(content=True, max_bytes=2000).attributes(call)
    assert sum(len(str(value).encode()) for key, value in seen.items() if key.startswith("gen_ai.")) == 2000


@pytest.mark.parametrize("size", [0, 1023, 1024 * 1024 + 1])
def test_a_cap_outside_its_range_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"max_bytes is {size}; it goes from 1024 to 1048576"):
        CaptureSettings(max_bytes=size)
