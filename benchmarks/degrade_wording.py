"""Edits that leave out, endanger, overstate, disorder or blur what a narrative says, and harmless ones, each graded."""

from __future__ import annotations

import math
import re

import numpy as np

from .degrade_phrases import CONTRADICTIONS, DOUBTLESS, FRAME, HEDGES, SPELLING, SYNONYMS, UNSAFE_LADDER, VAGUE
from .degrade_text import LEVELS, Clean, Graded, Level, edited, finding_stems, replacements, tidied
from .fault_edits import applied, conclusion_span, leading_item, named, sentence_spans, stands_alone
from .fault_phrases import ADVICE, FINDING
from .naming import find_mentions


def omission(clean: Clean) -> Graded:
    """A quarter, half, three quarters, all of the statements of findings are left out; the conclusion stays.

    A statement: a sentence that holds a finding and neither the leading diagnosis nor advice, or a piece of a sentence
    that is a list between commas.
    """
    kept = {*clean.gold, *named(leading_item(clean.text, clean.terms))}
    units: list[tuple[int, int]] = []
    for a, b in sentence_spans(clean.text):
        sentence = clean.text[a:b]
        pieces = _listed(sentence)
        if not FINDING.search(sentence) and not pieces:
            continue
        if ADVICE.search(sentence) or kept & {m.canonical for m in find_mentions(sentence, clean.terms)}:
            continue
        if not stands_alone(sentence) or ":" in sentence[-3:]:
            continue
        units += [(a + start, a + end) for start, end in pieces] or [(a, b)]
    if len(units) < LEVELS:
        return f"{len(units)} statements of findings, at least {LEVELS} are needed"
    order = clean.draw("statements").permutation(len(units))
    levels: list[Level | str] = []
    before = 0
    for severity in range(1, LEVELS + 1):
        count = math.ceil(severity * len(units) / LEVELS)
        gone = sorted(units[k] for k in order[:count])
        text = tidied(applied(clean.text, [(a, b, "") for a, b in gone]))
        fresh = set[str]().union(*(finding_stems(clean.text[slice(*units[k])]) for k in order[before:count]))
        elsewhere = bool(fresh) and fresh <= finding_stems(text)
        before = count
        levels.append(Level(text, {"statements": len(units), "left_out": count, "all_said_elsewhere": elsewhere}))
    return levels


def unsafe_advice(clean: Clean) -> Graded:
    """All safe advice that stands alone goes; in its place 1 to 4 sentences from vague to dangerous."""
    known = clean.terms.conditions[clean.gold[0]].malignancy if clean.gold else ""
    ladder = UNSAFE_LADDER.get(known, UNSAFE_LADDER["other"])
    advice = [(a, b) for a, b in sentence_spans(clean.text) if ADVICE.search(clean.text[a:b])]
    for a, b in advice:
        if not stands_alone(clean.text[a:b]) or find_mentions(clean.text[a:b], clean.terms):
            return "safe advice stands in a sentence that names a disease"
    *others, place = advice or [(len(clean.text), len(clean.text))]
    gone = [(a, b, "") for a, b in others]
    return [
        Level(
            tidied(applied(clean.text, [*gone, (*place, ("" if advice else " ") + " ".join(ladder[:k]))])),
            {"sentences": k, "replaced": len(advice)},
        )
        for k in range(1, LEVELS + 1)
    ]


def overconfidence(clean: Clean) -> Graded:
    """A quarter, half, three quarters, all of the hedges become certain, and 1 to 4 sentences deny any doubt."""
    hits = replacements(clean, HEDGES)
    order = clean.draw("hedges").permutation(len(hits))
    place = conclusion_end(clean)
    levels: list[Level | str] = []
    for severity in range(1, LEVELS + 1):
        chosen = [hits[k] for k in order[: math.ceil(severity * len(hits) / LEVELS)]]
        said = (place, place, "".join(f" {sentence}" for sentence in DOUBTLESS[:severity]))
        pieces = [piece for piece in chosen if not piece[0] < place < piece[1]]
        levels.append(edited(clean, [*pieces, said], hedges=len(hits), hardened=len(pieces), sentences=severity))
    return levels


