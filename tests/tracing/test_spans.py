"""A call becomes exactly the span that the conventions, Langfuse and OpenInference describe."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.schemas import Schemas

from driftline import __version__
from driftline.call import Attribution, Call, Cost, JsonMode, Parameters, Usage
from driftline.otlp.trace import Span, SpanKind, StatusCode, encode
from driftline.tracing import semconv
from driftline.tracing.content import Capture, CaptureSettings
from driftline.tracing.resource import SCOPE, resource
from driftline.tracing.spans import SpanBuilder, langfuse_environment, usage_details
from tests.tracing.calls import PARENT_ID, RECEIVED_AT, SPAN_ID, TRACE_ID, bare, chat, exchange


def span(call: Call, *, capture: bool = False, environ: dict[str, str] | None = None) -> Span:
    environ = environ or {}
    capturing = Capture(CaptureSettings(content=capture), environ)
    return SpanBuilder(resource(environ), capturing, environ).span(call)


def attributes(call: Call, **options: object) -> dict[str, object]:
    return dict(span(call, **options).attributes)  # type: ignore[arg-type]


def typed(values: dict[str, object]) -> dict[str, tuple[type, object]]:
    """Types too: 1 == 1.0 == True in Python, and not in a backend."""
    return {key: (type(value), value) for key, value in values.items()}


def test_a_known_call_has_every_attribute_with_its_type_and_no_other() -> None:
    assert typed(attributes(chat())) == typed(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "vllm",
            "gen_ai.request.model": "llama",
            "gen_ai.response.model": "llama-3.1",
            "gen_ai.response.id": "chatcmpl-1",
            "gen_ai.response.finish_reasons": ["stop", "tool_call"],
            "gen_ai.response.time_to_first_chunk": 0.5,
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 29,
            "gen_ai.usage.cache_read.input_tokens": 60,
            "gen_ai.usage.reasoning.output_tokens": 9,
            "gen_ai.request.max_tokens": 256,
            "gen_ai.request.temperature": 0.0,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.request.top_k": 40.0,
            "gen_ai.request.seed": 7,
            "gen_ai.request.stop_sequences": ["END"],
            "gen_ai.request.frequency_penalty": 0.5,
            "gen_ai.request.presence_penalty": -1.0,
            "gen_ai.request.choice.count": 2,
            "gen_ai.request.stream": True,
            "gen_ai.conversation.id": "c-1",
            "openai.response.system_fingerprint": "fp-9",
            "http.response.status_code": 200,
            "http.request.header.x-request-id": ["r-1"],
            "server.address": "gpu-7.example",
            "server.port": 8000,
            "session.id": "s-1",
            "user.id": "u-1",
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": (
                '{"input":40,"input_cached_tokens":60,"output":20,"output_reasoning_tokens":9,"total":129}'
            ),
            "langfuse.observation.cost_details": (
                '{"input":0.00004,"input_cached_tokens":6e-6,"output":0.000058,"total":0.000104}'
            ),
            "langfuse.observation.completion_start_time": "2025-07-13T05:20:00.500000Z",
            "langfuse.session.id": "s-1",
            "langfuse.user.id": "u-1",
            "langfuse.trace.metadata.team": "search",
            "langfuse.trace.metadata.product": "shop",
            "langfuse.trace.metadata.feature": "answers",
            "langfuse.trace.metadata.variant": "canary",
            "openinference.span.kind": "LLM",
            "llm.cost.prompt": 0.000046,
            "llm.cost.completion": 0.000058,
            "llm.cost.total": 0.000104,
            "driftline.cost.source": "price_table",
            "driftline.outcome": "complete",
            "driftline.pool": "default",
            "driftline.variant": "canary",
            "driftline.team": "search",
            "driftline.product": "shop",
            "driftline.feature": "answers",
            "driftline.quality.refusal": False,
            "driftline.quality.json_invalid": True,
        }
    )


def test_what_is_not_known_is_absent() -> None:
    assert typed(attributes(bare())) == typed(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "vllm",
            "langfuse.observation.type": "generation",
            "openinference.span.kind": "LLM",
            "driftline.outcome": "complete",
        }
    )


def test_the_relays_ids_and_times_are_the_spans() -> None:
    made = span(chat())
    assert (made.trace_id, made.span_id, made.parent_span_id) == (TRACE_ID, SPAN_ID, PARENT_ID)
    assert (made.start, made.end) == (RECEIVED_AT, RECEIVED_AT + 2_000_000_000)
    assert (made.name, made.kind) == ("chat llama", SpanKind.CLIENT)


def test_a_parent_is_another_process_and_the_span_says_so() -> None:
    """As the SDK does: bit 8 says that it is known, bit 9 that it is remote."""
    assert (span(chat()).flags, span(bare()).flags) == (0x300, 0x100)


def test_a_trace_that_begins_here_has_no_parent() -> None:
    assert span(bare()).parent_span_id == b""


def test_tracestate_is_carried() -> None:
    assert span(chat(exchange=exchange(tracestate="vendor=x,other=y"))).trace_state == "vendor=x,other=y"


@pytest.mark.parametrize(
    ("operation", "name", "observation", "kind"),
    [
        ("chat", "chat llama", "generation", "LLM"),
        ("text_completion", "text_completion llama", "generation", "LLM"),
        ("embeddings", "embeddings llama", "embedding", "EMBEDDING"),
    ],
)
def test_each_operation_has_its_name_and_kinds(
    operation: str, name: str, observation: str, kind: str
) -> None:
    made = span(chat(operation=operation))
    assert (
        made.name,
        made.attributes["langfuse.observation.type"],
        made.attributes["openinference.span.kind"],
    ) == (name, observation, kind)


def test_a_span_without_a_model_is_named_after_its_operation() -> None:
    assert span(bare()).name == "chat"


def test_embeddings_say_their_dimensions() -> None:
    seen = attributes(
        bare(
            operation="embeddings",
            embedding_dimensions=128,
            parameters=Parameters(encoding_formats=["float"]),
            usage=Usage(input_tokens=4),
        )
    )
    assert seen["gen_ai.embeddings.dimension.count"] == 128
    assert seen["gen_ai.request.encoding_formats"] == ["float"]
    assert seen["langfuse.observation.usage_details"] == '{"input":4,"total":4}'


def test_json_mode_is_the_output_type() -> None:
    assert attributes(bare(json_mode=JsonMode()))["gen_ai.output.type"] == "json"


def test_one_choice_is_not_worth_an_attribute() -> None:
    assert "gen_ai.request.choice.count" not in attributes(chat(parameters=Parameters(choice_count=1)))


def test_an_error_has_a_type_and_a_status() -> None:
    call = chat(error_type="upstream_unreachable", exchange=exchange(error="nobody listens", status=502))
    made = span(call)
    assert made.attributes["error.type"] == "upstream_unreachable"
    assert (made.status, made.status_message) == (StatusCode.ERROR, "nobody listens")


@pytest.mark.parametrize(("capture", "description"), [(False, ""), (True, "bad input: 'my secret'")])
def test_the_engines_message_is_content(capture: bool, description: str | None) -> None:
    """It can quote the request, so it is recorded only where content is."""
    call = chat(error_type="BadRequestError", error_message="bad input: 'my secret'")
    assert span(call, capture=capture).status_message == description


def test_a_call_that_went_well_has_no_status() -> None:
    assert span(chat()).status is StatusCode.UNSET


@pytest.mark.parametrize(
    ("usage", "details"),
    [
        (Usage(), {}),
        (Usage(input_tokens=5), {"input": 5, "total": 5}),
        (Usage(input_tokens=5, output_tokens=0), {"input": 5, "output": 0, "total": 5}),
        (
            Usage(input_tokens=5, output_tokens=3, cached_tokens=0),
            {"input": 5, "input_cached_tokens": 0, "output": 3, "total": 8},
        ),
        (
            Usage(input_tokens=5, output_tokens=3, cached_tokens=5, reasoning_tokens=3),
            {
                "input": 0,
                "input_cached_tokens": 5,
                "output": 0,
                "output_reasoning_tokens": 3,
                "total": 8,
            },
        ),
    ],
)
def test_usage_buckets_share_no_token(usage: Usage, details: dict[str, int]) -> None:
    """A zero that the engine counted stays; the buckets sum to input plus output."""
    assert usage_details(usage) == details


def test_a_cost_of_zero_is_a_cost() -> None:
    seen = attributes(bare(cost=Cost(input=0, cached=0, output=0)))
    assert json.loads(str(seen["langfuse.observation.cost_details"])) == {"total": 0.0}
    assert seen["llm.cost.total"] == 0.0


def test_partial_figures_are_marked() -> None:
    seen = attributes(
        bare(
            usage=Usage(input_tokens=1, partial=True), cost=Cost(1, 0, 0, partial=True), truncated_record=True
        )
    )
    assert (
        seen["driftline.usage.partial"],
        seen["driftline.cost.partial"],
        seen["driftline.record.truncated"],
    ) == (True, True, True)


def test_no_time_to_first_token_without_a_stream() -> None:
    seen = attributes(chat(exchange=exchange(stream=False)))
    assert not {"gen_ai.response.time_to_first_chunk", "langfuse.observation.completion_start_time"} & set(
        seen
    )


def test_baggage_speaks_to_langfuse() -> None:
    header = "langfuse.trace.name=night%20run;p=1, langfuse.trace.tags=a%2Cb,langfuse.trace.metadata.k=v,x=y"
    seen = attributes(bare(exchange=exchange(request_headers=[("baggage", header)])))
    assert seen["langfuse.trace.name"] == "night run"
    assert seen["langfuse.trace.tags"] == ["a", "b"]
    assert seen["langfuse.trace.metadata.k"] == "v"


@pytest.mark.parametrize(
    "key",
    [
        "langfuse.observation.cost_details",
        "langfuse.internal.as_root",
        "langfuse.trace.input",
        "langfuse.trace.metadata.variant",
    ],
)
def test_baggage_cannot_say_what_was_measured_or_smuggle_content(key: str) -> None:
    plain = attributes(chat(exchange=exchange(request_headers=[])))
    assert attributes(chat(exchange=exchange(request_headers=[("baggage", f"{key}=42")]))) == plain


def test_baggage_is_bounded() -> None:
    header = ",".join(f"langfuse.trace.metadata.k{i}={'v' * 300}" for i in range(100))
    seen = attributes(bare(exchange=exchange(variant="", request_headers=[("baggage", header)])))
    kept = [value for key, value in seen.items() if key.startswith("langfuse.trace.metadata.")]
    assert kept == ["v" * 200] * 16


def test_langfuse_environment_and_release_are_on_every_span() -> None:
    environ = {"LANGFUSE_TRACING_ENVIRONMENT": "EU West/Prod", "LANGFUSE_RELEASE": "v1.2"}
    seen = attributes(bare(), environ=environ)
    assert (seen["langfuse.environment"], seen["langfuse.release"]) == ("eu-west-prod", "v1.2")

    environ = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=Staging"}
    assert attributes(bare(), environ=environ)["langfuse.environment"] == "staging"


@pytest.mark.parametrize(("name", "spelled"), [("x" * 60, "x" * 40), ("langfuse-x", ""), ("", "")])
def test_langfuse_environment_is_spelled_as_langfuse_takes_it(name: str, spelled: str) -> None:
    assert langfuse_environment(name) == spelled


def test_the_resource_is_the_users() -> None:
    assert resource({})["service.name"] == "driftline"
    assert resource({})["telemetry.distro.name"] == "driftline"
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=p%2C1, service.name=from-attributes,broken"}
    assert resource(environ)["service.name"] == "from-attributes"
    assert "service.version" not in resource(environ)
    assert resource(environ)["k8s.pod.name"] == "p,1"
    assert resource(environ | {"OTEL_SERVICE_NAME": "vllm-front"})["service.name"] == "vllm-front"


def test_scope_and_schema() -> None:
    assert (SCOPE.name, SCOPE.version, SCOPE.schema_url) == (
        "driftline",
        __version__,
        Schemas.V1_41_1.value,
    )


def test_an_attribute_count_limit_keeps_the_most_telling() -> None:
    call = chat(error_type="timeout")
    made = span(call, environ={"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "6"})
    assert set(made.attributes) == {
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "langfuse.observation.type",
        "openinference.span.kind",
        "error.type",
        "gen_ai.request.model",
    }
    assert made.dropped_attributes == len(attributes(call)) - 6


def test_a_value_length_limit_cuts_strings_and_leaves_content_valid() -> None:
    call = chat(attribution=Attribution(team="t" * 150))
    call.input_messages[0].parts[0].content = "long " * 100  # type: ignore[union-attr]
    seen = attributes(call, capture=True, environ={"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "120"})
    assert seen["driftline.team"] == "t" * 120
    assert max(len(value) for value in seen.values() if isinstance(value, str)) <= 120
    assert json.loads(str(seen["gen_ai.input.messages"]))[0]["role"] == "user"


@pytest.mark.parametrize("variable", ["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"])
def test_a_limit_that_is_no_number_is_named(variable: str) -> None:
    with pytest.raises(ValueError, match=f"{variable} is '-1'; write a whole number, 0 or above"):
        span(bare(), environ={variable: "-1"})


def test_names_are_those_of_the_conventions() -> None:
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    metrics = {
        semconv.CLIENT_OPERATION_DURATION,
        semconv.CLIENT_TOKEN_USAGE,
        semconv.SERVER_TIME_PER_OUTPUT_TOKEN,
        semconv.SERVER_TIME_TO_FIRST_TOKEN,
    }
    ours = {
        value for value in vars(semconv).values() if isinstance(value, str) and value.startswith("gen_ai.")
    }
    assert ours - metrics - known == set()
    assert Schemas.V1_41_1.value == semconv.SCHEMA_URL


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.none() | st.integers()


@given(
    st.builds(
        bare,
        request_model=words,
        response_id=words,
        error_type=st.none() | words,
        parameters=st.builds(Parameters, max_tokens=numbers, seed=numbers, choice_count=numbers),
        usage=st.none() | st.builds(Usage, numbers, numbers, numbers, numbers, numbers),
        attribution=st.builds(Attribution, *[st.none() | words] * 6),
        exchange=st.builds(exchange, upstream=words, error=words, variant=words, tracestate=words),
    )
)
def test_whatever_a_call_holds_its_span_can_be_sent(call: Call) -> None:
    """One attribute that does not encode would be logged for each span, one id would cost a whole batch."""
    made = span(call)
    sent = trace_pb2.ScopeSpans.FromString(encode(made)).spans[0]
    assert {pair.key for pair in sent.attributes} == set(made.attributes)
