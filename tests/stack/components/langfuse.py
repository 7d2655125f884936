"""What Langfuse is on the wire: an OTLP receiver with its path, its authorization and its version header."""

from __future__ import annotations

import base64
import gzip

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.stack.components.receiver import Posted, Receiver, Reply
from tests.stack.components.spans import ReceivedSpan, decode

PUBLIC_KEY, SECRET_KEY = "pk-lf-test", "sk-lf-test"
AUTH = base64.b64encode(f"{PUBLIC_KEY}:{SECRET_KEY}".encode()).decode()
PATH = "/api/public/otel/v1/traces"


class LangfuseReceiver(Receiver):
    """Refuses what Langfuse refuses, and keeps the spans of what it took."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.spans: list[ReceivedSpan] = []

    def reply(self, posted: Posted) -> Reply:
        if posted.path != PATH:
            return Reply(404)
        if posted.headers.get("authorization") != f"Basic {AUTH}":
            return Reply(401)
        if posted.headers.get("x-langfuse-ingestion-version") != "4":
            return Reply(400, body=b'{"error": "x-langfuse-ingestion-version"}')
        if posted.headers.get("content-type") != "application/x-protobuf":
            return Reply(415)
        body = (
            gzip.decompress(posted.body) if posted.headers.get("content-encoding") == "gzip" else posted.body
        )
        try:
            self.spans += decode(ExportTraceServiceRequest.FromString(body))
        except DecodeError:
            return Reply(400)
        return Reply(200, "application/x-protobuf", ExportTraceServiceResponse().SerializeToString())
