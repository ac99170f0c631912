"""Narratives for a benchmark that has none: its references or its metadata in words, and copies with one fault planted.

They let any judge be tried on real input. No model wrote them: each says so in `provenance["made_by"]`. What a fault
costs no expert has rated, and no clinician has accepted the edits one by one.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..evaluators.labels import usable_gold
from ..evaluators.terms import Terms, load_terms
from ..judge.errors import InputError
from ..judge.records import Candidate, Case, Narrative, strip_reasoning
from .fault_edits import (
    NO_OTHER,
    Edit,
    article,
    confusers,
    laterality,
    negation,
    omission,
    unsafe_advice,
    wrong_diagnosis,
)
from .fault_phrases import (
    DIAGNOSIS,
    DIFFERENTIAL,
    FOLLOW_UP,
    OPENING,
    OPENING_UNSEEN,
    SITE_WORDS,
    SITES,
    TRIAGE,
    UNSAFE,
)
from .naming import naming_shares, reasoning

MADE_BY = "dermjudge planted faults"
FAULTS = {
    "reference": ("wrong-diagnosis", "unsafe-advice", "omission", "negation", "laterality"),
    "metadata": ("wrong-diagnosis", "wrong-site", "unsafe-advice"),
}
_FACTS = {
    "modality": ("modality",),
    "site": ("site", "body_site", "localization", "region", "anatom_site_general"),
    "age": ("age", "age_approx"),
    "sex": ("sex", "gender"),
}
_UNKNOWN = {"", "unknown", "unk", "none", "nan", "n/a", "-1"}
_NOT_LISTED = "the label is not in the term list"


def planted_narratives(
    cases: Iterable[Case],
    source: Literal["reference", "metadata"] = "reference",
    terms: Terms | None = None,
    seed: int = 0,
) -> list[Narrative]:
    """Narratives from what the cases hold, each followed by copies that differ from it by one planted fault.

    source "reference": the reference text unchanged (system "reference") and copies of the part of it that a judge
    reads ("reference+omission" ...; FAULTS lists them). source "metadata": a short narrative of the case's modality,
    body site, age, sex and diagnosis (system "metadata") and its copies; a wrong diagnosis leaves the triage call as it
    was, since a copy has one fault. Cases that do not hold what the source needs have none. What is drawn depends on
    `seed` and the case's id, not on the other cases.

    `provenance` of each: made_by, source, fault ("none": the original), seed; of a copy: `change` (what was done, in
    numbers of characters); of an original: `left_out` (fault -> why there is no such copy) and, for a reference,
    `reasoning` (what a judge does not see of it). Arm "text_only" for a case without images. InputError if no case
    holds what the source needs.
    """
    if source not in FAULTS:
        raise InputError(f"source '{source}' is not known; it is one of {', '.join(FAULTS)}")
    if seed < 0:
        raise InputError(f"seed must be 0 or more, not {seed}")
    cases, terms = list(cases), terms or load_terms()
    made: list[Narrative] = []
    for case in cases:
        if source == "reference" and case.reference.strip():
            made += _from_reference(case, terms, seed)
        elif source == "metadata" and any(name.strip() for name in case.diagnosis):
            made += _from_metadata(case, terms, seed)
    if not made:
        need = "a reference text" if source == "reference" else "a diagnosis"
        raise InputError(f"none of the {len(cases)} cases holds {need}, which source '{source}' needs")
    return made


def _from_reference(case: Case, terms: Terms, seed: int) -> list[Narrative]:
    text = strip_reasoning(case.reference)
    gold = usable_gold(case, terms)[0]
    malignancy = terms.conditions[gold[0]].malignancy if gold else ""
    left_out: dict[str, str] = {}
    copies: list[Narrative] = []
    for fault in FAULTS["reference"]:
        rng = _rng(case, seed, fault)
        edit: Edit | str
        if not text:
            edit = "nothing of the reference stands outside its reasoning blocks"
        elif fault == "wrong-diagnosis":
            edit = wrong_diagnosis(text, gold, terms, rng)
        elif fault == "unsafe-advice":
            edit = unsafe_advice(text, malignancy, terms, rng)
        elif fault == "negation":
            edit = negation(text, terms, rng)
        else:
            edit = omission(text) if fault == "omission" else laterality(text)
        if isinstance(edit, str):
            left_out[fault] = edit
            continue
        change = edit.said | {
            "edits": len(edit.pieces),
            "chars_before": len(text),
            "chars_removed": sum(end - start for start, end, _ in edit.pieces),
            "chars_added": sum(len(new) for _, _, new in edit.pieces),
        }
        copies.append(_narrative(case, "reference", fault, edit.text, seed, {"change": change}))
    said = {"reasoning": reasoning(case.reference), "left_out": left_out}
    return [_narrative(case, "reference", "none", case.reference, seed, said), *copies]


def _from_metadata(case: Case, terms: Terms, seed: int) -> list[Narrative]:
    """Copies share every draw with the original, so that they differ from it by their fault alone."""
    gold = usable_gold(case, terms)[0]
    facts = {name: _fact(case, name, keys) for name, keys in _FACTS.items()}
    site = facts["site"]
    label = gold[0] if gold else next(name.strip() for name in case.diagnosis if name.strip())
    near = confusers(terms, gold, set(), _rng(case, seed, "confusers"))[:3] if gold else []
    triage, malignancy = (terms.conditions[label].urgency, terms.conditions[label].malignancy) if gold else ("", "")
    region = next((region for region, sites in SITES.items() if site.lower() in sites), "")
    elsewhere = [sites[0] for other, sites in SITES.items() if other != region]
    image = f"{facts['modality'].replace(':', '')} image".strip() if case.images or facts["modality"] else ""
    unsafe = _pick(UNSAFE.get(malignancy, UNSAFE["other"]), _rng(case, seed, "unsafe"))
    changes: dict[str, dict[str, str] | str] = {
        "none": {},
        "wrong-diagnosis": {"label": near[2]} if len(near) > 2 else NO_OTHER if gold else _NOT_LISTED,
        "wrong-site": f"the site '{site}' is not known" if site else "no site is given",
        "unsafe-advice": {"advice": unsafe},
    }
    if region:
        changes["wrong-site"] = {"site": _pick(elsewhere, _rng(case, seed, "site"))}
    left_out = {fault: change for fault, change in changes.items() if isinstance(change, str)}
    if not gold:
        left_out |= {"differential": _NOT_LISTED, "triage": _NOT_LISTED}
    made = []
    for fault, change in changes.items():
        if isinstance(change, str):
            continue
        told = {"label": label, "advice": "", "image": image, **facts, **change}
        names = [told["label"], *near[:2]]
        said: dict[str, Any] = {"change": {**change, "how": "another one written"}}
        if fault == "none":
            said = {"told": [name for name, value in facts.items() if value], "left_out": left_out}
        text = _write(told, names, triage, _rng(case, seed, "words"))
        differential = tuple(Candidate(name) for name in names) if gold else ()
        made.append(_narrative(case, "metadata", fault, text, seed, said, differential, triage))
    return made


def _write(told: Mapping[str, str], names: list[str], triage: str, rng: np.random.Generator) -> str:
    openings = OPENING if told["image"] else OPENING_UNSEEN
    opening, diagnosis, listed, call = (_pick(options, rng) for options in (openings, DIAGNOSIS, DIFFERENTIAL, TRIAGE))
    advice = _pick(FOLLOW_UP[triage], rng)
    age = re.sub(r"^(\d+)(?:\.0+)?$", r"\1-year-old", told["age"])
    person = " ".join(part for part in (age, told["sex"].lower(), "patient") if part)
    site = told["site"].lower()
    first = opening.format(
        image=f"{article(told['image'])} {told['image']}" if told["image"] else "",
        where=f" on the {SITE_WORDS.get(site, site)}" if site else "",
        person=f"{article(person)} {person}",
    )
    lines = [f"{first[0].upper()}{first[1:]} {diagnosis.format(told['label'])}"]
    if len(names) > 1:
        lines += [listed, *(f"{rank}. {name}" for rank, name in enumerate(names, 1))]
    lines.append(" ".join(part for part in (call.format(triage) if triage else "", told["advice"] or advice) if part))
    return "\n".join(lines)


def _fact(case: Case, name: str, keys: Sequence[str]) -> str:
    """What the case says of this, as written; "" where it says nothing or that it is not known."""
    image = case.images[0] if case.images else None
    first = {"modality": image.modality, "site": image.body_site}.get(name, "") if image else ""
    values = [str(value).strip() for value in (first, *(case.tags.get(key) for key in keys)) if value is not None]
    return next((value for value in values if value.lower() not in _UNKNOWN), "")


def _narrative(
    case: Case,
    source: str,
    fault: str,
    text: str,
    seed: int,
    said: Mapping[str, Any],
    differential: tuple[Candidate, ...] = (),
    triage: str = "",
) -> Narrative:
    return Narrative(
        case_id=case.id,
        system=source if fault == "none" else f"{source}+{fault}",
        text=text,
        arm=("image_only" if source == "reference" else "image_context") if case.images else "text_only",
        differential=differential,
        triage=triage,
        provenance={"made_by": MADE_BY, "source": source, "fault": fault, "seed": seed, **said},
    )


def _rng(case: Case, seed: int, what: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(f"{case.id}|{what}".encode("utf-8", "surrogatepass"))])


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


__all__ = ["FAULTS", "MADE_BY", "naming_shares", "planted_narratives"]
