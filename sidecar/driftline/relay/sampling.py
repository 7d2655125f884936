"""Head sampling: the six standard values of `OTEL_TRACES_SAMPLER`, decided on the trace id alone.

Equal to the OpenTelemetry SDK's samplers, without importing it: the relay decides and passes the decision
on in `traceparent`, so every span of a trace agrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SAMPLER = "OTEL_TRACES_SAMPLER"
SAMPLER_ARG = "OTEL_TRACES_SAMPLER_ARG"

_ALL = 1 << 64
_ROOTS = ("always_on", "always_off", "traceidratio")
_NAMES = (*_ROOTS, *(f"parentbased_{root}" for root in _ROOTS))


@dataclass(frozen=True, slots=True)
class Sampler:
    """Which traces are recorded."""

    follows_parent: bool = True
    """A parent's decision stands; only traces that begin here are decided here."""
    bound: int = _ALL
    """Of 2⁶⁴: ids whose low 64 bits are below it are sampled. Those are the bits other SDKs look at too."""

    def sampled(self, trace_id: bytes, parent_flags: int | None) -> bool:
        """Whether the trace with this 16-byte id is recorded.

        `parent_flags` are the flags of the request's valid `traceparent`, None where it had none.
        """
        if self.follows_parent and parent_flags is not None:
            return bool(parent_flags & 1)
        return int.from_bytes(trace_id[8:], "big") < self.bound

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Sampler:
        """The sampler that the two standard variables ask for; `parentbased_always_on` where they are unset.

        Raises `ValueError` for any other sampler and for a ratio outside 0…1: a typo must not silently turn
        into tracing everything.
        """
        name = environ.get(SAMPLER, "").strip().lower() or "parentbased_always_on"
        if name not in _NAMES:
            raise ValueError(f"{SAMPLER} is {name!r}; known are {', '.join(_NAMES)}")
        root = name.removeprefix("parentbased_")
        share = {"always_on": 1.0, "always_off": 0.0}.get(root)
        if share is None:
            share = _ratio(environ)
        return cls(follows_parent=name != root, bound=round(share * _ALL))


def _ratio(environ: Mapping[str, str]) -> float:
    text = environ.get(SAMPLER_ARG, "").strip() or "1"
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"{SAMPLER_ARG} is {text!r}; write a share of traces from 0 to 1, such as 0.1")
    return share
