"""The parser of a differential, and the table of cases that every matcher has to hold."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermjudge.evaluators.cues import read_item, refuses
from dermjudge.evaluators.diagnosis import match_gold
from dermjudge.evaluators.differential import Differential, given_differential, parse_differential
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.records import Candidate

TERMS = load_terms()
SAME = {"exact", "synonym"}


def ranked(found: Differential) -> list[str]:
    return [item.name for item in found.items if item.rank is not None]


def grades(text: str, gold: str) -> list[str]:
    condition = TERMS.find(gold)
    assert condition is not None
    return [f.grade for f in match_gold(parse_differential(text), [condition.name], TERMS)]


def best(text: str, gold: str) -> str:
    order = ["exact", "synonym", "child", "parent", "sibling", "none"]
    return min(grades(text, gold), key=order.index, default="none")


TABLE = [
    # abbreviations
    ("BCC", "basal cell carcinoma", SAME), ("SCC", "squamous cell carcinoma", SAME),
    ("AK", "actinic keratosis", SAME), ("SK", "seborrheic keratosis", SAME),
    # British spelling
    ("seborrhoeic keratosis", "seborrheic keratosis", SAME), ("naevus", "melanocytic nevus", SAME),
    ("haemangioma", "hemangioma", SAME), ("glomus tumour", "glomus tumor", SAME),
    # plurals
    ("Seborrheic keratoses", "seborrheic keratosis", SAME), ("melanocytic nevi", "melanocytic nevus", SAME),
    ("lentigines", "lentigo", SAME),
    # order of words
    ("Carcinoma, basal cell", "basal cell carcinoma", SAME), ("eczema, nummular", "nummular eczema", SAME),
    # other names
    ("Verruca vulgaris", "common wart", SAME), ("tinea pedis", "athlete's foot", SAME),
    ("pityriasis versicolor", "tinea versicolor", SAME), ("clavus", "corn", SAME),
    # denials
    ("Not melanoma", "melanoma", {"none"}), ("no evidence of melanoma", "melanoma", {"none"}),
    ("melanoma ruled out", "melanoma", {"none"}), ("unlikely melanoma", "melanoma", {"none"}),
    ("melanoma excluded", "melanoma", {"none"}),
    # requests
    ("cannot exclude melanoma", "melanoma", SAME), ("rule out melanoma (r/o)", "melanoma", SAME),
    ("r/o melanoma", "melanoma", SAME),
    ("melanoma less likely than nevus", "melanoma", SAME),
    # two at once
    ("BCC vs SCC", "basal cell carcinoma", SAME), ("BCC vs SCC", "squamous cell carcinoma", SAME),
    ("eczema/psoriasis overlap", "eczema", SAME), ("eczema/psoriasis overlap", "psoriasis", SAME),
    # more and less specific
    ("nodular BCC", "basal cell carcinoma", {"child"}),
    ("skin cancer", "melanoma", {"parent", "none"}), ("benign lesion", "nevus", {"parent", "none"}),
    ("dermatitis", "allergic contact dermatitis", {"parent"}),
    # "exact" in the source of this table; the canonical name as written is exact, another name is a synonym: alike
    ("Bowen's disease (SCC in situ)", "squamous cell carcinoma in situ", SAME),
    ("melanoma", "amelanotic melanoma", {"parent"}), ("melanoma", "melanoma in situ", {"parent"}),
    # traps
    ("non-melanoma skin cancer", "melanoma", {"none"}), ("melanoma-like nevus", "melanoma", {"none"}),
    ("pseudomelanoma", "melanoma", {"none"}),
    ("psoriasiform dermatitis", "psoriasis", {"none"}), ("lichenoid", "lichen planus", {"none"}),
    ("eczematous", "eczema", {"none"}), ("herpetiform", "herpes simplex", {"none"}),
    ("tinea versicolor", "tinea", {"none", "sibling"}), ("tinea amiantacea", "tinea", {"none"}),
    ("herpes gestationis", "herpes simplex", {"none"}), ("eczema herpeticum", "eczema", {"none"}),
    ("impetigo herpetiformis", "herpes simplex", {"none"}), ("impetigo herpetiformis", "impetigo", {"none"}),
    ("lupus vulgaris", "lupus", {"none"}), ("lupus pernio", "lupus", {"none"}),
    ("lupus pernio", "sarcoidosis", SAME),
    # short names
    ("molluscum", "molluscum contagiosum", SAME), ("zoster", "herpes zoster", SAME),
    ("shingles", "herpes zoster", SAME),
    ("hives", "urticaria", SAME),
    # typos
    ("basel cell carcinoma", "basal cell carcinoma", SAME), ("psoraisis", "psoriasis", SAME),
    ("ichthosis", "ichthyosis", SAME),
]  # fmt: skip


@pytest.mark.parametrize(("text", "gold", "expected"), TABLE)
def test_table(text: str, gold: str, expected: set[str]) -> None:
    assert best(text, gold) in expected


@pytest.mark.parametrize("text", ["MM", "PG", "AD", "LP", "EM", "HS", "MF", "DM", "CA"])
def test_table_ambiguous_abbreviations(text: str) -> None:
    (item,) = parse_differential(text).items
    assert item.match.hits == ()
    assert item.flags == ("ambiguous",)


@pytest.mark.parametrize(
    "text", ["cannot exclude melanoma", "rule out melanoma (r/o)", "melanoma less likely than nevus"]
)
def test_table_hedged(text: str) -> None:
    items = {hit.canonical: item for item in parse_differential(text).items for hit in item.match.hits}
    assert items["melanoma"].hedged
    assert not items["melanoma"].negated


def test_table_ranked_after() -> None:
    assert ranked(parse_differential("melanoma less likely than nevus")) == ["nevus", "melanoma"]


@pytest.mark.parametrize("text", ["BCC vs SCC", "eczema/psoriasis overlap"])
def test_table_same_rank_and_flagged(text: str) -> None:
    (item,) = parse_differential(text).items
    assert item.rank == 1
    assert len(item.match.hits) == 2
    assert "several" in item.flags


@pytest.mark.parametrize("text", ["basel cell carcinoma", "psoraisis", "ichthosis"])
def test_table_typos_are_reported(text: str) -> None:
    assert "typo" in parse_differential(text).items[0].flags


def test_table_abstention() -> None:
    found = parse_differential("I cannot diagnose from an image")
    assert found.abstained
    assert found.items == ()


FORMS = [
    ("**Differential Diagnosis:**\n1. **Psoriasis** – silvery scale (60%)\n2. **Eczema**: itchy\n3. Tinea corporis", 3),
    ("1. **Morphology:** red plaque\n2. **Differential Diagnosis:**\n   - Psoriasis\n      - scale\n   - Eczema\n"
     "   - Tinea corporis\n3. **Management:**\n   - Steroids", 3),
    ("### Findings\n- red\n- scaly\n\n### Differential diagnosis\n* Psoriasis\n* Eczema\n* Tinea corporis\n\n"
     "### Plan\n* Biopsy", 3),
    ("Differential: psoriasis, eczema, and tinea corporis. Triage: routine.", 3),
    ("1) Psoriasis 2) Eczema 3) Tinea corporis", 3),
    ("psoriasis > eczema > tinea corporis", 3),
    ("Psoriasis\nEczema\nTinea corporis", 3),
    ("psoriasis; eczema; tinea corporis", 3),
    ("Most likely diagnosis: Psoriasis. The differential diagnosis includes eczema and tinea corporis.", 2),
    ('{"differential": ["psoriasis", "eczema", "tinea corporis"], "triage": "routine"}', 3),
    ('Here it is:\n```json\n[{"rank": 2, "name": "eczema"}, {"rank": 1, "name": "psoriasis"}]\n```', 2),
    ('{"diagnosis": "psoriasis", "ddx": [{"condition": "eczema", "probability": 0.2}]}', 2),
    ('{"eczema": 0.2, "psoriasis": 0.7}', 2),
    ("The findings suggest eczema at first. In conclusion, this is most consistent with **psoriasis**.", 1),
    ("<think>Could be melanoma.</think>The answer is psoriasis.", 1),
    ("Differential:\n- eczema\n- psoriasis\n\nThe answer is psoriasis.", 2),
    ("Top 3 diagnoses:\n1. Most likely: Psoriasis\n2. Eczema\n3. Tinea", 3),
    ("Final diagnosis:\nPsoriasis", 1),
    ("I think it's psoriasis.", 1),
    ("I cannot examine the patient, but this is consistent with psoriasis.", 1),
    ("Psoriasis remains the most likely diagnosis, although eczema was considered.", 1),
]  # fmt: skip


@pytest.mark.parametrize(("text", "count"), FORMS)
def test_forms_of_an_answer(text: str, count: int) -> None:
    found = parse_differential(text)
    first = next(item for item in found.items if item.rank == 1)
    assert [hit.canonical for hit in first.match.hits] == ["psoriasis"]
    assert len(ranked(found)) == count
    assert not found.abstained


def test_weights_are_read_and_kept() -> None:
    found = parse_differential(
        "Differential:\n1. Psoriasis (60%)\n2. Eczema - 30 %\n3. Tinea\n\nThe answer is psoriasis."
    )
    assert [item.weight for item in found.items] == [0.6, 0.3, None]


def test_names_of_one_condition_count_once() -> None:
    found = parse_differential("1. Eczema\n2. Dermatitis\n3. Spongiotic dermatitis\n4. Psoriasis")
    assert [(item.rank, item.name) for item in found.items] == [(1, "Eczema"), (2, "Psoriasis")]
    assert found.duplicates == 2


def test_denied_items_take_no_rank() -> None:
    found = parse_differential("1. Psoriasis\n2. Melanoma: unlikely, no pigment\n3. Eczema\n\nRuled out:\n- Tinea")
    assert [(item.rank, item.name) for item in found.items] == [
        (1, "Psoriasis"), (2, "Eczema"), (None, "Tinea"), (None, "Melanoma"),
    ]  # fmt: skip


def test_unmatched_items_keep_their_rank() -> None:
    found = parse_differential("Differential:\n1. Floopitis\n2. Psoriasis")
    assert [(item.rank, item.flags) for item in found.items] == [(1, ("unmatched",)), (2, ())]


def test_findings_are_no_differential() -> None:
    found = parse_differential("Findings:\n1. Red plaque\n2. Silvery scale\n3. Sharp border")
    assert ranked(found) == []
    assert found.reason == "no diagnosis found"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no text"),
        ("<think>BCC</think>", "no text outside the reasoning block"),
        ("Findings not consistent with melanoma.", "every diagnosis is denied"),
        ("I'm sorry, but I can't assist with that.", "the text declines to give a diagnosis"),
        ("In summary, without a clear image, I cannot make a diagnosis.", "the text declines to give a diagnosis"),
        ("Je ne peux pas évaluer cette image.", "the text declines to give a diagnosis"),
        ("Unknown", "the text declines to give a diagnosis"),
    ],
)
def test_reasons_without_a_diagnosis(text: str, reason: str) -> None:
    found = parse_differential(text)
    assert ranked(found) == []
    assert found.reason == reason
    assert found.abstained == (reason == "the text declines to give a diagnosis")


def test_a_given_differential_is_read_item_by_item() -> None:
    found = given_differential([Candidate("BCC", 0.7), Candidate("not melanoma"), Candidate("possible SCC", 0.1)])
    assert [(i.rank, i.name, i.weight, i.hedged, i.source) for i in found.items] == [
        (1, "BCC", 0.7, False, "given"), (2, "SCC", 0.1, True, "given"), (None, "melanoma", None, False, "given"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("melanoma is unlikely but cannot be excluded", [("melanoma", False, True)]),
        ("melanoma unlikely, cannot exclude", [("melanoma", False, True)]),
        ("nevus, not melanoma", [("nevus", False, False), ("melanoma", True, False)]),
        ("psoriasis rather than eczema", [("psoriasis", False, False), ("eczema", True, False)]),
        ("psoriasis more likely than eczema", [("psoriasis", False, False), ("eczema", False, True)]),
        ("melanoma has been ruled out by biopsy", [("melanoma", True, False)]),
        ("melanoma must be excluded", [("melanoma", False, True)]),
        ("Norwegian scabies", [("Norwegian scabies", False, False)]),
        ("notalgia paresthetica", [("notalgia paresthetica", False, False)]),
        ("non-melanoma skin cancer", [("non-melanoma skin cancer", False, False)]),
        ("seborrheic keratosis without irritation", [("seborrheic keratosis without irritation", False, False)]),
        ("eczema (hand dermatitis)", [("eczema (hand dermatitis)", False, False)]),
        ("melanoma (unlikely)", [("melanoma", True, False)]),
    ],
)
def test_cues(text: str, expected: list[tuple[str, bool, bool]]) -> None:
    assert [tuple(reading) for reading in read_item(text)] == expected


@pytest.mark.parametrize(
    "text", ["Melanoma cannot be excluded.", "I cannot see an ulcer.", "Not sure about the border."]
)
def test_what_is_no_refusal(text: str) -> None:
    assert not refuses(text)


CONDITIONS = [condition.name for condition in TERMS.conditions.values() if not condition.is_group]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=8, unique=True))
def test_lists_of_names_come_back_in_order(chosen: list[str]) -> None:
    expected = [[name] for name in chosen]
    for text in (
        "Differential diagnosis:\n" + "\n".join(f"{n}. {name}" for n, name in enumerate(chosen, 1)),
        "\n".join(f"- **{name}**: because of the scale" for name in chosen),
        json.dumps(chosen),
    ):
        items = parse_differential(text).items
        assert [[hit.canonical for hit in item.match.hits] for item in items] == expected
        assert [item.rank for item in items] == list(range(1, len(chosen) + 1))


FRAGMENTS = [
    "1. ", "- ", "**", "(", ")", "not ", "melanoma", "BCC", " vs ", "\n", ": ", "{", '"', "[", "<think>", "60%",
    "The answer is ", "Differential:", "ruled out", "unlikely", ", ", "é", "：", "in conclusion", "consistent with ",
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=400), st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join)))
def test_parsing_never_raises_and_ranks_are_whole(text: str) -> None:
    found = parse_differential(text)
    ranks = [item.rank for item in found.items if item.rank is not None]
    assert ranks == list(range(1, len(ranks) + 1))
    assert all((item.rank is None) == item.negated for item in found.items)
    assert bool(ranks) != bool(found.reason)


@pytest.mark.parametrize(
    "piece", ["a", "1. ", "(", "not ", "[", "melanoma ", "consistent with ", "\n- ", "is the most ", ", "]
)
def test_long_hostile_texts_are_read_in_linear_time(piece: str) -> None:
    start = time.perf_counter()
    parse_differential(piece * 20_000)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(("text", "names"), [
    ("Findings: a red plaque. Diagnosis: melanoma. Differential: eczema, psoriasis. Triage: soon.",
     ["melanoma", "eczema", "psoriasis"]),
    ("Findings: red plaque. Impression: melanoma. Differential diagnosis: eczema.", ["melanoma", "eczema"]),
    ("Lesion with honey crust. Diagnosis: impetigo.", ["impetigo"]),
    ("Findings: crust. Differential diagnosis: eczema, psoriasis. Diagnosis: impetigo.",
     ["impetigo", "eczema", "psoriasis"]),
    ("Findings: crust. Assessment: impetigo. Plan: topical treatment.", ["impetigo"]),
])  # fmt: skip
def test_fields_in_one_paragraph_are_read_like_fields_on_lines(text, names):
    assert [item.name for item in parse_differential(text).items if item.rank] == names


WEIGHED = """I consider:
- Eczema: usually crusted, which is not described here.
- Tinea corporis: possible, but no central clearing.
- Psoriasis: fits well, and silvery scale is present.
- Lichen planus: violaceous papules, not thick scale.
"""


def test_a_conclusion_passes_judgement_on_the_list_before_it() -> None:
    found = parse_differential(f"{WEIGHED}\nIn conclusion, the most likely diagnosis is plaque psoriasis.")
    assert [(item.rank, item.name) for item in found.items] == [
        (1, "plaque psoriasis"),
        (2, "Tinea corporis"),  # left open
        (None, "Eczema"),
        (None, "Lichen planus"),  # what speaks against them was said; psoriasis is what the conclusion narrows down
    ]


def test_a_list_that_is_the_answer_is_kept_whole() -> None:
    ranked = [item.name for item in parse_differential(WEIGHED).items if item.rank]
    assert ranked == ["Eczema", "Tinea corporis", "Psoriasis", "Lichen planus"]
    after = parse_differential(f"The most likely diagnosis is scabies.\n\nDifferential diagnosis:\n{WEIGHED}")
    assert [item.name for item in after.items if item.rank] == ["scabies", *ranked]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("The most likely diagnosis is psoriasis, specifically the plaque type.", ["plaque psoriasis"]),
        (
            "This is most consistent with ichthyosis, likely a mild form such as ichthyosis vulgaris.",
            ["ichthyosis vulgaris"],
        ),
        ("The most likely diagnosis is psoriasis, specifically severe.", ["psoriasis"]),
        (
            "While melanoma remains a consideration, the most likely diagnosis is basal cell carcinoma.",
            ["basal cell carcinoma", "melanoma"],
        ),
        (
            "The findings are most consistent with keratoacanthoma. Squamous cell carcinoma must be ruled out.",
            ["keratoacanthoma", "squamous cell carcinoma"],
        ),
        ("The most likely diagnosis is psoriasis. Itching remains a concern.", ["psoriasis"]),
    ],
)
def test_types_and_what_a_conclusion_leaves_open(text: str, names: list[str]) -> None:
    found = parse_differential(text)
    said = [hit.canonical for item in found.items if item.rank for hit in item.match.hits]
    assert said == names
    assert all(item.hedged for item in found.items[1:])


def test_what_i_rule_out_is_denied_and_what_must_be_ruled_out_is_not() -> None:
    def listed(heading: str) -> list[int | None]:
        text = f"{heading}\n- Eczema\n- Tinea corporis\n\nThe most likely diagnosis is psoriasis."
        return [item.rank for item in parse_differential(text).items]

    assert listed("I also rule out alternatives:") == [1, None, None]
    assert listed("To be ruled out:") == [1, 2, 3]
