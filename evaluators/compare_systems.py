"""Candidate systems against each other by one rater: paired differences with intervals, tests and named families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import wilcoxon

from ..judge.errors import InputError
from .agreement import check_settings, estimate, few_clusters
from .bootstrap import FEWEST_CLUSTERS, Estimate
from .leaderboard import Group
from .multiplicity import adjust
from .ratings import Panel, read_panel
from .ratios import per_cluster, sum_draws
from .statistics import SLACK
from .system_scores import EXPERT_MEAN, SystemScores, rows_of

__all__ = ["EXPERT_MEAN", "SystemComparison", "SystemDifference", "compare_systems", "sign_flips"]

TESTS = {
    "sign-flip": "two-sided sign-flip test of whole clusters",
    "bootstrap": "two-sided cluster bootstrap, centred at the difference",
}
FLIPS = 256  # drawn together, as in `compare.sign_flip`


@dataclass(frozen=True)
class SystemDifference:
    """System (in an arm) a minus b on one dimension, over the cases in which both are scored; None: the overall score.

    `difference`: mean over cases, in scale units, n the cases in common; `mean_a`, `mean_b`: on these cases. `p_value`
    and `p_adjusted`: of the test and in the `family` named; `wilcoxon_p`: a check, unadjusted (signed ranks of the
    clusters' mean differences, zeros ranked and dropped after Pratt 1959). `counts`: cases and clusters in common,
    items_a and items_b (narratives behind them), a_higher, tied, b_higher (cases), and what is lost: cases asked of
    both but unscored for a only, b only or both, and cases that only one of them was asked.
    """

    a: Group
    b: Group
    dimension: str | None
    mean_a: float | None
    mean_b: float | None
    difference: Estimate
    p_value: float | None
    p_adjusted: float | None
    wilcoxon_p: float | None
    family: str
    counts: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        own = {"a": list(self.a), "b": list(self.b), "counts": dict(self.counts), "notes": list(self.notes)}
        return vars(self) | own | {"difference": self.difference.to_dict()}


@dataclass(frozen=True)
class SystemComparison:
    """All pairs x dimensions and overall, the systems from best to worst overall mean, and what each of them lost.

    `families`: "dimensions" and "overall", each in words with its size. `lost`: per system and dimension (overall:
    None) the narratives planned and scored.
    """

    rater: str
    systems: tuple[Group, ...]
    dimensions: tuple[str, ...]
    pairs: tuple[SystemDifference, ...]
    lost: tuple[Mapping[str, Any], ...]
    families: Mapping[str, str]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def of(self, a: str | Group, b: str | Group, dimension: str | None = None) -> SystemDifference:
        """One comparison, by system or (system, arm), in the order it was made in; InputError if there is none."""
        for found in self.pairs:
            if a in (found.a, found.a[0]) and b in (found.b, found.b[0]) and found.dimension == dimension:
                return found
        known = dict.fromkeys(f"{'/'.join(f.a)} - {'/'.join(f.b)}" for f in self.pairs)
        raise InputError(f"no comparison of {a} with {b} on {dimension or 'overall'}; there are {', '.join(known)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        return {
            "rater": self.rater, "systems": [list(group) for group in self.systems],
            "dimensions": list(self.dimensions), "pairs": [pair.to_dict() for pair in self.pairs],
            "lost": [dict(row) for row in self.lost], "families": dict(self.families),
            "settings": dict(self.settings), "notes": list(self.notes),
        }  # fmt: skip


def compare_systems(
    frame: pl.DataFrame,
    levels: Sequence[int],
    rater: str | None = None,
    cluster: Mapping[str, str] | None = None,
    dimensions: Sequence[str] | None = None,
    pairs: Sequence[tuple[str | Group, str | Group]] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    alpha: float = 0.05,
    *,
    correction: str = "holm",
    test: str = "sign-flip",
    bca: bool = False,
) -> SystemComparison:
    """Compare candidate systems in pairs by the scores of one rater, every resample shared by all of them.

    `frame`, `levels`, `cluster`: as in `ratings.read_panel`. `rater`: a judge, an expert or EXPERT_MEAN; default the
    only judge, or EXPERT_MEAN if there is no judge. `dimensions`: default all that the rater scored; overall is their
    mean where all are scored. `pairs`: systems, or (system, arm), first minus second; default all that share the arm or
    the system, the higher overall mean first. A case counts once, with the mean of its samples. `bca` gives
    bias-corrected accelerated intervals. Tests over pairs x dimensions are one family, those of the overall score over
    pairs another. No interval or test below 20 clusters.

    Raises InputError on unusable ratings, an unknown rater, dimension, system or test, and fewer than two systems.
    """
    check_settings(resamples, alpha)
    if test not in TESTS:
        raise InputError(f"unknown test '{test}'; known: {', '.join(TESTS)}")
    name, rows = rows_of(frame, rater)
    panel = read_panel(rows, levels, cluster)
    chosen = tuple(panel.dimensions if dimensions is None else dimensions)
    if strange := [d for d in chosen if d not in panel.dimensions] or [""] * (not chosen):
        raise InputError(f"'{strange[0]}' is no dimension that {name} scored; these are: {', '.join(panel.dimensions)}")
    table = SystemScores(panel, rows, chosen, name)
    used = table.pairs(pairs)
    columns: list[str | None] = [*chosen, None]
    diff = np.stack([table.means[table.groups.index(a)] - table.means[table.groups.index(b)] for a, b in used])
    flat = diff.reshape(-1, diff.shape[2])
    sums = [per_cluster(row, table.cluster, panel.n_clusters) for row in flat]
    totals, counts = (np.stack(part) for part in zip(*sums, strict=True))
    found, draws = _estimates(totals, counts, resamples, seed, alpha, bca)

    tested = np.flatnonzero((counts > 0).sum(axis=1) >= FEWEST_CLUSTERS)
    flips = max(resamples, int(np.ceil(2 * len(tested) / alpha)))
    raw: list[float | None] = [None] * len(flat)
    p_values = (
        sign_flips(totals[tested], flips, seed)
        if test == "sign-flip"
        else _bootstrap_p(totals[tested], counts[tested], draws[tested])
    )
    for place, p in zip(tested, p_values, strict=True):
        raw[place] = p
    adjusted: list[float | None] = [None] * len(flat)
    families = {}
    for family, member in (
        ("dimensions", [r for r in range(len(flat)) if columns[r % len(columns)] is not None]),
        ("overall", [r for r in range(len(flat)) if columns[r % len(columns)] is None]),
    ):
        for r, p in zip(member, adjust([raw[r] for r in member], correction), strict=True):
            adjusted[r] = p
        size = sum(raw[r] is not None for r in member)
        what = _many(len(chosen), "dimension") if family == "dimensions" else "the overall score"
        families[family] = f"{correction} over {_many(size, 'test')}: {_many(len(used), 'pair')} x {what}"
    differences = []
    for r, estimated in enumerate(found):
        (a, b), c = used[r // len(columns)], r % len(columns)
        family = families["overall" if columns[c] is None else "dimensions"]
        here = table.counts(a, b, c) | {"clusters": int((counts[r] > 0).sum())}
        check = _wilcoxon(totals[r], counts[r]) if r in tested else None
        notes = (*few_clusters(here["clusters"]), *table.notes(a, b, c))
        if raw[r] is None and r in tested:
            notes += ("no test: the systems do not differ in any cluster",)
        means = table.common_means(a, b, c)
        differences.append(
            SystemDifference(a, b, columns[c], *means, estimated, raw[r], adjusted[r], check, family, here, notes)
        )
    settings = {
        "levels": list(panel.levels), "resamples": resamples, "seed": seed, "alpha": alpha,
        "interval": "BCa" if bca else "percentile", "clusters": panel.n_clusters, "test": TESTS[test],
        "draws_of_the_test": flips if test == "sign-flip" else resamples, "correction": correction,
        "check": "Wilcoxon signed ranks of the clusters' mean differences, zeros by Pratt, not adjusted",
        "unit": "a case, the mean of its samples", "overall": f"mean of {len(chosen)} dimensions where all are scored",
    }  # fmt: skip
    return SystemComparison(
        name, table.ranking, chosen, tuple(differences), tuple(table.lost(columns)), families, settings,
        _notes(panel, test, resamples, len(tested), alpha),
    )  # fmt: skip


def _many(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def sign_flips(sums: np.ndarray, draws: int, seed: int) -> list[float | None]:
    """Two-sided p-values of "the mean difference is zero" by flipping the sign of whole clusters, the same in each row.

    `sums` (rows, clusters): sum of the paired differences in each cluster. As `compare.sign_flip`, for many rows in one
    pass. Where no draw reaches the observed sum T, 1 / (draws + 1) or Hoeffding's bound 2 exp(-T^2 / (2 sum of
    squares)) (1963, theorem 2), whichever is less: the p-value of all 2^clusters flips is never above the bound, so a
    large family needs no millions of draws. None for a row in which no cluster differs.
    """
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(2**32 - 1,))))
    observed, noise = np.abs(sums.sum(axis=1)), 1e-12 * np.abs(sums).sum(axis=1)
    extreme = np.zeros(len(sums), dtype=np.int64)
    columns = np.ascontiguousarray(sums.T)
    for start in range(0, draws, FLIPS):
        signs = rng.integers(0, 2, size=(FLIPS, sums.shape[1]), dtype=np.int8) * 2.0 - 1.0
        extreme += (np.abs(signs[: draws - start] @ columns) >= observed - noise).sum(axis=0)
    found: list[float | None] = []
    for total, squares, hits in zip(observed, (sums * sums).sum(axis=1), extreme, strict=True):
        if squares == 0:
            found.append(None)
            continue
        p = (int(hits) + 1) / (draws + 1)
        found.append(p if hits else min(p, float(2 * np.exp(-total * total / (2 * squares)))))
    return found


def _bootstrap_p(totals: np.ndarray, counts: np.ndarray, draws: np.ndarray) -> list[float | None]:
    """Share of draws as far from the observed mean as that is from 0, itself among them; None as in `sign_flips`."""
    seen = totals.sum(axis=1) / counts.sum(axis=1)
    # An undefined draw counts as one that far off.
    far = ~(np.abs(draws - seen[:, None]) < np.abs(seen)[:, None] - SLACK)
    p = (far.sum(axis=1) + 1) / (draws.shape[1] + 1)
    return [float(one) if row.any() else None for one, row in zip(p, totals, strict=True)]


def _estimates(
    totals: np.ndarray, counts: np.ndarray, resamples: int, seed: int, alpha: float, bca: bool
) -> tuple[list[Estimate], np.ndarray]:
    """Mean difference of each row with its interval, and the draws (rows, resamples)."""
    both = sum_draws(np.concatenate([totals, counts]), resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = both[: len(totals)] / both[len(totals) :]
    found = []
    for total, count, drawn in zip(totals, counts, draws, strict=True):
        n, kept = round(float(count.sum())), count > 0
        if not n:
            found.append(Estimate(None, 0, reason="no case is scored for both systems"))
            continue
        value, jack = float(total.sum() / n), None
        if bca and kept.sum() > 1:
            jack = (total.sum() - total[kept]) / (n - count[kept])
        found.append(estimate(value, n, drawn, int(kept.sum()), alpha, jack))
    return found, draws


def _wilcoxon(total: np.ndarray, count: np.ndarray) -> float | None:
    means = np.round(total[count > 0] / count[count > 0], 9)  # equal differences tie
    return float(wilcoxon(means, zero_method="pratt").pvalue) if means.any() else None


def _notes(panel: Panel, test: str, resamples: int, tests: int, alpha: float) -> tuple[str, ...]:
    notes = list(few_clusters(panel.n_clusters))
    if outside := panel.checks["out_of_range"]["count"]:
        notes.append(f"{outside} scores lie outside the scale {panel.levels[0]} to {panel.levels[-1]} and are not used")
    if test == "bootstrap" and tests / (resamples + 1) > alpha:
        notes.append(
            f"{resamples} resamples cannot give a p-value below {1 / (resamples + 1):.1g}; for {tests} tests take at "
            f"least {int(np.ceil(2 * tests / alpha))}, or the sign-flip test"
        )
    return tuple(notes)
