import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from dermjudge.evaluators.calibration import Calibration, calibrate
from dermjudge.evaluators.deferral import flag_for_review, risk_coverage
from dermjudge.evaluators.score_intervals import IntervalMethod, ScoreIntervals, check_intervals, fit_intervals
from dermjudge.judge.errors import InputError

LEVELS = (0, 1, 2, 3, 4, 5)


def doubtful(cases: int, seed: int) -> pl.DataFrame:
    """One expert and one judge whose distribution is honest: half of its scores are certain, half are not."""
    draw = np.random.default_rng(seed)
    rows = []
    for c in range(cases):
        noise = (0.25, 1.2)[c % 2]
        truth = float(draw.integers(1, 5))
        score = float(np.clip(truth + draw.normal(0, noise), 0, 5))
        chances = np.exp(-0.5 * ((np.arange(6) - score) / noise) ** 2)
        both = {"case_id": f"c{seed}-{c}", "system": "s", "dimension": "A"}
        rows.append(both | {"rater": "e", "rater_kind": "expert", "score": truth, "distribution": None})
        judged = {"score": score, "distribution": (chances / chances.sum()).tolist()}
        rows.append(both | {"rater": "j", "rater_kind": "judge", **judged})
    return pl.DataFrame(rows, schema_overrides={"distribution": pl.List(pl.Float64)})


def test_intervals_of_calibrated_scores_cover_new_cases(simulate):
    """Fitted on 80 cases of 3 systems, counted on 400 new ones: coverage of a score within the binomial band."""
    both = simulate(cases=480, dimensions=1, continuous=True)
    new = pl.col("case_id").str.slice(1).cast(pl.Int64) >= 80
    hits = []
    old = both.filter(~new).with_columns(
        pl.when(pl.col("rater_kind") == "judge").then(0.6 * pl.col("score") + 1.5).otherwise("score").alias("score")
    )
    found = calibrate(old, LEVELS, "j0", resamples=1)
    intervals = fit_intervals(found.unseen, "j0", LEVELS)
    assert intervals.dimensions["d0"].strata[""].cases == 80
    rest = both.filter(new).with_columns(
        pl.when(pl.col("rater_kind") == "judge").then(0.6 * pl.col("score") + 1.5).otherwise("score").alias("score")
    )
    scored = intervals.apply(found.apply(rest, notes=[]))
    experts = rest.filter(pl.col("rater_kind") == "expert").group_by("case_id", "system").agg(pl.col("score").mean())
    joined = scored.filter(pl.col("rater_kind") == "judge").join(
        experts.rename({"score": "expert"}), on=["case_id", "system"]
    )
    joined = joined.drop_nulls("expert")
    hits = joined.select((pl.col("low") <= pl.col("expert")) & (pl.col("expert") <= pl.col("high"))).to_series()
    # Both the 80 fitted cases (Beta) and the 400 counted ones vary: SD about sqrt(0.09 / 82 + 0.09 / 400).
    assert hits.mean() == pytest.approx(0.9, abs=3 * np.sqrt(0.09 / 82 + 0.09 / 400))
    assert scored.filter(pl.col("rater_kind") == "expert")["low"].null_count() == scored.height - joined_height(scored)
    assert scored["interval_note"].null_count() == scored.height


def joined_height(scored: pl.DataFrame) -> int:
    return scored.filter(pl.col("rater_kind") == "judge").height


def test_check_counts_on_cases_that_were_held_out(simulate):
    unseen = calibrate(simulate(cases=150, continuous=True), LEVELS, "j0", resamples=1).unseen
    for method in (IntervalMethod(), IntervalMethod(predicted="raw", signed=True), IntervalMethod(per_case="largest")):
        for check in check_intervals(unseen, LEVELS, method):
            assert check.coverage.n == unseen.filter(pl.col("dimension") == check.dimension).height
            assert check.coverage.high > 0.9
            assert check.coverage.value > 0.85
            assert 0 < check.width.value < 5
            assert (check.trivial, check.group) == (0, None)
    strict, loose = (check_intervals(unseen, LEVELS, IntervalMethod(alpha=a))[0] for a in (0.05, 0.5))
    assert strict.width.value > 1.5 * loose.width.value
    assert loose.coverage.value == pytest.approx(0.5, abs=0.1)


def test_subgroups_are_checked_apart_and_small_ones_are_trivial(simulate):
    frame = simulate(cases=60)
    skin = {f"c{i}": "dark" if i < 8 else "light" for i in range(60)}
    found = calibrate(frame, LEVELS, "j0", resamples=1)
    checks = {c.group: c for c in check_intervals(found.unseen, LEVELS, by=skin) if c.dimension == "d0"}
    assert set(checks) == {None, "dark", "light"}
    assert checks["dark"].trivial == checks["dark"].coverage.n
    assert (checks["dark"].coverage.value, checks["dark"].width.value) == (1.0, 5.0)
    assert checks["light"].trivial == 0
    intervals = fit_intervals(found.unseen, "j0", LEVELS, by=skin)
    done = intervals.apply(found.apply(frame), by=skin).filter(pl.col("rater_kind") == "judge")
    dark = done.filter(pl.col("case_id") == "c3")
    assert dark["low"].to_list() == [0.0] * 6
    assert "subgroup 'dark' has 8 labelled cases; 9 are needed" in dark["interval_note"][0]
    with pytest.raises(InputError, match="exactly if"):
        intervals.apply(found.apply(frame))


