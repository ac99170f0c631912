"""A context with one field taken out, or with a value that contradicts the true one; what cannot be done is said."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..judge.records import Case, identity
from .context_fields import FIELDS, Mention, contradictions, find_field, told_regions

_CUT = "\x00"
_CHILDREN = ("infant", "child", "adolescent")


class Edit(NamedTuple):
    """A changed context: what the field said and what stands there now; or the `problem` that kept it unchanged."""

    text: str
    was: tuple[str, ...] = ()
    now: tuple[str, ...] = ()
    problem: str = ""


def without(case: Case, field: str) -> Edit:
    """The case's context with every mention of the field taken out; sex leaves no gendered word behind.

    >>> without(Case("c", context="A 7-year-old girl with a rash. Site: back."), "age").text
    'A female with a rash. Site: back.'
    """
    text, mentions = case.context, find_field(case, field)
    if not mentions:
        return Edit(text, problem=f"no {field} was found in the context")
    if field == "sex" and (word := _telling(text)):
        return Edit(text, problem=f"the context tells the sex in another way ('{word}')")
    was = tuple(text[m.start : m.end] for m in mentions)
    done = _tidy(_put(text, [(*m.cut[:2], m.cut[2] or _CUT) for m in mentions]))
    if left := find_field(case, field, done):
        return Edit(
            text, was, problem=f"the {field} could not be taken out whole ('{done[left[0].start : left[0].end]}')"
        )
    if not re.search(r"\w", done):
        return Edit(text, was, problem=f"without the {field} nothing is left of the context")
    return Edit(done, was)


def contradict(case: Case, field: str, seed: int = 0) -> Edit:
    """The case's context with a value of the field that contradicts the true one (`contradictions.yaml`).

    The same case and seed give the same value. Neither what the context says nor what the tags of the case say can be
    drawn: a wrong age, duration or site is of another band or region, a wrong history is of another topic.

    >>> edit = contradict(Case("c", context="A 45-year-old woman."), "sex")
    >>> edit.text, edit.was, edit.now
    ('A 45-year-old man.', ('woman',), ('man',))
    """
    mentions = find_field(case, field)
    if not mentions:
        return Edit(case.context, problem=f"no {field} was found in the context")
    digest = hashlib.sha256(f"{field}|{seed}|{identity(case.id)}".encode("utf-8", "surrogatepass")).digest()
    edit = _WRONG[field](case, mentions, np.random.default_rng(int.from_bytes(digest[:8])))
    if edit.problem:
        return edit._replace(text=case.context)
    before = {m.means for m in mentions}
    after = {m.means for m in find_field(case, field, edit.text)}
    if field in ("age", "sex", "duration", "site") and (not after or after & before):
        return Edit(case.context, edit.was, edit.now, f"the {field} could not be contradicted throughout")
    if " ".join(edit.text.lower().split()) == " ".join(case.context.lower().split()):
        return Edit(case.context, problem=f"the {field} would be unchanged")
    return edit


def _age(case: Case, mentions: Sequence[Mention], rng: np.random.Generator) -> Edit:
    bands = contradictions()["age"]
    true = {m.means for m in mentions if not (m.form == "word" and any(n.form != "word" for n in mentions))}
    told = case.tags.get("age")
    if isinstance(told, int | float) and not isinstance(told, bool):
        true |= {name for name, band in bands.items() if band["from"] <= told < band["below"]}
    if "?" in true or len(true) > 1:
        return Edit("", problem="the context and tags name several ages, or one of no band")
    band = true.pop()
    new = str(rng.choice(bands[band]["contradicted_by"]))
    years = int(rng.integers(max(2, bands[new]["from"]), bands[new]["below"]))
    child, text = new in _CHILDREN, case.context

    def put(m: Mention) -> str:
        word = text[m.start : m.end].lower()
        if m.form != "word":
            return {"old": f"{years}-year-old", "aged": f"aged {years}"}.get(m.form, str(years))
        if word in ("boy", "girl"):
            return word if child else {"boy": "man", "girl": "woman"}[word]
        adjective = word in ("newborn", "young", "middle-aged", "elderly", "preschool", "adolescent")
        return str(bands[new]["adjective" if adjective else "noun"])

    spans = [(m.start, m.end, put(m)) for m in mentions]
    grown = {"man": "boy", "woman": "girl"} if child and band not in _CHILDREN else {}
    for word, young in grown.items():  # a man of seven would be a contradiction in itself, and give the error away
        spans += [(*found.span(), young) for found in re.finditer(rf"\b{word}\b", text, re.I)]
    return _edit(text, spans)


def _sex(case: Case, mentions: Sequence[Mention], rng: np.random.Generator) -> Edit:
    text, true = case.context, {m.means for m in mentions}
    told = str(case.tags.get("sex", "")).strip().lower()
    true |= {{"f": "female", "m": "male"}.get(told, told)} & {"female", "male"}
    if word := _telling(text):
        return Edit("", problem=f"the context tells the sex in another way ('{word}')")
    if len(true) > 1 or not true <= {"female", "male"}:
        return Edit("", problem="the context and tags hold words of both sexes, or of another one")
    female = true == {"female"}
    pairs = contradictions()["sex"]["pairs"] + [["f", "m"]]
    other = {left: right for left, right in pairs} if female else {right: left for left, right in reversed(pairs)}

    def put(m: Mention) -> str:
        word = text[m.start : m.end]
        if word.lower() in ("her", "his", "him"):
            owns = m.cut[2].endswith("'s")
            swapped = ("his" if owns else "him") if female else "her"
        else:
            swapped = other.get(word.lower(), "male" if female else "female")
        return swapped.upper() if word.isupper() else swapped.capitalize() if word[0].isupper() else swapped

    return _edit(text, [(m.start, m.end, put(m)) for m in mentions])


def _site(case: Case, mentions: Sequence[Mention], rng: np.random.Generator) -> Edit:
    regions = contradictions()["site"]
    true = {name for m in mentions for name in m.means.split("+")} | told_regions(case)
    if "?" in true:
        return Edit("", problem="the context names a site that no table knows")
    against = [
        name for name in regions if name not in true and all(name in regions[t]["contradicted_by"] for t in true)
    ]
    shown = [site for name in against for site in regions[name]["show"]]
    if not shown:
        return Edit("", problem="no site contradicts all those that the context and tags name")
    new = str(rng.choice(shown))

    def put(m: Mention) -> str:
        old = case.context[m.start : m.end]
        side = re.match(r"\s*(left|right)\b", old, re.I)
        single = new if new in ("chest", "abdomen", "forehead") or not side else f"{side[1]} {new}"
        return single.upper() if old.isupper() else single

    return _edit(case.context, [(m.start, m.end, put(m)) for m in mentions])


def _duration(case: Case, mentions: Sequence[Mention], rng: np.random.Generator) -> Edit:
    bands, true = contradictions()["duration"], {m.means for m in mentions}
    if "?" in true or len(true) > 1:
        return Edit("", problem="the context names several durations, or one of no band")
    wrong = [show for name in bands[true.pop()]["contradicted_by"] for show in bands[name]["show"]]
    new = str(rng.choice(wrong))
    number, unit = new.split()

    def put(m: Mention) -> tuple[int, int, str]:
        if m.form == "word":
            return (*m.cut[:2], f" for {new}")
        if m.form == "history":
            return (
                *m.cut[:2],
                f"{'an' if number in ('8', '11') else 'a'} {number}-{unit.removesuffix('s')} history of ",
            )
        return m.start, m.end, f"{number}-{unit.removesuffix('s')}-old" if m.form == "old" else new

    return _edit(case.context, [put(m) for m in mentions])


def _history(case: Case, mentions: Sequence[Mention], rng: np.random.Generator) -> Edit:
    table, text = contradictions()["history"], case.context
    free = [e["show"] for e in table["entries"] if not any(topic in text.lower() for topic in e["topics"])]
    if not free:
        return Edit("", problem="the context names a topic of every history of the table")
    new = str(rng.choice(free))
    reported = {a: b for pair in table["reported"] for a, b in (pair, pair[::-1])} | {"bleeding": "no bleeding"}

    def put(m: Mention) -> tuple[int, int, str] | None:
        old = m.means.strip()
        if m.form == "reported":
            return (m.start, m.end, reported[old]) if old in reported else None
        if m.form == "label" and old in ("yes", "no"):
            return m.start, m.end, {"yes": "no", "no": "yes"}[old]
        if m.form == "denied":  # what is denied is affirmed, in the same words
            whole = text[m.cut[0] : m.cut[1]]
            return (
                *m.cut[:2],
                re.sub(r"\b(?:no|without(?: any)?|denies(?: any)?)\s+", _affirmed, whole, count=1, flags=re.I),
            )
        return m.start, m.end, f"history of {new}" if m.form == "none" else new

    spans = [put(m) for m in mentions]
    if None in spans:
        return Edit("", problem="no table contradicts what is reported")
    return _edit(text, [span for span in spans if span])


def _affirmed(found: re.Match[str]) -> str:
    return {"n": "a ", "w": "with a ", "d": "reports a "}[found[0][0].lower()]


_WRONG: dict[str, Callable[[Case, Sequence[Mention], np.random.Generator], Edit]] = {
    "age": _age, "sex": _sex, "site": _site, "duration": _duration, "history": _history,
}  # fmt: skip


def _edit(text: str, spans: Sequence[tuple[int, int, str]]) -> Edit:
    spans = sorted(spans)
    was, now = tuple(text[a:b].strip() for a, b, _ in spans), tuple(new.strip() for *_, new in spans)
    marked = re.sub(rf"\bboth\s+(?={_CUT})", "the ", _put(text, [(a, b, _CUT + new) for a, b, new in spans]))
    return Edit(_articles(marked).replace(_CUT, ""), was, now)


def _put(text: str, spans: Sequence[tuple[int, int, str]]) -> str:
    pieces, at = [], 0
    for start, end, new in sorted(spans):
        pieces += [text[at:start], new]
        at = end
    return "".join([*pieces, text[at:]])


def _articles(text: str) -> str:
    """ "a" or "an" before a place where something changed."""

    def article(found: re.Match[str]) -> str:
        vowel = found[2][0].lower() in "aeio" or re.match(r"(?:8|11|18|8\d)(?!\d)", found[2])
        return f"{found[1]}{'n' if vowel else ''} {found[2]}"

    return re.sub(rf"\b([Aa])n?\s+(?:{_CUT}\s*)+(\w+)", article, text)


def _tidy(text: str) -> str:
    """The sentence closed up where something was cut out."""
    text = _articles(text)
    nobody = rf"(^|[.;\n]\s*)(?:she|he|they|(?:the )?patient|there (?:is|was))\s*{_CUT}\s*(?=[.;\n]|$)"
    text = re.sub(nobody, rf"\1{_CUT}", text, flags=re.I)
    text = re.sub(rf"(^|[.;\n])\s*(?:{_CUT}[\s,]*)+[.;]", r"\1", text)  # a sentence that is gone
    text = re.sub(rf"(^|[.;\n]\s*)(?:{_CUT}\s*)+,\s*", r"\1", text)
    text = re.sub(rf",?\s*(?:{_CUT}\s*)+(?=[,.;]|$)", "", text)
    text = re.sub(rf"\s*(?:{_CUT}\s*)+", " ", text)
    text = re.sub(r"\bthe patient(?='s\b|\b)", "the patient", text)
    text = re.sub(r"(^|[.]\s+)([a-z])", lambda m: m[1] + m[2].upper(), text)
    return re.sub(r"[ \t]{2,}", " ", re.sub(r"\s+([,.;])", r"\1", text)).strip(" ,;")


def _telling(text: str) -> str:
    """The first word that tells the sex and that no swap of words hides; "" if there is none."""
    words: Any = contradictions()["sex"]["telling"]
    found = re.search(rf"\b(?:{'|'.join(words)})\w*", text, re.I)
    return found[0] if found else ""


__all__ = ["FIELDS", "Edit", "contradict", "without"]
