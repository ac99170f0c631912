"""The body of `evaluate`: top-k diagnosis and triage, what matched what, and what stands beside them on request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ..evaluators.diagnosis import DiagnosisResult
from ..judge.benchmark import Benchmark
from ..judge.errors import InputError
from ..judge.escape import escape_markdown, visible
from . import output
from .remote import Remote, dry_run_text
from .scoring import load_pair

MOST_LISTED = 5  # labels that a map does not hold, in the text; all stand in the JSON


class Asked(NamedTuple):
    """What a person wants of `evaluate` beside benchmark and narratives."""

    k: str = "1,3,5"
    cut: str = "urgent"
    terms: Path | None = None
    labels: Path | None = None
    relations: Path | None = None
    explain: Path | None = None
    by: str = ""
    quality: Path | None = None
    arms_against: str = ""
    adjudicate: str | None = None
    adjudication: Path | None = None
    private_words: str = "refuse"
    remote: Remote = Remote()
    dry_run: bool = False
    limit: int | None = None
    seed: int = 0
    columns: dict[str, str] = {}  # noqa: RUF012 - never changed


def evaluate_narratives(bench: Path, narratives: Path | None, asked: Asked, as_json: bool) -> None:
    """Score and print; exit code 4 if questions to an adjudicator are left open."""
    from ..evaluators.diagnosis import score_diagnosis
    from ..evaluators.narratives import read_narratives as read_narratives_of
    from ..evaluators.relations import load_relations
    from ..evaluators.terms import load_terms
    from ..evaluators.triage import score_triage
    from ..judge.tablefile import written_ending
    from .adjudicating import adjudicate, foretell
    from .arms import arm_effects, references
    from .evaluating_groups import attributes_of, by_subgroup, quality_gates

    ks = depths(asked.k)
    if asked.explain:  # an ending that cannot be written is found before anything is asked or paid
        written_ending(asked.explain)
    benchmark, texts = load_pair(bench, narratives, asked.limit, asked.columns)
    known = load_terms(asked.terms)
    result: dict[str, Any] = {"benchmark": benchmark.name, "synthetic": benchmark.synthetic}
    head = [f"SYNTHETIC: {escape_markdown(benchmark.name)}. Not measured on patients.", ""] * benchmark.synthetic
    if asked.labels:
        benchmark, result["labels"] = _labelled(benchmark, asked.labels, known)
        head += _labels_text(result["labels"])
    if asked.quality:
        benchmark = _tagged(benchmark, asked.quality)
    references(sorted({text.arm for text in texts}), asked.arms_against)  # what cannot be is found before it is paid
    groups = attributes_of(benchmark.cases, asked.by) if asked.by else {}
    parsed = read_narratives_of(texts, known)  # each text is read once for both
    top = score_diagnosis(
        benchmark.cases, texts, known, ks, seed=asked.seed, relations=load_relations(asked.relations), parsed=parsed
    )
    file = asked.adjudication or Path("adjudication.jsonl")
    if asked.dry_run:
        rows = foretell(top, asked.adjudicate, file, asked.remote, asked.private_words)
        template = rows.get("consent_template")
        foretold = dry_run_text({name: value for name, value in rows.items() if name != "consent_template"})
        consent = f"\n\nConsent file to be filled in (--consent FILE):\n\n{template}" if template else ""
        output.emit(rows, as_json, foretold + consent)
        return
    calls = score_triage(benchmark.cases, texts, cut=asked.cut, terms=known, seed=asked.seed, parsed=parsed)
    effects, notes = arm_effects(top, calls, asked.arms_against, asked.seed)
    told = None
    if asked.adjudicate or asked.adjudication:
        told = adjudicate(top, asked.adjudicate, file, asked.remote, asked.private_words)
    from .reporting import evaluation_text

    lines = [*head, evaluation_text(top, calls), ""]
    if told is not None:
        top, text, result["adjudication"] = _adjudicated(top, told, file)
        lines += text
    result |= {"diagnosis": top.to_dict(), "triage": calls.to_dict()}
    if asked.explain:
        _explain(top, asked.explain)
    if effects or notes:
        from ..evaluators.arms_section import arms_section

        result["arms"] = {"effects": [effect.to_dict() for effect in effects], "notes": notes}
        lines += arms_section(effects, notes)
    if asked.quality:
        text, result["quality_gate"] = quality_gates(benchmark, top, calls, asked.seed)
        lines += text
    if asked.by:
        text, result["subgroups"] = by_subgroup(benchmark, top, calls, groups, asked.seed)
        lines += text
    output.emit(result, as_json, lambda: "\n".join(lines).rstrip())
    if told is not None and not told.complete:
        output.say(f"{told.counts['open']} questions have no answer; give the same command again to go on")
        raise SystemExit(output.INCOMPLETE)


def depths(text: str) -> tuple[int, ...]:
    """The k of top-k; InputError for anything but whole numbers from 1.

    >>> depths("3,1")
    (1, 3)
    """
    try:
        ks = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        ks = ()
    if not ks or ks[0] < 1:
        raise InputError(f"--k takes whole numbers of 1 or more, such as 1,3,5, not '{text}'")
    return ks


def _labelled(benchmark: Benchmark, path: Path, terms: Any) -> tuple[Benchmark, dict[str, Any]]:
    """The cases under the names of a label map; a stated confidence becomes the tag label_confidence, for --by."""
    from ..evaluators.user_terms import apply_labels, load_user_labels
    from ..judge.records import identity

    labels = load_user_labels(path, terms)
    mapped, unknown = apply_labels(benchmark.cases, labels)
    sure = [{labels.confidence.get(identity(label), "") for label in case.diagnosis} - {""} for case in benchmark.cases]
    cases = [
        replace(case, tags={**case.tags, "label_confidence": _lowest(found)}) if found else case
        for case, found in zip(mapped, sure, strict=True)
    ]
    changed = sum(a.diagnosis != b.diagnosis for a, b in zip(benchmark.cases, cases, strict=True))
    told = {"file": str(path), "labels": len(labels.names), "cases": len(cases), "cases_renamed": changed,
            "not_mapped": [one.to_dict() for one in unknown]}  # fmt: skip
    return replace(benchmark, cases=tuple(cases)), told


def _lowest(found: set[str]) -> str:
    from ..evaluators.labels import CONFIDENCES

    return max(found, key=CONFIDENCES.index)


def _labels_text(told: dict[str, Any]) -> list[str]:
    counts: dict[tuple[str, str], int] = {}
    for one in told["not_mapped"]:
        counts[one["label"], one["reason"]] = counts.get((one["label"], one["reason"]), 0) + 1
    lines = [f"Label map of {told['labels']} labels: {told['cases_renamed']} of {told['cases']} cases have another "
             "gold name than the benchmark's."]  # fmt: skip
    common = sorted(counts.items(), key=lambda pair: -pair[1])
    lines += [f"- '{escape_markdown(label)}' {escape_markdown(why)}: {n} cases"
              for (label, why), n in common[:MOST_LISTED]]  # fmt: skip
    lines += [f"- and {len(common) - MOST_LISTED} more labels (--json)"] if len(common) > MOST_LISTED else []
    return [*lines, ""]


def _tagged(benchmark: Benchmark, path: Path) -> Benchmark:
    """The cases with the quality tag of each picture, from a table of `data audit --quality`."""
    from ..benchmarks.audit_quality import read_quality_tags, tag_pictures

    tags = read_quality_tags(path, benchmark.name) or read_quality_tags(path)
    cases = tag_pictures(benchmark.cases, tags)
    if not any(image.quality for case in cases for image in case.images):
        raise InputError(f"{path}: no row is of a picture of {benchmark.name}; `data audit --quality` writes the table")
    return replace(benchmark, cases=tuple(cases))


def _adjudicated(top: DiagnosisResult, told: Any, file: Path) -> tuple[DiagnosisResult, list[str], dict[str, Any]]:
    """The result with the answers in columns of their own, and what to say of them."""
    from ..evaluators.adjudication import adjudicated_top_k, with_adjudication
    from ..evaluators.adjudication_section import adjudication_section

    top = with_adjudication(top, told.answers)
    found = adjudicated_top_k(top)
    counts = told.counts
    said = f"{counts['questions']} questions: {counts['answered']} answered, {counts['unreadable']} answers cannot be "
    said += f"read, {counts['open']} open. Calls so far: {told.spent['calls']}. Answers: {file}"
    lines = [*adjudication_section(top, found, told.judge), said, ""]
    if told.stopped:
        output.say(f"asking ended early: {visible(told.stopped)}")
    data = {"judge": told.judge, "file": str(file), **counts, "spent": told.spent, "stopped": told.stopped or None,
            "systems": [one.to_dict() for one in found]}  # fmt: skip
    return top, lines, data


def _explain(top: DiagnosisResult, path: Path) -> None:
    from ..judge.tablefile import write_frame, write_jsonl, written_ending

    rows, ending = top.rows, written_ending(path)
    if ending == ".jsonl":
        write_jsonl(rows.to_dicts(), path)
        return
    if ending == ".csv":  # a cell holds one text
        lists = [name for name, kind in rows.schema.items() if kind == pl.List(pl.String)]
        rows = rows.with_columns(pl.col(name).list.join("; ") for name in lists)
    write_frame(rows, path)
