"""Per-narrative values side by side: what `arms_effect` and `gap` compare, from the rows of the scorers."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from ..judge.errors import InputError
from ..judge.records import URGENCIES, NarrativeKey
from .diagnosis import DiagnosisResult
from .triage import TriageResult

KEY = ("case_id", "system", "arm", "sample")
BINARY = ("top_", "lenient_", "sensitivity", "specificity", "triage_correct")  # how names of hits begin


def narrative_values(
    diagnosis: DiagnosisResult,
    triage: TriageResult | None = None,
    overall: Mapping[NarrativeKey, float] | None = None,
) -> pl.DataFrame:
    """One row per narrative: its key, `cluster`, `first` (its first diagnosis), and a column per measure.

    top_K, lenient_K: 1 for a hit within K, 0 else, null without a usable gold. From the stated triage call, null
    without gold or call: triage_correct (the level is right), sensitivity (cases at the cut or above: 1 if called so),
    specificity (cases below: 1 if called so). `overall`: a score per narrative, such as a judge's. Sorted by key.
    """
    usable = pl.col("state") != "no_gold"
    hit = [
        pl.when(usable).then((pl.col(rank) <= k).fill_null(False).cast(pl.Float64)).alias(f"{name}_{k}")
        for name, rank in (("top", "strict_rank"), ("lenient", "lenient_rank")) for k in diagnosis.k
    ]  # fmt: skip
    frame = diagnosis.rows.select(*KEY, "cluster", pl.col("named").list.first().alias("first"), *hit)
    if triage is not None:
        level = {name: float(number) for number, name in enumerate(URGENCIES)}
        gold, said = (pl.col(name).replace_strict(level, default=None) for name in ("gold", "stated"))
        high, called = gold >= level[triage.cut], (said >= level[triage.cut]).cast(pl.Float64)
        frame = frame.join(
            triage.rows.select(
                *KEY, (gold == said).cast(pl.Float64).alias("triage_correct"),
                pl.when(high).then(called).alias("sensitivity"), pl.when(~high).then(1 - called).alias("specificity"),
            ), on=KEY, how="left",
        )  # fmt: skip
    if overall is not None:
        keys = list(zip(*(frame[name].to_list() for name in KEY), strict=True))
        scores = [overall.get(key) for key in keys]
        if not any(score is not None for score in scores):
            raise InputError("no rating is of one of these narratives; a rating names case_id, system, arm and sample")
        frame = frame.with_columns(pl.Series("overall", scores, dtype=pl.Float64))
    return frame.sort(KEY)


def measures(frame: pl.DataFrame) -> tuple[str, ...]:
    """The columns of a frame of values that are measures."""
    return tuple(name for name in frame.columns if name not in (*KEY, "cluster", "first", "group"))


def is_hit(measure: str) -> bool:
    """Whether a measure is 0 or 1 for each narrative."""
    return measure.startswith(BINARY)
