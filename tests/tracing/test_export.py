"""Spans arrive at real receivers, and a receiver in trouble costs nobody but itself."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from driftline.relay.counters import Block, Tally
from driftline.tracing.content import CaptureSettings
from driftline.otlp.environment import QueueSettings
from driftline.tracing.export import Exporter
from driftline.tracing.observer import TraceObserver
from driftline.tracing.presets import ExporterSettings
from tests.tracing.calls import PARENT_ID, RECEIVED_AT, SPAN_ID, TRACE_ID, chat, exchange
from tests.tracing.receivers import DEADLINE, Received, attributes, grpc_receiver, http_receiver, until
from tests.tracing.test_spans import span

QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "10"}


class Recorder:
    """A sender that keeps what it gets, once `open` is set."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.result = result
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.batches: list[list[str]] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.open.wait()
        self.batches.append([span.name for span in spans])
        return self.result

    def shutdown(self) -> None:
        self.open.set()


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
    assert attributes(list(one.attributes)) == dict(span(chat()).attributes or {})
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
        await asyncio.to_thread(observer.shutdown, 5)
        assert (observer.batches, observer.dropped.total()) == ({"success": 1}, 0)


async def test_a_span_arrives_whole_over_grpc() -> None:
    async with grpc_receiver() as received:
        settings = ExporterSettings(endpoint=received.url, protocol="grpc", headers={"x-tenant": "a"})
        observer = started(settings)
        observer.observe(chat())
        await until(lambda: bool(received.spans))
        check_arrived(received)
        assert received.headers[0]["x-tenant"] == "a"
        await asyncio.to_thread(observer.shutdown, 5)


