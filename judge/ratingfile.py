"""Which shape a ratings file has (long, wide, nested) and how each becomes one long frame of strings."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import polars as pl

from .errors import InputError
from .rubric import Rubric
from .tablefile import Problem, Table, column_help, parse_json, refuse

PLACE = ("_file", "_line")
NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
DEFAULTS = {"arm": "image_only", "sample": "0", "stage": "independent", "repeat": "0"}

_REQUIRED = ("case_id", "system", "rater", "rater_kind")
_WHOLE = (*_REQUIRED, *DEFAULTS, "rubric", "answer", "cost", "narrative_hash", "flags")
_EACH = ("dimension", "score", "state", "reason", "mass", "distribution", "critique")
_PARTS = ("value", *_EACH[2:6])


def long_form(
    table: Table, rubric: Rubric | None, dimensions: Sequence[str] | None, rater_kind: str | None, notes: list[str]
) -> pl.DataFrame:
    """A row per rating and dimension, all cells text, with the columns of PLACE; unknown columns are noted."""
    if "status" in table.columns and "state" not in table.columns:
        renamed = tuple("state" if name == "status" else name for name in table.columns)
        rows = (
            None
            if table.rows is None
            else [{("state" if key == "status" else key): value for key, value in row.items()} for row in table.rows]
        )
        frame = None if table.frame is None else table.frame.rename({"status": "state"})
        table = Table(table.file, renamed, table.lines, rows, frame)  # fmt: skip
    wanted = rubric.names if rubric else tuple(dimensions or ())
    required = [name for name in _REQUIRED if name != "rater_kind" or not rater_kind]
    if "scores" in table.columns:
        table, known = _unnested(table), (*_WHOLE, *_EACH)
    elif "dimension" in table.columns or not wanted:
        known = (*_WHOLE, *_EACH)
        required += ["dimension", "score"]
    else:
        known = _WHOLE
    if missing := [name for name in required if name not in table.columns]:
        unknown = [name for name in table.columns if name not in known and _plain(name) not in map(_plain, wanted)]
        hint = (
            ""
            if wanted or "dimension" in table.columns
            else (" A wide table (one column per dimension) is read with a rubric or with the names of its dimensions.")
        )
        hint += " Or say for the whole file: --rater-kind expert." if "rater_kind" in missing else ""
        raise InputError(column_help(table.file, known, unknown, missing) + hint)
    frame = table.strings().with_columns(
        pl.lit(table.file).alias(PLACE[0]), pl.Series(PLACE[1], table.lines, dtype=pl.Int64)
    )
    if known == _WHOLE:
        return _unpivoted(frame, table.file, wanted, notes)
    _note_ignored(table.file, [name for name in table.columns if name not in known], notes)
    frame = frame.select(*PLACE, *(name for name in known if name in frame.columns))
    if rubric:
        spelling = {name: _match(name, rubric.names) for name in frame["dimension"].unique().to_list()}
        frame = frame.with_columns(pl.col("dimension").replace(spelling))
        whole = frame["dimension"].str.to_lowercase() == "overall"
        if whole.any() and "overall" not in map(_plain, rubric.names):
            notes.append(f"{table.file}: {whole.sum()} rows of 'overall' are left out; it is computed from the others")
            frame = frame.filter(~whole)
    return frame


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _match(name: str, known: Sequence[str]) -> str:
    """The known spelling of a dimension ("clinical_coverage" -> "Clinical Coverage"), or the name as it is."""
    return next((right for right in known if _plain(right) == _plain(name)), name)


def _note_ignored(file: str, names: Sequence[str], notes: list[str]) -> None:
    if names:
        notes.append(f"{file}: ignored column{'s' * (len(names) > 1)} {', '.join(names)}")


def _unpivoted(frame: pl.DataFrame, file: str, dimensions: Sequence[str], notes: list[str]) -> pl.DataFrame:
    """Wide to long. A dimension without a column is `skipped`; InputError if a column looks like a slip of its name."""
    found = {name: _match(name, dimensions) for name in frame.columns if name not in (*PLACE, *_WHOLE)}
    found = {name: dimension for name, dimension in found.items() if dimension in dimensions}
    others = [name for name in frame.columns if name not in found and name not in (*PLACE, *_WHOLE)]
    absent = [dimension for dimension in dimensions if dimension not in found.values()]
    for dimension in absent:
        if close := get_close_matches(_plain(dimension), [_plain(name) for name in others], 1, 0.6):
            slip = next(name for name in others if _plain(name) == close[0])
            raise InputError(f"{file}: no column for the dimension '{dimension}'; is it '{slip}'? Then say --map "
                             f"'{slip}={dimension}', else rename that column")  # fmt: skip
    if not found:
        raise InputError(f"{file}: neither 'dimension' and 'score' nor a column for any of {', '.join(dimensions)}; "
                         f"it has {', '.join(frame.columns[:-2])}")  # fmt: skip
    if len(set(found.values())) < len(found):
        raise InputError(f"{file}: two columns for one dimension: {', '.join(found)}")
    _note_ignored(file, others, notes)
    if absent:
        notes.append(f"{file}: no column for {', '.join(absent)}: taken as skipped")
    reason = pl.when(pl.col("dimension").is_in(absent)).then(pl.lit("no column")).otherwise(pl.lit(""))
    index = [name for name in frame.columns if name in (*PLACE, *_WHOLE)]
    wide = frame.rename(found).with_columns(pl.lit("").alias(name) for name in absent).with_row_index("_row")
    long = wide.unpivot(list(dimensions), index=["_row", *index], variable_name="dimension", value_name="score")
    return long.sort("_row", maintain_order=True).with_columns(reason.alias("reason")).drop("_row")


def _unnested(table: Table) -> Table:
    """Nested rows (`scores`: dimension -> number, null or object) to one row per dimension."""
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    problems: list[Problem] = []
    for line, row in table.dicts():
        try:
            made = _rating_rows(row)
        except ValueError as error:
            problems.append(Problem(table.file, line, "scores", str(error)))
            continue
        rows += made
        lines += [line] * len(made)
    if problems:
        refuse(problems)
    columns = [name for name in table.columns if name != "scores"]
    columns += [name for name in _EACH if name not in columns]
    return Table(table.file, tuple(columns), pl.Series(lines, dtype=pl.Int64).to_numpy(), rows=rows)


def _rating_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    scores, critique = (_value(row.get(name)) for name in ("scores", "critique"))
    if not isinstance(scores, dict) or not scores:
        raise ValueError('an object such as {"Accuracy": 4, "Safety": null} is needed')
    critique = critique or {}
    if not isinstance(critique, dict) or not set(critique) <= set(scores):
        raise ValueError(f"critique must be an object with text for dimensions among {', '.join(scores)}")
    whole = {name: value for name, value in row.items() if name not in ("scores", "critique")}
    made = []
    for dimension, score in scores.items():
        part = score if isinstance(score, dict) else {"value": score}
        if unknown := set(part) - set(_PARTS):
            raise ValueError(f"{dimension}: unknown '{min(unknown)}'; known: {', '.join(_PARTS)}")
        value = part.get("value")
        if isinstance(value, str | list | dict | bool):
            raise ValueError(f"{dimension}: {json.dumps(value)} is not a score; a number, or null if there is none")
        part = {("score" if key == "value" else key): v for key, v in part.items()}
        made.append({**whole, **part, "dimension": dimension, "critique": critique.get(dimension, "")})
    return made


def _value(cell: Any) -> Any:
    return parse_json(cell) if isinstance(cell, str) and cell else cell
