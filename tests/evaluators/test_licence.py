"""The licence on panels with planted judges: who gets one, who does not, and what would decide."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from dermjudge.evaluators.agreement import agree
from dermjudge.evaluators.calibration import calibrate
from dermjudge.evaluators.compare import compare_judges
from dermjudge.evaluators.licence import Licence, license_judge
from dermjudge.evaluators.licence_criteria import score_criteria
from dermjudge.evaluators.licence_rules import load_rules
from dermjudge.evaluators.planning import plan
from dermjudge.evaluators.probes import ProbeSummary, summarise_probes
from dermjudge.judge.errors import InputError
from dermjudge.judge.rubric import load_rubric

LEVELS = (0, 1, 2, 3, 4, 5)
EXPERT = pl.col("rater_kind") == "expert"
Judge = Callable[[np.ndarray, np.random.Generator], np.ndarray]
FEW: dict[str, Any] = {"resamples": 200}


def whole(scores: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(scores + 0.5), 0, 5)


def like_an_expert(truth: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return whole(truth + draw.normal(0, 0.5, truth.shape))


def one_level_too_high(truth: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return np.clip(like_an_expert(truth, draw) * 0.7 + 1.5, 0, 5)


def near_the_mean(truth: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Knows next to nothing of the narrative, and keeps to the middle."""
    return 2.5 + 0.01 * (truth - 2.5) + draw.normal(0, 0.05, truth.shape)


def panel(
    judge: Judge = like_an_expert, cases: int = 80, dimensions: Sequence[str] = ("Safety",), seed: int = 0,
    spread: float = 1.1, noise: float = 0.5, raters: int = 3,
) -> pl.DataFrame:  # fmt: skip
    """Three narratives a case; experts e0 ... with `noise` round a truth of SD `spread`; judges j and blind."""
    draw = np.random.default_rng(seed)
    truth = draw.normal(2.5, spread, (cases, 3, len(dimensions)))
    columns = {f"e{r}": whole(truth + draw.normal(0, noise, truth.shape)) for r in range(raters)}
    columns |= {"j": judge(truth, draw), "blind": whole(2.5 + 0.3 * (truth - 2.5) + draw.normal(0, 0.6, truth.shape))}
    case, system, dimension = (a.ravel() for a in np.indices(truth.shape))
    return pl.concat(
        pl.DataFrame(
            {
                "case_id": [f"c{i:03d}" for i in case],
                "system": [f"s{i}" for i in system],
                "rater": name,
                "rater_kind": "expert" if name.startswith("e") else "judge",
                "dimension": [dimensions[i] for i in dimension],
                "score": scores.ravel(),
            }
        )
        for name, scores in columns.items()
    )


def probed(frame: pl.DataFrame, fall: float, noise: float = 0.3, seed: int = 1) -> ProbeSummary:
    """The swap probe of judge j: scores are lower by `fall` on average."""
    own = frame.filter(pl.col("rater") == "j")
    error = np.random.default_rng(seed).normal(0, noise, own.height)
    moved = own["score"].to_numpy() - fall + error - error.mean()
    other = own.with_columns(score=moved, flags=pl.Series([["probe:swap"]] * own.height))
    return summarise_probes(own, other, None, sorted(set(own["dimension"])), **FEW)


def licence(frame: pl.DataFrame, **more: Any) -> Licence:
    return license_judge(frame, LEVELS, "j", **FEW | more)


def states(found: Licence, dimension: str = "Safety", calibrated: bool = False) -> dict[str, bool | None]:
    one = found.of(dimension)
    criteria = one.calibrated if calibrated else one.criteria
    return {c.statistic or c.name: c.passed for c in criteria}


# Verdicts


def test_a_judge_like_an_expert_is_licensed() -> None:
    found = licence(panel())
    assert found.of("Safety").verdict == "licensed"
    assert set(states(found).values()) == {True}
    assert found.passed()
    assert "all 8 criteria hold. Nearest to its limit: " in found.of("Safety").reason


def test_a_biased_judge_is_licensed_after_calibration() -> None:
    found = licence(panel(one_level_too_high))
    assert found.of("Safety").verdict == "licensed after calibration"
    assert (states(found)["item.bias"], states(found)["judge_minus_expert.mae"]) == (False, False)
    assert set(states(found, calibrated=True).values()) == {True}
    assert found.passed()
    assert "Only scores calibrated so are licensed" in found.of("Safety").reason


