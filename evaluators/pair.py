"""One prediction against one target inside the resampling: exact moments, ranks on the values or on a stated grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .bootstrap import Sums
from .statistics import (
    best_constant,
    exact_ranks,
    joint_table,
    moment_features,
    moment_statistics,
    rank_statistics,
)

MOST_VALUES = 64  # distinct predictions up to which ranks are exact in every resample
MOST_TARGETS = 256


class Pair:
    """Features of one (prediction, target) in `Sums`, and the statistics from their sums.

    Moment statistics are exact always. Rank statistics and the best constant are exact if the values are few;
    otherwise resamples see bins of equal count, shifted so that the point estimate is the exact one. `grid_error`
    is the largest shift, 0 if nothing was binned.
    """

    def __init__(self, sums: Sums, name: str, x: np.ndarray, t: np.ndarray, code: np.ndarray, centre: float):
        """`x`, `t` (codes,): NaN where the pair does not exist; `code` (items,)."""
        self.name = name
        there = np.isfinite(x) & np.isfinite(t)
        self.x, self.t = np.where(there, x, np.nan), np.where(there, t, np.nan)
        self._code = code
        row, x_values, x_binned = places(self.x, code, MOST_VALUES)
        column, self.targets, t_binned = places(self.t, code, MOST_TARGETS)
        self.targets = self.targets if len(self.targets) else np.zeros(1)
        sums.add(f"{name}.moments", moment_features(self.x, self.t, centre))
        sums.add_table(f"{name}.table", row, column, (max(1, len(x_values)), len(self.targets)))
        self._shift: dict[str, float] = {}
        if x_binned or t_binned:
            whole_x, whole_t = self.x[code], self.t[code]
            kept = np.isfinite(whole_x)
            coarse = rank_statistics(joint_table(row[code][kept].astype(float), column[code][kept].astype(float)))
            exact = exact_ranks(whole_x, whole_t)
            self._shift = {k: exact[k] - float(v[0]) for k, v in coarse.items()}
            if t_binned:
                self._shift |= self._constant_shift(column[code][kept], whole_t[kept])

    @property
    def n(self) -> int:
        """How many items have both."""
        return int(np.isfinite(self.x[self._code]).sum())

    @property
    def grid_error(self) -> float:
        finite = [abs(v) for v in self._shift.values() if np.isfinite(v)]
        return max(finite, default=0.0)

    def statistics(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Moment and rank statistics, arrays (B,)."""
        ranks = rank_statistics(found[f"{self.name}.table"])
        ranks = {k: v + self._shift.get(k, 0.0) for k, v in ranks.items()}
        return moment_statistics(found[f"{self.name}.moments"]) | ranks

    def constant(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the best constant reaches on the same targets, arrays (B,); `constant` is the median of the targets."""
        best = best_constant(found[f"{self.name}.table"].sum(axis=0), self.targets)
        return {k: v + self._shift.get(f"constant.{k}", 0.0) for k, v in best.items()}

    def why_undefined(self) -> str:
        """Why a statistic of this pair does not exist on the data as they are."""
        x, t = self.x[np.isfinite(self.x)], self.t[np.isfinite(self.t)]
        if self.n == 0:
            return "no item has both scores"
        if self.n == 1:
            return "only one item has both scores"
        if np.ptp(x) == 0 and np.ptp(t) == 0:
            return f"prediction and target are constant ({x[0]:g} and {t[0]:g})"
        if np.ptp(x) == 0:
            return f"the prediction is constant ({x[0]:g})"
        if np.ptp(t) == 0:
            return f"the target is constant ({t[0]:g})"
        return "not defined on these scores"

    def _constant_shift(self, column: np.ndarray, t: np.ndarray) -> dict[str, float]:
        weights = np.bincount(column, minlength=len(self.targets)).astype(float)[:, None]
        values, counts = np.unique(t, return_counts=True)
        coarse, exact = best_constant(weights, self.targets), best_constant(counts[:, None], values)
        return {f"constant.{k}": float(v[0] - coarse[k][0]) for k, v in exact.items()}


def places(
    values: np.ndarray,
    code: np.ndarray,
    most: int,
    n_bins: int = MOST_VALUES,
    exact: Sequence[tuple[float, float]] = (),
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Place of each code's value among the distinct ones (-1: missing), those values, and whether they were binned.

    `values` (codes,), `code` (items,). More than `most` distinct values go to `n_bins` bins of equal count, each given
    its mean, but for those between the quantiles (low, high) of `exact`.
    """
    there = np.isfinite(values)
    _, first, place = np.unique(np.round(values[there], 9), return_index=True, return_inverse=True)
    distinct = values[there][first]
    full = np.full(len(values), -1, dtype=np.int64)
    if len(distinct) <= most:
        full[there] = place
        return full, distinct, False
    counts = np.bincount(code, minlength=len(values))[there].astype(float)
    weight = np.bincount(place, weights=counts, minlength=len(distinct))
    upto, n = np.cumsum(weight), weight.sum()
    bins = np.minimum(((upto - weight / 2) / n * n_bins).astype(int), n_bins - 1)
    alone = np.zeros(len(bins), dtype=bool)
    for low, high in exact:
        alone |= (upto - weight <= high * n) & (upto >= low * n)
    bins = np.concatenate([[0], np.cumsum((np.diff(bins) > 0) | alone[1:] | alone[:-1])])
    size = np.bincount(bins, weights=weight)
    full[there] = bins[place]
    return full, np.bincount(bins, weights=weight * distinct) / size, True
