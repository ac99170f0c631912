import numpy as np
import pytest
from scipy import stats

from dermjudge.evaluators import bootstrap
from dermjudge.evaluators.bootstrap import BLOCK, Cell, Sums, cluster_weights, interval, jackknife, resample


def mean_cell(values, cluster, n_clusters):
    sums = Sums(np.arange(len(values)), cluster, n_clusters)
    sums.add("moments", np.stack([np.ones(len(values)), values]))
    return Cell((sums,), lambda found: {"mean": found["moments"][1] / found["moments"][0]})


def clustered(clusters=80, size=5, seed=0):
    draw = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(clusters), size)
    return draw.normal(0, 1, clusters)[cluster] + draw.normal(0, 1, clusters * size), cluster


def test_weights_are_draws_with_replacement():
    weights = cluster_weights(30, 3, seed=1)
    assert weights.shape == (30, BLOCK)
    assert (weights.sum(axis=0) == 30).all()
    many = np.concatenate([cluster_weights(30, b, 0) for b in range(100)], axis=1)
    # A count is binomial(30, 1/30): mean 1, variance 29/30.
    assert many.mean() == pytest.approx(1)
    assert many.var() == pytest.approx(29 / 30, abs=0.01)
    assert not np.array_equal(weights, cluster_weights(30, 4, seed=1))


def test_resample_equals_repeating_the_rows():
    values, cluster = clustered(clusters=12, size=3)
    drawn = resample([mean_cell(values, cluster, 12)], 12, 10, seed=5)[0]["mean"]
    weights = cluster_weights(12, 0, 5)
    for b in range(10):
        repeated = np.repeat(values, weights[cluster, b].astype(int))
        assert drawn[b] == pytest.approx(repeated.mean(), abs=1e-12)


@pytest.mark.parametrize("early", [False, True])
def test_sums_are_the_same_by_code_and_by_cluster(early):
    draw = np.random.default_rng(0)
    code, cluster = draw.integers(0, 7, 200), draw.integers(0, 20, 200)
    sums = Sums(code, cluster, 20)
    sums.early = early
    features = draw.normal(size=(3, 7))
    sums.add("f", features)
    sums.add_table("t", np.array([0, 1, -1, 0, 1, 0, 1]), np.array([2, 1, 0, 0, -1, 2, 1]), (2, 3))
    sums.add_direct("d", np.arange(20.0)[None, :])
    weights = cluster_weights(20, 0, 0)
    seen = {}
    resample([Cell((sums,), lambda found: seen.update({k: v.copy() for k, v in found.items()}) or {})], 20, BLOCK, 0)
    found = seen
    np.testing.assert_allclose(found["d"], np.arange(20.0)[None, :] @ weights, atol=1e-9)
    each = weights[cluster]
    np.testing.assert_allclose(found["f"], features[:, code] @ each, atol=1e-9)
    expected = np.zeros((2, 3, BLOCK))
    for item, c in enumerate(code):
        row, column = [0, 1, -1, 0, 1, 0, 1][c], [2, 1, 0, 0, -1, 2, 1][c]
        if row >= 0 and column >= 0:
            expected[row, column] += each[item]
    np.testing.assert_array_equal(found["t"], expected)


def test_draws_depend_on_the_seed_alone(monkeypatch):
    values, cluster = clustered()
    cell = mean_cell(values, cluster, 80)
    whole = resample([cell], 80, 700, seed=3)[0]["mean"]
    monkeypatch.setattr(bootstrap, "BUFFER_BYTES", 1)  # one block
    other = mean_cell(values + 1, cluster, 80)
    first, second = resample([cell, other], 80, 700, seed=3)  # and one cell at a time
    np.testing.assert_array_equal(whole, first["mean"])
    np.testing.assert_allclose(whole + 1, second["mean"])
    np.testing.assert_array_equal(whole[:100], resample([cell], 80, 100, seed=3)[0]["mean"])
    assert not np.array_equal(whole, resample([cell], 80, 700, seed=4)[0]["mean"])


def test_standard_error_is_the_cluster_robust_one():
    """agreement of the bootstrap SE of a mean with statsmodels' cluster SE within 3 %."""
    sm = pytest.importorskip("statsmodels.api")
    values, cluster = clustered(clusters=300)
    drawn = resample([mean_cell(values, cluster, 300)], 300, 8000, seed=0)[0]["mean"]
    fit = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    assert drawn.std() == pytest.approx(fit.bse[0], rel=0.03)
    naive = values.std() / np.sqrt(len(values))
    assert drawn.std() > 1.5 * naive


def test_jackknife_leaves_each_cluster_out():
    values, cluster = clustered(clusters=70, size=2)
    left = jackknife([mean_cell(values, cluster, 70)], 70)[0]["mean"]
    expected = [values[cluster != c].mean() for c in range(70)]
    np.testing.assert_allclose(left, expected, atol=1e-12)


def test_percentiles_and_bca_against_scipy():
    values = np.random.default_rng(1).exponential(size=100)
    cell = mean_cell(values, np.arange(100), 100)
    drawn = resample([cell], 100, 20000, seed=0)[0]["mean"]
    low, high, undefined = interval(drawn, 0.05)
    assert (low, high, undefined) == (*np.quantile(drawn, [0.025, 0.975]), 0)
    left = jackknife([cell], 100)[0]["mean"]
    low, high, _ = interval(drawn, 0.05, values.mean(), left)
    oracle = stats.bootstrap((values,), np.mean, n_resamples=20000, method="BCa", rng=0).confidence_interval
    # Both sides draw: tolerances are three Monte Carlo errors; the percentile ends lie outside them.
    assert low == pytest.approx(oracle.low, abs=0.01)
    assert high == pytest.approx(oracle.high, abs=0.025)
    assert low > np.quantile(drawn, 0.025) + 0.015
    assert high > np.quantile(drawn, 0.975) + 0.03


def test_undefined_draws_widen_the_interval_and_many_remove_it():
    draws = np.linspace(0, 1, 1000)
    some = draws.copy()
    some[500:510] = np.nan
    low, high, undefined = interval(some, 0.05)
    assert undefined == 10
    assert low < np.quantile(draws, 0.025)
    assert high > np.quantile(draws, 0.975)
    some[500:600] = np.nan
    assert interval(some, 0.05) == (None, None, 100)
