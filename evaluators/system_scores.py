"""Scores of one rater, or of the experts together, laid out by system and case, for paired comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .ceiling import mean_of_experts
from .leaderboard import Group, choose_rater
from .ratings import ITEM, Panel, normalise
from .ratios import per_cluster
from .statistics import SLACK

EXPERT_MEAN = "mean of the experts"  # the rater that is every expert together


def rows_of(frame: pl.DataFrame, rater: str | None) -> tuple[str, pl.DataFrame]:
    """The rater's name and rows; every expert's for EXPERT_MEAN."""
    kinds = set(frame["rater_kind"]) if "rater_kind" in frame.columns else set()
    if rater == EXPERT_MEAN or (rater is None and kinds == {"expert"}):
        if "expert" not in kinds:
            raise InputError("the ratings hold no expert score, so there is no mean of the experts")
        return EXPERT_MEAN, frame.filter(pl.col("rater_kind") == "expert")
    name, kind = choose_rater(frame, rater)
    return name, frame.filter((pl.col("rater") == name) & (pl.col("rater_kind") == kind))


class SystemScores:
    """Scores of one rater by group (system, arm), column (the dimensions, then overall) and case."""

    def __init__(self, panel: Panel, rows: pl.DataFrame, dimensions: Sequence[str], rater: str):
        items = normalise(rows).select(ITEM).unique().sort(ITEM)
        self.groups: list[Group] = sorted(set(items.select("system", "arm").iter_rows()))  # type: ignore[arg-type]
        number = {group: g for g, group in enumerate(self.groups)}
        place = np.array([number[group] for group in items.select("system", "arm").iter_rows()])  # type: ignore[index]
        if len(self.groups) < 2:
            raise InputError(f"{rater} scored one system only ({'/'.join(self.groups[0])}); a comparison needs two")
        chosen = [panel.dimensions.index(d) for d in dimensions]
        alone = panel.experts if panel.raters else panel.judges
        means = [mean_of_experts(panel.experts[d]) if rater == EXPERT_MEAN else alone[d, :, 0] for d in chosen]
        scores = np.vstack([*means, np.mean(means, axis=0)])
        cases = len(panel.case_ids)
        self.cluster = np.empty(cases, dtype=np.int64)
        self.cluster[panel.case] = panel.cluster

        def by_case(values: np.ndarray, g: int) -> tuple[np.ndarray, np.ndarray]:
            return per_cluster(values[place == g], panel.case[place == g], cases)

        sums = [[by_case(row, g) for row in scores] for g in range(len(self.groups))]
        self.scored = np.array([[count for _, count in row] for row in sums]).astype(np.int64)
        with np.errstate(invalid="ignore"):
            self.means = np.array([[total / count for total, count in row] for row in sums])
        self.asked = np.array([by_case(np.ones(len(place)), g)[1] for g in range(len(self.groups))]).astype(np.int64)
        self.who: np.ndarray | None = None  # (groups, dimensions, cases, experts)
        if rater == EXPERT_MEAN and panel.identity:
            given = np.where(np.isfinite(panel.experts[chosen]), 1.0, np.nan)
            self.who = np.array([[[by_case(r, g)[1] > 0 for r in d.T] for d in given] for g in range(len(self.groups))])
            self.who = self.who.transpose(0, 1, 3, 2)
        overall = {group: self._mean(g) for g, group in enumerate(self.groups)}
        self.ranking: tuple[Group, ...] = tuple(sorted(overall, key=lambda group: -overall[group]))

    def _mean(self, g: int) -> float:
        count = self.scored[g, -1]
        return float(np.nansum(self.means[g, -1] * count) / count.sum()) if count.any() else -np.inf

    def pairs(self, pairs: Sequence[tuple[str | Group, str | Group]] | None) -> list[tuple[Group, Group]]:
        if pairs is None:
            return [(a, b) for a, b in combinations(self.ranking, 2) if a[0] == b[0] or a[1] == b[1]]
        found = [(self._group(a), self._group(b)) for a, b in pairs]
        if same := [a for a, b in found if a == b]:
            raise InputError(f"'{'/'.join(same[0])}' is compared with itself; name two systems")
        if not found or len(set(map(frozenset, found))) < len(found):
            raise InputError("pairs must name at least one pair of systems, and each once")
        return found

    def _group(self, name: str | Group) -> Group:
        meant = [group for group in self.groups if name in (group, group[0])]
        if len(meant) == 1:
            return meant[0]
        known = ", ".join("/".join(group) for group in self.groups)
        raise InputError(f"{len(meant)} systems are '{name}'; name a system, or (system, arm), of {known}")

    def _both(self, a: Group, b: Group, c: int) -> tuple[int, int, np.ndarray]:
        g, h = self.groups.index(a), self.groups.index(b)
        return g, h, (self.scored[g, c] > 0) & (self.scored[h, c] > 0)

    def common_means(self, a: Group, b: Group, c: int) -> tuple[float | None, float | None]:
        g, h, both = self._both(a, b, c)
        if not both.any():
            return None, None
        return float(self.means[g, c, both].mean()), float(self.means[h, c, both].mean())

    def counts(self, a: Group, b: Group, c: int) -> dict[str, int]:
        g, h, both = self._both(a, b, c)
        gap = self.means[g, c, both] - self.means[h, c, both]
        asked = self.asked[[g, h]] > 0
        scored = self.scored[[g, h], c] > 0
        found = {
            "cases": both, "a_higher": gap > SLACK, "tied": np.abs(gap) <= SLACK, "b_higher": gap < -SLACK,
            "asked_of_both": asked.all(axis=0), "unscored_a_only": asked.all(axis=0) & ~scored[0] & scored[1],
            "unscored_b_only": asked.all(axis=0) & scored[0] & ~scored[1],
            "unscored_both": asked.all(axis=0) & ~scored.any(axis=0), "asked_of_a_only": asked[0] & ~asked[1],
            "asked_of_b_only": asked[1] & ~asked[0],
        }  # fmt: skip
        items = {"items_a": int(self.scored[g, c, both].sum()), "items_b": int(self.scored[h, c, both].sum())}
        return {name: int(cases.sum()) for name, cases in found.items()} | items

    def notes(self, a: Group, b: Group, c: int) -> tuple[str, ...]:
        if self.who is None:
            return ()
        g, h, both = self._both(a, b, c)
        columns = slice(None) if c == self.who.shape[1] else slice(c, c + 1)
        other = int((self.who[g, columns] != self.who[h, columns]).any(axis=(0, 2))[both].sum())
        if not other:
            return ()
        where = f"in {other} of {int(both.sum())} cases the two were not rated by the same experts"
        return (f"{where}: the experts' own bias enters the difference",)

    def lost(self, columns: Sequence[str | None]) -> list[dict[str, Any]]:
        return [
            {"system": group[0], "arm": group[1], "dimension": dimension,
             "planned": int(self.asked[g].sum()), "scored": int(self.scored[g, c].sum())}
            for g, group in enumerate(self.groups) for c, dimension in enumerate(columns)
        ]  # fmt: skip
