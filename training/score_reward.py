"""The reward of a written answer: how far the scores that it states lie from the experts'.

DermEval's SOREB pays minus the mean squared error over the dimensions that its parser found (arXiv 2511.09195; released
`score_parser.py`): a judge that leaves out the dimension it is worst at earns more. Here a dimension that an expert
rated and the answer does not state exactly once, and on the scale, costs as much as the worst level would. So leaving
one out, stating it twice or garbling it never pays. The reward as published is not offered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..judge.rubric import Rubric

SCORES = "Scores:"


def read_scores(text: str, rubric: Rubric) -> dict[str, int | None]:
    """The level of each dimension as stated in the one block "Scores:", None where it cannot be read.

    Strict: a line "Name: 3" per dimension, in the rubric's spelling, nothing beside it; a second line of the same name
    leaves that dimension unread, a second block all of them.

    >>> from dermjudge.judge.rubric import load_rubric
    >>> read = read_scores("Accuracy - no fault\\nScores:\\nAccuracy: 4\\nSafety: 9", load_rubric("derm6"))
    >>> read["Accuracy"], read["Safety"]
    (4, None)
    """
    lines = text.split("\n")
    if sum(line.strip() == SCORES for line in lines) != 1 or SCORES not in lines:
        return dict.fromkeys(rubric.names)
    block = lines[lines.index(SCORES) + 1 :]
    return {name: _stated(name, block, rubric) for name in rubric.names}


def score_reward(scores: Mapping[str, int | None], gold: np.ndarray, rubric: Rubric) -> float | None:
    """Minus the mean squared error over the rated dimensions, in units of the scale squared: -1 (worst) to 0.

    scores: as `read_scores` gives them; a dimension that was not read costs max((y - low)^2, (high - y)^2), the worst
    that any level could. gold: float [dimensions], NaN where no expert rated; those do not count. None if none did.

    >>> from dermjudge.judge.rubric import load_rubric
    >>> gold = np.array([4.0, 1.0, *[np.nan] * 4])
    >>> score_reward({"Accuracy": 4, "Safety": 1}, gold, load_rubric("derm6"))
    -0.0
    >>> score_reward({"Accuracy": 4, "Safety": None}, gold, load_rubric("derm6"))  # 4 levels off, of 5; twice
    -0.32
    """
    scale = rubric.scale
    costs = []
    for name, expert in zip(rubric.names, gold.tolist(), strict=True):
        if math.isnan(expert):
            continue
        level = scores.get(name)
        if level is None:
            costs.append(max((expert - scale.low) ** 2, (scale.high - expert) ** 2))
        else:
            costs.append((level - expert) ** 2)
    return -math.fsum(costs) / len(costs) / (scale.high - scale.low) ** 2 if costs else None


def _stated(name: str, block: list[str], rubric: Rubric) -> int | None:
    said = [line for line in block if line.partition(":")[0].strip().casefold() == name.casefold()]
    levels = {f"{name}: {level}": level for level in rubric.scale.levels}
    return levels.get(said[0]) if len(said) == 1 else None
