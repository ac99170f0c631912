"""The one strict reader of a judge's written answer, and the one writer of its canonical form.

Only a number on the rubric's scale and step, in the declared field of the final score block, is a score. Nothing is
clipped, rescaled or repaired: everything else ends in a typed state with a reason. The block is asked for and
written as JSON between delimiters that carry a random nonce per call, so that nothing a narrative says, and a
critique quotes, can stand for it:

    <<<scores NONCE
    {"critique": {"Accuracy": "..."}, "summary": "...", "scores": {"Accuracy": 4}}
    scores NONCE>>>
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .blocks import Block, Unreadable, final_lines, final_object, nonce_block, without_reasoning
from .errors import InputError
from .records import Score, State
from .refusal import declines
from .rubric import Rubric, Scale

MAX_BYTES = 1_000_000

# What providers say when an answer is whole, and what else they say; any other word is not trusted.
_WHOLE = ("", "stop", "end_turn", "stop_sequence", "eos_token")
_STOPPED: dict[str, State] = {
    "length": "truncated",
    "max_tokens": "truncated",
    "content_filter": "filtered",
    "safety": "filtered",
    "refusal": "refused",
}


@dataclass(frozen=True)
class Answer:
    """What a judge's answer holds: for every dimension of the rubric a score or a state, and the judge's words.

    `stated_overall` is the judge's own overall, kept for the log only; `notes` name what was read over.
    """

    scores: dict[str, Score]
    critique: dict[str, str]
    summary: str = ""
    stated_overall: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def mismatch(self) -> float | None:
        """The judge's stated overall minus the mean of its own dimensions; None unless both exist."""
        values = [score.value for score in self.scores.values() if score.value is not None]
        if self.stated_overall is None or not values or len(values) < len(self.scores):
            return None
        return self.stated_overall - sum(values) / len(values)


def answer_instructions(rubric: Rubric, nonce: str) -> str:
    """The words that ask for the answer that `parse` reads; they hold no score themselves."""
    _check_nonce(nonce)
    words = ", ".join(f'"{name}": "..."' for name in rubric.names)
    numbers = ", ".join(f'"{name}": N' for name in rubric.names)
    return f"""\
First reason in plain sentences: what you see, what the narrative says, where the two differ.
Then end your reply with one score block in exactly this form and write nothing after it:

<<<scores {nonce}
{{"critique": {{{words}}}, "summary": "...", "scores": {{{numbers}}}}}
scores {nonce}>>>

The block is valid JSON. Replace every N by a plain number {_on(rubric.scale)}: no quotes, fraction, percent sign, \
range or word.
Replace every "..." by one or two sentences in straight double quotes, without line breaks or double quotes inside.
Score every dimension; leave a score out only if that dimension cannot be judged at all."""


def render_answer(
    scores: Mapping[str, float], critique: Mapping[str, str], rubric: Rubric, nonce: str | None, summary: str = ""
) -> str:
    """The canonical score block; `parse` reads back exactly what was written.

    `scores` gives any of the rubric's dimensions, on its scale and step. In texts a "<" that could begin a tag is
    written as its JSON escape, so that no text closes the block or spells a special token. InputError for unknown
    dimensions and scores off the scale.
    """
    numbers: dict[str, float] = {}
    for name, value in scores.items():
        if _score(value, rubric.scale).value is None:
            raise InputError(f"{name}: {value!r} is not a number {_on(rubric.scale)}")
        numbers[rubric.dimension(name)] = int(value) if value == int(value) else float(value)
    words = {rubric.dimension(name): text for name, text in critique.items()}
    content = json.dumps({"critique": words, "summary": summary, "scores": numbers}, ensure_ascii=False)
    content = re.sub(r"<(?![\s\d=])", r"\\u003c", content)
    if nonce is None:
        return content
    _check_nonce(nonce)
    return f"<<<scores {nonce}\n{content}\nscores {nonce}>>>"


