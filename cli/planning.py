"""The body of `plan`: how many cases to rate, and which ones next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..judge.errors import InputError
from ..judge.rubric import load_rubric
from . import output
from .agreement import clusters_of, read_files

NO_SAMPLE = (
    "These cases were picked, not drawn: good for agreement and calibration, but means of systems (leaderboard, "
    "prediction-powered estimates) must not be estimated from their ratings."
)


def plan_files(
    ratings: Sequence[Path],
    judge: str,
    statistic: str,
    width: float,
    systems: str,
    raters: str,
    next_n: int | None,
    next_out: Path | None,
    rubric: str,
    bench: Path | None,
    rater_kind: str | None,
    seed: int,
    columns: dict[str, str],
    as_json: bool,
) -> None:
    from ..evaluators.next_cases import next_cases
    from ..evaluators.plan_section import plan_section
    from ..evaluators.planning import plan

    words = load_rubric(rubric)
    frame = read_files(ratings, words, columns, rater_kind)
    cluster = clusters_of(bench)
    result: dict[str, Any] = {}
    text: list[str] = []
    if next_n is not None:
        chosen = next_cases(frame, None, next_n, levels=words.scale.levels, judge=judge, cluster=cluster, seed=seed)
        result |= {"next_cases": chosen.to_dicts(), "warning": NO_SAMPLE}
        if next_out:
            from ..judge.tablefile import write_frame

            write_frame(chosen, next_out)
            text += [f"{chosen.height} cases to rate next: {next_out}", NO_SAMPLE]
        else:
            rows = [tuple(row[name] for name in ("order", "case_id", "priority", "why")) for row in chosen.to_dicts()]
            text += [output.table(rows, ("order", "case", "priority", "why")), "", NO_SAMPLE]
    else:
        with output.progress("simulating studies") as tick:
            found = plan(
                frame, words.scale.levels, judge, statistic, width, cluster, seed,
                systems=_numbers(systems, "--systems"), raters=_numbers(raters, "--raters"),
            )  # fmt: skip
            tick(1, 1)
        result |= found.to_dict()
        text += plan_section(found)
    output.emit(result, as_json, lambda: "\n".join(text))


def _numbers(text: str, option: str) -> list[int] | None:
    """Comma-separated whole numbers of 1 or more; nothing: the default."""
    try:
        found = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = [0]
    if any(number < 1 for number in found):
        raise InputError(f"{option} takes whole numbers of 1 or more, such as 1,2,4, not '{text}'")
    return found or None
