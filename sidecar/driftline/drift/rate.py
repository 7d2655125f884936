"""A rate that rises: the sequential test of binary features.

A CUSUM e-detector [Shin, Ramdas, Rinaldo 2022]: M <- max(M, 1) (1 + lambda (x - m)) for each call, x being 1 for
an event. While E[x | past] <= m the mean number of steps until M reaches 1 / alpha is at least 1 / alpha, whatever
the dependence between calls, so it needs no held-out windows. A step is a slot here, because counts have no order.
"""

from __future__ import annotations

import math

from driftline.drift.dispersion import Dispersion

RISES = (1.25, 1.5, 2.0, 4.0, 8.0, 16.0)
"""Rates that the mixture looks for, as multiples of the bound."""
SIGMAS = 2.33
"""One-sided 99 %."""


def envelope(events: int, calls: int, dispersion: Dispersion, tolerance: float) -> float:
    """The largest rate that is normal.

    The upper end of the reference rate's interval [Wilson 1927] for as many independent calls as the reference is
    worth, and above it the variation of the rate between windows that their dispersion shows; at least the
    relative `tolerance` above the rate.
    """
    rate = events / calls
    worth = calls / dispersion.estimate
    z2 = SIGMAS**2
    centre = (rate + z2 / (2 * worth)) / (1 + z2 / worth)
    width = SIGMAS / (1 + z2 / worth) * math.sqrt(rate * (1 - rate) / worth + z2 / (4 * worth**2))
    between = (dispersion.estimate - 1) * rate * (1 - rate) / dispersion.calls if dispersion.calls else 0.0
    return min(0.99, max(centre + width + SIGMAS * math.sqrt(between), rate * (1 + tolerance)))


class RateDetector:
    """The mixture of e-detectors for one feature. `logs` and `leader` are its whole state."""

    def __init__(self, bound: float) -> None:
        self.bound = bound
        rates = {min(rise * bound, (1 + bound) / 2) for rise in RISES}
        bets = [(rate - bound) / (bound * (1 - bound)) for rate in sorted(rates)]
        self._event = [math.log1p(bet * (1 - bound)) for bet in bets]
        self._quiet = [math.log1p(-bet * bound) for bet in bets]
        self.logs = [0.0] * len(bets)
        self.leader: int | None = None
        """The part of the mixture that was largest when it alarmed."""

    def update(self, events: int, calls: int, threshold: float) -> float:
        """Take in a slot; the logarithm of the mixture.

        From an alarm until `reset` it is that of the leader, held just above `threshold`: the leader bets on about
        the rate that alarmed and falls quickly when it is gone, while bets on smaller rises would linger.
        """
        ceiling = threshold + math.log(len(self.logs)) + 1
        self.logs = [
            min(max(log, 0.0) + events * event + (calls - events) * quiet, ceiling)
            for log, event, quiet in zip(self.logs, self._event, self._quiet, strict=True)
        ]
        if self.leader is not None:
            return self.logs[self.leader]
        top = max(self.logs)
        value = top + math.log(sum(math.exp(log - top) for log in self.logs) / len(self.logs))
        if value > threshold:
            self.leader = self.logs.index(top)
        return value

    def reset(self) -> None:
        self.logs = [0.0] * len(self.logs)
        self.leader = None
