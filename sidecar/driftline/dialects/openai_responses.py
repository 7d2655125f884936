"""`POST /v1/responses`."""

from __future__ import annotations

import msgspec

from driftline.call import (
    Call,
    Message,
    OutputMessage,
    Parameters,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolCallResponsePart,
)
from driftline.dialects import content, openai
from driftline.dialects.openai_messages import WirePart, content_part, plain_text
from driftline.dialects.openai_stream import at_least
from driftline.dialects.outcome import ErrorDetail, settle
from driftline.dialects.wire import Int64, Shape
from driftline.exchange import Exchange


class _Item(msgspec.Struct):
    """Of the input, and of the output: a message, a tool call, its answer, or reasoning."""

    type: str | None = None
    role: str | None = None
    content: str | list[WirePart | str] | None = None
    summary: list[WirePart | str] | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[WirePart | str] | None = None


class _Text(msgspec.Struct):
    format: openai.Format | None = None


class _Request(msgspec.Struct):
    model: str | None = None
    input: str | list[_Item | str] | None = None
    instructions: str | None = None
    max_output_tokens: Int64 | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Int64 | None = None
    seed: Int64 | None = None
    stream: bool | None = None
    text: _Text | None = None
    tools: list[openai.WireTool] | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Reply(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    status: str | None = None
    output: list[_Item] = []
    usage: openai.WireUsage | None = None
    error: ErrorDetail | None = None
    incomplete_details: _Incomplete | None = None


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    response: _Reply | None = None
    output_index: int = 0
    item: _Item | None = None
    delta: str | None = None
    error: ErrorDetail | str | None = None
    code: str | int | None = None
    message: str | None = None


_REQUEST = Shape(_Request)
_REPLY = Shape(_Reply)
_EVENT = Shape(_Event)


def read(exchange: Exchange) -> Call:
    call = openai.call(exchange, "openai_responses", "chat")
    request = content.request(call, _REQUEST)
    if request is not None:
        _read_request(call, request)
    if exchange.status >= 400:
        settle(call, finished=True, error=openai.status_error(call))
    elif exchange.stream:
        _read_stream(call)
    else:
        reply = content.response(call, _REPLY)
        if reply is not None:
            _read_reply(call, reply)
        settle(call, finished=reply is not None, error=reply.error if reply else None)
    return call


def _read_request(call: Call, request: _Request) -> None:
    call.request_model = request.model or call.request_model
    call.parameters = Parameters(
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed,
        stream=request.stream is True,
    )
    call.tools = openai.tools(request.tools)
    call.json_mode = openai.format_mode(request.text.format if request.text else None)
    if request.instructions:
        call.system_instructions = [TextPart(request.instructions)]
    items = request.input if isinstance(request.input, list) else [request.input or ""]
    for item in items:
        if isinstance(item, str):
            if item:
                call.input_messages.append(Message("user", [TextPart(item)]))
        elif parts := _parts(item):
            call.input_messages.append(Message(_role(item), parts))


def _role(item: _Item) -> str:
    if item.type == "function_call_output":
        return "tool"
    return item.role or ("assistant" if item.type in ("function_call", "reasoning") else "user")


def _parts(item: _Item) -> list[Part]:
    """Nothing for items of other kinds: references, a server's own tools."""
    if item.type == "function_call":
        return [ToolCallPart(item.call_id or item.id, item.name or "", item.arguments or "")]
    if item.type == "function_call_output":
        return [ToolCallResponsePart(item.call_id, plain_text(item.output))]
    if item.type == "reasoning":
        text = plain_text(item.content) or plain_text(item.summary)
        return [ReasoningPart(text)] if text else []
    pieces = [item.content] if isinstance(item.content, str) else item.content or []
    return [part for piece in pieces if piece != "" and (part := content_part(piece)) is not None]


def _read_reply(call: Call, reply: _Reply) -> None:
    call.response_id = reply.id
    call.response_model = reply.model
    call.usage = openai.usage(reply.usage)
    parts = [part for item in reply.output for part in _parts(item)]
    finish = _finish_reason(reply, parts)
    if parts or finish:
        call.output_messages = [OutputMessage("assistant", parts, finish)]


def _finish_reason(reply: _Reply, parts: list[Part]) -> str | None:
    if reply.status == "completed":
        return "tool_call" if any(isinstance(part, ToolCallPart) for part in parts) else "stop"
    if reply.status == "incomplete":
        reason = reply.incomplete_details.reason if reply.incomplete_details else None
        return "content_filter" if reason == "content_filter" else "length"
    return "error" if reply.status == "failed" else None


_LAST = ("response.completed", "response.incomplete", "response.failed")


def _read_stream(call: Call) -> None:
    """The last event repeats the whole reply. Without it, the reply is put together from the others."""
    events, _ = content.response_events(call, _EVENT)
    if call.exchange.usage_event and (scanned := _EVENT.decode(call.exchange.usage_event)) is not None:
        events.append(scanned)
    last = next((event.response for event in reversed(events) if event.type in _LAST), None)
    error = next((found for event in events if (found := _error(event)) is not None), None)
    if last is not None:
        _read_reply(call, last)
        settle(call, finished=True, error=last.error or error)
        return
    growing = _Growing()
    for event in events:
        growing.take(event)
    started = next((event.response for event in events if event.response is not None), _Reply())
    _read_reply(call, _Reply(started.id, started.model, output=growing.items()))
    call.usage = at_least(call, growing.contents)
    settle(call, finished=False, error=error)


def _error(event: _Event) -> ErrorDetail | str | None:
    """`{"type": "error", …}` as specified, or with the error nested, as servers also send it."""
    if event.error is not None:
        return event.error
    return ErrorDetail(event.message, None, event.code) if event.type == "error" else None


class _Growing:
    """Output items of a stream, as far as they have come."""

    def __init__(self) -> None:
        self.contents = 0
        self._items: dict[int, _Item] = {}
        self._deltas: dict[int, list[str]] = {}

    def take(self, event: _Event) -> None:
        kind = event.type or ""
        if kind in ("response.output_item.added", "response.output_item.done") and event.item is not None:
            self._items[event.output_index] = event.item
            if kind.endswith("done"):
                self._deltas.pop(event.output_index, None)
        elif kind.endswith(".delta") and event.delta:
            self.contents += 1
            self._deltas.setdefault(event.output_index, []).append(event.delta)

    def items(self) -> list[_Item]:
        for index, deltas in self._deltas.items():
            item = self._items.setdefault(index, _Item("message", "assistant"))
            if item.type == "function_call":
                item.arguments = "".join(deltas)
            else:
                item.content = "".join(deltas)
        return [item for _, item in sorted(self._items.items())]
