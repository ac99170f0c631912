"""`agree --where-label-agrees` and `--scores-by`: a judge on some of the cases, with or without experts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..judge.errors import InputError

if TYPE_CHECKING:
    from ..evaluators.agreement import AgreementResult
    from .agreement import Asked


def judges_of(frame: pl.DataFrame, judge: str | None) -> list[str]:
    """The judges of the ratings that were asked for; InputError if there is none."""
    there = sorted(frame.filter(pl.col("rater_kind") == "judge")["rater"].unique().to_list())
    if not there or (judge is not None and judge not in there):
        wanted = f" '{judge}'" if judge else ""
        raise InputError(f"the ratings hold no judge{wanted}; there are {', '.join(there) or 'none'}")
    return [judge] if judge else there


def where_label_agrees(
    frame: pl.DataFrame, levels: Sequence[int], found: AgreementResult | None, asked: Asked
) -> tuple[list[str], dict[str, Any]]:
    """All cases beside those whose reference concludes with their label, of the benchmark that holds both."""
    from ..benchmarks.audit_labels import reference_findings
    from ..evaluators.label_subset import label_subset
    from ..evaluators.label_subset_section import label_subset_section
    from ..evaluators.terms import load_terms
    from ..judge.benchmark import load_benchmark
    from .agreement import clusters_of

    benchmark = load_benchmark(_bench(asked.bench, "--where-label-agrees", "labels and references"))
    _, table, readings = reference_findings([benchmark], load_terms())
    if not readings:
        why = ", ".join(f"{n} {reason}" for reason, n in table["left_out"].items())
        raise InputError(f"{asked.bench}: no case has both a usable label and a reference ({why})")
    agreeing = [case for (_, case), reading in readings.items() if reading.stance == "agrees"]
    result = label_subset(
        frame, agreeing, levels, judges_of(frame, asked.judge), found, clusters_of(asked.bench), asked.resamples,
        asked.seed, keep_out_of_range=asked.keep_out_of_range,
    )  # fmt: skip
    return label_subset_section(result), result.to_dict() | {"readings": table}


def scores_by(frame: pl.DataFrame, asked: Asked) -> tuple[list[str], dict[str, Any]]:
    """A judge's scores by subgroup of cases: no expert is needed, and no error is told from a true difference."""
    from ..evaluators.fairness import fairness
    from ..evaluators.fairness_rows import rating_rows
    from ..evaluators.fairness_section import fairness_section
    from ..judge.benchmark import load_benchmark
    from .agreement import clusters_of
    from .evaluating_groups import attributes_of

    bench = _bench(asked.bench, "--scores-by", "age, sex, skin type and the like")
    attributes = attributes_of(load_benchmark(bench).cases, asked.scores_by, "--scores-by")
    lines, results = list[str](), dict[str, Any]()
    for name in judges_of(frame, asked.judge):
        rows = rating_rows(frame.filter(pl.col("rater_kind") == "judge"), name)
        found = fairness(rows, attributes, clusters_of(bench), resamples=asked.resamples, seed=asked.seed)
        section = fairness_section(found)
        lines += [f"## Scores of {_escaped(name)} by groups of cases", *section[1:], ""]
        results[name] = found.to_dict()
    return lines, results


def _bench(bench: Path | None, option: str, what: str) -> Path:
    if bench is None:
        raise InputError(f"{option} needs --bench: {what} stand in the cases")
    return bench


def _escaped(name: str) -> str:
    from ..judge.escape import escape_markdown

    return escape_markdown(name)