async def test_the_standard_variables_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoint, headers and compression, as for any OpenTelemetry SDK."""
    async with http_receiver() as received:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-tenant=b",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        }
        for variable, value in environ.items():
            monkeypatch.setenv(variable, value)
        observer = started(**environ)
        observer.observe(chat())
        await until(lambda: bool(received.spans))
        check_arrived(received)
        assert (received.headers[0]["x-tenant"], received.headers[0]["content-encoding"]) == ("b", "gzip")
        await asyncio.to_thread(observer.shutdown, 5)


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
        await asyncio.to_thread(observer.shutdown, 5)


def test_calls_that_are_not_sampled_make_no_span() -> None:
    recorder = Recorder()
    observer = observing(recorder)
    observer.observe(chat(exchange=exchange(trace_flags=0)))
    observer.observe(chat(request_model="sampled", exchange=exchange(trace_flags=3)))
    observer.shutdown(5)
    assert recorder.batches == [["chat sampled"]]


def observing(*senders: Recorder, **queue: float) -> TraceObserver:
    observer = TraceObserver.start([], CaptureSettings(), {})
    settings = QueueSettings(**{"schedule_delay": 0.01} | queue)  # type: ignore[arg-type]
    observer.exporters = [Exporter(f"e{i}", sender, settings) for i, sender in enumerate(senders)]
    return observer


def test_a_backend_that_hangs_blocks_nobody_and_its_losses_are_counted() -> None:
    hung, well = Recorder(), Recorder()
    hung.open.clear()
    observer = observing(hung, well, max_queue_size=10, max_export_batch_size=10)
    observer.observe(chat())
    assert hung.entered.wait(20)
    for _ in range(25):
        observer.observe(chat())
        eventually(lambda: observer.exporters[1].tally["exported"] == observer.exporters[1].tally["made"])

    assert observer.exporters[0].dropped == {"queue_full": 15}
    assert observer.exporters[1].dropped == {}
    observer.shutdown(0.05)
    assert observer.exporters[0].dropped == {"queue_full": 15, "shutdown": 11}
    assert observer.exporters[1].tally["exported"] == 26


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


async def test_of_two_backends_one_may_be_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    async with http_receiver() as received:
        observer = started(
            ExporterSettings(endpoint=dead_endpoint()),
            ExporterSettings(endpoint=dead_endpoint(), protocol="grpc"),
            ExporterSettings(endpoint=received.url),
        )
        for _ in range(20):
            observer.observe(chat())
        await until(lambda: len(received.spans) == 20)
        await until(lambda: all(e.dropped["failed"] == 20 for e in observer.exporters[:2]))
        await asyncio.to_thread(observer.shutdown, 5)
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
        await asyncio.to_thread(observer.shutdown, 5)


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
        await asyncio.to_thread(observer.shutdown, 5)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("driftline")]
    assert ours == [
        "exporter otlp does not deliver: its spans are dropped until it does",
        "exporter otlp delivers again; 3 spans were lost",
    ]
    assert len([r for r in caplog.records if "Failed to export" in str(r.msg)]) <= 1


def test_an_exporter_that_raises_is_a_failure_not_an_end(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Recorder):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            if not self.batches:
                self.batches.append([])
                raise RuntimeError("boom")
            return super().export(spans)

    broken = Broken()
    observer = observing(broken)
    observer.observe(chat())
    eventually(lambda: observer.dropped["failed"] == 1)
    observer.observe(chat())
    observer.shutdown(5)
    assert broken.batches == [[], ["chat llama"]]
    assert "boom" in caplog.text


def test_shutdown_flushes_everything_in_batches() -> None:
    recorder = Recorder()
    observer = observing(recorder, schedule_delay=60, max_export_batch_size=100, max_queue_size=1000)
    for _ in range(50):
        observer.observe(chat())
    observer.shutdown(10)
    assert [len(batch) for batch in recorder.batches] == [50]
    observer.observe(chat())
    assert observer.dropped == {"shutdown": 1}


def test_a_full_batch_does_not_wait_for_the_schedule() -> None:
    recorder = Recorder()
    observer = observing(recorder, schedule_delay=3600, max_export_batch_size=5)
    for _ in range(5):
        observer.observe(chat())
    eventually(lambda: recorder.batches == [["chat llama"] * 5])
    observer.shutdown(5)


def test_batches_and_queue_are_bounded_in_bytes() -> None:
    recorder = Recorder()
    recorder.open.clear()
    settings = QueueSettings(schedule_delay=0.01, max_batch_bytes=1000, max_queue_bytes=5000)
    exporter = Exporter("e", recorder, settings)
    one = span(chat())
    exporter.submit(one, 10)
    assert recorder.entered.wait(20)
    for size in (400, 400, 400, 3000, 900):
        exporter.submit(one, size)
    recorder.open.set()
    exporter.shutdown(5)
    assert [len(batch) for batch in recorder.batches] == [1, 2, 1, 1]
    assert exporter.dropped == {"queue_full": 1}


def test_every_span_is_accounted_for() -> None:
    """submitted = exported + dropped, whatever the receiver did."""
    flaky = Recorder()
    observer = observing(flaky, max_queue_size=8, max_export_batch_size=4)
    for i in range(500):
        flaky.result = SpanExportResult.FAILURE if i % 3 else SpanExportResult.SUCCESS
        observer.observe(chat())
    observer.shutdown(10)
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


def test_grpc_is_imported_only_where_it_is_configured() -> None:
    program = (
        "import sys\n"
        "from driftline.tracing.observer import TraceObserver\n"
        "from driftline.tracing.content import CaptureSettings\n"
        "from driftline.tracing.presets import ExporterSettings\n"
        "TraceObserver.start([ExporterSettings(endpoint='http://127.0.0.1:9')], CaptureSettings(), {})\n"
        "print('grpc' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_a_killed_observer_had_not_sent_is_counted_by_its_successor() -> None:
    """The counts outlive the process; a batch that the backend had not confirmed counts as lost."""
    block, file = Block.create()
    with file:
        confirmed, stuck = Recorder(), Recorder()
        first = Exporter("e", confirmed, QueueSettings(schedule_delay=0.01), block.tally(0))
        first.submit(span(chat()), 10)
        eventually(lambda: block.tally(0)["exported"] == 1)
        confirmed.open.clear()
        for _ in range(3):
            first.submit(span(chat()), 10)
        second = Exporter("e", stuck, QueueSettings(schedule_delay=0.01), Block(file.fileno()).tally(0))
        assert (second.tally["made"], second.tally["exported"], second.dropped) == (
            4,
            1,
            {"observer_lost": 3},
        )
        second.submit(span(chat()), 10)
        second.shutdown(5)
        assert second.tally["made"] == 5 == second.tally["exported"] + second.dropped.total()
    # What this process still holds, as a killed one does not, is let go uncounted.
    first.tally = Tally()
    confirmed.open.set()
