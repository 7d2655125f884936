"""`OTEL_…_EXPORTER=console`: export requests as lines of OTLP/JSON on standard output, for a look at them.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding. The one place that needs the protobuf classes.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from driftline.otlp.environment import Signal
from driftline.otlp.sender import Outcome

_REQUESTS: dict[Signal, Any] = {"TRACES": ExportTraceServiceRequest, "METRICS": ExportMetricsServiceRequest}
_IDS = frozenset({"traceId", "spanId", "parentSpanId"})


class ConsoleSender:
    def __init__(self, signal: Signal) -> None:
        self._signal = signal

    async def send(self, request: bytes, within: float) -> Outcome:
        print(to_json(self._signal, request), flush=True)  # noqa: T201  # what it is for
        return Outcome(delivered=True)

    async def close(self) -> None:
        pass


def to_json(signal: Signal, request: bytes) -> str:
    """One line."""
    document = MessageToDict(_REQUESTS[signal].FromString(request), use_integers_for_enums=True)
    return json.dumps(_with_hexadecimal_ids(document), ensure_ascii=False)


def _with_hexadecimal_ids(value: Any) -> Any:
    """Ids are the exception in OTLP/JSON: hexadecimal, where other bytes are Base64."""
    if isinstance(value, dict):
        return {
            key: base64.b64decode(inner).hex() if key in _IDS else _with_hexadecimal_ids(inner)
            for key, inner in value.items()
        }
    return [_with_hexadecimal_ids(item) for item in value] if isinstance(value, list) else value
