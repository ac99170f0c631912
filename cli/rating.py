"""The bodies of `rate sheet` and `rate collect`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..judge.rubric import load_rubric
from . import output


def write_sheets(
    bench: Path,
    narratives: Path | None,
    rubric: str,
    raters: int,
    overlap: float,
    repeats: float,
    out: Path,
    seed: int,
    as_json: bool,
) -> None:
    from ..benchmarks.rating_sheet import KEY, SEND, make_sheets
    from .scoring import load_pair

    benchmark, texts = load_pair(bench, narratives, None, {})
    made = make_sheets(
        benchmark, texts, load_rubric(rubric), out, raters=raters, overlap=overlap, repeats=repeats, seed=seed
    )
    rows = [(rater, items, again) for rater, (items, again) in made.raters.items()]
    result = {
        "folder": str(out),
        "narratives": made.narratives,
        "rated_by_all": made.shared,
        "raters": [{"rater": rater, "items": items, "hidden_repeats": again} for rater, items, again in rows],
        "key": str(out / KEY),
        "notes": made.notes,
    }
    for note in made.notes:
        output.say(f"note: {note}")

    def text() -> str:
        return "\n".join(
            [
                f"{made.narratives} narratives; {made.shared} go to every rater, the others to one each",
                output.table(rows, ("rater", "items", "hidden repeats")),
                f"send each rater one folder of {out / SEND}; never send {out / KEY}: it holds what codes mean",
                f"put each filled .csv back where it was, then: dermjudge rate collect {out} --out ratings.parquet",
            ]
        )

    output.emit(result, as_json, text)


def collect_sheets(folder: Path, out: Path, as_json: bool) -> None:
    """Write the ratings; exit code 4 while a sheet or an item is without any score."""
    from ..benchmarks.rating_return import intra_rater, read_sheets
    from ..judge.tablefile import written_ending
    from ..judge.tables import write_ratings

    written_ending(out)
    ratings, returned = read_sheets(folder)
    write_ratings(ratings, out)
    within = intra_rater(ratings)
    result = {
        "written": str(out),
        "ratings": len(ratings),
        "raters": [row._asdict() for row in returned],
        "intra_rater": [
            {**row._asdict(), "exact": asdict(row.exact), "difference": asdict(row.difference)} for row in within
        ],
    }

    def text() -> str:
        done = [(r.rater, r.items, r.done, r.partly, r.empty, r.file or "did not come back") for r in returned]
        rows = [(r.rater or "all", r.dimension, r.n, _cell(r.exact), _cell(r.difference)) for r in within]
        reasons = sorted({e.reason for r in within for e in (r.exact, r.difference) if e.reason})
        return "\n".join(
            [
                output.table(done, ("rater", "items", "done", "partly", "missing", "file")),
                "",
                "Each rater against their own first score, on the hidden repeats (95 % intervals):",
                output.table(rows, ("rater", "dimension", "pairs", "same score", "mean difference")),
                *(f"- {reason}" for reason in reasons),
                f"written: {out}",
            ]
        )

    output.emit(result, as_json, text)
    if any(row.empty for row in returned):
        raise SystemExit(output.INCOMPLETE)


def _cell(found: Any) -> str | None:
    if found.value is None:
        return None
    return f"{found.value:.2f}" + (f" [{found.low:.2f}, {found.high:.2f}]" if found.low is not None else "")
