"""Many means with shared resamples: whole clusters are redrawn, and every row sees the same draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .agreement import estimate
from .bootstrap import BLOCK, BUFFER_BYTES, Estimate, cluster_weights


def sum_draws(sums: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Each row's total in each resample: (rows, resamples) from sums per cluster (rows, clusters)."""
    clusters, blocks = sums.shape[1], -(-resamples // BLOCK)
    held = max(1, BUFFER_BYTES // (8 * BLOCK * max(1, clusters)))  # few large products: small ones starve threads
    parts = []
    for first in range(0, blocks, held):
        weights = [cluster_weights(clusters, block, seed) for block in range(first, min(first + held, blocks))]
        parts.append(sums @ np.concatenate(weights, axis=1).astype(np.float64))
    return np.concatenate(parts, axis=1)[:, :resamples]


def ratios(
    rows: Sequence[tuple[np.ndarray, np.ndarray]],
    resamples: int,
    seed: int,
    nothing: Sequence[str],
    alpha: float = 0.05,
) -> list[Estimate]:
    """Mean of each row with a percentile interval from redrawing clusters; rows share their draws.

    `rows`: sum of the values and their number in each cluster, as `per_cluster` gives them. `nothing`: per row, why it
    is empty if it is. Below 20 clusters with a value the mean stands without an interval (see `agreement.estimate`).
    """
    if not rows:
        return []
    totals, counts = (np.stack(part) for part in zip(*rows, strict=True))
    both = sum_draws(np.concatenate([totals, counts]), resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = both[: len(rows)] / both[len(rows) :]
    found = []
    for total, count, drawn, why in zip(totals, counts, draws, nothing, strict=True):
        n = round(float(count.sum()))
        if n:
            found.append(estimate(float(total.sum() / n), n, drawn, int((count > 0).sum()), alpha))
        else:
            found.append(Estimate(None, 0, reason=why))
    return found


def per_cluster(values: np.ndarray, cluster: np.ndarray, n_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the `values` (n,) that are not NaN in each cluster."""
    there = np.isfinite(values)
    return (
        np.bincount(cluster[there], values[there], n_clusters),
        np.bincount(cluster[there], minlength=n_clusters).astype(float),
    )
