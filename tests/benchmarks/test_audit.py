"""The whole audit on folders: leaks, exit codes, the text, the JSON, the sheet, the table of quality."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFilter

from dermjudge.benchmarks.audit import audit, worst_pairs
from dermjudge.benchmarks.audit_quality import (
    picture_qualities,
    quality_summary,
    read_quality_tags,
    tag_pictures,
    tags_of,
    write_qualities,
)
from dermjudge.benchmarks.audit_text import audit_text
from dermjudge.cli.auditing import audit_benchmarks
from dermjudge.evaluators.case_attributes import case_attributes
from dermjudge.evaluators.markdown import width
from dermjudge.judge.benchmark import load_benchmark, write_benchmark
from dermjudge.judge.errors import InputError
from dermjudge.judge.images import encode_jpeg, encode_png
from dermjudge.judge.records import Case, Image


def photograph(seed=0, side=240):
    draw = np.random.default_rng(seed)
    coarse = Pillow.fromarray(draw.integers((150, 90, 70), (230, 150, 120), (5, 6, 3), dtype=np.uint8))
    picture = coarse.resize((side, side), 3)
    for x in draw.integers(0, side, 12).tolist():
        ImageDraw.Draw(picture).line((x, 0, side - x, side), (60, 40, 35))  # hairs, to be sharp
    values = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.8)), float) + draw.normal(0, 1, (side, side, 3))
    return Pillow.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def write(folder, name, plan):
    """plan: case id -> (picture bytes, fields)."""
    cases = [Case(key, (Image(f"images/{key}.png"),), **fields) for key, (_, fields) in plan.items()]
    images = {f"images/{key}.png": data for key, (data, _) in plan.items()}
    write_benchmark(folder, name=name, version="1", licence="none", source="made", cases=cases, images=images)
    return folder


@pytest.fixture
def clean(tmp_path):
    plan = {
        f"c{k}": (encode_png(photograph(k)), {"split": ("train", "test")[k % 2], "diagnosis": ("psoriasis",)})
        for k in range(6)
    }
    return write(tmp_path / "clean", "clean", plan)


@pytest.fixture
def leaky(tmp_path):
    copy = photograph(0).transpose(Pillow.Transpose.ROTATE_90)
    plan = {
        "a": (encode_png(photograph(10)), {"split": "train", "diagnosis": ("melanoma",)}),
        "b\u202e": (
            encode_jpeg(photograph(10).crop((0, 0, 238, 238)), 60),
            {"split": "test", "diagnosis": ("blue nevus",)},
        ),
        "d": (encode_jpeg(copy, 80), {"split": "test", "diagnosis": ("psoriasis",)}),
        "e": (encode_png(photograph(11)), {"split": "test", "reference": "It is a wart.", "diagnosis": ("melanoma",)}),
    }
    cases = [Case(key, (Image(f"images/{n}.png"),), **fields) for n, (key, (_, fields)) in enumerate(plan.items())]
    images = {f"images/{n}.png": data for n, (data, _) in enumerate(plan.values())}
    write_benchmark(tmp_path / "leaky", name="leaky", version="1", licence="none", source="made", cases=cases,
                    images=images)  # fmt: skip
    return tmp_path / "leaky"


def test_a_clean_benchmark_has_no_leak(clean):
    found = audit([clean], threads=1)
    assert found.leaks == 0
    assert {finding.severity for finding in found.findings} <= {"warning", "note"}
    assert found.novelty == () and worst_pairs(found) == []


def test_leaks_come_first_and_everything_is_plain_json(clean, leaky):
    found = audit([clean, leaky], quality=True, threads=1)
    told = {finding.kind: finding for finding in found.findings}
    assert told["near-across-splits"].count == 1
    assert told["near-across-benchmarks"].count == 1
    assert told["near-across-benchmarks"].examples[0]["turn"] == "turned by 90 degrees"
    assert told["label-crosses-near-duplicates"].count == 1
    assert told["reference-silent"].count == 1
    severities = [finding.severity for finding in found.findings]
    assert severities == sorted(severities, key=("leak", "warning", "note").index)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["leaks"] == 2 == found.leaks
    assert [entry["new_pictures"]["n"] for entry in plain["novelty"]] == [6, 4]
    assert plain["quality"]["leaky"]["n"] == 4
    assert "\u202e" not in json.dumps(plain, ensure_ascii=False)


def test_the_text_fits_a_terminal(clean, leaky):
    text = audit_text(audit([clean, leaky], quality=True, threads=1))
    assert max(map(len, text.splitlines())) <= 120
    assert text.isprintable() or all(line.isprintable() for line in text.splitlines())
    for part in ("leak", "b{U+202E}", "turned by 90 degrees", "references against their label", "not in the others",
                 "quality of 4 pictures", "No clinician has reviewed", "Not found are"):  # fmt: skip
        assert part in text


def test_a_name_in_wide_letters_and_without_blanks_still_fits(tmp_path):
    wide = "皮" * 200
    data = encode_png(photograph(1))
    cases = [Case(wide + str(k), (Image(f"images/{k}.png"),), split=str(k)) for k in range(2)]
    write_benchmark(tmp_path / "w", name=wide, version="1", licence="x", source="x", cases=cases,
                    images={f"images/{k}.png": data for k in range(2)})  # fmt: skip
    assert max(map(width, audit_text(audit([tmp_path / "w"], threads=1)).splitlines())) <= 120


def test_the_sheet_shows_leaks_before_the_rest(clean, leaky):
    pairs = worst_pairs(audit([clean, leaky], threads=1))
    assert [pair.headline.split(":")[0] for pair in pairs] == ["across-splits", "across-benchmarks"]
    assert "melanoma / blue nevus" in pairs[0].headline
    assert len(worst_pairs(audit([clean, leaky], threads=1), most=1)) == 1


def test_pictures_that_cannot_be_read_are_a_finding(clean):
    (clean / "images" / "c3.png").write_bytes(b"rotten")
    found = audit([clean], threads=1)
    told = {finding.kind: finding for finding in found.findings}
    assert (told["unreadable"].count, len(found.unreadable), found.duplicates.compared) == (1, 1, 5)
    assert "images/c3.png" in audit_text(found)


def test_what_is_refused(clean, tmp_path):
    with pytest.raises(InputError, match="given twice"):
        audit([clean, clean / ".." / "clean"])
    with pytest.raises(InputError, match="is no folder"):
        audit([tmp_path / "none"])
    with pytest.raises(InputError, match="at least one"):
        audit([])


def test_two_benchmarks_of_one_name_are_told_apart(clean, tmp_path):
    write(tmp_path / "again", "clean", {"x": (encode_png(photograph(50)), {})})
    names = [bench.name for bench in audit([clean, tmp_path / "again"], threads=1).benchmarks]
    assert names == ["clean (clean, 1)", "clean (again, 2)"]


def test_a_set_without_pictures(tmp_path):
    write_benchmark(tmp_path / "t", name="t", version="1", licence="", source="", cases=[Case("1", patient_id="p")])
    found = audit([tmp_path / "t"])
    assert found.notes[0].startswith("There is no picture")
    assert "1 cases, 0 pictures" in audit_text(found)


def run(*arguments):
    """(exit code) of the command's body."""
    try:
        audit_benchmarks(*arguments)
    except SystemExit as end:
        return end.code
    return 0


