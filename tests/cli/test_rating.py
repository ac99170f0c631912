"""The bodies of `rate sheet` and `rate collect`: what they print, write and end with."""

import csv
import json
import re

import pytest
from PIL import Image as Pillow

from dermjudge.cli.rating import collect_sheets, write_sheets
from dermjudge.judge.benchmark import write_benchmark
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Image, Narrative
from dermjudge.judge.rubric import load_rubric
from dermjudge.judge.tables import read_ratings, write_narratives

RUBRIC = load_rubric("derm6")


@pytest.fixture
def written(tmp_path, capsys):
    Pillow.new("RGB", (16, 16), (200, 90, 60)).save(tmp_path / "p.png")
    cases = [Case(f"c{k:02d}", (Image("images/p.png"),)) for k in range(10)]
    write_benchmark(tmp_path / "bench", name="toy", version="1", licence="", source="t", cases=cases,
                    images={"images/p.png": tmp_path / "p.png"})  # fmt: skip
    write_narratives(
        [Narrative(c.id, s, f"{s[0]} {c.id}") for c in cases for s in ("one", "two")], tmp_path / "n.jsonl"
    )
    write_sheets(tmp_path / "bench", tmp_path / "n.jsonl", "derm6", 2, 0.5, 0.2, tmp_path / "s", 0, False)
    return tmp_path, capsys.readouterr()


def fill(folder, rater, score):
    path = folder / "s/raters" / rater / f"{rater}.csv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows({**row, **dict.fromkeys(RUBRIC.names, score)} for row in rows)


def test_sheet_says_what_to_send_and_what_not(written):
    folder, said = written
    assert "20 narratives; 10 go to every rater" in said.out
    assert re.search(r"rater-2 +18 +3\n", said.out)  # 10 + 5, and 3 of 15 again
    assert "never send" in said.out and "key-not-for-raters/key.json" in said.out
    assert f"dermjudge rate collect {folder / 's'}" in said.out
    assert "a system or the case id is named" in said.err


def test_collect_ends_incomplete_until_all_are_back(written, capsys):
    folder, _ = written
    fill(folder, "rater-1", "4")
    with pytest.raises(SystemExit) as stop:
        collect_sheets(folder / "s", folder / "ratings.parquet", False)
    out = capsys.readouterr().out
    assert stop.value.code == 4
    assert re.search(r"rater-1 +18 +18 +0 +0 ", out) and re.search(r"rater-2 +18 +0 +0 +18 ", out)
    assert re.search(r"rater-1 +Accuracy +3 +1\.00 +0\.00\n", out)
    assert "- no interval: 3 pairs of 3 cases, 20 cases are needed\n- no hidden repeat was scored twice" not in out
    assert "no hidden repeat was scored twice" in out
    fill(folder, "rater-2", "3")
    collect_sheets(folder / "s", folder / "ratings.parquet", True)
    result = json.loads(capsys.readouterr().out)
    assert [row["done"] for row in result["raters"]] == [18, 18]
    pair = next(row for row in result["intra_rater"] if row["rater"] is None and row["dimension"] == "Safety")
    assert pair["n"] == 6 and pair["exact"]["value"] == 1 and pair["exact"]["low"] is None
    frame = read_ratings(folder / "ratings.parquet", RUBRIC)
    assert frame.height == result["ratings"] * 6 == 36 * 6
    assert frame["score"].value_counts().sort("score").rows() == [(3.0, 108), (4.0, 108)]
    assert frame["repeat"].sum() == 36


def test_nothing_is_written_from_a_bad_sheet(written):
    folder, _ = written
    fill(folder, "rater-1", "7")
    with pytest.raises(InputError, match="and 88 more"):  # 108 bad cells
        collect_sheets(folder / "s", folder / "ratings.parquet", False)
    with pytest.raises(InputError, match="ending"):
        collect_sheets(folder / "s", folder / "ratings.txt", False)
    assert not list(folder.glob("ratings.*"))
