"""The body of `agree`, and how rating files are read by every verb that takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ..judge.rubric import Rubric, load_rubric
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
    from .reporting import agreement_text

    words = load_rubric(rubric)
    frame = read_files(ratings, words, columns, rater_kind)
    cluster = clusters_of(bench)
    found = agree(frame, words.scale.levels, judge, cluster, resamples, seed)
    output.emit(found.to_dict(), as_json, lambda: agreement_text(found))


def clusters_of(bench: Path | None) -> dict[str, str] | None:
    """case_id -> patient of a benchmark folder; None without one."""
    if bench is None:
        return None
    from ..judge.benchmark import load_benchmark
    from .reporting import patients

    return patients(load_benchmark(bench).cases)


def read_files(
    ratings: Sequence[Path], rubric: Rubric, columns: dict[str, str], rater_kind: str | None
) -> pl.DataFrame:
    """The ratings of all files; what was ignored or set aside is said."""
    notes: list[str] = []
    frame = read_ratings(list(ratings), rubric, columns or None, rater_kind, notes=notes)
    for note in notes:
        output.say(note)
    return frame


def judge_signature(ratings: Sequence[Path], judge: str) -> str:
    """What the judge was, as the run folders say that these ratings lie in; "" if none does."""
    from ..judge.errors import InputError
    from ..judge.manifest import MANIFEST, read_manifest

    found = set()
    for path in ratings:
        if (path.parent / MANIFEST).exists():
            config = read_manifest(path.parent / MANIFEST)["asked"]["config"]
            if config.get("judge") == judge and "judge_signature" in config:
                found.add(config["judge_signature"])
    if len(found) > 1:
        raise InputError(f"ratings of judge '{judge}' come from runs with different signatures ({', '.join(found)})")
    return found.pop() if found else ""
