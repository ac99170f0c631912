"""Where the score block of a judge's answer is: find it whole, or say why there is none.

Three forms are declared. With a nonce: a JSON object between `<<<scores NONCE` at the start of a line and
`scores NONCE>>>`. Without one (recorded answers, published judges): a JSON object with a field "scores", or lines
`Name: N` and `Name: N - rationale`, that end the answer. There, an answer that ends by quoting a whole set of scores
cannot be told from an answer that gives one: that is what the nonce is for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 20
MAX_OBJECTS = 20


class Unreadable(ValueError):
    """There is a score block, but nothing in it can be trusted; the text says why."""


@dataclass(frozen=True)
class Block:
    """A score block as written, unchecked; `earlier` are the lower-case names that a block before it gives too."""

    scores: Collection[tuple[str, Any]]
    critique: Any = None
    summary: Any = ""
    overall: Any = None
    unknown: tuple[str, ...] = ()
    earlier: frozenset[str] = frozenset()


def without_reasoning(text: str) -> str:
    """Drop `<think>` blocks, also one that never ends; of an end without a beginning only the tag goes.

    What stands before such an end may be reasoning that the prompt opened, or the judge's own block with a quoted
    tag in it; either way a later block replaces it.

    >>> without_reasoning("a<think>b</think>c<think>d"), without_reasoning("a</think>b")
    ('a\\nc', 'a\\nb')
    """
    kept: list[str] = []
    start, inside = 0, False
    for tag in re.finditer(r"<(/?)think(?:ing)?>", text, re.IGNORECASE):
        if not inside:
            kept.append(text[start : tag.start()])
        start, inside = tag.end(), not tag[1]
    return "\n".join(kept if inside else [*kept, text[start:]])


# Patterns without the nonce: compiling one for every answer takes longer than reading it.
_OPENER = re.compile(r"^[ \t]*<<<scores (\w+)", re.MULTILINE)
_FENCE = re.compile(r"\s*(?:```(?:json)?\s*)?")
_CLOSER = re.compile(r"\s*(?:```\s*)?scores (\w+)>>>")


def nonce_block(text: str, nonce: str) -> Block | None:
    """The last block opened with this nonce, None if there is none; Unreadable if it is broken."""
    openers = [hit.end() for hit in _OPENER.finditer(text) if hit[1] == nonce]
    if not openers:
        return None
    # A broken last block never falls back to an earlier one: that is a draft.
    try:
        value, end = _decode(text, _FENCE.match(text, openers[-1]).end())  # type: ignore[union-attr]
    except ValueError as error:
        raise Unreadable(f"the score block is not valid JSON: {error}") from error
    if (closer := _CLOSER.match(text, end)) is None or closer[1] != nonce:
        raise Unreadable("the score block is not closed")
    return _block(value)


def final_object(text: str) -> Block | None:
    """The JSON object with "scores" that ends the text (a code fence or a delimiter may follow)."""
    last = text.rfind("}") + 1
    if not re.fullmatch(r"\s*(?:```\s*)?(?:scores \w+>>>\s*)?(?:```\s*)?", text[last:]):
        return None
    found: list[dict[str, Any]] = []
    position, end, broken = 0, 0, False
    for _ in range(MAX_OBJECTS + 1):
        if not (start := re.compile(r'\{\s*"').search(text, position)):
            break
        try:
            value, position = _decode(text, start.start())
        except ValueError:
            broken |= bool(re.compile(r'\{\s*"(?:scores|critique|summary|overall)"').match(text, start.start()))
            position = start.start() + 1
            continue
        if "scores" in value:
            found.append(value)
            end = position
    else:
        raise Unreadable(f"the answer holds more than {MAX_OBJECTS} objects")
    if not found or end != last:
        return None
    if broken:  # what was found may be a quotation inside the judge's own, broken, block
        raise Unreadable("a score block in the answer is not valid JSON")
    return _block(found[-1], (name for value in found[:-1] for name in _block(value).scores))


# A number, alone or with " - rationale"; a rationale that begins like a number ("4 - 5") makes it a range.
_VALUE = r"(-?[0-9]+(?:\.[0-9]+)?)(?:[ \t]+[-–—][ \t]+(?![\d.,/+−-])(\S.*))?[ \t\r]*"
_FOREIGN = re.compile(rf"[ \t]*([A-Za-z][A-Za-z0-9 _-]{{0,59}}):[ \t]*{_VALUE}")
_OVERALL = {"overall", "overall score"}


def final_lines(text: str, names: Collection[str], fine: bool) -> Block | None:
    """The run of lines `Name: N` that ends the text, blank lines aside; `fine`: a number at the very end may be cut."""
    if re.search(r'"(?:scores|critique)"\s*:|<<<scores ', text):
        return None  # an answer in the other form, and broken: its critique may quote such lines
    known = {name.lower() for name in names}
    # Wider than the form, so that a decorated line ("**Accuracy**: 4") is an unreadable score, not a missing one.
    named = re.compile(
        rf"([\s>*_#`\d.)(-]{{0,12}})({'|'.join(sorted((*names, 'Overall Score', 'Overall'), key=len, reverse=True))})"
        rf"([\s*_`]{{0,4}}(?:score|rating)?(?:\s?\([^)\n]{{0,12}}\))?[\s*_`]{{0,4}}[:：=])(.*)",
        re.IGNORECASE,
    )
    run: list[tuple[str, Any, str]] = []
    earlier: list[str] = []
    for line in text.split("\n"):
        if not line.strip(" \t\r`"):
            continue
        if match := named.match(line):
            before, name, after, rest = match.groups()
            value = re.fullmatch(_VALUE, rest.lstrip(" \t")) if not before.strip() and after == ":" else None
            run.append((name, float(value[1]), (value[2] or "").strip()) if value else (name, line.strip(), ""))
        elif match := _FOREIGN.fullmatch(line):
            run.append((match[1], float(match[2]), ""))
        else:
            earlier += [name for name, _, _ in run]
            run = []
    if not any(name.lower() in known for name, _, _ in run):
        return None
    if fine and text[-1] in "0123456789" and not run[-1][2]:
        run[-1] = (run[-1][0], f"{run[-1][1]} (perhaps cut)", "")
    overall = [value for name, value, _ in run if name.lower() in _OVERALL - known]
    return Block(
        scores=[(name, value) for name, value, _ in run if name.lower() not in _OVERALL - known],
        critique={name: rationale for name, _, rationale in run if rationale and name.lower() in known},
        overall=overall[0] if len(overall) == 1 else None,
        earlier=frozenset(name.lower() for name in earlier),
    )


def _block(value: dict[str, Any], earlier: Iterable[tuple[str, Any]] = ()) -> Block:
    if not isinstance(value.get("scores"), dict):
        raise Unreadable("the score block has no object 'scores'")
    return Block(
        scores=list(value["scores"].items()),
        critique=value.get("critique"),
        summary=value.get("summary", ""),
        overall=value.get("overall"),
        unknown=tuple(key for key in value if key not in ("scores", "critique", "summary", "overall")),
        earlier=frozenset(name.lower() for name, _ in earlier),
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(value := dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return value


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _decode(text: str, start: int) -> tuple[dict[str, Any], int]:
    """The JSON object that begins at `start` and where it ends; ValueError if there is none."""
    if not text.startswith("{", start):
        raise ValueError("no object")
    try:
        value, end = _DECODER.raw_decode(text, start)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    layer: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner = [list(node.values()) if isinstance(node, dict) else node for node in layer]
        layer = [child for node in inner if isinstance(node, list) for child in node]
    if any(isinstance(node, dict | list) for node in layer):
        raise ValueError("nested too deeply")
    return value, end
