"""The licence of one dimension: its criteria on raw and calibrated scores, the verdict, and the numbers beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from .agreement import AgreementResult, agree
from .alternative import AlternativeTest
from .bootstrap import Estimate
from .calibration_record import Calibration, DimensionCalibration
from .compare import JudgeComparison
from .licence_criteria import (
    Support,
    after_calibration,
    coverage_criterion,
    data_criteria,
    nearest,
    picture_criterion,
    score_criteria,
    verdict_of,
)
from .licence_further import Planner, further
from .licence_record import AFTER, LICENSED, OPEN, Criterion, DimensionLicence
from .licence_rules import LicenceRules
from .probes import DECIDES, ProbeResult, ProbeSummary
from .ratings import ITEM, REQUIRED, Panel

COLUMNS = list(dict.fromkeys([*ITEM, *REQUIRED, "stage", "repeat"]))


@dataclass(frozen=True)
class Evidence:
    """What all dimensions share: ratings of one judge (and its text-only twin), and what was found on them.

    `own`: long ratings from `normalise`; `panel`: the same read; `tests`, `against`: in the order of its dimensions.
    `settings`: resamples, seed and alpha.
    """

    own: pl.DataFrame
    panel: Panel
    judge: str
    clusters: Mapping[str, str]
    rules: LicenceRules
    agreement: AgreementResult
    calibration: Calibration
    tests: Sequence[AlternativeTest]
    against: Sequence[JudgeComparison]
    probes: ProbeSummary | None
    simulated: bool
    settings: Mapping[str, Any]


def license_dimension(e: Evidence, d: int) -> DimensionLicence:
    """The verdict on the d-th dimension of the panel."""
    name, levels = e.panel.dimensions[d], e.panel.levels
    support = Support.of(e.panel, d, e.panel.judge_names.index(e.judge))
    beside, fitted = e.agreement.of(e.judge, name), e.calibration.of(name)
    probed = [r for r in e.probes.results if (r.judge, r.dimension) == (e.judge, name)] if e.probes else []
    swap = next((r for r in probed if r.probe == DECIDES), None)
    raw = [*data_criteria(support, e.rules), coverage_criterion(beside.counts, e.rules)]
    raw += score_criteria(beside.results, support.constant, e.rules, levels)
    if needed := e.rules.needs_picture(name):
        raw.append(picture_criterion(swap))
    against = e.against[d] if e.against else None
    among = next(p for p in e.agreement.panel if p.dimension == name)
    results = dict(beside.results) | {f"panel.{k}": v for k, v in among.results.items()}
    results |= _more_results(fitted, against, probed)
    table = _calibrated_ratings(e, name)
    calibrated = None
    if table is not None and not support.refused and verdict_of(raw, None) != LICENSED:
        moved = agree(table, levels, e.judge, e.clusters, **e.settings, keep_out_of_range=True).of(e.judge, name)
        calibrated = score_criteria(moved.results, support.constant, e.rules, levels)
        calibrated = [replace(c, name=f"{c.name}, calibrated") for c in calibrated]
        results |= {f"calibrated.{c.statistic}": c.found for c in calibrated}
    verdict, wanted = verdict_of(raw, calibrated), None
    if verdict == OPEN:
        frames = {False: e.own.filter(pl.col("dimension") == name), True: table}
        planner = Planner(frames, levels, e.judge, e.clusters, e.rules, e.settings["seed"])
        wanted = further(support, raw, calibrated, planner, e.rules)
    shared = {"experts": support.experts, "shared_cases": support.cases, "shared_clusters": support.clusters}
    test = e.tests[d]
    return DimensionLicence(
        name,
        verdict,
        _why(verdict, raw, calibrated, fitted, wanted.reason if wanted else ""),
        e.simulated,
        tuple(raw),
        tuple(calibrated or ()),
        wanted,
        dict(beside.counts) | shared,
        results,
        # The ceiling beside the test is the one of this licence, with its number of resamples.
        replace(test, ceiling={k: beside.results[k] for k in test.ceiling or {}}).to_dict(),
        _text_only(against),
        _calibration(fitted),
        _picture(needed, swap, probed),
        tuple(dict.fromkeys([*beside.notes, *fitted.notes])),
    )


def _calibrated_ratings(e: Evidence, name: str) -> pl.DataFrame | None:
    """The ratings of one dimension, the judge's scores calibrated by maps that did not see the case; None without."""
    if e.calibration.unseen is None:
        return None
    scores = e.calibration.unseen.filter((pl.col("dimension") == name) & pl.col("calibrated").is_not_null())
    if scores.is_empty():
        return None
    experts = e.own.filter((pl.col("dimension") == name) & (pl.col("rater_kind") == "expert"))
    # Experts' scores off the scale stay out, as in every other number; calibrated ones may lie off it and count.
    inside = pl.col("score").is_between(e.panel.levels[0], e.panel.levels[-1])
    experts = experts.with_columns(pl.when(inside).then(pl.col("score")).alias("score"))
    judged = scores.with_columns(
        pl.col("calibrated").alias("score"), pl.lit(e.judge).alias("rater"), pl.lit("judge").alias("rater_kind"),
        pl.lit("independent").alias("stage"), pl.lit(0, pl.Int64).alias("repeat"),
    )  # fmt: skip
    return pl.concat([experts.select(COLUMNS), judged.select(COLUMNS)])


