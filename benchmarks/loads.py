"""The loads that proxies are put under, and which proxy takes part in which."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from benchmarks import recorded


class Streams(msgspec.Struct, frozen=True, kw_only=True, tag="streams"):
    """Streams, paced by the upstream."""

    model: str
    """A pace of `benchmarks.upstream`."""
    streams: int
    """At once."""
    requests: int
    """By each stream's client, one after the other."""
    tokens: int
    """Of each stream."""
    interval_ms: float
    """Between two tokens of a stream, as they should come."""
    ramp: float = 0.0
    """Seconds in which the clients begin."""
    held: bool = False
    """Whether the memory of the proxy is read while all streams are open."""

    @property
    def arguments(self) -> dict[str, str | float]:
        """Of the load generator."""
        names = ("model", "streams", "requests", "tokens", "ramp")
        return {name: getattr(self, name) for name in names}


class Requests(msgspec.Struct, frozen=True, kw_only=True, tag="requests"):
    """Plain requests, as many as get through."""

    connections: int
    seconds: float

    @property
    def arguments(self) -> dict[str, str | float]:
        return msgspec.structs.asdict(self)


Load = Streams | Requests


def spread(
    streams: int, tokens: int, interval_ms: float, *, requests: int, ramp: float, held: bool = False
) -> Streams:
    """Streams that speak in turn and begin at random moments of a share `ramp` of a stream's length."""
    return Streams(
        model=f"spread-{interval_ms:g}ms",
        streams=streams,
        requests=requests,
        tokens=tokens,
        interval_ms=interval_ms,
        ramp=ramp * tokens * interval_ms / 1000,
        held=held,
    )


def replay(frontend: str, speed: float = 1.0) -> Streams:
    """512 streams as recorded behind `frontend`. Raises `OSError` where the recording is absent."""
    recording = recorded.load(frontend)
    return Streams(
        model=f"{frontend}-512",
        streams=512,
        requests=1,
        tokens=recording.tokens,
        interval_ms=recording.interval_ms() / speed,
    )


SCENARIOS = {
    "chunks": ("chunks",),
    "requests": ("requests",),
    "held": ("held",),
    "recorded": ("recorded rust", "recorded python"),
    "relays": ("recorded rust",),
}
"""What can be asked for, and its loads."""

PEERS = {
    "chunks": ("direct", "nginx", "bare splice", "vllm-router", "LiteLLM", "driftline local", "driftline"),
    "requests": (
        "direct",
        "nginx",
        "bare splice",
        "vllm-router",
        "LiteLLM",
        "Portkey",
        "driftline local",
        "driftline",
    ),
    "held": ("direct", "nginx", "vllm-router", "driftline"),
    "recorded": ("direct", "nginx", "driftline"),
    "relays": ("driftline", "driftline ×2", "driftline ×4"),
}
"""Who takes part in which scenario."""

FULL: dict[str, Load] = {
    "chunks": spread(192, 128, 10, requests=2, ramp=1.0),
    "requests": Requests(connections=64, seconds=2.5),
    "held": spread(512, 64, 20, requests=2, ramp=0.5, held=True),
}
QUICK: dict[str, Load] = {
    "chunks": spread(192, 128, 10, requests=1, ramp=1.0),
    "requests": Requests(connections=64, seconds=1.0),
    "held": spread(512, 64, 20, requests=1, ramp=0.5, held=True),
}
SLOW: dict[str, Load] = {
    "chunks": spread(16, 32, 20, requests=2, ramp=1.0),
    "requests": Requests(connections=8, seconds=2.0),
}
"""For peers that would take minutes with the others' loads: what they cost each chunk and request is the same."""

WARM_UP: dict[type[Streams | Requests], Load] = {
    Streams: spread(16, 8, 10, requests=4, ramp=1.0),
    Requests: Requests(connections=4, seconds=0.3),
}
"""Before anything is measured, by kind of load."""

ROUNDS = {"chunks": 3, "requests": 3}
"""Of the loads that have more than one."""


def chosen(scenarios: Iterable[str], *, quick: bool = False, speed: float = 1.0) -> dict[str, Load]:
    """The loads of `scenarios`, by name. Raises `OSError` where a recording is absent."""
    names = dict.fromkeys(load for scenario in scenarios for load in SCENARIOS[scenario])
    known = QUICK if quick else FULL
    return {
        name: known[name] if name in known else replay(name.removeprefix("recorded "), speed)
        for name in names
    }


def taken_by(peer: str, scenarios: Iterable[str]) -> tuple[str, ...]:
    """The names of the loads that `peer` is put under."""
    taking = [scenario for scenario in scenarios if peer in PEERS[scenario]]
    return tuple(dict.fromkeys(load for scenario in taking for load in SCENARIOS[scenario]))
