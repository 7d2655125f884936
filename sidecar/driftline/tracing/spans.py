"""`Call` → span: one CLIENT span per model call, in the names of `semconv`.

Spans are built directly, not through a tracer: the relay has already given them their ids, sent those on to
the engine and decided on sampling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from driftline.call import Call, Cost, Usage
from driftline.exchange import NEVER
from driftline.otlp.environment import SpanLimits
from driftline.otlp.trace import HAS_IS_REMOTE, IS_REMOTE, Span, SpanKind, StatusCode
from driftline.tracing import semconv
from driftline.tracing.baggage import langfuse_attributes
from driftline.tracing.content import Capture

Value = str | bool | int | float | list[str]
Attributes = dict[str, Value]


class SpanBuilder:
    """Everything about spans that does not change from call to call."""

    def __init__(self, resource: Mapping[str, str], capture: Capture, environ: Mapping[str, str]) -> None:
        self._capture = capture
        self._limits = SpanLimits.from_env(environ)
        self._of_every_span = _langfuse_deployment(resource, environ)

    def span(self, call: Call) -> Span:
        exchange = call.exchange
        attributes = describe(call)
        attributes.update(self._of_every_span)
        captured = self._capture.wants(call)
        if captured:
            attributes.update(self._capture.attributes(call, self._limits.value_length))
        attributes, dropped = self._limited(attributes)
        failed = call.error_type is not None
        return Span(
            trace_id=exchange.trace_id,
            span_id=exchange.span_id,
            parent_span_id=exchange.parent_span_id,
            trace_state=exchange.tracestate,
            flags=HAS_IS_REMOTE | IS_REMOTE if exchange.parent_span_id else HAS_IS_REMOTE,
            name=f"{call.operation} {call.request_model}" if call.request_model else call.operation,
            kind=SpanKind.CLIENT,
            start=exchange.received_at,
            end=exchange.received_at + max(exchange.ended, 0),
            attributes=attributes,
            dropped_attributes=dropped,
            status=StatusCode.ERROR if failed else StatusCode.UNSET,
            status_message=_message(call, captured) if failed else "",
        )

    def _limited(self, attributes: Attributes) -> tuple[Attributes, int]:
        """As `OTEL_SPAN_ATTRIBUTE_{COUNT,VALUE_LENGTH}_LIMIT` say: the first stay, the others are counted."""
        most, longest = self._limits.count, self._limits.value_length
        if longest is not None:
            attributes = {key: _shortened(value, longest) for key, value in attributes.items()}
        if most is None or len(attributes) <= most:
            return attributes, 0
        return dict(list(attributes.items())[:most]), len(attributes) - most


def describe(call: Call) -> Attributes:
    """Every attribute that follows from the call alone, content excepted; what is unknown is absent.

    The most telling come first: an attribute limit takes from the end.
    """
    attributes: Attributes = {
        semconv.OPERATION_NAME: call.operation,
        semconv.PROVIDER_NAME: semconv.VLLM,
        semconv.LANGFUSE_OBSERVATION_TYPE: semconv.OBSERVATION_TYPES[call.operation],
        semconv.OPENINFERENCE_SPAN_KIND: semconv.SPAN_KINDS[call.operation],
    }
    _response(call, attributes)
    if call.usage is not None:
        _usage(call.usage, attributes)
    if call.cost is not None:
        _cost(call.cost, attributes)
    _attribution(call, attributes)
    _request(call, attributes)
    for signal, value in call.signals.items():
        attributes[semconv.QUALITY + signal] = value
    if call.truncated_record:
        attributes[semconv.RECORD_TRUNCATED] = True
    return attributes


def _request(call: Call, attributes: Attributes) -> None:
    p = call.parameters
    for key, value in (
        (semconv.REQUEST_MAX_TOKENS, _int64(p.max_tokens)),
        (semconv.REQUEST_TEMPERATURE, _double(p.temperature)),
        (semconv.REQUEST_TOP_P, _double(p.top_p)),
        (semconv.REQUEST_TOP_K, _double(p.top_k)),
        (semconv.REQUEST_SEED, _int64(p.seed)),
        (semconv.REQUEST_STOP_SEQUENCES, p.stop_sequences or None),
        (semconv.REQUEST_FREQUENCY_PENALTY, _double(p.frequency_penalty)),
        (semconv.REQUEST_PRESENCE_PENALTY, _double(p.presence_penalty)),
        (semconv.REQUEST_CHOICE_COUNT, _int64(p.choice_count) if p.choice_count != 1 else None),
        (semconv.REQUEST_STREAM, p.stream or None),
        (semconv.REQUEST_ENCODING_FORMATS, p.encoding_formats or None),
        (semconv.OUTPUT_TYPE, semconv.JSON if call.json_mode is not None else None),
    ):
        if value is not None:
            attributes[key] = value


def _response(call: Call, attributes: Attributes) -> None:
    exchange = call.exchange
    address, port = split_address(exchange.upstream)
    for key, value in (
        (semconv.ERROR_TYPE, call.error_type),
        (semconv.REQUEST_MODEL, call.request_model),
        (semconv.RESPONSE_MODEL, call.response_model),
        (semconv.RESPONSE_FINISH_REASONS, call.finish_reasons or None),
        (semconv.RESPONSE_TIME_TO_FIRST_CHUNK, call.ttft),
        (semconv.HTTP_RESPONSE_STATUS_CODE, exchange.status or None),
        (semconv.OUTCOME, exchange.outcome),
        (semconv.SERVER_ADDRESS, address),
        (semconv.SERVER_PORT, port),
        (semconv.RESPONSE_ID, call.response_id),
        (semconv.OPENAI_SYSTEM_FINGERPRINT, call.system_fingerprint),
        (semconv.EMBEDDINGS_DIMENSION_COUNT, call.embedding_dimensions),
        (semconv.POOL, exchange.pool or None),
    ):
        if value is not None:
            attributes[key] = value
    if exchange.stream and exchange.first_content != NEVER:
        moment = exchange.received_at + exchange.first_content
        attributes[semconv.LANGFUSE_COMPLETION_START_TIME] = iso_8601(moment)


def _usage(usage: Usage, attributes: Attributes) -> None:
    for key, value in (
        (semconv.USAGE_INPUT_TOKENS, _int64(usage.input_tokens)),
        (semconv.USAGE_OUTPUT_TOKENS, _int64(usage.output_tokens)),
        (semconv.USAGE_CACHE_READ, _int64(usage.cached_tokens)),
        (semconv.USAGE_CACHE_CREATION, _int64(usage.cache_creation_tokens)),
        (semconv.USAGE_REASONING, _int64(usage.reasoning_tokens)),
    ):
        if value is not None:
            attributes[key] = value
    if usage.partial:
        attributes[semconv.USAGE_PARTIAL] = True
    details = usage_details(usage)
    if details:
        attributes[semconv.LANGFUSE_USAGE_DETAILS] = msgspec.json.encode(details).decode()


def usage_details(usage: Usage) -> dict[str, int]:
    """Tokens in Langfuse's buckets. It sums them, so none holds a token of another."""
    details = {}
    cached, reasoning = usage.cached_tokens or 0, usage.reasoning_tokens or 0
    if usage.input_tokens is not None:
        details["input"] = max(usage.input_tokens - cached, 0)
    if usage.cached_tokens is not None:
        details["input_cached_tokens"] = usage.cached_tokens
    if usage.output_tokens is not None:
        details["output"] = max(usage.output_tokens - reasoning, 0)
    if usage.reasoning_tokens is not None:
        details["output_reasoning_tokens"] = usage.reasoning_tokens
    if details:
        details["total"] = sum(details.values())
    return details


