"""The training ladder: recipes that each stand on the one below, made from one base recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..judge.errors import InputError
from .config import Recipe
from .examples import Example

FURTHER = 0.5  # steps of a second stage, as a share of the first
SAMPLED = 0.4  # of a stage that samples whole answers: at a batch of 8 about as much computing as its control
SAMPLED_BATCH = 8
SAMPLED_TEMPERATURE = 0.5  # at 1 a judge of 300 steps writes a line now and then that no score can be read behind


@dataclass(frozen=True)
class Rung:
    """One recipe of the ladder.

    `start`: the rung whose adapter it goes on from; `below`: what it is compared with; `changes`: fields of the recipe;
    `labels`: how many rated narratives it sees (None: all, 0: it is the judge that training starts from).
    """

    name: str
    below: tuple[str, ...] = ()
    start: str = ""
    blind: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    labels: int | None = None

    def recipe(self, base: Recipe, seed: int, start: Path | None = None) -> Recipe:
        """The base recipe with this rung's changes and a seed; a rung that goes on has FURTHER of its steps."""
        stage = base.sft
        if self.changes.get("objective") in SAMPLING:
            steps = max(1, round(stage.steps * SAMPLED))
            stage = stage.model_copy(
                update={"steps": steps, "batch": min(SAMPLED_BATCH, stage.batch), "rate": stage.rate / 10}
            )
        elif self.start:
            stage = stage.model_copy(update={"steps": max(1, round(stage.steps * FURTHER)), "rate": stage.rate / 3})
        changes = {"name": f"{base.name}-{self.name}", "seed": seed, "sft": stage, "start": str(start or base.start)}
        if self.changes.get("objective") in SAMPLING and "temperature" not in base.reward.model_fields_set:
            changes["reward"] = base.reward.model_copy(update={"temperature": SAMPLED_TEMPERATURE})
        return base.model_copy(update={**changes, **self.changes})


SAMPLING = ("soreb", "grpo", "rloo")
_FIRST = {"order": "critique"}
RUNGS = (
    Rung("text-only", blind=True),
    Rung("cross-entropy", ("text-only", "length-only"), changes={"objective": "cross-entropy"}),
    Rung("regression", ("cross-entropy", "text-only")),
    Rung("regression-longer", ("regression",), start="regression"),
    Rung("reward", ("regression", "regression-longer"), start="regression", changes={"objective": "reward"}),
    Rung("critique-first", ("regression", "text-only"), changes=_FIRST),
    Rung("critique-longer", ("critique-first",), start="critique-first", changes=_FIRST),
    Rung(
        "self-critiques",
        ("critique-first", "critique-longer"),
        start="critique-first",
        changes={**_FIRST, "self_critiques": True},
    ),
    *(
        Rung(name, ("critique-first", "critique-longer"), "critique-first", changes={**_FIRST, "objective": name})
        for name in SAMPLING
    ),
)


def rungs_of(recipe: Recipe) -> tuple[Rung, ...]:
    """The rungs of a recipe: RUNGS, or one per number of labels, each compared with the judge before and the last."""
    if not recipe.labels:
        return RUNGS
    last = f"{recipe.labels[-1]} labels"
    more = []
    for n in recipe.labels:
        name = f"{n} labels"
        more.append(Rung(name, ("before",) if name == last else ("before", last), labels=n))
    return (Rung("before", labels=0), *more)


def some_rungs(recipe: Recipe, names: Sequence[str]) -> tuple[Rung, ...]:
    """The named rungs of a recipe and those that they go on from, in order; all of them if none is named.

    InputError for a rung that there is not.
    """
    rungs = {rung.name: rung for rung in rungs_of(recipe)}
    if unknown := [name for name in names if name not in rungs]:
        raise InputError(f"there is no rung '{unknown[0]}'; there are {', '.join(rungs)}")
    wanted = set(names or rungs)
    for rung in reversed(rungs.values()):
        if rung.name in wanted and rung.start:
            wanted.add(rung.start)
    return tuple(rung for rung in rungs.values() if rung.name in wanted)


def some_labels(examples: Sequence[Example], labels: int, seed: int) -> list[Example]:
    """The first `labels` rated narratives of the cases in the order of `seed`: fewer labels are part of more."""
    cases = list(dict.fromkeys(e.case.id for e in examples))
    order = {case: k for k, case in enumerate(np.random.default_rng(seed).permutation(cases))}
    return sorted(examples, key=lambda e: (order[e.case.id], e.narrative.system))[:labels]


def length_only(examples: Sequence[Example], texts: Sequence[str]) -> np.ndarray:
    """Scores from nothing but the number of words n: [texts, dimensions], least squares on 1, n, log(1 + n).

    What a judge that rewards long answers comes down to. Fitted on rated `examples`; may lie off the scale.
    """

    def features(words: Sequence[str]) -> np.ndarray:
        n = np.array([len(text.split()) for text in words], float)
        return np.column_stack([np.ones_like(n), n, np.log1p(n)])

    x, gold = features([e.narrative.judged for e in examples]), np.stack([e.gold for e in examples])
    wanted = features(texts)
    columns = []
    for d in range(gold.shape[1]):
        known = np.isfinite(gold[:, d])
        weights, *_ = np.linalg.lstsq(x[known], gold[known, d], rcond=None)
        columns.append(wanted @ weights)
    return np.column_stack(columns)
