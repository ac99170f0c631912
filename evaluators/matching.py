"""From the words of one item to the conditions it names: an index of every alias, compiled once.

Order: the whole item, the same words in another order, then the longest alias inside it. A spelling slip is
looked for beside the last step, so that "tinea versicolr" is not read as plain "tinea".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from .wording import Words, stem_words, words

LONGEST_ITEM = 400  # characters of an item that are read; a diagnosis does not begin later
# Two diseases or more go by each of these; a guess would be a silent number.
AMBIGUOUS = frozenset({"MM", "PG", "AD", "LP", "EM", "HS", "MF", "DM", "CA"})
# Everyday words and mere findings: a diagnosis if the item says nothing else, a description inside running text.
EVERYDAY = frozenset({
    "mole", "boil", "corn", "cyst", "burn", "scratch", "thrush", "blister", "scar", "bruise", "fissure", "comedo",
    "blackhead", "whitehead", "wheal", "purpura", "petechia", "ecchymosis", "telangiectasia", "hyperkeratosis",
    "hyperpigmentation", "desquamation", "maceration", "hematoma", "alopecia", "photosensitivity", "hypersensitivity",
    "metastasis", "fibroma", "abrasion", "contusion", "leukonychia", "onycholysis", "clubbing", "hair loss",
    "dry skin", "skin peeling", "granulation tissue", "vascular lesion",
})  # fmt: skip
# Too wide to be looked for inside a longer item ("viral skin infection" is no bacterial one).
_WHOLE_ONLY = frozenset({"skin infection", "unknown", "hypersensitivity", "allergic reaction"})
# What follows one of these explains or limits the diagnosis before it.
_CUT = frozenset({
    "because", "given", "due", "secondary", "mimicking", "resembling", "simulating", "arising", "associated", "with",
    "without", "affecting", "involving", "overlying", "complicated", "on", "in", "at", "from", "after", "following",
    "which", "that", "as", "presenting", "since", "based", "rather", "instead", "than", "unlike", "superimposed",
})  # fmt: skip
_DENIAL = frozenset({"non", "no", "not", "pseudo", "without"})
_LIKENESS = frozenset({"like", "mimic", "mimicker", "mimicking"})
_ARTICLES = frozenset({"a", "an", "the"})
# English words one letter from a disease (shingles, pimples), and endings of adjectives ("petechial" is no petechia).
_NO_SLIP = frozenset({"single", "dimple", "simple"})
_ADJECTIVE = ("al", "ic", "ous", "oid", "form")
_BRACKETS = re.compile(r"[(\[]([^()\[\]]*)[)\]]")
_FOR_EXAMPLE = re.compile(
    r"(?i)^\s*(?:e\.?g\.?|i\.?e\.?|also (?:known as|called)|aka|a\.k\.a\.|formerly|or|such as|likely)[\s,:]+"
)
_SMALL = _ARTICLES | {"of", "and", "type", "variant", "on", "in", "affecting", "involving"}


class Hit(NamedTuple):
    """One condition that an item names; `alias` as listed, `how`: name | alias | reordered | inside | typo."""

    canonical: str
    alias: str
    how: str


class Match(NamedTuple):
    """What an item names: several hits share its rank ("BCC vs SCC"); `ambiguous` says why there is none, or ""."""

    hits: tuple[Hit, ...] = ()
    ambiguous: str = ""


class _Span(NamedTuple):
    start: int
    end: int
    canonical: str
    alias: str
    typo: bool = False


class AliasIndex:
    """Every alias in one spelling.

    `aliases`: (alias, condition); `groups`: names that count as a whole item only; `narrower` gives the more
    specific of two related conditions, None if they are not related.
    """

    def __init__(
        self,
        aliases: Iterable[tuple[str, str]],
        groups: Iterable[str],
        narrower: Callable[[str, str], str | None],
    ):
        self._narrower = narrower
        self._recent = lru_cache(maxsize=1024)(self._match)  # one item is asked for several times while a text is read
        self._phrases: dict[str, tuple[str, str]] = {}
        self._short: dict[str, tuple[str, str]] = {}
        lengths: dict[str, set[int]] = defaultdict(set)
        vocabulary: set[str] = set()
        for alias, canonical in aliases:
            if is_abbreviation(alias):
                self._short[alias] = self._short[alias.upper()] = (canonical, alias)
                continue
            norm = words(alias).norm
            self._phrases.setdefault(" ".join(norm), (canonical, alias))
            lengths[norm[0]].add(len(norm))
            vocabulary.update(norm)
        self._lengths = {first: tuple(sorted(found, reverse=True)) for first, found in lengths.items()}
        self._whole = dict(self._phrases)
        for group in groups:
            self._whole.setdefault(" ".join(words(group).norm), (group, group))
        self._joined = {key.replace(" ", ""): found for key, found in self._phrases.items() if len(key) > 6}
        self._sorted: dict[str, tuple[str, str] | None] = {}
        for key, found in self._phrases.items():
            bag = _bag(key.split())
            known = self._sorted.get(bag, found)
            self._sorted[bag] = found if known and known[0] == found[0] else None
        self._vocabulary = frozenset(vocabulary)
        self._near: dict[str, list[str]] = defaultdict(list)
        for word in sorted(vocabulary):
            if len(word) >= 4:
                for shorter in _deletions(word):
                    self._near[shorter].append(word)

    def whole(self, text: str) -> Hit | None:
        """The condition that the whole text names, in any spelling or order of words; None if it names none."""
        return self._whole_item(text, words(text))

    def match(self, text: str, running: bool = False) -> Match:
        """What an item of a differential names.

        In `running` text everyday words, short abbreviations and typos do not count. Never raises. At most the first
        LONGEST_ITEM characters are read.
        """
        return self._recent(text[:LONGEST_ITEM], running)

    def _match(self, text: str, running: bool) -> Match:
        found = words(text)
        if not found.norm:
            return Match()
        hit = self._whole_item(text, found)
        if hit:
            return Match((hit,))
        if len(found.raw) == 1 and (plain := stem_words(text)) != text.strip():
            return self.match(plain, running) if plain else Match()
        inner = _BRACKETS.findall(text)
        if inner and (outer := _BRACKETS.sub(" ", text)).strip():
            return self._both_ways(self.match(outer, running), inner)
        match = self._inside(found, running)
        if not match.hits and not match.ambiguous:
            unclear = next((raw for raw in found.raw if raw in AMBIGUOUS), "")
            if unclear:
                return Match(ambiguous=f"'{unclear}' stands for more than one condition")
        return match

    def _both_ways(self, outer: Match, inner: list[str]) -> Match:
        """ "basal cell carcinoma (BCC)": what stands outside and what stands in the brackets, each as a whole item."""
        hits = {hit.canonical: hit for hit in outer.hits}
        for text in inner:
            text = _FOR_EXAMPLE.sub("", text)
            hit = self._whole_item(text, words(text)) if text.strip() else None
            if hit is None or hit.canonical in hits:
                continue
            wider = next((name for name in hits if self._narrower(name, hit.canonical) == hit.canonical), None)
            if wider is not None:
                del hits[wider]
            elif any(self._narrower(name, hit.canonical) for name in hits):
                continue
            hits[hit.canonical] = hit
        return Match(tuple(hits.values()), "" if hits else outer.ambiguous)

    def _whole_item(self, text: str, found: Words) -> Hit | None:
        norm = [word for word in found.norm if word not in _ARTICLES] or found.norm
        if len(norm) == 1 and len(found.raw) == 1:
            short = self._short.get(_singular_short(found.raw[0]))
            if short:
                return Hit(*short, "alias")
        key = " ".join(norm)
        entry = self._whole.get(key)
        if entry:
            canonical, alias = entry
            return Hit(canonical, alias, "name" if " ".join(text.lower().split()) == canonical.lower() else "alias")
        entry = self._sorted.get(_bag(norm)) if len(norm) > 1 else None
        if entry:
            return Hit(*entry, "reordered")
        entry = self._joined.get(key.replace(" ", "")) if len(key) > 5 else None
        return Hit(*entry, "typo") if entry else None

    def _inside(self, found: Words, running: bool) -> Match:
        norm = found.norm
        stop = next((i for i, word in enumerate(norm) if i and word in _CUT), len(norm))
        spans = self._spans(norm, found.raw, range(stop), running)
        unclear = ""
        for position in range(0 if running else min(len(norm), stop + 6)):
            if norm[position] in self._vocabulary or len(norm[position]) < 4 or norm[position].isdigit():
                continue
            slips = self._slips(norm, found.raw, position, stop, running)
            if slips:
                longest = max(span.end - span.start for span in slips)
                slips = [span for span in slips if span.end - span.start == longest]
                if len({span.canonical for span in slips}) > 1:
                    unclear = (
                        f"'{found.raw[position]}' is as near to {' as to '.join(sorted({s.alias for s in slips}))}"
                    )
                else:
                    spans.append(slips[0])
        chosen: list[_Span] = []
        for span in sorted(spans, key=lambda s: (s.start - s.end, -len(s.alias), s.start)):
            if all(span.end <= other.start or span.start >= other.end for other in chosen):
                chosen.append(span)
        if not chosen:
            return Match(ambiguous=unclear)
        return self._one_per_part(sorted(chosen), found)

    def _spans(self, norm: list[str], raw: list[str], starts: Iterable[int], running: bool) -> list[_Span]:
        spans = []
        for i in starts:
            for length in self._lengths.get(norm[i], ()):
                entry = self._phrases.get(" ".join(norm[i : i + length])) if i + length <= len(norm) else None
                if entry and not _denied(norm, i, i + length):
                    phrase = " ".join(norm[i : i + length])
                    if phrase not in _WHOLE_ONLY and not (running and phrase in EVERYDAY):
                        spans.append(_Span(i, i + length, *entry))
                    break
            if not running and raw[i][:2].isupper() and len(raw[i]) <= 5:
                short = self._short.get(_singular_short(raw[i]))
                if short and not _denied(norm, i, i + 1):
                    spans.append(_Span(i, i + 1, *short))
        return spans

    def _slips(self, norm: list[str], raw: list[str], position: int, stop: int, running: bool) -> list[_Span]:
        """Aliases of six letters or more that hold the word at `position` with one edit or one transposition."""
        word = norm[position]
        if word in _NO_SLIP:
            return []
        near = {
            other
            for shorter in _deletions(word)
            for other in self._near.get(shorter, ())
            if _one_edit(word, other) and (not word.endswith(_ADJECTIVE) or other.endswith(_ADJECTIVE))
        }
        spans = []
        for other in sorted(near):
            changed = [*norm[:position], other, *norm[position + 1 :]]
            for span in self._spans(changed, raw, range(max(0, position - 6), min(position + 1, stop)), running):
                if span.start <= position < span.end and sum(map(len, changed[span.start : span.end])) >= 6:
                    spans.append(span._replace(typo=True))
        return spans

    def _one_per_part(self, spans: list[_Span], found: Words) -> Match:
        """One diagnosis per part of an item: parts are divided by "vs", "or", "and", a slash, a comma."""
        parts: list[list[_Span]] = [[spans[0]]]
        for before, span in pairwise(spans):
            if any(found.breaks[before.end : span.start + 1]):
                parts.append([span])
            else:
                parts[-1].append(span)
        hits: dict[str, Hit] = {}
        unclear = ""
        for part in parts:
            best = max(part, key=lambda s: (len(s.alias), -s.start))
            for other in part:
                narrower = self._narrower(best.canonical, other.canonical)
                if narrower == other.canonical:
                    best = other
                elif narrower is None and (other.end == best.start or other.start == best.end):
                    # Two unrelated names side by side ("lupus pernio") are most likely a third one.
                    unclear = f"'{' '.join(found.raw[min(best.start, other.start) : max(best.end, other.end)])}'"
                    break
            else:
                hits.setdefault(best.canonical, Hit(best.canonical, best.alias, "typo" if best.typo else "inside"))
        if hits or not unclear:
            return Match(tuple(hits.values()))
        return Match(ambiguous=f"{unclear} puts two unrelated names side by side")


def is_abbreviation(alias: str) -> bool:
    """Whether an alias is an abbreviation of four characters or fewer, which counts in capitals only.

    >>> is_abbreviation("BCC"), is_abbreviation("LyP"), is_abbreviation("mole"), is_abbreviation("DRESS syndrome")
    (True, True, False, False)
    """
    return len(alias) <= 4 and alias.isalnum() and sum(c.isupper() for c in alias) >= 2


def _denied(norm: list[str], start: int, end: int) -> bool:
    return (start > 0 and norm[start - 1] in _DENIAL) or (end < len(norm) and norm[end] in _LIKENESS)


def _singular_short(raw: str) -> str:
    return raw[:-1] if len(raw) > 2 and raw[-1] == "s" and raw[:-1].isupper() else raw


def _bag(norm: list[str]) -> str:
    return " ".join(sorted(word for word in norm if word not in _SMALL))


def _deletions(word: str) -> set[str]:
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}


def _one_edit(a: str, b: str) -> bool:
    """Whether one insertion, deletion, substitution or transposition of neighbours turns `a` into `b`."""
    if a == b or abs(len(a) - len(b)) > 1:
        return False
    i = 0
    while i < min(len(a), len(b)) and a[i] == b[i]:
        i += 1
    if len(a) == len(b):
        swapped = a[:i] + a[i + 1 : i + 2] + a[i : i + 1] + a[i + 2 :]
        return a[i + 1 :] == b[i + 1 :] or swapped == b
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    return longer[i + 1 :] == shorter[i:]
