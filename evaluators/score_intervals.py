"""Conformal intervals for every score of a judge, per dimension and subgroup: fitted, applied, checked for coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .bootstrap import Estimate
from .conformal import Conformal, distribution_sd, fit_conformal
from .proportions import mean, rate

NEEDED = ("case_id", "cluster", "dimension", "fold", "expert")
SOFTENER = 0.25  # scale units added to the SD of the judge's distribution: a certain judge is not certainly right


@dataclass(frozen=True)
class IntervalMethod:
    """How intervals are made; see `conformal.fit_conformal` for alpha, signed, randomised and per_case.

    `predicted`: intervals round "calibrated" or "raw" scores. `normalised`: widths in proportion to the SD of the
    judge's distribution plus a quarter of a level, so that they differ from score to score.
    """

    alpha: float = 0.1
    predicted: Literal["calibrated", "raw"] = "calibrated"
    signed: bool = False
    randomised: bool = False
    per_case: Literal["one", "pooled", "largest"] = "pooled"
    normalised: bool = False


@dataclass(frozen=True)
class ScoreIntervals:
    """One conformal predictor per dimension for the scores of one judge; `grouped`: with quantiles per subgroup."""

    judge: str
    rubric: str
    levels: tuple[int, ...]
    method: IntervalMethod
    grouped: bool
    dimensions: Mapping[str, Conformal]

    def apply(self, frame: pl.DataFrame, by: Mapping[str, str] | None = None, seed: int = 0) -> pl.DataFrame:
        """The frame with columns low, high (scale units) and interval_note for this judge's scores; else null.

        `frame`: ratings, calibrated ones (`Calibration.apply`) if these were fitted on calibrated scores. `by`:
        case_id -> subgroup if fitted with subgroups; a case without one gets the whole scale. InputError otherwise.
        """
        if missing := [c for c in ("case_id", "rater", "rater_kind", "dimension", "score") if c not in frame.columns]:
            raise InputError(f"ratings lack the column(s) {', '.join(missing)}; they have {', '.join(frame.columns)}")
        calibrated = "raw_score" in frame.columns
        if (self.method.predicted == "calibrated") != calibrated:
            state = "calibrated already" if calibrated else "not calibrated: apply the calibration first"
            raise InputError(f"these intervals are for {self.method.predicted} scores; the ratings are {state}")
        if self.grouped != (by is not None):
            raise InputError("give subgroups (case_id -> name) exactly if the intervals were fitted with subgroups")
        mine = ((frame["rater"] == self.judge) & (frame["rater_kind"] == "judge")).to_numpy()
        if not mine.any():
            raise InputError(f"no row of judge '{self.judge}' in the ratings")
        score = frame["score"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        names, cases = frame["dimension"].to_numpy(), frame["case_id"].to_numpy()
        low, high = np.full(len(score), np.nan), np.full(len(score), np.nan)
        notes = np.full(len(score), None, dtype=object)
        sd = self._sd(frame, "raw_distribution" if calibrated else "distribution")
        for name in sorted(set(names[mine])):
            here = np.flatnonzero(mine & (names == name) & np.isfinite(score))
            if (fitted := self.dimensions.get(name)) is None:
                notes[here] = f"no interval was fitted for dimension '{name}'"
                continue
            known = here if sd is None else here[np.isfinite(sd[here])]
            notes[np.setdiff1d(here, known)] = "no interval: the score has no distribution"
            spread = None if sd is None else sd[known] + SOFTENER
            low[known], high[known], why = fitted.intervals(score[known], _group_of(cases[known], by), spread, seed)
            notes[known] = why
        return frame.with_columns(
            pl.Series("low", low).fill_nan(None),
            pl.Series("high", high).fill_nan(None),
            pl.Series("interval_note", notes.tolist(), dtype=pl.String),
        )

    def _sd(self, frame: pl.DataFrame, column: str) -> np.ndarray | None:
        if not self.method.normalised:
            return None
        if column not in frame.columns:
            raise InputError(f"intervals in proportion to the judge's doubt need the column {column}")
        sizes = frame[column].list.len().fill_null(0).to_numpy()
        sd = np.full(frame.height, np.nan)
        there = np.flatnonzero(sizes == len(self.levels))
        if len(there):
            sd[there] = distribution_sd(np.array(frame[column][there].to_list(), dtype=float), self.levels)
        return sd

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        inner = {name: fitted.to_dict() for name, fitted in self.dimensions.items()}
        return vars(self) | {"levels": list(self.levels), "method": vars(self.method), "dimensions": inner}

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> ScoreIntervals:
        inner = {name: Conformal.from_dict(fitted) for name, fitted in row["dimensions"].items()}
        method = IntervalMethod(**row["method"])
        return ScoreIntervals(
            row["judge"], row["rubric"], tuple(row["levels"]), method, row["grouped"], dimensions=inner
        )


@dataclass(frozen=True)
class IntervalCheck:
    """How intervals do on labelled cases that they were not fitted on: coverage and mean width, scale units.

    `wanted`: 1 - alpha. `trivial`: how many of the items had the whole scale for want of cases; they count as covered.
    """

    dimension: str
    group: str | None
    wanted: float
    coverage: Estimate
    width: Estimate
    trivial: int

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {"coverage": self.coverage.to_dict(), "width": self.width.to_dict()}


def fit_intervals(
    unseen: pl.DataFrame,
    judge: str,
    levels: Sequence[int],
    method: IntervalMethod | None = None,
    by: Mapping[str, str] | None = None,
    rubric: str = "",
    seed: int = 0,
) -> ScoreIntervals:
    """Fit conformal intervals per dimension on the cross-fitted scores of a calibration (`Calibration.unseen`).

    The residuals are those of maps that had not seen the case (cross-conformal, Vovk 2015), the interval is put round
    the map of all cases. `by`: case_id -> subgroup, own quantiles for each. A dimension without labelled scores is left
    out. Raises InputError on missing columns and wrong settings (see `conformal.fit_conformal`).
    """
    method = method or IntervalMethod()
    fitted = {}
    for name, part in _parts(unseen, method):
        fitted[name] = _fit(part, method, levels, by, seed)
    return ScoreIntervals(judge, rubric, tuple(levels), method, by is not None, fitted)


def check_intervals(
    unseen: pl.DataFrame,
    levels: Sequence[int],
    method: IntervalMethod | None = None,
    by: Mapping[str, str] | None = None,
    seed: int = 0,
) -> tuple[IntervalCheck, ...]:
    """Coverage and width per dimension, and per subgroup: fitted on all folds but one, counted on that one.

    Arguments as in `fit_intervals`. With per_case "largest" more than 1 - alpha of single items is covered by design.
    """
    method = method or IntervalMethod()
    found = []
    for name, part in _parts(unseen, method):
        low, high, trivial = _held_out(part, method, levels, by, seed)
        target, cluster = part["expert"].to_numpy(), part["cluster"].to_numpy()
        hit = (low - 1e-9 <= target) & (target <= high + 1e-9)
        of_case = _group_of(part["case_id"].to_numpy(), by)
        for group in [None, *(sorted(set(of_case)) if of_case is not None else [])]:
            kept = np.ones(len(hit), dtype=bool) if group is None else np.array(of_case) == group
            covered, width = rate(hit[kept], cluster[kept]), mean((high - low)[kept], cluster[kept], seed)
            found.append(IntervalCheck(name, group, 1 - method.alpha, covered, width, int(trivial[kept].sum())))
    return tuple(found)


def _parts(unseen: pl.DataFrame, method: IntervalMethod) -> list[tuple[str, pl.DataFrame]]:
    """The labelled scores of each dimension that has any."""
    if method.predicted not in ("calibrated", "raw"):
        raise InputError(f"predicted must be 'calibrated' or 'raw'; got '{method.predicted}'")
    used = [method.predicted, *(["sd"] if method.normalised else [])]
    if missing := [name for name in (*NEEDED, *used) if name not in unseen.columns]:
        raise InputError(f"the labelled scores lack {', '.join(missing)}; use the table Calibration.unseen")
    unseen = unseen.drop_nulls(used)
    return [
        (name, unseen.filter(pl.col("dimension") == name)) for name in unseen["dimension"].unique(maintain_order=True)
    ]


def _held_out(
    part: pl.DataFrame, method: IntervalMethod, levels: Sequence[int], by: Mapping[str, str] | None, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    fold, cases, x = part["fold"].to_numpy(), part["case_id"].to_numpy(), part[method.predicted].to_numpy()
    spread = part["sd"].to_numpy() + SOFTENER if method.normalised else None
    low, high, trivial = np.empty(len(x)), np.empty(len(x)), np.zeros(len(x), dtype=bool)
    for k in np.unique(fold):
        here = fold == k
        fitted = _fit(part.filter(~here), method, levels, by, seed)
        own = None if spread is None else spread[here]
        low[here], high[here], why = fitted.intervals(x[here], _group_of(cases[here], by), own, seed + 1 + int(k))
        trivial[here] = [reason is not None for reason in why]
    return low, high, trivial


def _fit(
    part: pl.DataFrame, method: IntervalMethod, levels: Sequence[int], by: Mapping[str, str] | None, seed: int
) -> Conformal:
    return fit_conformal(
        part[method.predicted].to_numpy(),
        part["expert"].to_numpy(),
        method.alpha,
        (float(levels[0]), float(levels[-1])),
        cluster=part["cluster"].to_numpy(),
        group=_group_of(part["case_id"].to_numpy(), by),
        spread=part["sd"].to_numpy() + SOFTENER if method.normalised else None,
        signed=method.signed,
        randomised=method.randomised,
        per_case=method.per_case,
        seed=seed,
    )


def _group_of(cases: np.ndarray, by: Mapping[str, str] | None) -> list[str] | None:
    return None if by is None else [str(by.get(case, "")) or "unknown" for case in cases]
