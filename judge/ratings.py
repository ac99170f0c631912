"""Ratings as one long polars frame (a row per rating and dimension), and as files: long, wide or nested.

Everything here works on columns, since studies of judges reach millions of rows. `cost`, `answer`, `flags` and
`narrative_hash` belong to the whole rating and are repeated on each of its rows: take them once per rating.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from .errors import InputError
from .ratingfile import DEFAULTS, NUMBER, PLACE, long_form
from .records import RATER_KINDS, STAGES, STATES, Rating, Score, identity
from .rubric import Rubric
from .tablefile import LISTED, Problem, dump_json, read_table, refuse, rename, write_frame, write_jsonl, written_ending

RATINGS_SCHEMA: dict[str, Any] = {
    "case_id": pl.String, "system": pl.String, "arm": pl.String, "sample": pl.Int64,
    "rater": pl.String, "rater_kind": pl.String, "stage": pl.String, "rubric": pl.String, "repeat": pl.Int64,
    "dimension": pl.String, "score": pl.Float64, "state": pl.String, "reason": pl.String, "mass": pl.Float64,
    "distribution": pl.List(pl.Float64), "critique": pl.String, "answer": pl.String, "cost": pl.Float64,
    "narrative_hash": pl.String, "flags": pl.List(pl.String),
}  # fmt: skip
RATING_KEY = ("case_id", "system", "arm", "sample", "rater", "rater_kind", "stage", "rubric", "repeat")

_log = logging.getLogger(__name__)


def read_ratings(
    paths: str | Path | Sequence[str | Path],
    rubric: Rubric | None = None,
    columns: Mapping[str, str] | None = None,
    rater_kind: str | None = None,
    dimensions: Sequence[str] | None = None,
    notes: list[str] | None = None,
) -> pl.DataFrame:
    """Read ratings of one or more files into one frame with the columns of RATINGS_SCHEMA.

    Long (dimension, score), wide (a column per dimension of `rubric`, or per name in `dimensions`) and nested
    (.jsonl with `scores`) are told apart by their columns. `columns` renames (name in the file -> ours);
    `rater_kind` fills in where the files say none. An empty score is `skipped`. With a rubric, a score off its
    scale (experts: or off its step) becomes `out_of_scale` with the raw value in `reason`; judges may give expected
    values between the steps. `notes` takes a line for whatever was ignored, unified or set aside (else: logged).

    InputError lists every bad cell with file, line, field and the values that would do, and every rating given twice.
    """
    notes_here: list[str] = []
    frames = []
    unused, seen = set(columns or {}), list[str]()
    for path in [paths] if isinstance(paths, str | Path) else paths:
        table = read_table(path)
        here = {name: ours for name, ours in (columns or {}).items() if name in table.columns}
        unused -= here.keys()
        seen += table.columns
        table = rename(table, here)
        frame = long_form(table, rubric, dimensions, rater_kind, notes_here)
        frames.append(_typed(frame, rubric, rater_kind, notes_here))
    if not frames:
        raise InputError("no ratings file is given")
    if unused:
        there = ", ".join(dict.fromkeys(seen))
        raise InputError(f"no file has a column '{sorted(unused)[0]}' to map; they have {there}")
    frame = pl.concat(frames)
    if frame.is_empty():
        raise InputError("there are no ratings in these files")
    for name in ("case_id", "system", "arm", "rater", "dimension"):
        frame = frame.with_columns(_one_spelling(frame[name], notes_here))
    _refuse_doubles(frame)
    for note in notes_here:
        if notes is None:
            _log.warning(note)
        else:
            notes.append(note)
    return frame.select(list(RATINGS_SCHEMA))


def with_schema(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with exactly the columns of RATINGS_SCHEMA; what it lacks is the default of a rating, or empty."""
    defaults = {"arm": "image_only", "sample": 0, "stage": "independent", "repeat": 0, "rubric": ""}
    if "state" not in frame.columns:
        scored = pl.col("score").is_not_null()
        frame = frame.with_columns(pl.when(scored).then(pl.lit("scored")).otherwise(pl.lit("skipped")).alias("state"))
    missing = [pl.lit(defaults.get(k), dtype=v).alias(k) for k, v in RATINGS_SCHEMA.items() if k not in frame.columns]
    return frame.with_columns(missing).select(list(RATINGS_SCHEMA)).cast(RATINGS_SCHEMA)  # type: ignore[arg-type]


