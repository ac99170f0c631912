from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dermjudge.evaluators.ranking import (
    pairwise_accuracy,
    system_features,
    system_statistics,
    within_case_features,
)

scores = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=25)


@given(scores)
def test_pairs_within_a_case(rows):
    x, t, case = np.array(rows, dtype=float).T
    found = within_case_features(x, t, case.astype(int), case.astype(int), 5).sum(axis=1)
    pairs = alike = 0.0
    for i, j in combinations(range(len(x)), 2):
        if case[i] == case[j] and t[i] != t[j]:
            pairs += 1
            alike += 0.5 if x[i] == x[j] else float((x[i] > x[j]) == (t[i] > t[j]))
    assert found[:2].tolist() == [pairs, alike]
    accuracy = pairwise_accuracy(found[:, None])[0]
    assert np.isnan(accuracy) if pairs == 0 else accuracy == alike / pairs


def system_table(means_x, means_t):
    n = len(means_x)
    system = np.arange(n)
    return system_features(np.array(means_x), np.array(means_t), system, n, np.zeros(n, int), 1)


def test_system_means_against_scipy():
    x, t = [3.0, 2.5, 4.0, 2.5, 1.0], [2.9, 3.1, 3.5, 3.1, 2.0]
    found = {k: v[0] for k, v in system_statistics(system_table(x, t)).items()}
    assert found["pearson"] == pytest.approx(stats.pearsonr(x, t).statistic, abs=1e-12)
    assert found["spearman"] == pytest.approx(stats.spearmanr(x, t).statistic, abs=1e-12)
    assert found["kendall_tau_b"] == pytest.approx(stats.kendalltau(x, t).statistic, abs=1e-12)
    # Nine pairs differ in t; (0, 1) and (0, 3) are ordered the other way.
    assert found["accuracy"] == pytest.approx(7 / 9)
    assert found["mae"] == pytest.approx(np.abs(np.subtract(x, t)).mean())


def test_a_system_without_items_makes_the_resample_undefined():
    sums = np.repeat(system_table([1.0, 2, 3], [1.0, 2, 3]), 2, axis=1)
    sums[[0, 3, 6], 1] = 0
    for values in system_statistics(sums).values():
        assert np.isfinite(values[0])
        assert np.isnan(values[1])


def test_two_systems_have_no_correlation():
    found = system_statistics(system_table([1.0, 2], [1.0, 3]))
    assert found["accuracy"][0] == 1
    assert np.isnan(found["spearman"][0])
