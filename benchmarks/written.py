"""What came of one planned narrative: its state, what it says, and where it comes from."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ..evaluators.differential import Differential, parse_differential
from ..evaluators.triage_call import read_triage
from ..judge.blocks import Unreadable
from ..judge.calls.chat import Reply
from ..judge.calls.pump import Outcome
from ..judge.records import Candidate, Narrative, strip_reasoning
from ..judge.refusal import declines
from .structured import read_structured

# What a model did is a result, and stands among the narratives; the last three say that there is none.
State = Literal[
    "written", "refused", "filtered", "truncated", "empty", "unparsable", "input_error", "api_error", "skipped"
]
STATES: tuple[State, ...] = State.__args__  # type: ignore[attr-defined]
ABSENT: tuple[State, ...] = ("input_error", "api_error", "skipped")

_FINISH = {"max_tokens": "length", "safety": "content_filter", "end_turn": "stop", "stop_sequence": "stop",
           "eos_token": "stop"}  # fmt: skip
_KNOWN = ("", "stop", "length", "content_filter", "refusal")


class Reading(NamedTuple):
    """A narrative as read. `read`: "schema", "parser", "record", or "" where nothing was extracted."""

    state: State
    reason: str = ""
    text: str = ""
    finish_reason: str = ""
    differential: tuple[Candidate, ...] = ()
    triage: str = ""
    final_diagnosis: str = ""
    read: str = ""
    flags: tuple[str, ...] = ()


def read_outcome(outcome: Outcome, structured: bool = False) -> Reading:
    """The state of one call and what its answer says; never raises for what a model may write."""
    if (reply := outcome.reply) is not None:
        return read_reply(reply, structured)
    status = f" (status {outcome.status})" if outcome.status else ""
    if outcome.kind == "filtered":
        return Reading("filtered", f"the provider's content filter{status}", finish_reason="content_filter")
    if outcome.kind == "input_error":
        return Reading("input_error", outcome.message)
    return Reading("api_error", f"{outcome.kind}{status}")


def read_reply(reply: Reply, structured: bool = False) -> Reading:
    """The state of an answer: refused, filtered, truncated or empty as it ended; else what it states.

    Nothing is extracted from an answer that was cut off. A text that only declines to diagnose is "refused".
    """
    finish = _FINISH.get(reply.finish_reason.lower(), reply.finish_reason.lower())
    flags: tuple[str, ...] = () if finish in _KNOWN else (f"the call ended in '{finish[:40]}'",)
    if reply.refusal.strip() or finish == "refusal":
        return Reading("refused", "the provider says that the model refused", reply.text or reply.refusal, "refusal")
    if finish == "content_filter":
        return Reading("filtered", "the provider's content filter", reply.text, finish)
    if finish == "length":
        return Reading("truncated", "the limit of tokens was reached", reply.text, finish)
    lowered = reply.text.lower()
    if "</think" in lowered and "<think" not in lowered:
        flags += ("a reasoning block has no beginning, so it counts as part of the text",)
    if _blank(strip_reasoning(reply.text)):
        reason = "nothing but reasoning" if not _blank(reply.text) else "the answer is empty"
        return Reading("empty", reason, reply.text, finish)
    return (_structured if structured else _free)(reply.text, finish, flags)


def read_record(narrative: Narrative) -> Reading:
    """A narrative that was written elsewhere; what its record states goes before what its text says."""
    reading = read_reply(Reply(narrative.text, narrative.finish_reason))
    if reading.state in ("empty", "refused") and narrative.differential:
        reading = Reading("written", "", narrative.text, narrative.finish_reason, flags=reading.flags)
    if narrative.differential or narrative.triage:
        first = narrative.differential[0].name if narrative.differential else reading.final_diagnosis
        return reading._replace(differential=narrative.differential or reading.differential, read="record",
                                triage=narrative.triage or reading.triage, final_diagnosis=first)  # fmt: skip
    return reading


def _free(text: str, finish: str, flags: tuple[str, ...]) -> Reading:
    found = parse_differential(text)
    if found.abstained:
        return Reading("refused", found.reason, text, finish, flags=flags)
    differential = _candidates(found)
    first = differential[0].name if differential else ""
    return Reading("written", "", text, finish, differential, read_triage(text).level, first, "parser", flags)


def _structured(text: str, finish: str, flags: tuple[str, ...]) -> Reading:
    try:
        stated = read_structured(text)
    except Unreadable as error:
        if declines(strip_reasoning(text)):
            return Reading("refused", "the answer declines in prose", text, finish, flags=flags)
        return Reading("unparsable", str(error), text, finish, flags=flags)
    return Reading("written", "", stated.text, finish, stated.differential, stated.triage, stated.final_diagnosis,
                   "schema", (*flags, *stated.flags))  # fmt: skip


def _candidates(found: Differential) -> tuple[Candidate, ...]:
    """The ranked items as a record holds them; a hedge stays, so that reading the record says the same as the text."""
    return tuple(
        Candidate(f"possible {item.name}" if item.hedged else item.name, item.weight)
        for item in found.items
        if item.rank is not None
    )


def _blank(text: str) -> bool:
    return all(unicodedata.category(character)[0] in "CZ" for character in text)


def pack(key: Mapping[str, Any], reading: Reading, provenance: Mapping[str, Any], flags: Sequence[str] = (),
         call: Mapping[str, Any] | None = None) -> dict[str, Any]:  # fmt: skip
    """A result as journalled: the fields of the narrative, its state, and `call`, which is never exported."""
    marks = [*flags, *reading.flags]
    return {
        **key,
        "state": reading.state,
        "reason": reading.reason,
        "text": reading.text,
        "finish_reason": reading.finish_reason,
        "differential": [[one.name, one.weight] for one in reading.differential],
        "triage": reading.triage,
        "provenance": {
            "state": reading.state,
            **({"reason": reading.reason} if reading.reason else {}),
            **({"read": reading.read} if reading.read else {}),
            **({"final_diagnosis": reading.final_diagnosis} if reading.final_diagnosis else {}),
            **({"flags": marks} if marks else {}),
            **provenance,
        },
        "call": dict(call or {}),
    }


def unpack(data: Mapping[str, Any]) -> Narrative:
    """The narrative of a journalled result."""
    fields = ("case_id", "system", "arm", "sample", "text", "finish_reason", "triage", "provenance")
    differential = tuple(Candidate(name, weight) for name, weight in data["differential"])
    return Narrative(**{name: data[name] for name in fields}, differential=differential)
