"""Relations of a named condition to the gold one, and their weights as data."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dermjudge.evaluators.matching import Hit
from dermjudge.evaluators.relations import RELATIONS, load_relations
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.errors import InputError

TERMS, SHIPPED = load_terms(), load_relations()
NAMES = [condition.name for condition in TERMS.conditions.values() if not condition.is_group]


@pytest.mark.parametrize(
    ("text", "gold", "relation"),
    [
        ("melanoma", "melanoma", "same"),
        ("malignant melanoma", "melanoma", "synonym"),
        ("nodular melanoma", "melanoma", "narrower"),
        ("melanoma", "nodular melanoma", "wider"),
        ("eczema and dermatitis", "eczema", "wider"),  # the group directly above
        ("nodular melanoma", "superficial spreading melanoma", "sibling"),
        ("lichen planus", "psoriasis", "sibling"),
        ("allergic contact dermatitis", "nummular eczema", "same group"),
        ("BCC", "melanoma", "same branch"),
        ("eczema", "psoriasis", "same branch"),
        ("actinic keratosis", "melanoma", "other"),
        ("vitiligo", "psoriasis", "other"),
        ("nevus", "melanoma", "crossing"),
        ("chronic paronychia", "paronychia", "crossing"),  # one stands under the other, on two sides
        ("unknown", "psoriasis", "unmatched"),
    ],
)
def test_every_relation(text: str, gold: str, relation: str) -> None:
    assert SHIPPED.of(TERMS.match(text).hits[0], gold, TERMS) == relation


def test_the_weights_are_those_of_the_scale_in_falling_order() -> None:
    assert [SHIPPED.weight(name) for name in RELATIONS] == [1, 1, 0.85, 0.85, 0.7, 0.5, 0.3, 0.1, 0, 0]
    assert all(SHIPPED.meanings[name] for name in RELATIONS)


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_relations_turn_round_and_agree_with_the_grade(one: str, other: str) -> None:
    there, back = (SHIPPED.of(Hit(a, a, "name"), b, TERMS) for a, b in ((one, other), (other, one)))
    assert there in RELATIONS
    if "unspecified lesion" not in (one, other):
        assert back == {"narrower": "wider", "wider": "narrower"}.get(there, there)
        assert (there == "crossing") == (TERMS.crosses(one, other) and one != other)
        assert (SHIPPED.weight(there) >= 0.7) == (TERMS.place(one, other) != "none")


def table(**changes: object) -> dict:
    rows = {name: {"weight": SHIPPED.weight(name), "means": ""} for name in RELATIONS}
    return {"relations": rows | changes}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"relations": {}}, "relation 'same' is missing; needed are same, synonym"),
        (table(cousin={"weight": 0.2}), "relation 'cousin' is unknown"),
        (table(sibling={"weight": 1.2}), "the weight of 'sibling' must be a number from 0 to 1, not 1.2"),
        (table(sibling={"weight": True}), "the weight of 'sibling' must be a number"),
        (table(sibling=0.7), "the weight of 'sibling' must be a number"),
        (table(sibling={"weight": 0.9}), r"'sibling' \(0.9\) may not weigh more than 'wider' \(0.85\)"),
        ({"weights": {}}, "one key is needed, 'relations'"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, data, message) -> None:
    path = tmp_path / "relations.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match=message):
        load_relations(path)


def test_weights_of_ones_own_are_read(tmp_path) -> None:
    path = tmp_path / "relations.yaml"
    path.write_text(yaml.safe_dump(table(other={"weight": 0.0}, **{"same branch": {"weight": 0}})))
    assert load_relations(path).weight("other") == 0
    with pytest.raises(InputError, match="cannot read"):
        load_relations(tmp_path / "none.yaml")