def parse(text: str, rubric: Rubric, finish_reason: str = "", nonce: str | None = None) -> Answer:
    """Read a judge's answer: for every dimension of the rubric a score, or the state that says why there is none.

    With a nonce only the last block opened with it counts (`blocks.py` has the forms without one). `finish_reason`
    is the provider's word; an answer that the provider cut, filtered or refused is not read at all.

    >>> from dermjudge.judge.rubric import load_rubric
    >>> answer = parse('Well argued. {"scores": {"Accuracy": 4, "Safety": "4/5"}}', load_rubric("derm6"))
    >>> [(score.value, score.state) for score in answer.scores.values()][:3]
    [(4.0, 'scored'), (None, 'unparsable'), (None, 'missing_dimension')]
    """
    if nonce is not None:
        _check_nonce(nonce)
    finish = finish_reason.strip().casefold()
    if finish not in _WHOLE:
        return _nothing(rubric, _STOPPED.get(finish, "unparsable"), f"finish_reason is '{finish_reason}'")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return _nothing(rubric, "unparsable", f"the answer is longer than {MAX_BYTES} bytes")
    if all(unicodedata.category(char)[0] in "CZ" for char in text):
        return _nothing(rubric, "api_error", "the answer is empty")
    text = without_reasoning(text)
    try:
        if nonce is not None:
            block = nonce_block(text, nonce)
        else:
            may_be_cut = finish == "" and rubric.scale.step < 1
            block = final_object(text) or final_lines(text, rubric.names, may_be_cut)
    except Unreadable as error:
        return _nothing(rubric, "unparsable", str(error))
    if block is not None:
        return _read(block, rubric)
    if declines(text):
        return _nothing(rubric, "refused", "the answer declines in prose")
    return _nothing(rubric, "unparsable", f"no score block {'with its nonce' if nonce else 'ends the answer'}")


def _check_nonce(nonce: str) -> None:
    if not re.fullmatch(r"[0-9A-Za-z]{6,64}", nonce):
        raise InputError(f"nonce {nonce!r} must be 6 to 64 letters and digits")


def _nothing(rubric: Rubric, state: State, reason: str) -> Answer:
    return Answer({name: Score(None, state, reason) for name in rubric.names}, {})


def _read(block: Block, rubric: Rubric) -> Answer:
    names = {name.lower(): name for name in rubric.names}
    notes = [f"unknown field '{key:.60}'" for key in block.unknown]
    given: dict[str, list[Any]] = {}
    for key, value in block.scores:
        if name := names.get(key.lower()):
            given.setdefault(name, []).append(value)
        else:
            notes.append(f"unknown dimension '{key:.60}'")
    # A complete last block replaces earlier ones; a partial one may be a quotation, so it replaces nothing.
    earlier = block.earlier if len(given) < len(names) else frozenset()
    scores = {}
    for name in rubric.names:
        if name not in given:
            scores[name] = Score(None, "missing_dimension", "the score block does not give it")
        elif len(given[name]) > 1 or name.lower() in earlier:
            scores[name] = Score(None, "unparsable", "given more than once")
        else:
            scores[name] = _score(given[name][0], rubric.scale)
    critique = {}
    for key, words in block.critique.items() if isinstance(block.critique, dict) else ():
        if (name := names.get(key.lower())) and isinstance(words, str):
            critique[name] = words
        else:
            notes.append(f"critique '{key:.60}' is not text about a dimension")
    summary = block.summary if isinstance(block.summary, str) else ""
    overall = float(block.overall) if _is_number(block.overall) and abs(block.overall) < 1e6 else None
    return Answer(scores, critique, summary, overall, tuple(notes))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _on(scale: Scale) -> str:
    return f"from {scale.low} to {scale.high} in steps of {scale.step:g}"


def _score(value: Any, scale: Scale) -> Score:
    if not _is_number(value):
        return Score(None, "unparsable", f"{repr(value)[:60]} is not a plain number")
    if not scale.low <= value <= scale.high:
        return Score(None, "out_of_scale", f"{value if abs(value) < 1e6 else 'the number'} is not {_on(scale)}")
    level = scale.low + round((value - scale.low) / scale.step) * scale.step
    if not math.isclose(value, level, rel_tol=1e-12):  # room for 0.1 + 0.2, none for 1e-290
        return Score(None, "out_of_scale", f"{value} is not {_on(scale)}")
    return Score(float(value) + 0.0)  # + 0.0 turns -0.0 into 0.0
