"""What goes into the detector: one call, as numbers, names and truths."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

Value = float | str | bool | None


class Observation(msgspec.Struct, frozen=True):
    """What one call showed.

    `values` holds a number, a category or a truth per feature name; None where the value should be there and is
    not. A feature that does not apply to the call has no key and is not counted.
    """

    timestamp: float
    """Seconds since the epoch."""
    model: str
    variant: str
    tenant: str
    trace_id: str
    values: Mapping[str, Value]
