import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermjudge.evaluators.conformal import Conformal, conformal_quantile, cv_plus, fewest_cases, fit_conformal
from dermjudge.judge.errors import InputError

WIDE = (-1e9, 1e9)  # a scale that cuts nothing


def band(wanted: float, draws: int) -> float:
    """Half width of the binomial band in which a true coverage of `wanted` falls in 999 of 1000 experiments."""
    return 3.3 * math.sqrt(wanted * (1 - wanted) / draws)


def covered(found: Conformal, predicted: np.ndarray, target: np.ndarray, **rest: object) -> np.ndarray:
    low, high, _ = found.intervals(predicted, **rest)
    return (low - 1e-9 <= target) & (target <= high + 1e-9)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 400), st.integers(1, 99))
def test_the_rank_is_exact(n, percent):
    """Against rational arithmetic: floats must not move (n + 1)(1 - alpha) over a whole number."""
    rank = math.ceil((n + 1) * (1 - Fraction(percent, 100)))
    residuals = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    q = conformal_quantile(residuals, percent / 100)
    assert q == (rank if rank <= n else None)
    found = fit_conformal(np.zeros(n), residuals, percent / 100, WIDE).strata[""]
    assert (found.upper.quantile if found.upper else None) == q
    assert (found.upper is None) == (n < fewest_cases(percent / 100))


def test_against_crepes():
    crepes = pytest.importorskip("crepes")
    draw = np.random.default_rng(0)
    for n, alpha in ((50, 0.1), (123, 0.05), (77, 0.2), (1000, 0.1)):
        x, y = draw.normal(2.5, 1, n), draw.normal(2.5, 1, n)
        bins, spread = draw.integers(0, 3, n), draw.uniform(0.5, 2, n)
        new, new_bins, new_spread = draw.normal(2.5, 1, 40), np.arange(40) % 3, draw.uniform(0.5, 2, 40)
        for use_bins in (False, True):
            for use_spread in (False, True):
                oracle = crepes.ConformalRegressor().fit(
                    residuals=y - x, bins=bins if use_bins else None, sigmas=spread if use_spread else None
                )
                wanted = oracle.predict_int(
                    new,
                    bins=new_bins if use_bins else None,
                    sigmas=new_spread if use_spread else None,
                    # crepes truncates (1 - confidence) (n + 1), which float noise puts below a whole number.
                    confidence=1 - alpha - 1e-12,
                )
                group, size = (bins.astype(str) if use_bins else None), (spread if use_spread else None)
                found = fit_conformal(x, y, alpha, WIDE, group=group, spread=size)
                low, high, reasons = found.intervals(
                    new, new_bins.astype(str) if use_bins else None, new_spread if use_spread else None
                )
                np.testing.assert_allclose(np.column_stack([low, high]), wanted, atol=1e-9)
                assert reasons == [None] * 40


def test_split_coverage():
    """One new score per calibration set, so that draws are independent: coverage is rank / (n + 1) exactly."""
    draw = np.random.default_rng(1)
    for n, alpha in ((9, 0.1), (30, 0.2)):
        hits = []
        for _ in range(1200):
            x = draw.normal(0, 1, n + 1)
            y = 0.7 * x + draw.gumbel(0, 1, n + 1)
            hits.append(covered(fit_conformal(x[:n], y[:n], alpha, WIDE), x[n:], y[n:])[0])
        exact = math.ceil((n + 1) * (1 - alpha) - 1e-9) / (n + 1)
        assert np.mean(hits) == pytest.approx(exact, abs=band(exact, 1200))


def test_whole_number_scores_cover_too_much_unless_randomised():
    draw = np.random.default_rng(2)
    hits: dict[bool, list[bool]] = {False: [], True: []}
    widths: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(1200):
        y = draw.integers(0, 6, 61).astype(float)
        x = np.clip(y + draw.choice([-2, -1, 0, 0, 1, 1, 2], 61), 0, 5)
        for randomised in (False, True):
            found = fit_conformal(x[:60], y[:60], 0.2, randomised=randomised)
            low, high, _ = found.intervals(x[60:], seed=seed)
            hits[randomised].append(bool(low[0] <= y[60] <= high[0]))
            widths[randomised].append(high[0] - low[0])
    assert np.mean(hits[False]) > 0.8 + 2 * band(0.8, 1200)
    assert np.mean(hits[True]) == pytest.approx(0.8, abs=band(0.8, 1200))
    assert np.mean(widths[True]) < np.mean(widths[False])


def test_randomised_signed_intervals():
    draw = np.random.default_rng(3)
    hits = []
    for seed in range(1200):
        y = draw.integers(0, 6, 81).astype(float)
        x = y + draw.choice([-1, 0, 0, 1, 2, 2, 3], 81)
        found = fit_conformal(x[:80], y[:80], 0.2, WIDE, signed=True, randomised=True)
        hits.append(covered(found, x[80:], y[80:], seed=seed)[0])
    assert np.mean(hits) == pytest.approx(0.8, abs=band(0.8, 1200))


