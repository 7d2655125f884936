"""Spans arrive where they are sent, whole, with vLLM's own spans under them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from tests.stack.components.collector import Collector
from tests.stack.components.http import post
from tests.stack.components.langfuse import PUBLIC_KEY, SECRET_KEY, LangfuseReceiver
from tests.stack.components.process import wait_until
from tests.stack.components.sidecar import Sidecar
from tests.stack.components.spans import ReceivedSpan
from tests.stack.components.vllm import Vllm

StartSidecar = Callable[..., Sidecar]

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OTLP_KINDS = {SpanKind.SERVER: 2, SpanKind.CLIENT: 3}
"""Of the wire; the API's numbers are one lower."""

FAST = {"OTEL_BSP_SCHEDULE_DELAY": "200"}


def ask(sidecar: Sidecar, model: str, trace_id: str, **extra: Any) -> None:
    """One chat of fourteen tokens in and six out, in a trace that an application has begun."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "hello there"}],
        "max_tokens": 6,
        "ignore_eos": True,
        **extra,
    }
    headers = {"traceparent": f"00-{trace_id}-{PARENT}-01"}
    status, answer = post(f"{sidecar.url}/v1/chat/completions", json.dumps(body).encode(), **headers)
    assert status == 200, answer


def by_name(spans: list[ReceivedSpan]) -> dict[str, ReceivedSpan]:
    return {span.name: span for span in spans}


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_vllms_span_hangs_under_ours_and_ours_under_the_applications(
    vllm: Vllm, collector: Collector, sidecar: StartSidecar, protocol: str, stream: bool
) -> None:
    """One trace from the application through the sidecar into the engine, by either protocol of OTLP."""
    endpoint = collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, **FAST}
    trace_id = TRACE[:-2] + {"grpc": "a", "http/protobuf": "b"}[protocol] + str(int(stream))
    ask(sidecar(vllm.url, environment=environment), vllm.model, trace_id, stream=stream)

    spans = by_name(
        wait_until(
            lambda: (found := collector.spans(trace_id)) and len(found) == 2 and found,
            deadline=60,
            what="two spans of the trace",
        )
    )
    ours, engine = spans["chat tiny"], spans["llm_request"]
    assert (ours.parent_span_id, ours.kind) == (PARENT, OTLP_KINDS[SpanKind.CLIENT])
    assert (engine.parent_span_id, engine.kind) == (ours.span_id, OTLP_KINDS[SpanKind.SERVER])
    assert ours.start <= engine.start <= engine.end
    facts = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "tiny",
        "gen_ai.response.model": "tiny",
        "gen_ai.usage.input_tokens": 14,
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.response.finish_reasons": ["length"],
        "server.address": "127.0.0.1",
        "openinference.span.kind": "LLM",
        "langfuse.observation.type": "generation",
    }
    assert {name: ours.attributes.get(name) for name in facts} == facts
    assert ours.resource["service.name"] == "driftline"
    assert "gen_ai.input.messages" not in ours.attributes
    assert ("gen_ai.response.time_to_first_chunk" in ours.attributes) == stream


def test_the_engine_counts_tokens_as_we_do(vllm: Vllm, collector: Collector, sidecar: StartSidecar) -> None:
    """vLLM's span repeats the usage that ours has; on the way to Langfuse only ours keeps it."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.http_endpoint, **FAST}
    ask(sidecar(vllm.url, environment=environment), vllm.model, TRACE)
    spans = by_name(
        wait_until(lambda: (found := collector.spans(TRACE)) and len(found) == 2 and found, deadline=60)
    )
    ours, engine = spans["chat tiny"].attributes, spans["llm_request"].attributes
    assert engine["gen_ai.usage.prompt_tokens"] == ours["gen_ai.usage.input_tokens"] == 14
    assert engine["gen_ai.usage.completion_tokens"] == ours["gen_ai.usage.output_tokens"] == 6


def test_langfuse_counts_each_token_once(
    vllm: Vllm, collector: Collector, langfuse: LangfuseReceiver, sidecar: StartSidecar
) -> None:
    """Behind the Collector: of a trace's spans one is a generation with usage, and vLLM's is a plain span."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.http_endpoint, **FAST}
    trace_id = "c" + TRACE[1:]
    ask(sidecar(vllm.url, environment=environment), vllm.model, trace_id)

    def arrived() -> list[ReceivedSpan]:
        found = [span for span in langfuse.spans if span.trace_id == trace_id]
        return found if len(found) == 2 else []

    spans = by_name(wait_until(arrived, deadline=60, what="two spans in Langfuse"))
    types = {name: span.attributes["langfuse.observation.type"] for name, span in spans.items()}
    assert types == {"chat tiny": "generation", "llm_request": "span"}
    assert not [name for name in spans["llm_request"].attributes if name.startswith("gen_ai.usage.")]


def test_langfuse_directly(vllm: Vllm, sidecar: StartSidecar) -> None:
    """The preset sends to Langfuse's path with its authorization and version, and what its mapping reads."""
    with LangfuseReceiver() as receiver:
        running = sidecar(
            vllm.url,
            configuration={
                "exporters": [{"preset": "langfuse", "endpoint": receiver.url}],
                "prices": [{"model": "tiny", "input": 1.0, "output": 2.0}],
            },
            environment={"LANGFUSE_PUBLIC_KEY": PUBLIC_KEY, "LANGFUSE_SECRET_KEY": SECRET_KEY, **FAST},
        )
        ask(running, vllm.model, TRACE, stream=True)
        wait_until(lambda: receiver.spans, deadline=60, what="a span in Langfuse")
        [span] = receiver.spans
        assert {posted.path for posted in receiver.received} == {"/api/public/otel/v1/traces"}
    attributes = span.attributes
    assert (span.trace_id, span.parent_span_id, span.name) == (TRACE, PARENT, "chat tiny")
    assert attributes["langfuse.observation.type"] == "generation"
    usage = {"input": 14, "input_cached_tokens": 0, "output": 6, "total": 20}
    assert json.loads(attributes["langfuse.observation.usage_details"]) == usage
    # Prices are dollars per million tokens.
    assert json.loads(attributes["langfuse.observation.cost_details"])["total"] == pytest.approx(26e-6)
    assert attributes["langfuse.observation.completion_start_time"].endswith("Z")
