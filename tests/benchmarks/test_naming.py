from __future__ import annotations

import pytest

from dermjudge.benchmarks.naming import find_mentions, naming_shares, relatives
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.records import Case

TERMS = load_terms()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Two seborrheic keratoses; a haemangioma.", ["seborrheic keratosis", "hemangioma"]),
        ("Tinea versicolor, tinea.", ["tinea versicolor", "tinea"]),  # the longest name wins
        ("BCCs, but not bcc.", ["basal cell carcinoma"]),
        ("psoriasiform, psoriasis-like, non-melanoma", []),
        ("basal. Cell carcinoma", []),
        ("a scratch and a boil", []),
        ("Bowen’s disease", ["squamous cell carcinoma in situ"]),
        ("", []),
    ],
)
def test_find_mentions(text: str, names: list[str]):
    assert [m.canonical for m in find_mentions(text, TERMS)] == names


def test_mentions_stand_where_they_say():
    text = "Likely (Basal-Cell Carcinoma)."
    (mention,) = find_mentions(text, TERMS)
    assert text[mention.start : mention.end] == "Basal-Cell Carcinoma"


def test_relatives_are_conditions_above_and_below():
    assert "nail psoriasis" in relatives(TERMS, "psoriasis")
    assert "psoriasis" in relatives(TERMS, "nail psoriasis")
    assert not any(TERMS.conditions[name].is_group for name in relatives(TERMS, "psoriasis"))


def test_naming_shares_counts_each_part_apart():
    psoriasis = ("psoriasis",)
    cases = [
        Case("everywhere", reference="It is psoriasis.", diagnosis=psoriasis),
        Case("thought", reference="<think>Psoriasis?</think> A scaly plaque.", diagnosis=psoriasis),
        Case("early", reference="Psoriasis. " + "More words follow here. " * 30, diagnosis=psoriasis),
        Case("relative", reference="Nail psoriasis.", diagnosis=psoriasis),
        Case("hidden", reference="<think>It is eczema.</think>", diagnosis=psoriasis),
        Case("no label", reference="Psoriasis.", diagnosis=("snark",)),
        Case("no text", diagnosis=psoriasis),
    ]
    found = naming_shares(cases, TERMS)
    missed = {part: [found[part][what]["not_named"] for what in ("name", "relative")] for part in ("whole", "judged")}
    assert missed == {"whole": [2, 1], "judged": [3, 2]}
    assert [found["last_500"][what]["not_named"] for what in ("name", "relative")] == [3, 2]
    assert found["judged"]["name"]["value"] == 3 / 5
    assert found["judged"]["name"]["n"] == found["n"] == 5
    assert found["judged"]["name"]["low"] < 3 / 5 < found["judged"]["name"]["high"]
    assert (found["with_reasoning"], found["nothing_judged"], found["ends_in_reasoning"]) == (2, 1, 1)
    assert found["left_out"] == {"no reference": 1, "no usable label": 1}


def test_no_data_is_no_share():
    found = naming_shares([Case("x")], TERMS)
    assert found["n"] == 0
    assert found["whole"]["name"]["value"] is None
    assert found["whole"]["name"]["reason"] == "no reference with a usable label"
