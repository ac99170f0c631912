"""The body of `calibrate`, and what `score --calibration` does with the file it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..evaluators.calibration_record import Calibration
from ..evaluators.score_intervals import IntervalCheck, IntervalMethod, ScoreIntervals
from ..judge.errors import InputError
from ..judge.records import Case
from ..judge.rubric import load_rubric
from . import output
from .agreement import clusters_of, judge_signature, read_files


def calibrate_files(
    ratings: Sequence[Path],
    judge: str,
    out: Path,
    rubric: str,
    bench: Path | None,
    method: str,
    coverage: float,
    population: str,
    rater_kind: str | None,
    seed: int,
    columns: dict[str, str],
    as_json: bool,
    intervals_by: str = "",
) -> None:
    """Fit, save, and show bias, error and coverage on cases that neither map nor interval had seen."""
    from ..evaluators.calibration import calibrate
    from ..evaluators.deferral import risk_coverage
    from ..evaluators.score_intervals import check_intervals, fit_intervals

    words = load_rubric(rubric)
    by = _groups(bench, intervals_by) if intervals_by else None
    frame = read_files(ratings, words, columns, rater_kind)
    levels = words.scale.levels
    found = calibrate(
        frame,
        levels,
        judge,
        clusters_of(bench),
        method,
        seed=seed,
        signature=judge_signature(ratings, judge),
        rubric=words.id,
        population=population,
        date=datetime.now(UTC).date().isoformat(),
    )
    checks: tuple[IntervalCheck, ...] = ()
    deferral: dict[str, Any] = {}
    unseen = found.unseen
    if unseen is not None and unseen.height:
        told = bool(unseen["sd"].is_not_null().all()) and not unseen["sd"].is_nan().any()
        how = IntervalMethod(alpha=1 - coverage, normalised=told)
        checks = check_intervals(unseen, levels, how, by, seed)
        fitted = fit_intervals(unseen, judge, levels, how, by, words.id, seed).to_dict()
        found = replace(found, intervals=fitted | ({"by": intervals_by} if by is not None else {}))
        if told:
            for (name,), part in unseen.group_by("dimension", maintain_order=True):
                error = np.abs((part["expert"] - part["calibrated"]).to_numpy())
                curve = risk_coverage(error, part["sd"].to_numpy(), part["cluster"].to_numpy(), seed=seed)
                deferral[str(name)] = curve.to_dict()
    found.save(out)
    result = found.to_dict() | {"interval_checks": [c.to_dict() for c in checks], "deferral": deferral}
    output.emit(result, as_json, lambda: _text(found, checks, deferral, out))
    if not any(d.map for d in found.dimensions):
        raise SystemExit(output.INCOMPLETE)


def _text(found: Calibration, checks: Sequence[IntervalCheck], deferral: dict[str, Any], out: Path) -> str:
    rows = [
        (
            d.dimension,
            d.map.method if d.map else f"none: {d.reason}",
            d.counts.get("items"),
            *(d.results[k].value if k in d.results else None for k in ("before.bias", "before.mae", "after.mae")),
            d.results["change.mae"].low if "change.mae" in d.results else None,
            d.results["change.mae"].high if "change.mae" in d.results else None,
        )
        for d in found.dimensions
    ]
    head = ("dimension", "method", "n", "bias before", "MAE before", "MAE after", "change low", "change high")
    parts = ["On cases that the map had not seen:", "", output.table(rows, head)]
    if checks:
        grouped = any(c.group is not None for c in checks)
        covered = [
            (c.dimension, *([c.group or "all"] if grouped else []), c.wanted, c.coverage.value, c.coverage.low,
             c.coverage.high, c.width.value, c.coverage.n, c.trivial)
            for c in checks
        ]  # fmt: skip
        names = ("dimension", *(["group"] if grouped else []), "wanted", "covered", "low", "high", "mean width", "n",
                 "whole scale")  # fmt: skip
        lead = "Intervals per score (conformal), on cases that they had not seen:"
        parts += ["", lead, "", output.table(covered, names)]
    if deferral:
        surest = [
            (name, d["keep_all"]["value"], _at(d, 0.8), _at(d, 0.5), d["gain"]["low"], d["gain"]["high"])
            for name, d in deferral.items()
        ]
        names = ("dimension", "MAE of all", "MAE of surest 80 %", "of surest 50 %", "gain low", "gain high")
        parts += ["", "If the scores that the judge doubts most went to an expert:", "", output.table(surest, names)]
    return "\n".join([*parts, "", f"written: {out}"])


def _groups(bench: Path | None, name: str) -> dict[str, str]:
    """case_id -> group of one attribute of the cases."""
    if bench is None:
        raise InputError("--intervals-by needs --bench: the groups stand in the cases")
    from ..judge.benchmark import load_benchmark

    return groups_of(load_benchmark(bench).cases, name)


def groups_of(cases: Sequence[Case], name: str) -> dict[str, str]:
    """case_id -> group, of an attribute that intervals have quantiles of their own for; InputError if it is unknown."""
    from .evaluating_groups import attributes_of

    if "," in name or name == "all":
        raise InputError(f"--intervals-by takes one attribute, such as fitzpatrick, not '{name}'")
    return attributes_of(cases, name, "--intervals-by")[name]


def _at(curve: dict[str, Any], share: float) -> float | None:
    """The risk at the smallest coverage that reaches `share`."""
    return next((r for c, r in zip(curve["coverage"], curve["risk"], strict=True) if c >= share), None)


def apply_calibration(
    frame: pl.DataFrame,
    path: Path,
    judge: str,
    rubric: str,
    signature: str,
    threshold: float | None,
    notes: list[str],
    cases: Sequence[Case] = (),
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Ratings on the experts' scale with intervals, and the cases that an expert should look at (None without any).

    `cases`: where the intervals go by subgroup, of which they tell the group. A calibration is for one judge as it was:
    another signature is refused.
    """
    from ..evaluators.deferral import flag_for_review

    found = Calibration.load(path, judge, rubric, signature)
    if not found.signature:
        notes.append(f"{path.name} does not say which signature of the judge it was fitted on; nothing was checked")
    calibrated = found.apply(frame, cut=True, notes=notes)
    if found.intervals is None:
        return calibrated, None
    by = groups_of(cases, found.intervals["by"]) if found.intervals.get("by") else None
    calibrated = ScoreIntervals.from_dict(found.intervals).apply(calibrated, by)
    mine = calibrated.filter((pl.col("rater") == judge) & (pl.col("rater_kind") == "judge"))
    return calibrated, flag_for_review(mine, threshold)
