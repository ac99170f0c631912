"""Rates of many groups at once from sums per patient: Wilson intervals, intervals and tests of their gaps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri
from scipy.stats import norm


class Rates(NamedTuple):
    """Rates of groups, each (groups,), NaN where a group is empty: share, its interval, and effective sample size."""

    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    size: np.ndarray

    def row(self, k: int) -> Rates:
        """Group k alone."""
        return Rates(self.share[k : k + 1], self.low[k : k + 1], self.high[k : k + 1], self.size[k : k + 1])


def wilson(total: np.ndarray, count: np.ndarray, alpha: float = 0.05) -> Rates:
    """`proportions.rate` for every row of `total`, `count` (groups, patients): hits and narratives of each patient."""
    n, clusters = count.sum(axis=1), (count > 0).sum(axis=1).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = total.sum(axis=1) / n
        residual = total - p[:, None] * count
        variance = clusters / (clusters - 1) * (residual**2).sum(axis=1) / n**2
        size = np.where(variance > 0, np.minimum(n, p * (1 - p) / variance), n)
        size = np.where((p > 0) & (p < 1) & (clusters > 1), size, clusters)
        size = np.where(clusters == n, n, size)
        z = float(ndtri(1 - alpha / 2))
        centre = (p + z * z / (2 * size)) / (1 + z * z / size)
        half = z / (1 + z * z / size) * np.sqrt(p * (1 - p) / size + z * z / (4 * size * size))
    return Rates(p, np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0), size)


def newcombe(one: Rates, other: Rates) -> tuple[np.ndarray, np.ndarray]:
    """Interval of the difference one minus other from their Wilson intervals (Newcombe 1998, method 10)."""
    gap = one.share - other.share
    low = gap - np.hypot(one.share - one.low, other.high - other.share)
    high = gap + np.hypot(one.high - one.share, other.share - other.low)
    return np.maximum(low, -1.0), np.minimum(high, 1.0)


def score_test(one: Rates, other: Rates, pooled: np.ndarray | float) -> np.ndarray:
    """Two-sided p-values of "both rates are equal" with the error of the `pooled` rate and effective sample sizes.

    Unlike Welch's test it knows that a group that was always right might not have been.
    """
    error = np.sqrt(pooled * (1 - pooled) * (1 / one.size + 1 / other.size))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error > 0, 2 * norm.sf(np.abs(one.share - other.share) / error), 1.0)


def few(rates: Rates, least: float = 5.0) -> np.ndarray:
    """Whether a group has fewer than `least` effective hits or misses, so that resamples vary too little."""
    return np.minimum(rates.share, 1 - rates.share) * rates.size < least
