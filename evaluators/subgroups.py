"""Does a judge err differently by subgroup of cases: errors per group, gaps to all other groups, adjusted tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import t as student

from ..judge.errors import InputError
from .agreement import check_settings, estimate, few_clusters
from .bootstrap import FEWEST_CLUSTERS, Cell, Estimate, Sums, point, resample
from .case_attributes import case_attributes, refuse_overlap
from .ceiling import mean_of_experts
from .judge_cell import item_codes
from .multiplicity import adjust
from .pair import Pair
from .ratings import Panel, read_panel
from .ratios import per_cluster
from .statistics import SLACK, TINY, moment_statistics

__all__ = ["GroupErrors", "LargestGap", "SubgroupResult", "case_attributes", "cluster_welch_test", "subgroup_gaps"]

TESTED = ("bias", "mae")  # statistics whose gaps between groups are estimated and tested
KEPT = (*TESTED, "rmse", "within_1", "pearson", "spearman")
UNKNOWN = "the group of these cases is not known, so they are compared with nothing"
NOTES = (
    "the target is the mean of the experts: a bias of the experts towards a group cannot be told from one of the judge",
    "a gap is no cause: groups may also differ in diagnosis, picture quality, systems or experts",
    "the largest gap of several is biased upwards; what equal groups of these sizes would show stands beside it",
)


@dataclass(frozen=True)
class GroupErrors:
    """One group of one attribute on one dimension; `group` is None for the cases whose group is not known.

    `results`: bias (judge minus the mean of the experts), mae, rmse (scale units), within_1 (share), pearson, spearman
    of the group's items; bias_gap, mae_gap: the group minus all other cases of a known group, on the same resamples.
    `p_values`, `p_adjusted`: of the two gaps, by `cluster_welch_test`. `counts`: cases, clusters, items, items_rated
    (by an expert, whether or not the judge scored them), coverage, other_clusters.
    """

    attribute: str
    group: str | None
    dimension: str
    counts: Mapping[str, Any]
    results: Mapping[str, Estimate]
    p_values: Mapping[str, float | None]
    p_adjusted: Mapping[str, float | None]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        own = {name: dict(getattr(self, name)) for name in ("counts", "p_values", "p_adjusted")}
        results = {name: found.to_dict() for name, found in self.results.items()}
        return vars(self) | own | {"results": results, "notes": list(self.notes)}


@dataclass(frozen=True)
class LargestGap:
    """The largest difference of a statistic between two groups of an attribute with at least 20 clusters each.

    `by_chance`, `by_chance_high`: mean and 1 - alpha quantile of the largest difference that groups of these sizes
    show if they do not differ (resamples centred at each group's own value); None with a `reason`.
    """

    attribute: str
    dimension: str
    statistic: str
    value: float | None
    highest: str | None
    lowest: str | None
    by_chance: float | None
    by_chance_high: float | None
    groups: int
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class SubgroupResult:
    """Every attribute x group x dimension of one judge, the largest gaps, and the families that p-values belong to."""

    judge: str
    groups: tuple[GroupErrors, ...]
    largest: tuple[LargestGap, ...]
    families: Mapping[str, str]
    settings: Mapping[str, Any]
    notes: tuple[str, ...]

    def of(self, attribute: str, group: str | None, dimension: str) -> GroupErrors:
        """One group on one dimension; InputError if there is none."""
        for found in self.groups:
            if (found.attribute, found.group, found.dimension) == (attribute, group, dimension):
                return found
        known = sorted({f"{f.attribute} / {f.group} / {f.dimension}" for f in self.groups})
        raise InputError(f"no group {attribute} / {group} / {dimension}; there are {', '.join(known)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        return {
            "judge": self.judge, "groups": [g.to_dict() for g in self.groups],
            "largest": [g.to_dict() for g in self.largest], "families": dict(self.families),
            "settings": dict(self.settings), "notes": list(self.notes),
        }  # fmt: skip


def subgroup_gaps(
    frame: pl.DataFrame,
    levels: Sequence[int],
    judge: str,
    attributes: Mapping[str, Mapping[str, str]],
    cluster: Mapping[str, str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    alpha: float = 0.05,
    *,
    correction: str = "holm",
    keep_out_of_range: bool = False,
) -> SubgroupResult:
    """Compare a judge's errors between groups of cases, per dimension and attribute, with intervals and tests.

    `frame`, `levels`, `cluster`, `keep_out_of_range`: as in `ratings.read_panel`. `attributes`: name -> case_id ->
    group, such as `case_attributes` gives; a case without an entry, or with an empty one, stands in a line of its own
    and in no comparison. Gaps are the group minus all other cases of a known group; both sides see the same redrawn
    clusters, so a patient may have cases in two groups. Tests of one statistic over all attributes, groups and
    dimensions are one family; where an attribute has two groups, their two gaps are one test. No interval, gap
    interval or test below 20 clusters on a side.

    Raises InputError on unusable ratings, an unknown judge, no expert score, an attribute that mixes Fitzpatrick types
    with bands or spells one group in two ways, and if no case of the ratings has a group.
    """
    check_settings(resamples, alpha)
    panel = read_panel(frame, levels, cluster, keep_out_of_range)
    if not panel.raters:
        raise InputError("the ratings hold no expert score; errors need rater_kind 'expert'")
    if judge not in panel.judge_names:
        raise InputError(f"no judge '{judge}' in the ratings; there are {', '.join(panel.judge_names) or 'none'}")
    splits = [_Split(panel, name, groups) for name, groups in attributes.items()]
    if not any(split.groups for split in splits):
        raise InputError(
            f"no case of the ratings has a group in {', '.join(attributes) or 'any attribute'}; "
            f"attributes map a case_id, such as '{panel.case_ids[0]}', to a group"
        )
    j = panel.judge_names.index(judge)
    cells = [_SplitCell(panel, d, j, split) for split in splits for d in range(len(panel.dimensions))]
    points = point([built.cell for built in cells], panel.n_clusters)
    draws = resample([built.cell for built in cells], panel.n_clusters, resamples, seed)

    raw: dict[str, dict[tuple[int, int], float | None]] = {}
    adjusted: dict[str, dict[tuple[int, int], float | None]] = {}
    families = {}
    for name in TESTED:
        raw[name] = {(c, k): built.test(name, k) for c, built in enumerate(cells) for k in built.tested}
        adjusted[name] = dict(zip(raw[name], adjust(list(raw[name].values()), correction), strict=True))
        count = sum(p is not None for p in raw[name].values())
        over = f"{len(splits)} attributes, their groups and {len(panel.dimensions)} dimensions"
        families[name] = f"{correction} over {count} tests of a gap in {name}: {over}"
    rows, largest = [], []
    for c, (built, values, drawn) in enumerate(zip(cells, points, draws, strict=True)):
        for k, group in enumerate([*built.split.groups, None]):
            if group is None and not built.split.unknown:
                continue
            key = (c, built.tested[0] if built.same_test(k) else k)
            p, q = ({name: found[name].get(key) for name in TESTED} for found in (raw, adjusted))
            results = built.results(k, values, drawn, alpha)
            notes = (*few_clusters(built.counts[k]["clusters"]), *_binned(built.pairs[k]))
            rows.append(GroupErrors(built.split.name, group, built.dimension, built.counts[k], results, p, q, notes))
        largest += [built.largest(name, values, drawn, alpha) for name in TESTED]
    settings = {
        "levels": list(panel.levels), "resamples": resamples, "seed": seed, "alpha": alpha, "interval": "percentile",
        "clusters": panel.n_clusters, "target": "mean of the experts who rated the item",
        "expert_stage": panel.stage, "correction": correction,
        "test": "Welch's t-test of the group against the other known cases, cluster-robust error",
        "gap": "the group minus all other cases of a known group",
    }  # fmt: skip
    notes = (*(note for split in splits for note in split.notes), *NOTES, *_panel_notes(panel))
    return SubgroupResult(judge, tuple(rows), tuple(largest), families, settings, notes)


def cluster_welch_test(group: tuple[np.ndarray, np.ndarray], others: tuple[np.ndarray, np.ndarray]) -> float | None:
    """Two-sided p-value of "both means are equal" with a cluster-robust error; a cluster may hold values of both.

    `group`, `others`: sums and numbers per cluster (clusters,), see `ratios.per_cluster`. Linearised difference of two
    ratios (Cochran 1977, section 6.4), Satterthwaite's degrees of freedom: Welch's t-test where each cluster holds one
    value, the paired t-test where each holds one of either side. None below two clusters on a side.
    """
    parts, means, sizes = [], [], []
    for total, count in (group, others):
        clusters, n = int((count > 0).sum()), float(count.sum())
        if clusters < 2:
            return None
        means.append(total.sum() / n)
        parts.append(np.sqrt(clusters / (clusters - 1)) * (total - means[-1] * count) / n)
        sizes.append(clusters - 1)
    gap, residual = means[0] - means[1], parts[0] - parts[1]
    error = float(np.sqrt(residual @ residual))
    if error < TINY:
        return 0.0 if abs(gap) > SLACK else 1.0
    own = [float(part @ part) for part in parts]
    freedom = sum(own) ** 2 / sum(v * v / size for v, size in zip(own, sizes, strict=True))
    either = int(((group[1] > 0) | (others[1] > 0)).sum())
    return float(2 * student.sf(abs(gap) / error, min(freedom, either - 1)))


class _Split:
    """One attribute on the items of a panel: `place` (items,) of each item's group, len(groups) where unknown."""

    def __init__(self, panel: Panel, name: str, of_case: Mapping[str, str]):
        own = [str(value).strip() if (value := of_case.get(case)) is not None else "" for case in panel.case_ids]
        self.name = name
        # "<18" comes before "18-39".
        self.groups = sorted(set(own) - {""}, key=lambda group: (not group.startswith("<"), group))
        refuse_overlap(name, self.groups)
        number = {group: k for k, group in enumerate(self.groups)} | {"": len(self.groups)}
        self.place = np.array([number[group] for group in own], dtype=np.int64)[panel.case]
        self.unknown = own.count("")
        self.notes = []
        if self.unknown:
            self.notes.append(f"{name}: not known of {self.unknown} of {len(own)} cases")
        if len(self.groups) == 1:
            self.notes.append(f"{name}: one group only, so there is nothing to compare")


class _SplitCell:
    """Errors of the judge on one dimension in every group of one attribute, as features of one resampling."""

    def __init__(self, panel: Panel, d: int, j: int, split: _Split):
        self.split, self.dimension = split, panel.dimensions[d]
        x, t = panel.judges[d, :, j], mean_of_experts(panel.experts[d])
        rated = np.isfinite(t)
        use = rated & np.isfinite(x)
        x, t, place, case, cluster = x[use], t[use], split.place[use], panel.case[use], panel.cluster[use]
        code, first = item_codes(np.column_stack([x, t, place]))
        sums = Sums(code, cluster, panel.n_clusters)
        centre = (panel.levels[0] + panel.levels[-1]) / 2
        self.pairs: list[Pair] = []
        self.counts: list[dict[str, Any]] = []
        self.known = range(len(split.groups))
        values = {"bias": x - t, "mae": np.abs(x - t)}
        self._parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in TESTED}
        for k in (*self.known, len(split.groups)):
            mine, kept = place == k, place[first] == k
            own = [np.where(kept, scores[first], np.nan) for scores in (x, t)]
            self.pairs.append(Pair(sums, str(k), own[0], own[1], code, centre))
            for name in TESTED:
                self._parts[name].append(per_cluster(values[name][mine], cluster[mine], panel.n_clusters))
            planned = int((rated & (split.place == k)).sum())
            self.counts.append({
                "cases": len(np.unique(case[mine])), "clusters": len(np.unique(cluster[mine])),
                "items": int(mine.sum()), "items_rated": planned,
                "coverage": int(mine.sum()) / planned if planned else None,
                "other_clusters": len(np.unique(cluster[~mine & (place < len(split.groups))])),
            })  # fmt: skip
        filled = [k for k in self.known if self.counts[k]["items"]]
        # With two groups the second gap is the first with its sign turned: one test, not two.
        self.tested = filled[:1] if len(filled) == 2 else filled if len(filled) > 2 else []
        self._filled = filled
        self.cell = Cell((sums,), self._finish)

    def same_test(self, k: int) -> bool:
        return len(self._filled) == 2 and k in self._filled

    def _finish(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        moments = [found[f"{k}.moments"] for k in self.known]
        every = np.sum(moments, axis=0) if moments else None
        out: dict[str, np.ndarray] = {}
        for k, pair in enumerate(self.pairs):
            own = pair.statistics(found)
            out |= {f"{k}.{name}": own[name] for name in KEPT}
            if k in self.known:
                others = moment_statistics(every - moments[k])
                out |= {f"{k}.{name}_gap": own[name] - others[name] for name in TESTED}
        return out

    def test(self, name: str, k: int) -> float | None:
        """p-value of the gap of group k; None below 20 clusters on a side."""
        if min(self.counts[k]["clusters"], self.counts[k]["other_clusters"]) < FEWEST_CLUSTERS:
            return None
        parts = self._parts[name]
        others = [np.sum([parts[i][side] for i in self.known if i != k], axis=0) for side in (0, 1)]
        return cluster_welch_test(parts[k], (others[0], others[1]))

    def results(
        self, k: int, values: Mapping[str, float], draws: Mapping[str, np.ndarray], alpha: float
    ) -> dict[str, Estimate]:
        """Estimates of one group; gaps only where the group is known."""
        counts, found = self.counts[k], {}
        n, total = counts["items"], sum(self.counts[i]["items"] for i in self.known)
        for name in (*KEPT, *(f"{name}_gap" for name in TESTED)):
            key, gap = f"{k}.{name}", name.endswith("_gap")
            if gap and k not in self.known:
                found[name] = Estimate(None, 0, reason=UNKNOWN)
            elif np.isfinite(values[key]):
                clusters = min(counts["clusters"], counts["other_clusters"]) if gap else counts["clusters"]
                found[name] = estimate(values[key], total if gap else n, draws[key], clusters, alpha)
            else:
                nothing = "no item of another known group has both scores" if n else "no item has both scores"
                found[name] = Estimate(None, n, reason=nothing if gap else self.pairs[k].why_undefined())
        return found

    def largest(
        self, name: str, values: Mapping[str, float], draws: Mapping[str, np.ndarray], alpha: float
    ) -> LargestGap:
        """The range of a statistic over the groups with enough clusters, and the range that equal groups would show."""
        of = (self.split.name, self.dimension, name)
        kept = [k for k in self.known if self.counts[k]["clusters"] >= FEWEST_CLUSTERS]
        if len(kept) < 2:
            reason = f"fewer than two groups have at least {FEWEST_CLUSTERS} clusters"
            return LargestGap(*of, None, None, None, None, None, len(kept), reason)
        seen = np.array([values[f"{k}.{name}"] for k in kept])
        centred = np.stack([draws[f"{k}.{name}"] for k in kept]) - seen[:, None]
        ranges = np.ptp(centred, axis=0)
        high, low = (self.split.groups[kept[int(at)]] for at in (seen.argmax(), seen.argmin()))
        if not np.isfinite(ranges).all():
            reason = f"{int((~np.isfinite(ranges)).sum())} of {len(ranges)} resamples leave a group empty"
            return LargestGap(*of, float(np.ptp(seen)), high, low, None, None, len(kept), reason)
        chance = float(ranges.mean()), float(np.quantile(ranges, 1 - alpha))
        return LargestGap(*of, float(np.ptp(seen)), high, low, *chance, len(kept))


def _binned(pair: Pair) -> tuple[str, ...]:
    error = pair.grid_error
    return (f"interval of Spearman from bins of equal count, at most {error:.1g} off",) if error else ()


def _panel_notes(panel: Panel) -> tuple[str, ...]:
    outside, notes = panel.checks["out_of_range"], []
    if outside["count"]:
        used = "used as they are" if outside["used"] else "listed and not used"
        notes.append(f"{outside['count']} scores lie outside the scale {panel.levels[0]} to {panel.levels[-1]}: {used}")
    if panel.stage == "adjudicated":
        notes.append("the experts' scores were adjudicated")
    return tuple(notes)
