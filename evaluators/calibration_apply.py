"""Apply calibration maps to a long table of ratings, saying wherever a map was stretched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .calibration_maps import ScoreMap


def apply_maps(
    frame: pl.DataFrame,
    judge: str,
    rubric: str,
    levels: Sequence[int],
    maps: Mapping[str, ScoreMap | str],
    cut: bool,
    notes: list[str],
) -> pl.DataFrame:
    """See `Calibration.apply`; `maps`: per dimension the map, or why there is none."""
    if missing := [name for name in ("rater", "rater_kind", "dimension", "score") if name not in frame.columns]:
        raise InputError(f"ratings lack the column(s) {', '.join(missing)}; they have {', '.join(frame.columns)}")
    if "raw_score" in frame.columns:
        raise InputError("these ratings have a column raw_score: they are calibrated already")
    mine = (frame["rater"] == judge) & (frame["rater_kind"] == "judge")
    if not mine.any():
        known = sorted(set(frame.filter(pl.col("rater_kind") == "judge")["rater"]))
        raise InputError(f"no row of judge '{judge}' to calibrate; the judges here are {', '.join(known) or 'none'}")
    if "rubric" in frame.columns and rubric:
        others = sorted(set(frame.filter(mine)["rubric"].drop_nulls()) - {"", rubric})
        if others:
            raise InputError(f"this calibration is for rubric '{rubric}', but the ratings carry '{others[0]}'")
    raw = frame["score"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    chosen, dimension = mine.to_numpy(), frame["dimension"].to_numpy()
    score, used = raw.copy(), np.full(len(raw), "", dtype=object)
    said = np.full(len(raw), "", dtype=object)
    distributions: list[list[float] | None] = [None] * len(raw)
    low, high = levels[0], levels[-1]
    for name in sorted(set(dimension[chosen])):
        here = np.flatnonzero(chosen & (dimension == name) & np.isfinite(raw))
        fitted = maps.get(name, "it was not among the calibrated dimensions")
        if isinstance(fitted, str):
            notes.append(f"{name}: {len(here)} scores stay uncalibrated: {fitted}")
            continue
        x = raw[here]
        z = fitted.predict(x)
        used[here] = fitted.method
        off, outside = (z < low) | (z > high), (x < fitted.low) | (x > fitted.high)
        score[here] = np.clip(z, low, high) if cut else z
        for place in np.flatnonzero(off | outside):
            parts = []
            if outside[place]:
                parts.append(
                    f"judge score {x[place]:g} lies outside the calibrated range {fitted.low:g} to {fitted.high:g}"
                )
            if off[place]:
                end = f", set to {score[here[place]]:g}" if cut else ""
                parts.append(f"calibrated value {z[place]:.4g} is off the scale {low} to {high}{end}")
            said[here[place]] = "; ".join(parts)
        if outside.any():
            notes.append(f"{name}: {int(outside.sum())} of {len(here)} scores lie outside the calibrated range")
        if off.any():
            where = "set to its end" if cut else "kept as they are"
            notes.append(f"{name}: {int(off.sum())} of {len(here)} calibrated scores are off the scale, {where}")
        if fitted.method == "ordinal" and list(fitted.parameters["values"]) == [float(level) for level in levels]:
            for place, row in zip(here, fitted.distribution(x).tolist(), strict=True):
                distributions[place] = row
    return _columns(frame, mine, score, used, said, distributions)


def _columns(
    frame: pl.DataFrame,
    mine: pl.Series,
    score: np.ndarray,
    used: np.ndarray,
    said: np.ndarray,
    distributions: list[list[float] | None],
) -> pl.DataFrame:
    calibrated = pl.Series(used != "")
    added = [
        pl.select(pl.when(mine).then(frame["score"].cast(pl.Float64))).to_series().alias("raw_score"),
        pl.Series("calibration", used, dtype=pl.String),
        pl.Series("score", score).fill_nan(None),
    ]
    note = pl.Series("reason", said, dtype=pl.String)
    if "reason" in frame.columns:
        before = frame["reason"].fill_null("")
        both = pl.when(before == "").then(note).when(note == "").then(before).otherwise(before + "; " + note)
        note = pl.select(both).to_series().alias("reason")
    added.append(note)
    if "distribution" in frame.columns:
        # The judge's own distribution does not belong to a calibrated score.
        new = pl.Series("distribution", distributions, dtype=pl.List(pl.Float64))
        added.append(pl.select(pl.when(mine).then(frame["distribution"])).to_series().alias("raw_distribution"))
        added.append(
            pl.select(pl.when(calibrated).then(new).otherwise(frame["distribution"])).to_series().alias(new.name)
        )
    elif any(row is not None for row in distributions):
        added.append(pl.Series("distribution", distributions, dtype=pl.List(pl.Float64)))
    return frame.with_columns(added)
