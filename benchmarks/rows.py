"""What importers of tables with a row a picture share: rows to cases, side tables, one-hot truth, a lesion's rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..evaluators.terms import Terms, load_terms
from ..judge.benchmark import assign_splits
from ..judge.records import Case, identity
from ..judge.tablefile import Problem, Table
from .bundle import derived_urgency, present

Row = Mapping[str, Any]


class Gold:
    """The term list with what was looked up in it, since a data set asks for few names many times."""

    def __init__(self, terms: Terms | None = None):
        self.terms = terms or load_terms()
        self._urgency: dict[tuple[str, ...], tuple[str, bool]] = {}

    def urgency(self, names: tuple[str, ...]) -> dict[str, Any]:
        """urgency and urgency_derived of a case with these gold names."""
        if names not in self._urgency:
            self._urgency[names] = derived_urgency(names, self.terms) if names else ("", False)
        level, derived = self._urgency[names]
        return {"urgency": level, "urgency_derived": derived}


def cases_of(
    table: Table, key: str, make: Callable[[Row], Case | None], problems: list[Problem]
) -> list[tuple[int, Case]]:
    """(line, case) for each row by `make` (None: the row is passed over).

    A row for which it raises ValueError, whose key is empty, or whose id stood before goes to `problems`.
    """
    made: list[tuple[int, Case]] = []
    seen: dict[str, int] = {}
    for line, row in table.dicts():
        try:
            if not present(row[key]):
                raise ValueError(f"{key} is empty")
            case = make(row)
            if case is None:
                continue
            if (first := seen.setdefault(identity(case.id), line)) != line:
                raise ValueError(f"'{case.id}' stands already on line {first}")
            made.append((line, case))
        except ValueError as error:
            problems.append(Problem(table.file, line, str(row[key]), str(error)))
    return made


def side_table(table: Table, key: str, problems: list[Problem]) -> dict[str, Row]:
    """Rows of a further table by their id; a second row of one id goes to `problems`."""
    rows: dict[str, tuple[int, Row]] = {}
    for line, row in table.dicts():
        first, _ = rows.setdefault(identity(str(row[key])), (line, row))
        if first != line:
            problems.append(Problem(table.file, line, str(row[key]), f"stands already on line {first}"))
    return {name: row for name, (_, row) in rows.items()}


def one_hot(row: Row, classes: Sequence[str]) -> str:
    """The class that is marked 1 while all others are 0; ValueError that says which are marked otherwise.

    >>> one_hot({"MEL": "0.0", "NV": "1.0"}, ("MEL", "NV"))
    'NV'
    """
    marked = []
    for name in classes:
        text = str(row[name]).strip()
        if text not in ("0", "1", "0.0", "1.0"):
            raise ValueError(f"'{text}' under {name} is neither 0 nor 1")
        if text.startswith("1"):
            marked.append(name)
    if len(marked) != 1:
        told = " and ".join(marked) or "none"
        raise ValueError(f"the classes sum to {len(marked)} ({told} marked); exactly one must be 1")
    return marked[0]


def truth(value: Any, *, what: str) -> bool | None:
    """True or False of a cell (true, false, 1, 0, yes, no), None where it is empty; ValueError otherwise."""
    text = present(value).casefold()
    known = {"": None, "true": True, "1": True, "1.0": True, "yes": True,
             "false": False, "0": False, "0.0": False, "no": False}  # fmt: skip
    if text not in known:
        raise ValueError(f"{what} '{value}' is neither true nor false")
    return known[text]


def kept(tags: Mapping[str, Any]) -> dict[str, Any]:
    """The tags that say something."""
    return {name: value for name, value in tags.items() if value not in ("", None, [])}


def published_or_drawn(cases: Sequence[Case], fractions: Mapping[str, float], by: Any, seed: int) -> list[Case]:
    """The cases in the splits that they were published in; if that is one split for all, splits are drawn by group."""
    if len({case.split for case in cases} - {""}) > 1:
        return list(cases)
    return assign_splits(cases, fractions, by, seed)


def by_lesion(rows: Iterable[tuple[int, Case]], file: str, problems: list[Problem], notes: list[str]) -> list[Case]:
    """One case a lesion, with all its pictures, from one case a picture; a picture without a lesion id stays alone.

    Rows of a lesion that differ in diagnosis or patient go to `problems`; tags that differ between its pictures are
    left out, and a note names them.
    """
    lesions: dict[tuple[str, str], list[tuple[int, Case]]] = defaultdict(list)
    for line, case in rows:
        lesions[(identity(case.patient_id), identity(case.lesion_id)) if case.lesion_id else ("", case.id)].append(
            (line, case)
        )
    cases: list[Case] = []
    differing: set[str] = set()
    patients: dict[str, str] = {}
    for members in lesions.values():
        first = members[0][1]
        complaint = ""
        labels = {case.diagnosis for _, case in members}
        if len(labels) > 1:
            told = " and ".join(sorted(", ".join(names) or "nothing" for names in labels))
            complaint = f"lesion {first.lesion_id} is called {told}; which is it?"
        elif first.lesion_id:
            owner = patients.setdefault(identity(first.lesion_id), first.patient_id)
            if owner != first.patient_id:
                complaint = f"lesion {first.lesion_id} belongs to patient '{owner}' on an earlier row"
        if complaint:
            problems += [Problem(file, line, case.id, complaint) for line, case in members]
            continue
        if len(members) == 1 and not first.lesion_id:
            cases.append(first)
            continue
        tags = {}
        for name in dict.fromkeys(name for _, case in members for name in case.tags):
            values = [case.tags.get(name) for _, case in members]
            if all(value == values[0] for value in values):
                tags[name] = values[0]
            else:
                differing.add(name)
        shown = tuple(image for _, case in members for image in case.images)
        same_context = all(case.context == first.context for _, case in members)
        cases.append(replace(first, id=first.lesion_id, images=shown, tags=tags,
                             context=first.context if same_context else ""))  # fmt: skip
    notes += [f"{name} differs between pictures of one lesion; left out there." for name in sorted(differing)]
    return cases
