"""The verb `answers`: a thin command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Config, Json, Map, Seed, pairs


def answers(
    bench: Annotated[Path, typer.Argument(help="Benchmark folder with answers.jsonl, the gold answers.")],
    given: Annotated[
        Path, typer.Argument(metavar="ANSWERS", help="Answers: case_id, question_id, value, optionally system.")
    ],
    questions: Annotated[
        Path | None, typer.Option(help="Questions; default: questions.jsonl of the benchmark, else a shipped table.")
    ] = None,
    diagnosis: Annotated[
        list[str] | None, typer.Option(help="An open question whose answers are diagnoses; repeatable.")
    ] = None,
    system: Annotated[str, typer.Option(help="Name of the system, where the file gives none.")] = "",
    resamples: Annotated[int, typer.Option(min=100, help="Redraws of patients for intervals.")] = 2000,
    seed: Seed = 0,
    column_map: Map = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Closed questions: accuracy, F1 and partial credit against the gold answers of the benchmark."""
    from .answers import evaluate_answers

    evaluate_answers(
        bench, given, questions, tuple(diagnosis or ()), system, resamples, seed, pairs(column_map), as_json
    )
