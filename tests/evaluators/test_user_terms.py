"""A term list and a label map of one's own: parents, synonyms, codes; errors with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dermjudge.evaluators.diagnosis import score_diagnosis
from dermjudge.evaluators.terms import Terms, load_terms
from dermjudge.evaluators.user_terms import TERM_COLUMNS, apply_labels, code_index, load_user_labels
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Candidate, Case, Narrative

LIST = """canonical,parent,grandparent,malignancy,urgency,synonyms,reviewed_by,snomed,icd10
spongiosis,rash,skin,inflammatory,routine,spongiotic rash|SPR,Dr X,111,L30
palmar spongiosis,spongiosis,rash,inflammatory,routine,hand rash,Dr X,112,L30
crust disease,infection,skin,infectious,soon,honey crust|croûte,Dr X,113,L01
"""


@pytest.fixture
def terms(tmp_path: Path) -> Terms:
    path = tmp_path / "terms.csv"
    path.write_text(LIST, encoding="utf-8")
    return load_terms(path)


def test_a_list_of_ones_own_with_parents_synonyms_and_codes(terms: Terms) -> None:
    assert set(LIST.splitlines()[0].split(",")) == set(TERM_COLUMNS)
    assert terms.conditions["palmar spongiosis"].ancestors == ("spongiosis", "rash", "skin")
    assert terms.conditions["spongiosis"].snomed == "111"
    assert terms.conditions["rash"].is_group
    assert terms.find("SPR").name == terms.find("rash, spongiotic").name == "spongiosis"
    assert terms.find("Croute").name == "crust disease"  # accents do not matter
    assert terms.relation("spongiosis", "hand rash") == "parent"
    assert terms.note == "Each of the 3 rows of the term list names the clinician who reviewed it."
    case = Case("c", diagnosis=("spongiosis",))
    (found,) = score_diagnosis([case], [Narrative("c", "s", "1. Hand rash\n2. Honey crust")], terms).systems
    assert (found.strict[1].value, found.graded[1].value) == (1, 0.85)
    assert found.levels.accuracy["condition"].value == 1


def test_codes_lead_to_conditions_unless_several_share_one(terms: Terms) -> None:
    assert code_index(terms) == {
        "111": "spongiosis", "112": "palmar spongiosis", "113": "crust disease", "l01": "crust disease",
    }  # fmt: skip
    assert code_index(load_terms()) == {}


def test_labels_of_a_data_set_become_names_of_the_list(terms: Terms, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(
        "label,canonical,code,confidence\nDERM-1,SPR,,high\n"
        "DERM-2,honey crust|spongiosis,,\nDERM-3,,112,low\nDERM-9,,,\n"
    )
    labels = load_user_labels(path, terms)
    assert labels.lookup(" derm-2 ") == ("crust disease", "spongiosis")
    assert (labels.lookup("DERM-9"), labels.lookup("other")) == ((), None)
    assert labels.confidence["derm-3"] == "low"
    cases = [
        Case("a", diagnosis=("DERM-1", "DERM-2"), differential=(Candidate("DERM-3", 0.7), Candidate("DERM-2", 0.3))),
        Case("b", diagnosis=("DERM-9", "odd")),
    ]
    mapped, unknown = apply_labels(cases, labels)
    assert mapped[0].diagnosis == ("spongiosis", "crust disease")
    assert mapped[0].differential == (Candidate("palmar spongiosis", 0.7), Candidate("DERM-2", 0.3))
    assert mapped[1].diagnosis == ("odd",)
    assert [(u.case_id, u.label, u.reason) for u in unknown] == [
        ("b", "DERM-9", "names no diagnosis"),
        ("b", "odd", "not in the label map"),
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("label\nx\n", "no column 'canonical'; needed: label, canonical"),
        ("label,canonical\n,spongiosis\n", "line 2: the label is empty"),
        ("label,canonical\nx,spongiosis\nX ,SPR\n", "line 3: label 'X' stands twice"),
        ("label,canonical\nx,spongiosus\n", "line 2: 'spongiosus' is not in the term list; closest: spongiosis"),
        ("label,canonical\nx,rash\n", "line 2: 'rash' is a group, no condition"),
        ("label,canonical,code\nx,,999\n", "line 2: code '999' stands for no single condition"),
        ("label,canonical,code\nx,,L30\n", "line 2: code 'L30' stands for no single condition"),
        ("label,canonical,confidence\nx,SPR,sure\n", "line 2: confidence 'sure' is none of high, medium, low"),
    ],
)
def test_a_wrong_label_map_is_refused_with_its_line(terms: Terms, tmp_path: Path, body: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(body)
    with pytest.raises(InputError, match=message):
        load_user_labels(path, terms)
