"""What an operator may set of the data plane. Read from the configuration by the supervisor, sent to relays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from driftline.settings import Seconds, Settings

UNIX = "unix:"
_SUN_PATH = 107
"""Bytes of a Unix socket's path, unix(7)."""
_WEIGHT_MOST = 1_000_000

Sticky = Literal["session", "conversation", "user"]


class Tls(Settings, frozen=True, kw_only=True):
    """Of an `https://` endpoint. Its certificate is always verified."""

    ca: str = ""
    """File (PEM) with the authorities to trust; empty: those of the system."""
    server_name: str = ""
    """Name that the certificate must bear, also sent as SNI; empty: the URL's host."""
    certificate: str = ""
    """File (PEM) with a client certificate and its chain, for servers that ask for one."""
    key: str = ""
    """File (PEM) with the client certificate's key, not encrypted; empty: it is in `certificate`."""

    def __post_init__(self) -> None:
        if self.key and not self.certificate:
            raise ValueError(
                f"key is {self.key}, but there is no certificate: name its file, or leave key out"
            )
        if not self.server_name.isprintable():
            raise ValueError(
                f"server_name is {self.server_name!r}, which is no name: write one such as vllm.local"
            )


class ListenerTls(Settings, frozen=True, kw_only=True):
    """Of the port that clients connect to: TLS 1.2 or newer."""

    certificate: str
    """File (PEM) with the certificate and its chain."""
    key: str = ""
    """File (PEM) with its key, not encrypted; empty: it is in `certificate`."""
    client_ca: str = ""
    """File (PEM) with the authorities of clients: only those with a certificate of theirs are let in. Empty: all."""


class Endpoint(Settings, frozen=True, kw_only=True):
    """One upstream server."""

    url: str
    """`http://host:port`, `https://host:port` or `unix:/path`; without a path behind it: paths are the clients'."""
    weight: float = 1.0
    """Its share of the requests that its variant has in flight; the sum over a variant is the variant's share of the
    pool's sessions. 0: it takes nothing."""
    variant: str = ""
    """Name under which its traffic is measured; empty: the pool's only variant."""
    tls: Tls = Tls()

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= _WEIGHT_MOST:
            raise ValueError(f"weight is {self.weight:g}; it goes from 0 to {_WEIGHT_MOST}")
        if self.socket_path:
            self._check_socket_path()
        else:
            self._check_url()
        if self.tls != Tls() and not self.secure:
            raise ValueError(
                f"tls is for https:// endpoints: write https:// in {self.url!r}, or leave tls out"
            )

    def _check_socket_path(self) -> None:
        path = self.socket_path
        if not path.startswith("/") or path.startswith("//"):
            raise ValueError(f"{self.url!r} is not an upstream: write {UNIX}/path/of/the.sock")
        if len(path.encode()) > _SUN_PATH:
            raise ValueError(
                f"{self.url!r}: a socket's path has at most {_SUN_PATH} bytes; use a shorter one"
            )

    def _check_url(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"{self.url!r} is not an upstream: write http://host:port or https://host:port")
        try:
            port = parts.port
        except ValueError:
            raise ValueError(f"{self.url!r} has no usable port: write one from 1 to 65535") from None
        if not parts.hostname or port == 0:
            raise ValueError(f"{self.url!r} names no host: write http://host:port")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(
                f"{self.url!r} has a path; every path a client asks for is passed on as it is, "
                f"so write {parts.scheme}://{parts.netloc}"
            )
        if parts.username or parts.password:
            raise ValueError("an upstream URL with a password in it is refused: clients send their own key")

    @property
    def socket_path(self) -> str:
        """Of a Unix socket; empty for TCP."""
        return self.url.removeprefix(UNIX) if self.url.startswith(UNIX) else ""

    @property
    def secure(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.secure else 80)

    @property
    def authority(self) -> str:
        """For the `Host` header: as written, without a default port; a Unix socket has no name of its own."""
        return "localhost" if self.socket_path else urlsplit(self.url).netloc

    @property
    def address(self) -> str:
        """`host:port`, always with the port, or the socket's path."""
        if self.socket_path:
            return self.socket_path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Pool(Settings, frozen=True, kw_only=True):
    """Endpoints that serve the same thing under one name.

    A request goes to a variant by weight, then to the variant's endpoint with the fewest requests in flight.
    """

    name: str = "default"
    """For routes, errors and spans."""
    models: list[str] = []
    """Models that it serves; a name with `*` in it stands for all that match. Empty, in the first pool that has none:
    the default pool, for what no other pool serves."""
    endpoints: list[Endpoint]
    """At least one."""
    sticky: tuple[Sticky, ...] = ("session", "conversation", "user")
    """What keeps a client on its variant: the first of these that a request names. Empty: each request by itself."""
    force_variant: bool = False
    """Clients may choose their variant by `x-driftline-variant`."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name is empty: routes and errors call a pool by it")
        if not self.endpoints:
            raise ValueError(
                f"pool {self.name!r} has no endpoints: name at least one {{url: http://host:port}}"
            )
        urls = [endpoint.url for endpoint in self.endpoints]
        if again := next((url for url in urls if urls.count(url) > 1), None):
            raise ValueError(f"pool {self.name!r} names {again} twice: keep one")
        variants = {endpoint.variant for endpoint in self.endpoints}
        if "" in variants and len(variants) > 1:
            nameless = next(endpoint.url for endpoint in self.endpoints if not endpoint.variant)
            raise ValueError(f"{nameless} has no variant, others have: name it too, stable for example")
        if not any(endpoint.weight for endpoint in self.endpoints):
            raise ValueError(f"every weight of pool {self.name!r} is 0, so nothing would serve: raise one")


class Route(Settings, frozen=True, kw_only=True):
    """What is under a path. The route with the longest prefix counts."""

    prefix: str
    """Whole segments of a path: `/v1/audio` is also `/v1/audio/speech`, and not `/v1/audiox`."""
    kind: Literal["openai", "none"] = "openai"
    """API that is spoken there; `none`: bodies are passed and counted, and neither changed nor traced."""
    pool: str = ""
    """Its name; empty: found by the model, as without a route."""

    def __post_init__(self) -> None:
        if not self.prefix.startswith("/") or "?" in self.prefix or "//" in self.prefix:
            path = "/" + "/".join(filter(None, self.prefix.partition("?")[0].split("/")))
            raise ValueError(f"prefix {self.prefix!r} is not the beginning of a path: write {path}")

    @property
    def path(self) -> str:
        """Without a slash at its end."""
        return self.prefix.rstrip("/")


def conflicts(pools: list[Pool], routes: list[Route]) -> Iterator[tuple[str, str]]:
    """Where pools and routes do not fit together: the place, such as `pools[1].name`, and what to do."""
    yield from _repeated_names(pools)
    yield from _repeated_prefixes(routes)
    names = {pool.name for pool in pools}
    for i, route in enumerate(routes):
        if route.pool and route.pool not in names:
            known = ", ".join(sorted(names)) or "none"
            yield f"routes[{i}].pool", f"there is no pool {route.pool!r}; there is {known}"
    yield from _unreachable(pools, routes)


def _repeated_names(pools: list[Pool]) -> Iterator[tuple[str, str]]:
    listed: dict[str, str] = {}
    for i, pool in enumerate(pools):
        if pool.name in (before.name for before in pools[:i]):
            yield f"pools[{i}].name", f"another pool is called {pool.name!r} too: give each a name of its own"
        for model in pool.models:
            if model in listed:
                yield f"pools[{i}].models", f"{model!r} is listed in pool {listed[model]!r} too: keep one"
            listed[model] = pool.name


def _repeated_prefixes(routes: list[Route]) -> Iterator[tuple[str, str]]:
    for i, route in enumerate(routes):
        if route.path in (before.path for before in routes[:i]):
            yield f"routes[{i}].prefix", f"{route.prefix!r} is the prefix of another route too: keep one"


def _unreachable(pools: list[Pool], routes: list[Route]) -> Iterator[tuple[str, str]]:
    """Pools that no request can get to."""
    routed = {route.pool for route in routes}
    everything = next((route for route in routes if route.path == "" and route.pool), None)
    default = next((i for i, pool in enumerate(pools) if not pool.models), None)
    for i, pool in enumerate(pools):
        if pool.name in routed:
            continue
        if everything is not None:
            fix = "route to it, or leave it out"
            yield (
                f"pools[{i}]",
                f"the route {everything.prefix} leads everything past pool {pool.name!r}: {fix}",
            )
        elif not pool.models and i != default:
            fix = "list its models, or route to it"
            yield f"pools[{i}]", f"pool {pool.name!r} is never used, another one is the default: {fix}"


class RelaySettings(Settings, frozen=True, kw_only=True):
    inject_usage: bool = True
    """Ask the upstream for usage on streams whose client did not, and cut the answer out again."""
    inspect_body_bytes: int = 1024 * 1024
    """Largest body that is held to be looked at; a larger one streams through unchanged."""
    preserve_host: bool = False
    """Send the client's `Host` header to the upstream."""
    trace_header: bool = True
    """Answer with `x-driftline-trace-id`."""

    def __post_init__(self) -> None:
        if not 0 <= self.inspect_body_bytes <= 64 * 1024 * 1024:
            raise ValueError(
                f"inspect_body_bytes is {self.inspect_body_bytes}; it goes from 0 to 67108864 (64 MiB)"
            )


