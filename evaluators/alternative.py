"""Alternative annotator test: may the judge stand in for one of the experts (Calderon, Reichart and Dror 2025)?

Minus-RMSE alignment rewards a judge that stays near the mean, so a result always carries the leave-one-out ceiling:
a judge can win here and still order narratives worse than any expert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from ..judge.errors import InputError
from .agreement import agree
from .bootstrap import Estimate
from .multiplicity import adjust
from .ratings import Panel, read_panel

EPSILONS = (0.05, 0.1, 0.15, 0.2, 0.3)  # the curve; the paper advises 0.2 for experts, 0.15 skilled, 0.1 crowd
FEWEST_RATERS = 3
FEWEST_ITEMS = 30  # below: Wilcoxon signed ranks on cluster means instead of the t-test
MOST_ENUMERATED = 13  # scipy's limit for exact p-values with ties
LeftOut = tuple[np.ndarray, np.ndarray, np.ndarray]
CEILING = ("loo_judge.mae", "loo_expert.mae", "loo_judge.pearson", "loo_expert.pearson")


@dataclass(frozen=True)
class RaterTest:
    """One expert left out: how often the judge is at least as near to the others, and the test against epsilon.

    `advantage`: share of items where the judge is at least as near. `mean_difference`: share of items where the expert
    is, minus that; the judge wins if it is below epsilon (`p_value` one-sided, adjusted by BY).
    """

    rater: str
    n: int
    clusters: int
    advantage: float
    mean_difference: float
    p_value: float
    p_adjusted: float
    wins: bool
    test: str

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class AlternativeTest:
    """Winning rate (share of experts the judge may replace), its curve over epsilon, advantage probability, ceiling."""

    judge: str
    dimension: str
    epsilon: float
    q: float
    winning_rate: float | None
    advantage_probability: float | None
    passed: bool | None
    curve: tuple[tuple[float, float], ...]
    raters: tuple[RaterTest, ...]
    family: str
    reason: str | None = None
    ceiling: Mapping[str, Estimate] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            **{k: v for k, v in self.__dict__.items() if k not in ("curve", "raters", "ceiling")},
            "curve": [{"epsilon": e, "winning_rate": w} for e, w in self.curve],
            "raters": [r.to_dict() for r in self.raters],
            "ceiling": {k: v.to_dict() for k, v in (self.ceiling or {}).items()},
        }


def alternative_test(
    frame: pl.DataFrame,
    rubric_levels: Sequence[int],
    judge: str,
    epsilon: float = 0.2,
    q: float = 0.05,
    cluster: Mapping[str, str] | None = None,
    *,
    across_dimensions: bool = True,
    resamples: int = 1000,
    seed: int = 0,
    keep_out_of_range: bool = False,
) -> tuple[AlternativeTest, ...]:
    """The test per dimension, with the ceiling beside it.

    `frame` as in `agreement.agree`. `epsilon`: how much worse than an expert the judge may be for its lower price.
    `across_dimensions`: Benjamini-Yekutieli over experts x dimensions, as claims per dimension need; False: over the
    experts of each dimension alone, as published. Refused (with a reason) below three experts, for experts without
    identity and for adjudicated ratings.
    """
    panel = read_panel(frame, rubric_levels, cluster, keep_out_of_range)
    beside = agree(frame, rubric_levels, judge, cluster, resamples, seed, keep_out_of_range=keep_out_of_range)
    ceilings = [{k: beside.of(judge, name).results[k] for k in CEILING} for name in panel.dimensions]
    return alternative_panel(panel, judge, ceilings, epsilon, q, across_dimensions)


def alternative_panel(
    panel: Panel,
    judge: str,
    ceilings: Sequence[Mapping[str, Estimate]],
    epsilon: float = 0.2,
    q: float = 0.05,
    across_dimensions: bool = True,
    match: bool = False,
) -> tuple[AlternativeTest, ...]:
    """The test per dimension of a panel, each beside the ceiling given for it; arguments as in `alternative_test`.

    `match`: alignment is the share of the other experts who gave the same value (votes), not minus RMSE.
    """
    x = panel.judges[:, :, panel.judge_names.index(judge)]
    refused = None
    if panel.stage == "adjudicated":
        refused = "the experts' scores were adjudicated; the test needs independent ratings"
    elif not panel.identity:
        refused = "the experts have no identity; the test leaves out one expert at a time"
    dimensions = range(len(panel.dimensions))
    advantages: list[dict[int, LeftOut]] = [
        {} if refused else _differences(x[d], panel.experts[d], panel.cluster, match) for d in dimensions
    ]
    reasons = [refused or _too_few(a) for a in advantages]
    family = list(dimensions) if across_dimensions else None
    found = []
    for d, name in enumerate(panel.dimensions):
        ceiling = ceilings[d]
        words = f"BY over {'experts x dimensions' if across_dimensions else 'experts'}"
        if reasons[d]:
            found.append(AlternativeTest(judge, name, epsilon, q, None, None, None, (), (), words, reasons[d], ceiling))
            continue
        members = [e for e in (family or [d]) if not reasons[e]]
        result = _decide([advantages[e] for e in members], members.index(d), epsilon, q, panel.raters)
        found.append(replace(result, judge=judge, dimension=name, family=words, ceiling=ceiling))
    return tuple(found)


def alternative_annotator(
    x: np.ndarray,
    ratings: np.ndarray,
    cluster: np.ndarray | None = None,
    epsilon: float = 0.2,
    q: float = 0.05,
    *,
    match: bool = False,
) -> AlternativeTest:
    """The test on arrays: judge `x` (items,), experts `ratings` (items, raters), NaN for missing.

    `cluster` (items,): items that are not independent (default: all are). To pool dimensions as the paper does,
    concatenate their items. `match`: numbers are codes of categories and alignment is the share of the other experts
    who chose the same (the paper's accuracy), instead of minus RMSE. Raises InputError below three experts with
    shared items.
    """
    x, ratings = np.asarray(x, dtype=float), np.asarray(ratings, dtype=float)
    if ratings.ndim != 2 or x.shape != ratings.shape[:1]:
        raise InputError(f"x must be (items,) and ratings (items, raters); got {x.shape} and {ratings.shape}")
    cluster = np.arange(len(x)) if cluster is None else np.unique(cluster, return_inverse=True)[1]
    differences = _differences(x, ratings, cluster, match)
    if reason := _too_few(differences):
        raise InputError(reason)
    return _decide([differences], 0, epsilon, q, tuple(str(r) for r in range(ratings.shape[1])))


def _differences(x: np.ndarray, ratings: np.ndarray, cluster: np.ndarray, match: bool = False) -> dict[int, LeftOut]:
    """Per left-out rater: (judge at least as near, rater at least as near, cluster), one entry per usable item."""
    there = np.isfinite(ratings)
    found: dict[int, LeftOut] = {}
    for r in range(ratings.shape[1]):
        others = there.copy()
        others[:, r] = False
        use = there[:, r] & np.isfinite(x) & others.any(axis=1)
        if not use.any():
            continue
        rest = np.where(others, ratings, np.nan)[use]
        # Sums of squares order as RMSE does; rounding keeps float noise from deciding ties, which count for both.
        judge, rater = ((values[use, None] - rest) ** 2 for values in (x, ratings[:, r]))
        if match:  # each mismatch costs one, however far apart the codes are
            judge, rater = (np.where(np.isfinite(rest), cost > 0, 0.0) for cost in (judge, rater))
        judge, rater = (np.round(np.nansum(cost, axis=1), 9) for cost in (judge, rater))
        found[r] = (judge <= rater, rater <= judge, cluster[use])
    return found


def _too_few(differences: Mapping[int, Any]) -> str | None:
    if len(differences) < FEWEST_RATERS:
        return f"{len(differences)} experts share items with others and the judge; the test needs {FEWEST_RATERS}"
    return None


def _decide(
    family: Sequence[Mapping[int, LeftOut]], place: int, epsilon: float, q: float, names: Sequence[str]
) -> AlternativeTest:
    own = family[place]
    start = sum(len(member) for member in family[:place])

    def adjusted(limit: float) -> tuple[list[float], list[float]]:
        raw = [_p_value(*left_out, limit)[0] for member in family for left_out in member.values()]
        corrected = [p for p in adjust(raw, "by") if p is not None]
        return raw[start : start + len(own)], corrected[start : start + len(own)]

    raw, corrected = adjusted(epsilon)
    tests = []
    for (r, (judge, rater, cluster)), p, p_adjusted in zip(own.items(), raw, corrected, strict=True):
        difference = float(rater.mean() - judge.mean())
        kind = _p_value(judge, rater, cluster, epsilon)[1]
        clusters = len(np.unique(cluster))
        tests.append(
            RaterTest(
                names[r], len(judge), clusters, float(judge.mean()), difference, p, p_adjusted, p_adjusted <= q, kind
            )
        )
    curve = []
    for limit in sorted({*EPSILONS, epsilon}):
        curve.append((limit, float(np.mean([p <= q for p in adjusted(limit)[1]]))))
    rate = float(np.mean([t.wins for t in tests]))
    advantage = float(np.mean([t.advantage for t in tests]))
    return AlternativeTest(
        "", "", epsilon, q, rate, advantage, rate >= 0.5, tuple(curve), tuple(tests), "BY over experts"
    )


def _p_value(judge: np.ndarray, rater: np.ndarray, cluster: np.ndarray, epsilon: float) -> tuple[float, str]:
    """One-sided p-value of mean(rater - judge) < epsilon and the name of the test.

    t-test with cluster-robust standard error (the ordinary one if every cluster holds one item).
    """
    d = rater.astype(float) - judge.astype(float)
    _, group = np.unique(cluster, return_inverse=True)
    groups = int(group.max()) + 1
    if len(d) < FEWEST_ITEMS:
        means = np.bincount(group, d) / np.bincount(group)
        if groups < 2 or np.ptp(means) == 0:
            return float(means.mean() >= epsilon), "sign of the difference: it never varies"
        return signed_rank_test(means - epsilon), "Wilcoxon signed ranks of cluster means"
    mean = d.mean()
    sums = np.bincount(group, d - mean)
    error = np.sqrt(groups / max(groups - 1, 1) * (sums @ sums)) / len(d)
    if groups < 2 or error < 1e-12:
        return float(mean >= epsilon), "sign of the difference: it never varies"
    return float(stats.t.cdf((mean - epsilon) / error, groups - 1)), "t-test, clustered"


def signed_rank_test(d: np.ndarray) -> float:
    """One-sided p-value of Wilcoxon's signed ranks (1945) against a median of `d` (n,) below 0, zeros dropped.

    As scipy's, which enumerates all signs where few values are tied; the same distribution is summed up here at once.

    >>> signed_rank_test(np.array([-1.0, -1.0, -2.0, 0.5]))
    0.125
    """
    few = len(d) <= MOST_ENUMERATED and (len(np.unique(np.abs(d))) < len(d) or bool((d == 0).any()))
    if not (d != 0).any():
        return 1.0
    if not few:
        return float(stats.wilcoxon(d, alternative="less").pvalue)
    d = d[d != 0]
    twice = np.round(2 * stats.rankdata(np.abs(d))).astype(int)  # mid-ranks are halves
    ways = np.zeros(int(twice.sum()) + 1)
    ways[0] = 1
    for rank in twice:
        ways[rank:] = ways[rank:] + ways[:-rank]
    return float(ways[: int(twice[d > 0].sum()) + 1].sum() / ways.sum())
