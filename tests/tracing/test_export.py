"""Spans arrive at real receivers, and a receiver in trouble costs nobody but itself."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from driftline.otlp.environment import QueueSettings
from driftline.otlp.resource import Envelope
from driftline.otlp.sender import Outcome
from driftline.otlp.trace import Span, encode
from driftline.relay.counters import Block, Tally
from driftline.tracing.content import CaptureSettings
from driftline.tracing.export import Exporter
from driftline.tracing.observer import TraceObserver
from driftline.tracing.presets import ExporterSettings
from driftline.tracing.resource import SCOPE
from tests.tracing.calls import PARENT_ID, RECEIVED_AT, SPAN_ID, TRACE_ID, chat, exchange
from tests.tracing.receivers import Received, attributes, grpc_receiver, http_receiver, until
from tests.tracing.test_spans import span

ENVELOPE = Envelope({}, SCOPE)
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "10"}


OK = Outcome(delivered=True)
FAILED = Outcome(delivered=False, reason="not today")


class Recorder:
    """A sender that keeps the names of the spans it gets, once `open` is set."""

    def __init__(self, result: Outcome = OK) -> None:
        self.result = result
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()
        self.batches: list[list[str]] = []

    async def send(self, request: bytes, within: float) -> Outcome:
        self.entered.set()
        await self.open.wait()
        self.batches.append(names(request))
        return self.result

    async def close(self) -> None:
        self.open.set()


def names(request: bytes) -> list[str]:
    (resource_spans,) = ExportTraceServiceRequest.FromString(request).resource_spans
    return [span.name for scope in resource_spans.scope_spans for span in scope.spans]


def started(*settings: ExporterSettings, content: bool = False, **environ: str) -> TraceObserver:
    return TraceObserver.start(list(settings), CaptureSettings(content=content), QUICK | environ)


def dead_endpoint() -> str:
    """An address that refuses connections: bound, never listening."""
    refusing = socket.socket()
    refusing.bind(("127.0.0.1", 0))
    _REFUSING.append(refusing)
    return f"http://127.0.0.1:{refusing.getsockname()[1]}"


_REFUSING: list[socket.socket] = []


def check_arrived(received: Received) -> None:
    (one,) = received.spans
    assert (one.trace_id, one.span_id, one.parent_span_id) == (TRACE_ID, SPAN_ID, PARENT_ID)
    assert (one.name, one.kind) == ("chat llama", 3)
    assert (one.start_time_unix_nano, one.end_time_unix_nano) == (RECEIVED_AT, RECEIVED_AT + 2_000_000_000)
    assert attributes(list(one.attributes)) == dict(span(chat()).attributes)
    (resource_spans,) = received.resource_spans
    assert attributes(list(resource_spans.resource.attributes))["service.name"] == "driftline"
    (scope_spans,) = resource_spans.scope_spans
    assert (scope_spans.scope.name, scope_spans.schema_url) == (
        "driftline",
        "https://opentelemetry.io/schemas/1.41.1",
    )


async def test_a_span_arrives_whole_over_http() -> None:
    async with http_receiver() as received:
        observer = started(ExporterSettings(endpoint=received.url, headers={"x-tenant": "a"}))
        observer.observe(chat())
        await until(lambda: bool(received.spans))
        check_arrived(received)
        assert received.paths == ["/v1/traces"]
        assert received.headers[0]["content-type"] == "application/x-protobuf"
        assert received.headers[0]["x-tenant"] == "a"
        await observer.shutdown(5)
        assert (observer.batches, observer.dropped.total()) == ({"success": 1}, 0)


async def test_a_span_arrives_whole_over_grpc() -> None:
    async with grpc_receiver() as received:
        settings = ExporterSettings(endpoint=received.url, protocol="grpc", headers={"x-tenant": "a"})
        observer = started(settings)
        observer.observe(chat())
        await until(lambda: bool(received.spans))
        check_arrived(received)
        assert received.headers[0]["x-tenant"] == "a"
        await observer.shutdown(5)


async def test_the_standard_variables_suffice() -> None:
    """Endpoint, headers and compression, as for any OpenTelemetry SDK."""
    async with http_receiver() as received:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-tenant=b",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        }
        observer = started(**environ)
        observer.observe(chat())
        await until(lambda: bool(received.spans))
        check_arrived(received)
        assert (received.headers[0]["x-tenant"], received.headers[0]["content-encoding"]) == ("b", "gzip")
        await observer.shutdown(5)


async def test_langfuse_gets_what_it_reads() -> None:
    """Path, authorization, version header, and attributes in the form its ingestion takes."""
    async with http_receiver() as received:
        environ = {"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk", "LANGFUSE_HOST": received.url}
        observer = started(ExporterSettings(preset="langfuse"), content=True, **environ)
        observer.observe(chat())
        await until(lambda: bool(received.spans))
        assert received.paths == ["/api/public/otel/v1/traces"]
        assert received.headers[0]["authorization"] == "Basic cGs6c2s="
        assert received.headers[0]["x-langfuse-ingestion-version"] == "4"
        seen = attributes(list(received.spans[0].attributes))
        assert json.loads(str(seen["langfuse.observation.usage_details"]))["total"] == 129
        assert json.loads(str(seen["gen_ai.input.messages"]))[0]["role"] == "user"
        await observer.shutdown(5)


async def test_calls_that_are_not_sampled_make_no_span() -> None:
    recorder = Recorder()
    observer = observing(recorder)
    observer.observe(chat(exchange=exchange(trace_flags=0)))
    observer.observe(chat(request_model="sampled", exchange=exchange(trace_flags=3)))
    await observer.shutdown(5)
    assert recorder.batches == [["chat sampled"]]


def observing(*senders: Recorder, **queue: float) -> TraceObserver:
    observer = TraceObserver.start([], CaptureSettings(), {})
    settings = QueueSettings(**{"schedule_delay": 0.01} | queue)  # type: ignore[arg-type]
    observer.exporters = [Exporter(f"e{i}", sender, ENVELOPE, settings) for i, sender in enumerate(senders)]
    return observer


async def test_a_backend_that_hangs_blocks_nobody_and_its_losses_are_counted() -> None:
    hung, well = Recorder(), Recorder()
    hung.open.clear()
    observer = observing(hung, well, max_queue_size=10, max_export_batch_size=10)
    observer.observe(chat())
    await hung.entered.wait()
    for _ in range(25):
        observer.observe(chat())
        await until(lambda: observer.exporters[1].tally["exported"] == observer.exporters[1].tally["made"])

    assert observer.exporters[0].dropped == {"queue_full": 15}
    assert observer.exporters[1].dropped == {}
    await observer.shutdown(0.05)
    assert observer.exporters[0].dropped == {"queue_full": 15, "shutdown": 11}
    assert observer.exporters[1].tally["exported"] == 26


async def test_of_two_backends_one_may_be_dead() -> None:
    async with http_receiver() as received:
        observer = started(
            ExporterSettings(endpoint=dead_endpoint()),
            ExporterSettings(endpoint=dead_endpoint(), protocol="grpc"),
            ExporterSettings(endpoint=received.url),
            OTEL_EXPORTER_OTLP_TIMEOUT="0.2",
        )
        for _ in range(20):
            observer.observe(chat())
        await until(lambda: len(received.spans) == 20)
        await until(lambda: all(e.dropped["failed"] == 20 for e in observer.exporters[:2]))
        await observer.shutdown(5)
    assert [e.tally["exported"] for e in observer.exporters] == [0, 0, 20]
    assert observer.dropped["failed"] == 40


@pytest.mark.parametrize("status", [400, 401, 413, 500])
async def test_a_refused_batch_is_counted(status: int) -> None:
    async with http_receiver() as received:
        received.status = status
        observer = started(ExporterSettings(endpoint=received.url))
        observer.observe(chat())
        await until(lambda: observer.dropped["failed"] == 1)
        assert observer.batches == {"failure": 1}
        await observer.shutdown(5)


async def test_an_outage_is_one_line_in_the_log_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with http_receiver() as received:
        received.status = 400
        observer = started(ExporterSettings(endpoint=received.url))
        for lost in range(1, 4):
            observer.observe(chat())
            await until(lambda lost=lost: observer.dropped["failed"] == lost)
        received.status = 200
        observer.observe(chat())
        await until(lambda: bool(received.spans))
        await observer.shutdown(5)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("driftline")]
    assert ours == [
        "exporter otlp does not deliver: its spans are dropped until it does: 400 Bad Request",
        "exporter otlp delivers again; 3 spans were lost",
    ]


async def test_an_exporter_that_raises_is_a_failure_not_an_end(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Recorder):
        async def send(self, request: bytes, within: float) -> Outcome:
            if not self.batches:
                self.batches.append([])
                raise RuntimeError("boom")
            return await super().send(request, within)

    broken = Broken()
    observer = observing(broken)
    observer.observe(chat())
    await until(lambda: observer.dropped["failed"] == 1)
    observer.observe(chat())
    await observer.shutdown(5)
    assert broken.batches == [[], ["chat llama"]]
    assert "boom" in caplog.text


async def test_shutdown_flushes_everything_in_batches() -> None:
    recorder = Recorder()
    observer = observing(recorder, schedule_delay=60, max_export_batch_size=100, max_queue_size=1000)
    for _ in range(50):
        observer.observe(chat())
    await observer.shutdown(10)
    assert [len(batch) for batch in recorder.batches] == [50]
    observer.observe(chat())
    assert observer.dropped == {"shutdown": 1}


async def test_a_full_batch_does_not_wait_for_the_schedule() -> None:
    recorder = Recorder()
    observer = observing(recorder, schedule_delay=3600, max_export_batch_size=5)
    for _ in range(5):
        observer.observe(chat())
    await until(lambda: recorder.batches == [["chat llama"] * 5])
    await observer.shutdown(5)


async def test_batches_and_queue_are_bounded_in_bytes() -> None:
    recorder = Recorder()
    recorder.open.clear()
    settings = QueueSettings(schedule_delay=0.01, max_batch_bytes=1000, max_queue_bytes=5000)
    exporter = Exporter("e", recorder, ENVELOPE, settings)
    exporter.submit(of_size(100))
    await recorder.entered.wait()
    for size in (400, 400, 400, 3000, 900):
        exporter.submit(of_size(size))
    recorder.open.set()
    await exporter.shutdown(5)
    assert [len(batch) for batch in recorder.batches] == [1, 2, 1, 1]
    assert exporter.dropped == {"queue_full": 1}


def of_size(size: int) -> bytes:
    """An encoded span of so many bytes."""
    bare = len(encode(Span(trace_id=TRACE_ID, span_id=SPAN_ID, name="", start=1, end=2)))
    for length in range(size - bare - 5, size - bare):
        made = encode(Span(trace_id=TRACE_ID, span_id=SPAN_ID, name="x" * length, start=1, end=2))
        if len(made) == size:
            return made
    raise AssertionError(size)


async def test_every_span_is_accounted_for() -> None:
    """submitted = exported + dropped, whatever the receiver did."""
    flaky = Recorder()
    observer = observing(flaky, max_queue_size=8, max_export_batch_size=4)
    for i in range(500):
        flaky.result = FAILED if i % 3 else OK
        observer.observe(chat())
    await observer.shutdown(10)
    (exporter,) = observer.exporters
    assert exporter.tally["made"] == 500 == exporter.tally["exported"] + exporter.dropped.total()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "5s"),
    ],
)
def test_a_queue_variable_that_is_no_number_is_named(variable: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{variable} is '{value}'; write a whole number above 0"):
        QueueSettings.from_env({variable: value})


def test_queue_variables_are_honoured() -> None:
    environ = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        "OTEL_BSP_SCHEDULE_DELAY": "250",
    }
    settings = QueueSettings.from_env(environ)
    assert (settings.max_queue_size, settings.max_export_batch_size, settings.schedule_delay) == (
        100,
        100,
        0.25,
    )
    with pytest.raises(ValueError, match="a batch could never fill"):
        QueueSettings.from_env(environ | {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "101"})


def test_exporting_loads_neither_the_sdk_nor_protobuf_nor_grpc() -> None:
    """They take 60 MB and a second, and are not needed for spans and metrics over HTTP."""
    program = (
        "import asyncio, json, sys\n"
        "from driftline.metrics import Metrics\n"
        "from driftline.tracing.content import CaptureSettings\n"
        "from driftline.tracing.observer import TraceObserver\n"
        "environ = {'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:9', 'OTEL_EXPORTER_OTLP_COMPRESSION': 'gzip'}\n"
        "async def main():\n"
        "    spans = TraceObserver.start([], CaptureSettings(), environ)\n"
        "    Metrics(relay=None, exports={}, faults={}, resource={}, environ=environ, started=0.0)\n"
        "    assert spans.exporters\n"
        "asyncio.run(main())\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert loaded & {"google", "grpc", "opentelemetry", "requests"} == set()


async def test_what_a_killed_observer_had_not_sent_is_counted_by_its_successor() -> None:
    """The counts outlive the process; a batch that the backend had not confirmed counts as lost."""
    block, file = Block.create()
    with file:
        confirmed, stuck = Recorder(), Recorder()
        first = Exporter("e", confirmed, ENVELOPE, QueueSettings(schedule_delay=0.01), tally=block.tally(0))
        first.submit(encode(span(chat())))
        await until(lambda: block.tally(0)["exported"] == 1)
        confirmed.open.clear()
        for _ in range(3):
            first.submit(encode(span(chat())))
        second = Exporter(
            "e", stuck, ENVELOPE, QueueSettings(schedule_delay=0.01), tally=Block(file.fileno()).tally(0)
        )
        assert (second.tally["made"], second.tally["exported"], second.dropped) == (
            4,
            1,
            {"observer_lost": 3},
        )
        second.submit(encode(span(chat())))
        await second.shutdown(5)
        assert second.tally["made"] == 5 == second.tally["exported"] + second.dropped.total()
    # What this process still holds, as a killed one does not, is let go uncounted.
    first.tally = Tally()
    confirmed.open.set()
