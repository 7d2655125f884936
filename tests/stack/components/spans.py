"""Spans as a backend sees them, from OTLP in either of its forms."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


@dataclass(frozen=True)
class ReceivedSpan:
    trace_id: str
    span_id: str
    parent_span_id: str
    """Empty for a root."""
    name: str
    kind: int
    start: int
    end: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str
    schema_url: str
    status: int = 0
    events: list[str] = field(default_factory=list)


def decode(request: ExportTraceServiceRequest) -> list[ReceivedSpan]:
    return [
        ReceivedSpan(
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_span_id=span.parent_span_id.hex(),
            name=span.name,
            kind=span.kind,
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            attributes=_dict(span.attributes),
            resource=_dict(by_resource.resource.attributes),
            scope=by_scope.scope.name,
            schema_url=by_scope.schema_url or by_resource.schema_url,
            status=span.status.code,
            events=[event.name for event in span.events],
        )
        for by_resource in request.resource_spans
        for by_scope in by_resource.scope_spans
        for span in by_scope.spans
    ]


def decode_json_lines(text: str) -> list[ReceivedSpan]:
    """Of the Collector's file exporter: one request a line, its ids in hexadecimal as OTLP/JSON has them."""
    return [span for line in text.splitlines() if line for span in decode(_request(json.loads(line)))]


def _request(otlp: dict[str, Any]) -> ExportTraceServiceRequest:
    # protobuf's JSON mapping has bytes in base64, OTLP's has ids in hexadecimal (OTLP specification, "JSON").
    for holder in _holders_of_ids(otlp):
        for key in ("traceId", "spanId", "parentSpanId"):
            if key in holder:
                holder[key] = _base64(holder[key])
    return ParseDict(otlp, ExportTraceServiceRequest(), ignore_unknown_fields=True)


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def _holders_of_ids(otlp: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for by_resource in otlp.get("resourceSpans", []):
        for by_scope in by_resource.get("scopeSpans", []):
            for span in by_scope.get("spans", []):
                yield span
                yield from span.get("links", [])


def _dict(attributes: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "array_value":
            return [_value(item) for item in value.array_value.values]
        case "kvlist_value":
            return _dict(value.kvlist_value.values)
        case None:
            return None
        case kind:
            return getattr(value, kind)