def test_exit_codes_and_files(clean, leaky, tmp_path, capsys):
    assert run([clean], None, None, tmp_path / "s.png", None, 1, False) == 0
    assert not (tmp_path / "s.png").exists()
    assert "no pair" in capsys.readouterr().err
    assert run([leaky], None, None, tmp_path / "s.png", tmp_path / "q.csv", 1, True) == 5
    out = capsys.readouterr()
    assert json.loads(out.out)["leaks"] == 1
    assert (tmp_path / "s.png").is_file()
    assert pl.read_csv(tmp_path / "q.csv")["case_id"].to_list() == ["a", "b\u202e", "d", "e"]
    assert run([leaky], 0, 0.999, None, None, 1, True) == 0  # the limits are handed on
    (clean / "images" / "c3.png").write_bytes(b"rotten")
    assert run([clean], None, None, None, None, 1, False) == 4


# Quality, picture by picture


def test_the_table_of_quality_becomes_a_subgroup(clean, tmp_path):
    (clean / "images" / "c3.png").write_bytes(b"rotten")
    bench = load_benchmark(clean)
    dark = photograph(1).point(lambda value: value // 20)
    (clean / "images" / "c1.png").write_bytes(encode_png(dark))
    rows = picture_qualities(bench.root, bench.cases, threads=1)
    assert [row.case_id for row in rows] == [case.id for case in bench.cases]
    assert (rows[0].tag, rows[1].tag, rows[3].tag) == ("good", "poor", None)
    assert "rotten" not in rows[3].problem and "c3.png" in rows[3].problem
    summary = quality_summary(rows)
    assert summary["tags"] == {"good": 4, "doubtful": 0, "poor": 1}
    assert summary["unreadable"] == 1
    for name in ("q.csv", "q.parquet"):
        write_qualities({"clean": rows}, tmp_path / name)
        assert read_quality_tags(tmp_path / name) == tags_of(rows)
        assert read_quality_tags(tmp_path / name, "another") == {}
    tagged = tag_pictures(bench.cases, tags_of(rows))
    assert case_attributes(tagged)["quality"] == {"c0": "good", "c1": "poor", "c2": "good", "c4": "good", "c5": "good"}
    graded = [Case("c0", (Image("images/c0.png", quality="fair"),))]
    assert tag_pictures(graded, tags_of(rows))[0].images[0].quality == "fair"


def test_bad_tables_of_quality_are_refused(tmp_path):
    (tmp_path / "q.csv").write_text("case_id,picture,tag\na,images/a.png,fine\n")
    with pytest.raises(InputError, match="line 2: the tag 'fine' is none of good, doubtful, poor"):
        read_quality_tags(tmp_path / "q.csv")
    with pytest.raises(InputError, match="ending must be"):
        write_qualities({}, tmp_path / "q.xlsx")
