"""Which cases an expert should look at, and what is gained by leaving the doubtful ones to experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .agreement import check_settings, estimate
from .bootstrap import BLOCK, Estimate, cluster_weights


def flag_for_review(
    intervals: pl.DataFrame, threshold: float | None = None, most: int | None = None, *, widest: float = 0.1
) -> pl.DataFrame:
    """The cases that an expert should look at, most urgent first.

    `intervals`: rows with case_id, dimension, score, low, high (as `ScoreIntervals.apply` gives them; rows with neither
    score nor interval need `state`, and count as unscored). A case is flagged if one of its scores is missing, if an
    interval has `threshold` strictly inside (so the score does not decide on which side the experts stand), or if its
    widest interval is among the `widest` share of all cases and wider than the narrowest case's. At most `most` cases.
    Returns case_id, unscored, crossing, width (widest interval, scale units), dimensions (that speak for a look), why.
    """
    if missing := [name for name in ("case_id", "dimension", "score", "low", "high") if name not in intervals.columns]:
        raise InputError(f"intervals lack the column(s) {', '.join(missing)}; they have {', '.join(intervals.columns)}")
    if not 0 <= widest <= 1:
        raise InputError(f"widest must be a share of the cases from 0 to 1; got {widest}")
    if most is not None and most < 1:
        raise InputError(f"most must be at least 1 case; got {most}")
    rows = intervals.filter(pl.col("rater_kind") == "judge") if "rater_kind" in intervals.columns else intervals
    inside = pl.lit(False)
    if threshold is not None:
        inside = (pl.col("low") < threshold) & (pl.col("high") > threshold)
    rows = rows.with_columns(
        pl.col("score").is_null().alias("_unscored"), inside.fill_null(False).alias("_crossing"),
        (pl.col("high") - pl.col("low")).alias("_width"),
    ).with_columns((pl.col("_unscored") | pl.col("_crossing")).alias("_speaks"))  # fmt: skip
    width = pl.col("width")
    cases = rows.group_by("case_id", maintain_order=True).agg(
        pl.col("_unscored").sum().alias("unscored"), pl.col("_crossing").sum().alias("crossing"),
        pl.col("_width").max().alias("width"),
        pl.col("dimension").filter("_speaks").unique(maintain_order=True).alias("dimensions"),
        pl.col("dimension").sort_by("_width", descending=True, nulls_last=True).first().alias("_widest"),
    )  # fmt: skip
    # Equal widths carry no order: a case is wide only if fewer than that share of cases are as wide or wider.
    as_wide = width.rank("max", descending=True) <= pl.lit(widest) * width.count() + 1e-9
    wide = (as_wide & (width > width.min())).fill_null(False)
    cases = cases.with_columns(wide.alias("_wide")).filter(
        (pl.col("unscored") > 0) | (pl.col("crossing") > 0) | pl.col("_wide")
    )
    why = pl.concat_str(
        pl.when(pl.col("unscored") > 0).then(pl.format("{} score(s) missing", "unscored")),
        pl.when(pl.col("crossing") > 0).then(pl.format(f"{{}} interval(s) across {threshold}", "crossing")),
        pl.when(pl.col("_wide")).then(pl.format("widest interval {}", width.round(2))),
        separator="; ", ignore_nulls=True,
    )  # fmt: skip
    speak = pl.when(pl.col("dimensions").list.len() > 0).then(pl.col("dimensions")).otherwise(pl.concat_list("_widest"))
    cases = cases.with_columns(why.alias("why"), speak.alias("dimensions"))
    order = ["unscored", "crossing", "width", "case_id"]
    cases = cases.sort(order, descending=[True, True, True, False], nulls_last=True)
    cases = cases.select("case_id", "unscored", "crossing", "width", "dimensions", "why")
    return cases if most is None else cases.head(most)


@dataclass(frozen=True)
class RiskCoverage:
    """Mean error of the judge's most certain scores (`risk`) by the share of scores kept (`coverage`).

    `aurc`: mean risk over all coverages (Geifman and El-Yaniv 2017); `keep_all`: mean error of all scores, which is
    also the aurc of a certainty that says nothing; `best`: the aurc of a certainty that knows the errors. `gain`:
    keep_all minus aurc; an interval above 0 says that deferring the uncertain ones pays.
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    aurc: Estimate
    keep_all: Estimate
    best: float | None
    gain: Estimate

    def to_dict(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name).to_dict() for name in ("aurc", "keep_all", "gain")}
        return {"coverage": list(self.coverage), "risk": list(self.risk), "best": self.best, **numbers}


