"""What happened in a run, as plain records: written by the rig, read by the judge, kept as JSON.

Moments are nanoseconds of the machine's monotonic clock, which all processes of a run share.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["stream", "plain", "embeddings", "upload"]
End = Literal[
    "complete",  # whole, byte-exact
    "left",  # the client went away on purpose
    "broken",  # the connection ended before the answer did
    "refused",  # answered with an error by the relay
    "altered",  # whole, and not what the upstream said
    "hung",  # nothing came any more
    "no connection",
]


class Request(msgspec.Struct, frozen=True):
    """One request that did not complete."""

    number: int
    kind: Kind
    end: End
    port: int
    """The client's own, by which its connection is known."""
    opened_at: int
    """The connection."""
    asked_at: int
    ended_at: int
    status: int = 0
    """0: no header of an answer arrived."""
    incarnation: int = 0
    """Of the upstream that answered; 0 unknown."""
    trace_id: str = ""
    received: int = 0
    """Bytes of body."""
    detail: str = ""


class Traffic(msgspec.Struct):
    """What the clients saw."""

    asked: dict[str, int]
    """Requests by kind; one without a connection was never asked."""
    complete: dict[str, int]
    """Those of them that arrived whole and byte-exact."""
    others: list[Request]
    """All the rest, one by one."""
    connections: int


class Step(msgspec.Struct, frozen=True):
    """One thing the schedule wants done."""

    at: float
    """Seconds since the traffic began."""
    do: Literal[
        "kill",
        "hang",  # stopped for good: left to the watchdog to kill
        "start",  # the upstream; the others are started again by their supervisor
        "pause",
        "resume",
        "dismiss",  # SIGTERM to one of the supervisor's processes: another takes its place first
        "reload",
        "roll",
    ]
    to: str
    """`observer`, `relay 0`, `upstream`, `supervisor`."""


class Done(msgspec.Struct, frozen=True):
    """What became of a step."""

    step: Step
    at: int
    pid: int = 0
    skipped: str = ""
    """Why it was not done."""
    born_at: int = 0
    """Of a killed process."""
    ports: frozenset[int] = frozenset()
    """Of a killed or hung relay: the clients' ends of the connections it had."""
    incarnation: int = 0
    """Of a killed or started upstream."""


class Books(msgspec.Struct):
    """What the sidecar says of itself once nothing moves any more."""

    started: int
    active: int
    observed: int
    dropped: dict[str, int]
    outcomes: dict[str, int]
    requests_total: int
    """The sum of `driftline_relay_requests_total`."""
    dropped_total: dict[str, int]
    """`driftline_telemetry_dropped_total` of exchanges, by reason."""
    restarts: dict[str, int]
    """By role."""
    spans_made: int
    spans_exported: int
    spans_dropped: dict[str, int]


class Ledger(msgspec.Struct):
    """Everything that is known of a run."""

    seed: int
    seconds: float
    steps: list[Done]
    traffic: Traffic
    books: Books
    spans_received: int
    faults: list[str]
    """What the sidecar's log holds that it should not."""
