"""The bodies of `score`, `evaluate`, `verify` and `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..judge.benchmark import Benchmark, load_benchmark
from ..judge.errors import InputError
from ..judge.records import Case, Image, Narrative, Rating, identity
from ..judge.rubric import load_rubric
from ..judge.tables import read_narratives
from . import output


def load_pair(
    bench: Path | None, narratives: Path | None, limit: int | None, columns: dict[str, str]
) -> tuple[Benchmark, list[Narrative]]:
    """A benchmark folder and the narratives to go with it (default: its own)."""
    if bench is None:
        raise InputError("name a benchmark folder and its narratives, or give --image and --text for one case")
    benchmark = load_benchmark(bench)
    path = narratives or bench / "narratives.jsonl"
    if not path.exists():
        raise InputError(f"no narratives at {path}; name the file (.jsonl, .csv, .parquet) behind the benchmark")
    spelled = {identity(case.id): case.id for case in benchmark.cases}
    read = read_narratives(path, columns or None)[:limit]
    return benchmark, [replace(n, case_id=spelled.get(identity(n.case_id), n.case_id)) for n in read]


def score_run(
    bench: Path | None,
    narratives: Path | None,
    judge: str,
    rubric: str,
    out: Path,
    probes: tuple[str, ...],
    critique: bool,
    batch_size: int | None,
    retry: tuple[str, ...],
    limit: int | None,
    seed: int,
    columns: dict[str, str],
    calibration: Path | None,
    review_at: float | None,
    licence: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    from ..judge.backends import KNOWN, open_judge
    from ..judge.manifest import hash_value
    from ..judge.records import STATES
    from ..judge.score import plan, score

    if not judge:
        raise InputError(f"name the judge with --judge; known: {KNOWN}")
    if wrong := [state for state in retry if state and state not in STATES]:
        raise InputError(f"--retry: unknown state '{wrong[0]}'; there are {', '.join(STATES)}")
    words = load_rubric(rubric)
    benchmark, texts = load_pair(bench, narratives, limit, columns)
    items = plan(benchmark.cases, texts, probes, seed)
    if dry_run:
        result = {
            "narratives": len(texts),
            "questions": len(items),
            "pictures": sum(len(c.images) for c in benchmark.cases),
            "judge": judge,
            "rubric": words.id,
            "out": str(out),
            "cost": 0,
        }
        return output.emit(result, as_json, lambda: "\n".join(f"{k}: {v}" for k, v in result.items()))
    opened = open_judge(judge, words, batch_size=batch_size, critique=critique)
    for note in opened.notes:
        output.say(note)
    with output.progress(f"scoring with {judge}") as tick:
        done = score(
            benchmark.cases,
            texts,
            words,
            opened,
            out,
            root=benchmark.root,
            seed=seed,
            probes=probes,
            retry=retry,
            config={"limited": limit, "judge_signature": hash_value(dict(opened.signature))},
            progress=tick,
        )
    from .reporting import report_run

    text, report = report_run(done.folder, benchmark, texts, words, opened, seed, calibration, review_at, licence)
    result = {
        "run": str(done.folder),
        "planned": done.planned,
        "states": dict(done.states),
        "resumed": done.resumed,
        "complete": done.complete,
        "report": report,
    }
    states = ", ".join(f"{count} {state}" for state, count in done.states.items())
    output.emit(result, as_json, f"{text}\n{done.planned} planned scores: {states}. Written: {done.folder}/report.md")
    if not done.complete:
        raise SystemExit(output.INCOMPLETE)


def score_one(
    images: Sequence[Path], text: str, context: str, judge: str, rubric: str, critique: bool, seed: int, as_json: bool
) -> None:
    from ..judge.backends import open_judge
    from ..judge.score import ask_one

    if not text:
        raise InputError("give the narrative with --text (a text, or @FILE)")
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the narrative: {error}") from error
    words = load_rubric(rubric)
    root = Path(images[0]).resolve().parent if images else Path(".")
    if any(path.resolve().parent != root for path in images):
        raise InputError("the pictures of one case lie in one folder")
    case = Case("one", tuple(Image(path.name) for path in images), context=context)
    opened = open_judge(judge or "embedded", words, critique=critique)
    rating = ask_one(case, Narrative("one", "given", text), words, opened, root, seed)
    result = {
        "judge": opened.name,
        "signature": dict(opened.signature),
        "notes": list(opened.notes),
        "flags": list(rating.flags),
        "scores": {
            name: {"value": s.value, "state": s.state, "reason": s.reason, "distribution": s.distribution}
            for name, s in rating.scores.items()
        },
        "overall": rating.overall,
        "critique": dict(rating.critique),
    }
    output.emit(result, as_json, lambda: _one_text(rating, opened.notes))
    if all(score.value is None for score in rating.scores.values()):
        raise SystemExit(output.INCOMPLETE)


def _one_text(rating: Rating, notes: Sequence[str]) -> str:
    from ..judge.escape import visible

    rows: list[tuple[str, float | None, str, str]] = [
        (name, score.value, score.state if score.value is None else "", score.reason)
        for name, score in rating.scores.items()
    ]
    rows.append(("overall", rating.overall, "" if rating.overall is not None else "not all scored", ""))
    lines = [output.table(rows, ("dimension", "score", "state", "why")), ""]
    lines += [f"{name}: {visible(words)}" for name, words in rating.critique.items()]
    return "\n".join([*lines, *(f"! {flag}" for flag in rating.flags), *notes]).rstrip()


def evaluate_narratives(
    bench: Path,
    narratives: Path | None,
    k: str,
    cut: str,
    terms: Path | None,
    explain: Path | None,
    limit: int | None,
    seed: int,
    columns: dict[str, str],
    as_json: bool,
) -> None:
    from ..evaluators.diagnosis import score_diagnosis
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
    top = score_diagnosis(benchmark.cases, texts, known, ks)
    calls = score_triage(benchmark.cases, texts, cut=cut, terms=known, seed=seed)
    if explain:
        import polars as pl

        from ..judge.tablefile import write_frame

        rows = top.rows
        if explain.suffix == ".csv":  # a cell holds one text
            lists = [name for name, kind in rows.schema.items() if kind == pl.List(pl.String)]
            rows = rows.with_columns(pl.col(name).list.join("; ") for name in lists)
        write_frame(rows, explain)
    result = {"benchmark": benchmark.name, "diagnosis": top.to_dict(), "triage": calls.to_dict()}
    from .reporting import evaluation_text

    output.emit(result, as_json, lambda: evaluation_text(top, calls))


def verify_folder(folder: Path, as_json: bool) -> None:
    from ..judge.verify import verify_run

    report = verify_run(folder)
    result: dict[str, Any] = {"folder": str(folder), "ok": not report.problems, "problems": list(report.problems)}
    result |= {"status": report.status, "done": report.done, "planned": report.planned, "notes": list(report.notes)}
    counts = f"{report.done} of {report.planned} planned results, {report.status}"

    def text() -> str:
        lines = list(map(str, report.problems)) or ["every byte is as it was written"]
        return "\n".join([*lines, *map(str, report.notes), counts])

    output.emit(result, as_json, text)
    if report.problems:
        raise SystemExit(output.ERROR)
    if report.status != "complete":
        raise SystemExit(output.INCOMPLETE)


def print_findings(findings: Sequence[Any], as_json: bool) -> None:
    """The table of `doctor`; exit code 1 if something needed is broken."""
    rows = [{"name": f.name, "ok": f.ok, "detail": f.detail, "remedy": f.remedy} for f in findings]
    marks = {True: "ok", False: "BROKEN", None: "-"}
    cells = [(row["name"], marks[row["ok"]], row["detail"], row["remedy"]) for row in rows]
    output.emit(rows, as_json, lambda: output.table(cells, ("what", "state", "detail", "remedy")))
    if any(row["ok"] is False for row in rows):
        raise SystemExit(output.ERROR)
