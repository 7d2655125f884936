"""An application that uses the `openai` client gets through the sidecar what it gets from vLLM itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.stack.components.http import get_json
from tests.stack.components.sidecar import Sidecar
from tests.stack.components.vllm import MODEL_NAME, Vllm

HELLO = [{"role": "user", "content": "hello there"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
GREEDY = {"model": MODEL_NAME, "temperature": 0, "seed": 1}

OF_THE_MOMENT = {"id", "created", "created_at", "completed_at", "system_fingerprint", "item_id"}
"""Differs between two equal requests. The fingerprint vLLM puts into the usage event, which the sidecar may cut."""


def steady(value: Any) -> Any:
    """`value` without ids and times."""
    if isinstance(value, dict):
        return {key: steady(inner) for key, inner in value.items() if key not in OF_THE_MOMENT}
    return [steady(item) for item in value] if isinstance(value, list) else value


def streamed(client: openai.OpenAI, **request: Any) -> dict[str, Any]:
    """A streamed chat, put together: where vLLM cuts the text into events depends on its load."""
    text, calls, reasons, usage = "", "", [], []
    for chunk in client.chat.completions.create(**(GREEDY | request), stream=True):
        usage += [chunk.usage.model_dump()] if chunk.usage else []
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                calls += (call.function.name or "") + (call.function.arguments or "")
            reasons += [choice.finish_reason] if choice.finish_reason else []
    return {"text": text, "calls": calls, "reasons": reasons, "usage": usage}


def chat(client: openai.OpenAI, **request: Any) -> dict[str, Any]:
    return client.chat.completions.create(**(GREEDY | request)).model_dump()


def refused(call: Callable[[openai.OpenAI], Any]) -> Callable[[openai.OpenAI], dict[str, Any]]:
    """What the client raises for a request that the server refuses."""

    def ask(client: openai.OpenAI) -> dict[str, Any]:
        with pytest.raises(openai.APIStatusError) as raised:
            call(client)
        return {"class": type(raised.value), "status": raised.value.status_code, "body": raised.value.body}

    return ask


CHATS: dict[str, Callable[[openai.OpenAI], Any]] = {
    "chat": lambda c: chat(c, messages=HELLO, max_tokens=20),
    "chat with log-probabilities": lambda c: chat(
        c, messages=HELLO, max_tokens=4, logprobs=True, top_logprobs=2
    ),
    "two choices": lambda c: chat(c, messages=HELLO, max_tokens=4, n=2, temperature=0.5),
    "stream": lambda c: streamed(c, messages=HELLO, max_tokens=40),
    "stream with usage": lambda c: streamed(
        c, messages=HELLO, max_tokens=40, stream_options={"include_usage": True}
    ),
    "JSON mode": lambda c: chat(c, messages=HELLO, max_tokens=60, response_format={"type": "json_object"}),
    "JSON schema": lambda c: chat(
        c,
        messages=HELLO,
        max_tokens=60,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "city", "schema": WEATHER["function"]["parameters"]},
        },
    ),
    "completion": lambda c: c.completions.create(**GREEDY, prompt="def f(", max_tokens=10).model_dump(),
    "streamed completion": lambda c: "".join(
        choice.text
        for chunk in c.completions.create(**GREEDY, prompt="def f(", max_tokens=10, stream=True)
        for choice in chunk.choices
    ),
    "response": lambda c: c.responses.create(
        model=MODEL_NAME, temperature=0, input="hello", max_output_tokens=10
    ).model_dump(),
    "streamed response": lambda c: "".join(
        event.delta
        for event in c.responses.create(
            model=MODEL_NAME, temperature=0, input="hello", max_output_tokens=10, stream=True
        )
        if event.type == "response.output_text.delta"
    ),
    "models": lambda c: [model.id for model in c.models.list()],
    "unknown model": refused(lambda c: c.chat.completions.create(model="none", messages=HELLO)),
    "prompt too long": refused(lambda c: chat(c, messages=[{"role": "user", "content": "long " * 3000}])),
    "bad parameter": refused(lambda c: chat(c, messages=HELLO, max_tokens=-1)),
    "streamed error": refused(lambda c: streamed(c, messages=[{"role": "user", "content": "long " * 3000}])),
}


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def through(module_sidecar: Callable[..., Sidecar], vllm: Vllm) -> Iterator[openai.OpenAI]:
    with client_of(module_sidecar(vllm.url).url) as client:
        yield client


@pytest.mark.parametrize("ask", CHATS.values(), ids=CHATS)
def test_the_client_sees_no_difference(through: openai.OpenAI, vllm: Vllm, ask: Callable[..., Any]) -> None:
    with client_of(vllm.url) as direct:
        ask(direct)  # once before: what vLLM then has in its cache shows in the usage
        expected = steady(ask(direct))
        assert steady(ask(through)) == expected


@pytest.fixture(scope="module")
def weather_call(vllm: Vllm) -> dict[str, Any]:
    """A request that the model answers with a call of the tool. Random weights do so with some seeds only."""
    for seed in range(20):
        request = {"messages": HELLO, "max_tokens": 400, "temperature": 1, "seed": seed}
        request |= {"tools": [WEATHER], "tool_choice": "required"}
        with client_of(vllm.url) as direct:
            if chat(direct, **request)["choices"][0]["finish_reason"] == "tool_calls":
                return request
    raise AssertionError("no seed makes the model call the tool")


@pytest.mark.parametrize("ask", [chat, streamed])
def test_tool_calls_are_the_same(
    through: openai.OpenAI, vllm: Vllm, weather_call: dict[str, Any], ask: Callable[..., Any]
) -> None:
    """Name and arguments, in one piece and in events."""
    with client_of(vllm.url) as direct:
        expected = steady(ask(direct, **weather_call))
    assert "weather" in str(expected)
    assert steady(ask(through, **weather_call)) == expected


def test_embeddings_are_the_same(module_sidecar: Callable[..., Sidecar], vllm_embeddings: Vllm) -> None:
    """Float by float, and base64 as the client asks for it."""
    with (
        client_of(vllm_embeddings.url) as direct,
        client_of(module_sidecar(vllm_embeddings.url).url) as through,
    ):

        def ask(client: openai.OpenAI) -> dict[str, Any]:
            return client.embeddings.create(model=MODEL_NAME, input=["one", "two"]).model_dump()

        assert steady(ask(through)) == steady(ask(direct))


def test_what_is_not_the_api_passes_as_well(module_sidecar: Callable[..., Sidecar], vllm: Vllm) -> None:
    """The server's other endpoints answer through the sidecar as they do without."""
    running = module_sidecar(vllm.url)
    assert get_json(f"{running.url}/version") == get_json(f"{vllm.url}/version")
