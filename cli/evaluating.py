"""The body of `evaluate`: top-k diagnosis and triage, what matched what, and rates by subgroup."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ..evaluators.diagnosis import DiagnosisResult
from ..evaluators.fairness import fairness
from ..evaluators.fairness_results import FairnessResult
from ..evaluators.fairness_rows import case_clusters, diagnosis_rows, fairness_attributes, triage_rows
from ..evaluators.fairness_section import fairness_section
from ..evaluators.triage import TriageResult
from ..judge.benchmark import Benchmark
from ..judge.errors import InputError
from . import output
from .scoring import load_pair


def evaluate_narratives(
    bench: Path,
    narratives: Path | None,
    k: str,
    cut: str,
    terms: Path | None,
    explain: Path | None,
    by: str,
    limit: int | None,
    seed: int,
    columns: dict[str, str],
    as_json: bool,
) -> None:
    from ..evaluators.diagnosis import score_diagnosis
    from ..evaluators.narratives import read_narratives as read_narratives_of
    from ..evaluators.terms import load_terms
    from ..evaluators.triage import score_triage

    try:
        ks = tuple(sorted({int(part) for part in k.split(",")}))
    except ValueError:
        ks = ()
    if not ks or ks[0] < 1:
        raise InputError(f"--k takes whole numbers of 1 or more, such as 1,3,5, not '{k}'")
    benchmark, texts = load_pair(bench, narratives, limit, columns)
    known = load_terms(terms)
    parsed = read_narratives_of(texts, known)  # each text is read once for both
    top = score_diagnosis(benchmark.cases, texts, known, ks, seed=seed, parsed=parsed)
    calls = score_triage(benchmark.cases, texts, cut=cut, terms=known, seed=seed, parsed=parsed)
    if explain:
        from ..judge.tablefile import write_frame

        rows = top.rows
        if explain.suffix == ".csv":  # a cell holds one text
            lists = [name for name, kind in rows.schema.items() if kind == pl.List(pl.String)]
            rows = rows.with_columns(pl.col(name).list.join("; ") for name in lists)
        write_frame(rows, explain)
    result = {"benchmark": benchmark.name, "diagnosis": top.to_dict(), "triage": calls.to_dict()}
    from .reporting import evaluation_text

    lines = []
    if by:
        groups = _by_subgroup(benchmark, top, calls, by, seed)
        result["subgroups"] = groups.to_dict()
        lines = fairness_section(groups)
    output.emit(result, as_json, lambda: "\n".join([evaluation_text(top, calls), "", *lines]).rstrip())


def _by_subgroup(benchmark: Benchmark, top: DiagnosisResult, calls: TriageResult, by: str, seed: int) -> FairnessResult:
    """Every rate by subgroup, with gaps to all other cases; `by`: names, or "all"."""
    attributes = fairness_attributes(benchmark.cases)
    if by != "all":
        wanted = [name.strip() for name in by.split(",")]
        if unknown := [name for name in wanted if name not in attributes]:
            raise InputError(f"--by: the cases have no '{unknown[0]}'; they have {', '.join(attributes) or 'none'}")
        attributes = {name: attributes[name] for name in wanted}
    rows = pl.concat([diagnosis_rows(top), triage_rows(calls)], how="diagonal")
    return fairness(rows, attributes, case_clusters(benchmark.cases), seed=seed)
