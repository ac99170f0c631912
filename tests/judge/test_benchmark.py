"""A benchmark folder: written whole or not at all, read back, and found out when it was changed."""

from __future__ import annotations

import subprocess

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.judge.benchmark import assign_splits, check_hashes, load_benchmark, write_benchmark
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Image, Narrative
from dermjudge.judge.tables import read_narratives, write_narratives

CASES = [Case("a", (Image("images/a.png"),), split="test"), Case("b", split="train"), Case("c", split="test")]
CARD = {"name": "tiny", "version": "1", "licence": "CC0-1.0", "source": "made here", "notes": "naïve: yes"}


def write(folder, **changes):
    return write_benchmark(folder, **{**CARD, "cases": CASES, "images": {"images/a.png": b"png"}, **changes})


def test_a_benchmark_comes_back_as_it_was(tmp_path):
    (tmp_path / "own.png").write_bytes(b"png")
    one = write(tmp_path / "new" / "one", images=iter([("images/a.png", tmp_path / "own.png")]), synthetic=True)
    assert one.cases == tuple(CASES)
    assert one.splits == {"test": 2, "train": 1}
    assert (one.name, one.notes, one.synthetic, one.root) == ("tiny", "naïve: yes", True, tmp_path / "new" / "one")
    assert (one.root / one.cases[0].images[0].path).read_bytes() == b"png"
    assert [case.id for case in one.select("test")] == ["a", "c"]
    with pytest.raises(InputError, match="no split 'val'; it has test, train"):
        one.select("val")
    assert check_hashes(one.root) == []


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    narrative = Narrative("a", "s", "text")
    for name in ("one", "two"):
        write(tmp_path / name, extra=lambda folder: write_narratives([narrative], folder / "narratives.parquet"))
    files = [{p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
             for root in (tmp_path / "one", tmp_path / "two")]  # fmt: skip
    assert files[0] == files[1]
    assert len(files[0]) == 5
    assert read_narratives(tmp_path / "one" / "narratives.parquet") == [narrative]


def test_sha256sum_reads_the_list(tmp_path):
    root = write(tmp_path / "one").root
    assert subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=root, capture_output=True).returncode == 0


def test_every_change_is_found(tmp_path):
    root = write(tmp_path / "one").root
    (root / "images" / "a.png").write_bytes(b"other")
    (root / "images" / "new.png").write_bytes(b"new")
    assert check_hashes(root) == [("images/new.png", "is not listed in SHA256SUMS"),
                                  ("images/a.png", "was changed after the benchmark was written")]  # fmt: skip
    (root / "images" / "a.png").unlink()
    assert ("images/a.png", "is listed in SHA256SUMS but not there") in check_hashes(root)
    with (root / "SHA256SUMS").open("a") as file:
        file.write("0  images/new.png\n")
    assert check_hashes(root)[0] == ("SHA256SUMS", "is not the file that benchmark.yaml describes")
    (root / "cases.jsonl").write_text('{"id": "other"}\n')
    with pytest.raises(InputError, match=r"cases.jsonl is not the file that benchmark.yaml describes"):
        load_benchmark(root)
    card = yaml.safe_load((root / "benchmark.yaml").read_text())
    (root / "benchmark.yaml").write_text(yaml.safe_dump({k: v for k, v in card.items() if k != "hashes"}))
    assert load_benchmark(root).cases == (Case("other"),)
    (root / "SHA256SUMS").unlink()
    assert check_hashes(root) == [("SHA256SUMS", "is missing, so no file can be checked")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": {}}, r"case a: its image images/a.png is not among those given \(1 of 1 are missing\)"),
        ({"images": [("images/a.png", b""), ("images/a.png", b"")]}, "given twice"),
        ({"cases": [CASES[1], Case("B ")]}, "stands already"),
        ({"extra": lambda folder: 1 / 0}, "division"),
        *(({"images": {path: b""}}, "plain path below images/") for path in (
            "/images/a.png", "images/../../a.png", "images\\a.png", "images/C:a.png", "images/a\n.png", "a.png",
            "images", "", "images//a.png", "./images/a.png")),
    ],
)  # fmt: skip
def test_a_failed_write_leaves_nothing(tmp_path, changes, message):
    with pytest.raises((InputError, ZeroDivisionError), match=message):
        write(tmp_path / "one", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_kept(tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nversion: '1'\nlicense: MIT\n", "license: unknown key; known: name, version, licence"),
        ("name: x\n", "version: Field required"),
        ("name: [\n", "is not YAML"),
        ("words\n", "keys such as name"),
        ("", "is empty"),
    ],
)
def test_a_bad_card_gets_a_clear_error(tmp_path, text, message):
    (tmp_path / "benchmark.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_benchmark(tmp_path)


def test_what_is_no_benchmark(tmp_path):
    with pytest.raises(InputError, match=r"has no benchmark.yaml"):
        load_benchmark(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        load_benchmark(tmp_path / "none")


def test_splits_follow_patients_and_depend_on_nothing_else():
    cases = [Case(f"c{i}", patient_id=f"p{i // 3}", lesion_id=f"l{i}") for i in range(3000)]
    shares = {"train": 0.7, "val": 0.0, "test": 0.3}
    split = assign_splits(cases, shares)
    by_patient = {case.patient_id: case.split for case in split}
    assert all(case.split == by_patient[case.patient_id] for case in split)
    # 1,000 patients: the share of test is binomial with SD 1.45 points; 5 points are more than 3 SD.
    assert sum(case.split == "test" for case in split) / 3000 == pytest.approx(0.3, abs=0.05)
    assert {case.split for case in split} == {"train", "test"}
    assert assign_splits(cases[:10:-1], shares) == split[:10:-1]
    assert assign_splits(cases, shares, seed=1) != split
    by_lesion = assign_splits(cases, shares, by="lesion_id")
    assert len({(case.patient_id, case.split) for case in by_lesion}) > 1000


def test_a_case_without_a_patient_is_grouped_by_lesion():
    cases = [Case(f"c{i}", lesion_id="l") for i in range(20)]
    assert len({case.split for case in assign_splits(cases, {"a": 0.5, "b": 0.5})}) == 1


@given(st.floats(0, 1))
def test_shares_must_sum_to_one(share):
    if abs(share * 2 - 1) > 1e-9:
        with pytest.raises(InputError, match="sum to 1"):
            assign_splits(CASES, {"a": share, "b": share})
