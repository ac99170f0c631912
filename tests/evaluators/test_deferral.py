import json
from itertools import permutations

import numpy as np
import polars as pl
import pytest

from dermjudge.evaluators.deferral import flag_for_review, risk_coverage
from dermjudge.judge.errors import InputError


def table(**columns: list) -> pl.DataFrame:
    return pl.DataFrame({"dimension": ["A"] * len(columns["case_id"]), **columns}, strict=False)


def test_aurc_is_the_mean_over_all_orders_of_ties():
    """By brute force over every order that respects the uncertainty."""
    draw = np.random.default_rng(0)
    for _ in range(5):
        error, doubt = draw.exponential(1, 6), draw.integers(0, 3, 6)
        areas, curves = [], []
        for order in permutations(range(6)):
            if (np.diff(doubt[list(order)]) >= 0).all():
                risk = np.cumsum(error[list(order)]) / np.arange(1, 7)
                areas.append(risk.mean())
                curves.append(risk)
        found = risk_coverage(error, doubt, resamples=1)
        assert found.aurc.value == pytest.approx(np.mean(areas), abs=1e-12)
        at = np.rint(np.array(found.coverage) * 6).astype(int)
        np.testing.assert_allclose(found.risk, np.mean(curves, axis=0)[at - 1])
        assert found.best == pytest.approx((np.cumsum(np.sort(error)) / np.arange(1, 7)).mean())
        assert found.keep_all.value == pytest.approx(error.mean())
        assert found.gain.value == pytest.approx(error.mean() - np.mean(areas))


def test_an_uninformative_certainty_gains_nothing():
    error = np.random.default_rng(1).exponential(1, 40)
    found = risk_coverage(error, np.ones(40), resamples=200)
    assert found.aurc.value == pytest.approx(error.mean())
    assert found.gain.value == pytest.approx(0, abs=1e-12)
    assert (found.coverage, len(found.risk)) == ((1.0,), 1)
    assert found.gain.high - found.gain.low < 1e-9  # in every resample


def test_deferring_the_doubtful_pays():
    draw = np.random.default_rng(2)
    doubt = draw.uniform(0.2, 2, 300)
    error = np.abs(draw.normal(0, doubt))
    found = risk_coverage(error, doubt, cluster=np.arange(300) // 2, resamples=300)
    assert found.gain.low > 0
    assert found.best < found.aurc.low
    assert found.aurc.high < found.keep_all.value
    noise = risk_coverage(error, draw.permutation(doubt), cluster=np.arange(300) // 2, resamples=300)
    assert noise.gain.low < 0 < noise.gain.high
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_resample_is_the_same_as_the_items_repeated():
    """The draws behind the interval: doubled clusters count as doubled rows, ties among them included."""
    from dermjudge.evaluators.deferral import _aurc

    draw = np.random.default_rng(3)
    error, step = draw.exponential(1, 8), np.array([0, 0, 1, 2, 2, 2, 3, 4])
    weight = draw.integers(0, 4, (8, 5)).astype(float)
    area, mean = _aurc(error, step, weight)
    for b in range(5):
        times = weight[:, b].astype(int)
        found = risk_coverage(np.repeat(error, times), np.repeat(step, times), resamples=1)
        assert area[b] == pytest.approx(found.aurc.value, abs=1e-12)
        assert mean[b] == pytest.approx(np.repeat(error, times).mean())


def test_no_usable_score_and_few_clusters():
    nothing = risk_coverage([np.nan, 1], [1, np.nan])
    assert (nothing.aurc.value, nothing.coverage) == (None, ())
    assert "no score" in nothing.gain.reason
    few = risk_coverage(np.arange(10.0), np.arange(10.0))
    assert few.aurc.low is None
    assert "10 clusters" in few.aurc.reason
    with pytest.raises(InputError, match="one length"):
        risk_coverage([1, 2], [1])
    with pytest.raises(InputError, match="1 clusters are given for 2"):
        risk_coverage([1, 2], [1, 2], cluster=[1])


def test_cases_for_review():
    rows = table(
        case_id=["a", "a", "b", "b", "c", "c", "d", "d"],
        dimension=["A", "B"] * 4,
        score=[4.0, 4.0, 3.1, 1.0, None, 4.0, 3.0, 4.5],
        low=[3.5, 3.5, 2.6, 0.5, None, 3.5, 2.0, 4.0],
        high=[4.5, 4.5, 3.6, 1.5, None, 4.5, 4.0, 5.0],
    )
    found = flag_for_review(rows, threshold=3.0, widest=0.25)
    assert found["case_id"].to_list() == ["c", "d", "b"]
    assert found["why"].to_list() == [
        "1 score(s) missing",
        "1 interval(s) across 3.0; widest interval 2.0",
        "1 interval(s) across 3.0",
    ]
    assert found["dimensions"].to_list() == [["A"], ["A"], ["A"]]
    assert found["width"].to_list() == [1.0, 2.0, 1.0]
    assert flag_for_review(rows, threshold=3.0, most=2)["case_id"].to_list() == ["c", "d"]
    assert flag_for_review(rows, threshold=2.0, widest=0)["case_id"].to_list() == ["c"]  # an end is not across
    alone = flag_for_review(rows.filter(pl.col("case_id") != "c"), widest=0.4)
    assert alone.select("case_id", "why").rows() == [("d", "widest interval 2.0")]
    assert alone["dimensions"].to_list() == [["A"]]


def test_equal_widths_flag_nobody():
    rows = table(case_id=["a", "b", "c"], score=[1.0, 2, 3], low=[0.0, 1, 2], high=[2.0, 3, 4])
    assert flag_for_review(rows, widest=1.0).height == 0
    tied = table(case_id=["a", "b", "c"], score=[1.0, 2, 3], low=[0.0, 1, 2.5], high=[2.0, 3, 3.5])
    assert flag_for_review(tied, widest=0.4).height == 0  # two share the largest width, one would be allowed
    assert flag_for_review(tied, widest=0.7)["case_id"].to_list() == ["a", "b"]


def test_experts_rows_are_no_business_of_the_review():
    rows = table(
        case_id=["a", "b"], rater_kind=["expert", "judge"], score=[None, 3.0], low=[None, 2.0], high=[None, 4.0]
    )
    assert flag_for_review(rows, threshold=3)["case_id"].to_list() == ["b"]
    for wrong, match in (({"widest": 2}, "share"), ({"most": 0}, "at least 1")):
        with pytest.raises(InputError, match=match):
            flag_for_review(rows, **wrong)
    with pytest.raises(InputError, match="lack the column"):
        flag_for_review(rows.drop("low"))
