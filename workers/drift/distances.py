"""How far two histograms are apart, and how far they are by chance alone.

Both distances are above zero between samples of one and the same distribution. What is chance depends on how
many independent parts are behind each histogram, and so do the limits here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

Shares = NDArray[np.float64]


def psi(found: Shares, expected: Shares) -> float:
    """Population stability index: sum of (p - q) ln(p / q) over the bins; infinite where one alone is empty.

    Args:
        found, expected: counts or shares of like bins; each is brought to a sum of one.

    Raises:
        ValueError: other numbers of bins, or nothing in one of the two.
    """
    p, q = _shares(found, expected)
    some = (p > 0) | (q > 0)
    if bool(np.any((p > 0) != (q > 0))):
        return math.inf
    return max(0.0, float(np.sum((p - q)[some] * np.log(p[some] / q[some]))))


def ks(found: Shares, expected: Shares) -> float:
    """Kolmogorov-Smirnov distance at the edges of the bins: the largest difference of the sums up to one.

    At most the distance of the samples themselves. Raises ValueError as :func:`psi`.
    """
    p, q = _shares(found, expected)
    return float(np.max(np.abs(np.cumsum(p - q)[:-1]), initial=0.0))


def psi_limit(bins: int, n: float, m: float, alpha: float) -> float:
    """The index that histograms of ``n`` and ``m`` independent parts exceed with chance ``alpha``.

    For many parts the index is (1/n + 1/m) times a chi-squared number of bins - 1 degrees of freedom
    (Yurdakul 2018): 0.1 or 0.25, the usual limits, mean something for thousands of parts only.
    """
    return (1.0 / n + 1.0 / m) * float(special.chdtri(max(bins - 1, 1), alpha))


def ks_limit(n: float, m: float, alpha: float) -> float:
    """The distance that samples of ``n`` and ``m`` independent parts exceed with chance ``alpha``, at most.

    Of the Kolmogorov distribution: chance = 2 exp(-2 d^2 n m / (n + m)) in its tail.
    """
    return math.sqrt(-0.5 * math.log(alpha / 2.0) * (1.0 / n + 1.0 / m))


def shift_limit(n: float, m: float, alpha: float) -> float:
    """The difference of two means, in standard deviations, that chance exceeds with ``alpha``."""
    return float(-special.ndtri(alpha / 2.0)) * math.sqrt(1.0 / n + 1.0 / m)


def smoothed(counts: Shares, n: float) -> Shares:
    """Shares of ``n`` parts with half a part more in each bin: an empty bin is few parts, not none ever."""
    total = float(counts.sum())
    scaled = counts * (n / total) if total > 0 else counts
    return np.asarray((scaled + 0.5) / (scaled.sum() + 0.5 * counts.size))


def coarse(shares: Shares, bins: int) -> Shares:
    """The same in about ``bins`` bins, neighbours together: the index is steadier with fewer."""
    step = max(1, round(shares.size / bins))
    return np.add.reduceat(shares, np.arange(0, shares.size, step))


def _shares(found: Shares, expected: Shares) -> tuple[Shares, Shares]:
    if found.shape != expected.shape:
        raise ValueError(f"histograms of {found.size} and {expected.size} bins cannot be compared")
    sums = float(found.sum()), float(expected.sum())
    if not min(sums) > 0:
        raise ValueError("a histogram without parts cannot be compared")
    return found / sums[0], expected / sums[1]
