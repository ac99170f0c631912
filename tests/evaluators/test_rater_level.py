import json

import numpy as np
import polars as pl
import pytest
from scipy import stats

from dermjudge.evaluators.agreement import agree
from dermjudge.evaluators.bootstrap import cluster_weights, resample
from dermjudge.evaluators.judge_cell import JudgeCell
from dermjudge.evaluators.rater_level import REDRAWN, rater_weights, redrawn_experts, stretched
from dermjudge.evaluators.ratings import read_panel
from dermjudge.evaluators.reliability import icc, krippendorff_alpha
from dermjudge.evaluators.statistics import compare

LEVELS = (0, 1, 2, 3, 4, 5)
EXPERT = pl.col("rater_kind") == "expert"


def width(estimate):
    return estimate.high - estimate.low


@pytest.mark.parametrize("continuous", [False, True])
def test_a_resample_is_the_statistic_of_repeated_cases_and_repeated_experts(simulate, continuous):
    panel = read_panel(simulate(cases=15, continuous=continuous, missing=0.3), LEVELS)
    built = JudgeCell(panel, 0, 0, np.ones(len(panel.case), bool))
    drawn = redrawn_experts(panel, built, 70, seed=3)
    x, y = panel.judges[0, :, 0], panel.experts[0]
    for b in (0, 1, 5, 66):
        weights, chosen = cluster_weights(panel.n_clusters, b // 64, 3), rater_weights(3, b // 64, 3)
        rows = np.repeat(np.arange(len(x)), weights[panel.cluster, b % 64].astype(int))
        experts = np.repeat(y[rows], chosen[:, b % 64].astype(int), axis=1)
        rated = np.isfinite(experts).any(axis=1)
        plain = compare(x[rows][rated], np.nanmean(experts[rated], axis=1))
        for name in REDRAWN:
            assert drawn[name][b] == pytest.approx(plain[name.removeprefix("item.")], abs=1e-9), name


def test_experts_are_drawn_with_replacement():
    drawn = np.concatenate([rater_weights(5, block, 0) for block in range(20)], axis=1)
    assert (drawn.sum(axis=0) == 5).all()
    assert drawn.mean() == pytest.approx(1.0)
    assert drawn.var() == pytest.approx(0.8, abs=0.03)  # multinomial: R (1/R) (1 - 1/R)
    assert not np.array_equal(rater_weights(5, 0, 0), rater_weights(5, 1, 0))


def planted(bias, cases=80, seed=0, noise=0.05):
    """Experts of known bias and little noise, so that hardly anything but the choice of experts moves the bias."""
    draw = np.random.default_rng(seed)
    truth = draw.normal(2.5, 0.8, cases)
    rows = {f"e{r}": ("expert", truth + b + draw.normal(0, noise, cases)) for r, b in enumerate(bias)}
    rows["j"] = ("judge", truth + draw.normal(0, 0.2, cases))
    parts = [
        pl.DataFrame({"case_id": [f"c{i}" for i in range(cases)], "rater": rater, "rater_kind": kind, "score": scores})
        for rater, (kind, scores) in rows.items()
    ]
    return pl.concat(parts).with_columns(system=pl.lit("s"), dimension=pl.lit("d"))


def test_planted_bias_of_experts_widens_the_interval_as_it_must():
    bias = np.array([0.6, -0.5, 0.1, 0.4, -0.3, -0.2])
    result = agree(planted(bias), LEVELS, resamples=600, resample_raters=True, keep_out_of_range=True)
    found = result.of("j", "d")
    wider = found.experts_like_these.results["item.bias"]
    assert wider.low < found["item.bias"].low < found["item.bias"].high < wider.high
    assert wider.value == found["item.bias"].value
    # Student's interval for the mean of six biases, next to which the cases are nothing.
    assert width(wider) == pytest.approx(2 * stats.t.ppf(0.975, 5) * bias.std(ddof=1) / np.sqrt(6), rel=0.05)
    assert width(found["item.bias"]) < width(wider) / 5
    assert found.experts_like_these.experts == 6
    json.dumps(result.to_dict(), allow_nan=False)


def test_draws_are_stretched_to_student_and_no_further():
    rng = np.random.default_rng(0)
    cases, experts = rng.normal(0, 0.1, 20_000), rng.normal(0, 1, 20_000)
    for among, freedom in ((0.0, 10**6), (1.0, 2)):
        drawn = stretched(3.0, 3 + cases + among * experts, 3 + cases, 3, 10**6, 0.05)
        half = stats.t.ppf(0.975, freedom) * np.sqrt(0.1**2 + among * 3 / 2)
        assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([3 - half, 3 + half], rel=0.04)
    # Of both together: Satterthwaite's degrees of freedom lie between.
    drawn = stretched(3.0, 3 + cases + 0.1 * experts, 3 + cases, 3, 51, 0.05)
    over, among = 0.1**2, 0.1**2 * 3 / 2
    half = stats.t.ppf(0.975, (over + among) ** 2 / (over**2 / 50 + among**2 / 2)) * np.sqrt(over + among)
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([3 - half, 3 + half], rel=0.04)
    same = np.full(5, 3.0)
    assert stretched(3.0, same, same, 2, 60, 0.05).tolist() == same.tolist()


def test_only_what_is_linear_in_the_experts_is_stretched(simulate):
    frame = simulate()
    found = agree(frame, LEVELS, resamples=300, seed=4, resample_raters=True).of("j0", "d0")
    panel = read_panel(frame, LEVELS)
    built = JudgeCell(panel, 0, 0, np.ones(len(panel.case), bool))
    wider, draws = redrawn_experts(panel, built, 300, 4), resample([built.cell], panel.n_clusters, 300, 4)[0]
    for name in REDRAWN:
        plain = wider[name] - np.mean(wider[name] - draws[name])
        grown = width(found.experts_like_these.results[name]) / np.diff(np.quantile(plain, [0.025, 0.975]))[0]
        assert grown > 1.5 if name in ("item.bias", "item.loa_low", "item.loa_high") else grown == pytest.approx(1)


def test_the_value_stays_inside_its_interval():
    """Drawing experts twice makes the mean noisier, which would put the error of the data below its own interval."""
    frame = planted([0.0] * 6, cases=300, noise=1.0)
    panel = read_panel(frame, LEVELS, keep_out_of_range=True)
    built = JudgeCell(panel, 0, 0, np.ones(len(panel.case), bool))
    plain = np.quantile(redrawn_experts(panel, built, 200, seed=0)["item.mae"], 0.025)
    found = agree(frame, LEVELS, resamples=200, resample_raters=True, keep_out_of_range=True).of("j", "d")
    assert found["item.mae"].value < plain
    for name in ("item.mae", "item.rmse", "item.ccc", "item.pearson", "item.spearman"):
        wider = found.experts_like_these.results[name]
        assert wider.low < wider.value < wider.high, name


def test_few_experts_are_left_out_one_at_a_time(simulate):
    frame = simulate()
    result = agree(frame, LEVELS, resamples=100, resample_raters=True)
    found = result.of("j0", "d0")
    level = found.experts_like_these
    for name in ("item.qwk", "item.alpha_with_judge", "loo_expert.mae", "judge_minus_expert.mae"):
        assert level.results[name].value == found[name].value
        assert level.results[name].low is None
        assert "3 experts" in level.results[name].reason
    rest = agree(frame.filter(pl.col("rater") != "e1"), LEVELS, resamples=64).of("j0", "d0")
    assert level.without_rater["e1"].keys() == {n for n in level.results if n not in REDRAWN}
    for name in ("item.qwk", "loo_expert.mae", "item.alpha_with_judge", "judge_minus_expert.pearson"):
        assert level.without_rater["e1"][name] == pytest.approx(rest[name].value)
    among = result.panel[0].experts_like_these
    y = read_panel(frame, LEVELS).experts[0]
    assert among.without_rater["e0"]["alpha_ordinal"] == pytest.approx(krippendorff_alpha(y[:, 1:]))
    assert "3 experts" in among.results["icc_a1"].reason


def test_jackknife_over_experts_by_hand(simulate):
    frame = simulate(raters=5, cases=80)
    result = agree(frame, LEVELS, resamples=500, resample_raters=True)
    y = read_panel(frame, LEVELS).experts[0]
    known = result.panel[0].results["icc_a1"]
    found = result.panel[0].experts_like_these.results["icc_a1"]
    left = np.array([icc(np.delete(y, r, axis=1))["icc_a1"] for r in range(5)])
    among = 4 / 5 * np.sum((left - left.mean()) ** 2)
    over = (width(known) / 2 / 1.96) ** 2  # the percentile interval of so many cases is nearly normal
    freedom = (among + over) ** 2 / (among**2 / 4 + over**2 / 79)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(among + over)
    assert found.value - found.low == pytest.approx(half, rel=0.1)
    assert found.high - found.value == pytest.approx(found.value - found.low)
    assert width(found) > width(known)


def test_alpha_is_never_of_an_expert_with_himself():
    """With replacement, a fifth of the pairs would be of one expert: alpha of experts who guess would be about 0.2."""
    draw = np.random.default_rng(0)
    rows = [
        {"case_id": f"c{c}", "system": "s", "rater": f"e{r}", "rater_kind": "expert", "dimension": "d", "score": s}
        for c in range(100)
        for r, s in enumerate(draw.integers(0, 6, 5))
    ]
    found = agree(pl.DataFrame(rows), LEVELS, resamples=300, resample_raters=True).panel[0]
    interval = found.experts_like_these.results["alpha_ordinal"]
    assert interval.low < 0 < interval.high
    assert (interval.low + interval.high) / 2 == pytest.approx(interval.value) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (
            lambda f: f.with_columns(pl.when(EXPERT).then(pl.lit("")).otherwise(pl.col("rater")).alias("rater")),
            "identity",
        ),
        (lambda f: f.with_columns(stage=pl.lit("adjudicated")), "adjudicated"),
        (lambda f: f.filter(~EXPERT | (pl.col("rater") == "e0")), "at least two"),
    ],
)
def test_refusals_have_a_reason(simulate, change, word):
    result = agree(change(simulate()), LEVELS, resamples=64, resample_raters=True)
    level = result.of("j0", "d0").experts_like_these
    assert level.without_rater == {}
    assert word in level.notes[0]
    assert level.results["item.bias"].value is not None
    for estimate in level.results.values():
        assert (estimate.low, estimate.high) == (None, None)
        assert estimate.reason
    assert word in level.results["item.mae"].reason
    json.dumps(result.to_dict(), allow_nan=False)


