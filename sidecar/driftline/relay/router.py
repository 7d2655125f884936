"""The pools of a relay: which one a request goes to, and what becomes of them when the configuration changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from driftline.relay import settings, strict
from driftline.relay.pool import Endpoint, Pool
from driftline.relay.routing import Table, model_in
from driftline.relay.transaction import Refusal, Transaction
from driftline.relay.upstream_tls import client_context

if TYPE_CHECKING:
    from driftline.relay.server import Relay

LOCAL = "/-/"
"""Paths that the sidecar answers itself begin so."""
_SHOWN = 20
"""Models that an error names."""


class Router:
    """All pools. `reconfigure` is given the first configuration and any later one."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._endpoints: dict[tuple[str, settings.Tls], Endpoint] = {}
        """By what a connection depends on: pools that name the same server share it."""
        self._pools: dict[str, Pool] = {}
        self._table: Table

    def reconfigure(self, configured: settings.DataPlane) -> None:
        """Serve by `configured` from now on.

        An endpoint that stays keeps its connections, its health and the count of its requests; one that goes lets its
        requests in flight end. Certificates are read again. Raises `ValueError` where one cannot be used: then all is
        as it was.
        """
        known = self._endpoints
        wanted = {(place.url, place.tls): place for pool in configured.pools for place in pool.endpoints}
        contexts = {key: client_context(place.tls) for key, place in wanted.items() if place.secure}
        endpoints = {key: known.get(key) or Endpoint(place, self._relay) for key, place in wanted.items()}
        for key, context in contexts.items():
            endpoints[key].tls = context
        self._endpoints = endpoints
        self._pools = {
            pool.name: self._pools.get(pool.name) or Pool(pool.name, self._relay) for pool in configured.pools
        }
        for pool in configured.pools:
            self._pools[pool.name].configure(
                pool, [endpoints[place.url, place.tls] for place in pool.endpoints]
            )
        self._table = Table(configured.pools, configured.routes)
        for key in known.keys() - endpoints.keys():
            known[key].close()

    # A request

    def by_head(self, transaction: Transaction) -> bool:
        """Give `transaction` its pool, or a refusal. True: its body is to be held, since only that names a model."""
        table, request = self._table, transaction.request
        if table.trivial:
            self._give(transaction, table.default)
            return False
        if strict.fault(request):
            return False  # It is refused for that, and not for naming no model.
        route = table.route(request.path)
        if route is not None:
            transaction.record.kind = route.kind
            if route.pool:
                self._give(transaction, route.pool)
                return False
        if not (table.models and request.is_json()):
            if not request.path.startswith(LOCAL):
                self._by_model(transaction, "")
            return False
        if (request.length or 0) > self._relay.settings.relay.inspect_body_bytes:
            self.unread(transaction)
            return False
        return True

    def by_body(self, transaction: Transaction, body: bytes) -> None:
        """Give `transaction` the pool that serves the model its `body` names, or a refusal."""
        transaction.record.model = model = model_in(body)
        self._by_model(transaction, model)

    def unread(self, transaction: Transaction) -> None:
        """Its body is larger than what may be held: the default pool, or a refusal."""
        if self._table.default:
            self._give(transaction, self._table.default)
        else:
            most = self._relay.settings.relay.inspect_body_bytes
            message = (
                f"no pool takes any model, and none is looked for in a body of more than {most} bytes: "
                "raise relay.inspect_body_bytes, or give a pool no models"
            )
            transaction.refusal = Refusal(413, message, "body_too_large")

    def _by_model(self, transaction: Transaction, model: str) -> None:
        pool = self._table.serving(model)
        if pool:
            self._give(transaction, pool)
            return
        known = self._table.models
        named = ", ".join(known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
        what = f"the model {model!r} is not served here" if model else "the request names no model"
        transaction.refusal = Refusal(404, f"{what}; known models: {named}", "model_not_found")

    def _give(self, transaction: Transaction, name: str) -> None:
        transaction.pool = pool = self._pools[name]
        if objection := pool.objection(transaction.request):
            transaction.refusal = Refusal(400, objection, "unknown_variant")

    # All endpoints

    @property
    def endpoints(self) -> list[Endpoint]:
        return list(self._endpoints.values())

    @property
    def ready(self) -> bool:
        """Some endpoint of some pool can serve. One pool that is down must not take the others out of a balancer."""
        return any(endpoint.healthy for endpoint in self._endpoints.values())

    def problems(self) -> dict[str, str]:
        """By address: why an endpoint is held to be down."""
        return {endpoint.address: endpoint.problem for endpoint in self.endpoints if endpoint.problem}

    def sweep(self) -> None:
        for endpoint in self._endpoints.values():
            endpoint.sweep()

    def close(self) -> None:
        for endpoint in self._endpoints.values():
            endpoint.close()
