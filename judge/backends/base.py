"""What a judge is to the rest of the program: it takes prompts and returns one answer each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..prompt import Form, Prompt
from ..records import Score


@dataclass(frozen=True, slots=True)
class Question:
    """One narrative to be scored: the prompt, the key it is journalled under, and its pictures (RGB, prepared)."""

    key: str
    prompt: Prompt
    pictures: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a judge said: a score or a typed state for every dimension of the rubric, and the words if there are any."""

    scores: Mapping[str, Score]
    critique: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    cost: float | None = None
    flags: tuple[str, ...] = ()


class Judge(Protocol):
    """A judge for one rubric.

    `form` is the prompt form it wants, `batch_size` how many questions it takes at once (fixed by the plan, since the
    composition of a batch moves scores), `max_images` how many pictures a case may have, `signature` everything that
    moves its scores, `notes` what a report must say about it (labels such as SYNTHETIC).
    """

    @property
    def name(self) -> str: ...
    @property
    def form(self) -> Form: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def max_images(self) -> int | None: ...
    @property
    def signature(self) -> Mapping[str, Any]: ...
    @property
    def notes(self) -> Sequence[str]: ...

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order; never raises for a single bad answer, which is a state."""
        ...
