"""What the OpenAI dialects have in common: sampling parameters, JSON mode, tools, usage, finish reasons."""

from __future__ import annotations

from typing import Any

import msgspec

from driftline.attribution import attribution
from driftline.call import Attribution, Call, JsonMode, Operation, Parameters, Tool, Usage
from driftline.dialects import content
from driftline.dialects.outcome import ERROR_REPLY, ErrorDetail
from driftline.dialects.wire import Count, Int64, parse
from driftline.exchange import Exchange


class _Function(msgspec.Struct):
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None


class WireTool(msgspec.Struct):
    """Nested under `function` (chat completions), or flat (responses)."""

    type: str = "function"
    function: _Function | None = None
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _JsonSchema(msgspec.Struct):
    schema: dict[str, Any] | bool | None = None


class Format(msgspec.Struct):
    """Nested under `json_schema` (chat completions), or flat (responses)."""

    type: str | None = None
    json_schema: _JsonSchema | None = None
    schema: dict[str, Any] | bool | None = None


class _StructuredOutputs(msgspec.Struct):
    """vLLM's own."""

    json: dict[str, Any] | bool | str | None = None
    json_object: bool | None = None


class Sampling(msgspec.Struct):
    """The part of a request that all generating endpoints share."""

    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Int64 | None = None
    seed: Int64 | None = None
    stop: str | list[str] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    n: Int64 | None = None
    stream: bool | None = None
    response_format: Format | None = None
    structured_outputs: _StructuredOutputs | None = None
    guided_json: dict[str, Any] | bool | str | None = None
    tools: list[WireTool] | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: Count | None = None
    created_cache_tokens: Count | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Count | None = None


class WireUsage(msgspec.Struct):
    """`prompt_` and `completion_` everywhere but in responses, where they are `input_` and `output_`."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class Envelope(msgspec.Struct):
    """Of a reply, and of each event of a stream."""

    id: str | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    usage: WireUsage | None = None


_FINISH_REASONS = {"tool_calls": "tool_call", "function_call": "tool_call", "abort": "error"}


def finish_reason(said: str | None) -> str | None:
    """In the conventions' words."""
    return _FINISH_REASONS.get(said, said) if said else None


def call(exchange: Exchange, dialect: str, operation: Operation) -> Call:
    """With what the exchange itself knows."""
    return Call(
        exchange,
        dialect,
        operation,
        request_model=exchange.model or None,
        attribution=Attribution(**attribution(exchange.request_headers)),
    )


def read_sampling(call: Call, request: Sampling) -> None:
    call.request_model = request.model or call.request_model
    call.parameters = Parameters(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed,
        stop_sequences=[request.stop] if isinstance(request.stop, str) else request.stop,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        choice_count=request.n,
        stream=request.stream is True,
    )
    call.tools = tools(request.tools)
    call.json_mode = json_mode(request)


def read_envelope(call: Call, envelope: Envelope) -> None:
    """What is already known stays."""
    call.response_id = call.response_id or envelope.id
    call.response_model = call.response_model or envelope.model
    call.system_fingerprint = call.system_fingerprint or envelope.system_fingerprint


def json_mode(request: Sampling) -> JsonMode | None:
    structured = request.structured_outputs
    for schema in (structured.json if structured else None, request.guided_json):
        if schema is not None:
            return JsonMode(_schema(schema))
    if structured and structured.json_object:
        return JsonMode()
    return format_mode(request.response_format)


def format_mode(wanted: Format | None) -> JsonMode | None:
    if wanted is None or wanted.type not in ("json_object", "json_schema"):
        return None
    return JsonMode(wanted.json_schema.schema if wanted.json_schema else wanted.schema)


def _schema(schema: dict[str, Any] | bool | str) -> dict[str, Any] | bool | None:
    if not isinstance(schema, str):
        return schema
    parsed = parse(schema.encode("utf-8", "replace"))
    return parsed if isinstance(parsed, dict | bool) else None


def tools(offered: list[WireTool] | None) -> list[Tool]:
    """Those with a name; a server's own tools (`web_search`, …) go by their type."""
    found = []
    for tool in offered or ():
        of = tool.function or tool
        found.append(Tool(of.name or tool.type, of.description, of.parameters, tool.type))
    return found


def usage(wire: WireUsage | None) -> Usage | None:
    """0 is a count, null or absent is not. None: nothing was counted."""
    if wire is None:
        return None
    inputs = wire.prompt_tokens_details or wire.input_tokens_details or _InputDetails()
    outputs = wire.completion_tokens_details or wire.output_tokens_details or _OutputDetails()
    found = Usage(
        input_tokens=wire.prompt_tokens if wire.input_tokens is None else wire.input_tokens,
        output_tokens=wire.completion_tokens if wire.output_tokens is None else wire.output_tokens,
        cached_tokens=inputs.cached_tokens,
        cache_creation_tokens=inputs.created_cache_tokens,
        reasoning_tokens=outputs.reasoning_tokens,
    )
    return None if found == Usage() else found


def status_error(call: Call) -> ErrorDetail | None:
    """What a server said in the body of an error status."""
    reply = content.response(call, ERROR_REPLY)
    return reply.found if reply else None
