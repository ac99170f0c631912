"""Who and what a benchmark shows: skin tone by diagnosis by site, and the cells that are missing.

A cell is measured against its margins: where tone and diagnosis had nothing to do with each other, it would hold
n * share(tone) * share(diagnosis) cases. A tone that is rare altogether has no such gap, so tones are also named by
themselves. Fitzpatrick types and bands are never put in one column: with a band anywhere, all stand in bands.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ..evaluators.case_attributes import SKIN_BANDS, SKIN_TYPES, case_attributes
from ..evaluators.labels import usable_gold
from ..evaluators.narratives import cluster
from ..evaluators.terms import Terms
from ..judge.escape import visible
from ..judge.records import Case
from .finding import Finding, some

FEW = 5  # cases: a cell with fewer is a gap if its margins let expect as many
CLAIM = 30  # cases: a group with fewer is shown, but nothing is claimed of it
UNKNOWN = "unknown"
_TONES, _OTHERS = ("fitzpatrick", "monk"), ("site", "diagnosis_group")


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of groups: cases and patients in it, and the cases that its margins let expect."""

    groups: Mapping[str, str]
    cases: int
    patients: int
    expected: float

    @property
    def is_gap(self) -> bool:
        return self.cases < FEW <= self.expected

    def to_dict(self) -> dict[str, Any]:
        shown = {axis: visible(group) for axis, group in self.groups.items()}
        return shown | {"cases": self.cases, "patients": self.patients, "expected": round(self.expected, 1)}


@dataclass(frozen=True)
class Representation:
    """`margins`: per axis group -> cases, "unknown" among them; `cells`: every crossing of known groups, in order;
    `n`: cases; `known`: cases of which every axis of a crossing is known, by the name of the crossing."""

    n: int
    margins: Mapping[str, Mapping[str, int]]
    cells: Mapping[str, tuple[Cell, ...]]
    known: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "margins": {
                axis: {visible(group): count for group, count in held.items()} for axis, held in self.margins.items()
            },
            "cells": {name: [cell.to_dict() for cell in cells if cell.cases or cell.is_gap] for name, cells in
                      self.cells.items()},
            "known": dict(self.known),
        }  # fmt: skip


def representation(cases: Sequence[Case], terms: Terms) -> Representation:
    """Count the cases of one benchmark by skin tone, diagnosis, diagnosis group and site, and cross them.

    Tone: Fitzpatrick types, or bands where any case has only a band; each Monk tag an axis of its own. Crossings: each
    tone axis by diagnosis (those with CLAIM cases or more), and by diagnosis group by site; without any tone, diagnosis
    group by site. A case without a known group is in no cell; one with several gold diagnoses counts under each.
    """
    axes = _axes(cases, terms)
    margins = {
        axis: dict(Counter(group for case in cases for group in groups.get(case.id, (UNKNOWN,))).most_common())
        for axis, groups in axes.items()
    }
    tones = [axis for axis in axes if axis.startswith(_TONES)]
    crossings = [crossing for tone in tones for crossing in ((tone, "diagnosis"), (tone, "diagnosis_group", "site"))]
    patients = {case.id: cluster(case) for case in cases}
    cells, known = {}, {}
    for crossing in crossings or [("diagnosis_group", "site")]:
        if all(axis in axes for axis in crossing):
            name = " x ".join(crossing)
            cells[name], known[name] = _cells(crossing, axes, patients)
    return Representation(len(cases), margins, cells, known)


def _axes(cases: Sequence[Case], terms: Terms) -> dict[str, dict[str, tuple[str, ...]]]:
    """axis -> case -> its groups (several for a case with several gold diagnoses)."""
    found = case_attributes(cases)
    if "fitzpatrick_band" in found:  # types and bands in one table would count the same skin twice
        found.pop("fitzpatrick", None)
    if monk := sorted({tag for case in cases for tag in case.tags if tag.startswith("monk")}):
        found |= case_attributes(cases, monk)
    # Sets without pictures have the site among their tags only.
    tagged = {
        case.id: site.strip().lower() for case in cases if isinstance(site := case.tags.get("site"), str) and site
    }
    if site := tagged | found.get("site", {}):
        found["site"] = site
    kept = {axis: groups for axis, groups in found.items() if axis.startswith(_TONES) or axis in _OTHERS}
    diagnoses = {case.id: names for case in cases if (names := usable_gold(case, terms)[0])}
    axes: dict[str, dict[str, tuple[str, ...]]] = {
        axis: {case: (group,) for case, group in groups.items()} for axis, groups in kept.items()
    }
    return axes | ({"diagnosis": diagnoses} if diagnoses else {})


def _cells(
    crossing: Sequence[str], axes: Mapping[str, Mapping[str, tuple[str, ...]]], patients: Mapping[str, str]
) -> tuple[tuple[Cell, ...], int]:
    held: dict[tuple[str, ...], list[str]] = defaultdict(list)
    margin: list[Counter[str]] = [Counter() for _ in crossing]
    known = 0
    for case in axes[crossing[0]]:
        if not all(case in axes[axis] for axis in crossing):
            continue
        known += 1
        for place, axis in enumerate(crossing):
            margin[place].update(axes[axis][case])
        for groups in product(*(axes[axis][case] for axis in crossing)):
            held[groups].append(case)
    if not known:
        return (), 0
    levels = []
    for place, axis in enumerate(crossing):
        names = [name for name, count in margin[place].items() if axis != "diagnosis" or count >= CLAIM]
        levels.append(sorted(names, key=lambda name, place=place: (-margin[place][name], name)))  # type: ignore[misc]
    cells = []
    for groups in product(*levels):
        expected = float(known)
        for place, group in enumerate(groups):
            expected *= margin[place][group] / known
        inside = held.get(groups, [])
        cells.append(
            Cell(dict(zip(crossing, groups, strict=True)), len(inside), len({patients[c] for c in inside}), expected)
        )
    return tuple(cells), known


def representation_findings(found: Representation) -> list[Finding]:
    """Tones that are missing or rare, cells that are missing against their margins, and what is not known at all."""
    told: list[Finding] = []
    for axis, margin in ({"diagnosis": {UNKNOWN: found.n}, "site": {UNKNOWN: found.n}} | dict(found.margins)).items():
        if unknown := margin.get(UNKNOWN, 0):
            told.append(Finding(f"unknown-{axis}", "note", f"{axis} is not known", unknown, "cases", found.n, "cases"))
        levels = SKIN_BANDS if axis == "fitzpatrick_band" else SKIN_TYPES if axis == "fitzpatrick" else ()
        few = [{axis: level, "cases": margin.get(level, 0)} for level in levels if margin.get(level, 0) < CLAIM]
        if few:
            text = f"groups of {axis} with fewer than {CLAIM} cases: nothing can be claimed of them"
            told.append(Finding(f"rare-{axis}", "warning", text, len(few), "groups", len(levels), "groups", some(few)))
    if not any(axis.startswith(_TONES) for axis in found.margins):
        told.append(Finding("no-skin-tone", "warning", "no skin tone is known of any case", found.n, "cases", found.n,
                            "cases"))  # fmt: skip
    for name, cells in found.cells.items():
        gaps = sorted((cell for cell in cells if cell.is_gap), key=lambda cell: cell.cases - cell.expected)
        if gaps:
            text = f"cells of {name} with fewer than {FEW} cases where the margins let expect {FEW} or more"
            told.append(Finding(f"gap-{name.replace(' ', '')}", "warning", text, len(gaps), "cells", len(cells),
                                "cells", some(cell.to_dict() for cell in gaps)))  # fmt: skip
    return told