def test_a_judge_near_the_mean_is_for_report_only_although_its_error_is_below_an_experts() -> None:
    found = licence(panel(near_the_mean, cases=150, spread=0.6, noise=0.9))
    one = found.of("Safety")
    assert one.results["judge_minus_expert.mae"].high < 0  # type: ignore[operator]
    assert states(found)["judge_minus_expert.mae"] is True
    assert (states(found)["loo_judge.pearson"], states(found)["judge_minus_expert.pearson"]) == (False, False)
    assert one.verdict == "report only"
    assert not found.passed()


def test_a_constant_judge_puts_nothing_in_order() -> None:
    frame = panel(lambda truth, draw: np.full(truth.shape, 2.0), spread=0.6, noise=0.9)
    found = licence(frame)
    assert found.of("Safety").results["loo_judge.pearson"].value is None
    assert states(found)["loo_judge.pearson"] is False
    assert found.of("Safety").verdict == "report only"


def test_fifteen_cases_are_not_enough_and_it_says_how_many_more() -> None:
    one = licence(panel(cases=15)).of("Safety")
    assert one.verdict == "not enough data"
    assert one.further is not None and one.further.cases == 35  # the rules ask for 50
    assert "at least 35 more independent cases" in one.reason
    assert "planned from 20 such cases on" in one.reason


def test_cases_of_one_patient_count_once() -> None:
    frame = panel(cases=80)
    two_each = {c: f"p{int(c[1:]) // 2}" for c in frame["case_id"].unique()}
    found = licence(frame, cluster=two_each)
    assert found.of("Safety").verdict == "not enough data"
    assert found.of("Safety").further.cases == 10  # type: ignore[union-attr]
    assert found.counts["clusters"] == 40
    by_column = frame.with_columns(patient_id=pl.col("case_id").replace_strict(two_each))
    assert licence(by_column).of("Safety").counts["shared_clusters"] == 40
    assert licence(by_column).settings["resampled_unit"] == "patient_id"


def test_only_cases_that_two_experts_rated_count() -> None:
    frame = panel(cases=80).filter(~(pl.col("rater").is_in(["e1", "e2"]) & (pl.col("case_id") >= "c030")))
    one = licence(frame).of("Safety")
    assert one.counts["clusters"] == 80
    assert (one.verdict, one.counts["shared_clusters"]) == ("not enough data", 30)


def test_one_expert_is_no_panel() -> None:
    one = licence(panel(raters=1)).of("Safety")
    assert one.verdict == "not enough data"
    assert "the same narratives rated by 2 experts" in one.reason


def test_adjudicated_ratings_never_license() -> None:
    stage = pl.when(EXPERT).then(pl.lit("adjudicated")).otherwise(pl.lit("independent"))
    found = licence(panel(cases=120).with_columns(stage=stage))
    one = found.of("Safety")
    assert (one.verdict, found.stage) == ("not enough data", "adjudicated")
    assert one.further is not None and one.further.cases is None
    assert "adjudicated" in one.reason and "independent ratings by experts with names" in one.reason
    assert one.results["item.mae"].value is not None  # what can be said still is


def test_experts_without_identity_never_license() -> None:
    repeat = pl.when(EXPERT).then(pl.col("rater").str.slice(1).cast(pl.Int64, strict=False)).otherwise(0)
    rater = pl.when(EXPERT).then(pl.lit("")).otherwise(pl.col("rater"))
    one = licence(panel(cases=120).with_columns(repeat=repeat, rater=rater)).of("Safety")
    assert one.verdict == "not enough data"
    assert "no identity" in one.reason


def test_a_judge_that_leaves_narratives_out_is_for_report_only() -> None:
    lost = (pl.col("rater") == "j") & (pl.col("case_id") < "c008")
    found = licence(panel().with_columns(score=pl.when(lost).then(None).otherwise(pl.col("score"))))
    assert states(found)["coverage"] is False
    assert found.of("Safety").counts["coverage"] == 0.9
    assert found.of("Safety").verdict == "report only"


# The picture


def test_without_a_probe_the_dimension_of_the_picture_is_not_licensed() -> None:
    found = licence(panel(dimensions=("Safety", "Accuracy")))
    assert {d.dimension: d.verdict for d in found.dimensions} == {"Safety": "licensed", "Accuracy": "not enough data"}
    accuracy = found.of("Accuracy")
    assert accuracy.further is not None and accuracy.further.cases == 0  # no further rating decides it
    assert "the swap probe was not run" in accuracy.reason
    assert not found.passed()
    assert found.passed(["Safety"])


@pytest.mark.parametrize(
    ("fall", "noise", "verdict"),
    [(1.0, 0.3, "licensed"), (0.0, 0.3, "report only"), (-1.0, 0.3, "report only"), (0.2, 1.5, "not enough data")],
)
def test_the_score_has_to_fall_beside_another_picture(fall: float, noise: float, verdict: str) -> None:
    frame = panel(dimensions=("Accuracy",))
    found = licence(frame, probes=probed(frame, fall, noise))
    assert found.of("Accuracy").verdict == verdict
    assert found.of("Accuracy").results["swap.mean_change"].value == pytest.approx(-fall, abs=1e-9)
    assert found.of("Accuracy").picture["pairs"] == {"swap": 240}


