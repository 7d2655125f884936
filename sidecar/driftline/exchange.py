"""`Exchange`: what the relay saw of one request. The only record that crosses from the data plane."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal[
    "complete",  # the whole response was relayed
    "client_closed",  # the client left first; the upstream was aborted
    "upstream_broken",  # the upstream failed after its first byte
    "upstream_failed",  # the upstream was reached but sent no response: 502
    "upstream_unreachable",  # no endpoint accepted a connection: 502
    "timeout",  # a timeout of ours ended it: 504
    "bad_request",  # the request was not HTTP, or broke a limit: 4xx by us
    "tunnelled",  # an upgrade; bytes were passed, nothing was read
    "drained",  # the grace period of a shutdown ended it
]

Usage = Literal[
    "",  # not a streaming generation
    "requested",  # the client asked for usage itself
    "injected",  # we asked, and cut the answer out again
    "not_requested",  # nobody asked (switched off, or the body was larger than we inspect)
]

NEVER = -1
"""The value of a moment that did not happen."""


class Body(msgspec.Struct, array_like=True, frozen=True):
    """A request or response body, whole up to 256 KiB; beyond that its first and last 128 KiB."""

    head: bytes = b""
    tail: bytes = b""
    size: int = 0
    """Bytes that passed, kept or not."""

    @property
    def whole(self) -> bool:
        return self.size == len(self.head) + len(self.tail)


class Exchange(msgspec.Struct, array_like=True, kw_only=True):
    """One request and its response. Filled in as they pass, sent once, when the request ends, however it ends.

    `received_at` is nanoseconds since the epoch; every other moment is nanoseconds after it, measured on the
    monotonic clock, or `NEVER`.
    """

    trace_id: bytes = b""
    span_id: bytes = b""
    parent_span_id: bytes = b""
    trace_flags: int = 1
    tracestate: str = ""

    kind: str = "openai"
    """Of the route: which dialects may read this exchange."""
    pool: str = ""
    variant: str = ""
    upstream: str = ""
    """`host:port` of the endpoint that answered, or was tried last."""

    method: str = ""
    target: str = ""
    """Path and query as sent."""
    request_headers: list[tuple[str, str]] = []
    """Selected headers, names in lower case. Never credentials."""
    response_headers: list[tuple[str, str]] = []
    request_body: Body = Body()
    response_body: Body = Body()
    status: int = 0
    """Of the response the client got; 0 when it got none."""
    outcome: Outcome = "complete"
    error: str = ""
    """What went wrong, for a person; empty when nothing did."""

    received_at: int = 0
    connected: int = NEVER
    request_sent: int = NEVER
    first_byte: int = NEVER
    first_content: int = NEVER
    last_content: int = NEVER
    last_byte: int = NEVER
    ended: int = NEVER

    # What the relay scanned on the way. Kept apart from the bodies, so never cut.
    stream: bool = False
    """The response was an event stream."""
    model: str = ""
    usage: Usage = ""
    usage_event: bytes = b""
    """JSON of the last event that held usage."""
    reads: int = 0
    """Socket reads that carried response body."""
    overhead_request: int = NEVER
    """Nanoseconds the relay held the request, waiting for connections excluded."""
    overhead_first_byte: int = NEVER
    """Nanoseconds between reading the first response byte and writing it on."""
    overhead_chunks: int = 0
    """Nanoseconds spent between reading and writing on, summed over all reads."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Exchange)


def encode(exchange: Exchange) -> bytes:
    return _encoder.encode(exchange)


def decode(record: bytes) -> Exchange:
    """The exchange in `record`.

    Raises `msgspec.DecodeError` or `msgspec.ValidationError` for anything that `encode` did not write.
    """
    return _decoder.decode(record)
