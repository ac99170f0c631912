"""Puts tables from disk into the reports of `evaluators.report`; shared by `score`, `evaluate`, `agree` and `demo`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from ..benchmarks.graded_ratings import NOTE as RATED_BY_RULE
from ..benchmarks.synthetic import true_changes
from ..evaluators.agreement import AgreementResult, agree
from ..evaluators.compare_systems import compare_systems
from ..evaluators.diagnosis import DiagnosisResult, score_diagnosis
from ..evaluators.diagnosis_section import beyond_exact_section
from ..evaluators.leaderboard import leaderboard
from ..evaluators.licence import license_judge
from ..evaluators.licence_record import load_licence
from ..evaluators.licence_section import licence_section
from ..evaluators.markdown import bullet, paragraph
from ..evaluators.narratives import read_narratives as parse_narratives
from ..evaluators.ppi import ppi_leaderboard
from ..evaluators.probes import summarise_probes
from ..evaluators.report import write_report
from ..evaluators.report_sections import agreement_section, diagnosis_section, triage_section
from ..evaluators.triage import TriageResult, score_triage
from ..judge.backends.base import Judge
from ..judge.benchmark import Benchmark
from ..judge.errors import InputError
from ..judge.escape import escape_markdown
from ..judge.files import write_atomic
from ..judge.manifest import hash_value
from ..judge.records import Case, Narrative
from ..judge.rubric import Rubric
from ..judge.run import add_exports
from ..judge.tables import RATINGS_SCHEMA, read_ratings
from .calibration import apply_calibration
from .learnt import learnt_cases, no_licence


def patients(cases: Sequence[Case]) -> dict[str, str]:
    """What is resampled: the patient, else the lesion, else the case."""
    return {case.id: case.patient_id or case.lesion_id or case.id for case in cases}


def _unit(cases: Sequence[Case]) -> str:
    """What `patients` resamples, in a word."""
    known = sum(bool(case.patient_id) for case in cases)
    if known == len(cases):
        return "patient"
    other = "lesion" if any(case.lesion_id for case in cases) else "case"
    return f"patient or {other}" if known else other


def full_report(
    benchmark: Benchmark,
    narratives: Sequence[Narrative],
    rubric: Rubric,
    runs: Mapping[str, tuple[Judge, Path]],
    seed: int,
    text_only: str = "",
    calibration: Path | None = None,
    review_at: float | None = None,
    licence: Path | None = None,
) -> tuple[str, dict[str, Any]]:
    """Everything on one page: the first of `runs` (judge, run folder) is the judge, `text_only` names the blind one."""
    cluster = patients(benchmark.cases)
    frames = {name: read_ratings(folder / "ratings.jsonl", rubric) for name, (_, folder) in runs.items()}
    boards = {
        name: leaderboard(frame, cluster, rubric.names, rubric.scale.levels, seed=seed, unit=_unit(benchmark.cases))
        for name, frame in frames.items()
    }
    first = next(iter(runs))
    judge, folder = runs[first]
    probes = None
    if files := sorted(folder.glob("probe-*.jsonl")):
        probed = pl.concat([read_ratings(file, rubric) for file in files])
        truth = true_changes(benchmark.cases, narratives, probed) if benchmark.synthetic else None
        probes = summarise_probes(frames[first], probed, cluster, rubric.names, seed=seed, truth=truth)
    agreement, ppi = None, None
    experts = benchmark.root / "ratings.parquet"
    if experts.exists():
        columns = list(RATINGS_SCHEMA)
        told = read_ratings(experts, rubric)
        keys = frames[first].select("case_id", "system", "arm", "sample").unique()
        told = told.join(keys, on=["case_id", "system", "arm", "sample"], how="semi")  # the narratives that were judged
        if len(told):
            together = pl.concat([told.select(columns), *(frame.select(columns) for frame in frames.values())])
            agreement = agree(together, rubric.scale.levels, None, cluster, seed=seed)
            ppi = ppi_leaderboard(together, rubric.scale.levels, first, cluster)
    gold = [case for case in benchmark.cases if case.diagnosis]
    parsed = parse_narratives(narratives) if gold else None  # each text is read once for diagnosis and triage
    notes, calibrated, review = [*judge.notes, *([benchmark.notes] if benchmark.notes else [])], None, None
    if calibration:
        signature = hash_value(dict(judge.signature))
        scaled, review = apply_calibration(
            frames[first], calibration, judge.name, rubric.id, signature, review_at, notes, benchmark.cases
        )
        exports = {"calibrated.jsonl": scaled.write_ndjson()}
        exports |= {} if review is None else {"review.jsonl": review.write_ndjson()}
        add_exports(folder, exports)
        unit, levels = _unit(benchmark.cases), rubric.scale.levels
        calibrated = leaderboard(scaled, cluster, rubric.names, levels, seed=seed, unit=unit)
    page, page_data = _licence_page(
        experts, frames, judge, rubric, cluster, probes, agreement, text_only, benchmark, licence, seed,
        learnt_cases(judge, benchmark, narratives),
    )  # fmt: skip
    several = len(boards[first].ranking) > 1
    real = benchmark.notes.startswith(RATED_BY_RULE) and not any("attributes" in c.tags for c in benchmark.cases)
    return write_report(
        title=f"{judge.name} on {benchmark.name}",
        data=f"{benchmark.name} {benchmark.version}, {len(benchmark.cases)} cases, {benchmark.licence}",
        signature=judge.signature,
        board=boards[first],
        text_only=boards.get(text_only),
        probes=probes,
        diagnosis=score_diagnosis(benchmark.cases, narratives, seed=seed, parsed=parsed) if gold else None,
        triage=score_triage(benchmark.cases, narratives, seed=seed, parsed=parsed) if gold else None,
        agreement=agreement,
        ppi=ppi if ppi and ppi.stands else None,
        calibrated=calibrated,
        licence=page,
        licence_data=page_data,
        systems=compare_systems(frames[first], rubric.scale.levels, None, cluster, seed=seed) if several else None,
        review=None if review is None else review.height,
        synthetic=benchmark.synthetic and not real,
        simulated=benchmark.synthetic and real,
        demonstration=judge.name.startswith("embedded"),
        planned=len(narratives),
        notes=notes,
    )


def _licence_page(
    experts: Path,
    frames: Mapping[str, pl.DataFrame],
    judge: Judge,
    rubric: Rubric,
    cluster: Mapping[str, str],
    probes: Any,
    agreement: AgreementResult | None,
    text_only: str,
    benchmark: Benchmark,
    given: Path | None,
    seed: int,
    learnt: tuple[int, int],
) -> tuple[list[str], dict[str, Any] | None]:
    """A licence from the experts of this benchmark, or the one that was given, which must be of this very judge.

    None from cases that the judge `learnt` from (how many, of how many).
    """
    signature = hash_value(dict(judge.signature))
    if given:
        found = load_licence(given)
        if problem := found.applies_to(signature, rubric):
            raise InputError(f"{given} says nothing of this judge: {problem}")
        lead = f"Made on {found.date or 'an unknown date'} on other ratings; it holds for this judge as it is."
        return [*paragraph(lead), *licence_section(found)], found.to_dict()
    if agreement is None:
        return [], None
    if learnt[0]:
        return ["## Licence", "", *paragraph(f"**{escape_markdown(no_licence(judge.name, *learnt))}.**")], None
    told = pl.concat([read_ratings(experts, rubric), *frames.values()])
    found = license_judge(
        told,
        rubric.scale.levels,
        judge.name,
        cluster=cluster,
        text_only=text_only or None,
        probes=probes,
        signature=signature,
        rubric=rubric,
        population=benchmark.name,
        date=datetime.now(UTC).date().isoformat(),
        simulated=benchmark.synthetic,
        seed=seed,
    )
    return licence_section(found), found.to_dict()


def report_run(
    folder: Path,
    benchmark: Benchmark,
    narratives: Sequence[Narrative],
    rubric: Rubric,
    judge: Judge,
    seed: int,
    calibration: Path | None = None,
    review_at: float | None = None,
    licence: Path | None = None,
) -> tuple[str, dict[str, Any]]:
    """Write report.md and report.json into a run folder."""
    runs = {judge.name: (judge, folder)}
    text, found = full_report(
        benchmark, narratives, rubric, runs, seed, calibration=calibration, review_at=review_at, licence=licence
    )
    add_exports(folder, {"report.md": text, "report.json": to_json(found)})
    return text, found


def save_report(folder: Path, text: str, found: Mapping[str, Any]) -> None:
    write_atomic(folder / "report.md", text, private=True)
    write_atomic(folder / "report.json", to_json(found), private=True)


def to_json(found: Mapping[str, Any]) -> str:
    return json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False)


def evaluation_text(diagnosis: DiagnosisResult, triage: TriageResult) -> str:
    """Top-k and triage as they stand in a report."""
    parts = [*diagnosis_section(diagnosis), *beyond_exact_section(diagnosis), *triage_section(triage)]
    return "\n".join([*parts, *_said(diagnosis.notes, triage.notes)])


def agreement_text(found: AgreementResult) -> str:
    """The agreement section as it stands in a report."""
    return "\n".join([*agreement_section(found, []), *_said(found.notes)])


def _said(*notes: Sequence[str]) -> list[str]:
    kept = dict.fromkeys(note for group in notes for note in group)
    return [line for note in kept for line in bullet(escape_markdown(note))]
