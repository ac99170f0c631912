"""The data sets that can be imported, and the one way in: read, check the pictures, write a benchmark folder.

To add a data set: a file with `read(root, **options) -> Bundle` and one entry in IMPORTERS. Pictures are read by
intake.py, in a stream; an importer only says where they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..judge.benchmark import load_benchmark
from ..judge.errors import InputError
from . import (
    bcn20000,
    ddi,
    derm1m,
    derm12345,
    dermabench,
    dermamnist,
    dermavqa,
    dermavqa_das,
    dermbench,
    dermeval,
    fitzpatrick17k,
    ham10000,
    huggingface,
    isic_2020,
    isic_2024,
    isic_archive,
    isic_challenges,
    milk10k,
    mm_skin,
    pad_ufes_20,
    scin,
    skincap,
    skincot,
    tabular,
)
from .bundle import Bundle
from .intake import ImportReport, Progress, write


@dataclass(frozen=True)
class Importer:
    """A data set of the catalogue. `evaluates`: what it has truth for, and the subgroups that can be told apart.

    `layout`: whether column names and values were read in published files or in the publisher's own reader (verified),
    in documentation and others' readers (documented), or in neither (unverified): a test on a fixture that was written
    from a guess certifies the guess. `read` is None for what is generated.
    """

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
        "top-k over 7 classes; derived triage; by age, sex, site", "verified", ham10000.read),
    "pad_ufes_20": Importer(
        "PAD-UFES-20: phone photographs with clinical features", "2,298 images, 1,373 patients", pad_ufes_20.LICENCE,
        "top-k over 6 classes, several pictures a case, context; derived triage; by skin type, age, sex, site",
        "verified", pad_ufes_20.read),
    "isic_2018": Importer(
        "ISIC 2018 task 3: dermoscopy, seven classes", "10,015 + 193 + 1,512 images", isic_challenges.LICENCE,
        "top-k over 7 classes; derived triage; no subgroups", "documented", isic_challenges.read_2018),
    "isic_2019": Importer(
        "ISIC 2019: dermoscopy, eight classes", "25,331 images", isic_challenges.LICENCE,
        "top-k over 8 classes; derived triage; by age, sex, site", "verified", isic_challenges.read_2019),
    "isic_2020": Importer(
        "ISIC 2020: dermoscopy of melanoma suspects", "33,126 images, 2,056 patients", isic_2020.LICENCE,
        "malignancy; top-k only for the 6,000 with a diagnosis; derived triage; by age, sex, site, patient",
        "verified", isic_2020.read),
    "isic_2024": Importer(
        "ISIC 2024 (SLICE-3D): crops of total-body photographs", "401,059 images, 1,042 patients",
        "per image: CC0, CC BY, CC BY-NC", "malignancy; top-k only for the 1,000 with a diagnosis; derived triage; "
        "by age, sex, site, patient", "documented", isic_2024.read),
    "isic_archive": Importer(
        "a download of the ISIC archive (metadata.csv)", "as given", "per image: CC0, CC BY, CC BY-NC",
        "top-k, malignancy; derived triage; by age, sex, site, modality, skin type where given", "documented",
        isic_archive.read),
    "hiba": Importer(
        "HIBA: lesions of Buenos Aires, dermoscopic and clinical", "1,616 images", "per image: CC0, CC BY, CC BY-NC",
        "top-k, malignancy, several pictures a case; derived triage; by skin type, age, sex, site, modality",
        "documented", isic_archive.read_hiba),
    "milk10k": Importer(
        "MILK10k: each lesion as a clinical and a dermoscopic picture", "5,240 lesions, 10,480 images",
        "per image: CC BY-NC", "top-k over 11 classes, malignancy, two modalities a case; derived triage; by age, sex, "
        "site, skin tone (own scale)", "verified", milk10k.read),
    "bcn20000": Importer(
        "BCN20000: dermoscopy of the Hospital Clinic, Barcelona", "18,946 images", bcn20000.LICENCE,
        "top-k over 8 classes; derived triage; by age, sex, site", "documented", bcn20000.read),
    "derm12345": Importer(
        "DERM12345: dermoscopy in a tree of classes", "12,345 images", derm12345.LICENCE,
        "top-k over 40 classes at four levels, malignancy; derived triage; no subgroups", "documented", derm12345.read),
    "dermamnist": Importer(
        "DermaMNIST: HAM10000 at 28 to 224 pixels (.npz)", "10,015 images", ham10000.LICENCE,
        "top-k over 7 classes; derived triage; no subgroups", "verified", dermamnist.read),
    "fitzpatrick17k": Importer(
        "Fitzpatrick17k: clinical pictures of two atlases", "16,577 images", fitzpatrick17k.LICENCE,
        "top-k over 114 labels; derived triage; by skin type (crowd workers)", "verified", fitzpatrick17k.read),
    "ddi": Importer(
        "DDI: clinical pictures proven by biopsy", "656 images, 570 patients", ddi.LICENCE,
        "top-k over 77 labels, malignancy; derived triage; by skin band", "verified", ddi.read),
    "dermabench": Importer(
        "DermaBench: closed and open questions on DDI", "656 images, 22 questions", "DDI's; answers: see their record",
        "closed questions, top-k, malignancy; derived triage; by skin band", "unverified", dermabench.read),
    "scin": Importer(
        "SCIN: phone pictures given by patients", "5,033 cases, over 10,000 images", scin.LICENCE,
        "weighted differential, 1 to 3 pictures a case, context; derived triage; by skin type (self, dermatologist), "
        "Monk tone, age group, sex, site", "verified", scin.read),
    "skincap": Importer(
        "SkinCAP: dermatologists' captions on Fitzpatrick17k and DDI", "4,000 images", skincap.LICENCE,
        "reference-based judging, top-k; derived triage; skin type, malignancy where a copy has them", "documented",
        skincap.read),
    "skincot": Importer(
        "SkinCoT: DermNet pictures with certified reasoning texts", "3,041 cases", skincot.LICENCE,
        "reference-based judging, top-k; derived triage; no subgroups", "documented", skincot.read),
    "dermavqa_iiyi": Importer(
        "DermaVQA iiyi: consultations with physicians' replies", "998 encounters, 2,944 images", dermavqa.LICENCE,
        "reference-based judging, several pictures a case, context; no gold diagnosis; age, sex, site in part",
        "verified", dermavqa.read),
    "dermavqa_reddit": Importer(
        "DermaVQA reddit: posts with annotators' replies", "585 posts, fewer with time", dermavqa.REDDIT_LICENCE,
        "reference-based judging, context; no gold diagnosis; no subgroups", "documented", dermavqa.read_reddit),
    "dermavqa_das": Importer(
        "DermaVQA-DAS: closed questions on DermaVQA iiyi", "456 encounters, 27 questions", dermavqa.LICENCE,
        "closed questions, several pictures a case, context; no gold diagnosis", "documented", dermavqa_das.read),
    "mm_skin": Importer(
        "MM-Skin: textbook pictures with made questions", "10,000 pairs, 27,000 questions", "none stated: to be said",
        "open questions; no gold diagnosis; no subgroups", "verified", mm_skin.read),
    "derm1m": Importer(
        "Derm1M: captions and labels from the web", "403,563 images, 1,029,761 captions", derm1m.LICENCE,
        "captions as references, top-k; derived triage; by age, sex, site in part", "documented", derm1m.read),
    "huggingface": Importer(
        "a data set of the library datasets: Parquet, image folder, CSV, JSON, hub name", "as given", "to be said",
        "whatever its columns hold", "verified", huggingface.read),
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
