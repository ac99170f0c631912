"""The main job in one command, offline: SYNTHETIC benchmark, embedded judge, text-only judge, experts, report."""

from __future__ import annotations

import time
from pathlib import Path

from ..benchmarks.synthetic import generate
from ..judge.backends import open_judge
from ..judge.benchmark import load_benchmark
from ..judge.errors import InputError
from ..judge.manifest import hash_value
from ..judge.rubric import load_rubric
from ..judge.score import score
from ..judge.tables import read_narratives
from . import output
from .reporting import full_report, save_report

NEXT = (
    "Next, with your own data: dermjudge data import tabular FOLDER --column id=ID --column image=FILE --column "
    "diagnosis=DX --licence internal --out my-benchmark (ID, FILE, DX: columns of the table in FOLDER), then "
    "dermjudge score my-benchmark NARRATIVES.csv --judge embedded --out my-run"
)


def run_demo(out: Path, cases: int, seed: int, as_json: bool) -> None:
    """Write `out` (benchmark, judge, text-only, report.md, report.json) and print the report."""
    start = time.monotonic()
    rubric = load_rubric("derm6")
    bench = out / "benchmark"
    if not (bench / "benchmark.yaml").exists():
        output.say(f"making {cases} SYNTHETIC cases in {bench}")
        generate(bench, cases, seed)
    benchmark = load_benchmark(bench)
    if len(benchmark.cases) != cases:
        raise InputError(f"{bench} holds {len(benchmark.cases)} cases, not {cases}; name another folder with --out")
    narratives = read_narratives(bench / "narratives.jsonl")
    runs = {}
    for name, probes in (("embedded", ("swap",)), ("embedded-text-only", ())):
        judge = open_judge(name, rubric)
        with output.progress(f"scoring with {name}") as tick:
            scored = score(
                benchmark.cases,
                narratives,
                rubric,
                judge,
                out / name,
                root=benchmark.root,
                probes=probes,
                seed=seed,
                config={"judge_signature": hash_value(dict(judge.signature))},
                progress=tick,
            )
        runs[name] = (judge, scored.folder)
    text, found = full_report(benchmark, narratives, rubric, runs, seed, text_only="embedded-text-only")
    save_report(out, text, found)
    output.emit(found, as_json, text)
    output.say(f"\n{time.monotonic() - start:.0f} s. Written: {out / 'report.md'}, {out / 'report.json'}.\n{NEXT}")
