"""Endpoints, their idle connections and their health; who serves the next request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from driftline import attribution, descriptors
from driftline.relay import settings
from driftline.relay.routing import Balancer, Member
from driftline.relay.transaction import Refusal
from driftline.relay.upstream import UpstreamConnection

if TYPE_CHECKING:
    from driftline.relay.request import Request
    from driftline.relay.server import Relay
    from driftline.relay.transaction import Transaction

_log = logging.getLogger(__name__)
IDLE_SECONDS = 4.0
"""vLLM's uvicorn closes idle connections after 5 s; a longer pool gives sporadic 502s (vllm#18472)."""
_IDLE_MOST = 1024
PROBE_SECONDS = 1.0
"""Between two looks at an endpoint's health."""
_UNSEEN = "not looked at yet"
_VARIANT = b"x-driftline-variant"
_WHO = frozenset({b"baggage", *(name.encode() for name in attribution.HEADERS)})
P = TypeVar("P", bound=asyncio.BaseProtocol)


class Endpoint:
    """One upstream server."""

    def __init__(self, configured: settings.Endpoint, relay: Relay) -> None:
        self.address = configured.address
        self.authority = configured.authority.encode()
        self.outstanding = 0
        """Requests in flight."""
        self.healthy = False
        """Its last health check was answered below 500, and no connection has failed since."""
        self.problem = _UNSEEN
        self._configured = configured
        self._relay = relay
        self._idle: deque[UpstreamConnection] = deque()
        self._closed = False
        self.tls: ssl.SSLContext | None = None
        """Of connections made from now on."""

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
        """A new connection; raises `OSError`, `TimeoutError`, or `UnicodeError` for a name that cannot be one."""
        async with asyncio.timeout(self._relay.settings.timeouts.connect or None):
            _, connection = await self._open(lambda: UpstreamConnection(self))
        return connection

    async def _open(self, protocol: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        loop, to = asyncio.get_running_loop(), self._configured
        if to.socket_path:
            return await loop.create_unix_connection(protocol, to.socket_path)
        name = (to.tls.server_name or to.host) if self.tls else None
        return await loop.create_connection(protocol, to.host, to.port, ssl=self.tls, server_hostname=name)

    def keep(self, connection: UpstreamConnection) -> None:
        if self._closed:
            connection.transport.abort()
            return
        connection.idle_since = monotonic()
        self._idle.append(connection)
        if len(self._idle) > _IDLE_MOST:
            self._idle.popleft().transport.abort()

    def retire(self, connection: UpstreamConnection) -> None:
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        connection.transport.abort()

    def close(self) -> None:
        """Keep no connection from now on; those in use end with their requests."""
        self._closed = True
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
        except TimeoutError:
            self.found("/health did not answer in time")
        except (OSError, UnicodeError) as error:
            if not descriptors.ours(error):
                self.found(_explained(error))
        except (ValueError, IndexError):
            self.found("/health was not answered in HTTP")
        else:
            self.found("" if status < 500 else f"/health answered {status}")

    async def _health_status(self) -> int:
        reader = asyncio.StreamReader()
        transport, _ = await self._open(lambda: asyncio.StreamReaderProtocol(reader))
        try:
            transport.write(b"GET /health HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % self.authority)
            line = await reader.readline()
            return int(line.split()[1])
        finally:
            transport.close()

    def found(self, problem: str) -> None:
        """Note what is wrong with it; empty: nothing."""
        if not problem and not self.healthy:
            _log.info("upstream %s is up", self.address)
        elif problem and (self.healthy or self.problem == _UNSEEN):
            _log.warning("upstream %s is down: %s; requests are tried all the same", self.address, problem)
        self.healthy, self.problem = not problem, problem


def _explained(error: OSError | UnicodeError) -> str:
    """Why there is no connection, without numbers of errors and lines of OpenSSL's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS handshake failed: {error.reason.lower().replace('_', ' ')}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class Pool:
    """Endpoints that serve the same thing under one name."""

    def __init__(self, name: str, relay: Relay) -> None:
        self.name = name
        self._relay = relay
        self._settings: settings.Pool
        self._balancer: Balancer[Endpoint]

    def configure(self, configured: settings.Pool, endpoints: list[Endpoint]) -> None:
        """Serve from `endpoints`, those of `configured` in their order, from now on."""
        self._settings = configured
        places = zip(endpoints, configured.endpoints, strict=True)
        self._balancer = Balancer(
            self.name, [Member(endpoint, place.weight, place.variant) for endpoint, place in places]
        )

    def objection(self, request: Request) -> str:
        """Why `request` cannot be served here; empty where it can."""
        forced, known = self._forced(request), self._balancer.variants
        if not forced or forced in known:
            return ""
        named = ", ".join(filter(None, known)) or "none"
        return f"pool {self.name!r} has no variant {forced!r}; its variants: {named}"

    def _forced(self, request: Request) -> str:
        """The variant that a request asks for, where it may."""
        if not self._settings.force_variant:
            return ""
        return request.headers.get(_VARIANT, b"").strip().decode("utf-8", "replace")

    def _candidates(self, request: Request) -> Iterator[tuple[str, Endpoint]]:
        """Variants and endpoints to ask, best first."""
        balancer, forced = self._balancer, self._forced(request)
        if forced and forced in balancer.variants:
            return balancer.candidates(b"", forced)
        if not balancer.splits:
            return balancer.candidates(b"")
        named = attribution.attribution(request.headers.recorded(_WHO))
        session = next((named[source] for source in self._settings.sticky if source in named), "")
        return balancer.candidates(session.encode() or random.randbytes(16))

    def serve(self, transaction: Transaction) -> None:
        """Give `transaction` a connection: now, if one is idle, or as soon as one is made."""
        candidates = self._candidates(transaction.request)
        variant, endpoint = first = next(candidates)
        _assign(transaction, variant, endpoint)
        connection = endpoint.take()
        if connection is not None:
            transaction.attach(connection, endpoint)
        else:
            self._relay.spawn(self._connect(transaction, chain([first], candidates)))

    async def _connect(self, transaction: Transaction, candidates: Iterator[tuple[str, Endpoint]]) -> None:
        """Connect, trying other endpoints where one refuses: nothing has been sent yet, so nothing can be lost."""
        problems: list[str] = []
        timed_out = False
        for variant, endpoint in candidates:
            if transaction.done:
                return
            _assign(transaction, variant, endpoint)
            try:
                connection = endpoint.take() or await endpoint.connect()
            except TimeoutError:
                timed_out = True
                problem = "did not accept a connection in time"
            except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be looked up
                if descriptors.ours(error):
                    message = f"the sidecar cannot connect to {endpoint.address}: {error}"
                    transaction.refuse(Refusal(503, message, "sidecar_exhausted"))
                    return
                problem = _explained(error)
            else:
                if transaction.done:
                    endpoint.keep(connection)
                else:
                    transaction.attach(connection, endpoint)
                    transaction.client.resume_reading("upload")
                return
            endpoint.found(problem)
            problems.append(f"{endpoint.address}: {problem}")
        if transaction.done:
            return
        message = "no upstream could be reached: " + "; ".join(problems)
        if timed_out:
            transaction.fail(504, "upstream_unreachable", message, code="upstream_timeout")
        else:
            transaction.fail(502, "upstream_unreachable", message, code="upstream_unreachable")


def _assign(transaction: Transaction, variant: str, endpoint: Endpoint) -> None:
    """Count `transaction` where it is about to be served."""
    if transaction.endpoint is not None:
        transaction.endpoint.outstanding -= 1
    transaction.endpoint = endpoint
    transaction.record.variant = variant
    endpoint.outstanding += 1
