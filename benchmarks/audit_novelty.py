"""What one benchmark holds that the others do not: pictures and diagnoses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluators.bootstrap import Estimate
from ..evaluators.labels import usable_gold
from ..evaluators.narratives import cluster
from ..evaluators.proportions import rate
from ..evaluators.terms import Terms
from ..judge.benchmark import Benchmark
from ..judge.escape import visible
from .audit_duplicates import Duplicates, near_rows
from .finding import Shown


@dataclass(frozen=True)
class Novelty:
    """What one benchmark has that no other one has.

    `seen_exact`, `seen_near`: its pictures that stand in another one, pixel for pixel, or only nearly; `new_pictures`:
    the share of its readable pictures that do neither. `diagnoses`: how many conditions it names; `new_names`: those
    that no other one names; `new_cases`: the share of its cases with a usable label of which all names are new. Shares
    are per benchmark against all others together, patients counted together.
    """

    benchmark: str
    pictures: int
    seen_exact: int
    seen_near: int
    new_pictures: Estimate
    diagnoses: int
    new_names: tuple[str, ...]
    new_cases: Estimate

    def to_dict(self) -> dict[str, Any]:
        return {
            "benchmark": visible(self.benchmark),
            "pictures": self.pictures,
            "seen_exact": self.seen_exact,
            "seen_near": self.seen_near,
            "new_pictures": self.new_pictures.to_dict(),
            "diagnoses": self.diagnoses,
            "new_diagnoses": list(self.new_names),
            "new_cases": self.new_cases.to_dict(),
        }


def novelty(
    benches: Sequence[Benchmark], shown: Sequence[Shown], read: np.ndarray, found: Duplicates, terms: Terms
) -> list[Novelty]:
    """For each of two or more benchmarks what no other one holds; `read` (pictures,): which could be read."""
    exact, near = _seen_elsewhere(shown, found)
    gold = [[(case, usable_gold(case, terms)[0]) for case in bench.cases] for bench in benches]
    names = [{name for _, found_names in cases for name in found_names} for cases in gold]
    result = []
    for number, bench in enumerate(benches):
        rows = [row for row, picture in enumerate(shown) if picture.bench == number and read[row]]
        fresh = ~(exact | near)[rows]
        others = set().union(*(held for k, held in enumerate(names) if k != number))
        usable = [(case, own) for case, own in gold[number] if own]
        unknown = [not others & set(own) for _, own in usable]
        result.append(
            Novelty(
                bench.name,
                len(rows),
                int(exact[rows].sum()),
                int((near & ~exact)[rows].sum()),
                rate(fresh, _numbered(cluster(shown[row].case) for row in rows), what="readable picture"),
                len(names[number]),
                tuple(sorted(names[number] - others)),
                rate(unknown, _numbered(cluster(case) for case, _ in usable), what="case with a usable label"),
            )
        )
    return result


def _seen_elsewhere(shown: Sequence[Shown], found: Duplicates) -> tuple[np.ndarray, np.ndarray]:
    """(n,) twice: pictures that stand in another benchmark pixel for pixel, and nearly."""
    exact, near = np.zeros(len(shown), bool), np.zeros(len(shown), bool)

    def mark(rows: Sequence[int], others: Sequence[int], seen: np.ndarray) -> None:
        held = {shown[row].bench for row in others}
        for row in rows:
            seen[row] |= bool(held - {shown[row].bench})

    for group in found.exact:
        mark(group, group, exact)
    for first, second, *_ in near_rows(found.near):
        one, other = found.members(first), found.members(second)
        mark(one, other, near)
        mark(other, one, near)
    return exact, near


def _numbered(names: Any) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]
