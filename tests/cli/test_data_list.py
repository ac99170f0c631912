"""`data list` says what each data set is good for and how sure its layout is; `data import` shows its progress."""

import json

import pytest
from PIL import Image as Pillow

from dermjudge.benchmarks.catalog import IMPORTERS
from dermjudge.cli import output
from dermjudge.cli.main import main

SETS = {
    "synthetic", "dermbench", "fitzpatrick17k", "ddi", "scin", "pad_ufes_20", "ham10000", "isic_2018", "isic_2019",
    "isic_2020", "isic_2024", "isic_archive", "milk10k", "bcn20000", "derm12345", "hiba", "skincap", "skincot",
    "dermavqa_iiyi", "dermavqa_reddit", "dermavqa_das", "mm_skin", "derm1m", "dermabench", "dermamnist", "huggingface",
    "tabular", "dermeval",
}  # fmt: skip


def call(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 0


def test_every_data_set_is_listed_with_what_one_must_know(capsys):
    call("data", "list", "--json")
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(IMPORTERS) == SETS
    for row in rows.values():
        assert set(row) == {"name", "title", "size", "licence", "evaluates", "layout"}
        assert all(row.values())
        assert row["layout"] in ("verified", "documented", "unverified")
    assert rows["dermabench"]["layout"] == "unverified"
    assert "two modalities" in rows["milk10k"]["evaluates"]


def test_the_table_holds_the_layout_and_explains_it(capsys):
    call("data", "list")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "layout", "size", "licence", "evaluates"]
    milk = next(line for line in lines if line.startswith("milk10k"))
    assert "verified" in milk and "two modalities a case" in milk
    assert lines[-1].startswith("layout verified: names and values read in published files; documented:")


def test_an_import_tells_its_progress(capsys, tmp_path, monkeypatch):
    seen = []

    class Bar:
        def __enter__(self):
            return lambda done, planned: seen.append((done, planned))

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(output, "progress", lambda title: Bar())
    (tmp_path / "src").mkdir()
    for k in range(3):
        Pillow.new("RGB", (8, 8), (k, 9, 9)).save(tmp_path / "src" / f"{k}.png")
    (tmp_path / "src" / "t.csv").write_text("id,file\n" + "".join(f"{k},{k}.png\n" for k in range(3)))
    columns = ["--column", "id=id", "--column", "image=file", "--licence", "internal"]
    call("data", "import", "tabular", str(tmp_path / "src"), "--out", str(tmp_path / "out"), *columns)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert "3 cases, 3 images" in capsys.readouterr().out
