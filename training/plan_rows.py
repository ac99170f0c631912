"""Which example stands where in a training, with which pictures: drawn before the first step, so that it can go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from .config import Recipe
from .examples import Example

Look = Literal["own", "blank", "none"]
COUNTERFACTUAL = "counterfactual"  # tag of a case that stands beside another case's picture, or an altered one
ALTERED = ("blank", "overlay")  # values of it: painted grey, written on


class Row(NamedTuple):
    """One example at one place of the training.

    `seed`: of the prompt's delimiter; `look`: the case's own pictures, grey ones of the same size, or none; `words`:
    whether the critique is learnt here; `written`: whether the scores are learnt as written digits (order critique).
    """

    example: int
    seed: int
    look: Look
    words: bool
    written: bool = False


def draw_rows(recipe: Recipe, examples: Sequence[Example], blind: bool) -> list[Row]:
    """The rows of every step, one after another: steps * batch * accumulate of them.

    The same recipe draws the same rows, however a step is cut into batches or shared among processes.
    """
    rng = np.random.default_rng(recipe.seed)
    rows: list[Row] = []
    for step in range(recipe.sft.steps):
        chosen = [int(k) for k in rng.integers(0, len(examples), recipe.sft.batch * recipe.accumulate)]
        looks = [_look(examples[k], recipe.image_dropout, rng, blind) for k in chosen]
        words = [False] * len(chosen)
        for without in (False, True):  # in the order in which they are run
            for i, k in enumerate(chosen):
                if (looks[i] == "none") is without and examples[k].critique:
                    words[i] = recipe.order == "critique" or bool(rng.random() < recipe.critiques)
        written = [recipe.order == "critique" and bool(rng.random() < 0.5) for _ in chosen]
        seed = recipe.seed + step
        drawn = zip(chosen, looks, words, written, strict=True)
        rows += [Row(k, seed, look, said, digits) for k, look, said, digits in drawn]
    return rows


def _look(example: Example, dropout: float, rng: np.random.Generator, blind: bool) -> Look:
    """A dropped picture is blank or missing, half and half, so that neither is a surprise.

    Never beside a counterfactual picture: the scores follow that one, and nothing of it is left.
    """
    if blind or not example.case.images:
        return "none"
    if example.case.tags.get(COUNTERFACTUAL):
        return "own"
    draw = rng.random()
    return "own" if draw >= dropout else "none" if draw < dropout / 2 else "blank"


def row_tensors(examples: Sequence[Example]) -> tuple[Any, Any]:
    """gold [rows, dimensions] and target [rows, dimensions, levels] as float32."""
    import torch

    gold, target = (np.stack([getattr(e, name) for e in examples]) for name in ("gold", "target"))
    return torch.tensor(gold, dtype=torch.float32), torch.tensor(target, dtype=torch.float32)
