"""Gold labels: the shipped map for DermBench's raw labels, and which gold of a case can be scored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from ..judge.errors import InputError
from ..judge.records import Case
from .terms import Terms, read_csv

CONFIDENCES = ("high", "medium", "low")
NO_DIAGNOSIS = "unspecified lesion"  # a row of the term list that names no condition


class Label(NamedTuple):
    """Where a raw label leads: the canonical name and how sure the mapping is (CONFIDENCES)."""

    canonical: str
    confidence: str


class LabelMap:
    """Raw labels of DermBench to canonical names; the category matters ("psoriasis" under nails is nail psoriasis)."""

    def __init__(self, labels: dict[tuple[str, str], Label], unreviewed: int):
        self.labels = labels
        self.unreviewed = unreviewed
        self._by_label: dict[str, set[Label]] = {}
        for (raw, _), label in labels.items():
            self._by_label.setdefault(raw, set()).add(label)

    def lookup(self, raw_label: str, category: str = "") -> Label | None:
        """Where a raw label leads, spelled as in the source; None if unknown or, without a category, not unique."""
        if category:
            return self.labels.get((raw_label, category))
        found = self._by_label.get(raw_label, set())
        return next(iter(found)) if len(found) == 1 else None

    @property
    def note(self) -> str:
        return f"No clinician has reviewed {self.unreviewed} of the {len(self.labels)} rows of the label map."


def load_label_map(path: str | Path | None = None) -> LabelMap:
    """Read the map of DermBench's raw labels: the shipped one (once), or a CSV with its columns.

    Columns: raw_label, canonical_diagnosis, category, confidence, optionally reviewed_by. InputError names the line.
    """
    return _shipped_map() if path is None else _read_map(Path(path))


@lru_cache(maxsize=1)
def _shipped_map() -> LabelMap:
    return _read_map(Path(str(files(__package__).joinpath("data", "dermbench_diagnosis_labels.csv"))))


def _read_map(path: Path) -> LabelMap:
    labels: dict[tuple[str, str], Label] = {}
    unreviewed = 0
    for line, row in read_csv(path, ("raw_label", "canonical_diagnosis", "category", "confidence")):
        key = (row["raw_label"], row["category"])
        if row["confidence"] not in CONFIDENCES:
            raise InputError(
                f"{path} line {line}: confidence '{row['confidence']}' is none of {', '.join(CONFIDENCES)}"
            )
        if key in labels:
            raise InputError(f"{path} line {line}: '{key[0]}' in '{key[1]}' stands twice")
        labels[key] = Label(row["canonical_diagnosis"], row["confidence"])
        unreviewed += not row.get("reviewed_by", "").strip()
    return LabelMap(labels, unreviewed)


@dataclass(frozen=True, slots=True)
class UnusableGold:
    """A gold label that cannot be scored: the case, the label, why, and the names of the list nearest to it."""

    case_id: str
    label: str
    reason: str
    closest: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"case_id": self.case_id, "label": self.label, "reason": self.reason, "closest": list(self.closest)}


def usable_gold(case: Case, terms: Terms) -> tuple[tuple[str, ...], list[UnusableGold]]:
    """The canonical names of a case's gold diagnoses, and the labels among them that cannot be used."""
    names: dict[str, None] = {}
    unusable: list[UnusableGold] = []
    if not case.diagnosis:
        unusable.append(UnusableGold(case.id, "", "the case has no diagnosis"))
    for label in case.diagnosis:
        found = terms.find(label)
        if found is None:
            unusable.append(UnusableGold(case.id, label, "not in the term list", tuple(terms.closest(label))))
        elif found.name == NO_DIAGNOSIS:
            unusable.append(UnusableGold(case.id, label, "names no diagnosis"))
        else:
            names[found.name] = None
    return tuple(names), unusable
