"""`evaluate --by` and `--quality`: rates by subgroup of cases, and what a gate on picture quality would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from ..evaluators.case_attributes import case_attributes
from ..evaluators.diagnosis import DiagnosisResult
from ..evaluators.fairness_rows import case_clusters, diagnosis_rows, fairness_attributes, triage_rows
from ..evaluators.triage import TriageResult
from ..judge.benchmark import Benchmark
from ..judge.errors import InputError
from ..judge.quality import TAGS
from ..judge.records import Case

SKIN = ("fitzpatrick", "fitzpatrick_band", "monk")  # on whom a gate falls; the first that is known


def attributes_of(cases: Sequence[Case], by: str, option: str = "--by") -> dict[str, dict[str, str]]:
    """The attributes that `by` names, or "all" known ones; InputError for one that no case has, with those there are.

    A name that is none of the usual ones is looked for among the tags of the cases.
    """
    known = fairness_attributes(cases)
    if by == "all":
        return known
    found = {}
    for name in (part.strip() for part in by.split(",")):
        try:
            found[name] = known[name] if name in known else case_attributes(cases, [name])[name]
        except InputError:
            there = ", ".join(known) or "none"
            raise InputError(f"{option}: the cases have no '{name}'; they have {there}, and tags") from None
    return found


def by_subgroup(
    benchmark: Benchmark,
    top: DiagnosisResult,
    calls: TriageResult,
    attributes: Mapping[str, Mapping[str, str]],
    seed: int,
) -> tuple[list[str], dict[str, Any]]:
    """Every rate by subgroup, with gaps to all other cases; `attributes`: of `attributes_of`."""
    from ..evaluators.fairness import fairness
    from ..evaluators.fairness_section import fairness_section

    rows = pl.concat([diagnosis_rows(top), triage_rows(calls)], how="diagonal")
    found = fairness(rows, attributes, case_clusters(benchmark.cases), seed=seed)
    return fairness_section(found), found.to_dict()


def quality_gates(
    benchmark: Benchmark, top: DiagnosisResult, calls: TriageResult, seed: int
) -> tuple[list[str], list[dict[str, Any]]]:
    """What top-k and triage would be without the worst pictures, and how many cases that costs."""
    from ..evaluators.quality_gate import quality_gate
    from ..evaluators.quality_section import quality_section

    rows = pl.concat([diagnosis_rows(top), triage_rows(calls)], how="diagonal")
    higher_is_better = pl.col("metric").str.contains(r"^(top|lenient)_|^(sensitivity|specificity)$")
    skin = fairness_attributes(benchmark.cases)
    name = next((name for start in SKIN for name in skin if name.startswith(start)), "")
    curves = quality_gate(
        rows.filter(higher_is_better), worst_quality(benchmark.cases), cluster=case_clusters(benchmark.cases),
        groups=skin.get(name), seed=seed,
    )  # fmt: skip
    return quality_section(curves, name), [curve.to_dict() for curve in curves]


def worst_quality(cases: Sequence[Case]) -> Mapping[str, str]:
    """case_id -> the worst tag of its pictures; cases without a tag are left out."""
    found = {case.id: {image.quality for image in case.images} & set(TAGS) for case in cases}
    return {name: max(tags, key=TAGS.index) for name, tags in found.items() if tags}
