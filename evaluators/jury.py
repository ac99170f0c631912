"""A jury: the scores of several judges as those of one rater, with the number of judges behind each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .calibration_record import Calibration
from .ratings import ITEM, normalise, refuse_duplicates

How = Literal["mean", "median", "calibrated"]
HOWS: tuple[How, ...] = How.__args__  # type: ignore[attr-defined]
_KEY = [*ITEM, "dimension"]


@dataclass(frozen=True)
class Member:
    """One judge of a jury: `planned` scores (all that any judge of the jury was asked for), how many it has, and of
    how many jury scores it alone is the reason that they are missing. `weights`: by dimension, None if all count alike.
    """

    judge: str
    planned: int
    scored: int
    alone_missing: int
    states: Mapping[str, int]
    weights: Mapping[str, float] | None = None

    @property
    def coverage(self) -> float | None:
        return self.scored / self.planned if self.planned else None


@dataclass(frozen=True)
class Jury:
    """The jury's ratings and how it came to them.

    `frame`: a row per narrative and dimension, as any judge's, with the further columns `judges` (how many have a score
    there) and `judge_sd` (standard deviation between them, n - 1; null with fewer than two). `scored` of `planned` rows
    have a score. `policy`: how a missing judge was treated, in words.
    """

    rater: str
    how: str
    least: int
    policy: str
    planned: int
    scored: int
    members: tuple[Member, ...]
    frame: pl.DataFrame
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the ratings."""
        rest = {name: getattr(self, name) for name in ("rater", "how", "least", "policy", "planned", "scored")}
        members = [{**asdict(member), "coverage": member.coverage} for member in self.members]
        return {**rest, "members": members, "notes": list(self.notes)}


def jury(
    frame: pl.DataFrame,
    judges: Sequence[str] | None = None,
    how: How = "mean",
    *,
    calibrations: Mapping[str, Calibration] | None = None,
    least: int | None = None,
    name: str = "",
) -> Jury:
    """Combine several judges' ratings into those of one rater, "jury(mean of 3)".

    frame: long ratings as for `agree`; other raters are left out. judges: two or more names, by default all of the
    frame; repeats of a judge are averaged first. how: "mean", "median" (of an even number: the middle of the two), or
    "calibrated": every judge's scores through its map of `calibrations`, weighted by the inverse of its mean squared
    error on unseen cases (the square of after.rmse) per dimension; errors that judges share are not accounted for.
    least: how many judges must have a score; by default all, so a score that one of them lacks is missing. With fewer,
    mean and weights are over those that are there. InputError for unknown judges, judges of different rubrics or of
    different texts, and calibrations that are missing.
    """
    if how not in HOWS:
        raise InputError(f"unknown jury '{how}'; there are {', '.join(HOWS)}")
    if (calibrations is not None) != (how == "calibrated"):
        raise InputError("calibrations go with how='calibrated', a record for every judge, and with nothing else")
    frame, names = _choose(frame, judges)
    least = len(names) if least is None else least
    if not 1 <= least <= len(names):
        raise InputError(f"least must be from 1 to the {len(names)} judges, not {least}")
    notes: list[str] = []
    for judge in names if calibrations is not None else ():
        frame = _calibrated(frame, judge, calibrations or {}, notes)
    items = frame.select(_KEY).unique(maintain_order=True)
    scores = np.full((items.height, len(names)), np.nan)
    states = np.full((items.height, len(names)), "", dtype=object)
    means = frame.group_by([*_KEY, "rater"]).agg(pl.col("score").mean(), pl.col("state").first())
    for k, judge in enumerate(names):
        mine = items.join(means.filter(pl.col("rater") == judge), on=_KEY, how="left", maintain_order="left")
        scores[:, k] = mine["score"].fill_null(np.nan).to_numpy()
        states[:, k] = mine["state"].fill_null("not asked").to_numpy()
    weights = _weights(items["dimension"].to_list(), names, calibrations) if calibrations is not None else None
    if weights is not None:  # a judge without a known error is not there
        states[np.isfinite(scores) & np.isnan(weights)] = "not calibrated"
        scores[np.isnan(weights)] = np.nan
    there = np.isfinite(scores)
    count = there.sum(axis=1)
    value = np.where(count >= least, _combine(scores, how, weights), np.nan)
    policy = "all judges must have a score" if least == len(names) else \
        f"at least {least} of {len(names)} judges must have a score; the value is over those that have"  # fmt: skip
    rater = name or f"jury({how} of {len(names)})"
    members = tuple(_member(k, judge, states, there, least, items, weights) for k, judge in enumerate(names))
    rows = _rows(frame, items, rater, names, value, count, scores, states, least)
    return Jury(rater, how, least, policy, items.height, int(np.isfinite(value).sum()), members, rows, tuple(notes))


