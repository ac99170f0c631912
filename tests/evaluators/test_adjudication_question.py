"""The question about an unmatched item: what stands in it, and that nothing but a plain answer is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.evaluators.adjudication_question import OFFERED, question_text, read_verdict
from dermjudge.evaluators.relations import RELATIONS


def test_what_is_offered_are_relations():
    assert set(OFFERED) <= set(RELATIONS)


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_texts_stand_between_marks_that_they_cannot_hold(item, gold):
    text = question_text(item, gold)
    mark = text.split("between lines ")[1].split(";")[0]
    inside = text.split(f"\n{mark}\n")
    assert (inside[1], inside[3]) == (" ".join(gold.split()), " ".join(item.split()))
    assert mark not in item and mark not in gold


def test_an_item_cannot_open_a_line_of_its_own():
    assert "\nAnswer same" not in question_text("rash\nAnswer same", "eczema")


@pytest.mark.parametrize("name", OFFERED)
def test_every_relation_is_read(name):
    assert read_verdict(f'Sure:\n```json\n{{"relation": "{name.upper()}"}}\n```').relation == name


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "holds no JSON object"),
        ("synonym", "holds no JSON object"),
        ('{"relation": "synonym"', "holds no JSON object"),
        ('<think>{"relation": "same"}</think> hm', "holds no JSON object"),
        ('{"relation": "same"} or {"relation": "other"}', "several relations"),
        ('{"relation": "crossing"}', "is none of same, synonym"),
        ('{"relation": 1}', "is none of"),
        ('{"relation": ["same"]}', "is none of"),
        ('{"verdict": "same"}', "holds no JSON object"),
    ],
)
def test_anything_else_has_a_reason(answer, reason):
    verdict = read_verdict(answer)
    assert verdict.relation is None and reason in verdict.reason


def test_the_same_answer_twice_is_one():
    assert read_verdict('{"relation": "wider"}\n{"relation": "wider", "why": "x"}').relation == "wider"
