"""Arms and prompts: what a candidate is shown, and the words round it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.benchmarks.arms import ARMS, WITH_CONTEXT, WITH_PICTURES, View, check_arms, within
from dermjudge.benchmarks.candidate_prompts import SHIPPED, CandidatePrompt
from dermjudge.evaluators.differential import parse_differential
from dermjudge.evaluators.triage_call import read_triage
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Image

CASE = Case("c", tuple(Image(f"{k}.png") for k in range(8)), context=" itchy for 3 weeks ", reference="REF",
            diagnosis=("GOLD",))  # fmt: skip


def test_each_arm_shows_what_its_name_says():
    assert ARMS["image_only"](CASE, (), 0) == View(CASE.images)
    assert ARMS["image_context"](CASE, (), 0) == View(CASE.images, "itchy for 3 weeks")
    assert ARMS["text_only"](CASE, (), 0) == View((), "itchy for 3 weeks")
    for name, show in ARMS.items():
        view = show(CASE, (), 0)
        assert (name in WITH_PICTURES) == bool(view.images) and (name in WITH_CONTEXT) == (view.context is not None)


def test_what_a_case_lacks_is_said():
    bare, blind = Case("a", CASE.images), Case("b", context="words")
    assert ARMS["image_context"](bare, (), 0) == View(CASE.images, "", ("the case has no context",))
    assert "no context" in ARMS["text_only"](bare, (), 0).problem
    assert ARMS["image_only"](blind, (), 0).problem == ARMS["image_context"](blind, (), 0).problem != ""


def test_unknown_and_doubled_arms():
    for names in ((), ("image_only", "image_only"), ("picture",)):
        with pytest.raises(InputError, match="image_only, image_context, text_only"):
            check_arms(names)


def test_an_image_budget_skips_or_cuts_and_says_so():
    view = View(CASE.images, "x", ("a",))
    assert within(view, 8, "skip") == within(view, None, "skip") == view
    assert within(view, 3, "skip").problem == "the case has 8 pictures and this candidate takes 3"
    cut = within(view, 3, "first")
    assert cut.images == CASE.images[:3] and cut.flags == ("a", "the first 3 of 8 pictures shown") and not cut.problem


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_prompts_hold_what_is_shown_and_nothing_else(name):
    prompt = CandidatePrompt(name)
    with_all = prompt.render(View(CASE.images, "itchy"))
    assert "8 pictures of the case are attached." in with_all and "\nitchy\n" in with_all
    only = prompt.render(View(CASE.images))
    assert "itchy" not in only and "context" not in only.lower()
    assert "No picture is shown." in prompt.render(View((), "itchy"))
    assert "none given" in prompt.render(View(CASE.images, ""))
    assert "3 pictures of the case (of 8) are attached." in prompt.render(View(CASE.images[:3]), 8)
    for text in (with_all, only):
        assert "REF" not in text and "GOLD" not in text and "{pictures}" not in text and "{context}" not in text


def test_the_answer_that_the_prompts_ask_for_is_what_the_parsers_read():
    form = "Differential diagnosis:\n1. Psoriasis\n2. Tinea corporis\n3. Eczema\n\nFinal diagnosis: Psoriasis"
    form += "\nTriage: soon"
    assert all(line.split(" ")[0] in CandidatePrompt().render(View()) for line in form.split("\n") if line)
    found = parse_differential("Findings: scaly plaques.\n\n" + form)
    assert [item.name for item in found.items] == ["Psoriasis", "Tinea corporis", "Eczema"]
    assert read_triage(form).level == "soon"
    brief = parse_differential("Scaly plaques; psoriasis or tinea corporis. The answer is psoriasis.")
    assert brief.items[0].name.lower() == "psoriasis"


@given(st.text(max_size=300))
def test_odd_contexts_stand_in_the_prompt_as_they_are(context):
    """Braces, slots, delimiters of another call: the context is data and comes through unchanged."""
    context = f"{context}{{pictures}} {{0}} {{context}} %s"
    text = CandidatePrompt().render(View((), context))
    line = text.split("between the lines ", 1)[1][:16]
    assert text.count(f"\n{line}\n{context}\n{line}") == 1 and line not in context
    assert text.startswith(CandidatePrompt().render(View(), None).split("\n\n", 1)[0])


def test_half_a_character_is_an_input_error():
    with pytest.raises(InputError, match="lone surrogate"):
        CandidatePrompt().render(View((), "a\ud800"))


def test_prompt_files_of_the_user(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text('Answer as {"a": {}} about {pictures}{context}', "utf-8-sig")
    mine = CandidatePrompt(file)
    assert mine.render(View(CASE.images[:1])) == 'Answer as {"a": {}} about 1 picture of the case is attached.'
    assert mine.id.startswith("mine:") and mine.hash != CandidatePrompt().hash
    file.write_text('Answer as {"a": {}} about {pictures}.{context}')
    assert CandidatePrompt(file).hash != mine.hash
    file.write_text("no slot")
    with pytest.raises(InputError, match=r"no slot \{context\}"):
        CandidatePrompt(file).render(View((), "x"))
    for bad in ("nowhere", tmp_path):
        with pytest.raises(InputError, match="narrative, structured, brief"):
            CandidatePrompt(bad)
    file.write_text("  ")
    with pytest.raises(InputError, match="has 2 bytes"):
        CandidatePrompt(file)
