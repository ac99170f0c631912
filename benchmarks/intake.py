"""From a data set as read to a benchmark folder: pictures pass in a stream, several decoded at a time.

What is held at once is the table, one short record a picture, and the few pictures in hand; so memory does not grow
with the pixels of a data set. The result does not depend on the number of threads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ..judge.benchmark import Benchmark, write_benchmark
from ..judge.errors import InputError
from ..judge.images import Stored, stored
from ..judge.records import Case, Image, identity
from ..judge.tablefile import LISTED, Problem, write_jsonl
from ..judge.tables import write_narratives, write_ratings
from .bundle import Bundle
from .parallel import in_order
from .pictures import Clean, cleaned
from .validate import split_problems

Progress = Callable[[int, int], object]  # pictures done, pictures in all


@dataclass
class ImportReport:
    """What came in. `problems`: rows and pictures that were left out; `notes`: what to know of the rest."""

    benchmark: Benchmark
    images: int = 0
    narratives: int = 0
    ratings: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write(
    bundle: Bundle,
    out: Path,
    *,
    progress: Progress | None = None,
    threads: int | None = None,
    strict: bool = False,
) -> ImportReport:
    """Write the benchmark folder `out` of a data set as read; it is there whole or not at all.

    A picture that is refused is listed, and a case that has none left is dropped; strict refuses the whole instead.
    progress is called with (pictures done, pictures in all). InputError if nothing is left, and if there are pictures
    but no licence is known.
    """
    if bundle.has_pictures and not bundle.licence:
        raise InputError(f"{bundle.name}: no licence is given, so its pictures are not copied; say licence=... "
                         "('internal' for your own data)")  # fmt: skip
    intake = _Intake(bundle, strict)
    intake.check()
    narratives, ratings = list(bundle.narratives), list(bundle.ratings)
    further = dict(bundle.tables)

    def finish() -> list[Case]:
        """What is only known once every picture was looked at."""
        kept = intake.cases()
        ids = {identity(case.id) for case in kept}
        narratives[:] = [narrative for narrative in narratives if identity(narrative.case_id) in ids]
        ratings[:] = [rating for rating in ratings if identity(rating.case_id) in ids]
        for name, rows in further.items():
            further[name] = [row for row in rows if "case_id" not in row or identity(row["case_id"]) in ids]
        return kept

    def tables(folder: Path) -> None:
        if narratives:
            write_narratives(narratives, folder / "narratives.jsonl")
        if ratings:
            write_ratings(ratings, folder / "ratings.parquet")
        for name, rows in further.items():
            write_jsonl(rows, folder / f"{name}.jsonl")

    made = write_benchmark(
        out, name=bundle.name, version=bundle.version, licence=bundle.licence, source=bundle.source,
        citation=bundle.citation, cases=finish,
        images=intake.pictures(progress, threads),
        notes=lambda: "\n".join(intake.notes), extra=tables)  # fmt: skip
    return ImportReport(made, len(intake.taken), len(narratives), len(ratings), intake.problems, intake.notes)


class _Job(NamedTuple):
    """One picture to come: of which case, the how-manieth, and how to get its bytes."""

    case: int
    number: int
    load: Callable[[], Stored]


class _Intake:
    """The state of one pass: which pictures were taken, which refused, which were seen before."""

    def __init__(self, bundle: Bundle, strict: bool):
        self.bundle, self.strict = bundle, strict
        self.problems, self.notes = list(bundle.problems), list(bundle.notes)
        self.taken: set[str] = set()  # paths in the new folder
        self._placed: dict[int, dict[int, Image]] = {}  # case -> number -> picture at its new path
        self._hows: Counter[str] = Counter()
        self._seen: dict[bytes, tuple[int, str]] = {}  # digest of a cleaned file -> (case, path) that had it first
        self._repeated: list[str] = []

    def check(self) -> None:
        if self.strict and self.problems:
            text = f"{len(self.problems)} rows or pictures are bad and strict was asked for; nothing was written:\n"
            listed = [str(problem) for problem in self.problems[:LISTED]]
            more = len(self.problems) - len(listed)
            raise InputError(text + "\n".join(listed + ([f"... and {more} more"] if more else [])))

    def pictures(self, progress: Progress | None, threads: int | None) -> Iterator[tuple[str, bytes]]:
        """(new path, bytes) of each picture that is taken, in the order of the cases."""
        total = sum(len(case.images) for case in self.bundle.cases)
        for done, (job, result) in enumerate(in_order(_look, self._jobs(), threads), 1):
            if isinstance(result, InputError):
                self._refuse(job, result)
            else:
                yield self._take(job, result), result.data
            if progress:
                progress(done, total)

    def _jobs(self) -> Iterator[_Job]:
        cases, root = self.bundle.cases, self.bundle.root
        if self.bundle.loaders is None:
            for k, case in enumerate(cases):
                for number, image in enumerate(case.images):
                    yield _Job(k, number, partial(stored, root or Path(), image.path))
            return
        wanted = {image.path: (k, n) for k, case in enumerate(cases) for n, image in enumerate(case.images)}
        for path, load in self.bundle.loaders():
            if place := wanted.pop(path, None):
                yield _Job(*place, partial(_loaded, path, load))
        for path, place in wanted.items():
            yield _Job(*place, partial(_absent, path))

    def _refuse(self, job: _Job, error: InputError) -> None:
        case = self.bundle.cases[job.case]
        self.problems.append(Problem(case.images[job.number].path, 0, case.id, str(error)))
        self.check()

    def _take(self, job: _Job, clean: Clean) -> str:
        case = self.bundle.cases[job.case]
        placed = self._placed.setdefault(job.case, {})
        path = _target(case.id, len(placed), clean.suffix, self.taken)
        placed[job.number] = replace(case.images[job.number], path=path)
        self.taken.add(path)
        self._hows[clean.how] += 1
        first, first_path = self._seen.setdefault(sha256(clean.data).digest(), (job.case, path))
        if first_path != path:
            splits = sorted({case.split, self.bundle.cases[first].split} - {""})
            across = f" in the splits {' and '.join(splits)}" if len(splits) > 1 else ""
            self._repeated.append(f"{first_path} ({self.bundle.cases[first].id}) and {path} ({case.id}){across}")
        return path

    def cases(self) -> list[Case]:
        """The cases with their pictures at the new paths; InputError if none is left. Completes the notes."""
        kept = []
        for k, case in enumerate(self.bundle.cases):
            placed = self._placed.get(k, {})
            if placed or not case.images:
                kept.append(replace(case, images=tuple(placed[number] for number in sorted(placed))))
        if not kept:
            first = f"; the first of {len(self.problems)} problems: {self.problems[0]}" if self.problems else ""
            raise InputError(f"{self.bundle.name}: nothing could be imported{first}")
        self.notes += [
            text.format(n=self._hows[how], of=len(self.taken)) for how, text in {
                "stripped": "{n} of {of} pictures carried metadata, which was taken off; no pixel changed.",
                "recoded": "{n} of {of} pictures were turned upright or converted and saved as PNG.",
            }.items() if self._hows[how]
        ]  # fmt: skip
        self.notes += _some("pictures repeat another", self._repeated)
        torn = [problem.message for problem in split_problems(kept) if problem.field != "split"]
        self.notes += _some("patients or lesions are in more than one split", torn)
        return kept


def _look(job: _Job) -> tuple[_Job, Clean | InputError]:
    """Read, decode whole and clean one picture; a refusal is a result, so that the others go on."""
    try:
        return job, cleaned(job.load())
    except InputError as error:
        return job, error


def _loaded(path: str, load: Callable[[], bytes]) -> Stored:
    data = load()
    return Stored(path, data, sha256(data).hexdigest())


def _absent(path: str) -> Stored:
    raise InputError(f"image {path!r}: the data set names it but does not hold it")


def _some(what: str, found: list[str]) -> list[str]:
    """A note that counts and names the first three."""
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return [f"{len(found)} {what}: {'; '.join(found[:3])}{more}"] if found else []


def _target(name: str, number: int, suffix: str, taken: Container[str]) -> str:
    """images/ID.jpg, images/ID-2.jpg ...: the case's id, so that no name of a file tells who the patient is."""
    stem = re.sub(r"(?i)\.(jpe?g|png|webp|tiff?)$", "", name)
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", stem).lstrip(".")[:80] or "case"
    if plain != stem:
        plain += "-" + sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    path = f"images/{plain}{f'-{number + 1}' if number else ''}{suffix}"
    if path in taken:
        path = f"images/{plain}-{number + 1}-{sha256(name.encode()).hexdigest()[:8]}{suffix}"
    return path
