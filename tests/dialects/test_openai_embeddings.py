"""Embeddings: what was embedded, and into how many dimensions."""

from __future__ import annotations

import base64
import struct

import pytest

from driftline import dialects
from driftline.call import Message, Parameters, TextPart, Usage
from driftline.exchange import Body
from tests.dialects.exchanges import exchange, recorded

PATH = "/v1/embeddings"


@pytest.mark.parametrize(
    ("given", "texts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([7, 8], []), ([[7], [8]], []), (None, [])],
)
def test_inputs(given, texts):
    """A message for each text; token ids are not text."""
    request = {"model": "e", "input": given, "dimensions": 64, "encoding_format": "base64"}
    call = dialects.read(exchange(PATH, request_body=request))
    assert call.input_messages == [Message("user", [TextPart(text)]) for text in texts]
    assert call.parameters == Parameters(dimensions=64, encoding_formats=["base64"])
    assert (call.operation, call.request_model) == ("embeddings", "e")


def test_a_conversation_can_be_embedded():
    """vLLM takes messages in place of an input."""
    call = dialects.read(exchange(PATH, request_body={"messages": [{"role": "user", "content": "a"}]}))
    assert call.input_messages == [Message("user", [TextPart("a")])]


def floats(count: int, form: str = "f") -> str:
    return base64.b64encode(struct.pack(f"{count}{form}", *range(count))).decode()


@pytest.mark.parametrize(
    ("embedding", "dtype", "dimensions"),
    [
        ([0.5, -1e-3, 3], None, 3),
        ([1], None, 1),
        ([], None, 0),
        (floats(64), None, 64),
        (floats(5), "float32", 5),
        (floats(5, "e"), "float16", 5),
        ({}, None, None),
        (None, None, None),
    ],
)
def test_dimensions(embedding, dtype, dimensions):
    """Of the first vector, as numbers or as base64 of whatever width was asked for."""
    reply = {"id": "x", "model": "e2", "data": [{"index": 0, "embedding": embedding}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}  # fmt: skip
    call = dialects.read(exchange(PATH, request_body={"embed_dtype": dtype}, response_body=reply))
    assert call.embedding_dimensions == dimensions
    assert (call.response_model, call.usage) == ("e2", Usage(input_tokens=3))


def test_a_reply_larger_than_what_is_kept():
    """Dimensions come from its beginning, usage from its end."""
    vector = b"[" + b"0.125," * 255 + b"0.125]"
    data = b",".join(b'{"object":"embedding","embedding":' + vector + b"}" for _ in range(99))
    body = b'{"id":"x","model":"e","data":[' + data + b'],"usage":{"prompt_tokens":99,"completion_tokens":0}}'
    call = dialects.read(exchange(PATH, response_body=Body(body[:9000], body[-9000:], len(body))))
    assert call.truncated_record
    assert call.embedding_dimensions == 256
    assert call.usage == Usage(99, 0)
    assert call.unread == ["request_not_json"]


def test_vllm():
    """Base64, as the `openai` client asks for by default."""
    call = dialects.read(recorded("python-frontend-0.32/embeddings-base64"))
    assert (call.embedding_dimensions, call.usage) == (128, Usage(1, 0))
