"""ISIC 2020 (SIIM-ISIC melanoma challenge; Rotemberg 2021): 33,126 pictures of 2,056 patients, published layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..judge.benchmark import assign_splits
from ..judge.records import Case, Image, identity
from ..judge.tablefile import Problem, check_columns, read_csv_table
from .bundle import SPLITS, Bundle, Pictures, find_file, present
from .isic import named, patient_tags, told, unmapped
from .rows import Gold, Row, cases_of, kept, truth

LICENCE = "CC BY-NC 4.0"
_REQUIRED = ("image_name", "patient_id", "target")
_COLUMNS = (*_REQUIRED, "lesion_id", "sex", "age_approx", "anatom_site_general_challenge", "diagnosis",
            "benign_malignant", "tfrecord", "width", "height")  # fmt: skip
_TABLES = ("ISIC_2020_Training_GroundTruth_v2.csv", "ISIC_2020_Training_GroundTruth.csv", "train.csv")
_DUPLICATES = "ISIC_2020_Training_Duplicates.csv"


def read(root: str | Path, *, fractions: Mapping[str, float] = SPLITS, seed: int = 0) -> Bundle:
    """Read ISIC 2020 below `root`: ISIC_2020_Training_GroundTruth(_v2).csv (or train.csv) and the JPEG folder.

    A case is a picture; splits are by patient. Most cases are called "unknown" (benign by follow-up): they have no
    diagnosis, only the tag `malignant`. Pictures that ISIC_2020_Training_Duplicates.csv lists as copies are left out.
    InputError if the table or the pictures are not there or its columns are others.
    """
    root = Path(root)
    table = read_csv_table(find_file(root, _TABLES))
    check_columns(table, _COLUMNS, _REQUIRED)
    problems: list[Problem] = []
    copies = _copies(root)
    pictures, gold = Pictures(root), Gold()
    foreign: list[str] = []
    dropped: list[str] = []

    def case(row: Row) -> Case | None:
        name = present(row["image_name"])
        if identity(name) in copies:
            dropped.append(name)
            return None
        malignant = truth(row["target"], what="target")
        if malignant is None:
            raise ValueError("target is empty")
        word = present(row.get("benign_malignant")).lower()
        if word and word != ("malignant" if malignant else "benign"):
            raise ValueError(f"target is {row['target']} but benign_malignant '{word}'")
        name_of, label = named([row.get("diagnosis")], gold.terms)
        if label and not name_of:
            foreign.append(label)
        names = (name_of,) if name_of else ()
        tags = patient_tags(row)
        return Case(
            id=name,
            images=(Image(pictures.find(name), modality="dermoscopic", body_site=tags.get("site", "")),),
            patient_id=present(row["patient_id"]),
            lesion_id=present(row.get("lesion_id")),
            context=told(tags),
            diagnosis=names,
            tags=kept({"dx": label, "malignant": malignant, **tags}),
            source="ISIC 2020",
            licence=LICENCE,
            **gold.urgency(names),
        )

    cases = [made for _, made in cases_of(table, "image_name", case, problems)]
    unknown = sum("dx" not in made.tags for made in cases)
    notes = [f"{unknown} of {len(cases)} cases have no diagnosis (benign by follow-up); `malignant` is known of all."]
    if dropped:
        notes.append(f"{len(dropped)} pictures are copies of others by {_DUPLICATES} and were left out.")
    elif not copies:
        notes.append(f"{_DUPLICATES} is not there; the set is known to hold 425 pairs of copies.")
    return Bundle(
        "isic_2020", "1", LICENCE, "ISIC 2020 challenge, doi:10.34970/2020-ds01",
        "Rotemberg V et al. Sci Data 8:34 (2021)", assign_splits(cases, fractions, "patient_id", seed), root,
        problems=problems, notes=notes + unmapped(foreign),
    )  # fmt: skip


def _copies(root: Path) -> set[str]:
    path = next(iter(sorted(root.rglob(_DUPLICATES))), None)
    if path is None:
        return set()
    table = read_csv_table(path)
    check_columns(table, ("image_name_1", "image_name_2"), ("image_name_1", "image_name_2"))
    return {identity(str(row["image_name_2"])) for _, row in table.dicts()}
