"""BCN20000, DERM12345 and DermaMNIST in their published layouts, written small."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image as Pillow

from dermjudge.benchmarks import bcn20000, derm12345, dermamnist
from dermjudge.benchmarks.catalog import import_dataset
from dermjudge.evaluators.terms import load_terms
from dermjudge.judge.errors import InputError

from .test_importers import picture, table
from .test_isic_challenges import told, valid

BCN = {"bcn_filename": "BCN_0000000001.jpg", "age_approx": "55.0", "anatom_site_general": "anterior torso",
       "diagnosis": "MEL", "lesion_id": "BCN_0003884", "capture_date": "2012-05-16", "sex": "male",
       "split": "train"}  # fmt: skip
SECOND = {"bcn_filename": "BCN_0000000002.jpg", "age_approx": "", "sex": "", "anatom_site_general": "",
          "capture_date": "", "diagnosis": "AK"}  # fmt: skip


@pytest.fixture
def bcn(tmp_path):
    root = tmp_path / "bcn"
    table(root / "bcn_20k_train.csv", [BCN, BCN | SECOND])
    for number in (1, 2):
        picture(root / "BCN_20k_train" / "bcn_20k_train" / f"BCN_000000000{number}.jpg", number)
    return root


def test_bcn20000(bcn, tmp_path):
    report = valid("bcn20000", bcn, tmp_path / "out")
    one, two = report.benchmark.cases
    assert (one.id, one.diagnosis, one.lesion_id) == ("BCN_0000000001", ("melanoma",), "BCN_0003884")
    assert one.tags == {"dx": "MEL", "year": "2012", "age": 55, "sex": "male", "site": "anterior torso"}
    assert two.tags == {"dx": "AK"}
    assert one.split == two.split
    assert report.benchmark.licence == "CC BY-NC 4.0"


def test_a_copy_that_states_the_licence_of_each_picture(bcn):
    table(bcn / "bcn_20k_train.csv", [BCN | {"copyright_license": "CC-BY"}, BCN | SECOND | {"copyright_license": ""}])
    bundle = bcn20000.read(bcn)
    assert (bundle.licence, [case.id for case in bundle.cases]) == ("CC BY 4.0", ["BCN_0000000001"])
    ((file, line, message),) = told(bundle)
    assert (file, line) == ("bcn_20k_train.csv", 3) and "copyright_license is empty" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"diagnosis": "OTHER"}, "diagnosis 'OTHER' is none of MEL, NV, BCC, BKL, AK, SCC, DF, VASC"),
        ({"diagnosis": ""}, "diagnosis '' is none of"),
        ({"capture_date": "last May"}, "capture_date 'last May' is no date such as 2012-05-16"),
        ({"bcn_filename": "BCN_9.jpg"}, "no image 'BCN_9.jpg' lies below"),
    ],
)
def test_a_bad_row_of_bcn20000_is_named(bcn, change, message):
    table(bcn / "bcn_20k_train.csv", [BCN, BCN | SECOND | change])
    ((file, line, text),) = told(bcn20000.read(bcn))
    assert (file, line) == ("bcn_20k_train.csv", 3) and message in text


DERM = {"image_id": "ISIC_1", "patient_id": "P1", "label": "srjd", "super_class": "melanocytic", "malignancy": "benign",
        "main_class_1": "dysplastic", "main_class_2": "junctional", "sub_class": "spitz/reed"}  # fmt: skip
HORN = {"image_id": "ISIC_2", "patient_id": "P2", "label": "ch", "super_class": "nonmelanocytic",
        "malignancy": "malignant", "main_class_1": "keratinocytic", "main_class_2": "",
        "sub_class": "cutaneous horn"}  # fmt: skip


@pytest.fixture
def derm(tmp_path):
    root = tmp_path / "derm"
    table(root / "derm12345_metadata_train.csv", [DERM, DERM | {"image_id": "ISIC_3", "label": "pg"}])
    table(root / "derm12345_metadata_test.tab", [HORN], delimiter="\t")
    picture(root / "derm12345_train_part_1" / "srjd" / "ISIC_1.jpg", 1)
    picture(root / "derm12345_train_part_2" / "pg" / "ISIC_3.jpg", 3)
    picture(root / "derm12345_test" / "ch" / "ISIC_2.jpg", 2)
    return root


def test_derm12345(derm, tmp_path):
    report = valid("derm12345", derm, tmp_path / "out")
    one, two, three = report.benchmark.cases
    assert one.diagnosis == ("spitz nevus", "pigmented spindle cell nevus of reed")
    assert one.tags == {"dx": "srjd", "malignancy": "benign", "malignant": False, "super_class": "melanocytic benign",
                        "main_class": "dysplastic junctional", "sub_class": "spitz/reed"}  # fmt: skip
    assert two.diagnosis == ("pyogenic granuloma",)  # PG is not pyoderma gangrenosum here
    assert (three.diagnosis, three.tags["malignant"], three.split) == (("cutaneous horn",), True, "test")
    assert (one.patient_id, one.split) == ("P1", "train")


def test_the_taxonomy_is_the_published_one():
    terms = load_terms()
    assert len(derm12345.TAXONOMY) == 40
    assert len({row[0] for row in derm12345.TAXONOMY.values()}) == 5
    assert len({row[:2] for row in derm12345.TAXONOMY.values()}) == 15
    names = {name for row in derm12345.TAXONOMY.values() for name in row[3]}
    assert {name for name in names if (found := terms.find(name)) is None or found.name != name} == set()


def test_one_part_of_derm12345_alone_is_split_by_patient(derm):
    (derm / "derm12345_metadata_test.tab").unlink()
    splits = {seed: [case.split for case in derm12345.read(derm, fractions={"a": 0.5, "b": 0.5}, seed=seed).cases]
              for seed in range(6)}  # fmt: skip
    assert all(one == two for one, two in splits.values())
    assert len({one for one, _ in splits.values()}) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "srj"}, "label 'srj' is no code of DERM12345 (closest: srjd"),
        ({"label": ""}, "label '' is no code of DERM12345"),
        ({"malignancy": "Malignant"}, "malignancy 'malignant', but label srjd is benign in the published taxonomy"),
        ({"image_id": "ISIC_2"}, "stands in the train part already"),
    ],
)
def test_a_bad_row_of_derm12345_is_named(derm, change, message):
    table(derm / "derm12345_metadata_train.csv", [DERM, DERM | {"image_id": "ISIC_3"} | change])
    ((file, line, text),) = told(derm12345.read(derm))
    place = ("derm12345_metadata_test.tab", 2) if "already" in message else ("derm12345_metadata_train.csv", 3)
    assert (file, line) == place and message in text


def test_derm12345_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"no derm12345_metadata_train.csv or .* It is empty"):
        derm12345.read(tmp_path)


def arrays(size=28, **changes):
    rng = np.random.default_rng(0)
    made = {}
    for part, labels in {"train": [0, 1, 5], "val": [4], "test": [2, 6]}.items():
        made[f"{part}_images"] = rng.integers(0, 256, (len(labels), size, size, 3), dtype=np.uint8)
        made[f"{part}_labels"] = np.array(labels, dtype=np.uint8)[:, None]
    return {name: value for name, value in (made | changes).items() if value is not None}


def test_dermamnist(tmp_path):
    made = arrays()
    np.savez_compressed(tmp_path / "dermamnist.npz", **made)
    report = valid("dermamnist", tmp_path, tmp_path / "out", threads=3)
    cases = report.benchmark.cases
    assert report.benchmark.splits == {"train": 3, "validation": 1, "test": 2}
    assert [case.tags["dx"] for case in cases] == ["akiec", "bcc", "nv", "mel", "bkl", "vasc"]
    assert (cases[3].id, cases[3].diagnosis, cases[3].urgency) == ("dermamnist_val_00000", ("melanoma",), "urgent")
    shown = [np.asarray(Pillow.open(report.benchmark.root / case.images[0].path)) for case in cases]
    whole = np.concatenate([made[f"{part}_images"] for part in ("train", "val", "test")])
    assert np.array_equal(np.stack(shown), whole)
    assert cases[0].tags["pixels"] == 28


def test_a_label_of_dermamnist_that_is_none(tmp_path):
    np.savez(tmp_path / "dermamnist_64.npz", **arrays(64, val_labels=np.array([[7]])))
    report = import_dataset("dermamnist", tmp_path / "dermamnist_64.npz", tmp_path / "out")
    assert [str(problem) for problem in report.problems] == [
        "dermamnist_64.npz, val_labels: row 0 is 7; 0 to 6 are known"]  # fmt: skip
    assert [case.id for case in report.benchmark.cases][-1] == "dermamnist_64_test_00001"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_images": None}, "has no array val_images; it holds test_images, test_labels, train_images"),
        ({"val_labels": np.zeros((2, 1), np.uint8)}, "val_images has 1 rows but val_labels 2"),
        ({"val_images": np.zeros((1, 28, 28), np.uint8)}, r"val_images must be \(N, height, width, 3\) of uint8"),
        ({"val_images": np.zeros((1, 28, 28, 3), np.float32)}, "val_images must hold whole numbers"),
        ({"val_labels": np.array([[None]], dtype=object)}, "val_labels must hold whole numbers row by row, not object"),
        ({"val_labels": np.zeros((1, 2), np.uint8)}, r"val_labels must be \(N, 1\)"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, changes, message):
    np.savez(tmp_path / "dermamnist.npz", **arrays(**changes))
    with pytest.raises(InputError, match=message):
        dermamnist.read(tmp_path)


def test_a_file_that_is_no_dermamnist(tmp_path):
    with pytest.raises(InputError, match=r"holds no dermamnist\*.npz"):
        dermamnist.read(tmp_path)
    (tmp_path / "dermamnist.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"is no .npz archive of MedMNIST"):
        dermamnist.read(tmp_path)
    (tmp_path / "dermamnist_64.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"holds dermamnist.npz, dermamnist_64.npz; say which"):
        dermamnist.read(tmp_path)


def test_an_array_that_ends_early_leaves_no_folder(tmp_path):
    made = arrays()
    np.savez(tmp_path / "dermamnist.npz", **made)
    buffer = io.BytesIO()
    np.save(buffer, made["test_images"])
    whole = {name: made[name] for name in made if name != "test_images"}
    np.savez(tmp_path / "dermamnist.npz", **whole)
    with zipfile.ZipFile(tmp_path / "dermamnist.npz", "a") as archive:
        archive.writestr("test_images.npy", buffer.getvalue()[:-10])
    with pytest.raises(InputError, match="test_images ends in row 1 of 2"):
        import_dataset("dermamnist", tmp_path, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dermamnist.npz"]
