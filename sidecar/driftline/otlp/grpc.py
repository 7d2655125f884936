"""OTLP over gRPC. Imported only where it is configured: grpcio takes tens of megabytes and a second."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from driftline.otlp.environment import Connection, Signal
from driftline.otlp.sender import Outcome, accepted
from driftline.otlp.wire import fields

_METHODS: dict[Signal, str] = {
    "TRACES": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "METRICS": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
_RETRYABLE = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}
"""`RESOURCE_EXHAUSTED` too, but only where the receiver says when to come back."""
_COMPRESSION = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"


class GrpcSender:
    def __init__(
        self, signal: Signal, endpoint: str, headers: dict[str, str], connection: Connection
    ) -> None:
        url = urlsplit(endpoint)
        target = url.netloc or endpoint
        insecure = url.scheme != "https" and (url.scheme == "http" or connection.insecure is True)
        self._channel = (
            grpc.insecure_channel(target)
            if insecure
            else grpc.secure_channel(target, _credentials(connection))
        )
        # Without serializers bytes go as they are.
        self._export = self._channel.unary_unary(_METHODS[signal])
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        self._compression = _COMPRESSION.get(connection.compression)

    async def send(self, request: bytes, within: float) -> Outcome:
        # In a thread: gRPC's own asyncio API does not go with every event loop.
        return await asyncio.to_thread(self._send, request, within)

    def _send(self, request: bytes, within: float) -> Outcome:
        try:
            response = self._export(
                request, timeout=within, metadata=self._metadata, compression=self._compression
            )
        except grpc.RpcError as error:
            return _failed(error)
        return accepted(response)

    async def close(self) -> None:
        self._channel.close()


def _credentials(connection: Connection) -> grpc.ChannelCredentials:
    def read(path: str) -> bytes | None:
        return Path(path).read_bytes() if path else None

    return grpc.ssl_channel_credentials(
        read(connection.certificate), read(connection.client_key), read(connection.client_certificate)
    )


def _failed(error: grpc.RpcError) -> Outcome:
    code = error.code()
    after = _retry_info(dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b""))
    return Outcome(
        delivered=False,
        retryable=code in _RETRYABLE or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and after is not None),
        reason=f"{code.name} {error.details() or ''}".strip(),
        after=after,
    )


def _retry_info(details: bytes) -> float | None:
    """The delay of a `google.rpc.RetryInfo` among the details of a `google.rpc.Status`, in seconds."""
    try:
        for field, detail in fields(details):
            packed = dict(fields(detail)) if field == 3 and isinstance(detail, bytes) else {}
            if packed.get(1) == _RETRY_INFO:
                delay = dict(fields(_bytes(dict(fields(_bytes(packed.get(2)))).get(1))))
                return float(delay.get(1, 0)) + float(delay.get(2, 0)) / 1e9
    except ValueError:
        pass
    return None


def _bytes(value: int | bytes | None) -> bytes:
    return value if isinstance(value, bytes) else b""