def _typed(frame: pl.DataFrame, rubric: Rubric | None, rater_kind: str | None, notes: list[str]) -> pl.DataFrame:
    """A frame of strings (lists may be lists already) -> the types of RATINGS_SCHEMA, or all problems at once."""
    problems: list[Problem] = []
    total = 0

    def wrong(mask: pl.Series, field: str, message: str) -> None:
        nonlocal total
        hits = frame.filter(mask)
        total += hits.height
        for file, line, value in hits.head(LISTED).select(*PLACE, field).iter_rows():
            problems.append(Problem(file, line, field, message.format(value=value)))

    blank = {"rater_kind": rater_kind or "", "rubric": rubric.id if rubric else "", **DEFAULTS}
    trimmed = [n for n in (*RATING_KEY, "dimension", "score", "state", "mass", "cost") if n in frame.columns]
    frame = frame.with_columns(pl.col(trimmed).str.strip_chars())
    frame = frame.with_columns(
        pl.when(pl.col(name) == "").then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
        if name in frame.columns else pl.lit(value).alias(name) for name, value in blank.items() if value
    )  # fmt: skip
    frame = frame.with_columns(pl.lit("").alias(name) for name in RATINGS_SCHEMA if name not in frame.columns)

    for name in ("case_id", "system", "rater", "dimension"):
        wrong(frame[name] == "", name, "is empty, but every row needs it")
    for name, known in (("rater_kind", RATER_KINDS), ("stage", STAGES), ("state", (*STATES, ""))):
        wrong(~frame[name].is_in(known), name, f"'{{value}}' is none of {', '.join(filter(None, known))}")
    for name in ("sample", "repeat"):
        wrong(~frame[name].str.contains(r"^[0-9]{1,9}$"), name, "'{value}' is not a whole number from 0")
    for name, range_ in (("mass", "a number from 0 to 1"), ("cost", "a number from 0")):
        number = _number(frame[name])
        high = 1.0 if name == "mass" else math.inf
        wrong((frame[name] != "") & ~number.is_between(0, high).fill_null(False), name, f"'{{value}}' is not {range_}")
    if rubric:
        wrong(frame["rubric"] != rubric.id, "rubric", f"'{{value}}' is not {rubric.id}, with which these are read")
        wrong(~frame["dimension"].is_in(rubric.names), "dimension",
              f"'{{value}}' is no dimension of {rubric.id}; it has {', '.join(rubric.names)}")  # fmt: skip
    would_do = f"a number from {rubric.scale.low} to {rubric.scale.high}" if rubric else "a plain number such as 3.5"
    value, given, state = _number(frame["score"]), frame["score"] != "", frame["state"]
    wrong(given & value.is_null() & state.is_in(["", "scored"]), "score",
          f"'{{value}}' is not a score; {would_do}, or an empty cell if there is none")  # fmt: skip
    wrong(given & ~state.is_in(["", "scored", "out_of_scale"]), "score", "{value} stands beside a state without score")
    wrong(~given & (state == "scored"), "state", "scored, but the score is empty")
    if problems:
        refuse(problems, total)

    state = frame.select(pl.when(state == "").then(pl.when(given).then(pl.lit("scored")).otherwise(pl.lit("skipped")))
                         .otherwise(pl.col("state"))).to_series()  # fmt: skip
    reason = frame["reason"]
    if rubric:
        off = (state == "scored") & _off_scale(value, frame["rater_kind"], rubric)
        steps = f"the scale {rubric.scale.low} to {rubric.scale.high} in steps of {rubric.scale.step:g}"
        text = pl.format(f"{{}} is not on {steps}", pl.col("score"))
        for file, line, name, raw in frame.filter(off).head(LISTED).select(*PLACE, "dimension", "score").iter_rows():
            notes.append(str(Problem(file, line, name, f"{raw} is not on {steps}; kept as out_of_scale")))
        if (more := int(off.sum()) - LISTED) > 0:
            notes.append(f"... and {more} more scores that are out of scale")
        reason = frame.select(pl.when(off).then(text).otherwise(pl.col("reason"))).to_series()
        state = frame.select(pl.when(off).then(pl.lit("out_of_scale")).otherwise(state)).to_series()
    raw_kept = (state == "out_of_scale") & given & (reason == "")
    return frame.select(
        *PLACE, "case_id", "system", "arm", pl.col("sample").cast(pl.Int64), "rater", "rater_kind", "stage", "rubric",
        pl.col("repeat").cast(pl.Int64), "dimension",
        pl.when(state == "scored").then(value).alias("score"), state.alias("state"),
        pl.when(raw_kept).then(pl.col("score")).otherwise(reason).alias("reason"),
        _number(frame["mass"]).alias("mass"), _lists(frame, "distribution", pl.Float64), "critique", "answer",
        _number(frame["cost"]).alias("cost"), "narrative_hash",
        _lists(frame, "flags", pl.String).fill_null([]),
    )  # fmt: skip