def test_a_probe_of_another_judge_is_no_probe() -> None:
    frame = panel(dimensions=("Accuracy",))
    other = frame.with_columns(rater=pl.col("rater").replace("blind", "x").replace("j", "blind").replace("x", "j"))
    found = license_judge(other, LEVELS, "blind", probes=probed(frame, 1.0), **FEW)
    assert found.of("Accuracy").picture["verdict"] == "the swap probe was not run"


def test_rules_that_name_no_dimension_of_these_are_said() -> None:
    assert any("tie to the picture (Accuracy)" in note for note in licence(panel()).notes)
    assert not any("tie to the picture" in note for note in licence(panel(dimensions=(" accuracy",))).notes)


# Where the numbers come from


def test_criteria_hold_the_numbers_of_agree() -> None:
    frame = panel(cases=60)
    found = licence(frame, text_only="blind", rubric="derm6@1", seed=3)
    beside = agree(frame, LEVELS, "j", seed=3, **FEW).of("j", "Safety")
    checked = {c.statistic: c.found for c in found.of("Safety").criteria if c.statistic}
    assert len(checked) == 5
    assert checked == {name: beside[name] for name in checked}
    (against,) = compare_judges(frame, LEVELS, "j", "blind", seed=3, **FEW)
    assert found.of("Safety").results["judge_minus_text_only.mae"] == against.results["difference.mae"]
    assert found.of("Safety").text_only["p_adjusted"] == against.p_adjusted
    test = found.of("Safety").alternative
    assert test["ceiling"]["loo_expert.mae"] == beside["loo_expert.mae"].to_dict()
    assert [point["epsilon"] for point in test["curve"]] == [0.05, 0.1, 0.15, 0.2, 0.3]


def test_calibrated_criteria_come_from_unseen_cases() -> None:
    frame = panel(one_level_too_high, cases=60)
    one = licence(frame).of("Safety")
    made = calibrate(frame, LEVELS, "j", **FEW)
    assert made.unseen is not None
    error = (made.unseen["calibrated"] - made.unseen["expert"]).to_numpy()
    assert one.results["calibrated.item.bias"].value == pytest.approx(error.mean(), abs=1e-9)
    in_sample = made.of("Safety").map.predict(made.unseen["raw"].to_numpy())  # type: ignore[union-attr]
    assert abs((in_sample - made.unseen["expert"].to_numpy()).mean()) < 1e-9  # the map that saw them leaves no bias
    assert one.results["calibration.after.mae"].value == pytest.approx(np.abs(error).mean(), abs=1e-9)
    assert one.calibration["method"] == "linear"


def test_calibrated_scores_off_the_scale_count() -> None:
    frame = panel(lambda t, d: np.clip(0.3 * t + 1.5 + d.normal(0, 0.1, t.shape), 0, 5), cases=60, spread=2.0)
    unseen = calibrate(frame, LEVELS, "j", **FEW).unseen
    assert unseen is not None and not unseen["calibrated"].is_between(0, 5).all()
    one = licence(frame).of("Safety")
    assert one.results["calibrated.item.bias"].n == unseen.height == 180


def test_an_agreement_saves_time_and_changes_nothing() -> None:
    frame = panel(one_level_too_high, cases=60)
    made = agree(frame, LEVELS, "j", **FEW, seed=5)
    alone = licence(frame, seed=5)
    assert licence(frame, agreement=made, seed=5).to_dict() == alone.to_dict()
    assert licence(frame, agreement=made).settings["seed"] == 5


@pytest.mark.parametrize(
    ("change", "how", "message"),
    [
        (pl.col("score"), {"alpha": 0.1}, "made with alpha 0.1; the licence needs 0.05"),
        (pl.col("score").clip(1, 5), {}, "made of other ratings"),
        (pl.when(pl.col("case_id") > "c001").then(pl.col("score")), {}, r"other ratings \(174 narratives, here 180\)"),
    ],
)
def test_an_agreement_on_other_ratings_is_refused(change: pl.Expr, how: dict[str, Any], message: str) -> None:
    frame = panel(cases=60)
    made = agree(frame.with_columns(change.alias("score")), LEVELS, "j", resamples=10, **how)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        licence(frame, agreement=made)


