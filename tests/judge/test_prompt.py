"""The prompt: one template, two forms, foreign text fenced by a delimiter it cannot contain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.judge.errors import InputError
from dermjudge.judge.prompt import render, template_hash
from dermjudge.judge.records import Case, Image, Narrative
from dermjudge.judge.rubric import load_rubric

RUBRIC = load_rubric("derm6")
CASE = Case("c1", (Image("a.png"),), context="62-year-old, left palm.")


def test_full_form_carries_the_rubric_verbatim_and_bound_form_its_id():
    narrative = Narrative("c1", "s", "Likely psoriasis.")
    full, bound = render(CASE, narrative, RUBRIC, "full"), render(CASE, narrative, RUBRIC, "bound")
    assert RUBRIC.text() in full.text
    for dimension in RUBRIC.dimensions:
        assert all(words in full.text for words in dimension.anchors.values())
    assert RUBRIC.id in bound.text and RUBRIC.text() not in bound.text
    assert full.slots == bound.slots == tuple(f"{name}:" for name in RUBRIC.names)
    assert full.images == ("a.png",)


@given(st.text(min_size=1), st.text())
def test_foreign_text_stands_whole_between_delimiters_it_cannot_contain(text, context):
    narrative = Narrative("c1", "s", "x" + text + "x")
    prompt = render(Case("c1", context=context), narrative, RUBRIC, "full")
    assert prompt.nonce not in narrative.judged + context
    assert narrative.judged in [segment.text for segment in prompt.segments if segment.foreign]
    fixed = "".join(segment.text for segment in prompt.segments if not segment.foreign)
    assert fixed.count(prompt.nonce) >= 4


def test_delimiter_depends_on_text_and_seed_but_not_on_when_it_is_asked():
    a = render(CASE, Narrative("c1", "s", "one"), RUBRIC, seed=1)
    assert a == render(CASE, Narrative("c1", "s", "one"), RUBRIC, seed=1)
    assert a.nonce != render(CASE, Narrative("c1", "s", "two"), RUBRIC, seed=1).nonce
    assert a.nonce != render(CASE, Narrative("c1", "s", "one"), RUBRIC, seed=2).nonce


def test_the_picture_is_shown_to_the_judge_whatever_the_candidate_saw():
    assert render(CASE, Narrative("c1", "s", "one", arm="text_only"), RUBRIC).images == ("a.png",)


def test_braces_in_texts_are_harmless():
    text = "{scores} {0} {{x}} %s {% raw %}"
    assert text in render(CASE, Narrative("c1", "s", text), RUBRIC).text


def test_reasoning_blocks_are_not_judged_and_an_empty_rest_is_refused():
    prompt = render(CASE, Narrative("c1", "s", "<think>secret</think>Psoriasis."), RUBRIC)
    assert "secret" not in prompt.text and "Psoriasis." in prompt.text
    with pytest.raises(InputError, match="nothing is left"):
        render(CASE, Narrative("c1", "s", "<think>all of it</think> "), RUBRIC)
    with pytest.raises(InputError, match="unknown prompt form"):
        render(CASE, Narrative("c1", "s", "x"), RUBRIC, "short")


def test_template_hash_moves_with_the_words_and_not_with_the_case():
    assert template_hash(RUBRIC, "full") != template_hash(RUBRIC, "bound")
    assert template_hash(RUBRIC, "full") == template_hash(load_rubric("derm6"), "full")
