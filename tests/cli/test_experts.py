"""`plan`, `calibrate` and `score --calibration` from the command line: what they write, say and refuse."""

import json

import numpy as np
import polars as pl
import pytest
from PIL import Image as Pillow

from dermjudge.cli.main import main
from dermjudge.judge.benchmark import write_benchmark
from dermjudge.judge.records import Case, Image, Narrative, Rating, Score
from dermjudge.judge.rubric import load_rubric
from dermjudge.judge.tables import write_narratives, write_ratings

RUBRIC = load_rubric("derm6")
CASES = 60


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A benchmark of which experts rated the first 55 cases, and a judge's answers that lie half a point too high."""
    root = tmp_path_factory.mktemp("study")
    draw = np.random.default_rng(0)
    Pillow.new("RGB", (16, 16), (120, 90, 60)).save(root / "p.png")
    cases, narratives, ratings, answers, images = [], [], [], [], {}
    for k in range(CASES):
        images[f"images/c{k}.png"] = root / "p.png"
        cases.append(Case(f"c{k}", (Image(f"images/c{k}.png"),), patient_id=f"p{k}"))
        for system in ("one", "two"):
            narratives.append(Narrative(f"c{k}", system, "Differential: 1. psoriasis. Triage: routine."))
            truth = draw.uniform(0.5, 4.0, len(RUBRIC.names))
            if k < 55:
                for rater in ("e1", "e2"):
                    given = np.clip(np.rint(truth + draw.normal(0, 0.5, len(truth))), 0, 5)
                    scores = {d: Score(float(v)) for d, v in zip(RUBRIC.names, given, strict=True)}
                    ratings.append(Rating(f"c{k}", system, rater, "expert", RUBRIC.id, scores))
            said = np.clip(np.rint(truth + 1 + draw.normal(0, 0.4, len(truth))), 0, 5).astype(int).tolist()
            text = json.dumps({"scores": dict(zip(RUBRIC.names, said, strict=True))})
            answers.append({"case_id": f"c{k}", "system": system, "answer": text})

    def extra(path):
        write_narratives(narratives, path / "narratives.jsonl")
        write_ratings(ratings, path / "ratings.parquet")

    write_benchmark(
        root / "bench", name="toy", version="1", licence="CC0-1.0", source="test", cases=cases, images=images,
        extra=extra,
    )  # fmt: skip
    (root / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    return root


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err


def test_a_calibration_is_applied_to_the_judge_it_was_made_for_only(capsys, study, tmp_path):
    judge = f"replay:{study / 'answers.jsonl'}"
    code, out, err = call(capsys, "score", study / "bench", "--judge", judge, "--out", tmp_path / "run")
    assert code == 0, err
    assert "What the experts would say (prediction-powered)" in out  # 55 rated cases
    files = [study / "bench/ratings.parquet", tmp_path / "run/ratings.jsonl"]
    made = tmp_path / "cal.json"
    code, out, err = call(capsys, "calibrate", *files, "--judge", "replay:answers.jsonl", "--out", made)
    assert code == 0, err
    assert "Intervals per score (conformal)" in out
    assert json.loads(made.read_text())["signature"]
    code, out, err = call(
        capsys, "score", study / "bench", "--judge", judge, "--out", tmp_path / "run", "--calibration", made,
        "--review-at", "2.5", "--json",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(out)["report"]
    raw, scaled = report["leaderboard"]["standings"][-1], report["calibrated"]["standings"][-1]
    assert scaled["mean"]["value"] < raw["mean"]["value"] - 0.5  # the planted bias is gone
    rows = pl.read_ndjson(tmp_path / "run/calibrated.jsonl")
    assert {"raw_score", "low", "high"} <= set(rows.columns)
    inside = rows.filter(pl.col("score").is_not_null())
    assert (inside["low"] <= inside["score"]).all() and (inside["score"] <= inside["high"]).all()
    assert report["calibrated"]["review_cases"] == pl.read_ndjson(tmp_path / "run/review.jsonl").height
    code, out, err = call(capsys, "verify", tmp_path / "run")
    assert code == 0, out

    other = tmp_path / "other.jsonl"
    other.write_text((study / "answers.jsonl").read_text() + "\n")
    (tmp_path / "answers.jsonl").write_text(other.read_text().replace("c0", "c0", 1).replace('"c1"', '"c1 "', 1))
    other_judge = f"replay:{tmp_path / 'answers.jsonl'}"
    code, out, err = call(
        capsys, "score", study / "bench", "--judge", other_judge, "--out", tmp_path / "two", "--calibration", made
    )
    assert code == 2 and "was made for judge signature" in err


def test_plan_says_how_many_cases_and_which_next(capsys, study, tmp_path):
    judge = f"replay:{study / 'answers.jsonl'}"
    call(capsys, "score", study / "bench", "--judge", judge, "--out", tmp_path / "run")
    files = [study / "bench/ratings.parquet", tmp_path / "run/ratings.jsonl", "--judge", "replay:answers.jsonl"]
    code, out, err = call(capsys, "plan", *files, "--statistic", "spearman", "--width", "0.05", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["cases"] > 55 and len(found["dimensions"]) == 6
    code, out, err = call(capsys, "plan", *files, "--width", "0.1")
    assert code == 0 and "Cases needed" in out and "narratives a case" in out
    code, out, err = call(capsys, "plan", *files, "--next", "3", "--json")
    assert code == 0, err
    chosen = json.loads(out)
    assert {row["case_id"] for row in chosen["next_cases"]} <= {f"c{k}" for k in range(55, 60)}
    assert len(chosen["next_cases"]) == 3 and "must not be estimated" in chosen["warning"]
    code, out, err = call(capsys, "plan", *files, "--systems", "0")
    assert code == 2 and "--systems takes whole numbers" in err
    code, out, err = call(capsys, "plan", *files, "--statistic", "beauty")
    assert code == 2 and "beauty" in err
