"""Systems by their mean expert score, estimated from few expert labels and many judge scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from scipy.special import ndtri

from ..judge.errors import InputError
from .agreement import check_settings
from .bootstrap import FEWEST_CLUSTERS
from .ceiling import mean_of_experts
from .leaderboard import Group
from .ppi_mean import Fit, PredictionPowered, fit, ppi_mean, report
from .ratings import ITEM, normalise, read_panel

__all__ = ["FEWEST_RATED_CASES", "PPILeaderboard", "PredictionPowered", "ppi_leaderboard", "ppi_mean"]

FEWEST_RATED_CASES = 50  # cases with both an expert and a judge score, below which this stands on no leaderboard
UNLIKE = 0.01  # chance, over a whole leaderboard, that randomly drawn rated cases are remarked on as unlike the others


@dataclass(frozen=True)
class PPIStanding:
    """One system (in one arm) on one dimension; `dimension` is None for the overall score."""

    system: str
    arm: str
    dimension: str | None
    mean: PredictionPowered

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {"mean": self.mean.to_dict()}


@dataclass(frozen=True)
class PPIDifference:
    """How far `first` is ahead of `second` on one dimension.

    `paired`: from differences within the cases in which experts rated both; otherwise (too few such cases) the
    difference of the two means, with what they share through common cases accounted for.
    """

    first: Group
    second: Group
    dimension: str | None
    difference: PredictionPowered
    paired: bool

    def to_dict(self) -> dict[str, Any]:
        pair = {"first": list(self.first), "second": list(self.second)}
        return vars(self) | pair | {"difference": self.difference.to_dict()}


@dataclass(frozen=True)
class PPILeaderboard:
    """Prediction-powered means of every system and differences of every two; ranking by the overall estimate.

    `stands`: whether enough cases are rated (see FEWEST_RATED_CASES) for it to stand beside the raw leaderboard.
    """

    judge: str
    dimensions: tuple[str, ...]
    ranking: tuple[Group, ...]
    standings: tuple[PPIStanding, ...]
    differences: tuple[PPIDifference, ...]
    rated_cases: int
    stands: bool
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def of(self, group: Group, dimension: str | None = None) -> PredictionPowered:
        """The estimate of a (system, arm) on a dimension, or overall; InputError if there is none."""
        for found in self.standings:
            if (found.system, found.arm, found.dimension) == (*group, dimension):
                return found.mean
        raise InputError(f"no standing of {group} on {dimension or 'overall'}; systems: {self.ranking}")

    def difference(self, first: Group, second: Group, dimension: str | None = None) -> PredictionPowered:
        """`first` minus `second`, given in the order of the ranking; InputError if there is none."""
        for found in self.differences:
            if (found.first, found.second, found.dimension) == (first, second, dimension):
                return found.difference
        raise InputError(f"no difference {first} minus {second} on {dimension or 'overall'}; ranking: {self.ranking}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        return {
            "judge": self.judge, "dimensions": list(self.dimensions), "ranking": [list(g) for g in self.ranking],
            "standings": [s.to_dict() for s in self.standings],
            "differences": [d.to_dict() for d in self.differences],
            "rated_cases": self.rated_cases, "stands": self.stands, "settings": dict(self.settings),
            "notes": list(self.notes),
        }  # fmt: skip


def ppi_leaderboard(
    frame: pl.DataFrame,
    levels: Sequence[int],
    judge: str,
    cluster: Mapping[str, str] | None = None,
    alpha: float = 0.05,
) -> PPILeaderboard:
    """Mean expert score of every system per dimension and overall, estimated from few expert and many judge scores.

    `frame`, `levels`, `cluster`: see `ratings.read_panel`; y is the mean of the experts who rated a narrative, overall
    the mean of all dimensions where none is missing. The rated cases must be drawn at random: leave out the expert rows
    of cases that were picked for another reason (`planning.next_cases`), and of those on which the judge was tuned.
    Raises InputError on unusable input (see `read_panel`), an unknown judge, or no expert score at all.
    """
    check_settings(1, alpha)
    panel = read_panel(frame, levels, cluster)
    if judge not in panel.judge_names:
        raise InputError(f"no judge '{judge}' in the ratings; there are {', '.join(panel.judge_names) or 'none'}")
    if not panel.raters:
        raise InputError("the ratings hold no expert score; prediction-powered means need rater_kind 'expert'")
    y = np.stack([mean_of_experts(scores) for scores in panel.experts])
    x = panel.judges[:, :, panel.judge_names.index(judge)]
    tables = [np.vstack([scores, scores.mean(axis=0)]) for scores in (y, x)]
    columns: list[str | None] = [*panel.dimensions, None]
    items = normalise(frame).select(ITEM).unique().sort(ITEM)
    arms = items["arm"].to_numpy()
    groups = [(str(system), str(arm)) for system, arm in items.select("system", "arm").unique().sort("*").iter_rows()]
    member = {g: (np.array(panel.systems)[panel.system] == g[0]) & (arms == g[1]) for g in groups}
    fits = {
        (g, d): fit(tables[0][c][m], tables[1][c][m], panel.cluster[m], panel.n_clusters)
        for g, m in member.items()
        for c, d in enumerate(columns)
    }
    overall = {g: fits[g, None].powered for g in groups}
    ranking = sorted(groups, key=lambda g: (overall[g].n == 0, -overall[g].value))
    cluster_of_case = np.zeros(len(panel.case_ids), dtype=np.int64)
    cluster_of_case[panel.case] = panel.cluster
    differences = []
    for first, second in combinations(ranking, 2):
        for c, d in enumerate(columns):
            a, b = (
                [_case_means(table[c][m], panel.case[m], len(cluster_of_case)) for table in tables]
                for m in (member[first], member[second])
            )
            found = fit(a[0] - b[0], a[1] - b[1], cluster_of_case, panel.n_clusters)
            paired = found.classical.clusters >= FEWEST_CLUSTERS
            if not paired:
                found = _apart(fits[first, d], fits[second, d])
            differences.append(PPIDifference(first, second, d, report(found, alpha), paired))
    standings = tuple(PPIStanding(*g, d, report(fits[g, d], alpha)) for g in ranking for d in columns)
    rated = len(np.unique(panel.case[(np.isfinite(y) & np.isfinite(x)).any(axis=0)]))
    return PPILeaderboard(
        judge, panel.dimensions, tuple(ranking), standings, tuple(differences), rated, rated >= FEWEST_RATED_CASES,
        {
            "alpha": alpha, "interval": "normal, cluster-robust variance", "clusters": panel.n_clusters,
            "target": "mean of the experts who rated the narrative", "expert_stage": panel.stage,
            "fewest_rated_cases": FEWEST_RATED_CASES,
        },
        tuple(_notes(standings, rated)),
    )  # fmt: skip


def _case_means(values: np.ndarray, case: np.ndarray, n_cases: int) -> np.ndarray:
    there = np.isfinite(values)
    count = np.bincount(case[there], minlength=n_cases)
    total = np.bincount(case[there], values[there], n_cases)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _apart(a: Fit, b: Fit) -> Fit:
    """The difference of two means; their influences meet in the clusters that they share."""
    why = a.fallback or b.fallback
    unlabelled = a.unlabelled + b.unlabelled
    return Fit(
        a.powered - b.powered, a.classical - b.classical, a.judge - b.judge, a.gap - b.gap, unlabelled, None, None, why
    )


def _notes(standings: Sequence[PPIStanding], rated: int) -> list[str]:
    notes = ["the rated cases are taken to be a random sample; intervals are not corrected for how many there are"]
    if rated < FEWEST_RATED_CASES:
        notes.append(f"{rated} cases are rated; from {FEWEST_RATED_CASES} on these estimates stand in the leaderboard")
    gaps = [(abs(s.mean.imbalance), s) for s in standings if s.mean.imbalance is not None]
    if gaps:
        limit = float(ndtri(1 - UNLIKE / (2 * len(gaps))))
        size, worst = max(gaps, key=lambda pair: pair[0])
        if size > limit:
            notes.append(
                f"the judge scores rated cases unlike the others ({worst.system}, {worst.dimension or 'overall'}: "
                f"{size:.1f} standard errors): the rated are hardly a random sample, and these estimates do not hold"
            )
    return notes
