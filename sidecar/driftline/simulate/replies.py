"""What the simulated model answers: prose, refusals, JSON, tool calls. Pure: a request, a seed, a reply."""

from __future__ import annotations

from random import Random
from typing import Literal

import msgspec

from driftline.simulate import text
from driftline.simulate.json_values import broken, instance, written
from driftline.simulate.lengths import CODE_REPLIES, CONVERSATION_REPLIES, Lengths
from driftline.simulate.requests import ChatRequest, CompletionRequest, Tool

Steering = Literal["", "refuse", "break-json", "fail", "fail-midway"]
"""What a client may ask of the simulation with the header `x-simulate`. A real server ignores it."""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How often the simulated model does what, unasked. Shares of the requests where it could."""

    refusal: float = 0.015
    broken_json: float = 0.01
    tool_call: float = 0.8


class Reply(msgspec.Struct):
    """One choice."""

    pieces: list[str]
    """Tokens of the content, or of the tool call's arguments."""
    finish: Literal["stop", "length", "tool_calls"]
    tool: str = ""
    """Name of the function called; empty: the pieces are content."""

    @property
    def tokens(self) -> int:
        """As an engine counts them: the token that ends a text is one too."""
        return len(self.pieces) + (self.finish != "length")


REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I'm sorry, I can't assist with that request.",
    "I cannot provide help with this.",
    "I'm not able to help with that request.",
    "Unfortunately, I can't assist with this. It goes against the guidelines I have to follow.",
    "I must decline this request.",
    "Sorry, but I am unable to answer that question.",
    "As an AI assistant, I cannot do that.",
    "I'm afraid I won't answer that.",
    "I apologize, but I can't fulfill this request.",
)
REDIRECTIONS = (
    "",
    " If there is something else you need, let me know.",
    " You could ask a supervisor of your team instead.",
    " I'm happy to help with another question about your order.",
)

_ANY_OBJECT = {
    "type": "object",
    "properties": {
        "answer": {"type": "string"},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["answer", "confidence"],
}


def chat_reply(request: ChatRequest, behaviour: Behaviour, steering: Steering, rng: Random) -> Reply:
    """One choice of the answer to a chat request, cut at its token limit."""
    language = text.language_of(request.messages[-1].text)
    wants_json = request.response_format is not None and request.response_format.type != "text"
    if steering == "refuse" or (not wants_json and rng.random() < behaviour.refusal):
        return _cut(text.tokens(rng.choice(REFUSALS) + rng.choice(REDIRECTIONS)), request.limit)
    tool = _tool_to_call(request, behaviour, rng)
    if tool is not None:
        return _tool_call(tool, behaviour, steering, rng, request.limit)
    if wants_json:
        return _cut(text.tokens(_json(request, behaviour, steering, language, rng)), request.limit)
    return _prose(CONVERSATION_REPLIES, language, rng, request.limit)


def completion_reply(request: CompletionRequest, rng: Random) -> Reply:
    """One choice of the answer to a completion request: code, and short, as completions in editors are."""
    return _prose(CODE_REPLIES, "code", rng, request.limit)


def _prose(lengths: Lengths, language: str, rng: Random, limit: int | None) -> Reply:
    return _cut(text.passage(lengths.draw(rng), language, rng), limit)


def _cut(pieces: list[str], limit: int | None) -> Reply:
    if limit is not None and len(pieces) >= limit:
        return Reply(pieces=pieces[:limit], finish="length")
    return Reply(pieces=pieces, finish="stop")


def _json(request: ChatRequest, behaviour: Behaviour, steering: Steering, language: str, rng: Random) -> str:
    wanted = request.response_format.json_schema if request.response_format else None
    schema = wanted.schema if wanted is not None and wanted.schema is not None else _ANY_OBJECT
    value = written(instance(schema, language, rng))
    spoil = steering == "break-json" or rng.random() < behaviour.broken_json
    return broken(value, rng) if spoil else value


def _tool_to_call(request: ChatRequest, behaviour: Behaviour, rng: Random) -> Tool | None:
    tools = request.tools or []
    if isinstance(request.tool_choice, dict):
        wanted = request.tool_choice.get("function", {}).get("name")
        return next((tool for tool in tools if tool.function.name == wanted), None)
    if not tools or request.tool_choice == "none" or request.messages[-1].role == "tool":
        return None
    if request.tool_choice != "required" and rng.random() >= behaviour.tool_call:
        return None
    return rng.choice(tools)


def _tool_call(tool: Tool, behaviour: Behaviour, steering: Steering, rng: Random, limit: int | None) -> Reply:
    arguments = written(instance(tool.function.parameters or {"type": "object"}, "en", rng))
    if steering == "break-json" or rng.random() < behaviour.broken_json:
        arguments = broken(arguments, rng)
    reply = _cut(text.tokens(arguments), limit)
    finish: Literal["length", "tool_calls"] = "length" if reply.finish == "length" else "tool_calls"
    return Reply(pieces=reply.pieces, finish=finish, tool=tool.function.name)
