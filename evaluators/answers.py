"""Closed questions: how often a system answers as the experts did, by question and group, beside a constant answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..judge.answers import Answer, Question
from ..judge.errors import InputError
from ..judge.records import identity
from .agreement import check_settings
from .answer_scores import EVERY, QuestionScores, Scored, estimates
from .answer_units import Marked, Strange, Unit, mark, units_of
from .terms import Terms, load_terms

__all__ = ["EVERY", "AnswersResult", "QuestionScores", "score_answers"]

NOTES = (
    'a question that is not answered counts as wrong; "not mentioned" is an answer like any other',
    "the baseline gives every case the commonest gold answer of these very cases, so it is hard to beat",
)


@dataclass(frozen=True)
class AnswersResult:
    """Scores per system: each question, each group of several, and all; answers that could not be scored as given."""

    questions: tuple[QuestionScores, ...]
    groups: tuple[QuestionScores, ...]
    strange: tuple[Strange, ...]
    settings: Mapping[str, Any]
    notes: tuple[str, ...]

    def of(self, question: str, system: str = "") -> QuestionScores:
        """A question, a group or EVERY; `system` may be left out where there is one. InputError if it is not there."""
        found = [f for f in (*self.questions, *self.groups) if f.question == question and system in ("", f.system)]
        if len(found) != 1:
            raise InputError(f"{len(found)} results for '{question}' by {system or 'any system'}; one is needed")
        return found[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        return {
            "questions": [f.to_dict() for f in self.questions], "groups": [f.to_dict() for f in self.groups],
            "strange": [s._asdict() for s in self.strange], "settings": dict(self.settings), "notes": list(self.notes),
        }  # fmt: skip


def score_answers(
    gold: Sequence[Answer],
    answers: Sequence[Answer],
    questions: Sequence[Question],
    cluster: Mapping[str, str] | None = None,
    *,
    diagnoses: Collection[str] = (),
    terms: Terms | None = None,
    resamples: int = 2000,
    seed: int = 0,
    alpha: float = 0.05,
) -> AnswersResult:
    """Score each system's answers against the gold answers to the same questions about the same cases.

    `cluster`: case_id -> patient, for intervals; default the case. `diagnoses`: open questions whose answers are
    matched as diagnoses by the term list. Options are compared without case, blanks and punctuation; an answer that is
    none of them is listed, counts as wrong and is never guessed at. Every system is scored on every question that has a
    gold answer. Shares of cases have Wilson intervals widened for patients, others percentile intervals from redrawing
    patients (none below 20).

    Raises InputError for gold that is none of its options or is given twice, an answer to an unknown question, a
    question in `diagnoses` that is not open, and if there is no gold or no answer.
    """
    check_settings(resamples, alpha)
    asked = {question.id for question in questions}
    if unknown := sorted({a.question_id for a in (*gold, *answers)} - asked):
        raise InputError(f"no question '{unknown[0]}' ({len(unknown)} such); there are {', '.join(sorted(asked)[:30])}")
    units = units_of(questions, gold)
    kinds = {unit.name: unit.kind for unit in units}
    if wrong := [name for name in diagnoses if kinds.get(name) != "open"]:
        raise InputError(
            f"'{wrong[0]}' is no open question; open are {', '.join(k for k in kinds if kinds[k] == 'open')}"
        )
    true = _given(gold)
    by_system: dict[str, list[Answer]] = {}
    for answer in answers:
        by_system.setdefault(answer.system, []).append(answer)
    if not true or not by_system:
        raise InputError(f"there is no {'gold' if not true else 'system'} answer; {len(asked)} questions were given")
    cases = list(dict.fromkeys(case for case, _ in true))
    patient = _patients(cases, cluster)
    terms = (terms or load_terms()) if diagnoses else None
    targets: list[tuple[Unit, np.ndarray, Marked]] = []
    for unit in units:
        marked, off = mark(unit, cases, true, "")
        if off:
            raise InputError(f"gold of case '{off[0].case_id}', question {off[0].question_id}: '{off[0].value}' is "
                             f"{off[0].why} ({len(off)} such); options: {', '.join(unit.options)}")  # fmt: skip
        if marked.answered.any():
            targets.append((unit, np.flatnonzero(marked.answered), marked))
    wanted = {(cases[row], name) for unit, rows, _ in targets for row in rows for name in unit.members}
    found: list[QuestionScores] = []
    groups: list[QuestionScores] = []
    strange: list[Strange] = []
    for system, own in by_system.items():
        given = _given(own)
        strange += [
            Strange(system, a.case_id, a.question_id, "; ".join(a.value), "this case has no gold answer to it")
            for a in own if (identity(a.case_id), a.question_id) not in wanted
        ]  # fmt: skip
        scored = []
        for unit, rows, marked in targets:
            said, off = mark(unit, [cases[row] for row in rows], given, system)
            strange += off
            scored.append(Scored(system, unit, _take(marked, rows), said, patient[rows],
                                  terms if unit.name in diagnoses else None))  # fmt: skip
        found_here, groups_here = estimates(scored, int(patient.max()) + 1, resamples, seed, alpha)
        found += found_here
        groups += groups_here
    notes = list(NOTES)
    if guessed := [unit.name for unit, _, _ in targets if unit.guessed]:
        notes.append(f"options of {', '.join(guessed)} are not known: those that occur in the gold count")
    settings = {"resamples": resamples, "seed": seed, "alpha": alpha, "cases": len(cases),
                "patients": int(patient.max()) + 1}  # fmt: skip
    return AnswersResult(tuple(found), tuple(groups), tuple(strange), settings, tuple(notes))


def _given(answers: Sequence[Answer]) -> dict[tuple[str, str], tuple[str, ...]]:
    """(case, question) -> values of one system; empty answers are not given."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for a in answers:
        key = (identity(a.case_id), a.question_id)
        if key in found:
            raise InputError(f"case '{a.case_id}', question {a.question_id} is answered twice; give each answer once")
        found[key] = a.value
    return {key: value for key, value in found.items() if value}


def _patients(cases: Sequence[str], cluster: Mapping[str, str] | None) -> np.ndarray:
    if cluster is None:
        return np.arange(len(cases))
    of_case = {identity(case): patient for case, patient in cluster.items()}
    if lost := [case for case in cases if case not in of_case]:
        raise InputError(f"no cluster is given for case '{lost[0]}' ({len(lost)} of {len(cases)} cases)")
    return np.unique([str(of_case[case]) for case in cases], return_inverse=True)[1]


def _take(marked: Marked, rows: np.ndarray) -> Marked:
    sets, extra, answered, none = (part[rows] for part in marked[:4])
    return Marked(sets, extra, answered, none, tuple(marked.texts[row] for row in rows))
