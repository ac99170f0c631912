"""A gate on picture quality and its price: what a metric gains, and which cases are lost, as poor pictures go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from ..judge.quality import TAGS
from ..judge.records import identity
from .agreement import check_settings, estimate
from .bootstrap import Estimate
from .deferral import risk_coverage
from .fairness_split import known_values
from .ratios import per_cluster, sum_draws


@dataclass(frozen=True)
class Gate:
    """One threshold: cases of this quality or better are kept. `share`: of the cases of known quality; `gain`: kept
    minus all; `kept_by_group`: the share kept of each group, so that the price shows on whom it falls."""

    threshold: float
    cases: int
    share: float
    value: Estimate
    gain: Estimate
    kept_by_group: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        own = {"value": self.value.to_dict(), "gain": self.gain.to_dict(), "kept_by_group": dict(self.kept_by_group)}
        return vars(self) | own


@dataclass(frozen=True)
class GateCurve:
    """One metric of one system and arm behind each gate. `all`: without a gate, over cases of known quality;
    `mean_gain`: of leaving out the poorest first, over all shares kept: an interval above 0 says that quality tells
    where the system does well; `unknown`: cases whose quality is not known, in no number here."""

    system: str
    arm: str
    metric: str
    all: Estimate
    gates: tuple[Gate, ...]
    mean_gain: Estimate
    unknown: int

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {
            "all": self.all.to_dict(), "gates": [gate.to_dict() for gate in self.gates],
            "mean_gain": self.mean_gain.to_dict(),
        }  # fmt: skip


def quality_gate(
    values: pl.DataFrame,
    quality: Mapping[str, float | str],
    thresholds: Sequence[float | str] | None = None,
    cluster: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    alpha: float = 0.05,
) -> tuple[GateCurve, ...]:
    """What each metric is, and how many cases are left, as cases with poor pictures are left out.

    `values`: as in `fairness`, higher is better. `quality`: case_id -> a number (higher is better) or a tag (poor,
    doubtful, good, read as 0, 1, 2), such as the worst of a case's pictures. `thresholds`: the least quality that is
    kept; default every distinct value up to ten, else the deciles. `groups`: case_id -> group, for whom is lost.
    Intervals by redrawing patients, gates on the same resamples; none below 20 patients.

    Raises InputError for a tag or number that is none, or if no case of the values has a quality.
    """
    check_settings(resamples, alpha)
    rows, _ = known_values(values, cluster)
    of_case = {identity(case): _number(case, value) for case, value in quality.items()}
    grade = np.array([of_case.get(identity(case), np.nan) for case in rows.names])
    known = np.isfinite(grade)
    if not known.any():
        raise InputError(f"no case of the values has a quality; it maps a case_id, such as '{rows.names[0]}'")
    cuts = [_number("a threshold", t) for t in thresholds] if thresholds is not None else _default(grade[known])
    groups = {identity(case): group for case, group in (groups or {}).items()}
    group = np.array([groups.get(identity(case), "") for case in rows.names])
    curves = []
    for key, part in rows.frame.group_by(["system", "arm", "metric"], maintain_order=True):
        value, case, patient = (part[name].to_numpy() for name in ("value", "case", "patient"))
        asked = np.unique(case)
        use = known[case]
        value, case, patient = value[use], case[use], patient[use]
        here = np.unique(case)
        masks = [np.ones(len(value), dtype=bool), *(grade[case] >= cut for cut in cuts)]
        sums = [per_cluster(np.where(mask, value, np.nan), patient, rows.patients) for mask in masks]
        totals, counts = (np.stack(side) for side in zip(*sums, strict=True))
        drawn = sum_draws(np.concatenate([totals, counts]), resamples, seed)
        with np.errstate(divide="ignore", invalid="ignore"):
            draws, points = drawn[: len(masks)] / drawn[len(masks) :], totals.sum(axis=1) / counts.sum(axis=1)

        def found(k: int, x: float, d: np.ndarray, counts: np.ndarray = counts) -> Estimate:
            n, patients = int(counts[k].sum()), int((counts[k] > 0).sum())
            if n:
                return estimate(float(x), n, d, patients, alpha)
            return Estimate(None, 0, reason="no case of known quality is left")

        gates = []
        for k, cut in enumerate(cuts if len(here) else (), 1):
            kept = here[grade[here] >= cut]
            names = [name for name in np.unique(group[here]).tolist() if name]
            by_group = {name: float((group[kept] == name).sum() / (group[here] == name).sum()) for name in names}
            change = found(k, points[k] - points[0], draws[k] - draws[0])
            share = len(kept) / len(here)
            gates.append(Gate(cut, len(kept), share, found(k, points[k], draws[k]), change, by_group))
        # The risk that is kept is the value with its sign turned, so the gain of deferring is a gain of the value.
        gain = risk_coverage(-value, -grade[case], patient, resamples, seed, alpha).gain
        everyone = found(0, points[0], draws[0])
        curves.append(
            GateCurve(str(key[0]), str(key[1]), str(key[2]), everyone, tuple(gates), gain, len(asked) - len(here))
        )
    return tuple(curves)


def _number(what: str, value: float | str) -> float:
    if isinstance(value, str):
        if value not in TAGS:
            raise InputError(f"{what}: quality '{value}' is none of {', '.join(TAGS)}, and no number")
        return float(len(TAGS) - 1 - TAGS.index(value))
    if not np.isfinite(value):
        raise InputError(f"{what}: quality {value} is no finite number; leave the case out")
    return float(value)


def _default(grade: np.ndarray) -> list[float]:
    distinct = np.unique(grade)
    return (distinct if len(distinct) <= 10 else np.unique(np.quantile(grade, np.arange(10) / 10))).tolist()