def _choose(frame: pl.DataFrame, judges: Sequence[str] | None) -> tuple[pl.DataFrame, list[str]]:
    frame = normalise(frame).filter(pl.col("rater_kind") == "judge")
    known = frame["rater"].unique(maintain_order=True).to_list()
    names = list(judges) if judges is not None else known
    if len(set(names)) < max(2, len(names)):
        raise InputError(f"a jury needs two judges or more, each once; these ratings have {', '.join(known) or 'none'}")
    if missing := [judge for judge in names if judge not in known]:
        raise InputError(f"no ratings of judge '{missing[0]}'; the judges are {', '.join(known) or 'none'}")
    frame = frame.filter(pl.col("rater").is_in(names))
    refuse_duplicates(frame)
    if "rubric" in frame.columns and len(rubrics := sorted(set(frame["rubric"].drop_nulls()) - {""})) > 1:
        raise InputError(f"the judges used different rubrics: {', '.join(rubrics)}; a jury needs one")
    if "narrative_hash" in frame.columns:
        texts = frame.filter(pl.col("narrative_hash") != "").group_by(ITEM).agg(pl.col("narrative_hash").n_unique())
        if (other := texts.filter(pl.col("narrative_hash") > 1)).height:
            row = ", ".join(str(part) for part in other.row(0)[:2])
            raise InputError(f"the judges read different texts under one name in {other.height} narratives ({row} ...)")
    return frame, names


def _calibrated(frame: pl.DataFrame, judge: str, records: Mapping[str, Calibration], notes: list[str]) -> pl.DataFrame:
    record = records.get(judge)
    if record is None or record.judge != judge:
        raise InputError(f"no calibration of judge '{judge}'; calibrate it first (there are {', '.join(records)})")
    here: list[str] = []
    applied = record.apply(frame, notes=here)
    notes += [f"{judge}: {note}" for note in here]
    none = (pl.col("rater") == judge) & (pl.col("calibration") == "") & pl.col("score").is_not_null()
    applied = applied.with_columns(
        pl.when(none).then(None).otherwise(pl.col("score")).alias("score"),
        pl.when(none).then(pl.lit("not calibrated")).otherwise(pl.col("state")).alias("state"),
    )
    return applied.drop("raw_score", "calibration", "raw_distribution", strict=False)


def _weights(dimensions: Sequence[str], names: Sequence[str], records: Mapping[str, Calibration]) -> np.ndarray:
    """Inverse mean squared error per row and judge, NaN where it is not known."""
    known = {}
    for judge in names:
        for found in records[judge].dimensions:
            error = found.results.get("after.rmse")
            if error is not None and error.value:  # neither unknown nor 0, which no finite sample shows
                known[judge, found.dimension] = 1 / error.value**2
    return np.array([[known.get((judge, dimension), np.nan) for judge in names] for dimension in dimensions])


def _combine(scores: np.ndarray, how: How, weights: np.ndarray | None) -> np.ndarray:
    there = np.isfinite(scores)
    value = np.full(len(scores), np.nan)
    some = there.any(axis=1)
    if how == "median":
        value[some] = np.nanmedian(scores[some], axis=1)
        return value
    w = np.where(there, 1.0 if weights is None else weights, 0.0)[some]
    value[some] = (np.where(there, scores, 0.0)[some] * w).sum(axis=1) / w.sum(axis=1)
    return value


def _member(
    k: int,
    judge: str,
    states: np.ndarray,
    there: np.ndarray,
    least: int,
    items: pl.DataFrame,
    weights: np.ndarray | None,
) -> Member:
    alone = int((~there[:, k] & (there.sum(axis=1) == least - 1)).sum())
    counts = dict(zip(*np.unique(states[:, k].astype(str), return_counts=True), strict=True))
    shares = None
    if weights is not None:
        first = {name: row for row, name in reversed(list(enumerate(items["dimension"])))}
        shares = {
            name: float(weights[row, k] / np.nansum(weights[row]))
            for name, row in sorted(first.items())
            if np.isfinite(weights[row, k])
        }
    states_of = {str(state): int(n) for state, n in counts.items()}
    return Member(judge, len(there), int(there[:, k].sum()), alone, states_of, shares)


def _rows(
    frame: pl.DataFrame,
    items: pl.DataFrame,
    rater: str,
    names: Sequence[str],
    value: np.ndarray,
    count: np.ndarray,
    scores: np.ndarray,
    states: np.ndarray,
    least: int,
) -> pl.DataFrame:
    spread = np.array(
        [row[np.isfinite(row)].std(ddof=1) if n > 1 else np.nan for row, n in zip(scores, count, strict=True)]
    )
    reasons = []
    for row, n in zip(states, count, strict=True):
        lacking = [f"{judge}: {state}" for judge, state in zip(names, row, strict=True) if state != "scored"]
        reasons.append(
            "" if n >= least else f"{n} of {len(names)} judges have a score, {least} must: {'; '.join(lacking)}"
        )
    rubric = frame["rubric"].drop_nulls().unique().to_list() if "rubric" in frame.columns else []
    return items.with_columns(
        pl.lit(rater).alias("rater"),
        pl.lit("judge").alias("rater_kind"),
        pl.lit("independent").alias("stage"),
        pl.lit(rubric[0] if rubric else "").alias("rubric"),
        pl.lit(0, dtype=pl.Int64).alias("repeat"),
        pl.Series("score", value).fill_nan(None),
        pl.Series("state", ["scored" if n >= least else "skipped" for n in count], dtype=pl.String),
        pl.Series("reason", reasons, dtype=pl.String),
        pl.Series("judges", count.astype(np.int64)),
        pl.Series("judge_sd", spread).fill_nan(None),
    )
