"""Narratives beside their cases, by system and arm; what the scorers of diagnosis and triage share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..judge.errors import InputError
from ..judge.records import Case, Narrative, NarrativeKey, identity
from .differential import Differential, given_differential, parse_differential
from .terms import Terms


@dataclass(frozen=True)
class Pairs:
    """Cases by identity, and per (system, arm) the pairs of a narrative and its case, in the order given."""

    cases: dict[str, Case]
    groups: dict[tuple[str, str], list[tuple[Narrative, Case]]]


def pair(cases: Iterable[Case], narratives: Iterable[Narrative]) -> Pairs:
    """Put each narrative beside its case; InputError for a case or narrative that stands twice or has no case."""
    known: dict[str, Case] = {}
    for case in cases:
        if known.setdefault(identity(case.id), case) is not case:
            raise InputError(f"case '{case.id}' stands twice; ids are equal if they differ in case or blanks only")
    groups: dict[tuple[str, str], list[tuple[Narrative, Case]]] = {}
    seen: set[NarrativeKey] = set()
    strangers: list[str] = []
    for narrative in narratives:
        own = known.get(identity(narrative.case_id))
        if own is None:
            strangers.append(narrative.case_id)
            continue
        key = (identity(narrative.case_id), *narrative.key[1:])
        if key in seen:
            raise InputError(f"narrative {narrative.key} stands twice")
        seen.add(key)
        groups.setdefault((narrative.system, narrative.arm), []).append((narrative, own))
    if strangers:
        some = ", ".join(sorted(set(strangers))[:5])
        raise InputError(f"{len(strangers)} narratives are of a case that is not there, such as {some}")
    if not groups:
        raise InputError("no narrative to score")
    return Pairs(known, groups)


def cluster(case: Case) -> str:
    """What is redrawn as one: the patient, or the case where no patient is known.

    >>> cluster(Case("c1", patient_id="p1")), cluster(Case("c1"))
    ('patient p1', 'case c1')
    """
    return f"patient {identity(case.patient_id)}" if case.patient_id else f"case {identity(case.id)}"


def read_narrative(narrative: Narrative, terms: Terms) -> Differential:
    """The differential that the record holds, else the one its text states; a filtered or refused call abstains."""
    if narrative.differential:
        return given_differential(narrative.differential, terms)
    found = parse_differential(narrative.text, terms)
    if narrative.finish_reason in ("refusal", "content_filter") and not found.items:
        return Differential(found.items, True, f"the call ended in {narrative.finish_reason}")
    return found
