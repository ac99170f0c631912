"""What the edits of graded faults share: the text to degrade, a level of it, and how words are found and replaced."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..evaluators.terms import Terms
from .fault_edits import Mention, applied, renamed
from .fault_phrases import FINDING
from .naming import find_mentions

Piece = tuple[int, int, str]
LEVELS = 4


class Clean(NamedTuple):
    """A narrative to degrade: its judged text, the gold names of its case, the words of its case, and the draws."""

    text: str
    gold: tuple[str, ...]
    context: str
    terms: Terms
    draw: Callable[[str], np.random.Generator]


class Level(NamedTuple):
    """The text at one severity and what was done to it, as plain data."""

    text: str
    change: dict[str, Any]


Graded = list[Level | str] | str  # per severity a text, or why there is none; a str: why there is none at all


def edited(clean: Clean, pieces: Iterable[Piece], **change: Any) -> Level:
    """The clean text with these pieces put in."""
    return Level(applied(clean.text, sorted(pieces)), change)


def replacements(clean: Clean, table: Sequence[tuple[str, str]]) -> list[Piece]:
    """Where the patterns of a table stand outside of names of diseases, with what takes their place; the first wins."""
    names = find_mentions(clean.text, clean.terms)
    pieces: list[Piece] = []
    for hit in _alternatives(tuple(what for what, _ in table)).finditer(clean.text):
        if any(m.start < hit.end() and hit.start() < m.end for m in names):
            continue
        new = table[int((hit.lastgroup or "_0")[1:])][1]
        pieces.append(renamed(clean.text, Mention(*hit.span(), ""), new))
    return pieces


@lru_cache(maxsize=64)
def _alternatives(alternatives: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(rf"(?P<_{k}>\b(?:{what})\b)" for k, what in enumerate(alternatives)), re.IGNORECASE)


def finding_stem(word: str) -> str:
    """What "scaly" and "scaling" have in common: the first letters, in small ones."""
    return word.lower()[:4]


def finding_stems(text: str) -> set[str]:
    """The findings that a text names."""
    return {finding_stem(found.group()) for found in FINDING.finditer(text)}


def tidied(text: str) -> str:
    """Without the blanks, empty lines and lonely marks that are left where words were taken out."""
    text = re.sub(r"(?m)^[ \t]*(?:[-*•]|\d+[.)])?[ \t]*$", "", text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]{2,}(?=\S)", " ", text)).strip()
