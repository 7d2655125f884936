"""Failures of other gateways that show only in the whole sidecar: its processes, a load, two backends.

tests/relay/test_failures.py has the list of all of them. For most of these one load is put through once and looked
at from every side: whole streams, streams that are left, streams of an application that traces itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from driftline.simulate.replies import Behaviour
from driftline.simulate.upstream import SimulatedUpstream
from tests.processes import DEADLINE, before, pid_of
from tests.running import balanced, until
from tests.stack.components.http import get_json
from tests.stack.components.sidecar import Sidecar
from tests.stack.components.spans import ReceivedSpan, decode
from tests.tracing.receivers import Received, http_receiver

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
PRICED, UNPRICED = "priced-8b", "unpriced-8b"
PRICES = [{"model": PRICED, "input": 2.0, "cached_input": 0.5, "output": 6.0}]
WHOLE, LEFT, LONG, UNTOUCHED, APPLICATION, WITHOUT_PRICE = 30, 20, 6, 10, 10, 5
REJECTS = 3
"""Spans of each batch that the second backend refuses, in an answer of 200."""


class AnyModel(SimulatedUpstream):
    """Serves whatever model is asked for: the price is for the name asked, whoever answers."""

    def _check_model(self, model: str) -> None:
        pass


@dataclass
class Load:
    """What could be seen from outside once all of it had ended."""

    asked: dict[str, list[str]] = field(default_factory=dict)
    """Trace ids by kind of request."""
    used: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Tokens in and out that the application itself was told, by trace id."""
    backend: list[ReceivedSpan] = field(default_factory=list)
    picky: list[ReceivedSpan] = field(default_factory=list)
    """What is in the backend that rejects some spans of every batch."""
    rejected: int = 0
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the console's API says, by trace id."""
    metrics: list[Sample] = field(default_factory=list)
    books: dict[str, Any] = field(default_factory=dict)
    log: str = ""

    def all(self, *kinds: str) -> list[str]:
        return [trace_id for kind in kinds for trace_id in self.asked[kind]]

    def spans(self, *kinds: str) -> list[ReceivedSpan]:
        """The sidecar's own, of these kinds of requests."""
        wanted = set(self.all(*kinds))
        return [span for span in ours(self.backend) if span.trace_id in wanted]

    def samples(self, name: str, **labels: str) -> list[Sample]:
        return [s for s in self.metrics if s.name == name and labels.items() <= s.labels.items()]

    def metric(self, name: str, **labels: str) -> float:
        return sum(sample.value for sample in self.samples(name, **labels))


def spans_of(received: Received) -> list[ReceivedSpan]:
    return decode(ExportTraceServiceRequest(resource_spans=received.resource_spans))


