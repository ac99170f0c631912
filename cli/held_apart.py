"""The leakage guard of `train`: what is trained on against the folders that a judge is to be evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import output


def check_held_apart(folder: Path, plan: Any, not_in: Sequence[Path], allow: str = "") -> list[dict[str, Any]]:
    """Compare the recipe's split of `folder` with each benchmark folder; the entries for the card.

    InputError if anything is shared. Every picture is decoded, since only pixels tell a copy under another name.
    """
    from ..judge.backends.folder import base_name, read_card
    from ..judge.benchmark import load_benchmark
    from ..judge.errors import InputError
    from ..training.leakage import check_apart, data_names, sides

    if allow and not not_in:
        raise InputError("--allow-overlap gives a reason for what --not-in finds; name evaluation folders with it")
    if not not_in:
        return []
    benchmark, split = load_benchmark(folder), plan.data.split
    helds = [load_benchmark(path) for path in not_in]
    places = [sides(benchmark, split, held) for held in helds]
    found = _compare(benchmark, places[0][0], [(held, others) for held, (_, others) in zip(helds, places, strict=True)])
    names = [] if plan.base == "pretrained" else [base_name(Path(plan.base))]
    if plan.start:
        names += data_names(read_card(_start(plan.start)))
    return [
        check_apart(benchmark, split, held, alike=alike, names=names, allow=allow)
        for held, alike in zip(helds, found, strict=True)
    ]


def _start(start: str) -> Path:
    from ..judge.backends import embedded_folder

    return embedded_folder() / "judge" if start == "embedded" else Path(start)


def _compare(benchmark: Any, trained: Sequence[Any], helds: Sequence[tuple[Any, Sequence[Any]]]) -> list[Any]:
    """What is alike between the pictures trained on and those of each evaluation folder (`leakage.Alike`).

    Between two synthetic benchmarks only equal pixels count: rendered lesions of two patients are near by chance, and
    the patients' names tell for certain whose they are.
    """
    from ..benchmarks.audit_duplicates import find_duplicates, near_rows
    from ..benchmarks.near_pairs import LEAST_LIKENESS, MAX_DISTANCE
    from ..benchmarks.picture_prints import TURNS, print_pictures
    from ..training.leakage import Alike

    places: list[tuple[Path, str]] = []
    owner: list[int] = []  # -1: trained on; else the number of the evaluation folder
    for number, (bench, cases) in enumerate([(benchmark, trained), *helds], -1):
        where = bench.root
        paths = dict.fromkeys(image.path for case in cases for image in case.images)
        there = [
            path for path in paths if (where / path).is_file()
        ]  # a text-only benchmark names what it does not hold
        places += [(where, path) for path in there]
        owner += [number] * len(there)
    with output.progress("comparing pictures") as tick:
        prints = print_pictures(places, len(places), progress=tick)
    duplicates = find_duplicates(prints)
    pairs: dict[tuple[int, int], str] = {}

    rendered = [benchmark.synthetic and held.synthetic for held, _ in helds]

    def add(rows: Sequence[int], how: str, near: bool = True) -> None:
        first = {
            owner[row]: row for row in reversed(rows)
        }  # one of each side is enough, of a thousand placeholders too
        for number in range(len(helds)):
            if -1 in first and number in first and not (near and rendered[number]):
                pairs.setdefault((first[-1], first[number]), how)

    for group in duplicates.exact:
        add(group, "the same pixels", near=False)
    for one, other, turn, bits, likeness in near_rows(duplicates.near):
        rows = (*duplicates.members(one), *duplicates.members(other))
        add(rows, f"{TURNS[turn]}: {bits} bits of 64 differ, likeness {likeness:.3f}")
    rule = f"the same pixels, or at most {MAX_DISTANCE} bits of 64 and a likeness of {LEAST_LIKENESS:g}, in any turn"
    if duplicates.near.cut:
        rule += f"; only the {len(duplicates.near.first)} likest pairs were looked at"
    unread = sum(not read for read in prints.read)
    return [
        Alike(
            [(places[a][1], places[b][1], how) for (a, b), how in pairs.items() if owner[b] == number],
            owner.count(-1),
            owner.count(number),
            unread,
            "the same pixels (both are rendered)" if rendered[number] else rule,
        )
        for number in range(len(helds))
    ]
