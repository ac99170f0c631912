"""Duplicates, shared ids and labels that conflict, planted in small benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from dermjudge.benchmarks.audit_duplicates import duplicate_findings, find_duplicates, relation
from dermjudge.benchmarks.audit_labels import conflict_findings, labels_conflict
from dermjudge.benchmarks.audit_links import link_findings
from dermjudge.benchmarks.audit_novelty import novelty
from dermjudge.benchmarks.finding import Shown, pictures, roots
from dermjudge.benchmarks.picture_prints import print_pictures
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.benchmark import Benchmark
from dermjudge.judge.records import Case, Image

TERMS = load_terms()


def photograph(seed=0, width=90, height=70):
    draw = np.random.default_rng(seed)
    coarse = Pillow.fromarray(draw.integers(30, 226, (5, 6, 3), dtype=np.uint8)).resize((width, height), 3)
    values = np.asarray(coarse, float) + draw.normal(0, 4, (height, width, 3))
    return Pillow.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def bench(root: Path, cases, name="b"):
    return Benchmark(name, "1", "", "", "", False, root, tuple(cases), {}, {})


def case(name, picture="", **fields):
    images = (Image(picture),) if picture else ()
    return Case(name, images, **fields)


def look(*benches):
    shown = pictures(benches)
    prints = print_pictures(roots(benches, shown), len(shown), threads=1)
    return shown, prints, find_duplicates(prints)


def kinds(findings):
    return {finding.kind: finding for finding in findings}


@pytest.fixture
def folder(tmp_path):
    """a and a-copy: the same pixels in two formats; a-small: half size, mirrored, JPEG; b, c, d: others."""
    for k, name in enumerate("abcd"):
        photograph(k).save(tmp_path / f"{name}.png")
    photograph(0).save(tmp_path / "a-copy.tif")
    half = photograph(0).resize((45, 35)).transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)
    half.save(tmp_path / "a-small.jpg", quality=40)
    Pillow.new("RGB", (30, 30), (9, 9, 9)).save(tmp_path / "even1.png")
    Pillow.new("RGB", (60, 60), (200, 9, 9)).save(tmp_path / "even2.png")
    return tmp_path


def test_copies_and_near_copies_across_splits(folder):
    cases = [case("1", "a.png", split="train"), case("2", "a-copy.tif", split="test"), case("3", "b.png", split="test"),
             case("4", "a-small.jpg", split="test")]  # fmt: skip
    both = bench(folder, cases)
    shown, _, found = look(both)
    assert found.exact == ((0, 1),)
    told = kinds(duplicate_findings(found, shown, [both]))
    assert set(told) == {"exact-across-splits", "near-across-splits"}
    exact, near = told["exact-across-splits"], told["near-across-splits"]
    assert (exact.severity, exact.count, exact.of, exact.unit) == ("leak", 1, 4, "groups")
    assert [p["case"] for p in exact.examples[0]["pictures"]] == ["1", "2"]
    assert near.count == 1
    assert near.examples[0]["turn"] == "mirrored"
    assert [(p["case"], p["split"]) for p in near.examples[0]["pictures"]] == [("1", "train"), ("4", "test")]


def test_a_near_copy_leaks_through_the_exact_copies_of_either_side(folder):
    """b's row stands for its copy too: near pair a ~ a-small lies in one split, the copy of a in the other."""
    cases = [case("1", "a.png", split="test"), case("4", "a-small.jpg", split="test"),
             case("2", "a-copy.tif", split="train")]  # fmt: skip
    both = bench(folder, cases)
    shown, _, found = look(both)
    near = kinds(duplicate_findings(found, shown, [both]))["near-across-splits"]
    assert sorted(p["case"] for p in near.examples[0]["pictures"]) == ["2", "4"]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({}, {}, "between-strangers"),
        ({"split": "train"}, {"split": "test"}, "across-splits"),
        ({"split": "train"}, {"split": ""}, "between-strangers"),
        ({"patient_id": "P"}, {"patient_id": "p "}, "between-cases"),
        ({"patient_id": "P"}, {"patient_id": "q"}, "between-strangers"),
        ({"lesion_id": "L"}, {"lesion_id": "l"}, "between-cases"),
        ({"lesion_id": "1", "patient_id": "P"}, {"lesion_id": "1", "patient_id": "q"}, "between-strangers"),
        ({"lesion_id": "1", "patient_id": "P", "split": "a"}, {"lesion_id": "1", "patient_id": "P", "split": "b"},
         "across-splits"),
    ],
)  # fmt: skip
def test_relations(one, other, expected):
    first, second = case("1", **one), case("2", **other)
    assert relation(Shown(0, first, "x"), Shown(0, second, "y")) == expected
    assert relation(Shown(0, first, "x"), Shown(1, second, "y")) == "across-benchmarks"
    assert relation(Shown(0, first, "x"), Shown(0, first, "y")) == "within-case"


