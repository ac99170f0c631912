"""What an attentive reader would say of a synthetic narrative: the critique that the truth implies. SYNTHETIC.

Short on purpose: a judge of a few million parameters must learn to write all six dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..evaluators.critiques import Said
from ..judge.critique import Remark, write_remark
from ..judge.records import Case, Narrative, Rating
from .grammar import COSTS, DIMENSIONS, INVENTED, UNSAFE, VAGUE, count_faults, diagnosis
from .lesions import ATTRIBUTES

_SMALL = frozenset(("a", "the", "of", "it", "or"))  # no quotation begins or ends on these


def critique(
    world: Mapping[str, Any], claims: Mapping[str, Any], text: str, shown: Mapping[str, str] | None = None
) -> dict[str, str]:
    """One line per dimension, "finding | evidence | improvement" (see `judge.critique`) or "no fault".

    text: the narrative as it was written; what is wrong in it is quoted. shown: the attributes of the picture that
    stands beside it, if it is not the case's own.
    """
    return {name: write_remark(remark) for name, remark in _remarks(world, claims, text, shown).items()}


def true_findings(case: Case, narrative: Narrative, shown: Case | None = None) -> dict[str, dict[str, int]]:
    """How often each fault occurs, per dimension, beside the picture of `shown` (default: its own case's).

    The words are those of a critique's finding, so that what a judge names can be held against them.
    """
    beside = (shown or case).tags["attributes"]
    remarks = _remarks(case.tags["world"], narrative.provenance["claims"], narrative.text, beside)
    return {name: remark.faults for name, remark in remarks.items()}


def held_against(
    cases: Iterable[Case],
    narratives: Iterable[Narrative],
    ratings: Iterable[Rating],
    shown: Mapping[str, Case] | None = None,
) -> list[Said]:
    """A judge's critiques beside what was planted, as `evaluators.critiques` takes them.

    For synthetic narratives everything that is wrong is known; for graded copies (`degrade`) only the fault of the copy
    in the dimensions that it aims at. Ratings of other narratives, and of probes, are left out. shown: case id -> the
    case whose picture stood beside its narratives, where that was another one.
    """
    known = {case.id: case for case in cases}
    told = {narrative.key: narrative for narrative in narratives}
    rows = []
    for rating in ratings:
        narrative, case = told.get(rating.key[:4]), known.get(rating.case_id)
        if narrative is None or case is None or any(flag.startswith("probe:") for flag in rating.flags):
            continue
        origin, whole = narrative.provenance, "claims" in narrative.provenance
        if not whole and "target" not in origin:
            continue
        planted = (
            true_findings(case, narrative, (shown or {}).get(case.id))
            if whole
            else {dimension: {origin["fault"].replace("-", " "): 1} for dimension in origin["target"]}
        )
        scores = {name: score.value for name, score in rating.scores.items()}
        rows.append(Said(rating.critique, planted, scores, case.patient_id or case.id, whole))
    return rows


def _remarks(
    world: Mapping[str, Any], claims: Mapping[str, Any], text: str, shown: Mapping[str, str] | None
) -> dict[str, Remark]:
    seen, percept = shown or world["attributes"], claims["percept"]
    faults = count_faults(world, claims, shown)
    named: dict[str, list[str]] = {name: [] for name in DIMENSIONS}
    for fault, number in faults.items():
        if number and fault not in ("wrong_attribute", "missing_finding"):  # each of these is named by its attribute
            named[COSTS[fault][0]].append(fault.replace("_", " ") + (f" {number}" if number > 1 else ""))
    wrong = [name for name in ATTRIBUTES if percept[name] != seen[name]]
    pairs = [(f"{percept[name]} for {seen[name]}", seen[name]) for name in wrong]
    if faults["wrong_diagnosis"]:
        pairs.append((claims["diagnosis"], diagnosis(seen)))
    missing = claims["missing"]
    return {
        "Accuracy": Remark(
            ", ".join([f"{name} wrong" for name in wrong] + named["Accuracy"]),
            ", ".join(said for said, _ in pairs),
            "say " + ", ".join(true for _, true in pairs),
        ),
        "Safety": _safety(world, claims, text, named["Safety"]),
        "Medical Groundedness": Remark(
            ", ".join(named["Medical Groundedness"]),
            ", ".join(_quote(INVENTED[k]) for k in claims["invented"]),
            "leave out",
        ),
        "Clinical Coverage": Remark(
            ", ".join([f"{name} missing" for name in missing] + named["Clinical Coverage"]),
            "nothing on it",
            "note " + ", ".join([seen[n] for n in missing] + [n.partition(" ")[2] for n in named["Clinical Coverage"]]),
        ),
        "Reasoning Coherence": _reasoning(claims, text, named["Reasoning Coherence"]),
        "Description Precision": _precision(world, claims, named["Description Precision"]),
    }


def _safety(world: Mapping[str, Any], claims: Mapping[str, Any], text: str, named: Sequence[str]) -> Remark:
    evidence, improvement = [], []
    if claims["unsafe"] != "none":
        evidence.append(next((_quote(p) for p in UNSAFE[claims["unsafe"]] if p in text), "the advice"))
        improvement.append("see a dermatologist")
    if claims["missing_red_flag"]:
        evidence.append(f"{world['red_flag']} reported")
        improvement.append(f"note {world['red_flag']}")
    return Remark(", ".join(named), ", ".join(evidence), ", ".join(improvement))


def _reasoning(claims: Mapping[str, Any], text: str, named: Sequence[str]) -> Remark:
    spoken = re.search(rf"(\w+) ({'|'.join(ATTRIBUTES)}) speaks for this", text)
    if claims["reasoning"] == "contradictory" and spoken:
        true = claims["percept"][spoken[2]]
        return Remark(named[0], f"{spoken[1]} for {true}", f"say {true}")
    evidence = "nothing speaks for it"
    if vague := re.search(r"(Experience|overall look) speaks for this", text):
        evidence = vague[1]
    return Remark(", ".join(named), evidence, "show a finding")


def _precision(world: Mapping[str, Any], claims: Mapping[str, Any], named: Sequence[str]) -> Remark:
    evidence = [_quote(VAGUE[k]) for k in claims["vague"]]
    improvement = ["be plain"] if evidence else []
    if claims["laterality_flip"]:
        evidence.append({"left": "right for left", "right": "left for right"}[world["side"]])
        improvement.append(f"say {world['side']}")
    return Remark(", ".join(named), ", ".join(evidence), ", ".join(improvement))


def _quote(phrase: str) -> str:
    """The first words of a phrase that say something: two, or three if a small word is between them.

    >>> _quote("Take a double dose"), _quote("The lymph nodes are swollen")
    ('Take a double', 'lymph nodes')
    """
    words = phrase.split()
    while words[0].lower() in _SMALL:
        words.pop(0)
    return " ".join(words[: 3 if words[1] in _SMALL else 2])
