"""Intervals of rates and means: against statsmodels, against the definition, and with patients who repeat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from dermjudge.evaluators.proportions import mean, rate, resampled


@settings(deadline=None)
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_one_per_patient_is_wilson(counts: tuple[int, int]) -> None:
    hits, n = counts
    found = rate([True] * hits + [False] * (n - hits), range(n))
    low, high = proportion_confint(hits, n, method="wilson")
    assert found.value == hits / n
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_identical_repeats_count_as_one_patient() -> None:
    hit = np.array([1, 1, 0, 1, 0, 0, 1, 1, 1, 0] * 4, dtype=bool)
    once = rate(hit, np.arange(40))
    thrice = rate(np.repeat(hit, 3), np.repeat(np.arange(40), 3))
    assert thrice.n == 120
    # the clustered variance divides by 39, not 40: the effective n is 39 for 40 patients
    assert thrice.low == pytest.approx(once.low, abs=0.003)
    assert thrice.high == pytest.approx(once.high, abs=0.003)


def test_only_hits_rest_on_the_number_of_patients() -> None:
    found = rate([True] * 30, np.repeat(np.arange(10), 3))
    assert found.low == pytest.approx(proportion_confint(10, 10, method="wilson")[0])
    assert found.high == pytest.approx(1)


def test_coverage_of_the_clustered_interval() -> None:
    draw = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        risk = draw.beta(1.4, 0.6, 60)  # mean 0.7, intraclass correlation 1/3
        hit = draw.random((60, 4)) < risk[:, None]
        found = rate(hit.ravel(), np.repeat(np.arange(60), 4))
        inside += found.low <= 0.7 <= found.high
    assert 0.92 <= inside / 400 <= 0.98


def test_no_data_and_one_patient() -> None:
    assert rate([], []).value is None
    assert rate([], [], what="call").reason == "no call"
    assert rate([True, False], [0, 0]).value == 0.5
    assert mean([], []).value is None


def test_mean_has_the_clustered_standard_error() -> None:
    draw = np.random.default_rng(1)
    values = np.repeat(draw.normal(0, 1, 200), 3) + draw.normal(0, 0.2, 600)
    place = np.repeat(np.arange(200), 3)
    found = mean(values, place, seed=5, resamples=4000)
    means = values.reshape(200, 3).mean(axis=1)
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(means.std(ddof=1) / np.sqrt(200), rel=0.06)
    assert mean(values, place, seed=5) == mean(values, place, seed=5)


def test_an_undefined_statistic_is_none_with_the_reason() -> None:
    found = resampled(np.zeros((2, 30)), lambda s: s[0] / s[1], 30, undefined="nothing to divide by")
    assert (found.value, found.reason) == (None, "nothing to divide by")
