"""What a calibration is worth on unseen cases: cross-fitting by cluster, per system, with a system left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .agreement import estimate
from .bootstrap import Cell, Estimate, Sums, point, resample
from .calibration_maps import METHODS, ScoreMap, fit_map, why_unfit
from .pair import Pair
from .ratios import per_cluster, ratios

MEASURES = ("bias", "mae", "rmse", "spearman")
PER_BIN, MOST_BINS = 20, 10  # clusters that a bin of the reliability curve should hold; bins


@dataclass(frozen=True)
class Labelled:
    """The items of one dimension that the judge scored and an expert rated, complete: arrays (items,).

    `x`: judge; `y`: mean of the experts; `shares` (items, L) of the experts' ratings on `values` (L,), or None;
    `cluster`: 0-based among `n_clusters`; `system`: 0-based; `fold`: 0-based, the same for all items of a cluster.
    """

    x: np.ndarray
    y: np.ndarray
    shares: np.ndarray | None
    values: np.ndarray | None
    cluster: np.ndarray
    n_clusters: int
    system: np.ndarray
    fold: np.ndarray

    def part(self, kept: np.ndarray) -> Labelled:
        shares = None if self.shares is None else self.shares[kept]
        arrays = (a[kept] for a in (self.cluster, self.system, self.fold))
        cluster, system, fold = arrays
        return Labelled(self.x[kept], self.y[kept], shares, self.values, cluster, self.n_clusters, system, fold)

    def fit(self, method: str) -> ScoreMap:
        return fit_map(method, self.x, self.y, self.shares, self.values)

    def why_unfit(self, method: str) -> str | None:
        return why_unfit(method, self.x, self.shares)


def assign_folds(cluster: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold (items,) of each item: clusters are dealt out at random, as evenly as they go.

    >>> sorted(assign_folds(np.array([0, 0, 1, 2, 3]), 2, seed=0)[1:].tolist())
    [0, 0, 1, 1]
    """
    names, place = np.unique(cluster, return_inverse=True)
    dealt = np.empty(len(names), dtype=np.int64)
    dealt[np.random.default_rng(seed).permutation(len(names))] = np.arange(len(names)) % folds
    return dealt[place]


def choose_method(data: Labelled, folds: int, seed: int) -> tuple[str | None, dict[str, float | None]]:
    """The method with the lowest cross-fitted RMSE (a tie goes to the simpler one), and that of each method.

    None where a method cannot be fitted in every fold.
    """
    fold = assign_folds(data.cluster, folds, seed)
    found: dict[str, float | None] = {}
    for method in METHODS:
        z, _ = _out_of_fold(data, fold, {int(k): method for k in np.unique(fold)})
        found[method] = None if z is None else float(np.sqrt(np.mean((z - data.y) ** 2)))
    best = min((m for m in METHODS if found[m] is not None), key=lambda m: (found[m], METHODS.index(m)), default=None)
    return best, found


def cross_fit(
    data: Labelled, method: str | None, folds: int, seed: int
) -> tuple[np.ndarray | None, dict[int, str], str | None]:
    """Calibrated scores (items,), each by a map fitted on the other folds; the method per fold; why there are none.

    `method` None: each fold's method is chosen on the other folds alone, so that the choice is cross-fitted too.
    """
    methods: dict[int, str] = {}
    names = np.unique(data.fold)
    if len(names) < 2:
        return None, methods, f"the labelled cases lie in {len(names)} fold(s); at least 2 are needed"
    for k in names:
        train = data.part(data.fold != k)
        chosen = method
        if chosen is None:
            if (there := len(np.unique(train.cluster))) < 2:
                return None, methods, f"{there} case(s) outside fold {k}"
            chosen, _ = choose_method(train, min(folds, there), seed + 1 + int(k))
        if chosen is None:
            return None, methods, f"without fold {k} no map can be fitted: {train.why_unfit('shift')}"
        methods[int(k)] = chosen
    z, reason = _out_of_fold(data, data.fold, methods)
    return z, methods, reason


def leave_system_out(data: Labelled, methods: Mapping[int, str]) -> tuple[np.ndarray, dict[int, str]]:
    """Calibrated scores (items,) by maps that saw neither the item's system nor its fold; per system why there is none.

    The same cases come back under other systems, so a map without the system alone would have seen the case.
    `methods`: per fold, as `cross_fit` gives them.
    """
    z = np.full(len(data.x), np.nan)
    reasons: dict[int, str] = {}
    for s in np.unique(data.system):
        own = data.system == s
        for k in np.unique(data.fold[own]):
            train = data.part(~own & (data.fold != k))
            if reason := train.why_unfit(methods[int(k)]):
                reasons[int(s)] = f"no map without this system and fold {k}: {reason}"
                z[own] = np.nan
                break
            here = own & (data.fold == k)
            z[here] = train.fit(methods[int(k)]).predict(data.x[here])
    return z, reasons