def test_the_order_of_rows_changes_nothing() -> None:
    frame = panel(one_level_too_high, cases=60, dimensions=("Safety", "Accuracy"))
    frame = pl.concat([frame, panel(cases=22, dimensions=("Tone",)), panel(cases=15, dimensions=("Clarity",))])
    first = licence(frame, text_only="blind", rubric="r@1")
    again = licence(frame.sample(fraction=1, shuffle=True, seed=9), text_only="blind", rubric="r@1")
    assert [d.dimension for d in again.dimensions] == ["Accuracy", "Clarity", "Safety", "Tone"]
    assert json.dumps(first.to_dict()) == json.dumps(again.to_dict())


def test_dimensions_stand_in_the_order_of_the_rubric() -> None:
    rubric = load_rubric("derm6")
    found = licence(panel(cases=15, dimensions=("Safety", "Another", "Accuracy")), rubric=rubric)
    assert [d.dimension for d in found.dimensions] == ["Accuracy", "Safety", "Another"]
    assert (found.rubric, found.rubric_hash) == (rubric.id, rubric.hash)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"text_only": "x"}, "no judge 'x' in the ratings; there are blind, j"),
        ({"rubric": "b@1"}, "the ratings carry rubric a@1; 'b@1' was asked for"),
        ({"signature": {"model": object()}}, "the signature cannot be recorded"),
        ({"rules": "nowhere.yaml"}, "cannot read the rules nowhere.yaml"),
    ],
)
def test_what_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        licence(panel(cases=20).with_columns(rubric=pl.lit("a@1")), **more)


# What would decide


def a_bit_worse(truth: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return whole(truth + draw.normal(0, 0.58, truth.shape))


def test_the_number_of_further_cases_is_that_of_a_plan() -> None:
    frame = panel(a_bit_worse, cases=55, seed=3)
    one = licence(frame).of("Safety")
    assert one.verdict == "not enough data"
    (open_,) = [c for c in one.criteria if c.passed is None]
    gap = 0.1 - open_.found.value  # type: ignore[operator]
    width = gap * 1.959964 / (1.959964 + 0.841621)  # 95 % ends, 80 % power
    design = plan(frame, LEVELS, "j", "judge_minus_expert.mae", width, systems=[], raters=[]).of("Safety").design
    assert one.further is not None and design.cases is not None and design.low is not None
    assert (one.further.cases, one.further.towards) == (design.cases - 55, "licensed")
    assert one.further.low == max(1, design.low - 55) < one.further.cases < one.further.high  # type: ignore[operator]
    assert f"about {one.further.cases} more rated cases (95 % range " in one.reason


@pytest.mark.slow
def test_with_so_many_more_cases_it_is_decided_as_often_as_promised() -> None:
    """The first panel's judge as it looks there, met again in fresh panels of the planned size (80 % asked)."""
    first = licence(panel(a_bit_worse, cases=55, seed=3)).of("Safety")
    value = first.results["judge_minus_expert.mae"].value
    cases = 55 + first.further.cases  # type: ignore[union-attr,operator]
    low, high = 0.4, 0.9  # the noise with which a judge has that error in a large panel
    for _ in range(7):
        sd = (low + high) / 2
        frame = panel(lambda t, d, sd=sd: whole(t + d.normal(0, sd, t.shape)), cases=2000, seed=77)  # type: ignore[misc]
        error = agree(frame, LEVELS, "j", resamples=1).of("j", "Safety")["judge_minus_expert.mae"].value
        low, high = (sd, high) if error < value else (low, sd)  # type: ignore[operator]
    decided = 0
    for seed in range(40):
        frame = panel(lambda t, d: whole(t + d.normal(0, sd, t.shape)), cases=cases, seed=1000 + seed)
        found = agree(frame, LEVELS, "j", **FEW).of("j", "Safety").results
        decided += score_criteria(found, False, load_rules(), LEVELS)[0].passed is True
    assert decided >= 24  # 80 % of 40 is 32, less three binomial SD


def test_a_judge_on_its_limit_gets_no_number() -> None:
    frame = panel(a_bit_worse, cases=60, seed=4)
    value = licence(frame).of("Safety").results["judge_minus_expert.mae"].value
    rules = load_rules().model_copy(update={"margin": (value + 1e-4) / 5})  # type: ignore[operator]
    one = licence(frame, rules=rules).of("Safety")
    assert one.verdict == "not enough data"
    assert one.further is not None and one.further.cases is None
    assert "lies on its limit: more than 5000 cases would be needed" in one.reason


def test_how_many_claims_were_made_is_said() -> None:
    found = licence(panel(cases=15, dimensions=tuple("abcdef")))
    assert found.family.startswith("6 dimension(s) judged, each by the ends of its own 95 % intervals")
    assert "at most about 5 %, at least one of 6 such dimensions with at most 30 %" in found.family