class Limits(Settings, frozen=True, kw_only=True):
    header_bytes: int = 64 * 1024
    """Largest request header; a larger one is answered 431."""
    body_bytes: int = 0
    """Largest request body; 0: no limit."""
    concurrent_requests: int = 0
    """In flight per relay; 0: no limit. One more is answered 503."""

    def __post_init__(self) -> None:
        if self.header_bytes < 1024:
            raise ValueError(f"header_bytes is {self.header_bytes}; browsers and SDKs need at least 1024")
        if min(self.body_bytes, self.concurrent_requests) < 0:
            raise ValueError("a limit cannot be negative; 0 means no limit")


class Timeouts(Settings, frozen=True, kw_only=True):
    """Seconds; 0 is off."""

    connect: Seconds = 5.0
    """To an endpoint."""
    header: Seconds = 30.0
    """From a connection's first byte to the end of its request's header."""
    body: Seconds = 60.0
    """Longest pause within a request body."""
    first_byte: Seconds = 0.0
    """Off: a request may queue in the engine for minutes."""
    idle: Seconds = 0.0
    """Longest pause within a response."""
    total: Seconds = 0.0
    """From a request's first byte to the end of its response."""
    keep_alive: Seconds = 75.0
    """Idle client connections are closed after it."""
    drain: Seconds = 30.0
    """Grace for requests in flight at SIGTERM."""
    watchdog: Seconds = 10.0
    """A relay or observer that does not move for this long is killed and started again."""


class DataPlane(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a relay process is told, as one message."""

    pools: list[Pool]
    routes: list[Route] = []
    relay: RelaySettings
    limits: Limits
    timeouts: Timeouts
    tls: ListenerTls | None = None
    sampler: dict[str, str]
    """The `OTEL_TRACES_SAMPLER*` variables."""
