"""The body of `agree`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..judge.rubric import load_rubric
from ..judge.tables import read_ratings
from . import output


def agree_files(
    ratings: Sequence[Path],
    judge: str | None,
    rubric: str,
    bench: Path | None,
    resamples: int,
    rater_kind: str | None,
    seed: int,
    columns: dict[str, str],
    as_json: bool,
) -> None:
    from ..evaluators.agreement import agree
    from .reporting import agreement_text, patients

    words = load_rubric(rubric)
    notes: list[str] = []
    frame = read_ratings(list(ratings), words, columns or None, rater_kind, notes=notes)
    for note in notes:
        output.say(note)
    cluster = None
    if bench:
        from ..judge.benchmark import load_benchmark

        cluster = patients(load_benchmark(bench).cases)
    found = agree(frame, words.scale.levels, judge, cluster, resamples, seed)
    output.emit(found.to_dict(), as_json, lambda: agreement_text(found))
