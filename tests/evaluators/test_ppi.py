import json
import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.evaluators.ppi import FEWEST_RATED_CASES, ppi_leaderboard, ppi_mean
from dermjudge.judge.errors import InputError

LEVELS = (0, 1, 2, 3, 4, 5)
EXPERT = pl.col("rater_kind") == "expert"
A, B, C = (("s0", "image_only"), ("s1", "image_only"), ("s2", "image_only"))


def few_labels(frame, rated):
    """Experts rated only the first `rated` of the cases, which are exchangeable."""
    number = pl.col("case_id").str.slice(1).cast(pl.Int64)
    return frame.filter(~EXPERT | (number < rated))


def draw_sample(draw, cases, rated, noise, per_case=1):
    """Expert and judge scores (items,), labels in `rated` random cases, and the case of each item."""
    truth = draw.normal(2.5, 0.7, (cases, 1)) + draw.normal(0, 0.7, (cases, per_case))
    y = np.clip(np.floor(truth + draw.normal(0, 0.5, truth.shape) + 0.5), 0, 5)
    x = 0.8 * truth + 1.2 + draw.normal(0, noise, truth.shape)
    y[draw.permutation(cases)[rated:]] = np.nan
    return y.ravel(), x.ravel(), np.repeat(np.arange(cases), per_case)


@pytest.fixture(scope="module")
def ppi_py():
    if "numba" not in sys.modules:
        try:
            import numba  # noqa: F401
        except ImportError:  # it only compiles quantile and regression code, which is not called here
            sys.modules["numba"] = SimpleNamespace(njit=lambda function: function)
    return pytest.importorskip("ppi_py")


@pytest.mark.parametrize("rated", [50, 100, 190])
@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
def test_against_ppi_python(ppi_py, rated, noise):
    y, x, _ = draw_sample(np.random.default_rng(rated), rated + 780, rated, noise)
    labelled = np.isfinite(y)
    arrays = y[labelled], x[labelled], x[~labelled]
    found = ppi_mean(y, x)
    low, high = map(np.asarray, ppi_py.ppi_mean_ci(*arrays, alpha=0.05))
    assert found.estimate.value == pytest.approx(np.squeeze(ppi_py.ppi_mean_pointestimate(*arrays)), abs=1e-9)
    # ppi_py divides variances by n, we by n - 1; from 100 labels on that is below 0.003.
    half = (found.estimate.high - found.estimate.low) / 2
    assert half * (1 - 1 / rated) ** 0.5 == pytest.approx(np.squeeze(high - low) / 2, abs=1e-9)
    if rated >= 100:
        assert found.estimate.low == pytest.approx(np.squeeze(low), abs=0.003)
        assert found.estimate.high == pytest.approx(np.squeeze(high), abs=0.003)
    assert found.estimate.n == rated
    assert found.unlabelled == 780


def test_golden_values_of_ppi_python():
    """ppi_mean_pointestimate and ppi_mean_ci of ppi-python 0.2.3 on the same numbers."""
    i = np.arange(600)
    x = np.round(2.5 + 1.2 * np.sin(i * 1.7) + 0.5 * np.cos(i * 0.9), 2)
    y = np.clip(np.round(0.7 * x + 0.9 + 0.8 * np.sin(i * 2.3)), 0, 5)
    found = ppi_mean(np.where(i < 150, y, np.nan), x).estimate
    assert found.value == pytest.approx(2.6513281, abs=1e-7)
    assert (found.low, found.high) == pytest.approx((2.53415448, 2.76850171), abs=0.001)


def test_the_formula_by_hand():
    y = np.array([1.0, 2, 3, 4, 5] * 4 + [np.nan] * 20)
    x = np.concatenate([np.array([1.0, 1, 3, 4, 4] * 4), np.tile([0.0, 2, 4, 5], 5)])
    lam = np.cov(x[:20], y[:20], ddof=0)[0, 1] / (2 * x.var(ddof=1))
    found = ppi_mean(y, x)
    assert found.lam == pytest.approx(lam)
    assert found.estimate.value == pytest.approx(3 + lam * (2.75 - 2.6))
    variance = ((y - lam * x)[:20].var() / 20 + lam**2 * x[20:].var() / 20) * 20 / 19
    assert found.estimate.high - found.estimate.value == pytest.approx(1.959964 * variance**0.5, abs=1e-6)
    assert found.judge.value == pytest.approx(x.mean())
    assert found.equivalent_labels == pytest.approx(20 * (y[:20].var() / 20 * 20 / 19) / variance)


