"""SCIN: cases and labels joined, the weighted differential, who says which skin type, and every row that must not."""

from __future__ import annotations

import pytest

from dermjudge.benchmarks import scin
from dermjudge.benchmarks.catalog import import_dataset
from dermjudge.benchmarks.validate import validate
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Candidate
from dermjudge.judge.tables import read_cases

from .test_importers import picture, table

BIG = "-3205742176803893704"  # a signed 64-bit number: as a float it would lose its last digits
CASE = {
    "case_id": BIG, "source": "SCIN", "release": "1.0.0", "year": "2023", "age_group": "AGE_18_TO_29",
    "sex_at_birth": "FEMALE", "fitzpatrick_skin_type": "FST3", "race_ethnicity_asian": "YES",
    "race_ethnicity_white": "", "race_ethnicity_prefer_not_to_answer": "YES", "textures_raised_or_bumpy": "YES",
    "textures_flat": "", "body_parts_arm": "YES", "body_parts_leg": "", "condition_symptoms_itching": "YES",
    "condition_symptoms_no_relevant_experience": "", "other_symptoms_fever": "",
    "other_symptoms_no_relevant_symptoms": "YES", "related_category": "RASH",
    "condition_duration": "LESS_THAN_ONE_WEEK", "image_1_path": "dataset/images/11.png",
    "image_2_path": "dataset/images/12.png", "image_3_path": "", "image_1_shot_type": "CLOSE_UP",
    "image_2_shot_type": "AT_DISTANCE", "image_3_shot_type": "",
}  # fmt: skip
YES = "DEFAULT_YES_IMAGE_QUALITY_SUFFICIENT"
LABEL = {
    "case_id": BIG, "dermatologist_gradable_for_skin_condition_1": YES,
    "dermatologist_gradable_for_skin_condition_2": "NO_IMAGE_QUALITY_INSUFFICIENT",
    "dermatologist_gradable_for_skin_condition_3": "",
    "dermatologist_skin_condition_on_label_name": "['Nummular eczema', 'Psoriasis', 'Eczema']",
    "dermatologist_skin_condition_confidence": "[4, 2, 3]",
    "weighted_skin_condition_label": "{'Psoriasis': 0.33, 'Eczema': 0.67}",
    "dermatologist_fitzpatrick_skin_type_label_1": "FST2", "dermatologist_fitzpatrick_skin_type_label_2": "FST2",
    "dermatologist_fitzpatrick_skin_type_label_3": "FST4", "gradable_for_monk_skin_tone_india": "True",
    "monk_skin_tone_label_india": "4.0", "monk_skin_tone_label_us": "",
}  # fmt: skip


def write(root, cases, labels, schema=False):
    data = root / "dataset"
    table(data / "scin_cases.csv", cases)
    if schema:  # the published schema page leaves the "on" out
        labels = [
            {name.replace("condition_on_label", "condition_label"): v for name, v in row.items()} for row in labels
        ]
    table(data / "scin_labels.csv", labels)
    for k in range(11, 18):
        picture(data / "images" / f"{k}.png", k)
    return root


def variant(number, picture_number, **changes):
    return CASE | {"case_id": str(number), "image_1_path": f"dataset/images/{picture_number}.png",
                   "image_2_path": ""} | changes  # fmt: skip


