"""The special functions behind the laws, loaded when they are first needed."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def special() -> Any:
    """`scipy.special`. Late, because importing it takes half a second, and no window is judged that soon after a
    start; a process that has a thread to spare calls this once to have it over with."""
    from scipy import special as functions  # noqa: PLC0415

    return functions
