"""Accuracy by level of the tree, worked out by hand, and what must hold for any pair of conditions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermjudge.evaluators.hierarchy import FINEST, LEVELS, finest_right, granularity
from dermjudge.evaluators.terms import load_terms

TERMS = load_terms()
NAMES = [condition.name for condition in TERMS.conditions.values() if not condition.is_group]


@pytest.mark.parametrize(
    ("named", "gold", "right"),
    [
        # malignant neoplasm > malignant melanocytic neoplasm > melanoma > nodular melanoma
        ("nodular melanoma", "nodular melanoma", (True, True, True, True)),
        ("superficial spreading melanoma", "nodular melanoma", (True, True, True, False)),
        ("melanoma", "nodular melanoma", (True, True, True, False)),
        ("nodular melanoma", "melanoma", (True, True, True, True)),  # more specific than the gold
        ("basal cell carcinoma", "nodular melanoma", (True, False, False, False)),
        ("melanocytic nevus", "nodular melanoma", (False, False, False, False)),
        ("malignant neoplasm", "nodular melanoma", (True, False, False, False)),
        ("eczema", "psoriasis", (True, False, False, False)),
        ("lichen planus", "psoriasis", (True, True, False, False)),
        ("chronic paronychia", "paronychia", (True, True, True, False)),  # under it, on the other side
    ],
)
def test_levels_of_a_pair(named: str, gold: str, right: tuple[bool, ...]) -> None:
    assert finest_right(named, gold, TERMS) == right


def test_accuracy_and_gaps_by_hand() -> None:
    gold = [["nodular melanoma"], ["nodular melanoma"], ["psoriasis"], ["psoriasis"], ["tinea corporis"]]
    named = [["melanoma"], ["basal cell carcinoma"], ["psoriasis"], ["lichen planus"], []]
    found = granularity(named, gold, np.arange(5), TERMS)
    assert [found.accuracy[level].value for level in LEVELS] == [0.8, 0.6, 0.4, 0.2]
    assert [found.gap[level].value for level in LEVELS[1:]] == pytest.approx([0.2, 0.2, 0.2])
    assert found.n == found.accuracy[FINEST].n == 5
    # psoriasis stands two steps from the root: below it is nothing for a subgroup to be
    assert found.reached == {"branch": 5, "group": 5, "subgroup": 3, "condition": 5}
    assert found.accuracy["branch"].low < 0.8 < found.accuracy["branch"].high


def test_without_narratives_there_is_a_reason() -> None:
    found = granularity([], [], np.array([]), TERMS)
    assert found.accuracy["branch"].value is None
    assert "no narrative" in found.accuracy["branch"].reason


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_right_at_a_level_is_right_above_it_and_the_finest_is_a_strict_hit(named: str, gold: str) -> None:
    right = finest_right(named, gold, TERMS)
    assert all(above or not below for above, below in pairwise(right))
    assert right[-1] == (TERMS.place(named, gold) in ("exact", "child"))
