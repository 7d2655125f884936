"""A local OTLP receiver that keeps what it is sent and counts the spans when asked.

    python -m benchmarks.sink --port 4318

`GET /spans` answers with their number. Decoding waits until then, so as to take no CPU from a measurement.
"""

from __future__ import annotations

import click
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Sink:
    def __init__(self) -> None:
        self._received: list[bytes] = []
        self._counted = 0

    async def traces(self, request: web.Request) -> web.Response:
        self._received.append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    async def metrics(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(content_type="application/x-protobuf")

    async def spans(self, _: web.Request) -> web.Response:
        for body in self._received:
            message = ExportTraceServiceRequest.FromString(body)
            self._counted += sum(
                len(scope.spans) for resource in message.resource_spans for scope in resource.scope_spans
            )
        self._received.clear()
        return web.json_response(self._counted)


def application() -> web.Application:
    """The receiver. aiohttp takes care of `Content-Encoding`."""
    sink, app = Sink(), web.Application(client_max_size=64 * 2**20)
    app.router.add_post("/v1/traces", sink.traces)
    app.router.add_post("/v1/metrics", sink.metrics)
    app.router.add_get("/spans", sink.spans)
    return app


@click.command()
@click.option("--port", required=True, type=int)
def main(port: int) -> None:
    """Receive until interrupted."""
    web.run_app(application(), host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main()
