"""Top-k figures worked out by hand, what is counted beside them, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermjudge.evaluators.diagnosis import score_diagnosis
from dermjudge.evaluators.labels import load_label_map
from dermjudge.evaluators.narratives import read_narratives
from dermjudge.evaluators.relations import load_relations
from dermjudge.evaluators.terms import Terms, load_terms
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Candidate, Case, Narrative

TERMS = load_terms()
FIVE = [
    ("psoriasis", "1. Psoriasis\n2. Eczema"),  # exact at 1
    ("melanoma", "1. Nevus\n2. Melanoma"),  # exact at 2, the first crosses
    ("nummular eczema", "1. Eczema\n2. Tinea corporis"),  # parent at 1
    ("nodular melanoma", "1. Superficial spreading melanoma"),  # sibling
    ("scabies", "I cannot diagnose from an image."),  # abstention
]


def made(pairs: list[tuple[str, str]], system: str = "s") -> tuple[list[Case], list[Narrative]]:
    cases = [Case(f"c{n}", diagnosis=(gold,)) for n, (gold, _) in enumerate(pairs)]
    return cases, [Narrative(f"c{n}", system, text) for n, (_, text) in enumerate(pairs)]


def test_figures_by_hand() -> None:
    (found,) = score_diagnosis(*made(FIVE)).systems
    assert {k: (e.value, e.n) for k, e in found.strict.items()} == {1: (0.2, 5), 3: (0.4, 5), 5: (0.4, 5)}
    assert {k: e.value for k, e in found.lenient.items()} == {1: 0.4, 3: 0.6, 5: 0.6}
    assert found.graded[1].value == pytest.approx((1 + 0 + 0.85 + 0.7 + 0) / 5)
    assert found.graded[3].value == pytest.approx((1 + 1 + 0.85 + 0.7 + 0) / 5)
    assert found.mrr.value == pytest.approx((1 + 1 / 2) / 5)
    assert (found.abstained, found.nothing_found) == (1, 0)
    assert (found.crossing.value, found.crossing.n) == (0.25, 4)
    # Wilson 95 % for 1 of 5 (statsmodels proportion_confint): 0.036224 .. 0.624465
    assert (found.strict[1].low, found.strict[1].high) == (
        pytest.approx(0.036224, abs=1e-6),
        pytest.approx(0.624465, abs=1e-6),
    )


def test_every_hit_says_why() -> None:
    rows = score_diagnosis(*made(FIVE)).rows
    assert rows["why"].to_list() == [
        "item 1 'Psoriasis' -> psoriasis (its name: 'psoriasis'): exact of psoriasis",
        "item 2 'Melanoma' -> melanoma (its name: 'melanoma'): exact of melanoma",
        "item 1 'Eczema' -> eczema (its name: 'eczema'): parent of nummular eczema",
        "item 1 'Superficial spreading melanoma' -> superficial spreading melanoma "
        "(its name: 'superficial spreading melanoma'): sibling of nodular melanoma",
        "the text declines to give a diagnosis",
    ]
    assert rows["state"].to_list() == ["scored"] * 4 + ["abstained"]


def test_every_item_says_what_matched_what_with_relation_and_weight() -> None:
    cases, told = made(
        [("nummular eczema", "1. Eczema\n2. Floopitis\n3. MM\n4. discoid eczema"), ("floopitis", "1. BCC")]
    )
    result = score_diagnosis(cases, told)
    assert result.rows["matches"].to_list() == [
        [
            "1 'Eczema' -> eczema (its name): wider of nummular eczema, 0.85",
            "2 'Floopitis' -> nothing of the list: unmatched, 0",
            "3 'MM' -> 'MM' stands for more than one condition: unmatched, 0",
            "4 'discoid eczema' -> nummular eczema (an alias: 'discoid eczema'): synonym of nummular eczema, 1",
        ],
        ["1 'BCC' -> basal cell carcinoma"],  # its case has no usable gold
    ]
    assert result.rows.select("relation", "weight").rows() == [("synonym", 1.0), (None, None)]
    wanted = ("rank", "state", "named", "relation", "weight", "strict")
    assert result.items.select(wanted).rows() == [
        (1, "matched", "eczema", "wider", 0.85, False),
        (2, "unmatched", None, "unmatched", 0.0, False),
        (3, "ambiguous", None, "unmatched", 0.0, False),
        (4, "matched", "nummular eczema", "synonym", 1.0, True),
        (1, "matched", "basal cell carcinoma", None, None, None),
    ]


def test_a_curve_runs_from_1_to_10_with_intervals_by_patient() -> None:
    cases = [Case(f"c{n}", patient_id=f"p{n // 4}", diagnosis=("psoriasis",)) for n in range(80)]
    list_of = ("eczema", "tinea", "psoriasis", "scabies")
    told = [Narrative(c.id, "s", json.dumps(list_of if n // 4 % 2 else list_of[:2])) for n, c in enumerate(cases)]
    (found,) = score_diagnosis(cases, told, resamples=64).systems
    assert {k: e.value for k, e in found.curve.items()} == {k: 0.0 if k < 3 else 0.5 for k in range(1, 11)}
    # four narratives of a patient say the same: 20 patients, not 80 narratives. Wilson for 10 of 20: 0.2993 .. 0.7007
    assert found.curve[3].high - found.curve[3].low == pytest.approx(0.7007 - 0.2993, abs=0.02)
    assert found.strict[3] == found.curve[3]
    assert found.lenient_curve[10].value == 0.5


def test_levels_safety_and_weights_stand_in_the_result() -> None:
    result = score_diagnosis(*made(FIVE))
    (found,) = result.systems
    assert {level: e.value for level, e in found.levels.accuracy.items()} == {
        "branch": 0.6, "group": 0.6, "subgroup": 0.6, "condition": 0.2,
    }  # fmt: skip
    first = found.safety.first["benign_for_malignant"]
    assert (first.value, first.n) == (0.5, 2)  # nevus for melanoma; a malignant sibling for nodular melanoma
    assert found.safety.nowhere[3]["benign_for_malignant"].value == 0
    told = result.to_dict()
    assert told["relations"]["sibling"]["weight"] == 0.7
    json.dumps(told, allow_nan=False)


def test_narratives_that_were_read_once_give_the_same_result() -> None:
    cases, told = made(FIVE)
    parsed = read_narratives(told, TERMS)
    assert score_diagnosis(cases, told, parsed=parsed).to_dict() == score_diagnosis(cases, told).to_dict()
    with pytest.raises(InputError, match="not among those that were read"):
        score_diagnosis(cases, [*told, Narrative("c0", "other", "x")], parsed=parsed)
    with pytest.raises(InputError, match="read by another term list"):
        score_diagnosis(cases, told, Terms(TERMS.conditions.values()), parsed=parsed)


def test_weights_of_ones_own_change_graded_top_k_only() -> None:
    shipped = load_relations()
    flat = replace(shipped, weights=dict.fromkeys(shipped.weights, 0.0) | {"same": 1.0, "synonym": 1.0})
    one, other = (score_diagnosis(*made(FIVE), relations=r).systems[0] for r in (shipped, flat))
    assert (one.graded[1].value, other.graded[1].value) == (pytest.approx(2.55 / 5), pytest.approx(0.2))
    assert one.lenient[1] == other.lenient[1]


def test_gold_at_rank_nine_of_twelve() -> None:
    names = [
        "psoriasis",
        "eczema",
        "tinea",
        "scabies",
        "vitiligo",
        "acne",
        "rosacea",
        "urticaria",
        "melanoma",
        "milia",
        "corn",
        "lipoma",
    ]
    text = "Differential:\n" + "\n".join(f"{n}. {name}" for n, name in enumerate(names, 1))
    (found,) = score_diagnosis(*made([("melanoma", text)])).systems
    assert found.strict[3].value == 0
    assert found.mrr.value == pytest.approx(1 / 9)


def test_a_more_specific_name_is_a_strict_hit_worth_less_than_the_name() -> None:
    (found,) = score_diagnosis(*made([("melanoma", "1. nodular melanoma")])).systems
    assert (found.strict[1].value, found.graded[1].value, found.mrr.value) == (1, 0.85, 1)


def test_a_less_specific_name_does_not_count_in_the_reciprocal_rank() -> None:
    (found,) = score_diagnosis(*made([("nodular melanoma", "1. melanoma")])).systems
    assert (found.strict[1].value, found.lenient[1].value, found.mrr.value) == (0, 1, 0)


def test_a_crossing_is_worth_nothing_in_graded_top_k() -> None:
    (found,) = score_diagnosis(*made([("paronychia", "1. chronic paronychia")])).systems
    assert (found.graded[1].value, found.lenient[1].value, found.crossing.value) == (0, 0, 1)


def test_hedged_typo_ambiguous_and_unmatched_are_counted() -> None:
    pairs = [
        ("melanoma", "Cannot exclude melanoma"),
        ("psoriasis", "psoraisis"),
        ("scabies", "1. MM\n2. Scabies\n3. Eczema"),
        ("scabies", "Differential:\n1. Floopitis\n2. Scabies"),
        ("scabies", "Nice weather today."),
    ]
    (found,) = score_diagnosis(*made(pairs)).systems
    assert (found.hedged_hits, found.typo_hits, found.ambiguous, found.nothing_found) == (1, 1, 1, 0)
    assert (found.unmatched.value, found.unmatched.n) == (pytest.approx(2 / 8), 8)
    assert found.strict[1].value == pytest.approx(2 / 5)


def test_the_record_s_own_differential_beats_the_text() -> None:
    case = Case("c", diagnosis=("psoriasis",))
    told = Narrative("c", "s", "The answer is melanoma.", differential=(Candidate("psoriasis", 0.9),))
    assert score_diagnosis([case], [told]).systems[0].strict[1].value == 1


def test_unusable_gold_is_listed_with_the_closest_names_and_left_out() -> None:
    cases = [
        Case("a", diagnosis=("basal cel carcinom",)),
        Case("b", diagnosis=("psoriasis", "floopitis")),
        Case("d", diagnosis=("unknown",)),
        Case("e"),
    ]
    told = [Narrative(case.id, "s", "psoriasis") for case in cases]
    result = score_diagnosis(cases, told)
    assert [(g.case_id, g.label, g.reason) for g in result.unusable_gold] == [
        ("a", "basal cel carcinom", "not in the term list"),
        ("b", "floopitis", "not in the term list"),
        ("d", "unknown", "names no diagnosis"),
        ("e", "", "the case has no diagnosis"),
    ]
    assert result.unusable_gold[0].closest[0] == "basal cell carcinoma"
    (found,) = result.systems
    assert (found.n, found.no_gold, found.strict[1].value) == (1, 3, 1.0)
    assert result.rows["graded_1"].to_list() == [None, 1.0, None, None]


def test_without_any_usable_gold_figures_are_none_with_a_reason() -> None:
    result = score_diagnosis([Case("a", diagnosis=("floopitis",))], [Narrative("a", "s", "psoriasis")])
    (found,) = result.systems
    assert found.strict[1].value is None
    assert found.strict[1].reason == "no narrative of a case with a usable gold"
    assert found.mrr.value is None
    json.dumps(result.to_dict(), allow_nan=False)


def test_systems_and_arms_stand_apart_and_gaps_are_counted() -> None:
    cases, told = made(FIVE)
    more = [Narrative("c0", "other", "psoriasis"), Narrative("c0", "s", "eczema", arm="image_context")]
    result = score_diagnosis(cases, [*told, *more])
    assert [(s.system, s.arm, s.n, s.without_narrative) for s in result.systems] == [
        ("s", "image_only", 5, 0), ("other", "image_only", 1, 4), ("s", "image_context", 1, 4),
    ]  # fmt: skip


def test_repeats_of_one_patient_widen_the_interval() -> None:
    cases = [Case(f"c{n}", patient_id=f"p{n // 5}", diagnosis=("psoriasis",)) for n in range(100)]
    told = [Narrative(f"c{n}", "s", "psoriasis" if n // 5 % 2 else "eczema") for n in range(100)]
    alone = [Case(c.id, diagnosis=c.diagnosis) for c in cases]
    wide, narrow = (score_diagnosis(c, told).systems[0] for c in (cases, alone))
    assert (wide.clusters, narrow.clusters) == (20, 100)
    for of in (lambda s: s.strict[1], lambda s: s.mrr):
        assert of(wide).value == of(narrow).value == 0.5
        assert of(wide).high - of(wide).low > 1.8 * (of(narrow).high - of(narrow).low)


def test_few_patients_give_no_bootstrap_interval_and_say_so() -> None:
    (found,) = score_diagnosis(*made(FIVE)).systems
    assert found.mrr.low is None
    assert "5 patients" in found.mrr.reason


def test_a_refused_call_abstains() -> None:
    told = Narrative("c", "s", "", finish_reason="content_filter")
    (found,) = score_diagnosis([Case("c", diagnosis=("psoriasis",))], [told]).systems
    assert (found.abstained, found.strict[1].value) == (1, 0)


@pytest.mark.parametrize(
    ("cases", "told", "k", "message"),
    [
        ([Case("a"), Case(" A ")], [Narrative("a", "s", "x")], (1,), "case ' A ' stands twice"),
        ([Case("a")], [Narrative("a", "s", "x"), Narrative("a", "s", "y")], (1,), "stands twice"),
        ([Case("a")], [Narrative("b", "s", "x")], (1,), "1 narratives are of a case that is not there, such as b"),
        ([Case("a")], [], (1,), "no narrative"),
        ([Case("a")], [Narrative("a", "s", "x")], (0, 1), "k must be whole numbers from 1"),
        ([Case("a")], [Narrative("a", "s", "x")], (), "k must be whole numbers from 1"),
    ],
)
def test_wrong_input_is_refused(cases, told, k, message) -> None:
    with pytest.raises(InputError, match=message):
        score_diagnosis(cases, told, k=k)


CONDITIONS = [condition.name for condition in TERMS.conditions.values() if not condition.is_group]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(CONDITIONS), st.lists(st.sampled_from(CONDITIONS), max_size=6)),
        min_size=1,
        max_size=8,
    ),
    st.randoms(),
)
def test_figures_are_ordered_bounded_and_blind_to_the_order_of_records(pairs, chance) -> None:
    cases = [Case(f"c{n}", diagnosis=(gold,)) for n, (gold, _) in enumerate(pairs)]
    told = [Narrative(f"c{n}", "s", json.dumps(names)) for n, (_, names) in enumerate(pairs)]
    (found,) = score_diagnosis(cases, told, resamples=64).systems
    for k in (1, 3, 5):
        assert 0 <= found.strict[k].value <= found.lenient[k].value <= 1
        assert found.strict[k].value * load_relations().weight("narrower") <= found.graded[k].value + 1e-12
    assert found.strict[1].value <= found.strict[3].value <= found.strict[5].value
    assert found.strict[1].value <= found.mrr.value <= 1
    chance.shuffle(told)
    chance.shuffle(cases)
    (again,) = score_diagnosis(cases, told, resamples=64).systems
    assert math.isclose(again.mrr.value, found.mrr.value)
    assert {k: e.value for k, e in again.strict.items()} == {k: e.value for k, e in found.strict.items()}


def test_every_mapping_of_the_label_map_leads_into_the_list() -> None:
    labels = load_label_map()
    assert len(labels.labels) == 551
    assert [label for label in labels.labels.values() if TERMS.find(label.canonical) is None] == []
    assert len({label.canonical for label in labels.labels.values()}) == 418
    assert labels.note == "No clinician has reviewed 551 of the 551 rows of the label map."


def test_the_category_decides_where_a_label_leads() -> None:
    labels = load_label_map()
    assert labels.lookup("psoriasis", "Nail Fungus and other Nail Disease").canonical == "nail psoriasis"
    assert labels.lookup("psoriasis") is None
    assert labels.lookup("rhinophyma") == ("rhinophyma", "high")
    assert labels.lookup("no such label") is None
    assert labels.lookup("rhinophyma", "no such category") is None


def test_a_wrong_label_map_is_refused(tmp_path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("raw_label,canonical_diagnosis,category,confidence\nx,acne,y,sure\n")
    with pytest.raises(InputError, match=r"line 2: confidence 'sure' is none of high, medium, low"):
        load_label_map(path)


def test_the_section_beyond_exact_match_fits_and_names_both_dangers():
    from dermjudge.evaluators.diagnosis_section import beyond_exact_section

    cases = [Case(f"c{k}", diagnosis=("melanoma",) if k % 2 else ("impetigo",), patient_id=f"p{k}") for k in range(24)]
    texts = [Narrative(c.id, "s", "Differential: 1. seborrheic keratosis 2. melanoma.") for c in cases]
    lines = beyond_exact_section(score_diagnosis(cases, texts))
    text = "\n".join(lines)
    assert "Dangerous: benign for malignant" in text and "Right subgroup" in text and "| top 10" in text
    assert max(map(len, lines)) <= 120
