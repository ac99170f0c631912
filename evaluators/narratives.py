"""Narratives beside their cases, by system and arm; what the scorers of diagnosis and triage share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..judge.errors import InputError
from ..judge.records import Case, Narrative, NarrativeKey, identity
from .differential import Differential, given_differential, parse_differential
from .terms import Terms, load_terms


@dataclass(frozen=True)
class Pairs:
    """Cases by identity, and per (system, arm) the pairs of a narrative and its case, in the order given."""

    cases: dict[str, Case]
    groups: dict[tuple[str, str], list[tuple[Narrative, Case]]]


@dataclass(frozen=True)
class ReadNarratives:
    """What `read_narratives` read, with the term list it read by; shared by the scorers of diagnosis and triage."""

    terms: Terms
    found: Mapping[NarrativeKey, Differential]

    def of(self, narrative: Narrative) -> Differential:
        """The differential of a narrative; InputError if it was not among those read."""
        found = self.found.get(_key(narrative))
        if found is None:
            raise InputError(f"narrative {narrative.key} is not among those that were read")
        return found


def read_narratives(narratives: Iterable[Narrative], terms: Terms | None = None) -> ReadNarratives:
    """Read the differentials of narratives once, for scorers that would each read them: `parsed=` takes the result."""
    terms = terms or load_terms()
    return ReadNarratives(terms, {_key(narrative): read_narrative(narrative, terms) for narrative in narratives})


def known_terms(terms: Terms | None, parsed: ReadNarratives | None) -> Terms:
    """The term list to score with; InputError if narratives were read by another one than is given."""
    if parsed is None:
        return terms or load_terms()
    if terms is not None and terms is not parsed.terms:
        raise InputError("the narratives were read by another term list: give the same one, or none")
    return parsed.terms


def _key(narrative: Narrative) -> NarrativeKey:
    return (identity(narrative.case_id), *narrative.key[1:])


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
        key = _key(narrative)
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