def clustered(draw: np.random.Generator, cases: int) -> tuple[np.ndarray, np.ndarray]:
    """Case and error of every item: a case has either 1 item with a large error or 12 alike with a small one."""
    big = draw.random(cases) < 0.5
    case = np.repeat(np.arange(cases), np.where(big, 12, 1))
    common = draw.normal(0, 1, cases)
    return case, np.where(big, 0.4 * common, 2 * common)[case] + draw.normal(0, 0.05, len(case))


@pytest.mark.parametrize("per_case", ["one", "pooled", "largest"])
def test_coverage_is_per_case(per_case):
    draw = np.random.default_rng(4)
    any_item, every_item, naive = [], [], []
    for seed in range(800):
        case, error = clustered(draw, 31)
        old, new = case < 30, np.flatnonzero(case == 30)
        zero = np.zeros(len(case))
        found = fit_conformal(zero[old], error[old], 0.2, WIDE, cluster=case[old], per_case=per_case, seed=seed)
        hit = covered(found, zero[new], error[new])
        any_item.append(hit[draw.integers(len(new))])
        every_item.append(hit.all())
        blind = fit_conformal(zero[old], error[old], 0.2, WIDE)
        naive.append(covered(blind, zero[new], error[new])[0])
    assert found.strata[""].cases == 30
    wanted = math.ceil(31 * 0.8) / 31
    if per_case == "one":
        assert np.mean(any_item) == pytest.approx(wanted, abs=band(wanted, 800))
    elif per_case == "largest":
        assert np.mean(every_item) == pytest.approx(wanted, abs=band(wanted, 800))
    else:
        assert 0.8 - band(0.8, 800) < np.mean(any_item) < wanted + 0.03
    assert np.mean(naive) < 0.8 - 2 * band(0.8, 800)


def test_subgroups_have_their_own_quantile():
    draw = np.random.default_rng(5)
    hits: dict[tuple[bool, str], list[bool]] = {}
    for _ in range(800):
        group = np.array(["light"] * 60 + ["dark"] * 20 + ["light", "dark"])
        error = draw.normal(0, np.where(group == "dark", 1.5, 0.5))
        zero = np.zeros(82)
        for mondrian in (False, True):
            names = group if mondrian else None
            found = fit_conformal(zero[:80], error[:80], 0.2, WIDE, group=None if names is None else names[:80])
            hit = covered(found, zero[80:], error[80:], group=None if names is None else names[80:])
            for name, one in zip(("light", "dark"), hit, strict=True):
                hits.setdefault((mondrian, name), []).append(bool(one))
    for name, n in (("light", 60), ("dark", 20)):
        exact = math.ceil((n + 1) * 0.8) / (n + 1)
        assert np.mean(hits[True, name]) == pytest.approx(exact, abs=band(exact, 800))
    assert np.mean(hits[False, "dark"]) < 0.7


def test_small_subgroups_get_the_whole_scale_and_a_reason():
    group = ["a"] * 9 + ["b"] * 8 + ["c"] * 16
    cluster = [*range(17), *np.repeat(range(17, 25), 2)]  # c: 16 items, but 8 cases
    y = np.linspace(1, 4, 33)
    found = fit_conformal(np.full(33, 2.5), y, 0.1, (0, 5), cluster=cluster, group=group)
    low, high, reasons = found.intervals([2.5] * 4, ["a", "b", "c", "new"])
    assert (low[0], high[0]) == (1.0, 4.0)
    assert reasons[0] is None
    assert low[1:].tolist() == [0, 0, 0]
    assert high[1:].tolist() == [5, 5, 5]
    assert reasons[1] == "subgroup 'b' has 8 labelled cases; 9 are needed at 0.9: the interval is the whole scale"
    assert "'c' has 8 labelled cases" in reasons[2]
    assert "'new' has 0 labelled cases" in reasons[3]
    for n, alpha, signed in ((9, 0.1, False), (19, 0.05, False), (19, 0.1, True), (39, 0.05, True)):
        for size in (n - 1, n):
            stratum = fit_conformal(np.zeros(size), np.arange(size), alpha, signed=signed).strata[""]
            assert (stratum.upper is None) == (size < n)


def test_signed_intervals_follow_a_bias():
    """A judge that is 1.5 too high with little noise: an interval below the score instead of a wide one round it."""
    draw = np.random.default_rng(6)
    y = draw.normal(2.5, 0.5, 400)
    x = y + 1.5 + draw.normal(0, 0.2, 400)
    low, high, _ = fit_conformal(x, y, 0.1, WIDE, signed=True).intervals(x)
    wide_low, wide_high, _ = fit_conformal(x, y, 0.1, WIDE).intervals(x)
    assert (high < x).all()
    assert (high - low).mean() < 0.3 * (wide_high - wide_low).mean()
    assert ((low <= y) & (y <= high)).mean() == pytest.approx(0.9, abs=0.03)
    assert (y < low).mean() == pytest.approx((y > high).mean(), abs=0.03)


