"""Chat completions: what was asked, what came back, what it used."""

from __future__ import annotations

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
from tests.dialects.exchanges import exchange, recorded, stream

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


def asked(**request):
    return dialects.read(exchange(request_body={"model": "m", "messages": [], **request}))


def answered(*messages, usage=None):
    choices = [{"index": i, "message": message} for i, message in enumerate(messages)]
    return dialects.read(exchange(response_body={"id": "c-1", "choices": choices, "usage": usage}))


def streamed(*events, done=True, **fields):
    return dialects.read(exchange(stream=True, response_body=stream(*events, done=done), **fields))


def delta(index=0, finish=None, **fields):
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "system", "content": "Be terse."}, Message("system", [TextPart("Be terse.")])),
        ({"role": "developer", "content": "Be terse."}, Message("developer", [TextPart("Be terse.")])),
        ({"role": "user", "name": "ada", "content": "Hi"}, Message("user", [TextPart("Hi")], "ada")),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}, Message("user", [TextPart("a"), TextPart("b")])),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}, Message("user", [UriPart("image", "https://x/y.png")])),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}, Message("user", [BlobPart("image", "AAAA", "image/png")])),
        ({"role": "user", "content": [{"type": "video_url", "video_url": "https://x/y.mp4"}]}, Message("user", [UriPart("video", "https://x/y.mp4")])),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]}, Message("user", [BlobPart("audio", "AAAA", "audio/wav")])),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f-1"}}]}, Message("user", [FilePart("document", "f-1")])),
        ({"role": "user", "content": [{"type": "hologram", "hologram": {}}]}, Message("user", [])),
        ({"role": "assistant", "reasoning_content": "Hm.", "content": "Hi"}, Message("assistant", [ReasoningPart("Hm."), TextPart("Hi")])),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]}, Message("assistant", [ToolCallPart("t1", "add", "{}")])),
        ({"role": "tool", "tool_call_id": "t1", "content": "3"}, Message("tool", [ToolCallResponsePart("t1", "3")])),
        ({"role": "tool", "tool_call_id": "t1", "content": [{"type": "text", "text": "3"}]}, Message("tool", [ToolCallResponsePart("t1", "3")])),
        ({"role": "assistant", "content": ""}, Message("assistant", [])),
        ({"content": 7}, Message("user", [])),
    ],
)  # fmt: skip
def test_messages(message, expected):
    """Text, media, reasoning, tool calls and their answers, in the conventions' parts."""
    call = asked(messages=[message])
    assert call.input_messages == [expected]
    assert call.system_instructions == []


def test_parameters():
    """Those of the request that was sent, under the conventions' names."""
    call = asked(max_tokens=9, temperature=0, top_p=0.9, top_k=-1, seed=7, stop="END", n=2, stream=True, frequency_penalty=0.1, presence_penalty=-0.1)  # fmt: skip
    assert call.parameters == Parameters(
        max_tokens=9, temperature=0.0, top_p=0.9, top_k=-1, seed=7, stop_sequences=["END"], choice_count=2,
        stream=True, frequency_penalty=0.1, presence_penalty=-0.1,
    )  # fmt: skip
    assert asked(max_tokens=9, max_completion_tokens=8).parameters.max_tokens == 8
    assert asked(stop=["a", "b"]).parameters.stop_sequences == ["a", "b"]
    assert asked(max_tokens="many", temperature=0.5).parameters == Parameters(temperature=0.5)


@pytest.mark.parametrize(
    ("request_fields", "expected"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, JsonMode()),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}}, JsonMode(SCHEMA)),
        ({"response_format": {"type": "json_schema"}}, JsonMode()),
        ({"structured_outputs": {"json": SCHEMA}}, JsonMode(SCHEMA)),
        ({"structured_outputs": {"json": '{"type": "array"}'}}, JsonMode({"type": "array"})),
        ({"structured_outputs": {"json_object": True}}, JsonMode()),
        ({"structured_outputs": {"regex": "a+"}}, None),
        ({"guided_json": SCHEMA}, JsonMode(SCHEMA)),
    ],
)  # fmt: skip
def test_json_mode(request_fields, expected):
    """OpenAI's way of asking for JSON, and vLLM's own."""
    assert asked(**request_fields).json_mode == expected


def test_tools():
    """What the model was offered."""
    function = {"name": "add", "description": "Adds.", "parameters": SCHEMA}
    call = asked(tools=[{"type": "function", "function": function}, {"type": "web_search"}])
    assert call.tools == [Tool("add", "Adds.", SCHEMA), Tool("web_search", type="web_search")]


def test_a_reply():
    """Reasoning, text and tool calls, with the model's and the reply's names."""
    call = dialects.read(recorded("python-frontend/chat"))
    assert call.response_id == "chatcmpl-raw-chat"
    assert call.system_fingerprint == "vllm-0.26.0-f5581a32"
    assert [m.finish_reason for m in call.output_messages] == ["length"]
    assert call.usage == Usage(30, 12, cached_tokens=0, cache_creation_tokens=16)
    tool_call = {"id": "t1", "function": {"name": "add", "arguments": '{"n":'}}
    thought = answered({"role": "assistant", "reasoning": "Hm.", "content": "Hi", "tool_calls": [tool_call]})
    assert thought.output_messages[0].parts == [
        ReasoningPart("Hm."),
        TextPart("Hi"),
        ToolCallPart("t1", "add", '{"n":'),
    ]


