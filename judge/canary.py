"""A few fixed questions asked before and after a run: did the judge behind the name change meanwhile?

All of it is synthetic: pictures are drawn here, texts are ours. It is a trip wire, not a test: so few questions see a
large change only, and a changed model id or fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from .backends.base import Answer, Job, Judge, Part, Question
from .errors import InputError
from .prompt import render
from .records import Case, Image, Narrative, Score
from .rubric import Rubric

_COLOURS = {"dark": ((224, 184, 160), (70, 45, 40)), "red": ((235, 200, 180), (190, 80, 75))}
_REFERENCE = {
    "dark": "A single round dark brown patch with a sharp, even border and one colour. Most likely a benign naevus; "
    "lentigo and early melanoma are less likely. Document it and look again in three months; no urgent referral.",
    "red": "A single round red patch on light skin, with an even border and without scale or crust. Most likely "
    "a localised dermatitis; tinea and early psoriasis are less likely. A mild topical steroid; review in two weeks.",
}
_TEXTS = (  # from good to useless, so that both ends of the scale are watched
    ("good", "dark", _REFERENCE["dark"]),
    ("short", "dark", "A brown mole, harmless."),
    ("wrong", "dark", "Widespread blisters on both legs. Pemphigus is certain; start high-dose steroids today."),
    ("mixed", "red", "A red patch with thick silvery scale. Psoriasis; dermatitis is possible. A steroid cream."),
    ("good red", "red", _REFERENCE["red"]),
    ("empty words", "red", "The picture shows skin. More information would be needed to say anything."),
)  # fmt: skip
NAMES = tuple(name for name, _, _ in _TEXTS)


@dataclass(frozen=True)
class Drift:
    """How a judge's answers to the canary differ after a run from those before.

    `n`: scores that both have; `mean`, `largest`: signed mean and largest absolute difference in scale units, None
    without any; `states`: dimensions whose state differs; `models`: model ids and fingerprints seen, before and after.
    """

    n: int
    mean: float | None
    largest: float | None
    states: int
    models: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def same(self) -> bool:
        """Not a single score, state, model id or fingerprint differs."""
        return not self.states and not self.largest and self.models[0] == self.models[1]

    def note(self) -> str:
        """One line for reports."""
        if self.same:
            return f"canary: the judge answered {self.n} scores after the run as before it"
        parts = []
        if self.largest:
            parts.append(f"scores differ by {self.mean:+.2f} on average, {self.largest:.2f} at most (n = {self.n})")
        if self.states:
            parts.append(f"{self.states} scores are there only before or only after it, or fail otherwise")
        if self.models[0] != self.models[1]:
            parts.append("another model id or fingerprint answered")
        return f"canary: the judge is not the same after the run as before it: {'; '.join(parts)}"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "models": [list(names) for names in self.models], "note": self.note()}


def ask_canary(judge: Judge, rubric: Rubric, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Ask every question of the canary once; returns what to journal, by name.

    A question that this judge cannot be asked ends in its state like any other.
    """
    makes = {name: partial(_question, judge, rubric, name, colour, text, seed) for name, colour, text in _TEXTS}
    stream = getattr(judge, "stream", None)
    if stream:
        found = _streamed(stream(Job(name, make) for name, make in makes.items()))
    else:
        found = {name: judge.answer([make()])[0] for name, make in makes.items()}
    return {name: _plain(found[name], rubric) for name in NAMES}


def compare(before: Mapping[str, Any], after: Mapping[str, Any], rubric: Rubric) -> Drift:
    """Two times the canary, as `ask_canary` gave them; InputError unless both have answered all of it."""
    if set(before) != set(NAMES) or set(after) != set(NAMES):
        raise InputError("the canary was not asked whole before and after the run, so nothing can be compared")
    shifts, states = [], 0
    for name in NAMES:
        for dimension in rubric.names:
            (first, state), (second, other) = (side[name]["scores"][dimension] for side in (before, after))
            states += state != other
            if first is not None and second is not None:
                shifts.append(second - first)
    return Drift(
        len(shifts),
        sum(shifts) / len(shifts) if shifts else None,
        max(map(abs, shifts)) if shifts else None,
        states,
        (_models(before), _models(after)),
    )


def _question(judge: Any, rubric: Rubric, name: str, colour: str, text: str, seed: int, turn: int = 0) -> Question:
    case = Case("canary", (Image("canary.png"),), context="58 years, left forearm.", reference=_REFERENCE[colour])
    narrative = Narrative("canary", "canary", text)
    blind = getattr(judge, "blind", False)
    if own := getattr(judge, "prompt", None):
        prompt = own(case, narrative, seed, turn)
    else:
        prompt = render(case, narrative, rubric, judge.form, seed=seed, pictures=not blind)
    pictures = () if blind else (_draw(colour),)
    return Question(name, prompt, pictures)


def _draw(colour: str) -> Any:
    from PIL import Image as Pillow
    from PIL import ImageDraw

    skin, lesion = _COLOURS[colour]
    picture = Pillow.new("RGB", (192, 192), skin)
    ImageDraw.Draw(picture).ellipse((56, 60, 136, 132), fill=lesion)
    return picture


def _streamed(lists: Iterable[list[tuple[str, Answer] | Part]]) -> dict[str, Answer]:
    return {one[0]: one[1] for found in lists for one in found if not isinstance(one, Part)}


def _plain(answer: Answer, rubric: Rubric) -> dict[str, Any]:
    scores: Mapping[str, Score] = answer.scores
    plain = {name: [scores[name].value, scores[name].state] for name in rubric.names}
    return {"scores": plain, "text": answer.text, "log": dict(answer.log)}


def _models(side: Mapping[str, Any]) -> tuple[str, ...]:
    calls = (call for row in side.values() for call in row["log"].get("calls", ()))
    return tuple(sorted({f"{call['model']} {call['fingerprint']}".strip() for call in calls} - {""}))
