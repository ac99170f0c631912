"""Intervals for rates and means where narratives of one patient belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import ndtri

from .bootstrap import BLOCK, FEWEST_CLUSTERS, Estimate, cluster_weights, interval


def rate(
    hit: Sequence[bool] | np.ndarray, cluster: Sequence[int] | np.ndarray, alpha: float = 0.05, what: str = "case"
) -> Estimate:
    """Share of hits with a Wilson interval (Wilson 1927), widened where one cluster holds several.

    `hit`, `cluster` (n,): whether it is one, and the number of the patient. With several per patient the effective
    sample size p(1-p) / var takes the place of n (Korn & Graubard 1998; var by clusters, never above n); with no
    or only hits it is the number of patients. Without data the value is None and the reason names `what`.

    >>> found = rate([True] * 8 + [False] * 2, range(10))
    >>> round(found.value, 1), round(found.low, 3), round(found.high, 3)
    (0.8, 0.49, 0.943)
    """
    hits = np.asarray(hit, dtype=float)
    n = len(hits)
    if not n:
        return Estimate(None, 0, reason=f"no {what}")
    _, place = np.unique(np.asarray(cluster), return_inverse=True)
    clusters = int(place.max()) + 1
    p = float(hits.mean())
    size = float(n)
    if clusters < n:
        size = float(clusters)
        if 0 < p < 1 and clusters > 1:
            residual = np.bincount(place, hits - p)
            variance = clusters / (clusters - 1) * float(residual @ residual) / n**2
            size = min(float(n), p * (1 - p) / variance) if variance > 0 else float(n)
    z = float(ndtri(1 - alpha / 2))
    centre = (p + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * float(np.sqrt(p * (1 - p) / size + z * z / (4 * size * size)))
    return Estimate(p, n, max(0.0, centre - half), min(1.0, centre + half))


def resampled(
    sums: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    n: int,
    seed: int = 0,
    resamples: int = 2000,
    alpha: float = 0.05,
    undefined: str = "no case",
) -> Estimate:
    """A statistic of sums over patients, with a percentile interval from redrawing patients.

    `sums` (features, clusters); `statistic` maps (features, draws) to (draws,), NaN where it does not exist: then the
    value is None and `undefined` the reason. `n` stands beside the value. Below FEWEST_CLUSTERS there is no interval.
    """
    clusters = sums.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(sums.sum(axis=1, keepdims=True))[0]) if clusters else float("nan")
        if not np.isfinite(value):
            return Estimate(None, n, reason=undefined)
        if clusters < FEWEST_CLUSTERS:
            return Estimate(value, n, reason=f"no interval: {clusters} patients, {FEWEST_CLUSTERS} are needed")
        draws = np.concatenate(
            [statistic(sums @ cluster_weights(clusters, b, seed)) for b in range(-(-resamples // BLOCK))]
        )
    low, high, missing = interval(draws[:resamples], alpha)
    return Estimate(
        value, n, low, high, None if low is not None and high is not None else "too few defined resamples", missing
    )


def mean(
    values: Sequence[float] | np.ndarray, cluster: Sequence[int] | np.ndarray, seed: int = 0, resamples: int = 2000
) -> Estimate:
    """Mean of `values` (n,) with a percentile interval from redrawing the patients in `cluster` (n,)."""
    numbers = np.asarray(values, dtype=float)
    if not len(numbers):
        return Estimate(None, 0, reason="no case")
    _, place = np.unique(np.asarray(cluster), return_inverse=True)
    sums = np.stack([np.bincount(place, numbers), np.bincount(place).astype(float)])
    return resampled(sums, lambda s: s[0] / s[1], len(numbers), seed, resamples)