def test_even_pictures_are_named_and_not_paired(folder):
    both = bench(folder, [case("1", "even1.png"), case("2", "even2.png"), case("3", "b.png")])
    shown, _, found = look(both)
    (told,) = duplicate_findings(found, shown, [both])
    assert (told.kind, told.count, found.compared) == ("even-pictures", 2, 1)


def test_nothing_is_found_in_clean_data(folder):
    both = bench(folder, [case(name, f"{name}.png", split=name) for name in "abcd"])
    shown, _, found = look(both)
    assert duplicate_findings(found, shown, [both]) == []


def test_many_copies_of_one_picture_still_tell_their_worst_relation(tmp_path):
    for k in range(60):
        photograph(0).save(tmp_path / f"{k}.png")
    cases = [case(str(k), f"{k}.png", split="train" if k < 59 else "test") for k in range(60)]
    both = bench(tmp_path, cases)
    shown, _, found = look(both)
    (told,) = duplicate_findings(found, shown, [both])
    assert (told.kind, told.count, told.examples[0]["copies"]) == ("exact-across-splits", 1, 60)


# Novelty


def test_novelty_counts_pictures_and_diagnoses(folder):
    known = bench(folder, [case("1", "a.png", diagnosis=("melanoma",)), case("2", "b.png", diagnosis=("psoriasis",))],
                  "known")  # fmt: skip
    new = bench(folder, [case("1", "a-small.jpg", diagnosis=("melanoma",)), case("2", "c.png", diagnosis=("scabies",)),
                         case("3", "a-copy.tif", diagnosis=("scabies",)), case("4", "absent.png"),
                         case("5", "d.png", diagnosis=("no such thing",))], "new")  # fmt: skip
    shown, prints, found = look(known, new)
    old, fresh = novelty([known, new], shown, prints.read, found, TERMS)
    assert (fresh.pictures, fresh.seen_exact, fresh.seen_near) == (4, 1, 1)
    assert fresh.new_pictures.value == 0.5
    assert (fresh.new_names, fresh.new_cases.value, fresh.new_cases.n) == (("scabies",), pytest.approx(2 / 3), 3)
    assert (old.seen_exact, old.seen_near, old.new_names) == (1, 0, ("psoriasis",))


# Ids


def test_patients_lesions_and_series_across_splits(tmp_path):
    both = bench(tmp_path, [
        case("1", patient_id="P1", split="train"), case("2", patient_id="p1", split="test"),
        case("3", lesion_id="L", split="train"), case("4", lesion_id="L", split="test"),
        case("5", patient_id="P2", lesion_id="L1", split="train"),
        case("6", patient_id="P3", lesion_id="L1", split="test"),
        case("7", tags={"image": "Acne/acne-cystic-53.jpg"}, split="train"),
        case("8", tags={"image": "acne-cystic-7.JPG"}, split="test"),
        case("9", patient_id="P4", split="test"), case("10", patient_id="P4", split=""),
    ])  # fmt: skip
    found = kinds(link_findings([both]))
    assert {kind: (f.severity, f.count, f.of) for kind, f in found.items()} == {
        "patient-across-splits": ("leak", 1, 4),
        "lesion-across-splits": ("leak", 1, 1),
        "series-across-splits": ("warning", 1, 1),
    }
    assert found["series-across-splits"].examples[0]["name"] == "acne-cystic"
    assert [entry["case"] for entry in found["patient-across-splits"].examples[0]["for example"]] == ["1", "2"]


