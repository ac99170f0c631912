"""The human ceiling: each expert, and the judge, against the mean of the OTHER experts on the same items."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .bootstrap import Sums
from .pair import Pair

STATISTICS = ("mae", "rmse", "within_0.5", "within_1", "pearson", "spearman", "kendall_tau_b", "ccc")
ABSOLUTE = STATISTICS[:4]
RANKS = {"loo_rank.judge_beats_expert": ("mae", -1), "loo_rank.judge_orders_better": ("spearman", 1)}
FEWEST_ITEMS = 10  # an expert with fewer leave-one-out items in a dimension is listed and left out


def mean_of_experts(ratings: np.ndarray) -> np.ndarray:
    """Mean of the experts who rated the item: (items,) from (items, raters), NaN where nobody did."""
    there = np.isfinite(ratings)
    total = np.where(there, ratings, 0.0).sum(axis=1)
    # Rounding keeps equal means equal; 1e-12 is far below any scale step.
    return np.where(there.any(axis=1), np.round(total / np.maximum(there.sum(axis=1), 1), 12), np.nan)


def leave_one_out_targets(ratings: np.ndarray) -> np.ndarray:
    """Mean of the other experts: (items, raters), NaN where this expert or all others are missing.

    >>> leave_one_out_targets(np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan]]))
    array([[ 2.,  1., nan],
           [nan, nan, nan]])
    """
    there = np.isfinite(ratings)
    total = np.where(there, ratings, 0.0).sum(axis=1, keepdims=True)
    others = there.sum(axis=1, keepdims=True) - 1
    mean = (total - np.where(there, ratings, 0.0)) / np.maximum(others, 1)
    return np.where(there & (others > 0), np.round(mean, 12), np.nan)


class Ceiling:
    """Leave-one-out comparison inside the resampling: judge, experts and the best constant on identical targets.

    For each expert r the target is the mean of the others on the items that r rated; score r, the judge and the best
    constant against it; average over experts. A judge scored against the full mean would have an easier
    target than the experts, so that number is never put beside theirs.
    """

    def __init__(self, sums: Sums, x: np.ndarray, ratings: np.ndarray, code: np.ndarray, centre: float):
        """`x` (codes,): the judge; `ratings` (codes, raters): the experts; `code` (items,)."""
        targets = leave_one_out_targets(ratings)
        both = np.isfinite(targets) & np.isfinite(x)[:, None]
        weight = np.bincount(code, minlength=len(x))
        items = weight @ both
        self.raters = [int(r) for r in np.flatnonzero(items >= FEWEST_ITEMS)]
        self.left_out = [int(r) for r in np.flatnonzero((items > 0) & (items < FEWEST_ITEMS))]
        self.n = int(sum(items[r] for r in self.raters))
        self.judge, self.expert = [], []
        for r in self.raters:
            target = np.where(both[:, r], targets[:, r], np.nan)
            self.judge.append(Pair(sums, f"loo_judge_{r}", x, target, code, centre))
            self.expert.append(Pair(sums, f"loo_expert_{r}", ratings[:, r], target, code, centre))

    @staticmethod
    def names() -> list[str]:
        """Keys of `statistics`."""
        of_all = [f"{group}.{s}" for group in ("loo_judge", "loo_expert", "judge_minus_expert") for s in STATISTICS]
        return [*of_all, *(f"loo_constant.{s}" for s in ABSOLUTE), *RANKS]

    @property
    def grid_error(self) -> float:
        return max((pair.grid_error for pair in (*self.judge, *self.expert)), default=0.0)

    def statistics(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays (B,) named loo_judge.*, loo_expert.*, loo_constant.*, judge_minus_expert.* and loo_rank.

        loo_rank, the judge's percentile among the experts: share of them whose own error is larger than the judge's on
        the same targets (judge_beats_expert) and whose Spearman correlation is smaller (judge_orders_better); equal
        counts one half. An average over experts is undefined where it is for any of them.
        """
        judge = [pair.statistics(found) for pair in self.judge]
        expert = [pair.statistics(found) for pair in self.expert]
        constant = [pair.constant(found) for pair in self.judge]
        out: dict[str, np.ndarray] = {}
        for name in STATISTICS:
            out[f"loo_judge.{name}"] = np.mean([s[name] for s in judge], axis=0)
            out[f"loo_expert.{name}"] = np.mean([s[name] for s in expert], axis=0)
            out[f"judge_minus_expert.{name}"] = out[f"loo_judge.{name}"] - out[f"loo_expert.{name}"]
        for name in ABSOLUTE:
            out[f"loo_constant.{name}"] = np.mean([s[name] for s in constant], axis=0)
        for key, (name, sign) in RANKS.items():
            gap = np.stack([sign * (j[name] - e[name]) for j, e in zip(judge, expert, strict=True)])
            wins = np.where(np.abs(gap) <= 1e-12, 0.5, gap > 0)
            out[key] = np.where(np.isfinite(gap).all(axis=0), wins.mean(axis=0), np.nan)
        return out

    def why_undefined(self, name: str, names: tuple[str, ...]) -> str:
        """The first expert for whom a statistic does not exist, and why."""
        of_expert, of_judge = (list(zip(self.raters, pairs, strict=True)) for pairs in (self.expert, self.judge))
        group = of_expert if name.startswith("loo_expert") else of_judge
        for r, pair in group if name.startswith("loo_") and name not in RANKS else [*group, *of_expert]:
            x, t = pair.x[np.isfinite(pair.x)], pair.t[np.isfinite(pair.t)]
            if np.ptp(x) == 0 or np.ptp(t) == 0:
                return f"with expert {names[r]} left out: {pair.why_undefined()}"
        return "not defined on these scores"
