"""A span's bytes are those of the same span to OpenTelemetry's own classes."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SdkEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link as SdkLink
from opentelemetry.trace import SpanContext, Status, TraceFlags, TraceState
from opentelemetry.trace import SpanKind as SdkKind
from opentelemetry.trace import StatusCode as SdkStatusCode

from driftline import dialects
from driftline.cost.prices import Price, TokenPricer
from driftline.otlp.resource import Envelope, Scope
from driftline.otlp.trace import HAS_IS_REMOTE, IS_REMOTE, Event, Link, Span, SpanKind, StatusCode, encode
from driftline.quality import Quality
from driftline.tracing.resource import SCOPE, resource
from tests.dialects.exchanges import NAMES, recorded
from tests.tracing.calls import PARENT_ID, RECEIVED_AT, SPAN_ID, TRACE_ID
from tests.tracing.test_spans import span


def context(trace_id: bytes, span_id: bytes, trace_state: str = "", *, remote: bool = False) -> SpanContext:
    return SpanContext(
        trace_id=int.from_bytes(trace_id),
        span_id=int.from_bytes(span_id),
        is_remote=remote,
        trace_flags=TraceFlags(1),
        trace_state=TraceState.from_header([trace_state] if trace_state else []),
    )


def by_the_sdk(one: Span, who: Resource, scope: InstrumentationScope) -> ExportTraceServiceRequest:
    """The same span, made and encoded by OpenTelemetry's SDK."""
    parent = context(one.trace_id, one.parent_span_id, remote=bool(one.flags & IS_REMOTE))
    made = ReadableSpan(
        name=one.name,
        context=context(one.trace_id, one.span_id, one.trace_state),
        parent=parent if one.parent_span_id else None,
        resource=who,
        attributes=dict(one.attributes),
        events=[SdkEvent(event.name, dict(event.attributes), event.time) for event in one.events],
        links=[
            SdkLink(
                context(link.trace_id, link.span_id, remote=bool(link.flags & IS_REMOTE)),
                dict(link.attributes),
            )
            for link in one.links
        ],
        kind=SdkKind[one.kind.name],
        status=Status(SdkStatusCode[one.status.name], one.status_message or None),
        start_time=one.start,
        end_time=one.end,
        instrumentation_scope=scope,
    )
    return encode_spans([made])


def assert_equal_to_the_sdks(one: Span, who: dict[str, str], scope: Scope) -> None:
    sent = ExportTraceServiceRequest.FromString(Envelope(who, scope).request([encode(one)]))
    theirs = by_the_sdk(one, Resource(who), InstrumentationScope(scope.name, scope.version, scope.schema_url))
    assert sent == theirs


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=90)
integers = st.integers(-(2**63), 2**63 - 1)
doubles = st.floats(allow_nan=False)
values = (
    texts
    | st.booleans()
    | integers
    | doubles
    | st.lists(texts, max_size=3)
    | st.lists(integers, max_size=3)
    | st.lists(doubles, max_size=3)
    | st.lists(st.booleans(), max_size=3)
)
attributes = st.dictionaries(keys, values, max_size=8)
trace_ids = st.binary(min_size=16, max_size=16).filter(any)
span_ids = st.binary(min_size=8, max_size=8).filter(any)
times = st.integers(0, 2**64 - 1)
spans = st.builds(
    Span,
    trace_id=trace_ids,
    span_id=span_ids,
    parent_span_id=st.just(PARENT_ID),
    flags=st.sampled_from([HAS_IS_REMOTE, HAS_IS_REMOTE | IS_REMOTE]),
    trace_state=st.sampled_from(["", "vendor=x,other=y@z"]),
    name=texts,
    kind=st.sampled_from(SpanKind),
    start=times,
    end=times,
    attributes=attributes,
    events=st.lists(st.builds(Event, name=texts, time=times, attributes=attributes), max_size=2),
    links=st.lists(
        st.builds(
            Link,
            trace_id=trace_ids,
            span_id=span_ids,
            attributes=attributes,
            flags=st.sampled_from([HAS_IS_REMOTE, HAS_IS_REMOTE | IS_REMOTE]),
        ),
        max_size=2,
    ),
    status=st.sampled_from([StatusCode.UNSET, StatusCode.OK]),
) | st.builds(
    Span,
    trace_id=trace_ids,
    span_id=span_ids,
    flags=st.just(HAS_IS_REMOTE),
    name=texts,
    start=times,
    end=times,
    status=st.just(StatusCode.ERROR),
    status_message=texts,
)


