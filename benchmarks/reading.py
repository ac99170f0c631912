"""What importers of labels, captions and answers share: ids that stayed text, literals, JSON lists, labels by name."""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..evaluators.labels import NO_DIAGNOSIS
from ..evaluators.terms import Terms
from ..judge.errors import InputError
from ..judge.records import Case, Narrative
from ..judge.tablefile import LISTED, Table, parse_json, read_csv_table, read_text
from .bundle import skin_type, unknown_label

Kind = TypeVar("Kind", list, dict)
_AS_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?[eE][+-]?\d+|[+-]?\d+\.\d*")


def whole_id(value: Any, what: str) -> str:
    """An id as text; ValueError where it is empty, or where a program read it as a number and lost digits.

    >>> whole_id(" -3205742176803893704 ", "case_id")
    '-3205742176803893704'
    """
    text = "" if value is None else str(value).strip()
    if not text:
        raise ValueError(f"{what} is empty")
    if _AS_NUMBER.fullmatch(text):
        raise ValueError(f"{what} '{text}' was read as a number and has lost digits; take the published file, or read "
                         "this column as text when you save it")  # fmt: skip
    return text


def single_type(value: Any, what: str) -> str:
    """A Fitzpatrick type as "1" to "6", "" for unknown; ValueError for a band, which would overlap with types.

    >>> [single_type(v, "skin") for v in ("3.0", "FST4", "-1")]
    ['3', '4', '']
    """
    found = skin_type(value)
    if "-" in found:
        raise ValueError(f"{what} '{value}' is a band; types 1 to 6 are needed")
    return found


def literal(value: Any, what: str, kind: type[Kind]) -> Kind:
    """A list or dictionary that a cell holds as a Python literal; empty where the cell is; ValueError otherwise.

    >>> literal("{'Eczema': 0.6}", "labels", dict), literal("", "labels", list)
    ({'Eczema': 0.6}, [])
    """
    text = "" if value is None else str(value).strip()
    if text.casefold() in ("", "nan", "none"):
        return kind()
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"{what} is no {kind.__name__} in Python's notation: {text[:60]}") from error
    if not isinstance(found, kind):
        raise ValueError(f"{what} is a {type(found).__name__} where a {kind.__name__} is needed: {text[:60]}")
    return found


def read_csv_with_index(path: Path) -> Table:
    """`read_csv_table`, also for a file whose first column has no name (a row number that pandas wrote)."""
    text = read_text(path)
    if text[0] not in ",;\t":
        return read_csv_table(path)
    records, lines, begin = [], [], 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=text[0])
    for record in reader:
        if record:
            records.append(record)
            lines.append(begin)
        begin = reader.line_num + 1
    names = ["row", *(name.strip() for name in records[0][1:])]
    if len(set(names)) < len(names) or "" in names:
        raise InputError(f"{path.name} line 1: every column but the first needs a name of its own")
    for line, record in zip(lines, records, strict=True):
        if len(record) != len(names):
            raise InputError(f"{path.name} line {line}: {len(record)} fields where the header has {len(names)}")
    rows = [dict(zip(names, record, strict=True)) for record in records[1:]]
    return Table(path.name, tuple(names), np.array(lines[1:], dtype=np.int64), rows=rows)


def read_json_list(path: Path, key: str) -> list[tuple[int, dict[str, Any]]]:
    """(line, object) for a JSON list of objects, the line being that of its `key`; InputError for anything else."""
    text = read_text(path)
    try:
        content = parse_json(text)
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise InputError(f"{path}: a JSON list of objects with '{key}' is needed")
    places = [match.start() for match in re.finditer(rf'"{re.escape(key)}"\s*:', text)]
    if len(places) != len(content):  # an object without the key, or the word in a text: count objects instead
        return list(enumerate(content, 1))
    lines, line, last = [], 1, 0
    for place in places:
        line += text.count("\n", last, place)
        lines.append(line)
        last = place
    return list(zip(lines, content, strict=True))


