"""The tiny model is served as a production model would be: the other tests of this directory build on it."""

from __future__ import annotations

import json

from tests.stack.components.http import post, post_json
from tests.stack.components.vllm import Vllm

HELLO = [{"role": "user", "content": "hello there"}]


def test_chat_answers_with_usage(vllm: Vllm) -> None:
    """A chat completion has the asked length and says what it used."""
    status, reply = post_json(
        f"{vllm.url}/v1/chat/completions",
        {"model": vllm.model, "messages": HELLO, "max_tokens": 5, "ignore_eos": True},
    )
    assert status == 200
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 5
    assert "cached_tokens" in reply["usage"]["prompt_tokens_details"]


def test_chat_streams_events_and_ends_with_done(vllm: Vllm) -> None:
    """A streamed chat completion is server-sent events, the last of them [DONE]."""
    body = {"model": vllm.model, "messages": HELLO, "max_tokens": 5, "ignore_eos": True, "stream": True}
    status, raw = post(f"{vllm.url}/v1/chat/completions", json.dumps(body).encode())
    *events, done = [line.removeprefix("data: ") for line in raw.decode().split("\n\n") if line]
    assert (status, done) == (200, "[DONE]")
    assert json.loads(events[-1])["choices"][0]["finish_reason"] == "length"


def test_completions_answer(vllm: Vllm) -> None:
    status, reply = post_json(
        f"{vllm.url}/v1/completions",
        {"model": vllm.model, "prompt": "def f(", "max_tokens": 3, "ignore_eos": True},
    )
    assert (status, reply["usage"]["completion_tokens"]) == (200, 3)


def test_responses_answer(vllm: Vllm) -> None:
    status, reply = post_json(
        f"{vllm.url}/v1/responses", {"model": vllm.model, "input": "hello", "max_output_tokens": 4}
    )
    assert status == 200
    assert reply["usage"]["output_tokens"] in range(1, 5)


def test_embeddings_have_the_hidden_size(vllm_embeddings: Vllm) -> None:
    status, reply = post_json(
        f"{vllm_embeddings.url}/v1/embeddings", {"model": vllm_embeddings.model, "input": ["one", "two"]}
    )
    assert status == 200
    assert [len(item["embedding"]) for item in reply["data"]] == [128, 128]
