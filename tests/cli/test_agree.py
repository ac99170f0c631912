"""`agree` from the command line: the licence first, the gate, what stands beside it, and the card without experts."""

import json

import numpy as np
import polars as pl
import pytest

from dermjudge.cli.main import main
from dermjudge.judge.records import Case, Narrative, Rating, Score
from dermjudge.judge.rubric import load_rubric
from dermjudge.judge.tables import frame_to_ratings, read_ratings, write_narratives, write_ratings

RUBRIC = load_rubric("derm6")


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err


def panel(folder, judge_sd: float, bias: float = 0.0, cases: int = 80) -> list:
    """Ratings of three experts and a judge of planted quality."""
    draw = np.random.default_rng(1)
    experts, judged = [], []
    for c in range(cases):
        for system in ("one", "two"):
            truth = draw.uniform(0.3, 4.7, len(RUBRIC.names))
            for rater in ("e1", "e2", "e3"):
                given = np.clip(np.rint(truth + draw.normal(0, 0.6, len(truth))), 0, 5)
                scores = {d: Score(float(v)) for d, v in zip(RUBRIC.names, given, strict=True)}
                experts.append(Rating(f"c{c}", system, rater, "expert", RUBRIC.id, scores))
            said = np.clip(truth + bias + draw.normal(0, judge_sd, len(truth)), 0, 5)
            scores = {d: Score(float(v)) for d, v in zip(RUBRIC.names, said, strict=True)}
            judged.append(Rating(f"c{c}", system, "j", "judge", RUBRIC.id, scores))
    write_ratings(experts, folder / "experts.parquet")
    write_ratings(judged, folder / "judge.jsonl")
    return [folder / "experts.parquet", folder / "judge.jsonl"]


@pytest.fixture
def lenient(tmp_path):
    """Thresholds that ask for no picture, since these ratings have no probe."""
    from importlib.resources import files

    text = files("dermjudge.evaluators.data").joinpath("licence.yaml").read_text("utf-8")
    path = tmp_path / "rules.yaml"
    path.write_text(text.replace("picture: [Accuracy]", "picture: []"))
    return path


def test_the_licence_stands_first_and_the_gate_opens_for_a_good_judge_only(capsys, tmp_path, lenient):
    good = panel(tmp_path, 0.3)
    kept = tmp_path / "licence.json"
    code, out, err = call(
        capsys, "agree", *good, "--thresholds", lenient, "--gate", "--licence", kept, "--resamples", 300
    )
    assert code == 0, err
    assert out.startswith("## Licence of j") and "6 of 6 licensed" in out and "SIMULATED" not in out
    assert out.index("## Data checks") > out.index("What this licence does not say")
    assert json.loads(kept.read_text())["judge"] == "j"
    bad = panel(tmp_path, 2.0)
    code, out, err = call(capsys, "agree", *bad, "--thresholds", lenient, "--gate", "--resamples", 300)
    assert code == 5 and "not every dimension is licensed" in err and "report only" in out


def test_no_gate_opens_without_a_licence(capsys, tmp_path, lenient):
    """More judges than are licensed at once, or nobody but the text-only judge: nobody was licensed."""
    files = panel(tmp_path, 0.3)
    frame = pl.concat([read_ratings(files[1]).with_columns(pl.lit(f"j{k}").alias("rater")) for k in range(5)])
    write_ratings(frame_to_ratings(frame), tmp_path / "many.jsonl")
    many = ["agree", files[0], tmp_path / "many.jsonl", "--thresholds", lenient, "--resamples", 100]
    code, out, _ = call(capsys, *many, "--gate")
    assert code == 5 and out.startswith("5 judges: no licences and no pairs of more than 4")
    code, out, err = call(capsys, *many, "--gate", "--judge", "j3", "--licence", tmp_path / "l.json")
    assert code == 0, err
    code, _, err = call(capsys, *many, "--licence", tmp_path / "l2.json")
    assert code == 2 and "name it with --judge" in err and not (tmp_path / "l2.json").exists()
    code, _, _ = call(capsys, "agree", *files, "--text-only", "j", "--gate", "--resamples", 100)
    assert code == 5


def test_without_a_probe_the_picture_dimension_is_not_licensed(capsys, tmp_path):
    code, out, _ = call(capsys, "agree", *panel(tmp_path, 0.3), "--gate", "--resamples", 300, "--json")
    verdicts = {d["dimension"]: d["verdict"] for d in json.loads(out)["licences"][0]["dimensions"]}
    assert code == 5 and verdicts["Accuracy"] == "not enough data" and verdicts["Safety"] == "licensed"


def test_all_prints_every_statistic_and_other_experts_widen(capsys, tmp_path, lenient):
    files = panel(tmp_path, 0.5, cases=40)
    code, out, err = call(
        capsys, "agree", *files, "--all", "--other-experts", "--thresholds", lenient, "--resamples", 300
    )
    assert code == 0, err
    for words in ("Kendall tau-b", "Gwet's AC2", "ICC(A,1)", "Lower limit", "Pairs ordered alike", "RPS",
                  "Winning rate at epsilon", "Experts like these", "Highest r possible", "QWK",
                  "Leniency of each expert"):  # fmt: skip
        assert words in out, words
    assert max(map(len, out.split("\n"))) <= 120


