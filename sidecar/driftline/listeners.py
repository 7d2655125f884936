"""Listening sockets. The supervisor opens and keeps them, so that no restart closes a port."""

from __future__ import annotations

import errno
import ipaddress
import socket

BACKLOG = 2048


class Address:
    """`host:port`, `[v6]:port` or `:port` (all interfaces)."""

    def __init__(self, text: str) -> None:
        host, colon, port = text.rpartition(":")
        if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
            raise ValueError(f"{text!r} is not an address to listen on: write host:port, [::1]:port or :port")
        self.host = host.removeprefix("[").removesuffix("]") or "0.0.0.0"  # noqa: S104  # asked for by `:port`
        self.port = int(port)
        if ":" in self.host and not host.startswith("["):
            raise ValueError(f"{text!r}: put an IPv6 address in brackets, [{self.host}]:{port}")

    @property
    def loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def listen(address: Address, *, shared: bool = False) -> socket.socket:
    """A listening TCP socket. Raises `OSError` whose text says which address and what to do."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.host != "::"))
            sock.bind(where)
            sock.listen(BACKLOG)
            # Relays share the queue: where another was quicker, accepting must not wait.
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise OSError(error.errno, _explained(address, error)) from error
    return sock


def listen_many(address: Address, count: int) -> list[socket.socket]:
    """`count` sockets on one port, among which the kernel spreads connections (`SO_REUSEPORT`)."""
    if count == 1:
        return [listen(address)]
    # Alone first: with SO_REUSEPORT a second sidecar of the same user would join in silently.
    listen(address).close()
    first = listen(address, shared=True)
    same = Address(spelled(first))
    return [first, *(listen(same, shared=True) for _ in range(count - 1))]


def spelled(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _explained(address: Address, error: OSError) -> str:
    where = f"{address.host}:{address.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another process: stop it, or choose another port"
    if error.errno == errno.EACCES:
        return f"{where} may not be bound by this user: choose a port above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where} is not an address of this machine"
    return f"cannot listen on {where}: {error.strerror or error}"
