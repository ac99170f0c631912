"""The data sets that can be imported, and the one way in: read, check the pictures, write a benchmark folder.

To add a data set: a file with `read(root, **options) -> Bundle` and one entry in IMPORTERS.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..judge.benchmark import load_benchmark
from ..judge.errors import InputError
from . import dermbench, dermeval, ham10000, pad_ufes_20, tabular
from .bundle import Bundle
from .intake import ImportReport, Progress, write


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


def import_dataset(
    name: str,
    src: str | Path | None,
    out: str | Path,
    /,
    *,
    progress: Progress | None = None,
    threads: int | None = None,
    strict: bool = False,
    **options: Any,
) -> ImportReport:
    """Read the data set `name` from `src` and write the benchmark folder `out`.

    Bad rows and pictures are listed and left out, the rest is imported; strict refuses the whole instead. Pictures come
    out without metadata (see pictures.py), named after their case; they pass in a stream, several decoded at a time
    (threads; default: one a core, at most 8), and progress is called with (pictures done, pictures in all). InputError
    for an unknown name or option, if nothing is left, and if there are pictures but no licence is known.
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
    return write(read(src, **options), Path(out), progress=progress, threads=threads, strict=strict)


def _check_options(name: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.name not in ("root", "out")]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):  # its own model names what is unknown
        return
    if unknown := [option for option in options if option not in known]:
        raise InputError(f"{name} has no option '{unknown[0]}'; known: {', '.join(known) or 'none'}")
