"""The same picture twice: pixel for pixel, or nearly, also flipped or turned; across splits, benchmarks and cases.

Found are re-encoding (JPEG at quality 30 and below), scaling, brightness, contrast, grey, mirror images and turns by 90
degrees. Not found: crops of more than some percent of a side, turns by other angles, another photograph of the lesion.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..judge.benchmark import Benchmark
from ..judge.records import identity
from .finding import Finding, Severity, Shown, place, some
from .near_pairs import LEAST_LIKENESS, MAX_DISTANCE, NearPairs, near_pairs
from .picture_prints import EVEN, TURNS, Prints

# Where the two pictures stand, the worst first: leaks are across benchmarks or splits.
RELATIONS: dict[str, tuple[Severity, str]] = {
    "across-splits": ("leak", "in two splits of one benchmark"),
    "across-benchmarks": ("leak", "in two benchmarks"),
    "between-strangers": ("warning", "under two cases that share neither patient nor lesion"),
    "between-cases": ("note", "under two cases of one patient or lesion"),
    "within-case": ("note", "twice in one case"),
}


@dataclass(frozen=True)
class Duplicates:
    """`exact`: groups of rows with equal pixels; `near`: pairs of rows, each row standing for its exact group.

    `groups`: row -> rows with the same pixels, for rows that have a copy. `even`: rows that vary too little to be
    compared but by their pixels; `compared`: pictures that were.
    """

    exact: tuple[tuple[int, ...], ...]
    near: NearPairs
    groups: dict[int, tuple[int, ...]]
    even: tuple[int, ...]
    compared: int

    def members(self, row: int) -> tuple[int, ...]:
        """The rows that show the same pixels as this one, itself among them."""
        return self.groups.get(row, (row,))


def find_duplicates(
    prints: Prints, max_distance: int = MAX_DISTANCE, least_likeness: float = LEAST_LIKENESS
) -> Duplicates:
    """Exact and near duplicates among prints.

    The limits were chosen on 436 published pictures (404 dermoscopic, 32 clinical): within 8 bits alone, 23 pairs of
    different lesions (of 94,709, eight orientations) look alike; with a likeness of 0.95 asked as well, none does, and
    every copy by JPEG q30, half size, 30 % darker or turned is still found.
    """
    rows = np.flatnonzero(prints.read)
    order = rows[np.lexsort((rows, prints.digest[rows, 1], prints.digest[rows, 0]))]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (prints.digest[order[1:]] != prints.digest[order[:-1]]).any(axis=1)
    exact = tuple(tuple(map(int, group)) for group in np.split(order, np.flatnonzero(fresh)[1:]) if len(group) > 1)
    firsts = np.sort(order[fresh])
    clear = firsts[prints.spread[firsts] >= EVEN]
    near = near_pairs(prints.hashes[clear], prints.detail[clear], max_distance, least_likeness)
    near = near._replace(first=clear[near.first], second=clear[near.second])
    return Duplicates(
        exact=tuple(sorted(exact)),
        near=near,
        groups={row: group for group in exact for row in group},
        even=tuple(map(int, rows[prints.spread[rows] < EVEN])),
        compared=len(clear),
    )


def relation(one: Shown, other: Shown) -> str:
    """How two pictures stand to each other, a key of RELATIONS."""
    if one.bench != other.bench:
        return "across-benchmarks"
    a, b = one.case, other.case
    if a is b or identity(a.id) == identity(b.id):
        return "within-case"
    if a.split and b.split and a.split != b.split:
        return "across-splits"
    same_patient = bool(a.patient_id) and identity(a.patient_id) == identity(b.patient_id)
    # Lesions may be numbered anew for each patient.
    same_lesion = bool(a.lesion_id) and identity(a.lesion_id) == identity(b.lesion_id) and (
        same_patient or not (a.patient_id and b.patient_id))  # fmt: skip
    return "between-cases" if same_patient or same_lesion else "between-strangers"


def duplicate_findings(found: Duplicates, shown: Sequence[Shown], benches: Sequence[Benchmark]) -> list[Finding]:
    """One finding per way of being equal and per relation that occurs, the worst relation of each group or pair."""
    n = len(shown)
    told: list[Finding] = []
    exact: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for group in found.exact:
        kind, one, other = _worst(group, group, shown)
        exact[kind].append({"pictures": [place(shown[row], benches) for row in (one, other)], "copies": len(group)})
    near: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for first, second, turn, distance, likeness in near_rows(found.near):
        kind, one, other = _worst(found.members(first), found.members(second), shown)
        near[kind].append({
            "pictures": [place(shown[row], benches) for row in (one, other)],
            "turn": TURNS[turn], "bits": distance, "likeness": round(likeness, 3),
        })  # fmt: skip
    for name, text, by_kind, unit in (
        ("exact", "pictures with the same pixels", exact, "groups"),
        ("near", "near duplicates", near, "pairs"),
    ):
        for kind, (severity, where) in RELATIONS.items():
            if by_kind[kind]:
                at_least = name == "near" and found.near.cut
                told.append(Finding(f"{name}-{kind}", severity, f"{text} {where}", len(by_kind[kind]), unit, n,
                                    "pictures", some(by_kind[kind]), at_least))  # fmt: skip
    if found.even:
        text = f"vary by less than {EVEN:g} grey levels, so they were compared by their pixels only"
        examples = some(place(shown[row], benches) for row in found.even)
        told.append(Finding("even-pictures", "note", text, len(found.even), "pictures", n, "pictures", examples))
    return told


def near_rows(near: NearPairs) -> Iterator[tuple[int, int, int, int, float]]:
    """(first, second, turn, distance, likeness) of each pair, as plain numbers."""
    columns = (near.first, near.second, near.turn, near.distance, near.likeness)
    return zip(*(column.tolist() for column in columns), strict=True)


def _worst(some_rows: Sequence[int], others: Sequence[int], shown: Sequence[Shown]) -> tuple[str, int, int]:
    """The worst relation between a member of one group and one of another (or the same), and the two."""
    best: tuple[int, int, int] | None = None
    ranks = {kind: rank for rank, kind in enumerate(RELATIONS)}
    for one in _telling(some_rows, shown):
        for other in _telling(others, shown):
            if one != other:
                rank = ranks[relation(shown[one], shown[other])]
                if best is None or rank < best[0]:
                    best = (rank, one, other)
                if rank == 0:
                    return next(iter(RELATIONS)), one, other
    rank, one, other = best  # type: ignore[misc]
    return tuple(RELATIONS)[rank], one, other


def _telling(rows: Sequence[int], shown: Sequence[Shown]) -> list[int]:
    """The rows of a group; of a large one (a placeholder, say) the first two of each split of each benchmark."""
    if len(rows) <= 20:
        return list(rows)
    seen: dict[tuple[int, str], list[int]] = defaultdict(list)
    for row in rows:
        held = seen[shown[row].bench, shown[row].case.split]
        if len(held) < 2:
            held.append(row)
    return [row for held in seen.values() for row in held]
