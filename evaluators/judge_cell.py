"""Features of one judge on one dimension, and the statistics that are made of their sums."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .bootstrap import Cell, Sums
from .ceiling import FEWEST_ITEMS, RANKS, Ceiling, mean_of_experts
from .pair import Pair, places
from .ranking import FEWEST_SYSTEMS, pairwise_accuracy, system_features, system_statistics, within_case_features
from .ratings import Panel
from .reliability import (
    ac2,
    ac2_features,
    alpha_from_coincidences,
    coincidence_features,
    level_counts,
    scale_values,
)
from .statistics import quadratic_kappa, ranked_probability_score, ratio, weighted_quantile

MOST_LEVELS = 25  # more distinct expert values than this are no ordinal scale
MOST_DIFFERENCES = 256  # distinct differences up to which none is binned
REACH = 5  # standard errors of a percentile's place, were all items of a case alike, within which none is binned
LEAVE_ONE_OUT = ("loo_", "judge_minus_expert")
LEVEL_STATISTICS = (
    "item.qwk",
    "item.alpha_with_judge",
    "item.alpha_without_judge",
    "item.alpha_change",
    "item.alpha_nominal_with_judge",
    "item.alpha_interval_with_judge",
    "item.ac2_with_judge",
)
PERCENTILES = {"item.difference_p2.5": 0.025, "item.difference_p97.5": 0.975}


class JudgeCell:
    """Features, statistics and reasons of one judge on one dimension, over the items of one group."""

    def __init__(self, panel: Panel, d: int, j: int, kept: np.ndarray, group: str | None = None):
        self.d, self.j, self.group, self.kept = d, j, group, kept
        self.names, self.identity, self.independent = panel.raters, panel.identity, panel.stage == "independent"
        x, y = panel.judges[d, :, j], panel.experts[d]
        rated = np.isfinite(y).any(axis=1) & kept
        use = rated & np.isfinite(x)
        x, y, case, system, cluster = x[use], y[use], panel.case[use], panel.system[use], panel.cluster[use]
        present = np.flatnonzero(np.isfinite(y).any(axis=0))
        y = y[:, present]
        self.names = tuple(panel.raters[r] for r in present)
        self.clusters = len(np.unique(cluster))
        self.expert_ratings = int(np.isfinite(y).sum())
        self.counts = {
            "cases": len(np.unique(case)),
            "clusters": self.clusters,
            "systems": len(np.unique(system)),
            "items": len(x),
            "expert_ratings": self.expert_ratings,
            "items_rated_by_experts": int(rated.sum()),
            "coverage": len(x) / int(rated.sum()) if rated.any() else None,
        }
        code, first = item_codes(np.column_stack([x, y]))
        cx, cy = x[first], y[first]
        mean = mean_of_experts(cy)
        centre = (panel.levels[0] + panel.levels[-1]) / 2
        self.sums = Sums(code, cluster, panel.n_clusters)
        self.item = Pair(self.sums, "item", cx, mean, code, centre)
        self._add_differences(cx - mean, code)
        self.values = scale_values(panel.levels, y)
        self.kappa_raters: list[int] = []
        self.kappa_ratings = self.rounded = 0
        self.level_sums = self._level_sums(x, y, cluster, panel.n_clusters)
        pairs = within_case_features(x, mean[code], case, cluster, panel.n_clusters)
        self.pairs = int(pairs[0].sum())
        self.counts["pairs_tied_by_experts"] = int(pairs[3].sum())
        self.sums.add_direct("pairs", pairs)
        self.systems = np.unique(system)
        place = np.searchsorted(self.systems, system)
        self.sums.add_direct(
            "systems", system_features(x, mean[code], place, len(self.systems), cluster, panel.n_clusters)
        )
        self.scored_distributions = self._add_distributions(panel, d, j, use, y, cluster)
        self.ceiling = Ceiling(self.sums, cx, cy, code, centre)
        self.no_ceiling = self._no_ceiling()
        self.notes = self._notes()
        self.cell = Cell((self.sums, self.level_sums), self._finish)

    def _level_sums(self, x: np.ndarray, y: np.ndarray, cluster: np.ndarray, n_clusters: int) -> Sums:
        """Tables of rounded judge against each expert for QWK, coincidences without and with the judge for alpha."""
        if self.values is None or len(self.values) > MOST_LEVELS or not len(x):
            self.values = None
            return Sums(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), n_clusters)
        step = self.values[1] - self.values[0]
        # Scores outside the scale are here only if they were asked for: they widen it, they are not cut.
        below = max(0, int(np.ceil((self.values[0] - x.min()) / step - 0.5 - 1e-9)))
        above = max(0, int(np.floor((x.max() - self.values[-1]) / step + 0.5 + 1e-9)))
        self.values = self.values[0] + step * np.arange(-below, len(self.values) + above)
        low, top = self.values[0], len(self.values) - 1
        rounded = np.floor((x - low) / step + 0.5 + 1e-9)
        self.rounded = int((np.abs(low + step * rounded - x) > 1e-6).sum())
        code, first = item_codes(np.column_stack([rounded, y]))
        rounded, y = rounded[first].astype(np.int64), y[first]
        sums = Sums(code, cluster, n_clusters)
        shared = np.bincount(code) @ np.isfinite(y)
        # An expert with few ratings has no kappa in many resamples, and the mean over experts would go with it.
        self.kappa_raters = [r for r in range(y.shape[1]) if shared[r] >= min(FEWEST_ITEMS, shared.max())]
        self.kappa_ratings = int(shared[self.kappa_raters].sum())
        for r in self.kappa_raters:
            given = np.where(np.isfinite(y[:, r]), np.round((np.nan_to_num(y[:, r]) - low) / step), -1)
            sums.add_table(f"kappa_{r}", rounded, given.astype(np.int64), (top + 1, top + 1))
        counts = level_counts(y, self.values)
        sums.add("coincidences", coincidence_features(counts))
        counts[np.arange(len(y)), rounded] += 1
        sums.add("coincidences_with_judge", coincidence_features(counts))
        sums.add("ac2_with_judge", ac2_features(counts))
        return sums

    def _add_differences(self, d: np.ndarray, code: np.ndarray) -> None:
        """Counts of the distinct differences, for their percentiles (Bland and Altman 1999, section 6).

        Where they are many, only those that a percentile can hardly reach in a resample are binned.
        """
        reach = {p: REACH * (p * (1 - p) / max(1, self.clusters)) ** 0.5 for p in PERCENTILES.values()}
        exact = [(p - r, p + r) for p, r in reach.items()]
        place, self.differences, _ = places(d, code, MOST_DIFFERENCES, MOST_DIFFERENCES, exact)
        if len(self.differences):
            self.sums.add_table("differences", np.zeros_like(place), place, (1, len(self.differences)))

    def _add_distributions(
        self, panel: Panel, d: int, j: int, use: np.ndarray, y: np.ndarray, cluster: np.ndarray
    ) -> int | None:
        """Ranked probability score where the judge gave distributions; how many items, None if no judge ever did."""
        if panel.distributions is None:
            return None
        score = ranked_probability_score(panel.distributions[d, use, j], y, panel.levels)
        there = np.isfinite(score)
        sums = [np.bincount(cluster[there], w, panel.n_clusters) for w in (np.ones(there.sum()), score[there])]
        self.sums.add_direct("rps", np.stack(sums))
        return int(there.sum())

    def _finish(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        item = self.item.statistics(found)
        constant = self.item.constant(found)
        out = {f"item.{k}": v for k, v in item.items()}
        out |= {f"constant.{k}": v for k, v in constant.items()}
        base = np.where(constant["mae"] > 0, constant["mae"], np.nan)
        out["item.skill"] = 1 - item["mae"] / base
        for name in ("mae", "rmse", "within_0.5", "within_1"):
            out[f"judge_minus_constant.{name}"] = item[name] - constant[name]
        for single, mean in (("icc_1", "icc_k"), ("icc_c1", "icc_ck"), ("icc_a1", "icc_ak")):
            # Spearman and Brown: for two columns the forms for their mean follow from those for one.
            out[f"item.{mean}"] = 2 * item[single] / np.where(item[single] > -1, 1 + item[single], np.nan)
        nothing = np.full(item["mae"].shape, np.nan)
        for name, share in PERCENTILES.items():
            out[name] = nothing
            if len(self.differences):
                out[name] = weighted_quantile(found["differences"][0], self.differences, share)
        out |= dict.fromkeys(LEVEL_STATISTICS, nothing)
        if self.values is not None:
            if self.identity:
                kappas = [quadratic_kappa(found[f"kappa_{r}"]) for r in self.kappa_raters]
                out["item.qwk"] = np.mean(kappas, axis=0)
            alone = alpha_from_coincidences(found["coincidences"], self.values, "ordinal")
            with_judge = found["coincidences_with_judge"]
            joined = alpha_from_coincidences(with_judge, self.values, "ordinal")
            out["item.alpha_with_judge"] = joined
            out["item.alpha_nominal_with_judge"] = alpha_from_coincidences(with_judge, self.values, "nominal")
            out["item.alpha_interval_with_judge"] = alpha_from_coincidences(with_judge, self.values, "interval")
            out["item.ac2_with_judge"] = ac2(found["ac2_with_judge"])
            if self.independent:
                out |= {"item.alpha_without_judge": alone, "item.alpha_change": joined - alone}
        if self.scored_distributions is not None:
            out["item.rps"] = found["rps"][1] / found["rps"][0]
        out["item.pairwise_accuracy"] = pairwise_accuracy(found["pairs"])
        out["item.pairwise_judge_ties"] = ratio(found["pairs"][2], found["pairs"][0])
        out |= {f"system.{k}": v for k, v in system_statistics(found["systems"]).items()}
        if self.no_ceiling:
            return out | dict.fromkeys(Ceiling.names(), nothing)
        out |= self.ceiling.statistics(found)
        return out if self.identity else out | dict.fromkeys(RANKS, nothing)

    def n_of(self, name: str) -> int:
        """What stands behind a number: items, (item, expert) ratings, pairs of narratives, systems or experts."""
        if name.startswith(LEAVE_ONE_OUT):
            if self.no_ceiling:
                return 0
            return len(self.ceiling.raters) if name.startswith("loo_rank") else self.ceiling.n
        if name.startswith("item.pairwise"):
            return self.pairs
        if name == "item.qwk":
            return self.kappa_ratings
        if name == "item.rps":
            return self.scored_distributions or 0
        return len(self.systems) if name.startswith("system.") else self.item.n

    def why(self, name: str) -> str:
        """Why a statistic is undefined on the data as they are."""
        if self.item.n == 0:
            return "no item has both a judge score and an expert score"
        if name.startswith(LEAVE_ONE_OUT):
            if name in RANKS and not self.identity:
                return self.no_ceiling or "the experts have no identity; a place among them needs one column per expert"
            return self.no_ceiling or self.ceiling.why_undefined(name, self.names)
        if name.startswith("item.pairwise"):
            return "no case has two narratives that the experts score differently"
        if name.startswith("system."):
            if len(self.systems) < FEWEST_SYSTEMS and name not in ("system.accuracy", "system.mae"):
                return f"{len(self.systems)} system(s); a correlation of systems needs {FEWEST_SYSTEMS}"
            return "fewer than two different system means"
        if name in LEVEL_STATISTICS:
            return self._why_no_levels(name)
        if name == "item.rps":
            return "the judge gives no distribution here"
        if name == "item.skill":
            return "the constant is never wrong here"
        return self.item.why_undefined()

    def _why_no_levels(self, name: str) -> str:
        among_experts = name in ("item.alpha_without_judge", "item.alpha_change")
        if self.values is None:
            return f"the experts' scores lie on no scale of at most {MOST_LEVELS} evenly spaced values"
        if name == "item.qwk" and not self.identity:
            return "the experts have no identity; kappa needs one column per expert"
        if among_experts and not self.independent:
            return "the experts' scores were adjudicated; they do not measure agreement between experts"
        if among_experts and len(self.names) < 2:
            return "only one expert"
        return "the scores do not vary"

    def _no_ceiling(self) -> str | None:
        if not self.independent:
            return "the experts' scores were adjudicated, so they agree by construction and are no ceiling"
        if len(self.names) < 2:
            return "a ceiling needs at least two experts"
        if not self.ceiling.raters:
            return f"no expert shares {FEWEST_ITEMS} items with another expert and the judge"
        return None

    def _notes(self) -> tuple[str, ...]:
        notes = [f"no ceiling: {self.no_ceiling}"] if self.no_ceiling and self.item.n else []
        if not self.no_ceiling:
            notes += [
                f"expert {self.names[r]} is left out of the ceiling: fewer than {FEWEST_ITEMS} shared items"
                for r in self.ceiling.left_out
            ]
        if self.rounded:
            notes.append(
                f"QWK, alpha and AC2 take the judge's scores at the nearest level, halves upwards: {self.rounded} of "
                f"{self.item.n} scores lie between levels"
            )
        if (error := max(self.item.grid_error, self.ceiling.grid_error)) > 0:
            notes.append(
                "continuous scores: intervals of rank statistics rest on bins of equal count, centred on the exact "
                f"value; largest difference between binned and exact value {error:.1g}"
            )
        return tuple(notes)


def item_codes(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct rows of `scores` (items, columns; NaN is a value): code per item, first item per code."""
    code = np.zeros(len(scores), dtype=np.int64)
    for column in scores.T:
        values, place = np.unique(np.nan_to_num(column, nan=-1e300), return_inverse=True)
        _, code = np.unique(code * len(values) + place, return_inverse=True)
    _, first = np.unique(code, return_index=True)
    return code, first
