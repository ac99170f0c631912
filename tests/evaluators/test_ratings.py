import json

import numpy as np
import polars as pl
import pytest

from dermjudge.evaluators.ratings import read_panel
from dermjudge.judge.errors import InputError

LEVELS = (0, 1, 2, 3, 4, 5)


def row(case="a", system="s", rater="e1", kind="expert", score=3.0, **more):
    return {
        "case_id": case,
        "system": system,
        "rater": rater,
        "rater_kind": kind,
        "dimension": "Safety",
        "score": score,
    } | more


def table(*rows):
    return pl.DataFrame(list(rows), infer_schema_length=None)


def test_scores_land_where_they_belong():
    panel = read_panel(
        table(row("b", "t", "e2", score=5), row("a", "s", "e1", score=1), row("b", "t", "m", "judge", score=2.5)),
        LEVELS,
    )
    assert panel.raters == ("e1", "e2")
    assert panel.judge_names == ("m",)
    assert [panel.case_ids[c] for c in panel.case] == ["a", "b"]
    np.testing.assert_array_equal(panel.experts[0], [[1, np.nan], [np.nan, 5]])
    np.testing.assert_array_equal(panel.judges[0], [[np.nan], [2.5]])


def test_out_of_range_scores_are_listed_and_not_used():
    frame = table(row("a", score=6), row("b", score=4), row("c", score=-1, rater="m", kind="judge"))
    panel = read_panel(frame, LEVELS)
    found = panel.checks["out_of_range"]
    assert (found["count"], found["used"], found["rows"][0]["score"]) == (2, False, 6.0)
    assert np.isnan(panel.experts[0, 0, 0])
    assert np.isnan(panel.judges).all()
    kept = read_panel(frame, LEVELS, keep_out_of_range=True)
    assert kept.experts[0, 0, 0] == 6
    assert kept.checks["out_of_range"]["used"] is True


def test_checks_count_missing_constant_ties_and_level_use():
    frame = table(
        *[row(c, rater="e1", score=s) for c, s in zip("abcd", [2, 2, 3, 5], strict=True)],
        *[row(c, rater="e2", score=s) for c, s in zip("abcd", [4, 4, None, 4], strict=True)],
        row("a", rater="m", kind="judge", score=1),
        row("b", rater="m", kind="judge", score=None, state="refused"),
    )
    frame = frame.with_columns(
        pl.when(pl.col("score").is_null())
        .then(pl.coalesce("state", pl.lit("skipped")))
        .otherwise(pl.lit("scored"))
        .alias("state")
    )
    checks = read_panel(frame, LEVELS).checks
    first, second, judge = checks["raters"]
    assert (first["missing_share"], first["constant"], first["tied_share"]) == (0.0, False, pytest.approx(1 / 6))
    assert (second["missing_share"], second["constant"], second["n"]) == (0.25, True, 3)
    assert second["level_use"] == {"0": 0, "1": 0, "2": 0, "3": 0, "4": 3, "5": 0}
    assert (judge["n"], judge["planned"], judge["missing_share"]) == (1, 2, 0.5)
    assert checks["states"] == {"expert": {"scored": 7, "skipped": 1}, "judge": {"refused": 1, "scored": 1}}
    json.dumps(checks, allow_nan=False)


def test_first_repeat_of_an_expert_and_mean_of_a_judge_count():
    panel = read_panel(
        table(
            row(score=1, repeat=0),
            row(score=5, repeat=1),
            row(rater="m", kind="judge", score=2, repeat=0),
            row(rater="m", kind="judge", score=3, repeat=1),
        ),
        LEVELS,
    )
    assert panel.experts[0, 0, 0] == 1
    assert panel.judges[0, 0, 0] == 2.5


def test_independent_ratings_win_and_adjudicated_ones_alone_are_marked():
    both = table(row(score=1, stage="independent"), row(score=4, stage="adjudicated"))
    panel = read_panel(both, LEVELS)
    assert (panel.stage, panel.experts[0, 0, 0]) == ("independent", 1)
    panel = read_panel(both.filter(pl.col("stage") == "adjudicated"), LEVELS)
    assert (panel.stage, panel.experts[0, 0, 0]) == ("adjudicated", 4)


def test_slots_without_identity():
    panel = read_panel(table(row(rater=None, score=1), row(rater=None, score=2), row("b", rater="", score=3)), LEVELS)
    assert panel.identity is False
    assert panel.raters == ("#1", "#2")


def test_clusters_come_from_the_mapping_then_patient_then_case():
    frame = table(row("a", patient_id="p"), row("b", patient_id="p"), row("c", patient_id=None))
    assert read_panel(frame, LEVELS).n_clusters == 2
    assert read_panel(frame.drop("patient_id"), LEVELS).n_clusters == 3
    assert read_panel(frame, LEVELS, {"a": "x", "b": "x", "c": "x"}).n_clusters == 1
    with pytest.raises(InputError, match="no cluster is given for case 'b'"):
        read_panel(frame, LEVELS, {"a": "x"})
    with pytest.raises(InputError, match="more than one patient_id"):
        read_panel(table(row("a", patient_id="p"), row("a", rater="e2", patient_id="q")), LEVELS)


@pytest.mark.parametrize(
    ("frame", "levels", "message"),
    [
        (table(row()).drop("score"), LEVELS, "lack the column.* score"),
        (table(row(score=float("nan"))), LEVELS, "NaN or infinite, first: case_id a"),
        (table(row(kind="critic")), LEVELS, "holds 'critic'; known: expert, judge"),
        (table(row(stage="final")), LEVELS, "holds 'final'; known: independent, adjudicated"),
        (table(row(), row()), LEVELS, "2 rows share their key"),
        (table(row(score=None, state="scored")), LEVELS, "state 'scored' without a score"),
        (table(row(case=None), row()), LEVELS, "case_id of the ratings is empty in 1 of 2"),
        (table(row(score="good")), LEVELS, "must be numbers"),
        (table(row(score="A"), row("b", score="tie")), LEVELS, "'A', 'tie'.*evaluators.votes: agree_votes"),
        (table(row()), (3,), "at least two rising"),
        (table(row()), (2, 1), "at least two rising"),
        (table(row(rater="m", kind="judge", distribution=[0.5, 0.5])), LEVELS, "one probability per level"),
    ],
)
def test_wrong_input_is_named(frame, levels, message):
    with pytest.raises(InputError, match=message):
        read_panel(frame, levels)


def test_distributions_are_averaged_over_repeats():
    frame = table(
        row(),
        row(rater="m", kind="judge", repeat=0, distribution=[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        row(rater="m", kind="judge", repeat=1, distribution=[0.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
    )
    panel = read_panel(frame, LEVELS)
    np.testing.assert_allclose(panel.distributions[0, 0, 0], [0.5, 0, 0, 0, 0, 0.5])


def test_numbers_as_text_are_read_and_categories_are_never_taken_by_their_codes():
    frame = table(row(score="3"), row("b", score=None), row("c", score="4.5"))
    assert read_panel(frame, LEVELS).experts[0, :, 0].tolist()[::2] == [3.0, 4.5]
    words = table(row(score="3"), row("b", score="5"))
    coded = words.with_columns(pl.col("score").cast(pl.Categorical))
    assert read_panel(coded, LEVELS).experts[0, :, 0].tolist() == [3.0, 5.0]
    with pytest.raises(InputError, match="agree_votes"):
        read_panel(table(row(score="A")).with_columns(pl.col("score").cast(pl.Categorical)), LEVELS)
