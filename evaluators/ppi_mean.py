"""A prediction-powered mean: few expert labels say how far the judge is off, many judge scores say the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from ..judge.errors import InputError
from .agreement import check_settings
from .bootstrap import FEWEST_CLUSTERS, Estimate
from .statistics import TINY


@dataclass(frozen=True)
class PredictionPowered:
    """A mean expert score (or a difference of two) estimated with the help of a judge, in scale units.

    `estimate`: the prediction-powered one, or the classical one where `fallback` says why. `classical`: the mean of the
    experts' scores alone; its n, and that of `estimate`, counts rated narratives (of a paired difference: rated cases).
    `judge`: the raw mean of the judge over everything it scored, rated or not. `lam` in [0, 1] is how far the judge is
    relied on; `correlation` is between judge and experts. `unlabelled`: scored by the judge alone; `clusters`: rated
    cases or patients. `width_ratio`: width of the interval over the classical one; `equivalent_labels`: how many labels
    would give the same width without a judge. `imbalance`: judge mean of the unrated minus that of the rated, in
    standard errors; far from 0, the rated cases are no random sample and nothing here holds.
    """

    estimate: Estimate
    classical: Estimate
    judge: Estimate
    lam: float | None
    correlation: float | None
    unlabelled: int
    clusters: int
    width_ratio: float | None
    equivalent_labels: float | None
    imbalance: float | None
    fallback: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return vars(self) | {name: getattr(self, name).to_dict() for name in ("estimate", "classical", "judge")}


class Mean(NamedTuple):
    """A mean of n values in some clusters, with its error as a sum over clusters, so that differences know theirs."""

    value: float
    influence: np.ndarray  # (clusters,): what each cluster adds to the error of the value
    n: int
    clusters: int

    def __sub__(self, other: Mean) -> Mean:  # type: ignore[override]
        n = self.n + other.n if self.n and other.n else 0
        influence = self.influence - other.influence
        return Mean(self.value - other.value, influence, n, min(self.clusters, other.clusters))

    @property
    def variance(self) -> float:
        """Cluster-robust (Liang and Zeger 1986), times G / (G - 1) for G clusters."""
        return float(self.influence @ self.influence) * self.clusters / (self.clusters - 1)

    def estimate(self, alpha: float) -> Estimate:
        if not self.n:
            return Estimate(None, 0, reason="no score")
        if self.clusters < FEWEST_CLUSTERS:
            reason = f"no interval: {self.clusters} clusters, at least {FEWEST_CLUSTERS} are needed"
            return Estimate(self.value, self.n, reason=reason)
        half = float(ndtri(1 - alpha / 2)) * self.variance**0.5
        return Estimate(self.value, self.n, self.value - half, self.value + half)


class Fit(NamedTuple):
    """The three means of one set of items and what weighed the judge; see `PredictionPowered`."""

    powered: Mean
    classical: Mean
    judge: Mean
    gap: Mean  # judge mean of the unlabelled minus that of the labelled
    unlabelled: int
    lam: float | None
    correlation: float | None
    fallback: str | None


def ppi_mean(
    y: Sequence[float] | np.ndarray,
    x: Sequence[float] | np.ndarray,
    cluster: Sequence[Any] | np.ndarray | None = None,
    alpha: float = 0.05,
) -> PredictionPowered:
    """The mean of `y` over all items, from the labelled ones and the judge's scores of all.

    `y` (items,): expert score, NaN where nobody rated; `x` (items,): judge score, NaN where it has none; `cluster`
    (items,): case or patient, default every item its own. Labelled clusters must be a random sample of all clusters.
    theta = mean(y_L) + lam (mean(x_U) - mean(x_L)), lam = cov(y, x) / ((1 + n / N) var(x)) clipped to [0, 1]
    (Angelopoulos, Duchi and Zrnic 2023, PPI++, arXiv 2311.01453), with a cluster-robust variance. A label without a
    judge score counts in mean(y_L), so that judges who refuse hard cases move nothing.

    Falls back to the classical mean if the judge is constant, nothing is unlabelled or fewer than 20 clusters are
    labelled; of fewer than 20 there is no interval. Raises InputError if the vectors differ in length.

    >>> draw = np.random.default_rng(0)
    >>> truth = draw.normal(3, 1, 500)
    >>> found = ppi_mean(np.where(np.arange(500) < 100, truth, np.nan), truth + draw.normal(0, 0.5, 500))
    >>> round(found.lam, 2), round(found.width_ratio, 2), round(found.equivalent_labels)
    (0.61, 0.59, 291)
    """
    check_settings(1, alpha)
    y, x = np.asarray(y, dtype=float), np.asarray(x, dtype=float)
    unit = np.arange(len(y)) if cluster is None else np.asarray(cluster)
    if y.ndim != 1 or not len(y) == len(x) == len(unit):
        raise InputError(f"y, x and cluster must be vectors of one length; got {y.shape}, {x.shape}, {unit.shape}")
    names, place = np.unique(unit, return_inverse=True)
    return report(fit(y, x, place, len(names)), alpha)


def fit(y: np.ndarray, x: np.ndarray, cluster: np.ndarray, n_clusters: int) -> Fit:
    """As `ppi_mean`, with clusters as 0-based numbers (items,) among `n_clusters`, still without an interval."""
    rated, scored = np.isfinite(y), np.isfinite(x)
    both, alone = rated & scored, scored & ~rated

    def mean(values: np.ndarray, kept: np.ndarray) -> Mean:
        n = int(kept.sum())
        value = float(values[kept].mean()) if n else 0.0
        influence = np.bincount(cluster[kept], (values[kept] - value) / max(n, 1), n_clusters)
        return Mean(value, influence, n, len(np.unique(cluster[kept])))

    classical, judge = mean(y, rated), mean(x, scored)
    labelled, unlabelled = mean(x, both), mean(x, alone)
    gap = unlabelled - labelled
    spread = float(x[scored].var(ddof=1)) if scored.sum() > 1 else 0.0
    fallback = None
    if not labelled.n:
        fallback = "no narrative has both an expert and a judge score"
    elif not unlabelled.n:
        fallback = "every narrative that the judge scored is rated: the judge has nothing to add"
    elif labelled.clusters < FEWEST_CLUSTERS:
        fallback = f"{labelled.clusters} rated clusters are too few to weigh the judge; {FEWEST_CLUSTERS} are needed"
    elif spread < TINY or x[both].var() < TINY:
        fallback = f"the judge is constant ({x[both][0]:g}) on the rated narratives"
    correlation = None
    if labelled.n > 1 and np.ptp(x[both]) > 0 and np.ptp(y[both]) > 0:
        correlation = float(np.corrcoef(x[both], y[both])[0, 1])
    if fallback:
        return Fit(classical, classical, judge, gap, unlabelled.n, None, correlation, fallback)
    covariance = float(np.cov(x[both], y[both], ddof=0)[0, 1])
    lam = min(max(covariance / ((1 + labelled.n / unlabelled.n) * spread), 0.0), 1.0)
    value, influence = classical.value + lam * gap.value, classical.influence + lam * gap.influence
    powered = classical._replace(value=value, influence=influence)
    return Fit(powered, classical, judge, gap, unlabelled.n, lam, correlation, None)


def report(found: Fit, alpha: float) -> PredictionPowered:
    """Values, intervals and what the judge saves."""
    best, plain, gap = found.powered.estimate(alpha), found.classical.estimate(alpha), found.gap
    ratio = None
    if best.high is not None and found.classical.variance > 0:
        ratio = (found.powered.variance / found.classical.variance) ** 0.5
    comparable = found.fallback is None and gap.clusters > 1 and gap.variance > 0
    return PredictionPowered(
        best, plain, found.judge.estimate(alpha), found.lam, found.correlation,
        found.unlabelled, found.classical.clusters, ratio,
        best.n / ratio**2 if ratio else None, gap.value / gap.variance**0.5 if comparable else None,
        found.fallback,
    )  # fmt: skip
