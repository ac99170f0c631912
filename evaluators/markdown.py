"""Pieces of a report in Markdown that reads well raw: numbers, aligned tables that fit a terminal, footnotes."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Sequence

import numpy as np

from ..judge.escape import escape_markdown, plain_start, visible
from .bootstrap import Estimate

WIDTH = 120  # columns of a terminal that a table has to fit
NAME_WIDTH = 19  # a longer name is cut in the middle and given in full below
NOTHING = "–"


class Footnotes:
    """Reasons for what is not there, numbered in the order in which they are met; one list per section."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, reason: str | None) -> str:
        """ "(1)" for a reason; the same reason gets the same mark."""
        return f"({self._numbers.setdefault(reason or 'no reason was given', len(self._numbers) + 1)})"

    def lines(self) -> list[str]:
        """The reasons, escaped, a paragraph each; empty if there are none."""
        listed = (f"({number}) {escape_markdown(reason)}" for reason, number in self._numbers.items())
        return [line for reason in listed for line in paragraph(reason)]


def number(value: float) -> str:
    """Two decimals, never "-0.00".

    >>> number(3.14159), number(-0.001)
    ('3.14', '0.00')
    """
    text = f"{value:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text


def percent(share: float) -> str:
    """A share with one decimal that says 100 % only where nothing is missing.

    >>> percent(0.5), percent(1.0), percent(0.9999)
    ('50.0 %', '100 %', '99.9 %')
    """
    return "100 %" if share == 1 else f"{min(100 * share, 99.9):.1f} %"


def cell(found: Estimate, notes: Footnotes, of: int | None = None, interval: bool = True) -> str:
    """A value with its interval, "3.42 [3.31, 3.53]", and a mark for whatever is not there.

    `of`: the n that the reader expects here; a different one is written behind a slash.
    """
    text = NOTHING + notes.mark(found.reason) if found.value is None else number(found.value)
    if found.value is not None and interval:
        ends = found.low is not None and found.high is not None
        text += f" [{number(found.low)}, {number(found.high)}]" if ends else notes.mark(found.reason)  # type: ignore[arg-type]
    return text if found.n == of or found.value is None else f"{text} /{found.n}"


def names(texts: Sequence[str]) -> dict[str, str]:
    """Escaped names short enough for a column; names that would look alike when cut get a number.

    >>> names(["a" * 40, "a" * 41])["a" * 41]
    'aaaaaaa…aaaaaaa(2)'
    """
    found: dict[str, str] = {}
    for text in texts:
        seen, count = visible(text), 1
        short = seen if width(seen) <= NAME_WIDTH else _cut(seen, NAME_WIDTH - 1, "")
        while short in found.values():
            count += 1
            short = _cut(seen, NAME_WIDTH - 3, f"({count})")
        found[text] = short
    return {text: escape_markdown(short) for text, short in found.items()}


def _cut(text: str, columns: int, end: str) -> str:
    """The text's two ends round an ellipsis; a character that is written as {U+XXXX} stays whole."""
    pieces, half = re.findall(r"\{U\+[0-9A-F]{4,6}\}|.", text), (columns - 1) // 2
    head = next(k for k in range(half, -1, -1) if width("".join(pieces[:k])) <= half)
    tail = next(k for k in range(half, -1, -1) if width("".join(pieces[len(pieces) - k :])) <= half)
    return f"{''.join(pieces[:head])}…{''.join(pieces[len(pieces) - tail :])}{end}"


def width(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def paragraph(text: str, indent: str = "") -> list[str]:
    """Markdown text wrapped for a terminal, with an empty line behind; no wrapped line opens a list or heading."""
    first, *rest = textwrap.wrap(text, WIDTH - len(indent), break_long_words=False, break_on_hyphens=False) or [""]
    return [first, *(indent + plain_start(line) for line in rest), ""]


def bullet(text: str) -> list[str]:
    """An item of a list, wrapped."""
    return paragraph(f"- {text}", "  ")[:-1]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """A Markdown table in aligned columns; the first `left` columns are flushed left, the others right.

    Cells are Markdown already (escaped where foreign). A table too wide for a terminal is split by columns, each part
    with the first column again.
    """
    sizes = [max(3, *(width(row[c]) for row in (header, *rows))) for c in range(len(header))]
    room = WIDTH - 1 - sum(sizes[:left]) - 3 * left
    lines: list[str] = []
    for shown in _parts(sizes[left:], room):
        columns = [*range(left), *(left + c for c in shown)]
        rule = ["-" * sizes[c] if c < left else "-" * (sizes[c] - 1) + ":" for c in columns]
        for row in (header, None, *rows):
            cells = rule if row is None else [_pad(row[c], sizes[c], c >= left) for c in columns]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return lines


def _parts(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Columns side by side in as few parts as fit, of about equal number."""
    for count in range(1, len(sizes) + 1):
        parts = [list(map(int, part)) for part in np.array_split(np.arange(len(sizes)), count)]
        if all(sum(sizes[c] + 3 for c in part) <= room for part in parts):
            return parts
    return [[c] for c in range(len(sizes))] or [[]]


def _pad(text: str, columns: int, right: bool) -> str:
    blank = " " * (columns - width(text))
    return blank + text if right else text + blank
