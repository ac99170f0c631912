"""`data training-set` from the command line, on a tiny synthetic benchmark with its own narratives."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from dermjudge.benchmarks import synthetic
from dermjudge.cli.main import app


def test_one_command_makes_a_folder_to_train_on(tmp_path: Path) -> None:
    synthetic.generate(tmp_path / "syn", 10, seed=5)
    asked = ["data", "training-set", str(tmp_path / "syn"), "--out", str(tmp_path / "set"), "--from", "metadata"]
    done = CliRunner().invoke(app, [*asked, "--fault", "unsafe-advice", "--counterfactual", "swap", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["cases"]["own"] == 10 and 0 < said["cases"]["swap"] <= 10 and "overlay" not in said["cases"]
    assert {path.name for path in (tmp_path / "set").iterdir()} >= {
        "cases.jsonl",
        "narratives.jsonl",
        "ratings.parquet",
    }
    none = CliRunner().invoke(app, [*asked[:3], "--out", str(tmp_path / "b"), *asked[5:], "--counterfactual", "none"])
    assert none.exit_code == 0 and "SIMULATED" in none.stdout and "swap" not in none.stdout


def test_a_kind_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    synthetic.generate(tmp_path / "syn", 4, seed=5)
    asked = ["data", "training-set", str(tmp_path / "syn"), "--out", str(tmp_path / "set"), "--from", "metadata"]
    for value, words in (("swop", "swap, wrong-patient, blank, overlay"), ("swap=two", "KIND=NUMBER")):
        done = CliRunner().invoke(app, [*asked, "--counterfactual", value])
        assert done.exit_code != 0 and not (tmp_path / "set").exists()
        assert words in f"{done.output} {done.exception}"
