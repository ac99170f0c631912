"""Cases, narratives and ratings on disk: .jsonl, .csv or .parquet, chosen by the ending (ratings: see ratings.py).

In .jsonl nested fields are JSON and fields at their default are left out; in .csv and .parquet nested fields are
JSON text in their cell. Text comes back byte for byte; ids are text and lose only blanks around them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from .errors import InputError
from .ratings import RATINGS_SCHEMA, frame_to_ratings, ratings_to_frame, read_ratings, write_ratings
from .records import URGENCIES, Candidate, Case, Image, Narrative, identity
from .tablefile import (
    Problem,
    check_columns,
    dump_json,
    parse_json,
    read_table,
    refuse,
    write_frame,
    write_jsonl,
    written_ending,
)

__all__ = [
    "RATINGS_SCHEMA", "frame_to_ratings", "ratings_to_frame", "read_cases", "read_narratives", "read_ratings",
    "write_cases", "write_narratives", "write_ratings",
]  # fmt: skip

Record = TypeVar("Record", Case, Narrative)


def read_cases(path: str | Path, columns: Mapping[str, str] | None = None) -> list[Case]:
    """Read cases; `columns` renames (name in the file -> field of Case).

    InputError lists every bad cell (file, line, field, which values would do), unknown columns and double ids.
    """
    return _read(path, columns, Case, _CASE, ("id",), lambda case: identity(case.id))


def write_cases(cases: Iterable[Case], path: str | Path) -> None:
    """Write cases; the old file stays until the new one is complete. InputError for what the format cannot hold."""
    _write(cases, Path(path), Case, lambda case: case.id)


def read_narratives(path: str | Path, columns: Mapping[str, str] | None = None) -> list[Narrative]:
    """Read narratives; `columns` renames (name in the file -> field of Narrative), errors as in `read_cases`."""
    return _read(path, columns, Narrative, _NARRATIVE, ("case_id", "system", "text"), _narrative_identity)


def write_narratives(narratives: Iterable[Narrative], path: str | Path) -> None:
    """Write narratives; the old file stays until the new one is complete."""
    _write(narratives, Path(path), Narrative, lambda narrative: str(narrative.key))


def _narrative_identity(narrative: Narrative) -> Hashable:
    return (identity(narrative.case_id), identity(narrative.system), identity(narrative.arm), narrative.sample)


def _read(
    path: str | Path,
    columns: Mapping[str, str] | None,
    kind: type[Record],
    decoders: Mapping[str, Callable[[Any], Any]],
    required: Sequence[str],
    key: Callable[[Record], Hashable],
) -> list[Record]:
    table = read_table(path, columns)
    check_columns(table, tuple(decoders), required)
    records: list[Record] = []
    problems: list[Problem] = []
    seen: dict[Hashable, int] = {}
    for line, row in table.dicts():
        values = {}
        before = len(problems)
        for name in required:
            if row.get(name) in (None, "") and name != "text":
                problems.append(Problem(table.file, line, name, "is empty, but every row needs it"))
        for name, value in row.items():
            if value is None or (value == "" and name not in required):
                continue
            try:
                values[name] = decoders[name](value)
            except ValueError as error:
                problems.append(Problem(table.file, line, name, f"{_shown(value)}: {error}"))
        if len(problems) > before:
            continue
        record = kind(**{"text": "", **values} if kind is Narrative else values)
        if (first := seen.setdefault(key(record), line)) != line:
            name = record.id if isinstance(record, Case) else " / ".join(map(str, record.key))
            problems.append(
                Problem(table.file, line, required[0], f"'{name}' stands already on line {first}; ids are equal if "
                        "they differ only in case or blanks; each must be given once"))  # fmt: skip
        records.append(record)
    if problems:
        refuse(problems)
    if not records:
        raise InputError(f"{table.file} has no rows")
    return records


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _write(records: Iterable[Record], path: Path, kind: type[Record], name: Callable[[Record], str]) -> None:
    fields = dataclasses.fields(kind)
    if written_ending(path) == ".jsonl":
        write_jsonl((_sparse(_checked(record, name), fields) for record in records), path)
        return
    data: dict[str, list[Any]] = {field.name: [] for field in fields}
    for record in records:
        for field in fields:
            value = getattr(_checked(record, name), field.name)
            nested = not isinstance(value, str | bool | int)
            data[field.name].append(dump_json(_nested(value)) if nested else value)
    types = {"sample": pl.Int64, "urgency_derived": pl.Boolean}
    try:
        frame = pl.DataFrame(data, schema={field.name: types.get(field.name, pl.String) for field in fields})
    except UnicodeEncodeError as error:
        raise InputError(f"{path.name}: a text holds half a character (a lone surrogate); write .jsonl") from error
    write_frame(frame, path)


def _checked(record: Record, name: Callable[[Record], str]) -> Record:
    """InputError, naming the record, for what no format can hold (NaN, objects)."""
    for field in ("tags", "provenance", "differential"):
        try:
            dump_json(_nested(getattr(record, field, None)))
        except (TypeError, ValueError) as error:
            raise InputError(f"{type(record).__name__} {name(record)}: {field}: {error}") from error
    return record


def _sparse(record: Record, fields: Sequence[Any]) -> dict[str, Any]:
    row = {field.name: _nested(getattr(record, field.name)) for field in fields}
    defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    return {key: value for key, value in row.items() if not _is_default(value, defaults.get(key))}


def _is_default(value: Any, default: Any) -> bool:
    return value in ([], {}) or (default is not None and default != () and value == default)


def _nested(value: Any) -> Any:
    """Images and candidates as JSON objects without their empty fields; anything else as it is."""
    if isinstance(value, Image):
        filled = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {key: text for key, text in filled.items() if text or key == "path"}
    if isinstance(value, Candidate):
        return {"name": value.name} if value.weight is None else {"name": value.name, "weight": value.weight}
    if isinstance(value, tuple):
        return [_nested(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


# Decoders: a cell (text from .csv, a JSON value from .jsonl, either from .parquet) -> the field's value.


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text is needed, in quotes")
    return value


def _id(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("an id must be text, in quotes")
    if not value.strip():
        raise ValueError("an id must not be blank")
    return value.strip()


def _sample(value: Any) -> int:
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else -1
    except ValueError:
        number = -1
    if number < 0:
        raise ValueError("a whole number from 0 is needed")
    return number


def _flag(value: Any) -> bool:
    known = {"true": True, "false": False, "1": True, "0": False}
    if str(value).lower() not in known:
        raise ValueError("true or false is needed")
    return known[str(value).lower()]


def _urgency(value: Any) -> str:
    if value not in URGENCIES:
        raise ValueError(f"not an urgency; one of {', '.join(URGENCIES)}, or empty")
    return str(value)


def _json(value: Any) -> Any:
    """The JSON value of a cell: text that begins like JSON is parsed, other text is itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        return parse_json(value)
    return value


