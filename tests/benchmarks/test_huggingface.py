"""Data sets of the library `datasets`, written small: Parquet, image folders, CSV, objects; no code, no network."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
from PIL import Image as Pillow

from dermjudge.benchmarks import huggingface
from dermjudge.benchmarks.catalog import import_dataset
from dermjudge.judge.errors import InputError, MissingExtra

from .test_importers import picture, table
from .test_isic_challenges import valid

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def closed(monkeypatch, tmp_path_factory):
    """No connection may be tried, with the library's own switch for that left open; it swallows failures."""
    tried = []
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", True)
    monkeypatch.setattr(datasets.load, "get_session", lambda: tried.append("session") or 1 / 0)
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: tried.append(address) or 1 / 0)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: tried.append(args) or 1 / 0)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    assert tried == []


ROWS = {"pic": ["a.png", "b.png", "c.png"], "dx": [0, 1, -1], "age": [40.0, None, 7.0],
        "who": ["p1", "p2", "p3"]}  # fmt: skip


@pytest.fixture
def dataset(tmp_path):
    paths = [str(picture(tmp_path / "pictures" / name, k)) for k, name in enumerate(ROWS["pic"])]
    made = datasets.Dataset.from_dict(ROWS | {"pic": paths}).cast_column("pic", datasets.Image())
    return made.cast_column("dx", datasets.ClassLabel(names=["MEL", "melanocytic nevus"]))


@pytest.fixture
def parquet(dataset, tmp_path):
    datasets.disable_progress_bars()
    folder = tmp_path / "parquet"
    folder.mkdir()
    embedded = dataset.map(lambda row: row).cast_column("pic", datasets.Image(decode=False))
    rows = [{**row, "pic": {"path": "x.png", "bytes": Path(row["pic"]["path"]).read_bytes()}} for row in embedded]
    held = datasets.Dataset.from_list(rows, features=embedded.features)
    held.select([0, 1]).to_parquet(folder / "train-00000-of-00001.parquet")
    held.select([2]).to_parquet(folder / "test-00000-of-00001.parquet")
    return folder


COLUMNS = {"patient_id": "who", "age": "age"}


def test_parquet(parquet, tmp_path):
    report = valid("huggingface", parquet, tmp_path / "out", columns=COLUMNS, licence="internal",
                   labels={"MEL": "melanoma"})  # fmt: skip
    one, two, three = report.benchmark.cases
    assert (one.id, one.split, one.diagnosis, one.patient_id) == ("train-000000", "train", ("melanoma",), "p1")
    assert (one.tags, two.tags) == ({"age": 40}, {})
    assert (three.id, three.split, three.diagnosis) == ("test-000000", "test", ())
    shown = [Pillow.open(report.benchmark.root / case.images[0].path).getpixel((0, 0)) for case in (one, two, three)]
    assert shown == [(0, 90, 60), (20, 90, 60), (40, 90, 60)]
    assert report.benchmark.name == "huggingface"


def test_one_split_of_it_and_one_file(parquet, tmp_path):
    (case,) = huggingface.read(parquet, split="test").cases
    assert (case.id, case.split) == ("test-000000", "test")
    one, two = huggingface.read(parquet / "train-00000-of-00001.parquet").cases
    assert (one.split, two.split) == ("", "")  # a name that the library gives to any single file
    drawn = huggingface.read(parquet / "train-00000-of-00001.parquet", fractions={"test": 1.0}).cases
    assert [case.split for case in drawn] == ["test", "test"]
    with pytest.raises(InputError, match="has no split 'dev'; it has train, test"):
        huggingface.read(parquet, split="dev")


def test_an_image_folder(tmp_path):
    root = tmp_path / "folder"
    picture(root / "train" / "melanoma" / "1.png", 1)
    picture(root / "train" / "viral wart" / "2.jpg", 2)
    picture(root / "test" / "melanoma" / "3.png", 3)
    report = valid("huggingface", root, tmp_path / "out", licence="CC0-1.0")
    assert [(case.id, case.split, case.diagnosis) for case in report.benchmark.cases] == [
        ("train-000000", "train", ("melanoma",)), ("train-000001", "train", ("viral wart",)),
        ("test-000000", "test", ("melanoma",))]  # fmt: skip


