"""Words in one spelling: what must be equal before two names of a disease can be compared."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

_TOKEN = re.compile(r"[^\W_]+(?:['’ʼ`´][^\W\d_]+)?")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_FILE = re.compile(r"(?i)\.(?:jpe?g|png|webp)$|IMG\d*|GP\d+|\d+")
# Plural endings of medical Latin and Greek, then English; the first that fits is used.
_PLURALS = (
    ("itides", "itis"), ("omata", "oma"), ("igines", "igo"), ("oses", "osis"), ("tases", "tasis"), ("iases", "iasis"),
    ("medones", "medo"), ("medone", "medo"), ("naevi", "nevus"), ("nevi", "nevus"), ("ae", "a"), ("ies", "y"),
    ("sses", "ss"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("uses", "us"),
)  # fmt: skip
_NO_PLURAL = ("ss", "us", "is")


class Words(NamedTuple):
    """An item cut into words: `norm` in one spelling, `raw` as written, `breaks` true where a word starts a new part.

    A new part begins after one of , ; / | + & ( and after the words "or", "and", "vs", "versus", which stay in `norm`.
    """

    norm: list[str]
    raw: list[str]
    breaks: list[bool]


@lru_cache(maxsize=1 << 16)
def normal(word: str) -> str:
    """One spelling for a word: lower case, no possessive, singular, American.

    >>> [normal(word) for word in ("Bowen's", "haemangiomata", "seborrhoeic", "Keratoses", "tumours", "naevi")]
    ['bowen', 'hemangioma', 'seborrheic', 'keratosis', 'tumor', 'nevus']
    """
    word = re.sub(r"['’ʼ`´]s?$|['’ʼ`´]", "", word.lower())
    if len(word) > 3:
        for ending, single in _PLURALS:
            if word.endswith(ending):
                word = word[: -len(ending)] + single
                break
        else:
            if word.endswith("s") and not word.endswith(_NO_PLURAL):
                word = word[:-1]
        word = word.replace("ae", "e").replace("oe", "e").replace("leuco", "leuko").replace("fibre", "fiber")
        if len(word) > 4 and word.endswith("our"):
            word = word[:-3] + "or"
        if len(word) > 6:
            word = re.sub(r"is(e|ed|ing|ation)$", r"iz\1", word)
    return word


def either(*patterns: str) -> str:
    """A group that matches any of the patterns."""
    return f"(?:{'|'.join(patterns)})"


def fold(text: str) -> str:
    """The text without accents (compatibility decomposition, combining marks dropped)."""
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


@lru_cache(maxsize=1024)
def words(text: str) -> Words:
    """Cut an item into words; the lists of the result are shared and not to be changed.

    >>> words("Carcinoma, basal cell").norm, words("BCC/SCC").breaks
    (['carcinoma', 'basal', 'cell'], [False, True])
    """
    text = fold(text)
    norm: list[str] = []
    raw: list[str] = []
    breaks: list[bool] = []
    end, joined = 0, False
    for found in _TOKEN.finditer(text):
        token = found.group()
        gap = text[end : found.start()]
        word = normal(token)
        breaks.append(bool(norm) and (joined or any(c in ",;/|+&(" for c in gap)))
        norm.append(word)
        raw.append(token)
        joined = word in ("or", "and", "vs", "versu", "versus")
        end = found.end()
    return Words(norm, raw, breaks)


def stem_words(text: str) -> str:
    """A file stem or camel-case label as plain words: digits and image marks dropped.

    >>> stem_words("07RosaceaMilia0120.jpg")
    'Rosacea Milia'
    """
    return " ".join(_CAMEL.sub(" ", _FILE.sub(" ", text)).replace("-", " ").replace("_", " ").split())
