"""Judge versus experts, per dimension: every statistic beside the best constant and the human ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .bootstrap import Cell, Estimate, jackknife, point, resample
from .bootstrap import estimate as estimate
from .bootstrap import few_clusters as few_clusters
from .judge_cell import JudgeCell
from .panel_cell import PanelCell
from .rater_level import POPULATIONS, RaterLevel, judge_level, panel_level
from .ratings import Panel, read_panel


@dataclass(frozen=True)
class DimensionAgreement:
    """One judge on one dimension (and one group of cases or systems, if asked for): named results and remarks.

    `results` is keyed "group.statistic": item.*, constant.*, judge_minus_constant.*, loo_judge.*, loo_expert.*,
    loo_constant.*, judge_minus_expert.*, loo_rank.*, system.*. `counts`: cases, clusters, items, ratings, coverage.
    `experts_like_these`: intervals where the experts are redrawn as well as the cases, if asked for.
    """

    judge: str
    dimension: str
    group: str | None
    counts: Mapping[str, Any]
    results: Mapping[str, Estimate]
    notes: tuple[str, ...] = ()
    experts_like_these: RaterLevel | None = None

    def __getitem__(self, name: str) -> Estimate:
        return self.results[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: results nested by group."""
        return {
            "judge": self.judge,
            "dimension": self.dimension,
            "group": self.group,
            "counts": dict(self.counts),
            "results": nested(self.results),
            "notes": list(self.notes),
        } | _second_level(self.experts_like_these)


@dataclass(frozen=True)
class PanelAgreement:
    """How far the experts agree among themselves on one dimension, all rated items: alpha, AC2, ICC, pairs."""

    dimension: str
    counts: Mapping[str, Any]
    results: Mapping[str, Estimate]
    notes: tuple[str, ...] = ()
    experts_like_these: RaterLevel | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "dimension": self.dimension,
            "counts": dict(self.counts),
            "results": {k: v.to_dict() for k, v in self.results.items()},
            "notes": list(self.notes),
        } | _second_level(self.experts_like_these)


@dataclass(frozen=True)
class AgreementResult:
    """Everything `agree` found: data checks, the panel per dimension, each judge per dimension, settings."""

    checks: Mapping[str, Any]
    panel: tuple[PanelAgreement, ...]
    judges: tuple[DimensionAgreement, ...]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def of(self, judge: str, dimension: str, group: str | None = None) -> DimensionAgreement:
        """The results of one judge on one dimension; InputError if there are none."""
        for found in self.judges:
            if (found.judge, found.dimension, found.group) == (judge, dimension, group):
                return found
        known = sorted({f"{f.judge} / {f.dimension}" + (f" / {f.group}" if f.group else "") for f in self.judges})
        raise InputError(f"no result for judge '{judge}', dimension '{dimension}', group {group}; there are {known}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        return {
            "checks": dict(self.checks),
            "panel": [p.to_dict() for p in self.panel],
            "judges": [j.to_dict() for j in self.judges],
            "settings": dict(self.settings),
            "notes": list(self.notes),
        }


