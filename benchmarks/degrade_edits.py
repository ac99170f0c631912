"""Edits that make false what a narrative says: diagnosis, findings, site, side, inventions, each at rising severity.

Where a fault can be, a severity holds the edits of the one below it; a level that does not fit a text says why. The
rules know words and not medicine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..evaluators.terms import Terms
from ..judge.records import URGENCIES
from .degrade_phrases import ADJOINING, INVENTED, MISREAD, REGIONS, TIED, Site
from .degrade_text import LEVELS, Clean, Graded, Level, Piece, edited, finding_stem, finding_stems, replacements
from .fault_edits import (
    Mention,
    applied,
    confusers,
    laterality,
    leading_item,
    named,
    rename_diagnosis,
    renamed,
    sentence_spans,
)
from .fault_phrases import ADVICE, DENIES, FINDING, GENERAL, NEGATIONS, NEGATIONS_WEIGHED, WEIGHS
from .naming import find_mentions

_WHERE = "upper|lower|inner|outer|dorsal|ventral|anterior|posterior|ring|index|middle"  # goes with the old site
_NAMES = "|".join(
    sorted((word for sites in REGIONS.values() for site in sites for word in site), key=len, reverse=True)
)
_SITES = re.compile(rf"(?i)\b(?:(?:{_WHERE})\s+)*({_NAMES})\b")


def wrong_diagnosis(clean: Clean) -> Graded:
    """1: a near confuser; 2: right kind, other group; 3: wrong kind (malignant, infectious or neither); 4: that, and at
    the other end of urgency, missed danger before false alarm."""
    gold, terms = clean.gold, clean.terms
    if not gold:
        return "the case has no label that the term list holds"
    if not named(leading_item(clean.text, terms)) & _with_narrower(terms, gold):
        return "the clean text does not conclude its label"
    weighed = {m.canonical for m in find_mentions(clean.text, terms)}
    own = terms.conditions[gold[0]]

    def apart(name: str) -> int:  # steps of urgency
        return URGENCIES.index(terms.conditions[name].urgency) - URGENCIES.index(own.urgency)

    near = confusers(terms, gold, weighed, clean.draw("confusers"))
    near.sort(key=lambda name: abs(apart(name)) > 1)
    crossing = [n for n in near if all(terms.crosses(n, g) for g in gold)]
    alike = [n for n in near if not any(terms.crosses(n, g) for g in gold)]
    far = sorted((n for n in crossing if abs(apart(n)) >= 2), key=lambda n: apart(n) > 0)
    kin = [n for n in alike if set(own.ancestors) & set(terms.conditions[n].ancestors)]
    same_kind = [n for n in alike if terms.conditions[n].malignancy == own.malignancy and n not in kin[:1]]
    elsewhere = [n for n in same_kind if not {*own.ancestors[:1]} & {*terms.conditions[n].ancestors}]
    options = (
        kin,
        sorted(elsewhere, key=lambda n: n in kin),
        [n for n in crossing if abs(apart(n)) < 2],
        far or crossing[1:],
    )
    levels: list[Level | str] = []
    for found in options:
        if not found:
            levels.append("the term list holds no such other disease")
            continue
        edit = rename_diagnosis(clean.text, gold, found[0], terms, clean.draw("words"))
        names = {m.canonical for m in find_mentions(edit.text, terms)} & _with_narrower(terms, gold)
        levels.append(Level(edit.text, edit.said | {"urgency_steps": apart(found[0]), "label_left": len(names)}))
    return levels


def misread_findings(clean: Clean) -> Graded:
    """1 to 4 attributes (colour, border ...) come to be described as something else, the same throughout the text."""
    found = [name for name, table in MISREAD.items() if _found(clean, table)]
    order = [found[k] for k in clean.draw("attributes").permutation(len(found))]
    return [
        Level(_replaced(clean, [row for name in order[:k] for row in MISREAD[name]]), {"attributes": order[:k]})
        if k <= len(order)
        else f"the text names {len(order)} attributes that the rule knows"
        for k in range(1, LEVELS + 1)
    ]


def negated_findings(clean: Clean) -> Graded:
    """1 to 4 findings come to be stated as absent; only those that the text states in no other sentence."""
    spans = sentence_spans(clean.text)
    stated = [set() if DENIES.search(clean.text[a:b]) else finding_stems(clean.text[a:b]) for a, b in spans]
    options: list[Piece] = []
    repeated = 0
    for place, (a, b) in enumerate(spans):
        sentence = clean.text[a:b]
        if not FINDING.search(sentence) or any(cue.search(sentence) for cue in (DENIES, ADVICE, GENERAL)):
            continue
        elsewhere = set[str]().union(*(stems for k, stems in enumerate(stated) if k != place))
        weighs = WEIGHS.search(sentence) or find_mentions(sentence, clean.terms)
        taken: list[tuple[int, int]] = []
        for pattern, new in NEGATIONS_WEIGHED if weighs else NEGATIONS:
            for match in pattern.finditer(sentence):
                finding = FINDING.search(sentence, match.start())
                if finding is None or any(match.start() < end and start < match.end() for start, end in taken):
                    continue
                taken.append((match.start(), max(match.end(), finding.end())))
                if finding_stem(finding.group()) in elsewhere:
                    repeated += 1
                else:
                    options.append((a + match.start(), a + match.end(), match.expand(new)))
    if not options:
        return "every finding is stated again elsewhere" if repeated else "no finding is stated in a form to be negated"
    order = [options[k] for k in clean.draw("findings").permutation(len(options))]
    return [
        edited(clean, order[:k], findings=k) if k <= len(order) else f"{len(order)} findings can be negated"
        for k in range(1, LEVELS + 1)
    ]


def wrong_site(clean: Clean) -> Graded:
    """1: another site of the same region; 2: an adjoining region; 3: a distant one. Three levels only."""
    if tied := TIED.search(clean.text):
        return f"the place is tied to the findings or not in the rule's list ('{tied[0].lower()}')"
    words = {word: (region, site) for region, sites in REGIONS.items() for site in sites for word in site}
    hits = [hit for hit in _SITES.finditer(clean.text) if clean.text[: hit.start()][-13:].lower() != "on the other "]
    regions = {words[hit[1].lower()][0] for hit in hits}
    if len(regions) != 1:
        return "several regions are named" if regions else "no site is named that the rule knows"
    (region,) = regions
    sites = list(dict.fromkeys(words[hit[1].lower()][1] for hit in hits))
    rng = clean.draw("sites")
    near = [r for r in REGIONS if r in ADJOINING[region]]
    far = [r for r in REGIONS if r not in near and r != region]
    chosen = (region, near[int(rng.integers(len(near)))], far[int(rng.integers(len(far)))] if far else "")
    levels: list[Level | str] = []
    for target in chosen:
        free = [site for site in REGIONS.get(target, ()) if site not in sites]
        if len(free) < len(sites):
            levels.append("no distant region" if not target else "more sites are named than the region has others")
            continue
        new = dict(zip(sites, (free[k] for k in rng.permutation(len(free))), strict=False))
        pieces = [renamed(clean.text, Mention(*hit.span(), ""), _form(hit[1], sites, new)) for hit in hits]
        levels.append(edited(clean, pieces, sites={old.one: other.one for old, other in new.items()}))
    return levels


def flipped_side(clean: Clean) -> Graded:
    """The side that is named becomes the other. One level only."""
    edit = laterality(clean.text)
    return edit if isinstance(edit, str) else [Level(edit.text, edit.said)]


def invented_findings(clean: Clean) -> Graded:
    """1, 2, 4 or 6 tests, examinations or facts of history that nobody reported, behind the first sentence."""
    free = [said for speaks, said in INVENTED if not speaks.search(clean.text + clean.context)]
    order = [free[k] for k in clean.draw("inventions").permutation(len(free))]
    place = _first_end(clean.text)
    return [
        edited(clean, [(place, place, "".join(f" {said}" for said in order[:k]))], invented=k)
        if k <= len(order)
        else f"{len(order)} inventions are left that the text does not speak of"
        for k in (1, 2, 4, 6)
    ]


def _found(clean: Clean, table: Sequence[tuple[str, str]]) -> bool:
    return bool(replacements(clean, table))


def _replaced(clean: Clean, table: Sequence[tuple[str, str]]) -> str:
    return applied(clean.text, replacements(clean, table))


def _with_narrower(terms: Terms, gold: Sequence[str]) -> set[str]:
    return {*gold, *(c.name for c in terms.conditions.values() if set(gold) & set(c.ancestors))}


def _form(word: str, sites: Sequence[Site], new: dict[Site, Site]) -> str:
    """The new site in the form (singular, plural, adjective) of the old word."""
    old = next(site for site in sites if word.lower() in site)
    return new[old][old.index(word.lower())]


def _first_end(text: str) -> int:
    """The end of the first sentence that is no heading."""
    spans = sentence_spans(text)
    return next((b for a, b in spans if text[a:b].rstrip()[-1:] in ".!?"), spans[0][1] if spans else len(text))
