"""Arms: what of a case a candidate is shown. The same model under several arms tells what each part is worth to it.

To add an arm: a function from (case, all cases, seed) to a View, and one entry in ARMS. Every such plain arm has
variants, "ARM-KIND:VALUE": a context field missing or wrong, fewer pictures, pictures made worse (see `VARIANTS`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from ..judge.errors import InputError
from ..judge.records import Case, Image, identity
from .context_edits import FIELDS, contradict, without
from .degraded_pictures import DOSES, KINDS, degraded_path


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
_CONTEXT, _PICTURES = ("image_context", "text_only"), ("image_only", "image_context")
MOST_PICTURES = 16  # the longest case of the field has so many


def missing_field(base: str, field: str, case: Case, cases: Sequence[Case] = (), seed: int = 0) -> View:
    """The plain arm with a context field taken out; a case whose context does not name it is not asked."""
    edit = without(case, field)
    view = ARMS[base](replace(case, context=edit.text), cases, seed)
    if edit.problem:
        return View(problem=view.problem or edit.problem)
    return view._replace(flags=(*view.flags, f"context without {field}: {_quoted(edit.was)}"))


def wrong_field(base: str, field: str, case: Case, cases: Sequence[Case] = (), seed: int = 0) -> View:
    """The plain arm with a context field that contradicts the true one; where that cannot be, the case is not asked."""
    edit = contradict(case, field, seed)
    view = ARMS[base](replace(case, context=edit.text), cases, seed)
    if edit.problem:
        return View(problem=view.problem or edit.problem)
    return view._replace(flags=(*view.flags, f"context with wrong {field}: {_quoted(edit.was)} -> {_quoted(edit.now)}"))


def fewer_pictures(base: str, count: str, case: Case, cases: Sequence[Case] = (), seed: int = 0) -> View:
    """The plain arm with so many of the case's pictures, drawn by seed and case; one that has no more is not asked."""
    view, most = ARMS[base](case, cases, seed), int(count)
    if view.problem or len(view.images) <= most:
        there = f"the case has no more than {most} {'picture' if most == 1 else 'pictures'}, so none would be left out"
        return View(problem=view.problem or there)

    def draw(place: int) -> bytes:
        return hashlib.sha256(f"{seed}|{identity(case.id)}|{place}".encode("utf-8", "surrogatepass")).digest()

    kept = sorted(sorted(range(len(view.images)), key=draw)[:most])
    flag = f"{'picture' if most == 1 else 'pictures'} {', '.join(str(k + 1) for k in kept)} of {len(view.images)}"
    return view._replace(images=tuple(view.images[k] for k in kept), flags=(*view.flags, flag))


def worse_pictures(base: str, kind: str, dose: str, case: Case, cases: Sequence[Case] = (), seed: int = 0) -> View:
    """The plain arm with every picture degraded; `degraded_pictures.sent` makes it when it is asked for."""
    view = ARMS[base](case, cases, seed)
    images = tuple(replace(image, path=degraded_path(image.path, kind, int(dose))) for image in view.images)
    told = f"pictures degraded: {kind}, dose {dose} ({KINDS[kind].what}: {KINDS[kind].values[int(dose) - 1]:g})"
    return view._replace(images=images, flags=(*view.flags, told) if images else view.flags)


def _quoted(texts: Sequence[str]) -> str:
    return ", ".join(f"'{text}'" for text in texts)


class Variant(NamedTuple):
    """A kind of variant: the plain arms that have it, its values, its view of (base, value, case, cases, seed)."""

    bases: tuple[str, ...]
    values: tuple[str, ...]
    show: Callable[..., View]


VARIANTS: Mapping[str, Variant] = {
    "missing": Variant(_CONTEXT, FIELDS, missing_field),
    "wrong": Variant(_CONTEXT, FIELDS, wrong_field),
    "images": Variant(_PICTURES, tuple(str(k) for k in range(1, MOST_PICTURES)), fewer_pictures),
    **{kind: Variant(_PICTURES, tuple(map(str, DOSES)), lambda base, dose, *rest, kind=kind:
                     worse_pictures(base, kind, dose, *rest)) for kind in KINDS},
}  # fmt: skip


class _Arms(dict[str, Show]):
    """The plain arms by name; looking up a variant's name gives its function."""

    def __missing__(self, name: str) -> Show:
        return parse_arm(name).show


class Arm(NamedTuple):
    """What an arm's name says; `kind` and `value` are "" in a plain arm."""

    name: str
    base: str
    kind: str
    value: str
    show: Show


def parse_arm(name: str) -> Arm:
    """Read an arm's name; InputError for an unknown one, with those that there are.

    >>> parse_arm("image_context-wrong:site")[1:4]
    ('image_context', 'wrong', 'site')
    """
    base, dash, rest = name.partition("-")
    kind, _, value = rest.partition(":")
    if not dash and base in ARMS:
        return Arm(name, base, "", "", ARMS[base])
    variant = VARIANTS.get(kind)
    if variant is None or base not in variant.bases or value not in variant.values:
        raise InputError(f"unknown arm '{name}'; there are {arm_names()}")
    return Arm(name, base, kind, value, partial(variant.show, base, value))


def arm_names() -> str:
    """All arms in words.

    >>> arm_names().split("; ")[::2]
    ['image_only, image_context, text_only', 'image_only or image_context with -images:1 to 15']
    """
    kinds: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for kind, (bases, values, _) in VARIANTS.items():
        shown = "|".join(values) if kind != "images" else f"1 to {values[-1]}"
        kinds.setdefault((bases, shown), []).append(kind)
    said = (f"{' or '.join(bases)} with {' or '.join(f'-{kind}:{values}' for kind in named)}"
            for (bases, values), named in kinds.items())  # fmt: skip
    return "; ".join([", ".join(ARMS), *said])


ARMS: Mapping[str, Show] = _Arms(image_only=image_only, image_context=image_context, text_only=text_only)


def _with(bases: tuple[str, ...]) -> frozenset[str]:
    made = [f"{base}-{kind}:{value}" for kind, v in VARIANTS.items() for base in v.bases for value in v.values]
    return frozenset(name for name in (*ARMS, *made) if name.partition("-")[0] in bases)


WITH_CONTEXT = _with(_CONTEXT)
WITH_PICTURES = _with(_PICTURES)


def check_arms(names: Sequence[str]) -> tuple[str, ...]:
    """The names as given; InputError for none, an unknown one or one that stands twice.

    >>> check_arms(["image_only", "text_only"])
    ('image_only', 'text_only')
    """
    for name in names:
        parse_arm(name)
    if not names or len(set(names)) < len(names):
        raise InputError(f"each arm is named once, of {arm_names()}")
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
