"""What every importer returns, and the few things most of them need: pictures by name, missing values, skin types."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..evaluators.terms import Terms
from ..judge.errors import InputError
from ..judge.files import sha256_file
from ..judge.records import Case, Narrative, Rating
from ..judge.tablefile import Problem

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}

# Words that data sets write where they know nothing; never a group of their own.
_MISSING = frozenset(
    [
        "",
        "unk",
        "unknown",
        "none",
        "null",
        "nan",
        "na",
        "n/a",
        "-1",
        "-1.0",
        "age_unknown",
        "none_selected",
        "not specified",
    ]
)


@dataclass
class Bundle:
    """A data set as read. Image paths of the cases are relative to `root` (None: the set comes without pictures).

    `loaders`: for sets whose pictures are no files of their own (rows of an array or of a table): a function that goes
    through all of them once, giving (path as in the cases, a function without arguments that gives the file's bytes).
    `problems`: rows that were left out, with file and line; `notes`: what a user should know of the rest.
    `tables`: further tables by name (answers, questions); rows whose case_id was not imported are dropped.
    """

    name: str
    version: str
    licence: str
    source: str
    citation: str
    cases: list[Case]
    root: Path | None = None
    narratives: list[Narrative] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    loaders: Callable[[], Iterable[tuple[str, Callable[[], bytes]]]] | None = None
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def has_pictures(self) -> bool:
        return self.root is not None or self.loaders is not None


def present(value: Any) -> str:
    """The text of a cell, "" where it says that nothing is known.

    >>> present(" FACE "), present("UNK"), present(None)
    ('FACE', '', '')
    """
    text = "" if value is None else str(value).strip()
    return "" if text.casefold() in _MISSING else text


def number(value: Any) -> float | int | None:
    """A number that is not negative, or None where the cell is empty; ValueError otherwise.

    >>> number("55.0"), number(""), number("7.5")
    (55, None, 7.5)
    """
    text = present(value)
    if not text:
        return None
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise ValueError(f"'{text}' is not a number from 0")
    amount = float(text)
    return int(amount) if amount.is_integer() else amount


_ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6"}


def skin_type(value: Any) -> str:
    """A Fitzpatrick type as "1" to "6", a band as "1-2", "3-4" or "5-6", "" for unknown; ValueError otherwise.

    >>> [skin_type(v) for v in ("3.0", "IV", "FST2", "12", "V-VI", "-1")]
    ['3', '4', '2', '1-2', '5-6', '']
    """
    text = present(value).casefold().removeprefix("fst").removeprefix("type").strip()
    if not text:
        return ""
    parts = [_ROMAN.get(part.strip(), part.strip()) for part in re.split(r"[-–/]|to", text.removesuffix(".0"))]
    found = "-".join(parts)
    if found in ("12", "34", "56"):
        found = f"{found[0]}-{found[1]}"
    if found not in (*"123456", "1-2", "3-4", "5-6"):
        raise ValueError(f"'{value}' is no Fitzpatrick type; 1 to 6, I to VI, or the bands 1-2, 3-4, 5-6")
    return found


def derived_urgency(names: Iterable[str], terms: Terms) -> tuple[str, bool]:
    """(urgency, derived) looked up by the diagnosis; ("", False) if the names do not agree on one.

    An urgency from the list is a property of the name, not of the patient, hence the mark.
    """
    levels = {found.urgency if (found := terms.find(name)) else "" for name in names}
    level = levels.pop() if len(levels) == 1 else ""
    return level, bool(level)


def unknown_label(label: str, terms: Terms) -> str:
    """What to say about a diagnosis that the term list does not hold."""
    close = ", ".join(terms.closest(label)) or "nothing like it"
    return f"'{label}' is not in the term list (closest: {close})"


class Pictures:
    """The image files below a folder, found by relative path, by name, or by name without its ending.

    InputError if there is none: the wrong folder, or an archive that was not unpacked.
    """

    def __init__(self, root: Path):
        self.root = root
        self._by: dict[str, list[str]] = defaultdict(list)
        for folder, folders, files in os.walk(root):
            folders.sort()
            for file in sorted(files):
                stem, suffix = os.path.splitext(file)
                if suffix.lower() in SUFFIXES:
                    path = Path(folder, file).relative_to(root).as_posix()
                    for key in {path.casefold(), file.casefold(), stem.casefold()}:
                        self._by[key].append(path)
        if not self._by:
            archives = sorted(f.name for f in root.rglob("*") if f.suffix in (".zip", ".tar", ".gz"))
            hint = f"; unpack {archives[0]} first" if archives else f"; is this the right folder? {_listing(root)}"
            raise InputError(f"no image ({', '.join(SUFFIXES)}) lies below {root}{hint}")

    def find(self, name: str) -> str:
        """The path of an image relative to the root; ValueError if there is none or two that differ."""
        name = name.strip().removeprefix("./")
        found = self._by.get(name.casefold(), []) or self._by.get(Path(name).name.casefold(), [])
        found = found or self._by.get(Path(name).stem.casefold(), [])
        if not found:
            raise ValueError(f"no image '{name}' lies below {self.root}")
        if name in found or len(found) == 1:
            return name if name in found else found[0]
        # Public mirrors hold the same folder twice; only two different pictures are a question.
        if len({sha256_file(self.root / path) for path in found}) > 1:
            raise ValueError(f"several images are called '{name}': {', '.join(found[:3])}")
        return found[0]

    @cached_property
    def count(self) -> int:
        return len({path for paths in self._by.values() for path in paths})


def _listing(root: Path) -> str:
    names = sorted(path.name for path in root.iterdir())[:8]
    return f"It holds {', '.join(names)}" if names else "It is empty"


def find_file(root: Path, names: Sequence[str]) -> Path:
    """The first file of these names below a folder (the shallowest); InputError that says which would do."""
    if not root.is_dir():
        raise InputError(f"{root} is no folder; give the folder that holds {names[0]}")
    for name in names:
        if found := sorted(root.rglob(name), key=lambda path: (len(path.parts), path.as_posix())):
            return found[0]
    raise InputError(f"no {' or '.join(names)} below {root}. {_listing(root)}")


def sentence(facts: Mapping[str, str]) -> str:
    """Facts as one line of clinical context; what is not known is not mentioned.

    >>> sentence({"Age": "55", "Sex": "", "Site": "back"})
    'Age: 55. Site: back.'
    """
    return " ".join(f"{name}: {value}." for name, value in facts.items() if value)
