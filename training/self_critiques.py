"""Critiques that a judge wrote itself, in place of the experts' (TRACT's second stage, arXiv:2503.04381)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..judge.backends.base import Question
from ..judge.errors import InputError
from ..judge.prompt import render
from ..judge.rubric import Rubric
from .config import Recipe
from .examples import Example, Pictures

BATCH = 32


def with_self_critiques(
    recipe: Recipe,
    base: Path,
    examples: Sequence[Example],
    pictures: Pictures,
    rubric: Rubric,
    *,
    blind: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Example]:
    """The same examples with the critiques that the judge in `recipe.start` writes of them, greedily.

    What a judge is scored behind when it serves are its own words, so those are what it should learn scores behind.
    blind: no picture is shown. Where the judge does not come to the end of a critique the expert's words stay. progress
    is told how many of how many are done. InputError if the recipe has no start, or its judge ends no critique.
    """
    from ..judge.backends.local import LocalJudge
    from .sft import start_folder

    start = start_folder(recipe)
    if start is None:
        raise InputError(f"recipe {recipe.name}: self_critiques needs a judge that writes them; name it with start")
    judge = LocalJudge(base, start, rubric, name=start.name, batch_size=BATCH, critique=True)
    written: list[Example] = []
    for first in range(0, len(examples), BATCH):
        part = examples[first : first + BATCH]
        questions = []
        for k, e in enumerate(part):
            seen = [] if blind or judge.blind else pictures(e.case)
            prompt = render(e.case, e.narrative, rubric, judge.form, seed=recipe.seed, pictures=bool(seen))
            questions.append(Question(str(first + k), prompt, tuple(seen)))
        for e, answer in zip(part, judge.answer(questions), strict=True):
            cut = any(score.state in ("truncated", "input_error") for score in answer.scores.values())
            written.append(replace(e, critique=answer.text) if answer.critique and not cut else e)
        if progress:
            progress(len(written), len(examples))
    if examples and all(new is old for new, old in zip(written, examples, strict=True)):
        raise InputError(f"{start.name} ends no critique of these narratives; train it to write them first")
    return written
