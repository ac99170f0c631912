import json

import numpy as np
import polars as pl
import pytest

from dermjudge.evaluators.ratings import read_panel

LEVELS = (0, 1, 2, 3, 4, 5)
EXPERT = pl.col("rater_kind") == "expert"


def test_counts_add_up(simulate):
    frame = simulate()
    checks = read_panel(frame, LEVELS).checks
    scored = frame.filter(pl.col("score").is_not_null())
    assert (checks["cases"], checks["systems"]) == (60, 3)
    assert (checks["items"], checks["rows"]) == (180, frame.height)
    assert checks["expert_ratings"] == scored.filter(EXPERT).height
    assert checks["judge_ratings"] == scored.filter(~EXPERT).height
    assert (checks["experts"], checks["judges"]) == (3, 1)
    json.dumps(checks, allow_nan=False)


def test_missing_share_per_rater_over_dimensions(simulate):
    frame = simulate(missing=0.0)
    gone = (pl.col("rater") == "e1") & (pl.col("case_id") < "c3") & (pl.col("dimension") == "d0")
    lost = frame.filter(gone).height
    found = {row["rater"]: row for row in read_panel(frame.filter(~gone), LEVELS).checks["missing"]}
    assert found["e1"]["missing_share"] == pytest.approx(lost / 360)
    assert found["e0"]["missing_share"] == found["j0"]["missing_share"] == 0
    assert found["e1"]["planned"] - found["e1"]["n"] == lost > 0


def test_values_outside_the_scale_are_counted_by_value(simulate):
    frame = simulate(missing=0.0)
    zero = EXPERT & (pl.col("case_id").is_in(["c1", "c2"])) & (pl.col("rater") == "e0")
    frame = frame.with_columns(pl.when(zero).then(-1).otherwise(pl.col("score")).alias("score"))
    frame = frame.with_columns(
        pl.when(~EXPERT & (pl.col("case_id") == "c3")).then(6).otherwise(pl.col("score")).alias("score")
    )
    found = read_panel(frame, LEVELS).checks["out_of_range"]
    assert found["values"] == [
        {"rater_kind": "expert", "score": -1.0, "count": 12},
        {"rater_kind": "judge", "score": 6.0, "count": 6},
    ]
    assert found["count"] == 18


def test_use_of_the_scale_and_a_dominant_value(simulate):
    frame = simulate(missing=0.0)
    flat = (pl.col("dimension") == "d1") & EXPERT & (pl.col("case_id") != "c1")
    frame = frame.with_columns(pl.when(flat).then(4.0).otherwise(pl.col("score").clip(1, 5)).alias("score"))
    first, second = read_panel(frame, LEVELS).checks["dimensions"]
    assert (first["dominant"], second["dominant"]) == (False, True)
    assert second["commonest_value"] == 4.0
    assert second["commonest_share"] > 59 / 60 - 1e-9
    assert 0 in first["levels_not_used"]
    given = read_panel(frame, LEVELS).experts[0]
    shares = np.unique(given, return_counts=True)[1] / given.size
    assert first["entropy_bits"] == pytest.approx(-(shares * np.log2(shares)).sum())


def test_exactly_four_fifths_is_not_dominant(simulate):
    frame = simulate(cases=10, systems=1, dimensions=1, raters=1, missing=0.0)
    score = pl.Series([4.0] * 8 + [3.0] * 2 + [2.0] * 10)
    assert not read_panel(frame.with_columns(score=score), LEVELS).checks["dimensions"][0]["dominant"]


def test_adjudicated_nameless_and_repeated_ratings_are_counted(simulate):
    frame = simulate(missing=0.0)
    again = frame.filter(EXPERT & (pl.col("case_id") < "c2"))
    late = pl.concat([frame.with_columns(stage=pl.lit("independent")), again.with_columns(stage=pl.lit("adjudicated"))])
    assert read_panel(late, LEVELS).checks["adjudicated"] == {"ratings": again.height, "used": False}
    settled = read_panel(frame.with_columns(stage=pl.lit("adjudicated")), LEVELS).checks
    assert settled["adjudicated"] == {"ratings": 60 * 3 * 2 * 3, "used": True}

    twice = pl.concat([frame.with_columns(repeat=pl.lit(0)), again.with_columns(repeat=pl.lit(1))])
    assert read_panel(twice, LEVELS).checks["expert_repeats_not_used"] == again.height
    # A repeat whose first is empty is the one that counts, so nothing is left unused.
    first_empty = twice.with_columns(
        pl.when(EXPERT & (pl.col("case_id") < "c2") & (pl.col("repeat") == 0))
        .then(None)
        .otherwise("score")
        .alias("score")
    )
    assert read_panel(first_empty, LEVELS).checks["expert_repeats_not_used"] == 0

    one = EXPERT & (pl.col("rater") == "e0")
    some = frame.with_columns(pl.when(one).then(pl.lit("")).otherwise(pl.col("rater")).alias("rater"))
    checks = read_panel(some, LEVELS).checks
    assert checks["without_identity"] == {"ratings": 360, "slots": 3}
    assert read_panel(frame, LEVELS).checks["without_identity"] == {"ratings": 0, "slots": 0}
