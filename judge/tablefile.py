"""One table file in or out: .jsonl, .csv or .parquet, chosen by the ending. Everything is text first, typed later.

The checks here are those that a data frame library leaves out: encoding, quoting, ragged lines, doubled columns.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import polars as pl

from .errors import InputError
from .files import atomic

LISTED = 20  # problems written out in one error; the rest is counted
ENDINGS = (".jsonl", ".csv", ".parquet")

# What a spreadsheet takes for a formula when a cell begins with it; the last four are the full-width forms.
_FORMULA = r"[=+\-@\t\r\n\x00\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]"


class Problem(NamedTuple):
    """Something wrong at one place of a file; `line` counts from 1 and is 0 if the whole file is meant."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file} line {self.line}" if self.line else self.file
        return f"{place}, {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


def refuse(problems: Sequence[Problem], total: int | None = None) -> NoReturn:
    """Raise one InputError that lists the first problems and counts the rest."""
    total = len(problems) if total is None else total
    lines = [str(problem) for problem in problems[:LISTED]]
    if total > len(lines):
        lines.append(f"... and {total - len(lines)} more")
    raise InputError("\n".join(lines))


@dataclass(frozen=True)
class Table:
    """A file as read: `rows` (JSON values, from .jsonl) or `frame` (strings, from .csv; typed, from .parquet).

    `lines[i]` is the line of the file on which row i begins (.parquet: the row number).
    """

    file: str
    columns: tuple[str, ...]
    lines: np.ndarray
    rows: list[dict[str, Any]] | None = None
    frame: pl.DataFrame | None = None

    def dicts(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(line, row) for each row."""
        rows: Iterable[dict[str, Any]] = (
            self.rows if self.rows is not None else self.frame.iter_rows(named=True)  # type: ignore[union-attr]
        )
        return zip(self.lines.tolist(), rows, strict=True)

    def strings(self) -> pl.DataFrame:
        """The table with every cell as text ("" for none); lists of .parquet stay lists."""
        if self.frame is None:
            data = {name: _as_texts([row.get(name) for row in self.rows or ()]) for name in self.columns}
            try:
                return pl.DataFrame(data, schema=dict.fromkeys(self.columns, pl.String))
            except UnicodeEncodeError as error:
                raise InputError(f"{self.file}: a text holds half a character (a lone surrogate): {error}") from error
        flat = [name for name, kind in self.frame.schema.items() if not kind.is_nested()]
        return self.frame.with_columns(pl.col(flat).cast(pl.String).fill_null(""))


def _as_texts(values: list[Any]) -> list[str]:
    kinds = set(map(type, values))
    if kinds == {str}:
        return values
    if kinds <= {int, float}:
        return [repr(value) for value in values]
    return [v if isinstance(v, str) else "" if v is None else json.dumps(v, ensure_ascii=False) for v in values]


def read_table(path: str | Path, columns: Mapping[str, str] | None = None) -> Table:
    """Read a .jsonl, .csv or .parquet file; `columns` renames (name in the file -> our name).

    InputError for a missing or empty file, text that is not UTF-8, bad JSON, ragged lines, doubled columns.
    """
    path, ending = local_file(path), Path(path).suffix.lower()
    if ending not in (*ENDINGS, ".tsv"):
        raise InputError(f"{path}: cannot read '{ending}' files; the ending must be one of {', '.join(ENDINGS)}")
    if ending == ".parquet":
        try:
            frame = pl.read_parquet(io.BytesIO(path.read_bytes()))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(f"{path}: not a readable parquet file: {error}") from error
        table = Table(path.name, tuple(frame.columns), np.arange(1, frame.height + 1), frame=frame)
    else:
        table = _read_jsonl(path) if ending == ".jsonl" else read_csv_table(path)
    return rename(table, columns or {})


def local_file(path: str | Path) -> Path:
    """The path of an existing local file; InputError for URLs, folders and what is not there."""
    if "://" in str(path):
        raise InputError(f"{path}: only files on this machine are read, no URLs")
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; a file ending in {', '.join(ENDINGS)} is needed")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    return path


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, its byte order mark dropped; InputError naming the first bad byte otherwise."""
    return _utf8(local_file(path)).decode()


def _utf8(path: Path) -> bytes:
    data = path.read_bytes()
    if not data.removeprefix(b"\xef\xbb\xbf").strip():
        raise InputError(f"{path} is empty")
    if data[:4] == b"PK\x03\x04":
        raise InputError(f"{path} is a zip archive or an Excel workbook; save the sheet as 'CSV UTF-8'")
    wide = "UTF-32" if data[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff") else "UTF-16"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or wide == "UTF-32":
        raise InputError(f"{path} is {wide} (byte order mark at byte 0); save it as UTF-8")
    head = data[:4096]
    if head.count(0) * 4 > len(head):
        raise InputError(f"{path} is probably UTF-16 (zero byte at byte {head.index(0)}); save it as UTF-8")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} is not UTF-8: byte {error.start} (line {line}) is 0x{data[error.start]:02x}; "
            "probably Latin-1 or Windows-1252; save it as UTF-8"
        ) from error
    return data.removeprefix(b"\xef\xbb\xbf")


