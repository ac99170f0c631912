import json

import numpy as np
import polars as pl
import pytest
from scipy import stats

from dermjudge.evaluators.agreement import agree
from dermjudge.evaluators.compare import compare_judges, sign_flip
from dermjudge.judge.errors import InputError

LEVELS = (0, 1, 2, 3, 4, 5)


def test_difference_and_ratio(simulate):
    frame = simulate(cases=100, judges=(0.3, 1.2), continuous=True)
    found = compare_judges(frame, LEVELS, "j0", "j1", resamples=300)[0]
    both = agree(frame, LEVELS, resamples=64)
    a, b = (both.of(j, "d0")["item.mae"].value for j in ("j0", "j1"))
    assert found.results["difference.mae"].value == pytest.approx(a - b)
    assert found.results["ratio.mae"].value == pytest.approx(a / b)
    assert found.results["ratio.mae"].high < 1
    assert found.results["difference.pearson"].low > 0
    assert found.p_value == pytest.approx(1 / 301)
    assert found.p_adjusted == pytest.approx(2 / 301)
    assert found.family == "holm over 2 dimensions of j0 against j1"
    json.dumps(found.to_dict(), allow_nan=False)


def test_pairing_cancels_what_both_judges_share(simulate):
    """Two judges that differ by little noise: the paired interval is far narrower than the two intervals apart."""
    frame = simulate(cases=100, judges=(0.5,), continuous=True)
    twin = frame.filter(pl.col("rater") == "j0").with_columns(
        rater=pl.lit("j1"), score=(pl.col("score") + pl.int_range(pl.len()) % 2 * 0.02).clip(0, 5)
    )
    found = compare_judges(pl.concat([frame, twin]), LEVELS, "j0", "j1", resamples=300)[0].results
    width = {k: found[k].high - found[k].low for k in ("a.mae", "difference.mae")}
    assert width["difference.mae"] < width["a.mae"] / 10


def test_only_items_that_both_scored(simulate):
    frame = simulate(judges=(0.5, 0.5))
    drop = (pl.col("rater") == "j1") & (pl.col("case_id") < "c3")
    found = compare_judges(frame.filter(~drop), LEVELS, "j0", "j1", resamples=64)[0]
    assert found.counts["items"] == found.counts["items_b"] < found.counts["items_a"]
    alone = frame.filter(~((pl.col("case_id") < "c3") & (pl.col("rater_kind") == "judge")))
    assert found.results["a.mae"].value == agree(alone, LEVELS, resamples=64).of("j0", "d0")["item.mae"].value


def test_sign_flip_against_the_exact_test():
    sums = np.random.default_rng(0).normal(0.35, 1, 12)
    exact = stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip(sums, 20000, 0) == pytest.approx(exact, abs=0.012)
    assert sign_flip(np.zeros(4), 100, 0) is None


def test_sign_flip_keeps_its_level():
    draw = np.random.default_rng(1)
    p = [sign_flip(draw.normal(0, 1, 25), 200, s) for s in range(300)]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.085


def test_a_constant_judge_and_few_cases(simulate):
    frame = simulate(cases=10, judges=(0.5, 0.5)).with_columns(
        pl.when(pl.col("rater") == "j1").then(2.0).otherwise(pl.col("score")).alias("score")
    )
    found = compare_judges(frame, LEVELS, "j0", "j1", resamples=64)[0]
    assert "constant (2)" in found.results["difference.pearson"].reason
    assert (found.p_value, found.p_adjusted) == (None, None)
    assert "10 clusters" in found.results["difference.mae"].reason


def test_wrong_names(simulate):
    frame = simulate(cases=5)
    with pytest.raises(InputError, match="no judge 'x'"):
        compare_judges(frame, LEVELS, "j0", "x")
    with pytest.raises(InputError, match="compared with itself"):
        compare_judges(frame, LEVELS, "j0", "j0")
