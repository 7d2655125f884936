"""Real OTLP receivers on loopback sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

DEADLINE = 20.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


def plain(value: AnyValue) -> object:
    """The value with the type it travelled with."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


def attributes(pairs: list[KeyValue]) -> dict[str, object]:
    return {pair.key: plain(pair.value) for pair in pairs}


@dataclass
class Received:
    """What came in, and how."""

    url: str = ""
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    resource_spans: list[ResourceSpans] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    status: int = 200
    """Answered to every batch."""
    hang: asyncio.Event | None = None
    """Answer only once it is set."""
    rejects: int = 0
    """Spans of each batch that are refused in an answer of success (OTLP: partial success)."""
    rejected: int = 0

    @property
    def spans(self) -> list[Span]:
        return [span for rs in self.resource_spans for ss in rs.scope_spans for span in ss.spans]

    def take(self, request: ExportTraceServiceRequest) -> ExportTraceServiceResponse:
        refused = 0
        for scope in [scope for resource in request.resource_spans for scope in resource.scope_spans]:
            unwanted = min(self.rejects - refused, len(scope.spans))
            del scope.spans[:unwanted]
            refused += unwanted
        before = len(self.spans)
        self.resource_spans.extend(request.resource_spans)
        self.batches.append(len(self.spans) - before)
        self.rejected += refused
        if not refused:
            return ExportTraceServiceResponse()
        partial = ExportTracePartialSuccess(rejected_spans=refused, error_message="not these")
        return ExportTraceServiceResponse(partial_success=partial)


@asynccontextmanager
async def http_receiver() -> AsyncIterator[Received]:
    received = Received()

    async def post(request: web.Request) -> web.Response:
        body = await request.read()
        received.paths.append(request.path)
        received.headers.append({name.lower(): value for name, value in request.headers.items()})
        if received.hang is not None:
            await received.hang.wait()
        if received.status != 200:
            return web.Response(status=received.status)
        answer = b""
        if request.path.endswith("/v1/metrics"):
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                received.metrics.extend(m for scope in resource.scope_metrics for m in scope.metrics)
        else:
            answer = received.take(ExportTraceServiceRequest.FromString(body)).SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/{path:.*}", post)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    received.url = f"http://{host}:{port}"
    try:
        yield received
    finally:
        if received.hang is not None:
            received.hang.set()
        await runner.cleanup()


class _GrpcService(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, received: Received) -> None:
        self._received = received

    def Export(  # noqa: N802
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        self._received.headers.append({str(k): str(v) for k, v in context.invocation_metadata()})
        return self._received.take(request)


@asynccontextmanager
async def grpc_receiver() -> AsyncIterator[Received]:
    received = Received()
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_GrpcService(received), server)
    received.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield received
    finally:
        server.stop(None).wait()
