"""The data sets that can be imported, and the one way in: read, check the pictures, write a benchmark folder.

To add a data set: a file with `read(root, **options) -> Bundle` and one entry in IMPORTERS.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from ..judge.benchmark import Benchmark, load_benchmark, write_benchmark
from ..judge.errors import InputError
from ..judge.records import Case, Image, identity
from ..judge.tablefile import Problem
from ..judge.tables import write_narratives, write_ratings
from . import dermbench, dermeval, ham10000, pad_ufes_20, tabular
from .bundle import Bundle
from .pictures import clean, without_metadata


@dataclass(frozen=True)
class Importer:
    """A data set of the catalogue. `layout`: whether `read` was tried on published files (verified), written after
    their documentation (documented), or neither (unverified); `read` is None for what is generated."""

    title: str
    size: str
    licence: str
    evaluates: str
    layout: Literal["verified", "documented", "unverified"]
    read: Callable[..., Bundle] | None


IMPORTERS: dict[str, Importer] = {
    "synthetic": Importer(
        "SYNTHETIC lesions and narratives with planted faults", "any number", "CC0-1.0",
        "everything, with known truth: judges, agreement, calibration, top-k, triage", "verified", None),
    "dermbench": Importer(
        "DermBench: DermNet cases with certified reference texts", "4,000 cases", dermbench.LICENCE,
        "reference-based judging, top-k; triage only as derived from the label; text only without the pictures",
        "verified", dermbench.read),
    "dermeval": Importer(
        "DermEval records: narratives with physicians' scores and critiques", "as given", "as given",
        "agreement with experts, training of judges", "documented", dermeval.read),
    "ham10000": Importer(
        "HAM10000: dermoscopy of pigmented lesions", "10,015 images, 7,470 lesions", ham10000.LICENCE,
        "top-k over seven classes, malignancy; derived triage; age, sex, site", "documented", ham10000.read),
    "pad_ufes_20": Importer(
        "PAD-UFES-20: phone photographs with clinical features", "2,298 images, 1,373 patients", pad_ufes_20.LICENCE,
        "top-k over six classes, several pictures per case, context; derived triage; skin type, age, sex, site",
        "documented", pad_ufes_20.read),
    "tabular": Importer(
        "any table (CSV, Parquet, JSONL) with a folder of images", "as given", "to be said",
        "whatever its columns hold", "verified", tabular.read),
}  # fmt: skip


@dataclass
class ImportReport:
    """What came in. `problems`: rows and pictures that were left out; `notes`: what to know of the rest."""

    benchmark: Benchmark
    images: int = 0
    narratives: int = 0
    ratings: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def import_dataset(name: str, src: str | Path | None, out: str | Path, /, **options: Any) -> ImportReport:
    """Read the data set `name` from `src` and write the benchmark folder `out`.

    Bad rows and pictures are listed and left out, the rest is imported. Pictures come out without metadata (see
    pictures.py), named after their case. InputError for an unknown name or option, if nothing is left, and if there
    are pictures but no licence is known.
    """
    if name not in IMPORTERS:
        raise InputError(f"unknown data set '{name}'; known: {', '.join(IMPORTERS)}")
    read = IMPORTERS[name].read
    if read is None:
        from .synthetic import generate

        _check_options(name, generate, options)
        drawn = generate(Path(out), **options)
        made = load_benchmark(out)
        return ImportReport(made, len(drawn.cases), len(drawn.narratives), len(drawn.ratings), notes=[made.notes])
    if src is None:
        raise InputError(f"say where the files of {name} lie")
    _check_options(name, read, options)
    return _write(read(src, **options), Path(out))


def _check_options(name: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.name not in ("root", "out")]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):  # its own model names what is unknown
        return
    if unknown := [option for option in options if option not in known]:
        raise InputError(f"{name} has no option '{unknown[0]}'; known: {', '.join(known) or 'none'}")


def _write(bundle: Bundle, out: Path) -> ImportReport:
    problems, notes = list(bundle.problems), list(bundle.notes)
    root = bundle.root or Path()
    sources: dict[str, tuple[str, str]] = {}  # new path -> (path below root, how it is cleaned)
    if bundle.root is not None and not bundle.licence:
        raise InputError(f"{bundle.name}: no licence is given, so its pictures are not copied; say licence=... "
                         "('internal' for your own data)")  # fmt: skip
    cases = [_placed(case, root, sources, problems) for case in bundle.cases]
    hows = Counter(how for _, how in sources.values())
    kept = [case for case in cases if case is not None]
    if not kept:
        first = f"; the first of {len(problems)} problems: {problems[0]}" if problems else ""
        raise InputError(f"{bundle.name}: nothing could be imported{first}")
    ids = {identity(case.id) for case in kept}
    narratives = [narrative for narrative in bundle.narratives if identity(narrative.case_id) in ids]
    ratings = [rating for rating in bundle.ratings if identity(rating.case_id) in ids]
    notes += [
        text.format(n=hows[how], of=len(sources)) for how, text in {
            "stripped": "{n} of {of} pictures carried metadata, which was taken off; no pixel changed.",
            "recoded": "{n} of {of} pictures were turned upright or converted and saved as PNG.",
        }.items() if hows[how]
    ]  # fmt: skip

    def tables(folder: Path) -> None:
        if narratives:
            write_narratives(narratives, folder / "narratives.jsonl")
        if ratings:
            write_ratings(ratings, folder / "ratings.parquet")

    def images() -> Iterator[tuple[str, bytes]]:
        for target, (source, how) in sources.items():
            plain = None if how == "recoded" else without_metadata((root / source).read_bytes())
            yield target, plain or clean(root, source).data

    made = write_benchmark(
        out, name=bundle.name, version=bundle.version, licence=bundle.licence, source=bundle.source,
        citation=bundle.citation, cases=kept, images=images(), notes="\n".join(notes), extra=tables)  # fmt: skip
    return ImportReport(made, len(sources), len(narratives), len(ratings), problems, notes)


def _placed(case: Case, root: Path, sources: dict[str, tuple[str, str]], problems: list[Problem]) -> Case | None:
    """The case with its pictures at their new paths; None if it had pictures and none is usable."""
    if not case.images:
        return case
    images: list[Image] = []
    for image in case.images:
        try:
            cleaned = clean(root, image.path)
        except InputError as error:
            problems.append(Problem(image.path, 0, case.id, str(error)))
            continue
        target = _target(case.id, len(images), cleaned.suffix, sources)
        sources[target] = (image.path, cleaned.how)
        images.append(replace(image, path=target))
    return replace(case, images=tuple(images)) if images else None


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
