"""From a reply to scores: which answer counts when a judge was asked more than once, and what several come to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..blocks import without_reasoning
from ..calls.chat import Reply
from ..errors import InputError
from ..parse import parse
from ..records import Score, State
from ..rubric import Rubric, Scale
from .chances import MASS_FLOOR, expected_scores

Read = Literal["written", "expected"]
READS: tuple[Read, ...] = Read.__args__  # type: ignore[attr-defined]
MALFORMED: frozenset[State] = frozenset({"unparsable", "missing_dimension", "out_of_scale"})


@dataclass(frozen=True, slots=True)
class Reading:
    """One reply as read: scores or states, and the judge's words.

    `readable`: every dimension has a written number on the scale. `malformed`: it has not, and asking again may help.
    """

    scores: Mapping[str, Score]
    critique: Mapping[str, str]
    text: str
    readable: bool = False
    malformed: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {
            "scores": {name: list(score) for name, score in self.scores.items()},
            "critique": dict(self.critique),
            "text": self.text,
            "readable": self.readable,
            "malformed": self.malformed,
        }

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> Reading:
        scores = {
            name: Score(value, state, reason, None if chances is None else tuple(chances), mass)
            for name, (value, state, reason, chances, mass) in row["scores"].items()
        }
        return Reading(scores, row["critique"], row["text"], row["readable"], row["malformed"])


class NoChances(InputError):
    """Expected scores were asked for, and the answers come without log-probabilities."""

    def __init__(self, judge: str):
        super().__init__(
            f"{judge} answers without token log-probabilities, from which expected scores are read; take the written "
            "numbers (read='written'), the mean of several answers (samples=5), or a server that gives them"
        )


def asked_rubric(rubric: Rubric, read: Read) -> Rubric:
    """The rubric as a judge is asked with it: for expected scores in whole levels, each of which is one digit."""
    if read == "written" or rubric.scale.step == 1:
        return rubric
    return rubric.model_copy(update={"scale": Scale(levels=rubric.scale.levels, step=1)})


def read_reply(reply: Reply, rubric: Rubric, nonce: str | None, read: Read, schema: bool = False) -> Reading:
    """Read one reply strictly, as `parse` does; never raises for what a model may write.

    `nonce`: of the block that was asked for; None where the prompt asked for a form of its own. `schema`: the whole
    text must be one JSON object. With read "expected" the scores are expected values over the scale's levels; a reply
    without log-probabilities is then an `api_error`.
    """
    if reply.refusal.strip():
        return _nothing(rubric, reply.text, "refused", "the provider says that the model refused")
    answer = parse(reply.text, rubric, reply.finish_reason, nonce)
    scores = answer.scores
    states = {score.state for score in scores.values()}
    if schema and "scored" in states and not _one_object(reply.text):
        return _nothing(rubric, reply.text, "unparsable", "the answer is more than the one JSON object of the schema")
    malformed = bool(states & MALFORMED) or states == {"api_error"}  # an empty answer, too
    if read == "expected" and "scored" in states:
        if reply.logprobs is None:
            return _nothing(rubric, reply.text, "api_error", "no token log-probabilities came with the answer")
        scores = expected_scores(reply.text, reply.logprobs, scores, rubric.scale.levels, nonce, MASS_FLOOR)
    return Reading(scores, answer.critique, reply.text, states == {"scored"}, malformed)


def choose(readings: Sequence[Reading]) -> Reading:
    """The reading that counts of one question asked again: the first readable one.

    Without one: the call that failed, if one did (it can be made again), else the first with most scores. Never a
    mixture: all scores come from one answer.
    """

    def rank(reading: Reading) -> tuple[bool, bool, int]:
        states = [score.state for score in reading.scores.values()]
        return reading.readable, not reading.malformed and "api_error" in states, states.count("scored")

    return max(readings, key=rank)


def mean_of(samples: Sequence[Reading], rubric: Rubric) -> dict[str, Score]:
    """Per dimension the mean over independent answers; all of them must have a score, else the first state counts.

    Distributions and masses are averaged as well, where every answer has one.
    """
    if len(samples) == 1:
        return dict(samples[0].scores)
    result = {}
    for name in rubric.names:
        scores = [sample.scores[name] for sample in samples]
        values = [score.value for score in scores if score.value is not None]
        if len(values) < len(scores):
            first = next(score for score in scores if score.value is None)
            reason = f"{len(values)} of {len(scores)} answers give a score, all are needed: {first.reason}"
            result[name] = Score(None, first.state, reason)
            continue
        chances = [score.distribution for score in scores if score.distribution is not None]
        masses = [score.mass for score in scores if score.mass is not None]
        result[name] = Score(
            sum(values) / len(values),
            distribution=tuple(sum(column) / len(chances) for column in zip(*chances, strict=True))
            if len(chances) == len(scores)
            else None,
            mass=sum(masses) / len(masses) if len(masses) == len(scores) else None,
        )
    return result


def failed(rubric: Rubric, state: State, reason: str) -> Reading:
    """A call that ended without a reply."""
    return _nothing(rubric, "", state, reason)


def _nothing(rubric: Rubric, text: str, state: State, reason: str) -> Reading:
    scores = dict.fromkeys(rubric.names, Score(None, state, reason))
    return Reading(scores, {}, text, malformed=state in MALFORMED)


def _one_object(text: str) -> bool:
    try:
        return isinstance(json.loads(without_reasoning(text).strip()), dict)
    except (ValueError, RecursionError):
        return False
