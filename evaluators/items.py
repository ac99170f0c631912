"""One item of a list, and lists in one line: the head that names a diagnosis, the weight beside it, what follows."""

from __future__ import annotations

import re
from typing import NamedTuple

from .cues import argues_against, doubts, read_opening
from .terms import Terms
from .wording import either

LONGEST_LINE = 2000  # characters of a line that are read

_BOLD = re.compile(r"^(\*\*|__)(.+?)\1")
_EMPHASIS = re.compile(r"\*\*|__|[*`#](?=\w)|(?<=\w)[*`]|(?<!\w)_(?=\w)|(?<=\w)_(?!\w)")
_HEAD_END = re.compile(r":\*{0,2}\s+|:$|\s+[–—-]+\s+|\s*—\s*|\.\s+(?=[A-Z])|\s+→\s+|\s*\|\s*|\t")
_SENTENCE = re.compile(r"(?<=[a-z)])\.\s+(?=[A-Z])")
_INLINE_NUMBER = re.compile(r"(?:(?<=\s)|^)\(?([1-9]|1\d)[.)]\s+(?=\S)")
_CHANCE = r"(?:confidence|probability|likelihood|p)?\s?[:=]?\s?"
_WEIGHT = re.compile(
    rf"(?i)[(\[~≈:,–-]?\s?(?:~|≈|about|approx\.?)?\s?{_CHANCE}(\d{{1,3}}(?:\.\d+)?)\s?%[^)\]]{{0,30}}[)\]]?"
    rf"|[(\[]\s?{_CHANCE}(0?\.\d+|1\.0+)\s?[)\]]"
)
_TURN = either("diagnos[ei]s", "consideration", "possibility", "differential", "choice")
_PLACE = either(
    "most likely|first|second|third|primary|secondary|tertiary|alternative|leading|top|other|less likely|possible",
    "also consider",
)
_ORDINAL = re.compile(
    rf"(?i)^(?:{_PLACE}(?: {_TURN})? ?#?\d{{0,2}}"
    r"|(?:diagnosis|differential(?: diagnosis)?|rank|option|candidate|choice) ?#?\d{1,2})$"
)


class Proposal(NamedTuple):
    """Something an answer proposes: its text, where it was found, and what its surroundings say of it.

    `against`: what is said of it speaks against it; that counts only where a conclusion follows.
    """

    text: str
    source: str
    hedged: bool = False
    negated: bool = False
    weight: float | None = None
    against: bool = False


def plain(text: str) -> str:
    """The text without Markdown emphasis and surrounding punctuation of a heading.

    >>> plain("**Basal cell** _carcinoma_"), plain("# Plan"), plain("skin_tag")
    ('Basal cell carcinoma', 'Plan', 'skin_tag')
    """
    return _EMPHASIS.sub("", text).strip().strip("*_# ").lstrip("-–•·◦ ")


def split_head(content: str) -> tuple[str, str]:
    """An item's head and what is said about it.

    >>> split_head("**BCC** (nodular): pearly"), split_head("BCC - pearly")
    (('BCC (nodular)', 'pearly'), ('BCC', 'pearly'))
    """
    if bold := _BOLD.match(content):
        inner, rest = bold[2].strip(), content[bold.end() :].strip()
        head = _HEAD_END.split(inner, maxsplit=1)
        if len(head) > 1 and head[1].strip():
            return plain(head[0]), plain(f"{head[1]} {rest}")
        tail = bracket.group() if (bracket := re.match(r"\([^()]*\)", rest)) else ""
        return plain(f"{inner.rstrip(':')} {tail}"), plain(rest[len(tail) :].lstrip(":–—-. "))
    parts = _HEAD_END.split(content, maxsplit=1)
    return plain(parts[0]), plain(parts[1]) if len(parts) > 1 else ""


def is_ordinal(head: str) -> bool:
    """Whether a head gives a place in a ranking and no name: "Most likely", "Diagnosis 2"."""
    return bool(_ORDINAL.match(head))


