"""A candidate's answer as one JSON object: the schema that is asked for, and the strict reader of what comes back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..judge.blocks import Unreadable, without_reasoning
from ..judge.records import URGENCIES, Candidate
from ..judge.tablefile import parse_json

MAX_BYTES, MAX_ITEMS, MAX_NAME = 1_000_000, 20, 300
FIELDS = ("narrative", "differential", "final_diagnosis", "triage")


@dataclass(frozen=True, slots=True)
class Stated:
    """What the object says; `flags`: where it contradicts itself, which is reported and never repaired."""

    narrative: str
    differential: tuple[Candidate, ...]
    final_diagnosis: str
    triage: str
    flags: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The prose, with the stated lists behind it in the form in which the plain prompt asks for them."""
        lines = [f"{n}. {c.name} ({c.weight:.3f})" for n, c in enumerate(self.differential, 1)]
        tail = [f"Final diagnosis: {self.final_diagnosis}", f"Triage: {self.triage}"]
        return "\n".join([self.narrative.strip(), "", "Differential diagnosis:", *lines, "", *tail])


def answer_schema() -> dict[str, Any]:
    """The JSON schema, in the part of the language that all providers enforce (bounds are checked by the reader)."""
    words = {"type": "string"}
    item = _whole({"diagnosis": words, "confidence": {"type": "number"}})
    return _whole(
        {
            "narrative": words,
            "differential": {"type": "array", "items": item},
            "final_diagnosis": words,
            "triage": {"type": "string", "enum": list(reversed(URGENCIES))},
        }
    )


def read_structured(text: str) -> Stated:
    """Read an answer; Unreadable (with the reason) for anything but the one object of the schema.

    Reasoning blocks before it are dropped. Doubled keys, NaN, further or missing fields, a confidence outside 0 to 1
    and an unknown triage level are refused; nothing is converted.

    >>> read_structured('{"narrative": "A papule.", "differential": [{"diagnosis": "BCC", "confidence": 0.7}], '
    ...                 '"final_diagnosis": "BCC", "triage": "soon"}').differential
    (Candidate(name='BCC', weight=0.7),)
    """
    if len(text) > MAX_BYTES:
        raise Unreadable(f"the answer is longer than {MAX_BYTES} characters")
    try:
        data = parse_json(_answer(text))
    except ValueError:
        raise Unreadable("the answer is no JSON object") from None
    if not isinstance(data, dict):
        raise Unreadable("the answer is JSON, but no object")
    if wrong := [name for name in FIELDS if name not in data] + sorted(set(data) - set(FIELDS)):
        raise Unreadable(f"the fields are {', '.join(FIELDS)}; missing or unknown: {wrong[0][:60]!r}")
    narrative, final = _text(data, "narrative"), _text(data, "final_diagnosis")
    if data["triage"] not in URGENCIES:
        raise Unreadable(f"triage is none of {', '.join(URGENCIES)}")
    given = data["differential"]
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_ITEMS:
        raise Unreadable(f"differential is no list of 1 to {MAX_ITEMS}")
    items = tuple(map(_item, given))
    flags = []
    if any(a.weight < b.weight for a, b in pairwise(items)):  # type: ignore[operator]
        flags.append("confidences do not fall with the rank")
    if final.casefold().strip() != items[0].name.casefold().strip():
        flags.append("the final diagnosis is not the first of the differential")
    return Stated(narrative, items, final, data["triage"], tuple(flags))


def _answer(text: str) -> str:
    """What follows the reasoning; where its beginning stood in the prompt, only its end is in the text."""
    body = without_reasoning(text).strip()
    return body if body.startswith("{") else text.rpartition("</think>")[2].strip()


def _item(entry: Any) -> Candidate:
    if not isinstance(entry, dict) or set(entry) != {"diagnosis", "confidence"}:
        raise Unreadable("an entry of the differential is no object of diagnosis and confidence")
    value = entry["confidence"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise Unreadable("a confidence is no number from 0 to 1")
    return Candidate(_text(entry, "diagnosis"), float(value))


def _text(data: dict[str, Any], name: str) -> str:
    value = data[name]
    if not isinstance(value, str) or not value.strip():
        raise Unreadable(f"{name} is no text")
    if name != "narrative" and (len(value) > MAX_NAME or "\n" in value.strip()):
        raise Unreadable(f"{name} is no name: it has several lines or more than {MAX_NAME} characters")
    return value if name == "narrative" else value.strip()


def _whole(inside: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": inside, "required": list(inside), "additionalProperties": False}
