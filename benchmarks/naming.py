"""Where running text names a condition of the term list, and how many references name their own label."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from ..evaluators.labels import usable_gold
from ..evaluators.matching import EVERYDAY, is_abbreviation
from ..evaluators.proportions import rate
from ..evaluators.terms import Terms, load_terms
from ..evaluators.wording import fold, normal, words
from ..judge.records import Case, strip_reasoning

CONCLUSION = 500  # last characters of a reference, where the conclusion stands

_TOKEN = re.compile(r"[^\W_]+(?:['’ʼ`´][^\W\d_]+)?")
_GAP = re.compile(r"[ \t‐‑–-]{1,3}")
_DENIED_BEFORE = re.compile(r"(?i)\b(?:non|pseudo)-$")
_THINK = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)


class Mention(NamedTuple):
    """Where a text names a condition: characters start to end, the canonical name."""

    start: int
    end: int
    canonical: str


def find_mentions(text: str, terms: Terms) -> list[Mention]:
    """Every place where running text names a condition of the list; the longest name wins, places do not overlap.

    Everyday words ("scratch") count only if they are a condition's first name, abbreviations only in capitals. What is
    said of the name (that it is ruled out, say) makes no difference.

    >>> [m.canonical for m in find_mentions("Not BCC; pityriasis versicolor, a scratch.", load_terms())]
    ['basal cell carcinoma', 'tinea versicolor']
    """
    phrases = _phrases(terms)
    tokens = list(_TOKEN.finditer(text))
    norms = [normal(fold(token.group())) for token in tokens]
    found: list[Mention] = []
    done = 0
    for i, first in enumerate(norms):
        if i < done or first not in phrases:
            continue
        for alias, canonical in phrases[first]:
            size = 1 if isinstance(alias, str) else len(alias)
            if isinstance(alias, str):
                fits = tokens[i].group() in (alias, alias + "s")
            else:
                fits = tuple(norms[i : i + size]) == alias and all(
                    _GAP.fullmatch(text, a.end(), b.start())
                    for a, b in zip(tokens[i : i + size], tokens[i + 1 : i + size], strict=False)
                )
            if fits:
                start, end, done = tokens[i].start(), tokens[i + size - 1].end(), i + size
                if not _DENIED_BEFORE.search(text, max(0, start - 7), start) and text[end : end + 5].lower() != "-like":
                    found.append(Mention(start, end, canonical))
                break
    return found


@lru_cache(maxsize=4)
def _phrases(terms: Terms) -> dict[str, list[tuple[tuple[str, ...] | str, str]]]:
    """First word -> (words of the alias, or an abbreviation as written; canonical), longest first."""
    table: dict[str, list[tuple[tuple[str, ...] | str, str]]] = {}
    for condition in terms.conditions.values():
        for alias in (condition.name, *condition.synonyms):
            norm = tuple(words(alias).norm)
            if not condition.is_group and (alias == condition.name or " ".join(norm) not in EVERYDAY):
                entry = (alias if is_abbreviation(alias) else norm, condition.name)
                table.setdefault(norm[0], []).append(entry)
    for entries in table.values():
        entries.sort(key=lambda entry: -1 if isinstance(entry[0], str) else -len(entry[0]))
    return table


def relatives(terms: Terms, name: str) -> set[str]:
    """The wider and narrower conditions of the tree; groups, which are no diagnosis, are left out."""
    above = {a for a in terms.conditions[name].ancestors if not terms.conditions[a].is_group}
    return above | {c.name for c in terms.conditions.values() if name in c.ancestors}


def reasoning(text: str) -> dict[str, Any]:
    """What a judge does not see of a text, since reasoning blocks are dropped.

    blocks, unpaired_tags (of those only the tag goes: what they enclosed is a guess), chars, chars_judged,
    ends_in_reasoning (whatever the text concludes is not seen).
    """
    blocks = unpaired = opened = last = 0
    for tag in _THINK.finditer(text):
        if not tag.group(1):
            opened += 1
        elif opened:
            blocks, opened, last = blocks + 1, 0, tag.end()
        else:
            unpaired += 1
    return {
        "blocks": blocks,
        "unpaired_tags": unpaired + opened,
        "chars": len(text),
        "chars_judged": len(strip_reasoning(text)),
        "ends_in_reasoning": bool(blocks) and not _THINK.sub("", text[last:]).strip(),
    }


def naming_shares(cases: Iterable[Case], terms: Terms | None = None) -> dict[str, Any]:
    """Shares of references that do not name their own label, as far as a search for the list's names can tell.

    Per part of the reference ("whole"; "judged": without reasoning blocks; "last_500": the last 500 characters of the
    whole): the share without the "name" (or a synonym), and the share without it or a "relative" (a wider or narrower
    condition), each with `not_named`, `n` and a Wilson interval (cases of one patient together). A name counts
    wherever it stands, also where it is rejected. Beside them: cases left out and why, references with reasoning
    blocks (without any, "judged" is the whole), of which a judge sees nothing, and that end in one, so that a judge
    sees no conclusion.
    """
    terms = terms or load_terms()
    parts: dict[str, Callable[[str], str]] = {
        "whole": lambda text: text,
        "judged": strip_reasoning,
        "last_500": lambda text: text.strip()[-CONCLUSION:],
    }
    missed: dict[str, dict[str, list[bool]]] = {part: {"name": [], "relative": []} for part in parts}
    left_out = {"no reference": 0, "no usable label": 0}
    patients: dict[str, int] = {}
    cluster: list[int] = []
    unseen = endings = blocks = 0
    for case in cases:
        gold = set(usable_gold(case, terms)[0])
        if not case.reference.strip() or not gold:
            left_out["no usable label" if case.reference.strip() else "no reference"] += 1
            continue
        cluster.append(patients.setdefault(case.patient_id or f"case {case.id}", len(patients)))
        hidden = reasoning(case.reference)
        blocks += hidden["blocks"] > 0
        unseen += not hidden["chars_judged"]
        endings += hidden["ends_in_reasoning"]
        kin = gold.union(*(relatives(terms, name) for name in gold))
        for part, cut in parts.items():
            named = {mention.canonical for mention in find_mentions(cut(case.reference), terms)}
            missed[part]["name"].append(not named & gold)
            missed[part]["relative"].append(not named & kin)

    def share(hits: list[bool]) -> dict[str, Any]:
        return {"not_named": sum(hits), **rate(hits, cluster, what="reference with a usable label").to_dict()}

    return {
        **{part: {what: share(hits) for what, hits in found.items()} for part, found in missed.items()},
        "n": len(cluster),
        "with_reasoning": blocks,
        "nothing_judged": unseen,
        "ends_in_reasoning": endings,
        "left_out": left_out,
        "terms": terms.note,
    }
