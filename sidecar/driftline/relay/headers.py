"""Which header fields stop at a proxy, and how a head is written. Names keep their case and order."""

from __future__ import annotations

from collections.abc import Iterable

Fields = list[tuple[bytes, bytes]]
"""(name, value) as received."""

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
)
"""RFC 9110 §7.6.1, together with whatever `Connection` names."""

_OURS = b"x-driftline-"

RECORDED_REQUEST = frozenset(
    {
        b"content-type",
        b"content-encoding",
        b"user-agent",
        b"baggage",
        b"x-request-id",
        b"x-simulate",
    }
)
"""Request headers that go into an `Exchange`, beside `x-driftline-*`. Never a credential."""
RECORDED_RESPONSE = frozenset({b"content-type", b"content-encoding", b"x-request-id"})


def first(fields: Fields, name: bytes) -> bytes | None:
    """Value of the first field called `name` (lower case)."""
    for field, value in fields:
        if field.lower() == name:
            return value
    return None


def connection_options(fields: Fields) -> set[bytes]:
    """What the `Connection` fields name, in lower case."""
    return {
        option.strip().lower()
        for name, value in fields
        if name.lower() == b"connection"
        for option in value.split(b",")
    }


def end_to_end(fields: Fields) -> Fields:
    """The fields that a proxy passes on."""
    options = connection_options(fields)
    dropped = HOP_BY_HOP | options if options else HOP_BY_HOP
    return [field for field in fields if field[0].lower() not in dropped]


def head(start_line: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"%b\r\n%b\r\n" % (start_line, b"".join([b"%b: %b\r\n" % field for field in fields]))


def recorded(fields: Fields, names: frozenset[bytes]) -> list[tuple[str, str]]:
    """The fields an `Exchange` keeps, as text."""
    kept = []
    for name, value in fields:
        lower = name.lower()
        if lower in names or lower.startswith(_OURS):
            kept.append((lower.decode("latin-1"), value.decode("latin-1")))
    return kept


def is_ours(name: bytes) -> bool:
    """`x-driftline-*`: addressed to the sidecar, not to the upstream."""
    return name[:12].lower() == _OURS
