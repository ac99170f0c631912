"""`score` with several judges: a run folder each, their jury's ratings and report beside them."""

from __future__ import annotations

from typing import Any

import polars as pl

from ..judge.benchmark import Benchmark
from ..judge.errors import InputError
from ..judge.ratings import with_schema
from ..judge.records import Narrative
from ..judge.rubric import Rubric
from ..judge.tables import RATINGS_SCHEMA, frame_to_ratings, read_ratings, write_ratings
from . import output
from .scoring import Asked, score_with, slug


def score_jury(
    benchmark: Benchmark, texts: list[Narrative], rubric: Rubric, asked: Asked, consent: dict[str, Any], as_json: bool
) -> None:
    """Score with each judge in turn, then combine; the calibrated jury takes `calibration.json` of each run folder."""
    from ..evaluators.calibration_record import Calibration
    from ..evaluators.jury import jury
    from ..evaluators.jury_section import jury_section
    from ..evaluators.leaderboard import leaderboard
    from ..evaluators.report_sections import board_section
    from .reporting import patients, save_report

    frames, names, complete = [], [], True
    for spec in asked.judges:
        folder = asked.out / slug(spec)
        done, opened = score_with(spec, folder, benchmark, texts, rubric, asked, consent)
        frames.append(read_ratings(folder / "ratings.jsonl", rubric).select(list(RATINGS_SCHEMA)))
        names.append(opened.name)
        complete &= done.complete
    records = None
    if asked.jury == "calibrated":
        files = {name: asked.out / slug(s) / "calibration.json" for name, s in zip(names, asked.judges, strict=True)}
        if missing := [str(path) for path in files.values() if not path.exists()]:
            raise InputError(f"a calibrated jury needs {missing[0]} (of `calibrate`) beside the ratings of each judge")
        records = {name: Calibration.load(path, name, rubric.id) for name, path in files.items()}
    told = jury(pl.concat(frames), names, asked.jury, calibrations=records)  # type: ignore[arg-type]
    asked.out.mkdir(parents=True, exist_ok=True)
    write_ratings(frame_to_ratings(with_schema(told.frame)), asked.out / "ratings.jsonl")
    cluster = patients(benchmark.cases)
    board = leaderboard(told.frame, cluster, rubric.names, rubric.scale.levels, seed=asked.seed)
    title = f"# {told.rater} on {benchmark.name}"
    text = "\n".join([title, "", *jury_section(told), *board_section("Leaderboard", board)])
    found = {"jury": told.to_dict(), "leaderboard": board.to_dict(), "complete": complete}
    save_report(asked.out, text + "\n", found)
    output.emit(found, as_json, f"{text}\nWritten: {asked.out}/ratings.jsonl, report.md")
    if not complete:
        raise SystemExit(output.INCOMPLETE)
