"""Juries: what several judges come to, who is behind each score, and what a missing judge does."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from dermjudge.evaluators.calibration import calibrate
from dermjudge.evaluators.jury import jury
from dermjudge.evaluators.ratings import read_panel
from dermjudge.judge.errors import InputError
from dermjudge.judge.ratings import RATINGS_SCHEMA, frame_to_ratings, read_ratings, write_ratings

LEVELS = (0, 1, 2, 3, 4, 5)


def table(rows):
    """rows: (judge, case, score or a state)."""
    return pl.DataFrame(
        [
            {
                "case_id": case,
                "system": "s",
                "rater": judge,
                "rater_kind": "judge",
                "dimension": "d",
                "rubric": "r@1",
                "repeat": repeat,
                "score": score if not isinstance(score, str) else None,
                "state": score if isinstance(score, str) else "scored",
            }
            for judge, case, score, repeat in [(*row, 0)[:4] if len(row) == 3 else row for row in rows]
        ],
        schema_overrides={"score": pl.Float64},
    )


FULL = table(
    [("a", "1", 1.0), ("b", "1", 2.0), ("c", "1", 6.0), ("a", "2", 4.0), ("b", "2", "refused"), ("c", "2", 5.0)]
)


def test_mean_and_median_with_the_number_of_judges_and_their_spread():
    found = jury(FULL)
    rows = found.frame.sort("case_id").to_dicts()
    assert found.rater == "jury(mean of 3)" and {row["rater"] for row in rows} == {found.rater}
    assert (rows[0]["score"], rows[0]["judges"], rows[0]["state"]) == (3.0, 3, "scored")
    assert rows[0]["judge_sd"] == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert jury(FULL, how="median").frame.sort("case_id")["score"][0] == 2.0
    two = jury(FULL, ["a", "c"])
    assert two.frame.sort("case_id")["score"].to_list() == [3.5, 4.5] and two.rater == "jury(mean of 2)"


def test_a_missing_judge_is_missing_unless_fewer_are_enough():
    found = jury(FULL)
    row = found.frame.sort("case_id").row(1, named=True)
    assert (row["score"], row["state"], row["judges"]) == (None, "skipped", 2)
    assert row["reason"] == "2 of 3 judges have a score, 3 must: b: refused"
    assert (found.scored, found.planned) == (1, 2)
    b = next(member for member in found.members if member.judge == "b")
    assert (b.scored, b.planned, b.coverage, b.alone_missing, b.states) == (1, 2, 0.5, 1, {"refused": 1, "scored": 1})
    fewer = jury(FULL, least=2)
    assert fewer.frame.sort("case_id")["score"].to_list() == [3.0, 4.5]
    assert "at least 2 of 3" in fewer.policy and "all judges" in found.policy


def test_a_judge_that_was_not_asked_counts_as_missing():
    found = jury(table([("a", "1", 1.0), ("b", "1", 2.0), ("a", "2", 3.0)]))
    assert (found.planned, found.scored) == (2, 1)
    assert "b: not asked" in found.frame.filter(pl.col("case_id") == "2")["reason"][0]


def test_repeats_of_a_judge_are_averaged_and_do_not_count_as_judges():
    found = jury(table([("a", "1", 1.0, 0), ("a", "1", 2.0, 1), ("b", "1", 4.5, 0)]))
    assert found.frame["score"].to_list() == [3.0] and found.frame["judges"].to_list() == [2]


def test_what_cannot_be_one_jury_is_refused():
    for kwargs, words in (
        ({"judges": ["a"]}, "two judges"),
        ({"judges": ["a", "a"]}, "two judges"),
        ({"judges": ["a", "z"]}, "no ratings of judge 'z'"),
        ({"how": "best"}, "unknown jury"),
        ({"least": 4}, "from 1 to the 3"),
        ({"how": "calibrated"}, "calibrations go with"),
        ({"calibrations": {}}, "calibrations go with"),
        ({"how": "calibrated", "calibrations": {}}, "no calibration of judge 'a'"),
    ):
        with pytest.raises(InputError, match=words):
            jury(FULL, **kwargs)
    with pytest.raises(InputError, match="different rubrics"):
        jury(FULL.with_columns(pl.col("rater").alias("rubric")))
    with pytest.raises(InputError, match="different texts"):
        jury(FULL.with_columns(pl.col("rater").alias("narrative_hash")))
    with pytest.raises(InputError, match="share their key"):
        jury(pl.concat([FULL, FULL]))


def test_calibrated_weights_are_inverse_errors_and_beat_the_plain_mean(simulate):
    frame = simulate(cases=150, judges=(0.3, 0.6, 2.5), dimensions=1, missing=0.0, continuous=True, seed=3)
    records = {
        name: calibrate(frame, LEVELS, name, method="linear", resamples=20, rubric="") for name in ("j0", "j1", "j2")
    }
    found = jury(frame, how="calibrated", calibrations=records)
    errors = {name: record.of("d0").results["after.rmse"].value ** -2 for name, record in records.items()}
    for member in found.members:
        assert member.weights["d0"] == pytest.approx(errors[member.judge] / sum(errors.values()))
    truth = frame.filter(pl.col("rater_kind") == "expert").group_by("case_id", "system").agg(pl.col("score").mean())

    def rmse(rows):
        both = rows.join(truth, on=["case_id", "system"], suffix="_true")
        return float(((both["score"] - both["score_true"]) ** 2).mean()) ** 0.5

    assert rmse(found.frame) < rmse(jury(frame).frame)
    assert rmse(found.frame) < min(errors.values()) ** -0.5


def test_a_judge_without_a_map_has_no_weight(simulate):
    frame = simulate(cases=40, judges=(0.3, 0.6), missing=0.0)
    records = {name: calibrate(frame, LEVELS, name, resamples=20) for name in ("j0", "j1")}
    short = frame.filter((pl.col("rater") != "j1") | (pl.col("dimension") == "d0"))
    records["j1"] = calibrate(short, LEVELS, "j1", resamples=20)
    found = jury(frame, how="calibrated", calibrations=records)
    by = found.frame.group_by("dimension").agg(pl.col("score").is_not_null().all(), pl.col("reason").first())
    rows = {row["dimension"]: row for row in by.to_dicts()}
    assert rows["d0"]["score"] and not rows["d1"]["score"]
    assert "j1: not calibrated" in rows["d1"]["reason"]
    assert any("j1: d1" in note for note in found.notes)


def test_a_judge_whose_error_is_not_known_has_no_weight(simulate):
    frame = simulate(cases=40, judges=(0.3, 0.6), dimensions=1, missing=0.0)
    records = {name: calibrate(frame, LEVELS, name, resamples=20) for name in ("j0", "j1")}
    unknown = replace(records["j1"].of("d0"), results={})
    records["j1"] = replace(records["j1"], dimensions=(unknown,))
    found = jury(frame, how="calibrated", calibrations=records, least=1)
    assert found.frame["judges"].unique().to_list() == [1] and found.members[1].states == {"not calibrated": 120}
    alone = records["j0"].apply(frame.filter(pl.col("rater") == "j0"), notes=[])
    assert found.frame["score"].to_list() == pytest.approx(alone["score"].to_list())


def test_the_jury_is_a_rater_like_any_judge(simulate, tmp_path):
    frame = simulate(judges=(0.3, 0.6), missing=0.0)
    found = jury(frame)
    panel = read_panel(pl.concat([frame, found.frame.select(frame.columns)]), LEVELS)
    place = panel.judge_names.index(found.rater)
    others = [k for k in range(3) if k != place]
    assert np.allclose(panel.judges[:, :, place], panel.judges[:, :, others].mean(axis=2))
    whole = found.frame.with_columns(
        pl.lit(None, dtype=kind).alias(name) for name, kind in RATINGS_SCHEMA.items() if name not in found.frame.columns
    ).with_columns(pl.lit("r@1").alias("rubric"))
    write_ratings(frame_to_ratings(whole.fill_null("")), tmp_path / "jury.jsonl")
    assert read_ratings(tmp_path / "jury.jsonl")["score"].to_list() == found.frame["score"].to_list()
    assert found.to_dict()["members"][0]["coverage"] == 1.0
