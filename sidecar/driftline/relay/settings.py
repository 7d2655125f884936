"""What an operator may set of the data plane. Read from the configuration by the supervisor, sent to relays."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from driftline.settings import Seconds, Settings


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
    """`http://host:port` or `https://host:port`, without a path: paths are the clients'."""
    variant: str = ""
    """Name under which its traffic is measured; empty: the pool's only variant."""

    def __post_init__(self) -> None:
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
    def tls(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.tls else 80)

    @property
    def authority(self) -> str:
        """For the `Host` header: as written, without a default port."""
        return urlsplit(self.url).netloc

    @property
    def address(self) -> str:
        """`host:port`, always with the port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Pool(Settings, frozen=True, kw_only=True):
    """Endpoints that serve the same thing; a request goes to the one with the fewest in flight."""

    name: str = "default"
    """For spans."""
    endpoints: list[Endpoint]
    """At least one."""

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ValueError(
                f"pool {self.name!r} has no endpoints: name at least one {{url: http://host:port}}"
            )
        urls = [endpoint.url for endpoint in self.endpoints]
        if len(set(urls)) < len(urls):
            raise ValueError(f"pool {self.name!r} names an endpoint twice: {urls}")


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
    relay: RelaySettings
    limits: Limits
    timeouts: Timeouts
    tls: ListenerTls | None = None
    sampler: dict[str, str]
    """The `OTEL_TRACES_SAMPLER*` variables."""
