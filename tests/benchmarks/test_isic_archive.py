"""Downloads of the ISIC archive, HIBA and MILK10k: names of diagnoses, licences per picture, a lesion's pictures."""

from __future__ import annotations

import pytest

from dermjudge.benchmarks import isic_archive, milk10k
from dermjudge.benchmarks.isic import CLASSES, named, together
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.errors import InputError

from .test_importers import picture, table
from .test_isic_challenges import told, valid


@pytest.mark.parametrize(
    ("levels", "name"),
    [
        (("Benign", "Benign melanocytic proliferations", "Nevus", "Nevus, NOS, Compound"), "compound nevus"),
        (("Benign", "Benign melanocytic proliferations", "Nevus", "Nevus, Agminated"), "melanocytic nevus"),
        (("Benign", "Benign melanocytic proliferations", "Nevus", "Nevus, Atypical, Dysplastic, or Clark"),
         "atypical nevus"),
        (("Indeterminate", "Indeterminate epidermal proliferations", "Solar or actinic keratosis",
          "Actinic keratosis, Bowenoid"), "actinic keratosis"),
        (("Malignant", "Malignant melanocytic proliferations (Melanoma)", "Melanoma Invasive",
          "Melanoma Invasive, Nodular"), "nodular melanoma"),
        (("Malignant", "Malignant melanocytic proliferations (Melanoma)", "", ""), "melanoma"),
        (("Malignant", "Malignant epidermal proliferations", "Squamous cell carcinoma, Invasive",
          "Squamous cell carcinoma, Invasive, Keratoacanthoma-type"), "keratoacanthoma"),
        (("Malignant", "Malignant adnexal epithelial proliferations - Follicular", "Basal cell carcinoma",
          "Basal cell carcinoma, Sclerosing or morpheaform"), "morpheaform basal cell carcinoma"),
        (("Malignant", "Lymphocytic proliferations - T-Cell/NK", "Extranodal T-cell/NK lymphoma"),
         "cutaneous T-cell lymphoma"),
        (("Benign", "Cysts", "Comedo"), "cutaneous cyst"),
        (("Nevus, Agminated",), "melanocytic nevus"),
        (("Benign", "Inflammatory or infectious diseases"), ""),
        (("Benign",), ""),
        (("other",), ""),
        ((None, ""), ""),
    ],
)  # fmt: skip
def test_the_names_of_the_archive(levels, name):
    found, label = named(levels, load_terms())
    assert found == name
    assert label == next((level for level in reversed(levels) if level), "")


def test_every_class_of_the_challenges_is_a_term():
    terms = load_terms()
    names = {name for group in CLASSES.values() for name in group}
    assert {name for name in names if (found := terms.find(name)) is None or found.name != name} == set()


def test_several_licences_are_told_together():
    assert together([]) == ""
    assert together(["CC0-1.0", "CC0-1.0"]) == "CC0-1.0"


NEW = {"isic_id": "ISIC_1", "attribution": "Hospital X", "copyright_license": "CC-BY", "age_approx": "55.0",
       "anatom_site_1": "Trunk", "anatom_site_2": "Posterior trunk", "anatom_site_special": "", "concomitant_biopsy":
       "True", "diagnosis_1": "Malignant", "diagnosis_2": "Malignant melanocytic proliferations (Melanoma)",
       "diagnosis_3": "Melanoma in situ", "diagnosis_confirm_type": "histopathology", "family_hx_mm": "False",
       "fitzpatrick_skin_type": "III", "image_type": "dermoscopic", "lesion_id": "IL_1", "patient_id": "IP_1",
       "personal_hx_mm": "", "sex": "female"}  # fmt: skip
CLINICAL = NEW | {"isic_id": "ISIC_2", "image_type": "clinical: close-up", "age_approx": "56.0"}
OTHER = NEW | {"isic_id": "ISIC_3", "lesion_id": "IL_2", "patient_id": "IP_2", "diagnosis_1": "Benign",
               "diagnosis_2": "Benign melanocytic proliferations", "diagnosis_3": "Nevus", "fitzpatrick_skin_type": "",
               "copyright_license": "CC-BY-NC", "sex": ""}  # fmt: skip


@pytest.fixture
def archive(tmp_path):
    root = tmp_path / "archive"
    table(root / "metadata.csv", [NEW, CLINICAL, OTHER])
    for number in (1, 2, 3, 4):
        picture(root / f"ISIC_{number}.jpg", number)
    return root


