"""ISIC 2018, 2019, 2020 and 2024 in their published layouts, written small; each error names file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dermjudge.benchmarks import isic_2020, isic_2024, isic_challenges
from dermjudge.benchmarks.catalog import import_dataset
from dermjudge.benchmarks.validate import validate
from dermjudge.judge.errors import InputError

from .test_importers import picture, table

CLASSES_2018 = ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
CLASSES_2019 = ["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"]


def marked(name: str, classes: list[str], *codes: str) -> dict[str, str]:
    return {"image": name} | {code: "1.0" if code in codes else "0.0" for code in classes}


def told(bundle) -> list[tuple[str, int, str]]:
    return [(problem.file, problem.line, problem.message) for problem in bundle.problems]


def valid(name: str, root: Path, out: Path, **options):
    report = import_dataset(name, root, out, **options)
    assert validate(out) == []
    return report


@pytest.fixture
def year_2018(tmp_path):
    root = tmp_path / "2018"
    for part, names in {"Training": ("ISIC_1", "ISIC_2", "ISIC_3"), "Test": ("ISIC_8", "ISIC_9")}.items():
        codes = dict(zip(names, ("AKIEC", "MEL", "BKL"), strict=False))
        rows = [marked(name, CLASSES_2018, code) for name, code in codes.items()]
        folder = f"ISIC2018_Task3_{part}_GroundTruth"
        table(root / folder / f"{folder}.csv", rows)
        for name in names:
            picture(root / f"ISIC2018_Task3_{part}_Input" / f"{name}.jpg", int(name[-1]))
    groups = [{"image": f"ISIC_{n}", "lesion_id": f"HAM_{min(n, 2)}", "diagnosis_confirm_type": "histopathology"}
              for n in (1, 2, 3)]  # fmt: skip
    table(root / "ISIC2018_Task3_Training_LesionGroupings.csv", groups)
    return root


def test_isic_2018(year_2018, tmp_path):
    report = valid("isic_2018", year_2018, tmp_path / "out")
    one, two, three, four, five = report.benchmark.cases
    assert (one.id, one.lesion_id, two.lesion_id, three.lesion_id, four.lesion_id) == (
        "ISIC_1", "HAM_1", "HAM_2", "HAM_2", "")  # fmt: skip
    assert [case.split for case in report.benchmark.cases] == ["train"] * 3 + ["test"] * 2
    assert one.diagnosis == ("actinic keratosis", "squamous cell carcinoma in situ")
    assert (two.diagnosis, two.urgency, two.urgency_derived) == (("melanoma",), "urgent", True)
    assert five.tags == {"dx": "MEL"}
    assert one.tags == {"dx": "AKIEC", "confirmation": "histopathology"}
    assert (one.images[0].modality, one.images[0].path) == ("dermoscopic", "images/ISIC_1.jpg")
    assert report.benchmark.licence == "CC BY-NC 4.0" and "Codella" in report.benchmark.citation


def test_one_part_alone_is_split_by_lesion(year_2018):
    (year_2018 / "ISIC2018_Task3_Test_GroundTruth" / "ISIC2018_Task3_Test_GroundTruth.csv").unlink()
    cases = {seed: isic_challenges.read_2018(year_2018, fractions={"a": 0.5, "b": 0.5}, seed=seed).cases
             for seed in range(6)}  # fmt: skip
    assert all(made[1].split == made[2].split for made in cases.values())
    assert len({made[0].split for made in cases.values()}) == 2


def test_without_the_groupings_a_note_says_what_that_means(year_2018):
    (year_2018 / "ISIC2018_Task3_Training_LesionGroupings.csv").unlink()
    notes = isic_challenges.read_2018(year_2018).notes
    assert any("No lesion is known of 3 training pictures (ISIC2018_Task3_Training_Les" in note for note in notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MEL": "0.0"}, "the classes sum to 0 (none marked); exactly one must be 1"),
        ({"NV": "1.0"}, "the classes sum to 2 (MEL and NV marked); exactly one must be 1"),
        ({"MEL": "0.7"}, "'0.7' under MEL is neither 0 nor 1"),
        ({"MEL": ""}, "'' under MEL is neither 0 nor 1"),
        ({"image": ""}, "image is empty"),
        ({"image": "ISIC_1"}, "'ISIC_1' stands already on line 2"),
        ({"image": "ISIC_7"}, "no image 'ISIC_7' lies below"),
    ],
)
def test_a_bad_row_of_2018_is_named(year_2018, change, message):
    file = "ISIC2018_Task3_Training_GroundTruth"
    rows = [marked("ISIC_1", CLASSES_2018, "NV"), marked("ISIC_2", CLASSES_2018, "MEL") | change]
    table(year_2018 / file / f"{file}.csv", rows)
    bundle = isic_challenges.read_2018(year_2018)
    (problem,) = told(bundle)
    assert problem[:2] == (f"{file}.csv", 3)
    assert message in problem[2]
    assert len(bundle.cases) == 3


def test_files_of_2018_that_do_not_fit(year_2018, tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        isic_challenges.read_2018(tmp_path / "none")
    with pytest.raises(InputError, match=r"no ISIC_2019_Training_GroundTruth.csv or .* It holds ISIC2018_Task3_Te"):
        isic_challenges.read_2019(year_2018)
    path = year_2018 / "ISIC2018_Task3_Training_GroundTruth" / "ISIC2018_Task3_Training_GroundTruth.csv"
    table(path, [marked("ISIC_1", CLASSES_2019, "NV")])  # the truth of another year
    with pytest.raises(InputError, match=r"missing column AKIEC; unknown column 'AK'"):
        isic_challenges.read_2018(year_2018)


@pytest.fixture
def year_2019(tmp_path):
    root = tmp_path / "2019"
    rows = [marked("ISIC_1_downsampled", CLASSES_2019, "SCC"), marked("ISIC_2", CLASSES_2019, "VASC"),
            marked("ISIC_3_downsampled", CLASSES_2019, "UNK")]  # fmt: skip
    table(root / "ISIC_2019_Training_GroundTruth.csv", rows)
    side = [
        {"image": "ISIC_1_downsampled", "age_approx": "85.0", "anatom_site_general": "head/neck", "lesion_id": "BCN_1",
         "sex": "female"},
        {"image": "ISIC_2", "age_approx": "", "anatom_site_general": "", "lesion_id": "", "sex": ""},
    ]  # fmt: skip
    table(root / "ISIC_2019_Training_Metadata.csv", side)
    for number, name in enumerate(("ISIC_1_downsampled", "ISIC_2", "ISIC_3")):
        picture(root / "ISIC_2019_Training_Input" / f"{name}.jpg", number)
    return root


def test_isic_2019(year_2019, tmp_path):
    report = valid("isic_2019", year_2019, tmp_path / "out", fractions={"test": 1})
    one, two, three = report.benchmark.cases
    assert (one.id, one.diagnosis, one.lesion_id) == ("ISIC_1_downsampled", ("squamous cell carcinoma",), "BCN_1")
    assert one.context == "Age: 85. Sex: female. Site: head/neck."
    assert one.tags == {"dx": "SCC", "age": 85, "sex": "female", "site": "head/neck"}
    assert (two.context, two.tags, two.diagnosis) == ("", {"dx": "VASC"}, ("vascular lesion",))
    assert (three.diagnosis, three.tags, three.urgency) == ((), {"dx": "UNK"}, "")
    assert any("1 cases are of no named class (UNK)" in note for note in report.notes)


def test_the_test_part_of_2019_may_have_weights_and_bad_ages_are_named(year_2019):
    picture(year_2019 / "ISIC_2019_Test_Input" / "ISIC_4.jpg", 5)
    row = marked("ISIC_4", CLASSES_2019, "NV") | {"score_weight": "1.0", "validation_weight": "0.0"}
    table(year_2019 / "ISIC_2019_Test_GroundTruth.csv", [row, row | {"image": "ISIC_2"}])
    nothing = {"anatom_site_general": "", "lesion_id": "", "sex": ""}
    side = [{"image": "ISIC_1_downsampled", "age_approx": age} | nothing for age in ("old", "5")]
    table(year_2019 / "ISIC_2019_Training_Metadata.csv", side)
    bundle = isic_challenges.read_2019(year_2019)
    assert told(bundle) == [
        ("ISIC_2019_Training_Metadata.csv", 3, "stands already on line 2"),
        ("ISIC_2019_Training_GroundTruth.csv", 2, "'old' is not a number from 0"),
        ("ISIC_2019_*_GroundTruth.csv", 0, "stands in train and in test"),
    ]
    assert [(case.id, case.split) for case in bundle.cases] == [
        ("ISIC_2", "train"), ("ISIC_3_downsampled", "train"), ("ISIC_4", "test")]  # fmt: skip


ROW_2020 = {"image_name": "ISIC_1", "patient_id": "IP_1", "sex": "male", "age_approx": "45.0",
            "anatom_site_general_challenge": "palms/soles", "diagnosis": "melanoma", "benign_malignant": "malignant",
            "target": "1"}  # fmt: skip
BENIGN = {"diagnosis": "unknown", "benign_malignant": "benign", "target": "0"}


@pytest.fixture
def year_2020(tmp_path):
    root = tmp_path / "2020"
    rows = [ROW_2020, ROW_2020 | BENIGN | {"image_name": "ISIC_2"},
            ROW_2020 | BENIGN | {"image_name": "ISIC_3", "patient_id": "IP_2", "diagnosis": "lentigo NOS", "sex": ""},
            ROW_2020 | BENIGN | {"image_name": "ISIC_4", "patient_id": "IP_3",
                                 "diagnosis": "atypical melanocytic proliferation"},
            ROW_2020 | {"image_name": "ISIC_5", "patient_id": "IP_4"}]  # fmt: skip
    table(root / "ISIC_2020_Training_GroundTruth.csv", rows)
    for number in range(1, 6):
        picture(root / "train" / f"ISIC_{number}.jpg", number)
    return root


def test_isic_2020(year_2020, tmp_path):
    table(year_2020 / "ISIC_2020_Training_Duplicates.csv", [{"image_name_1": "ISIC_1", "image_name_2": "ISIC_5"}])
    report = valid("isic_2020", year_2020, tmp_path / "out")
    one, two, three, four = report.benchmark.cases
    assert one.tags == {"dx": "melanoma", "malignant": True, "age": 45, "sex": "male", "site": "palms/soles"}
    assert (one.patient_id, one.split) == ("IP_1", two.split)
    assert (two.diagnosis, two.tags["malignant"], "dx" in two.tags) == ((), False, False)
    assert (three.diagnosis, "sex" in three.tags) == (("lentigo",), False)
    assert four.diagnosis == ()
    assert report.notes[:3] == [
        "1 of 4 cases have no diagnosis (benign by follow-up); `malignant` is known of all.",
        "1 pictures are copies of others by ISIC_2020_Training_Duplicates.csv and were left out.",
        "1 cases have a diagnosis that the term list does not hold, and so none: atypical melanocytic proliferation.",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "0"}, "target is 0 but benign_malignant 'malignant'"),
        ({"target": "2"}, "target '2' is neither true nor false"),
        ({"target": ""}, "target is empty"),
        ({"age_approx": "-5"}, "'-5' is not a number from 0"),
    ],
)
def test_a_bad_row_of_2020_is_named(year_2020, change, message):
    table(year_2020 / "ISIC_2020_Training_GroundTruth_v2.csv", [ROW_2020 | {"image_name": "ISIC_2"}, ROW_2020 | change])
    bundle = isic_2020.read(year_2020)
    assert told(bundle) == [("ISIC_2020_Training_GroundTruth_v2.csv", 3, message)]
    assert any("is known to hold 425 pairs of copies" in note for note in bundle.notes)


ROW_2024 = {"isic_id": "ISIC_1", "target": "1", "patient_id": "IP_1", "age_approx": "60.0", "sex": "female",
            "anatom_site_general": "posterior torso", "clin_size_long_diam_mm": "3.04",
            "image_type": "TBP tile: close-up", "tbp_tile_type": "3D: white", "tbp_lv_A": "20.2",
            "attribution": "Some hospital", "copyright_license": "CC-BY", "lesion_id": "IL_1",
            "iddx_full": "Malignant::...", "iddx_1": "Malignant", "iddx_2": "Malignant epidermal proliferations",
            "iddx_3": "Squamous cell carcinoma in situ", "iddx_4": "", "iddx_5": "", "mel_thick_mm": ""}  # fmt: skip
BENIGN_2024 = {"isic_id": "ISIC_2", "target": "0", "copyright_license": "CC-0", "iddx_1": "Benign", "iddx_2": "",
               "iddx_3": "", "lesion_id": ""}  # fmt: skip


def test_isic_2024_in_the_layout_of_the_competition(tmp_path):
    root = tmp_path / "2024"
    odd = {"isic_id": "ISIC_3", "target": "0", "iddx_1": "Indeterminate", "iddx_2": "Indeterminate melanocytic prolif",
           "iddx_3": "Atypical Spitz tumor"}  # fmt: skip
    table(root / "train-metadata.csv", [ROW_2024, ROW_2024 | BENIGN_2024, ROW_2024 | odd])
    for number in (1, 2, 3):
        picture(root / "train-image" / "image" / f"ISIC_{number}.jpg", number)
    report = valid("isic_2024", root, tmp_path / "out")
    one, two, three = report.benchmark.cases
    assert one.diagnosis == ("squamous cell carcinoma in situ",)
    assert one.tags == {"dx": "Squamous cell carcinoma in situ", "malignant": True, "malignancy": "malignant",
                        "age": 60, "sex": "female", "site": "posterior torso", "diameter_mm": 3.04,
                        "attribution": "Some hospital"}  # fmt: skip
    assert one.images[0].modality == "total-body"
    assert (one.licence, two.licence) == ("CC BY 4.0", "CC0-1.0")
    assert report.benchmark.licence == "per case: CC BY 4.0, CC0-1.0"
    assert (two.diagnosis, two.tags["malignant"]) == ((), False)
    assert (three.diagnosis, "malignant" in three.tags, three.tags["malignancy"]) == ((), False, "indeterminate")
    assert report.notes[0] == "2 of 3 cases have no diagnosis finer than benign or malignant."
    assert "Atypical Spitz tumor" in report.notes[1]


def test_isic_2024_in_the_three_files_of_the_challenge(tmp_path):
    held = ("attribution", "copyright_license", "lesion_id", "iddx_1", "iddx_2", "iddx_3")
    table(tmp_path / "ISIC_2024_Training_GroundTruth.csv", [{"isic_id": "ISIC_1", "malignant": "1.0"}])
    table(tmp_path / "ISIC_2024_Training_Supplement.csv",
          [{"isic_id": "ISIC_1"} | {name: ROW_2024[name] for name in held}])  # fmt: skip
    kept = ("isic_id", "patient_id", "age_approx", "sex", "anatom_site_general")
    table(tmp_path / "ISIC_2024_Training_Input" / "metadata.csv", [{name: ROW_2024[name] for name in kept}])
    picture(tmp_path / "ISIC_2024_Training_Input" / "ISIC_1.jpg")
    (case,) = isic_2024.read(tmp_path).cases
    assert (case.patient_id, case.lesion_id, case.tags["age"], case.licence) == ("IP_1", "IL_1", 60, "CC BY 4.0")
    assert case.diagnosis == ("squamous cell carcinoma in situ",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "0"}, "target is 0 but iddx_1 'Malignant'"),
        ({"copyright_license": ""}, "copyright_license is empty; without a licence the picture is not copied"),
        ({"target": ""}, "target is empty"),
    ],
)
def test_a_bad_row_of_2024_is_named(tmp_path, change, message):
    table(tmp_path / "train-metadata.csv", [ROW_2024 | BENIGN_2024, ROW_2024 | change])
    picture(tmp_path / "train-image" / "image" / "ISIC_1.jpg")
    picture(tmp_path / "train-image" / "image" / "ISIC_2.jpg")
    (problem,) = told(isic_2024.read(tmp_path))
    assert problem[:2] == ("train-metadata.csv", 3) and message in problem[2]
    if "copyright" in message:
        assert isic_2024.read(tmp_path, licence="CC BY 4.0").problems == []
    table(tmp_path / "train-metadata.csv", [{"isic_id": "ISIC_1", "label": "1"}])
    with pytest.raises(InputError, match=r"isic_id and target \(or malignant\) are needed; it has isic_id"):
        isic_2024.read(tmp_path)
