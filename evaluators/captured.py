"""Weighted gold differentials, as of several dermatologists in SCIN: how much of the weight the first k items catch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..judge.errors import InputError
from ..judge.records import Case
from .bootstrap import Estimate
from .matching import Hit
from .proportions import mean
from .relations import Relations
from .terms import Terms


@dataclass(frozen=True)
class Captured:
    """Mean share of the gold weight that the first k items catch, over `n` narratives of cases with weights.

    `strict[k]`: weights of the gold conditions named, or named more specifically, by any of the first k items;
    `graded[k]`: each weight times the best relation weight within k; `best[k]`: what the k heaviest would catch, the
    most that can be reached; `unmapped`: the share of the weight whose names are not in the term list: nothing can
    catch it, and it stays in the denominator.
    """

    n: int
    strict: Mapping[int, Estimate]
    graded: Mapping[int, Estimate]
    best: Mapping[int, Estimate]
    unmapped: Estimate

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"n": self.n, "unmapped": self.unmapped.to_dict()}
        for name in ("strict", "graded", "best"):
            found[name] = {str(k): estimate.to_dict() for k, estimate in getattr(self, name).items()}
        return found


def gold_weights(case: Case, terms: Terms) -> tuple[dict[str, float], float] | None:
    """Shares of the gold weight by canonical name, and the share of names not in the list; None without weights.

    Weights of a case are divided by their sum. InputError for a weight below 0, or for some given and some not.

    >>> from dermjudge.judge.records import Candidate
    >>> from dermjudge.evaluators.terms import load_terms
    >>> case = Case("c", differential=(Candidate("eczema", 2), Candidate("hives", 1), Candidate("floopitis", 1)))
    >>> gold_weights(case, load_terms())
    ({'eczema': 0.5, 'urticaria': 0.25}, 0.25)
    """
    given = [candidate.weight for candidate in case.differential]
    if not given or all(weight is None for weight in given):
        return None
    if any(weight is None or not weight >= 0 for weight in given) or not sum(w for w in given if w) > 0:
        raise InputError(f"case '{case.id}': the weights of a gold differential must be 0 or more, for all or for none")
    total = sum(weight for weight in given if weight is not None)
    shares: dict[str, float] = {}
    unmapped = 0.0
    for name, weight in case.differential:
        share = (weight or 0.0) / total
        found = terms.find(name)
        if found is None:
            unmapped += share
        else:
            shares[found.name] = shares.get(found.name, 0.0) + share
    return shares, unmapped


def captured_weight(
    named: Sequence[Sequence[Sequence[str]]],
    gold: Sequence[tuple[Mapping[str, float], float]],
    cluster: np.ndarray,
    depths: Sequence[int],
    terms: Terms,
    relations: Relations,
    seed: int = 0,
    resamples: int = 2000,
) -> Captured:
    """Catch gold weights: `named[i][r]` holds the canonical names of item r of narrative i, `gold[i]` its weights.

    Intervals from `resamples` redraws of the patients in `cluster` (n,).
    """
    size, steps = len(gold), len(depths)
    strict, graded, best = (np.zeros((size, steps)) for _ in range(3))
    cache: dict[tuple[str, str], tuple[bool, float]] = {}

    def worth(name: str, true: str) -> tuple[bool, float]:
        if (name, true) not in cache:
            place = terms.place(name, true)
            relation = relations.of(Hit(name, name, "name"), true, terms)
            cache[name, true] = (place in ("exact", "child"), relations.weight(relation))
        return cache[name, true]

    for row, (items, (shares, _)) in enumerate(zip(named, gold, strict=True)):
        heaviest = sorted(shares.values(), reverse=True)
        for step, depth in enumerate(depths):
            names = [name for item in items[:depth] for name in item]
            for true, share in shares.items():
                found = [worth(name, true) for name in names]
                strict[row, step] += share * any(hit for hit, _ in found)
                graded[row, step] += share * max((value for _, value in found), default=0.0)
            best[row, step] = sum(heaviest[:depth])

    def table(values: np.ndarray) -> dict[int, Estimate]:
        return {depth: mean(values[:, step], cluster, seed, resamples) for step, depth in enumerate(depths)}

    lost = mean([unmapped for _, unmapped in gold], cluster, seed, resamples)
    return Captured(size, table(strict), table(graded), table(best), lost)