def test_beside_each_other_with_their_populations(simulate):
    plain = agree(simulate(), LEVELS, resamples=64)
    both = agree(simulate(), LEVELS, resamples=64, resample_raters=True, by="system")
    assert plain.of("j0", "d0").results == both.of("j0", "d0").results
    assert plain.settings["populations"] == {"results": "new cases, these experts"}
    assert both.settings["populations"]["experts_like_these"] == "new cases, experts like these"
    assert plain.of("j0", "d0").experts_like_these is None
    assert "experts_like_these" not in plain.to_dict()["judges"][0]
    found = both.to_dict()["judges"][0]["experts_like_these"]
    assert found["population"] == "new cases, experts like these"
    assert "3 experts: intervals" in found["notes"][0]
    assert both.of("j0", "d0", "s1").experts_like_these.results["item.mae"].low is not None


def test_few_cases_and_a_mute_judge(simulate):
    found = agree(simulate(cases=15, raters=5), LEVELS, resamples=64, resample_raters=True).of("j0", "d0")
    level = found.experts_like_these.results
    assert all("15 clusters" in level[n].reason for n in ("item.bias", "item.qwk"))
    mute = simulate().with_columns(pl.when(EXPERT).then(pl.col("score")).alias("score"))
    level = agree(mute, LEVELS, resamples=64, resample_raters=True).of("j0", "d0").experts_like_these
    assert all(e.value is None and e.reason for e in level.results.values())


@pytest.mark.slow
def test_coverage_when_experts_are_redrawn():
    """Six experts of bias SD 0.4 drawn anew each time: cases-only intervals of the bias miss far too often."""
    draw, hits = np.random.default_rng(1), {"cases": 0, "both": 0}
    for _ in range(100):
        frame = planted(draw.normal(0, 0.4, 6), cases=60, seed=int(draw.integers(2**31)))
        panel = read_panel(frame, LEVELS, keep_out_of_range=True)
        built = JudgeCell(panel, 0, 0, np.ones(len(panel.case), bool))
        wider = redrawn_experts(panel, built, 256, seed=0)["item.bias"]
        alone = resample([built.cell], panel.n_clusters, 256, seed=0)[0]["item.bias"]
        for name, draws in (("cases", alone), ("both", wider)):
            low, high = np.quantile(draws, [0.025, 0.975])
            hits[name] += low <= 0 <= high
    assert hits["cases"] < 50 < 80 <= hits["both"]
