"""Where a clinical context names age, sex, site, duration and history: what arms take out, or turn into its contrary.

English only, by pattern: labelled facts ("Age: 55. Site: back."), what the synthetic benchmark writes, and common
phrasing ("45-year-old woman with a 3-week history of ..."). A site that a tag of the case names is looked for in the
very words too. What is not found is said to be missing, never passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import yaml

from ..judge.records import Case

FIELDS = ("age", "sex", "site", "duration", "history")
_NUMBER = {
    "a": 1, "an": 1, "one": 1, "two": 2, "a couple of": 2, "three": 3, "a few": 3, "few": 3, "several": 4, "four": 4,
    "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "twelve": 12, "many": 8,
}  # fmt: skip
_DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0, "m": 30.4, "y": 365.25}
_N = rf"(?:\d{{1,3}}(?:\.\d+)?|{'|'.join(sorted(_NUMBER, key=len, reverse=True))})"
_UNIT = r"(?:hours?|days?|weeks?|wks?|months?|mos?|years?|yrs?)"
_SPAN = rf"(?P<n>{_N})(?:\s*(?:-|–|to|or)\s*(?P<n2>{_N}))?[\s-]*(?P<u>{_UNIT})"
_LESIONS = "lesion|rash|eruption|ulcer|nodule|plaque|papule|wound|scar|lump|growth|spot|mole|patch"
_LESION = rf"\s+(?:\w+\s+){{0,2}}(?:{_LESIONS})s?\b"
_ARTICLE = r"(?:(?:the|her|his|their|both|an?|my)\s+)*"
_SIDE = (r"(?:(?:left|right|upper|lower|bilateral|dorsal|anterior|posterior|lateral|medial|distal|proximal|mid|inner"
         r"|outer|dorsum of(?: the)?|sides? of(?: the)?)[\s-]+)*")  # fmt: skip
_PLACED = r"(?:\s*,?\s*\b(?:on|over|at|in|of|to|from|involving|affecting|across|around|behind)\s+)?"
_GOES_ON = r"\s+(?:and|who|which|but)\s+(?:presents?|presented|has|had|is|was|comes?|now|with)\b"
_END = rf"(?={_GOES_ON}|\s+present(?:s|ed|ing)\b|\s*[.;,\n]|\s*$)"
_ABOUT = r"(?:(?:the\s+)?(?:about|past|last|at least|around|almost|nearly|approximately|more than|over)\s+)*"
_BEGAN = r"(?:,?\s*\b(?:that\s+|which\s+)?(?:began|started|appeared|first noticed|noticed))?"
_FOR = r"(?:,?\s*\bpresent)?,?\s*\b(?:for|over|since|during|x|of)\s+"
_DENIED = r"\b(?:no|without(?: any)?|denies(?: any)?)\s+"
_AGE_UNIT = r"(?:years?|yrs?|months?|mos?|weeks?|wks?|days?)"
_KINDS = r"(?:(?:known|significant|relevant|past|previous|prior|personal|family|medical|strong|positive)\s+)*"
_LEAD = r"(?:,?\s*\b(?:and|but|who has|who had|with|has|had|having|reports|there is)\s+)?"


def _labelled(names: str) -> str:
    return rf"(?<![\w])(?:{names})\s*[:=]\s*(?P<v>(?:(?!,\s*[A-Za-z][A-Za-z ]{{1,25}}:)[^.;\n])+)"


_AGE_WORDS = {"newborn": "infant", "neonate": "infant", "infant": "infant", "baby": "infant", "toddler": "child",
              "preschool": "child", "child": "child", "boy": "child", "girl": "child", "teenager": "adolescent",
              "adolescent": "adolescent", "young": "adult", "middle-aged": "middle_aged",
              "elderly": "elderly"}  # fmt: skip
_ADJECTIVES = ("newborn", "preschool", "adolescent", "young", "middle-aged", "elderly")
_PATTERNS: Mapping[str, tuple[tuple[str, str], ...]] = {  # how it is written (its form) and the pattern, (?P<v>value)
    "age": (
        ("label", _labelled(r"age(?: group)?")),
        ("old", rf"(?P<v>(?P<n>{_N})[\s-]*(?P<u>{_AGE_UNIT})[\s-]*old\b)(?!{_LESION})"),
        ("old", r"\b(?P<v>(?P<n>\d{1,3})\s?(?P<u>y)(?:/o|\.?o\.?)(?![a-z]))"),
        ("aged", r"\b(?P<v>(?:aged|age(?: of)?)\s+(?P<n>\d{1,3})(?:\s+(?P<u>years?|months?))?)\b"),
        ("aged", r"\b(?P<v>in\s+(?:his|her|their|the)\s+(?:early\s+|mid-?\s*|late\s+)?(?P<n>\d0)(?P<u>)s)\b"),
        ("code", r"\b(?P<v>(?P<n>\d{1,3})(?P<u>))(?=\s?[FM]\b)"),
        ("word", rf"\b(?P<v>{'|'.join(_AGE_WORDS)})\b"),
    ),
    "sex": (("label", _labelled("sex|gender")), ("code", r"(?<=\d)(?:\s?(?:yo|y/o)?\s?)(?P<v>[FM])\b")),
    "site": (("label", _labelled(r"(?:body )?sites?|location|locali[sz]ation|body parts?|region")),),
    "duration": (
        ("label", _labelled("duration")),
        ("history", rf"(?P<cut>\b(?:an?\s+)?(?P<v>{_SPAN})\s+history\s+of\s+)"),
        ("plain", rf"(?P<cut>{_FOR}{_ABOUT}(?P<v>{_SPAN})(?:['’]s?)?(?:\s+(?:duration|now|ago))?)\b"),
        ("plain", rf"(?P<cut>{_BEGAN}\s+{_ABOUT}(?P<v>{_SPAN})\s+ago)\b"),
        ("old", rf"\b(?P<v>{_SPAN}[\s-]*old)(?={_LESION})"),
        ("word", r"(?P<cut>(?:,?\s*\bpresent)?,?\s*\bsince\s+(?P<v>birth|childhood|infancy|adolescence))\b"),
    ),
    "history": (
        ("reported", _labelled("reported")),
        ("label", _labelled(rf"{_KINDS}history|pmhx?|fhx?|hx|skin cancer before")),
        ("denied", rf"(?P<cut>{_LEAD}{_DENIED}{_KINDS}history\s+of\s+(?P<v>[^.;,\n]+?){_END})"),
        ("none", rf"(?P<cut>{_LEAD}(?P<v>\bno\s+{_KINDS}history)\b)(?!\s+of)"),
        ("of", rf"(?P<cut>{_LEAD}(?:an?\s+)?\b{_KINDS}history\s+of\s+(?P<v>[^.;,\n]+?){_END})"),
    ),
}  # fmt: skip


class Mention(NamedTuple):
    """A place where a field is named: `text[start:end]`, what it means in the contradiction tables, how it is written.

    `cut`: the wider stretch that goes when the field is taken out, and what stands there then.
    """

    start: int
    end: int
    means: str
    form: str
    cut: tuple[int, int, str]


@lru_cache(maxsize=1)
def contradictions() -> Mapping[str, Any]:
    """The shipped contradiction tables by field."""
    return yaml.safe_load(files(__package__).joinpath("contradictions.yaml").read_text("utf-8"))


def find_field(case: Case, field: str, text: str | None = None) -> list[Mention]:
    """Every place of the case's context (or of `text` in its stead) that names the field, in order, none overlapping.

    `means`: age and duration: a band; sex: female or male; site: its regions ("foot+hand"), or "?" for one that
    no table knows; history: the words themselves.

    >>> [(m.means, m.form) for m in find_field(Case("c", context="A 7-year-old girl. Site: back."), "age")]
    [('child', 'old'), ('child', 'word')]
    """
    text = case.context if text is None else text
    taken: list[Mention] = []
    durations = [m.span() for _, p in _PATTERNS["duration"][1:2] for m in re.finditer(p, text, re.I)]
    for found in (*_by_pattern(text, field), *_by_word(case, field, text)):
        low, high = found.cut[:2]
        if field == "history" and any(low < last and first < high for first, last in durations):
            continue  # "a 3-week history of itching" is how long, not what before
        if all(high <= other.cut[0] or low >= other.cut[1] for other in taken):
            taken.append(found)
    return sorted(taken)


def _by_pattern(text: str, field: str) -> Iterator[Mention]:
    for form, pattern in _PATTERNS[field]:
        for found in re.finditer(pattern, text, 0 if form == "code" else re.I):
            means = _means(field, form, found)
            if not means:
                continue
            whole = "cut" if "cut" in found.groupdict() else 0 if form == "label" or form == "reported" else "v"
            put = "child" if form == "word" and found["v"].lower() in ("boy", "girl") else ""
            if field == "age" and form == "word" and found["v"].lower() not in _ADJECTIVES:
                put = {"boy": "male", "girl": "female"}.get(found["v"].lower(), "patient")
            yield Mention(*found.span("v"), means, form, (*found.span(whole), put))


def _means(field: str, form: str, found: re.Match[str]) -> str:
    value = found["v"].strip().lower()
    table = contradictions()[field]
    if field == "sex":
        return {"f": "female", "m": "male", "woman": "female", "man": "male"}.get(value, value)
    if field == "site":
        return _region(value) or "?"
    if field == "history":
        return value
    if form == "word":
        return _AGE_WORDS[value] if field == "age" else "years"
    if form == "label":
        parsed = re.search(_SPAN, value, re.I) or re.search(r"(?P<n>\d{1,3})(?P<n2>)(?P<u>)", value)
        return _band(table, parsed, "y") if parsed and (field == "age" or parsed["u"]) else "?"
    return _band(table, found, "y")


def _band(table: Mapping[str, Any], found: re.Match[str], unit: str) -> str:
    """The band that a number and its unit lie in, "?" where none holds it; of a range its upper end."""
    word = (found.groupdict().get("n2") or found["n"]).lower()
    size = (float(_NUMBER[word]) if word in _NUMBER else float(word)) * _DAYS[(found["u"] or unit)[0].lower()]
    if "days" not in table:
        size /= _DAYS["y"]
    return next((name for name, band in table.items() if band["from"] <= size < band["below"]), "?")


def _by_word(case: Case, field: str, text: str) -> Iterator[Mention]:
    if field == "sex":
        for left, right in contradictions()["sex"]["pairs"]:
            for word, means in ((left, "female"), (right, "male")):
                for found in re.finditer(rf"\b{word}\b", text, re.I) if len(word) > 1 else ():
                    yield Mention(*found.span(), means, "word", (*found.span(), _neutral(word, text[found.end() :])))
        for word, means in (("her", "female"), ("his", "male"), ("him", "male")):
            for found in re.finditer(rf"\b{word}\b", text, re.I):
                put = "the patient" if word == "him" or not _owns(text[found.end() :]) else "the patient's"
                yield Mention(*found.span(), means, "word", (*found.span(), put))
    if field == "site":
        for found in re.finditer(_site_pattern(_told_sites(case)), text, re.I):
            yield Mention(*found.span("v"), _region(found["v"]) or "?", "word", (*found.span(), ""))


def _owns(rest: str) -> bool:
    return bool(re.match(r"\s+(?!on\b|in\b|at\b|to\b|for\b|with\b|and\b|since\b)\w", rest, re.I))


def _neutral(word: str, rest: str) -> str:
    if word in ("female", "male") and re.match(r"\s+(?:patient|infant|child|adult|baby|newborn)\b", rest, re.I):
        return ""
    return {"girl": "child", "boy": "child", "women": "patients", "men": "patients", "she": "the patient",
            "he": "the patient", "herself": "themselves", "himself": "themselves", "hers": "the patient's",
            "mrs": "", "mr": "", "ms": ""}.get(word, "patient")  # fmt: skip


def _told_sites(case: Case) -> tuple[str, ...]:
    told = [case.tags.get("site"), *(case.tags.get("body_parts") or []), *(image.body_site for image in case.images)]
    return tuple(
        sorted({" ".join(str(word).lower().split()) for word in told if isinstance(word, str) and word.strip()})
    )


@lru_cache(maxsize=4096)
def _site_pattern(told: tuple[str, ...]) -> str:
    words = {word for region in contradictions()["site"].values() for word in region["words"]} | set(told)
    one = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    lone = r"(?<!other )(?<!other-)(?<!came )(?<!come )(?<!comes )(?<!went )(?<!dates )(?<!dating )(?<!second-)"
    many = rf"(?:\s*(?:,|/|and|or|&)+\s*{_ARTICLE}{_SIDE}(?:{one})(?:e?s)?\b)*"
    return rf"(?:,\s*)?{_PLACED}{_ARTICLE}(?P<v>{_SIDE}{lone}\b(?:{one})(?:e?s)?\b{many})"


def _region(words: str) -> str:
    """The regions that a site's words name, joined by "+"; "" if no table knows one.

    >>> _region("left forearm"), _region("knees and elbows"), _region("lower back")
    ('upper_limb', 'lower_limb+upper_limb', 'trunk')
    """
    found, rest = set(), words.lower()
    known = [(word, name) for name, region in contradictions()["site"].items() for word in region["words"]]
    for word, name in sorted(known, key=lambda pair: -len(pair[0])):  # "lower back" before "back"
        rest, count = re.subn(rf"\b{re.escape(word)}(?:e?s)?\b", " ", rest)
        found |= {name} if count else set()
    return "+".join(sorted(found))


def told_regions(case: Case) -> frozenset[str]:
    """The regions that the tags of a case and of its pictures name."""
    return frozenset(name for words in _told_sites(case) for name in _region(words).split("+") if name)