def ours(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    return [span for span in spans if span.scope == "driftline"]


def usage(span: ReceivedSpan) -> tuple[int, int]:
    """Tokens in and out; 0 where the span says nothing."""
    asked, answered = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
    return span.attributes.get(asked, 0), span.attributes.get(answered, 0)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    return asyncio.run(_load(tmp_path_factory.mktemp("load")))


async def _load(directory: Path) -> Load:
    made = Load()
    async with (
        http_receiver() as backend,
        http_receiver() as picky,
        AnyModel(time_scale=2.0, seed=7, behaviour=Behaviour(refusal=0)).serving() as upstream,
    ):
        picky.rejects = REJECTS
        exporters = [{"preset": "otlp", "endpoint": at.url} for at in (backend, picky)]
        async with before(
            upstream,
            directory,
            configuration={"prices": PRICES, "exporters": exporters},
            environment={"OTEL_BSP_SCHEDULE_DELAY": "50"},
        ) as running:
            await _put_through(made, running, backend.url)
            await _look(made, running, backend, picky)
        made.backend, made.picky, made.rejected = spans_of(backend), spans_of(picky), picky.rejected
        made.log = running.process.log.read_text()
    return made


async def _put_through(made: Load, running: Sidecar, backend: str) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "application"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{backend}/v1/traces")))
    tracer = provider.get_tracer("application")
    # Four choices with ten log-probabilities each: events of some kB, and more of them than is kept of a body.
    large = {"max_tokens": 100, "n": 4, "logprobs": True, "top_logprobs": 10}
    async with aiohttp.ClientSession(running.url, connector=aiohttp.TCPConnector(limit=0)) as session:
        kinds = {
            "whole": [_whole(session, chat()) for _ in range(WHOLE)],
            "left": [_left(session, chat(), after=600) for _ in range(LEFT)],
            "long": [_left(session, chat(**large), after=300_000) for _ in range(LONG)],
            "untouched": [_left(session, chat(), after=0) for _ in range(UNTOUCHED)],
            "application": [_traced(session, tracer, made, chat()) for _ in range(APPLICATION)],
            "unpriced": [_whole(session, chat(UNPRICED)) for _ in range(WITHOUT_PRICE)],
        }
        ends = {kind: asyncio.gather(*asked) for kind, asked in kinds.items()}
        made.asked = {kind: await end for kind, end in ends.items()}
    await asyncio.to_thread(provider.shutdown)


_numbers = itertools.count()


def chat(model: str = PRICED, **changes: Any) -> dict[str, Any]:
    question = f"Question {next(_numbers)}: tell me about the sea, please."  # no two alike
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 40}
    return {**body, "stream": True, **changes}


async def _whole(session: aiohttp.ClientSession, body: dict[str, Any]) -> str:
    async with session.post("/v1/chat/completions", json=body) as response:
        assert (await response.text()).endswith("data: [DONE]\n\n")
        return response.headers["x-driftline-trace-id"]


async def _left(session: aiohttp.ClientSession, body: dict[str, Any], *, after: int) -> str:
    """The client goes away after so many bytes of the stream; at 0 like a generator that is never iterated."""
    response = await session.post("/v1/chat/completions", json=body)
    await response.content.readexactly(after)
    response.close()
    return response.headers["x-driftline-trace-id"]


async def _traced(session: aiohttp.ClientSession, tracer: Tracer, made: Load, body: dict[str, Any]) -> str:
    """An application with an instrumented client: a span of its own, with the usage that it was told."""
    with tracer.start_as_current_span(f"chat {PRICED}", kind=SpanKind.CLIENT) as span:
        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers)
        asked = body | {"stream_options": {"include_usage": True}}
        async with session.post("/v1/chat/completions", json=asked, headers=headers) as response:
            *_, last, done = (await response.text()).rstrip().split("\n\n")
        assert done == "data: [DONE]"
        told = json.loads(last.removeprefix("data: "))["usage"]
        span.set_attribute("gen_ai.usage.input_tokens", told["prompt_tokens"])
        span.set_attribute("gen_ai.usage.output_tokens", told["completion_tokens"])
        trace_id = response.headers["x-driftline-trace-id"]
        made.used[trace_id] = told["prompt_tokens"], told["completion_tokens"]
        return trace_id


async def _look(made: Load, running: Sidecar, *backends: Received) -> None:
    """When the books are balanced and every span is where it goes, or will never get there."""
    requests = len(made.all(*made.asked))

    def settled() -> bool:
        made.books = get_json(f"{running.admin}/healthz")["requests"]
        closed = made.books["started"] == made.books["observed"] + sum(made.books["dropped"].values())
        return closed and not made.books["active"]

    def delivered() -> bool:
        return all(len(ours(spans_of(one))) + one.rejected >= requests for one in backends)

    await asyncio.to_thread(running.process.wait_until, settled, deadline=DEADLINE, what="at rest")
    with contextlib.suppress(AssertionError):  # the tests say what is missing
        await asyncio.to_thread(running.process.wait_until, delivered, deadline=5.0)
    families = text_string_to_metric_families(await asyncio.to_thread(running.metrics))
    made.metrics = [sample for family in families for sample in family.samples]
    calls = await asyncio.to_thread(running.api, "traces?limit=1000")
    made.calls = {call["trace_id"]: call for call in calls["traces"]}


