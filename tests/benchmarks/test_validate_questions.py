"""`data validate` on questions and gold answers: what is wrong is named, and nothing else."""

import json

import pytest

from dermjudge.benchmarks.validate import validate
from dermjudge.evaluators.answer_units import load_questions
from dermjudge.judge.benchmark import write_benchmark
from dermjudge.judge.records import Case

Q = {"question_id": "q1", "kind": "single", "options": ["red", "blue"]}
A = {"case_id": "c1", "question_id": "q1", "value": "red"}


def folder(tmp_path, questions, answers, name="b"):
    def extra(path):
        for table, rows in (("questions", questions), ("answers", answers)):
            if rows:
                text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
                (path / f"{table}.jsonl").write_text(text + "\n")

    cases = [Case("c1", diagnosis=("psoriasis",)), Case("c2", diagnosis=("psoriasis",))]
    write_benchmark(tmp_path / "b", name=name, version="1", licence="CC0-1.0", source="t", cases=cases, extra=extra)
    return tmp_path / "b"


def test_nothing_is_wrong(tmp_path):
    open_too = {"question_id": "q2", "kind": "open"}
    given = [A, A | {"case_id": "C2 ", "value": "Not mentioned"}, A | {"question_id": "q2", "value": "anything"}]
    assert validate(folder(tmp_path, [Q, open_too], given)) == []


@pytest.mark.parametrize(
    ("questions", "answers", "told"),
    [
        ([Q], [A, A | {"case_id": "c9"}], "answers.jsonl, case_id: c9 is no case of this benchmark"),
        ([Q], [A, A | {"question_id": "q7"}], "answers.jsonl, question_id: q7 is no question of questions.jsonl"),
        ([Q], [A | {"value": "green"}], "question q1: 'green' (c1) is none of its options: red, blue"),
        ([Q], [A | {"value": ["red", "blue"]}], "question q1: takes one answer and has several for c1"),
        ([Q, Q | {"question_id": "q2"}], [A], "questions.jsonl, question_id: q2 has no gold answer in answers.jsonl"),
        ([Q | {"kind": "free"}], [A], "line 1: kind 'free' of question q1 is none of single, multi, open"),
        ([Q], [A, A], "line 2: question q1 of case 'c1' is answered already on line 1"),
        ([], [A], "questions.jsonl: is missing, and answers.jsonl cannot be scored"),
    ],
)
def test_each_fault_is_named(tmp_path, questions, answers, told):
    (problem,) = validate(folder(tmp_path, questions, answers))
    assert told in str(problem), str(problem)


def test_a_shipped_table_stands_in_and_need_not_know_every_question(tmp_path):
    asked = next(q.id for q in load_questions("dermavqa_das").questions if q.options and q.kind != "open")
    given = [A | {"question_id": asked}, A | {"question_id": "none of the table"}]
    (problem,) = validate(folder(tmp_path, [], given, "dermavqa_das"))
    assert f"question {asked}" in str(problem) and "'red' (c1) is none of its options" in str(problem)
