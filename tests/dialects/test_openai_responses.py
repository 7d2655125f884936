"""Responses: items in, items out, and a stream whose last event repeats the whole."""

from __future__ import annotations

import json

import pytest

from driftline import dialects
from driftline.call import (
    BlobPart,
    FilePart,
    JsonMode,
    Message,
    OutputMessage,
    Parameters,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolCallResponsePart,
    UriPart,
    Usage,
)
from tests.dialects.exchanges import exchange, recorded

PATH = "/v1/responses"
SCHEMA = {"type": "object"}
USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 4,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 13,
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hi"}],
}
REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "Hm."}],
}
TOOL_CALL = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "add",
    "arguments": '{"n": 1}',
}


def asked(**request):
    return dialects.read(exchange(PATH, request_body={"model": "m", **request}))


def reply(*output, status="completed", **fields):
    return {"id": "resp_1", "model": "m2", "status": status, "output": list(output), "usage": USAGE, **fields}


def answered(*output, **fields):
    return dialects.read(exchange(PATH, response_body=reply(*output, **fields)))


def streamed(*events, **fields):
    lines = [f"event: {event.get('type')}\ndata: {json.dumps(event)}\n\n" for event in events]
    return dialects.read(exchange(PATH, stream=True, response_body="".join(lines).encode(), **fields))


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        ("Hi", [Message("user", [TextPart("Hi")])]),
        ([{"role": "user", "content": "Hi"}], [Message("user", [TextPart("Hi")])]),
        ([{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Hi"}]}], [Message("developer", [TextPart("Hi")])]),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA"}]}], [Message("user", [BlobPart("image", "AA", "image/png")])]),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y"}]}], [Message("user", [UriPart("image", "https://x/y")])]),
        ([{"role": "user", "content": [{"type": "input_file", "file_id": "f-1"}]}], [Message("user", [FilePart("document", "f-1")])]),
        ([MESSAGE, TOOL_CALL], [Message("assistant", [TextPart("Hi")]), Message("assistant", [ToolCallPart("call_1", "add", '{"n": 1}')])]),
        ([{"type": "function_call_output", "call_id": "call_1", "output": "2"}], [Message("tool", [ToolCallResponsePart("call_1", "2")])]),
        ([REASONING], [Message("assistant", [ReasoningPart("Hm.")])]),
        ([{"type": "item_reference", "id": "msg_1"}, {"type": "web_search_call"}], []),
        ("", []),
        (None, []),
    ],
)  # fmt: skip
def test_input(given, messages):
    """A string, or items of any kind; those that hold no content leave no message."""
    assert asked(input=given).input_messages == messages


def test_parameters_instructions_and_tools():
    """Instructions stand apart from the history, so they are `system_instructions`."""
    call = asked(
        instructions="Be terse.", max_output_tokens=7, temperature=0.5, top_p=1, stream=True,
        tools=[{"type": "function", "name": "add", "parameters": SCHEMA}, {"type": "web_search"}],
        text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
    )  # fmt: skip
    assert call.system_instructions == [TextPart("Be terse.")]
    assert call.parameters == Parameters(max_tokens=7, temperature=0.5, top_p=1.0, stream=True)
    assert call.tools == [Tool("add", parameters=SCHEMA), Tool("web_search", type="web_search")]
    assert call.json_mode == JsonMode(SCHEMA)
    assert asked(text={"format": {"type": "json_object"}}).json_mode == JsonMode()
    assert asked(text={"format": {"type": "text"}}).json_mode is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (reply(MESSAGE), OutputMessage("assistant", [TextPart("Hi")], "stop")),
        (reply(REASONING, MESSAGE), OutputMessage("assistant", [ReasoningPart("Hm."), TextPart("Hi")], "stop")),
        (reply(TOOL_CALL), OutputMessage("assistant", [ToolCallPart("call_1", "add", '{"n": 1}')], "tool_call")),
        (reply(MESSAGE, status="incomplete", incomplete_details={"reason": "max_output_tokens"}), OutputMessage("assistant", [TextPart("Hi")], "length")),
        (reply(status="incomplete", incomplete_details={"reason": "content_filter"}), OutputMessage("assistant", [], "content_filter")),
    ],
)  # fmt: skip
def test_a_reply_whole_or_streamed(body, message):
    """All items make one message; the last event of a stream holds the same."""
    whole = dialects.read(exchange(PATH, response_body=body))
    last = {"type": f"response.{body['status']}", "response": body}
    pieces = streamed({"type": "response.created", "response": reply(status="in_progress")}, last)
    for call in (whole, pieces):
        assert call.output_messages == [message]
        assert call.usage == Usage(9, 4, cached_tokens=0, reasoning_tokens=1)
        assert (call.response_id, call.response_model, call.error_type) == ("resp_1", "m2", None)


