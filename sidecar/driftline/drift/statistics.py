"""Distances between two vectors of counts: of the reference and of a window, bin by bin.

Every function takes integer arrays of the same length.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from driftline.drift.tally import Counts

Floats = npt.NDArray[np.float64]

SMOOTHING = 0.5
"""Added to every *count*. A floor on probabilities instead would let its arbitrary value decide what a bin that
vanished or appeared is worth: with 5 % gone, 0.31 for a floor of 1e-4 and 35 for the smallest float."""


class KolmogorovSmirnov(NamedTuple):
    """Bounds on the statistic of the values, from their bins."""

    low: float
    """The largest distance at an edge."""
    high: float
    """The largest distance possible inside a bin; at most `low` plus the largest bin's share."""


def shares(reference: Counts, window: Counts) -> tuple[Floats, Floats]:
    """Smoothed shares of the bins. Bins empty on both sides are no bins: they are left out and have share 0."""
    present = (reference + window) > 0
    bins = int(present.sum())
    p = np.where(present, (reference + SMOOTHING) / (reference.sum() + SMOOTHING * bins), 0.0)
    q = np.where(present, (window + SMOOTHING) / (window.sum() + SMOOTHING * bins), 0.0)
    return p, q


def psi_terms(reference: Counts, window: Counts) -> Floats:
    """Each bin's part of the population stability index, (q - p) ln(q / p); none is negative."""
    p, q = shares(reference, window)
    return np.asarray((q - p) * np.log(np.divide(q, p, out=np.ones_like(q), where=p > 0)))


def psi(reference: Counts, window: Counts) -> float:
    """Population stability index, the symmetric Kullback-Leibler divergence of the two distributions."""
    return float(psi_terms(reference, window).sum())


def chi2(reference: Counts, window: Counts) -> float:
    """Pearson's statistic of homogeneity of two samples [Cramer 1946, section 30.6]."""
    present = (reference + window) > 0
    n, m = reference[present].astype(np.float64), window[present].astype(np.float64)
    ratio = np.sqrt(m.sum() / n.sum())
    return float(((n * ratio - m / ratio) ** 2 / (n + m)).sum())


def ks(reference: Counts, window: Counts) -> KolmogorovSmirnov:
    """Kolmogorov-Smirnov of binned samples: bounds on the largest distance of their distribution functions.

    Inside a bin both functions only grow, from their value at its lower to that at its upper edge.
    """
    f = np.concatenate([[0.0], np.cumsum(reference) / reference.sum()])
    g = np.concatenate([[0.0], np.cumsum(window) / window.sum()])
    low = float(np.abs(f - g).max())
    high = float(np.maximum(f[1:] - g[:-1], g[1:] - f[:-1]).max())
    return KolmogorovSmirnov(low, max(low, high))


def movement(reference: Counts, window: Counts) -> float:
    """P(a window value is in a higher bin) - P(a lower one), from -1 to 1."""
    below = np.cumsum(reference) - reference
    above = reference.sum() - below - reference
    return float((window * (below - above)).sum() / (reference.sum() * window.sum()))