def parse_json(text: str) -> Any:
    """Strict JSON: ValueError for doubled keys, NaN, Infinity and nesting without end."""
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return result


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number; leave the value out or write null")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def _read_jsonl(path: Path) -> Table:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    problems: list[Problem] = []
    for number, line in enumerate(_utf8(path).decode().split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            problems.append(Problem(path.name, number, "", f"not a JSON object: {error}"))
            continue
        if not isinstance(row, dict):
            problems.append(Problem(path.name, number, "", f"a JSON object {{...}} is needed, not {line.strip()[:40]}"))
            continue
        rows.append(row)
        lines.append(number)
    if problems:
        refuse(problems)
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return Table(path.name, columns, np.array(lines, dtype=np.int64), rows=rows)


def read_csv_table(path: Path) -> Table:
    """Read a CSV (separated by comma, semicolon or tab) whatever the ending of its name; errors as in `read_table`."""
    data = _utf8(path).rstrip(b"\r\n")
    separator, starts, lines = _scan_csv(path.name, data)
    body = int(starts[1]) if len(starts) > 1 else len(data)
    header = next(csv.reader(io.StringIO(data[:body].decode(), newline=""), delimiter=separator))
    names = [name.strip() for name in header]
    if doubled := sorted({name for name in names if names.count(name) > 1 and name}):
        raise InputError(f"{path.name} line 1: the column {', '.join(doubled)} stands twice; rename one of them")
    if "" in names:
        raise InputError(f"{path.name} line 1: column {names.index('') + 1} has no name; name it or take it out")
    schema = dict.fromkeys(names, pl.String)
    if body == len(data):
        frame = pl.DataFrame(schema=schema)
    else:
        frame = pl.read_csv(data[body:], has_header=False, separator=separator, schema=schema)
    if frame.height != len(starts) - 1:
        raise InputError(f"{path.name}: {frame.height} rows were read where {len(starts) - 1} stand; write it anew")
    frame = frame.with_columns(pl.all().fill_null(""))
    # The cheap question first: the pattern over millions of cells is most of the time otherwise.
    shielded = [column.name for column in frame if column.str.starts_with("'").any()]
    frame = frame.with_columns(pl.col(shielded).str.replace(f"^'('*{_FORMULA})", "$1"))
    return Table(path.name, tuple(names), lines[1:], frame=frame)


def _scan_csv(file: str, data: bytes) -> tuple[str, np.ndarray, np.ndarray]:
    """Separator, byte offset and line number of every record; InputError for bad quoting and ragged records."""
    text = np.frombuffer(data, dtype=np.uint8)
    quotes = np.flatnonzero(text == 34)
    breaks = np.flatnonzero(text == 10)

    def outside(positions: np.ndarray) -> np.ndarray:
        return positions[np.searchsorted(quotes, positions) % 2 == 0] if len(quotes) else positions

    def complain(position: int, message: str) -> NoReturn:
        raise InputError(f"{file} line {int(np.searchsorted(breaks, position)) + 1}: {message}")

    ends = outside(breaks)
    first = data[: int(ends[0])] if len(ends) else data
    counts = {c: len(outside(np.flatnonzero(text[: len(first)] == ord(c)))) for c in ",;\t"}
    separator = max(counts, key=lambda c: counts[c])
    before = np.concatenate([[10], text])[quotes]
    after = np.concatenate([text, [10]])[quotes + 1]
    edges = (ord(separator), 10, 13, 34)
    opening, closing = before[::2], after[1::2]
    if len(bad := quotes[::2][~np.isin(opening, edges)]) or len(bad := quotes[1::2][~np.isin(closing, edges)]):
        complain(int(bad[0]), 'a " inside a field: put the whole field in quotes and write "" for each quote')
    if len(quotes) % 2:
        complain(int(quotes[-1]), "a quoted field is not closed")
    returns = outside(np.flatnonzero(text == 13))
    if len(lone := returns[np.concatenate([text, [10]])[returns + 1] != 10]):
        complain(int(lone[0]), "a line ends in CR alone; save the file with LF or CRLF line ends")
    starts = np.concatenate([[0], ends + 1])
    separators = outside(np.flatnonzero(text == ord(separator)))
    fields = np.diff(np.searchsorted(separators, np.concatenate([starts, [len(data)]]))) + 1
    lines = np.searchsorted(breaks, starts) + 1
    ragged = np.flatnonzero(fields != fields[0])
    if len(ragged):
        refuse([Problem(file, int(lines[i]), "", f"{fields[i]} fields where the header has {fields[0]}")
                for i in ragged[:LISTED]], len(ragged))  # fmt: skip
    return separator, starts, lines


def rename(table: Table, columns: Mapping[str, str]) -> Table:
    """The table under our column names; InputError for a column that is not there or would stand twice."""
    for source in columns:
        if source not in table.columns:
            raise InputError(f"{table.file} has no column '{source}' to map; it has {', '.join(table.columns)}")
    names = tuple(columns.get(name, name) for name in table.columns)
    if doubled := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{table.file}: after mapping, the column '{doubled[0]}' stands twice")
    if not columns:
        return table
    if table.frame is not None:
        return Table(table.file, names, table.lines, frame=table.frame.rename(dict(columns)))
    rows = [{columns.get(name, name): value for name, value in row.items()} for row in table.rows or ()]
    return Table(table.file, names, table.lines, rows=rows)


def check_columns(table: Table, known: Iterable[str], required: Iterable[str]) -> None:
    """InputError that lists every unknown column with the closest known one, and every required one that is missing."""
    known = tuple(known)
    missing = [name for name in required if name not in table.columns]
    unknown = [name for name in table.columns if name not in known]
    if unknown or missing:
        raise InputError(column_help(table.file, known, unknown, missing))


def column_help(file: str, known: Sequence[str], unknown: Sequence[str], missing: Sequence[str]) -> str:
    """What to write when columns are unknown or missing: the closest known names and how to map."""
    parts = [f"missing column{'s' * (len(missing) > 1)} {', '.join(missing)}"] if missing else []
    for name in unknown[:LISTED]:
        close = get_close_matches(name.casefold(), known, 1, 0.6)
        parts.append(f"unknown column '{name}'" + (f" (closest: {close[0]})" if close else ""))
    example = f"{unknown[0] if unknown else 'item'}={(missing or known)[0]}"
    return f"{file}: {'; '.join(parts)}. Known: {', '.join(known)}. To rename a column: --map {example}"


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """One JSON object a line, UTF-8; only a line with a lone surrogate is written in ASCII escapes."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        for row in rows:
            text = dump_json(row)
            try:
                file.write(text.encode() + b"\n")
            except UnicodeEncodeError:
                file.write(json.dumps(row, default=_plain).encode() + b"\n")


def dump_json(value: Any) -> str:
    """JSON text that keeps letters as they are; ValueError for NaN, TypeError for what JSON cannot hold."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be written as JSON")


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """Write .csv (text cells that a spreadsheet would take for a formula get a ' in front) or .parquet."""
    with atomic(path) as temporary:
        if path.suffix.lower() == ".parquet":
            frame.write_parquet(temporary)
        else:
            text = pl.col(pl.String)
            shielded = pl.when(text.str.contains(f"^'*{_FORMULA}")).then(pl.lit("'") + text)
            # "" becomes an empty cell rather than two quotes, which triples the file of a sparse table.
            frame.with_columns(shielded.when(text != "").then(text).name.keep()).write_csv(temporary)


def written_ending(path: str | Path) -> str:
    """The ending of a file that is to be written; InputError if it is none of .jsonl, .csv, .parquet."""
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"{path}: the ending must be one of {', '.join(ENDINGS)}")
    return ending