def item_proposal(content: str, source: str) -> Proposal:
    """An item of a list: its head, the weight beside it, and whether the words after it deny or doubt it."""
    content = " ".join(content[:LONGEST_LINE].split())
    head, rest = split_head(content)
    hedged = False
    if is_ordinal(head) and rest:
        hedged = doubts(head)
        head, rest = split_head(rest)
    weight = None
    for text in (head, rest[:40]):
        if (found := _WEIGHT.search(text)) and float(found[1] or 0) <= 100:
            weight = float(found[1]) / 100 if found[1] else float(found[2])
            break
    denied, doubted = read_opening(rest)
    name = _WEIGHT.sub(" ", head).strip() or head
    return Proposal(name, source, hedged or doubted, denied, weight, argues_against(rest))


def split_list(text: str, source: str, terms: Terms) -> list[Proposal]:
    """A list in one line: "1. A 2. B", "A > B > C", "A; B", "A, B and C"; one item if the whole is a single name."""
    text = plain(text[:LONGEST_LINE])
    if terms.find(text.rstrip(". ")):
        return [Proposal(text.rstrip(". "), source)]
    if cuts := numbered_parts(text):
        return [item_proposal(piece.strip(" ,;"), source) for piece in cuts if piece.strip(" ,;")]
    for mark in (">", ";"):
        pieces = [piece.strip() for piece in text.split(mark) if piece.strip()]
        if len(pieces) > 1 and 2 * sum(bool(terms.match(piece).hits) for piece in pieces) >= len(pieces):
            return [item_proposal(piece, source) for piece in pieces]
    sentence = _SENTENCE.split(text, maxsplit=1)[0]
    pieces = [re.sub(r"(?i)^(?:and|or|then|followed by)\b\s*", "", piece.strip()) for piece in _at_commas(sentence)]
    if len(pieces) > 2 and not terms.find(pieces[-1]):
        last = re.split(r"(?i)\s(?:and|or)\s", pieces[-1])
        pieces[-1:] = last if len(last) == 2 else pieces[-1:]
    if len(pieces) > 1 and sum(terms.match(piece) != ((), "") for piece in pieces) > 1:
        return [item_proposal(piece, source) for piece in pieces if piece and len(piece.split()) <= 8]
    return [item_proposal(sentence, source)] if sentence else []


def numbered_parts(text: str) -> list[str]:
    """The parts of "1. A 2. B" without their numbers; empty unless they are numbered 1, 2 ... and nothing precedes.

    >>> numbered_parts("1) BCC 2) SCC"), numbered_parts("BCC 2) SCC")
    (['BCC ', 'SCC'], [])
    """
    found = list(_INLINE_NUMBER.finditer(text))
    if (
        len(found) < 2
        or text[: found[0].start()].strip()
        or [int(f[1]) for f in found] != list(range(1, len(found) + 1))
    ):
        return []
    ends = [*(f.start() for f in found[1:]), len(text)]
    return [text[f.end() : end] for f, end in zip(found, ends, strict=True)]


def inline_numbers(line: str) -> list[int]:
    """Where the numbers of a list within a line stand ("Differential: 1. A 2. B"); empty unless they count from 1."""
    found = list(_INLINE_NUMBER.finditer(line))
    counts = [int(f[1]) for f in found] == list(range(1, len(found) + 1))
    return [f.start() for f in found] if len(found) > 1 and counts else []


def first_sentence(text: str) -> tuple[str, str]:
    """The first sentence and the rest."""
    parts = _SENTENCE.split(text, maxsplit=1)
    return parts[0], parts[1] if len(parts) > 1 else ""


def _at_commas(text: str) -> list[str]:
    """Cut at the commas that stand outside brackets."""
    pieces, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "([") - (character in ")]" and depth > 0)
        if character == "," and not depth:
            pieces.append(text[start:place])
            start = place + 1
    return [*pieces, text[start:]]
