"""Means, ratios and differences with 95 % intervals, patients redrawn: what the figures of a judge are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..evaluators.bootstrap import BLOCK, FEWEST_CLUSTERS, cluster_weights, interval

RESAMPLES = 2048


def patient_weights(patients: int, seed: int) -> np.ndarray:
    """How often each patient is drawn: [patients, RESAMPLES]."""
    return np.concatenate([cluster_weights(patients, b, seed) for b in range(RESAMPLES // BLOCK)], axis=1)


def mean(values: np.ndarray, cluster: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    return estimate(float(values.mean()), _draws(values, cluster, weights), cluster)


def against(
    other: str, mine: np.ndarray, theirs: np.ndarray, cluster: np.ndarray, weights: np.ndarray
) -> dict[str, Any]:
    """The other predictor's error, and ratio and difference to it on the same narratives and the same draws."""
    a, b = _draws(mine, cluster, weights), _draws(theirs, cluster, weights)
    value, base = float(mine.mean()), float(theirs.mean())
    return {
        f"mae_{other}": estimate(base, b, cluster),
        f"ratio_{other}": estimate(value / base, a / b, cluster) if base > 0 else None,
        f"difference_{other}": estimate(value - base, a - b, cluster),
    }


def correlation(a: np.ndarray, b: np.ndarray, kind: Callable[..., Any]) -> float | None:
    """None where one of the two is constant."""
    return float(kind(a, b).statistic) if len(a) > 2 and a.std() > 0 and b.std() > 0 else None


def estimate(value: float, draws: np.ndarray, cluster: np.ndarray) -> dict[str, Any]:
    """Value and 95 % interval; no interval below 20 patients."""
    if (patients := len(np.unique(cluster))) < FEWEST_CLUSTERS:
        reason = f"{patients} patients, {FEWEST_CLUSTERS} are needed"
        return {"value": value, "low": None, "high": None, "reason": reason}
    low, high, _ = interval(draws, 0.05)
    return {"value": value, "low": low, "high": high}


def _draws(values: np.ndarray, cluster: np.ndarray, weights: np.ndarray) -> np.ndarray:
    size = len(weights)
    with np.errstate(invalid="ignore"):
        return (np.bincount(cluster, values, size) @ weights) / (np.bincount(cluster, minlength=size) @ weights)
