"""Rules that raise a derived urgency: each shipped rule fires and is denied, none lowers, wrong files are refused."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dermjudge.evaluators.terms import load_terms
from dermjudge.evaluators.urgency_rules import derived_urgency, load_urgency_rules
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import URGENCIES, Case, Image

TERMS, RULES = load_terms(), load_urgency_rules()
NAMES = [condition.name for condition in TERMS.conditions.values() if not condition.is_group]


def levels(diagnosis: str, context: str = "", site: str = "", **tags: object) -> tuple[str, str, list[str]]:
    case = Case("c", (Image("p", body_site=site),), diagnosis=(diagnosis,), context=context, tags=tags)
    found = derived_urgency(case, TERMS)
    return found.base, found.level, [line.split(" (")[0] for line in found.fired]


FIRES = [
    ("first three months of life", levels, ("eczema", "A 6-week-old boy."), ("routine", "urgent")),
    ("fever or unwell", levels, ("impetigo", "She is febrile."), ("soon", "urgent")),
    ("widespread redness with systemic illness", levels, ("drug eruption", "Widespread erythema with fever."),
     ("urgent", "emergent")),
    ("severe blistering or loss of skin", levels, ("drug eruption", "Extensive blistering since today."),
     ("urgent", "emergent")),
    ("mucosal involvement", levels, ("lichen planus", "With oral erosions."), None),
    ("pain of the skin", levels, ("impetigo", "Severely painful."), ("soon", "urgent")),
    ("rapid spread", levels, ("impetigo", "It is spreading rapidly."), ("soon", "urgent")),
    ("rapid growth", levels, ("basal cell carcinoma", "Rapidly growing for 4 weeks."), ("soon", "urgent")),
    ("immunosuppression, infection", levels, ("tinea corporis", "Kidney transplant recipient."), ("routine", "urgent")),
    ("immunosuppression, precursor of cancer", levels, ("actinic keratosis", "Kidney transplant recipient."),
     ("routine", "soon")),
    ("infection near the eye", levels, ("herpes zoster", "", "left eyelid"), ("urgent", "emergent")),
    ("zoster of the forehead", levels, ("herpes zoster", "", "forehead"), ("urgent", "emergent")),
    ("cellulitis of the face", levels, ("cellulitis", "", "face"), ("urgent", "emergent")),
    ("cancer near the eye", levels, ("basal cell carcinoma", "", "eyelid"), ("soon", "urgent")),
    ("haemangioma of the face in an infant", levels, ("infantile hemangioma", "", "lip"), ("soon", "urgent")),
    ("airway", levels, ("urticaria", "With swelling of the tongue."), ("routine", "emergent")),
    ("more than 30 % of the body surface", levels, ("psoriasis", "About 45 % of the body surface."),
     ("routine", "urgent")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "read", "args", "wanted"), FIRES, ids=[row[0] for row in FIRES])
def test_each_rule_fires(name, read, args, wanted) -> None:
    base, level, fired = read(*args)
    assert name in fired
    if wanted:
        assert (base, level) == wanted


def test_every_shipped_rule_is_tried_and_has_a_source() -> None:
    assert [row[0] for row in FIRES] == [rule.name for rule in RULES]
    assert all(rule.source for rule in RULES)


@pytest.mark.parametrize(
    ("diagnosis", "context"),
    [
        ("impetigo", "No fever, no pain."),
        ("impetigo", "She denies fever or chills."),
        ("impetigo", "Fever: no. Itch: yes."),
        ("impetigo", "Fever absent."),
        ("impetigo", "Feverfew tea was tried."),
        ("seborrheic keratosis", "Fever."),  # nothing that fever makes urgent
        ("eczema", "A 6-year-old boy."),
        ("eczema", "A 14-week-old boy."),
        ("psoriasis", "5 % of the body surface."),
        ("psoriasis", "Treated with 50 % urea."),
        ("basal cell carcinoma", "On the back."),
        ("tinea corporis", "Not immunosuppressed."),
    ],
)
def test_what_does_not_fire(diagnosis: str, context: str) -> None:
    base, level, fired = levels(diagnosis, context)
    assert (level, fired) == (base, [])


def test_a_denial_of_one_mention_does_not_hide_another() -> None:
    assert levels("impetigo", "No fever on Monday. Fever of 39 today.")[2] == ["fever or unwell"]


def test_years_are_too_coarse_for_months() -> None:
    assert levels("eczema", age=0)[2] == []
    assert levels("eczema", age_months=2)[2] == ["first three months of life"]


def test_what_is_urgent_already_stays_and_is_said() -> None:
    case = Case("c", diagnosis=("cellulitis",), context="Fever.")
    found = derived_urgency(case, TERMS)
    assert (found.base, found.level) == ("urgent", "urgent")
    assert found.reason == "urgent by name; not raised above urgent: fever or unwell ('Fever')"


def test_without_a_level_by_name_no_rule_is_asked() -> None:
    found = derived_urgency(Case("c", diagnosis=("floopitis",), context="Fever."), TERMS)
    assert (found.level, found.fired, found.reason) == ("", (), "no urgency by name")


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(NAMES), st.text(max_size=80), st.sampled_from([row[2][1] for row in FIRES]))
def test_never_downward(name: str, noise: str, context: str) -> None:
    found = derived_urgency(Case("c", diagnosis=(name,), context=f"{noise} {context}", tags={"site": "eyelid"}), TERMS)
    if found.base:
        assert URGENCIES.index(found.level) >= URGENCIES.index(found.base)
        assert (found.level != found.base) <= bool(found.fired)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"name": "x", "at_least": "routine", "source": "s", "words": ["a"]}], r"rule 1 \('x'\): at_least"),
        ([{"name": "x", "at_least": "soon", "words": ["a"]}], r"rule 1 \('x'\): source: Field required"),
        ([{"name": "x", "at_least": "soon", "source": "s"}], "needs one of words, sites"),
        ([{"name": "x", "at_least": "soon", "source": "s", "words": ["a"], "wrods": []}], "wrods: Extra inputs"),
        ([{"name": "x", "at_least": "soon", "source": "s", "words": ["a"]}] * 2, "the name 'x' stands twice"),
        ({"name": "x"}, "'rules', with a list"),
        (["x"], r"rule 1 \('None'\)"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, rules, message) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"rules": rules}))
    with pytest.raises(InputError, match=message):
        load_urgency_rules(path)


def test_rules_of_ones_own_are_used_and_their_conditions_checked(tmp_path) -> None:
    path = tmp_path / "rules.yaml"
    rule = {"name": "itch", "at_least": "soon", "source": "ours", "words": ["itch*"], "only": ["psoriasis"]}
    path.write_text(yaml.safe_dump({"rules": [rule]}))
    own = load_urgency_rules(path)
    case = Case("c", diagnosis=("psoriasis",), context="Itching.")
    assert derived_urgency(case, TERMS, own).level == "soon"
    path.write_text(yaml.safe_dump({"rules": [rule | {"only": ["psoriasiss"]}]}))
    with pytest.raises(InputError, match="rule 'itch': 'psoriasiss' is not in the term list; closest: psoriasis"):
        derived_urgency(case, TERMS, load_urgency_rules(path))
