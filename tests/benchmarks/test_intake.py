"""Pictures pass in a stream: any number of threads, one result; nothing half written; what repeats is noted."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from dermjudge.benchmarks.bundle import Bundle
from dermjudge.benchmarks.intake import write
from dermjudge.benchmarks.parallel import default_threads, in_order
from dermjudge.benchmarks.validate import validate
from dermjudge.judge.errors import InputError
from dermjudge.judge.images import encode_png
from dermjudge.judge.records import Case, Image, Narrative
from dermjudge.judge.tablefile import Problem


def noise(path: Path, seed: int, side: int = 40, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Pillow.fromarray(pixels).save(path, **options)
    return path


def bundle(root: Path, count: int = 12) -> Bundle:
    cases = []
    for k in range(count):
        noise(root / f"{k}.jpg", k)
        noise(root / f"{k}b.png", 100 + k)
        images = (Image(f"{k}.jpg", "clinical"), Image(f"{k}b.png"))
        cases.append(Case(f"c{k}", images, patient_id=f"p{k}", split="train", diagnosis=("melanoma",)))
    return Bundle("b", "1", "CC0-1.0", "", "", cases, root)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_number_of_threads_does_not_show(tmp_path):
    made = bundle(tmp_path / "src")
    (tmp_path / "src" / "3.jpg").write_bytes(b"\xff\xd8\xff rotten")
    (tmp_path / "src" / "4.jpg").unlink()
    noise(tmp_path / "src" / "5.jpg", 5, comment=b"Dr Secret", format="JPEG")
    reports = [write(made, tmp_path / f"out{threads}", threads=threads) for threads in (1, 3, 8)]
    one, *others = [files(tmp_path / f"out{threads}") for threads in (1, 3, 8)]
    assert all(other == one for other in others)
    assert [report.problems for report in reports] == [reports[0].problems] * 3
    assert [problem.field for problem in reports[0].problems] == ["c3", "c4"]
    assert [image.path for image in reports[0].benchmark.cases[0].images] == ["images/c0.jpg", "images/c0-2.png"]
    assert [image.modality for image in reports[0].benchmark.cases[0].images] == ["clinical", ""]
    assert reports[0].images == 22 and "images/c3.png" in one
    assert "1 of 22 pictures carried metadata" in "".join(reports[0].notes)
    assert validate(tmp_path / "out8") == []


def test_progress_counts_every_picture_once(tmp_path):
    seen: list[tuple[int, int]] = []
    write(bundle(tmp_path / "src", 4), tmp_path / "out", progress=lambda done, planned: seen.append((done, planned)))
    assert seen == [(n, 8) for n in range(1, 9)]


def test_strict_refuses_before_the_first_picture_and_at_a_bad_one(tmp_path):
    made = bundle(tmp_path / "src", 3)
    made.problems.append(Problem("t.csv", 7, "c9", "age is 'old'"))
    seen: list[int] = []
    with pytest.raises(InputError, match=r"1 rows or pictures are bad .*\nt.csv line 7, c9: age is 'old'"):
        write(made, tmp_path / "out", strict=True, progress=lambda done, planned: seen.append(done))
    assert seen == []
    made.problems.clear()
    (tmp_path / "src" / "1.jpg").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match="content is GIF"):
        write(made, tmp_path / "out", strict=True)
    assert [path.name for path in tmp_path.iterdir()] == ["src"]
    assert len(write(made, tmp_path / "out").problems) == 1


def test_repeated_pictures_and_torn_patients_are_noted(tmp_path):
    made = bundle(tmp_path / "src", 2)
    noise(tmp_path / "src" / "1.jpg", 0, comment=b"the same pixels in another file", format="JPEG")
    made.cases[1] = Case("c1", made.cases[1].images, patient_id="P0", split="test", diagnosis=("melanoma",))
    notes = write(made, tmp_path / "out").notes
    assert "1 pictures repeat another: images/c0.jpg (c0) and images/c1.jpg (c1) in the splits test and train" in notes
    assert (
        "1 patients or lesions are in more than one split: 'p0' is in more than one split: train (c0), test (c1)"
        in notes
    )


def test_pictures_that_are_no_files_of_their_own(tmp_path):
    pixels = {name: encode_png(Pillow.new("RGB", (4, 4), (k, 0, 0))) for k, name in enumerate("abc")}
    cases = [Case(name, (Image(f"row/{name}"),)) for name in "abd"] + [Case("text", context="no picture")]
    made = Bundle(
        "b", "1", "CC0-1.0", "", "", cases, loaders=lambda: ((f"row/{n}", lambda n=n: pixels[n]) for n in "cba")
    )
    made.narratives = [Narrative("a", "s", "x"), Narrative("d", "s", "x")]
    report = write(made, tmp_path / "out")
    assert [case.id for case in report.benchmark.cases] == ["a", "b", "text"]
    assert report.narratives == 1
    assert (tmp_path / "out" / "images" / "a.png").read_bytes() == pixels["a"]
    (problem,) = report.problems
    assert problem.message == "image 'row/d': the data set names it but does not hold it"
    made.licence = ""
    with pytest.raises(InputError, match="no licence is given, so its pictures are not copied"):
        write(made, tmp_path / "other")


def test_nothing_left_is_an_error_and_leaves_nothing(tmp_path):
    made = bundle(tmp_path / "src", 1)
    for path in (tmp_path / "src").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"nothing could be imported; the first of 2 problems: 0.jpg, c0: image"):
        write(made, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    noise(tmp_path / "one.png", 0, side=256)
    data = (tmp_path / "one.png").read_bytes()

    def peak(count: int) -> int:
        cases = [Case(f"c{k}", (Image(f"{k}"),)) for k in range(count)]
        made = Bundle("b", "1", "CC0-1.0", "", "", cases)
        made.loaders = lambda: ((f"{k}", lambda: bytes(bytearray(data))) for k in range(count))  # a copy each
        tracemalloc.start()
        write(made, tmp_path / f"out{count}", threads=2)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(4)
    assert peak(64) - peak(16) < 12 * len(data)  # 48 more pictures, each of this size on disk and as much decoded


def test_work_goes_on_side_by_side_but_not_far_ahead():
    started, gate = [], threading.Barrier(3, timeout=10)

    def work(n):
        started.append(n)
        if n < 3:
            gate.wait()  # three must run at once to get past
        return n * n

    results = in_order(work, iter(range(50)), threads=3)
    assert next(results) == 0
    assert max(started) <= 7  # the first, and twice three ahead
    assert list(results) == [n * n for n in range(1, 50)]


def test_an_exception_comes_in_its_place_and_ends_the_rest():
    begun = []

    def work(n):
        begun.append(n)
        return 1 // (5 - n)

    results = in_order(work, range(1000), threads=2)
    assert [next(results) for _ in range(5)] == [0, 0, 0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) < 20
    with pytest.raises(InputError, match="threads: 0; 1 or more"):
        list(in_order(work, [1], threads=0))
    assert 1 <= default_threads() <= 8