def _cost(cost: Cost, attributes: Attributes) -> None:
    buckets = {
        "input": cost.input,
        "input_cached_tokens": cost.cached,
        "output": cost.output,
        "total": cost.total,
    }
    details = {name: dollars(nano) for name, nano in buckets.items() if nano or name == "total"}
    attributes[semconv.LANGFUSE_COST_DETAILS] = msgspec.json.encode(details).decode()
    attributes[semconv.COST_PROMPT] = dollars(cost.input + cost.cached)
    attributes[semconv.COST_COMPLETION] = dollars(cost.output)
    attributes[semconv.COST_TOTAL] = dollars(cost.total)
    attributes[semconv.COST_SOURCE] = cost.source
    if cost.partial:
        attributes[semconv.COST_PARTIAL] = True


def _attribution(call: Call, attributes: Attributes) -> None:
    for name, text in call.exchange.request_headers:
        if name == "baggage":
            attributes.update(langfuse_attributes(text))
        elif name == "x-request-id":
            attributes[semconv.HTTP_REQUEST_ID] = [text]
    who, variant = call.attribution, call.exchange.variant or None
    for value, *keys in (
        (who.session, semconv.SESSION_ID, semconv.LANGFUSE_SESSION_ID),
        (who.user, semconv.USER_ID, semconv.LANGFUSE_USER_ID),
        (who.conversation, semconv.CONVERSATION_ID),
        (who.team, semconv.TEAM, semconv.LANGFUSE_METADATA + "team"),
        (who.product, semconv.PRODUCT, semconv.LANGFUSE_METADATA + "product"),
        (who.feature, semconv.FEATURE, semconv.LANGFUSE_METADATA + "feature"),
        (variant, semconv.VARIANT, semconv.LANGFUSE_METADATA + "variant"),
    ):
        if value is not None:
            for key in keys:
                attributes[key] = value


