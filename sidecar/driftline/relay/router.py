"""The pools of a relay: which one a request goes to, and what becomes of them when the configuration changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from driftline.relay.pool import Endpoint, Pool

if TYPE_CHECKING:
    from driftline.relay.server import Relay
    from driftline.relay.settings import DataPlane
    from driftline.relay.transaction import Transaction


class Router:
    """All pools. `reconfigure` is given the first configuration and any later one."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._pool: Pool

    def reconfigure(self, settings: DataPlane) -> None:
        """Serve by `settings` from now on.

        An endpoint that stays keeps its connections, its health and the count of its requests; one that goes lets
        its requests in flight end. Raises `ValueError` where a file it names cannot be used; then all is as it was.
        """
        self._pool = Pool(settings.pools[0], self._relay)

    # A request

    def by_head(self, transaction: Transaction) -> None:
        """Give `transaction` its pool."""
        transaction.pool = self._pool

    # All endpoints

    @property
    def endpoints(self) -> Iterator[Endpoint]:
        return iter(self._pool.endpoints)

    @property
    def ready(self) -> bool:
        """Some pool can serve."""
        return self._pool.ready

    def problems(self) -> dict[str, str]:
        """By address: why an endpoint is held to be down."""
        return self._pool.problems()

    def sweep(self) -> None:
        for endpoint in self.endpoints:
            endpoint.sweep()

    def close(self) -> None:
        for endpoint in self.endpoints:
            endpoint.close()
