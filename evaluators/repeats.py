"""A judge's own noise: how far it agrees with itself when it rates the same narrative several times."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .ratings import ITEM, normalise
from .reliability import icc


@dataclass(frozen=True)
class Noise:
    """One judge and dimension: items rated at least twice, ratings of them, and how they vary.

    `sd`: within items, in scale units, the root of the mean within-item variance (weighted by its degrees of freedom);
    `icc_1`: of a single rating, `icc_k`: of the mean over an item's ratings, one-way random effects (McGraw and Wong
    1996). `identical`: share of items whose ratings are all equal. None with a `reason`.
    """

    rater: str
    dimension: str
    items: int
    ratings: int
    sd: float | None
    icc_1: float | None
    icc_k: float | None
    identical: float | None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge_noise(frame: pl.DataFrame, rater: str | None = None) -> list[Noise]:
    """Noise per judge and dimension from a long table of ratings with `repeat`; items with one score say nothing.

    rater: of one judge only. InputError if there is no such judge or nothing was rated by a judge.
    """
    frame = normalise(frame).filter(pl.col("rater_kind") == "judge")
    if rater is not None:
        frame = frame.filter(pl.col("rater") == rater)
    if frame.is_empty():
        raise InputError(f"no ratings of judge '{rater}'" if rater else "no ratings of a judge")
    found = []
    for (name, dimension), part in frame.group_by("rater", "dimension", maintain_order=True):
        scored = part.filter(pl.col("score").is_not_null())
        groups = [np.array(v) for v in scored.group_by(ITEM, maintain_order=True).agg("score")["score"].to_list()]
        found.append(_noise(str(name), str(dimension), [group for group in groups if len(group) > 1]))
    return found


def _noise(rater: str, dimension: str, groups: list[np.ndarray]) -> Noise:
    items, ratings = len(groups), sum(map(len, groups))
    if not items:
        none = "no narrative has two scores of this judge; score with repeats of 2 or more"
        return Noise(rater, dimension, 0, 0, None, None, None, None, none)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    table = np.full((items, max(map(len, groups))), np.nan)
    for place, group in enumerate(groups):
        table[place, : len(group)] = group
    forms = icc(table)
    reason = None
    if forms["icc_1"] is None:
        reason = "the ICC is undefined: all scores are equal" if items > 1 else "the ICC needs two narratives or more"
    identical = sum(bool((group == group[0]).all()) for group in groups) / items
    return Noise(rater, dimension, items, ratings, math.sqrt(squares / (ratings - items)), forms["icc_1"],
                 forms["icc_k"], identical, reason)  # fmt: skip
