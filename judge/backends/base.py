"""What a judge is to the rest of the program: it takes prompts and returns one answer each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..probes import Shown
from ..prompt import Form, Prompt
from ..records import Case, Narrative, Score


@dataclass(frozen=True, slots=True)
class Question:
    """One narrative to be scored: the prompt, the key it is journalled under, and its pictures (RGB, prepared).

    `repeat`: which of several independent ratings of one narrative this is for.
    """

    key: str
    prompt: Prompt
    pictures: tuple[Any, ...] = ()
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a judge said: a score or a typed state for every dimension of the rubric, and the words if there are any.

    `log`: what is journalled beside it and differs from run to run (seconds, tokens, raw replies); never exported.
    """

    scores: Mapping[str, Score]
    critique: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    cost: float | None = None
    flags: tuple[str, ...] = ()
    log: Mapping[str, Any] = field(default_factory=dict)


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


class Make(Protocol):
    """Renders one question and loads its pictures; InputError if that cannot be done."""

    def __call__(self, turn: int = 0) -> Question:
        """turn: 1, 2 ... for asking again, with another delimiter."""
        ...


class Part(NamedTuple):
    """One paid answer to a question that has not its final answer yet; journalled before anything else is asked.

    `sample`: which of the independent answers whose mean is the score; `turn`: how often it was asked before.
    """

    key: str
    sample: int
    turn: int
    data: Mapping[str, Any]


class Job(NamedTuple):
    """A question to be asked when its turn comes; `paid`: the parts of it that stand in the journal already."""

    key: str
    make: Make
    paid: Sequence[Part] = ()


class Streaming(Judge, Protocol):
    """A judge that takes questions as it can ask them, and answers in any order.

    `blind`: it is shown no picture.
    """

    @property
    def blind(self) -> bool: ...

    def prompt(self, case: Case, narrative: Narrative, seed: int, turn: int) -> Prompt:
        """What is asked about one narrative; InputError if it cannot be."""
        ...

    def picture(self, root: Path, path: str, shown: Shown) -> Any:
        """A picture as this judge is shown it; InputError if it cannot be."""
        ...

    def stream(self, jobs: Iterable[Job]) -> Iterator[list[tuple[str, Answer] | Part]]:
        """Answers and parts as they come, in lists; the next list is made once the one before is on the disk.

        `jobs` is pulled lazily, and each job's `make` runs in a worker thread. Closing the iterator ends the calls.
        """
        ...
