"""SCIN (Ward 2024): 5,033 cases of 1 to 3 phone pictures given by patients, with a weighted differential each."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..evaluators.case_attributes import MIXED
from ..evaluators.terms import load_terms
from ..judge.benchmark import assign_splits
from ..judge.records import Candidate, Case, Image, identity
from ..judge.tablefile import Problem, Table, check_columns, read_csv_table
from .bundle import SPLITS, Bundle, Pictures, find_file, number, present, sentence
from .reading import Labels, literal, one_of, single_type, strict_majority, whole_id
from .rows import Gold, Row, cases_of, kept

LICENCE = "SCIN Data Use License (attribution; no attempt to identify anyone)"
_NEEDED = ("case_id", "age_group", "sex_at_birth", "fitzpatrick_skin_type", "image_1_path")
_DIFFERENTIAL = "weighted_skin_condition_label"
_CONFIDENCE = "dermatologist_skin_condition_confidence"  # 1 to 5 for each label
# The published schema page leaves the "on" out.
_LABEL_NAMES = ("dermatologist_skin_condition_on_label_name", "dermatologist_skin_condition_label_name")
# Words of this set for "not told"; OTHER_OR_UNSPECIFIED says no group, since it cannot be told which of the two.
_NOT_TOLD = frozenset({"NONE_IDENTIFIED", "NONE_SELECTED", "OTHER_OR_UNSPECIFIED", "PREFER_NOT_TO_ANSWER", "UNKNOWN",
                       "AGE_UNKNOWN", "OTHER_ISSUE_DESCRIPTION"})  # fmt: skip
_SOURCES = ("self", "dermatologist")


def read(
    root: str | Path,
    *,
    images: str | Path | None = None,
    skin: str = "self",
    fractions: Mapping[str, float] = SPLITS,
    seed: int = 0,
) -> Bundle:
    """Read scin_cases.csv and scin_labels.csv below `root`; `images`: where dataset/images lies (default: `root`).

    The truth is `differential`: names of the term list with their published weights, heaviest first; `diagnosis` holds
    the heaviest (all of them on a tie), and none where the list does not hold the heaviest label. The weight of labels
    that it does not hold is the tag unmapped_weight; nothing is scaled up to make good for it. skin: whether the tag
    fitzpatrick is the patient's own word ("self") or what most of the dermatologists say ("dermatologist"); the tags
    fitzpatrick_self and fitzpatrick_dermatologist hold both. InputError if a table or the pictures are not there.
    """
    one_of(skin, _SOURCES, "skin")
    table = read_csv_table(find_file(Path(root), ("scin_cases.csv",)))
    label_table = read_csv_table(find_file(Path(root), ("scin_labels.csv",)))
    _check(table, _NEEDED)
    _check(label_table, ("case_id", _DIFFERENTIAL))
    pictures, gold = Pictures(Path(images or root)), Gold(load_terms())
    labels = Labels(gold.terms)
    problems: list[Problem] = []
    rated, bad = _rated(label_table, labels, {identity(str(row["case_id"])) for _, row in table.dicts()}, problems)
    apart = 0

    def make(row: Row) -> Case | None:
        nonlocal apart
        name = whole_id(row["case_id"], "case_id")
        if identity(name) in bad:  # listed already, under its line of the labels
            return None
        experts = rated.get(identity(name), _NOBODY)
        told = {
            "self": _skin(row["fitzpatrick_skin_type"]),
            "dermatologist": experts.tags.get("fitzpatrick_dermatologist", ""),
        }
        apart += bool(told["self"] and told["dermatologist"] and told["self"] != told["dermatologist"])
        tags: dict[str, Any] = {
            "fitzpatrick": told[skin], "fitzpatrick_self": told["self"],
            "age_group": _age_group(row["age_group"]), "sex": _word(row["sex_at_birth"]),
            "race_ethnicity": _ticked(row, "race_ethnicity_"), "body_parts": _ticked(row, "body_parts_"),
            "category": _word(row.get("related_category")),
            "shot_types": [_word(row.get(f"image_{k}_shot_type")) for k in (1, 2, 3) if present(_path(row, k))],
            **experts.tags,
        }  # fmt: skip
        parts = tags["body_parts"]
        site = parts[0] if len(parts) == 1 else MIXED if parts else ""
        paths = list(dict.fromkeys(pictures.find(path) for k in (1, 2, 3) if (path := present(_path(row, k)))))
        if not paths:
            raise ValueError("no image path; a case has one to three")
        return Case(
            id=name, images=tuple(Image(path, "clinical", site) for path in paths), context=_context(row, tags),
            diagnosis=experts.diagnosis, differential=experts.differential, tags=kept(tags), source="SCIN",
            licence=LICENCE, **gold.urgency(experts.diagnosis))  # fmt: skip

    made = cases_of(table, "case_id", make, problems)
    cases = [case for _, case in made]
    bare = sum(not case.differential and "unmapped_labels" not in case.tags for case in cases)
    return Bundle(
        "scin", "1", LICENCE, "https://github.com/google-research-datasets/scin",
        "Ward A et al. JAMA Network Open 7:e2446615 (2024)", assign_splits(cases, fractions, "patient_id", seed),
        Path(images or root), problems=problems,
        notes=[
            f"{bare} of {len(cases)} cases have no label, and so no gold.",
            "The truth is a weighted differential of up to three dermatologists, given from pictures alone.",
            f"The tag fitzpatrick is that of {'the patient' if skin == 'self' else 'most dermatologists'}; "
            f"in {apart} cases the two differ.",
            *labels.notes(((rated[identity(case.id)].line, case) for _, case in made if identity(case.id) in rated),
                          label_table.file),
        ])  # fmt: skip


def _check(table: Table, needed: tuple[str, ...]) -> None:
    # Dozens of columns of ticks, more with each release: only what is missing is an error.
    check_columns(table, table.columns, needed)


class _Experts(NamedTuple):
    """What the dermatologists say of a case: one row of the labels."""

    line: int
    diagnosis: tuple[str, ...]
    differential: tuple[Candidate, ...]
    tags: dict[str, Any]


_NOBODY = _Experts(0, (), (), {})


def _rated(
    table: Table, labels: Labels, cases: Container[str], problems: list[Problem]
) -> tuple[dict[str, _Experts], set[str]]:
    """(rows of the labels by case, cases whose row is bad); bad rows go to `problems`."""
    rated: dict[str, _Experts] = {}
    bad: set[str] = set()
    for line, row in table.dicts():
        name = identity(str(row["case_id"]))
        try:
            whole_id(row["case_id"], "case_id")
            if name in rated:
                raise ValueError(f"'{row['case_id']}' stands already on line {rated[name].line}")
            if name not in cases:
                raise ValueError("is no case of scin_cases.csv")
            rated[name] = _experts(line, row, labels)
        except ValueError as error:
            if name not in rated:  # of two rows of one case the first stands
                bad.add(name)
            problems.append(Problem(table.file, line, str(row["case_id"]), str(error)))
    return rated, bad


def _experts(line: int, row: Row, labels: Labels) -> _Experts:
    diagnosis, differential, unmapped = _differential(row, labels)
    column = next((name for name in _LABEL_NAMES if name in row), _LABEL_NAMES[0])
    names, sure = literal(row.get(column), column, list), literal(row.get(_CONFIDENCE), _CONFIDENCE, list)
    if sure and len(sure) != len(names):
        raise ValueError(f"{column} has {len(names)} entries and {_CONFIDENCE} {len(sure)}; one each is needed")
    types = (_skin(row.get(f"dermatologist_fitzpatrick_skin_type_label_{k}") or "") for k in (1, 2, 3))
    return _Experts(line, diagnosis, differential, {
        "fitzpatrick_dermatologist": strict_majority(types),
        **{f"monk_skin_tone_{k}": _monk(row.get(f"monk_skin_tone_label_{k}")) for k in ("india", "us")},
        "gradable": _gradable(row), "raw_labels": names, "confidences": sure,
        "unmapped_labels": list(unmapped), "unmapped_weight": sum(unmapped.values()) or None,
    })  # fmt: skip


def _differential(row: Row, labels: Labels) -> tuple[tuple[str, ...], tuple[Candidate, ...], dict[str, float]]:
    """(heaviest names, mapped labels by weight, weight of each label that the term list does not hold)."""
    weights: dict[str, float] = {}
    unmapped: dict[str, float] = {}
    for label, weight in literal(row.get(_DIFFERENTIAL), _DIFFERENTIAL, dict).items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1:
            raise ValueError(f"{_DIFFERENTIAL}: the weight of '{label}' is {weight!r}; a number above 0 up to 1")
        name = labels.find(str(label))
        if name is None:
            unmapped[str(label)] = float(weight)
        elif name:
            weights[name] = weights.get(name, 0.0) + weight
    ranked = sorted(weights.items(), key=lambda item: -item[1])
    top = max((*weights.values(), *unmapped.values()), default=0.0)
    heaviest = tuple(name for name, weight in ranked if math.isclose(weight, top))
    tied = any(math.isclose(weight, top) for weight in unmapped.values())
    return () if tied else heaviest, tuple(Candidate(name, weight) for name, weight in ranked), unmapped


def _skin(value: Any) -> str:
    return single_type("" if str(value).strip().upper() in _NOT_TOLD else value, "Fitzpatrick type")


def _monk(value: Any) -> float | int | None:
    tone = number(value)
    if tone is not None and tone not in range(1, 11):
        raise ValueError(f"'{value}' is no tone of the Monk scale; 1 to 10")
    return tone


def _age_group(value: Any) -> str:
    text = _word(value).upper().replace(" ", "_")
    if not text:
        return ""
    if found := re.fullmatch(r"AGE_(\d+)_TO_(\d+)", text):
        return f"{found[1]}-{found[2]}"
    if found := re.fullmatch(r"AGE_(\d+)_OR_ABOVE", text):
        return f"{found[1]}+"
    raise ValueError(f"age_group '{value}' is none such as AGE_18_TO_29 or AGE_80_OR_ABOVE")


def _gradable(row: Row) -> str:
    """Whether the dermatologists found the pictures good enough: all, some or none of those who were asked."""
    said = [text for k in (1, 2, 3) if (text := present(row.get(f"dermatologist_gradable_for_skin_condition_{k}")))]
    yes = sum("YES" in text.upper() for text in said)
    return "" if not said else "all" if yes == len(said) else "some" if yes else "none"


def _path(row: Row, k: int) -> Any:
    return row.get(f"image_{k}_path")


def _word(value: Any) -> str:
    text = present(value)
    return "" if text.upper() in _NOT_TOLD else text.lower().replace("_", " ")


def _ticked(row: Row, prefix: str) -> list[str]:
    """What was ticked of a family of columns; "no relevant ..." and "unspecified" say nothing."""
    marked = (name.removeprefix(prefix) for name, value in row.items()
              if name.startswith(prefix) and str(value).strip().upper() == "YES")  # fmt: skip
    return [
        name.replace("_", " ")
        for name in marked
        if not name.startswith("no_relevant") and not name.endswith("unspecified") and name.upper() not in _NOT_TOLD
    ]


def _context(row: Row, tags: Mapping[str, Any]) -> str:
    told = [*_ticked(row, "condition_symptoms_"), *_ticked(row, "other_symptoms_")]
    return sentence({
        "Age": tags["age_group"], "Sex": tags["sex"], "Site": ", ".join(tags["body_parts"]),
        "Texture": ", ".join(_ticked(row, "textures_")), "Symptoms": ", ".join(told),
        "Duration": _word(row.get("condition_duration")), "The patient calls it": tags["category"],
    })  # fmt: skip
