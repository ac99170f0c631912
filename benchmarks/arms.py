"""Arms: what of a case a candidate is shown. The same model under several arms tells what each part is worth to it.

To add an arm: a function from (case, all cases, seed) to a View, and one entry in ARMS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..judge.errors import InputError
from ..judge.records import Case, Image


class View(NamedTuple):
    """What is shown of a case.

    `context`: None where the arm shows none, "" where it would and the case has none. `flags` go with the narrative;
    `problem`: why nothing can be asked (the narrative is skipped).
    """

    images: tuple[Image, ...] = ()
    context: str | None = None
    flags: tuple[str, ...] = ()
    problem: str = ""


Show = Callable[[Case, Sequence[Case], int], View]


def image_only(case: Case, cases: Sequence[Case] = (), seed: int = 0) -> View:
    """All pictures, no word about the patient."""
    return View(case.images) if case.images else _NO_PICTURE


def image_context(case: Case, cases: Sequence[Case] = (), seed: int = 0) -> View:
    """All pictures and the clinical context; a case without one is asked all the same, and flagged."""
    if not case.images:
        return _NO_PICTURE
    context = case.context.strip()
    return View(case.images, context, () if context else ("the case has no context",))


def text_only(case: Case, cases: Sequence[Case] = (), seed: int = 0) -> View:
    """The clinical context alone: what can be told without looking."""
    if not case.context.strip():
        return View(problem="the case has no context, and this arm shows nothing else")
    return View((), case.context.strip())


_NO_PICTURE = View(problem="the case has no picture")
ARMS: Mapping[str, Show] = {"image_only": image_only, "image_context": image_context, "text_only": text_only}
WITH_CONTEXT = frozenset({"image_context", "text_only"})
WITH_PICTURES = frozenset({"image_only", "image_context"})


def check_arms(names: Sequence[str]) -> tuple[str, ...]:
    """The names as given; InputError for none, an unknown one or one that stands twice.

    >>> check_arms(["image_only", "text_only"])
    ('image_only', 'text_only')
    """
    if unknown := [name for name in names if name not in ARMS]:
        raise InputError(f"unknown arm '{unknown[0]}'; there are {', '.join(ARMS)}")
    if not names or len(set(names)) < len(names):
        raise InputError(f"each arm is named once, of {', '.join(ARMS)}")
    return tuple(names)


def within(view: View, most: int | None, rule: str) -> View:
    """The view within an image budget of `most` pictures: too many are a problem ("skip"), or the first ones count.

    >>> within(View((Image("1.png"), Image("2.png"))), 1, "first").flags
    ('the first 1 of 2 pictures shown',)
    """
    if most is None or len(view.images) <= most:
        return view
    if rule == "skip":
        text = f"the case has {len(view.images)} pictures and this candidate takes {most}"
        return view._replace(problem=view.problem or text)
    flag = f"the first {most} of {len(view.images)} pictures shown"
    return view._replace(images=view.images[:most], flags=(*view.flags, flag))