@pytest.mark.parametrize(
    ("said", "recorded_as"),
    [("stop", "stop"), ("length", "length"), ("tool_calls", "tool_call"), ("content_filter", "content_filter"), ("abort", "error"), (None, None)],
)  # fmt: skip
def test_finish_reasons(said, recorded_as):
    """In the conventions' words, streamed or not."""
    reply = {"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": said}]}
    whole = dialects.read(exchange(response_body=reply))
    pieces = streamed(delta(content="x", finish=said))
    assert [whole.output_messages[0].finish_reason, pieces.output_messages[0].finish_reason] == [
        recorded_as
    ] * 2


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}, Usage(3, 0)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}}, Usage(3, 2, cached_tokens=0)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(3, 2)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}}, Usage(3, 2, reasoning_tokens=1)),
        ({"prompt_tokens": 3, "completion_tokens": -2}, Usage(3)),
        ({}, None),
        (None, None),
    ],
)  # fmt: skip
def test_usage(usage, expected):
    """0 is a count; null, absent and impossible are not."""
    assert answered({"content": "x"}, usage=usage).usage == expected


def test_a_stream_says_what_the_reply_says():
    """The same request, streamed by both frontends and read whole."""
    texts = {
        "allowanceOfcopyplays topics UNKNOWNFileSelectBoxtenpower stereo cloneNodedircbNOWLEDGE",
    }
    python, rust = (
        dialects.read(recorded(f"{name}-frontend/chat-stream-usage")) for name in ("python", "rust")
    )
    assert {python.output_messages[0].text, rust.output_messages[0].text} == texts
    assert python.finish_reasons == rust.finish_reasons == ["length"]
    assert python.usage == Usage(30, 12, cached_tokens=16, cache_creation_tokens=0)
    assert rust.usage == Usage(30, 12, cached_tokens=16)
    assert (python.system_fingerprint, rust.system_fingerprint) == ("vllm-0.26.0-f5581a32", None)


def test_choices_and_parallel_tool_calls_are_put_together_by_index():
    """Deltas of two choices and of two calls arrive interleaved."""

    def piece(index, **function):
        return {"index": index, "function": function, **({"id": f"t{index}"} if "name" in function else {})}

    call = streamed(
        delta(1, role="assistant", content="A"),
        delta(0, tool_calls=[piece(0, name="add", arguments=""), piece(1, name="sub", arguments="{")]),
        delta(0, tool_calls=[piece(1, arguments='"n": 1}')]),
        delta(1, content="B"),
        delta(0, tool_calls=[piece(0, arguments="{}")], finish="tool_calls"),
        delta(1, finish="stop"),
    )
    assert call.output_messages == [
        OutputMessage(
            "assistant", [ToolCallPart("t0", "add", "{}"), ToolCallPart("t1", "sub", '{"n": 1}')], "tool_call"
        ),
        OutputMessage("assistant", [TextPart("AB")], "stop"),
    ]


def test_reasoning_is_streamed_apart_from_text():
    """Under either name it goes by in vLLM."""
    call = streamed(delta(reasoning="H"), delta(reasoning_content="m"), delta(content="Hi", finish="stop"))
    assert call.output_messages[0].parts == [ReasoningPart("Hm"), TextPart("Hi")]


def test_usage_beside_choices_is_counted_once():
    """A running count is overtaken by each later one; the last is the truth."""
    running = [
        delta(content="x") | {"usage": {"prompt_tokens": 5, "completion_tokens": n}} for n in (1, 2, 3)
    ]
    last = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}
    assert streamed(*running, delta(finish="stop"), last).usage == Usage(5, 3)
    assert streamed(*running, done=False, outcome="client_closed").usage == Usage(5, 3, partial=True)


def test_usage_that_the_relay_cut_out_of_the_stream():
    """It is taken from the scanned event, and is not partial."""
    event = b'{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}'
    call = streamed(
        delta(content="x"), delta(content="y", finish="stop"), usage="injected", usage_event=event
    )
    assert call.usage == Usage(5, 2)


def test_usage_of_a_stream_nobody_counted():
    """Events with content are a lower bound of the output, and marked so; of the input nothing is known."""
    events = [delta(role="assistant", content=""), delta(content="x"), delta(content="y")]
    call = streamed(*events, done=False, outcome="client_closed")
    assert call.usage == Usage(output_tokens=2, partial=True)
    assert streamed(events[0], done=False, outcome="client_closed").usage is None


def test_vllm_streams_a_tool_call():
    """Its arguments arrive in pieces, after an event with its id and name."""
    call = dialects.read(recorded("python-frontend-0.32/chat-tool-stream"))
    [message] = call.output_messages
    [tool_call] = message.tool_calls
    assert (message.role, message.text, message.finish_reason) == ("assistant", "", "length")
    assert (tool_call.id, tool_call.name) == ("chatcmpl-tool-832fda50d39d2971", "add")
    assert tool_call.arguments.startswith('"__srsetnoreinterHesr Healsotes element---')
    assert call.usage == Usage(100, 60, cached_tokens=0, cache_creation_tokens=0)
