"""How much noisier than independent calls the traffic is, learned from windows held out of the reference.

One conversation, one tenant or one batch job sends many similar calls, so windows of real traffic differ by more
than their size explains: on a public trace of an LLM service, by 30 times.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from driftline.drift.special import special

CALIBRATED = 200
"""Held-out windows from which on the law of a scale is trusted with a page."""
ENOUGH = 10
"""Held-out windows that show how much they vary; fewer show only how far they are from the rest on average."""
FEWEST = 2
"""Held-out windows that show even that."""
CONFIDENCE = 0.9


class Dispersion(msgspec.Struct, frozen=True):
    """PSI / s of windows in which nothing moved is `factor` times a chi-squared variable of `degrees` degrees."""

    factor: float
    """phi, at least 1, and 1 for independent calls: calls per independent call. The upper end of its interval."""
    degrees: float
    """nu: groups - 1 for independent calls, fewer where windows differ mostly in one way."""
    windows: int = 0
    """Held-out windows it was estimated on."""
    calls: float = 0.0
    """Their mean size."""

    @property
    def calibrated(self) -> bool:
        return self.windows >= CALIBRATED

    @property
    def estimate(self) -> float:
        """The factor itself, in the middle of its interval."""
        return self.factor / _widening(self.windows * self.degrees) if self.windows else self.factor

    def stretched(self, ratio: float) -> Dispersion:
        """For windows `ratio` times as long, were the calls in them as alike as they can be.

        Then a longer window is no better than a shorter one, and PSI / s grows with its size.
        """
        return msgspec.structs.replace(self, factor=self.factor * max(ratio, 1.0), windows=0)


def fit(held_out: Sequence[float], groups: int, calls: float, shorter: Dispersion | None) -> Dispersion:
    """The dispersion whose law has the mean and the variance of `held_out`, values of PSI / s.

    Matching the mean alone understates the tail up to five times where one tenant varies. With few windows the
    degrees are those of the next shorter scale. The factor is the upper end of its confidence interval, so few
    windows mean a wide threshold; neither mean nor variance goes below those of independent calls.
    """
    expected = max(groups - 1.0, 1.0)
    windows = len(held_out)
    if windows < FEWEST:
        return Dispersion(1.0, expected, windows, calls)
    mean = max(float(np.mean(held_out)), expected)
    factor = max(1.0, float(np.var(held_out, ddof=1)) / (2 * mean))
    if windows < ENOUGH and shorter is not None:
        factor = max(1.0, mean / shorter.degrees)
    degrees = mean / factor
    return Dispersion(factor * _widening(windows * degrees), degrees, windows, calls)


def _widening(degrees: float) -> float:
    """The upper end of the interval of a chi-squared variable's scale, over its estimate from so many degrees."""
    return degrees / float(special().chdtri(degrees, CONFIDENCE))