# For 4 and 20: an upstream of large streams, and clients that are sockets.

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"data: " + b"x" * 65_528 + b"\n\n"
PIECE = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
END = b"0\r\n\r\n"
ASK = b"POST /v1/audio/speech HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\n\r\n"


class LargeStreams:
    """Answers every POST with `pieces` times 64 KiB of events, and then with the end, or never."""

    def __init__(self, pieces: int, *, end: bool = True) -> None:
        self.whole = self.left = 0
        """Streams that were sent to their end; that the other side closed before."""
        self._pieces = pieces
        self._end = end

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"POST "):
                    await self._stream(reader, writer)
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        try:
            for _ in range(self._pieces):
                writer.write(PIECE)
                await writer.drain()
            if not self._end:
                await reader.readexactly(1)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left += 1
            raise
        writer.write(END)
        self.whole += 1


async def test_4_streams_dropped_together_leave_it_ready(tmp_path):
    """30 clients leave in the middle of 5 MiB each: readiness goes on answering, every upstream is let go.

    A kubelet gives a probe one second, and takes a pod out after three in a row.
    """
    large = LargeStreams(pieces=80, end=False)
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        large.serving() as upstream,
        before(upstream, tmp_path) as running,
        aiohttp.ClientSession(running.url, connector=connector) as session,
    ):
        address = running.url.removeprefix("http://").split(":")
        clients = [await asyncio.open_connection(*address) for _ in range(30)]
        for reader, writer in clients:
            writer.write(ASK)
            await reader.readexactly(100_000)
        for _, writer in clients:
            writer.transport.abort()
        answers = set()
        async with asyncio.timeout(DEADLINE):
            while large.left < len(clients):
                async with session.get("/-/ready", timeout=aiohttp.ClientTimeout(3.0)) as response:
                    answers.add(response.status)
        assert (answers, large.whole) == ({200}, 0)


def test_6_every_long_stream_whose_client_leaves_is_measured(load):
    """However the client went: a record in the books and a span, with what had been streamed by then."""
    kinds = ("left", "long", "untouched")
    spans = load.spans(*kinds)
    assert Counter(span.trace_id for span in spans) == dict.fromkeys(load.all(*kinds), 1)
    assert load.books["dropped"] == {}
    assert load.books["outcomes"]["client_closed"] == len(spans)
    assert {span.attributes["error.type"] for span in spans} == {"client_closed"}
    for span in load.spans("left"):
        assert span.attributes["gen_ai.usage.output_tokens"] > 0
        assert span.attributes["driftline.usage.partial"] is True
    # Of more than is kept of a body nobody can count the tokens, but everything else is known.
    for span in load.spans("long"):
        assert span.attributes["driftline.record.truncated"] is True
        assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0


def test_10_every_streamed_call_has_a_cost(load):
    """Whole or left, if its tokens could be counted: on the span, in the console, and in the sum of the metric."""
    kinds = ("whole", "left", "application")
    assert {span.trace_id for span in load.spans(*kinds)} == set(load.all(*kinds))
    for span in load.spans(*kinds):
        on_span = json.loads(span.attributes["langfuse.observation.cost_details"])["total"]
        assert on_span == span.attributes["llm.cost.total"] == load.calls[span.trace_id]["cost_usd"] > 0
    costs = [
        call["cost_usd"]
        for call in load.calls.values()
        if call["output_tokens"] is not None and call["model"] == PRICED
    ]
    assert len(costs) >= WHOLE + LEFT + APPLICATION
    assert load.metric("driftline_cost_usd_total") == pytest.approx(sum(costs), abs=1e-9)