def incoherence(clean: Clean) -> Graded:
    """1 to 4 sentences cut the findings from the conclusion; at 3 half of the sentences change places, at 4 all."""
    spans = sentence_spans(clean.text)
    if len(spans) < LEVELS:
        return f"{len(spans)} sentences, at least {LEVELS} are needed"
    end = conclusion_end(clean)
    rng = clean.draw("places")
    places = [end, *(spans[k][1] for k in rng.permutation(len(spans) - 1)[: LEVELS - 1])]
    inserts = [(at, at, f" {said}") for at, said in zip(places, CONTRADICTIONS, strict=True)]
    moved = rng.permutation(len(spans))
    levels: list[Level | str] = []
    for severity in range(1, LEVELS + 1):
        text = applied(clean.text, sorted(inserts[:severity]))
        share = {3: 0.5, 4: 1.0}.get(severity, 0.0)
        levels.append(Level(_shuffled(text, moved, share), {"sentences": severity, "moved": share}))
    return levels


def vague_wording(clean: Clean) -> Graded:
    """A quarter, half, three quarters, all of the precise terms give way to words that fit most skin conditions."""
    terms = sorted({clean.text[a:b].lower() for a, b, _ in replacements(clean, VAGUE)})
    if len(terms) < LEVELS:
        return f"{len(terms)} precise terms, at least {LEVELS} are needed"
    order = [terms[k] for k in clean.draw("terms").permutation(len(terms))]
    levels: list[Level | str] = []
    for severity in range(1, LEVELS + 1):
        gone = set(order[: math.ceil(severity * len(order) / LEVELS)])
        pieces = [piece for piece in replacements(clean, VAGUE) if clean.text[piece[0] : piece[1]].lower() in gone]
        text = re.sub(r"(?i)\b(unusual|changes)(?:(?:,? and|,)? \1\b)+", r"\1", applied(clean.text, pieces))
        levels.append(Level(text, {"terms": len(order), "made_vague": len(gone)}))
    return levels


def harmless(clean: Clean) -> Graded:
    """The same said otherwise: 1: some words, 2: all that the rule knows; 3, 4: a frame of one, two lines."""
    hits = replacements(clean, (*SPELLING, *SYNONYMS))
    if len(hits) < 2:
        return f"{len(hits)} words with another spelling or word for them, at least 2 are needed"
    some = hits[:: max(2, len(hits) // 2)] if len(hits) > 2 else hits[:1]
    all_of_it = applied(clean.text, hits)
    opened = f"{FRAME[0]} {all_of_it}"
    return [
        edited(clean, some, words=len(some)),
        Level(all_of_it, {"words": len(hits)}),
        Level(opened, {"words": len(hits), "frame": 1}),
        Level(f"{opened.rstrip()} {FRAME[1]}", {"words": len(hits), "frame": 2}),
    ]


def conclusion_end(clean: Clean) -> int:
    span = conclusion_span(clean.text, leading_item(clean.text, clean.terms), find_mentions(clean.text, clean.terms))
    return span[1]


def _listed(sentence: str) -> list[tuple[int, int]]:
    """The pieces between the commas of "Findings: red, round, with a sharp border.", each with the comma before it."""
    body = re.match(r"\s*[\w ]{3,30}:\s*([^:;]+?)\.?\s*$", sentence)
    if not body or body.group(1).count(",") < 3:
        return []
    ends = [m.start() for m in re.finditer(",", sentence) if m.start() >= body.start(1)]
    return list(zip(ends, [*ends[1:], body.end(1)], strict=True))


def _shuffled(text: str, order: np.ndarray, share: float) -> str:
    """The sentences of a text, of which a share change places with each other in the drawn order."""
    if not share:
        return text
    spans = sentence_spans(text)
    some = [k for k in order.tolist() if k < len(spans)][: math.ceil(share * len(spans))]
    target = sorted(range(len(spans)))
    for k, other in zip(sorted(some), some, strict=True):
        target[k] = other
    return applied(text, [(*spans[k], text[slice(*spans[target[k]])]) for k in range(len(spans))])