def test_an_image_folder_with_a_table(tmp_path):
    root = tmp_path / "folder"
    picture(root / "1.png", 1)
    picture(root / "2.png", 2)
    rows = [{"file_name": "1.png", "id": "x7", "label": "BCC", "tone": "34"},
            {"file_name": "2.png", "id": "x8", "label": "BCC", "tone": "purple"}]  # fmt: skip
    table(root / "metadata.csv", rows)
    report = import_dataset("huggingface", root, tmp_path / "out", licence="internal",
                            columns={"id": "id", "diagnosis": "label", "fitzpatrick": "tone"})  # fmt: skip
    (case,) = report.benchmark.cases
    assert (case.id, case.diagnosis, case.tags) == ("x7", ("basal cell carcinoma",), {"fitzpatrick": "3-4"})
    (problem,) = report.problems
    assert (problem.line, problem.field) == (2, "x8") and "'purple' is no Fitzpatrick type" in problem.message


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_tables_that_name_their_pictures(tmp_path, form):
    root = tmp_path / "t"
    rows = [{"file": "s/1.png", "label": "melanoma", "age": 31}]
    table(root / "data.csv", rows)
    if form == "jsonl":
        (root / "data.csv").rename(root / "data.jsonl")
        (root / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bundle = huggingface.read(root, columns={"diagnosis": "label", "age": "age"})
    assert (bundle.cases[0].tags, bundle.has_pictures) == ({"age": 31}, False)
    picture(root / "s" / "1.png", 1)
    with pytest.raises(InputError, match="there is no column 'file'"):
        huggingface.read(root, columns={"image": "file"})  # with pictures it is an image folder, without a table
    with pytest.raises(InputError, match=r"the column 'file' holds no pictures .* give the folder in which"):
        huggingface.read(next(root.glob("data.*")), columns={"image": "file"})


def test_objects_and_what_they_save(dataset, tmp_path):
    both = datasets.DatasetDict({"a": dataset.select([0]), "b": dataset.select([1, 2])})
    both.save_to_disk(str(tmp_path / "saved"))
    for root in (both, tmp_path / "saved"):
        assert [case.split for case in huggingface.read(root).cases] == ["a", "b", "b"]
    streamed = huggingface.read(dataset.to_iterable_dataset(), columns=COLUMNS)
    assert [case.patient_id for case in streamed.cases] == ["p1", "p2", "p3"]


def test_a_table_cannot_name_files_elsewhere(tmp_path):
    secret = picture(tmp_path / "elsewhere" / "secret.png", 3)
    inside = picture(tmp_path / "data" / "own.png", 4)
    rows = [{"pic": {"path": str(path), "bytes": None}} for path in (secret, inside)]
    rows += [{"pic": {"path": "../elsewhere/secret.png", "bytes": None}}, {"pic": None}]
    made = datasets.Dataset.from_list(rows, features=datasets.Features({"pic": datasets.Image(decode=False)}))
    import pyarrow.parquet

    pyarrow.parquet.write_table(made.data.table, tmp_path / "data" / "x.parquet")
    report = import_dataset("huggingface", tmp_path / "data", tmp_path / "out", licence="internal",
                            columns={"image": "pic"})  # fmt: skip
    assert [case.id for case in report.benchmark.cases] == ["train-000001"]
    told = [problem.message for problem in report.problems]
    assert "secret.png', which does not lie below" in told[0]
    assert "'..' is refused" in told[1]
    assert told[2] == "the row holds no picture"


def test_no_builder_that_runs_code(tmp_path):
    script = tmp_path / "scripted"
    script.mkdir()
    (script / "scripted.py").write_text("raise SystemExit('code of a data set was run')")
    with pytest.raises(InputError, match=r"holds neither pictures nor files ending in .parquet, .csv, .json"):
        huggingface.read(script)
    (script / "x.tar").write_bytes(b"")
    with pytest.raises(InputError, match=r"the ending must be one of .parquet"):
        huggingface.read(script / "x.tar")
    with pytest.raises(InputError, match="there is no such file or folder, and it is no hub name"):
        huggingface.read(tmp_path / "nowhere")


def test_a_hub_name_is_only_used_with_a_plain_builder(monkeypatch):
    asked = []

    class Builder:
        __module__ = "datasets.packaged_modules.webdataset.webdataset"

    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *args, **kw: asked.append((args, kw)) or Builder())
    with pytest.raises(InputError, match="is read by the builder 'webdataset'; only parquet, imagefolder, csv, json"):
        huggingface.read("someone/something", subset="small", revision="abc")
    assert asked == [(("someone/something", "small"), {"revision": "abc"})]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"age": "years"}}, "there is no column 'years'; known: pic, dx, age, who"),
        ({"colour": 1}, "colour: Extra inputs are not permitted"),
        ({"columns": {"tone": "who"}}, "columns.tone: Extra inputs are not permitted; known: id, image"),
    ],
)
def test_options_that_do_not_fit(parquet, options, message):
    with pytest.raises(InputError, match=message):
        huggingface.read(parquet, **options)


def test_splits_with_other_columns_and_rotten_files(parquet, tmp_path):
    other = datasets.Dataset.from_dict({"x": [1]})
    with pytest.raises(InputError, match=r"the split b has the columns x, another .*import one at a time: split=b"):
        huggingface.read(datasets.DatasetDict({"a": datasets.Dataset.from_dict({"y": [1]}), "b": other}))
    (parquet / "train-00000-of-00001.parquet").write_bytes(b"PAR1 rotten")
    with pytest.raises(InputError, match=r"cannot be read: .*[Pp]arquet"):
        huggingface.read(parquet)


def test_pictures_need_a_licence_and_the_library(parquet, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no licence is given, so its pictures are not copied"):
        import_dataset("huggingface", parquet, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'dermjudge\[train\]'"):
        huggingface.read(parquet)
