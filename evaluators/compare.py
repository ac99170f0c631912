"""Two judges on the same items: differences and ratios with paired intervals, and a sign-flip test per dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .agreement import check_settings, estimate, few_clusters, nested
from .bootstrap import FEWEST_CLUSTERS, Estimate, point, resample
from .ceiling import mean_of_experts
from .judge_cell import JudgeCell
from .multiplicity import adjust
from .ratings import Panel, read_panel

ERRORS = ("mae", "rmse")
COMPARED = (*ERRORS, "within_0.5", "within_1", "pearson", "spearman", "kendall_tau_b", "ccc", "pairwise_accuracy")


@dataclass(frozen=True)
class JudgeComparison:
    """Judge a against judge b on one dimension, on the items that both scored and an expert rated.

    `results`: a.*, b.*, difference.* (a minus b), ratio.mae and ratio.rmse (a over b). `p_value`: two-sided sign-flip
    test of equal mean absolute error, cluster sums of |error| as units; `p_adjusted`: over the dimensions compared.
    """

    judge_a: str
    judge_b: str
    dimension: str
    counts: Mapping[str, Any]
    results: Mapping[str, Estimate]
    p_value: float | None
    p_adjusted: float | None
    family: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "judge_a": self.judge_a,
            "judge_b": self.judge_b,
            "dimension": self.dimension,
            "counts": dict(self.counts),
            "results": nested(self.results),
            "p_value": self.p_value,
            "p_adjusted": self.p_adjusted,
            "family": self.family,
            "notes": list(self.notes),
        }


def compare_judges(
    frame: pl.DataFrame,
    rubric_levels: Sequence[int],
    judge_a: str,
    judge_b: str,
    cluster: Mapping[str, str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    alpha: float = 0.05,
    *,
    correction: str = "holm",
    keep_out_of_range: bool = False,
) -> tuple[JudgeComparison, ...]:
    """Compare two judges per dimension against the mean of the experts, every resample shared by both.

    Arguments as in `agreement.agree`. Only items that both judges scored enter; how many each lost stands in `counts`.
    Raises InputError if a judge is unknown or both are the same.
    """
    check_settings(resamples, alpha)
    panel = read_panel(frame, rubric_levels, cluster, keep_out_of_range)
    for name in (judge_a, judge_b):
        if name not in panel.judge_names:
            raise InputError(f"no judge '{name}' in the ratings; there are {', '.join(panel.judge_names) or 'none'}")
    if judge_a == judge_b:
        raise InputError(f"'{judge_a}' is compared with itself; name two judges")
    a, b = panel.judge_names.index(judge_a), panel.judge_names.index(judge_b)
    shared = np.isfinite(panel.judges[:, :, a]) & np.isfinite(panel.judges[:, :, b])
    built = [[JudgeCell(panel, d, j, shared[d]) for j in (a, b)] for d in range(len(panel.dimensions))]
    cells = [cell.cell for pair in built for cell in pair]
    points = point(cells, panel.n_clusters)
    draws = resample(cells, panel.n_clusters, resamples, seed)

    found, tests = [], []
    for d, (first, second) in enumerate(built):
        results = _results((first, second), points[2 * d : 2 * d + 2], draws[2 * d : 2 * d + 2], alpha)
        gap = error_gap(panel, d, a, b)
        kept = np.isfinite(gap)
        p_value = None
        if first.clusters >= FEWEST_CLUSTERS:
            p_value = sign_flip(np.bincount(panel.cluster[kept], gap[kept], panel.n_clusters), resamples, seed)
        tests.append(p_value)
        rated = np.isfinite(panel.experts[d]).any(axis=1)
        counts = dict(first.counts) | {
            "items_a": int((rated & np.isfinite(panel.judges[d, :, a])).sum()),
            "items_b": int((rated & np.isfinite(panel.judges[d, :, b])).sum()),
        }
        found.append((panel.dimensions[d], counts, results, few_clusters(first.clusters)))
    adjusted = adjust(tests, correction)
    family = f"{correction} over {sum(p is not None for p in tests)} dimensions of {judge_a} against {judge_b}"
    return tuple(
        JudgeComparison(judge_a, judge_b, dimension, counts, results, p, q, family, notes)
        for (dimension, counts, results, notes), p, q in zip(found, tests, adjusted, strict=True)
    )


def _results(
    cells: tuple[JudgeCell, JudgeCell],
    points: Sequence[Mapping[str, float]],
    draws: Sequence[Mapping[str, np.ndarray]],
    alpha: float,
) -> dict[str, Estimate]:
    first, (point_a, point_b), (draws_a, draws_b) = cells[0], points, draws
    found: dict[str, Estimate] = {}

    def put(name: str, value: float, drawn: np.ndarray, key: str) -> None:
        n = first.n_of(key)
        if np.isfinite(value):
            found[name] = estimate(value, n, drawn, first.clusters, alpha)
            return
        wrong = [cell for cell, values in zip(cells, points, strict=True) if not np.isfinite(values[key])]
        found[name] = Estimate(None, n, reason=wrong[0].why(key) if wrong else "judge b is never wrong here")

    for name in COMPARED:
        key = f"item.{name}"
        put(f"a.{name}", point_a[key], draws_a[key], key)
        put(f"b.{name}", point_b[key], draws_b[key], key)
        put(f"difference.{name}", point_a[key] - point_b[key], draws_a[key] - draws_b[key], key)
        if name in ERRORS:
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(draws_b[key] > 0, draws_a[key] / draws_b[key], np.nan)
            put(f"ratio.{name}", point_a[key] / point_b[key] if point_b[key] > 0 else np.nan, ratio, key)
    return found


def error_gap(panel: Panel, d: int, a: int, b: int) -> np.ndarray:
    """|error of a| - |error of b| per item against the mean of the experts, NaN where one of the three is missing."""
    mean = mean_of_experts(panel.experts[d])
    return np.abs(panel.judges[d, :, a] - mean) - np.abs(panel.judges[d, :, b] - mean)


def sign_flip(sums: np.ndarray, draws: int, seed: int) -> float | None:
    """Two-sided p-value of "the mean difference is zero" by flipping the sign of whole clusters.

    `sums` (clusters,): sum of the paired differences in each cluster. The observed labelling counts as one draw, so the
    p-value is never 0. None if no cluster differs.
    """
    sums = sums[np.abs(sums) > 0]
    if not len(sums):
        return None
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(2**32 - 1,))))
    seen, extreme = abs(sums.sum()) * (1 - 1e-12), 0
    for start in range(0, draws, 256):
        signs = rng.integers(0, 2, size=(256, len(sums)), dtype=np.int8) * 2.0 - 1.0
        extreme += int((np.abs(signs @ sums)[: draws - start] >= seen).sum())
    return (extreme + 1) / (draws + 1)