def _items(value: Any) -> list[Any]:
    value = _json(value)
    return list(value) if isinstance(value, list | tuple) else [value]


def _names(value: Any) -> tuple[str, ...]:
    names = _items(value)
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError('a name, or a list such as ["melanoma", "nevus"], is needed')
    return tuple(names)


def _candidates(value: Any) -> tuple[Candidate, ...]:
    return tuple(_candidate(item) for item in _items(value))


def _candidate(item: Any) -> Candidate:
    wanted = 'a list such as ["melanoma", {"name": "nevus", "weight": 0.2}] is needed'
    if isinstance(item, str):
        item = {"name": item}
    if not isinstance(item, Mapping) or not set(item) <= {"name", "weight"}:
        raise ValueError(wanted)
    name, weight = item.get("name"), item.get("weight")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(wanted)
    if weight is None:
        return Candidate(name)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise ValueError(f"weight {weight!r} is not a finite number")
    return Candidate(name, float(weight))


def _images(value: Any) -> tuple[Image, ...]:
    return tuple(_image(item) for item in _items(value))


def _image(item: Any) -> Image:
    known = [field.name for field in dataclasses.fields(Image)]
    if isinstance(item, str):
        item = {"path": item}
    if not isinstance(item, Mapping) or not item.get("path"):
        raise ValueError('a path, or a list such as ["images/1.png", {"path": "images/2.png"}], is needed')
    if unknown := [name for name in item if name not in known]:
        raise ValueError(f"unknown image field '{unknown[0]}'; known: {', '.join(known)}")
    if not all(text is None or isinstance(text, str) for text in item.values()):
        raise ValueError(f"the fields of an image ({', '.join(known)}) must be text")
    return Image(**{name: text or "" for name, text in item.items()})


def _mapping(value: Any) -> dict[str, Any]:
    value = _json(value)
    if not isinstance(value, Mapping):
        raise ValueError('a JSON object such as {"sex": "female"} is needed')
    return dict(value)


_CASE: dict[str, Callable[[Any], Any]] = {
    "id": _id, "images": _images, "patient_id": _id, "lesion_id": _id, "split": _id, "context": _text,
    "reference": _text, "diagnosis": _names, "differential": _candidates, "urgency": _urgency,
    "urgency_derived": _flag, "tags": _mapping, "source": _text, "licence": _text,
}  # fmt: skip
_NARRATIVE: dict[str, Callable[[Any], Any]] = {
    "case_id": _id, "system": _id, "text": _text, "arm": _id, "sample": _sample, "differential": _candidates,
    "triage": _text, "language": _text, "finish_reason": _text, "provenance": _mapping,
}  # fmt: skip
