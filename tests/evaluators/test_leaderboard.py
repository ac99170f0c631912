"""Leaderboard: planted means are found, nothing missing is filled in, gaps are paired, intervals cover."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermjudge.evaluators.leaderboard import Leaderboard, leaderboard
from dermjudge.evaluators.ratios import per_cluster, ratios
from dermjudge.judge.errors import InputError
from dermjudge.judge.ratings import RATINGS_SCHEMA
from dermjudge.judge.records import STATES

DIMENSIONS = ("Accuracy", "Safety")
LEVELS = (0, 1, 2, 3, 4, 5)


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Ratings of one judge; a row needs case_id, system, dimension and score (None: unparsable)."""
    whole = {
        "arm": "image_only", "sample": 0, "rater": "judge", "rater_kind": "judge", "stage": "independent",
        "rubric": "two@1", "repeat": 0, "reason": "", "mass": None, "distribution": None, "critique": "", "answer": "",
        "cost": None, "narrative_hash": "", "flags": [],
    }  # fmt: skip
    filled = [whole | {"state": "scored" if row["score"] is not None else "unparsable"} | row for row in rows]
    return pl.DataFrame(filled, schema=RATINGS_SCHEMA)


def scores(table: dict[str, list[list[float | None]]], **more: Any) -> pl.DataFrame:
    """system -> per case the score of each dimension."""
    return frame([
        {"case_id": f"c{i}", "system": system, "dimension": DIMENSIONS[d], "score": score} | more
        for system, cases in table.items() for i, case in enumerate(cases) for d, score in enumerate(case)
    ])  # fmt: skip


def board(ratings: pl.DataFrame, clusters: dict[str, str] | None = None, **more: Any) -> Leaderboard:
    return leaderboard(ratings, clusters, DIMENSIONS, LEVELS, **({"resamples": 200} | more))


def simulated(cases: int, seed: int, gap: float, per_patient: int = 2) -> tuple[pl.DataFrame, dict[str, str]]:
    """Two systems whose scores share a large effect of the patient, so that only a paired comparison sees the gap."""
    draw = np.random.default_rng(seed)
    patient = np.arange(cases) // per_patient
    shared = draw.normal(2.5, 0.7, patient[-1] + 1)[patient][:, None]
    table = {
        name: np.clip(shared + shift + draw.normal(0, 0.2, (cases, 2)), 0, 5).tolist()
        for name, shift in (("good", gap), ("bad", 0.0))
    }
    return scores(table), {f"c{i}": f"p{p}" for i, p in enumerate(patient)}


def test_means_ranking_and_counts_by_hand() -> None:
    found = board(scores({"low": [[1, 2], [3, 0]], "high": [[5, 4], [4, 4]]}))
    assert found.ranking == (("high", "image_only"), ("low", "image_only"))
    assert found.of(("low", "image_only"), "Accuracy").mean.value == 2.0
    assert found.of(("low", "image_only"), "Safety").mean.value == 1.0
    assert found.of(("low", "image_only")).mean.value == 1.5
    assert found.of(("high", "image_only")).mean.value == 4.25
    gap = found.gap(("high", "image_only"))
    assert gap is not None
    assert (gap.behind, gap.difference.value, gap.difference.n) == (("low", "image_only"), 2.75, 2)
    assert found.gap(("low", "image_only")) is None
    assert found.counts["planned"] == found.counts["scored"] == 8


def test_overall_needs_every_dimension_and_nothing_is_filled_in() -> None:
    found = board(scores({"s": [[4, 2], [None, 5], [1, None], [3, 3]]}))
    overall, accuracy = found.of(("s", "image_only")), found.of(("s", "image_only"), "Accuracy")
    assert (overall.mean.value, overall.mean.n, overall.planned, overall.coverage) == (3.0, 2, 4, 0.5)
    assert accuracy.mean.value == pytest.approx(8 / 3)
    assert accuracy.states == {"scored": 3, "unparsable": 1}
    assert accuracy.bounds == (8 / 4, 13 / 4)  # the missing score at 0 and at 5
    assert overall.bounds == ((3 + 2.5 + 0.5 + 3) / 4, (3 + 5 + 3 + 3) / 4)
    assert found.counts["states"] == {"scored": 6, "unparsable": 2}


