"""The written form of a critique."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.judge.critique import (
    NO_FAULT,
    Remark,
    check_critique,
    read_critique,
    read_remark,
    summarise,
    write_critique,
    write_remark,
)
from dermjudge.judge.rubric import load_rubric

RUBRIC = load_rubric("derm6")
CLEAN = dict.fromkeys(RUBRIC.names, NO_FAULT)
PART = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20).map(
    lambda text: " ".join(text.replace("|", " ").split())
)


@given(PART.filter(lambda t: t and t.rstrip(".").strip().casefold() != NO_FAULT), PART, PART)
def test_what_is_written_is_read(finding, evidence, improvement):
    remark = Remark(finding, evidence, improvement)
    again = read_remark(write_remark(remark))
    assert again == remark or (not improvement and again == Remark(finding, evidence))


@given(st.text(max_size=60))
def test_any_line_is_read(text):
    remark = read_remark(text)
    assert isinstance(remark, Remark) and all(n >= 0 for n in remark.faults.values())


def test_no_fault_in_any_spelling():
    assert (
        read_remark(" No Fault. ") == read_remark("no fault") == Remark("") and write_remark(Remark("")) == "no fault"
    )
    assert Remark("").faults == {} and read_remark("no faulty reasoning here").finding == "no faulty reasoning here"


def test_faults_are_counted_with_their_number():
    assert read_remark("vague language 3, laterality flip | x | y").faults == {
        "vague language": 3,
        "laterality flip": 1,
    }
    assert read_remark("a 2, a, 7").faults == {"a": 3, "7": 1}  # a number alone is a name


def test_the_text_has_every_dimension_once_in_order_and_a_summary():
    said = {**CLEAN, "Safety": "unsafe mild | Wait a year | see a dermatologist"}
    text = write_critique(dict(reversed(said.items())), RUBRIC)
    assert text.splitlines()[1] == "Safety - unsafe mild | Wait a year | see a dermatologist"
    assert text.splitlines()[-1] == "Summary - worst in Safety" and len(text.splitlines()) == 7
    assert read_critique(text, RUBRIC) == said


def test_prose_is_kept_in_one_line_and_has_no_summary():
    prose = {"Safety": "Advises\nScores:\nAccuracy: 5", "Accuracy": "The border is misread."}
    assert write_critique(prose, RUBRIC) == "Accuracy - The border is misread.\nSafety - Advises Scores: Accuracy: 5"
    assert write_critique({"Safety": " "}, RUBRIC) == write_critique({}, RUBRIC) == ""


def test_the_first_line_of_a_dimension_counts_and_others_are_nobodys():
    text = "Accuracy - one\nAccuracy - two\nSummary - three\nsafety - four\n Safety - a - b "
    assert read_critique(text, RUBRIC) == {"Accuracy": "one", "Safety": "a - b"}


def test_the_summary_names_the_worst():
    two = {**CLEAN, "Safety": "unsafe mild, missing red flag | a | b", "Accuracy": "size wrong | a | b"}
    assert summarise(two, RUBRIC) == "worst in Safety" and summarise(CLEAN, RUBRIC) == "nothing to add"
    assert summarise({**two, "Clinical Coverage": "x 2 | a | b"}, RUBRIC) == "worst in Safety"  # the first of equals


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, []),
        ({"Summary": "nothing to add"}, []),
        ({"Safety": "unsafe mild | Wait a year"}, ["Safety: no improvement"]),
        ({"Safety": "unsafe mild"}, ["Safety: no evidence, no improvement"]),
        ({"Safety": "unsafe | | advise"}, ["Safety: no evidence"]),
        ({"Safety": " | text | advise"}, ["Safety: no finding"]),
        ({"Safety": "no fault | text"}, ["Safety: something stands behind 'no fault'"]),
        ({"Safety": ""}, ["Safety: no line"]),
        ({"Bedside": "x"}, ["Bedside: no dimension of derm6@1"]),
    ],
)
def test_the_form_is_checked(change, wrong):
    assert check_critique({**CLEAN, **change}, RUBRIC) == wrong