def test_11_a_model_without_a_price_has_no_cost_anywhere(load):
    """Not 0, not a guess: absent on the span, in the metrics and in the console, and counted as unpriced."""
    spans = load.spans("unpriced")
    assert len(spans) == WITHOUT_PRICE
    assert [name for span in spans for name in span.attributes if "cost" in name] == []
    assert {load.calls[trace_id]["cost_usd"] for trace_id in load.asked["unpriced"]} == {None}
    assert {sample.labels["model"] for sample in load.samples("driftline_cost_usd_total")} == {PRICED}
    counted = load.samples("driftline_quality_total", signal="unpriced", model=UNPRICED)
    assert {sample.labels["outcome"]: sample.value for sample in counted} == {"true": WITHOUT_PRICE}


def test_14_each_request_is_one_span_and_no_span_is_an_orphan(load):
    """One span for a request; its parent is the application's span where there is one, and otherwise none."""
    asked = load.all(*load.asked)
    spans = load.spans(*load.asked)
    assert Counter(span.trace_id for span in ours(load.backend)) == dict.fromkeys(asked, 1)
    assert len({span.span_id for span in load.backend}) == len(load.backend)
    application = {span.trace_id: span.span_id for span in load.backend if span.scope == "application"}
    assert set(application) == set(load.asked["application"])
    assert {span.trace_id: span.parent_span_id for span in spans} == dict.fromkeys(asked, "") | application


def test_15_an_application_that_traces_itself_does_not_count_tokens_twice(load):
    """Its span and ours say the same of one call; ours hangs under its, so that a backend can add up one of them."""
    parents = {span.span_id: span for span in load.backend if span.scope == "application"}
    for span in load.spans("application"):
        parent = parents.pop(span.parent_span_id)
        assert usage(span) == usage(parent) == load.used[span.trace_id]
        services = [one.resource["service.name"] for one in (parent, span)]
        assert services == ["application", "driftline"]
    assert parents == {}
    used = [usage(span) for span in ours(load.backend)]
    for kind, total in zip(("input", "output"), map(sum, zip(*used, strict=True)), strict=True):
        assert load.metric("gen_ai_client_token_usage_sum", gen_ai_token_type=kind) == total


def test_16_the_span_of_an_abandoned_stream_ends(load):
    """Each has an end after its beginning, and nothing is said of a context that could not be detached."""
    left = load.spans("left", "long", "untouched")
    assert len(left) == LEFT + LONG + UNTOUCHED
    assert all(0 < span.start < span.end for span in left)
    assert [line for line in load.log.splitlines() if "detach" in line or "Traceback" in line] == []
    lines = [json.loads(line) for line in load.log.splitlines() if line.startswith("{")]
    said = [line["event"] for line in lines if line["level"] not in ("debug", "info")]
    assert [event for event in said if "rejected" not in event] == []  # by the backend of failure 18


def test_18_what_counts_as_exported_is_what_the_backends_have(load):
    """Spans that a backend refuses in an answer of success (OTLP's partial success) are counted as lost."""
    requests = len(load.all(*load.asked))
    assert len(ours(load.backend)) == requests
    assert len(ours(load.picky)) + load.rejected == requests
    lost = load.samples("driftline_telemetry_dropped_total", signal="traces")
    assert {sample.labels["reason"]: sample.value for sample in lost} == {"rejected": load.rejected}
    assert load.rejected >= REJECTS


@linux
async def test_20_memory_is_flat_under_streams(tmp_path):
    """1,600 streams of 200 kB after the first 400 add next to nothing to the relay once the observer has them all."""
    large = LargeStreams(pieces=3)
    async with large.serving() as upstream, before(upstream, tmp_path) as running:
        address = running.url.removeprefix("http://").split(":")
        relay = await pid_of(running, "relay")

        async def client(streams: int) -> None:
            reader, writer = await asyncio.open_connection(*address)
            for _ in range(streams):
                writer.write(ASK)
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(3 * len(PIECE) + len(END))
            writer.close()

        await asyncio.gather(*(client(50) for _ in range(8)))
        await balanced(running)
        warm = resident(relay)
        await asyncio.gather(*(client(200) for _ in range(8)))
        assert large.whole == 2_000
        await balanced(running)

        async def small():
            return resident(relay) - warm < 16 * 1024 * 1024

        await until(small, "the relay keeps memory of streams that are over")


def resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
