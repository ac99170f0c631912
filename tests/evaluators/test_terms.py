"""The term list, its tree and the matcher: the published table of cases, look-ups, and properties on any text."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermjudge.evaluators.matching import AMBIGUOUS, _one_edit
from dermjudge.evaluators.terms import Terms, load_terms
from dermjudge.evaluators.wording import normal, words
from dermjudge.judge.errors import InputError

TERMS = load_terms()
ROWS = [condition for condition in TERMS.conditions.values() if not condition.is_group]
HEADER = "canonical,parent,grandparent,malignancy,urgency,synonyms,reviewed_by\n"


def names(text: str, terms: Terms = TERMS) -> list[str]:
    return [hit.canonical for hit in terms.match(text).hits]


def test_the_shipped_list_is_whole_and_unreviewed() -> None:
    assert len(ROWS) == TERMS.size >= 565
    assert TERMS.unreviewed == TERMS.size
    assert TERMS.note == f"No clinician has reviewed the term list ({TERMS.size} rows)."
    assert load_terms() is TERMS


def test_every_alias_of_the_shipped_list_names_its_condition() -> None:
    wrong = [
        (row.name, alias)
        for row in ROWS
        for alias in (row.name, *row.synonyms)
        if names(alias) != [row.name] or TERMS.find(alias) is not row
    ]
    assert wrong == []


@settings(deadline=None)
@given(st.sampled_from(ROWS), st.sampled_from(ROWS))
def test_relation_is_exact_for_itself_only_and_turns_round(one, other) -> None:
    assert TERMS.relation(one.name, one.name) == "exact"
    there, back = TERMS.relation(one.name, other.name), TERMS.relation(other.name, one.name)
    turned = {"child": "parent", "parent": "child"}
    assert back == turned.get(there, there)
    if one is not other:
        assert there not in ("exact", "synonym")
    if TERMS.crosses(one.name, other.name):
        assert there == "none"


@settings(deadline=None)
@given(st.text(max_size=300), st.booleans())
def test_match_never_raises_and_names_conditions_of_the_list_only(text: str, running: bool) -> None:
    match = TERMS.match(text, running)
    assert all(hit.canonical in TERMS.conditions for hit in match.hits)
    assert not (match.hits and match.ambiguous)


@settings(deadline=None)
@given(st.sampled_from([row.name for row in ROWS if len(row.name.split()) > 1]), st.randoms())
def test_order_of_words_does_not_matter(name: str, chance) -> None:
    shuffled = name.split()
    chance.shuffle(shuffled)
    assert names(" ".join(shuffled)) == [name]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Bowen’s disease", "squamous cell carcinoma in situ"),
        ("SÉZARY SYNDROME", "sezary syndrome"),
        ("generalised pustular psoriasis", "generalized pustular psoriasis"),
        ("necrotising fasciitis", "necrotizing fasciitis"),
        ("PerioralDermEye", "perioral dermatitis"),
        ("xlinkedIcthyosis", "ichthyosis"),
        ("psoriasis of the scalp", "scalp psoriasis"),
        ("ulcerated BCC", "basal cell carcinoma"),
        ("BCCs", "basal cell carcinoma"),
        ("tinea corporis (ringworm)", "tinea corporis"),
        ("fungal infection (e.g., tinea pedis)", "tinea pedis"),
        ("hand, foot, and mouth disease (HFMD)", "hand foot and mouth disease"),
        ("drug reaction with eosinophilia and systemic symptoms", "DRESS syndrome"),
        ("melanoma arising in a congenital nevus", "melanoma"),
        ("ring worm", "tinea"),
        ("herpes zosterr", "herpes zoster"),
        ("tinea versicolr", "tinea versicolor"),
        ("acne rosacea", "rosacea"),
        ("superficial spraeding melanoma", "superficial spreading melanoma"),
    ],
)
def test_spellings(text: str, name: str) -> None:
    assert names(text) == [name]


@pytest.mark.parametrize(
    "text", ["bcc", "sk", "ak", "single papule", "dimple", "petechial", "viral skin infection", ""]
)
def test_what_names_nothing(text: str) -> None:
    assert names(text) == []


@pytest.mark.parametrize("text", sorted(AMBIGUOUS))
def test_ambiguous_abbreviations_name_nothing_and_say_so(text: str) -> None:
    assert names(text) == []
    assert text in TERMS.match(text).ambiguous
    assert names(f"{text} (psoriasis)") == ["psoriasis"]


def test_two_unrelated_names_side_by_side_are_ambiguous() -> None:
    assert names("urticaria melanoma") == []
    assert "side by side" in TERMS.match("urticaria melanoma").ambiguous


def test_everyday_words_count_as_items_and_not_in_running_text() -> None:
    assert names("mole") == ["melanocytic nevus"]
    assert names("mole on the back") == ["melanocytic nevus"]
    assert TERMS.match("with a mole on the back of the patient", running=True).hits == ()


def test_a_typo_near_two_conditions_is_ambiguous(tmp_path: Path) -> None:
    list_of = tmp_path / "terms.csv"
    list_of.write_text(HEADER + "morphema,root,,other,soon,,\nmorphena,root,,other,soon,,\n")
    terms = load_terms(list_of)
    assert terms.match("morphexa").hits == ()
    assert "as near to morphema as to morphena" in terms.match("morphexa").ambiguous
    assert names("morphemma", terms) == ["morphema"]


@pytest.mark.parametrize(
    ("named", "gold", "grade"),
    [
        ("malignant melanoma", "melanoma", "synonym"),
        ("nodular melanoma", "melanoma", "child"),
        ("melanoma", "lentigo maligna", "parent"),
        ("eczema", "allergic contact dermatitis", "parent"),
        ("nodular melanoma", "superficial spreading melanoma", "sibling"),
        ("fungal infection", "tinea", "parent"),
        ("infection or infestation", "tinea", "none"),
        # one tree, two sides
        ("chronic paronychia", "paronychia", "none"),
        ("paronychia", "chronic paronychia", "none"),
        ("atypical spindle cell nevus of reed", "pigmented spindle cell nevus of reed", "child"),
        ("psoriasis", "melanoma", "none"),
    ],
)
def test_relations(named: str, gold: str, grade: str) -> None:
    assert TERMS.relation(named, gold) == grade


def test_crossing() -> None:
    assert TERMS.crosses("melanoma", "melanocytic nevus")
    assert TERMS.crosses("tinea", "psoriasis")
    assert not TERMS.crosses("actinic keratosis", "squamous cell carcinoma")
    assert not TERMS.crosses("psoriasis", "melanocytic nevus")
    assert not TERMS.crosses("fungal infection", "psoriasis")  # a group is on no side


def test_unknown_names_are_answered_with_the_closest() -> None:
    assert TERMS.closest("basal cel carcinom")[0] == "basal cell carcinoma"
    with pytest.raises(InputError, match=r"'melanomaa' is not in the term list; closest: melanoma"):
        TERMS.urgency("melanomaa")
    assert TERMS.urgency("SJS") == "emergent"
    assert TERMS.find("melanomaa") is None  # a gold label is never guessed


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("canonical,parent\n", "no column 'grandparent'"),
        (HEADER, "holds no row"),
        (HEADER + "a1,g,,evil,soon,,\n", "line 2: malignancy 'evil' is none of benign"),
        (HEADER + "a1,g,,other,later,,\n", "line 2: urgency 'later' is none of routine"),
        (HEADER + "acne,g,,other,soon,spots,\nrash,g,,other,soon,Spots,\n", "line 3: 'Spots' already stands for acne"),
        (HEADER + "acne,g,,other,soon,,\nacne,g,,other,soon,,\n", "line 3: 'acne' already stands for acne"),
        (HEADER + "a1,b1,,other,soon,,\nb1,a1,b1,other,soon,,\n", "'a1'"),
        (HEADER + "a1,g,top,other,soon,,\nb1,g,other,other,soon,,\n", "line 3: the parent of 'g'"),
        (HEADER + "a1,g,,other\n", "line 2: 7 fields are needed"),
    ],
)
def test_a_wrong_list_is_refused_with_its_line(tmp_path: Path, body: str, message: str) -> None:
    path = tmp_path / "terms.csv"
    path.write_text(body)
    with pytest.raises(InputError, match=message):
        load_terms(path)


def test_a_circle_of_parents_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "terms.csv"
    path.write_text(HEADER + "a1,b1,a1,other,soon,,\nb1,a1,b1,other,soon,,\n")
    with pytest.raises(InputError, match="circle"):
        load_terms(path)


def test_utf16_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "terms.csv"
    path.write_text(HEADER, encoding="utf-16")
    with pytest.raises(InputError, match="UTF-8"):
        load_terms(path)


def test_reviewed_rows_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "terms.csv"
    path.write_text(HEADER + "acne,g,,other,soon,,Dr X\nrash,g,,other,soon,,\n")
    assert load_terms(path).note == "No clinician has reviewed 1 of the 2 rows of the term list."


def test_both_tables_have_an_empty_reviewed_by_column() -> None:
    folder = Path(__file__).parents[2] / "evaluators" / "data"
    for name in ("dermatology_terms.csv", "dermbench_diagnosis_labels.csv"):
        with (folder / name).open(encoding="utf-8", newline="") as file:
            assert {row["reviewed_by"] for row in csv.DictReader(file)} == {""}


@settings(deadline=None)
@given(st.text(max_size=40))
def test_one_spelling_is_a_fixed_form(text: str) -> None:
    for word in words(text).norm:
        assert word == word.lower()
    assert len(words(text).norm) == len(words(text).raw) == len(words(text).breaks)


@pytest.mark.parametrize(
    ("plural", "singular"), [("comedones", "comedo"), ("condylomata", "condyloma"), ("striae", "stria")]
)
def test_plurals(plural: str, singular: str) -> None:
    assert normal(plural) == normal(singular)


@settings(deadline=None)
@given(st.text("abcd", max_size=6), st.text("abcd", max_size=6))
def test_one_edit_agrees_with_the_definition(one: str, other: str) -> None:
    near = {one[:i] + one[i + 1 :] for i in range(len(one))}
    near |= {one[:i] + c + one[i:] for i in range(len(one) + 1) for c in "abcd"}
    near |= {one[:i] + c + one[i + 1 :] for i in range(len(one)) for c in "abcd"}
    near |= {one[:i] + one[i + 1] + one[i] + one[i + 2 :] for i in range(len(one) - 1)}
    assert _one_edit(one, other) == (other in near - {one})