def test_a_name_that_numbers_the_whole_set_is_no_series(tmp_path):
    numbered = [case(str(k), f"images/ISIC_{k:07}.jpg", split=("train", "test")[k % 2]) for k in range(30)]
    assert link_findings([bench(tmp_path, numbered)]) == []
    told = [case(str(k), split=("train", "test")[k % 2], tags={"series": "eczema"}) for k in range(30)]
    assert [f.kind for f in link_findings([bench(tmp_path, told)])] == ["series-across-splits"]


def test_ids_across_benchmarks_are_a_leak_only_within_a_source(tmp_path):
    one = bench(
        tmp_path, [case("1", patient_id="P1", source="PAD"), case("x7", source="PAD", tags={"image": "t/wart-3.jpg"})]
    )
    two = bench(
        tmp_path, [case("8", patient_id="p1", source="PAD"), case("X7", source="other", tags={"image": "wart-3.jpg"})]
    )
    found = kinds(link_findings([one, two]))
    assert {kind: f.severity for kind, f in found.items()} == {
        "patient-across-benchmarks": "leak",
        "case-name-across-benchmarks": "warning",
        "file-name-across-benchmarks": "warning",
    }


def test_foreign_text_is_made_visible(tmp_path):
    odd = bench(tmp_path, [case("1\u202e", patient_id="P\n", split="a"), case("2", patient_id="P", split="b")])
    (told,) = link_findings([odd])
    assert told.examples[0]["name"] == "P{U+000A}"
    assert told.examples[0]["for example"][0]["case"] == "1{U+202E}"


# Labels


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("melanoma",), ("malignant melanoma",), None),
        (("nodular melanoma",), ("melanoma",), None),
        (("actinic keratosis", "squamous cell carcinoma in situ"), ("Bowen's disease",), None),
        (("psoriasis",), ("lichen planus",), False),
        (("melanoma",), ("blue nevus",), True),
        (("scabies",), ("eczema",), True),
        (("melanoma", "psoriasis"), ("blue nevus",), False),
        (("no such thing",), ("No such thing ",), None),
        (("no such thing",), ("melanoma",), False),
    ],
)
def test_which_labels_conflict(one, other, expected):
    assert labels_conflict(one, other, TERMS) is expected
    assert labels_conflict(other, one, TERMS) is expected


def test_conflicts_between_copies_near_copies_and_views_of_a_lesion(folder):
    cases = [
        case("1", "a.png", diagnosis=("melanoma",)), case("2", "a-copy.tif", diagnosis=("blue nevus",)),
        case("3", "a-small.jpg", diagnosis=("melanoma",)), case("4", "b.png", lesion_id="L", diagnosis=("psoriasis",)),
        case("5", "c.png", lesion_id="L", diagnosis=("lichen planus",)), case("6", "d.png", lesion_id="L"),
    ]  # fmt: skip
    both = bench(folder, cases)
    shown, _, found = look(both)
    told = kinds(conflict_findings(found, shown, [both], TERMS))
    assert {kind: (f.count, f.of) for kind, f in told.items()} == {
        "label-crosses-copies": (1, 1),
        "label-crosses-near-duplicates": (1, 1),
        "label-conflict-lesions": (1, 1),
    }
    labels = [entry["label"] for entry in told["label-crosses-copies"].examples[0]["pictures"]]
    assert labels == [["melanoma"], ["blue nevus"]]
