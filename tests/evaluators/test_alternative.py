import json

import numpy as np
import polars as pl
import pytest
from scipy import stats

from dermjudge.evaluators.alternative import alternative_annotator, alternative_test, signed_rank_test
from dermjudge.evaluators.multiplicity import adjust
from dermjudge.judge.errors import InputError

LEVELS = range(6)


def panel(items=80, raters=4, noise=0.5, missing=0.2, seed=0):
    draw = np.random.default_rng(seed)
    truth = draw.normal(2.5, 1.2, items)
    y = np.clip(np.round(truth[:, None] + draw.normal(0, 0.7, (items, raters))), 0, 5)
    y[draw.random(y.shape) < missing] = np.nan
    return np.clip(np.round(truth + draw.normal(0, noise, items)), 0, 5), y


def by_hand(x, y, epsilon, q):
    """Item by item with RMSE and scipy's t-test."""
    p, advantages = [], []
    for j in range(y.shape[1]):
        wins_f, wins_h = [], []
        for i in range(len(x)):
            others = [y[i, k] for k in range(y.shape[1]) if k != j and np.isfinite(y[i, k])]
            if not others or not np.isfinite(y[i, j]):
                continue
            f = round(-np.sqrt(np.mean([(x[i] - o) ** 2 for o in others])), 9)
            h = round(-np.sqrt(np.mean([(y[i, j] - o) ** 2 for o in others])), 9)
            wins_f.append(f >= h)
            wins_h.append(h >= f)
        d = np.array(wins_h, float) - np.array(wins_f, float)
        p.append(stats.ttest_1samp(d, epsilon, alternative="less").pvalue)
        advantages.append(np.mean(wins_f))
    rejected = [a <= q for a in adjust(p, "by")]
    return np.mean(rejected), np.mean(advantages), p


@pytest.mark.parametrize("noise", [0.3, 0.8, 1.5])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.2])
def test_against_the_slow_form(noise, epsilon):
    x, y = panel(noise=noise)
    rate, advantage, p = by_hand(x, y, epsilon, 0.05)
    found = alternative_annotator(x, y, epsilon=epsilon)
    assert found.winning_rate == rate
    assert found.advantage_probability == pytest.approx(advantage, abs=1e-12)
    assert [t.p_value for t in found.raters] == pytest.approx(p, abs=1e-9)
    assert found.passed == (rate >= 0.5)


def test_curve_rises_with_epsilon():
    found = alternative_annotator(*panel(noise=0.8))
    rates = [rate for _, rate in found.curve]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]
    assert dict(found.curve)[0.2] == found.winning_rate


def test_clusters_count_once():
    """Every item doubled within its cluster: the clustered test is as sure as with the single items, not surer."""
    x, y = panel(items=60)
    plain = alternative_annotator(x, y)
    doubled = alternative_annotator(np.tile(x, 2), np.tile(y, (2, 1)), np.tile(np.arange(60), 2))
    assert [t.p_value for t in doubled.raters] == pytest.approx([t.p_value for t in plain.raters], abs=1e-12)
    naive = alternative_annotator(np.tile(x, 2), np.tile(y, (2, 1)))
    assert all(n.p_value < t.p_value for n, t in zip(naive.raters, plain.raters, strict=True) if t.p_value < 0.5)


def test_no_variance_is_decided_by_the_sign():
    y = np.tile([[1.0, 2.0, 3.0]], (40, 1))
    found = alternative_annotator(np.full(40, 2.0), y)
    # The judge equals the middle expert: nearer than the outer two, tied with the middle one.
    assert [t.mean_difference for t in found.raters] == [-1.0, 0.0, -1.0]
    assert [t.p_value for t in found.raters] == [0.0, 0.0, 0.0]
    worse = alternative_annotator(np.full(40, 5.0), y)
    assert worse.winning_rate == 0.0


def test_few_items_go_to_wilcoxon():
    found = alternative_annotator(*panel(items=24, missing=0.0))
    assert {t.test for t in found.raters} == {"Wilcoxon signed ranks of cluster means"}


