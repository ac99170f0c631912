"""From a data set to a benchmark folder, and what `validate` finds in one that went wrong."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from PIL import Image as Pillow

from dermjudge.benchmarks.catalog import IMPORTERS, import_dataset
from dermjudge.benchmarks.validate import validate
from dermjudge.judge.benchmark import load_benchmark, write_benchmark
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Image, Narrative, Rating, Score
from dermjudge.judge.tables import frame_to_ratings, read_narratives, read_ratings, write_narratives, write_ratings

from .test_importers import COLUMNS, DERMEVAL, HAM, ROWS, picture, table


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    picture(root / "a.png", 1)
    picture(root / "sub" / "b.jpg", 2)
    picture(root / "c.png", 3)
    table(root / "t.csv", ROWS)
    return root


def test_a_table_becomes_a_valid_benchmark(source, tmp_path):
    rotten = ROWS[2] | {"case": "Anna/Müller", "who": "p3", "file": "cut.jpg"}
    table(source / "t.csv", [*ROWS, rotten, rotten | {"file": "c.png"}, rotten | {"case": "009", "file": "none.png"}])
    whole = picture(source / "whole.jpg", 4).read_bytes()
    (source / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    report = import_dataset("tabular", source, tmp_path / "out", columns=COLUMNS, licence="internal", name="mine")
    made = report.benchmark
    assert made == load_benchmark(tmp_path / "out")
    assert (made.name, made.licence, report.images) == ("mine", "internal", 4)
    paths = [image.path for case in made.cases for image in case.images]
    assert paths[:3] == ["images/007.png", "images/007-2.jpg", "images/008.png"]
    assert paths[3].startswith("images/Anna_M_ller-")
    assert (made.root / paths[1]).read_bytes() == (source / "sub" / "b.jpg").read_bytes()
    assert [problem.field for problem in report.problems] == ["009", "Anna/Müller"]
    assert "cut or damaged JPEG" in report.problems[1].message
    problems = [str(problem) for problem in validate(made.root)]
    assert len(problems) == 2  # the misspelt label, and c.png under two cases
    assert "'basel cel carcinoma' is not in the term list (closest: basal cell carcinoma" in problems[0]
    assert "the same picture stands 2 times: images/008.png (008)" in problems[1]


def test_metadata_is_taken_off_on_the_way(source, tmp_path):
    exif = Pillow.Exif()
    exif[0x013B] = "Dr Secret"
    Pillow.open(source / "a.png").save(source / "a.png", exif=exif)
    report = import_dataset("tabular", source, tmp_path / "out", columns=COLUMNS, licence="internal")
    assert report.notes[-1] == "1 of 3 pictures carried metadata, which was taken off; no pixel changed."
    assert not any(b"Secret" in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_dermeval_records_become_cases_narratives_and_ratings(source, tmp_path):
    good = DERMEVAL | {"image": "a.png"}
    records = [good, good | {"id": "x", "image": "rotten.png"}, good | {"model": "m2"}]
    (source / "rotten.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (source / "r.json").write_text(json.dumps(records))
    report = import_dataset("dermeval", source / "r.json", tmp_path / "out", images=source, licence="agreed by letter")
    assert (report.narratives, report.ratings, report.images, len(report.problems)) == (2, 2, 1, 1)
    folder = tmp_path / "out"
    narratives = read_narratives(folder / "narratives.jsonl")
    ratings = list(frame_to_ratings(read_ratings(folder / "ratings.parquet")))
    assert [n.hash for n in narratives] == [r.narrative_hash for r in ratings]
    assert [n.system for n in narratives] == ["candidate", "m2"]
    assert validate(folder) == []
    text_only = import_dataset("dermeval", source / "r.json", tmp_path / "text")
    assert text_only.benchmark.cases[0].images == ()
    assert [p.field for p in validate(tmp_path / "text")] == ["licence"]


def test_ham10000_becomes_a_benchmark(tmp_path):
    for i in (1, 2, 3):
        picture(tmp_path / "src" / "HAM10000_images_part_1" / f"ISIC_{i}.jpg", i)
    table(tmp_path / "src" / "HAM10000_metadata.csv", HAM)
    report = import_dataset("ham10000", tmp_path / "src", tmp_path / "out", fractions={"test": 1})
    assert report.benchmark.splits == {"test": 3}
    assert "CC BY-NC" in report.benchmark.licence
    assert validate(tmp_path / "out") == []


def test_what_cannot_be_imported(source, tmp_path):
    out = tmp_path / "out"
    for name, options, message in [
        ("ham", {}, "unknown data set 'ham'; known: synthetic, dermbench, dermeval, ham10000"),
        ("ham10000", {"licence": "x"}, "ham10000 has no option 'licence'; known: fractions, seed"),
        ("synthetic", {"case": 3}, "synthetic has no option 'case'; known: cases, seed"),
        ("tabular", {"columns": COLUMNS}, "no licence is given, so its pictures are not copied"),
        ("tabular", {"columns": COLUMNS, "colour": 1}, "colour: Extra inputs are not permitted"),
        ("tabular", {"columns": {"id": "who", "image": "note"}, "licence": "x"}, "nothing could be imported; the fi"),
    ]:
        with pytest.raises(InputError, match=message):
            import_dataset(name, source, out, **options)
        assert not out.exists()
    with pytest.raises(InputError, match="say where the files of ham10000 lie"):
        import_dataset("ham10000", None, out)


def test_the_catalogue_says_what_each_set_is_for():
    for importer in IMPORTERS.values():
        assert importer.title
        assert importer.evaluates
        assert importer.layout in ("verified", "documented", "unverified")


@pytest.fixture
def folder(tmp_path):
    cases = [
        Case("a", (Image("images/a.png"),), patient_id="p", lesion_id="1", split="train", diagnosis=("melanoma",)),
        Case("b", (Image("images/b.png"),), patient_id="q", lesion_id="1", split="test", diagnosis=("melanoma",)),
    ]
    images = {f"images/{name}.png": picture(tmp_path / f"{name}.png", i) for i, name in enumerate("ab")}
    write_benchmark(tmp_path / "bench", name="b", version="1", licence="CC0", source="", cases=cases, images=images)
    return tmp_path / "bench"


def edit(folder, **changes):
    """Change the first case and take the hashes out, as a user would who edits by hand."""
    lines = (folder / "cases.jsonl").read_text().splitlines()
    lines[0] = json.dumps({k: v for k, v in {**json.loads(lines[0]), **changes}.items() if v is not None})
    (folder / "cases.jsonl").write_text("\n".join(lines) + "\n")
    card = yaml.safe_load((folder / "benchmark.yaml").read_text())
    (folder / "benchmark.yaml").write_text(yaml.safe_dump(card | {"hashes": {}}))


def found(folder):
    return [str(problem) for problem in validate(folder) if "was changed after" not in problem.message]


def test_a_sound_folder_has_no_problem(folder):
    assert validate(folder) == []  # lesion 1 of p and lesion 1 of q are two lesions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"path": "images/none.png"}]}, "cases.jsonl, a: image 'images/none.png': cannot be opened"),
        ({"images": [{"path": "/etc/passwd"}]}, "must be relative"),
        ({"images": [{"path": "images/b.png"}]}, "the same picture stands 2 times, and in the splits test, train"),
        ({"patient_id": "Q "}, "patient_id: 'q' is in more than one split: train (a), test (b)"),
        ({"patient_id": None, "lesion_id": "2"}, ""),
        ({"split": None}, "split: is missing for a, while others have one"),
        ({"diagnosis": ["melanom"]}, "diagnosis of a: 'melanom' is not in the term list (closest: melanoma"),
        ({"differential": ["flu"]}, "diagnosis of a: 'flu' is not in the term list"),
        ({"urgency": "fast"}, "line 1, urgency: 'fast': not an urgency; one of routine, soon, urgent, emergent"),
        ({"id": "B"}, "line 2, id: 'b' stands already on line 1"),
        ({"site": "arm"}, "unknown column 'site'"),
    ],
)
def test_what_is_wrong_with_a_case_is_found(folder, changes, message):
    edit(folder, **changes)
    problems = found(folder)
    assert len(problems) == bool(message)
    assert message in "".join(problems)


def test_lesions_without_a_patient_must_stay_in_one_split(tmp_path):
    cases = [Case("a", lesion_id="L1", split="train"), Case("b", lesion_id="l1", split="test")]
    write_benchmark(tmp_path / "x", name="x", version="1", licence="CC0", source="", cases=cases)
    (problem,) = validate(tmp_path / "x")
    assert str(problem) == "cases.jsonl, lesion_id: 'l1' is in more than one split: train (a), test (b)"


def test_everything_is_found_at_once(folder):
    edit(folder, diagnosis=["melanom"], images=["images/none.png"], split=None)
    card = yaml.safe_load((folder / "benchmark.yaml").read_text())
    (folder / "benchmark.yaml").write_text(yaml.safe_dump(card | {"licence": " "}))
    (folder / "images" / "a.png").unlink()
    data = (folder / "images" / "b.png").read_bytes()
    (folder / "images" / "b.png").write_bytes(data[:-20])
    told = "\n".join(str(problem) for problem in validate(folder))
    for piece in ("licence: is missing", "images/a.png: is listed in SHA256SUMS but not there", "b.png: was changed",
                  "'melanom'", "split: is missing", "none.png", "cut or damaged"):  # fmt: skip
        assert piece in told


def test_hashes_are_checked(folder):
    (folder / "images" / "b.png").write_bytes((folder / "images" / "a.png").read_bytes())
    problems = [str(problem) for problem in validate(folder)]
    assert problems[0] == "images/b.png: was changed after the benchmark was written"
    assert "the same picture stands 2 times" in problems[1]


def test_tables_that_speak_of_unknown_cases_are_found(folder):
    write_narratives([Narrative("A", "s", "x"), Narrative("z", "s", "x")], folder / "narratives.jsonl")
    write_ratings([Rating("y", "s", "r", "expert", "derm6@1", {"Accuracy": Score(1)})], folder / "ratings.csv")
    shutil.copy(folder / "ratings.csv", folder / "ratings.parquet")
    told = [str(problem) for problem in validate(folder) if "not listed" not in problem.message]
    assert "narratives.jsonl, case_id: z is no case of this benchmark" in told
    assert "ratings.csv, case_id: y is no case of this benchmark" in told
    assert any("not a readable parquet file" in line for line in told)


def test_a_folder_that_is_no_benchmark(tmp_path):
    told = [str(problem) for problem in validate(tmp_path)]
    assert "has no benchmark.yaml" in told[0]
    assert "no such file" in told[1]
    with pytest.raises(InputError, match="is no folder"):
        validate(tmp_path / "none")
    (tmp_path / "benchmark.yaml").write_text("name: x\nlicense: y\n")
    assert sum("benchmark.yaml" in str(problem) for problem in validate(tmp_path)) == 2
