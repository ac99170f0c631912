"""Everything that is wrong with a benchmark folder, at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from ..evaluators.terms import load_terms
from ..judge.benchmark import CARD, CASES, check_hashes, load_card
from ..judge.errors import InputError
from ..judge.images import MAX_PIXELS, reduced, stored
from ..judge.records import Case, identity
from ..judge.tablefile import ENDINGS, Problem
from ..judge.tables import read_cases, read_narratives, read_ratings
from .bundle import unknown_label
from .parallel import in_order
from .validate_questions import question_problems


def validate(folder: str | Path) -> list[Problem]:
    """All problems of a benchmark folder; an empty list if there is none.

    Looked at: benchmark.yaml (keys, licence, hashes of every file), cases.jsonl (fields, ids, urgencies), splits
    (a patient, a lesion or a picture in two of them, cases without one), labels (with the closest terms), images
    (there, readable, the same pixels under two cases), narratives and ratings (known cases), questions and gold answers
    (known cases and questions, options). `line` is 0 where the reading of a file already names lines in the message.
    InputError if `folder` is no folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; a benchmark is a folder with {CARD}, {CASES} and images/")
    problems: list[Problem] = []
    try:
        card = load_card(folder)
        if not card.licence.strip():
            problems.append(Problem(CARD, 0, "licence", "is missing; without one nobody may pass the pictures on"))
        problems += [Problem(path, 0, "", text) for path, text in check_hashes(folder)]
    except InputError as error:
        problems += _lines(CARD, error)
    try:
        cases = read_cases(folder / CASES)
    except InputError as error:
        return problems + _lines(CASES, error)
    problems += _labels(cases)
    problems += split_problems(cases)
    problems += _images(folder, cases)
    problems += _tables(folder, cases)
    problems += question_problems(folder, cases)
    return problems


def _lines(file: str, error: InputError) -> list[Problem]:
    return [Problem(file, 0, "", line) for line in str(error).splitlines()]


def _labels(cases: Iterable[Case]) -> list[Problem]:
    terms = load_terms()
    where: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        for label in (*case.diagnosis, *(candidate.name for candidate in case.differential)):
            if terms.find(label) is None and case.id not in where[label]:
                where[label].append(case.id)
    return [Problem(CASES, 0, f"diagnosis of {_some(ids)}", unknown_label(label, terms)) for label, ids in where.items()
            if ids]  # fmt: skip


def split_problems(cases: Sequence[Case]) -> list[Problem]:
    """Cases without a split while others have one, and patients or lesions that are in more than one."""
    problems = []
    unassigned = [case.id for case in cases if not case.split]
    if 0 < len(unassigned) < len(cases):
        problems.append(Problem(CASES, 0, "split", f"is missing for {_some(unassigned)}, while others have one"))
    for name in ("patient_id", "lesion_id"):
        groups: dict[str, dict[str, str]] = defaultdict(dict)
        for case in cases:
            # Lesions may be numbered anew for each patient, and one patient's lesions are covered by the patient.
            group = "" if name == "lesion_id" and case.patient_id else getattr(case, name)
            if group and case.split:
                groups[identity(group)].setdefault(case.split, case.id)
        for group, splits in groups.items():
            if len(splits) > 1:
                told = ", ".join(f"{split} ({case})" for split, case in splits.items())
                problems.append(Problem(CASES, 0, name, f"'{group}' is in more than one split: {told}"))
    return problems


def _images(folder: Path, cases: Iterable[Case]) -> list[Problem]:
    problems = []
    shown: dict[str, list[tuple[Case, str]]] = defaultdict(list)
    wanted = [(case, image.path) for case in cases for image in case.images]
    digests = in_order(partial(_pixels, folder), (path for _, path in wanted))
    for (case, path), found in zip(wanted, digests, strict=True):
        if isinstance(found, InputError):
            problems.append(Problem(CASES, 0, case.id, str(found)))
        else:
            shown[found].append((case, path))
    for places in shown.values():
        if len(places) < 2:
            continue
        splits = sorted({case.split for case, _ in places} - {""})
        across = f", and in the splits {', '.join(splits)}" if len(splits) > 1 else ""
        told = ", ".join(f"{path} ({case.id})" for case, path in places[:5])
        problems.append(Problem(CASES, 0, "images", f"the same picture stands {len(places)} times{across}: {told}"))
    return problems


def _pixels(folder: Path, path: str) -> str | InputError:
    """The digest of a picture's pixels as a judge sees them; nothing is kept of it."""
    try:
        return reduced(stored(folder, path), MAX_PIXELS).pixel_sha256
    except InputError as error:
        return error


def _tables(folder: Path, cases: Iterable[Case]) -> list[Problem]:
    problems: list[Problem] = []
    known = {identity(case.id) for case in cases}
    for ending in ENDINGS:
        for name in ("narratives", "ratings"):
            path = folder / f"{name}{ending}"
            if not path.is_file():
                continue
            try:
                ids = ([n.case_id for n in read_narratives(path)] if name == "narratives"
                       else read_ratings(path, notes=[])["case_id"].unique(maintain_order=True).to_list())  # fmt: skip
            except InputError as error:
                problems += _lines(path.name, error)
                continue
            if strange := list(dict.fromkeys(i for i in ids if identity(i) not in known)):
                problems.append(Problem(path.name, 0, "case_id", f"{_some(strange)} is no case of this benchmark"))
    return problems


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