def test_a_reply_that_failed():
    """Whole or streamed, it says what failed."""
    failed = reply(status="failed", usage=None, error={"code": "server_error", "message": "no"})
    for call in (
        dialects.read(exchange(PATH, response_body=failed)),
        streamed({"type": "response.failed", "response": failed}),
        streamed({"type": "error", "code": "server_error", "message": "no", "param": None}),
        streamed({"error": {"code": "server_error", "message": "no"}}),
    ):
        assert (call.error_type, call.error_message, call.usage) == ("server_error", "no", None)


def test_a_reply_that_waits_in_the_background():
    """Nothing came back yet, and nothing failed."""
    call = answered(status="queued", usage=None)
    assert (call.output_messages, call.error_type, call.usage) == ([], None, None)


EVENTS = [
    {"type": "response.created", "response": reply(status="in_progress", usage=None)},
    {"type": "response.output_item.added", "output_index": 0, "item": REASONING | {"content": []}},
    {"type": "response.reasoning_text.delta", "output_index": 0, "delta": "H"},
    {"type": "response.reasoning_text.delta", "output_index": 0, "delta": "m."},
    {"type": "response.output_item.done", "output_index": 0, "item": REASONING},
    {"type": "response.output_item.added", "output_index": 1, "item": MESSAGE | {"content": []}},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "H"},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "i"},
    {"type": "response.output_item.added", "output_index": 2, "item": TOOL_CALL | {"arguments": ""}},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"n"'},
]


def test_a_stream_that_was_left():
    """What had come by then is put together from the deltas; the count is a lower bound."""
    call = streamed(*EVENTS, outcome="client_closed")
    parts = [ReasoningPart("Hm."), TextPart("Hi"), ToolCallPart("call_1", "add", '{"n"')]
    assert call.output_messages == [OutputMessage("assistant", parts)]
    assert call.usage == Usage(output_tokens=5, partial=True)
    assert (call.error_type, call.response_id) == ("client_closed", "resp_1")


@pytest.mark.parametrize("count", range(len(EVENTS)))
def test_every_beginning_of_a_stream(count):
    """After each event, what is known is a beginning of the whole."""
    whole = streamed(*EVENTS).output_messages[0].parts
    messages = streamed(*EVENTS[:count]).output_messages
    parts = messages[0].parts if messages else []
    assert [type(part) for part in parts] == [type(part) for part in whole][: len(parts)]


def test_the_last_event_scanned_by_the_relay():
    """It stands in where the record of the stream was cut before it."""
    last = json.dumps({"type": "response.completed", "response": reply(MESSAGE)}).encode()
    call = streamed(*EVENTS[:3], usage_event=last)
    assert call.output_messages == [OutputMessage("assistant", [TextPart("Hi")], "stop")]
    assert call.usage.output_tokens == 4


@pytest.mark.parametrize(
    ("name", "parts", "usage"),
    [
        ("responses", [TextPart(" available backvi Checkmailbox Checkmailbox Check")], Usage(14, 8, cached_tokens=0, reasoning_tokens=0)),
        ("responses-stream", [TextPart(" ag text._undedirst return._unded")], Usage(24, 8, cached_tokens=0, reasoning_tokens=0)),
    ],
)  # fmt: skip
def test_vllm(name, parts, usage):
    """It ends a stream with `response.completed` whatever the status in it; the status counts."""
    call = dialects.read(recorded(f"python-frontend-0.32/{name}"))
    assert call.output_messages == [OutputMessage("assistant", parts, "length")]
    assert call.usage == usage


@pytest.mark.parametrize("name", ["responses-stream", "responses-tool-stream"])
def test_a_prefix_of_a_stream_tells_a_prefix_of_the_reply(name):
    """Cut after any byte, the text or the arguments are a beginning of the whole's."""
    name = f"python-frontend-0.32/{name}"
    whole = dialects.read(recorded(name))
    [full] = whole.output_messages[0].parts
    body = recorded(name).response_body.head
    longest = ""
    for end in range(len(body)):
        call = dialects.read(recorded(name, response_body=body[:end], outcome="client_closed"))
        parts = [part for message in call.output_messages for part in message.parts]
        text = "".join(part.arguments if isinstance(part, ToolCallPart) else part.content for part in parts)
        assert text.startswith(longest)
        longest = text
        assert call.error_type == (None if call.finish_reasons else "client_closed")
        assert call.usage is None or call.usage.partial or call.usage == whole.usage
    assert longest == (full.arguments if isinstance(full, ToolCallPart) else full.content)
