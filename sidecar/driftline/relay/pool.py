"""Endpoints, their idle connections and their health; who serves the next request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from driftline.relay import settings
from driftline.relay.upstream import UpstreamConnection

if TYPE_CHECKING:
    from driftline.relay.server import Relay
    from driftline.relay.transaction import Transaction

_log = logging.getLogger(__name__)
IDLE_SECONDS = 4.0
"""vLLM's uvicorn closes idle connections after 5 s; a longer pool gives sporadic 502s (vllm#18472)."""
_IDLE_MOST = 1024
PROBE_SECONDS = 1.0
"""Between two looks at an endpoint's health."""


class Endpoint:
    """One upstream server."""

    def __init__(self, configured: settings.Endpoint, relay: Relay) -> None:
        self.address = configured.address
        self.authority = configured.authority.encode()
        self.variant = configured.variant
        self.outstanding = 0
        self.healthy = False
        """Its last health check was answered below 500."""
        self.problem = "not looked at yet"
        self._configured = configured
        self._relay = relay
        self._idle: deque[UpstreamConnection] = deque()
        self._tls = ssl.create_default_context() if configured.tls else None

    # Connections

    def take(self) -> UpstreamConnection | None:
        """The idle connection used last, if one is fresh."""
        oldest = monotonic() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since > oldest and connection.silent:
                return connection
            connection.transport.abort()
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection; raises `OSError` or `TimeoutError`."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._relay.settings.timeouts.connect or None):
            _, connection = await loop.create_connection(
                lambda: UpstreamConnection(self),
                self._configured.host,
                self._configured.port,
                ssl=self._tls,
            )
        return connection

    def keep(self, connection: UpstreamConnection) -> None:
        connection.idle_since = monotonic()
        self._idle.append(connection)
        if len(self._idle) > _IDLE_MOST:
            self._idle.popleft().transport.abort()

    def retire(self, connection: UpstreamConnection) -> None:
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        connection.transport.abort()

    def close(self) -> None:
        while self._idle:
            self._idle.popleft().transport.abort()

    def sweep(self) -> None:
        """Close connections that have been idle for too long."""
        oldest = monotonic() - IDLE_SECONDS
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.popleft().transport.abort()

    # Health

    async def probe(self) -> None:
        """`GET /health`: up is any answer below 500; 404 is up, for servers that have no such path."""
        try:
            async with asyncio.timeout(max(self._relay.settings.timeouts.connect, PROBE_SECONDS)):
                status = await self._health_status()
            healthy, problem = status < 500, f"/health answered {status}"
        except TimeoutError:
            healthy, problem = False, "/health did not answer in time"
        except (OSError, ValueError, IndexError) as error:
            healthy, problem = False, str(error) or type(error).__name__
        if healthy != self.healthy or (not healthy and self.problem == "not looked at yet"):
            if healthy:
                _log.info("upstream %s is up", self.address)
            else:
                _log.warning(
                    "upstream %s is down: %s; requests are tried all the same", self.address, problem
                )
        self.healthy, self.problem = healthy, "" if healthy else problem

    async def _health_status(self) -> int:
        reader, writer = await asyncio.open_connection(
            self._configured.host, self._configured.port, ssl=self._tls
        )
        try:
            writer.write(b"GET /health HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % self.authority)
            line = await reader.readline()
            return int(line.split()[1])
        finally:
            writer.close()


class Pool:
    """Endpoints that serve the same thing."""

    def __init__(self, configured: settings.Pool, relay: Relay) -> None:
        self.name = configured.name
        self.endpoints = [Endpoint(endpoint, relay) for endpoint in configured.endpoints]
        self._relay = relay

    @property
    def ready(self) -> bool:
        return any(endpoint.healthy for endpoint in self.endpoints)

    def problems(self) -> dict[str, str]:
        return {endpoint.address: endpoint.problem for endpoint in self.endpoints if endpoint.problem}

    def _next(self, tried: set[Endpoint]) -> Endpoint | None:
        """Of the healthy endpoints not tried yet the one with the fewest requests in flight; if none is healthy,
        of all: a health check may be wrong, a refused connection is not."""
        left = [endpoint for endpoint in self.endpoints if endpoint not in tried]
        return min(left, key=lambda endpoint: (not endpoint.healthy, endpoint.outstanding), default=None)

    def serve(self, transaction: Transaction) -> None:
        """Give `transaction` a connection: now, if one is idle, or as soon as one is made."""
        endpoint = self._next(set())
        assert endpoint is not None
        self._assign(transaction, endpoint)
        connection = endpoint.take()
        if connection is not None:
            transaction.attach(connection, endpoint)
        else:
            self._relay.spawn(self._connect(transaction, endpoint))

    @staticmethod
    def _assign(transaction: Transaction, endpoint: Endpoint) -> None:
        if transaction.endpoint is not None:
            transaction.endpoint.outstanding -= 1
        transaction.endpoint, transaction.record.variant = endpoint, endpoint.variant
        endpoint.outstanding += 1

    async def _connect(self, transaction: Transaction, endpoint: Endpoint | None) -> None:
        """Connect, trying other endpoints where one refuses: nothing has been sent yet, so nothing can be lost."""
        tried: set[Endpoint] = set()
        problems: list[str] = []
        timed_out = False
        while endpoint is not None and not transaction.done:
            self._assign(transaction, endpoint)
            tried.add(endpoint)
            try:
                connection = await endpoint.connect()
            except TimeoutError:
                timed_out = True
                problems.append(f"{endpoint.address} did not accept a connection in time")
            except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be looked up
                problems.append(f"{endpoint.address}: {getattr(error, 'strerror', None) or error}")
            else:
                if transaction.done:
                    endpoint.keep(connection)
                else:
                    transaction.attach(connection, endpoint)
                    transaction.client.resume_reading("upload")
                return
            endpoint = self._next(tried)
        if transaction.done:
            return
        message = "no upstream could be reached: " + "; ".join(problems)
        if timed_out:
            transaction.fail(504, "upstream_unreachable", message, code="upstream_timeout")
        else:
            transaction.fail(502, "upstream_unreachable", message, code="upstream_unreachable")
