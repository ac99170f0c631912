"""Fitzpatrick17k and DDI: published layouts written small, what comes in, and every row that must not."""

from __future__ import annotations

import csv

import pytest

from dermjudge.benchmarks import ddi, fitzpatrick17k
from dermjudge.benchmarks.catalog import IMPORTERS, import_dataset
from dermjudge.benchmarks.validate import validate
from dermjudge.evaluators.case_attributes import case_attributes
from dermjudge.judge.errors import InputError

from .test_importers import picture, table

F17K = {
    "md5hash": "a0", "fitzpatrick_scale": "3", "fitzpatrick_centaur": "2", "label": "erythema annulare centrifigum",
    "nine_partition_label": "inflammatory", "three_partition_label": "non-neoplastic", "qc": "",
    "url": "https://atlas.example/a.jpg", "url_alphanum": "httpsatlasexampleajpg",
}  # fmt: skip


def f17k(root, rows):
    table(root / "fitzpatrick17k.csv", rows)
    return root


def test_fitzpatrick17k(tmp_path):
    rows = [
        F17K,
        F17K | {"md5hash": "b1", "label": "superficial spreading melanoma ssm", "fitzpatrick_scale": "-1",
                "three_partition_label": "malignant", "qc": "1 Diagnostic", "url_alphanum": "httpsatlasb.jpg"},
        F17K | {"md5hash": "c2", "fitzpatrick_centaur": "-1", "qc": "3 Wrongly labelled", "label": "melanoma"},
    ]  # fmt: skip
    f17k(tmp_path / "src", rows)
    picture(tmp_path / "src" / "images" / "a0.jpg", 1)
    picture(tmp_path / "src" / "images" / "httpsatlasb.jpg", 2)  # the name that the authors' own copy uses
    picture(tmp_path / "src" / "images" / "c2.jpg", 3)
    bundle = fitzpatrick17k.read(tmp_path / "src")
    one, two, three = bundle.cases
    assert not bundle.problems
    assert one.diagnosis == ("erythema annulare centrifugum",)
    assert (one.urgency, one.urgency_derived) == ("soon", True)
    assert one.tags == {"raw_label": "erythema annulare centrifigum", "fitzpatrick": "3",
                        "partition": "non-neoplastic", "partition_9": "inflammatory"}  # fmt: skip
    assert (two.diagnosis, "fitzpatrick" in two.tags) == (("superficial spreading melanoma",), False)
    assert two.images[0].path == "images/httpsatlasb.jpg"
    assert (three.diagnosis, three.urgency, three.tags["raw_label"]) == ((), "", "melanoma")
    assert "column fitzpatrick_scale; 1 of 3 are unknown, and in 1 the two columns differ" in bundle.notes[0]
    assert any("1 cases are 'wrongly labelled'" in note for note in bundle.notes)
    other = fitzpatrick17k.read(tmp_path / "src", skin="fitzpatrick_centaur")
    assert [case.tags.get("fitzpatrick") for case in other.cases] == ["2", "2", None]
    report = import_dataset("fitzpatrick17k", tmp_path / "src", tmp_path / "out", fractions={"test": 1})
    assert validate(tmp_path / "out") == []
    assert report.benchmark.splits == {"test": 3}
    assert "CC BY-NC-SA 3.0" in report.benchmark.licence
    assert "Groh" in report.benchmark.citation


def test_fitzpatrick17k_bad_rows_are_named(tmp_path):
    rows = [
        F17K, F17K | {"md5hash": "b1", "label": "basal cell carcinom"}, F17K, F17K | {"md5hash": "d3", "url": ""},
        F17K | {"md5hash": "e4", "fitzpatrick_scale": "7"}, F17K | {"md5hash": " "},
        F17K | {"md5hash": "f5", "label": ""},
    ]  # fmt: skip
    f17k(tmp_path, [row | {"url_alphanum": row["md5hash"] + "x"} for row in rows])
    for name in ("a0", "b1", "e4", "f5"):
        picture(tmp_path / f"{name}.jpg")
    bundle = fitzpatrick17k.read(tmp_path)
    assert [case.id for case in bundle.cases] == ["a0"]
    assert {problem.file for problem in bundle.problems} == {"fitzpatrick17k.csv"}
    told = {problem.line: problem.message for problem in bundle.problems}
    assert told[3].startswith("'basal cell carcinom' is not in the term list (closest: basal cell carcinoma")
    assert told[4] == "'a0' stands already on line 2"
    assert told[5].startswith("no image d3.jpg or d3x lies below")
    assert told[5].endswith("the row has no url to fetch it from")
    assert told[6].startswith("'7' is no Fitzpatrick type")
    assert (told[7], told[8]) == ("md5hash is empty", "the label is empty")