def test_bounds_only_above_one_percent() -> None:
    full: list[float | None] = [3.0, 3.0]
    almost = [full] * 99 + [[None, 3.0]]
    assert board(scores({"s": almost})).of(("s", "image_only"), "Accuracy").bounds is None
    assert board(scores({"s": almost[1:]})).of(("s", "image_only"), "Accuracy").bounds is not None


def test_a_dimension_without_a_row_counts_as_skipped() -> None:
    ratings = scores({"s": [[4, 2], [5, 5]]}).filter((pl.col("case_id") == "c0") | (pl.col("dimension") == "Safety"))
    standing = board(ratings).of(("s", "image_only"), "Accuracy")
    assert standing.states == {"scored": 1, "skipped": 1}
    assert (standing.planned, standing.coverage) == (2, 0.5)


def test_an_unscored_system_has_a_reason_and_stands_last() -> None:
    found = board(scores({"a": [[None, None]] * 25, "b": [[2, 2]] * 25}))
    last = found.of(("a", "image_only"))
    assert found.ranking[-1] == ("a", "image_only")
    assert (last.mean.value, last.mean.n, last.mean.low) == (None, 0, None)
    assert "no narrative is scored" in (last.mean.reason or "")
    assert last.bounds == (0.0, 5.0)
    gap = found.gap(("b", "image_only"))
    assert gap is not None
    assert gap.excludes_zero is None
    assert gap.difference.reason == "no case is scored for both systems"


def test_below_twenty_clusters_there_is_no_interval() -> None:
    draw = np.random.default_rng(0)
    table = {"s": draw.uniform(0, 5, (60, 2)).tolist()}
    few = {f"c{i}": f"p{i % 19}" for i in range(60)}
    enough = {f"c{i}": f"p{i % 20}" for i in range(60)}
    without = board(scores(table), few).of(("s", "image_only")).mean
    assert without.low is None
    assert "19 clusters" in (without.reason or "")
    with_ = board(scores(table), enough).of(("s", "image_only")).mean
    assert with_.low is not None
    assert with_.value == pytest.approx(without.value)


def test_the_gap_is_paired_and_sees_what_two_intervals_do_not() -> None:
    ratings, clusters = simulated(cases=80, seed=3, gap=0.15)
    found = board(ratings, clusters, resamples=1000)
    good, bad = found.of(("good", "image_only")).mean, found.of(("bad", "image_only")).mean
    gap = found.gap(("good", "image_only"))
    assert gap is not None
    assert good.low is not None and bad.high is not None and gap.difference.low is not None
    assert good.low < bad.high  # the two intervals overlap
    assert gap.excludes_zero is True
    assert gap.difference.value == pytest.approx((good.value or 0) - (bad.value or 0), abs=1e-12)


def test_a_gap_that_may_be_chance_is_not_called_sure() -> None:
    ratings, clusters = simulated(cases=80, seed=3, gap=0.0)
    first = board(ratings, clusters, resamples=1000)
    gap = first.gap(first.ranking[0])
    assert gap is not None
    assert gap.difference.low is not None and gap.difference.low < 0 < (gap.difference.value or 0)
    assert gap.excludes_zero is False


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    draw, hits = np.random.default_rng(0), 0
    cluster = np.arange(120) // 2
    for seed in range(200):
        values = 0.3 + draw.normal(0, 0.5, 60)[cluster] + draw.normal(0, 0.5, 120)
        [found] = ratios([per_cluster(values, cluster, 60)], 300, seed, [""])
        assert found.low is not None and found.high is not None
        hits += found.low <= 0.3 <= found.high
    assert 180 <= hits <= 198  # 95 % of 200 is 190, its standard deviation 3


