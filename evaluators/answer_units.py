"""What is scored as one: a question, or sub-questions that repeat one question for several sites; and their tables."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import yaml

from ..judge.answers import Answer, Question
from ..judge.errors import InputError
from ..judge.records import identity
from .diagnosis_rows import STRICT
from .terms import Terms

NOT_MENTIONED = "not mentioned"
TABLES = ("dermabench", "dermavqa_das")
MOST = 2000  # units; more are questions that are each asked of one case, and no statistic of one question is left
_DATA = {name: f"{name}_questions.yaml" for name in TABLES}


class QuestionTable(NamedTuple):
    """A shipped table: the questions that are known, how many the data set has, its subjects, and where it is from."""

    name: str
    size: int
    questions: tuple[Question, ...]
    subjects: tuple[str, ...]
    source: str


class Strange(NamedTuple):
    """An answer that cannot be scored as given: none of the options, several to a single question, or unasked."""

    system: str
    case_id: str
    question_id: str
    value: str
    why: str


@dataclass(frozen=True)
class Unit:
    """One question, or (kind "slots") sub-questions that are scored together whatever their order."""

    name: str
    kind: str
    group: str
    text: str
    members: tuple[str, ...]
    options: tuple[str, ...]
    guessed: bool = False  # the options are those that occur in the gold


class Marked(NamedTuple):
    """Answers of one unit on cases (n,): `sets` (n, options) of what is ticked, `extra` (n,): answers off the options,
    `answered`, `none`: "not mentioned" alone (n,); `texts`: as written, for open questions."""

    sets: np.ndarray
    extra: np.ndarray
    answered: np.ndarray
    none: np.ndarray
    texts: tuple[str, ...]


@lru_cache(maxsize=len(TABLES))
def load_questions(name: str) -> QuestionTable:
    """The shipped table of a data set's questions; only what is published of them. InputError for an unknown name.

    >>> table = load_questions("dermavqa_das")
    >>> len(table.questions), table.size, table.questions[0].options
    (27, 63, ('single spot', 'limited area', 'widespread', 'Not mentioned'))
    """
    if name not in _DATA:
        raise InputError(f"no table of questions '{name}'; there are {', '.join(TABLES)}")
    content: dict[str, Any] = yaml.safe_load(files(__package__).joinpath("data", _DATA[name]).read_text("utf-8"))
    questions = tuple(
        Question(name, row["kind"], row["group"], row["text"], tuple(row["options"]))
        for row in content["questions"] for name in row["ids"]
    )  # fmt: skip
    subjects = tuple(row["subject"] for row in content["subjects"])
    return QuestionTable(content["name"], content["count"], questions, subjects, content["source"])


def plain(text: str) -> str:
    """The form in which two answers are equal: compatibility forms, case, blanks and punctuation do not matter.

    >>> plain("  Not  Mentioned. ") == plain("not mentioned"), plain("A-type") == plain("A type")
    (True, True)
    """
    words = re.findall(r"\w+|[<>+]", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(words) or identity(text)


def units_of(questions: Sequence[Question], gold: Sequence[Answer]) -> list[Unit]:
    """Questions as units; single questions with one group and the same options become one.

    InputError if an id repeats, two options are alike, or there are more than MOST units.
    """
    by_group: dict[str, list[Question]] = {}
    for question in questions:
        by_group.setdefault(question.group or question.id, []).append(question)
    if len({q.id for q in questions}) < len(questions):
        raise InputError("a question stands twice; each id must be given once")
    said: dict[str, dict[str, str]] = {}
    for answer in gold:
        for value in answer.value:
            said.setdefault(answer.question_id, {}).setdefault(plain(value), value)
    units = []
    for group, members in by_group.items():
        together = len(members) > 1 and all(q.kind == "single" and q.options == members[0].options for q in members)
        parts = [members] if together and members[0].options else [[q] for q in members]
        for part in parts:
            first, ids = part[0], tuple(q.id for q in part)
            occurring = {form: value for q in ids for form, value in said.get(q, {}).items()}
            options = first.options or tuple(occurring[form] for form in sorted(occurring))
            if first.kind == "open":
                options = ()
            elif NOT_MENTIONED not in map(plain, options):
                options = (*options, "Not mentioned")
            forms = [plain(option) for option in options]
            if len(set(forms)) < len(forms):
                raise InputError(f"question {first.id}: two options differ in nothing but case, blanks or punctuation")
            name, kind = (first.id, first.kind) if len(part) == 1 else (group, "slots")
            guessed = not first.options and kind != "open"
            units.append(Unit(name, kind, group, first.text, ids, options, guessed))
    if len(units) > MOST:
        raise InputError(
            f"{len(units)} questions are more than the {MOST} that are scored one by one; a question put to many "
            "cases needs one question_id"
        )
    return units


def mark(
    unit: Unit, cases: Sequence[str], given: dict[tuple[str, str], tuple[str, ...]], system: str
) -> tuple[Marked, list[Strange]]:
    """The answers of a system (or the gold) to a unit; `given`: (case, question_id) -> values."""
    place = {plain(option): k for k, option in enumerate(unit.options)}
    sets, extra = np.zeros((len(cases), len(place)), dtype=bool), np.zeros(len(cases))
    none, answered = np.zeros(len(cases), dtype=bool), np.zeros(len(cases), dtype=bool)
    texts, strange = [], []
    for row, case in enumerate(cases):
        values = [(q, value) for q in unit.members for value in given.get((case, q), ())]
        answered[row] = bool(values)
        forms = {plain(value) for _, value in values}
        none[row] = forms == {NOT_MENTIONED}
        texts.append(" ".join(value for _, value in values))
        if unit.kind == "open":
            continue
        several = [q for q in unit.members if unit.kind != "multi" and len(given.get((case, q), ())) > 1]
        strange += [
            Strange(system, case, q, "; ".join(given[case, q]), "several answers to a question that takes one")
            for q in several
        ]
        off = {plain(value): (q, value) for q, value in values if q not in several and plain(value) not in place}
        strange += [Strange(system, case, q, value, "none of the options") for q, value in off.values()]
        extra[row] = len(off) + len(several)
        for q, value in values:
            if q not in several and (k := place.get(plain(value))) is not None:
                sets[row, k] = True
    return Marked(sets, extra, answered, none, tuple(texts)), strange


def matches(gold: Sequence[str], said: Sequence[str], terms: Terms) -> np.ndarray:
    """Whether what is said names the gold diagnosis or a narrower one, (n,); NaN where the list does not hold gold."""

    @cache
    def names(text: str) -> tuple[str, ...]:
        return tuple(hit.canonical for hit in terms.match(text).hits)

    found = np.full(len(gold), np.nan)
    for row, (true, text) in enumerate(zip(gold, said, strict=True)):
        if wanted := names(true):
            found[row] = any(terms.place(one, name) in STRICT for one in names(text) for name in wanted)
    return found