def test_fitzpatrick17k_as_a_whole_can_be_wrong(tmp_path):
    f17k(tmp_path, [F17K])
    with pytest.raises(InputError, match=r"no image .* It holds fitzpatrick17k.csv"):
        fitzpatrick17k.read(tmp_path)
    with pytest.raises(InputError, match="skin 'monk' is none of fitzpatrick_scale, fitzpatrick_centaur"):
        fitzpatrick17k.read(tmp_path, skin="monk")
    table(tmp_path / "fitzpatrick17k.csv", [{"md5hash": "a", "labels": "x"}])
    with pytest.raises(InputError, match=r"unknown column 'labels' \(closest: label\)"):
        fitzpatrick17k.read(tmp_path)


HEADER = ["", "DDI_ID", "DDI_file", "skin_tone", "malignant", "disease"]
DDI = [
    ["0", "1", "000001.png", "56", "True", "squamous-cell-carcinoma-in-situ"],
    ["2", "3", "000003.png", "12", "FALSE", "condyloma-accuminatum"],
    ["5", "9", "000009.png", "34", "TRUE", "mycosis-fungoides"],
]


def ddi_root(root, rows, mark=""):
    root.mkdir(parents=True, exist_ok=True)
    with (root / "ddi_metadata.csv").open("w", newline="", encoding="utf-8") as file:
        file.write(mark)
        csv.writer(file).writerows([HEADER, *rows])
    for k in (1, 3, 9):
        picture(root / f"{k:06d}.png", k)
    return root


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_ddi(tmp_path, mark):
    bundle = ddi.read(ddi_root(tmp_path / "src", DDI, mark))  # the first column has no name, as published
    one, two, three = bundle.cases
    assert not bundle.problems
    assert (one.id, one.images[0].path, one.split) == ("000001", "000001.png", "test")
    assert one.diagnosis == ("squamous cell carcinoma in situ",)
    assert (two.diagnosis, three.diagnosis) == (("genital warts",), ("mycosis fungoides",))
    assert [case.tags["malignant"] for case in bundle.cases] == [True, False, True]
    assert one.tags["ddi_id"] == "1"
    groups = case_attributes(bundle.cases)
    assert groups["fitzpatrick_band"] == {"000001": "5-6", "000003": "1-2", "000009": "3-4"}
    assert "fitzpatrick" not in groups  # a band is never a type
    import_dataset("ddi", tmp_path / "src", tmp_path / "out")
    assert validate(tmp_path / "out") == []


def test_ddi_bad_rows_are_named(tmp_path):
    rows = [
        DDI[0], ["1", "3", "3.png", "12", "True", "melanoma"], ["2", "9", "000009.png", "3", "True", "melanoma"],
        ["3", "3", "000003.png", "12", "maybe", "melanoma"], ["4", "3", "000003.png", "12", "True", "melanom-a"],
        ["5", "4", "000004.png", "12", "True", "melanoma"], ["6", "1", "000001.png", "12", "True", "melanoma"],
    ]  # fmt: skip
    bundle = ddi.read(ddi_root(tmp_path, rows))
    assert [case.id for case in bundle.cases] == ["000001"]
    told = {problem.line: problem.message for problem in bundle.problems}
    assert {problem.file for problem in bundle.problems} == {"ddi_metadata.csv"}
    assert told[3].startswith("DDI_file '3.png' is no name such as 000001.png (perhaps 000003.png: zeros are lost")
    assert told[4] == "skin_tone '3' is a type; DDI has the bands 12, 34 and 56"
    assert told[5] == "malignant 'maybe' is neither true nor false"
    assert told[6].startswith("'melanom-a' is not in the term list (closest: melanoma")
    assert told[7].startswith("no image '000004.png' lies below")
    assert told[8] == "'000001' stands already on line 2"


def test_where_ddi_and_the_term_list_call_malignant_otherwise_a_note_says_so(tmp_path):
    rows = [["0", "1", "000001.png", "56", "True", "seborrheic-keratosis"], DDI[1]]
    (note,) = [note for note in ddi.read(ddi_root(tmp_path, rows)).notes if "tag malignant" in note]
    assert "seborrheic keratosis (malignant in DDI, benign in the term list)" in note


def test_strict_refuses_what_is_only_listed_otherwise(tmp_path):
    rows = [*DDI, ["9", "4", "000004.png", "12", "True", "melanoma"]]
    root = ddi_root(tmp_path / "src", rows)
    assert len(import_dataset("ddi", root, tmp_path / "out").problems) == 1
    with pytest.raises(InputError, match=r"ddi_metadata.csv line 5, 000004.png: no image"):
        import_dataset("ddi", root, tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_layouts_are_marked_as_they_were_checked():
    marks = {name: IMPORTERS[name].layout for name in ("fitzpatrick17k", "ddi", "scin", "skincap", "skincot",
             "dermavqa_iiyi", "dermavqa_reddit", "dermavqa_das", "dermabench", "mm_skin", "derm1m")}  # fmt: skip
    assert marks == {
        "fitzpatrick17k": "verified", "ddi": "verified", "scin": "verified", "skincap": "documented",
        "skincot": "documented", "dermavqa_iiyi": "verified", "dermavqa_reddit": "documented",
        "dermavqa_das": "documented", "dermabench": "unverified", "mm_skin": "verified", "derm1m": "documented",
    }  # fmt: skip