def _out_of_fold(data: Labelled, fold: np.ndarray, methods: Mapping[int, str]) -> tuple[np.ndarray | None, str | None]:
    z = np.empty(len(data.x))
    for k, method in methods.items():
        train = data.part(fold != k)
        if reason := train.why_unfit(method):
            return None, f"without fold {k} no map can be fitted: {reason}"
        z[fold == k] = train.fit(method).predict(data.x[fold == k])
    return z, None


def before_and_after(
    data: Labelled, z: np.ndarray, levels: Sequence[int], resamples: int, seed: int, alpha: float
) -> dict[str, Estimate]:
    """before.*, after.* and change.* (after minus before, paired) of bias, mae, rmse, spearman, with intervals."""
    code = np.arange(len(z))
    sums = Sums(code, data.cluster, data.n_clusters)
    centre = (levels[0] + levels[-1]) / 2
    pairs = {name: Pair(sums, name, x, data.y, code, centre) for name, x in (("before", data.x), ("after", z))}

    def finish(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        each = {name: pair.statistics(found) for name, pair in pairs.items()}
        out = {f"{name}.{m}": each[name][m] for name in pairs for m in MEASURES}
        return out | {f"change.{m}": each["after"][m] - each["before"][m] for m in MEASURES}

    cell = [Cell((sums,), finish)]
    values, draws = point(cell, data.n_clusters)[0], resample(cell, data.n_clusters, resamples, seed)[0]
    clusters = len(np.unique(data.cluster))
    results = {}
    for name, value in values.items():
        if np.isfinite(value):
            results[name] = estimate(value, len(z), draws[name], clusters, alpha)
        else:
            pair = pairs["before"] if name.startswith("before") else pairs["after"]
            results[name] = Estimate(None, len(z), reason=pair.why_undefined())
    return results


def by_group(
    data: Labelled, z: np.ndarray, kept: Sequence[np.ndarray], resamples: int, seed: int, alpha: float
) -> list[dict[str, Estimate]]:
    """before.* and after.* bias, mae, rmse and change.mae of each group of items; `kept`: masks (items,)."""
    rows, names = [], list[str]()
    before, after = data.x - data.y, z - data.y
    for mask in kept:
        mask = mask & np.isfinite(z)
        values = {"change.mae": np.abs(after) - np.abs(before)}
        for name, d in (("before", before), ("after", after)):
            values |= {f"{name}.bias": d, f"{name}.mae": np.abs(d), f"{name}.rmse": d * d}
        names = list(values)
        rows += [per_cluster(v[mask], data.cluster[mask], data.n_clusters) for v in values.values()]
    found = iter(ratios(rows, resamples, seed, ["no labelled item"] * len(rows), alpha))
    return [{name: _root(next(found)) if name.endswith("rmse") else next(found) for name in names} for _ in kept]


def _root(square: Estimate) -> Estimate:
    value, low, high = (None if v is None else float(np.sqrt(v)) for v in (square.value, square.low, square.high))
    return Estimate(value, square.n, low, high, square.reason, square.undefined)


@dataclass(frozen=True)
class ReliabilityBin:
    """A stretch of predictions: `low` to `high`, their mean, and the mean of the experts on the same items."""

    low: float
    high: float
    predicted: float
    expert: Estimate
    clusters: int

    def to_dict(self) -> dict[str, object]:
        return vars(self) | {"expert": self.expert.to_dict()}


def reliability(data: Labelled, z: np.ndarray, resamples: int, seed: int, alpha: float) -> tuple[ReliabilityBin, ...]:
    """The reliability curve of predictions `z` (items,): bins of about equal count, equal predictions never split.

    A calibrated judge has the experts' mean at the predicted mean in every bin. At most 10 bins, fewer where clusters
    are few.
    """
    bins = int(np.clip(len(np.unique(data.cluster)) // PER_BIN, 2, MOST_BINS))
    at, place, count = np.unique(np.round(z, 9), return_inverse=True, return_counts=True)
    middle = (np.cumsum(count) - count / 2) / len(z)
    _, bin_of = np.unique(np.minimum((middle * bins).astype(int), bins - 1)[place], return_inverse=True)
    masks = [bin_of == b for b in range(int(bin_of.max()) + 1)]
    rows = [per_cluster(data.y[m], data.cluster[m], data.n_clusters) for m in masks]
    experts = ratios(rows, resamples, seed, [""] * len(rows), alpha)
    return tuple(
        ReliabilityBin(
            float(z[m].min()), float(z[m].max()), float(z[m].mean()), expert, len(np.unique(data.cluster[m]))
        )
        for m, expert in zip(masks, experts, strict=True)
    )
