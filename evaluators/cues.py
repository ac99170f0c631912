"""Small words that turn an item round: denials, doubts, requests to exclude, refusals to diagnose.

Patterns are applied to text whose blanks are single spaces.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .matching import LONGEST_ITEM
from .wording import either

_OUT = "(?:ruled out|excluded|dismissed|discounted)"
_CAN_NOT = "(?:can ?not|can['’]t|could not|couldn['’]t|unable to|not possible to|difficult to|hard to)"
# A request to look further, not a denial: "cannot exclude melanoma", "rule out melanoma", "melanoma not excluded".
_REQUEST = re.compile(
    r"(?i)\b"
    + either(
        rf"{_CAN_NOT}(?: \w+){{0,2}} (?:exclude|rule out|dismiss|{_OUT})",
        rf"not (?:(?:yet|been|entirely|completely|fully|definitively) ){{0,2}}(?:be )?{_OUT}",
        rf"(?:should|must|needs? to|has to|have to|to|still) be {_OUT}",
        r"(?:(?:to|must|should|please) )?(?:rule out|exclude)\b",
        r"r/o",
        r"rule[ -]?out",
    )
    + r"\b[\s:,-]*"
)
_DOUBT = re.compile(
    r"(?i)\b"
    + either(
        r"(?:(?:much|far|somewhat|slightly) )?less (?:likely|probable|typical|favou?red|consistent with)",
        r"possibl[ey]|possibility of|perhaps|maybe|(?:may|might|could)(?: also)? be|query|questionable|uncertain",
        r"suspected|suspicion of|suspicious for|concern(?:ing)? for|consider(?:ed|ation of)?",
        r"(?:cannot|can['’]t) confirm|remote(?:ly)?|low(?:er)? (?:likelihood|probability)",
    )
    + r"\b|\?"
)
_TRACE = "(?:(?:any|clear) )?(?:evidence|signs?|features?|suspicion|indication|suggestion) (?:of|for)"
_DENIAL_BEFORE = re.compile(
    r"(?i)^\W*(?:(?:there (?:is|are|was)|it is|this is|i see|shows?|with) )?"
    + either(
        r"(?:(?:certainly|definitely|clearly) )?not?\b(?! (?:only|otherwise))"
        rf"(?: (?:an?|consistent with|typical (?:of|for)|suggestive of|indicative of|{_TRACE}))?",
        r"isn['’]t|without|negative for|absence of|lack of|den(?:y|ies)|never",
        r"(?:(?:highly|very|most) )?(?:unlikely|improbable)(?: to be)?",
        rf"{_OUT}|ruling out|rules out|excluding|excludes",
        r"rather than|instead of|as opposed to|unlike|against|inconsistent with|other than",
    )
    + r"\b[\s:,-]*(?:(?:an?|the) )?"
)
_I_EXCLUDE = re.compile(r"(?i)\b(?:I|we)(?:['’]ll| will| can| also| then| would| next)* (?:rule|ruled) out\b")
_DENIAL_AFTER = re.compile(
    r"(?i)[ :,;(–—-]{0,6}\b(?:"
    + either("is", "are", "was", "were", "ha(?:s|ve) been", "can be", "seems?", "appears?", "deemed", "being", "also",
             "therefore", "now", "considered", "felt to be", "clinically")
    + r" ){0,4}"
    + either(
        _OUT,
        r"(?:(?:highly|very|most|quite) )?(?:unlikely|improbable)",
        r"not (?:likely|supported|present|seen|suspected|favou?red|consistent|the (?:case|diagnosis)|fitting)",
        r"do(?:es)? ?n(?:o|['’])t (?:fit|match)|absent|negative",
    )
    + r"\b.*$"
)  # fmt: skip
_KIND = either(
    r"most|more|very|highly|also|classic|typical|likely|probabl[ey]|presumed|presumptive|provisional|strongly|favou?r(?:ed)?",
    r"primary|secondary|differential|alternative(?:ly)?|working|leading|final|top|main|clinical|the",
)
_LEAD_IN = re.compile(
    r"(?i)^\W*"
    + either(
        r"(?:the|an?|my|is|be|to be|(?:this|it) (?:is|appears to be)) ",
        rf"(?:{_KIND} )*(?:diagnos[ei]s|consideration|candidate|possibility|condition|impression) ?(?:#?\d+ ?)?"
        r"(?:of|is|are|:|=|-|–|would be)+ ?",
        r"(?:(?:most|very|more) )?"
        + either(
            r"likely|probabl[ey]|presumed|classic|typical|(?:consistent|compatible) with|(?:suggestive|indicative) of",
            r"favou?rs?|suggests?|affected by|suffering from|(?:evidence|features|case|form|type|diagnosis) of",
            r"(?:show|exhibit|display|experienc)(?:s|es|ing)(?: (?:\w+ )?signs? of)?|signs? of",
        )
        + r" (?:diagnosis )?",
    )
    + "+"
)
_IS = "(?:(?:is|are|seems?|appears?) )?"
_LESS_THAN = re.compile(rf"(?i)^(.+?) {_IS}(?:(?:much|far) )?less (?:likely|probable) than (.+)$")
_MORE_THAN = re.compile(rf"(?i)^(.+?) {_IS}(?:(?:much|far) )?(?:more (?:likely|probable) than|favou?red over) (.+)$")
_TURN = re.compile(
    r"(?i)[,;]? (?:but|however|although|though) |[,;] ?(?=(?:not|no|without) )"
    r"| (?=(?:rather than|instead of|as opposed to|unlike) )"
)
_REFUSAL = re.compile(
    r"(?i)"
    + either(
        r"\b(?:can ?not|can['’]t|could not|couldn['’]t|won['’]t|will not|should not|decline to"
        r"|(?:not able|unable|not qualified|not possible|impossible) to) (?:\w+ ){0,4}?"
        + either(
            r"(?:diagnos|assess|interpret|analy[sz]|evaluat|identif|determin|assist|help|comply|answer|comment|fulfil)\w*",
            r"(?:provide|give|make) (?:(?:an?|any|medical|definitive|specific) )*"
            r"(?:diagnos\w*|assessment|differential|advice|opinion)",
        ),
        r"\bno (?:diagnosis|assessment|differential) (?:can|could|is|was|will) ",
        r"\bas an ai\b|\bi['’]?m sorry\b|\bi apologi[sz]e\b",
        r"\bdiagnosis (?:can ?not|could not) be\b|\bnon-?diagnostic\b",
        r"\binsufficient (?:information|image quality|data)",
        r"\bno image (?:was|is|has)\b|\bimage (?:is )?(?:not (?:provided|available|visible)|missing)",
        r"^\W*(?:n/?a|none|unknown|indeterminate|undetermined|i do(?:n['’]t| not) know|not sure|unclear)\W*$",
    )
)
_OPENING = 6  # words after an item that may deny or doubt it
# What speaks against a candidate that is weighed: a feature it should have and the case has not, or the reverse.
_MISFIT = re.compile(
    r"(?i)"
    + either(
        r"(?:\b(?:do|does|did|is|are|was|were|would|could|can)(?: not|n['’]t)|\bcan(?:not|['’]t)|\bnot) (?:\w+ ){0,3}?"
        + either(
            "match|fit|align|explain|account|support|describ|mention|present|seen|typical|classic|consistent",
            "characteristic|emphasi|highlighted|indicat|noted|prominent|favou?r",
        )
        + r"\w*",
        r"\b(?:lacks?|lacking|absent|inconsistent|atypical|unusual|uncommon|rules? (?:\w+ )?out|argues? against)\b",
        r"\b(?:rare|infrequent)(?:ly)?\b|, not\b",
        r"\b(?:but|however|though|although|while|yet)\b[^.]{0,80}?\b"
        r"(?:typical(?:ly)?|usual(?:ly)?|often|rarely|less|more|lacks?|lacking|not|would|without)\b",
        r"^\W*(?:typical(?:ly)?|usual(?:ly)?|often|more|would|generally|rarely|classically|mostly|tends? to"
        r"|commonly)\b",
    )
)
_STILL_OPEN = re.compile(
    r"(?i)\b(?:possible|remains?|plausible|likely(?! to)|cannot be|can['’]t be|must be|rule out|close second)\b"
)
_PUNCTUATION = " \t\n.,;:*_-–—\"'“”`"


class Reading(NamedTuple):
    """One proposal: the name left when the small words are taken away, and what they said about it."""

    name: str
    negated: bool = False
    hedged: bool = False


def read_item(text: str) -> list[Reading]:
    """Read one item of a differential into its proposals, in order of likelihood.

    A request to exclude ("cannot exclude", "rule out") is a hedge and no denial; "unlikely" is a denial, "less likely"
    a hedge. "A less likely than B" gives B, then A hedged.

    >>> read_item("melanoma less likely than nevus")
    [Reading(name='nevus', negated=False, hedged=False), Reading(name='melanoma', negated=False, hedged=True)]
    >>> read_item("Not melanoma"), read_item("cannot exclude melanoma")
    ([Reading(name='melanoma', negated=True, hedged=False)], [Reading(name='melanoma', negated=False, hedged=True)])
    """
    text = " ".join(text[:LONGEST_ITEM].split())
    if found := _LESS_THAN.match(text):
        return [_read_part(found[2]), _read_part(found[1])._replace(hedged=True)]
    if found := _MORE_THAN.match(text):
        return [_read_part(found[1]), _read_part(found[2])._replace(hedged=True)]
    readings: list[Reading] = []
    for part in _TURN.split(text):
        reading = _read_part(part)
        if reading.name:
            readings.append(reading)
        elif readings and (reading.hedged or reading.negated):  # "melanoma, but unlikely": said of what stands before
            hedged = readings[-1].hedged or reading.hedged
            readings[-1] = readings[-1]._replace(hedged=hedged, negated=reading.negated and not hedged)
    return readings


def read_opening(text: str) -> tuple[bool, bool]:
    """Whether the first words after an item deny or doubt it: "unlikely, no pigment", "less likely since ..."."""
    words = text.split()
    opening = " ".join(words[:_OPENING])
    denied = denies(opening) and not re.match(
        r"(?i)\W*(?:no|not|without|absence|lack|against|unlike|never|isn)\b", opening
    )
    if denied:
        doubted = doubts(" ".join(words[: 2 * _OPENING]))
        return not doubted, doubted
    starts = re.match(
        r"(?i)\W*(?:(?:much|also) )?(?:less |possibl|can ?not|can['’]t|(?:must|should|to) be |to rule|rule )", opening
    )
    return False, bool(starts) and doubts(opening)


def denies(text: str) -> bool:
    """Whether a heading or the words after an item deny it: "Ruled out:", "unlikely"."""
    text = " ".join(text.split())
    if _I_EXCLUDE.search(text):
        return True
    if _REQUEST.search(text):
        return False
    return bool(_DENIAL_BEFORE.match(text) or _DENIAL_AFTER.match(f" {text}"))


def doubts(text: str) -> bool:
    """Whether a heading or the words after an item hedge it: "Less likely:", "to be excluded"."""
    text = " ".join(text.split())
    return bool(_REQUEST.search(text) or _DOUBT.search(text))


def argues_against(text: str) -> bool:
    """Whether what is said of a weighed candidate speaks against it and does not leave it open.

    >>> argues_against("usually annular, with central clearing"), argues_against("possible, but less likely")
    (True, False)
    """
    text = " ".join(text.split())
    return bool(_MISFIT.search(text)) and not _STILL_OPEN.search(text)


def refuses(text: str) -> bool:
    """Whether a sentence declines to give a diagnosis.

    >>> refuses("I cannot diagnose from an image"), refuses("Melanoma cannot be excluded")
    (True, False)
    """
    return bool(_REFUSAL.search(" ".join(text.split())))


def _read_part(text: str) -> Reading:
    hedged = negated = False
    if (stripped := _REQUEST.sub(" ", text)) != text:
        hedged, text = True, re.sub(r"(?i)\b(?:is|are|has|have|should|must|but|it) *$", "", stripped.strip())
    if (stripped := _DOUBT.sub(" ", text)) != text:
        hedged, text = True, stripped
    text = " ".join(text.split())
    for _ in range(3):
        before = text
        text = _LEAD_IN.sub("", text, count=1)
        if found := _DENIAL_BEFORE.match(text):
            negated, text = True, text[found.end() :]
        if text == before:
            break
    if (found := _DENIAL_AFTER.search(text)) and found.start() > 0:
        negated, text = True, text[: found.start()]
    return Reading(_bare(text), negated and not hedged, hedged)


def _bare(text: str) -> str:
    """The text without punctuation at its ends; brackets stay where they close what they opened."""
    text = text.strip(_PUNCTUATION)
    while text and text[0] in "([" and text[1:].find(")" if text[0] == "(" else "]") in (-1, len(text) - 2):
        text = text[1:].rstrip(")]").strip(_PUNCTUATION)
    if text.count("(") < text.count(")") or text.count("[") < text.count("]"):
        text = text.rstrip(")]")
    return re.sub(r"[(\[]\s*[)\]]", " ", text).strip(_PUNCTUATION)
