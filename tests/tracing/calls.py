"""Calls as dialects make them, for tests of what becomes of them."""

from __future__ import annotations

from typing import Any

from driftline.call import (
    Attribution,
    Call,
    Cost,
    Message,
    OutputMessage,
    Parameters,
    TextPart,
    Tool,
    ToolCallPart,
    Usage,
)
from driftline.exchange import Exchange

TRACE_ID = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
SPAN_ID = bytes.fromhex("b7ad6b7169203331")
PARENT_ID = bytes.fromhex("00f067aa0ba902b7")
RECEIVED_AT = 1_752_384_000_000_000_000  # 2025-07-13T05:20:00Z


def exchange(**changes: Any) -> Exchange:
    """A streamed chat completion that took two seconds, its first token after half of one."""
    fields: dict[str, Any] = {
        "trace_id": TRACE_ID,
        "span_id": SPAN_ID,
        "parent_span_id": PARENT_ID,
        "pool": "default",
        "variant": "canary",
        "upstream": "gpu-7.example:8000",
        "method": "POST",
        "target": "/v1/chat/completions",
        "request_headers": [("x-request-id", "r-1")],
        "status": 200,
        "outcome": "complete",
        "received_at": RECEIVED_AT,
        "connected": 1_000_000,
        "request_sent": 2_000_000,
        "first_byte": 490_000_000,
        "first_content": 500_000_000,
        "last_content": 1_900_000_000,
        "last_byte": 1_950_000_000,
        "ended": 2_000_000_000,
        "stream": True,
        "model": "llama",
        "usage": "injected",
        "reads": 10,
        "overhead_request": 150_000,
        "overhead_first_byte": 30_000,
        "overhead_chunks": 200_000,
    }
    return Exchange(**fields | changes)


def chat(**changes: Any) -> Call:
    """A call of which everything is known."""
    fields: dict[str, Any] = {
        "exchange": exchange(),
        "dialect": "openai_chat",
        "operation": "chat",
        "request_model": "llama",
        "response_model": "llama-3.1",
        "response_id": "chatcmpl-1",
        "system_fingerprint": "fp-9",
        "parameters": Parameters(
            max_tokens=256,
            temperature=0,
            top_p=0.9,
            top_k=40,
            seed=7,
            stop_sequences=["END"],
            frequency_penalty=0.5,
            presence_penalty=-1,
            choice_count=2,
            stream=True,
        ),
        "system_instructions": [TextPart(content="Be brief.")],
        "input_messages": [Message(role="user", parts=[TextPart(content="Weather in Paris?")])],
        "output_messages": [
            OutputMessage(role="assistant", parts=[TextPart(content="Sunny.")], finish_reason="stop"),
            OutputMessage(
                role="assistant",
                parts=[ToolCallPart(id="call_1", name="weather", arguments='{"city":"Paris"}')],
                finish_reason="tool_call",
            ),
        ],
        "tools": [Tool(name="weather", description="Looks out of the window")],
        "usage": Usage(input_tokens=100, output_tokens=29, cached_tokens=60, reasoning_tokens=9),
        "attribution": Attribution(
            team="search", product="shop", feature="answers", session="s-1", user="u-1", conversation="c-1"
        ),
        "signals": {"refusal": False, "json_invalid": True},
        "cost": Cost(input=40_000, cached=6_000, output=58_000),
    }
    return Call(**fields | changes)


def bare(**changes: Any) -> Call:
    """A call of which next to nothing is known."""
    fields: dict[str, Any] = {
        "exchange": exchange(
            parent_span_id=b"",
            pool="",
            variant="",
            upstream="",
            request_headers=[],
            status=0,
            stream=False,
            first_content=-1,
            last_content=-1,
        ),
        "dialect": "openai_chat",
        "operation": "chat",
    }
    return Call(**fields | changes)
