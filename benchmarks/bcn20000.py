"""BCN20000 (Hernandez-Perez 2024): dermoscopy of the Hospital Clinic of Barcelona, the layout of its figshare copy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..judge.benchmark import assign_splits
from ..judge.records import Case, Image
from ..judge.tablefile import Problem, check_columns, read_csv_table
from .bundle import SPLITS, Bundle, Pictures, find_file, present
from .isic import CLASSES, licence_of, patient_tags, told
from .rows import Gold, Row, cases_of, kept

LICENCE = "CC BY-NC 4.0"
_CLASSES = ("MEL", "NV", "BCC", "BKL", "AK", "SCC", "DF", "VASC")


def read(root: str | Path, *, licence: str = "", fractions: Mapping[str, float] = SPLITS, seed: int = 0) -> Bundle:
    """Read BCN20000 below `root`: bcn_20k_train.csv and BCN_20k_train/bcn_20k_train/, nested or flattened.

    A case is a picture; splits are drawn by lesion within the published training part, since the test part has no
    published labels. Of capture_date only the year is kept. licence: default the stricter of the two that copies state
    (CC BY-NC 4.0), or each row's copyright_license. InputError if the table or the pictures are not there or a
    column is missing.
    """
    root = Path(root)
    table = read_csv_table(find_file(root, ("bcn_20k_train.csv", "BCN_20k_train.csv", "bcn20000_train.csv")))
    check_columns(table, table.columns, ("bcn_filename", "diagnosis", "lesion_id"))
    pictures, gold = Pictures(root), Gold()
    problems: list[Problem] = []
    own = "copyright_license" in table.columns

    def case(row: Row) -> Case:
        code = present(row["diagnosis"]).upper()
        if code not in _CLASSES:
            raise ValueError(f"diagnosis '{row['diagnosis']}' is none of {', '.join(_CLASSES)}")
        name = present(row["bcn_filename"])
        date = present(row.get("capture_date"))
        year = re.match(r"(\d{4})(-\d{2}-\d{2})?", date)
        if date and not year:
            raise ValueError(f"capture_date '{date}' is no date such as 2012-05-16")
        tags = patient_tags(row)
        return Case(
            id=re.sub(r"(?i)\.jpe?g$", "", name),
            images=(Image(pictures.find(name), modality="dermoscopic", body_site=tags.get("site", "")),),
            lesion_id=present(row["lesion_id"]),
            context=told(tags),
            diagnosis=CLASSES[code],
            tags=kept({"dx": code, "year": year[1] if year else "", **tags}),
            source="BCN20000",
            licence=licence_of(row, licence) if own else licence or LICENCE,
            **gold.urgency(CLASSES[code]),
        )

    cases = [made for _, made in cases_of(table, "bcn_filename", case, problems)]
    found = sorted({made.licence for made in cases})
    return Bundle(
        "bcn20000", "1", found[0] if len(found) == 1 else f"per case: {', '.join(found)}" if found else LICENCE,
        "figshare, doi:10.6084/m9.figshare.24140028", "Hernandez-Perez C et al. Sci Data 11:641 (2024)",
        assign_splits(cases, fractions, "lesion_id", seed), root, problems=problems,
        notes=["Splits are by lesion: the set does not say which lesions belong to one patient.",
               "The published test part has no labels and is not read.",
               "The same pictures are in ISIC 2019 under other names; a check by name does not see it.",
               "BKL is a benign keratosis or solar lentigo: any member counts."],
    )  # fmt: skip
