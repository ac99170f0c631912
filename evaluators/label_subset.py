"""A judge on the cases whose reference agrees with their label, beside all cases: wrong texts must not carry it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ..judge.records import identity
from .agreement import AgreementResult, DimensionAgreement, agree
from .bootstrap import Estimate
from .proportions import mean

OVERALL = "overall"  # the mean of a narrative's dimensions, where every one of them is scored


@dataclass(frozen=True)
class ScoreMean:
    """A judge's mean score of one system on one dimension (scale units): all narratives, and those of the subset."""

    judge: str
    system: str
    arm: str
    dimension: str
    everything: Estimate
    agreeing: Estimate

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {"everything": self.everything.to_dict(), "agreeing": self.agreeing.to_dict()}


@dataclass(frozen=True)
class LabelSubset:
    """`cases` of the ratings, `agreeing` of them; judges against experts on all and on these cases, and mean scores."""

    cases: int
    agreeing: int
    everything: tuple[DimensionAgreement, ...]
    subset: tuple[DimensionAgreement, ...]
    means: tuple[ScoreMean, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "cases": self.cases, "agreeing": self.agreeing, "all": [found.to_dict() for found in self.everything],
            "subset": [found.to_dict() for found in self.subset], "means": [found.to_dict() for found in self.means],
        }  # fmt: skip


def label_subset(
    frame: pl.DataFrame,
    agreeing: Collection[str],
    levels: Sequence[int],
    judges: Sequence[str],
    found: AgreementResult | None = None,
    cluster: Mapping[str, str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    *,
    keep_out_of_range: bool = False,
) -> LabelSubset:
    """Results of `judges` on all cases and on those of `agreeing` (case ids), side by side.

    `found`: agreement with experts on all cases, where there are experts; that on the subset is computed here. Means
    are over narratives that the judge scored, repeats averaged, with intervals from redrawing patients.
    """
    wanted = {identity(case) for case in agreeing}
    inside = pl.col("case_id").map_elements(lambda case: identity(case) in wanted, return_dtype=pl.Boolean)
    marked = frame.with_columns(inside.alias("_inside"))
    cases = marked.group_by("case_id").agg(pl.col("_inside").first())
    everything: tuple[DimensionAgreement, ...] = ()
    subset: tuple[DimensionAgreement, ...] = ()
    part = frame.filter(marked["_inside"])
    both = {(r["rater"], r["rater_kind"]) for r in part.select("rater", "rater_kind").unique().iter_rows(named=True)}
    if found is not None:
        everything = tuple(one for one in found.judges if one.group is None and one.judge in judges)
        if any(kind == "expert" for _, kind in both):
            told = (
                agree(part, levels, name, cluster, resamples, seed, keep_out_of_range=keep_out_of_range)
                for name in judges if (name, "judge") in both
            )  # fmt: skip
            subset = tuple(one for result in told for one in result.judges)
    return LabelSubset(
        cases.height, int(cases["_inside"].sum()), everything, subset,
        tuple(_means(marked, judges, cluster, resamples, seed)),
    )  # fmt: skip


def _means(
    marked: pl.DataFrame, judges: Sequence[str], cluster: Mapping[str, str] | None, resamples: int, seed: int
) -> list[ScoreMean]:
    key = ["rater", "system", "arm", "case_id", "sample", "_inside"]
    own = marked.filter((pl.col("rater_kind") == "judge") & pl.col("rater").is_in(list(judges)))
    if own.is_empty():
        return []
    scores = own.group_by(*key, "dimension", maintain_order=True).agg(pl.col("score").mean())
    dimensions = own["dimension"].unique(maintain_order=True).to_list()
    whole = scores.group_by(*key, maintain_order=True).agg(
        pl.lit(OVERALL).alias("dimension"),
        pl.when(pl.col("score").count() == len(dimensions)).then(pl.col("score").mean()).alias("score"),
    )
    scores = pl.concat([whole, scores], how="diagonal").filter(pl.col("score").is_finite())
    patient = {identity(case): name for case, name in (cluster or {}).items()}
    found = []
    for (judge, system, arm, dimension), part in scores.group_by("rater", "system", "arm", "dimension",
                                                                 maintain_order=True):  # fmt: skip
        both = []
        for rows in (part, part.filter(pl.col("_inside"))):
            who = [patient.get(identity(case), case) for case in rows["case_id"]]
            both.append(mean(rows["score"].to_numpy(), who, seed, resamples))
        found.append(ScoreMean(str(judge), str(system), str(arm), str(dimension), both[0], both[1]))
    order = {name: k for k, name in enumerate([OVERALL, *dimensions])}
    return sorted(found, key=lambda row: (row.judge, row.system, row.arm, order[row.dimension]))