@given(spans, st.dictionaries(keys, texts.filter(bool), max_size=3), st.builds(Scope, texts, texts, texts))
@settings(max_examples=200)
def test_any_span_is_the_sdks(one: Span, who: dict[str, str], scope: Scope) -> None:
    """Every kind of value, event, link and status; the resource and the scope around them too."""
    assert_equal_to_the_sdks(one, who, scope)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("capture", [False, True])
def test_the_spans_of_recorded_calls_are_the_sdks(name: str, capture: bool) -> None:
    changes = {"trace_id": TRACE_ID, "span_id": SPAN_ID, "received_at": RECEIVED_AT, "ended": 7}
    call = dialects.read(recorded(name, **changes))
    if call is not None:
        Quality().observe(call)
        TokenPricer([Price("*", Decimal(1), Decimal(2))]).observe(call)
        assert_equal_to_the_sdks(span(call, capture=capture), resource({}), SCOPE)


def decoded(one: Span) -> Any:
    return trace_pb2.ScopeSpans.FromString(encode(one)).spans[0]


def test_what_was_dropped_is_said() -> None:
    """By field: the SDK counts these itself, so there is nothing to compare."""
    event = Event(name="e", time=1, dropped_attributes=200)
    link = Link(trace_id=TRACE_ID, span_id=SPAN_ID, trace_state="a=b", dropped_attributes=4)
    seen = decoded(
        Span(
            trace_id=TRACE_ID,
            span_id=SPAN_ID,
            name="",
            start=1,
            end=2,
            dropped_attributes=300,
            dropped_events=2,
            dropped_links=3,
            events=[event],
            links=[link],
        )
    )
    assert (seen.dropped_attributes_count, seen.dropped_events_count, seen.dropped_links_count) == (300, 2, 3)
    assert seen.events[0].dropped_attributes_count == 200
    assert (seen.links[0].dropped_attributes_count, seen.links[0].trace_state) == (4, "a=b")


def test_bytes_and_numbers_that_are_none_are_attributes_too() -> None:
    """The SDK refuses or compares them oddly; the data model has them."""
    values = {"bytes": b"\xff\x00", "nan": math.nan, "inf": math.inf, "zero": -0.0}
    seen = decoded(Span(trace_id=TRACE_ID, span_id=SPAN_ID, name="", start=1, end=2, attributes=values))
    found = {pair.key: pair.value for pair in seen.attributes}
    assert found["bytes"].bytes_value == b"\xff\x00"
    assert math.isnan(found["nan"].double_value)
    assert found["inf"].double_value == math.inf
    assert str(found["zero"].double_value) == "-0.0"


def test_a_value_is_not_taken_for_another_that_is_equal() -> None:
    """1 == True == 1.0 in Python: what was encoded once must not be used for the others."""
    for value in (1, True, 1.0, "1"):
        made = Span(trace_id=TRACE_ID, span_id=SPAN_ID, name="", start=1, end=2, attributes={"k": value})
        (pair,) = decoded(made).attributes
        seen = getattr(pair.value, pair.value.WhichOneof("value"))
        assert (type(seen), seen) == (type(value), value)


def test_half_a_character_does_not_cost_a_batch() -> None:
    seen = decoded(Span(trace_id=TRACE_ID, span_id=SPAN_ID, name="a\ud800b", start=1, end=2))
    assert seen.name == "a?b"


def test_a_number_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(OverflowError, match=f"{2**63} does not fit into 64 bits"):
        decoded(Span(trace_id=TRACE_ID, span_id=SPAN_ID, name="", start=1, end=2, attributes={"k": 2**63}))
