"""What a run of scoring asks: which narrative beside whose pictures, in a fixed order, and the question itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .backends.base import Question
from .backends.replay import narrative_key
from .errors import InputError
from .files import sha256_file
from .images import prepare
from .probes import PROBES, Shown, choose_pictures
from .prompt import render
from .records import Case, Narrative, identity
from .rubric import Rubric


class Item(NamedTuple):
    """One planned question: a narrative of a case beside the pictures of `shown`, for the `repeat`-th time."""

    key: str
    case: Case
    narrative: Narrative
    shown: Shown
    repeat: int = 0


def plan(
    cases: Sequence[Case],
    narratives: Sequence[Narrative],
    probes: Sequence[str] = (),
    seed: int = 0,
    repeats: int = 1,
) -> list[Item]:
    """The questions of a run in their fixed order: all narratives, all again per repeat, then each probe over all."""
    if repeats < 1:
        raise InputError(f"every narrative is rated at least once, not {repeats} times")
    if unknown := [p for p in probes if p not in PROBES]:
        raise InputError(f"unknown probe '{unknown[0]}'; there are {', '.join(PROBES)}")
    known = {identity(case.id): case for case in cases}
    if missing := sorted({n.case_id for n in narratives if identity(n.case_id) not in known}):
        raise InputError(
            f"{len(missing)} narratives name cases that the benchmark does not have: {', '.join(missing[:5])}"
        )
    own = [known[identity(n.case_id)] for n in narratives]
    items = [Item(narrative_key(*n.key), case, n, Shown(case, "")) for n, case in zip(narratives, own, strict=True)]
    if len({identity(item.key) for item in items}) < len(items):
        double = [key for key, n in Counter(identity(i.key) for i in items).items() if n > 1]
        raise InputError(
            f"{len(double)} narratives stand twice (same case, system, arm, sample): {', '.join(double[:5])}"
        )
    for repeat in range(1, repeats):
        items += [item._replace(key=f"repeat-{repeat} {item.key}", repeat=repeat) for item in items[: len(narratives)]]
    for probe in probes:
        pictures = choose_pictures(cases, probe, seed)
        items += [
            Item(f"{probe} {narrative_key(*n.key)}", case, n, pictures[case.id])
            for n, case in zip(narratives, own, strict=True)
        ]
    return items


def case_by_case(items: Sequence[Item]) -> list[Item]:
    """Another order: each pass (own pictures with repeats, then each probe) by the case whose pictures are shown."""
    cases: dict[str, int] = {}
    passes: dict[str, int] = {}
    for item in items:
        cases.setdefault(item.shown.case.id, len(cases))
        passes.setdefault(item.shown.probe, len(passes))
    return sorted(items, key=lambda item: (passes[item.shown.probe], cases[item.shown.case.id]))


def ask(item: Item, rubric: Rubric, judge: Any, root: Path, seed: int, turn: int = 0) -> Question:
    """The question as this judge is asked it, with its pictures; InputError if it cannot be asked.

    `turn` counts how often it was asked before (see `Make`).
    """
    own = getattr(judge, "prompt", None)
    images = () if own and judge.blind else item.shown.case.images
    if judge.max_images is not None and len(images) > judge.max_images:
        raise InputError(f"the case has {len(images)} pictures and this judge takes {judge.max_images}")
    if item.shown.problem:
        raise InputError(item.shown.problem)
    pictures: tuple[Any, ...]
    if own:
        prompt = own(item.case, item.narrative, seed, turn)
        pictures = tuple(judge.picture(root, image.path, item.shown) for image in images)
    else:
        blind = getattr(judge, "blind", False)
        prompt = render(item.case, item.narrative, rubric, judge.form, seed=seed, pictures=not blind)
        pictures = tuple(item.shown.look(prepare(root, image.path).pixels) for image in images)
    return Question(item.key, prompt, pictures, item.repeat)


def pictures_hash(items: Sequence[Item], root: Path) -> str:
    """Which picture stands beside which text, and what is in each file; a file that cannot be read is named as such."""
    total, known = hashlib.sha256(), dict[str, str]()
    for item in items:
        for image in item.shown.case.images:
            if image.path not in known:
                inside = (root / image.path).resolve().is_relative_to(root.resolve()) and (root / image.path).is_file()
                known[image.path] = sha256_file(root / image.path) if inside else "unreadable"
            total.update(
                f"{item.key}|{item.shown.case.id}|{image.path}|{known[image.path]}\n".encode("utf-8", "replace")
            )
    return total.hexdigest()[:16]


def texts_hash(items: Sequence[Item], references: bool = False) -> str:
    """Which texts are judged beside which context (and reference, where a judge reads it)."""
    total = hashlib.sha256()
    for item in items:
        line = f"{item.key}|{item.narrative.hash}|{item.case.context}\n"
        line += f"{item.case.reference}\n" if references else ""
        total.update(line.encode("utf-8", "surrogatepass"))
    return total.hexdigest()[:16]
