import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score, mean_absolute_error, root_mean_squared_error

from dermjudge.evaluators.statistics import (
    best_constant,
    cohen_kappa,
    compare,
    exact_ranks,
    joint_table,
    moment_features,
    moment_statistics,
    quadratic_kappa,
    rank_statistics,
    ranked_probability_score,
    round_half_up,
    weighted_quantile,
)
from dermjudge.judge.errors import InputError

level = st.integers(0, 5)
pairs_of_levels = st.lists(st.tuples(level, level), min_size=2, max_size=40)


def two_raters(n=300, seed=0, step=1.0):
    draw = np.random.default_rng(seed)
    truth = draw.normal(2.5, 1.2, n)
    x, t = (np.clip(np.round((truth + draw.normal(b, 0.7, n)) / step) * step, 0, 5) for b in (0.3, 0.0))
    return x, t


@pytest.mark.parametrize("step", [1.0, 0.5, 1e-6])
def test_against_scipy_and_scikit_learn(step):
    x, t = two_raters(step=step)
    found = compare(x, t)
    assert found["pearson"] == pytest.approx(stats.pearsonr(x, t).statistic, abs=1e-9)
    assert found["spearman"] == pytest.approx(stats.spearmanr(x, t).statistic, abs=1e-9)
    assert found["kendall_tau_b"] == pytest.approx(stats.kendalltau(x, t, variant="b").statistic, abs=1e-9)
    assert found["mae"] == pytest.approx(mean_absolute_error(t, x), abs=1e-9)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(t, x), abs=1e-9)


def test_many_distinct_values_keep_ranks_exact():
    x, t = two_raters(n=4000, step=1e-9)
    assert exact_ranks(x, t)["kendall_tau_b"] == pytest.approx(stats.kendalltau(x, t).statistic, abs=1e-12)
    assert exact_ranks(x, t)["spearman"] == pytest.approx(stats.spearmanr(x, t).statistic, abs=1e-12)


def test_the_noise_of_floats_orders_nothing():
    assert compare([0.1 + 0.2, 0.3, 0.9], [1, 2, 3])["kendall_tau_b"] == pytest.approx(2 / math.sqrt(6))
    assert compare([1, 2, 3], [0.1 + 0.2, 0.3, 0.9])["spearman"] == pytest.approx(math.sqrt(3) / 2)
    assert compare([0.1 + 0.2, 0.3], [1, 2])["spearman"] is None
    x, t = two_raters(step=1e-6)
    noisy = x + np.random.default_rng(0).normal(0, 1e-13, len(x))
    twice = np.r_[x, noisy], np.r_[t, t[::-1]]
    assert len(np.unique(twice[0])) > 2 * len(x) - 60
    theirs = stats.kendalltau(np.r_[x, x], twice[1]).statistic
    assert exact_ranks(*twice)["kendall_tau_b"] == pytest.approx(theirs, abs=1e-12)


def test_bland_altman_by_hand():
    x, t = two_raters()
    d, middle = x - t, (x + t) / 2
    found = compare(x, t)
    assert found["bias"] == pytest.approx(d.mean(), abs=1e-12)
    assert found["loa_low"] == pytest.approx(d.mean() - 1.96 * d.std(ddof=1), abs=1e-12)
    assert found["loa_high"] == pytest.approx(d.mean() + 1.96 * d.std(ddof=1), abs=1e-12)
    assert found["slope"] == pytest.approx(stats.linregress(middle, d).slope, abs=1e-12)


def test_two_column_icc_against_pingouin():
    pg = pytest.importorskip("pingouin")
    pd = pytest.importorskip("pandas")
    x, t = two_raters()
    long = pd.DataFrame(
        {"item": np.tile(np.arange(len(x)), 2), "rater": np.repeat(["x", "t"], len(x)), "y": np.r_[x, t]}
    )
    table = pg.intraclass_corr(long, "item", "rater", "y").set_index("Type")["ICC"]
    found = compare(x, t)
    for ours, theirs in (("icc_1", "ICC(1,1)"), ("icc_a1", "ICC(A,1)"), ("icc_c1", "ICC(C,1)")):
        assert found[ours] == pytest.approx(table[theirs], abs=1e-9)


