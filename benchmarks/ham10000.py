"""HAM10000 (Tschandl 2018): 10,015 dermoscopic images of 7,470 lesions, seven classes, in the published layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evaluators.terms import Terms, load_terms
from ..judge.benchmark import assign_splits
from ..judge.records import Case, Image, identity
from ..judge.tablefile import Problem, check_columns, read_csv_table
from .bundle import SPLITS, Bundle, Pictures, derived_urgency, find_file, number, present, sentence

LICENCE = "CC BY-NC 4.0"

# akiec and bkl are groups: an answer that names any member is right, so all stand in `diagnosis`.
DIAGNOSES = {
    "akiec": ("actinic keratosis", "squamous cell carcinoma in situ"),
    "bcc": ("basal cell carcinoma",),
    "bkl": ("benign keratosis", "solar lentigo"),  # the list puts solar lentigo elsewhere; the others are below
    "df": ("dermatofibroma",),
    "mel": ("melanoma",),
    "nv": ("melanocytic nevus",),
    "vasc": ("vascular lesion",),
}
_COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset")


def read(root: str | Path, *, fractions: Mapping[str, float] = SPLITS, seed: int = 0) -> Bundle:
    """Read HAM10000 below `root`: HAM10000_metadata(.csv) and the two image folders, nested or flattened.

    A case is an image, as in the published counts; splits are by lesion, since the set has no patients.
    InputError if the table or the pictures are not there or its columns are others.
    """
    root = Path(root)
    table = read_csv_table(find_file(root, ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")))
    check_columns(table, _COLUMNS, _COLUMNS[:3])
    pictures, terms = Pictures(root), load_terms()
    cases: list[Case] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for line, row in table.dicts():
        try:
            case = _case(row, pictures, terms)
            if (first := seen.setdefault(identity(case.id), line)) != line:
                raise ValueError(f"'{case.id}' stands already on line {first}")
            cases.append(case)
        except ValueError as error:
            problems.append(Problem(table.file, line, row["image_id"], str(error)))
    infants = sum(case.tags.get("age") == 0 for case in cases)
    return Bundle(
        "ham10000", "1", LICENCE, "Harvard Dataverse, doi:10.7910/DVN/DBW86T",
        "Tschandl P, Rosendahl C, Kittler H. Sci Data 5:180161 (2018)",
        assign_splits(cases, fractions, "lesion_id", seed), root, problems=problems,
        notes=[
            "Splits are by lesion: the set does not say which lesions belong to one patient.",
            "akiec is actinic keratosis or Bowen disease, bkl a benign keratosis or solar lentigo: any member counts.",
            *([f"{infants} cases have age 0, as published; it may stand for 'not recorded'."] if infants else []),
        ],
    )  # fmt: skip


def _case(row: dict[str, Any], pictures: Pictures, terms: Terms) -> Case:
    dx = present(row["dx"]).lower()
    if dx not in DIAGNOSES:
        raise ValueError(f"dx '{row['dx']}' is none of {', '.join(DIAGNOSES)}")
    if not present(row["image_id"]):
        raise ValueError("image_id is empty")
    age, sex, site = number(row.get("age")), present(row.get("sex")), present(row.get("localization"))
    urgency, derived = derived_urgency(DIAGNOSES[dx], terms)
    tags = {"dx": dx, "confirmation": present(row.get("dx_type")), "age": age, "sex": sex, "site": site,
            "collection": present(row.get("dataset"))}  # fmt: skip
    return Case(
        id=row["image_id"].strip(),
        images=(Image(pictures.find(row["image_id"]), modality="dermoscopic", body_site=site),),
        lesion_id=present(row["lesion_id"]),
        context=sentence({"Age": "" if age is None else str(age), "Sex": sex, "Site": site}),
        diagnosis=DIAGNOSES[dx],
        urgency=urgency,
        urgency_derived=derived,
        tags={key: value for key, value in tags.items() if value not in ("", None)},
        source="HAM10000",
        licence=LICENCE,
    )
