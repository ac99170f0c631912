"""Probes: a judge that looks is told from one that does not, and what cannot be said is not said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import ttest_1samp

from dermjudge.evaluators.bootstrap import Estimate
from dermjudge.evaluators.probes import ANSWERS, NO_EVIDENCE, ProbeSummary, _verdict, cluster_t_test, summarise_probes
from dermjudge.evaluators.ratios import per_cluster
from dermjudge.judge.errors import InputError
from dermjudge.judge.ratings import ratings_to_frame
from dermjudge.judge.records import Rating, Score

DIMENSIONS = ("Accuracy", "Safety")
Read = Callable[[float, float, np.random.Generator], float]  # true score, true change, noise -> predicted score


def looks(true: float, change: float, draw: np.random.Generator) -> float:
    return true + change + draw.normal(0, 0.2)


def blind(true: float, change: float, draw: np.random.Generator) -> float:
    return true + draw.normal(0, 0.2)


def probed(
    judge: Read, cases: int = 60, name: str = "j", probe: str = "swap", seed: int = 0, per_patient: int = 2
) -> dict[str, Any]:
    """Accuracy falls by 1 to 2 beside another picture, Safety does not; `judge` scores Accuracy."""
    draw = np.random.default_rng(seed)
    own: list[Rating] = []
    other: list[Rating] = []
    truth: list[dict[str, Any]] = []
    for i in range(cases):
        level, fall = draw.uniform(2, 5), -draw.uniform(1, 2)
        key = {"case_id": f"c{i}", "system": "s", "arm": "image_only", "sample": 0}
        for rows, beside, flags in (
            (own, 0.0, ()),
            (other, fall, ("text out of domain", f"probe:{probe}", "shown:c9")),
        ):
            scores = {"Accuracy": Score(judge(level, beside, draw)), "Safety": Score(level + draw.normal(0, 0.2))}
            rows.append(Rating(**key, rater=name, rater_kind="judge", rubric="two@1", scores=scores, flags=flags,
                               narrative_hash=f"h{i}"))  # fmt: skip
        truth += [key | {"probe": probe, "dimension": "Accuracy", "own": level, "probed": level + fall},
                  key | {"probe": probe, "dimension": "Safety", "own": level, "probed": level}]  # fmt: skip
    return {
        "ratings_frame": ratings_to_frame(own), "probes_frame": ratings_to_frame(other), "truth": pl.DataFrame(truth),
        "clusters": {f"c{i}": f"p{i // per_patient}" for i in range(cases)},
    }  # fmt: skip


def summary(made: dict[str, Any], **more: Any) -> ProbeSummary:
    return summarise_probes(**{"dimensions": DIMENSIONS, "resamples": 300, **made, **more})


def test_changes_by_hand() -> None:
    made = probed(blind, cases=4)
    values = {"own": [4.0, 3.0, 2.0, 1.0], "other": [1.0, 3.0, 2.5, 0.25]}
    for frame, name in (("ratings_frame", "own"), ("probes_frame", "other")):
        column = pl.Series([v for v in values[name] for _ in DIMENSIONS])
        made[frame] = made[frame].with_columns(score=column)
    found = summary(made, truth=None).of("j", "swap", "Accuracy")
    value = {name: estimate.value for name, estimate in found.results.items()}
    assert value == {"mean_change": -3.25 / 4, "mean_absolute_change": 4.25 / 4, "moved": 0.5, "lowered": 0.5}
    assert (found.pairs, found.planned, found.clusters) == (4, 4, 2)  # a change of exactly 0.5 has not moved


def test_a_judge_that_looks_answers_in_the_dimension_it_reads_there() -> None:
    found = summary(probed(looks))
    accuracy, safety = found.of("j", "swap", "Accuracy"), found.of("j", "swap", "Safety")
    assert (accuracy.answers, accuracy.verdict) == (True, ANSWERS)
    assert (safety.answers, safety.verdict) == (False, NO_EVIDENCE)
    assert found.lines["j"].startswith("j: answers to the picture in 1 of 2 dimensions (Accuracy); no evidence")
    assert found.lines["j"].endswith("in Safety.")
    change = accuracy.results["mean_change"]
    assert change.value == pytest.approx(-1.5, abs=0.15)
    assert change.low is not None and change.high is not None
    assert change.low < -1.5 < change.high < 0
    correlation = accuracy.results["truth_correlation"]
    assert correlation.value is not None and correlation.low is not None
    assert 0.5 < correlation.low < correlation.value < 1
    assert accuracy.results["truth_mae"].value == pytest.approx(0.2 * np.sqrt(2 / np.pi), abs=0.04)  # folded normal
    assert "same in every narrative" in (safety.results["truth_correlation"].reason or "")


def test_the_truth_correlation_is_pearsons() -> None:
    made = probed(looks)
    scores = [
        made[name].filter(pl.col("dimension") == "Accuracy")["score"] for name in ("probes_frame", "ratings_frame")
    ]
    truth = made["truth"].filter(pl.col("dimension") == "Accuracy")
    predicted, true = scores[0] - scores[1], truth["probed"] - truth["own"]
    expected = np.corrcoef(predicted.to_numpy(), true.to_numpy())[0, 1]
    assert summary(made).of("j", "swap", "Accuracy").results["truth_correlation"].value == pytest.approx(expected)


def test_a_blind_judge_gets_no_evidence_and_no_benefit_of_noise() -> None:
    found = summary(probed(blind, seed=2))
    assert [r.answers for r in found.results] == [False, False]
    assert found.lines == {"j": f"j: {NO_EVIDENCE} in any dimension."}
    deaf = probed(blind)
    deaf["probes_frame"] = deaf["probes_frame"].with_columns(score=deaf["ratings_frame"]["score"])
    same = summary(deaf).of("j", "swap", "Accuracy")
    assert (same.results["mean_change"].low, same.results["mean_change"].high, same.answers) == (0.0, 0.0, False)
    assert "predicted change is the same" in (same.results["truth_correlation"].reason or "")


def test_cluster_t_test_is_the_t_test_where_every_cluster_holds_one() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 25)
    assert cluster_t_test(values, np.ones(25)) == pytest.approx(ttest_1samp(values, 0).pvalue, rel=1e-12)
    assert cluster_t_test(np.append(values, 0.0), np.append(np.ones(25), 0)) == cluster_t_test(values, np.ones(25))
    assert cluster_t_test(np.zeros(5), np.ones(5)) == 1.0
    assert cluster_t_test(np.full(5, -2.0), np.full(5, 2.0)) == 0.0
    assert cluster_t_test(np.ones(1), np.ones(1)) is None


def test_the_test_keeps_its_level_with_few_and_uneven_clusters() -> None:
    draw = np.random.default_rng(1)
    sizes = draw.integers(1, 5, 22)
    cluster = np.repeat(np.arange(22), sizes)
    hits = 0
    for _ in range(400):
        values = draw.normal(0, 0.3, 22)[cluster] + draw.normal(0, 0.4, len(cluster))
        hits += (cluster_t_test(*per_cluster(values, cluster, 22)) or 0) < 0.05
    assert hits <= 36  # 5 % of 400 is 20, its standard deviation 4.4; taking items for independent gives about 60


@pytest.mark.parametrize(("seed", "dimension"), [(1, "Safety"), (5, "Accuracy"), (10, "Safety")])
def test_a_chance_hit_in_one_of_several_dimensions_is_no_answer(seed: int, dimension: str) -> None:
    found = summary(probed(blind, seed=seed)).of("j", "swap", dimension)
    low, high = found.results["mean_change"].low, found.results["mean_change"].high
    assert low is not None and high is not None
    assert low > 0 or high < 0  # leaves 0 out on its own, but not as one of two
    assert found.answers is False


def test_rising_beside_a_wrong_picture_is_said() -> None:
    found = summary(probed(lambda true, change, draw: true - change)).of("j", "swap", "Accuracy")
    assert found.answers is True
    assert found.verdict == f"{ANSWERS}, but rises beside a wrong one"


def test_a_verdict_needs_the_interval_and_the_test() -> None:
    def answers(low: float, high: float, p: float) -> bool | None:
        return _verdict("swap", Estimate(-0.1, 30, low, high), p)[0]

    assert (answers(-0.2, -0.01, 0.04), answers(-0.2, 0.01, 0.04), answers(-0.2, -0.01, 0.06)) == (True, False, False)


@pytest.mark.parametrize(("cases", "verdict"), [(38, None), (40, True)])
def test_a_verdict_needs_twenty_clusters(cases: int, verdict: bool | None) -> None:
    found = summary(probed(looks, cases=cases))
    accuracy = found.of("j", "swap", "Accuracy")
    assert accuracy.clusters == cases // 2
    assert accuracy.answers is verdict
    if verdict is None:
        assert "19 clusters" in accuracy.verdict
        assert found.lines["j"] == "j: no verdict in any dimension."


def test_only_swap_gives_a_verdict() -> None:
    found = summary(probed(looks, probe="blank"))
    assert [r.answers for r in found.results] == [None, None]
    assert found.results[0].results["mean_change"].value is not None
    assert "swap probe was not run" in found.lines["j"]


def test_unscored_pairs_are_counted_and_left_out() -> None:
    made = probed(looks)
    refused = (pl.col("case_id").is_in([f"c{i}" for i in range(10)])) & (pl.col("dimension") == "Accuracy")
    made["probes_frame"] = made["probes_frame"].with_columns(
        score=pl.when(~refused).then(pl.col("score")), state=pl.when(refused).then(pl.lit("refused")).otherwise("state")
    )
    found = summary(made).of("j", "swap", "Accuracy")
    assert (found.pairs, found.planned) == (50, 60)
    assert found.states == {"scored": 50, "refused": 10}
    nothing = made["probes_frame"].with_columns(score=None, state=pl.lit("input_error"))
    empty = summary({**made, "probes_frame": nothing}).of("j", "swap", "Accuracy")
    assert (empty.pairs, empty.answers, empty.results["mean_change"].value) == (0, None, None)
    assert empty.verdict == "no verdict: no narrative is scored beside both pictures"


def test_judges_and_probes_are_kept_apart_and_the_result_is_plain_json() -> None:
    one, two = probed(looks, name="sees"), probed(blind, name="blind", seed=2)
    blank = probed(looks, name="sees", probe="blank")
    made = {
        "ratings_frame": pl.concat([one["ratings_frame"], two["ratings_frame"]]),
        "probes_frame": pl.concat([one["probes_frame"], two["probes_frame"], blank["probes_frame"]]),
        "clusters": one["clusters"],
    }
    found = summary(made)
    assert {(r.judge, r.probe) for r in found.results} == {("sees", "swap"), ("sees", "blank"), ("blind", "swap")}
    assert found.of("sees", "swap", "Accuracy").answers is True
    assert found.of("blind", "swap", "Accuracy").answers is False
    json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(InputError, match="no probe result"):
        found.of("sees", "swap", "Beauty")


def test_bad_input_is_refused() -> None:
    made = probed(looks, cases=4)
    with pytest.raises(InputError, match="carry no flag such as 'probe:swap'"):
        summary({**made, "probes_frame": made["ratings_frame"]})
    with pytest.raises(InputError, match="no ratings beside the own pictures"):
        summary({**made, "ratings_frame": made["ratings_frame"].with_columns(rater=pl.lit("other"))})
    with pytest.raises(InputError, match="another text than rated, first: c"):
        summary({**made, "probes_frame": made["probes_frame"].with_columns(narrative_hash=pl.lit("x"))})
    with pytest.raises(InputError, match=r"truth lacks .* probed"):
        summary({**made, "truth": made["truth"].drop("probed")})
    with pytest.raises(InputError, match=r"'Safety' is no dimension of these: Accuracy"):
        summary(made, dimensions=("Accuracy",))
    with pytest.raises(InputError, match="share their key"):
        summary({**made, "probes_frame": pl.concat([made["probes_frame"]] * 2)})


@pytest.mark.parametrize(("share", "answers"), [(0.02, False), (0.2, True)])
def test_a_change_too_small_to_matter_is_no_answer_however_sure(share: float, answers: bool) -> None:
    def hardly(true: float, change: float, draw: np.random.Generator) -> float:
        return true + share * change

    found = summary(probed(hardly)).of("j", "swap", "Accuracy")
    change = found.results["mean_change"]
    assert change.high is not None
    assert change.high < 0  # the interval alone would call both an answer
    assert found.answers is answers
