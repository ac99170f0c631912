"""Systems in pairs: differences by hand, p-values against exact enumeration and libraries, families, what is lost."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import false_discovery_control

from dermjudge.evaluators.compare import sign_flip
from dermjudge.evaluators.compare_systems import EXPERT_MEAN, compare_systems, sign_flips
from dermjudge.evaluators.leaderboard import leaderboard
from dermjudge.evaluators.ratios import per_cluster
from dermjudge.judge.errors import InputError

LEVELS = (0, 1, 2, 3, 4, 5)
ARM = "image_only"


def ratings(
    scores: np.ndarray, patient: np.ndarray | None = None, rater: str = "j", kind: str = "judge"
) -> pl.DataFrame:
    """Ratings from `scores` (cases, systems, dimensions): c0 ..., s0 ..., d0 ...; NaN is a score that is not there."""
    c, s, d = (axis.ravel() for axis in np.meshgrid(*map(np.arange, scores.shape), indexing="ij"))
    frame = pl.DataFrame({
        "case_id": [f"c{i}" for i in c], "system": [f"s{i}" for i in s], "dimension": [f"d{i}" for i in d],
        "rater": rater, "rater_kind": kind, "score": scores.ravel(),
    }).with_columns(pl.col("score").fill_nan(None))  # fmt: skip
    return frame if patient is None else frame.with_columns(patient_id=pl.Series([f"p{patient[i]}" for i in c]))


def drawn(cases: int, systems: int = 2, dimensions: int = 1, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (draw.normal(2.5, 0.8, (cases, 1, dimensions)) + draw.normal(0, 0.5, (cases, systems, dimensions))).clip(
        0, 5
    )


def test_differences_and_losses_by_hand() -> None:
    nan = np.nan
    scores = np.array([
        [[4.0, 3.0], [2.0, 3.0]],
        [[3.0, 1.0], [3.0, 3.0]],
        [[nan, 5.0], [1.0, 5.0]],
        [[2.0, 2.0], [nan, nan]],
        [[5.0, nan], [nan, 0.0]],
        [[nan, nan], [nan, nan]],
    ])  # fmt: skip
    frame = ratings(scores).filter(~((pl.col("case_id") == "c3") & (pl.col("system") == "s1")))
    found = compare_systems(frame, LEVELS, pairs=[("s0", "s1")], resamples=20)
    first, second, overall = (found.of("s0", "s1", d) for d in ("d0", "d1", None))
    assert (first.difference.value, first.difference.n, first.mean_a, first.mean_b) == (1.0, 2, 3.5, 2.5)
    assert (second.difference.value, second.difference.n) == (-2 / 3, 3)
    assert (overall.difference.value, overall.difference.n) == (0.0, 2)  # 3.5 - 2.5 and 2 - 3
    counts = first.counts
    assert [counts[k] for k in ("cases", "items_a", "items_b", "a_higher", "tied", "b_higher")] == [2, 2, 2, 1, 1, 0]
    lost = (
        "asked_of_both",
        "unscored_a_only",
        "unscored_b_only",
        "unscored_both",
        "asked_of_a_only",
        "asked_of_b_only",
    )
    assert [counts[k] for k in lost] == [5, 1, 1, 1, 1, 0]
    assert [(r["planned"], r["scored"]) for r in found.lost] == [(6, 4), (6, 4), (6, 3), (5, 3), (5, 4), (5, 3)]
    assert (first.p_value, first.difference.low, first.wilcoxon_p) == (None, None, None)
    assert first.notes == ("2 clusters: no intervals below 20",)
    json.dumps(found.to_dict(), allow_nan=False)


def test_gaps_are_those_of_the_leaderboard() -> None:
    scores = drawn(60, 3, 2)
    scores[np.random.default_rng(1).random(scores.shape) < 0.05] = np.nan
    frame = ratings(scores, np.arange(60) // 2)
    board = leaderboard(frame, None, ["d0", "d1"], LEVELS, resamples=100)
    found = compare_systems(frame, LEVELS, resamples=100)
    assert found.systems == board.ranking
    for ahead, behind in zip(board.ranking, board.ranking[1:], strict=False):
        for dimension in ("d0", None):
            assert found.of(ahead, behind, dimension).difference == board.gap(ahead, dimension).difference


def test_the_interval_has_the_cluster_robust_error_of_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    patient = np.repeat(np.arange(120), np.arange(120) % 3 + 1)
    scores = drawn(len(patient))
    scores[:, 0] += np.random.default_rng(2).normal(0, 0.4, 120)[patient][:, None]
    found = compare_systems(ratings(scores.clip(0, 5), patient), LEVELS, pairs=[("s0", "s1")], resamples=20_000)
    d = (scores.clip(0, 5)[:, 0] - scores.clip(0, 5)[:, 1])[:, 0]
    fit = api.OLS(d, np.ones(len(d))).fit(cov_type="cluster", cov_kwds={"groups": patient})
    estimate = found.of("s0", "s1", "d0").difference
    assert estimate.low is not None and estimate.high is not None
    assert estimate.value == pytest.approx(fit.params[0])
    assert (estimate.high - estimate.low) / (2 * 1.96) == pytest.approx(fit.bse[0], rel=0.03)


def test_sign_flips_are_the_single_ones_and_near_the_exact_test() -> None:
    sums = np.random.default_rng(0).normal(0.35, 1, (3, 12))
    found = sign_flips(sums, 20_000, 0)
    assert found == [sign_flip(row, 20_000, 0) for row in sums]
    for row, p in zip(sums, found, strict=True):
        exact = stats.permutation_test((row,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
        assert p == pytest.approx(exact, abs=0.012)
    assert sign_flips(np.zeros((1, 4)), 100, 0) == [None]
    assert sign_flips(np.array([[1.0, -1.0, 2.0, -2.0]]), 100, 0) == [1.0]  # a sum of 0 is reached by every flip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.5, 1.5), min_size=8, max_size=13), st.integers(0, 30))
def test_a_p_value_that_no_draw_reached_is_never_below_the_exact_one(sizes: list[float], turned: int) -> None:
    sums = np.array(sizes)
    if turned < len(sums):
        sums[turned] *= -1
    signs = np.array(list(product((-1.0, 1.0), repeat=len(sums))))
    exact = (np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9).mean()
    (p,) = sign_flips(sums[None, :], 10, 0)
    assert p is not None
    assert p >= 1 / 11 or p >= exact


def test_a_large_family_needs_no_more_draws() -> None:
    sums = np.random.default_rng(1).normal(1.0, 1, (1, 400))
    (p,) = sign_flips(sums, 50, 0)
    t = float(sums.sum() / np.sqrt((sums * sums).sum()))
    assert p == pytest.approx(2 * np.exp(-t * t / 2), rel=1e-9, abs=0)
    assert p < 1e-12
    # Eight equal clusters: the bound is 0.037, but a draw that reached the sum counts.
    reached = {sign_flips(np.ones((1, 8)), 10, seed)[0] for seed in range(60)}
    assert min(reached) == pytest.approx(2 * np.exp(-4))
    assert all(p >= 2 / 11 for p in reached - {min(reached)})
    assert len(reached) > 1
    weak = np.random.default_rng(3).normal(0.25, 1, (1, 60))
    assert sign_flips(weak, 10, 1)[0] >= 1 / 11  # the bound is above what ten draws can show


@pytest.mark.parametrize("test", ["sign-flip", "bootstrap"])
def test_a_planted_difference_is_found_and_no_other(test: str) -> None:
    scores = drawn(150, 3, 2, seed=4).clip(1, 4)
    scores[:, 0, 1] += 0.4
    found = compare_systems(ratings(scores), LEVELS, resamples=999, test=test, correction="holm")
    low = [(p.a[0], p.b[0], p.dimension) for p in found.pairs if p.dimension and p.p_adjusted < 0.05]
    assert {frozenset(x[:2]) for x in low} == {frozenset(("s0", "s1")), frozenset(("s0", "s2"))}
    assert {x[2] for x in low} == {"d1"}
    assert found.of("s0", "s1", "d1").difference.low > 0
    assert found.families["dimensions"] == "holm over 6 tests: 3 pairs x 2 dimensions"
    assert found.families["overall"] == "holm over 3 tests: 3 pairs x the overall score"
    assert found.systems[0] == ("s0", ARM)


@pytest.mark.parametrize("test", ["sign-flip", "bootstrap"])
def test_without_a_difference_false_alarms_stay_in_the_binomial_band(test: str) -> None:
    """200 dimensions are 200 draws; 30 patients of one to three cases, who like one system better than the other."""
    draw = np.random.default_rng(7)
    patient = np.repeat(np.arange(30), draw.integers(1, 4, 30))
    liked = draw.normal(0, 0.4, (30, 2, 200))[patient]
    scores = (2.5 + liked + draw.normal(0, 0.4, liked.shape)).clip(0, 5)
    found = compare_systems(ratings(scores, patient), LEVELS, resamples=199, test=test)
    alarms = sum(p.p_value < 0.05 for p in found.pairs if p.dimension)
    low, high = stats.binom.interval(
        0.998, 200, 0.05 if test == "sign-flip" else 0.065
    )  # 30 clusters: a little liberal
    assert low <= alarms <= high
    wilcoxon = sum(p.wilcoxon_p < 0.05 for p in found.pairs if p.dimension)
    assert wilcoxon <= stats.binom.ppf(0.999, 200, 0.05)


def test_adjusted_within_two_families_as_scipy_and_statsmodels_do() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    frame = ratings(drawn(40, 4, 3, seed=9))
    for ours, theirs in (("holm", "holm"), ("bh", "fdr_bh"), ("by", "fdr_by")):
        found = compare_systems(frame, LEVELS, resamples=99, correction=ours)
        for rows in ([p for p in found.pairs if p.dimension], [p for p in found.pairs if not p.dimension]):
            raw = [p.p_value for p in rows]
            expected = multitest.multipletests(raw, method=theirs)[1]
            assert [p.p_adjusted for p in rows] == pytest.approx(list(expected), abs=1e-12)
            if ours != "holm":
                assert list(false_discovery_control(raw, method=ours)) == pytest.approx(list(expected), abs=1e-12)
    assert len(found.pairs) == 6 * (3 + 1)


def test_the_bootstrap_test_is_its_definition_and_the_check_is_scipys_wilcoxon() -> None:
    scores = np.floor(drawn(50, seed=3) + 0.5)
    found = compare_systems(ratings(scores), LEVELS, pairs=[("s0", "s1")], resamples=400, test="bootstrap").of(
        "s0", "s1"
    )
    d = (scores[:, 0] - scores[:, 1])[:, 0]
    draw = np.random.default_rng(0)
    means = draw.choice(d, (20_000, 50)).mean(axis=1)
    assert found.p_value == pytest.approx(np.mean(np.abs(means - d.mean()) >= abs(d.mean())), abs=0.06)
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(d, zero_method="pratt").pvalue, rel=1e-9)
    assert found.counts["tied"] == int((d == 0).sum()) > 5


@pytest.mark.parametrize(("skewed", "seed"), [("values", 12), ("sizes", 38)])
def test_bca_is_scipys_over_clusters_of_unequal_size(skewed: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    many = np.floor(np.exp(draw.normal(1, 1, 40))).astype(int) + 1 if skewed == "sizes" else np.arange(40) % 4 + 1
    patient = np.repeat(np.arange(40), many)
    first = 4 + draw.normal(0, 0.4, 40).clip(-1, 1) if skewed == "sizes" else np.exp(draw.normal(0, 1, 40)).clip(0, 5)
    scores = np.stack([first[patient], np.full(len(patient), 0.2)], axis=1)[:, :, None]
    found, plain = (
        compare_systems(ratings(scores, patient), LEVELS, resamples=20_000, bca=bca).of("s0", "s1").difference
        for bca in (True, False)
    )
    theirs = stats.bootstrap(
        per_cluster(first[patient] - 0.2, patient, 40),
        lambda total, count, axis: total.sum(axis) / count.sum(axis),
        paired=True,
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval  # BCa is its default
    width = plain.high - plain.low
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)
    if skewed == "values":
        assert min(found.low - plain.low, found.high - plain.high) > 0.05 * width


def test_equal_systems_have_no_test() -> None:
    scores = drawn(30)
    scores[:, 1] = scores[:, 0]
    for test in ("sign-flip", "bootstrap"):
        found = compare_systems(ratings(scores), LEVELS, resamples=20, test=test).pairs[0]
        assert (found.p_value, found.p_adjusted, found.wilcoxon_p, found.difference.value) == (None, None, None, 0.0)
        assert "no test: the systems do not differ in any cluster" in found.notes


def test_samples_of_a_case_count_once_and_arms_are_systems_of_their_own() -> None:
    scores = drawn(30, 2, 1)
    one, again = ratings(scores), ratings((scores + 0.5).clip(0, 5)).with_columns(sample=1)
    text = ratings((scores - 0.4).clip(0, 5)).with_columns(arm=pl.lit("text"))
    frame = pl.concat([one.with_columns(sample=0), again]).with_columns(arm=pl.lit(ARM))
    frame = pl.concat([frame, text.with_columns(sample=0).select(frame.columns)])
    found = compare_systems(frame, LEVELS, resamples=20)
    named = {frozenset((p.a, p.b)) for p in found.pairs}
    assert frozenset((("s0", ARM), ("s1", "text"))) not in named
    assert len(named) == 4
    pair = compare_systems(frame, LEVELS, pairs=[(("s0", ARM), ("s0", "text"))], resamples=20).pairs[0]
    mean = np.mean([scores, (scores + 0.5).clip(0, 5)], axis=0)[:, 0] - (scores - 0.4).clip(0, 5)[:, 0]
    assert pair.difference.value == pytest.approx(mean.mean())
    assert (pair.difference.n, pair.counts["items_a"], pair.counts["items_b"]) == (30, 60, 30)
    with pytest.raises(InputError, match="2 systems are 's0'"):
        compare_systems(frame, LEVELS, pairs=[("s0", "s1")])


def test_the_mean_of_the_experts_says_where_the_experts_differ(simulate) -> None:
    frame = simulate(cases=40, systems=2, missing=0.3)
    found = compare_systems(frame, LEVELS, EXPERT_MEAN, resamples=20)
    assert found.rater == EXPERT_MEAN
    experts = frame.filter(pl.col("rater_kind") == "expert", pl.col("dimension") == "d0")
    means = experts.group_by("case_id", "system").agg(pl.col("score").mean()).pivot("system", index="case_id")
    d = (means["s1"] - means["s0"]).drop_nulls()
    pair = found.of("s1", "s0", "d0")
    assert (pair.difference.value, pair.difference.n) == (pytest.approx(d.mean()), len(d))
    who = experts.drop_nulls("score").group_by("case_id", "system").agg(pl.col("rater").sort())
    who = who.pivot("system", index="case_id").drop_nulls()
    other = sum(a != b for a, b in zip(who["s0"].to_list(), who["s1"].to_list(), strict=True))
    assert f"in {other} of {len(d)} cases the two were not rated by the same experts" in pair.notes[-1]
    alone = frame.filter(pl.col("rater_kind") == "expert")
    assert compare_systems(alone, LEVELS, resamples=20).rater == EXPERT_MEAN
    assert compare_systems(alone, LEVELS, "e1", resamples=20).rater == "e1"


def test_the_order_of_rows_does_not_matter() -> None:
    frame = ratings(drawn(40, 3, 2), np.arange(40) // 2)
    one = compare_systems(frame, LEVELS, resamples=50)
    two = compare_systems(frame.sample(fraction=1, shuffle=True, seed=3), LEVELS, resamples=50)
    assert one.systems == two.systems
    for pair in one.pairs:
        other = two.of(pair.a, pair.b, pair.dimension)
        assert other.difference.value == pytest.approx(pair.difference.value, abs=1e-12)
        assert other.difference.low == pytest.approx(pair.difference.low, abs=1e-12)
        assert (other.p_value, other.counts) == (pytest.approx(pair.p_value), pair.counts)


def test_too_few_resamples_for_a_family_are_said() -> None:
    found = compare_systems(ratings(drawn(30, 4, 3)), LEVELS, resamples=200, test="bootstrap")
    assert found.notes[-1].startswith("200 resamples cannot give a p-value below 0.005; for 24 tests take at least 960")
    assert compare_systems(ratings(drawn(30, 4, 3)), LEVELS, resamples=200).settings["draws_of_the_test"] == 960


def test_wrong_input_is_named() -> None:
    frame = ratings(drawn(25))
    for wrong, why in (
        ({"test": "t"}, "known: sign-flip, bootstrap"),
        ({"rater": "x"}, "no single rater 'x'"),
        ({"rater": EXPERT_MEAN}, "no expert score"),
        ({"dimensions": ["d9"]}, "'d9' is no dimension that j scored"),
        ({"pairs": [("s0", "s9")]}, "0 systems are 's9'"),
        ({"pairs": [("s0", "s0")]}, "compared with itself"),
        ({"pairs": []}, "at least one pair"),
        ({"pairs": [("s0", "s1"), ("s1", "s0")]}, "each once"),
    ):
        with pytest.raises(InputError, match=why):
            compare_systems(frame, LEVELS, **wrong)
    with pytest.raises(InputError, match="scored one system only"):
        compare_systems(frame.filter(pl.col("system") == "s0"), LEVELS)
    with pytest.raises(InputError, match=r"no comparison of s1 with s9"):
        compare_systems(frame, LEVELS, resamples=5).of("s1", "s9")
