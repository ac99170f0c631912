"""SkinCAP and SkinCoT, and what DermBench says of texts, labels and paths that are not as they should be."""

from __future__ import annotations

import json

import pytest

from dermjudge.benchmarks import dermbench, skincap, skincot
from dermjudge.benchmarks.catalog import import_dataset
from dermjudge.benchmarks.validate import validate
from dermjudge.judge.errors import InputError

from .test_importers import dermbench_row, picture, table

CAP = {
    "id": "1", "skincap_file_path": "1.png", "disease": "squamous-cell-carcinoma", "caption_zh": "红斑。",
    "caption_zh_polish_en": "A red plaque, which suggests a tumor.", "malignant": "1", "fitzpatrick_scale": "5",
    "Papule": "0", "Plaque": "1", "Do not consider this image": "0", "ori_file_path": "x/000001.png",
}  # fmt: skip


def caps(root, rows):
    table(root / "skincap_v240623.csv", rows)
    for k in (1, 2, 3):
        picture(root / "skincap" / f"{k}.png", k)
    return root


def test_skincap(tmp_path):
    rows = [CAP, CAP | {"id": "2.0", "skincap_file_path": "2.png", "disease": "quux dermatosis",
                        "fitzpatrick_scale": "-1", "malignant": "", "Plaque": ""}]  # fmt: skip
    root = caps(tmp_path / "src", rows)
    bundle = skincap.read(root)
    one, two = bundle.cases
    assert not bundle.problems
    assert one.diagnosis == ("squamous cell carcinoma",)
    assert one.reference == CAP["caption_zh_polish_en"]
    assert one.tags == {"raw_label": "squamous-cell-carcinoma", "fitzpatrick": "5", "malignant": True,
                        "concepts": ["Plaque"]}  # fmt: skip
    assert (two.id, two.diagnosis) == ("2", ())
    assert two.tags == {"raw_label": "quux dermatosis", "unmapped_labels": ["quux dermatosis"]}
    assert bundle.notes[-1].startswith("skincap_v240623.csv line 3: 'quux dermatosis' is not in the term list")
    assert [(n.system, n.text) for n in bundle.narratives] == [
        ("dermatologist-caption", c.reference) for c in (one, two)
    ]
    assert [case.reference for case in skincap.read(root, language="zh").cases] == ["红斑。"] * 2
    assert skincap.read(root, references=False).narratives == []
    report = import_dataset("skincap", root, tmp_path / "out")
    assert validate(tmp_path / "out") == []
    assert report.benchmark.licence.startswith("conflicting")


def test_skincap_reads_the_header_instead_of_assuming_it(tmp_path):
    row = {"id": "1", "skincap_file_path": "1.png", "disease": "melanoma", "caption_en": "A black spot."}
    (case,) = skincap.read(caps(tmp_path, [row])).cases
    assert (case.reference, case.tags) == ("A black spot.", {"raw_label": "melanoma"})
    with pytest.raises(InputError, match="missing column caption_zh"):
        skincap.read(tmp_path, language="zh")
    with pytest.raises(InputError, match="language 'fr' is none of en, zh"):
        skincap.read(tmp_path, language="fr")


def test_skincap_bad_rows_are_named(tmp_path):
    rows = [CAP, CAP | {"id": "2", "caption_zh_polish_en": " "}, CAP | {"id": "3", "skincap_file_path": ""},
            CAP | {"id": "4", "skincap_file_path": "9.png"}, CAP | {"id": "5", "malignant": "2"}, CAP,
            CAP | {"id": "6", "fitzpatrick_scale": "34"}, 
            CAP | {"id": "7", "Do not consider this image": "1"}]  # fmt: skip
    bundle = skincap.read(caps(tmp_path, rows))
    told = {problem.line: problem.message for problem in bundle.problems}
    assert (told[3], told[4]) == ("caption_zh_polish_en is empty", "skincap_file_path is empty")
    assert told[5].startswith("no image '9.png' lies below")
    assert told[6] == "malignant '2' is neither true nor false"
    assert told[7] == "'1' stands already on line 2"
    assert told[8] == "fitzpatrick_scale '34' is a band; types 1 to 6 are needed"
    assert told[9] == "is marked 'do not consider this image' by the set itself"
    assert [case.id for case in bundle.cases] == ["1"]


ACNE, LIGHT = "Acne and Rosacea Photos", "Light Diseases and Disorders of Pigmentation"


def cot(root, category, name, text="<think>Papules.</think> This is acne.", chinese="痤疮。", image=True):
    for folder, content in (("EN", text), ("ZH", chinese)):
        path = root / "SkinCoT" / folder / category / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if image:
        picture(root / "SkinCoT" / "images" / category / name, len(list(root.rglob("*.jpg"))))


def test_skincot(tmp_path):
    root = tmp_path / "src"
    cot(root, ACNE, "acne-cystic-53.jpg")
    cot(root, ACNE, "acne-cystic-54.jpg", "A boil?")
    cot(root, LIGHT, "quux-lamp-1.jpg", "Unknown.")
    picture(root / "SkinCoT" / "images" / LIGHT / "no-text-1.jpg", 9)
    bundle = skincot.read(root)
    one, two, three = bundle.cases
    assert not bundle.problems
    assert (one.id, one.diagnosis) == (f"{ACNE}/acne-cystic-53.jpg", ("nodulocystic acne",))
    assert one.reference == "Papules. This is acne."
    assert (one.tags["raw_label"], one.tags["label_confidence"], one.tags["series"]) == (
        "acne cystic", "high", "acne-cystic")  # fmt: skip
    assert (one.tags["reference_names_label"], two.tags["reference_names_label"]) == (True, False)
    assert one.split == two.split  # one series
    assert one.lesion_id == ""
    assert (three.diagnosis, three.tags["unmapped_labels"]) == ((), ["quux lamp"])
    assert any("1 pictures have no text" in note for note in bundle.notes)
    assert skincot.read(root, language="zh").cases[0].reference == "痤疮。"
    import_dataset("skincot", root, tmp_path / "out")
    assert validate(tmp_path / "out") == []