def _message(call: Call, captured: bool) -> str:
    # An engine's message can quote the request (a validation error holds the whole body): it is content.
    return call.exchange.error or (call.error_message if captured else None) or ""


def _langfuse_deployment(resource: Mapping[str, str], environ: Mapping[str, str]) -> Attributes:
    attributes: Attributes = {}
    named = environ.get("LANGFUSE_TRACING_ENVIRONMENT") or resource.get("deployment.environment.name", "")
    environment = langfuse_environment(named)
    if environment:
        attributes[semconv.LANGFUSE_ENVIRONMENT] = environment
    if release := environ.get("LANGFUSE_RELEASE"):
        attributes[semconv.LANGFUSE_RELEASE] = release[:200]
    return attributes


def langfuse_environment(name: str) -> str:
    """`name` as Langfuse takes it, which refuses a whole batch for any other spelling.

    At most 40 of `[a-z0-9-_]`; empty for names that begin with `langfuse`, which are reserved.
    """
    spelled = re.sub(r"[^a-z0-9_-]", "-", name.strip().lower())[:40]
    return "" if spelled.startswith("langfuse") else spelled


def dollars(nano: int) -> float:
    """The float nearest to this many billionths of a dollar."""
    return nano / 1_000_000_000


def iso_8601(nanoseconds: int) -> str:
    """UTC, to the microsecond.

    >>> iso_8601(1_752_384_000_500_000_999)
    '2025-07-13T05:20:00.500000Z'
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=256)
def split_address(upstream: str) -> tuple[str | None, int | None]:
    """Host and port of `host:port`.

    >>> split_address("[::1]:8000"), split_address("")
    (('::1', 8000), (None, None))
    """
    host, _, port = upstream.rpartition(":")
    if not host or not port.isdigit():
        return upstream or None, None
    return host.strip("[]"), int(port)


def _double(value: float | None) -> float | None:
    """JSON writes 1 for 1.0; the attribute's type is double."""
    return None if value is None else float(value)


def _int64(value: int | None) -> int | None:
    """JSON has larger numbers than OTLP; one of them would cost the whole span."""
    return value if value is not None and -(2**63) <= value < 2**63 else None


def _shortened(value: Value, longest: int) -> Value:
    if isinstance(value, str):
        return value[:longest]
    return [item[:longest] for item in value] if isinstance(value, list) else value
