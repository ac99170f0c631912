"""Critiques against what was planted: counts by hand, properties, the section."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from dermjudge.evaluators.critiques import Said, check_critiques
from dermjudge.evaluators.critiques_section import critiques_section
from dermjudge.judge.errors import InputError
from dermjudge.judge.rubric import load_rubric

RUBRIC = load_rubric("derm6")
CLEAN = dict.fromkeys(RUBRIC.names, "no fault")
TOP = dict.fromkeys(RUBRIC.names, 5.0)


def said(lines=None, planted=None, scores=None, cluster="p", complete=True):
    return Said({**CLEAN, **(lines or {})}, planted or {}, {**TOP, **(scores or {})}, cluster, complete)


def test_faults_are_counted_one_by_one():
    found = check_critiques(
        [
            said(
                {"Medical Groundedness": "Invented-finding 2, odd claim | a | b"},
                {"Medical Groundedness": {"invented finding": 3}, "Safety": {"unsafe mild": 1}},
                {"Medical Groundedness": 0.5, "Safety": 3.0},
                "p1",
            ),
            said({"Safety": "unsafe mild | a | b"}, {"Safety": {"unsafe mild": 1}}, {"Safety": 4.6}, "p2"),
        ],
        RUBRIC,
    )
    ground, safety = found.of("Medical Groundedness"), found.of("Safety")
    assert (ground.named.value, ground.named.n) == (pytest.approx(2 / 3), 3)
    assert (ground.false.value, ground.false.n) == (pytest.approx(1 / 3), 3)
    assert (safety.named.value, safety.noticed.value, safety.false.value) == (0.5, 0.5, 0.0)
    assert found.whole.named.n == 5 and found.whole.named.value == pytest.approx(3 / 5)
    assert found.faults["Safety"]["unsafe mild"].value == 0.5
    assert found.further == {**{name: {} for name in RUBRIC.names}, "Medical Groundedness": {"odd claim": 1}}
    # p1 says no fault of Safety and takes two points off; p2 names one and stays within half a point of the top
    assert safety.agrees.value == 0.0 and ground.agrees.value == 1.0
    assert safety.false_alarm.value is None and safety.false_alarm.reason == "no dimension without fault"
    assert found.of("Accuracy").false_alarm.value == 0.0 and found.of("Accuracy").named.value is None
    assert found.well_formed.value == 1.0


def test_the_right_words_in_another_dimension_are_not_the_fault():
    found = check_critiques([said({"Accuracy": "unsafe mild | a | b"}, {"Safety": {"unsafe mild": 1}})], RUBRIC)
    assert found.of("Safety").named.value == 0.0 and found.of("Accuracy").false.value == 1.0
    assert found.of("Accuracy").false_alarm.value == 1.0


def test_what_is_unknown_is_not_held_against_it():
    graded = said(
        {"Accuracy": "colour wrong | a | b", "Safety": "risky | a | b"},
        {"Safety": {"unsafe advice": 1}},
        complete=False,
    )
    found = check_critiques([graded], RUBRIC)
    assert found.of("Safety").noticed.value == 1.0 and found.of("Safety").named.value == 0.0
    assert found.whole.false.value is None and found.whole.false_alarm.value is None


def test_a_missing_line_or_score():
    found = check_critiques([Said({}, {"Safety": {"unsafe mild": 1}}, dict.fromkeys(RUBRIC.names), "p")], RUBRIC)
    assert found.of("Safety").named.value == 0.0 and found.well_formed.value == 0.0
    assert found.whole.agrees.value is None and found.whole.agrees.n == 0 and found.whole.spearman.value is None


def test_input_that_cannot_be_read():
    with pytest.raises(InputError, match="no critique"):
        check_critiques([], RUBRIC)
    with pytest.raises(InputError, match="'Bedside'"):
        check_critiques([said(planted={"Bedside": {"x": 1}})], RUBRIC)
    with pytest.raises(InputError, match="Accuracy"):
        check_critiques([said()], RUBRIC).of("Bedside")


COUNTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=3, max_size=40)


@settings(max_examples=40, deadline=None)
@given(COUNTS)
def test_spearman_is_that_of_scipy(pairs):
    rows = [
        said({"Safety": f"x {n} | a | b" if n else "no fault"}, scores={"Safety": 5.0 - lost}, cluster=str(k))
        for k, (n, lost) in enumerate(pairs)
    ]
    mine = check_critiques(rows, RUBRIC, resamples=64).of("Safety").spearman
    counts, lost = zip(*pairs, strict=True)
    if len(set(counts)) == 1 or len(set(lost)) == 1:
        assert mine.value is None and mine.reason
    else:
        assert mine.value == pytest.approx(spearmanr(counts, lost).statistic, abs=1e-9)
        if len(pairs) >= 20 and mine.low is not None and mine.high is not None:
            assert -1 - 1e-9 <= mine.low <= mine.high <= 1 + 1e-9


def test_intervals_are_by_patient():
    rows = [
        said({"Safety": "unsafe mild | a | b" if k % 2 else "no fault"}, {"Safety": {"unsafe mild": 1}}, cluster=str(k))
        for k in range(40)
    ]
    ten = [Said(r.critique, r.planted, r.scores, r.cluster) for r in rows for _ in range(10)]
    alone, together = (check_critiques(r, RUBRIC, resamples=64).of("Safety").named for r in (rows, ten))
    assert together.n == 400 and together.low == pytest.approx(alone.low, abs=0.02)


def test_the_section_says_it_all():
    found = check_critiques(
        [said({"Safety": "<b>odd</b> | a | b"}, {"Safety": {"<b>odd</b>": 1}}, cluster=str(k)) for k in range(3)],
        RUBRIC,
    )
    text = "\n".join(critiques_section(found))
    assert "3 narratives of 3 patients" in text and "well formed: 100 %" in text
    assert "<b>" not in text and "no planted fault" in text and "| all" in text
    assert found.to_dict()["dimensions"]["Safety"]["named"]["n"] == 3