def test_skincot_marks_what_also_stands_in_dermbench(tmp_path):
    cot(tmp_path / "src", ACNE, "acne-cystic-53.jpg")
    cot(tmp_path / "src", ACNE, "acne-cystic-54.jpg")
    row = dermbench_row(tmp_path / "bench", 1, ACNE, "acne-cystic-53.jpg", "acne cystic", "x")
    (tmp_path / "bench" / "dermbench_test.jsonl").write_text(json.dumps(row))
    bundle = skincot.read(tmp_path / "src", dermbench=tmp_path / "bench")
    assert [case.tags["in_dermbench"] for case in bundle.cases] == [True, False]
    assert bundle.notes[0].startswith("1 of 2 cases are also in DermBench")


def test_skincot_files_that_do_not_fit_are_named(tmp_path):
    cot(tmp_path, ACNE, "acne-cystic-1.jpg")
    cot(tmp_path, ACNE, "acne-cystic-2.jpg", image=False)
    cot(tmp_path, ACNE, "acne-cystic-3.jpg", " <think></think> ")
    cot(tmp_path, ACNE, "acne-cystic-4.jpg", b"caf\xe9")
    (tmp_path / "SkinCoT" / "EN" / "loose.jpg.txt").write_text("x")
    bundle = skincot.read(tmp_path)
    assert [(p.file.rpartition("/")[2], p.message.replace(f"EN/{ACNE}/", "")) for p in bundle.problems] == [
        ("acne-cystic-2.jpg.txt", f"no image images/{ACNE}/acne-cystic-2.jpg belongs to this text"),
        ("acne-cystic-3.jpg.txt", "the text acne-cystic-3.jpg.txt is empty"),
        ("acne-cystic-4.jpg.txt", "the text acne-cystic-4.jpg.txt is not UTF-8 (byte 3)"),
        ("loose.jpg.txt", "lies in no category's folder"),
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no folder EN beside a folder images below .* It holds nothing"):
        skincot.read(tmp_path / "empty")


@pytest.fixture
def bench(tmp_path):
    root = tmp_path / "bench"
    rows = [
        dermbench_row(root, 1, ACNE, "acne-cystic-53.jpg", "acne cystic", "<think>Cysts. Nodulocystic acne."),
        dermbench_row(root, 2, ACNE, "acne-cystic-54.jpg", "acne cistic", "Nothing to say."),
        dermbench_row(root, 3, ACNE, "acne-cystic-55.jpg", "acne cystic", "<think> </think>"),
        dermbench_row(root, 4, LIGHT, "acne-cystic-53.jpg", "no such label", "<think>x</think> y"),
    ]
    folder = root / "data" / "manifest"
    folder.mkdir(parents=True)
    (folder / "dermbench_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "categories.csv").write_text(f"category,count,percentage\n{ACNE},3,75\n{LIGHT},1,25\n")
    return root


def test_dermbench_says_what_is_odd_about_texts_and_labels(bench):
    bundle = dermbench.read(bench)
    assert [case.tags.get("reference_tags") for case in bundle.cases] == ["unbalanced", "none", None]
    assert [case.tags.get("unmapped_labels") for case in bundle.cases] == [None, ["acne cistic"], ["no such label"]]
    assert [(p.line, p.message) for p in bundle.problems] == [
        (3, f"the text data/cot/{ACNE}/acne-cystic-55.jpg.txt is empty")]  # fmt: skip
    told = "\n".join(bundle.notes)
    assert "2 of 3 references have unbalanced or no <think> tags" in told
    assert "dermbench_test.jsonl line 2: 'acne cistic' is not in the term list (closest: " in told
    assert f"Fewer cases than categories.csv counts: {ACNE} (2 of 3)." in told


def test_dermbench_pictures_are_found_one_folder_down_but_never_by_name_alone(bench, tmp_path):
    images = tmp_path / "dermnet"
    picture(images / "test" / ACNE / "acne-cystic-53.JPG", 1)
    picture(images / "test" / ACNE / "acne-cystic-54.jpg", 2)
    bundle = dermbench.read(bench, images=images)
    assert [case.images[0].path for case in bundle.cases] == [
        f"test/{ACNE}/acne-cystic-53.JPG", f"test/{ACNE}/acne-cystic-54.jpg"]  # fmt: skip
    assert f"no image {LIGHT}/acne-cystic-53.jpg below" in bundle.problems[-1].message
    picture(images / "train" / ACNE / "acne-cystic-54.jpg", 3)
    told = [problem.message for problem in dermbench.read(bench, images=images).problems]
    assert f"the image {ACNE}/acne-cystic-54.jpg lies in test/{ACNE}/acne-cystic-54.jpg and train/" in told[0]
    import_dataset("dermbench", bench, tmp_path / "out", images=images)
    assert validate(tmp_path / "out") == []
