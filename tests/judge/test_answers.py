"""Answers and questions on disk: they come back as they were, and bad rows are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.judge.answers import Answer, read_answers, read_questions, values, write_answers
from dermjudge.judge.errors import InputError

ROWS = [
    Answer("c1", "q1", ("red",)), Answer("c1", "q2", ("scale", "crust"), "s"), Answer("c2", "q1", (), "s"),
    Answer("c3", "q1", ("[sic] red",), "s"),
]  # fmt: skip


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_answers_come_back(tmp_path, ending) -> None:
    write_answers(ROWS, tmp_path / f"a.{ending}")
    assert read_answers(tmp_path / f"a.{ending}") == ROWS


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).map(str.strip).filter(bool)
    )
)
def test_values_of_a_list_are_its_texts(texts) -> None:
    assert values(texts) == tuple(texts)


def test_a_file_without_system_gets_one(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("image,question_id,value\nc1,q1,red\nc2,q1,\n")
    found = read_answers(tmp_path / "a.csv", {"image": "case_id"}, "mine")
    assert found == [Answer("c1", "q1", ("red",), "mine"), Answer("c2", "q1", (), "mine")]


def test_bad_rows_are_named(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"case_id": "c1", "question_id": "q1", "value": "a"}\n{"case_id": "C1 ", "question_id": "q1", "value": "b"}\n'
        '{"case_id": "", "question_id": "q1", "value": "b"}\n{"case_id": "c4", "question_id": "q1", "value": 0.5}\n'
    )
    with pytest.raises(InputError) as error:
        read_answers(path)
    text = str(error.value)
    assert "line 2: question q1 of case 'C1' is answered already on line 1" in text
    assert "line 3: case_id must be" in text and "line 4: a text, or a list of texts" in text


def test_questions(tmp_path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question_id": "q1", "kind": "multi", "options": ["a", "b"], "category": "x"}\n')
    (found,) = read_questions(path)
    assert (found.id, found.kind, found.group, found.options) == ("q1", "multi", "q1", ("a", "b"))
    path.write_text('{"question_id": "q1", "kind": "many"}\n')
    with pytest.raises(InputError, match="line 1: kind 'many' of question q1 is none of single, multi, open"):
        read_questions(path)