def _number(text: pl.Series) -> pl.Series:
    """Plain decimal numbers; null for anything else, "NaN" and "inf" among it."""
    number = text.cast(pl.Float64, strict=False)
    return pl.select(pl.when(text.str.contains(NUMBER) & number.is_finite()).then(number)).to_series()


def _off_scale(value: pl.Series, rater_kind: pl.Series, rubric: Rubric) -> pl.Series:
    steps = (value - rubric.scale.low) / rubric.scale.step
    beside = (rater_kind == "expert") & ((steps - steps.round()).abs() > 1e-9)
    return ((value < rubric.scale.low) | (value > rubric.scale.high) | beside).fill_null(False)


def _lists(frame: pl.DataFrame, name: str, inner: Any) -> pl.Series:
    if frame.schema[name].is_nested():
        return frame[name].cast(pl.List(inner))
    text = frame.select(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name)).to_series()
    try:
        return text.str.json_decode(pl.List(inner)).alias(name)
    except pl.exceptions.PolarsError as error:
        file = frame.item(0, PLACE[0])
        raise InputError(f"{file}, {name}: a JSON list such as [0.1, 0.9] is needed: {error}") from error


def _one_spelling(names: pl.Series, notes: list[str]) -> pl.Series:
    """Names that count as equal get the spelling that stands first, so that they group as one."""
    unique = names.unique(maintain_order=True).to_list()
    first: dict[str, str] = {}
    spelling = {name: first.setdefault(identity(name), name) for name in unique}
    changed = {old: new for old, new in spelling.items() if old != new}
    if not changed:
        return names
    for old, new in list(changed.items())[:LISTED]:
        notes.append(f"{names.name}: '{old}' is taken for '{new}' (they differ only in case or blanks)")
    return names.replace(changed)


def _refuse_doubles(frame: pl.DataFrame) -> None:
    key = [*RATING_KEY, "dimension"]
    doubled = frame.filter(frame.select(key).is_duplicated())
    if doubled.is_empty():
        return
    groups = doubled.group_by(key, maintain_order=True).agg(pl.struct(PLACE).alias("places"))
    problems = []
    for row in groups.head(LISTED).iter_rows(named=True):
        first, *rest = row["places"]
        named = " / ".join(str(row[name]) for name in ("case_id", "system", "rater", "dimension"))
        message = (f"{named} stands already in {first[PLACE[0]]} line {first[PLACE[1]]}; give each rating once, or "
                   "number them with 'repeat' (0, 1 ...)")  # fmt: skip
        problems += [Problem(place[PLACE[0]], place[PLACE[1]], "", message) for place in rest]
    refuse(problems, doubled.height - groups.height)


def ratings_to_frame(ratings: Iterable[Rating]) -> pl.DataFrame:
    """One row per rating and dimension; InputError for a rating without dimensions or with a stray critique or NaN."""
    data: dict[str, list[Any]] = {name: [] for name in RATINGS_SCHEMA}
    for rating in ratings:
        if not rating.scores:
            raise InputError(f"rating {rating.key} has no dimension; give each a score or a state")
        if stray := set(rating.critique) - set(rating.scores):
            raise InputError(f"rating {rating.key}: critique of '{min(stray)}', which is none of its dimensions")
        whole = (rating.case_id, rating.system, rating.arm, rating.sample, rating.rater, rating.rater_kind,
                 rating.stage, rating.rubric, rating.repeat)  # fmt: skip
        rest = (rating.answer, rating.cost, rating.narrative_hash, list(rating.flags))
        for dimension, score in rating.scores.items():
            row = (*whole, dimension, score.value, score.state, score.reason, score.mass,
                   None if score.distribution is None else list(score.distribution),
                   rating.critique.get(dimension, ""), *rest)  # fmt: skip
            for column, value in zip(data.values(), row, strict=True):
                column.append(value)
    try:
        frame = pl.DataFrame(data, schema=RATINGS_SCHEMA)
    except UnicodeEncodeError as error:
        raise InputError(f"a text of the ratings holds half a character (a lone surrogate): {error}") from error
    _refuse_nan(frame)
    return frame


