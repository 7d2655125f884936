"""The chi-squared law, central and not: its tail, and the value that is exceeded with a given probability.

Ours, because these two functions were all that was used of scipy, which takes 25 MB of a sidecar's memory and half a
second of its start. Only positive terms are added, so tails of any size are right in their first ten digits; the tests
hold them against scipy.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

_EPSILON = 1e-15
_CLOSE = 1e-10
Numbers = npt.NDArray[np.float64]


def tail(x: float, degrees: float, centre: float = 0.0) -> float:
    """The probability of more than `x` under `degrees` (above 0) and the non-centrality `centre` (0 or more)."""
    return _tail_and_density(x, degrees, centre)[0] if x > 0 else 1.0


@lru_cache(maxsize=4096)
def quantile(probability: float, degrees: float, centre: float = 0.0) -> float:
    """The value that is exceeded with `probability`, above 0 and below 1.

    Newton's method on the logarithm of the tail, which is nearly straight, inside a bracket.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability is {probability}; it lies between 0 and 1")
    low, high = 0.0, math.inf
    x = degrees + centre
    for _ in range(1000):
        above, density = _tail_and_density(x, degrees, centre)
        if above > probability:
            low = x
        else:
            high = x
        step = math.log(above / probability) * above / density if above and density else math.nan
        nearer = x + step
        if abs(step) <= _CLOSE * x:
            return nearer
        if not low < nearer < high:
            nearer = (low + high) / 2 if math.isfinite(high) else 2 * x
        x = nearer
    raise ArithmeticError(f"no quantile of {probability}, {degrees} and {centre}")


def _tail_and_density(x: float, degrees: float, centre: float) -> tuple[float, float]:
    """A Poisson mixture of central laws [Johnson, Kotz, Balakrishnan 1995, eq. 29.2].

    The weights are those of j ~ Poisson(centre / 2), the laws' degrees are `degrees` + 2 j, and each tail is the one
    before it plus a term [DLMF 8.8.6].
    """
    shape, y, mean = degrees / 2, x / 2, centre / 2
    first, last = _range(mean)
    j = np.arange(first, last + 1, dtype=np.float64)
    weights = _powers(mean, j) if mean else np.ones(1)
    terms = _powers(y, j + shape)
    tails = upper_gamma(shape + first, y) + np.concatenate(([0.0], np.cumsum(terms[:-1])))
    densities = terms * (j + shape) / y / 2
    return float(weights @ tails), float(weights @ densities)


def _range(mean: float) -> tuple[int, int]:
    """Outside of it a Poisson variable has less than 1e-35 to either side."""
    reach = 13 * math.sqrt(mean)
    return max(0, math.floor(mean - reach)), math.ceil(mean + reach + (60 if mean else 0))


def _powers(y: float, exponents: Numbers) -> Numbers:
    """y^e exp(-y) / Gamma(e + 1) for exponents that go up by one."""
    start = float(exponents[0])
    logarithms = np.log(y / exponents[1:]) if len(exponents) > 1 else np.empty(0)
    first = start * math.log(y) - y - math.lgamma(start + 1)
    return np.exp(first + np.concatenate(([0.0], np.cumsum(logarithms))))


def upper_gamma(a: float, y: float) -> float:
    """The regularized incomplete gamma function Q(a, y), both above 0: by its series where that is quick [DLMF
    8.11.4], else by Legendre's continued fraction [DLMF 8.9.2], evaluated as Lentz does."""
    front = math.exp(a * math.log(y) - y - math.lgamma(a))
    if y < a + 1:
        term = total = 1 / a
        n = a
        while term > total * _EPSILON:
            n += 1
            term *= y / n
            total += term
        return max(0.0, 1 - front * total)
    b = y + 1 - a
    c, d = math.inf, 1 / b
    fraction = d
    for n in range(1, 100_000):
        numerator = n * (a - n)
        b += 2
        d = 1 / (numerator * d + b)
        c = b + numerator / c
        fraction *= c * d
        if abs(c * d - 1) < _EPSILON:
            break
    return front * fraction
