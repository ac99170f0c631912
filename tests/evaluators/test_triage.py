"""Reading the stated call, and the figures made of calls, against values worked out by hand and other libraries."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from dermjudge.evaluators.narratives import read_narratives
from dermjudge.evaluators.terms import load_terms
from dermjudge.evaluators.triage import LIMITS, derive_urgency, score_triage
from dermjudge.evaluators.triage_call import read_level, read_triage
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import URGENCIES, Candidate, Case, Narrative


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("Triage: urgent", "urgent"),
        ("**Triage level:** Emergent.", "emergent"),
        ("... eczema. Triage: routine", "routine"),
        ("## Urgency\nSoon", "soon"),
        ("- Urgency level: non-urgent", "routine"),
        ("Triage: semi-urgent", "soon"),
        ("Triage: emergency", "emergent"),
        ("Triage: urgent (within 2 weeks)", "urgent"),
        ("Triage: routine, not urgent", "routine"),
        ('{"differential": ["BCC"], "triage": "soon"}', "soon"),
        ("<think>Triage: emergent</think>Triage: routine", "routine"),
        ("Triage: routine\nTriage: routine", "routine"),
        ("I recommend urgent referral to dermatology.", "urgent"),
        ("Please refer urgently.", "urgent"),
        ("Two-week wait referral.", "urgent"),
        ("She should be seen within 2 weeks.", "urgent"),
        ("See a dermatologist within 4-6 weeks.", "soon"),
        ("See a dermatologist within 3 months.", "soon"),
        ("Go to the emergency department.", "emergent"),
        ("This is a medical emergency.", "emergent"),
        ("Immediate medical attention is needed.", "emergent"),
        ("Routine follow-up is fine.", "routine"),
        ("Non-urgent referral.", "routine"),
        ("Semi-urgent referral.", "soon"),
        ("Self-care suffices. If it spreads, go to the emergency department.", "routine"),
    ],
)
def test_calls(text: str, level: str) -> None:
    assert read_triage(text).level == level


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no call stated"),
        ("Psoriasis.", "no call stated"),
        ("If fever develops, go to the emergency department.", "no call stated"),
        ("There is no need for urgent referral.", "no call stated"),
        ("Triage: see a doctor", "names none of routine, soon, urgent, emergent"),
        ("Triage: urgent or emergent", "ambiguous: the field says 'urgent or emergent'"),
        ("Triage: not urgent", "names none of"),
        ("Triage: urgent\nUrgency: routine", "ambiguous: the fields say routine and urgent"),
        (
            "Urgent referral now, then routine follow-up.",
            "ambiguous: 'routine follow-up' (routine) and 'Urgent referral'",
        ),
    ],
)
def test_no_call_and_why(text: str, reason: str) -> None:
    call = read_triage(text)
    assert call.level == ""
    assert reason in call.reason


@settings(deadline=None)
@given(st.text(max_size=300))
def test_reading_never_raises(text: str) -> None:
    assert read_triage(text).level in ("", *URGENCIES)
    assert read_level(text).level in ("", *URGENCIES)


@settings(deadline=None)
@given(st.sampled_from(URGENCIES))
def test_a_level_reads_as_itself(level: str) -> None:
    assert read_level(level).level == read_triage(f"Triage: {level}").level == level


def test_derived_urgency_is_the_highest_of_the_gold() -> None:
    assert derive_urgency(Case("c", diagnosis=("nevus", "SJS"))) == "emergent"
    assert derive_urgency(Case("c", diagnosis=("floopitis",))) == ""
    assert derive_urgency(Case("c")) == ""


# gold, call: 10 high (6 found), 10 low (7 found); 3 emergent, 2 of them called so
PAIRS = (
    [("emergent", "emergent")] * 2 + [("emergent", "routine")] + [("urgent", "urgent")] * 4 + [("urgent", "soon")] * 3
    + [("soon", "soon")] * 2 + [("soon", "urgent")] * 2 + [("routine", "routine")] * 5 + [("routine", "emergent")]
)  # fmt: skip


def made(pairs: list[tuple[str, str]], system: str = "s") -> tuple[list[Case], list[Narrative]]:
    cases = [Case(f"c{n}", urgency=gold) for n, (gold, _) in enumerate(pairs)]
    told = [Narrative(f"c{n}", system, "", triage=call) for n, (_, call) in enumerate(pairs)]
    return cases, told


def test_figures_by_hand() -> None:
    found = score_triage(*made(PAIRS)).systems[0].stated
    rates = {name: (None if e.value is None else round(e.value, 6), e.n) for name, e in found.rates.items()}
    assert rates == {
        "prevalence": (0.5, 20),
        "sensitivity": (0.6, 10),
        "specificity": (0.7, 10),
        "ppv": (round(6 / 9, 6), 9),
        "npv": (round(7 / 11, 6), 11),
        "under": (0.2, 20),
        "severe_under": (0.05, 20),
        "over": (0.15, 20),
        "emergency_recall": (round(2 / 3, 6), 3),
        "accuracy": (0.65, 20),
        "within_one": (0.9, 20),
    }
    # Wilson 95 % for 6 of 10 (Brown, Cai & DasGupta 2001, also statsmodels): 0.3127 .. 0.8318
    assert found.rates["sensitivity"].low == pytest.approx(0.3127, abs=5e-5)
    assert found.rates["sensitivity"].high == pytest.approx(0.8318, abs=5e-5)
    assert found.confusion["urgent"] == {"routine": 0, "soon": 3, "urgent": 4, "emergent": 0, "missing": 0}


def test_kappa_agrees_with_scikit_learn() -> None:
    kappa = score_triage(*made(PAIRS)).systems[0].stated.kappa
    level = {name: n for n, name in enumerate(URGENCIES)}
    gold, said = zip(*[(level[a], level[b]) for a, b in PAIRS], strict=True)
    assert kappa.value == pytest.approx(cohen_kappa_score(gold, said, weights="quadratic", labels=[0, 1, 2, 3]))
    assert kappa.low is not None
    assert kappa.low < kappa.value < kappa.high


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(URGENCIES), st.sampled_from(URGENCIES)), min_size=1, max_size=30))
def test_the_parts_add_up(pairs: list[tuple[str, str]]) -> None:
    found = score_triage(*made(pairs), resamples=64).systems[0].stated
    rates = found.rates
    assert rates["accuracy"].value + rates["under"].value + rates["over"].value == pytest.approx(1)
    assert rates["severe_under"].value <= rates["under"].value
    assert sum(sum(row.values()) for row in found.confusion.values()) == len(pairs)
    turned = score_triage(*made(pairs[::-1]), resamples=64).systems[0].stated
    assert {k: (e.value, e.n) for k, e in turned.rates.items()} == {k: (e.value, e.n) for k, e in rates.items()}


def test_the_cut_moves_the_binary_figures() -> None:
    low = score_triage(*made(PAIRS), cut="soon").systems[0].stated.rates
    assert (low["sensitivity"].value, low["sensitivity"].n) == (pytest.approx(13 / 14), 14)
    for cut in ("routine", "high", ""):
        with pytest.raises(InputError, match="soon, urgent, emergent"):
            score_triage(*made(PAIRS), cut=cut)


def test_undefined_figures_are_none_with_a_reason() -> None:
    found = score_triage(*made([("routine", "routine")] * 3)).systems[0].stated
    assert found.rates["sensitivity"].value is None
    assert found.rates["sensitivity"].reason == "no narrative whose case is urgent or above"
    assert found.rates["ppv"].value is None
    assert found.kappa.value is None
    assert "one level" in found.kappa.reason
    json.dumps(score_triage(*made([("routine", "routine")] * 3)).to_dict(), allow_nan=False)


def test_missing_calls_stand_apart_and_count_as_routine_in_the_worst_case() -> None:
    pairs = [("urgent", "urgent")] * 3 + [("emergent", "no idea")]
    found = score_triage(*made(pairs)).systems[0].stated
    assert (found.n, found.missing) == (3, 1)
    assert found.missing_reasons == {"the field": 1}
    assert found.rates["sensitivity"].value == 1
    assert found.worst_case["sensitivity"].value == 0.75
    assert found.worst_case["severe_under"].value == 0.25
    assert found.confusion["emergent"]["missing"] == 1


def test_a_right_name_with_a_wrong_call_fails_the_stated_and_passes_the_implied() -> None:
    case = Case("c", diagnosis=("melanoma",))
    told = Narrative("c", "s", "The answer is melanoma.\nTriage: routine")
    result = score_triage([case], [told])
    (system,) = result.systems
    assert system.stated.rates["sensitivity"].value == 0
    assert system.implied.rates["sensitivity"].value == 1
    assert system.stated.derived == 1
    assert LIMITS in result.notes
    assert load_terms().note in result.notes
    assert result.rows.select("gold", "derived", "stated", "implied").row(0) == ("urgent", True, "routine", "urgent")


def test_the_truth_of_a_case_beats_the_table() -> None:
    case = Case("c", diagnosis=("melanoma",), urgency="soon")
    result = score_triage([case], [Narrative("c", "s", "", differential=(Candidate("nevus"),), triage="soon")])
    assert result.rows["gold"].to_list() == ["soon"]
    assert result.systems[0].stated.derived == 0
    assert result.notes == (LIMITS,)
    marked = Case("c", diagnosis=("melanoma",), urgency="soon", urgency_derived=True)
    assert score_triage([marked], [Narrative("c", "s", "Triage: soon")]).systems[0].stated.derived == 1


def test_cases_without_urgency_are_listed_and_left_out() -> None:
    cases = [Case("a", diagnosis=("floopitis",)), Case("b", urgency="soon")]
    told = [Narrative("a", "s", "Triage: soon"), Narrative("b", "s", "Triage: soon")]
    result = score_triage(cases, told)
    assert [(g.case_id, g.label) for g in result.unusable_gold] == [("a", "floopitis")]
    assert (result.systems[0].no_gold, result.systems[0].stated.n) == (1, 1)


def test_wrong_records_are_refused() -> None:
    with pytest.raises(InputError, match="urgency 'later' is none of routine"):
        score_triage([Case("a", urgency="later")], [Narrative("a", "s", "x")])


def test_same_seed_same_result() -> None:
    one, other = (score_triage(*made(PAIRS), seed=3).to_dict() for _ in range(2))
    assert one == other
    assert one["systems"] != score_triage(*made(PAIRS), seed=4).to_dict()["systems"]


def test_rules_raise_derived_urgency_only_and_the_rows_say_why() -> None:
    cases = [
        Case("a", diagnosis=("impetigo",), context="Fever since yesterday."),
        Case("b", diagnosis=("impetigo",), context="No fever."),
        Case("d", diagnosis=("impetigo",), urgency="routine", context="Fever since yesterday."),
        Case("e", diagnosis=("impetigo",), urgency="soon", urgency_derived=True, context="Fever since yesterday."),
    ]
    told = [Narrative(case.id, "s", "Triage: soon") for case in cases]
    result = score_triage(cases, told)
    assert result.rows.select("gold", "derived", "gold_reason", "rules").rows() == [
        ("urgent", True, "soon by name; raised to urgent: fever or unwell ('Fever')", ["fever or unwell ('Fever')"]),
        ("soon", True, "soon by name", []),
        ("routine", False, "stated by the case", []),
        ("urgent", True, "soon by name; raised to urgent: fever or unwell ('Fever')", ["fever or unwell ('Fever')"]),
    ]
    assert any(note.startswith("Rules for age, site and systemic signs spoke for 2 of them") for note in result.notes)
    assert score_triage(cases, told, rules=()).rows["gold"].to_list() == ["soon", "soon", "routine", "soon"]


def test_narratives_that_were_read_once_give_the_same_calls() -> None:
    cases = [Case("c", diagnosis=("melanoma",))]
    told = [Narrative("c", "s", "The answer is melanoma.\nTriage: routine")]
    parsed = read_narratives(told)
    assert score_triage(cases, told, parsed=parsed).to_dict() == score_triage(cases, told).to_dict()
