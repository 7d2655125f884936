"""The detector's state as bytes: a line of JSON that says what it is, then the body.

The header's epoch counts the processes that took the state up, its sequence the observations in it: a source that
can repeat observations knows which to leave out, and of two processes that write, the older one can tell.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from driftline.drift.incident import Event, Incident
from driftline.drift.plan import Plan
from driftline.drift.series import SeriesState

SCHEMA = 1


class Header(msgspec.Struct, kw_only=True, tag_field="format", tag="driftline-windows"):
    schema: int = SCHEMA
    epoch: int
    sequence: int
    sha256: str = ""
    """Of the body."""


class DetectorState(msgspec.Struct, frozen=True, kw_only=True):
    clock: float
    number: int
    slot: str
    layouts: dict[str, str]
    """A hash of the cells of each feature: counts of other cells cannot be taken up."""
    dropped: dict[Literal["late", "early"], int]
    folded: int
    clock_resets: int
    series: list[SeriesState]
    closed: list[Incident]
    events: list[Event]


def encode(header: Header, state: DetectorState) -> bytes:
    body = msgspec.msgpack.encode(state)
    header.sha256 = hashlib.sha256(body).hexdigest()
    return msgspec.json.encode(header) + b"\n" + body


def decode_header(data: bytes) -> Header:
    """Raises `ValueError` for anything that `encode` did not write, or a newer version did."""
    try:
        header = msgspec.json.decode(data.partition(b"\n")[0], type=Header)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a snapshot of drift windows: {error}") from None
    if header.schema > SCHEMA:
        raise ValueError(f"the snapshot has schema {header.schema} and this version reads up to {SCHEMA}")
    return header


def decode(data: bytes) -> tuple[Header, DetectorState]:
    """Raises `ValueError` for anything that `encode` did not write, or a newer version did."""
    header = decode_header(data)
    body = data.partition(b"\n")[2]
    if hashlib.sha256(body).hexdigest() != header.sha256:
        raise ValueError("the snapshot is broken: its body is not the one that was written")
    try:
        return header, msgspec.msgpack.decode(body, type=DetectorState)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the snapshot is broken: {error}") from None


def layouts(plan: Plan) -> dict[str, str]:
    """Of the features of `plan`."""
    return {
        name: hashlib.sha256(msgspec.json.encode((feature.kind, feature.edges))).hexdigest()[:16]
        for name, feature in plan.features.items()
    }


def without_changed(state: DetectorState, plan: Plan) -> DetectorState:
    """`state` without the features whose cells are not those of `plan`."""
    now = layouts(plan)
    changed = {name for name, layout in state.layouts.items() if now.get(name) != layout}
    series = [
        msgspec.structs.replace(
            of,
            features={name: feature for name, feature in of.features.items() if name not in changed},
            tally=msgspec.structs.replace(
                of.tally,
                traces=[
                    {name: traces for name, traces in turn.items() if name not in changed}
                    for turn in of.tally.traces
                ],
                tenants={
                    tenant: {name: counts for name, counts in of_tenant.items() if name not in changed}
                    for tenant, of_tenant in of.tally.tenants.items()
                },
            ),
        )
        for of in state.series
    ]
    return msgspec.structs.replace(state, series=series)
