"""The body of `gap`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..judge.errors import InputError
from ..judge.records import NarrativeKey, identity
from . import output
from .scoring import load_pair

if TYPE_CHECKING:
    from ..evaluators.gap import GapSide
    from ..evaluators.terms import Terms
    from ..judge.benchmark import Benchmark

Files = tuple[Path, Path | None, Path | None]


class Asked(NamedTuple):
    """What a person wants of `gap` beside the two benchmarks."""

    judge: str | None = None
    k: str = "1,3"
    cut: str = "urgent"
    arm: str | None = None
    by: str = "malignancy"
    least: int = 30
    terms: Path | None = None
    resamples: int = 2000
    seed: int = 0


def gap_files(public: Files, local: Files, asked: Asked, as_json: bool) -> None:
    from ..evaluators.gap import gap
    from ..evaluators.gap_section import gap_section
    from ..evaluators.terms import load_terms

    if (public[2] is None) != (local[2] is None):
        raise InputError("ratings are compared only if both sides have them: --public-ratings and --local-ratings")
    try:
        depths = tuple(sorted({int(part) for part in asked.k.split(",")}))
    except ValueError:
        depths = ()
    if not depths or depths[0] < 1:
        raise InputError(f"--k takes whole numbers of 1 or more, such as 1,3, not '{asked.k}'")
    terms = load_terms(asked.terms)
    (theirs, their_side), (ours, our_side) = (_side(files, depths, asked, terms) for files in (public, local))
    found = gap(their_side, our_side, asked.arm, asked.least, asked.seed, asked.resamples)
    synthetic = [bench.name for bench in (theirs, ours) if bench.synthetic]
    result = found.to_dict() | {"synthetic": synthetic}

    def text() -> str:
        from ..judge.escape import escape_markdown

        head = f"SYNTHETIC: {', '.join(map(escape_markdown, synthetic))}. Not measured on patients."
        return "\n".join([head, ""] * bool(synthetic) + gap_section(found)).rstrip()

    output.emit(result, as_json, text)


def _side(files: Files, depths: tuple[int, ...], asked: Asked, terms: Terms) -> tuple[Benchmark, GapSide]:
    from ..evaluators.gap import gap_side

    folder, narratives, ratings = files
    benchmark, texts = load_pair(folder, narratives, None, {})
    overall = None
    if ratings is not None:
        spelled = {identity(case.id): case.id for case in benchmark.cases}
        overall = {(spelled.get(identity(key[0]), key[0]), *key[1:]): value for key, value in
                   _overall(ratings, asked.judge).items()}  # fmt: skip
    name = f"{benchmark.name}@{benchmark.version}"
    return benchmark, gap_side(name, benchmark.cases, texts, depths, asked.cut, asked.by, overall, terms)


def _overall(path: Path, judge: str | None) -> dict[NarrativeKey, float]:
    """Mean overall score of a judge per narrative, over its repeats; a rating with a missing dimension has none."""
    from ..judge.ratings import frame_to_ratings, read_ratings

    ratings = list(frame_to_ratings(read_ratings(path)))
    raters = sorted({rating.rater for rating in ratings})
    if judge is None and len(raters) > 1:
        raise InputError(f"{path} holds several raters, {', '.join(raters)}: name one with --judge")
    if judge is not None and judge not in raters:
        raise InputError(f"{path} holds no rating by '{judge}'; there are {', '.join(raters)}")
    found: dict[NarrativeKey, list[float]] = defaultdict(list)
    for rating in ratings:
        probed = any(flag.startswith("probe:") for flag in rating.flags)
        if (judge is None or rating.rater == judge) and rating.overall is not None and not probed:
            found[rating.key[0], rating.key[1], rating.key[2], rating.key[3]].append(rating.overall)
    return {key: sum(values) / len(values) for key, values in found.items()}