def _refuse_nan(frame: pl.DataFrame) -> None:
    for name in ("score", "mass", "cost"):
        if not (bad := frame.filter(~pl.col(name).is_finite())).is_empty():
            raise InputError(f"{name} of {bad.row(0)[:5]} is not finite; a missing number is None with a state")


def frame_to_ratings(frame: pl.DataFrame) -> Iterator[Rating]:
    """The ratings of a frame, in the order in which each first stands there."""
    inner = ("dimension", "score", "state", "reason", "distribution", "mass", "critique")
    grouped = frame.group_by(RATING_KEY, maintain_order=True).agg(
        pl.struct(inner).alias("rows"), pl.col("answer", "cost", "narrative_hash", "flags").first()
    )
    for row in grouped.iter_rows(named=True):
        rows = row.pop("rows")
        scores = {
            r["dimension"]: Score(r["score"], r["state"], r["reason"],
                                  None if r["distribution"] is None else tuple(r["distribution"]), r["mass"])
            for r in rows
        }  # fmt: skip
        critique = {r["dimension"]: r["critique"] for r in rows if r["critique"]}
        yield Rating(**{**row, "flags": tuple(row["flags"] or ())}, scores=scores, critique=critique)


def write_ratings(ratings: pl.DataFrame | Iterable[Rating], path: str | Path) -> None:
    """Write ratings: .jsonl nested (a line per rating), .csv and .parquet long (a row per rating and dimension)."""
    path, ending = Path(path), written_ending(path)
    if ending == ".jsonl":
        write_jsonl(map(_nested, frame_to_ratings(ratings) if isinstance(ratings, pl.DataFrame) else ratings), path)
        return
    frame = ratings if isinstance(ratings, pl.DataFrame) else ratings_to_frame(ratings)
    frame = frame.select(list(RATINGS_SCHEMA)).cast(pl.Schema(RATINGS_SCHEMA))
    _refuse_nan(frame)
    if ending == ".csv":
        distribution = pl.col("distribution").list.eval(pl.element().cast(pl.String)).list.join(",")
        texts = [dump_json(flags) if flags else "" for flags in frame["flags"].to_list()]
        frame = frame.with_columns(pl.format("[{}]", distribution).alias("distribution"),
                                   pl.Series("flags", texts, dtype=pl.String))  # fmt: skip
    write_frame(frame, path)


def _nested(rating: Rating) -> dict[str, Any]:
    row: dict[str, Any] = {
        "case_id": rating.case_id, "system": rating.system, "arm": rating.arm, "sample": rating.sample,
        "rater": rating.rater, "rater_kind": rating.rater_kind, "stage": rating.stage, "rubric": rating.rubric,
        "repeat": rating.repeat, "scores": {name: _score(score) for name, score in rating.scores.items()},
        "critique": dict(rating.critique), "answer": rating.answer, "cost": rating.cost,
        "narrative_hash": rating.narrative_hash, "flags": list(rating.flags),
    }  # fmt: skip
    for score in rating.scores.values():
        if score.value is not None and not math.isfinite(score.value):
            raise InputError(f"rating {rating.key}: a score is not finite; write None with a state")
    return {key: value for key, value in row.items() if value not in (None, "", [], {}) or key == "scores"}


def _score(score: Score) -> Any:
    if score == Score(score.value) and score.value is not None:
        return score.value
    row = {"value": score.value, "state": score.state, "reason": score.reason, "mass": score.mass,
           "distribution": None if score.distribution is None else list(score.distribution)}  # fmt: skip
    return {key: value for key, value in row.items() if value not in (None, "")}