def test_a_consensus_is_a_target_without_a_ceiling(capsys, tmp_path):
    files = panel(tmp_path, 0.4, cases=60)
    code, out, err = call(capsys, "agree", *files, "--target", "additive", "--resamples", 100, "--json")
    assert code == 0, err
    first = json.loads(out)["judges"][0]["results"]
    assert first["item"]["mae"]["value"] < 0.6 and first["loo_judge"]["mae"]["value"] is None
    code, _, err = call(capsys, "agree", *files, "--target", "oracle")
    assert code == 2 and "unknown consensus method 'oracle'" in err


def test_scores_off_the_scale_are_used_only_if_asked_for(capsys, tmp_path):
    files = panel(tmp_path, 0.5, cases=30)
    table = tmp_path / "wild.csv"
    rows = ["case_id,system,rater,rater_kind,dimension,score", "c0,one,e1,expert,Accuracy,4"]
    for c in range(30):
        rows += [f"c{c},one,x,judge,Accuracy,{3 + c % 4}", f"c{c},one,e9,expert,Accuracy,{c % 6}"]
    table.write_text("\n".join(rows))
    code, out, err = call(capsys, "agree", table, "--resamples", 100, "--json")
    assert code == 0, err
    assert files and json.loads(out)["judges"][0]["counts"]["items"] < 30
    code, out, err = call(capsys, "agree", table, "--resamples", 100, "--json", "--keep-out-of-range")
    assert code == 0, err
    assert json.loads(out)["judges"][0]["counts"]["items"] == 30


def test_without_experts_there_is_a_card_and_never_a_licence(capsys, tmp_path):
    narratives, rated = [], []
    draw = np.random.default_rng(0)
    for c in range(30):
        for severity in range(5):
            fault = "unsafe-advice" if severity else "none"
            system = f"m+{fault}-{severity}" if severity else "m"
            made = {
                "fault": fault,
                "severity": severity,
                "origin": "m",
                "target": {"Safety": severity} if severity else {},
            }
            narratives.append(Narrative(f"c{c}", system, f"text {c} {severity}", provenance=made | {"may": []}))
            values = {d: 4.0 for d in RUBRIC.names} | {"Safety": max(0.0, 4.5 - severity + draw.normal(0, 0.1))}
            rated.append(Rating(f"c{c}", system, "j", "judge", RUBRIC.id, {d: Score(v) for d, v in values.items()}))
    write_narratives(narratives, tmp_path / "graded.jsonl")
    write_ratings(rated, tmp_path / "judge.jsonl")
    code, _, err = call(capsys, "agree", tmp_path / "judge.jsonl")
    assert code == 2 and "data faults --graded" in err
    code, out, err = call(
        capsys, "agree", tmp_path / "judge.jsonl", "--doses", tmp_path / "graded.jsonl", "--gate", "--resamples", 300
    )
    assert code == 5 and out.lstrip("# ").startswith("PROVISIONAL") and "answers to" in out


def test_votes_are_categories_and_not_scores(capsys, tmp_path):
    draw = np.random.default_rng(0)
    rows = ["case_id,rater,rater_kind,vote,shown_first"]
    for c in range(60):
        truth, first = draw.choice(["A", "B"]), draw.choice(["A", "B"])
        for rater, kind, right in (
            ("e1", "expert", 0.9),
            ("e2", "expert", 0.8),
            ("e3", "expert", 0.9),
            ("j", "judge", 0.8),
        ):
            vote = truth if draw.random() < right else draw.choice(["A", "B", "tie"])
            rows.append(f"c{c},{rater},{kind},{vote},{first}")
    (tmp_path / "votes.csv").write_text("\n".join(rows))
    code, out, err = call(capsys, "agree", tmp_path / "votes.csv", "--votes", "--resamples", 200)
    assert code == 0, err
    assert "Votes: A, B, tie" in out and "alternative annotator test" in out and "shown first" in out
    assert max(map(len, out.split("\n"))) <= 120
    code, out, err = call(capsys, "agree", tmp_path / "votes.csv", "--votes", "--json", "--resamples", 200)
    assert json.loads(out)["categories"] == ["A", "B", "tie"]


def test_subgroups_need_the_cases(capsys, tmp_path):
    files = panel(tmp_path, 0.5, cases=30)
    code, _, err = call(capsys, "agree", *files, "--by", "age")
    assert code == 2 and "--bench" in err
    from dermjudge.judge.benchmark import write_benchmark

    cases = [Case(f"c{c}", tags={"sex": "female" if c % 2 else "male"}) for c in range(30)]
    write_benchmark(
        tmp_path / "b", name="b", version="1", licence="CC0-1.0", source="t", cases=cases, images={},
        extra=lambda path: None,
    )  # fmt: skip
    code, out, err = call(capsys, "agree", *files, "--by", "sex", "--bench", tmp_path / "b", "--resamples", 100)
    assert code == 0, err
    assert "### sex" in out and "female" in out
