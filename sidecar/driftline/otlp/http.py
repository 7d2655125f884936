"""OTLP over HTTP, by aiohttp: the admin port has it loaded already, and it waits without a thread.

OpenTelemetry's exporter takes the SDK's spans; its client for bytes is not public.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
import zlib
from email.utils import parsedate_to_datetime

import aiohttp

from driftline.otlp.environment import Connection
from driftline.otlp.sender import Outcome, accepted
from driftline.otlp.wire import fields

_RETRYABLE = frozenset({429, 502, 503, 504})
_WINDOW_BITS = {"gzip": 31, "deflate": 15}
_RESPONSE_BYTES = 64 * 1024
"""What is read of a response."""
_REASON = 200
"""Characters shown of what a receiver says."""


class HttpSender:
    def __init__(self, url: str, headers: dict[str, str], connection: Connection) -> None:
        self._url = url
        self._connection = connection
        self._headers = headers | {"content-type": "application/x-protobuf"}
        if connection.compression != "none":
            self._headers["content-encoding"] = connection.compression
        self._tls = _tls(connection)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: bytes, within: float) -> Outcome:
        if (bits := _WINDOW_BITS.get(self._connection.compression)) is not None:
            # In a thread: some ten milliseconds for a full batch, without the interpreter's lock.
            request = await asyncio.to_thread(zlib.compress, request, wbits=bits)
        try:
            async with asyncio.timeout(within):
                try:
                    return await self._post(request)
                except aiohttp.ClientConnectorError:
                    raise
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    # A kept connection that the receiver has closed meanwhile; nothing is wrong with it.
                    return await self._post(request)
        except TimeoutError:
            return Outcome(delivered=False, retryable=True, reason=f"no answer within {within:.1f} s")
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            if type(error) is aiohttp.ClientResponseError:  # no header could be read
                reason = "what answers there speaks no HTTP; a port for gRPC wants protocol grpc"
            return Outcome(delivered=False, retryable=True, reason=reason)

    async def _post(self, request: bytes) -> Outcome:
        if self._session is None:
            # Proxies as the environment says; no cookies of a receiver's load balancer are wanted.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,
                timeout=aiohttp.ClientTimeout(total=None),
            )
        async with self._session.post(
            self._url, data=request, headers=self._headers, allow_redirects=False
        ) as response:
            content = await response.content.read(_RESPONSE_BYTES)
            if response.status // 100 == 2:
                return accepted(content)
            return Outcome(
                delivered=False,
                retryable=response.status in _RETRYABLE,
                reason=f"{response.status} {_said(response.content_type, content) or response.reason}",
                after=retry_after(response.headers.get("retry-after"), time.time()),
            )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _tls(connection: Connection) -> ssl.SSLContext | bool:
    """Raises `ValueError` naming the files that make no context."""
    if not connection.certificate and not connection.client_certificate:
        return True
    try:
        context = ssl.create_default_context(cafile=connection.certificate or None)
        if connection.client_certificate:
            context.load_cert_chain(connection.client_certificate, connection.client_key or None)
    except ssl.SSLError as error:
        files = [connection.certificate, connection.client_certificate, connection.client_key]
        raise ValueError(f"{', '.join(filter(None, files))}: no certificates for TLS: {error}") from None
    return context


def _said(content_type: str, content: bytes) -> str:
    """The message of a `google.rpc.Status`, which is what OTLP receivers answer an error with, or the text."""
    text = content
    if content_type == "application/x-protobuf":
        try:
            text = next((v for field, v in fields(content) if field == 2 and isinstance(v, bytes)), b"")
        except ValueError:
            text = b""
    return " ".join(text.decode("utf-8", "replace").split())[:_REASON]


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds, of a `Retry-After` field: a number of them or a date (RFC 9110, 10.2.3).

    >>> retry_after("120", 0.0), retry_after("Thu, 01 Jan 1970 00:00:30 GMT", 10.0), retry_after("soon", 0.0)
    (120.0, 20.0, None)
    """
    if value is None:
        return None
    try:
        seconds = (
            float(value) if value.strip().isdecimal() else parsedate_to_datetime(value).timestamp() - now
        )
    except (ValueError, TypeError, OverflowError):  # the last: a year that is no year
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
