"""Narratives that were not asked for here: a classifier's table of class probabilities, texts of pipelines and people.

So a classifier, a pipeline of several models or the clinicians of a reader study stand beside the candidates, in the
same run, with the same scorers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..judge.errors import InputError
from ..judge.records import Candidate, Narrative, identity
from ..judge.tablefile import Problem, Table, parse_json, read_table, refuse
from ..judge.tables import read_narratives

TEXT_FIELDS = ("case_id", "system", "reader", "arm", "sample", "text", "triage")
TOP = 5


def read_recorded(path: str | Path, *, name: str = "", arm: str = "image_only", top: int = TOP) -> list[Narrative]:
    """Narratives from a table (.jsonl, .csv, .parquet) in one of three forms, told apart by its columns.

    With case_id, system and text: narratives as this package writes them. With case_id and text: texts of one writer,
    or of several with a column `reader` (clinicians); optional arm, sample, triage. With case_id and a column per
    class: class probabilities. `name`: the system, where the table names none (default: the file's); `arm`: likewise.
    InputError that lists every bad cell.
    """
    table = read_table(path)
    if "case_id" not in table.columns:
        raise InputError(f"{table.file}: a column case_id is needed; it has {', '.join(table.columns)}")
    if "text" not in table.columns:
        return read_class_probabilities(path, name=name, arm=arm, top=top)
    if "system" in table.columns:
        return _with_default_arm(read_narratives(path), table, arm)
    return _texts(table, name or Path(path).stem, arm)


def read_class_probabilities(path: str | Path, *, name: str = "", arm: str = "image_only", top: int = TOP,
                             names: Mapping[str, str] | None = None) -> list[Narrative]:  # fmt: skip
    """A classifier's answers as narratives: a row per case, `case_id` and a column per class with numbers in [0, 1].

    The differential holds the `top` classes with the largest probabilities above 0, as stated confidences (ties: in the
    order of the columns), and the text lists the same (none where all are 0); nothing is rescaled. There is no triage
    call, since a classifier makes none. names: column -> name of the diagnosis. InputError for cells that are no such
    number, for percentages, and for a case that stands twice.
    """
    table = read_table(path)
    classes = [column for column in table.columns if column != "case_id"]
    if "case_id" not in table.columns or len(classes) < 2:
        raise InputError(f"{table.file}: class probabilities need the column case_id and a column for every class")
    if unknown := [column for column in names or {} if column not in classes]:
        raise InputError(f"{table.file} has no class '{unknown[0]}' to name; it has {', '.join(classes)}")
    if top < 1:
        raise InputError(f"a differential has at least 1 line, not {top}")
    spelled = [(names or {}).get(column, column.replace("_", " ")) for column in classes]
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    found = []
    for line, row in table.dicts():
        case_id = _case_id(table, line, row, seen, problems)
        values = [_probability(table, line, column, row.get(column), problems) for column in classes]
        ranked = sorted(zip(spelled, values, strict=True), key=lambda pair: -pair[1])[:top]
        differential = tuple(Candidate(label, value) for label, value in ranked if value > 0)
        lines = [f"{n}. {c.name} ({c.weight:.3f})" for n, c in enumerate(differential, 1)]
        text = "\n".join(["Differential diagnosis, by class probability:", *lines])
        provenance = {"source": "class probabilities", "classes": len(classes), "sum": round(math.fsum(values), 6)}
        found.append(
            Narrative(case_id, name or Path(path).stem, text if lines else "", arm,
                      differential=differential, provenance=provenance))  # fmt: skip
    if problems:
        refuse(problems)
    return found


def _texts(table: Table, name: str, arm: str) -> list[Narrative]:
    if unknown := [column for column in table.columns if column not in TEXT_FIELDS]:
        raise InputError(f"{table.file}: unknown column '{unknown[0]}'; texts have {', '.join(TEXT_FIELDS)}")
    problems: list[Problem] = []
    seen: dict[Any, int] = {}
    found = []
    for line, row in table.dicts():
        cells = {field: row.get(field) for field in TEXT_FIELDS}
        for field in ("text", "reader", "arm", "triage"):
            if not isinstance(cells[field], str | None):
                problems.append(Problem(table.file, line, field, "text is needed, in quotes"))
                cells[field] = ""
        sample = cells["sample"] if cells["sample"] not in (None, "") else 0
        if isinstance(sample, bool) or not str(sample).isascii() or not str(sample).isdigit():
            problems.append(Problem(table.file, line, "sample", "a whole number from 0 is needed"))
            sample = 0
        reader, shown = cells["reader"] or name, cells["arm"] or arm
        key = (identity(reader), identity(shown), int(sample))
        case_id = _case_id(table, line, row, seen, problems, key)
        provenance = {"source": "reader" if cells["reader"] else "texts"}
        found.append(Narrative(case_id, reader, cells["text"] or "", shown, int(sample), triage=cells["triage"] or "",
                               provenance=provenance))  # fmt: skip
    if problems:
        refuse(problems)
    return found


def _with_default_arm(narratives: list[Narrative], table: Table, arm: str) -> list[Narrative]:
    if "arm" in table.columns or arm == "image_only":
        return narratives
    return [replace(narrative, arm=arm) for narrative in narratives]


def _case_id(table: Table, line: int, row: Mapping[str, Any], seen: dict[Any, int], problems: list[Problem],
             key: Any = ()) -> str:  # fmt: skip
    value = row.get("case_id")
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text:
        problems.append(Problem(table.file, line, "case_id", "an id is needed"))
    elif (first := seen.setdefault((identity(text), key), line)) != line:
        problems.append(Problem(table.file, line, "case_id", f"stands already on line {first} (same reader and arm)"))
    return text


def _probability(table: Table, line: int, column: str, cell: Any, problems: list[Problem]) -> float:
    value = cell
    if isinstance(cell, str):
        try:
            value = parse_json(cell.strip())
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        problems.append(Problem(table.file, line, column, f"{str(cell)[:40]!r} is no probability from 0 to 1"))
        return 0.0
    return float(value)