def test_clusters_widen_the_interval() -> None:
    draw = np.random.default_rng(1)
    table = {"s": (draw.normal(2.5, 0.8, 30)[np.arange(120) // 4][:, None] + np.zeros((120, 2))).clip(0, 5).tolist()}
    alone = board(scores(table)).of(("s", "image_only")).mean
    together = board(scores(table), {f"c{i}": f"p{i // 4}" for i in range(120)}).of(("s", "image_only")).mean
    width = [(found.high or 0) - (found.low or 0) for found in (alone, together)]
    assert width[1] > 1.5 * width[0]  # four identical cases per patient: twice as wide


def test_arms_are_apart_and_repeats_are_averaged() -> None:
    first, second = scores({"s": [[2, 2]]}), scores({"s": [[4, 3]]}, repeat=1)
    other = scores({"s": [[5, 5]]}, arm="image_context")
    found = board(pl.concat([first, second, other]))
    assert found.ranking == (("s", "image_context"), ("s", "image_only"))
    standing = found.of(("s", "image_only"), "Accuracy")
    assert (standing.mean.value, standing.mean.n, standing.planned) == (3.0, 1, 1)
    assert standing.states == {"scored": 2}
    assert found.settings["repeats"] == 2


def test_flags_are_counted_by_narrative() -> None:
    ratings = pl.concat([scores({"s": [[1, 2]] * 3}, flags=["text out of domain"]), scores({"t": [[1, 2]] * 2})])
    assert board(ratings).flags == {"text out of domain": 3}


def test_the_seed_decides_the_intervals_and_the_order_of_rows_does_not() -> None:
    ratings, clusters = simulated(cases=60, seed=5, gap=0.1)
    same = board(ratings.sample(fraction=1.0, shuffle=True, seed=1), clusters, seed=4).to_dict()
    assert board(ratings, clusters, seed=4).to_dict() == same
    assert board(ratings, clusters, seed=5).to_dict() != same


def test_bad_input_is_refused_with_what_would_do() -> None:
    ratings = scores({"s": [[1, 2]]})
    with pytest.raises(InputError, match=r"no single rater 'x'.*judge \(judge\)"):
        board(ratings, rater="x")
    two = pl.concat([ratings, ratings.with_columns(rater=pl.lit("other"))])
    with pytest.raises(InputError, match="2 judges"):
        board(two)
    assert board(two, rater="other").rater == "other"
    with pytest.raises(InputError, match=r"'Safety' is no dimension.*Accuracy"):
        leaderboard(ratings, None, ["Accuracy"], LEVELS)
    with pytest.raises(InputError, match="outside 0 to 1"):
        leaderboard(ratings, None, DIMENSIONS, (0, 1))
    with pytest.raises(InputError, match="share their key"):
        board(pl.concat([ratings, ratings]))
    with pytest.raises(InputError, match="no cluster is given"):
        board(ratings, {"other": "p"})
    with pytest.raises(InputError, match="NaN"):
        board(ratings.with_columns(score=pl.lit(float("nan"))))


CELL = st.one_of(st.none(), st.floats(0, 5))


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.tuples(CELL, CELL), min_size=1, max_size=24), min_size=1))
def test_counts_add_up_and_no_number_is_nan(table: dict[str, list[tuple[float | None, float | None]]]) -> None:
    ratings = scores({system: [list(case) for case in cases] for system, cases in table.items()})
    found = board(ratings, resamples=64)
    json.dumps(found.to_dict(), allow_nan=False)
    assert sum(found.counts["states"].values()) == found.counts["planned"] == ratings.height
    for s in found.standings:
        assert sum(s.states.values()) == s.planned * (1 if s.dimension else 2)
        assert set(s.states) <= set(STATES)
        assert s.mean.n <= s.planned
        if s.mean.value is not None and s.bounds:
            assert -1e-9 <= s.bounds[0] <= s.bounds[1] <= 5 + 1e-9
            if s.dimension:
                assert s.bounds[0] - 1e-9 <= s.mean.value <= s.bounds[1] + 1e-9