def test_an_archive_download(archive, tmp_path):
    report = valid("isic_archive", archive, tmp_path / "out")
    one, two, three = report.benchmark.cases
    assert one.tags == {
        "dx": "Melanoma in situ", "malignancy": "malignant", "malignant": True, "biopsied": "true", "age": 55,
        "sex": "female", "site": "trunk", "site_detail": "posterior trunk", "fitzpatrick": "3",
        "family_history_of_melanoma": False, "confirmation": "histopathology", "attribution": "Hospital X",
    }  # fmt: skip
    assert one.context == "Age: 55. Sex: female. Site: posterior trunk. Melanoma in the family: no."
    assert (one.diagnosis, one.patient_id, one.lesion_id) == (("melanoma in situ",), "IP_1", "IL_1")
    assert (one.images[0].body_site, one.images[0].modality) == ("posterior trunk", "dermoscopic")
    assert two.images[0].modality == "clinical"
    assert (three.diagnosis, three.licence) == (("melanocytic nevus",), "CC BY-NC 4.0")
    assert "fitzpatrick" not in three.tags and "sex" not in three.tags
    assert one.split == two.split
    assert report.benchmark.licence == "per case: CC BY 4.0, CC BY-NC 4.0"


def test_the_old_columns_of_the_archive(archive):
    old = {"isic_id": "ISIC_1", "copyright_license": "CC-0", "age_approx": "40", "anatom_site_general": "head/neck",
           "benign_malignant": "indeterminate/benign", "diagnosis": "lentigo NOS", "image_type": "dermoscopic",
           "sex": "male", "lesion_id": "", "patient_id": ""}  # fmt: skip
    table(archive / "metadata.csv", [old, old | {"isic_id": "ISIC_2", "diagnosis": "other", "benign_malignant": ""}])
    bundle = isic_archive.read(archive)
    one, two = bundle.cases
    assert (one.diagnosis, one.tags["malignancy"], one.tags["site"]) == (("lentigo",), "indeterminate", "head/neck")
    assert "malignant" not in one.tags and "malignancy" not in two.tags
    assert (two.diagnosis, two.tags["dx"]) == ((), "other")
    assert "1 of 2 cases have no diagnosis of the term list." in bundle.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"copyright_license": ""},
            "copyright_license is empty; without a licence the picture is not copied (or say l",
        ),
        ({"diagnosis_1": "Perhaps"}, "diagnosis_1 'perhaps' is none of benign, malignant, indeterminate"),
        ({"fitzpatrick_skin_type": "VII"}, "'VII' is no Fitzpatrick type; 1 to 6, I to VI, or the bands"),
        ({"family_hx_mm": "aunt"}, "family_hx_mm 'aunt' is neither true nor false"),
        ({"isic_id": "ISIC_9"}, "no image 'ISIC_9' lies below"),
        ({"isic_id": "isic_1"}, "'isic_1' stands already on line 2"),
    ],
)
def test_a_bad_row_of_the_archive_is_named(archive, change, message):
    table(archive / "metadata.csv", [NEW, NEW | {"isic_id": "ISIC_4"} | change])
    bundle = isic_archive.read(archive)
    (problem,) = told(bundle)
    assert problem[:2] == ("metadata.csv", 3) and message in problem[2]
    assert len(bundle.cases) == 1


def test_what_is_no_metadata_of_the_archive(archive):
    table(archive / "metadata.csv", [{"image": "ISIC_1", "label": "x"}])
    with pytest.raises(InputError, match=r"isic_id and diagnosis_1 \(or .*are needed; it has image, label"):
        isic_archive.read(archive)


def test_hiba_joins_the_pictures_of_a_lesion(archive, tmp_path):
    report = valid("hiba", archive, tmp_path / "out")
    one, two = report.benchmark.cases
    assert (one.id, [image.modality for image in one.images]) == ("IL_1", ["dermoscopic", "clinical"])
    assert [image.path for image in one.images] == ["images/IL_1.jpg", "images/IL_1-2.jpg"]
    assert "age" not in one.tags and one.tags["fitzpatrick"] == "3"
    assert one.context == ""  # the rows differ in it, and no one is chosen
    assert (two.id, two.lesion_id) == ("IL_2", "IL_2")
    assert "age differs between pictures of one lesion; left out there." in report.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"diagnosis_3": "Melanoma Invasive"}, "lesion IL_1 is called melanoma and melanoma in situ; which is it?"),
        ({"patient_id": "IP_9"}, "lesion IL_1 belongs to patient 'IP_1' on an earlier row"),
    ],
)
def test_rows_of_one_lesion_that_contradict_each_other(archive, change, message):
    table(archive / "metadata.csv", [NEW, OTHER, CLINICAL | change])
    problems = told(isic_archive.read_hiba(archive))
    assert [problem[2] for problem in problems] == [message] * len(problems)
    assert {problem[1] for problem in problems} == ({2, 4} if "called" in message else {4})


