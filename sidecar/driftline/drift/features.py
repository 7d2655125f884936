"""The features that are watched. Adding one is one declaration in `FEATURES`."""

from __future__ import annotations

from typing import Literal

import msgspec

from driftline.drift.bins import Edges, mirrored, octaves, whole_octaves

Kind = Literal["numeric", "count", "categorical", "binary"]
Direction = Literal["up", "down", "both"]
Severity = Literal["page", "ticket"]

SECONDS = octaves(-10, 10)
"""From a millisecond to a quarter of an hour."""
SHARE = octaves(-10, 0)
"""From a thousandth to one."""


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is counted about every call.

    How it is read from a call is the caller's: the detector takes values by name.
    """

    name: str
    kind: Kind
    unit: str = ""
    """For sentences: `tokens`, `s`."""
    edges: Edges | None = None
    """Of a numeric or count feature: the finest bins it is counted in."""
    categories: tuple[str, ...] = ()
    """Of a categorical feature: the values known beforehand. Others are named as they come."""
    hurts: Direction = "both"
    """Movement the other way is worth a ticket at most."""
    severity: Severity = "ticket"
    """What a calibrated alarm is worth."""


FEATURES: dict[str, Feature] = {
    feature.name: feature
    for feature in [
        Feature(name="input_tokens", kind="count", unit="tokens", edges=whole_octaves(20), severity="page"),
        Feature(name="output_tokens", kind="count", unit="tokens", edges=whole_octaves(17), severity="page"),
        Feature(name="prompt_chars", kind="count", unit="characters", edges=whole_octaves(22)),
        Feature(name="messages", kind="count", unit="messages", edges=whole_octaves(10)),
        Feature(name="tool_calls", kind="count", unit="calls", edges=whole_octaves(7)),
        Feature(name="ttft", kind="numeric", unit="s", edges=SECONDS, hurts="up"),
        Feature(name="tpot", kind="numeric", unit="s", edges=octaves(-14, 4), hurts="up"),
        Feature(name="duration", kind="numeric", unit="s", edges=SECONDS, hurts="up"),
        Feature(
            name="finish_reason",
            kind="categorical",
            categories=("stop", "length", "tool_call", "content_filter", "error"),
            severity="page",
        ),
        Feature(name="refusal", kind="binary", hurts="up", severity="page"),
        Feature(name="json_invalid", kind="binary", hurts="up", severity="page"),
        Feature(name="truncated", kind="binary", hurts="up"),
        Feature(name="error", kind="categorical"),
        Feature(name="language", kind="categorical"),
        Feature(name="toxicity", kind="numeric", edges=SHARE, hurts="up"),
        Feature(name="logprob_mean", kind="numeric", edges=mirrored(octaves(-10, 6)), hurts="down"),
        Feature(name="temperature", kind="numeric", edges=octaves(-7, 2)),
        Feature(name="repetition", kind="numeric", edges=SHARE, hurts="up"),
    ]
}

DEFAULT_FEATURES = ("input_tokens", "output_tokens", "ttft", "finish_reason", "refusal", "json_invalid")
