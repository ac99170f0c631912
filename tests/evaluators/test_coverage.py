"""The coverage simulation of tests/speed/coverage.py, small; and docs/agreement.md, whose examples are run."""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from typer.testing import CliRunner

from dermjudge.benchmarks import synthetic
from dermjudge.evaluators.agreement import agree
from dermjudge.evaluators.bootstrap import Estimate

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "agreement.md"


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("coverage_simulation", ROOT / "tests" / "speed" / "coverage.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_panel_is_that_of_the_synthetic_benchmark(simulation):
    """Where the scale does not cut, an expert's mean distance from the truth is the bias that the simulation plants."""
    made = synthetic.make(150, seed=3)
    case = {c.id: c for c in made.cases}
    truth = {n.key[:2]: synthetic.true_scores(case[n.case_id], n) for n in made.narratives}
    bias = simulation.panel_bias(0)
    for r, rater in enumerate(synthetic.PANEL):
        for d, dimension in enumerate(simulation.DIMENSIONS):
            true, given = np.array(
                [
                    (truth[rating.case_id, rating.system][dimension], rating.scores[dimension].value)
                    for rating in made.ratings
                    if rating.rater == rater and 1.5 < truth[rating.case_id, rating.system][dimension] < 3.5
                ]
            ).T
            error = given - true
            assert abs(error.mean() - bias[r, d]) < 4 * error.std() / np.sqrt(len(error)), (rater, dimension)


def test_a_draw_is_a_table_that_agree_reads(simulation):
    frame = simulation.draw_table(30, 0, 1)
    assert set(frame["rater"]) == {*synthetic.PANEL, *simulation.JUDGES}
    found = agree(frame, simulation.LEVELS, resamples=64, resample_raters=True)
    assert found.of("continuous", "Safety")["item.rps"].value is not None
    assert found.of("whole", "Safety")["item.bias"].value == pytest.approx(
        found.of("continuous", "Safety")["item.bias"].value, abs=0.1
    )
    missing = 1 - frame.filter(pl.col("rater_kind") == "expert").height / (30 * 4 * 2 * 3)
    assert 0.05 < missing < 0.3
    assert simulation.every_result(found, like_these=True)["Safety", "whole", "item.bias"].low is not None


def test_misses_are_counted(simulation):
    key = ("d", "j", "s")
    tally = simulation.Tally({key: (1.0, 0.1)})
    for low, high in ((0.5, 1.5), (1.0, 2.0), (1.1, 2.0), (0.0, 0.9)):
        tally.rows[key].append((1.2, low, high))
    found = tally.of(key)
    assert (found["coverage"], found["above"], found["below"], found["n"]) == (0.5, 0.25, 0.25, 4)
    tally = simulation.Tally({key: (1.0, 0.1)})

    class Found:
        judges = ()
        panel = (type("P", (), {"dimension": "d", "judge": "j", "results": {"s": Estimate(1.0, 3)}}),)

    tally.add(Found)
    assert tally.of(key)["absent"] == 1
    assert "coverage" not in tally.of(key)


@pytest.mark.slow
def test_intervals_cover_with_the_panel_fixed_and_not_with_raters_redrawn(simulation):
    draws = 40
    found = simulation.simulate(draws=draws, cases=200, resamples=300, population=10_000, seed=1)
    lowest = stats.binom.ppf(1e-4, draws, 0.95) / draws  # hundreds of statistics are looked at
    fixed = {(r["dimension"], r["judge"], r["statistic"]): r["fixed"] for r in found["rows"] if r["fixed"]["n"]}
    low = {k: v["coverage"] for k, v in fixed.items() if v["coverage"] < lowest}
    assert low == {}
    assert np.median([v["coverage"] for v in fixed.values()]) > 0.92

    def of(kind, statistic):
        rows = [r for r in found["rows"] if r["statistic"] == statistic and r["judge"] == "whole"]
        return np.mean([r[kind]["coverage"] for r in rows])

    for statistic in ("item.bias", "item.mae", "loo_expert.mae"):
        assert of("redrawn", statistic) < 0.75
    assert of("redrawn", "item.spearman") > 0.85  # a shift moves no rank
    assert of("like_these", "item.bias") > of("redrawn", "item.bias") + 0.15


# The page


def commands():
    return [line.removeprefix("$ ") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("$ ")]


def test_the_examples_of_the_page(tmp_path, monkeypatch):
    """Python as doctests, in order; then every command, on the files that the Python wrote."""
    from dermjudge.cli.main import app

    monkeypatch.chdir(tmp_path)
    done = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert done.attempted > 10
    assert done.failed == 0
    assert commands()
    for command in commands():
        program, *arguments = shlex.split(command)
        assert program == "dermjudge"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (command, result.output)


def test_the_page_names_what_exists(simulation):
    """Statistics, functions and files in backquotes are there."""
    text = PAGE.read_text("utf-8")
    names = {k for k in re.findall(r"`((?:item|constant|judge_minus_\w+|loo_\w+|system)\.[\w.]+)`", text)}
    found = agree(simulation.draw_table(25, 0, 2), simulation.LEVELS, resamples=1)
    known = {k for _, _, k in simulation.every_result(found)}
    assert names - known == set()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (PAGE.parent / link).exists(), link
    for path in re.findall(r"`((?:tests|evaluators|benchmarks|judge|docs)/[\w/.]+)`", text):
        assert os.path.exists(ROOT / path), path
