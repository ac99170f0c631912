"""Answers about unmatched items: what is asked, what an answer adds, and that it never overrules a match."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermjudge.evaluators.adjudication import adjudicated_top_k, item_key, unmatched_items, with_adjudication
from dermjudge.evaluators.diagnosis import DiagnosisResult, score_diagnosis
from dermjudge.evaluators.relations import RELATIONS
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Narrative

TEXTS = {
    "a": ("eczema", "1. Floopitis\n2. Eczema"),
    "b": ("eczema", "1. floopitis\n2. Tinea"),
    "d": ("psoriasis", "1. MM\n2. Tinea"),
    "e": ("zzz", "1. Floopitis"),
}


def scored() -> DiagnosisResult:
    cases = [Case(name, diagnosis=(gold,)) for name, (gold, _) in TEXTS.items()]
    return score_diagnosis(cases, [Narrative(name, "s", text) for name, (_, text) in TEXTS.items()])


def test_each_distinct_question_is_asked_once() -> None:
    asked = unmatched_items(scored())
    assert asked.drop("key").rows() == [("Floopitis", "eczema", "unmatched", 2), ("MM", "psoriasis", "ambiguous", 1)]
    assert asked["key"].to_list() == [item_key("FLOOPITIS", "eczema"), item_key("MM", "psoriasis")]


def test_answers_stand_in_columns_of_their_own() -> None:
    before = scored()
    after = with_adjudication(before, {item_key("floopitis", "eczema"): "synonym", "somebody else's": "other"})
    assert after.rows["adjudicated_rank"].to_list() == [1, 1, None, None]
    assert after.rows["adjudicated"].to_list() == [
        ["1 'Floopitis': synonym of eczema"], ["1 'floopitis': synonym of eczema"], [], [],
    ]  # fmt: skip
    assert after.rows.drop("adjudicated", "adjudicated_rank").equals(before.rows)
    assert after.items.drop("adjudicated").equals(before.items)
    assert after.systems == before.systems
    (found,) = adjudicated_top_k(after)
    assert (found.n, found.asked, found.answered) == (3, 2, 1)
    assert {k: e.value for k, e in found.strict.items()} == pytest.approx({1: 2 / 3, 3: 2 / 3, 5: 2 / 3})
    assert before.systems[0].strict[1].value == 0
    json.dumps(found.to_dict(), allow_nan=False)


def test_an_answer_never_overrules_a_match() -> None:
    result = scored()
    answers = {item_key(row["name"], row["gold"] or ""): "unmatched" for row in result.items.iter_rows(named=True)}
    after = with_adjudication(result, answers)
    assert after.rows["adjudicated_rank"].to_list() == result.rows["strict_rank"].to_list()
    matched = after.items.filter(after.items["state"] == "matched")
    assert matched["adjudicated"].null_count() == len(matched) > 0


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.sampled_from(unmatched_items(scored())["key"].to_list()), st.sampled_from(RELATIONS)))
def test_answers_only_ever_add(answers: dict[str, str]) -> None:
    result = scored()
    after = with_adjudication(with_adjudication(result, {}), answers)
    for own, more in zip(result.rows["strict_rank"], after.rows["adjudicated_rank"], strict=True):
        assert own is None or more <= own
    for k, estimate in adjudicated_top_k(after)[0].strict.items():
        assert estimate.value >= result.systems[0].strict[k].value


def test_what_is_no_relation_is_refused_and_so_is_a_result_without_answers() -> None:
    with pytest.raises(InputError, match=r"answer 'yes' to abc\.\.\. is none of same, synonym"):
        with_adjudication(scored(), {"abc": "yes"})
    with pytest.raises(InputError, match="no answers yet"):
        adjudicated_top_k(scored())
