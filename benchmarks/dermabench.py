"""DermaBench (Yilmaz 2026): 22 questions answered by dermatologists on each of the 656 pictures of DDI.

The release holds no pictures, and how its files look inside could not be read when this was written: the layout is one
row an answer, with names that `columns` maps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..judge.errors import InputError
from ..judge.records import identity
from ..judge.tablefile import Problem, check_columns, parse_json, rename
from . import ddi
from .bundle import Bundle, find_file
from .reading import one_of, read_csv_with_index

KINDS = ("single", "multi", "open")
_COLUMNS = ("image", "question_id", "question", "type", "answer")


def read(
    root: str | Path,
    *,
    pictures: str | Path | None = None,
    images: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    separator: str = ";",
    reference: str = "",
    licence: str = "",
) -> Bundle:
    """Read the answers (dermabench*.csv) below `root` and join them to the DDI below `pictures` (default: `root`).

    columns: name in the file -> image (a DDI file), question_id, question, type (single, multi, open) or answer.
    separator: between the answers of a multi question that is not a JSON list. reference: the question_id whose answer
    is the narrative and becomes the case's reference. licence: that of the answers, as its record says. images: the
    folder of DDI's pictures. Gold, skin band and malignancy are DDI's. Comes with two tables: answers (case_id,
    question_id, value: a text, for multi a list) and questions (question_id, group, text, options, kind); the options
    are those that occur. InputError if the table or DDI is not there.
    """
    root = Path(root)
    table = rename(read_csv_with_index(find_file(root, ("dermabench*.csv", "DermaBench*.csv"))), columns or {})
    check_columns(table, table.columns, _COLUMNS)
    base = ddi.read(pictures or root, images=images)
    ids = {identity(case.id): case.id for case in base.cases}
    left_out = {identity(problem.field.removesuffix(".png")) for problem in base.problems}
    problems = list(base.problems)
    questions: dict[str, dict[str, Any]] = {}
    answers: list[dict[str, Any]] = []
    seen: dict[tuple[str, str], int] = {}
    for line, row in table.dicts():
        try:
            name, question = _image(row["image"]), str(row["question_id"]).strip()
            if identity(name) in left_out:
                continue
            if identity(name) not in ids:
                raise ValueError(f"'{row['image']}' is no picture of ddi_metadata.csv")
            if (first := seen.setdefault((identity(name), question), line)) != line:
                raise ValueError(f"question {question} of this picture is answered already on line {first}")
            value = _value(row, question, questions, separator)
            answers.append({"case_id": ids[identity(name)], "question_id": question, "value": value})
        except ValueError as error:
            problems.append(Problem(table.file, line, str(row["image"]), str(error)))
    if reference and reference not in questions:
        raise InputError(f"reference: no question '{reference}'; known: {', '.join(questions)}")
    texts = {row["case_id"]: str(row["value"]) for row in answers if row["question_id"] == reference}
    answered = {row["case_id"] for row in answers}
    told = f"{ddi.LICENCE} (pictures); {licence or 'see its Harvard Dataverse record'} (answers)"
    cases = [replace(case, reference=texts.get(case.id, ""), source="DermaBench", licence=told) for case in base.cases
             if case.id in answered]  # fmt: skip
    for found in questions.values():
        found["options"] = sorted(found["options"])
    return Bundle(
        "dermabench", "1", told, "Harvard Dataverse", "Yilmaz A et al., arXiv:2601.14084", cases, base.root,
        problems=problems, tables={"answers": answers, "questions": list(questions.values())},
        notes=[
            "The layout was not checked against the published files.",
            f"{len(answers)} answers to {len(questions)} questions; options are those that occur.",
            *([] if reference else ["No reference text: say reference=QUESTION_ID of the narrative description."]),
            *base.notes,
        ])  # fmt: skip


def _image(value: Any) -> str:
    name = str(value).strip().removesuffix(".png")
    if not re.fullmatch(r"\d{6,}", name):
        fix = f" (perhaps {int(name):06d}: zeros are lost where it is read as a number)" if name.isdigit() else ""
        raise ValueError(f"image '{value}' is no name such as 000001.png{fix}")
    return name


def _value(
    row: Mapping[str, Any], question: str, questions: dict[str, dict[str, Any]], separator: str
) -> str | list[str]:
    """The answer, its question noted; ValueError if it is empty or the question is called otherwise elsewhere."""
    if not question:
        raise ValueError("question_id is empty")
    kind, text, answer = str(row["type"]).strip().lower(), str(row["question"]).strip(), str(row["answer"]).strip()
    try:
        one_of(kind, KINDS, "type")
    except InputError as error:
        raise ValueError(str(error)) from error
    known = questions.setdefault(question, {
        "question_id": question, "group": question, "text": text, "options": set(), "kind": kind})  # fmt: skip
    if (known["text"], known["kind"]) != (text, kind):
        raise ValueError(f"question {question} is '{known['text']}' ({known['kind']}) on an earlier line")
    if not answer:
        raise ValueError(f"the answer to {question} is empty ('not mentioned' would be an answer)")
    if kind != "multi":
        known["options"] |= {answer} if kind == "single" else set()
        return answer
    parts = parse_json(answer) if answer.startswith("[") else answer.split(separator)
    values = [str(part).strip() for part in parts if str(part).strip()]
    known["options"] |= set(values)
    return values
