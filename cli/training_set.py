"""The body of `data training-set`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..judge.errors import InputError
from . import output


def write_training_set(
    bench: Path,
    out: Path,
    source: str,
    narratives: Path | None,
    faults: list[str] | None,
    counterfactuals: list[str] | None,
    rubric: str,
    split_by: str,
    seed: int,
    as_json: bool,
) -> None:
    """Graded narratives, counterfactual pictures, SIMULATED ratings; what could not be made is counted by reason."""
    from ..benchmarks.graded_ratings import training_set
    from ..judge.benchmark import load_benchmark
    from ..judge.rubric import load_rubric
    from ..judge.tables import read_narratives

    benchmark = load_benchmark(bench)
    clean = read_narratives(narratives or bench / "narratives.jsonl") if source == "narrative" else None
    kinds = counts_of(counterfactuals)
    chosen = {} if kinds is None else {"counterfactuals": kinds}
    report = training_set(
        benchmark, out, source, clean, faults or None,
        rubric=load_rubric(rubric), split_by=split_by, seed=seed, **chosen,  # type: ignore[arg-type]
    )  # fmt: skip
    result = {"written": str(out)} | report.to_dict()

    def text() -> str:
        lines = [output.table(list(report.cases.items()), ("picture", "cases"))]
        scores = [(name, n, report.unrated[name]) for name, n in report.rated.items()]
        lines += ["", output.table(scores, ("dimension", "scores", "not rated"))]
        lines += ["", *(f"left out, {n}: {reason}" for reason, n in report.left_out.items())]
        lines += [f"{report.narratives} narratives; cases by split {dict(report.splits)}", *report.notes]
        return "\n".join([*lines, f"next: dermjudge train RECIPE --data {out}"])

    output.emit(result, as_json, text)


def counts_of(values: Sequence[str] | None) -> Mapping[str, int] | None:
    """KIND=NUMBER or KIND as a mapping; "none" for none at all, None where nothing was asked.

    >>> counts_of(["swap=3", "blank"]), counts_of(["none"]), counts_of(None)
    ({'swap': 3, 'blank': 1}, {}, None)
    """
    if not values:
        return None
    if "none" in values and len(values) > 1:
        raise InputError("--counterfactual none stands alone")
    found = {}
    for value in values:
        kind, _, number = value.partition("=")
        if not (number or "1").isdecimal():
            raise InputError(f"--counterfactual takes KIND or KIND=NUMBER, such as swap=2, not '{value}'")
        found[kind] = int(number or 1)
    return {} if "none" in found else found
