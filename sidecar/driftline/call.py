"""`Call`: what an exchange meant. The one noun of the telemetry plane; every observer takes one.

Messages have the shape of the OpenTelemetry GenAI message schema (semantic conventions v1.41.1), so encoding
one of these structs as JSON *is* the attribute value.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from driftline.exchange import NEVER, Exchange

UNKNOWN = "unknown"
"""The model of a call that names none."""

Operation = Literal["chat", "text_completion", "embeddings"]

Unread = Literal["request_not_json", "request_encoding", "response_not_json", "response_encoding"]
"""Why a body told nothing: it is not a JSON object, or is compressed in a way that is not read."""


class TextPart(msgspec.Struct, tag_field="type", tag="text"):
    content: str


class ReasoningPart(msgspec.Struct, tag_field="type", tag="reasoning"):
    content: str


class ToolCallPart(msgspec.Struct, tag_field="type", tag="tool_call"):
    id: str | None
    name: str
    arguments: str
    """As the model wrote it: JSON, or what it took for JSON."""


class ToolCallResponsePart(msgspec.Struct, tag_field="type", tag="tool_call_response"):
    id: str | None
    response: Any


class UriPart(msgspec.Struct, tag_field="type", tag="uri", omit_defaults=True):
    modality: str
    uri: str
    mime_type: str | None = None


class BlobPart(msgspec.Struct, tag_field="type", tag="blob", omit_defaults=True):
    modality: str
    content: str
    """Base64."""
    mime_type: str | None = None


class FilePart(msgspec.Struct, tag_field="type", tag="file", omit_defaults=True):
    modality: str
    file_id: str


Part = TextPart | ReasoningPart | ToolCallPart | ToolCallResponsePart | UriPart | BlobPart | FilePart


class Message(msgspec.Struct, omit_defaults=True):
    role: str
    parts: list[Part]
    name: str | None = None


class OutputMessage(msgspec.Struct, omit_defaults=True):
    """One choice of the reply."""

    role: str
    parts: list[Part]
    finish_reason: str | None = None
    """In the conventions' words: `stop`, `length`, `content_filter`, `tool_call`, `error`."""

    @property
    def text(self) -> str:
        return "".join([part.content for part in self.parts if isinstance(part, TextPart)])

    @property
    def tool_calls(self) -> list[ToolCallPart]:
        return [part for part in self.parts if isinstance(part, ToolCallPart)]


class Usage(msgspec.Struct):
    """Tokens as the engine counted them. `None`: it did not say."""

    input_tokens: int | None = None
    """Cached tokens included."""
    output_tokens: int | None = None
    """Reasoning tokens included."""
    cached_tokens: int | None = None
    cache_creation_tokens: int | None = None
    reasoning_tokens: int | None = None
    partial: bool = False
    """The stream ended before the engine's final count."""


class Parameters(msgspec.Struct):
    """Of the request, where given."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop_sequences: list[str] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    choice_count: int | None = None
    stream: bool = False
    encoding_formats: list[str] | None = None
    dimensions: int | None = None


class JsonMode(msgspec.Struct):
    """The request asked for JSON."""

    schema: dict[str, Any] | bool | None = None
    """None: any JSON object will do."""


class Tool(msgspec.Struct):
    """A tool the request offered."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    type: str = "function"


class Cost(msgspec.Struct, frozen=True):
    """Integer nano-dollars."""

    input: int
    cached: int
    output: int
    source: Literal["price_table"] = "price_table"
    partial: bool = False
    """Computed from a count that is not the engine's final one."""

    @property
    def total(self) -> int:
        return self.input + self.cached + self.output


class Attribution(msgspec.Struct):
    """Who asked, by header or baggage."""

    team: str | None = None
    product: str | None = None
    feature: str | None = None
    session: str | None = None
    user: str | None = None
    conversation: str | None = None


class Call(msgspec.Struct):
    """One model call. A dialect fills the first part, quality and cost the last."""

    exchange: Exchange
    dialect: str
    operation: Operation
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    system_fingerprint: str | None = None
    parameters: Parameters = msgspec.field(default_factory=Parameters)
    system_instructions: list[Part] = msgspec.field(default_factory=list)
    input_messages: list[Message] = msgspec.field(default_factory=list)
    output_messages: list[OutputMessage] = msgspec.field(default_factory=list)
    tools: list[Tool] = msgspec.field(default_factory=list)
    json_mode: JsonMode | None = None
    usage: Usage | None = None
    error_type: str | None = None
    error_message: str | None = None
    embedding_dimensions: int | None = None
    truncated_record: bool = False
    """A body was larger than the relay keeps: messages are incomplete, scanned fields are not."""
    unread: list[Unread] = msgspec.field(default_factory=list)
    attribution: Attribution = msgspec.field(default_factory=Attribution)

    signals: dict[str, str | bool | float] = msgspec.field(default_factory=dict)
    """Quality signals that applied, by name."""
    cost: Cost | None = None

    @property
    def model(self) -> str:
        """The label of everything keyed by model: what was asked for, else what answered, else `unknown`."""
        return self.request_model or self.response_model or UNKNOWN

    @property
    def finish_reasons(self) -> list[str]:
        return [m.finish_reason for m in self.output_messages if m.finish_reason is not None]

    @property
    def tool_calls(self) -> list[ToolCallPart]:
        return [call for message in self.output_messages for call in message.tool_calls]

    @property
    def prompt_chars(self) -> int:
        """Characters of text in system instructions and messages."""
        parts = [*self.system_instructions, *(p for m in self.input_messages for p in m.parts)]
        return sum(len(p.content) for p in parts if isinstance(p, TextPart))

    @property
    def duration(self) -> float:
        """Seconds from the request's first byte to its end."""
        return self.exchange.ended / 1e9

    @property
    def ttft(self) -> float | None:
        """Seconds to the first content of a stream; None where nothing was streamed."""
        first = self.exchange.first_content
        return None if first == NEVER or not self.exchange.stream else first / 1e9

    @property
    def tpot(self) -> float | None:
        """Seconds per output token after the first, of a stream."""
        exchange, usage = self.exchange, self.usage
        if self.ttft is None or usage is None or usage.output_tokens is None or usage.output_tokens < 2:
            return None
        return (exchange.last_content - exchange.first_content) / 1e9 / (usage.output_tokens - 1)
