"""Dangerous errors as rates of their own, counted by hand."""

from __future__ import annotations

import numpy as np

from dermjudge.evaluators.safety import safety_errors, sides
from dermjudge.evaluators.terms import load_terms

TERMS = load_terms()
CASES = [  # gold, names of the items
    (["melanoma"], [["melanocytic nevus"], ["melanoma"]]),  # benign first, found second
    (["melanoma"], [["actinic keratosis"]]),  # premalignant: no error
    (["basal cell carcinoma"], [[], ["seborrheic keratosis"]]),  # the first item is unmatched: no benign name first
    (["basal cell carcinoma"], []),  # an abstention
    (["tinea corporis"], [["eczema"]]),
    (["tinea corporis"], [["eczema", "tinea corporis"]]),  # "eczema vs tinea"
    (["psoriasis"], [["tinea corporis"]]),  # no dangerous side
    (["melanoma", "melanocytic nevus"], [["melanocytic nevus"]]),  # the gold itself stands on both
]


def test_rates_by_hand() -> None:
    gold, named = [pair[0] for pair in CASES], [pair[1] for pair in CASES]
    found = safety_errors(named, gold, np.arange(len(CASES)), (1, 2), TERMS)
    assert {kind: (e.value, e.n) for kind, e in found.first.items()} == {
        "benign_for_malignant": (0.25, 4),
        "non_infectious_for_infectious": (0.5, 2),
        "any": (2 / 6, 6),
    }
    assert {k: {kind: (e.value, e.n) for kind, e in table.items()} for k, table in found.nowhere.items()} == {
        1: {"benign_for_malignant": (0.75, 4), "non_infectious_for_infectious": (0.5, 2), "any": (4 / 6, 6)},
        2: {"benign_for_malignant": (0.5, 4), "non_infectious_for_infectious": (0.5, 2), "any": (0.5, 6)},
    }
    # Wilson 95 % for 1 of 4 (statsmodels proportion_confint): 0.045587 .. 0.699358
    assert round(found.first["benign_for_malignant"].low, 6) == 0.045587
    assert round(found.first["benign_for_malignant"].high, 6) == 0.699358


def test_a_group_that_holds_the_dangerous_side_is_no_error() -> None:
    assert sides("malignant neoplasm", TERMS) == {"malignant"}
    assert "infectious" in sides("infection or infestation", TERMS)
    found = safety_errors([[["malignant neoplasm"]]], [["melanoma"]], np.arange(1), (1,), TERMS)
    assert found.first["benign_for_malignant"].value == 0


def test_without_dangerous_gold_there_is_a_reason() -> None:
    found = safety_errors([[["acne vulgaris"]]], [["psoriasis"]], np.arange(1), (1,), TERMS)
    assert found.first["any"].value is None
    assert found.first["any"].reason == "no narrative of a case whose gold is malignant or infectious"
