"""ISIC 2024 (SLICE-3D; Kurtansky 2024): 401,059 crops of total-body photographs, 1,042 patients, published layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..judge.benchmark import assign_splits
from ..judge.errors import InputError
from ..judge.records import Case, Image, identity
from ..judge.tablefile import Problem, Table, read_csv_table
from .bundle import SPLITS, Bundle, Pictures, find_file, present
from .isic import licence_of, modality, named, patient_tags, together, told, unmapped
from .rows import Gold, Row, cases_of, kept, side_table, truth

_TRUTH = ("ISIC_2024_Training_GroundTruth.csv", "train-metadata.csv")
_SIDES = ("ISIC_2024_Training_Supplement.csv", "metadata.csv", "ISIC_2024_Training_Metadata.csv")
_LEVELS = ("iddx_1", "iddx_2", "iddx_3", "iddx_4", "iddx_5")
_USED = ("isic_id", "target", "malignant", "patient_id", "lesion_id", "age_approx", "sex", "anatom_site_general",
         "clin_size_long_diam_mm", "image_type", "attribution", "copyright_license", "iddx_full", *_LEVELS,
         "mel_thick_mm")  # fmt: skip


def read(root: str | Path, *, licence: str = "", fractions: Mapping[str, float] = SPLITS, seed: int = 0) -> Bundle:
    """Read ISIC 2024 below `root`: train-metadata.csv with train-image/image/, or the three files of the challenge page
    (ISIC_2024_Training_GroundTruth.csv, _Supplement.csv, and metadata.csv in ISIC_2024_Training_Input/).

    A case is a crop of 15 mm; splits are by patient. All but a thousand have only "Benign" for a diagnosis: they have
    no gold name, only the tag `malignant`. Indeterminate lesions have no such tag. The columns tbp_lv_* (measured by
    the camera) are not taken over. licence: for copies whose copyright_license was lost. InputError if the table or the
    pictures are not there or a column is missing.
    """
    root = Path(root)
    table = _trimmed(read_csv_table(find_file(root, _TRUTH)))
    target = next((name for name in ("target", "malignant") if name in table.columns), "")
    if not target or "isic_id" not in table.columns:
        raise InputError(f"{table.file}: the columns isic_id and target (or malignant) are needed; it has "
                         f"{', '.join(table.columns)}")  # fmt: skip
    problems: list[Problem] = []
    sides = [side_table(_trimmed(read_csv_table(path)), "isic_id", problems)
             for name in _SIDES if (path := next(iter(sorted(root.rglob(name))), None))]  # fmt: skip
    pictures, gold = Pictures(root), Gold()
    foreign: list[str] = []

    def case(row: Row) -> Case:
        name = present(row["isic_id"])
        full: dict[str, Any] = {}
        for side in sides:
            full |= side.get(identity(name), {})
        full |= row
        malignant = truth(full[target], what=target)
        if malignant is None:
            raise ValueError(f"{target} is empty")
        levels = [full.get(level) for level in _LEVELS]
        group = present(levels[0]).lower()
        if group and (group == "malignant") != malignant:
            raise ValueError(f"{target} is {full[target]} but iddx_1 '{levels[0]}'")
        name_of, label = named(levels, gold.terms)
        if label.lower() not in ("", "benign", "malignant", "indeterminate") and not name_of:
            foreign.append(label)
        names = (name_of,) if name_of else ()
        tags = patient_tags(full)
        kind = modality(full.get("image_type")) or "total-body"
        return Case(
            id=name,
            images=(Image(pictures.find(name), modality=kind, body_site=tags.get("site", "")),),
            patient_id=present(full.get("patient_id")),
            lesion_id=present(full.get("lesion_id")),
            context=told(tags),
            diagnosis=names,
            tags=kept({"dx": label, "malignant": None if group == "indeterminate" else malignant,
                       "malignancy": group, "thickness_mm": present(full.get("mel_thick_mm")), **tags}),
            source="ISIC 2024",
            licence=licence_of(full, licence),
            **gold.urgency(names),
        )  # fmt: skip

    cases = [made for _, made in cases_of(table, "isic_id", case, problems)]
    nameless = sum(not made.diagnosis for made in cases)
    orphans = sum(not made.patient_id for made in cases)
    notes = [f"{nameless} of {len(cases)} cases have no diagnosis finer than benign or malignant."]
    if orphans:
        notes.append(f"{orphans} cases name no patient, so one patient may stand in several splits.")
    return Bundle(
        "isic_2024", "1", together([made.licence for made in cases]), "ISIC 2024 challenge, doi:10.34970/2024-slice-3d",
        "Kurtansky NR et al. Sci Data 11:884 (2024)", assign_splits(cases, fractions, "patient_id", seed), root,
        problems=problems, notes=notes + unmapped(foreign),
    )  # fmt: skip


def _trimmed(table: Table) -> Table:
    """Only the columns that are used: the others are most of 400,000 rows."""
    columns = tuple(name for name in table.columns if name in _USED)
    frame = None if table.frame is None else table.frame.select(columns)
    return Table(table.file, columns, table.lines, frame=frame)
