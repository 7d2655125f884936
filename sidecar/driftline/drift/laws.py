"""When a distance is too large: its law where nothing moved by more than is tolerated.

`size` is s = 1/N + 1/M for N reference and M window calls, `tolerance` the PSI that is not worth an alarm, and
`dispersion` says how much noisier than independent calls the traffic is. Dispersion acts on the sample size
alone: as a factor on the whole threshold it would multiply the tolerance too, and hide real shifts.
"""

from __future__ import annotations

import math

from driftline.drift.dispersion import Dispersion
from driftline.drift.special import special

Law = tuple[float, float]
"""(threshold, probability of a value at least as large)."""


def psi_law(value: float, size: float, dispersion: Dispersion, *, tolerance: float, alpha: float) -> Law:
    """Of PSI: PSI / (phi s) follows a non-central chi-squared law with nu degrees, non-centrality delta / (phi s).

    Locally PSI is Pearson's chi-squared, scaled by s [Yurdakul 2018], and under a shift of PSI delta its
    non-centrality is delta / s.
    """
    scale = dispersion.factor * size
    centre = tolerance / scale
    threshold = scale * _chi2_quantile(alpha, dispersion.degrees, centre)
    return threshold, _chi2_tail(value / scale, dispersion.degrees, centre)


def chi2_law(value: float, size: float, dispersion: Dispersion, *, tolerance: float, alpha: float) -> Law:
    """Of Pearson's statistic, by the same law: it estimates PSI / s."""
    threshold, probability = psi_law(value * size, size, dispersion, tolerance=tolerance, alpha=alpha)
    return threshold / size, probability


def ks_law(
    value: float, size: float, dispersion: Dispersion, *, tolerance: float, alpha: float, steps: list[float]
) -> Law:
    """Of the binned Kolmogorov-Smirnov statistic; `steps` is the reference's distribution function at the edges.

    A PSI of delta allows a distance of sqrt(delta) / 2 (PSI >= 4 TV^2 by Pinsker's inequality, and KS <= TV);
    beyond it the excess is bounded by the smaller of two: sqrt(-ln(alpha / 2) s / 2) [Dvoretzky, Kiefer, Wolfowitz
    1956; Massart 1990], and Bonferroni's over the few edges of a feature with many ties.
    """
    allowed = math.sqrt(tolerance) / 2
    scale = dispersion.factor * size
    anywhere = math.sqrt(-0.5 * math.log(alpha / 2) * scale)
    widest = max((math.sqrt(step * (1 - step)) for step in steps), default=0.0)
    inner = sum(0 < step < 1 for step in steps)
    at_edges = widest * math.sqrt(scale) * -float(special().ndtri(alpha / (2 * inner))) if inner else anywhere
    excess = max(value - allowed, 0.0)
    return allowed + min(anywhere, at_edges), min(1.0, 2 * math.exp(-2 * excess**2 / scale))


def _chi2_quantile(alpha: float, degrees: float, centre: float) -> float:
    """The value that is exceeded with probability `alpha`."""
    return float(
        special().chndtrix(1 - alpha, degrees, centre) if centre > 0 else special().chdtri(degrees, alpha)
    )


def _chi2_tail(value: float, degrees: float, centre: float) -> float:
    # Good to 1e-15, far below any page budget; scipy.stats has the exact tail and costs 50 MB and a second.
    return max(0.0, 1 - float(special().chndtr(value, degrees, centre)))
