"""DermaVQA-DAS (Yim 2025, MEDIQA-MAGIC): the iiyi consultations with closed questions answered by experts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..judge.errors import InputError
from ..judge.records import identity
from ..judge.tablefile import Problem
from .bundle import Bundle, Pictures, find_file
from .dermavqa import IIYI_FILES, LICENCE, Encounters
from .reading import one_of, read_json_list

DEFINITIONS = "closedquestions_definitions_imageclef2025.json"
_ANSWERS = ("train_cvqa.json", "valid_cvqa.json", "test_cvqa.json")
_LANGUAGES = ("en", "zh")


def read(root: str | Path, *, images: str | Path | None = None, language: str = "en") -> Bundle:
    """Read train.json, train_cvqa.json (valid, test alike) and the definitions of the questions below `root`.

    images: the folder of pictures (default: `root`). language: "en" or "zh". Comes with two tables: answers (case_id,
    question_id, value: the option's text) and questions (question_id, group, text, options, kind, type, category).
    Sub-questions such as CQID011-001 and -002 share a group, the stem, and are to be scored together. "Not mentioned"
    is an option like any other. Consultations without an answer are left out. InputError if a file is not there.
    """
    root = Path(root)
    questions = _questions(find_file(root, (DEFINITIONS,)), one_of(language, _LANGUAGES, "language"))
    pictures = Pictures(Path(images or root))
    reader = Encounters(pictures, language, "DermaVQA-DAS", LICENCE, "physician")
    reader.read(root, IIYI_FILES)
    ids = {identity(case.id): case.id for case in reader.cases}
    left_out = {identity(problem.field) for problem in reader.problems}
    answers: list[dict[str, Any]] = []
    paths = [path for name in _ANSWERS if (path := next(iter(sorted(root.rglob(name))), None))]
    if not paths:
        find_file(root, _ANSWERS)
    seen: set[str] = set()
    for path in paths:
        for line, row in read_json_list(path, "encounter_id"):
            name = str(row.get("encounter_id"))
            problems = [] if identity(name) in ids or identity(name) in left_out else ["is no consultation of the set"]
            if identity(name) in seen:
                problems.append("stands twice")
            elif not problems and identity(name) in ids:
                seen.add(identity(name))
                for question, index in row.items():
                    if question == "encounter_id":
                        continue
                    try:
                        value = _option(questions, question, index)
                        answers.append({"case_id": ids[identity(name)], "question_id": question, "value": value})
                    except ValueError as error:
                        problems.append(str(error))
            reader.problems += [Problem(path.name, line, name, text) for text in problems]
    cases = [case for case in reader.cases if identity(case.id) in seen]
    return Bundle(
        "dermavqa_das", "2025", LICENCE, "https://osf.io/72rp3; https://github.com/wyim/ImageCLEF-MAGIC-2025",
        "Yim W et al., DermaVQA-DAS (2025)", cases, pictures.root, problems=reader.problems,
        tables={"answers": answers, "questions": list(questions.values())},
        notes=[
            f"{len(reader.cases) - len(cases)} of {len(reader.cases)} consultations have no closed answers and were "
            "left out.",
            f"{len(questions)} questions in {len({q['group'] for q in questions.values()})} groups; the "
            "sub-questions of a group are scored together, whatever their order.",
            *reader.notes(),
        ])  # fmt: skip


def _questions(path: Path, language: str) -> dict[str, dict[str, Any]]:
    questions: dict[str, dict[str, Any]] = {}
    for line, row in read_json_list(path, "qid"):
        qid, options = str(row.get("qid") or ""), row.get(f"options_{language}")
        if not qid or qid in questions or not isinstance(options, list) or len(options) < 2:
            raise InputError(f"{path.name} line {line}: a qid of its own and a list options_{language} are needed")
        questions[qid] = {
            "question_id": qid, "group": qid.rpartition("-")[0] or qid, "kind": "single",
            "text": str(row.get(f"question_{language}") or ""), "options": [str(option) for option in options],
            "type": str(row.get(f"question_type_{language}") or ""),
            "category": str(row.get(f"question_category_{language}") or ""),
        }  # fmt: skip
    return questions


def _option(questions: Mapping[str, Mapping[str, Any]], question: str, index: Any) -> str:
    if question not in questions:
        raise ValueError(f"{question} is no question of {DEFINITIONS}")
    options = questions[question]["options"]
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(options):
        raise ValueError(f"{question}: {index!r} is no option; 0 to {len(options) - 1}")
    return str(options[index])