MILK = ["AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC"]
SHOT = {"lesion_id": "IL_1", "image_type": "dermoscopic", "isic_id": "ISIC_1", "attribution": "MILK study team",
        "copyright_license": "CC-BY-NC", "image_manipulation": "instrument only", "age_approx": "70", "sex": "male",
        "skin_tone_class": "5", "site": "head_neck_face", "MONET_hair": "0.16"}  # fmt: skip
CLOSE_UP = SHOT | {"image_type": "clinical: close-up", "isic_id": "ISIC_2", "MONET_hair": "0.5"}


def class_row(lesion, *codes):
    return {"lesion_id": lesion} | {code: "1.0" if code in codes else "0.0" for code in MILK}


@pytest.fixture
def milk(tmp_path):
    root = tmp_path / "milk"
    second = {"lesion_id": "IL_2"}
    shots = [SHOT, CLOSE_UP, SHOT | second | {"isic_id": "ISIC_3"}, CLOSE_UP | second | {"isic_id": "ISIC_4"}]
    table(root / "MILK10k_Training_GroundTruth.csv", [class_row("IL_1", "SCCKA"), class_row("IL_2", "MAL_OTH")])
    table(root / "MILK10k_Training_Metadata.csv", shots)
    supplement = [{"isic_id": f"ISIC_{n}", "diagnosis_full": name, "diagnosis_confirm_type": "histopathology",
                   "invasion_thickness_interval": ""}
                  for n, name in ((1, "Keratoacanthoma"), (2, "Keratoacanthoma"), (3, "Kaposi sarcoma"),
                                  (4, "Kaposi sarcoma"))]  # fmt: skip
    table(root / "MILK10k_Training_Supplement.csv", supplement)
    for shot in shots:
        picture(
            root / "MILK10k_Training_Input" / shot["lesion_id"] / f"{shot['isic_id']}.jpg", int(shot["isic_id"][-1])
        )
    return root


def test_milk10k_shows_each_lesion_in_two_modalities(milk, tmp_path):
    report = valid("milk10k", milk, tmp_path / "out")
    one, two = report.benchmark.cases
    assert [image.modality for image in one.images] == ["clinical", "dermoscopic"]
    assert one.diagnosis == ("squamous cell carcinoma", "keratoacanthoma")
    assert one.tags == {"age": 70, "sex": "male", "site": "head_neck_face", "attribution": "MILK study team",
                        "dx": "SCCKA", "diagnosis_full": "Keratoacanthoma", "malignant": True,
                        "confirmation": "histopathology", "skin_tone_class": "5"}  # fmt: skip
    assert "fitzpatrick" not in one.tags
    assert (two.diagnosis, two.tags["malignant"]) == (("kaposi sarcoma",), True)
    assert (one.lesion_id, report.benchmark.licence) == ("IL_1", "CC BY-NC 4.0")


def test_milk10k_without_the_supplement_and_without_a_pair(milk):
    (milk / "MILK10k_Training_Supplement.csv").unlink()
    table(milk / "MILK10k_Training_Metadata.csv", [SHOT, CLOSE_UP, SHOT | {"lesion_id": "IL_2", "isic_id": "ISIC_3"}])
    bundle = milk10k.read(milk)
    assert [len(case.images) for case in bundle.cases] == [2, 1]
    assert bundle.cases[1].diagnosis == ()
    assert any("1 cases do not have the pair" in note for note in bundle.notes)
    assert any("1 cases have no diagnosis" in note for note in bundle.notes)


def test_bad_rows_of_milk10k_are_named(milk):
    shots = [SHOT, CLOSE_UP, SHOT, CLOSE_UP | {"isic_id": "ISIC_3", "image_type": "histology"},
             CLOSE_UP | {"isic_id": "ISIC_4", "lesion_id": "IL_9"}]  # fmt: skip
    table(milk / "MILK10k_Training_Metadata.csv", shots)
    table(milk / "MILK10k_Training_GroundTruth.csv",
          [class_row("IL_1", "NV"), class_row("IL_2", "NV"), class_row("IL_3", "NV", "MEL")])  # fmt: skip
    bundle = milk10k.read(milk)
    truth, side = "MILK10k_Training_GroundTruth.csv", "MILK10k_Training_Metadata.csv"
    assert told(bundle) == [
        (side, 4, "the picture stands already on line 2"),
        (side, 5, "image_type 'histology' is neither 'clinical: close-up' nor 'dermoscopic'"),
        (truth, 3, "no usable picture of lesion IL_2 stands in MILK10k_Training_Metadata.csv"),
        (truth, 4, "the classes sum to 2 (MEL and NV marked); exactly one must be 1"),
        (side, 6, "lesion il_9 has no row in MILK10k_Training_GroundTruth.csv"),
    ]  # fmt: skip
    assert [case.id for case in bundle.cases] == ["IL_1"]
