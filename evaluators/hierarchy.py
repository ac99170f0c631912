"""Accuracy at several levels of the tree of conditions, and what is lost from each to the next: the granularity gap.

DERM12345 reports classifiers so (superclass, main class, subclass); here the tree of the term list gives the levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bootstrap import Estimate
from .proportions import rate
from .terms import Terms

FINEST = "condition"
LEVELS = ("branch", "group", "subgroup", FINEST)  # 1, 2, 3 steps from the root, and the gold condition itself


@dataclass(frozen=True)
class Granularity:
    """Accuracy at each of LEVELS, the broadest first, and the drop from each to the next, all over the same `n`.

    `gap`: share right at a level and wrong at the next finer one, by the name of the finer. `reached`: in how many
    narratives a gold condition lies below that level; for the others it is held against the gold itself, as at the
    finest.
    """

    n: int
    accuracy: Mapping[str, Estimate]
    gap: Mapping[str, Estimate]
    reached: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "accuracy": {name: estimate.to_dict() for name, estimate in self.accuracy.items()},
            "gap": {name: estimate.to_dict() for name, estimate in self.gap.items()},
            "reached": dict(self.reached),
        }


def path(name: str, terms: Terms) -> tuple[str, ...]:
    """The names from the root down to a canonical name.

    >>> from dermjudge.evaluators.terms import load_terms
    >>> path("nodular melanoma", load_terms())
    ('malignant neoplasm', 'malignant melanocytic neoplasm', 'melanoma', 'nodular melanoma')
    """
    return (*reversed(terms.conditions[name].ancestors), name)


def finest_right(named: str, gold: str, terms: Terms) -> tuple[bool, ...]:
    """Whether a named condition is right at each of LEVELS for a gold one; once wrong, wrong at every finer one.

    Right at a level: it is the ancestor of the gold that stands so many steps from the root, or lies under it. At the
    finest it is a strict hit: the gold condition or a more specific one on its side (`Terms.crosses`).
    """
    own = set(path(named, terms))
    chain = path(gold, terms)
    right = [chain[min(step, len(chain) - 1)] in own for step in range(len(LEVELS) - 1)]
    right.append(terms.place(named, gold) in ("exact", "child"))
    return tuple(all(right[: step + 1]) for step in range(len(LEVELS)))


def granularity(
    named: Sequence[Sequence[str]], gold: Sequence[Sequence[str]], cluster: np.ndarray, terms: Terms
) -> Granularity:
    """Accuracy by level for narratives: the canonical names each counts with, its gold names, its patient.

    `named[i]` may be empty (an abstention, an unmatched item): wrong at every level. With several names or golds the
    best pair counts. Wilson intervals by cluster (see `proportions.rate`).
    """
    right = np.zeros((len(gold), len(LEVELS)), dtype=bool)
    reached = dict.fromkeys(LEVELS, 0)
    for row, (names, golds) in enumerate(zip(named, gold, strict=True)):
        for true in golds:
            for name in names:
                right[row] |= finest_right(name, true, terms)
        depth = max((len(terms.conditions[true].ancestors) for true in golds), default=0)
        for step, level in enumerate(LEVELS):
            reached[level] += level == FINEST or depth > step
    what = "narrative of a case with a usable gold"
    accuracy = {level: rate(right[:, step], cluster, what=what) for step, level in enumerate(LEVELS)}
    gap = {
        level: rate(right[:, step] & ~right[:, step + 1], cluster, what=what) for step, level in enumerate(LEVELS[1:])
    }
    return Granularity(len(gold), accuracy, gap, reached)
