"""What raters add to the scores they give: additive bias, Dawid-Skene confusion, and the consensus behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .agreement import check_settings, estimate, few_clusters
from .bootstrap import Estimate
from .ceiling import mean_of_experts
from .ratings import ITEM, Panel, normalise, read_panel
from .ratios import sum_draws
from .reliability import scale_values
from .statistics import SLACK

METHODS = ("mean", "median", "additive", "dawid-skene")
ITEMS_PER_LEVEL = 5  # a confusion row needs ratings: 30 items per rater on six levels
FEWEST_RATERS = 3  # two raters do not identify whose confusion it is
PSEUDO_COUNT = 0.01  # keeps a confusion never seen above probability 0
TOLERANCE = 1e-7  # change of the penalised log-likelihood per rating at which EM has converged


@dataclass(frozen=True)
class AdditiveModel:
    """y = item + bias + noise, by least squares; biases sum to zero over the raters of the dimension.

    `bias` by rater in scale units (positive: lenient; n ratings that share their item with another rater);
    `noise`: residual SD. `items` (items,): bias-free scores in the order of `ITEM`, NaN where nobody rated; they may
    lie off the scale, since nothing is cut.
    """

    dimension: str
    bias: Mapping[str, Estimate]
    noise: Estimate
    items: np.ndarray
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the items."""
        return {
            "dimension": self.dimension, "bias": {k: v.to_dict() for k, v in self.bias.items()},
            "noise": self.noise.to_dict(), "notes": list(self.notes),
        }  # fmt: skip


@dataclass(frozen=True)
class DawidSkene:
    """A latent level per item and a confusion matrix per rater, by maximum likelihood (EM).

    `values` (L,): the scale; `prior` (L,); `confusion` (raters, L, L): row true level, column given level;
    `posterior` (items, L), NaN where nobody rated. `converged` after `iterations`; `log_likelihood` penalised, per
    rating.
    """

    values: np.ndarray
    prior: np.ndarray
    confusion: np.ndarray
    posterior: np.ndarray
    log_likelihood: float
    iterations: int
    converged: bool

    @property
    def scores(self) -> np.ndarray:
        """Expected value of the posterior (items,), scale units."""
        return self.posterior @ self.values


