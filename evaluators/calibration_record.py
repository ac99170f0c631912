"""The record of a calibration: maps per dimension, what they do on unseen cases, and what they may be used for."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ..judge.errors import InputError
from ..judge.files import write_atomic
from ..judge.manifest import hash_value
from .bootstrap import Estimate
from .calibration_apply import apply_maps
from .calibration_checks import ReliabilityBin
from .calibration_maps import ScoreMap

FORMAT = "dermjudge calibration 1"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DimensionCalibration:
    """One dimension: the map to use (fitted on all labelled items), and what cross-fitted maps do on unseen cases.

    `map` is None where `reason` says why. `results`: before.*, after.*, change.* (after minus before) of bias, mae,
    rmse, spearman. `systems`, `groups`: the same cross-fitted scores per system and per group. `left_out`: per system,
    by maps that saw neither the system nor the case. `reliability`: curves before and after. `choice`: cross-validated
    RMSE per method, where it chose. `counts`: cases, clusters, systems, items, expert_ratings, folds.
    """

    dimension: str
    map: ScoreMap | None
    reason: str | None
    counts: Mapping[str, int]
    results: Mapping[str, Estimate] = field(default_factory=dict)
    systems: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    left_out: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    reliability: Mapping[str, tuple[ReliabilityBin, ...]] = field(default_factory=dict)
    choice: Mapping[str, float | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        tables = {
            name: {key: _plain(row) for key, row in getattr(self, name).items()}
            for name in ("systems", "left_out", "groups")
        }
        return {
            "dimension": self.dimension, "map": self.map.to_dict() if self.map else None, "reason": self.reason,
            "counts": dict(self.counts), "results": _plain(self.results), **tables,
            "reliability": {name: [b.to_dict() for b in bins] for name, bins in self.reliability.items()},
            "choice": dict(self.choice), "notes": list(self.notes),
        }  # fmt: skip

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> DimensionCalibration:
        tables = {
            name: {key: _estimates(inner) for key, inner in row[name].items()}
            for name in ("systems", "left_out", "groups")
        }
        bins = {
            name: tuple(ReliabilityBin(**b | {"expert": _estimate(b["expert"])}) for b in curve)
            for name, curve in row["reliability"].items()
        }
        fitted = ScoreMap(**row["map"]) if row["map"] else None
        found: dict[str, Any] = {name: row[name] for name in ("dimension", "reason", "counts", "choice")}
        found |= {**tables, "results": _estimates(row["results"]), "reliability": bins, "notes": tuple(row["notes"])}
        return DimensionCalibration(map=fitted, **found)


@dataclass(frozen=True)
class Calibration:
    """Maps of one judge on one rubric, with all that says what they may be used for.

    `signature`: what the judge was (model, prompt ...), `population`: whose cases these were, `date`: all three in the
    caller's words. `data_hash`: of the scores it was fitted on. `intervals`: plain JSON that travels along, such as
    `ScoreIntervals.to_dict()` (put in with `dataclasses.replace`). `unseen`: a row per labelled item and dimension with
    its cross-fitted score (columns case_id, system, arm, sample, dimension, cluster, fold, expert, raw, calibrated, and
    sd, that of the judge's distribution); not saved.
    """

    judge: str
    signature: str
    rubric: str
    levels: tuple[int, ...]
    population: str
    date: str
    data_hash: str
    dimensions: tuple[DimensionCalibration, ...]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    intervals: Mapping[str, Any] | None = None
    unseen: pl.DataFrame | None = field(default=None, compare=False, repr=False)

    def of(self, dimension: str) -> DimensionCalibration:
        """The calibration of one dimension; InputError if there is none."""
        for found in self.dimensions:
            if found.dimension == dimension:
                return found
        known = ", ".join(d.dimension for d in self.dimensions)
        raise InputError(f"no calibration of dimension '{dimension}'; there are {known}")

    def apply(self, frame: pl.DataFrame, *, cut: bool = False, notes: list[str] | None = None) -> pl.DataFrame:
        """The frame with this judge's scores on the experts' scale.

        Adds raw_score (and raw_distribution) and `calibration`, the method used or "". Other raters' rows stay as they
        are. A score outside the fitted range and a value off the scale are said in `reason`; a value off the scale is
        kept, or with `cut` set to the end of the scale. Only an ordinal map gives a distribution. `notes` takes what
        was not calibrated and why (else: logged).
        Raises InputError without a row of this judge, for another rubric, and for a frame calibrated before.
        """
        here: list[str] = []
        maps = {d.dimension: d.map or d.reason or "" for d in self.dimensions}
        found = apply_maps(frame, self.judge, self.rubric, self.levels, maps, cut, here)
        for note in here:
            if notes is None:
                _log.warning(note)
            else:
                notes.append(note)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        rest = ("judge", "signature", "rubric", "population", "date", "data_hash")
        return {name: getattr(self, name) for name in rest} | {
            "levels": list(self.levels), "settings": dict(self.settings), "notes": list(self.notes),
            "intervals": self.intervals, "dimensions": [d.to_dict() for d in self.dimensions],
        }  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write as JSON with a check over the content."""
        content = {"format": FORMAT, **self.to_dict()}
        write_atomic(path, json.dumps({**content, "check": hash_value(content)}, indent=1, allow_nan=False) + "\n")

    @staticmethod
    def load(path: str | Path, judge: str | None, rubric: str | None, signature: str = "") -> Calibration:
        """Read what `save` wrote, for this judge and rubric (None: whatever it was made for).

        `signature`: refused if both sides have one and they differ. InputError for another judge, rubric or signature,
        and for a file that is damaged, edited or of another version.
        """
        try:
            row = json.loads(Path(path).read_bytes())
            check = row.pop("check")
            if row["format"] != FORMAT or check != hash_value(row):
                raise ValueError("format or check differs")
            row.pop("format")
            row["dimensions"] = tuple(DimensionCalibration.from_dict(d) for d in row["dimensions"])
            found = Calibration(**row | {"levels": tuple(row["levels"]), "notes": tuple(row["notes"])})
        except OSError as error:
            raise InputError(f"cannot read calibration {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{path} is no calibration as this version writes it: damaged, edited or foreign"
            ) from error
        if judge is not None and judge != found.judge:
            raise InputError(f"{path} calibrates judge '{found.judge}', not '{judge}'; calibrate that judge")
        if rubric is not None and rubric != found.rubric:
            raise InputError(f"{path} is for rubric '{found.rubric}', not '{rubric}'; calibrate on that rubric")
        if signature and found.signature and signature != found.signature:
            raise InputError(
                f"{path} was made for judge signature '{found.signature}', but this judge has '{signature}': its "
                "model, prompt or settings changed; calibrate again"
            )
        return found


def _plain(results: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_dict() for name, estimate in results.items()}


def _estimates(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Estimate]:
    return {name: _estimate(row) for name, row in rows.items()}


def _estimate(row: Mapping[str, Any]) -> Estimate:
    rest = {key: row[key] for key in ("value", "n", "low", "high", "reason")}
    return Estimate(**rest, undefined=row.get("undefined_resamples", 0))