def _more_results(
    fitted: DimensionCalibration, against: JudgeComparison | None, probed: Sequence[ProbeResult]
) -> dict[str, Estimate]:
    found = {f"calibration.{name}": estimate for name, estimate in fitted.results.items()}
    if against:
        found |= {f"text_only.{n}": against.results[f"b.{n}"] for n in ("mae", "pearson")}
        found |= {f"judge_minus_text_only.{n}": against.results[f"difference.{n}"] for n in ("mae", "pearson")}
    return found | {f"{r.probe}.mean_change": r.results["mean_change"] for r in probed}


def _text_only(against: JudgeComparison | None) -> dict[str, Any]:
    if against is None:
        return {"judge": None, "reason": "no text-only judge was given"}
    kept = ("p_value", "p_adjusted", "family")
    counts = dict(against.counts)
    return {"judge": against.judge_b, "counts": counts} | {name: getattr(against, name) for name in kept}


def _calibration(fitted: DimensionCalibration) -> dict[str, Any]:
    map_ = fitted.map
    return {"method": map_.method if map_ else None, "reason": fitted.reason, "counts": dict(fitted.counts)}


def _picture(needed: bool, swap: ProbeResult | None, probed: Sequence[ProbeResult]) -> dict[str, Any]:
    said = {"needed": needed, "pairs": {r.probe: r.pairs for r in probed}}
    if swap is None:
        return said | {"answers": None, "verdict": f"the {DECIDES} probe was not run", "p_adjusted": None}
    return said | {"answers": swap.answers, "verdict": swap.verdict, "p_adjusted": swap.p_adjusted}


def _why(
    verdict: str, raw: Sequence[Criterion], calibrated: Sequence[Criterion] | None, fitted: DimensionCalibration,
    wanted: str,
) -> str:  # fmt: skip
    """The verdict in words, with the criteria that decided it."""
    failing, open_ = ([c for c in raw if c.passed is state] for state in (False, None))
    if verdict == LICENSED:
        return f"all {len(raw)} criteria hold. {_nearest(raw)}"
    if verdict == AFTER and calibrated is not None:
        return (
            f"the raw scores miss: {_list([*failing, *open_])}. Calibrated by {_map(fitted)}, all "
            f"{len(after_calibration(raw, calibrated))} criteria hold. {_nearest(calibrated)} Only scores calibrated "
            "so are licensed."
        )
    if verdict == OPEN and (short := [c for c in open_ if c.kind == "data"]):
        return f"open: {_list(short)}. {wanted}"
    # A map can mend an error, so then the calibrated scores have the last word.
    moved = [] if any(c.kind != "error" for c in failing) else [c for c in calibrated or () if c.passed is not True]
    parts = [f"fails: {_list(failing)}."] if failing else []
    if verdict == OPEN:
        parts += [f"open: {_list(open_)}."] if open_ else []
        parts += [f"Calibrated by {_map(fitted)}, open: {_list(moved)}."] if moved and failing else []
        return " ".join([*parts, wanted]).strip()
    if missed := [c for c in moved if c.passed is False]:
        parts.append(f"Calibrated by {_map(fitted)} it still fails: {_list(missed)}.")
    elif calibrated is None and all(c.kind == "error" for c in failing):
        parts.append(f"No calibration: {fitted.reason or 'it could not be measured on unseen cases'}.")
    return " ".join(parts)


def _nearest(criteria: Sequence[Criterion]) -> str:
    close = nearest(criteria)
    return f"Nearest to its limit: {close.words}." if close else ""


def _list(criteria: Sequence[Criterion]) -> str:
    return "; ".join(c.words for c in criteria)


def _map(fitted: DimensionCalibration) -> str:
    return f"the {fitted.map.method} map, fitted on other cases" if fitted.map else "a map"
