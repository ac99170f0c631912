"""Bring a judge's scores to the experts' scale: fit a map per dimension and measure it on unseen cases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .agreement import check_settings, few_clusters
from .bootstrap import Estimate
from .calibration_checks import (
    Labelled,
    assign_folds,
    before_and_after,
    by_group,
    choose_method,
    cross_fit,
    leave_system_out,
    reliability,
)
from .calibration_maps import METHODS, method_for
from .calibration_record import Calibration, DimensionCalibration
from .ceiling import mean_of_experts
from .conformal import distribution_sd
from .ratings import ITEM, Panel, normalise, read_panel
from .reliability import level_counts, scale_values

__all__ = ["Calibration", "DimensionCalibration", "calibrate"]

FEWEST_CASES = 10  # labelled clusters below which nothing is fitted


def calibrate(
    frame: pl.DataFrame,
    levels: Sequence[int],
    judge: str,
    cluster: Mapping[str, str] | None = None,
    method: str = "auto",
    folds: int | Mapping[str, int] = 5,
    seed: int = 0,
    *,
    by: Mapping[str, str] | None = None,
    signature: str = "",
    rubric: str = "",
    population: str = "",
    date: str = "",
    resamples: int = 1000,
    alpha: float = 0.05,
) -> Calibration:
    """Fit one map per dimension from the judge's scores to the mean of the experts, and measure it on unseen cases.

    `frame`, `levels`, `cluster`: see `ratings.read_panel`. `method`: "auto" by the number of labelled clusters (shift
    to 25, linear to 200, isotonic beyond), "cv" the lowest cross-validated RMSE (chosen inside each fold anew), or a
    name of `calibration_maps.METHODS`. `folds`: how many, dealt out by cluster with `seed`, or the fold of each case.
    `by`: case_id -> group, reported separately. `rubric`: default the one that the ratings carry. `signature`,
    `population`, `date`: see `Calibration`. Intervals redraw clusters.

    A dimension with fewer than 10 labelled cases, or a constant judge, has no map but a reason.
    Raises InputError on unusable input (see `read_panel`), an unknown judge or method, two rubrics, bad folds.
    """
    check_settings(resamples, alpha)
    if method not in (*METHODS, "auto", "cv"):
        raise InputError(f"unknown calibration method '{method}'; known: auto, cv, {', '.join(METHODS)}")
    panel = read_panel(frame, levels, cluster)
    if judge not in panel.judge_names:
        raise InputError(f"no judge '{judge}' in the ratings; there are {', '.join(panel.judge_names) or 'none'}")
    if not panel.raters:
        raise InputError("the ratings hold no expert score; calibration needs rater_kind 'expert'")
    j = panel.judge_names.index(judge)
    labelled = np.isfinite(panel.experts).any(axis=2) & np.isfinite(panel.judges[:, :, j])
    fold = _folds(panel, labelled.any(axis=0), folds, seed)
    items = normalise(frame).select(ITEM).unique().sort(ITEM)
    found, unseen = [], []
    for d in range(len(panel.dimensions)):
        one = _Dimension(panel, d, j, labelled[d], fold)
        n_folds = folds if isinstance(folds, int) else len(np.unique(fold[labelled[d]]))
        result, z = one.calibrate(method, n_folds, seed, by, resamples, alpha)
        found.append(result)
        unseen.append(one.table(items, z))
    notes = []
    if panel.stage == "adjudicated":
        notes.append("the experts' scores were adjudicated: the target is their agreed score")
    if (outside := panel.checks["out_of_range"])["count"]:
        notes.append(f"{outside['count']} scores off the scale {outside['scale']} are listed and not used")
    settings = {
        "method": method, "folds": folds if isinstance(folds, int) else "given", "seed": seed, "resamples": resamples,
        "alpha": alpha, "target": "mean of the experts who rated the item", "expert_stage": panel.stage,
        "fewest_cases": FEWEST_CASES,
    }  # fmt: skip
    return Calibration(
        judge, signature, _rubric(frame, judge, rubric), panel.levels, population, date, _hash(panel, j, labelled),
        tuple(found), settings, tuple(notes), unseen=pl.concat(unseen),
    )  # fmt: skip


class _Dimension:
    """The labelled items of one dimension and what is found on them."""

    def __init__(self, panel: Panel, d: int, j: int, labelled: np.ndarray, fold: np.ndarray):
        self.panel, self.d, self.j = panel, d, j
        self.name, self.places = panel.dimensions[d], np.flatnonzero(labelled)
        y = panel.experts[d][labelled]
        values = scale_values(panel.levels, y)
        shares = None
        if values is not None:
            counts = level_counts(y, values)
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        names, place = np.unique(panel.cluster[labelled], return_inverse=True)
        x, system = panel.judges[d, labelled, j], panel.system[labelled]
        self.data = Labelled(x, mean_of_experts(y), shares, values, place, len(names), system, fold[labelled])
        self.counts = {
            "cases": len(np.unique(panel.case[labelled])), "clusters": len(names), "systems": len(np.unique(system)),
            "items": len(x), "expert_ratings": int(np.isfinite(y).sum()), "folds": len(np.unique(fold[labelled])),
        }  # fmt: skip

    def calibrate(
        self, method: str, folds: int, seed: int, by: Mapping[str, str] | None, resamples: int, alpha: float
    ) -> tuple[DimensionCalibration, np.ndarray | None]:
        data, clusters = self.data, self.counts["clusters"]
        if clusters < FEWEST_CASES:
            reason = f"{clusters} labelled cases (clusters); at least {FEWEST_CASES} are needed"
            return DimensionCalibration(self.name, None, reason, self.counts), None
        choice: dict[str, float | None] = {}
        chosen: str | None = method_for(clusters) if method == "auto" else method
        if method == "cv":
            chosen, choice = choose_method(data, min(folds, clusters), seed)
        unfit = data.why_unfit(chosen or "shift")
        if unfit or chosen is None:
            unfit = unfit or "no method can be fitted in every fold"
            return DimensionCalibration(self.name, None, unfit, self.counts, choice=choice), None
        fitted = data.fit(chosen)
        notes = [*filter(None, (fitted.note,)), *few_clusters(clusters)]
        if (advised := method_for(clusters)) != chosen and method not in ("auto", "cv") and chosen != "ordinal":
            notes.append(f"{clusters} labelled cases: {advised} is advised at this number, not {chosen}")
        z, methods, unmeasured = cross_fit(data, None if method == "cv" else chosen, folds, seed)
        if z is None:
            return DimensionCalibration(
                self.name, fitted, None, self.counts, choice=choice, notes=(*notes, f"not measured: {unmeasured}")
            ), None
        low, high = self.panel.levels[0], self.panel.levels[-1]
        if off := int(((z < low) | (z > high)).sum()):
            notes.append(f"{off} of {len(z)} calibrated scores lie off the scale {low} to {high}")
        if len(set(methods.values())) > 1:
            notes.append(f"the folds chose {', '.join(methods[k] for k in sorted(methods))}")
        settings = (resamples, seed, alpha)
        present = np.unique(data.system)
        names = [self.panel.systems[s] for s in present]
        own = [data.system == s for s in present]
        left_out: dict[str, Mapping[str, Estimate]] = {}
        if len(present) > 1:
            moved, reasons = leave_system_out(data, methods)
            tables = by_group(data, moved, own, *settings)
            for s, name, table in zip(present, names, tables, strict=True):
                why = reasons.get(int(s))
                left_out[name] = table if why is None else {k: Estimate(None, 0, reason=why) for k in table}
        groups = {}
        if by is not None:
            of_item = np.array([str(by.get(self.panel.case_ids[c], "")) for c in self.panel.case[self.places]])
            labels = sorted(set(of_item) - {""})
            groups = dict(zip(labels, by_group(data, z, [of_item == g for g in labels], *settings), strict=True))
        return DimensionCalibration(
            self.name,
            fitted,
            None,
            self.counts,
            before_and_after(data, z, self.panel.levels, *settings),
            dict(zip(names, by_group(data, z, own, *settings), strict=True)),
            left_out,
            groups,
            {"before": reliability(data, data.x, *settings), "after": reliability(data, z, *settings)},
            choice,
            tuple(notes),
        ), z

    def table(self, items: pl.DataFrame, z: np.ndarray | None) -> pl.DataFrame:
        data, nothing = self.data, np.full(len(self.data.x), np.nan)
        columns = {"fold": data.fold, "expert": data.y, "raw": data.x, "calibrated": nothing if z is None else z}
        columns["sd"] = nothing
        if self.panel.distributions is not None:
            chances = self.panel.distributions[self.d, self.places, self.j]
            columns["sd"] = distribution_sd(chances, self.panel.levels)
        return items[self.places].with_columns(
            pl.lit(self.name).alias("dimension"),
            pl.Series("cluster", self.panel.cluster[self.places]),
            *(pl.Series(name, values).fill_nan(None) for name, values in columns.items()),
        )


def _folds(panel: Panel, labelled: np.ndarray, folds: int | Mapping[str, int], seed: int) -> np.ndarray:
    """Fold of every item (items,), -1 where no expert rated it."""
    fold = np.full(len(panel.case), -1, dtype=np.int64)
    if not isinstance(folds, int):
        if lost := [panel.case_ids[c] for c in np.unique(panel.case[labelled]) if panel.case_ids[c] not in folds]:
            raise InputError(f"no fold is given for case '{lost[0]}' ({len(lost)} labelled cases have none)")
        of_case = [int(folds.get(case, -1)) for case in panel.case_ids]
        fold[labelled] = np.array(of_case, dtype=np.int64)[panel.case[labelled]]
        pairs = np.unique(np.column_stack([panel.cluster[labelled], fold[labelled]]), axis=0)
        if len(pairs) > len(np.unique(pairs[:, 0])):
            raise InputError("cases of one patient stand in different folds; give each patient one fold")
        return fold
    if folds < 2:
        raise InputError(f"folds must be at least 2 (5 is usual); got {folds}")
    fold[labelled] = assign_folds(panel.cluster[labelled], folds, seed)
    return fold


def _rubric(frame: pl.DataFrame, judge: str, rubric: str) -> str:
    if "rubric" not in frame.columns:
        return rubric
    mine = frame.filter((pl.col("rater") == judge) | (pl.col("rater_kind") == "expert"))["rubric"]
    names = sorted(set(mine.drop_nulls()) - {""})
    if len(set(names) | ({rubric} - {""})) > 1:
        given = f"; '{rubric}' was asked for" if rubric else ""
        raise InputError(f"the ratings carry rubric {', '.join(names)}{given}: calibrate one rubric at a time")
    return names[0] if names else rubric


def _hash(panel: Panel, j: int, labelled: np.ndarray) -> str:
    """SHA-256 (hex) of the scores that were used, whatever the order of rows in the table."""
    digest = hashlib.sha256()
    for d in sorted(range(len(panel.dimensions)), key=lambda d: panel.dimensions[d]):
        kept = labelled[d]
        names = [
            [panel.case_ids[c], panel.systems[s]] for c, s in zip(panel.case[kept], panel.system[kept], strict=True)
        ]
        digest.update(json.dumps([panel.dimensions[d], panel.raters, names]).encode())
        digest.update(np.ascontiguousarray(panel.experts[d][kept]).tobytes())
        digest.update(np.ascontiguousarray(panel.judges[d, kept, j]).tobytes())
    return digest.hexdigest()
