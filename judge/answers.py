"""Closed questions about cases and the answers to them, by experts (gold) or systems; .jsonl, .csv or .parquet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from .errors import InputError
from .records import identity
from .tablefile import (
    Problem,
    check_columns,
    dump_json,
    parse_json,
    read_table,
    refuse,
    write_frame,
    write_jsonl,
    written_ending,
)

KINDS = ("single", "multi", "open")
ANSWERS = "answers.jsonl"  # of a benchmark folder
QUESTIONS = "questions.jsonl"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system (or, with system "", the benchmark) answers to one question about one case.

    `value`: the answers; one text, or for a multi question any number of them; empty: the question was not answered.
    "Not mentioned" is an answer. Key: case_id, system, question_id.
    """

    case_id: str
    question_id: str
    value: tuple[str, ...]
    system: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question: `kind` single (one option), multi (any number of options) or open (free text).

    `group`: sub-questions that belong together share it; `options`: the answers that there are, in their order, empty
    where they are not known.
    """

    id: str
    kind: str
    group: str = ""
    text: str = ""
    options: tuple[str, ...] = ()


def read_answers(path: str | Path, columns: Mapping[str, str] | None = None, system: str = "") -> list[Answer]:
    """Read answers: case_id, question_id, value (a text, or a list as JSON) and optionally system.

    `columns` renames (name in the file -> ours); `system` fills in where the file names none. InputError lists every
    bad cell with file and line, and every question that one system answers twice for a case.
    """
    table = read_table(path, columns)
    check_columns(table, ("case_id", "question_id", "value", "system"), ("case_id", "question_id", "value"))
    found: list[Answer] = []
    problems: list[Problem] = []
    seen: dict[tuple[str, ...], int] = {}
    for line, row in table.dicts():
        try:
            case, question = _id(row.get("case_id"), "case_id"), _id(row.get("question_id"), "question_id")
            answer = Answer(case, question, values(row.get("value")), str(row.get("system") or system).strip())
            key = (identity(case), question, identity(answer.system))
            if (first := seen.setdefault(key, line)) != line:
                raise ValueError(f"question {question} of case '{case}' is answered already on line {first}")
            found.append(answer)
        except ValueError as error:
            problems.append(Problem(table.file, line, "", str(error)))
    if problems:
        refuse(problems)
    if not found:
        raise InputError(f"{table.file} has no rows")
    return found


def write_answers(answers: Iterable[Answer], path: str | Path) -> None:
    """Write answers; one text stands as a text, any other number of them as a list."""
    rows: list[dict[str, Any]] = []
    for answer in answers:
        # A text that begins like a list stands in one, so that it is read back as a text.
        alone = len(answer.value) == 1 and not answer.value[0].startswith("[")
        value: Any = answer.value[0] if alone else list(answer.value)
        own = {"case_id": answer.case_id, "question_id": answer.question_id, "value": value}
        rows.append(own | ({"system": answer.system} if answer.system else {}))
    if written_ending(path) == ".jsonl":
        write_jsonl(rows, Path(path))
        return
    flat = [
        row
        | {
            "system": row.get("system", ""),
            "value": row["value"] if isinstance(row["value"], str) else dump_json(row["value"]),
        }
        for row in rows
    ]
    names = ("case_id", "question_id", "value", "system")
    write_frame(pl.DataFrame(flat, schema=dict.fromkeys(names, pl.String)), Path(path))


def read_questions(path: str | Path) -> list[Question]:
    """Read questions: question_id, kind and optionally group, text, options; other columns are ignored.

    InputError lists every bad row with file and line.
    """
    table = read_table(path)
    check_columns(table, table.columns, ("question_id", "kind"))
    found: dict[str, Question] = {}
    problems: list[Problem] = []
    for line, row in table.dicts():
        try:
            name, kind = _id(row.get("question_id"), "question_id"), str(row.get("kind") or "")
            if kind not in KINDS:
                raise ValueError(f"kind '{kind}' of question {name} is none of {', '.join(KINDS)}")
            if name in found:
                raise ValueError(f"question {name} stands twice")
            text, group = (str(row.get(field) or "") for field in ("text", "group"))
            found[name] = Question(name, kind, group or name, text, values(row.get("options")))
        except ValueError as error:
            problems.append(Problem(table.file, line, "", str(error)))
    if problems:
        refuse(problems)
    return list(found.values())


def values(cell: Any) -> tuple[str, ...]:
    """The answers of a cell: a text, or a list of them (as JSON text in a .csv); empty texts are none.

    >>> values("red"), values('["red", "scaly"]'), values(None)
    (('red',), ('red', 'scaly'), ())
    """
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        with suppress(ValueError):  # "[sic] red" is a text
            cell = parse_json(cell)
    items = list(cell) if isinstance(cell, list | tuple) else [cell]
    if any(isinstance(item, list | dict | float | bool) for item in items):
        raise ValueError('a text, or a list of texts such as ["red", "scaly"], is needed')
    return tuple(text for item in items if item is not None and (text := str(item).strip()))


def _id(value: Any, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise ValueError(f"{name} must be a text that is not empty")
    return str(value).strip()