def test_quadratic_kappa_uses_the_full_scale():
    x, t = two_raters()
    x, t = np.where(x == 1, 2, x), np.where(t == 1, 2, t)  # level 1 is on the scale and never used
    table = np.zeros((6, 6, 1))
    np.add.at(table, (x.astype(int), t.astype(int), 0), 1)
    oracle = cohen_kappa_score(x.astype(int), t.astype(int), weights="quadratic", labels=list(range(6)))
    assert quadratic_kappa(table)[0] == pytest.approx(oracle, abs=1e-9)
    assert abs(oracle - cohen_kappa_score(x.astype(int), t.astype(int), weights="quadratic")) > 1e-4


def test_within_keeps_thirds_and_halves_inside():
    found = compare([10 / 3, 2.5, 3.0], [10 / 3 - 1, 2.0, 1.9])
    assert (found["within_0.5"], found["within_1"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("x", "t", "undefined"),
    [
        ([3, 3, 3], [1, 2, 3], {"pearson", "spearman", "kendall_tau_b"}),
        ([1, 2, 3], [3.1, 3.1, 3.1], {"pearson", "spearman", "kendall_tau_b"}),
        ([2, 2], [2, 2], {"pearson", "spearman", "kendall_tau_b", "ccc", "slope", "icc_1", "icc_a1", "icc_c1"}),
    ],
)
def test_undefined_is_none(x, t, undefined):
    found = compare(x, t)
    assert {k for k, v in found.items() if v is None} == undefined


def test_missing_pairs_do_not_count():
    assert compare([1, 2, np.nan, 4], [1, 3, 3, np.nan]) == pytest.approx(compare([1, 2], [1, 3]), abs=1e-12)
    assert all(v is None for v in compare([np.nan], [1]).values())
    with pytest.raises(InputError, match="one length"):
        compare([1, 2], [1])


@given(pairs_of_levels)
def test_quadratic_kappa_is_ccc_on_one_integer_scale(pairs):
    x, t = np.array(pairs, dtype=float).T
    table = np.zeros((6, 6, 1))
    np.add.at(table, (x.astype(int), t.astype(int), 0), 1)
    kappa, ccc = quadratic_kappa(table)[0], compare(x, t)["ccc"]
    assert (ccc is None and math.isnan(kappa)) or kappa == pytest.approx(ccc, abs=1e-9)


@given(pairs_of_levels)
def test_ranks_are_those_of_scipy(pairs):
    x, t = np.array(pairs, dtype=float).T
    found = exact_ranks(x, t)
    if np.ptp(x) == 0 or np.ptp(t) == 0:
        assert all(math.isnan(v) for v in found.values())
        return
    assert found["spearman"] == pytest.approx(stats.spearmanr(x, t).statistic, abs=1e-9)
    assert found["kendall_tau_b"] == pytest.approx(stats.kendalltau(x, t).statistic, abs=1e-9)


@settings(max_examples=50)
@given(pairs_of_levels, st.integers(0, 2**32 - 1))
def test_weights_are_repetitions(pairs, seed):
    """A weighted statistic equals the plain one on the items repeated as often as the weight says."""
    x, t = np.array(pairs, dtype=float).T
    weights = np.random.default_rng(seed).integers(0, 4, len(x))
    again_x, again_t = np.repeat(x, weights), np.repeat(t, weights)
    weighted = moment_statistics(moment_features(x, t, 2.5) @ weights[:, None].astype(float))
    plain = compare(again_x, again_t)
    for name, value in weighted.items():
        assert (plain[name] is None and not np.isfinite(value[0])) or plain[name] == pytest.approx(value[0], abs=1e-9)
    table = np.zeros((6, 6, 1))
    np.add.at(table, (x.astype(int), t.astype(int), 0), weights)
    for name, value in rank_statistics(table).items():
        assert (plain[name] is None and not np.isfinite(value[0])) or plain[name] == pytest.approx(value[0], abs=1e-9)


def within(t, c, limit):
    return np.mean(np.abs(t - c) <= limit + 1e-9)


@given(st.lists(st.integers(0, 15), min_size=1, max_size=30))
def test_no_constant_beats_the_best(thirds):
    t = np.array(thirds) / 3
    values, counts = np.unique(t, return_counts=True)
    best = {k: float(v[0]) for k, v in best_constant(counts[:, None], values).items()}
    numbers = np.arange(0, 6.01, 1 / 6)
    assert best["mae"] == pytest.approx(min(np.abs(t - c).mean() for c in numbers), abs=1e-12)
    assert best["rmse"] == pytest.approx(t.std(), abs=1e-7)
    assert best["within_0.5"] == pytest.approx(max(within(t, c, 0.5) for c in numbers))
    assert best["within_1"] == pytest.approx(max(within(t, c, 1.0) for c in numbers))
    assert best["constant"] == np.quantile(t, 0.5, method="lower")
    assert (best["mae"] == 0) == (np.ptp(t) == 0)  # no noise of floats: skill divides by it


def test_the_median_is_not_the_best_constant_within_a_distance():
    """Two camps, 0 to 1 and 4 to 5, and 2 between them: at the median nearly nobody is near."""
    t = np.repeat([0.0, 1, 2, 4, 5], [3, 3, 1, 3, 3])
    best = {k: float(v[0]) for k, v in best_constant(np.array([[3], [3], [1], [3], [3]]), np.unique(t)).items()}
    assert (best["constant"], within(t, 2.0, 0.5), within(t, 2.0, 1.0)) == (2.0, 1 / 13, 4 / 13)
    assert (best["within_0.5"], best["within_1"]) == (pytest.approx(6 / 13), pytest.approx(7 / 13))
    assert best["mae"] == pytest.approx(24 / 13)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 15), min_size=1, max_size=12, unique=True), st.integers(0, 2**32 - 1))
