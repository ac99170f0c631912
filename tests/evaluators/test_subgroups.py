"""Subgroups: gaps by hand, against statsmodels and scipy; planted gaps found, chance gaps not, unknown kept apart."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy import stats

from dermjudge.evaluators.agreement import agree
from dermjudge.evaluators.case_attributes import refuse_overlap
from dermjudge.evaluators.ratios import per_cluster
from dermjudge.evaluators.subgroups import case_attributes, cluster_welch_test, subgroup_gaps
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Image

LEVELS = (0, 1, 2, 3, 4, 5)


def ratings(judge: np.ndarray, experts: np.ndarray, patient: np.ndarray | None = None) -> pl.DataFrame:
    """Ratings of one system: `judge`, `experts` (cases, dimensions), case ids c0, c1 ..."""
    cases, dimensions = judge.shape
    c, d = (axis.ravel() for axis in np.meshgrid(np.arange(cases), np.arange(dimensions), indexing="ij"))
    own = pl.DataFrame({"case_id": [f"c{i}" for i in c], "system": "s", "dimension": [f"d{i}" for i in d]})
    if patient is not None:
        own = own.with_columns(patient_id=pl.Series([f"p{patient[i]}" for i in c]))
    parts = [
        own.with_columns(rater=pl.lit(name), rater_kind=pl.lit(kind), score=pl.Series(values.ravel()).fill_nan(None))
        for name, kind, values in (("j", "judge", judge), ("e", "expert", experts))
    ]
    return pl.concat(parts)


def drawn(cases: int, dimensions: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    experts = draw.integers(1, 5, (cases, dimensions)).astype(float)
    return experts + draw.normal(0, 0.5, experts.shape).clip(-1, 1), experts


def halves(cases: int, share: float = 0.5) -> dict[str, str]:
    return {f"c{i}": "a" if i < share * cases else "b" for i in range(cases)}


def test_values_by_hand() -> None:
    judge, experts = np.array([[1.0], [2.0], [5.0], [3.0], [4.0]]), np.array([[2.0], [2.0], [3.0], [3.0], [2.0]])
    groups = {"c0": "x", "c1": "x", "c2": "y", "c3": "y", "c4": ""}
    found = subgroup_gaps(ratings(judge, experts), LEVELS, "j", {"g": groups}, resamples=20)
    x, y, unknown = (found.of("g", group, "d0") for group in ("x", "y", None))
    assert [x.results[name].value for name in ("bias", "mae", "within_1")] == [-0.5, 0.5, 1.0]
    assert [y.results[name].value for name in ("bias", "mae", "within_1")] == [1.0, 1.0, 0.5]
    assert (x.results["bias_gap"].value, x.results["mae_gap"].value, x.results["bias_gap"].n) == (-1.5, -0.5, 4)
    assert (unknown.results["bias"].value, unknown.results["bias_gap"].value) == (2.0, None)
    assert "not known" in (unknown.results["bias_gap"].reason or "")
    assert (x.counts["cases"], x.counts["items"], x.counts["other_clusters"], unknown.counts["items"]) == (2, 2, 2, 1)
    assert (x.results["bias"].low, x.p_values["bias"]) == (None, None)
    assert "2 clusters, at least 20" in (x.results["bias"].reason or "")
    assert found.notes[0] == "g: not known of 1 of 5 cases"
    assert any("cannot be told" in note for note in found.notes)
    json.dumps(found.to_dict(), allow_nan=False)


def test_statistics_and_intervals_are_those_of_agree(simulate) -> None:
    frame, groups = simulate(cases=90, judges=(0.6,)), {f"c{i}": "abc"[i % 3] for i in range(90)}
    found = subgroup_gaps(frame, LEVELS, "j0", {"g": groups}, resamples=100)
    other = agree(frame, LEVELS, "j0", by=groups, resamples=100)
    for group in "abc":
        for name in ("bias", "mae", "rmse", "within_1", "pearson", "spearman"):
            mine, theirs = found.of("g", group, "d1").results[name], other.of("j0", "d1", group)[f"item.{name}"]
            assert (mine.value, mine.low, mine.high, mine.n) == pytest.approx(
                (theirs.value, theirs.low, theirs.high, theirs.n), abs=1e-9
            )


def test_the_test_is_welchs_alone_and_the_paired_one_within_patients() -> None:
    draw = np.random.default_rng(3)
    values, first = draw.normal(0, 1, 60), np.arange(60) < 23
    values[first] *= 2.5
    cluster = np.arange(60)
    sides = [per_cluster(values[side], cluster[side], 60) for side in (first, ~first)]
    welch = stats.ttest_ind(values[first], values[~first], equal_var=False).pvalue
    assert cluster_welch_test(*sides) == pytest.approx(welch, rel=1e-9)
    judge, experts = drawn(70)
    three = {f"c{i}": "a" if i < 25 else "b" if i < 50 else "c" for i in range(70)}
    found = subgroup_gaps(ratings(judge, experts), LEVELS, "j", {"g": three}, resamples=20).of("g", "a", "d0")
    errors = np.abs(judge - experts)[:, 0]
    welch = stats.ttest_ind(errors[:25], errors[25:], equal_var=False).pvalue
    assert found.p_values["mae"] == pytest.approx(welch, rel=1e-9)
    sides = [per_cluster(part, np.arange(30), 30) for part in (values[:30], values[30:])]
    assert cluster_welch_test(*sides) == pytest.approx(stats.ttest_rel(values[:30], values[30:]).pvalue, rel=1e-9)
    assert cluster_welch_test(sides[0], (np.zeros(30), np.zeros(30))) is None
    same = (np.ones(30), np.ones(30))
    assert (cluster_welch_test(same, same), cluster_welch_test(same, (3 * same[0], same[1]))) == (1.0, 0.0)


def test_interval_and_test_have_the_cluster_robust_error_of_statsmodels() -> None:
    """Patients with several cases, some of them in both groups."""
    api = pytest.importorskip("statsmodels.api")
    draw = np.random.default_rng(5)
    patient = np.sort(draw.integers(0, 150, 400))
    judge, experts = drawn(400, seed=6)
    judge = judge.clip(1.5, 3.5) + draw.normal(0, 0.6, 150)[patient][:, None].clip(-1, 1)
    in_a = (patient % 3 == 0) ^ (draw.random(400) < 0.1)
    groups = {f"c{i}": "a" if a else "b" for i, a in enumerate(in_a)}
    found = subgroup_gaps(ratings(judge, experts, patient), LEVELS, "j", {"g": groups}, resamples=20_000)
    for name, values in (("bias", judge - experts), ("mae", np.abs(judge - experts))):
        fit = api.OLS(values[:, 0], api.add_constant(in_a.astype(float))).fit(
            cov_type="cluster", cov_kwds={"groups": patient}
        )
        gap = found.of("g", "a", "d0")
        estimate = gap.results[f"{name}_gap"]
        assert estimate.value == pytest.approx(fit.params[1])
        assert estimate.low is not None and estimate.high is not None
        assert (estimate.high - estimate.low) / (2 * 1.96) == pytest.approx(fit.bse[1], rel=0.03)
        freedom = stats.norm.isf(gap.p_values[name] / 2) / abs(fit.params[1] / fit.bse[1])
        assert freedom == pytest.approx(1, abs=0.03)


def test_a_planted_gap_is_found_where_it_is_and_n_stands_beside() -> None:
    judge, experts = drawn(240, 3)
    judge[:60, 1] -= 0.5  # the first quarter, on d1 only
    groups = {f"c{i}": "IV" if i < 60 else ("I", "II", "III")[i % 3] for i in range(240)}
    found = subgroup_gaps(ratings(judge, experts), LEVELS, "j", {"fitzpatrick": groups}, resamples=300)
    hits = [(g.dimension, g.group) for g in found.groups if (g.p_adjusted["bias"] or 1) < 0.05]
    assert ("d1", "IV") in hits
    assert {dimension for dimension, _ in hits} == {"d1"}
    planted = found.of("fitzpatrick", "IV", "d1").results["bias_gap"]
    assert planted.low is not None and planted.high is not None
    assert planted.low < -0.5 < planted.high < 0
    (largest,) = (g for g in found.largest if (g.dimension, g.statistic) == ("d1", "bias"))
    assert (largest.lowest, largest.groups) == ("IV", 4)
    assert largest.value > largest.by_chance_high > largest.by_chance > 0
    assert found.families["bias"] == "holm over 12 tests of a gap in bias: 1 attributes, their groups and 3 dimensions"


def test_without_a_gap_false_alarms_stay_in_the_binomial_band() -> None:
    """200 dimensions are 200 draws; a small group of 25 cases against 95, patients of one to three cases."""
    draw = np.random.default_rng(11)
    patient = np.repeat(np.arange(60), draw.integers(1, 4, 60))
    groups = {f"c{i}": ("a" if p < 25 else "b" if p < 40 else "c") for i, p in enumerate(patient)}
    shared = draw.normal(0, 0.5, (60, 200))[patient]
    experts = draw.integers(1, 5, shared.shape).astype(float)
    judge = (experts + shared + draw.normal(0, 0.5, shared.shape)).clip(0, 5)
    found = subgroup_gaps(ratings(judge, experts, patient), LEVELS, "j", {"g": groups}, resamples=40)
    low, high = stats.binom.interval(0.998, 200, 0.05)
    for name in ("bias", "mae"):
        alarms = sum(found.of("g", "a", f"d{d}").p_values[name] < 0.05 for d in range(200))
        assert low <= alarms <= high
    assert min(g.p_adjusted["bias"] or 1 for g in found.groups) > 0.05
    # Over 1,600 draws the largest gap lay above its limit in 6 %; few resamples and clusters make it a little more.
    above = [g.value > g.by_chance_high for g in found.largest if g.statistic == "bias"]
    assert len(above) == 200
    assert 0 < sum(above) <= stats.binom.ppf(0.999, 200, 0.08)


def test_the_family_is_all_attributes_groups_and_dimensions_two_groups_being_one_test() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    judge, experts = drawn(120, 2, seed=8)
    attributes = {"sex": halves(120), "age": {f"c{i}": "xyz"[i % 3] for i in range(120)}}
    for ours, theirs in (("holm", "holm"), ("bh", "fdr_bh"), ("by", "fdr_by")):
        found = subgroup_gaps(ratings(judge, experts), LEVELS, "j", attributes, resamples=20, correction=ours)
        one = [g for g in found.groups if (g.attribute, g.group) != ("sex", "b")]
        assert len(one) == 2 * (1 + 3)
        expected = multitest.multipletests([g.p_values["mae"] for g in one], method=theirs)[1]
        assert [g.p_adjusted["mae"] for g in one] == pytest.approx(list(expected), abs=1e-12)
        a, b = (found.of("sex", group, "d1") for group in "ab")
        assert (a.p_values, a.p_adjusted) == (b.p_values, b.p_adjusted)
        assert a.results["bias_gap"].value == pytest.approx(-b.results["bias_gap"].value)


def test_small_groups_have_values_and_no_test_and_do_not_count_in_the_family() -> None:
    judge, experts = drawn(100)
    groups = {f"c{i}": "a" if i < 19 else "b" if i < 49 else "c" for i in range(100)}
    found = subgroup_gaps(ratings(judge, experts), LEVELS, "j", {"g": groups}, resamples=50)
    a, b = found.of("g", "a", "d0"), found.of("g", "b", "d0")
    assert (a.results["mae"].low, a.p_values["mae"], a.p_adjusted["mae"]) == (None, None, None)
    assert a.results["mae"].value is not None and a.results["mae_gap"].value is not None
    assert b.results["mae_gap"].low is not None and b.p_values["mae"] is not None
    assert b.notes == ("30 clusters: intervals are too short below 50",)
    assert found.families["mae"].startswith("holm over 2 tests")
    assert {g.groups for g in found.largest} == {2}
    two = subgroup_gaps(ratings(judge, experts), LEVELS, "j", {"g": halves(100, 0.19)}, resamples=50).of("g", "b", "d0")
    assert two.results["mae"].low is not None
    assert (two.results["mae_gap"].low, two.p_values["mae"]) == (None, None)
    assert "19 clusters" in (two.results["mae_gap"].reason or "")
    lonely = subgroup_gaps(ratings(judge, experts), LEVELS, "j", {"g": dict.fromkeys(groups, "a")}, resamples=20)
    assert lonely.of("g", "a", "d0").results["mae_gap"].reason == "no item of another known group has both scores"
    assert lonely.notes[0] == "g: one group only, so there is nothing to compare"
    assert (lonely.largest[0].value, lonely.families["mae"][:17]) == (None, "holm over 0 tests")


def test_the_order_of_rows_does_not_matter_and_missing_scores_are_counted(simulate) -> None:
    frame = simulate(cases=60, judges=(0.5,), continuous=True).with_columns(
        score=pl.when((pl.col("rater") == "j0") & (pl.col("case_id") == "c4")).then(None).otherwise(pl.col("score"))
    )
    groups = {"g": {f"c{i}": "ab"[i % 2] for i in range(60)}}
    one = subgroup_gaps(frame, LEVELS, "j0", groups, resamples=50)
    two = subgroup_gaps(frame.sample(fraction=1, shuffle=True, seed=1), LEVELS, "j0", groups, resamples=50)
    for row in one.groups:
        other = two.of(row.attribute, row.group, row.dimension)
        assert row.counts == other.counts
        for name, found in row.results.items():
            assert found.value == pytest.approx(other.results[name].value, abs=1e-12)
            assert found.low == pytest.approx(other.results[name].low, abs=1e-9)
    counts = one.of("g", "a", "d0").counts
    assert counts["items_rated"] - counts["items"] == 3  # three systems of one case
    assert counts["coverage"] < 1


def test_wrong_input_is_named() -> None:
    frame = ratings(*drawn(30))
    with pytest.raises(InputError, match="no judge 'x'"):
        subgroup_gaps(frame, LEVELS, "x", {"g": halves(30)})
    with pytest.raises(InputError, match="no expert score"):
        subgroup_gaps(frame.filter(pl.col("rater") == "j"), LEVELS, "j", {"g": halves(30)})
    for attributes in ({}, {"g": {"C1": "a"}}, {"g": {"c1": " "}}):
        with pytest.raises(InputError, match="such as 'c0', to a group"):
            subgroup_gaps(frame, LEVELS, "j", attributes)
    found = subgroup_gaps(frame, LEVELS, "j", {"g": halves(30)}, resamples=5)
    with pytest.raises(InputError, match="there are g / a / d0"):
        found.of("g", "z", "d0")


@pytest.mark.parametrize(
    ("name", "groups", "why"),
    [
        ("fitzpatrick", ["I", "V-VI"], "mixes Fitzpatrick types"),
        ("Skin tone", ["3", "12"], "put every type into its band"),
        ("sex", ["Female", "female"], "spells one group in two ways"),
        ("images", ["3", "1-2"], None),  # nothing about skin
        ("fitzpatrick", ["1-2", "3-4"], None),
        ("fitzpatrick", ["1", "2", "not recorded"], None),
    ],
)
def test_overlapping_groups_are_refused(name: str, groups: list[str], why: str | None) -> None:
    if why is None:
        return refuse_overlap(name, groups)
    with pytest.raises(InputError, match=why):
        refuse_overlap(name, groups)
    named = {f"c{i}": groups[i % 2] for i in range(30)}
    with pytest.raises(InputError, match=why):
        subgroup_gaps(ratings(*drawn(30)), LEVELS, "j", {name: named})
    return None


def test_attributes_of_cases() -> None:
    two = (Image("a.png", body_site="Arm", quality="good"), Image("b.png", body_site="leg", quality="good"))
    cases = [
        Case("one", images=two, diagnosis=("melanoma",), tags={"age": 17.9, "sex": "M ", "fitzpatrick": 3}),
        Case("two", diagnosis=("melanoma", "psoriasis"), tags={"age": "65", "sex": "male", "fitzpatrick": "IV"}),
        Case("three", diagnosis=("no such thing",), tags={"age": -1, "fitzpatrick": "", "ward": "B", "pregnant": True}),
        Case(
            "four", (Image("c.png", body_site="arm"), Image("d.png")), diagnosis=("tinea corporis",), tags={"age": 40}
        ),
    ]
    found = case_attributes(cases)
    assert found == {
        "fitzpatrick": {"one": "3", "two": "4"},
        "age": {"one": "<18", "two": "65+", "four": "40-64"},
        "sex": {"one": "male", "two": "male"},
        "site": {"one": "mixed", "four": "arm"},
        "quality": {"one": "good"},
        "diagnosis_group": {"one": "malignant", "two": "mixed", "four": "infectious"},
    }
    assert case_attributes(cases, ["ward", "pregnant"]) == {"ward": {"three": "B"}, "pregnant": {"three": "yes"}}
    with pytest.raises(InputError, match="nothing is known of 'wards'"):
        case_attributes(cases, ["wards"])
    banded = case_attributes([*cases, Case("five", tags={"fitzpatrick": "5-6"})])
    assert banded["fitzpatrick"] == {"one": "3", "two": "4"}
    assert banded["fitzpatrick_band"] == {"one": "3-4", "two": "3-4", "five": "5-6"}
