"""The lists of an answer: numbered items, bullets and headed sections, each item with what its heading says of it."""

from __future__ import annotations

import re
from typing import NamedTuple

from .cues import denies
from .items import (
    LONGEST_LINE,
    Proposal,
    first_sentence,
    inline_numbers,
    is_ordinal,
    item_proposal,
    split_head,
    split_list,
)
from .terms import Terms
from .wording import either

_MARK = re.compile(r"^(\s*)(?:[-*•‣▪●◦+]\s+|[–—]\s*|\(?(\d{1,2})[.):]\)?\s+|\(?[a-hA-H][.)]\s+)(.*)$")
_NUMBER_IN_BOLD = re.compile(r"^(\s*)(?:#{1,6}\s*)?(\*\*|__)?(\(?\d{1,2}[.)])\s*")
_BOLD_LINE = re.compile(r"(\*\*|__)(.+?)\1")
_LEAD = re.compile(
    r"(?i)^(?:(?:the|my) )?(?:"
    + either(
        r"final|(?:(?:single )?most )?(?:likely|probable)|primary|leading|top|main|working|provisional|presumptive",
        r"suspected|clinical|preferred|favou?red|principal|definitive|best|overall|ai|model",
    )
    + r" )*(?:diagnosis|impression|assessment|answer|dx|diagnostic impression)(?: is)?$"
)
_LIST = re.compile(
    r"(?i)differential|\bddx?\b|\bdiagnos[ei]s|impression|possibilit|considerations?\b|conditions? (?:to )?consider"
    r"|top \d+|candidates?$"
)
_NO_LIST = re.compile(r"(?i)\b(?:of|with|history|code|confidence)\b")
_LESS = re.compile(
    r"(?i)\b(?:less likely|less probable|low (?:likelihood|probability)|rule out|to be (?:ruled out|excluded)|remote)\b"
)
_OTHER = re.compile(
    r"(?i)\b"
    + either(
        r"descri\w*|morpholog\w*|findings?|features?|locations?|sites?|distribution|colou?rs?|pattern|borders?|margins?",
        r"surfaces?|texture|shapes?|sizes?|symptoms?|histor\w*|management|treatments?|therap\w*|plan|recommend\w*|steps?",
        r"follow|work-?up|tests?|biops\w*|advice|triage|urgency|observ\w*|interpret\w*|rationale|reasoning|analysis",
        r"background|risks?|prognosis|education|investigations?|changes?|characteristics?|presentation|appearance",
        r"limitations?|disclaimer|notes?|evaluation|consult\w*|referral|care|prevention|monitoring|evidence|clues?|signs?",
        r"demographics|age|onset|duration|elevation|number|arrangement|configuration|red flags?|caveats?",
    )
    + r"\b"
)


class Lists(NamedTuple):
    """What the lists of an answer propose.

    `lead`: under "Diagnosis:" and the like; `ranked`: under a heading for a differential; `loose`: lists without such a
    heading of which at least half the items name a condition; `prose`: the lines that belong to no list; `after`: the
    number of prose lines that stand before the end of the last ranked list, `loose_after` the same for a loose one;
    `numbered`: whether the ranked items are.
    """

    lead: list[Proposal]
    ranked: list[Proposal]
    loose: list[Proposal]
    prose: list[str]
    after: int
    numbered: bool
    loose_after: int = 0


