"""Which system does best, by one rater: mean score per system and dimension, and which of the ranks are real."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from ..judge.records import STATES
from .agreement import check_settings, few_clusters
from .bootstrap import Estimate
from .ratings import ITEM, clusters_of_cases, normalise, refuse_duplicates
from .ratios import per_cluster, ratios

MISSING_SHARE = 0.01  # above it, the bounds of a mean stand beside it

Group = tuple[str, str]  # system, arm


@dataclass(frozen=True)
class Standing:
    """One system (in one arm) on one dimension; `dimension` is None for the overall score.

    `mean`: in scale units, its n the narratives scored; overall is the mean of all dimensions over the narratives in
    which every dimension is scored. `planned`: narratives that were to be scored; `coverage`: n / planned. `states`:
    of every planned (narrative, repeat), for overall summed over dimensions. `bounds`: the mean if every missing score
    were the lowest, or the highest, level; only where more than 1 % is missing.
    """

    system: str
    arm: str
    dimension: str | None
    mean: Estimate
    planned: int
    coverage: float
    states: Mapping[str, int]
    bounds: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        bounds = list(self.bounds) if self.bounds else None
        return vars(self) | {"mean": self.mean.to_dict(), "states": dict(self.states), "bounds": bounds}


@dataclass(frozen=True)
class Gap:
    """How far a system is ahead of the next in the ranking: mean difference over the cases in which both are scored."""

    ahead: Group
    behind: Group
    dimension: str | None
    difference: Estimate

    @property
    def excludes_zero(self) -> bool | None:
        """Whether the interval leaves 0 out; None without an interval."""
        low, high = self.difference.low, self.difference.high
        return None if low is None or high is None else low > 0 or high < 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "ahead": list(self.ahead), "behind": list(self.behind), "dimension": self.dimension,
            **self.difference.to_dict(), "excludes_zero": self.excludes_zero,
        }  # fmt: skip


@dataclass(frozen=True)
class Leaderboard:
    """Standings of every system, the ranking by overall score (best first), and the gaps between neighbours.

    `counts`: cases, clusters, narratives, planned and scored scores, states; `flags`: narratives per flag of the rater,
    such as "picture out of domain".
    """

    rater: str
    rater_kind: str
    dimensions: tuple[str, ...]
    levels: tuple[int, ...]
    ranking: tuple[Group, ...]
    standings: tuple[Standing, ...]
    gaps: tuple[Gap, ...]
    counts: Mapping[str, Any]
    flags: Mapping[str, int]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def of(self, group: Group, dimension: str | None = None) -> Standing:
        """The standing of a (system, arm) on a dimension, or overall; InputError if there is none."""
        for found in self.standings:
            if (found.system, found.arm, found.dimension) == (*group, dimension):
                return found
        raise InputError(f"no standing of {group} on {dimension or 'overall'}; systems: {self.ranking}")

    def gap(self, ahead: Group, dimension: str | None = None) -> Gap | None:
        """The gap between a (system, arm) and the next in the ranking; None for the last."""
        return next((g for g in self.gaps if (g.ahead, g.dimension) == (ahead, dimension)), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        return {
            "rater": self.rater, "rater_kind": self.rater_kind, "dimensions": list(self.dimensions),
            "levels": list(self.levels), "ranking": [list(group) for group in self.ranking],
            "standings": [s.to_dict() for s in self.standings], "gaps": [g.to_dict() for g in self.gaps],
            "counts": dict(self.counts), "flags": dict(self.flags), "settings": dict(self.settings),
            "notes": list(self.notes),
        }  # fmt: skip


def leaderboard(
    frame: pl.DataFrame,
    clusters: Mapping[str, str] | None,
    dimensions: Sequence[str],
    levels: Sequence[int],
    resamples: int = 2000,
    seed: int = 0,
    rater: str | None = None,
    unit: str = "patient",
) -> Leaderboard:
    """Rank systems by the scores of one rater.

    `frame`: long ratings (see `judge.ratings.RATINGS_SCHEMA`), all rows that were planned, whatever their state; a
    dimension without a row counts as `skipped`. `clusters`: case_id -> patient (or another `unit`, in words), which is
    resampled; None: the column patient_id if there is one, else the case. `levels`: the rubric's scale. `rater`:
    needed only if the frame holds several judges. A judge's repeats are averaged; nothing missing is filled in.

    Raises InputError for an unknown or ambiguous rater, unknown dimensions, scores off the scale, duplicate rows.
    """
    check_settings(resamples, 0.05)
    name, kind = choose_rater(frame, rater)
    rows = normalise(frame.filter((pl.col("rater") == name) & (pl.col("rater_kind") == kind)))
    refuse_duplicates(rows)
    if strange := sorted(set(rows["dimension"]) - set(dimensions)):
        raise InputError(f"'{strange[0]}' is no dimension of these: {', '.join(dimensions)}")
    low, high = min(levels), max(levels)
    if outside := rows.filter(~pl.col("score").is_between(low, high)).height:
        raise InputError(f"{outside} scores lie outside {low} to {high}; read the ratings with their rubric")
    of_case = clusters_of_cases(rows, clusters)
    items = rows.select(ITEM).unique().sort(ITEM).with_row_index("item")
    scores = _scores(rows, items, dimensions)
    table = np.column_stack([scores, scores.mean(axis=1)])
    columns: list[str | None] = [*dimensions, None]
    names, cluster = np.unique([of_case[c] for c in items["case_id"]], return_inverse=True)
    groups = list(items.select("system", "arm").unique().sort("system", "arm").iter_rows())
    member = [((items["system"] == s) & (items["arm"] == a)).to_numpy() for s, a in groups]

    sums = [per_cluster(table[m, c], cluster[m], len(names)) for m in member for c in range(len(columns))]
    nothing = [f"no narrative is scored on {c or 'every dimension'}" for c in columns] * len(groups)
    means = ratios(sums, resamples, seed, nothing)
    states = _states(rows, items, groups, dimensions)
    standings = []
    for g, (system, arm) in enumerate(groups):
        for c, dimension in enumerate(columns):
            mean, planned = means[g * len(columns) + c], int(member[g].sum())
            part = scores[member[g]] if dimension is None else scores[member[g]][:, [c]]
            here = states[g][dimension]
            bounds = _bounds(part, low, high)
            standings.append(Standing(system, arm, dimension, mean, planned, mean.n / planned, here, bounds))
    overall = {(s.system, s.arm): s.mean.value for s in standings if s.dimension is None}
    known = {group: value for group, value in overall.items() if value is not None}
    ranking = (*sorted(known, key=lambda group: -known[group]), *(group for group in overall if group not in known))
    total = Counter[str]()
    for by_dimension in states:
        total.update(by_dimension[None])
    return Leaderboard(
        rater=name,
        rater_kind=kind,
        dimensions=tuple(dimensions),
        levels=tuple(levels),
        ranking=ranking,
        standings=tuple(standings),
        gaps=tuple(_gaps(ranking, groups, member, table, columns, items, of_case, resamples, seed)),
        counts={
            "systems": items["system"].n_unique(), "cases": items["case_id"].n_unique(), "clusters": len(names),
            "narratives": items.height, "planned": sum(total.values()), "scored": total["scored"],
            "states": {state: total[state] for state in STATES if total[state]},
        },
        flags=_flags(rows),
        settings={
            "resamples": resamples, "seed": seed, "alpha": 0.05, "interval": "percentile",
            "resampled_unit": unit if clusters is not None or "patient_id" in frame.columns else "case",
            "repeats": int(rows["repeat"].max()) + 1,  # type: ignore[arg-type]
        },
        notes=few_clusters(len(names)),
    )  # fmt: skip


def choose_rater(frame: pl.DataFrame, rater: str | None) -> tuple[str, str]:
    """Name and kind of the rater that is meant: the named one, else the only judge; InputError otherwise."""
    if missing := [column for column in ("rater", "rater_kind") if column not in frame.columns]:
        raise InputError(f"ratings lack the column(s) {', '.join(missing)}; they have {', '.join(frame.columns)}")
    known = frame.select("rater", "rater_kind").unique().sort("rater", "rater_kind").rows()
    meant = [r for r in known if (r[1] == "judge" if rater is None else r[0] == rater)]
    if len(meant) == 1:
        return meant[0]
    names = ", ".join(f"{name} ({kind})" for name, kind in known) or "none"
    if rater is not None:
        raise InputError(f"no single rater '{rater}' in the ratings; there are {names}")
    raise InputError(f"the ratings hold {len(meant)} judges; name one rater of {names}")


def _scores(rows: pl.DataFrame, items: pl.DataFrame, dimensions: Sequence[str]) -> np.ndarray:
    """(items, dimensions), NaN where nothing is scored; repeats are averaged."""
    place = pl.DataFrame({"dimension": list(dimensions), "column": range(len(dimensions))})
    means = rows.group_by([*ITEM, "dimension"]).agg(pl.col("score").mean()).filter(pl.col("score").is_not_null())
    means = means.join(items, on=ITEM).join(place, on="dimension")
    table = np.full((items.height, len(dimensions)), np.nan)
    table[means["item"].to_numpy(), means["column"].to_numpy()] = means["score"].to_numpy()
    return table


def _bounds(scores: np.ndarray, low: int, high: int) -> tuple[float, float] | None:
    """Mean of `scores` (narratives, dimensions) with every missing one at the lowest, and at the highest, level."""
    missing = np.isnan(scores)
    if missing.any(axis=1).mean() <= MISSING_SHARE:
        return None
    return float(np.where(missing, low, scores).mean()), float(np.where(missing, high, scores).mean())


def _states(
    rows: pl.DataFrame, items: pl.DataFrame, groups: Sequence[Group], dimensions: Sequence[str]
) -> list[dict[str | None, dict[str, int]]]:
    """Counts per state, per group and dimension (None: all dimensions), that add up to what was planned."""
    asked = rows.select([*ITEM, "repeat"]).unique().group_by("system", "arm").len()
    planned = {(system, arm): n for system, arm, n in asked.iter_rows()}
    counted: dict[tuple[str, str, str], Counter[str]] = {}
    for system, arm, dimension, state, n in rows.group_by("system", "arm", "dimension", "state").len().iter_rows():
        counted.setdefault((system, arm, dimension), Counter())[state] += n
    found = []
    for group in groups:
        own: dict[str | None, dict[str, int]] = {}
        total = Counter[str]()
        for dimension in dimensions:
            count = counted.get((*group, dimension), Counter())
            count["skipped"] += planned[group] - count.total()
            total.update(count)
            own[dimension] = {state: count[state] for state in STATES if count[state]}
        found.append(own | {None: {state: total[state] for state in STATES if total[state]}})
    return found


def _gaps(
    ranking: Sequence[Group], groups: Sequence[Group], member: Sequence[np.ndarray], table: np.ndarray,
    columns: Sequence[str | None], items: pl.DataFrame, of_case: Mapping[str, str], resamples: int, seed: int,
) -> list[Gap]:  # fmt: skip
    """Neighbours in the ranking, per case: a case that only one of the two has says nothing about their order."""
    cases, case = np.unique(items["case_id"].to_numpy(), return_inverse=True)
    names, cluster = np.unique([of_case[c] for c in cases], return_inverse=True)

    def case_means(group: Group, c: int) -> np.ndarray:
        kept = member[groups.index(group)]
        total, count = per_cluster(table[kept, c], case[kept], len(cases))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    pairs = [(a, b, c) for a, b in pairwise(ranking) for c in range(len(columns))]
    sums = [per_cluster(case_means(a, c) - case_means(b, c), cluster, len(names)) for a, b, c in pairs]
    nothing = ["no case is scored for both systems"] * len(pairs)
    found = ratios(sums, resamples, seed, nothing)
    return [Gap(a, b, columns[c], estimate) for (a, b, c), estimate in zip(pairs, found, strict=True)]


def _flags(rows: pl.DataFrame) -> dict[str, int]:
    """Narratives per flag, whatever the dimension or repeat."""
    if "flags" not in rows.columns:
        return {}
    each = rows.select(*ITEM, pl.col("flags").alias("flag")).explode("flag").filter(pl.col("flag").is_not_null())
    return dict(each.unique().group_by("flag").len().sort("flag").iter_rows())