@pytest.mark.parametrize("n", [1, 5, 9, 13, 14, 20])
def test_signed_ranks_are_those_of_scipy(n):
    draw = np.random.default_rng(n)
    for epsilon in (0.0, 0.2):
        d = draw.choice([-1.0, 0.0, 0.5, 1.0], n, p=[0.4, 0.2, 0.2, 0.2]) - epsilon
        d[0] = -1.0
        assert signed_rank_test(d) == pytest.approx(stats.wilcoxon(d, alternative="less").pvalue, abs=1e-12)
    d = draw.normal(-0.5, 1, n)
    assert signed_rank_test(d) == pytest.approx(stats.wilcoxon(d, alternative="less").pvalue, abs=1e-12)
    assert signed_rank_test(np.zeros(n)) == 1.0


def test_scores_that_were_kept_out_of_range_count(simulate):
    frame = simulate(judges=(0.3,)).with_columns(
        pl.when((pl.col("rater") == "j0") & (pl.col("case_id") < "c3"))
        .then(9.0)
        .otherwise(pl.col("score"))
        .alias("score")
    )
    plain, kept = (alternative_test(frame, LEVELS, "j0", resamples=64, keep_out_of_range=k)[0] for k in (False, True))
    assert plain.raters[0].n < kept.raters[0].n
    assert plain.advantage_probability > kept.advantage_probability


def test_hugging_the_mean_wins_here_and_loses_on_rank(simulate):
    """The pitfall that the ceiling stands beside the result for."""
    frame = simulate(cases=100, systems=1, raters=4, missing=0.0)
    mean = frame.filter(pl.col("rater_kind") == "expert")["score"].mean()
    noise = np.random.default_rng(0).normal(mean, 0.02, frame.height)
    frame = frame.with_columns(
        pl.when(pl.col("rater_kind") == "judge").then(pl.Series(noise)).otherwise(pl.col("score")).alias("score")
    )
    found = alternative_test(frame, LEVELS, "j0", epsilon=0.3, resamples=64)[0]
    assert found.ceiling["loo_judge.pearson"].value < 0.3 < found.ceiling["loo_expert.pearson"].value
    assert found.to_dict()["ceiling"].keys() == {
        "loo_judge.mae",
        "loo_expert.mae",
        "loo_judge.pearson",
        "loo_expert.pearson",
    }


def test_family_over_dimensions_is_stricter(simulate):
    frame = simulate(cases=60, dimensions=3)
    wide = alternative_test(frame, LEVELS, "j0", resamples=64)
    narrow = alternative_test(frame, LEVELS, "j0", resamples=64, across_dimensions=False)
    for a, b in zip(wide, narrow, strict=True):
        assert [t.p_value for t in a.raters] == [t.p_value for t in b.raters]
    p = [t.p_value for result in wide for t in result.raters]
    assert [t.p_adjusted for result in wide for t in result.raters] == adjust(p, "by")
    assert wide[0].family == "BY over experts x dimensions"
    json.dumps([r.to_dict() for r in wide], allow_nan=False)


def test_refusals(simulate):
    two = alternative_test(simulate(raters=2), LEVELS, "j0", resamples=64)[0]
    assert two.winning_rate is None
    assert "needs 3" in two.reason
    frame = simulate()
    nameless = frame.with_columns(
        pl.when(pl.col("rater_kind") == "expert").then(pl.lit("")).otherwise(pl.col("rater")).alias("rater")
    )
    assert "no identity" in alternative_test(nameless, LEVELS, "j0", resamples=64)[0].reason
    settled = frame.with_columns(stage=pl.lit("adjudicated"))
    assert "adjudicated" in alternative_test(settled, LEVELS, "j0", resamples=64)[0].reason
    with pytest.raises(InputError, match="needs 3"):
        alternative_annotator(np.zeros(5), np.zeros((5, 2)))
    with pytest.raises(InputError, match=r"\(items, raters\)"):
        alternative_annotator(np.zeros(4), np.zeros((5, 3)))
