"""What the simulated upstream understands of a request: the fields of the OpenAI API that change a reply."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]


class StreamOptions(msgspec.Struct):
    include_usage: bool = False
    continuous_usage_stats: bool = False


class JsonSchema(msgspec.Struct):
    name: str = ""
    schema: dict[str, Any] | None = None


class ResponseFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class Function(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct):
    function: Function
    type: str = "function"


class Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(str(part.get("text", "")) for part in self.content)
        return self.content or ""


class Generation(msgspec.Struct, kw_only=True):
    """Common to both generation endpoints."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1

    @property
    def limit(self) -> int | None:
        """The most output tokens the client wants."""
        return self.max_tokens

    @property
    def logprob_count(self) -> int | None:
        """Alternatives wanted beside each token; None: no log-probabilities at all."""
        return None

    @property
    def usage_at_end(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def usage_in_each(self) -> bool:
        options = self.stream_options
        return options is not None and options.include_usage and options.continuous_usage_stats


class ChatRequest(Generation, kw_only=True):
    messages: list[Message]
    max_completion_tokens: Count | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    logprobs: bool = False
    top_logprobs: int = 0

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def logprob_count(self) -> int | None:
        return self.top_logprobs if self.logprobs else None

    @property
    def prompt(self) -> str:
        """The messages as a chat template lays them out."""
        return "".join(f"<{message.role}>{message.text}" for message in self.messages) + "<assistant>"


class CompletionRequest(Generation, kw_only=True):
    prompt: str | list[int]


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    model: str
    input: str | list[int | str | list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count | None = None
