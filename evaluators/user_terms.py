"""A term list and a label map of your own: the columns they may have, codes, and labels of a data set as terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..judge.errors import InputError
from ..judge.records import Case, identity
from .labels import CONFIDENCES, UnusableGold
from .terms import Terms, read_csv

# What `load_terms(path)` reads: a CSV in UTF-8. The first six columns are needed, though cells may be empty as said.
TERM_COLUMNS: Mapping[str, str] = {
    "canonical": "the name of the condition, once in the list",
    "parent": "another condition, or a group; a group needs no row of its own",
    "grandparent": "the parent of the parent; empty if the parent is a root; the same wherever the parent stands",
    "malignancy": "benign, premalignant, malignant, infectious, inflammatory or other",
    "urgency": "routine, soon, urgent or emergent",
    "synonyms": "other names, joined by |; abbreviations of four letters or fewer count in capitals only",
    "reviewed_by": "optional: the clinician who reviewed the row",
    "snomed": "optional: SNOMED CT concept id, if you hold a licence; none is shipped",
    "icd10": "optional: ICD-10 or ICD-11 code",
}
# What `load_user_labels` reads.
LABEL_COLUMNS: Mapping[str, str] = {
    "label": "a label of the data set; capitals and blanks around it do not matter",
    "canonical": "a name of the term list, or several joined by |; empty if the label names no diagnosis",
    "code": "optional: a SNOMED or ICD code of the term list, used where canonical is empty",
    "confidence": "optional: high, medium or low",
}


@dataclass(frozen=True)
class UserLabels:
    """Labels of a data set by identity: the canonical names each leads to, and how sure that is ("": not said)."""

    names: Mapping[str, tuple[str, ...]]
    confidence: Mapping[str, str]

    def lookup(self, label: str) -> tuple[str, ...] | None:
        """The canonical names of a label: () if it is known to name no diagnosis, None if it is unknown."""
        return self.names.get(identity(label))


def code_index(terms: Terms) -> dict[str, str]:
    """Codes of a term list (snomed, icd10) to canonical names; a code of several conditions is left out."""
    owners: dict[str, set[str]] = {}
    for condition in terms.conditions.values():
        for code in (condition.snomed, condition.icd10):
            if code:
                owners.setdefault(code.casefold(), set()).add(condition.name)
    return {code: next(iter(names)) for code, names in owners.items() if len(names) == 1}


def load_user_labels(path: str | Path, terms: Terms) -> UserLabels:
    """Read a label map (CSV in UTF-8, LABEL_COLUMNS) whose names stand in `terms`, under any of their aliases.

    InputError names the line: a column that is missing, a label that is empty or stands twice, a name or code that the
    list does not hold (with the closest names), a confidence that is none of CONFIDENCES.
    """
    path = Path(path)
    codes = code_index(terms)
    names: dict[str, tuple[str, ...]] = {}
    confidence: dict[str, str] = {}
    for line, row in read_csv(path, ("label", "canonical")):
        where, label = f"{path} line {line}", row["label"].strip()
        key = identity(label)
        if not key:
            raise InputError(f"{where}: the label is empty")
        if key in names:
            raise InputError(f"{where}: label '{label}' stands twice")
        found = []
        for name in (part.strip() for part in row["canonical"].split("|")):
            if not name:
                continue
            condition = terms.find(name)
            if condition is None or condition.is_group:
                near = ", ".join(terms.closest(name)) or "nothing like it"
                what = "is a group, no condition" if condition else f"is not in the term list; closest: {near}"
                raise InputError(f"{where}: '{name}' {what}")
            found.append(condition.name)
        code = (row.get("code") or "").strip()
        if not found and code:
            if code.casefold() not in codes:
                raise InputError(f"{where}: code '{code}' stands for no single condition of the term list")
            found.append(codes[code.casefold()])
        sure = (row.get("confidence") or "").strip()
        if sure and sure not in CONFIDENCES:
            raise InputError(f"{where}: confidence '{sure}' is none of {', '.join(CONFIDENCES)}")
        names[key] = tuple(dict.fromkeys(found))
        confidence[key] = sure
    return UserLabels(names, confidence)


def apply_labels(cases: Iterable[Case], labels: UserLabels) -> tuple[list[Case], list[UnusableGold]]:
    """Cases with their diagnoses as canonical names, and the labels that the map does not hold.

    An unknown label stays as it is and is listed; so is a label that names no diagnosis, which is dropped. Names of a
    gold differential are mapped where the map gives one name.
    """
    mapped: list[Case] = []
    unknown: list[UnusableGold] = []
    for case in cases:
        diagnosis: dict[str, None] = {}
        for label in case.diagnosis:
            found = labels.lookup(label)
            if found is None:
                unknown.append(UnusableGold(case.id, label, "not in the label map"))
            elif not found:
                unknown.append(UnusableGold(case.id, label, "names no diagnosis"))
            diagnosis.update(dict.fromkeys((label,) if found is None else found))
        differential = tuple(
            candidate._replace(name=found[0])
            if (found := labels.lookup(candidate.name)) and len(found) == 1
            else candidate
            for candidate in case.differential
        )
        mapped.append(replace(case, diagnosis=tuple(diagnosis), differential=differential))
    return mapped, unknown