def agree(
    frame: pl.DataFrame,
    rubric_levels: Sequence[int],
    judge: str | None = None,
    cluster: Mapping[str, str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    alpha: float = 0.05,
    *,
    by: str | Mapping[str, str] | None = None,
    bca: bool = False,
    keep_out_of_range: bool = False,
    resample_raters: bool = False,
) -> AgreementResult:
    """Compare judges with experts per dimension, with intervals by resampling clusters of cases.

    `frame`: long ratings, see `ratings.read_panel`. `judge`: one judge; default all. `cluster`: case_id -> unit to
    resample (patient); default the column patient_id, else the case. `by`: "system" or a mapping case_id ->
    group adds the same results per group. `bca` gives bias-corrected accelerated intervals instead of percentile ones.
    Item-level results compare the judge with the mean of the experts; loo_* results put judge, experts and
    constant on the same leave-one-out targets. Below 20 clusters values stand without an interval.
    `resample_raters` adds `experts_like_these` to each result: intervals for other experts too (`rater_level`).

    Raises InputError on unusable input (see `read_panel`), an unknown judge, or no expert rating at all.
    """
    check_settings(resamples, alpha)
    panel = read_panel(frame, rubric_levels, cluster, keep_out_of_range)
    if not panel.raters:
        raise InputError("the ratings hold no expert score; agreement needs rater_kind 'expert'")
    if judge is not None and judge not in panel.judge_names:
        raise InputError(f"no judge '{judge}' in the ratings; there are {', '.join(panel.judge_names) or 'none'}")
    chosen = panel.judge_names if judge is None else (judge,)
    everything = np.ones(len(panel.case), dtype=bool)
    groups: list[tuple[str | None, np.ndarray]] = [(None, everything), *_groups(panel, by)]

    builders: list[JudgeCell] = []
    for name in chosen:
        for d in range(len(panel.dimensions)):
            builders += [JudgeCell(panel, d, panel.judge_names.index(name), kept, group) for group, kept in groups]
    panels = [PanelCell(panel, d) for d in range(len(panel.dimensions))]
    cells: list[Cell] = [b.cell for b in builders] + [p.cell for p in panels]
    points = point(cells, panel.n_clusters)
    draws = resample(cells, panel.n_clusters, resamples, seed)
    jack = jackknife(cells, panel.n_clusters) if bca else [None] * len(cells)

    judged, among = [], []
    for built, values, drawn, left in zip(builders, points, draws, jack, strict=False):
        results = _estimates(built, values, drawn, left, alpha)
        notes = (*built.notes, *few_clusters(built.clusters))
        name, dimension = panel.judge_names[built.j], panel.dimensions[built.d]
        wider = judge_level(panel, built, results, drawn, seed, alpha) if resample_raters else None
        judged.append(DimensionAgreement(name, dimension, built.group, built.counts, results, notes, wider))
    for place, experts in enumerate(panels, len(builders)):
        results = _estimates(experts, points[place], draws[place], jack[place], alpha)
        notes = (*experts.notes, *few_clusters(experts.clusters))
        wider = panel_level(panel, experts, results, draws[place], alpha) if resample_raters else None
        among.append(PanelAgreement(experts.dimension, experts.counts, results, notes, wider))
    settings = {
        "levels": list(panel.levels),
        "resamples": resamples,
        "seed": seed,
        "alpha": alpha,
        "interval": "BCa" if bca else "percentile",
        "resampled_unit": _unit(frame, cluster),
        "clusters": panel.n_clusters,
        "target": "mean of the experts who rated the item",
        "expert_stage": panel.stage,
        "repeats": "an expert's first repeat, the mean of a judge's repeats",
        "rounding": "nearest level, halves upwards, for QWK, alpha and AC2 only",
        "ties": "pairs that the experts tie do not count; a tie of the judge counts one half",
        "systems": "fixed; never redrawn",
        "kept_out_of_range": keep_out_of_range,
        "populations": POPULATIONS if resample_raters else {"results": POPULATIONS["results"]},
    }
    return AgreementResult(panel.checks, tuple(among), tuple(judged), settings, _general_notes(panel))


def check_settings(resamples: int, alpha: float) -> None:
    if resamples < 1:
        raise InputError(f"resamples must be at least 1 (2000 is usual); got {resamples}")
    if not 0 < alpha < 1:
        raise InputError(f"alpha must lie between 0 and 1 (0.05 gives 95 % intervals); got {alpha}")


def _unit(frame: pl.DataFrame, cluster: Mapping[str, str] | None) -> str:
    if cluster is not None:
        return "the given clusters"
    return "patient_id" if "patient_id" in frame.columns else "case_id"


def _groups(panel: Panel, by: str | Mapping[str, str] | None) -> list[tuple[str, np.ndarray]]:
    if by is None:
        return []
    if by == "system":
        return [(name, panel.system == s) for s, name in enumerate(panel.systems)]
    if isinstance(by, str):
        raise InputError(f"by must be 'system' or a mapping from case_id to a group; got '{by}'")
    of_case = np.array([str(by.get(case, "")) for case in panel.case_ids])
    return [(str(g), (of_case == g)[panel.case]) for g in sorted(set(of_case) - {""})]


def _estimates(
    built: JudgeCell | PanelCell,
    values: Mapping[str, float],
    draws: Mapping[str, np.ndarray],
    jack: Mapping[str, np.ndarray] | None,
    alpha: float,
) -> dict[str, Estimate]:
    found = {}
    for name, value in values.items():
        n = built.n_of(name)
        if not np.isfinite(value):
            found[name] = Estimate(None, n, reason=built.why(name))
            continue
        left = None if jack is None else jack[name]
        found[name] = estimate(value, n, draws[name], built.clusters, alpha, left)
    return found


def _second_level(found: RaterLevel | None) -> dict[str, Any]:
    return {} if found is None else {"experts_like_these": found.to_dict()}


def _general_notes(panel: Panel) -> tuple[str, ...]:
    notes = []
    outside = panel.checks["out_of_range"]
    if outside["count"]:
        used = "used as they are" if outside["used"] else "listed and not used"
        notes.append(f"{outside['count']} scores lie outside the scale {panel.levels[0]} to {panel.levels[-1]}: {used}")
    for row in panel.checks["raters"]:
        if row["constant"] and row["n"] > 1:
            notes.append(f"{row['kind']} {row['rater']} gives one value only on {row['dimension']}")
    if panel.stage == "adjudicated":
        notes.append("the experts' scores were adjudicated: no ceiling and no agreement among experts is reported")
    if not panel.identity:
        notes.append("the experts have no identity: statistics that need one column per expert are refused")
    return tuple(notes)


def nested(results: Mapping[str, Estimate]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, result in results.items():
        group, _, statistic = name.partition(".")
        found.setdefault(group, {})[statistic] = result.to_dict()
    return found
