"""`POST /v1/embeddings`."""

from __future__ import annotations

from typing import Any

import msgspec

from driftline.call import Call, Parameters
from driftline.dialects import content, openai
from driftline.dialects.openai_completions import prompts
from driftline.dialects.openai_messages import WireMessage, input_message
from driftline.dialects.outcome import settle
from driftline.dialects.wire import Int64, Shape
from driftline.exchange import Exchange

_BYTES_PER_NUMBER = {"float16": 2, "bfloat16": 2, "fp8_e4m3": 1, "fp8_e5m2": 1}
"""vLLM's `embed_dtype`; `float32` otherwise."""


class _Request(msgspec.Struct):
    model: str | None = None
    input: str | list[Any] | None = None
    messages: list[WireMessage] = []
    """vLLM's own: an embedding of a conversation."""
    dimensions: Int64 | None = None
    encoding_format: str | None = None
    embed_dtype: str | None = None


class _Vector(msgspec.Struct):
    embedding: msgspec.Raw = msgspec.Raw()
    """Not decoded: only its length is of interest."""


class _Reply(openai.Envelope):
    data: list[_Vector] = []


_REQUEST = Shape(_Request)
_REPLY = Shape(_Reply)


def read(exchange: Exchange) -> Call:
    call = openai.call(exchange, "openai_embeddings", "embeddings")
    request = content.request(call, _REQUEST) or _Request()
    call.request_model = request.model or call.request_model
    call.parameters = Parameters(
        dimensions=request.dimensions,
        encoding_formats=[request.encoding_format] if request.encoding_format else None,
    )
    call.input_messages = prompts(request.input) + [input_message(message) for message in request.messages]
    if exchange.status >= 400:
        settle(call, finished=True, error=openai.status_error(call))
        return call
    reply = content.response(call, _REPLY)
    if reply is not None:
        openai.read_envelope(call, reply)
        call.usage = openai.usage(reply.usage)
        if reply.data:
            call.embedding_dimensions = _dimensions(bytes(reply.data[0].embedding), request.embed_dtype)
    settle(call, finished=reply is not None)
    return call


def _dimensions(embedding: bytes, dtype: str | None) -> int | None:
    """Of a JSON array of numbers, or a JSON string of base64."""
    if embedding.startswith(b"["):
        return embedding.count(b",") + 1 if embedding.strip(b"[] \t\r\n") else 0
    if embedding.startswith(b'"'):
        text = embedding.strip(b'"')
        padding = len(text) - len(text.rstrip(b"="))
        return (len(text) * 3 // 4 - padding) // _BYTES_PER_NUMBER.get(dtype or "", 4)
    return None
