"""The triage call that a narrative states: a declared field, or one of a short list of phrasings."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from ..judge.records import URGENCIES, strip_reasoning
from .wording import either

LONGEST_SENTENCE = 1500  # characters of a sentence that are read

_LEVEL_WORDS = (
    ("soon", re.compile(r"(?i)\bsemi-?\s?urgent\b|\bsoon\b")),
    ("routine", re.compile(r"(?i)\bnon-?\s?urgent\b|\broutine(?:ly)?\b|\belective\b|\bself-?\s?care\b")),
    ("emergent", re.compile(r"(?i)\bemergent(?:ly)?\b|\bemergency\b|\bimmediate(?:ly)?\b|\bsame[- ]day\b")),
    ("urgent", re.compile(r"(?i)\burgent(?:ly)?\b")),
)
_NAME = r"(?:triage|urgency)(?:[ _](?:level|call|category|recommendation|decision|urgency))?"
_FIELD = re.compile(
    rf"(?im)(?:^|(?<=[.;|{{,\n]))[\s>*_#\"'•\d.)-]{{0,20}}{_NAME}[\"'*_ \t]{{0,6}}"
    r"(?:[:=]|\bis\b|\s[–-]\s|$)[ \t*_\"'\[(]{0,6}([^\n.;|}]{0,80})"
)
_CARE = either(
    r"referral|refer(?:red)?|review|evaluation|assessment|appointment|consult\w*|biops\w*|excision|visit|care|attention",
    r"treatment|dermatolog\w*|follow-? ?up|medical|clinical",
)
_TO = r" ?(?:-|–|to) ?"
_WEEKS_SOON = either(
    rf"(?:[3-9]|1[0-2]|three|four|six|eight|ten|twelve|a few|several)(?:{_TO}\d{{1,2}})?",
    rf"2{_TO}(?:[3-9]|1[0-2])",
)
# Phrasings that count as a call where no field declares one. Each holds a level or a delay, and what is to happen.
# Read in this order, so that "semi-urgent" and "non-urgent" are not taken for "urgent".
PHRASINGS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("soon", re.compile(
        r"(?i)\b" + either(
            rf"semi-? ?urgent {_CARE}",
            rf"{_CARE} soon",
            rf"within (?:the next )?{_WEEKS_SOON} weeks",
            rf"within (?:the next )?(?:a|one|two|three|1|2|3)(?:{_TO}[23])? months?",
        ) + r"\b")),
    ("routine", re.compile(
        r"(?i)\b" + either(
            rf"(?:routine(?:ly)?|non-? ?urgent|elective)(?: \w+)? {_CARE}",
            r"self-? ?care",
            rf"no (?:urgent|immediate|further|specific)(?: \w+)? {_CARE}(?: is)? (?:needed|required|necessary)",
        ) + r"\b")),
    ("emergent", re.compile(
        r"(?i)\b" + either(
            r"emergency (?:department|room|care|referral|evaluation|admission)|medical emergency",
            r"accident and emergency|A&E",
            r"call (?:911|999|112)|hospitali[sz]ation|admit to hospital",
            rf"same[ -]day {_CARE}|(?:immediate|emergent)(?:ly)?(?: \w+)? {_CARE}",
        ) + r"\b")),
    ("urgent", re.compile(
        r"(?i)\b" + either(
            rf"urgent(?:ly)? (?:\w+ ){{0,2}}{_CARE}",
            rf"{_CARE} urgently",
            r"two[ -]week (?:wait|rule|referral)",
            rf"within (?:the next )?(?:1|2|one|two|a)(?:{_TO}(?:2|two))? weeks?",
            rf"within (?:the next )?(?:a few|several|\d(?:{_TO}\d)?) days",
        ) + r"\b")),
)  # fmt: skip
# A safety net ("if fever develops, go to the emergency department") is no call; nor is what is denied.
_CONDITION = re.compile(
    r"(?i)\b(?:if|unless|in case|should (?:you|it|the|there|any|symptoms|this)|when(?:ever)?|were to|precautions)\b"
)
_DENIED = re.compile(r"(?i)\b(?:not|no|never|without|rather than|instead of|isn't|doesn't|nor)\b[^.;,]{0,25}$")


class TriageCall(NamedTuple):
    """A level of URGENCIES, or "" with the reason why there is none; `reason` quotes what was read otherwise."""

    level: str
    reason: str


def read_triage(text: str) -> TriageCall:
    """Read the call that a narrative states.

    A declared field counts first ("Triage: urgent", "Urgency level: soon", JSON "triage"), then PHRASINGS ("urgent
    referral", "within 2 weeks", "emergency department", "routine follow-up"). A sentence with a condition and a denied
    phrase do not count. Two levels are ambiguous and give no call; nothing is guessed from tone. Never raises.

    >>> read_triage("Triage: urgent").level, read_triage("Refer routinely or urgently.").level
    ('urgent', '')
    >>> read_triage("If fever develops, go to the emergency department.")
    TriageCall(level='', reason='no call stated')
    """
    body = strip_reasoning(text)
    fields = [_level(value) for value in _declared(body)]
    if fields:
        levels = {call.level for call in fields}
        if len(levels) == 1:
            return fields[-1]
        stated = sorted(levels - {""}, key=URGENCIES.index)
        if len(stated) == 1:
            return next(call for call in fields if call.level)
        return TriageCall("", f"ambiguous: the fields say {' and '.join(stated)}")
    return _phrasing(body)


def read_level(value: str) -> TriageCall:
    """Read a triage field that a record holds: a level, or a text that names exactly one."""
    return _level(value)


def _declared(body: str) -> list[str]:
    if body[:1] == "{":
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            data = None
        if isinstance(data, dict):
            keys = [key for key in data if re.fullmatch(r"(?i)(?:triage|urgency)(?:[_ ]\w+)?", key)]
            return [str(data[key]) for key in keys]
    values = []
    for found in _FIELD.finditer(body):
        value = found[1] if found[1].strip() else body[found.end() :].lstrip("\n*_ :")[:80].split("\n")[0]
        if value.strip():
            values.append(value)
    return values


def _level(value: str) -> TriageCall:
    quoted = " ".join(value.split())[:80]
    rest = re.sub(r"(?i)\b(?:not|no)\s+(?:an?\s+)?(?:urgent|emergen\w+|immediate|routine|soon)\b", " ", value)
    levels = []
    for level, pattern in _LEVEL_WORDS:
        if pattern.search(rest):
            levels.append(level)
            rest = pattern.sub(" ", rest)
    if len(levels) == 1:
        return TriageCall(levels[0], f"field '{quoted}'")
    if levels:
        return TriageCall("", f"ambiguous: the field says '{quoted}'")
    return TriageCall("", f"the field '{quoted}' names none of {', '.join(URGENCIES)}")


def _phrasing(body: str) -> TriageCall:
    found: dict[str, str] = {}
    for sentence in re.split(r"(?<=[.!?;])\s+|\n+", body):
        rest = " ".join(sentence[:LONGEST_SENTENCE].split())
        if _CONDITION.search(rest):
            continue
        for level, pattern in PHRASINGS:
            for match in pattern.finditer(rest):
                if not _DENIED.search(rest[max(0, match.start() - 40) : match.start()]):
                    found.setdefault(level, match.group())
            rest = pattern.sub(lambda m: " " * len(m.group()), rest)
    if len(found) == 1:
        level, quoted = next(iter(found.items()))
        return TriageCall(level, f"phrase '{quoted}'")
    if found:
        return TriageCall("", "ambiguous: " + " and ".join(f"'{quoted}' ({level})" for level, quoted in found.items()))
    return TriageCall("", "no call stated")
