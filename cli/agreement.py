"""The bodies of `agree` and `calibrate`."""

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
    from .reporting import agreement_text, patients

    words = load_rubric(rubric)
    frame = _read(ratings, words, columns, rater_kind)
    cluster = None
    if bench:
        from ..judge.benchmark import load_benchmark

        cluster = patients(load_benchmark(bench).cases)
    found = agree(frame, words.scale.levels, judge, cluster, resamples, seed)
    output.emit(found.to_dict(), as_json, lambda: agreement_text(found))


def _read(ratings: Sequence[Path], rubric: Rubric, columns: dict[str, str], rater_kind: str | None) -> pl.DataFrame:
    """The ratings of all files; what was ignored or set aside is said."""
    notes: list[str] = []
    frame = read_ratings(list(ratings), rubric, columns or None, rater_kind, notes=notes)
    for note in notes:
        output.say(note)
    return frame


def calibrate_files(
    ratings: Sequence[Path],
    judge: str,
    out: Path,
    rubric: str,
    bench: Path | None,
    method: str,
    population: str,
    rater_kind: str | None,
    seed: int,
    columns: dict[str, str],
    as_json: bool,
) -> None:
    """Fit, save, and show bias and error before and after on cases that the map had not seen."""
    from datetime import UTC, datetime

    from ..evaluators.calibration import calibrate
    from ..judge.benchmark import load_benchmark
    from .reporting import patients

    words = load_rubric(rubric)
    frame = _read(ratings, words, columns, rater_kind)
    cluster = patients(load_benchmark(bench).cases) if bench else None
    found = calibrate(
        frame,
        words.scale.levels,
        judge,
        cluster,
        method,
        seed=seed,
        rubric=words.id,
        population=population,
        date=datetime.now(UTC).date().isoformat(),
    )
    found.save(out)
    rows = [
        (
            d.dimension,
            d.map.method if d.map else f"none: {d.reason}",
            d.counts.get("items"),
            *(d.results[k].value if k in d.results else None for k in ("before.bias", "before.mae", "after.mae")),
            d.results["change.mae"].low if "change.mae" in d.results else None,
            d.results["change.mae"].high if "change.mae" in d.results else None,
        )
        for d in found.dimensions
    ]
    head = ("dimension", "method", "n", "bias before", "MAE before", "MAE after", "change low", "change high")
    output.emit(found.to_dict(), as_json, lambda: f"{output.table(rows, head)}\n\nwritten: {out}")
    if not any(d.map for d in found.dimensions):
        raise SystemExit(output.INCOMPLETE)
