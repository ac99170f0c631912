"""Expected scores from token log-probabilities: what a judge's number would have been on average, had it been drawn.

For every dimension the one token that writes its number is found by its place in the final machine block, and the
probability of the scale's levels at that place is read from the alternatives that came with it. What the provider did
not list counts as no level, so the mass is a lower bound.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from json import JSONDecoder
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NamedTuple

from ..blocks import without_reasoning
from ..calls.chat import TokenChance
from ..records import Score

MASS_FLOOR = 0.5
ROUNDING = 1e-3  # by how much probabilities may sum to more than 1 before they are taken for something else
_ENDINGS = 3  # tokens after the text that providers list but do not spell out, such as the end of the turn
_DECODER = JSONDecoder()
_LEAD = re.compile(r"\s*(?:```(?:json)?\s*)?")
_SPACE = re.compile(r"[ \t\r\n]*")


class Place(NamedTuple):
    """Where a number stands in a text: characters start to end."""

    start: int
    end: int


def expected_scores(
    text: str,
    tokens: Sequence[TokenChance],
    written: Mapping[str, Score],
    levels: Sequence[int],
    nonce: str | None,
    floor: float = MASS_FLOOR,
) -> dict[str, Score]:
    """For every scored dimension of `written` (the strict reading of `text`) its expected score over `levels`.

    levels: single digits. Each score keeps its distribution over the levels (renormalised) and the mass on them before
    that, in [0, 1]; below `floor` and wherever a number is not one token of its own the state is `unparsable` with the
    reason. Dimensions that were not scored stay as they are.
    Source: the expected value over score tokens of G-Eval (Liu et al. 2023, eq. 1).
    """
    places = number_places(text, nonce)
    scored = [name for name, score in written.items() if score.value is not None]
    same = {name.casefold(): place for name, place in places.items()}
    if missing := [name for name in scored if name.casefold() not in same]:
        return {
            **written,
            **dict.fromkeys(missing, _none("its number is not in a JSON block, so no token can be named")),
        }
    if not scored:
        return dict(written)
    starts = token_starts(text, tokens, min(same[name.casefold()].start for name in scored))
    result = dict(written)
    for name in scored:
        place = same[name.casefold()]
        if starts is None:
            result[name] = _none("the tokens that came with the answer do not spell its score block")
        elif float(text[place.start : place.end]) != written[name].value:
            result[name] = _none("the place of its number is not certain")
        else:
            result[name] = _expected(text, place, tokens, starts, levels, floor)
    return result


def number_places(text: str, nonce: str | None) -> dict[str, Place]:
    """The places of the values in the object "scores" of the last machine block of a readable answer; {} if none."""
    body = without_reasoning(text)
    if nonce is not None:
        opened = body.rfind(f"<<<scores {nonce}") + len(f"<<<scores {nonce}")
        starts = [_LEAD.match(body, opened).end()]  # type: ignore[union-attr]
    else:
        starts = [hit.start() for hit in re.finditer(r'\{\s*"', body)]
    best: tuple[int, int, dict[str, Place]] | None = None
    for start in starts:
        if best and start < best[1]:
            continue  # inside the block before
        try:
            places, end = _block(body, start)
        except (ValueError, IndexError, RecursionError):
            continue
        if places:
            best = (start, end, places)
    if best is None:
        return {}
    start, end, places = best
    if body != text and text.count(body[start:end]) != 1:  # reasoning was dropped: the place in the text as it came
        return {}
    shift = text.rfind(body[start:end]) - start
    return {name: Place(place.start + shift, place.end + shift) for name, place in places.items()}


def token_starts(text: str, tokens: Sequence[TokenChance], needed: int) -> list[int] | None:
    """The character of `text` at which each token starts, right from `needed` on; None if they do not spell that part.

    Aligned from the end, since bytes that are half a character (in a critique) may be listed in forms that spell
    nothing, while the score block is plain ASCII.
    """
    whole = text.rstrip()
    pieces = [token.token for token in tokens]
    for dropped in range(min(_ENDINGS, len(pieces)) + 1):
        joined = "".join(pieces[: len(pieces) - dropped]).rstrip()
        if len(joined) >= len(whole) - needed and joined.endswith(whole[needed:]):
            shift = len(whole) - len(joined)
            return [start + shift for start in accumulate(map(len, pieces), initial=0)]
    return None


def _expected(
    text: str, place: Place, tokens: Sequence[TokenChance], starts: Sequence[int], levels: Sequence[int], floor: float
) -> Score:
    names = {str(level): k for k, level in enumerate(levels)}
    number = text[place.start : place.end]
    if number not in names:
        return _none(f"{number[:12]} is not written as a level ({levels[0]} to {levels[-1]}), which one token would be")
    index = bisect_right(starts, place.start) - 1
    token = tokens[index]
    before = token.token[: place.start - starts[index]]
    if not text.endswith(before, 0, place.start):
        return _none("the tokens that came with the answer do not spell its score block")
    chances = dict(token.top)
    chances[token.token] = token.logprob
    on = [0.0] * len(levels)
    for word, logprob in chances.items():
        if math.isnan(logprob) or logprob > ROUNDING:
            return _none("what came as log-probabilities are none")
        if (level := _level(word, before)) in names:
            on[names[level]] += math.exp(logprob)
    mass = sum(on)
    if mass > 1 + ROUNDING:
        return _none("the probabilities of its levels sum to more than 1")
    if mass <= 0:
        return _none("no probability is on the scale's levels", 0.0)
    distribution = tuple(chance / mass for chance in on)
    mass = min(mass, 1.0)  # the rounding of the provider
    if mass < floor:
        reason = f"only {mass:.2f} of the probability is on the scale's levels (floor {floor})"
        return Score(None, "unparsable", reason, distribution, mass)
    value = sum(level * chance for level, chance in zip(levels, distribution, strict=True))
    return Score(value, "scored", "", distribution, mass)


def _level(word: str, before: str) -> str:
    """The digits that a token gives to the number, once what stands before it in the written token is taken away."""
    if before and word.startswith(before):
        word = word[len(before) :]
    elif before.strip():
        return ""
    return word.strip(" \t\r\n").rstrip(",}").rstrip(" \t\r\n")


def _none(reason: str, mass: float | None = None) -> Score:
    return Score(None, "unparsable", reason, None, mass)


def _block(text: str, start: int) -> tuple[dict[str, Place], int]:
    """Places of the members of "scores" in the JSON object that begins at `start`, and where that ends."""
    places: dict[str, Place] = {}
    for name, begin, _ in _members(text, start):
        if name == "scores" and text[begin] == "{":
            places = {inner: Place(first, last) for inner, first, last in _members(text, begin)}
    return places, _DECODER.raw_decode(text, start)[1]


def _members(text: str, start: int) -> Iterator[tuple[str, int, int]]:
    """Name, start and end of every member of the JSON object at `start`; ValueError or IndexError if there is none."""
    if text[start] != "{":
        raise ValueError("no object")
    at = _skip(text, start + 1)
    while text[at] != "}":
        if text[at] != '"':
            raise ValueError("no name")
        name, at = scanstring(text, at + 1, True)
        begin = _skip(text, _skip(text, at) + 1)  # over the colon
        _, end = _DECODER.raw_decode(text, begin)
        yield name, begin, end
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]
