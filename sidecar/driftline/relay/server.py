"""A relay process: sockets in, sockets out, records to the observer."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Coroutine
from time import monotonic_ns
from typing import Any, Protocol

from driftline import descriptors
from driftline.exchange import Exchange
from driftline.listeners import BACKLOG
from driftline.relay import headers, replies, strict
from driftline.relay.client import ClientConnection
from driftline.relay.counters import Row
from driftline.relay.listener_tls import server_context
from driftline.relay.pool import PROBE_SECONDS
from driftline.relay.router import Router
from driftline.relay.sampling import Sampler
from driftline.relay.settings import DataPlane
from driftline.relay.transaction import Refusal, Transaction

_log = logging.getLogger(__name__)
_SWEEP_SECONDS = 0.25
_ENOUGH = 8
"""File descriptors that have to be free before clients are accepted again."""
_QUEUE_SECONDS = 0.1
"""A draining relay accepts what already waits in its queue: closing would reset it."""
_IDLE_DRAIN_SECONDS = 5.0
"""A draining relay keeps idle connections this long, for a request that may be on its way."""
_HANDSHAKE_SECONDS = 30.0
"""For TLS, where the header timeout is off."""
_FIRST_LOOK_SECONDS = 1.0
"""Health checks may take this long before a new relay accepts: it would say that it is not ready."""


class Recorder(Protocol):
    """Takes the record of every exchange, without making anyone wait; `Channel` in production."""

    def send(self, exchange: Exchange) -> None: ...
    async def drain(self, deadline: float) -> None: ...


class Relay:
    """What the connections of one process share."""

    def __init__(self, settings: DataPlane, channel: Recorder, row: Row, *, probing: bool = True) -> None:
        self.settings = settings
        self.channel = channel
        self.row = row
        self.sampler = Sampler.from_env(settings.sampler)
        self.router = Router(self)
        self.router.reconfigure(settings)
        self.clients: set[ClientConnection] = set()
        self.arriving: dict[ClientConnection, int] = {}
        """In their TLS handshake, since when (monotonic nanoseconds)."""
        self.room = descriptors.room()
        """As many clients have a file descriptor for themselves and one for their upstream."""
        self._full = False
        self.draining = False
        self._replaced = False
        self._probing = probing
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket
        self._server: asyncio.Server
        self._paused = False
        """Nothing is accepted for want of file descriptors."""

    # Life

    async def start(self, listener: socket.socket) -> None:
        """Serve connections of `listener`, which is listening already. Raises `ValueError` for a bad certificate."""
        self._listener = listener
        # Before it is duplicated: whether it blocks is a property of the kernel's socket, shared with other relays.
        listener.setblocking(False)
        if self._probing:
            await asyncio.wait({self.spawn(self._look())}, timeout=_FIRST_LOOK_SECONDS)
        self._server = await self._accept(self.settings)
        self.spawn(self._sweep())
        if self._probing:
            self.spawn(self._probe())

    async def _accept(self, settings: DataPlane) -> asyncio.Server:
        """Take connections from the listener's queue, which is the kernel's and outlives whoever takes from it."""
        tls = settings.tls
        context = server_context(tls) if tls else None
        return await asyncio.get_running_loop().create_server(
            self._arrived,
            sock=self._listener.dup(),
            backlog=BACKLOG,
            ssl=context,
            ssl_handshake_timeout=(settings.timeouts.header or _HANDSHAKE_SECONDS) if tls else None,
            ssl_shutdown_timeout=_IDLE_DRAIN_SECONDS if tls else None,
        )

    async def _accept_while_possible(self) -> None:
        """Without a descriptor libuv closes what it has accepted, or asks for it without end; so let clients wait in
        the queue."""
        if not self._paused and not descriptors.left():
            self._paused = True
            self._server.close()
            _log.warning("no file descriptors are left: clients wait; raise the limit (ulimit -n)")
        elif self._paused and not self.draining and descriptors.left(_ENOUGH):
            try:
                self._server = await self._accept(self.settings)
            except (OSError, ValueError) as error:
                _log.error("clients cannot be accepted: %s; it is tried again", error)
            else:
                self._paused = False
                _log.info("clients are accepted again")

    def _arrived(self) -> ClientConnection:
        client = ClientConnection(self)
        if self.settings.tls:
            self.arriving[client] = monotonic_ns()
        return client

    async def reload(self, settings: DataPlane) -> None:
        """Serve by `settings` from now on; requests in flight keep those they began with.

        Certificates are read again. Raises `OSError` or `ValueError` where that cannot be; then all is as it was.
        """
        tls = self.settings.tls or settings.tls
        server = await self._accept(settings) if tls else self._server
        try:
            self.router.reconfigure(settings)
        except ValueError:
            if tls:
                server.close()
            raise
        if tls:
            self._server.close()
            self._server, self._paused = server, False
        self.settings = settings
        if self._probing:
            await asyncio.wait({self.spawn(self._look())}, timeout=_FIRST_LOOK_SECONDS)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run in the background; a failure is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background work failed", exc_info=error)

    async def _sweep(self) -> None:
        """Timeouts are looked at four times a second: cheaper than a timer per request."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.row.add("beat")
            now = monotonic_ns()
            for client in list(self.clients):
                client.check_timeouts(now)
            handshake = (self.settings.timeouts.header or _HANDSHAKE_SECONDS) * 1e9
            for client in [client for client, since in self.arriving.items() if now - since > handshake]:
                del self.arriving[client]
            if self._full and len(self.clients) <= self.room:
                self._full = False
                _log.info("there is room for clients again")
            self.router.sweep()
            await self._accept_while_possible()

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            await self._look()

    async def _look(self) -> None:
        await asyncio.gather(*(endpoint.probe() for endpoint in self.router.endpoints))
        self.row["ready"] = int(self.ready)

    @property
    def ready(self) -> bool:
        """Whether whoever asks may send requests to this port. With a successor in place that is so to the end."""
        return self.router.ready and (self._replaced or not self.draining)

    async def drain(self, *, replaced: bool = False) -> None:
        """Accept nothing new, let what runs end within the grace period, hand over the last records.

        `replaced`: another relay takes from the listener's queue already.
        """
        loop = asyncio.get_running_loop()
        begin, grace = loop.time(), self.settings.timeouts.drain
        self.draining, self._replaced = True, replaced
        self.row["ready"] = int(self.ready)
        if not replaced:
            await asyncio.sleep(_QUEUE_SECONDS)
        self._server.close()
        self._listener.close()
        while (self.clients or self.arriving) and loop.time() < begin + grace:
            if loop.time() >= begin + _IDLE_DRAIN_SECONDS:
                # Nobody says that a handshake has failed: a look at the port, such as a balancer's, would hold all up.
                self.arriving.clear()
                unused_since = monotonic_ns() - int(_IDLE_DRAIN_SECONDS * 1e9)
                for client in [one for one in self.clients if one.idle and one.read_at <= unused_since]:
                    client.leave()
            await asyncio.sleep(0.02)
        for client in list(self.clients):
            client.end_of_grace()
        await self.channel.drain(loop.time() + 2.0)
        await self.stop()

    async def stop(self) -> None:
        """End at once: connections are closed, background work is cancelled."""
        self._server.close()
        self._listener.close()
        for client in list(self.clients):
            client.end_of_grace()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.router.close()

    # Requests that are not the upstream's

    def refusal(self, transaction: Transaction) -> Refusal | None:
        """Why this request may not go to an upstream."""
        limits, request = self.settings.limits, transaction.request
        fault = strict.fault(request)
        if fault is not None:
            return fault
        if limits.body_bytes and (request.length or 0) > limits.body_bytes:
            return Refusal(
                413, f"the request body is larger than {limits.body_bytes} bytes", "body_too_large"
            )
        if request.target.startswith(b"/-/"):
            return None
        if transaction.client.one_too_many:
            return self._no_room()
        if limits.concurrent_requests and self.row["active"] > limits.concurrent_requests:
            return Refusal(
                503, f"more than {limits.concurrent_requests} requests at once", "too_many_requests"
            )
        return None

    def _no_room(self) -> Refusal:
        message = f"more than {self.room} connections, which is what there are file descriptors for"
        if not self._full:
            self._full = True
            _log.warning("%s: further ones get 503; raise the limit (ulimit -n) or add relays", message)
        return Refusal(503, message, "too_many_connections")

    def answer_locally(self, transaction: Transaction) -> None:
        """`/-/live` and `/-/ready`."""
        path = transaction.request.path
        status, facts = 200, {"status": "live"}
        if path == "/-/ready":
            facts = {"status": "ready" if self.ready else "not ready", **self.router.problems()}
            status = 200 if self.ready else 503
        elif path != "/-/live":
            transaction.fail(
                404, "complete", f"{path} is not known; /-/live and /-/ready are", code="not_found"
            )
            return
        fields: headers.Fields = [] if transaction.keep_alive else [(b"Connection", b"close")]
        body = json.dumps(facts).encode() + b"\n"
        payload = replies.reply(status, body, b"application/json", fields)
        if transaction.request.method == b"HEAD":
            payload = payload.removesuffix(body)
        transaction.respond(payload, status)
        transaction.finish("complete")
