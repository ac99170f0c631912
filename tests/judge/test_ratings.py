"""Ratings as a frame and as files: shapes, states, errors."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dermjudge.judge.errors import InputError
from dermjudge.judge.records import STATES, Rating, Score, identity
from dermjudge.judge.rubric import Dimension, Rubric, Scale
from dermjudge.judge.tables import RATINGS_SCHEMA, frame_to_ratings, ratings_to_frame, read_ratings, write_ratings

from .test_tables import name, text

ENDINGS = ("jsonl", "csv", "parquet")
QUICK = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RUBRIC = Rubric(
    name="tiny", version=2, scale=Scale(levels=(1, 2, 3, 4), step=0.5),
    dimensions=tuple(Dimension(name=n, definition=n, anchors=dict.fromkeys((1, 2, 3, 4), "x"))
                     for n in ("Accuracy", "Clinical Coverage")),
)  # fmt: skip

unit = st.floats(0, 1)
scored = st.builds(
    Score, st.floats(allow_nan=False, allow_infinity=False), st.just("scored"), text,
    st.none() | st.lists(unit, max_size=4).map(tuple), st.none() | unit)  # fmt: skip
states = st.sampled_from([s for s in STATES if s != "scored"])
unscored = st.builds(Score, st.none(), states, text, st.none(), st.none())
plain_names = st.sampled_from(["Accuracy", "safety", "Überblick", "=tricky"])
ratings = st.builds(
    Rating, case_id=name, system=name, rater=name, rater_kind=st.sampled_from(["expert", "judge"]),
    rubric=st.just("tiny@2"), scores=st.dictionaries(plain_names, scored | unscored, min_size=1, max_size=3), arm=name,
    sample=st.integers(0, 9), stage=st.sampled_from(["independent", "adjudicated"]), repeat=st.integers(0, 9),
    answer=text, cost=st.none() | st.floats(0, 9), narrative_hash=text, flags=st.lists(text, max_size=2).map(tuple),
)  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
@QUICK
@given(made=st.lists(ratings, min_size=1, max_size=12, unique_by=lambda r: identity(r.rater)), words=text)
def test_ratings_come_back_as_they_were(tmp_path, ending, made, words):
    first = next(iter(made[0].scores))
    made[0] = replace(made[0], critique={first: words} if words else {})
    path = tmp_path / f"r.{ending}"
    write_ratings(made, path)
    frame = read_ratings(path)
    assert dict(frame.schema) == RATINGS_SCHEMA
    # Ids that differ only in case are one id, so they come back in the spelling that stands first.
    assert [replace(r, case_id="", system="", arm="") for r in frame_to_ratings(frame)] == [
        replace(r, case_id="", system="", arm="") for r in made]  # fmt: skip
    assert next(frame_to_ratings(frame)) == made[0]
    assert ratings_to_frame(frame_to_ratings(frame)).equals(frame)


def test_ratings_and_frame_keep_order_and_count():
    made = [Rating("c2", "s", "r", "judge", "tiny@2", {"B": Score(1.5), "A": Score(None, "api_error", "down")}),
            Rating("c1", "s", "r", "judge", "tiny@2", {"A": Score(0.0)}, flags=("odd",))]  # fmt: skip
    frame = ratings_to_frame(made)
    assert frame.height == 3
    assert frame["score"].to_list() == [1.5, None, 0.0]
    assert list(frame_to_ratings(frame)) == made
    assert next(frame_to_ratings(frame[::-1])) == made[1]
    assert ratings_to_frame([]).schema == RATINGS_SCHEMA


@pytest.mark.parametrize(
    ("rating", "message"),
    [
        (Rating("c", "s", "r", "judge", "x", {}), "no dimension"),
        (Rating("c", "s", "r", "judge", "x", {"A": Score(1)}, critique={"B": "?"}), "critique of 'B'"),
        (Rating("c", "s", "r", "judge", "x", {"A": Score(math.nan)}), "not finite"),
    ],
)
def test_ratings_that_no_table_can_hold(tmp_path, rating, message):
    with pytest.raises(InputError, match=message):
        ratings_to_frame([rating])
    with pytest.raises(InputError, match=message):
        write_ratings([rating], tmp_path / "r.csv")


def write(tmp_path, content, file="r.csv"):
    path = tmp_path / file
    path.write_text(content, encoding="utf-8")
    return path


LONG = "case_id,system,rater,rater_kind,dimension,score\n"


def test_long(tmp_path):
    path = write(tmp_path, "item,system,rater,status,dimension,score,stars\n"
                 "007,s,anna,,clinical_coverage,3.5,x\n007,s,anna,,ACCURACY,,x\n008,s,anna,refused,Accuracy,,x\n"
                 "008,s,anna,,Overall,3,x\n")  # fmt: skip
    notes: list[str] = []
    frame = read_ratings(path, RUBRIC, {"item": "case_id"}, "expert", notes=notes)
    assert frame.select("case_id", "rater_kind", "rubric", "dimension", "score", "state").rows() == [
        ("007", "expert", "tiny@2", "Clinical Coverage", 3.5, "scored"),
        ("007", "expert", "tiny@2", "Accuracy", None, "skipped"),
        ("008", "expert", "tiny@2", "Accuracy", None, "refused"),
    ]
    assert notes == ["r.csv: ignored column stars", notes[1]]
    assert "'overall'" in notes[1]


def test_wide(tmp_path):
    path = write(tmp_path, "case_id;system;rater;accuracy;Clinical coverage;image\n"
                 "a;s;anna;4;2.5;x.png\nb;s;anna;;1;\n")  # fmt: skip
    notes: list[str] = []
    frame = read_ratings(path, RUBRIC, rater_kind="expert", notes=notes)
    assert frame.select("case_id", "dimension", "score", "state").rows() == [
        ("a", "Accuracy", 4.0, "scored"), ("a", "Clinical Coverage", 2.5, "scored"),
        ("b", "Accuracy", None, "skipped"), ("b", "Clinical Coverage", 1.0, "scored"),
    ]  # fmt: skip
    assert notes == ["r.csv: ignored column image"]
    named = read_ratings(path, rater_kind="expert", dimensions=["accuracy"])
    assert named.select("dimension", "score", "rubric").rows() == [("accuracy", 4.0, ""), ("accuracy", None, "")]
    with pytest.raises(InputError, match=r"wide table .* is read with a rubric"):
        read_ratings(path, rater_kind="expert")


def test_wide_without_a_column_for_a_dimension(tmp_path):
    slip = write(tmp_path, "case_id,system,rater,rater_kind,Acuracy,Clinical Coverage\na,s,r,expert,1,1\n")
    with pytest.raises(InputError, match="no column for the dimension 'Accuracy'; is it 'Acuracy'"):
        read_ratings(slip, RUBRIC)
    assert read_ratings(slip, RUBRIC, {"Acuracy": "Accuracy"})["score"].to_list() == [1.0, 1.0]
    notes: list[str] = []
    absent = write(tmp_path, "case_id,system,rater,rater_kind,Accuracy\na,s,r,expert,1\n")
    frame = read_ratings(absent, RUBRIC, notes=notes)
    assert frame.select("score", "state", "reason").rows() == [(1.0, "scored", ""), (None, "skipped", "no column")]
    assert notes == ["r.csv: no column for Clinical Coverage: taken as skipped"]
    none = write(tmp_path, "case_id,system,rater,rater_kind,beauty\na,s,r,expert,1\n")
    with pytest.raises(InputError, match="nor a column for any of Accuracy, Clinical Coverage"):
        read_ratings(none, RUBRIC)


def test_nested(tmp_path):
    row = {"case_id": "a", "system": "s", "rater": "j", "rater_kind": "judge", "rubric": "tiny@2",
           "critique": {"Accuracy": "names the wrong lesion"},
           "scores": {"Accuracy": {"value": 3.21, "distribution": [0, 0.1, 0.6, 0.3], "mass": 0.99},
                      "Clinical Coverage": None}}  # fmt: skip
    frame = read_ratings(write(tmp_path, json.dumps(row) + "\n", "r.jsonl"), RUBRIC)
    (rating,) = frame_to_ratings(frame)
    assert rating.scores["Accuracy"] == Score(3.21, distribution=(0, 0.1, 0.6, 0.3), mass=0.99)
    assert rating.scores["Clinical Coverage"] == Score(None, "skipped")
    assert rating.critique == {"Accuracy": "names the wrong lesion"}


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"Accuracy": "4"}, '"4" is not a score'),
        ({"Accuracy": True}, "true is not a score"),
        ({"Accuracy": {"points": 4}}, "unknown 'points'; known: value"),
        ({}, "an object such as"),
        ([4, 5], "an object such as"),
    ],
)
def test_nested_scores_that_are_none(tmp_path, scores, message):
    row = {"case_id": "a", "system": "s", "rater": "j", "rater_kind": "judge", "scores": scores}
    with pytest.raises(InputError, match=f"line 1, scores: .*{message}"):
        read_ratings(write(tmp_path, json.dumps(row), "r.jsonl"))


def test_scores_off_the_scale_are_set_aside_and_listed(tmp_path):
    path = write(tmp_path, LONG + "a,s,r,expert,Accuracy,5\nb,s,r,expert,Accuracy,2.25\nc,s,r,judge,Accuracy,2.25\n"
                 "d,s,r,judge,Accuracy,0.99\ne,s,r,expert,Accuracy,1\n")  # fmt: skip
    notes: list[str] = []
    frame = read_ratings(path, RUBRIC, notes=notes)
    assert frame["score"].to_list() == [None, None, 2.25, None, 1.0]
    assert frame["state"].to_list() == ["out_of_scale", "out_of_scale", "scored", "out_of_scale", "scored"]
    assert frame["reason"].to_list()[:2] == [f"{raw} is not on the scale 1 to 4 in steps of 0.5" for raw in (5, 2.25)]
    assert [note.split(":")[0] for note in notes] == [f"r.csv line {line}, Accuracy" for line in (2, 3, 5)]
    assert read_ratings(path)["state"].unique().to_list() == ["scored"]  # without a rubric there is no scale


@pytest.mark.parametrize("value", ["NaN", "nan", "inf", "-Infinity", "four", "4,5", "4/5", "1e999", "٤", "0x4", "N/A"])
def test_scores_that_are_no_numbers_are_errors(tmp_path, value):
    path = write(tmp_path, LONG + f'a,s,r,expert,Accuracy,3\nb,s,r,expert,Accuracy,"{value}"\n')
    with pytest.raises(InputError, match=r"r.csv line 3, score: '.*' is not a score; a number from 1 to 4, or an"):
        read_ratings(path, RUBRIC)


def test_nan_in_parquet_is_an_error(tmp_path):
    path = tmp_path / "r.parquet"
    row = {"case_id": "a", "system": "s", "rater": "r", "rater_kind": "expert", "dimension": "A"}
    pl.DataFrame([row | {"score": 1.0}, row | {"case_id": "b", "score": math.nan}]).write_parquet(path)
    with pytest.raises(InputError, match="line 2, score: 'NaN' is not a score"):
        read_ratings(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (",s,r,expert,Accuracy,1,", "line 2, case_id: is empty"),
        ("a,s,r,robot,Accuracy,1,", "rater_kind: 'robot' is none of expert, judge"),
        ("a,s,r,expert,Beauty,1,", "dimension: 'Beauty' is no dimension of tiny@2; it has Accuracy, Clinical"),
        ("a,s,r,expert,Accuracy,1,lost", "state: 'lost' is none of scored, refused"),
        ("a,s,r,expert,Accuracy,1,refused", "1 stands beside a state without score"),
        ("a,s,r,expert,Accuracy,,scored", "scored, but the score is empty"),
    ],
)
def test_cells_of_a_rating_that_are_wrong(tmp_path, line, message):
    path = write(tmp_path, LONG.strip() + ",state\n" + line + "\n")
    with pytest.raises(InputError, match=message):
        read_ratings(path, RUBRIC)


def test_other_cells_that_are_wrong(tmp_path):
    head = LONG.strip() + ",sample,mass,rubric,stage,distribution\n"
    good = "a,s,r,expert,Accuracy,1,0,0.5,tiny@2,independent,\n"
    assert read_ratings(write(tmp_path, head + good), RUBRIC).height == 1
    for old, new, message in [
        ("1,0,", "1,-1,", "sample: '-1' is not a whole number"),
        ("0.5", "1.5", "mass: '1.5' is not a number from 0 to 1"),
        ("tiny@2", "tiny@1", "rubric: 'tiny@1' is not tiny@2"),
        ("independent", "second", "stage: 'second' is none of independent, adjudicated"),
        (",independent,", ',independent,"[0.1, "', "distribution: a JSON list"),
    ]:
        with pytest.raises(InputError, match=message):
            read_ratings(write(tmp_path, head + good.replace(old, new)), RUBRIC)


def test_missing_and_unknown_columns_name_the_closest(tmp_path):
    path = write(tmp_path, "case,system,reader,dimension,score\na,s,r,A,1\n")
    with pytest.raises(InputError) as caught:
        read_ratings(path)
    message = str(caught.value)
    assert "missing columns case_id, rater, rater_kind" in message
    assert "'reader' (closest: rater)" in message
    assert "--map case=case_id" in message
    assert "--rater-kind expert" in message


def test_a_rating_given_twice_is_an_error_across_files_and_spellings(tmp_path):
    one = write(tmp_path, LONG + "a,s,Anna,expert,Accuracy,1\n", "one.csv")
    two = write(tmp_path, LONG + "b,s,anna,expert,Accuracy,1\nA ,s,anna,expert,Accuracy,2\n", "two.csv")
    with pytest.raises(InputError, match=r"two.csv line 3: a / s / Anna / Accuracy stands already in one.csv line 2"):
        read_ratings([one, two])
    notes: list[str] = []
    two.write_text(LONG + "b,s,anna,expert,Accuracy,1\n")
    assert read_ratings([one, two], notes=notes)["rater"].to_list() == ["Anna", "Anna"]
    assert notes == ["rater: 'anna' is taken for 'Anna' (they differ only in case or blanks)"]
    again = LONG.strip() + ",repeat,stage\na,s,r,judge,A,1,{},{}\na,s,r,judge,A,1,{},{}\n"
    for first, second in (((0, ""), (1, "")), ((0, "independent"), (0, "adjudicated"))):
        assert read_ratings(write(tmp_path, again.format(*first, *second))).height == 2


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match="no ratings file"):
        read_ratings([])
    with pytest.raises(InputError, match="no ratings in these files"):
        read_ratings(write(tmp_path, LONG))


def test_a_hundred_thousand_rows_are_read_fast(tmp_path):
    rows = "".join(f"case-{i // 4:05d},s,r{i % 4},expert,Accuracy,{i % 4 + 1}\n" for i in range(100_000))
    path = write(tmp_path, LONG + rows)
    start = time.process_time()
    assert read_ratings(path, RUBRIC)["score"].sum() == 250_000
    assert time.process_time() - start < 5  # about 0.5 s; a loop over rows takes far more
