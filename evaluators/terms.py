"""The term list: conditions, their synonyms, the tree they stand in, how dangerous and how urgent each is.

The list is data (`data/dermatology_terms.csv`); no clinician has reviewed it yet, and `Terms.note` says so.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from ..judge.errors import InputError
from ..judge.records import URGENCIES
from .matching import AliasIndex, Hit, Match, is_abbreviation
from .wording import words

Grade = Literal["exact", "synonym", "child", "parent", "sibling", "none"]
MALIGNANCIES = ("benign", "premalignant", "malignant", "infectious", "inflammatory", "other")
_COLUMNS = ("canonical", "parent", "grandparent", "malignancy", "urgency", "synonyms")


@dataclass(frozen=True, slots=True)
class Condition:
    """One row of the term list; `ancestors` run from the parent to the root, `is_group` marks a node without a row.

    `snomed`, `icd10`: codes of a list of your own; the shipped one has none.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    ancestors: tuple[str, ...] = ()
    malignancy: str = ""
    urgency: str = ""
    reviewed_by: str = ""
    is_group: bool = False
    snomed: str = ""
    icd10: str = ""


class Terms:
    """A term list, ready for look-ups. Build one with `load_terms`."""

    def __init__(self, conditions: Iterable[Condition]):
        self.conditions = {condition.name: condition for condition in conditions}
        rows = [condition for condition in self.conditions.values() if not condition.is_group]
        self.unreviewed = sum(not row.reviewed_by for row in rows)
        self.size = len(rows)
        self._index = AliasIndex(
            [(alias, row.name) for row in rows for alias in (row.name, *row.synonyms)],
            [condition.name for condition in self.conditions.values() if condition.is_group],
            self._narrower,
        )
        self.match = self._index.match
        self._closest: dict[str, list[str]] = {}

    @property
    def note(self) -> str:
        """What a report has to say about the list."""
        if not self.unreviewed:
            return f"Each of the {self.size} rows of the term list names the clinician who reviewed it."
        if self.unreviewed == self.size:
            return f"No clinician has reviewed the term list ({self.size} rows)."
        return f"No clinician has reviewed {self.unreviewed} of the {self.size} rows of the term list."

    def find(self, name: str) -> Condition | None:
        """The condition (or group) that a name stands for, as a whole and without guessing at typos; else None."""
        hit = self._index.whole(name)
        return self.conditions[hit.canonical] if hit and hit.how != "typo" else None

    def closest(self, name: str, n: int = 3) -> list[str]:
        """The names of the list most like a name that it does not hold, best first; for messages."""
        if name not in self._closest:
            names = {alias.lower(): c.name for c in self.conditions.values() for alias in (c.name, *c.synonyms)}
            near = difflib.get_close_matches(name.lower()[:100], names, n=3 * n, cutoff=0.5)
            self._closest[name] = list(dict.fromkeys(names[alias] for alias in near))
        return self._closest[name][:n]

    def urgency(self, name: str) -> str:
        """The level of URGENCIES that the list gives a condition; "" for a group. InputError if it does not hold it."""
        return self._known(name).urgency

    def relation(self, named: str, gold: str) -> Grade:
        """How a named condition stands to the gold one.

        exact: the canonical name; synonym: another name of it; child: more specific than gold; parent: less specific
        (a group only if gold stands directly under it); sibling: under the same parent; none: anything else, and
        whenever `crosses` is true, whatever the place in the tree. Both names may be any alias; InputError if unknown.

        >>> terms = load_terms()
        >>> [terms.relation(name, "melanoma") for name in ("malignant melanoma", "nodular melanoma", "halo nevus")]
        ['synonym', 'child', 'none']
        """
        same = " ".join(named.lower().split()) == self._known(named).name.lower()
        grade = self.place(self._known(named).name, self._known(gold).name)
        return "synonym" if grade == "exact" and not same else grade

    def grade(self, hit: Hit, gold: str) -> Grade:
        """`relation` for a hit of `match`: exact only where the canonical name was written."""
        grade = self.place(hit.canonical, gold)
        return "synonym" if grade == "exact" and hit.how != "name" else grade

    def place(self, named: str, gold: str) -> Grade:
        """`relation` for two canonical names (KeyError if one is not)."""
        if named == gold:
            return "exact"
        one, other = self.conditions[named], self.conditions[gold]
        if self.crosses(named, gold):
            return "none"
        if gold in one.ancestors:
            return "child"
        if named in other.ancestors and not (one.is_group and other.ancestors[0] != named):
            return "parent"
        if one.ancestors and other.ancestors and one.ancestors[0] == other.ancestors[0]:
            return "sibling"
        return "none"

    def crosses(self, named: str, gold: str) -> bool:
        """Whether two canonical names lie on two sides of malignant or not, or infectious or not (no group does).

        Premalignant stands on neither side of the first.
        """
        one, other = self.conditions[named].malignancy, self.conditions[gold].malignancy
        if not one or not other:
            return False
        kinds = {one, other}
        return len(kinds) == 2 and ("infectious" in kinds or ("malignant" in kinds and "premalignant" not in kinds))

    def _narrower(self, one: str, other: str) -> str | None:
        if one == other or other in self.conditions[one].ancestors:
            return one
        return other if one in self.conditions[other].ancestors else None

    def _known(self, name: str) -> Condition:
        found = self.find(name)
        if found is None:
            near = self.closest(name)
            raise InputError(
                f"'{name}' is not in the term list; closest: {', '.join(near) if near else 'nothing like it'}"
            )
        return found