def test_the_best_constant_of_many_weightings_at_once(thirds, seed):
    values = np.array(sorted(thirds)) / 3
    weights = np.random.default_rng(seed).integers(0, 3, (len(values), 5))
    found = best_constant(weights.astype(np.float32), values)
    for b, weight in enumerate(weights.T):
        if not weight.any():
            assert all(np.isnan(v[b]) for v in found.values())
            continue
        t = np.repeat(values, weight)
        again = best_constant(np.unique(t, return_counts=True)[1][:, None], np.unique(t))
        assert {k: v[b] for k, v in found.items()} == pytest.approx({k: v[0] for k, v in again.items()}, abs=1e-7)


def test_icc_of_agreement_tends_to_ccc():
    gaps = []
    for n in (50, 5000):
        found = compare(*two_raters(n))
        gaps.append(abs(found["icc_a1"] - found["ccc"]))
    assert gaps[1] < gaps[0] / 20


def test_joint_table_counts_every_pair():
    assert joint_table(np.array([1.0, 1, 5]), np.array([2.0, 3, 3]))[:, :, 0].tolist() == [[1, 1], [0, 1]]


def test_rounding_stays_on_the_scale():
    assert round_half_up(np.array([-0.2, 0.5, 5.4]), range(6)).tolist() == [0, 1, 5]


@given(st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(any), st.integers(0, 3))
def test_ranked_probability_score_is_the_crps_of_the_levels(weights, y):
    """Against the energy form E|X - y| - E|X - X'| / 2 (Gneiting and Raftery 2007, eq. 21)."""
    p, levels = np.array(weights) / sum(weights), np.arange(4)
    energy = p @ np.abs(levels - y) - p @ np.abs(levels[:, None] - levels) @ p / 2
    assert ranked_probability_score(p[None, :], np.array([[y, np.nan]], float), levels)[0] == pytest.approx(
        energy, abs=1e-12
    )


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 3)), min_size=1, max_size=20), st.floats(0, 1))
def test_weighted_quantile_is_that_of_the_repeated_items(rows, share):
    values, index = np.unique([v for v, _ in rows], return_inverse=True)
    weights = np.bincount(index, [w for _, w in rows], len(values))[:, None]
    repeated = np.repeat(values, weights[:, 0].astype(int))
    found = weighted_quantile(weights, values.astype(float), share)[0]
    assert np.isnan(found) if not len(repeated) else found == pytest.approx(np.quantile(repeated, share), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_cohen_kappa_against_scikit_learn(pairs):
    x, t = np.array(pairs).T
    table = np.zeros((4, 4, 1))
    np.add.at(table, (x, t, 0), 1)
    found = cohen_kappa(table)[0]
    if len(set(x) | set(t)) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(cohen_kappa_score(x, t), abs=1e-9)