@pytest.mark.parametrize("schema", [False, True])
def test_scin(tmp_path, schema):
    cases = [
        CASE,
        variant(2, 13, age_group="AGE_UNKNOWN", sex_at_birth="OTHER_OR_UNSPECIFIED",
                fitzpatrick_skin_type="NONE_SELECTED", body_parts_leg="YES", condition_duration="UNKNOWN"),
        variant(3, 14, age_group="AGE_80_OR_ABOVE", fitzpatrick_skin_type="NONE_IDENTIFIED"),
    ]  # fmt: skip
    labels = [
        LABEL,
        LABEL | {"case_id": "2", "weighted_skin_condition_label": "{}",
                 "dermatologist_skin_condition_on_label_name": "[]", "dermatologist_skin_condition_confidence": "[]",
                 "dermatologist_fitzpatrick_skin_type_label_1": "", "dermatologist_gradable_for_skin_condition_1": ""},
        LABEL | {"case_id": "3", "weighted_skin_condition_label": "{'Acute dermatitis, NOS': 0.25, 'Eczema': 0.25, "
                 "'SCC/SCCIS': 0.5}"},
    ]  # fmt: skip
    root = write(tmp_path / "src", cases, labels, schema)
    bundle = scin.read(root)
    assert not bundle.problems
    one, two, three = bundle.cases
    assert one.id == BIG
    assert one.differential == (Candidate("eczema", 0.67), Candidate("psoriasis", 0.33))
    assert (one.diagnosis, one.urgency, one.urgency_derived) == (("eczema",), "routine", True)
    assert [image.path for image in one.images] == ["dataset/images/11.png", "dataset/images/12.png"]
    assert {image.body_site for image in one.images} == {"arm"}
    assert one.tags == {
        "fitzpatrick": "3", "fitzpatrick_self": "3", "fitzpatrick_dermatologist": "2", "monk_skin_tone_india": 4,
        "age_group": "18-29", "sex": "female", "race_ethnicity": ["asian"], "body_parts": ["arm"], "category": "rash",
        "gradable": "some", "shot_types": ["close up", "at distance"],
        "raw_labels": ["Nummular eczema", "Psoriasis", "Eczema"], "confidences": [4, 2, 3],
    }  # fmt: skip
    assert one.context == ("Age: 18-29. Sex: female. Site: arm. Texture: raised or bumpy. Symptoms: itching. Duration: "
                           "less than one week. The patient calls it: rash.")  # fmt: skip
    assert (two.diagnosis, two.differential, two.images[0].body_site) == ((), (), "mixed")
    assert not {"age_group", "sex", "fitzpatrick", "fitzpatrick_self", "raw_labels"} & set(two.tags)
    assert "fitzpatrick_dermatologist" not in two.tags  # FST2 and FST4: no majority
    # two labels that are one name of the list: their weights are one
    assert sorted(three.differential) == [Candidate("eczema", 0.5), Candidate("squamous cell carcinoma", 0.5)]
    assert set(three.diagnosis) == {"eczema", "squamous cell carcinoma"}  # a tie
    assert (three.tags["age_group"], "fitzpatrick_self" in three.tags) == ("80+", False)
    assert bundle.notes[0] == "1 of 3 cases have no label, and so no gold."
    assert "in 1 cases the two differ" in bundle.notes[2]
    experts = scin.read(root, skin="dermatologist")
    assert [case.tags.get("fitzpatrick") for case in experts.cases] == ["2", None, "2"]
    report = import_dataset("scin", root, tmp_path / "out")
    assert validate(tmp_path / "out") == []
    assert read_cases(tmp_path / "out" / "cases.jsonl")[0].differential == one.differential
    assert report.images == 4


