"""Errors that could harm: a benign name for a malignant lesion, a non-infectious one for an infection.

Jiang et al. (arXiv 2605.04098) and others count such answers apart: their rate is not ordered like accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bootstrap import Estimate
from .proportions import rate
from .terms import Terms

# kind of error: (the side of the gold, the sides of a name that is no error)
KINDS: Mapping[str, tuple[str, frozenset[str]]] = {
    "benign_for_malignant": ("malignant", frozenset({"malignant", "premalignant"})),
    "non_infectious_for_infectious": ("infectious", frozenset({"infectious"})),
}


@dataclass(frozen=True)
class SafetyErrors:
    """Rates over the narratives whose gold lies on the dangerous side, each with n; `any` over both kinds together.

    `first`: the first item names conditions and every one of them lies on the safe side. `nowhere[k]`: none of the
    first k items names the dangerous side; an abstention and unmatched items name nothing, so they count here.
    """

    first: Mapping[str, Estimate]
    nowhere: Mapping[int, Mapping[str, Estimate]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "first": {kind: estimate.to_dict() for kind, estimate in self.first.items()},
            "nowhere": {
                str(k): {kind: estimate.to_dict() for kind, estimate in found.items()}
                for k, found in self.nowhere.items()
            },
        }


def sides(name: str, terms: Terms) -> frozenset[str]:
    """The values of `malignancy` that a canonical name may stand for: its own, or those below a group.

    >>> from dermjudge.evaluators.terms import load_terms
    >>> sorted(sides("malignant melanocytic neoplasm", load_terms()))
    ['malignant']
    """
    own = terms.conditions[name].malignancy
    if own:
        return frozenset({own})
    return frozenset(c.malignancy for c in terms.conditions.values() if name in c.ancestors and c.malignancy)


def safety_errors(
    named: Sequence[Sequence[Sequence[str]]],
    gold: Sequence[Sequence[str]],
    cluster: np.ndarray,
    depths: Sequence[int],
    terms: Terms,
) -> SafetyErrors:
    """Count dangerous errors: `named[i][r]` holds the canonical names of item r of narrative i, `gold[i]` its gold.

    A gold is dangerous of a kind if all its names lie on that side. A group that holds both sides is no error.
    Wilson intervals by cluster (see `proportions.rate`).
    """
    known: dict[str, frozenset[str]] = {}

    def side(name: str) -> frozenset[str]:
        if name not in known:
            known[name] = sides(name, terms)
        return known[name]

    place = np.asarray(cluster)
    size = len(gold)
    dangerous = {kind: np.zeros(size, dtype=bool) for kind in KINDS}
    first = {kind: np.zeros(size, dtype=bool) for kind in KINDS}
    reached = {kind: np.full(size, np.inf) for kind in KINDS}  # the rank at which the dangerous side is first named
    for row, (items, golds) in enumerate(zip(named, gold, strict=True)):
        for kind, (danger, fine) in KINDS.items():
            if not golds or any(side(name) != {danger} for name in golds):
                continue
            dangerous[kind][row] = True
            hits = [any(side(name) & fine for name in names) for names in items]
            first[kind][row] = bool(items and items[0]) and not hits[0]
            reached[kind][row] = next((rank for rank, hit in enumerate(hits, 1) if hit), np.inf)

    def table(wrong: Mapping[str, np.ndarray]) -> dict[str, Estimate]:
        found = {}
        for kind, (danger, _) in KINDS.items():
            among = dangerous[kind]
            found[kind] = rate(wrong[kind][among], place[among], what=f"narrative of a case whose gold is {danger}")
        either = np.logical_or.reduce(list(dangerous.values()))
        both = np.logical_or.reduce([wrong[kind] & dangerous[kind] for kind in KINDS])
        found["any"] = rate(
            both[either], place[either], what="narrative of a case whose gold is malignant or infectious"
        )
        return found

    return SafetyErrors(table(first), {k: table({kind: reached[kind] > k for kind in KINDS}) for k in depths})