@given(st.integers(0, 1000), st.floats(-3, 3), st.floats(0.2, 4))
def test_shifting_the_judge_changes_nothing(seed, shift, scale):
    """The judge's own scale does not matter until lambda meets the end of its range."""
    y, x, case = draw_sample(np.random.default_rng(seed), 120, 40, 1.5, 2)
    plain, moved = ppi_mean(y, x, case), ppi_mean(y, x * scale + shift, case)
    if 0 < plain.lam < 1 and 0 < moved.lam < 1:
        assert moved.estimate.low == pytest.approx(plain.estimate.low, abs=1e-9)
    assert moved.classical == plain.classical
    assert plain.width_ratio < 1.05


@pytest.mark.parametrize(("per_case", "noise", "narrower"), [(1, 0.3, 0.75), (3, 0.8, 0.85), (3, 6.0, 1.01)])
def test_coverage_where_the_truth_is_known(per_case, noise, narrower):
    draw = np.random.default_rng(5)
    truth = np.nanmean(draw_sample(draw, 200_000, 200_000, noise)[0])
    found = [ppi_mean(*draw_sample(draw, 400, 80, noise, per_case)) for _ in range(600)]
    assert np.mean([f.estimate.low <= truth <= f.estimate.high for f in found]) >= 0.93
    assert np.median([f.width_ratio for f in found]) < narrower
    # The interval is as wide as the estimates really scatter.
    spread = np.std([f.estimate.value for f in found])
    width = np.mean([(f.estimate.high - f.estimate.low) / 3.92 for f in found])
    assert width / spread == pytest.approx(1, abs=0.09)


def test_clusters_widen_the_interval():
    y, x, case = draw_sample(np.random.default_rng(0), 200, 60, 0.8, 3)
    alone, together = ppi_mean(y, x), ppi_mean(y, x, case)
    assert together.estimate.value == alone.estimate.value
    assert together.clusters == 60
    for result in ("estimate", "classical"):
        narrow, wide = (getattr(f, result).high - getattr(f, result).low for f in (alone, together))
        assert wide > 1.08 * narrow


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda y, x: (y, np.full_like(x, 4.0)), "constant (4)"),
        (lambda y, x: (y, np.where(np.isfinite(y), 4.0, x)), "constant (4) on the rated"),
        (lambda y, x: (y, np.where(np.isfinite(y), x, np.nan)), "nothing to add"),
        (lambda y, x: (y, np.where(np.isfinite(y), np.nan, x)), "no narrative has both"),
        (lambda y, x: (np.where(np.cumsum(np.isfinite(y)) <= 19, y, np.nan), x), "19 rated clusters are too few"),
    ],
)
def test_fallback_to_the_classical_mean(change, reason):
    y, x = change(*draw_sample(np.random.default_rng(1), 100, 30, 0.5)[:2])
    found = ppi_mean(y, x)
    assert reason in found.fallback
    assert found.estimate == found.classical
    assert found.lam is None
    assert found.estimate.value == pytest.approx(np.nanmean(y))
    assert (found.estimate.low is None) == ("too few" in reason)
    assert (found.width_ratio is None) == ("too few" in reason)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_judge_against_the_experts_is_not_used():
    y, x, _ = draw_sample(np.random.default_rng(1), 100, 30, 0.2)
    found = ppi_mean(y, -x)
    assert found.lam == 0
    assert found.fallback is None
    assert found.estimate == found.classical


def test_a_label_without_a_judge_score_still_counts():
    """A judge that refuses the worst cases must not raise the mean."""
    y, x, _ = draw_sample(np.random.default_rng(2), 3000, 1000, 0.3)
    worst = x < np.quantile(x, 0.15)
    found = ppi_mean(y, np.where(worst, np.nan, x))
    assert found.classical.n == found.estimate.n == 1000
    assert found.estimate.low < ppi_mean(y, x).estimate.value < found.estimate.high


def test_lengths_and_alpha():
    with pytest.raises(InputError, match="one length"):
        ppi_mean([1, 2], [1])
    with pytest.raises(InputError, match="alpha"):
        ppi_mean([1, 2], [1, 2], alpha=2)