def risk_coverage(
    error: Sequence[float] | np.ndarray,
    uncertainty: Sequence[float] | np.ndarray,
    cluster: Sequence[Any] | np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
    alpha: float = 0.05,
) -> RiskCoverage:
    """The risk-coverage curve of deferring the most uncertain scores first, with intervals by redrawing clusters.

    `error` (items,): such as |score - expert mean|; `uncertainty` (items,): larger is deferred sooner, such as the
    width of the interval. Items of equal uncertainty are kept in no order: the curve is the mean over all orders. Items
    that lack either number are not used. The curve has one point per distinct uncertainty.

    >>> found = risk_coverage([0, 1, 2], [0.1, 0.2, 0.3])
    >>> found.risk, round(found.aurc.value, 9), found.keep_all.value
    ((0.0, 0.5, 1.0), 0.5, 1.0)
    """
    check_settings(resamples, alpha)
    loss, doubt = np.asarray(error, dtype=float), np.asarray(uncertainty, dtype=float)
    if loss.shape != doubt.shape or loss.ndim != 1:
        raise InputError(f"error and uncertainty must be vectors of one length; got {loss.shape} and {doubt.shape}")
    unit = np.arange(len(loss)) if cluster is None else np.asarray(cluster)
    if len(unit) != len(loss):
        raise InputError(f"{len(unit)} clusters are given for {len(loss)} items")
    there = np.isfinite(loss) & np.isfinite(doubt)
    loss, doubt, unit = loss[there], doubt[there], unit[there]
    n = len(loss)
    if not n:
        nothing = Estimate(None, 0, reason="no score has both an error and an uncertainty")
        return RiskCoverage((), (), nothing, nothing, None, nothing)
    names, place = np.unique(unit, return_inverse=True)
    _, step = np.unique(doubt, return_inverse=True)
    order = np.argsort(step, kind="stable")
    one = np.ones((n, 1))
    value, whole = _aurc(loss[order], step[order], one)
    drawn_aurc, drawn_whole = np.empty(resamples), np.empty(resamples)
    for block in range(-(-resamples // BLOCK)):
        weights = cluster_weights(len(names), block, seed)[place[order]].astype(np.float64)
        rows = slice(block * BLOCK, min((block + 1) * BLOCK, resamples))
        found = _aurc(loss[order], step[order], weights[:, : rows.stop - rows.start])
        drawn_aurc[rows], drawn_whole[rows] = found
    by_loss = np.sort(loss)
    _, rank = np.unique(by_loss, return_inverse=True)
    kept = np.cumsum(np.bincount(step))
    clusters = len(names)
    return RiskCoverage(
        tuple((kept / n).tolist()),
        tuple((np.cumsum(np.bincount(step, loss)) / kept).tolist()),
        estimate(float(value[0]), n, drawn_aurc, clusters, alpha),
        estimate(float(whole[0]), n, drawn_whole, clusters, alpha),
        float(_aurc(by_loss, rank, one)[0][0]),
        estimate(float(whole[0] - value[0]), n, drawn_whole - drawn_aurc, clusters, alpha),
    )


def _aurc(loss: np.ndarray, step: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the curve and mean loss (B,) for counts `weight` (n, B); items by rising `step`, the tie groups.

    Within a group of m items with mean loss e, after K items of total loss E, the risk at K + i is (E + i e) / (K + i),
    so its sum over i is m e + (E - K e) (H(K + m) - H(K)) with H the harmonic numbers.
    """
    starts = np.flatnonzero(np.diff(step, prepend=-1))
    size = np.add.reduceat(weight, starts, axis=0)
    total = np.add.reduceat(weight * loss[:, None], starts, axis=0)
    kept, lost = np.cumsum(size, axis=0), np.cumsum(total, axis=0)
    before, lost_before = kept - size, lost - total
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, int(kept[-1].max()) + 1))])
    each = np.where(size > 0, total / np.where(size > 0, size, 1.0), 0.0)
    longer = harmonic[np.rint(kept).astype(np.int64)] - harmonic[np.rint(before).astype(np.int64)]
    area = (total + (lost_before - before * each) * longer).sum(axis=0)
    return area / kept[-1], lost[-1] / kept[-1]
