"""What is wrong with the questions and gold answers of a benchmark folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..evaluators.answer_units import NOT_MENTIONED, TABLES, load_questions, plain
from ..judge.answers import ANSWERS, QUESTIONS, Answer, Question, read_answers, read_questions
from ..judge.benchmark import CARD, load_card
from ..judge.errors import InputError
from ..judge.records import Case, identity
from ..judge.tablefile import Problem


def question_problems(folder: Path, cases: Iterable[Case]) -> list[Problem]:
    """Problems of questions.jsonl and answers.jsonl; [] if neither is there.

    Looked at: fields and ids, answers to unknown questions or about unknown cases, gold that is none of the options,
    several answers to a question that takes one, questions that no case has a gold answer to, and gold without
    questions (where no table of the data set is shipped).
    """
    problems: list[Problem] = []
    questions = _read(folder / QUESTIONS, read_questions, problems)
    answers = _read(folder / ANSWERS, read_answers, problems)
    if problems or not (questions or answers):
        return problems
    if not questions and (shipped := _shipped(folder)):
        questions = list(shipped)
    elif not questions:
        return [Problem(QUESTIONS, 0, "", f"is missing, and {ANSWERS} cannot be scored without the questions")]
    known = {identity(case.id) for case in cases}
    strangers = [a.case_id for a in answers or () if identity(a.case_id) not in known]
    problems += _told(strangers, ANSWERS, "case_id", "is no case of this benchmark")
    by_id = {question.id: question for question in questions}
    unasked = [a.question_id for a in answers or () if a.question_id not in by_id]
    if (folder / QUESTIONS).is_file():  # a shipped table may know a part of the questions only
        problems += _told(unasked, ANSWERS, "question_id", f"is no question of {QUESTIONS}")
        answered = {a.question_id for a in answers or ()}
        silent = [question.id for question in questions if question.id not in answered]
        problems += _told(silent, QUESTIONS, "question_id", f"has no gold answer in {ANSWERS}")
    return problems + _options([a for a in answers or () if a.question_id in by_id], by_id)


def _read(path: Path, read: object, problems: list[Problem]) -> list:  # type: ignore[type-arg]
    if not path.is_file():
        return []
    try:
        return read(path)  # type: ignore[operator,no-any-return]
    except InputError as error:
        problems += [Problem(path.name, 0, "", line) for line in str(error).splitlines()]
        return []


def _shipped(folder: Path) -> Sequence[Question]:
    try:
        name = load_card(folder).name if (folder / CARD).is_file() else ""
    except InputError:  # said elsewhere
        return ()
    return load_questions(name).questions if name in TABLES else ()


def _options(answers: Iterable[Answer], questions: dict[str, Question]) -> list[Problem]:
    """Gold that cannot be scored: off the options, or several answers where one is taken."""
    off: dict[tuple[str, str], list[str]] = defaultdict(list)
    several: dict[str, list[str]] = defaultdict(list)
    for answer in answers:
        question = questions[answer.question_id]
        if question.kind == "single" and len(answer.value) > 1:
            several[question.id].append(answer.case_id)
        if question.kind == "open" or not question.options:
            continue
        allowed = {plain(option) for option in question.options} | {NOT_MENTIONED}
        for value in answer.value:
            if plain(value) not in allowed:
                off[question.id, value].append(answer.case_id)
    problems = [
        Problem(ANSWERS, 0, f"question {name}", f"'{value}' ({_some(ids)}) is none of its options: "
                f"{', '.join(questions[name].options)}")
        for (name, value), ids in off.items()
    ]  # fmt: skip
    return problems + [Problem(ANSWERS, 0, f"question {name}", f"takes one answer and has several for {_some(ids)}")
                       for name, ids in several.items()]  # fmt: skip


def _told(names: Sequence[str], file: str, field: str, what: str) -> list[Problem]:
    return [Problem(file, 0, field, f"{_some(list(dict.fromkeys(names)))} {what}")] if names else []


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