def test_doubt_makes_intervals_wide_where_the_judge_errs():
    unseen = calibrate(doubtful(200, 1), LEVELS, "j", method="linear", resamples=1).unseen
    assert unseen["sd"].null_count() == 0
    own = check_intervals(unseen, LEVELS, IntervalMethod(normalised=True))[0]
    assert own.coverage.value == pytest.approx(0.9, abs=0.06)
    found = calibrate(doubtful(200, 1), LEVELS, "j", method="linear", resamples=1)
    fresh = doubtful(200, 2)
    intervals = fit_intervals(found.unseen, "j", LEVELS, IntervalMethod(normalised=True))
    judged = intervals.apply(found.apply(fresh, notes=[])).filter(pl.col("rater_kind") == "judge")
    doubt = judged.with_columns(width=pl.col("high") - pl.col("low"), n=pl.int_range(pl.len()) % 2)
    assert doubt.filter(pl.col("n") == 1)["width"].mean() > 2 * doubt.filter(pl.col("n") == 0)["width"].mean()
    target = fresh.filter(pl.col("rater_kind") == "expert")["score"].to_numpy()
    hit = (doubt["low"].to_numpy() <= target) & (target <= doubt["high"].to_numpy())
    assert hit.mean() == pytest.approx(0.9, abs=3 * np.sqrt(0.09 / 200 + 0.09 / 200))
    one_width = fit_intervals(found.unseen, "j", LEVELS).apply(found.apply(fresh, notes=[]))
    even = one_width.filter(pl.col("rater_kind") == "judge")
    even_hit = (even["low"].to_numpy() <= target) & (target <= even["high"].to_numpy())
    assert even_hit[1::2].mean() < hit[1::2].mean() - 0.03  # one width for all fails the doubtful scores
    review = flag_for_review(judged, widest=0.2)
    assert 0 < review.height <= 40
    assert all(int(case.split("-")[1]) % 2 == 1 for case in review["case_id"])
    pays = risk_coverage(np.abs(doubt["score"].to_numpy() - target), doubt["width"].to_numpy(), resamples=200)
    assert pays.gain.low > 0
    blank = fresh.with_columns(distribution=pl.lit(None, dtype=pl.List(pl.Float64)))
    none = intervals.apply(found.apply(blank, notes=[])).filter(pl.col("rater_kind") == "judge")
    assert set(none["interval_note"]) == {"no interval: the score has no distribution"}
    assert none["low"].null_count() == none.height


def test_they_travel_with_the_calibration(simulate, tmp_path):
    frame = simulate(cases=40)
    found = calibrate(frame, LEVELS, "j0", resamples=1)
    intervals = fit_intervals(found.unseen, "j0", LEVELS, IntervalMethod(randomised=True))
    dataclasses.replace(found, intervals=intervals.to_dict()).save(tmp_path / "c.json")
    loaded = Calibration.load(tmp_path / "c.json", "j0", "")
    again = ScoreIntervals.from_dict(loaded.intervals)
    assert again == intervals
    scored = found.apply(frame)
    assert again.apply(scored, seed=3).equals(intervals.apply(scored, seed=3))
    json.dumps([c.to_dict() for c in check_intervals(found.unseen, LEVELS)], allow_nan=False)


def test_wrong_use(simulate):
    frame = simulate(cases=30)
    found = calibrate(frame, LEVELS, "j0", resamples=1)
    intervals = fit_intervals(found.unseen, "j0", LEVELS)
    with pytest.raises(InputError, match="not calibrated: apply"):
        intervals.apply(frame)
    raw = fit_intervals(found.unseen, "j0", LEVELS, IntervalMethod(predicted="raw"))
    with pytest.raises(InputError, match="calibrated already"):
        raw.apply(found.apply(frame))
    with pytest.raises(InputError, match="no row of judge"):
        raw.apply(frame.filter(pl.col("rater_kind") == "expert"))
    with pytest.raises(InputError, match="lack fold"):
        fit_intervals(found.unseen.drop("fold"), "j0", LEVELS)
    unseen = calibrate(doubtful(40, 1), LEVELS, "j", resamples=1).unseen
    by_doubt = fit_intervals(unseen, "j", LEVELS, IntervalMethod(predicted="raw", normalised=True))
    with pytest.raises(InputError, match="need the column distribution"):
        by_doubt.apply(doubtful(9, 1).drop("distribution"))
    new = raw.apply(frame.with_columns(dimension=pl.lit("tone")))
    assert "no interval was fitted for dimension 'tone'" in new["interval_note"].to_list()


def test_check_never_counts_on_what_was_fitted():
    """Four folds without any error and one with a large one: nothing in the other folds makes room for it."""
    fold = np.arange(50) % 5
    score = np.full(50, 2.0)
    unseen = pl.DataFrame(
        {"case_id": [f"c{i}" for i in range(50)], "cluster": range(50), "dimension": ["A"] * 50, "fold": fold,
         "expert": np.where(fold == 4, 4.0, 2.0), "raw": score, "calibrated": score}
    )  # fmt: skip
    check = check_intervals(unseen, LEVELS, IntervalMethod(alpha=0.1))[0]
    assert check.coverage.value == pytest.approx(0.8)
    assert check.width.value == pytest.approx(0.8 * 4)  # the four folds are fitted with the fifth, the fifth without
