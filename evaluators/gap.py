"""From benchmark to bedside: the same systems on public and on local cases, and how much of the gap is case mix.

gap = public - local, so a positive gap is what is lost on the way. With p and q the shares of a diagnosis group among
public and local cases, and m and l a system's mean in it: gap = mix + within, mix = sum (p - q) m, which would be there
if the system did as well in every group as on public cases (direct standardisation to the local mix), and within =
sum q (m - l), which no case mix explains (Kitagawa 1955; the interaction counts as within).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ..judge.errors import InputError
from ..judge.records import Case, Narrative, NarrativeKey, identity
from .agreement import few_clusters
from .arm_values import narrative_values
from .arms_effect import ArmsEffect, arms_effect
from .diagnosis import score_diagnosis
from .gap_parts import GapGroup, GapRow, Slice, decompose
from .labels import usable_gold
from .narratives import read_narratives
from .terms import Terms, load_terms
from .triage import score_triage

LEAST = 30
GROUPINGS = ("malignancy", "root")
NO_GROUP = "no group"
CONTEXT = ("image_only", "image_context")


@dataclass(frozen=True)
class GapSide:
    """One benchmark: its name, a row of values per narrative (`arm_values`) with the `group` of its case, remarks."""

    name: str
    rows: pl.DataFrame
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gap:
    """Rows per measure, local arm and system (None: the plain mean of the systems), and what they rest on.

    `groups`: per measure and local arm each diagnosis group with its shares and means over all systems; `pooled`: per
    measure and local arm, which groups stand together since a side has fewer than `least` cases of them. `context`:
    what context is worth on the local cases, None where they lack one of the two arms, and a note says so.
    """

    public: str
    local: str
    arm: str
    systems: tuple[str, ...]
    rows: tuple[GapRow, ...]
    groups: tuple[GapGroup, ...]
    pooled: Mapping[tuple[str, str], tuple[str, ...]]
    context: ArmsEffect | None
    least: int
    notes: tuple[str, ...]
    seed: int

    def of(self, measure: str, system: str | None = None, local_arm: str | None = None) -> GapRow:
        """One row (local_arm: default the arm of the public side); KeyError if there is none."""
        for row in self.rows:
            if (row.measure, row.system, row.local_arm) == (measure, system, local_arm or self.arm):
                return row
        raise KeyError((measure, system, local_arm or self.arm))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "public": self.public, "local": self.local, "arm": self.arm, "systems": list(self.systems),
            "rows": [row.to_dict() for row in self.rows], "groups": [vars(group) for group in self.groups],
            "pooled_groups": [
                {"measure": measure, "local_arm": arm, "groups": list(names)}
                for (measure, arm), names in self.pooled.items()
            ],
            "context": self.context.to_dict() if self.context else None, "least": self.least,
            "notes": list(self.notes), "seed": self.seed,
        }  # fmt: skip


def gap_side(
    name: str,
    cases: Iterable[Case],
    narratives: Iterable[Narrative],
    k: Sequence[int] = (1, 3),
    cut: str = "urgent",
    by: str = "malignancy",
    overall: Mapping[NarrativeKey, float] | None = None,
    terms: Terms | None = None,
) -> GapSide:
    """One side of a gap: differentials and triage calls scored, and each case put into its diagnosis group.

    by: "malignancy" (benign, malignant, infectious ... of the term list) or "root" (the top of its tree). A case whose
    gold diagnoses lie in several groups is "mixed", one without a usable gold "no group". overall: a score per
    narrative key. InputError for an unknown grouping, and what `score_diagnosis` and `score_triage` raise.
    """
    if by not in GROUPINGS:
        raise InputError(f"no grouping '{by}'; there are {', '.join(GROUPINGS)}")
    terms = terms or load_terms()
    cases, narratives = list(cases), list(narratives)
    parsed = read_narratives(narratives, terms)
    found = score_diagnosis(cases, narratives, k=k, resamples=64, parsed=parsed)
    calls = score_triage(cases, narratives, cut=cut, resamples=64, parsed=parsed)
    groups = {identity(case.id): _group(case, by, terms) for case in cases}
    rows = narrative_values(found, calls, overall)
    where = [groups[identity(case_id)] for case_id in rows["case_id"]]
    notes = [f"{name}: {note}" for note in calls.notes[1:2] if "derived" in note]
    if found.unusable_gold:
        notes.append(f"{name}: {len(found.unusable_gold)} gold diagnoses cannot be used; see `evaluate`")
    return GapSide(name, rows.drop("triage_correct").with_columns(pl.Series("group", where)), tuple(notes))


def gap(
    public: GapSide,
    local: GapSide,
    arm: str | None = None,
    least: int = LEAST,
    seed: int = 0,
    resamples: int = 2000,
) -> Gap:
    """The benchmark-to-bedside table of the systems that both sides have.

    arm: the arm compared; default the one that both have (image_only first). Local narratives of image_context are held
    against the same public arm too. Each side's patients are redrawn by themselves. least: a diagnosis group with fewer
    cases on either side is pooled with others. InputError where no system or arm is common, or a measure differs.
    """
    systems = tuple(sorted(set(public.rows["system"]) & set(local.rows["system"])))
    if not systems:
        raise InputError(f"{public.name} and {local.name} have no system in common: {_listed(public, 'system')} there, "
                         f"{_listed(local, 'system')} here")  # fmt: skip
    names = [name for name in public.rows.columns if name in local.rows.columns and _is_measure(public.rows, name)]
    arm = arm or _common_arm(public, local)
    if wrong := [side.name for side in (public, local) if arm not in set(side.rows["arm"])]:
        raise InputError(f"{wrong[0]} has no narrative of the arm '{arm}'")
    here = set(local.rows["arm"])
    arms = [arm, *(a for a in (CONTEXT[1],) if a in here and a != arm)]
    notes = [*public.notes, *local.notes]
    for side in (public, local):
        if alone := sorted(set(side.rows["system"]) - set(systems)):
            notes.append(f"only {side.name} has {', '.join(alone)}: left out")
        notes += [f"{side.name}: {note}" for note in few_clusters(side.rows["cluster"].n_unique())]
    rows: list[GapRow] = []
    groups: list[GapGroup] = []
    pooled: dict[tuple[str, str], tuple[str, ...]] = {}
    theirs = public.rows.filter(pl.col("system").is_in(systems) & (pl.col("arm") == arm))
    for local_arm in arms:
        ours = local.rows.filter(pl.col("system").is_in(systems) & (pl.col("arm") == local_arm))
        common = [s for s in systems if s in set(ours["system"]) and s in set(theirs["system"])]
        if absent := sorted(set(systems) - set(common)):
            notes.append(
                f"{', '.join(absent)} not compared under {local_arm}: without narratives of that arm on a side"
            )
        for measure in names if common else ():
            sides = (Slice.of(theirs, measure, common), Slice.of(ours, measure, common))
            found = decompose(*sides, measure, local_arm, least, seed, resamples)
            rows += found.rows
            groups += found.groups
            pooled[measure, local_arm] = found.pooled
    if not rows:
        raise InputError(f"no system has narratives of the arm '{arm}' on both sides")
    context, why = _context(local, systems, seed, resamples)
    return Gap(public.name, local.name, arm, systems, tuple(rows), tuple(groups), pooled, context, least,
               (*notes, *why), seed)  # fmt: skip


def _context(local: GapSide, systems: Sequence[str], seed: int, resamples: int) -> tuple[ArmsEffect | None, list[str]]:
    base, arm = CONTEXT
    own = local.rows.filter(pl.col("system").is_in(systems)).drop("group")
    if missing := [name for name in CONTEXT if name not in set(own["arm"])]:
        return None, [f"{local.name} has no narratives of {' and '.join(missing)}, so what context is worth is unknown"]
    try:
        return arms_effect(own, base, [arm], seed, resamples), []
    except InputError as error:
        return None, [f"what context is worth is unknown: {error}"]


def _common_arm(public: GapSide, local: GapSide) -> str:
    common = sorted(set(public.rows["arm"]) & set(local.rows["arm"]))
    if CONTEXT[0] in common or len(common) == 1:
        return CONTEXT[0] if CONTEXT[0] in common else common[0]
    if not common:
        raise InputError(f"no arm in common: {_listed(public, 'arm')} in {public.name}, {_listed(local, 'arm')} in "
                         f"{local.name}")  # fmt: skip
    raise InputError(f"several arms in common, {', '.join(common)}: name one")


def _listed(side: GapSide, column: str) -> str:
    return ", ".join(side.rows[column].unique().sort())


def _is_measure(rows: pl.DataFrame, name: str) -> bool:
    return rows.schema[name] == pl.Float64


def _group(case: Case, by: str, terms: Terms) -> str:
    names, _ = usable_gold(case, terms)
    known = [terms.conditions[name] for name in names]
    found = {c.malignancy if by == "malignancy" else c.ancestors[-1] if c.ancestors else c.name for c in known} - {""}
    return "mixed" if len(found) > 1 else next(iter(found), NO_GROUP)