def read_lists(text: str, terms: Terms) -> Lists:
    """Sort the lines of an answer into lists and prose."""
    lead: list[Proposal] = []
    ranked: list[Proposal] = []
    groups: list[list[Proposal]] = [[]]
    prose: list[str] = []
    after = loose_after = 0
    numbered = False
    kind, less, denied = "", False, False  # the open section, and what its heading says of its items
    level = heading_level = -1  # indents of its items and of a heading that is itself a list item

    def leave() -> None:
        nonlocal kind, less, denied, level, heading_level
        kind, less, denied, level, heading_level = "", False, False, -1, -1
        groups.append([])

    for line in _lines(text):
        found = _MARK.match(line)
        content = found[3].strip() if found else line.strip()
        indent = len(found[1].expandtabs(4)) if found else 0
        if not content:
            continue
        head, rest = split_head(content)
        section = _section(head, content, bool(found), terms)
        if section and not (found and 0 <= level < indent and kind in ("lead", "list", "loose")):
            leave()
            kind, less, denied = section, bool(_LESS.search(head)), denies(head)
            heading_level = indent if found else -1
            if rest and section in ("lead", "list"):
                named, more = first_sentence(rest)
                source, target = ("answer", lead) if section == "lead" else ("list", ranked)
                target += [p._replace(hedged=less, negated=denied) for p in split_list(named, source, terms)]
                prose += [more] if more else []
                if section == "list":
                    after = len(prose)
                else:
                    kind = ""
            elif rest:
                prose.append(content)
        elif not found:
            if kind == "lead" and len(content.split()) <= 12:
                lead += split_list(content, "answer", terms)
                kind = ""
            else:
                prose.append(content)
                if level >= 0:  # prose after a list ends its section
                    leave()
        else:
            if heading_level >= 0 and indent <= heading_level:
                leave()
            if level < 0:
                level = indent
            if indent > level:  # an explanation below an item
                continue
            item = item_proposal(content, "answer" if kind == "lead" else "list")
            item = item._replace(hedged=item.hedged or less, negated=item.negated or denied)
            if kind == "lead":
                lead.append(item)
            elif kind == "list":
                ranked.append(item)
                numbered = numbered or bool(found[2]) or item.weight is not None
                after = len(prose)
            elif kind != "other":
                groups[-1].append(item)
                prose.append(content)
                loose_after = len(prose)
    loose = [item for group in groups if _names_conditions(group, terms) for item in group]
    return Lists(lead, ranked, loose, prose, after, numbered, loose_after)


def is_marked(line: str) -> bool:
    """Whether a line begins with a bullet or a number."""
    return bool(_MARK.match(_NUMBER_IN_BOLD.sub(r"\1\3 \2", line, count=1)))


def _lines(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        line = line[:LONGEST_LINE]
        if _NUMBER_IN_BOLD.match(line):
            line = _NUMBER_IN_BOLD.sub(r"\1\3 \2", line, count=1)
        starts = inline_numbers(line)
        lines += [line[a:b] for a, b in zip([0, *starts], [*starts, len(line)], strict=True)] if starts else [line]
    return [line for line in lines if line.strip()]


def _section(head: str, content: str, marked: bool, terms: Terms) -> str:
    """What a line opens: "lead", "list", "other", "loose" (a heading of unknown kind), or "" if it is no heading."""
    head = " ".join(head.rstrip(": ").split())
    titled = content.startswith("#") or content.rstrip("*_ ").endswith(":") or bool(_BOLD_LINE.fullmatch(content))
    if not (titled or ":" in content[: len(head) + 8]) or not head or terms.find(head) or (marked and is_ordinal(head)):
        return ""
    if _LEAD.match(head):
        return "lead"
    if is_ordinal(head):
        return "lead" if head.lower() in ("most likely", "primary", "leading", "top") else "list"
    short = len(head.split()) <= 8 or "differential" in head.lower()
    if (short and _LIST.search(head) and not _NO_LIST.search(head)) or (
        titled and (denies(head) or _LESS.search(head))
    ):
        return "list"
    if len(head.split()) <= 5 and _OTHER.search(head) and not terms.match(head).hits:
        return "other"
    return "loose" if titled and not marked else ""


def _names_conditions(group: list[Proposal], terms: Terms) -> bool:
    named = sum(bool(terms.match(p.text, running=True).hits) for p in group if len(p.text.split()) <= 10)
    return bool(group) and 2 * named >= len(group)