def test_a_label_outside_the_list_leaves_its_weight_unclaimed(tmp_path):
    labels = [
        LABEL | {"weighted_skin_condition_label": "{'Quux dermatosis': 0.6, 'Psoriasis': 0.4}"},
        LABEL | {"case_id": "2", "weighted_skin_condition_label": "{'Psoriasis': 0.6, 'Quux dermatosis': 0.4}"},
        LABEL | {"case_id": "3", "weighted_skin_condition_label": "{'Psoriasis': 0.5, 'Quux dermatosis': 0.5}"},
    ]
    root = write(tmp_path / "src", [CASE, variant(2, 13), variant(3, 14)], labels)
    bundle = scin.read(root)
    one, two, three = bundle.cases
    assert (one.diagnosis, one.differential) == ((), (Candidate("psoriasis", 0.4),))  # not scaled up to 1
    assert (one.tags["unmapped_labels"], one.tags["unmapped_weight"]) == (["Quux dermatosis"], 0.6)
    assert (two.diagnosis, two.tags["unmapped_weight"]) == (("psoriasis",), 0.4)
    assert three.diagnosis == ()  # nobody knows which of the two it is
    (note,) = [note for note in bundle.notes if "Quux" in note]
    assert note.startswith("scin_labels.csv line 2: 'Quux dermatosis' is not in the term list (closest: ")
    assert note.endswith("no gold from it (3 cases).")
    import_dataset("scin", root, tmp_path / "out")
    assert validate(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("case", "label", "file", "message"),
    [
        ({"case_id": "-3.205742176803894e+18"}, {}, "scin_cases.csv", "was read as a number and has lost digits"),
        ({"case_id": "7.0"}, {}, "scin_cases.csv", "was read as a number and has lost digits"),
        ({"age_group": "AGE_OLD"}, {}, "scin_cases.csv", "age_group 'AGE_OLD' is none such as AGE_18_TO_29"),
        ({"fitzpatrick_skin_type": "FST9"}, {}, "scin_cases.csv", "'FST9' is no Fitzpatrick type"),
        ({"image_1_path": "dataset/images/99.png"}, {}, "scin_cases.csv", "no image 'dataset/images/99.png'"),
        ({"image_1_path": ""}, {}, "scin_cases.csv", "no image path; a case has one to three"),
        ({"case_id": BIG}, None, "scin_cases.csv", f"'{BIG}' stands already on line 2"),
        ({}, {"weighted_skin_condition_label": "Eczema (0.6)"}, "scin_labels.csv", "is no dict in Python's notation"),
        ({}, {"weighted_skin_condition_label": "['Eczema']"}, "scin_labels.csv", "is a list where a dict is needed"),
        ({}, {"weighted_skin_condition_label": "{'Eczema': 1.5}"}, "scin_labels.csv", "weight of 'Eczema' is 1.5"),
        ({}, {"dermatologist_skin_condition_confidence": "[1]"}, "scin_labels.csv", "has 3 entries and"),
        ({}, {"dermatologist_skin_condition_on_label_name": "Eczema"}, "scin_labels.csv", "is no list in Python's"),
        ({}, {"monk_skin_tone_label_us": "11"}, "scin_labels.csv", "'11' is no tone of the Monk scale; 1 to 10"),
        ({}, {"dermatologist_fitzpatrick_skin_type_label_1": "7"}, "scin_labels.csv", "'7' is no Fitzpatrick type"),
        ({}, {"case_id": "9e18"}, "scin_labels.csv", "case_id '9e18' was read as a number"),
        ({}, {"case_id": "77"}, "scin_labels.csv", "is no case of scin_cases.csv"),
        ({}, {"case_id": BIG}, "scin_labels.csv", f"'{BIG}' stands already on line 2"),
    ],
)
def test_bad_rows_are_named(tmp_path, case, label, file, message):
    labels = [LABEL] if label is None else [LABEL, LABEL | {"case_id": "2"} | label]
    changed = variant(2, 13, **case)
    if "case_id" in case and label is not None:
        labels = [LABEL]
    bundle = scin.read(write(tmp_path, [CASE, changed], labels))
    assert bundle.cases[0].id == BIG
    (problem,) = bundle.problems
    assert (problem.file, problem.line) == (file, 3)
    assert message in problem.message


def test_a_case_whose_label_row_is_bad_is_not_imported_without_gold(tmp_path):
    labels = [LABEL, LABEL | {"case_id": "2", "weighted_skin_condition_label": "{"}]
    assert [case.id for case in scin.read(write(tmp_path, [CASE, variant(2, 13)], labels)).cases] == [BIG]


def test_scin_as_a_whole_can_be_wrong(tmp_path):
    root = write(tmp_path, [CASE], [LABEL])
    with pytest.raises(InputError, match="skin 'monk' is none of self, dermatologist"):
        scin.read(root, skin="monk")
    (root / "dataset" / "scin_labels.csv").unlink()
    with pytest.raises(InputError, match=r"no scin_labels.csv below"):
        scin.read(root)
    table(root / "dataset" / "scin_labels.csv", [{"case": "1"}])
    with pytest.raises(InputError, match="missing columns case_id, weighted_skin_condition_label"):
        scin.read(root)