def test_cv_plus_is_its_definition():
    """Barber et al. 2021, eq. 11, by brute force."""
    draw = np.random.default_rng(7)
    n, folds, alpha = 25, 5, 0.1
    fold, residual = draw.permutation(np.arange(n) % folds), draw.exponential(1, n)
    by_fold = draw.normal(2.5, 1, (30, folds))
    low, high = cv_plus(by_fold, fold, residual, alpha, WIDE)
    for place in range(30):
        lower = np.sort(by_fold[place, fold] - residual)[math.floor(alpha * (n + 1)) - 1]
        upper = np.sort(by_fold[place, fold] + residual)[math.ceil((1 - alpha) * (n + 1)) - 1]
        assert (low[place], high[place]) == pytest.approx((lower, upper), abs=1e-12)
    twice = cv_plus(by_fold, np.repeat(fold, 2), np.repeat(residual, 2), alpha, WIDE, cluster=np.repeat(range(n), 2))
    np.testing.assert_array_equal(twice[0], low)
    trivial = cv_plus(by_fold, fold[:8], residual[:8], alpha, (0, 5))
    assert (trivial[0] == 0).all()
    assert (trivial[1] == 5).all()


def test_cv_plus_covers_with_few_labels():
    """20 labels, a line fitted on four fifths of them each time."""
    draw = np.random.default_rng(8)
    hits, n = [], 20
    for _ in range(500):
        x = draw.normal(0, 1, n + 1)
        y = 0.5 * x + draw.standard_t(4, n + 1)
        fold = draw.permutation(np.arange(n) % 5)
        lines = [np.polyfit(x[:n][fold != k], y[:n][fold != k], 1) for k in range(5)]
        residual = np.abs([y[i] - np.polyval(lines[fold[i]], x[i]) for i in range(n)])
        low, high = cv_plus(np.array([[np.polyval(line, x[n]) for line in lines]]), fold, residual, 0.1, WIDE)
        hits.append(low[0] <= y[n] <= high[0])
    assert 0.9 - band(0.9, 500) < np.mean(hits) < 0.985


def test_ends_are_cut_at_the_scale_and_missing_scores_have_no_interval():
    found = fit_conformal([2.0] * 20 + [np.nan, 3.0], [3.0] * 20 + [1.0, np.nan], 0.1, (0, 5))
    assert found.strata[""].items == 20
    low, high, _ = found.intervals([0.5, 4.5, 5.6, np.nan])
    assert low[:3].tolist() == [0.0, 3.5, 4.6]
    assert high[:3].tolist() == [1.5, 5.0, 5.0]
    assert np.isnan([low[3], high[3]]).all()


@pytest.mark.parametrize("options", [{}, {"randomised": True}, {"signed": True}, {"group": ["a", "b"] * 20}])
def test_json_round_trip(options):
    draw = np.random.default_rng(9)
    found = fit_conformal(draw.integers(0, 6, 40), draw.integers(0, 6, 40), 0.1, **options)
    again = Conformal.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    new, group = np.linspace(0, 5, 50), options.get("group") and ["a", "b"] * 25
    for one, two in zip(found.intervals(new, group, seed=4), again.intervals(new, group, seed=4), strict=True):
        np.testing.assert_array_equal(one, two)


def test_same_seed_same_intervals():
    found = fit_conformal(np.zeros(50), np.arange(50) % 4, 0.1, randomised=True)
    first, second, other = (found.intervals(np.zeros(200) + 2, seed=s)[1] for s in (1, 1, 2))
    assert (first == second).all()
    assert (first != other).any()


def test_wrong_input():
    x = np.arange(20.0)
    with pytest.raises(InputError, match="between 0 and 1"):
        fit_conformal(x, x, 1.0)
    with pytest.raises(InputError, match="one length"):
        fit_conformal(x, x[:3])
    with pytest.raises(InputError, match="one, pooled, largest"):
        fit_conformal(x, x, per_case="mean")
    with pytest.raises(InputError, match="20 positive numbers"):
        fit_conformal(x, x, spread=x)
    with pytest.raises(InputError, match="3 clusters are given for 20"):
        fit_conformal(x, x, cluster=[1, 2, 3])
    with pytest.raises(InputError, match="has no name"):
        fit_conformal(x, x, group=[""] * 20)
    with pytest.raises(InputError, match="exactly if"):
        fit_conformal(x, x).intervals([1.0], group=["a"])
    with pytest.raises(InputError, match="spread must be given"):
        fit_conformal(x, x, spread=x + 1).intervals([1.0])
    with pytest.raises(InputError, match="by_fold"):
        cv_plus(np.zeros((3, 2)), [0, 1, 2], [1, 1, 1])
