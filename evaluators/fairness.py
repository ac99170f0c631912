"""Does a candidate serve all patients alike: every metric by group of cases, gaps to all others, worst groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl

from .agreement import check_settings, estimate
from .bootstrap import BUFFER_BYTES, FEWEST_CLUSTERS, Estimate
from .fairness_results import Disparity, FairnessResult, GroupValue, adjusted_groups, equalised_odds
from .fairness_split import CROSS, Split, known_values, splits_of
from .group_rates import Rates, few, newcombe, score_test, wilson
from .ratios import sum_draws
from .subgroups import cluster_welch_test

__all__ = ["CROSS", "FEWEST_CASES", "Disparity", "FairnessResult", "GroupValue", "fairness"]

FEWEST_CASES = 30  # of a group, and of all others: below, a value is shown and nothing is claimed of it
LOWER_IS_BETTER = ("under", "severe_under", "over", "false_positive_rate", "no_call")
NEITHER = ("positive_rate",)  # neither a low nor a high value is better: there is no worst group
UNKNOWN = "the group of these cases is not known, so they are compared with nothing"
NOTES = (
    "the worst of several groups is biased: the lowest value of equal groups lies below their common value; by_chance "
    "says how far apart groups of these sizes fall if they do not differ",
    "a gap is no cause: groups may also differ in diagnosis, site, picture quality or prevalence",
)


def fairness(
    values: pl.DataFrame,
    attributes: Mapping[str, Mapping[str, str]],
    cluster: Mapping[str, str] | None = None,
    *,
    crossings: Sequence[tuple[str, str]] | None = None,
    correction: str = "holm",
    resamples: int = 2000,
    seed: int = 0,
    alpha: float = 0.05,
) -> FairnessResult:
    """Compare systems' metrics between groups of cases, with intervals, tests and the distance of the worst group.

    `values`: rows with case_id, system, metric, value (a number; a row that is null is counted and not used) and
    optionally arm, sample, cluster, as `fairness_rows` makes them: a metric of only some narratives, such as
    sensitivity, has rows for those alone. `attributes`: name -> case_id -> group, such as
    `fairness_rows.fairness_attributes` gives; a case without one stands in a line of its own and in no comparison.
    `cluster`: case_id -> patient; default the column cluster, else the case. `crossings`: pairs of attributes, default
    all pairs (without a skin type and its own band).

    Values that are all 0 or 1 have Wilson intervals widened for patients with several cases, others percentile
    intervals from redrawn patients; gaps have percentile intervals, or Newcombe's (1998) where a side has fewer than 5
    hits or misses. Test: Welch's with a cluster-robust error; for rates the pooled score test too, the larger p of
    both, since a group that is always right has no variance to estimate. Nothing is tested below FEWEST_CASES cases or
    20 patients on a side. Tests of one metric over systems, arms, attributes and groups are one family, those of
    crossings another.

    Raises InputError for missing columns, a narrative given twice, an attribute that mixes Fitzpatrick types with
    bands, a crossing of an unknown attribute, and if no case has a group.
    """
    check_settings(resamples, alpha)
    rows, notes = known_values(values, cluster)
    splits = splits_of(rows.names, attributes, crossings)
    parts = rows.frame.group_by(["system", "arm", "metric"], maintain_order=True)
    groups: list[GroupValue] = []
    disparities: list[Disparity] = []
    for block, draws in _drawn(
        [_Block((str(k[0]), str(k[1]), str(k[2])), p, rows.patients, splits) for k, p in parts],
        rows.patients,
        resamples,
        seed,
    ):
        groups += block.groups(draws, alpha)
        disparities += block.disparities(draws, alpha)
    crossed = {split.name for split in splits if split.crossed}
    groups, families = adjusted_groups(groups, crossed, correction)
    disparities += equalised_odds(disparities)
    settings = {
        "resamples": resamples, "seed": seed, "alpha": alpha, "patients": rows.patients, "cases": len(rows.names),
        "fewest_cases": FEWEST_CASES, "fewest_patients": FEWEST_CLUSTERS, "correction": correction,
        "gap": "the group minus all other cases of a known group",
        "test": "cluster-robust Welch test; for rates the larger p of it and the pooled score test",
    }  # fmt: skip
    notes += [note for split in splits for note in split.notes]
    return FairnessResult(tuple(groups), tuple(disparities), families, settings, (*notes, *NOTES))


class _Sums(NamedTuple):
    """One attribute of one block, a row per group and a last one for the cases whose group is not known."""

    total: np.ndarray  # (groups + 1, patients)
    n: np.ndarray
    cases: np.ndarray  # (groups + 1,)


class _Block:
    """One metric of one system and arm in the groups of every attribute."""

    def __init__(self, key: tuple[str, str, str], rows: pl.DataFrame, patients: int, splits: Sequence[Split]):
        self.key, self.splits = key, splits
        value, case, patient = (rows[name].to_numpy() for name in ("value", "case", "patient"))
        self.binary = bool(np.isin(value, (0.0, 1.0)).all())
        _, first = np.unique(case, return_index=True)
        self.sums = []
        for split in splits:
            size = len(split.groups) + 1
            place = split.place[case]
            cell = place * patients + patient
            total = np.bincount(cell, value, size * patients).reshape(size, patients)
            count = np.bincount(cell, minlength=size * patients).reshape(size, patients).astype(float)
            self.sums.append(_Sums(total, count, np.bincount(place[first], minlength=size)))
        self.rows = sum(len(sums.cases) for sums in self.sums)

    def stacked(self) -> np.ndarray:
        return np.concatenate([s.total for s in self.sums] + [s.n for s in self.sums])

    def parts(self, draws: np.ndarray) -> Iterator[tuple[Split, _Sums, np.ndarray, np.ndarray]]:
        """Each attribute with its resampled totals and counts."""
        start = 0
        for split, sums in zip(self.splits, self.sums, strict=True):
            stop = start + len(sums.cases)
            yield split, sums, draws[start:stop], draws[self.rows + start : self.rows + stop]
            start = stop

    def groups(self, draws: np.ndarray, alpha: float) -> Iterator[GroupValue]:
        for split, sums, total, count in self.parts(draws):
            last = len(split.groups)
            known = _Sums(sums.total[:last], sums.n[:last], sums.cases[:last])
            total_rest, n_rest, cases_rest = (part.sum(axis=0) - part for part in known)
            rest = _Sums(total_rest, n_rest, cases_rest)
            with np.errstate(divide="ignore", invalid="ignore"):
                drawn = total / count
                others = (total[:last].sum(axis=0) - total[:last]) / (count[:last].sum(axis=0) - count[:last])
                means = sums.total.sum(axis=1) / sums.n.sum(axis=1)
                other_means = rest.total.sum(axis=1) / rest.n.sum(axis=1)
            rates = (wilson(sums.total, sums.n, alpha), wilson(rest.total, rest.n, alpha)) if self.binary else None
            filled = [k for k in range(last) if known.cases[k]]
            for k in range(last + 1):
                if not sums.cases[k]:
                    continue
                n, patients = int(sums.n[k].sum()), int((sums.n[k] > 0).sum())
                value = estimate(float(means[k]), n, drawn[k], patients, alpha)
                if rates is not None:
                    value = Estimate(float(means[k]), n, float(rates[0].low[k]), float(rates[0].high[k]))
                counts = {"narratives": n, "cases": int(sums.cases[k]), "patients": patients}
                if k == last or filled == [k]:
                    why = UNKNOWN if k == last else "no case of another known group has a value"
                    counts |= {"other_cases": 0, "other_patients": 0}
                    yield GroupValue(*self.key, split.name, None if k == last else split.groups[k], counts, value,
                                     Estimate(None, 0, reason=why), None, None, why)  # fmt: skip
                    continue
                counts |= {"other_cases": int(rest.cases[k]), "other_patients": int((rest.n[k] > 0).sum())}
                least = min(patients, counts["other_patients"])
                both = n + int(rest.n[k].sum())
                gap = estimate(float(means[k] - other_means[k]), both, drawn[k] - others[k], least, alpha)
                pair = None
                if rates is not None:
                    pair = (rates[0].row(k), rates[1].row(k))
                    if least >= FEWEST_CLUSTERS and any(few(side)[0] for side in pair):
                        low, high = newcombe(*pair)
                        gap = Estimate(gap.value, gap.n, float(low[0]), float(high[0]))
                shown = _unclaimed(counts)
                sides = ((sums.total[k], sums.n[k]), (rest.total[k], rest.n[k]))
                p = None if shown else _p_value(*sides, pair)
                yield GroupValue(*self.key, split.name, split.groups[k], counts, value, gap, p, None, shown)

    def disparities(self, draws: np.ndarray, alpha: float) -> Iterator[Disparity]:
        for split, sums, total, count in self.parts(draws):
            if not split.groups:
                continue
            where = (*self.key, split.name)
            kept = [k for k in range(len(split.groups)) if sums.cases[k] >= FEWEST_CASES]
            if len(kept) < 2:
                why = f"fewer than two groups have at least {FEWEST_CASES} cases"
                yield Disparity(*where, len(kept), None, None, None, None, None, reason=why)
                continue
            seen = sums.total[kept].sum(axis=1) / sums.n[kept].sum(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                ranges = np.ptp(total[kept] / count[kept] - seen[:, None], axis=0)
            top, bottom = (kept[int(at)] for at in (seen.argmax(), seen.argmin()))
            ends = split.groups[top], split.groups[bottom]
            found = Disparity(*where, len(kept), float(np.ptp(seen)), *ends, None, None)
            if np.isfinite(ranges).all():
                chance = float(ranges.mean()), float(np.quantile(ranges, 1 - alpha))
                found = replace(found, by_chance=chance[0], by_chance_high=chance[1])
            else:
                found = replace(found, reason="resamples leave a group empty, so nothing is said of chance")
            if self.key[2] not in NEITHER:
                worst = top if self.key[2] in LOWER_IS_BETTER else bottom
                value = float(seen.max() if worst == top else seen.min())
                found = replace(found, worst=split.groups[worst], worst_value=value, worst_cases=int(sums.cases[worst]))
            yield found


def _unclaimed(counts: Mapping[str, int]) -> str:
    """Why nothing is claimed of a gap; "" if something may be."""
    for who, prefix in (("", ""), ("all others: ", "other_")):
        if (cases := counts[f"{prefix}cases"]) < FEWEST_CASES:
            return f"{who}{cases} cases, {FEWEST_CASES} are needed for a claim"
        if (patients := counts[f"{prefix}patients"]) < FEWEST_CLUSTERS:
            return f"{who}{patients} patients, {FEWEST_CLUSTERS} are needed for a claim"
    return ""


def _p_value(
    group: tuple[np.ndarray, np.ndarray], others: tuple[np.ndarray, np.ndarray], rates: tuple[Rates, Rates] | None
) -> float | None:
    p = cluster_welch_test(group, others)
    if rates is None or p is None:
        return p
    pooled = (group[0].sum() + others[0].sum()) / (group[1].sum() + others[1].sum())
    return max(p, float(score_test(*rates, pooled)[0]))


def _drawn(blocks: Sequence[_Block], patients: int, resamples: int, seed: int) -> Iterator[tuple[_Block, np.ndarray]]:
    """Each block with its resampled sums; as many blocks as fit a buffer share one product, all share their draws."""
    room = max(1, BUFFER_BYTES // (8 * max(patients, resamples)))
    start = 0
    while start < len(blocks):
        stop, rows = start, 0
        while stop < len(blocks) and (stop == start or rows + 2 * blocks[stop].rows <= room):
            rows += 2 * blocks[stop].rows
            stop += 1
        draws = sum_draws(np.concatenate([block.stacked() for block in blocks[start:stop]]), resamples, seed)
        at = 0
        for block in blocks[start:stop]:
            yield block, draws[at : at + 2 * block.rows]
            at += 2 * block.rows
        start = stop