class Tree:
    """Pictures by their published path below a folder, also where an archive unpacked into a folder of its own."""

    def __init__(self, root: Path):
        if not root.is_dir():
            raise InputError(f"{root} is no folder; give the folder that the published image paths start from")
        self.root = root
        self._nested = sorted(path.name for path in root.iterdir() if path.is_dir())

    def find(self, path: str) -> str:
        """The path relative to the root; ValueError if there is none, or several in different folders."""
        plain = path.strip().removeprefix("./")
        if not plain or Path(plain).is_absolute() or ".." in Path(plain).parts:
            raise ValueError(f"the image path '{path}' is empty or leaves the data set")
        # By path and never by name alone: one name stands in several folders for different pictures.
        for name in dict.fromkeys((plain, *(str(Path(plain).with_suffix(end)) for end in (".jpg", ".JPG", ".png")))):
            if (self.root / name).is_file():
                return name
            found = [f"{folder}/{name}" for folder in self._nested if (self.root / folder / name).is_file()]
            if len(found) > 1:
                raise ValueError(f"the image {plain} lies in {' and '.join(found[:3])}; which is it?")
            if found:
                return found[0]
        raise ValueError(f"no image {plain} below {self.root}")


class Labels:
    """Labels of a data set as names of the term list, each looked up once."""

    def __init__(self, terms: Terms):
        self.terms = terms
        self._found: dict[str, str | None] = {}

    def find(self, label: str) -> str | None:
        """The canonical name, "" for a label that says there is no diagnosis, None if the list does not hold it."""
        if label not in self._found:
            known = self.terms.find(label)
            self._found[label] = None if known is None else "" if known.name == NO_DIAGNOSIS else known.name
        return self._found[label]

    def needed(self, label: str) -> tuple[str, ...]:
        """The name as `diagnosis` of a case, for data sets with a closed list; ValueError with the closest terms."""
        if not label:
            raise ValueError("the label is empty")
        if (name := self.find(label)) is None:
            raise ValueError(unknown_label(label, self.terms))
        return (name,) if name else ()

    def split(self, labels: Iterable[str]) -> tuple[tuple[str, ...], list[str]]:
        """(names, labels that the list does not hold), for data sets whose labels are free text."""
        names: dict[str, None] = {}
        unmapped: list[str] = []
        for label in filter(None, labels):
            if (name := self.find(label)) is None:
                unmapped.append(label)
            elif name:
                names[name] = None
        return tuple(names), unmapped

    def notes(self, made: Iterable[tuple[int, Case]], file: str) -> list[str]:
        """What to say of the tag "unmapped_labels" of (line, case): each label, where it stood first, closest terms."""
        first: dict[str, int] = {}
        count: dict[str, int] = {}
        for line, case in made:
            for label in case.tags.get("unmapped_labels", ()):
                first.setdefault(label, line)
                count[label] = count.get(label, 0) + 1
        told = [f"{file} line {first[label]}: {unknown_label(label, self.terms)}; no gold from it ({n} cases)."
                for label, n in sorted(count.items(), key=lambda item: -item[1])[:LISTED]]  # fmt: skip
        more = len(count) - len(told)
        return told + ([f"{more} more labels are not in the term list."] if more > 0 else [])


def plain_text(data: bytes, name: str) -> str:
    """A reference text without its reasoning tags; ValueError if it is empty or not UTF-8."""
    try:
        text = re.sub(r"</?think(?:ing)?>", "", data.decode("utf-8-sig"), flags=re.IGNORECASE).strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"the text {name} is not UTF-8 (byte {error.start})") from error
    if not text:
        raise ValueError(f"the text {name} is empty")
    return text


def reference_narratives(cases: Iterable[Case], system: str, language: str) -> list[Narrative]:
    """The references as narratives of one system: a baseline that every judge should like."""
    return [Narrative(case.id, system, case.reference, language=language) for case in cases if case.reference]


def strict_majority(values: Iterable[str]) -> str:
    """The value that more than half of those that say something name, "" if none does.

    >>> strict_majority(["3", "3", "4"]), strict_majority(["3", "4"]), strict_majority(["2", ""])
    ('3', '', '2')
    """
    known = [value for value in values if value]
    return next((value for value in dict.fromkeys(known) if 2 * known.count(value) > len(known)), "")


def one_of(given: str, choices: Iterable[str] | Mapping[str, Any], what: str) -> str:
    """`given` if it is one of the choices; InputError that names them otherwise."""
    if given not in choices:
        raise InputError(f"{what} '{given}' is none of {', '.join(choices)}")
    return given
