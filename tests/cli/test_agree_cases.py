"""`agree --where-label-agrees`, `--scores-by` and `calibrate --intervals-by`: a judge on some of the cases."""

import json

import numpy as np
import pytest
from PIL import Image as Pillow

from dermjudge.cli.main import main
from dermjudge.judge.benchmark import write_benchmark
from dermjudge.judge.records import Case, Image, Narrative, Rating, Score
from dermjudge.judge.rubric import load_rubric
from dermjudge.judge.tables import write_narratives, write_ratings

RUBRIC = load_rubric("derm6")
CASES = 80


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """80 cases, of which every second has a reference that fits; the judge is a point higher on sex female."""
    root = tmp_path_factory.mktemp("cases")
    draw = np.random.default_rng(1)
    Pillow.new("RGB", (16, 16), (120, 90, 60)).save(root / "p.png")
    cases, experts, judged, answers = [], [], [], []
    for k in range(CASES):
        named = "psoriasis" if k % 2 else "melanoma"
        text = f"The most likely diagnosis is {named}."
        tags = {"sex": "female" if k < 40 else "male"}
        cases.append(Case(f"c{k}", (Image("images/p.png"),), diagnosis=("psoriasis",), reference=text, tags=tags))
        truth = draw.integers(1, 4, len(RUBRIC.names)).astype(float)
        for rater in ("e1", "e2"):
            scores = {d: Score(v) for d, v in zip(RUBRIC.names, truth.tolist(), strict=True)}
            experts.append(Rating(f"c{k}", "m", rater, "expert", RUBRIC.id, scores))
        said = truth + (k < 40) * draw.integers(0, 3, len(truth)) / 2
        scores = {d: Score(v) for d, v in zip(RUBRIC.names, said.tolist(), strict=True)}
        judged.append(Rating(f"c{k}", "m", "j", "judge", RUBRIC.id, scores))
        block = json.dumps({"scores": dict(zip(RUBRIC.names, np.rint(said).astype(int).tolist(), strict=True))})
        answers.append(json.dumps({"case_id": f"c{k}", "system": "m", "answer": block}))
    write_ratings(experts, root / "experts.jsonl")
    write_ratings(judged, root / "j.jsonl")
    (root / "answers.jsonl").write_text("\n".join(answers))
    write_benchmark(
        root / "bench", name="toy", version="1", licence="CC0-1.0", source="t", cases=cases,
        images={"images/p.png": root / "p.png"},
        extra=lambda path: write_narratives([Narrative(c.id, "m", "1. psoriasis") for c in cases],
                                            path / "narratives.jsonl"),
    )  # fmt: skip
    return root


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err


def test_a_judge_on_all_cases_and_where_the_label_agrees(capsys, study):
    asked = ("agree", study / "experts.jsonl", study / "j.jsonl", "--where-label-agrees", "--resamples", 100)
    code, out, err = call(capsys, *asked, "--bench", study / "bench", "--json")
    assert code == 0, err
    found = json.loads(out)["where_label_agrees"]
    assert (found["cases"], found["agreeing"]) == (CASES, CASES // 2)
    assert found["readings"]["stances"]["agrees"]["count"] == CASES // 2
    assert found["all"][0]["counts"]["items"] == CASES and found["subset"][0]["counts"]["items"] == CASES // 2
    code, _, err = call(capsys, *asked)
    assert code == 2 and "--where-label-agrees needs --bench" in err


def test_without_experts_there_are_scores_by_group_and_by_label(capsys, study):
    asked = ("agree", study / "j.jsonl", "--bench", study / "bench", "--resamples", 100)
    code, out, err = call(capsys, *asked, "--where-label-agrees", "--scores-by", "sex")
    assert code == 0, err
    assert "### Mean scores" in out and "40 of the 80 rated cases" in out and "against experts" not in out
    assert "## Scores of j by groups of cases" in out and max(map(len, out.splitlines())) <= 120
    code, out, err = call(capsys, *asked, "--scores-by", "sex", "--json")
    assert code == 0, err
    rows = json.loads(out)["scores_by"]["j"]["groups"]
    mine = {g["group"]: g for g in rows if g["metric"] == "score Accuracy"}
    assert mine["female"]["counts"]["cases"] == 40 and mine["female"]["gap"]["low"] > 0 > mine["male"]["gap"]["high"]
    assert mine["female"]["p_adjusted"] < 0.05
    code, _, err = call(capsys, *asked)
    assert code == 2 and "no expert score" in err  # nothing to compare with, and nothing asked that needs none
    code, _, err = call(capsys, *asked, "--scores-by", "agee")
    assert code == 2 and "--scores-by: the cases have no 'agee'" in err
    code, _, err = call(capsys, *asked, "--scores-by", "sex", "--judge", "k")
    assert code == 2 and "no judge 'k'; there are j" in err


def test_intervals_go_by_subgroup_and_are_applied_so(capsys, study, tmp_path):
    judge = f"replay:{study / 'answers.jsonl'}"
    code, _, err = call(capsys, "score", study / "bench", "--judge", judge, "--out", tmp_path / "run")
    assert code == 0, err
    made = tmp_path / "cal.json"
    asked = ("calibrate", study / "experts.jsonl", tmp_path / "run/ratings.jsonl", "--judge", "replay:answers.jsonl",
             "--out", made)  # fmt: skip
    code, out, err = call(capsys, *asked, "--bench", study / "bench", "--intervals-by", "sex")
    assert code == 0, err
    assert "Accuracy" in out and "female" in out and "group" in out
    kept = json.loads(made.read_text())["intervals"]
    assert kept["grouped"] and kept["by"] == "sex"
    code, out, err = call(
        capsys, "score", study / "bench", "--judge", judge, "--out", tmp_path / "run", "--calibration", made
    )
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "run/calibrated.jsonl").read_text().splitlines()]
    width = {sex: np.mean([r["high"] - r["low"] for r in rows if r["high"] is not None and (int(r["case_id"][1:]) < 40)
                           == (sex == "female")]) for sex in ("female", "male")}  # fmt: skip
    assert width["male"] < width["female"]  # the judge errs on female cases only
    code, _, err = call(capsys, *asked, "--intervals-by", "sex")
    assert code == 2 and "--intervals-by needs --bench" in err
    code, _, err = call(capsys, *asked, "--bench", study / "bench", "--intervals-by", "sex,age")
    assert code == 2 and "takes one attribute" in err