def load_terms(path: str | Path | None = None) -> Terms:
    """Read a term list: the shipped one, or any CSV with its columns.

    Columns: canonical, parent, grandparent, malignancy (MALIGNANCIES), urgency (URGENCIES), synonyms (joined by |),
    and optionally reviewed_by, snomed, icd10 (see `user_terms.TERM_COLUMNS`). A parent may be another condition; other
    parents are groups. The shipped list is read once. InputError names the line: a column that is missing, a value
    that is not known, a name that stands for two conditions, a circle of parents.
    """
    return _shipped_terms() if path is None else _read_terms(Path(path))


@lru_cache(maxsize=1)
def _shipped_terms() -> Terms:
    return _read_terms(Path(str(files(__package__).joinpath("data", "dermatology_terms.csv"))))


def read_csv(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Rows of a UTF-8 CSV with their line numbers; InputError if it cannot be read or lacks a column or a value."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
                raise InputError(f"{path}: no column '{missing[0]}'; needed: {', '.join(columns)}")
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}; a CSV in UTF-8 is needed") from error
    for line, row in rows:
        if None in row or None in row.values():
            raise InputError(f"{path} line {line}: {len(reader.fieldnames or ())} fields are needed")
    if not rows:
        raise InputError(f"{path} holds no row")
    return rows


def _read_terms(path: Path) -> Terms:
    rows = read_csv(path, _COLUMNS)
    parents: dict[str, str] = {}
    owner: dict[str, str] = {}
    for line, row in rows:
        name, where = row["canonical"].strip(), f"{path} line {line}"
        if not words(name).norm or not row["parent"].strip():
            raise InputError(f"{where}: canonical and parent must not be empty")
        if row["malignancy"] not in MALIGNANCIES:
            raise InputError(f"{where}: malignancy '{row['malignancy']}' is none of {', '.join(MALIGNANCIES)}")
        if row["urgency"] not in URGENCIES:
            raise InputError(f"{where}: urgency '{row['urgency']}' is none of {', '.join(URGENCIES)}")
        for alias in (name, *_synonyms(row)):
            key = alias if is_abbreviation(alias) else " ".join(words(alias).norm)
            if not key:
                raise InputError(f"{where}: synonym '{alias}' has no letter")
            if owner.setdefault(key, name) != name or (alias == name and name in parents):
                raise InputError(f"{where}: '{alias}' already stands for {owner[key]}")
        parents[name] = row["parent"].strip()
    names = set(parents)
    for line, row in rows:
        parent, above = row["parent"].strip(), row["grandparent"].strip()
        if parents.setdefault(parent, above) != above:
            raise InputError(
                f"{path} line {line}: the parent of '{parent}' is '{parents[parent]}' elsewhere, here '{above}'"
            )
    for _, row in rows:
        if above := row["grandparent"].strip():
            parents.setdefault(above, "")
    conditions = [
        Condition(name, _synonyms(row), _climb(name, parents, path), row["malignancy"], row["urgency"],
                  row.get("reviewed_by", "").strip(), snomed=row.get("snomed", "").strip(),
                  icd10=row.get("icd10", "").strip())
        for _, row in rows for name in [row["canonical"].strip()]
    ]  # fmt: skip
    groups = [
        Condition(name, ancestors=_climb(name, parents, path), is_group=True) for name in parents if name not in names
    ]
    return Terms(conditions + groups)


def _synonyms(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(alias.strip() for alias in row["synonyms"].split("|") if alias.strip())


def _climb(name: str, parents: dict[str, str], path: Path) -> tuple[str, ...]:
    chain: list[str] = []
    above = parents[name]
    while above:
        if above in chain or above == name:
            raise InputError(f"{path}: the parents of '{name}' run in a circle")
        chain.append(above)
        above = parents[above]
    return tuple(chain)


__all__ = ["Condition", "Grade", "Hit", "Match", "Terms", "load_terms", "read_csv"]
