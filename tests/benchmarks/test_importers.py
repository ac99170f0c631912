"""Published layouts, written small by the tests themselves, and what each importer makes of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import polars as pl
import pytest
from PIL import Image as Pillow

from dermjudge.benchmarks import dermbench, dermeval, ham10000, pad_ufes_20, tabular
from dermjudge.benchmarks.bundle import SPLITS
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Score


def picture(path: Path, shade: int = 0, form: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", (8, 8), (shade * 20 % 256, 90, 60)).save(path, form or None)
    return path


def table(path: Path, rows: list[dict], delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


HAM = [
    {"lesion_id": "HAM_1", "image_id": "ISIC_1", "dx": "akiec", "dx_type": "histo", "age": "55.0", "sex": "male",
     "localization": "back"},
    {"lesion_id": "HAM_1", "image_id": "ISIC_2", "dx": "akiec", "dx_type": "histo", "age": "0.0", "sex": "unknown",
     "localization": "unknown"},
    {"lesion_id": "HAM_2", "image_id": "ISIC_3", "dx": "mel", "dx_type": "histo", "age": "", "sex": "female",
     "localization": "face"},
]  # fmt: skip


@pytest.mark.parametrize("layout", ["published", "flat", "nested", "dataverse", "mirror"])
def test_ham10000_layouts(tmp_path, layout):
    folders = ["HAM10000_images_part_1", "HAM10000_images_part_2", "HAM10000_images_part_1"]
    if layout == "flat":
        folders = [""] * 3
    if layout == "nested":
        folders = [f"{folder}/{folder}" for folder in folders]
    for i, folder in enumerate(folders):
        picture(tmp_path / folder / f"ISIC_{i + 1}.jpg", i)
        if layout == "mirror":
            picture(tmp_path / "all" / f"ISIC_{i + 1}.jpg", i)
    name = "HAM10000_metadata" if layout == "dataverse" else "HAM10000_metadata.csv"
    table(tmp_path / name, HAM, "\t" if layout == "dataverse" else ",")
    bundle = ham10000.read(tmp_path)
    assert not bundle.problems
    one, two, three = bundle.cases
    assert one.diagnosis == ("actinic keratosis", "squamous cell carcinoma in situ")
    assert (one.id, one.lesion_id, one.images[0].modality) == ("ISIC_1", "HAM_1", "dermoscopic")
    assert (tmp_path / one.images[0].path).is_file()
    assert one.context == "Age: 55. Sex: male. Site: back."
    assert (one.tags["age"], two.tags) == (55, {"dx": "akiec", "confirmation": "histo", "age": 0})
    assert (one.urgency, one.urgency_derived) == ("", False)  # the two diseases of the group differ in urgency
    assert (three.urgency, three.urgency_derived) == ("urgent", True)
    assert one.split == two.split
    assert {case.split for case in bundle.cases} <= set(SPLITS)
    assert "age" not in three.tags


def test_ham10000_bad_rows_are_listed_and_the_rest_is_read(tmp_path):
    for i in (1, 2, 3):
        picture(tmp_path / f"ISIC_{i}.jpg", i)
    rows = [HAM[0], HAM[1] | {"dx": "wart"}, HAM[2] | {"image_id": "ISIC_9"}, HAM[2] | {"age": "old"}, HAM[0],
            HAM[2] | {"image_id": " "}]  # fmt: skip
    table(tmp_path / "HAM10000_metadata.csv", rows)
    bundle = ham10000.read(tmp_path)
    assert [case.id for case in bundle.cases] == ["ISIC_1"]
    assert [(p.line, p.message.split(";")[0]) for p in bundle.problems] == [
        (3, "dx 'wart' is none of akiec, bcc, bkl, df, mel, nv, vasc"),
        (4, f"no image 'ISIC_9' lies below {tmp_path}"),
        (5, "'old' is not a number from 0"),
        (6, "'ISIC_1' stands already on line 2"),
        (7, "image_id is empty"),
    ]


def test_two_different_pictures_of_one_name_are_a_question(tmp_path):
    table(tmp_path / "HAM10000_metadata.csv", HAM[:1])
    picture(tmp_path / "a" / "ISIC_1.jpg", 1)
    picture(tmp_path / "b" / "ISIC_1.jpg", 2)
    (problem,) = ham10000.read(tmp_path).problems
    assert "several images are called 'ISIC_1': a/ISIC_1.jpg, b/ISIC_1.jpg" in problem.message


def test_what_is_no_ham10000(tmp_path):
    with pytest.raises(InputError, match=r"no HAM10000_metadata.csv or .* It is empty"):
        ham10000.read(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        ham10000.read(tmp_path / "none")
    table(tmp_path / "HAM10000_metadata.csv", HAM)
    (tmp_path / "HAM10000_images_part_1.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"no image .* unpack HAM10000_images_part_1.zip first"):
        ham10000.read(tmp_path)
    table(tmp_path / "HAM10000_metadata.csv", [{"image": "x", "dx": "nv"}])
    with pytest.raises(InputError, match="missing columns lesion_id, image_id"):
        ham10000.read(tmp_path)


def test_the_classes_of_the_importers_are_terms():
    terms = load_terms()
    names = {name for group in ham10000.DIAGNOSES.values() for name in group} | set(pad_ufes_20.DIAGNOSES.values())
    assert {name for name in names if terms.find(name) is None or terms.find(name).name != name} == set()


PAD = {
    "patient_id": "PAT_1", "lesion_id": "7", "smoke": "False", "drink": "True", "background_father": "BRASIL",
    "background_mother": "BRAZIL", "age": "55", "pesticide": "False", "gender": "FEMALE",
    "skin_cancer_history": "True", "cancer_history": "", "has_piped_water": "True", "has_sewage_system": "True",
    "fitspatrick": "3.0", "region": "FACE", "diameter_1": "6.0", "diameter_2": "5.5", "diagnostic": "BCC",
    "itch": "True", "grew": "UNK", "hurt": "False", "changed": "FALSE", "bleed": "True", "elevation": "True",
    "img_id": "PAT_1_7_1.png", "biopsed": "True",
}  # fmt: skip


def test_pad_ufes_20(tmp_path):
    rows = [PAD, PAD | {"img_id": "PAT_1_7_2.png", "age": "56"},
            PAD | {"patient_id": "PAT_2", "img_id": "PAT_2_7_3.png"},
            PAD | {"lesion_id": "8", "img_id": "PAT_1_8_4.png", "fitspatrick": "", "grew": "", "diagnostic": "NEV"},
            PAD | {"patient_id": "PAT_3", "img_id": "PAT_3_7_5.png", "diagnostic": "SEK"},
            PAD | {"patient_id": "PAT_3", "img_id": "PAT_3_7_6.png", "diagnostic": "MEL"},
            PAD | {"patient_id": "PAT_4", "img_id": "PAT_4_7_7.png", "fitspatrick": "9"},
            PAD | {"patient_id": "PAT_5", "img_id": "PAT_5_7_8.png"}]  # fmt: skip
    table(tmp_path / "metadata.csv", rows)
    for i, row in enumerate(rows[:-1]):
        part = f"imgs_part_{i % 3 + 1}"
        picture(tmp_path / "images" / part / part / row["img_id"], i)
    bundle = pad_ufes_20.read(tmp_path)
    one, two, three = bundle.cases
    assert [case.id for case in bundle.cases] == ["PAT_1_7", "PAT_2_7", "PAT_1_8"]
    assert [Path(image.path).name for image in one.images] == ["PAT_1_7_1.png", "PAT_1_7_2.png"]
    assert one.lesion_id != two.lesion_id
    assert one.split == three.split
    assert "age" not in one.tags
    assert "age differs between pictures of one lesion; left out there." in bundle.notes
    assert two.tags["fitzpatrick"] == "3"
    assert "fitzpatrick" not in three.tags
    assert "grew" not in one.tags
    assert (one.tags["hurt"], one.tags["biopsied"], one.tags["diameters_mm"]) == (False, True, [6, 5.5])
    assert {one.tags["background_father"], one.tags["background_mother"]} == {"BRAZIL"}
    assert two.context == ("Age: 55. Sex: female. Site: face. Size: 6 x 5.5 mm. The lesion: itches, bleeds, is raised. "
                           "Skin cancer before: yes.")  # fmt: skip
    assert [(p.line, p.message[:40]) for p in bundle.problems] == [
        (9, "no image 'PAT_5_7_8.png' lies below " + str(tmp_path)[:4]),
        (6, "lesion 7 of PAT_3 is called MEL and SEK;"),
        (7, "lesion 7 of PAT_3 is called MEL and SEK;"),
        (8, "'9' is no Fitzpatrick type; 1 to 6, I to"),
    ]


def dermbench_row(root: Path, number: int, category: str, file: str, label: str, text: str) -> dict:
    cot = f"data/cot/{category}/{file}.txt"
    (root / cot).parent.mkdir(parents=True, exist_ok=True)
    (root / cot).write_text(text, encoding="utf-8")
    return {"id": f"dermbench_{number:04d}", "source": "DermNet test set", "split": "test", "category": category,
            "diagnosis": label, "dermnet_image_path": f"{category}/{file}", "cot": cot,
            "cot_sha256": hashlib.sha256(text.encode()).hexdigest()}  # fmt: skip


@pytest.fixture
def dermbench_root(tmp_path):
    acne, viral = "Acne and Rosacea Photos", "Warts Molluscum and other Viral Infections"
    rows = [
        dermbench_row(tmp_path, 1, acne, "acne-cystic-53.jpg", "acne cystic",
                      "<think>Nodules and cysts.</think> This is nodulocystic acne.\n"),
        dermbench_row(tmp_path, 2, acne, "acne-histology-4.jpg", "acne closed comedo", "A cyst with keratin."),
        dermbench_row(tmp_path, 3, viral, "acne-cystic-53.jpg", "no such label", "Verruca?"),
        dermbench_row(tmp_path, 4, viral, "gone.jpg", "acne", "x"),
        dermbench_row(tmp_path, 5, viral, "changed.jpg", "acne", "y"),
    ]  # fmt: skip
    (tmp_path / rows[3]["cot"]).unlink()
    (tmp_path / rows[4]["cot"]).write_text("edited")
    manifest = tmp_path / "data" / "manifest" / "dermbench_test.jsonl"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_dermbench_without_pictures(dermbench_root):
    bundle = dermbench.read(dermbench_root)
    one, two, three = bundle.cases
    assert one.diagnosis == ("nodulocystic acne",)
    assert one.tags["label_confidence"] == "high"
    assert one.reference == "Nodules and cysts. This is nodulocystic acne."
    assert (one.tags["reference_names_label"], two.tags["reference_names_label"]) == (True, False)
    assert (one.images, bundle.root, one.split) == ((), None, "test")
    assert one.tags["series"] == "acne-cystic"
    assert one.tags["same_file"] == ["dermbench_0003"]
    assert (three.diagnosis, three.tags["label_confidence"], three.urgency) == ((), "none", "")
    assert [(p.line, p.message.split(".jpg.txt ")[1]) for p in bundle.problems] == [
        (4, "is not there"), (5, "is not the published text (SHA-256 differs)")]  # fmt: skip
    assert [n.system for n in bundle.narratives] == ["certified-reference"] * 3
    assert bundle.narratives[0].judged == one.reference
    assert any("1 of 2 references name neither" in note for note in bundle.notes)
    assert dermbench.read(dermbench_root, references=False).narratives == []
    assert dermbench.read(dermbench_root / "data").cases == bundle.cases


def test_dermbench_with_pictures_takes_them_by_path(dermbench_root, tmp_path_factory):
    images = tmp_path_factory.mktemp("dermnet")
    picture(images / "Acne and Rosacea Photos" / "acne-cystic-53.jpg", 1)
    picture(images / "Acne and Rosacea Photos" / "acne-histology-4.jpg", 2)
    bundle = dermbench.read(dermbench_root, images=images)
    assert [(case.id, case.images[0].modality) for case in bundle.cases] == [
        ("dermbench_0001", "clinical"), ("dermbench_0002", "histology")]  # fmt: skip
    assert "no image Warts Molluscum" in bundle.problems[0].message


def test_a_dermbench_path_cannot_leave_the_folder(dermbench_root):
    manifest = dermbench_root / "data" / "manifest" / "dermbench_test.jsonl"
    row = json.loads(manifest.read_text().splitlines()[0])
    manifest.write_text(json.dumps(row | {"cot": "../secret.txt"}))
    with pytest.raises(InputError, match="leaves the data set"):
        dermbench.read(dermbench_root)


DERMEVAL = {
    "id": "case_001", "image": "a/1.jpg", "diagnostic_text": "Likely psoriasis.",
    "evaluation_text": "Accuracy: 4.0 - right plaque\nSafety: 5.0 - no harm\n**Clinical Coverage**: 3.5 - thin",
    "scores": {"accuracy": 4.0, "safety": 5.0, "medical_groundedness": 4.0, "clinical_coverage": 9.5,
               "reasoning_coherence": 4.0, "description_precision": None},
}  # fmt: skip


@pytest.mark.parametrize("form", ["jsonl", "list", "data"])
def test_dermeval(tmp_path, form):
    second = DERMEVAL | {"id": "case_002", "model": "m2", "scores": [1, 2, 3, 4, 5, 0]}
    records = [DERMEVAL, second, DERMEVAL | {"id": "case_003"}, {"id": "case_004", "image": "b/2.jpg"}]
    path = tmp_path / ("r.jsonl" if form == "jsonl" else "r.json")
    path.write_text("\n".join(map(json.dumps, records)) if form == "jsonl"
                    else json.dumps(records if form == "list" else {"data": records}))  # fmt: skip
    bundle = dermeval.read(path)
    assert [case.id for case in bundle.cases] == ["case_001"]
    assert [n.key for n in bundle.narratives] == [
        ("case_001", "candidate", "image_only", 0), ("case_001", "m2", "image_only", 0),
        ("case_001", "candidate", "image_only", 1)]  # fmt: skip
    rating = bundle.ratings[0]
    assert (rating.rater_kind, rating.rubric, rating.narrative_hash) == ("expert", "derm6@1", bundle.narratives[0].hash)
    assert rating.scores["Accuracy"] == Score(4.0)
    assert rating.scores["Clinical Coverage"].state == "out_of_scale"
    assert rating.scores["Description Precision"] == Score(None, "skipped")
    assert rating.critique == {"Accuracy": "right plaque", "Safety": "no harm", "Clinical Coverage": "thin"}
    assert rating.answer == DERMEVAL["evaluation_text"]
    assert [score.value for score in bundle.ratings[1].scores.values()] == [1, 2, 3, 4, 5, 0]
    (problem,) = bundle.problems
    assert (problem.line, problem.field) == (4, "case_004")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": [1, 2]}, "'scores' has 2 numbers; derm6@1 has 6 dimensions"),
        ({"scores": {"accuracy": "4"}}, "Accuracy: '4' is not a score; a number from 0 to 5"),
        ({"scores": {"beauty": 4}}, "'beauty' is no dimension of derm6@1; it has Accuracy, Safety"),
        ({"scores": 4}, "'scores' must be an object or a list"),
        ({"image": 3}, "'image' must be a relative path"),
        ({"diagnostic_text": " "}, "none of diagnostic_text, candidate_text"),
    ],
)
def test_a_bad_dermeval_record_is_named(tmp_path, changes, message):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(DERMEVAL | {"image": "ok.jpg", "id": "ok"}) + "\n" + json.dumps(DERMEVAL | changes))
    (problem,) = dermeval.read(path).problems
    assert problem.line == 2
    assert message in problem.message


def test_dermeval_files_that_are_none(tmp_path):
    bad = {"{": "is not JSON", "3": "a JSON list", "[3]": "no usable record", " ": "is empty"}
    for content, message in bad.items():
        (tmp_path / "r.json").write_text(content)
        with pytest.raises(InputError, match=message):
            dermeval.read(tmp_path / "r.json")


ROWS = [
    {"case": "007", "file": "a.png", "who": "p1", "label": "BCC", "tone": "IV", "age": "40.0", "note": "itches, red"},
    {"case": "007", "file": "sub/b", "who": "p1", "label": "BCC", "tone": "IV", "age": "40.0", "note": "itches, red"},
    {"case": "008", "file": "c.png", "who": "p2", "label": "basel cel carcinoma", "tone": "-1", "age": "UNK",
     "note": ""},
]  # fmt: skip
COLUMNS = {"id": "case", "image": "file", "patient_id": "who", "diagnosis": "label", "fitzpatrick": "tone",
           "age": "age", "context": "note", "tags": ["note"]}  # fmt: skip


@pytest.fixture
def tabular_root(tmp_path):
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "sub" / "b.jpg", 2)
    picture(tmp_path / "c.png", 3)
    table(tmp_path / "t.csv", ROWS)
    return tmp_path


def test_tabular(tabular_root):
    bundle = tabular.read(tabular_root, columns=COLUMNS, licence="internal", fractions={"test": 1.0})
    one, two = bundle.cases
    assert not bundle.problems
    assert (one.id, [image.path for image in one.images]) == ("007", ["a.png", "sub/b.jpg"])
    assert one.diagnosis == ("basal cell carcinoma",)
    assert (one.context, one.split, one.urgency_derived) == ("itches, red", "test", True)
    assert one.tags == {"note": "itches, red", "fitzpatrick": "4", "age": 40}
    assert (two.diagnosis, two.tags, two.urgency) == (("basel cel carcinoma",), {}, "")
    assert bundle.notes[0].startswith("'basel cel carcinoma' is not in the term list (closest: basal cell carcinoma")


def test_tabular_reads_a_mapping_file_and_parquet(tabular_root):
    pl.DataFrame(ROWS).with_columns(label=pl.lit('["BCC", "my own word"]')).write_parquet(tabular_root / "t.parquet")
    mapping = tabular_root / "map.yaml"
    mapping.write_text("columns: {id: case, diagnosis: label}\nlicence: internal\ntable: t.parquet\n"
                       "labels: {my own word: melanoma}\n")  # fmt: skip
    bundle = tabular.read(tabular_root, mapping=mapping, name="mine")
    assert (bundle.name, bundle.licence, bundle.root) == ("mine", "internal", None)
    assert bundle.cases[0].diagnosis == ("basal cell carcinoma", "melanoma")
    assert len(bundle.problems) == 1  # without the picture, the two rows of 007 are the same
    mapping.write_text("columns: {id: case, pathology: label}\nlicense: x\n")
    with pytest.raises(InputError) as caught:
        tabular.read(tabular_root, mapping=mapping)
    assert "columns.pathology: Extra inputs are not permitted; known: id, image, diagnosis" in str(caught.value)
    assert "license: Extra inputs are not permitted; known: columns, table, name" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "d.png"}, "no image 'd.png' lies below"),
        ({"file": ""}, "the image column 'file' is empty"),
        ({"tone": "purple"}, "'purple' is no Fitzpatrick type"),
        ({"age": "forty"}, "'forty' is not a number from 0"),
        ({"case": " "}, "the id column 'case' is empty"),
        ({"case": "007", "file": "sub/b"}, "another patient_id; one id is one case"),
        ({**ROWS[0]}, "with the same picture"),
    ],
)
def test_tabular_bad_rows_are_listed(tabular_root, change, message):
    table(tabular_root / "t.csv", [ROWS[0], ROWS[2] | change])
    bundle = tabular.read(tabular_root, columns=COLUMNS)
    assert len(bundle.cases) == 1
    (problem,) = bundle.problems
    assert (problem.file, problem.line) == ("t.csv", 3)
    assert message in problem.message


def test_tabular_options_that_do_not_fit(tabular_root):
    with pytest.raises(InputError, match=r"t.csv: missing column pathology. Known: case, file"):
        tabular.read(tabular_root, columns={"id": "case", "diagnosis": "pathology"})
    with pytest.raises(InputError, match="columns: Field required"):
        tabular.read(tabular_root)
    (tabular_root / "u.csv").write_text("x\n")
    with pytest.raises(InputError, match=r"holds t.csv, u.csv; say which is the table"):
        tabular.read(tabular_root, columns={"id": "case"})


def test_no_importer_takes_a_table_in_utf16(tmp_path):
    buffer = io.StringIO()
    csv.writer(buffer).writerows([list(HAM[0]), list(HAM[0].values())])
    (tmp_path / "HAM10000_metadata.csv").write_bytes(buffer.getvalue().encode("utf-16"))
    picture(tmp_path / "ISIC_1.jpg")
    with pytest.raises(InputError, match="UTF-16"):
        ham10000.read(tmp_path)
