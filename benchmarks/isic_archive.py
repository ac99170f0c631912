"""A download of the ISIC archive (isic-archive.com): metadata.csv beside the pictures, one collection or a search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..judge.benchmark import assign_splits
from ..judge.errors import InputError
from ..judge.records import Case, Image
from ..judge.tablefile import Problem, Table, read_csv_table
from .bundle import SPLITS, Bundle, Pictures, find_file, present
from .isic import licence_of, modality, named, patient_tags, together, told, unmapped
from .rows import Gold, Row, by_lesion, cases_of, kept

# The archive renamed its columns over the years: each level is one of these.
_LEVELS = ("diagnosis_1", "diagnosis_2", "diagnosis_3", "diagnosis_4", "diagnosis_5")
_WORDS = ("benign", "malignant", "indeterminate")
_OLD_WORDS = {"indeterminate/benign": "indeterminate", "indeterminate/malignant": "indeterminate"}


def read(root: str | Path, *, licence: str = "", fractions: Mapping[str, float] = SPLITS, seed: int = 0) -> Bundle:
    """Read metadata.csv and the pictures below `root`, in the archive's old or new columns.

    Diagnosis from diagnosis_1 to diagnosis_5 (the finest level of the term list), or from the old pair diagnosis and
    benign_malignant. A case is a picture; splits are by patient, where none is named by lesion. licence: for copies
    whose column copyright_license was lost; a row without one is listed and left out. InputError if the table or the
    pictures are not there or it has no isic_id or no diagnosis.
    """
    return _read(Path(root), licence, fractions, seed, lesions=False, bundle=Bundle(
        "isic_archive", "1", "", "International Skin Imaging Collaboration archive (isic-archive.com)",
        "Each collection is to be cited; see the tag attribution of each case", [], Path(root)))  # fmt: skip


def read_hiba(root: str | Path, *, licence: str = "", fractions: Mapping[str, float] = SPLITS, seed: int = 0) -> Bundle:
    """Read the HIBA collection (Hospital Italiano de Buenos Aires, Lara 2023) of the archive: 1,616 pictures.

    A case is a lesion with all its pictures, dermoscopic and clinical; otherwise as `read`.
    """
    return _read(Path(root), licence, fractions, seed, lesions=True, bundle=Bundle(
        "hiba", "1", "", "Hospital Italiano de Buenos Aires skin lesion images, doi:10.34970/587329",
        "Ricci Lara MA et al. Sci Data 10:712 (2023)", [], Path(root)))  # fmt: skip


def _read(root: Path, licence: str, fractions: Mapping[str, float], seed: int, lesions: bool, bundle: Bundle) -> Bundle:
    table = read_csv_table(find_file(root, ("metadata.csv", "hiba_metadata.csv", "*metadata*.csv")))
    _check(table)
    pictures, gold = Pictures(root), Gold()
    problems: list[Problem] = bundle.problems
    foreign: list[str] = []

    def case(row: Row) -> Case:
        group, levels = _levels(row)
        name, label = named(levels, gold.terms)
        if label.lower() not in ("", *_WORDS) and not name:
            foreign.append(label)
        names = (name,) if name else ()
        tags = patient_tags(row)
        image_id = present(row["isic_id"])
        path = pictures.find(image_id)
        return Case(
            id=image_id,
            images=(Image(path, modality(row.get("image_type")), tags.get("site_detail") or tags.get("site", "")),),
            patient_id=present(row.get("patient_id")),
            lesion_id=present(row.get("lesion_id")),
            context=told(tags),
            diagnosis=names,
            tags=kept({"dx": label, "malignancy": group, "malignant": {"benign": False, "malignant": True}.get(group),
                       "biopsied": present(row.get("concomitant_biopsy")).lower(), **tags}),
            source=bundle.name,
            licence=licence_of(row, licence),
            **gold.urgency(names),
        )  # fmt: skip

    made = cases_of(table, "isic_id", case, problems)
    cases = by_lesion(made, table.file, problems, bundle.notes) if lesions else [one for _, one in made]
    bundle.cases = assign_splits(cases, fractions, "patient_id", seed)
    bundle.licence = together([one.licence for one in cases])
    nameless = sum(not one.diagnosis for one in cases)
    if nameless:
        bundle.notes.append(f"{nameless} of {len(cases)} cases have no diagnosis of the term list.")
    bundle.notes += unmapped(foreign)
    return bundle


def _check(table: Table) -> None:
    levels = [name for name in (*_LEVELS, "diagnosis", "benign_malignant") if name in table.columns]
    if "isic_id" not in table.columns or not levels:
        raise InputError(
            f"{table.file} is no metadata of the ISIC archive: isic_id and diagnosis_1 (or diagnosis, "
            f"benign_malignant) are needed; it has {', '.join(table.columns)}"
        )


def _levels(row: Row) -> tuple[str, list[Any]]:
    """(benign, malignant, indeterminate or "", the diagnosis coarse to fine); ValueError for another word."""
    if any(name in row for name in _LEVELS):
        levels = [row.get(name) for name in _LEVELS]
        group = present(levels[0]).lower()
    else:
        levels = [row.get("diagnosis")]
        group = present(row.get("benign_malignant")).lower()
        group = _OLD_WORDS.get(group, group)
    if group not in ("", *_WORDS):
        column = "diagnosis_1" if "diagnosis_1" in row else "benign_malignant"
        raise ValueError(f"{column} '{group}' is none of {', '.join(_WORDS)}")
    return group, levels
