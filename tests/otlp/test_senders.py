"""What a receiver answers decides what becomes of a batch: OTLP's rules, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
import trustme
from aiohttp import web
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from driftline.otlp.environment import Connection
from driftline.otlp.grpc import GrpcSender
from driftline.otlp.http import HttpSender, retry_after
from driftline.otlp.sender import Outcome, deliver
from tests.otlp.test_wire import PARTIAL

WITHIN = 20.0


@dataclass
class Receiver:
    """Answers with the first of `answers`, and with 200 once there are none left."""

    answers: list[web.Response] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    encodings: list[str] = field(default_factory=list)
    hang: asyncio.Event | None = None
    url: str = ""

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        self.encodings.append(request.headers.get("content-encoding", ""))
        self.bodies.append(await request.read())
        if self.hang is not None:
            await self.hang.wait()
        return self.answers.pop(0) if self.answers else web.Response(content_type="application/x-protobuf")


@asynccontextmanager
async def receiver(*answers: web.Response, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    one = Receiver(list(answers))
    runner = web.ServerRunner(web.Server(one), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    host, port = runner.addresses[0][:2]
    one.url = f"{'https' if tls else 'http'}://{host}:{port}/v1/traces"
    try:
        yield one
    finally:
        if one.hang is not None:
            one.hang.set()
        await runner.cleanup()


@asynccontextmanager
async def sending_to(one: Receiver, **connection: str) -> AsyncIterator[HttpSender]:
    sender = HttpSender(one.url, {"x-tenant": "a"}, Connection(**connection))  # type: ignore[arg-type]
    try:
        yield sender
    finally:
        await sender.close()


def busy(status: int, seconds: str | None = "0") -> web.Response:
    return web.Response(status=status, headers={"Retry-After": seconds} if seconds else {})


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_receiver_that_is_busy_is_asked_again_when_it_says_and_gets_the_same(status: int) -> None:
    async with receiver(busy(status), busy(status)) as one, sending_to(one) as sender:
        assert await deliver(sender, b"batch", WITHIN) == Outcome(delivered=True)
    assert one.bodies == [b"batch"] * 3


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500])
async def test_a_batch_that_is_refused_is_not_sent_again(status: int) -> None:
    async with receiver(busy(status)) as one, sending_to(one) as sender:
        outcome = await deliver(sender, b"batch", WITHIN)
    assert (outcome.delivered, outcome.retryable, outcome.reason[:3]) == (False, False, str(status))
    assert len(one.bodies) == 1


async def test_what_the_receiver_says_of_a_refusal_is_kept() -> None:
    """A `google.rpc.Status`, as the specification has it, or what a proxy in between writes."""
    said = Status(code=3, message="span 7: no trace id").SerializeToString()
    protobuf = web.Response(status=400, body=said, content_type="application/x-protobuf")
    plain = web.Response(status=413, text="too\nlarge")
    async with receiver(protobuf, plain) as one, sending_to(one) as sender:
        reasons = [(await sender.send(b"", WITHIN)).reason for _ in range(2)]
    assert reasons == ["400 span 7: no trace id", "413 too large"]


async def test_a_receiver_that_wants_to_be_left_alone_for_longer_than_there_is_time_is_not_waited_for() -> (
    None
):
    async with receiver(busy(503, "3600")) as one, sending_to(one) as sender:
        outcome = await deliver(sender, b"batch", WITHIN)
    assert (outcome.delivered, outcome.after, len(one.bodies)) == (False, 3600.0, 1)


async def test_spans_that_a_receiver_rejects_are_known() -> None:
    answer = web.Response(body=PARTIAL, content_type="application/x-protobuf")
    async with receiver(answer) as one, sending_to(one) as sender:
        assert await deliver(sender, b"", WITHIN) == Outcome(delivered=True, rejected=300, reason="too old")


async def test_no_answer_is_an_end_too() -> None:
    async with receiver() as one, sending_to(one) as sender:
        one.hang = asyncio.Event()
        outcome = await deliver(sender, b"batch", 0.05)
    assert (outcome.delivered, outcome.retryable) == (False, True)


@pytest.mark.parametrize(
    ("compression", "unpack"), [("none", bytes), ("gzip", gzip.decompress), ("deflate", zlib.decompress)]
)
async def test_a_batch_is_compressed_as_asked(compression: str, unpack: type[bytes]) -> None:
    async with receiver() as one, sending_to(one, compression=compression) as sender:
        await sender.send(b"batch" * 100, WITHIN)
        # aiohttp has undone it by now; that it could is the point.
        assert one.bodies == [b"batch" * 100]
    assert one.encodings == ["" if compression == "none" else compression]


async def test_a_connection_that_the_receiver_closed_meanwhile_costs_nothing() -> None:
    """It closes those that are idle; the next batch must not count as lost for it."""
    served = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, promising to keep the connection, and end it with the next."""
        nonlocal served
        await reader.readuntil(b"batch")
        served += 1
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await reader.read(1)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        sender = HttpSender(f"http://{host}:{port}/", {}, Connection())
        outcomes = [await sender.send(b"batch", WITHIN) for _ in range(3)]
        await sender.close()
    assert outcomes == [Outcome(delivered=True)] * 3
    assert served == 3


