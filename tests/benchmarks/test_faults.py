"""Invented texts only. The term list is the shipped one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from dermjudge.benchmarks.fault_edits import article, confusers, negation
from dermjudge.benchmarks.fault_phrases import FOLLOW_UP, SITES, UNSAFE
from dermjudge.benchmarks.faults import FAULTS, MADE_BY, planted_narratives
from dermjudge.evaluators.differential import parse_differential
from dermjudge.evaluators.terms import Condition, Terms, load_terms
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import URGENCIES, Candidate, Case, Image
from dermjudge.judge.tables import read_narratives, write_narratives

TERMS = load_terms()
REFERENCE = (
    "<think>A pearly thing, perhaps a cyst.</think>The left cheek shows a nodule with crusting. The border is rolled. "
    "It is not a melanoma. Such a picture is seen in a **Basal Cell Carcinoma (BCC)** and the left ear is free. "
    "In conclusion, this is most consistent with a basal cell carcinoma. "
    "I recommend seeing a dermatologist for a biopsy."
)
CASE = Case("c1", reference=REFERENCE, diagnosis=("basal cell carcinoma",))
JUDGED = REFERENCE.split("</think>")[1]


def by_fault(case: Case = CASE, source: str = "reference", seed: int = 0):
    return {n.provenance["fault"]: n for n in planted_narratives([case], source, TERMS, seed)}  # type: ignore[arg-type]


def leads(text: str) -> set[str]:
    return {hit.canonical for item in parse_differential(text, TERMS).items[:1] for hit in item.match.hits}


def test_the_reference_is_unchanged_and_every_narrative_says_what_it_is():
    made = by_fault()
    assert set(made) == {"none", *FAULTS["reference"]}
    assert made["none"].text == REFERENCE
    assert made["none"].system == "reference"
    for fault, narrative in made.items():
        assert narrative.provenance["made_by"] == MADE_BY
        assert narrative.arm == "text_only"
        if fault != "none":
            assert narrative.system == f"reference+{fault}"
            assert narrative.judged not in (JUDGED, "")
    shown = Case("c1", images=(Image("a.png"),), reference=REFERENCE)
    assert {n.arm for n in by_fault(shown).values()} == {"image_only"}


def test_counted_characters_are_those_that_changed():
    for fault, narrative in by_fault().items():
        if fault != "none":
            change = narrative.provenance["change"]
            assert change["chars_before"] == len(JUDGED)
            assert change["chars_before"] - change["chars_removed"] + change["chars_added"] == len(narrative.text)


def test_wrong_diagnosis_replaces_every_name_with_its_article_capitals_and_abbreviation():
    narrative = by_fault()["wrong-diagnosis"]
    change = narrative.provenance["change"]
    other = change["instead"]
    assert change["how"] == "renamed"
    assert change["label_concluded"] is True
    assert change["label_named"] == 3
    assert not re.search(r"(?i)basal|bcc", narrative.text)
    assert narrative.text.lower().count(other.lower()) == 2
    titled = " ".join(word[0].upper() + word[1:] for word in other.split())
    assert f"in {article(other)} **{titled}** and" in narrative.text
    assert leads(narrative.text) == {other}
    assert TERMS.place(other, "basal cell carcinoma") in ("sibling", "none")
    assert other != "melanoma"  # the text speaks against it, and would contradict itself


def test_a_conclusion_that_is_not_the_label_is_replaced_and_said():
    text = "The rash itches. Overall, this is most consistent with **tinea corporis**. A cream may help."
    change = (narrative := by_fault(Case("c", reference=text, diagnosis=("psoriasis",)))["wrong-diagnosis"]).provenance[
        "change"
    ]
    assert (change["how"], change["label_named"], change["label_concluded"]) == (
        "concluding sentence replaced",
        0,
        False,
    )
    assert "tinea" not in narrative.text
    assert narrative.text.startswith("The rash itches. ")
    assert narrative.text.endswith(" A cream may help.")
    assert leads(narrative.text) == {change["instead"]}
    added = by_fault(Case("c", reference="It itches at night.", diagnosis=("psoriasis",)))["wrong-diagnosis"]
    assert added.provenance["change"]["how"] == "concluding sentence added"
    assert added.text.startswith("It itches at night. ")


def test_a_second_name_in_brackets_goes_with_the_first():
    text = "The lesion is red. This is most consistent with a **cherry angioma (senile angioma)**, which is harmless."
    narrative = by_fault(Case("c", reference=text, diagnosis=("cherry angioma",)))["wrong-diagnosis"]
    other = narrative.provenance["change"]["instead"]
    assert narrative.text.endswith(f"consistent with {article(other)} **{other}**, which is harmless.")


def test_the_other_diagnosis_is_not_one_that_the_text_weighs():
    weighed = {"squamous cell carcinoma", "keratoacanthoma", "squamous cell carcinoma in situ"}
    text = f"This is basal cell carcinoma. Against it: {', '.join(sorted(weighed))}."
    near = {confusers(TERMS, ("basal cell carcinoma",), set(), default_rng(seed))[0] for seed in range(12)}
    assert near & weighed  # without the rule they would be chosen
    for seed in range(12):
        case = Case("c", reference=text, diagnosis=("basal cell carcinoma",))
        assert by_fault(case, seed=seed)["wrong-diagnosis"].provenance["change"]["instead"] not in weighed


def test_a_subtype_counts_as_the_label_only_where_it_is_concluded():
    text = "This is not nodular melanoma. The diagnosis is superficial spreading melanoma."
    narrative = by_fault(Case("c", reference=text, diagnosis=("melanoma",)))["wrong-diagnosis"]
    assert narrative.provenance["change"]["how"] == "renamed"
    assert "nodular melanoma" in narrative.text
    assert "superficial" not in narrative.text


def test_unsafe_advice_takes_the_place_of_the_advice():
    narrative = by_fault()["unsafe-advice"]
    start = JUDGED.index("I recommend")
    assert narrative.text[:start] == JUDGED[:start]
    assert narrative.text[start:] in UNSAFE["malignant"]
    assert narrative.provenance["change"]["how"] == "replaced"
    added = by_fault(Case("c", reference="A wart is seen.", diagnosis=("common wart",)))["unsafe-advice"]
    assert added.text.removeprefix("A wart is seen. ") in UNSAFE["infectious"]
    assert added.provenance["change"]["how"] == "added"


def test_omission_cuts_about_a_third_at_the_end_of_a_sentence():
    text = "\n\n".join(["One two three four five six seven."] * 9)
    narrative = by_fault(Case("c", reference=text))["omission"]
    assert narrative.text == "\n\n".join(["One two three four five six seven."] * 6)
    assert narrative.provenance["change"]["share_removed"] == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The border is irregular.", "The border is not irregular."),
        ("The lesions are raised and red.", "The lesions are not raised and red."),
        ("I note the presence of two nodules.", "I note the absence of two nodules."),
        ("The cheek shows a crusted plaque.", "The cheek shows no crusted plaque."),
        ("A red area with fine scaling.", "A red area without fine scaling."),
        ("The presence of vesicles suggests herpes zoster.", "The absence of vesicles suggests herpes zoster."),
        ("- **Fine scaling**: over both knees.", "- **Absent: Fine scaling**: over both knees."),
        ("There is no crust.", None),
        ("Such plaques are typically raised. These plaques often are raised.", None),
        ("Psoriasis shows scaling plaques.", None),
        ("The lesion is highly suggestive of a nevus.", None),
        ("Nothing is known.", None),
    ],
)
def test_negation(text: str, expected: str | None):
    edit = negation(text, TERMS, default_rng(0))
    assert (edit if isinstance(edit, str) else edit.text) == (
        expected or "no sentence states a finding in a form that the rule can negate"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Left upper arm. The left-sided rash.", "Right upper arm. The right-sided rash."),
        ("On the RIGHT foot, left untreated, right away.", "On the LEFT foot, left untreated, right away."),
        ("Left cheek and right cheek.", "both sides are named"),
        ("What is left is right.", "no side is named"),
    ],
)
def test_laterality(text: str, expected: str):
    made = by_fault(Case("c", reference=text))
    assert (
        made["laterality"].text == expected
        if "laterality" in made
        else made["none"].provenance["left_out"]["laterality"] == expected
    )


def test_a_reference_of_which_a_judge_sees_nothing_is_kept_and_has_no_copies():
    made = by_fault(Case("c", reference="<think>It is all in here.</think>", diagnosis=("psoriasis",)))
    assert list(made) == ["none"]
    said = made["none"].provenance
    assert said["reasoning"] == {
        "blocks": 1,
        "unpaired_tags": 0,
        "chars": 33,
        "chars_judged": 0,
        "ends_in_reasoning": True,
    }
    assert set(said["left_out"]) == set(FAULTS["reference"])
    assert "reasoning" in said["left_out"]["omission"]


def test_a_fault_in_the_reasoning_would_never_be_read_so_copies_hold_none_of_it():
    for fault, narrative in by_fault().items():
        assert fault == "none" or ("<think>" not in narrative.text and narrative.judged == narrative.text)


def test_unbalanced_tags_are_said():
    said = by_fault(Case("c", reference="One. <think>Two.</think> Three.</think> Four. <think> Five."))[
        "none"
    ].provenance
    assert (said["reasoning"]["blocks"], said["reasoning"]["unpaired_tags"]) == (1, 2)
    assert said["reasoning"]["ends_in_reasoning"] is False


def test_a_label_outside_the_term_list_leaves_the_wrong_diagnosis_out():
    made = by_fault(Case("c", reference="It is a snark. Look again.", diagnosis=("snark",)))
    assert "wrong-diagnosis" not in made
    assert "term list" in made["none"].provenance["left_out"]["wrong-diagnosis"]
    few = Terms([Condition("snark", ancestors=("beast",)), Condition("beast", is_group=True)])
    left = planted_narratives([Case("c", reference="It is a snark.", diagnosis=("snark",))], terms=few)[0].provenance[
        "left_out"
    ]
    assert left["wrong-diagnosis"] == "the term list holds too few other diseases"


META = Case(
    "m1", images=(Image("a.png", modality="dermoscopic", body_site="FACE"),), diagnosis=("melanoma",),
    tags={"age": "80.0", "sex": "Female"},
)  # fmt: skip


def test_metadata_narratives_state_the_facts_and_nothing_else_changes_in_a_copy():
    made = by_fault(META, "metadata")
    assert set(made) == {"none", *FAULTS["metadata"]}
    plain = made["none"]
    assert (plain.system, plain.arm, plain.triage) == ("metadata", "image_context", "urgent")
    for words in ("dermoscopic image", "on the face", "an 80-year-old female patient", "melanoma", "urgent"):
        assert words in plain.text.lower()
    assert any(advice in plain.text for advice in FOLLOW_UP["urgent"])
    assert len(plain.differential) == 3
    assert [item.name for item in parse_differential(plain.text, TERMS).items] == [c.name for c in plain.differential]

    wrong = made["wrong-diagnosis"]
    assert wrong.text == plain.text.replace("melanoma", wrong.provenance["change"]["label"])
    assert wrong.differential[1:] == plain.differential[1:]
    assert "melanoma" not in wrong.text
    site = made["wrong-site"].provenance["change"]["site"]
    assert site not in SITES["head"]
    assert made["wrong-site"].text == plain.text.replace("on the face", f"on the {site}")
    advice = made["unsafe-advice"].provenance["change"]["advice"]
    assert advice in UNSAFE["malignant"]
    assert any(made["unsafe-advice"].text == plain.text.replace(safe, advice) for safe in FOLLOW_UP["urgent"])


def test_what_the_metadata_do_not_say_is_not_said():
    case = Case("m", diagnosis=("psoriasis",), tags={"sex": "UNK", "age": None, "site": "unknown"})
    made = by_fault(case, "metadata")
    assert made["none"].provenance["told"] == []
    assert made["none"].provenance["left_out"] == {"wrong-site": "no site is given"}
    assert not re.search(r"(?i)unk|none|year|image|\bon the", made["none"].text)
    assert made["none"].arm == "text_only"
    unknown = by_fault(Case("m", diagnosis=("snark",)), "metadata")
    assert set(unknown) == {"none", "unsafe-advice"}
    assert "snark" in unknown["none"].text
    assert unknown["none"].triage == ""
    assert unknown["none"].differential == ()


def test_wide_labels_get_no_neighbour_as_a_fault():
    near = {c.name for c in TERMS.conditions.values() if "benign epidermal lesion" in c.ancestors}
    for seed in range(20):
        assert not near & set(confusers(TERMS, ("benign keratosis", "solar lentigo"), set(), default_rng(seed)))
    both = confusers(TERMS, ("psoriasis", "eczema"), set(), default_rng(0))
    assert not {"psoriasis", "eczema", "nail psoriasis", "cutaneous larva migrans infection"} & set(both)
    assert all(TERMS.place(name, "psoriasis") in ("sibling", "none") for name in both)


def test_draws_depend_on_seed_and_case_alone():
    cases = [META, Case("m2", diagnosis=("psoriasis",), tags={"age": 30})]
    both = planted_narratives(cases, "metadata", TERMS, 3)
    assert planted_narratives(cases[1:], "metadata", TERMS, 3) == [n for n in both if n.case_id == "m2"]
    twins = planted_narratives([Case(f"t{k}", diagnosis=("psoriasis",)) for k in range(12)], "metadata", TERMS)
    assert len({n.text for n in twins if n.system == "metadata"}) >= 8
    assert len({by_fault(META, "metadata", seed)["none"].text for seed in range(12)}) >= 8


def test_narratives_survive_the_disk(tmp_path):
    made = planted_narratives([CASE], terms=TERMS) + planted_narratives([META], "metadata", TERMS)
    write_narratives(made, tmp_path / "n.jsonl")
    assert read_narratives(tmp_path / "n.jsonl") == made
    assert {n.triage for n in made} <= {"", *URGENCIES}
    assert all(isinstance(c, Candidate) for n in made for c in n.differential)


def test_wrong_calls_say_what_would_do():
    with pytest.raises(InputError, match="reference, metadata"):
        planted_narratives([CASE], "images")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="none of the 1 cases holds a reference text"):
        planted_narratives([META])
    with pytest.raises(InputError, match="none of the 1 cases holds a diagnosis"):
        planted_narratives([Case("x", reference="text")], "metadata")
    with pytest.raises(InputError, match="seed"):
        planted_narratives([CASE], seed=-1)


PIECES = st.sampled_from(
    ["basal cell carcinoma", "BCC", "(BCC)", "(", ")", "**", "**Basal Cell Carcinoma**", "a", "An", "The lesion is",
     "red", ".", "\n\n", "this is most consistent with", "<think>", "</think>", "1.",
     "-", "left arm", "melanoma", "é", "…"]
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(PIECES, max_size=14).map(" ".join))
def test_no_text_breaks_an_edit(text: str):
    if not text.strip():
        return
    for fault, narrative in by_fault(Case("c", reference=text, diagnosis=("basal cell carcinoma",))).items():
        if fault == "none":
            assert narrative.text == text
            continue
        change = narrative.provenance["change"]
        assert change["chars_before"] - change["chars_removed"] + change["chars_added"] == len(narrative.text)
        if change["how"] == "renamed":
            assert not re.search(r"(?i)\bbasal cell carcinoma|\bBCC\b", narrative.text)
