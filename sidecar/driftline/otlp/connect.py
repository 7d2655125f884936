"""From what was configured to a sender. Each kind is imported only where it is used."""

from __future__ import annotations

from typing import Literal

import msgspec

from driftline.otlp.environment import Connection, Protocol, Signal
from driftline.otlp.sender import Sender


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """A receiver of one signal."""

    protocol: Protocol | Literal["console"]
    endpoint: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)


def connect(signal: Signal, to: Destination, connection: Connection) -> Sender:
    """Nothing is connected before the first request. Raises `ValueError` for certificates that are none."""
    if to.protocol == "console":
        from driftline.otlp.console import ConsoleSender  # noqa: PLC0415

        return ConsoleSender(signal)
    if to.protocol == "grpc":
        from driftline.otlp.grpc import GrpcSender  # noqa: PLC0415

        return GrpcSender(signal, to.endpoint, to.headers, connection)
    from driftline.otlp.http import HttpSender  # noqa: PLC0415

    return HttpSender(to.endpoint, to.headers, connection)
