"""DDI, Diverse Dermatology Images (Daneshjou 2022): 656 pictures proven by biopsy, three bands of skin tone."""

from __future__ import annotations

import re
from pathlib import Path

from ..evaluators.terms import load_terms
from ..judge.records import Case, Image
from ..judge.tablefile import Problem, check_columns
from .bundle import Bundle, Pictures, find_file, present, skin_type
from .reading import Labels, read_csv_with_index
from .rows import Gold, Row, cases_of, kept, truth

LICENCE = "Stanford research use agreement: non-commercial research, no redistribution"
_COLUMNS = ("DDI_ID", "DDI_file", "skin_tone", "malignant", "disease")


def read(root: str | Path, *, images: str | Path | None = None) -> Bundle:
    """Read ddi_metadata.csv below `root`; `images`: the folder of pictures (default: `root`).

    The case's id is the file's name without its ending, zeros kept. The tag fitzpatrick holds a band ("1-2", "3-4",
    "5-6"), never a type. `malignant` is the set's own truth and stands beside the mapped label. InputError if the table
    or the pictures are not there.
    """
    table = read_csv_with_index(find_file(Path(root), ("ddi_metadata.csv",)))
    check_columns(table, ("row", *_COLUMNS), _COLUMNS[1:])
    pictures, gold = Pictures(Path(images or root)), Gold(load_terms())
    labels = Labels(gold.terms)
    problems: list[Problem] = []

    def make(row: Row) -> Case:
        file = row["DDI_file"].strip()
        if not re.fullmatch(r"\d{6,}\.png", file):
            digits = re.match(r"\d+", file)
            fix = f" (perhaps {int(digits[0]):06d}.png: zeros are lost where it is read as a number)" if digits else ""
            raise ValueError(f"DDI_file '{file}' is no name such as 000001.png{fix}")
        names = labels.needed(present(row["disease"]))
        malignant = truth(row["malignant"], what="malignant")
        band = skin_type(row["skin_tone"])
        if band and "-" not in band:
            raise ValueError(f"skin_tone '{row['skin_tone']}' is a type; DDI has the bands 12, 34 and 56")
        tags = {"ddi_id": present(row.get("DDI_ID")), "raw_label": row["disease"].strip(), "fitzpatrick": band,
                "malignant": malignant, "confirmation": "biopsy"}  # fmt: skip
        return Case(
            id=file.removesuffix(".png"), images=(Image(pictures.find(file), modality="clinical"),), split="test",
            diagnosis=names, tags=kept(tags), source="DDI", licence=LICENCE, **gold.urgency(names))  # fmt: skip

    cases = [case for _, case in cases_of(table, "DDI_file", make, problems)]
    return Bundle(
        "ddi", "1", LICENCE, "Stanford AIMI, https://ddi-dataset.github.io",
        "Daneshjou R et al. Science Advances 8:eabq6147 (2022)", cases, Path(images or root), problems=problems,
        notes=[
            "The table does not say which of the 656 pictures are of one of the 570 patients; all are one split, test.",
            *_disagreements(cases, gold),
        ])  # fmt: skip


def _disagreements(cases: list[Case], gold: Gold) -> list[str]:
    """Diagnoses that the set and the term list place on two sides of malignant; the case's own truth wins."""
    two_sides = {
        f"{name} ({'malignant' if malignant else 'not malignant'} in DDI, {side} in the term list)"
        for case in cases for name in case.diagnosis
        if (malignant := case.tags.get("malignant")) is not None
        and (side := gold.terms.conditions[name].malignancy) and malignant != (side == "malignant")
        and not (side == "premalignant" and not malignant)
    }  # fmt: skip
    return [f"The tag malignant is the biopsy's; it differs for {', '.join(sorted(two_sides))}."] if two_sides else []
