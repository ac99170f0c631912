"""Rated narratives as training examples: what the judge reads, and what the experts said of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..judge.benchmark import Benchmark, load_benchmark
from ..judge.critique import write_critique
from ..judge.errors import InputError
from ..judge.images import prepare
from ..judge.records import Case, Narrative, Rating, identity
from ..judge.rubric import Rubric
from ..judge.tables import frame_to_ratings, read_narratives, read_ratings
from .config import Data


@dataclass(frozen=True, slots=True)
class Example:
    """One narrative with its experts' scores.

    gold: float [dimensions], mean of the experts who rated it, NaN where none did; target: float [dimensions, levels],
    how the experts' scores lie on the levels (rows sum to 1, or to 0 where nobody rated); critique: an expert's words.
    """

    case: Case
    narrative: Narrative
    gold: np.ndarray
    target: np.ndarray
    critique: str


def build_examples(
    cases: Sequence[Case], narratives: Sequence[Narrative], ratings: Iterable[Rating], rubric: Rubric, split: str
) -> list[Example]:
    """Join ratings to narratives of one split; only experts, only scored dimensions. InputError if nothing is left."""
    chosen = {identity(case.id): case for case in cases if not split or case.split == split}
    by_key: dict[Any, list[Rating]] = defaultdict(list)
    for rating in ratings:
        if rating.rater_kind == "expert" and identity(rating.case_id) in chosen:
            by_key[identity(rating.case_id), rating.system, rating.arm, rating.sample].append(rating)
    examples = [
        _example(chosen[identity(n.case_id)], n, by_key[key], rubric)
        for n in narratives
        if (key := (identity(n.case_id), *n.key[1:])) in by_key
    ]
    if not examples:
        told = [n for n in narratives if identity(n.case_id) in chosen]
        if by_key and told:
            pairs = zip(("case", "system", "arm", "sample"), next(iter(by_key)), told[0].key, strict=True)
            apart = "; ".join(f"{name} '{rated}' and '{written}'" for name, rated, written in pairs)
            raise InputError(f"no expert rating of split '{split}' fits a narrative; the first of each: {apart}")
        splits = sorted({c.split for c in cases} - {""})
        there = f"splits here: {', '.join(splits)}" if splits else "no case has one; data: {split: ''} takes all"
        raise InputError(f"no narrative of split '{split}' has an expert rating; {there}")
    return examples


def count_examples(
    examples: Sequence[Example], ratings: Iterable[Rating], cases: Sequence[Case], rubric: Rubric, split: str
) -> dict[str, Any]:
    """What is learnt from: narratives, patients, experts, rated narratives per dimension, ratings that fit none.

    "unmatched": experts' ratings of the split's cases that fit no narrative. Patients are None if a case names none.
    """
    chosen = {identity(case.id) for case in cases if not split or case.split == split}
    used = {(identity(e.case.id), *e.narrative.key[1:]) for e in examples}
    told = [r for r in ratings if r.rater_kind == "expert" and identity(r.case_id) in chosen]
    fit = [r for r in told if (identity(r.case_id), r.system, r.arm, r.sample) in used]
    known = ~np.isnan(np.stack([e.gold for e in examples]))
    patients = {e.case.patient_id for e in examples}
    return {
        "narratives": len(examples),
        "patients": len(patients) if all(patients) else None,
        "experts": len({r.rater for r in fit}),
        "rated": dict(zip(rubric.names, known.sum(0).tolist(), strict=True)),
        "unmatched": len(told) - len(fit),
    }


def counted_text(counted: Mapping[str, Any]) -> str:
    """The same in a line or two."""
    rated = ", ".join(f"{name} {n}" for name, n in counted["rated"].items())
    of = "" if counted["patients"] is None else f" of {counted['patients']} patients"
    lost = f"; {counted['unmatched']} ratings of this split fit no narrative" if counted["unmatched"] else ""
    return f"{counted['narratives']} narratives{of}, rated by {counted['experts']} experts ({rated}){lost}"


def _example(case: Case, narrative: Narrative, ratings: Sequence[Rating], rubric: Rubric) -> Example:
    levels = np.array(rubric.scale.levels, float)
    target = np.zeros((len(rubric.names), len(levels)))
    gold = np.full(len(rubric.names), np.nan)
    for d, name in enumerate(rubric.names):
        values = [r.scores[name].value for r in ratings if name in r.scores and r.scores[name].value is not None]
        if values:
            gold[d] = np.mean(np.array(values, float))
            target[d] = np.clip(1 - np.abs(np.array(values, float)[:, None] - levels), 0, None).mean(0)
    words = next((text for r in ratings if (text := write_critique(r.critique, rubric))), "")
    return Example(case, narrative, gold, target, words)


class Rated(NamedTuple):
    """A benchmark folder as training reads it; `examples` are those of the recipe's split."""

    benchmark: Benchmark
    narratives: list[Narrative]
    ratings: list[Rating]
    examples: list[Example]


def read_rated(data: Data, folder: Path, rubric: Rubric) -> Rated:
    """Benchmark, narratives and ratings of a folder, joined; InputError if there is nothing to learn from."""
    benchmark, narratives = load_benchmark(folder), read_narratives(folder / data.narratives)
    ratings = list(frame_to_ratings(read_ratings(folder / data.ratings, rubric)))
    examples = build_examples(benchmark.cases, narratives, ratings, rubric, data.split)
    return Rated(benchmark, narratives, ratings, examples)


class Pictures:
    """The prepared pictures of a benchmark, decoded when asked for; the last few are kept."""

    def __init__(self, root: Path, keep: int = 256):
        self._load = lru_cache(maxsize=keep)(lambda path: prepare(root, path).pixels)

    def __call__(self, case: Case) -> list[Any]:
        return [self._load(image.path) for image in case.images]