async def test_a_receiver_is_trusted_by_the_authorities_of_a_file_and_gets_the_clients_certificate(
    tmp_path: Path,
) -> None:
    """And where neither is given there is no delivery, but a reason."""
    authority = trustme.CA()
    authorities, client = tmp_path / "ca.pem", tmp_path / "client.pem"
    authority.cert_pem.write_to_path(str(authorities))
    authority.issue_cert("driftline").private_key_and_cert_chain_pem.write_to_path(str(client))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authorities))
    server.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1").configure_cert(server)
    files = {"certificate": str(authorities), "client_certificate": str(client)}
    async with receiver(tls=server) as one:
        async with sending_to(one, **files) as sender:
            assert await sender.send(b"batch", WITHIN) == Outcome(delivered=True)
        async with sending_to(one) as sender:
            outcome = await sender.send(b"batch", WITHIN)
    assert (outcome.delivered, "CERTIFICATE_VERIFY_FAILED" in outcome.reason) == (False, True)
    assert one.bodies == [b"batch"]


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("hello")
    with pytest.raises(ValueError, match=f"^{file}: no certificates for TLS"):
        HttpSender("https://c:4318", {}, Connection(certificate=str(file)))


class _Export(grpc.GenericRpcHandler):
    """Aborts with each of `failures` in turn, then answers `PARTIAL`."""

    def __init__(self, failures: list[tuple[grpc.StatusCode, Status | None]]) -> None:
        self.failures = failures
        self.requests: list[bytes] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        assert details.method == "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
        return grpc.unary_unary_rpc_method_handler(self._export)

    def _export(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.requests.append(request)
        if self.failures:
            code, status = self.failures.pop(0)
            if status is not None:
                context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(code, "not now")
        return PARTIAL


@contextmanager
def grpc_receiver(*failures: tuple[grpc.StatusCode, Status | None]) -> Iterator[tuple[_Export, str]]:
    handler = _Export(list(failures))
    server = grpc.server(ThreadPoolExecutor(max_workers=2), handlers=[handler])
    url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield handler, url
    finally:
        server.stop(None).wait()


def come_back_after(seconds: float) -> Status:
    delay = Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    info = Any()
    info.Pack(RetryInfo(retry_delay=delay))
    return Status(code=8, message="not now", details=[info])


async def test_http_spoken_to_a_port_for_grpc_says_so() -> None:
    """The commonest mistake: 4317 without `OTEL_EXPORTER_OTLP_PROTOCOL`."""
    with grpc_receiver() as (_, url):
        sender = HttpSender(f"{url}/v1/traces", {}, Connection())
        outcome = await sender.send(b"batch", WITHIN)
        await sender.close()
    assert outcome.reason == "what answers there speaks no HTTP; a port for gRPC wants protocol grpc"


async def sent_by_grpc(url: str, within: float = WITHIN) -> Outcome:
    sender = GrpcSender("TRACES", url, {"X-Tenant": "a"}, Connection(compression="gzip"))
    try:
        return await deliver(sender, b"batch", within)
    finally:
        await sender.close()


async def test_over_grpc_a_receiver_is_asked_again_when_it_says() -> None:
    exhausted = (grpc.StatusCode.RESOURCE_EXHAUSTED, come_back_after(0.01))
    with grpc_receiver(exhausted, exhausted) as (handler, url):
        assert await sent_by_grpc(url) == Outcome(delivered=True, rejected=300, reason="too old")
    assert handler.requests == [b"batch"] * 3


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, False),
        (grpc.StatusCode.UNAUTHENTICATED, False),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, False),
        (grpc.StatusCode.UNAVAILABLE, True),
        (grpc.StatusCode.ABORTED, True),
    ],
)
async def test_over_grpc_the_code_says_whether_it_is_worth_another_try(
    code: grpc.StatusCode, retryable: bool
) -> None:
    """Exhausted resources only where the receiver says when to come back."""
    with grpc_receiver((code, None)) as (handler, url):
        outcome = await sent_by_grpc(url, within=0.5)
    assert (outcome.delivered, outcome.retryable, outcome.reason) == (
        False,
        retryable,
        f"{code.name} not now",
    )
    assert len(handler.requests) == 1


def test_a_time_to_wait_that_means_nothing_is_no_time():
    for value in ("soon", "9" * 400, "Thu, 01 Jan 99999999999 00:00:00 GMT", "Thu, 99 Jan 2026 00:00:00 GMT"):
        assert retry_after(value, 0.0) is None
