"""Which header fields stop at a proxy, and how a head is written. Names keep their case and order."""

from __future__ import annotations

Fields = list[tuple[bytes, bytes]]
"""(name, value) as received."""

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
)
"""RFC 9110 §7.6.1, together with whatever `Connection` names."""

_NEEDED = frozenset({b"content-length", b"host"})
"""`Connection` cannot take these off: without them a message means something else."""

_OURS = b"x-driftline-"
_NONE: frozenset[bytes] = frozenset()

RECORDED_REQUEST = frozenset(
    {b"content-type", b"content-encoding", b"user-agent", b"baggage", b"x-request-id"}
)
"""Request headers that go into an `Exchange`, beside `x-driftline-*`. Never a credential."""
RECORDED_RESPONSE = frozenset({b"content-type", b"content-encoding", b"x-request-id"})


class Headers(dict[bytes, bytes]):
    """The fields of one head: the first value of each name, in lower case; `fields` has all, to be passed on as
    they came."""

    __slots__ = ("fields",)

    def __init__(self, fields: Fields) -> None:
        self.fields = [(name.lower(), name, value) for name, value in fields]
        """(lower-case name, name as received, value)."""
        # From the back, so that the first of a name stays.
        self.update({lower: value for lower, _, value in reversed(self.fields)})

    def all(self, name: bytes) -> list[bytes]:
        if name not in self:
            return []
        if len(self) == len(self.fields):  # no name twice
            return [self[name]]
        return [value for lower, _, value in self.fields if lower == name]

    def without(self, name: bytes) -> Headers:
        return Headers([(spelled, value) for lower, spelled, value in self.fields if lower != name])

    def ours(self) -> frozenset[bytes]:
        """Names of the fields that are addressed to the sidecar, not to the upstream: `x-driftline-*`."""
        # One search for what is seldom there, rather than one in each name.
        if _OURS not in b"\n".join(self):
            return _NONE
        return frozenset([name for name in self if name.startswith(_OURS)])

    def options(self) -> frozenset[bytes]:
        """What the `Connection` fields name, in lower case."""
        if b"connection" not in self:
            return _NONE
        fields = self.all(b"connection")
        return frozenset([option.strip().lower() for value in fields for option in value.split(b",")])

    def dropped(self) -> frozenset[bytes]:
        """Names, in lower case, of the fields that stop here."""
        if b"connection" not in self:
            return HOP_BY_HOP
        return HOP_BY_HOP | (self.options() - _NEEDED)

    def end_to_end(self) -> Fields:
        """The fields that a proxy passes on."""
        dropped = self.dropped()
        return [(name, value) for lower, name, value in self.fields if lower not in dropped]

    def recorded(self, names: frozenset[bytes]) -> list[tuple[str, str]]:
        """The fields an `Exchange` keeps, as text."""
        return [
            (lower.decode("latin-1"), value.decode("latin-1"))
            for lower, _, value in self.fields
            if lower in names
        ]


NONE = Headers([])
"""Of a message that has not come."""


def head(start_line: bytes, fields: Fields) -> bytes:
    return b"\r\n".join([start_line, *map(b": ".join, fields), b"", b""])


def chunk(body: bytes) -> bytes:
    """`body` as one chunk (RFC 9112 §7.1); nothing for nothing, since an empty chunk would end the message."""
    return b"%x\r\n%b\r\n" % (len(body), body) if body else b""
