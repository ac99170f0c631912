"""`train`, `ladder` and `figures` from the command line, on a tiny model from config and SYNTHETIC cases."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
import polars as pl
import yaml

from dermjudge.benchmarks.synthetic import generate
from dermjudge.cli import output
from dermjudge.cli.ladder import _expected
from dermjudge.cli.main import main
from dermjudge.cli.training import _next
from dermjudge.judge.benchmark import load_benchmark
from dermjudge.judge.files import sha256_file
from dermjudge.judge.rubric import load_rubric
from dermjudge.training.config import load_recipe
from tests import tiny


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.idefics3(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "bench"
    generate(folder, 60, seed=5)
    return folder


def recipe(folder: Path, base: Path | str, **changes: object) -> Path:
    plan = {"name": "t", "data": {"synthetic_cases": 60, "synthetic_seed": 5}, "base": str(base), "critiques": 0.0,
            "sft": {"steps": 2, "batch": 4, "rate": 0.01}}  # fmt: skip
    file = folder / "t.yaml"
    file.write_text(yaml.safe_dump(plan | changes))
    return file


def test_training_data_that_share_patients_with_the_evaluation_are_refused(
    base: Path, bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(tmp_path / "same", 12, seed=5)  # the first patients of the same seed
    file = recipe(tmp_path, base)
    asked = ("train", file, "--data", bench, "--out", tmp_path / "out", "--not-in", tmp_path / "same")
    assert run(*asked) == output.USAGE
    said = capsys.readouterr().err
    assert "patients" in said and not (tmp_path / "out" / "judge").exists()
    assert run(*asked, "--allow-overlap", "others") == output.USAGE  # certain, not suspected


def test_what_was_held_apart_stands_in_the_card(base: Path, bench: Path, tmp_path: Path) -> None:
    generate(tmp_path / "other", 12, seed=6)
    file = recipe(tmp_path, base, text_only=False)
    assert run("train", file, "--data", bench, "--out", tmp_path / "out", "--not-in", tmp_path / "other") == output.OK
    card = json.loads((tmp_path / "out" / "judge" / "judge.json").read_text())
    compared = [entry["compared"] for entry in card["held_apart"]]
    assert [counts["pictures"][1] for counts in compared if "pictures" in counts] == [12]
    assert not (tmp_path / "out" / "text_only").exists()


def test_a_dry_run_trains_nothing_and_a_reason_needs_a_folder(
    base: Path, bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = recipe(tmp_path, base)
    assert run("train", file, "--data", bench, "--out", tmp_path / "out", "--dry-run") == output.OK
    assert run("train", file, "--data", bench, "--out", tmp_path / "out", "--allow-overlap", "why") == output.USAGE
    assert "--not-in" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_ladder_of_some_rungs_compares_them_and_takes_up_what_is_there(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = recipe(tmp_path, base), tmp_path / "out"
    asked = ("ladder", file, "--out", out, "--cases", 20, "--seeds", 1, "--json")
    assert run(*asked, "--only", "reward", "--dry-run") == output.OK
    assert json.loads(capsys.readouterr().out)["rungs"] == ["regression", "reward"]
    assert run(*asked, "--only", "text-only, regression") == output.OK
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((out / "ladder.json").read_text()) and found["synthetic"] is True
    assert set(found["seconds"]) == {"text-only", "regression"} and not (out / "reward-0").exists()
    made = {file: sha256_file(file) for file in out.glob("*/judge/*") if file.is_file()}
    assert made and run(*asked, "--only", "text-only,regression") == output.OK
    again = json.loads(capsys.readouterr().out)
    assert again == found  # the seconds, too: nothing was trained twice
    assert made == {file: sha256_file(file) for file in out.glob("*/judge/*") if file.is_file()}


def test_a_ladder_names_the_rungs_that_there_are(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("ladder", recipe(tmp_path, base), "--out", tmp_path / "out")
    assert run(*asked, "--only", "regresion") == output.USAGE
    said = capsys.readouterr().err
    assert "no rung 'regresion'" in said and "regression-longer" in said
    assert run(*asked, "--test-seed", 5) == output.USAGE and "--test-seed" in capsys.readouterr().err
    building = recipe(tmp_path, "pretrained", pretraining=_tiny_base())
    assert run("ladder", building, "--out", tmp_path / "out") == output.USAGE
    assert "builds its own base" in capsys.readouterr().err


def _tiny_base() -> object:
    return yaml.safe_load(Path("training/recipes/smoke.yaml").read_text())["pretraining"]


def test_a_score_off_the_scale_counts_with_its_expected_level() -> None:
    rows = [
        {"score": 4.0, "state": "scored", "distribution": [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]},
        {"score": None, "state": "unparsable", "distribution": [0.5, 0.0, 0.0, 0.0, 0.0, 0.5]},
        {"score": None, "state": "failed", "distribution": None},
    ]
    found = _expected(pl.DataFrame(rows), load_rubric("derm6")).select("score", "state").rows()
    assert found == [(4.0, "scored"), (2.5, "scored"), (None, "failed")]


def test_figures_say_what_is_synthetic_and_what_was_missed(
    base: Path, bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", recipe(tmp_path, base), "--data", bench, "--out", tmp_path / "out") == output.OK
    judge, blind = (f"local:{base}+{tmp_path / 'out' / name}" for name in ("judge", "text_only"))
    capsys.readouterr()
    assert run("figures", judge, "--text-only", blind, "--cases", 20) == output.OK
    said = capsys.readouterr().out
    assert said.startswith("SYNTHETIC") and "Accuracy" in said and "NO" in said  # two steps teach nothing
    assert run("figures", judge, "--text-only", judge, "--cases", 20) == output.USAGE
    assert "was not trained without pictures" in capsys.readouterr().err


def own_folder(bench: Path, folder: Path) -> Path:
    """A benchmark whose narratives and ratings are tables as people write them: a row a rating."""
    shutil.copytree(bench, folder)
    narratives = pl.read_ndjson(folder / "narratives.jsonl").select("case_id", "system", "text")
    narratives.write_csv(folder / "narratives.csv")
    ratings = pl.read_parquet(folder / "ratings.parquet").filter(pl.col("score").is_not_null())
    keys = ["case_id", "system", "rater", "rater_kind"]
    ratings.pivot("dimension", index=keys, values="score").write_csv(folder / "ratings.csv")
    for name in ("narratives.jsonl", "ratings.parquet"):
        (folder / name).unlink()
    return folder


def test_own_tables_train_a_judge_that_gets_no_licence_from_what_it_learnt(
    base: Path, bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = own_folder(bench, tmp_path / "own")
    files = {"narratives": "narratives.csv", "ratings": "ratings.csv"}
    file = recipe(tmp_path, base, data=files, text_only=False)
    assert run("train", file, "--data", own, "--out", tmp_path / "out", "--dry-run") == output.OK
    foretold = capsys.readouterr().out
    assert "narratives of" in foretold and "rated by 3 experts" in foretold
    assert run("train", file, "--data", own, "--out", tmp_path / "out") == output.OK
    said = capsys.readouterr().out
    assert "learnt from" in said and "next: dermjudge figures" in said  # rendered cases
    there = load_benchmark(own)
    real = replace(there, cases=tuple(replace(case, tags={}) for case in there.cases))
    told = _next(load_recipe(file), real)
    assert told == f"score {own} {own / 'narratives.csv'} --split test --judge"
    card = json.loads((tmp_path / "out" / "judge" / "judge.json").read_text())
    assert card["counted"]["experts"] == 3 and min(card["counted"]["rated"].values()) > 100
    judge = f"local:{base}+{tmp_path / 'out' / 'judge'}"
    shown = ("score", own, own / "narratives.csv", "--judge", judge)
    assert run(*shown, "--out", tmp_path / "all") == output.OK
    further = tmp_path / "further"  # a judge that went on from it learnt those cases, too
    shutil.copytree(tmp_path / "out" / "judge", further)
    later = {"data": {}, "trained_on": {**card["trained_on"], "split": "train"}, "start": card}
    (further / "judge.json").write_text(json.dumps(card | later))
    capsys.readouterr()
    assert run(*shown[:3], "--judge", f"local:{base}+{further}", "--out", tmp_path / "again") == output.OK
    assert "no licence" in capsys.readouterr().err
    assert run(*shown, "--out", tmp_path / "all") == output.OK
    assert "no licence" in capsys.readouterr().err
    ratings = (own / "ratings.csv", tmp_path / "all" / "ratings.jsonl")
    assert run("agree", *ratings, "--bench", own, "--gate") == output.GATE
    assert "no licence" in capsys.readouterr().out
    assert run("agree", *ratings, "--bench", own, "--licence", tmp_path / "l.json") == output.USAGE
    assert not (tmp_path / "l.json").exists() and "no licence" in capsys.readouterr().err
    assert run(*shown, "--split", "test", "--out", tmp_path / "test") == output.OK
    assert "no licence" not in capsys.readouterr().err
    assert run("agree", own / "ratings.csv", tmp_path / "test" / "ratings.jsonl", "--bench", own) == output.OK
    assert "no licence" not in capsys.readouterr().out
    assert run(*shown, "--split", "nowhere", "--out", tmp_path / "none") == output.USAGE
    assert "it has test, train, validation" in capsys.readouterr().err


def test_no_licence_in_the_report_and_no_other_judge_in_its_place(
    base: Path, bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = recipe(tmp_path, base, text_only=False)
    assert run("train", file, "--data", bench, "--out", tmp_path / "out") == output.OK
    judge = f"local:{base}+{tmp_path / 'out' / 'judge'}"
    assert run("score", bench, "--judge", judge, "--out", tmp_path / "run") == output.OK
    assert "those that it learnt from" in " ".join((tmp_path / "run" / "report.md").read_text().split())
    other = recipe(tmp_path, base, text_only=False, name="other")
    assert run("train", other, "--data", bench, "--out", tmp_path / "out") == output.USAGE
    assert "judge of recipe t" in capsys.readouterr().err


def test_figures_of_a_judge_that_runs_here_hold_its_critiques(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("figures", "embedded", "--cases", 20, "--json") == output.OK
    found = json.loads(capsys.readouterr().out)
    assert found["critiques"]["whole"]["named"]["value"] > 0.8
    blank = found["dimensions"]["Accuracy"]["blank"]
    assert blank["difference_constant"]["value"] == pytest.approx(
        blank["mae"]["value"] - blank["mae_constant"]["value"]
    )
