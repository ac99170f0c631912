"""Rows for `fairness`, one per narrative and metric, from diagnosis, triage and ratings; and the groups of cases."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ..judge.errors import InputError
from ..judge.records import URGENCIES, Case
from .case_attributes import MIXED, case_attributes
from .diagnosis import DiagnosisResult
from .narratives import cluster
from .triage import CALLS, TriageResult

_KEY = ("case_id", "system", "arm", "sample")
_COLUMNS = (*_KEY, "metric", "value")


def fairness_attributes(cases: Sequence[Case]) -> dict[str, dict[str, str]]:
    """`case_attributes` of the cases, and modality ("mixed" where pictures differ) and every tag that begins "monk".

    >>> fairness_attributes([Case("a", tags={"sex": "F", "monk_skin_tone_us": 3})])
    {'sex': {'a': 'female'}, 'monk_skin_tone_us': {'a': '3'}}
    """
    found = case_attributes(cases)
    modality = {}
    for case in cases:
        named = {image.modality.strip().lower() for image in case.images} - {""}
        if named:
            modality[case.id] = MIXED if len(named) > 1 else named.pop()
    if modality:
        found["modality"] = modality
    tones = sorted({tag for case in cases for tag in case.tags if tag.casefold().startswith("monk")})
    known = [tag for tag in tones if any(case.tags.get(tag) not in (None, "") for case in cases)]
    return found | (case_attributes(cases, known) if known else {})


def case_clusters(cases: Sequence[Case]) -> dict[str, str]:
    """case_id -> what is redrawn as one: the patient, else the case."""
    return {case.id: cluster(case) for case in cases}


def rate_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Rates of yes-or-no calls: positive_rate, and where the truth is known sensitivity, specificity and their like.

    `frame`: case_id, system, positive (what was called) and optionally label (the truth), arm, sample; both are true,
    false or null. positive_rate is over every call (demographic parity), sensitivity over true labels, specificity and
    false_positive_rate over false ones (equalised odds), no_call over all rows. InputError for a missing column.
    """
    if missing := [name for name in ("case_id", "system", "positive") if name not in frame.columns]:
        raise InputError(f"calls lack the column(s) {', '.join(missing)}; they have {', '.join(frame.columns)}")
    fill = [pl.lit("").alias("arm")] if "arm" not in frame.columns else []
    fill += [pl.lit(0).alias("sample")] if "sample" not in frame.columns else []
    fill += [pl.lit(None, dtype=pl.Boolean).alias("label")] if "label" not in frame.columns else []
    frame = frame.with_columns(*fill).with_columns(pl.col("positive", "label").cast(pl.Boolean))
    called = frame.filter(pl.col("positive").is_not_null())
    yes, no = called.filter(pl.col("label")), called.filter(~pl.col("label"))
    return pl.concat([
        _rows(frame, "no_call", pl.col("positive").is_null()), _rows(called, "positive_rate", pl.col("positive")),
        _rows(yes, "sensitivity", pl.col("positive")), _rows(no, "specificity", ~pl.col("positive")),
        _rows(no, "false_positive_rate", pl.col("positive")),
    ])  # fmt: skip


def diagnosis_rows(result: DiagnosisResult) -> pl.DataFrame:
    """top_K and lenient_K for each k, over narratives of cases with a usable gold; a refusal is a miss."""
    used = result.rows.filter(pl.col("state") != "no_gold")
    return pl.concat([
        _rows(used, f"{name}_{k}", (pl.col(f"{rank}_rank") <= k).fill_null(False))
        for name, rank in (("top", "strict"), ("lenient", "lenient")) for k in result.k
    ])  # fmt: skip


def triage_rows(result: TriageResult, call: str = "stated") -> pl.DataFrame:
    """The rates of `rate_rows` at the result's cut, and under, severe_under and over, of the stated or implied call.

    A missing call counts in no_call alone, as in `score_triage`.
    """
    if call not in CALLS:
        raise InputError(f"call '{call}' is none of {', '.join(CALLS)}")
    level = {name: number for number, name in enumerate(URGENCIES)}
    rows = result.rows.with_columns(
        *(pl.col(c).replace_strict(level, default=None, return_dtype=pl.Int64).alias(c) for c in ("gold", call))
    )
    cut = level[result.cut]
    both = rows.filter(pl.col("gold").is_not_null() & pl.col(call).is_not_null())
    below = pl.col("gold") - pl.col(call)
    return pl.concat([
        rate_rows(rows.select(*_KEY, (pl.col(call) >= cut).alias("positive"), (pl.col("gold") >= cut).alias("label"))),
        _rows(both, "under", below > 0), _rows(both, "severe_under", below > 1), _rows(both, "over", below < 0),
    ])  # fmt: skip


def rating_rows(frame: pl.DataFrame, rater: str, dimensions: Sequence[str] | None = None) -> pl.DataFrame:
    """Scores of one rater, a metric "score DIMENSION" each, repeats averaged; a score that is not there stays null.

    `frame`: long ratings (`judge.ratings`). InputError if the rater or a dimension is not in it.
    """
    own = frame.filter(pl.col("rater") == rater)
    if own.is_empty():
        raise InputError(f"no rater '{rater}'; there are {', '.join(map(str, frame['rater'].unique().sort()))}")
    known = own["dimension"].unique(maintain_order=True).to_list()
    if strange := [name for name in dimensions or () if name not in known]:
        raise InputError(f"no dimension '{strange[0]}' by '{rater}'; there are {', '.join(known)}")
    own = own.filter(pl.col("dimension").is_in(list(dimensions or known)))
    means = own.group_by(*_KEY, "dimension", maintain_order=True).agg(pl.col("score").mean().alias("value"))
    return means.with_columns(pl.format("score {}", "dimension").alias("metric")).select(_COLUMNS)


def _rows(frame: pl.DataFrame, metric: str, value: pl.Expr) -> pl.DataFrame:
    return frame.with_columns(
        pl.lit(metric).alias("metric"), value.cast(pl.Float64).alias("value"), pl.col("sample").cast(pl.Int64)
    ).select(_COLUMNS)
