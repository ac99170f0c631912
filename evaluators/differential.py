"""A differential out of a narrative: ranked items, each with what it names and whether it is hedged or denied.

Deterministic, no model. Order of reading: JSON; a stated answer ("The answer is ..."); lists; concluding sentences;
other prose; short lines; bold spans.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..judge.records import Candidate, strip_reasoning
from ..judge.refusal import declines
from .cues import read_item, refuses
from .items import Proposal, item_proposal, plain, split_list
from .matching import Match
from .statements import is_long, names_disease, read_statements, sentences
from .structure import is_marked, read_lists
from .terms import Terms, load_terms
from .wording import words

_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL | re.IGNORECASE)
_LIST_KEY = re.compile(r"(?i)differential|diagnos|ddx|candidates|predictions?|conditions|top_?\d|ranking|answers?")
_LEAD_KEY = re.compile(
    r"(?i)^(?:(?:final|primary|most_?likely|leading|top|main|working)[_ ]?)?(?:diagnosis|answer|dx)$|^most_?likely$"
)
_NAME_KEYS = ("name", "diagnosis", "condition", "disease", "label", "dx", "term", "answer")
_WEIGHT_KEYS = ("confidence", "probability", "prob", "weight", "score", "likelihood")
_BOLD = re.compile(r"\*\*(.+?)\*\*|__(.+?)__")
SHORT_LINE = 12  # words of a line that is taken for an item though nothing marks it


@dataclass(frozen=True, slots=True)
class Item:
    """One diagnosis of a differential.

    `rank` counts from 1 and is None for a denied item, which takes no rank. `text` as written, `name` without hedges;
    `match` what it names; `weight` the stated confidence, if any; `source`: given | json | answer | list | conclusion |
    prose | line | bold | text.
    """

    rank: int | None
    text: str
    name: str
    match: Match
    negated: bool
    hedged: bool
    weight: float | None
    source: str

    @property
    def flags(self) -> tuple[str, ...]:
        """Any of negated, hedged, typo, ambiguous, several, unmatched."""
        hits = self.match.hits
        flags = {
            "negated": self.negated,
            "hedged": self.hedged,
            "typo": any(hit.how == "typo" for hit in hits),
            "ambiguous": bool(self.match.ambiguous),
            "several": len(hits) > 1,
            "unmatched": not hits and not self.match.ambiguous,
        }
        return tuple(name for name, is_set in flags.items() if is_set)


@dataclass(frozen=True, slots=True)
class Differential:
    """Items in rank order, denied ones last. Without items, `reason` says why; `abstained` if the text declines."""

    items: tuple[Item, ...] = ()
    abstained: bool = False
    reason: str = ""
    duplicates: int = 0


# In one paragraph a new field begins behind the end of a sentence: "Red plaque. Diagnosis: X. Differential: Y, Z."
_FIELD = re.compile(
    r"(?<=[.;!?])[ \t]+(?=(?:(?:final|primary|principal|working|leading|main|clinical|provisional) )?"
    r"(?:diagnos[ei]s|impression|assessment|differential(?: diagnos[ei]s)?|ddx|triage|urgency|plan|advice|management"
    r"|recommendations?|follow-up|findings|description)[ \t]*:)",
    re.IGNORECASE,
)


def parse_differential(text: str, terms: Terms | None = None) -> Differential:
    """Read the differential that a narrative states, in the order of likelihood it states.

    Reasoning blocks are dropped first. A JSON answer is read as such. Else "The answer is X" and "Diagnosis: X" lead,
    then "the most likely diagnosis is X", then the list under a heading for a differential, then other lists of which
    half the items name a condition and further considerations in prose. A concluding sentence ("In conclusion,
    ... consistent with X") leads where no answer is stated and it does not stand before the list. Only where none of
    these is found, short lines, bold spans and the last sentence that names a condition are read, in this order.
    One item is one rank; names that map to a condition already listed count once; denied items take no rank.
    `terms` tells lists of diagnoses from lists of findings (default: the shipped list). Never raises on any text.

    >>> [(item.rank, item.name) for item in parse_differential("1. BCC\\n2. Melanoma, unlikely\\n3. AK").items]
    [(1, 'BCC'), (2, 'AK'), (None, 'Melanoma')]
    >>> parse_differential("I cannot diagnose from an image.").abstained
    True
    """
    terms = terms or load_terms()
    body = strip_reasoning(text)
    if not body:
        return Differential(reason="no text outside the reasoning block" if text.strip() else "no text")
    proposals = _from_json(body)
    if proposals is None:
        proposals = _from_prose(_FIELD.sub("\n", body), terms)
    found = _ranked(proposals, terms)
    if any(item.rank is not None for item in found.items):
        return found
    if declines(body) or any(refuses(sentence) for sentence in sentences(body)):
        return Differential(found.items, True, "the text declines to give a diagnosis")
    return Differential(found.items, False, "every diagnosis is denied" if found.items else "no diagnosis found")


def given_differential(candidates: Iterable[Candidate], terms: Terms | None = None) -> Differential:
    """The differential that a record already holds, in its order; hedges and denials in the names are read."""
    found = _ranked([Proposal(c.name, "given", weight=c.weight) for c in candidates], terms or load_terms())
    if any(item.rank is not None for item in found.items):
        return found
    if any(refuses(item.text) for item in found.items):
        return Differential(found.items, True, "the differential declines to give a diagnosis")
    return Differential(found.items, False, "every diagnosis is denied" if found.items else "an empty differential")


def _from_prose(text: str, terms: Terms) -> list[Proposal]:
    lists = read_lists(text, terms)
    said = read_statements(lists.prose, terms)
    lead = said.answer or lists.lead
    if not lead and (not lists.ranked or said.stated_at >= lists.after):
        lead = said.stated
    if not lead and (not lists.ranked or (said.pointed_at >= lists.after and not lists.numbered)):
        lead = said.pointed
    ranked, loose, also = lists.ranked, lists.loose, said.also
    if lead in (said.stated, said.pointed) and lead:
        at = said.stated_at if lead is said.stated else said.pointed_at
        ranked = _judged(ranked, lead, terms) if at >= lists.after else ranked
        loose = _judged(loose, lead, terms) if at >= lists.loose_after else loose
        also = _judged(also, lead, terms)
    proposals = [*lead, *lists.lead, *ranked, *loose, *also]
    if not proposals and not said.denied:
        proposals = _short_lines(text, terms) or _bold(text, terms) or _last_named(text, terms)
    return proposals + said.denied


def _judged(weighed: list[Proposal], lead: list[Proposal], terms: Terms) -> list[Proposal]:
    """A list that a conclusion follows: what it spoke against is denied by it, save the conclusion itself.

    What the conclusion only narrows down ("psoriasis" before "plaque psoriasis") is no further candidate, nor is what
    names no disease.
    """
    named = {hit.canonical for proposal in lead for hit in terms.match(proposal.text, is_long(proposal.text)).hits}
    wider = {above for name in named for above in terms.conditions[name].ancestors} - named
    kept: list[Proposal] = []
    for item in weighed:
        names = {hit.canonical for hit in terms.match(item.text).hits}
        if names and names <= wider and not item.hedged:  # "SCC must be ruled out" stands beside keratoacanthoma
            continue
        if not names and not names_disease(item.text):
            continue
        kept.append(item._replace(negated=True) if item.against and not item.hedged and not names & named else item)
    return kept


def _short_lines(text: str, terms: Terms) -> list[Proposal]:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 12 or any(len(line.split()) > SHORT_LINE or is_marked(line) for line in lines):
        return []
    found = []
    for line in lines:
        if not (refuses(line) or declines(line)):
            found += split_list(line, "line", terms)
    return found


def _bold(text: str, terms: Terms) -> list[Proposal]:
    spans = [plain(a or b) for a, b in _BOLD.findall(text)]
    return [
        item_proposal(span, "bold")
        for span in spans
        if len(span.split()) <= SHORT_LINE and terms.match(span, running=True).hits
    ]


def _last_named(text: str, terms: Terms) -> list[Proposal]:
    for sentence in reversed(sentences(text)):
        if not (refuses(sentence) or declines(sentence)) and terms.match(sentence, running=True).hits:
            return [Proposal(sentence, "text")]
    return []


def _ranked(proposals: list[Proposal], terms: Terms) -> Differential:
    items: list[Item] = []
    denied: list[Item] = []
    seen: set[str] = set()
    duplicates = 0
    for proposal in proposals:
        for reading in read_item(proposal.text):
            running = proposal.source == "text" or (proposal.source == "conclusion" and is_long(reading.name))
            if not words(reading.name).norm or refuses(reading.name):
                continue
            match = terms.match(reading.name, running)
            hedged = reading.hedged or proposal.hedged
            negated = reading.negated or (proposal.negated and not reading.hedged)
            names = {hit.canonical for hit in match.hits} or {" ".join(words(reading.name).norm)}
            if negated:
                denied.append(
                    Item(None, proposal.text, reading.name, match, True, hedged, proposal.weight, proposal.source)
                )
            elif names <= seen:
                duplicates += 1
                items = [_weighted(item, names, proposal.weight) for item in items]
            else:
                seen |= names
                rank = len(items) + 1
                items.append(
                    Item(rank, proposal.text, reading.name, match, False, hedged, proposal.weight, proposal.source)
                )
    return Differential(tuple(items + denied), duplicates=duplicates)


def _weighted(item: Item, names: set[str], weight: float | None) -> Item:
    """The item with the weight that a later mention of the same names gives, if it has none."""
    same = {hit.canonical for hit in item.match.hits} == names
    return replace(item, weight=weight) if same and item.weight is None and weight is not None else item


def _from_json(text: str) -> list[Proposal] | None:
    """The proposals of a JSON answer; None if the text is not one or its JSON holds no differential."""
    for piece in (text, *_FENCE.findall(text), *_embedded(text)):
        piece = piece.strip()
        if piece[:1] in "[{" and piece:
            try:
                data = json.loads(piece)
            except (ValueError, RecursionError):
                continue
            found = _json_items(data)
            if found:
                return found
    return None


def _embedded(text: str) -> list[str]:
    spans = [(text.find("{"), text.rfind("}")), (text.find("["), text.rfind("]"))]
    return [text[a : b + 1] for a, b in sorted(spans) if 0 <= a < b]


def _json_items(data: Any) -> list[Proposal]:
    if isinstance(data, list):
        entries = [entry for entry in data if isinstance(entry, (str, dict))]
        ranks = [entry.get("rank") if isinstance(entry, dict) else None for entry in entries]
        if entries and all(isinstance(rank, int) for rank in ranks):
            entries = [entry for _, entry in sorted(zip(ranks, entries, strict=True), key=lambda pair: pair[0])]  # type: ignore[arg-type,return-value]
        return [proposal for entry in entries for proposal in _json_entry(entry)]
    if not isinstance(data, dict):
        return []
    lead = [
        Proposal(value, "json")
        for key, value in data.items()
        if isinstance(value, str) and value.strip() and _LEAD_KEY.search(key)
    ]
    for key, value in data.items():
        if _LIST_KEY.search(key) and isinstance(value, (list, dict)):
            return lead + _json_items(value)
        if _LIST_KEY.search(key) and isinstance(value, str) and not _LEAD_KEY.search(key):
            return lead + [Proposal(piece.strip(), "json") for piece in re.split(r"[,;\n]", value) if piece.strip()]
    if lead:
        return lead
    weights = {key: _number(value) for key, value in data.items()}
    if weights and all(weight is not None for weight in weights.values()):
        ordered = sorted(weights.items(), key=lambda pair: -(pair[1] or 0.0))
        return [Proposal(name, "json", weight=weight) for name, weight in ordered if name.strip()]
    return [p for value in data.values() if isinstance(value, (list, dict)) for p in _json_items(value)]


def _json_entry(entry: str | dict[str, Any]) -> list[Proposal]:
    if isinstance(entry, str):
        return [Proposal(entry, "json")] if entry.strip() else []
    name = next((entry[key] for key in _NAME_KEYS if isinstance(entry.get(key), str) and entry[key].strip()), None)
    weight = next((w for key in _WEIGHT_KEYS if (w := _number(entry.get(key))) is not None), None)
    return [Proposal(name, "json", weight=weight)] if name else []


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
