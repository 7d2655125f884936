"""`POST /v1/chat/completions`."""

from __future__ import annotations

import msgspec

from driftline.call import Call, OutputMessage, Part, ReasoningPart, TextPart, ToolCallPart
from driftline.dialects import content, openai, openai_stream
from driftline.dialects.openai_messages import CalledFunction, WireMessage, input_message, message_parts
from driftline.dialects.outcome import settle
from driftline.dialects.wire import Int64, Shape
from driftline.exchange import Exchange


class _Request(openai.Sampling):
    messages: list[WireMessage] = []
    max_tokens: Int64 | None = None
    max_completion_tokens: Int64 | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    message: WireMessage | None = None
    finish_reason: str | None = None


class _Reply(openai.Envelope):
    choices: list[_Choice] = []


class _ToolCallDelta(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: CalledFunction | None = None


class _Delta(msgspec.Struct, gc=False):
    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCallDelta] | None = None


class _ChunkChoice(openai_stream.ChunkChoice, gc=False):
    delta: _Delta | None = None


class _Chunk(openai_stream.Chunk, gc=False):
    choices: list[_ChunkChoice] = []


_REQUEST = Shape(_Request)
_REPLY = Shape(_Reply)
_CHUNK = Shape(_Chunk)


def read(exchange: Exchange) -> Call:
    call = openai.call(exchange, "openai_chat", "chat")
    request = content.request(call, _REQUEST)
    if request is not None:
        openai.read_sampling(call, request)
        call.parameters.max_tokens = (
            request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
        )
        # System messages stay where they stand: the conventions keep `gen_ai.system_instructions` for APIs
        # that take them apart from the history.
        call.input_messages = [input_message(message) for message in request.messages]
    if exchange.status >= 400:
        settle(call, finished=True, error=openai.status_error(call))
    elif exchange.stream:
        _read_stream(call)
    else:
        _read_reply(call)
    return call


def _read_reply(call: Call) -> None:
    reply = content.response(call, _REPLY)
    if reply is not None:
        openai.read_envelope(call, reply)
        call.usage = openai.usage(reply.usage)
        for choice in sorted(reply.choices, key=lambda choice: choice.index):
            message = choice.message or WireMessage()
            finish = openai.finish_reason(choice.finish_reason)
            call.output_messages.append(
                OutputMessage(message.role or "assistant", message_parts(message), finish)
            )
    settle(call, finished=reply is not None)


def _read_stream(call: Call) -> None:
    chunks, done = content.response_events(call, _CHUNK)
    choices: dict[int, _Growing] = {}
    contents = 0
    for chunk in chunks:
        for choice in chunk.choices:
            growing = choices.get(choice.index)
            if growing is None:
                growing = choices[choice.index] = _Growing()
            if choice.finish_reason is not None:
                growing.finish = choice.finish_reason
            if choice.delta is not None:
                contents += growing.take(choice.delta)
    call.output_messages = [growing.message() for _, growing in sorted(choices.items())]
    openai_stream.read_chunks(call, chunks, done=done, contents=contents)


class _Growing:
    """One choice of a stream, as far as it has come."""

    __slots__ = ("finish", "reasoning", "role", "text", "tool_calls")

    def __init__(self) -> None:
        self.role = "assistant"
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.tool_calls: dict[int, tuple[ToolCallPart, list[str]]] = {}
        self.finish: str | None = None

    def take(self, delta: _Delta) -> bool:
        """Whether there was content in it."""
        if delta.role:
            self.role = delta.role
        if delta.content:
            self.text.append(delta.content)
            return True
        reasoning = delta.reasoning or delta.reasoning_content
        if reasoning:
            self.reasoning.append(reasoning)
        if delta.refusal:
            self.text.append(delta.refusal)
        for call in delta.tool_calls or ():
            self._take_call(call)
        return bool(reasoning or delta.refusal or delta.tool_calls)

    def _take_call(self, delta: _ToolCallDelta) -> None:
        call, arguments = self.tool_calls.setdefault(delta.index, (ToolCallPart(None, "", ""), []))
        call.id = call.id or delta.id
        if delta.function is not None:
            call.name = call.name or delta.function.name or ""
            arguments.append(delta.function.arguments or "")

    def message(self) -> OutputMessage:
        parts: list[Part] = []
        if self.reasoning:
            parts.append(ReasoningPart("".join(self.reasoning)))
        if self.text:
            parts.append(TextPart("".join(self.text)))
        for call, arguments in self.tool_calls.values():
            call.arguments = "".join(arguments)
            parts.append(call)
        return OutputMessage(self.role, parts, openai.finish_reason(self.finish))
