"""The sentences of an answer that state a diagnosis: "The answer is ...", "consistent with ...", "... is likeliest".

Patterns are applied to sentences whose blanks are single spaces.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .cues import read_item, refuses
from .items import Proposal, plain, split_list
from .terms import Terms
from .wording import either

LONGEST_SENTENCE = 1500  # characters of a sentence that are read

_SENTENCE = re.compile(r"(?<=[.!?])[\"'”)*_]*\s+(?=[\"'“(*_]*[A-Z0-9])|\n+")
_ANSWER = re.compile(r"(?i)\bthe (?:(?:final|correct|best) )?answer (?:is|would be)\b ?:? ?(.+)")
_MOST = either(
    r"(?:single )?most (?:likely|probable|fitting|consistent|appropriate|logical|plausible|suitable|compelling)",
    r"most (?:accurate|concerning|critical)|likeliest|best|final|primary|leading|top|working|provisional",
    r"presumptive|principal|favou?red|definitive",
)
_DIAGNOSIS_IS = re.compile(
    rf"(?i)\b{_MOST} (?:[\w-]+ ){{0,2}}?"
    r"(?:diagnosis|diagnostic conclusion|conclusion|explanation|cause|issue|condition|finding|concern)\b[^.,:;]{0,60}?"
    r"(?::|\b(?:is|would be|remains|(?:appears|seems) to be|favou?rs|points to|leans towards?)\b) ?"
    r"(?:that [^.;]{0,90}?\b(?:is|are|has|have|indicates?|represents?|suggests?) "
    r"(?:(?:most )?(?:consistent|compatible) with |indicative of )?)?(.+)"
)
_IS_DIAGNOSIS = re.compile(
    r"(?i)[*_]* (?:is|are|remains?|emerges? as|(?:seems?|appears?)(?: to be)?|stands? out as|would be|as|being) "
    rf"(?:(?:by far|likely|clearly|still) )?(?:(?:the|my|a) )?{_MOST}(?: and \w+)?(?: \w+)? ?"
    r"(?:diagnosis|candidate|possibility|fit|explanation|consideration|conclusion|match)\b"
)
_POINTS_TO = re.compile(
    r"(?i)\b"
    + either(
        r"(?:consistent|compatible) with|in keeping with|suggest(?:s|ive of|ing)?|indicat(?:es?|ive of|ing)",
        r"point(?:s|ing)? (?:\w+ ){0,2}(?:to|towards?)|diagnosis (?:of|is|as|remains|would be)",
        r"diagnos(?:e|ed) (?:this )?(?:as|with)|conclude (?:that )?(?:this|it|the [\w ]{0,40}?) (?:is|are)",
        r"appears? to be(?: a case of)?|appears? you (?:may )?have|you (?:(?:may|likely|probably) )?have",
        r"shows? (?:\w+ )?signs of|experienc(?:es|ing)|affected by|suffer(?:s|ing) from|favou?r(?:s|ing)?|represents?",
        r"(?:characteristic|typical|pathognomonic|classic|diagnostic) (?:of|for)|(?:concerning|suspicious) for",
        r"match(?:es|ing)?(?: with)?|align(?:s|ing|ed)? (?:\w+ ){0,3}with|looks? like",
        r"(?<!less )likely(?: to be| is)?(?! than)",
        r"support(?:s|ing|ive of)?|lean(?:s|ing)? (?:\w+ ){0,2}towards?|lead(?:s|ing)? (?:me )?to",
        r"fits?(?: (?:best|well|most closely))?(?: with)?|as",
    )
    + r" (.+)"
)
_CONCLUDES = re.compile(
    r"(?i)^\W*(?:\d[.)] ?)?"
    + either(
        r"in (?:conclusion|summary)|to (?:conclude|summari[sz]e)|conclusion|summary|therefore|thus|hence|overall",
        r"based on|ultimately|finally|diagnostic conclusion|final diagnos|consequently|taken together|putting it",
    )
    + r"|\bI (?:would )?(?:conclude|diagnose|arrive|deduce)|\bdiagnostic conclusion\b"
)
_NOT_BEFORE = re.compile(
    r"(?i)(?:\b(?:not|never|less|in|no longer|without|nothing|neither|cannot)|n['’]t)"
    r"[ -](?:\w+ ){0,2}$"
)
_INCLUDES = "(?:includes?|including|is|are|consists? of|such as|like|:)"
_ALSO = re.compile(
    r"(?i)\b"
    + either(
        rf"differential(?: diagnos[ei]s)?(?: considerations?)?[^.:;]{{0,40}}?{_INCLUDES}",
        r"(?:other|alternative|additional|further) (?:\w+ )?"
        r"(?:possibilit(?:y|ies)|considerations?|diagnos[ei]s|differentials?)"
        rf"\b[^.:;]{{0,40}}?{_INCLUDES}",
        r"(?:also|should|could|would|might) (?:also )?consider:?",
    )
    + r" (.+)"
)
_REFINES = re.compile(
    r"(?i)\b(?:(?:more )?specifically|namely|in particular|i\.e\.,?|likely (?:[\w-]+ ){0,5}?such as)[ ,]+"
    r"(?:(?:the|an?) )?(.+)"
)
_OF_THE_TYPE = re.compile(
    r"(?i),? \(?(?:(?:more )?specifically|most likely|likely|probably|particularly)(?: of)?(?: the| an?)? "
    r"((?:[\w-]+ ){1,3}?)(?:sub)?(?:type|form|variant)\b"
)
# "While X remains a consideration", "X must be ruled out", "to rule out mimics like X": left open by the conclusion.
_NOUN = r"(?:an? )?(?:\w+ )?(?:possibility|consideration|concern|differential|contender|alternative)"
_LEFT_OPEN = (
    re.compile(
        r"(?i)\b(?:while|although|though|whereas|but) ((?:[\w'’()/-]+,? ){1,8}?)"
        r"(?:is|are|remains?|would be|could be|can be|may be) (?:still |also |always )?"
        rf"(?:possible|plausible|conceivable|{_NOUN})\b"
    ),
    re.compile(
        r"(?i)(?:^|[,;] |\b(?:while|although|though|and|but) )((?:[\w'’()/-]+ ){1,6}?)"
        r"(?:must|should|needs? to|has to|have to|cannot|can['’]t) (?:still |also |always )?"
        r"be (?:ruled out|excluded|dismissed|considered|kept in mind)\b"
    ),
    re.compile(rf"(?i)(?:^|[,;] )((?:[\w'’()/-]+ ){{1,8}}?)(?:also )?remains? (?:possible|{_NOUN})\b"),
    re.compile(r"(?i)\bto (?:rule out|exclude) (?:[\w-]+ ){0,3}?(?:like|such as|including) ([^.;]{3,80})"),
    re.compile(r"(?i)\bto (?:confirm (?:\w+ ){1,4}and )?rule out ([^.;]{3,60})"),
    re.compile(
        r"(?i)(?:^|, )(?:and )?((?:[\w'’()/-]+ ){1,6}?)(?:is|as|being) an? (?:close second|secondary consideration)\b"
    ),
)
_MAY_BE_OPEN = re.compile(
    r"(?i)ruled? out|exclude|dismiss|possib|plausib|conceiv|consider|concern|differential|conten|alternat|second"
)
_KNOWN_AS = re.compile(
    r"(?i),? ?\(?\b(?:(?:also|commonly|often|otherwise|sometimes|better|more) ){1,2}"
    r"(?:known as|referred to as|called|termed) (?:(?:an?|the) )?([\w'’ -]{3,60})\)?"
)
_CLAUSE_END = re.compile(
    r"(?i) "
    + either(
        r"because|given|due to|since|based on|as evidenced|which|that |where|whereas|while",
        r"(?:caused|characteri[sz]ed) by",
        r"(?:followed|supported) by|considering|although|though|especially|particularly|affecting|involving",
        r"evidenced|so\b",
        r"and (?:recommend|should|would|is|can|i\b|warrants?)",
    )
    + r"|, "
    + either(
        r"an?|the|which|likely|particularly|especially|specifically|commonly|also|possibly|potentially|with|given",
        r"based|due|one|as|where|but|though|although|while|and (?:i|it|this|is|a|the|should)|it|this|i|rather",
        r"characteri\w+|caused|often|typically|such",
    )
    + r"\b| [–—-]+ |—|;|\. |[.!?]$|: "
)
# What a conclusion names though the list does not: words that end as names of diseases do.
_DISEASE_WORD = re.compile(
    r"(?i)(?:(?<!gn)osis|itis|oma|emia|derma|pathy|iasis|syndrome|disease|virus|infection|reaction|cancer|tumou?r|eruption"
    r"|ulcer|nevus|wart|cyst|plakia|purpura|exanthem|thrax|bite|sting|burn|scar)s?\b"
)


# Candidates that the sentence itself lists only to drop them: they count while no conclusion follows.
_SET_ASIDE = re.compile(
    r"(?i)\b(?:were considered|was considered|can be ruled out|(?:do|does|did)(?: not|n['’]t) (?:\w+ ){0,2}(?:fit|match"
    r"|align|present)|not consistent|lacks?|but (?:\w+ ){0,3}(?:typical|usual|often|not|have distinguishing))\w*"
)


class Statements(NamedTuple):
    """What the sentences propose.

    `answer`: after "the answer is"; `stated`: the last "most likely diagnosis is ..." or concluding sentence, in line
    `stated_at` of the prose (-1: none); `pointed`, `pointed_at`: the last "consistent with ..."; `also`: further
    considerations in order; `denied`: what is said not to be.
    """

    answer: list[Proposal]
    stated: list[Proposal]
    stated_at: int
    pointed: list[Proposal]
    pointed_at: int
    also: list[Proposal]
    denied: list[Proposal]


def read_statements(lines: list[str], terms: Terms) -> Statements:
    """Look for stated diagnoses in lines of prose."""
    answer: list[Proposal] = []
    stated: list[Proposal] = []
    pointed: list[Proposal] = []
    also: list[Proposal] = []
    denied: list[Proposal] = []
    stated_at = pointed_at = -1
    for number, line in enumerate(lines):
        concludes = named = False  # a conclusion holds for the rest of its paragraph; what follows a name explains it
        for sentence in sentences(line):
            opens = bool(_CONCLUDES.search(sentence))
            concludes = concludes or opens
            if refuses(sentence):
                if concludes:  # "In summary, I cannot ...": what was weighed before is withdrawn
                    stated, pointed, also = [], [], []
                continue
            if found := _ANSWER.search(sentence):
                answer = split_list(clause(found[1]), "answer", terms) or answer
                continue
            if found := _ALSO.search(sentence):
                listed = split_list(re.sub(r"[.!?]+$", "", found[1]), "prose", terms)
                listed = [p._replace(against=_SET_ASIDE.search(sentence) is not None) for p in listed]
                also += [p._replace(text=clause(p.text)) for p in listed if is_named(clause(p.text), terms)]
                if listed and not concludes:
                    continue
            also += _left_open(sentence, terms)
            if proposals := _stated(sentence, terms):
                stated, stated_at = proposals, number
                continue
            proposals, denials = _pointed(sentence, terms, concludes)
            denied += denials
            if proposals and (opens or not named):
                named = True
                pointed, pointed_at = proposals, number
                if concludes:
                    stated, stated_at = proposals, number
    return Statements(answer, stated, stated_at, pointed, pointed_at, also, denied)


def sentences(text: str) -> list[str]:
    """The sentences of a text, without emphasis, blanks single, each cut at LONGEST_SENTENCE characters."""
    found = [" ".join(plain(part[:LONGEST_SENTENCE]).split()) for part in _SENTENCE.split(text) if part]
    return [sentence for sentence in found if sentence]


def clause(text: str) -> str:
    """The words up to the end of the clause that names a diagnosis; "also known as X" becomes "(X)"."""
    text = _KNOWN_AS.sub(r" (\1)", text, count=1)
    end = _CLAUSE_END.search(text)
    return (text[: end.start()] if end and end.start() else text).strip(" .,:*_\"'“”")


def is_named(text: str, terms: Terms) -> bool:
    """Whether a phrase names a condition that it does not deny; everyday words count in short phrases only."""
    readings = [reading for reading in read_item(text) if not reading.negated]
    return any(terms.match(r.name, running=is_long(r.name)).hits for r in readings)


def is_long(name: str) -> bool:
    """Whether a phrase is running text rather than an item."""
    return len(name.split()) > 5


def names_disease(text: str) -> bool:
    """Whether a word of the text ends as names of diseases do, or it is written in capitals.

    >>> names_disease("poikiloderma"), names_disease("PLEVA"), names_disease("winding lesion")
    (True, True, False)
    """
    return bool(_DISEASE_WORD.search(text)) or (text.isupper() and text.isalpha())


def _stated(sentence: str, terms: Terms) -> list[Proposal]:
    if found := _DIAGNOSIS_IS.search(sentence):
        phrase = _narrowed(found[1], terms)
        if phrase and len(phrase.split()) <= 20 and (is_named(phrase, terms) or _DISEASE_WORD.search(phrase)):
            return [Proposal(phrase, "conclusion")]
    if found := _IS_DIAGNOSIS.search(sentence):
        subject = re.split(r", |\bthat |; ", sentence[: found.start()])[-1]
        if is_named(subject, terms):
            return [Proposal(subject, "conclusion")]
    return []


def _pointed(sentence: str, terms: Terms, concludes: bool) -> tuple[list[Proposal], list[Proposal]]:
    """What the sentence points to, and what it says it does not: the first cue whose clause names a condition.

    A conclusion that names something unknown to the list counts too, as an unmatched item.
    """
    denials: list[Proposal] = []
    unknown: list[Proposal] = []
    position = 0
    while found := _POINTS_TO.search(sentence, position):
        position = found.start() + 1
        phrase = _narrowed(found[1], terms)
        if not is_named(phrase, terms):
            if concludes and not unknown and not is_long(phrase) and _DISEASE_WORD.search(phrase):
                unknown = [Proposal(phrase, "conclusion")]
            continue
        if _NOT_BEFORE.search(sentence[max(0, found.start() - 50) : found.start()]):
            denials.append(Proposal(phrase, "conclusion", negated=True))
            position = found.start(1)
            continue
        return [Proposal(phrase, "conclusion")], denials
    return unknown, denials


def _left_open(sentence: str, terms: Terms) -> list[Proposal]:
    """What a sentence leaves possible beside its conclusion, hedged: "while melanoma remains a consideration"."""
    found: dict[str, Proposal] = {}
    if not _MAY_BE_OPEN.search(sentence):
        return []
    for pattern in _LEFT_OPEN:
        for match in pattern.finditer(sentence):
            phrase = match[1].strip(" ,")
            if phrase and is_named(phrase, terms):
                found.setdefault(phrase, Proposal(phrase, "prose", hedged=True))
    return list(found.values())


def _narrowed(text: str, terms: Terms) -> str:
    """The clause that names a diagnosis; of "psoriasis, specifically scalp psoriasis" the second."""
    phrase = clause(text)
    if kind := _OF_THE_TYPE.search(text):  # "psoriasis, specifically the plaque type"
        whole, typed = terms.match(phrase, is_long(phrase)).hits, terms.match(f"{kind[1]}{phrase}").hits
        if whole and any(whole[0].canonical in terms.conditions[hit.canonical].ancestors for hit in typed):
            return f"{kind[1]}{phrase}"
    if more := _REFINES.search(text):
        narrow = clause(more[1])
        one, other = terms.match(phrase).hits, terms.match(narrow, running=True).hits
        if one and other and all(one[0].canonical in terms.conditions[hit.canonical].ancestors for hit in other):
            return narrow
    return phrase
