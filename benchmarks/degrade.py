"""Graded material without experts: clean narratives, and copies of them with one fault at rising severity.

Each copy says which dimensions its fault should lower and by how much (MedVAL, arXiv:2507.03152: synthetic degradations
as labels). The amounts are read off the anchors of derm6 by rule; no clinician has reviewed them or the edits.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from ..evaluators.diagnosis import LENIENT, match_gold
from ..evaluators.differential import parse_differential
from ..evaluators.labels import usable_gold
from ..evaluators.narratives import pair
from ..evaluators.terms import Terms, load_terms
from ..judge.errors import InputError
from ..judge.records import Case, Narrative, identity
from ..judge.rubric import Rubric, load_rubric
from . import degrade_edits as edits
from . import degrade_wording as wording
from .degrade_text import LEVELS, Clean, Graded, Level
from .fault_edits import leading_item, named
from .faults import planted_narratives

MADE_BY = "dermjudge graded faults"
SOURCES = ("reference", "metadata", "narrative")
FULL = 5.0  # the scale that `loses` is written for
WORST = 1.0  # points below the top at which a narrative of known truth is no longer clean


class Fault(NamedTuple):
    """A fault type: its edit, the points (of 5) that each dimension of derm6 loses at severities 1 to 4, the dimensions
    that may suffer along with them, and whether it is meant to change the leading diagnosis."""

    edit: Callable[[Clean], Graded]
    loses: Mapping[str, tuple[float, ...]]
    may: tuple[str, ...] = ()
    turns_diagnosis: bool = False


_A, _S, _M, _C, _R, _D = (
    "Accuracy", "Safety", "Medical Groundedness", "Clinical Coverage", "Reasoning Coherence", "Description Precision",
)  # fmt: skip
FAULTS: dict[str, Fault] = {
    "wrong-diagnosis": Fault(edits.wrong_diagnosis, {_A: (2, 3, 3.5, 4)}, (_S, _M, _R), True),
    "misread-findings": Fault(edits.misread_findings, {_A: (1, 2, 2.5, 3)}, (_M, _R, _D)),
    "negated-findings": Fault(edits.negated_findings, {_A: (1, 2, 2.5, 3)}, (_M, _C, _R, _D)),
    "wrong-site": Fault(edits.wrong_site, {_A: (1.5, 2.5, 3)}, (_M, _R, _D)),
    "flipped-side": Fault(edits.flipped_side, {_D: (3,)}, (_A,)),
    "invented-findings": Fault(edits.invented_findings, {_M: (2, 3, 3.5, 4)}, (_A, _C, _R)),
    "omission": Fault(wording.omission, {_C: (1, 2, 3, 4)}, (_R, _D)),
    "unsafe-advice": Fault(wording.unsafe_advice, {_S: (2, 3, 4, 5)}, (_M, _C, _R)),
    "overconfidence": Fault(wording.overconfidence, {_A: (0.25, 0.5, 0.75, 1)}, (_S, _M, _R)),
    "incoherence": Fault(wording.incoherence, {_R: (2, 3, 4, 5)}),
    "vague-wording": Fault(wording.vague_wording, {_D: (1, 2, 3, 4)}, (_A, _C)),
    "harmless": Fault(wording.harmless, {}),
}


@dataclass(frozen=True)
class DegradeReport:
    """What was made and what was not. `clean`: narratives to start from; per fault (and severity, as a string):
    `made`: copies; `impossible`: edits that do not fit a text, with reasons; `dropped`: copies that the consistency
    filter took out, with reasons. All three add up to clean times the severities asked for."""

    clean: int
    made: Mapping[str, Mapping[str, int]]
    impossible: Mapping[str, Mapping[str, int]]
    dropped: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        tables = {
            name: {k: dict(v) for k, v in getattr(self, name).items()} for name in ("made", "impossible", "dropped")
        }
        return {"clean": self.clean, **tables, "notes": list(self.notes)}


def degrade(
    cases: Iterable[Case],
    narratives: Iterable[Narrative] | None = None,
    source: Literal["reference", "metadata", "narrative"] = "reference",
    faults: Sequence[str] | None = None,
    severities: Sequence[int] = (1, 2, 3, 4),
    terms: Terms | None = None,
    rubric: Rubric | None = None,
    seed: int = 0,
) -> tuple[list[Narrative], DegradeReport]:
    """Clean narratives, each followed by its copies: one fault of FAULTS each, at each severity (1 slight, 4 severe).

    source "reference" and "metadata": as `planted_narratives` writes them; "narrative": the given `narratives`, of
    whatever system, taken as clean (where a synthetic narrative holds its truth, a fault is planted only if each
    dimension that it aims at has at most WORST points to lose already). A copy is deterministic by seed and case id.

    System of a copy: "SYSTEM+FAULT-SEVERITY". Its provenance: made_by, source, origin (the clean system), fault,
    severity, change (what was done), target (dimension -> points of the rubric's scale that it should lose against the
    clean text), may (dimensions that may change along with it), seed. Clean ones: fault "none", severity 0.

    Consistency filter: a copy is dropped if its edit did not take: its text is that of the level below; the leading
    diagnosis is read otherwise than before though the fault is another one; a wrong diagnosis is not read as the
    leading one, or the label still counts as a hit at any rank; what was left out stands elsewhere.

    Raises InputError for unknown faults or severities, a rubric that shares no dimension with what the faults aim at,
    or a source that the cases do not hold.
    """
    chosen = list(FAULTS) if faults is None else list(faults)
    if unknown := [name for name in chosen if name not in FAULTS]:
        raise InputError(f"there is no fault '{unknown[0]}'; there are {', '.join(FAULTS)}")
    if not severities or not set(severities) <= set(range(1, LEVELS + 1)):
        raise InputError(f"severities must be among 1 to {LEVELS}, not {', '.join(map(str, severities)) or 'none'}")
    terms, rubric, cases = terms or load_terms(), rubric or load_rubric("derm6"), list(cases)
    aimed = {dimension for name in chosen for dimension in FAULTS[name].loses}
    if aimed and not aimed & set(rubric.names):
        raise InputError(
            f"no fault of {', '.join(chosen)} aims at a dimension of {rubric.id}: {', '.join(rubric.names)}"
        )
    clean = _clean(cases, narratives, source, terms, seed)
    by_id = {identity(case.id): case for case in cases}
    made: list[Narrative] = []
    counts: dict[str, dict[str, Counter[str]]] = {
        kind: {name: Counter() for name in chosen} for kind in ("made", "impossible", "dropped")
    }
    for narrative in clean:
        made.append(_marked(narrative, source, seed))
        case = by_id[identity(narrative.case_id)]
        for name in chosen:
            made += _copies(narrative, case, name, sorted(set(severities)), source, terms, rubric, seed, counts)
    report = DegradeReport(
        len(clean),
        **{kind: _plain(table) for kind, table in counts.items()},
        notes=(
            "What a fault should cost was read off the rubric's anchors by rule; no clinician has reviewed it.",
            terms.note,
        ),
    )
    return made, report


def _clean(
    cases: list[Case], narratives: Iterable[Narrative] | None, source: str, terms: Terms, seed: int
) -> list[Narrative]:
    if source not in SOURCES:
        raise InputError(f"source '{source}' is not known; it is one of {', '.join(SOURCES)}")
    if (narratives is not None) != (source == "narrative"):
        raise InputError("narratives are given with source 'narrative', and with no other")
    if narratives is None:
        planted = planted_narratives(cases, source, terms, seed)  # type: ignore[arg-type]
        return [n for n in planted if n.provenance["fault"] == "none"]
    return [narrative for group in pair(cases, narratives).groups.values() for narrative, _ in group]


def _marked(narrative: Narrative, source: str, seed: int) -> Narrative:
    said = {"source": source, "origin": narrative.system, "fault": "none", "severity": 0, "seed": seed}
    return replace(narrative, provenance={**narrative.provenance, "graded_by": MADE_BY, **said})


def _copies(
    narrative: Narrative,
    case: Case,
    name: str,
    severities: list[int],
    source: str,
    terms: Terms,
    rubric: Rubric,
    seed: int,
    counts: Mapping[str, Mapping[str, Counter[str]]],
) -> list[Narrative]:
    fault = FAULTS[name]

    def draw(what: str) -> np.random.Generator:
        key = f"{case.id}|{name}|{what}".encode("utf-8", "surrogatepass")
        return np.random.default_rng([seed, zlib.crc32(key)])

    clean = Clean(narrative.judged, usable_gold(case, terms)[0], case.context, terms, draw)
    graded: Graded = _spoilt(narrative, fault) or ("nothing is left to judge" if not clean.text else fault.edit(clean))
    if isinstance(graded, str):
        counts["impossible"][name][graded] += len(severities)
        return []
    before, copies = Level(clean.text, {}), []
    lead = named(leading_item(clean.text, terms))
    for severity in range(1, LEVELS + 1):
        level = graded[severity - 1] if severity <= len(graded) else f"this fault has {len(graded)} level(s)"
        asked = severity in severities
        if isinstance(level, str):
            counts["impossible"][name][level] += asked
            continue
        wrong = _inconsistent(fault, clean, lead, before, level)
        before = level
        if asked and wrong:
            counts["dropped"][name][wrong] += 1
        elif asked:
            counts["made"][name][str(severity)] += 1
            copies.append(_copy(narrative, name, severity, level, source, rubric, seed))
    return copies


def _spoilt(narrative: Narrative, fault: Fault) -> str:
    truth = narrative.provenance.get("truth") or {}
    short = [d for d in fault.loses if d in truth and FULL - truth[d] > WORST]
    return f"the clean text has lost {FULL - truth[short[0]]:g} points of {short[0]} already" if short else ""


def _inconsistent(fault: Fault, clean: Clean, lead: set[str], before: Level, level: Level) -> str:
    """Why the edit did not take, "" if it did."""
    if level.text == before.text or not level.text:
        return "the text is that of the level below" if level.text else "nothing is left of the text"
    if fault.turns_diagnosis:
        if not level.change["instead_concluded"]:
            return "the other diagnosis is not what is read as the leading one"
        if level.change["label_left"]:
            return "the text still names the label or a kind of it"
        found = match_gold(parse_differential(level.text, clean.terms), clean.gold, clean.terms)
        hits = [f for f in found if f.grade in LENIENT]
        return f"the matching still finds the label ({hits[0].grade}, rank {hits[0].item.rank})" if hits else ""
    if named(leading_item(level.text, clean.terms)) != lead:
        return "the leading diagnosis is read otherwise than before"
    if level.change.get("all_said_elsewhere"):
        return "what is left out is said elsewhere in the text"
    return ""


def _copy(
    narrative: Narrative, name: str, severity: int, level: Level, source: str, rubric: Rubric, seed: int
) -> Narrative:
    fault, unit = FAULTS[name], (rubric.scale.high - rubric.scale.low) / FULL
    return replace(
        narrative,
        system=f"{narrative.system}+{name}-{severity}",
        text=level.text,
        differential=() if fault.turns_diagnosis else narrative.differential,  # to be read from the text
        provenance={
            "made_by": MADE_BY,
            "source": source,
            "origin": narrative.system,
            "fault": name,
            "severity": severity,
            "change": dict(level.change),
            "target": {d: loses[severity - 1] * unit for d, loses in fault.loses.items() if d in rubric.names},
            "may": [d for d in fault.may if d in rubric.names],
            "seed": seed,
        },
    )


def _plain(table: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {name: {key: n for key, n in sorted(counts.items()) if n} for name, counts in table.items()}