def test_leaderboard(simulate):
    frame = few_labels(simulate(cases=300, missing=0.0), 80)
    board = ppi_leaderboard(frame, LEVELS, "j0")
    # The panel plants -0.4, 0, +0.4 for s0, s1, s2.
    assert board.ranking == (C, B, A)
    assert board.stands and board.rated_cases == 80 >= FEWEST_RATED_CASES
    full = simulate(cases=300, missing=0.0).filter(EXPERT)
    for system in (A, B, C):
        for dimension in ("d0", "d1"):
            found = board.of(system, dimension)
            truth = full.filter((pl.col("system") == system[0]) & (pl.col("dimension") == dimension))["score"].mean()
            assert found.estimate.n == 80 and found.unlabelled == 220
            assert found.estimate.low - 0.05 < truth < found.estimate.high + 0.05
            assert found.width_ratio < 0.85
            assert found.equivalent_labels > 110
    overall = board.of(B)
    assert overall.classical.value == pytest.approx(
        (board.of(B, "d0").classical.value + board.of(B, "d1").classical.value) / 2
    )
    lead = board.difference(C, A)
    assert lead.estimate.low > 0.4
    assert lead.estimate.value == pytest.approx(0.8, abs=0.25)
    assert lead.classical.n == 80
    assert all(d.paired for d in board.differences)
    assert len(board.differences) == 3 * 3
    assert json.loads(json.dumps(board.to_dict(), allow_nan=False))["ranking"][0] == list(C)


def test_below_fifty_rated_cases_it_does_not_stand(simulate):
    board = ppi_leaderboard(few_labels(simulate(cases=120, missing=0.0), 49), LEVELS, "j0")
    assert not board.stands
    assert any("49 cases are rated" in note for note in board.notes)
    assert board.of(A).estimate.low is not None


def test_a_constant_judge_on_the_leaderboard(simulate):
    frame = few_labels(simulate(cases=120), 60)
    frame = frame.with_columns(pl.when(EXPERT).then(pl.col("score")).otherwise(pl.lit(4.0)).alias("score"))
    board = ppi_leaderboard(frame, LEVELS, "j0")
    assert all("constant (4)" in s.mean.fallback for s in board.standings)
    assert all(s.mean.estimate == s.mean.classical for s in board.standings)


def test_systems_rated_on_different_cases(simulate):
    """No pairs, so the difference is that of the means; common patients still count."""
    frame = simulate(cases=300, missing=0.0)
    number = pl.col("case_id").str.slice(1).cast(pl.Int64)
    own = pl.col("system").str.slice(1).cast(pl.Int64) == number % 3
    board = ppi_leaderboard(frame.filter(~EXPERT | (own & (number < 180))), LEVELS, "j0")
    found = next(d for d in board.differences if (d.first, d.second, d.dimension) == (C, A, None))
    assert not found.paired
    means = board.of(C), board.of(A)
    difference = found.difference
    assert difference.estimate.value == pytest.approx(means[0].estimate.value - means[1].estimate.value)
    assert difference.estimate.n == 120
    assert difference.estimate.low < 0.8 < difference.estimate.high


def test_rated_cases_that_are_no_random_sample_are_remarked_on(simulate):
    frame = simulate(cases=300, systems=1, missing=0.0)
    means = frame.filter(~EXPERT).group_by("case_id").agg(pl.col("score").mean()).sort("score", "case_id")
    best = means["case_id"].tail(100).to_list()
    word = "hardly a random sample"
    picked = ppi_leaderboard(frame.filter(~EXPERT | pl.col("case_id").is_in(best)), LEVELS, "j0")
    assert any(word in note for note in picked.notes)
    assert picked.of(A, "d0").imbalance < -3
    drawn = ppi_leaderboard(few_labels(frame, 100), LEVELS, "j0")
    assert not any(word in note for note in drawn.notes)


def test_patients_are_the_clusters(simulate):
    frame = few_labels(simulate(cases=200, missing=0.0), 100)
    patient = {f"c{i}": f"p{i // 4}" for i in range(200)}
    board = ppi_leaderboard(frame, LEVELS, "j0", patient)
    assert board.of(A).clusters == 25
    assert board.difference(C, A).clusters == 25
    assert board.settings["clusters"] == 50


def test_who_is_missing(simulate):
    frame = simulate(cases=30)
    with pytest.raises(InputError, match="no judge 'j9' in the ratings; there are j0"):
        ppi_leaderboard(frame, LEVELS, "j9")
    with pytest.raises(InputError, match="no expert score"):
        ppi_leaderboard(frame.filter(~EXPERT), LEVELS, "j0")
    unrated = ppi_leaderboard(frame.filter(~EXPERT | (pl.col("system") != "s1")), LEVELS, "j0")
    assert unrated.ranking[-1] == B
    assert unrated.of(B).estimate.value is None
    assert unrated.difference(C, B).estimate.value is None
    with pytest.raises(InputError, match="no standing"):
        unrated.of(("s9", "image_only"))
    with pytest.raises(InputError, match="no difference"):
        unrated.difference(B, C)
    json.dumps(unrated.to_dict(), allow_nan=False)
