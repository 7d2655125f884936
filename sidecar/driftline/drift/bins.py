"""Where a value is counted: cells that never move, so that counts from any relay, day or host add up.

A numeric feature is counted on the bucket boundaries of the OpenTelemetry exponential histogram of scale 3
(2^(i/8), upper bound inclusive), over a range its declaration gives. Coarser scales are subsets of it
[OpenTelemetry metrics data model, "Exponential Scale"], so a reference can choose fewer bins later without
counting anew.
"""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec

MISSING = 0
"""Cell of a value that should be there and is not."""
OTHER = 1
"""Cell of a value that cannot be placed: of the wrong type, or one category too many."""
FIRST = 2
"""Cell of the first bin or category."""

FINEST = 3
"""Scale of the cells: 8 to an octave, 9 % wide."""
MAX_EDGES = 64
MAX_CATEGORIES = 32
MAX_NAME = 64
"""Characters of a category's name that are kept."""

# IEEE square roots are exactly rounded everywhere, `2 ** (i / 8)` is not: edges must be equal between hosts.
_ROOTS = (math.sqrt(2.0), math.sqrt(math.sqrt(2.0)), math.sqrt(math.sqrt(math.sqrt(2.0))))
_STEPS = tuple(
    math.prod(root for bit, root in zip((4, 2, 1), _ROOTS, strict=True) if step & bit) for step in range(8)
)


class Edges(msgspec.Struct, frozen=True):
    """Inclusive upper bounds of bins, ascending; a last bin beyond them is implied."""

    values: tuple[float, ...]
    scales: tuple[int, ...]
    """Of each edge: the coarsest exponential histogram scale (0 to 3) that has it."""

    def within(self, low: float, high: float) -> tuple[float, ...]:
        """At most `MAX_EDGES` of the edges, of the finest scale that fits, to separate values in (low, high].

        The first of them is at most `low` where there is such an edge, the last at least `high`.
        """
        for scale in range(FINEST, -1, -1):
            kept = [value for value, of in zip(self.values, self.scales, strict=True) if of <= scale]
            first = max((i for i, value in enumerate(kept) if value <= low), default=0)
            last = min((i for i, value in enumerate(kept) if value >= high), default=len(kept) - 1)
            if last - first < MAX_EDGES:
                break
        return tuple(kept[first : last + 1])


def octaves(low: int, high: int) -> Edges:
    """0 and 2^(i/8) from 2^low to 2^high."""
    steps = [(octave, step) for octave in range(low, high) for step in range(8)] + [(high, 0)]
    values = [math.ldexp(_STEPS[step], octave) for octave, step in steps]
    scales = [next(scale for scale in range(4) if step % (8 >> scale) == 0) for _, step in steps]
    return Edges((0.0, *values), (0, *scales))


def whole_octaves(high: int) -> Edges:
    """The edges of `octaves(0, high)` for whole numbers: rounded down, and those that separate none left out."""
    grid = octaves(0, high)
    scale_of: dict[int, int] = {}
    for value, scale in zip(grid.values, grid.scales, strict=True):
        whole = math.floor(value)
        scale_of[whole] = min(scale, scale_of.get(whole, FINEST))
    # Python ints: comparing int with int is what the hot path does.
    return Edges(tuple(scale_of), tuple(scale_of.values()))


def mirrored(edges: Edges) -> Edges:
    """The same edges left of zero, for values that are negative."""
    return Edges(tuple(-value for value in reversed(edges.values)), tuple(reversed(edges.scales)))


def bin_labels(edges: tuple[float, ...]) -> list[str]:
    """`(low, high]` for each of the `len(edges) + 1` bins.

    >>> bin_labels((16, 32))
    ['(-inf, 16]', '(16, 32]', '(32, +inf)']
    """
    bounds = ["-inf", *(f"{edge:.4g}" if edge < 1e4 else f"{edge:.0f}" for edge in edges)]
    return [f"({low}, {high}]" for low, high in pairwise(bounds)] + [f"({bounds[-1]}, +inf)"]