def additive_model(
    frame: pl.DataFrame,
    levels: Sequence[int],
    cluster: Mapping[str, str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    alpha: float = 0.05,
) -> tuple[AdditiveModel, ...]:
    """How lenient each expert is, per dimension, with intervals by resampling clusters; ratings may be missing.

    `frame`, `levels`, `cluster`: see `ratings.read_panel`. Two-way additive model without interaction (Searle,
    Casella and McCulloch 1992). A dimension in which raters are not connected through common items has no biases, with
    the reason. Raises InputError on unusable input and on experts without identity.
    """
    check_settings(resamples, alpha)
    panel = _identified(read_panel(frame, levels, cluster))
    return tuple(_additive(panel, d, resamples, seed, alpha) for d in range(len(panel.dimensions)))


def additive_bias(ratings: np.ndarray) -> np.ndarray | None:
    """Least-squares bias of each rater (raters,), summing to zero; None if raters are not connected.

    `ratings` (items, raters), NaN for missing.

    >>> additive_bias(np.array([[1.0, 2.0, np.nan], [3.0, 4.0, 5.0], [np.nan, 2.0, 3.0]])).round(6).tolist()
    [-1.0, 0.0, 1.0]
    """
    sums = _features(np.asarray(ratings, dtype=float)).sum(axis=1, keepdims=True)
    bias = _solve(sums, np.shape(ratings)[1])[0][:, 0]
    return bias if np.isfinite(bias).all() else None


def _features(y: np.ndarray) -> np.ndarray:
    """Rows (R^2 + R + 2, items): normal equations of the biases with items eliminated, sum of squares, freedom."""
    there = np.isfinite(y)
    m = there.sum(axis=1, keepdims=True)
    shared = there & (m > 1)
    weight = np.where(shared, 1.0 / np.maximum(m, 1), 0.0)
    mean = np.where(there, y, 0.0).sum(axis=1, keepdims=True) / np.maximum(m, 1)
    d = np.where(shared, np.nan_to_num(y) - mean, 0.0)
    laplacian = -np.einsum("ir,is->irs", weight, shared.astype(float))
    place = np.arange(y.shape[1])
    laplacian[:, place, place] += shared
    return np.column_stack([laplacian.reshape(len(y), -1), d, (d * d).sum(axis=1), np.maximum(m[:, 0] - 1, 0)]).T


def _solve(sums: np.ndarray, raters: int) -> tuple[np.ndarray, np.ndarray]:
    """Bias (raters, B) and residual SD (B,) from sums of `_features` (rows, B); NaN where raters are not connected."""
    laplacian = np.moveaxis(sums[: raters**2].reshape(raters, raters, -1), 2, 0)
    right = sums[raters**2 : raters**2 + raters].T
    size = np.maximum(np.trace(laplacian, axis1=1, axis2=2) / raters, SLACK)[:, None, None]
    # Adding a multiple of the all-ones matrix leaves the solution that sums to zero, and makes it the only one.
    whole = laplacian / size + np.ones((raters, raters)) / raters
    connected = np.linalg.eigvalsh(whole)[:, 0] > SLACK
    whole[~connected] = np.eye(raters)
    bias = np.linalg.solve(whole, right[:, :, None] / size)[:, :, 0]
    free = sums[-1] - (raters - 1)
    left = np.maximum(sums[-2] - (bias * right).sum(axis=1), 0.0)
    bias = np.where(connected[:, None], bias, np.nan)
    usable = connected & (free > 0)
    return bias.T, np.where(usable, np.sqrt(left / np.where(free > 0, free, 1.0)), np.nan)


def _additive(panel: Panel, d: int, resamples: int, seed: int, alpha: float) -> AdditiveModel:
    y = panel.experts[d]
    present = np.flatnonzero(np.isfinite(y).any(axis=0))
    names, y = [panel.raters[r] for r in present], y[:, present]
    shared = np.isfinite(y).sum(axis=1) > 1
    given = np.isfinite(y[shared]).sum(axis=0)
    units, cluster = np.unique(panel.cluster[shared], return_inverse=True)
    bias = additive_bias(y) if len(names) > 1 else None
    if bias is None:
        reason = "the experts fall into groups that share no item, so their biases cannot be compared"
        if len(names) < 2:
            reason = f"{len(names)} expert(s); a bias is against other experts"
        nothing = {name: Estimate(None, int(n), reason=reason) for name, n in zip(names, given, strict=True)}
        return AdditiveModel(panel.dimensions[d], nothing, Estimate(None, 0, reason=reason), np.full(len(y), np.nan))
    features = _features(y[shared])
    per_cluster = np.stack([np.bincount(cluster, row, len(units)) for row in features])
    draws, noise = _solve(sum_draws(per_cluster, resamples, seed), len(names))
    sd = float(_solve(features.sum(axis=1, keepdims=True), len(names))[1][0])
    found = {name: estimate(float(bias[r]), int(given[r]), draws[r], len(units), alpha) for r, name in enumerate(names)}
    total = int(given.sum())
    spread = (
        estimate(sd, total, noise, len(units), alpha)
        if np.isfinite(sd)
        else Estimate(None, total, reason="no more ratings than effects")
    )
    return AdditiveModel(panel.dimensions[d], found, spread, mean_of_experts(y - bias), few_clusters(len(units)))


def dawid_skene(ratings: np.ndarray, values: Sequence[float] | np.ndarray, most: int = 1000) -> DawidSkene:
    """Latent levels and confusion matrices of identified raters (Dawid and Skene 1979), by EM in log space.

    `ratings` (items, raters), NaN for missing, each on `values` (the full scale, rising). Starts from the shares of the
    votes; confusion rows carry a pseudo-count of 0.01 per level. At most `most` iterations.

    Raises InputError for fewer than 3 raters, a rater with fewer than 5 items per level (30 on six levels) or a score
    off the scale: the additive model needs far less.
    """
    y, values = np.asarray(ratings, dtype=float), np.asarray(values, dtype=float)
    if y.ndim != 2:
        raise InputError(f"ratings must be (items, raters); got shape {y.shape}")
    there = np.isfinite(y)
    size, need = len(values), ITEMS_PER_LEVEL * len(values)
    if y.shape[1] < FEWEST_RATERS:
        raise InputError(f"Dawid-Skene needs {FEWEST_RATERS} raters, not {y.shape[1]}; use the additive model")
    if (fewest := int(there.sum(axis=0).min())) < need:
        raise InputError(
            f"Dawid-Skene on {size} levels needs {need} items per rater; the least busy has {fewest}; "
            "use the additive model"
        )
    given = np.abs(y[:, :, None] - values) < SLACK * 1000
    if int(given.sum()) != int(there.sum()):
        raise InputError(f"every rating must be one of {values.tolist()}")
    rated = there.any(axis=1)
    votes = given[rated].astype(float)
    n, raters = votes.shape[:2]
    flat = votes.reshape(n, raters * size)
    posterior = votes.sum(axis=1)
    posterior /= posterior.sum(axis=1, keepdims=True)
    before, converged, iterations = -np.inf, False, 0
    prior, confusion, likelihood = np.empty(size), np.empty((raters, size, size)), -np.inf
    while not converged and iterations < most:
        iterations += 1
        prior = (posterior.sum(axis=0) + PSEUDO_COUNT) / (n + size * PSEUDO_COUNT)
        confusion = np.swapaxes((posterior.T @ flat).reshape(size, raters, size), 0, 1) + PSEUDO_COUNT
        confusion /= confusion.sum(axis=2, keepdims=True)
        log_confusion = np.log(confusion)
        log_joint = np.log(prior) + flat @ np.swapaxes(log_confusion, 1, 2).reshape(raters * size, size)
        top = log_joint.max(axis=1, keepdims=True)
        posterior = np.exp(log_joint - top)
        total = posterior.sum(axis=1, keepdims=True)
        posterior /= total
        penalty = PSEUDO_COUNT * (np.log(prior).sum() + log_confusion.sum())
        likelihood = float((top + np.log(total)).sum() + penalty) / flat.sum()
        converged, before = likelihood - before < TOLERANCE, likelihood
    full = np.full((len(y), size), np.nan)
    full[rated] = posterior
    return DawidSkene(values, prior, confusion, full, likelihood, iterations, converged)


def consensus(
    frame: pl.DataFrame, levels: Sequence[int], method: str = "mean", cluster: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """One expert score per narrative and dimension out of all experts', as ratings that `agree` reads as a target.

    `method`: "mean", "median", "additive" (mean after each expert's bias is taken off; may lie off the scale) or
    "dawid-skene" (posterior mean, with the posterior as `distribution`). Returns a long table: the narrative's key,
    rater "consensus (method)", rater_kind "expert", stage, dimension, score, experts (how many rated); patient_id where
    the ratings have it. Narratives without an expert score are not in it.

    Raises InputError for an unknown method, experts without identity (additive, dawid-skene), raters who share no item
    (additive), too few items per rater (dawid-skene), EM that does not converge.
    """
    if method not in METHODS:
        raise InputError(f"unknown consensus method '{method}'; known: {', '.join(METHODS)}")
    panel = read_panel(frame, levels, cluster)
    if method in ("additive", "dawid-skene"):
        _identified(panel)
    rows = normalise(frame)
    keys = rows.select(ITEM).unique().sort(ITEM)
    if "patient_id" in rows.columns:
        patients = rows.select("case_id", "patient_id").unique("case_id")
        keys = keys.join(patients, on="case_id", how="left", maintain_order="left")
    tables = []
    for d, dimension in enumerate(panel.dimensions):
        y = panel.experts[d]
        y = y[:, np.isfinite(y).any(axis=0)]
        scores, posterior = _consensus(y, panel.levels, method, dimension)
        table = keys.with_columns(
            pl.lit(f"consensus ({method})").alias("rater"), pl.lit("expert").alias("rater_kind"),
            pl.lit(panel.stage).alias("stage"), pl.lit(dimension).alias("dimension"),
            pl.Series("score", scores), pl.Series("experts", np.isfinite(y).sum(axis=1)),
        )  # fmt: skip
        if posterior is not None:
            table = table.with_columns(pl.Series("distribution", posterior.tolist(), dtype=pl.List(pl.Float64)))
        tables.append(table.filter(pl.col("score").is_not_nan()))
    return pl.concat(tables)


def _consensus(
    y: np.ndarray, levels: Sequence[int], method: str, dimension: str
) -> tuple[np.ndarray, np.ndarray | None]:
    if method == "mean" or not y.shape[1]:
        return mean_of_experts(y), None
    if method == "median":
        rated = np.isfinite(y).any(axis=1)
        scores = np.full(len(y), np.nan)
        scores[rated] = np.nanmedian(y[rated], axis=1)
        return scores, None
    if method == "additive":
        bias = additive_bias(y)
        if bias is None:
            raise InputError(f"{dimension}: the experts fall into groups that share no item; their bias is unknown")
        return mean_of_experts(y - bias), None
    values = scale_values(levels, y)
    if values is None:
        raise InputError(f"{dimension}: the experts' scores lie on no evenly spaced scale; use the additive model")
    try:
        found = dawid_skene(y, values)
    except InputError as error:
        raise InputError(f"{dimension}: {error}") from error
    if not found.converged:
        raise InputError(f"{dimension}: EM did not converge in {found.iterations} iterations; use the additive model")
    # `distribution` is over whole levels; half steps have none.
    return found.scores, found.posterior if len(values) == len(levels) else None


def _identified(panel: Panel) -> Panel:
    if not panel.raters:
        raise InputError("the ratings hold no expert score; rater models need rater_kind 'expert'")
    if not panel.identity:
        raise InputError("the experts have no identity; a rater model needs to know who gave which score")
    return panel
