"""DERM12345 (Yilmaz 2024): 12,345 dermoscopic pictures in a tree of 5, 15 and 40 classes, published layout."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from ..judge.records import Case, Image, identity
from ..judge.tablefile import Problem, check_columns, read_csv_table
from .bundle import SPLITS, Bundle, Pictures, find_file, present
from .rows import Gold, Row, cases_of, kept, published_or_drawn

LICENCE = "CC BY 4.0"

# The published taxonomy: code -> (super class, main class, sub class, names of the term list). A subtype that the list
# does not hold stands as its type; a double name as both.
TAXONOMY: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "acb": ("melanocytic benign", "banal compound", "acral", ("compound nevus",)),
    "ccb": ("melanocytic benign", "banal compound", "congenital", ("congenital melanocytic nevus",)),
    "mcb": ("melanocytic benign", "banal compound", "miescher", ("intradermal nevus", "compound nevus")),
    "cb": ("melanocytic benign", "banal compound", "compound nevus", ("compound nevus",)),
    "bdb": ("melanocytic benign", "banal dermal", "blue", ("blue nevus",)),
    "db": ("melanocytic benign", "banal dermal", "dermal nevus", ("intradermal nevus",)),
    "ajb": ("melanocytic benign", "banal junctional", "acral", ("junctional nevus",)),
    "cjb": ("melanocytic benign", "banal junctional", "congenital", ("congenital melanocytic nevus",)),
    "jb": ("melanocytic benign", "banal junctional", "junctional nevus", ("junctional nevus",)),
    "acd": ("melanocytic benign", "dysplastic compound", "acral", ("atypical nevus",)),
    "ccd": ("melanocytic benign", "dysplastic compound", "congenital",
            ("atypical nevus", "congenital melanocytic nevus")),
    "cd": ("melanocytic benign", "dysplastic compound", "compound nevus", ("atypical nevus",)),
    "ajd": ("melanocytic benign", "dysplastic junctional", "acral", ("atypical nevus",)),
    "srjd": ("melanocytic benign", "dysplastic junctional", "spitz/reed",
             ("spitz nevus", "pigmented spindle cell nevus of reed")),
    "jd": ("melanocytic benign", "dysplastic junctional", "junctional nevus", ("atypical nevus",)),
    "rd": ("melanocytic benign", "dysplastic recurrent", "recurrent nevus", ("recurrent nevus",)),
    "isl": ("melanocytic benign", "lentigo", "ink spot lentigo", ("ink spot lentigo",)),
    "ls": ("melanocytic benign", "lentigo", "lentigo simplex", ("lentigo simplex",)),
    "sl": ("melanocytic benign", "lentigo", "solar lentigo", ("solar lentigo",)),
    "anm": ("melanocytic malignant", "melanoma", "acral nodular", ("acral nodular melanoma",)),
    "alm": ("melanocytic malignant", "melanoma", "acral lentiginous", ("acral lentiginous melanoma",)),
    "lm": ("melanocytic malignant", "melanoma", "lentigo maligna", ("lentigo maligna",)),
    "lmm": ("melanocytic malignant", "melanoma", "lentigo maligna melanoma", ("lentigo maligna melanoma",)),
    "mel": ("melanocytic malignant", "melanoma", "melanoma", ("melanoma",)),
    "sk": ("nonmelanocytic benign", "keratinocytic", "seborrheic keratosis", ("seborrheic keratosis",)),
    "lk": ("nonmelanocytic benign", "keratinocytic", "lichenoid keratosis", ("lichenoid keratosis",)),
    "df": ("nonmelanocytic benign", "fibro-histiocytic", "dermatofibroma", ("dermatofibroma",)),
    "angk": ("nonmelanocytic benign", "vascular", "angiokeratoma", ("angiokeratoma",)),
    "ha": ("nonmelanocytic benign", "vascular", "hemangioma", ("hemangioma",)),
    "la": ("nonmelanocytic benign", "vascular", "lymphangioma", ("lymphangioma",)),
    "pg": ("nonmelanocytic benign", "vascular", "pyogenic granuloma", ("pyogenic granuloma",)),
    "sa": ("nonmelanocytic benign", "vascular", "spider angioma", ("spider angioma",)),
    "ak": ("nonmelanocytic indeterminate", "keratinocytic", "actinic keratosis", ("actinic keratosis",)),
    "bcc": ("nonmelanocytic malignant", "keratinocytic", "basal cell carcinoma", ("basal cell carcinoma",)),
    "bd": ("nonmelanocytic malignant", "keratinocytic", "bowen disease", ("squamous cell carcinoma in situ",)),
    "ch": ("nonmelanocytic malignant", "keratinocytic", "cutaneous horn", ("cutaneous horn",)),
    "mpd": ("nonmelanocytic malignant", "keratinocytic", "mammary paget disease", ("mammary paget disease",)),
    "scc": ("nonmelanocytic malignant", "keratinocytic", "squamous cell carcinoma", ("squamous cell carcinoma",)),
    "dfsp": ("nonmelanocytic malignant", "fibro-histiocytic", "dermatofibrosarcoma protuberans",
             ("dermatofibrosarcoma protuberans",)),
    "ks": ("nonmelanocytic malignant", "vascular", "kaposi sarcoma", ("kaposi sarcoma",)),
}  # fmt: skip


def read(root: str | Path, *, fractions: Mapping[str, float] = SPLITS, seed: int = 0) -> Bundle:
    """Read DERM12345 below `root`: derm12345_metadata_{train,test}.csv (or .tab) and the picture folders of any name.

    A case is a picture; the published split by patient is kept if both parts are there, else splits are drawn by
    patient. Gold is the finest class that the term list holds; the tags super_class, main_class and sub_class hold the
    published tree. malignancy is the set's own (a cutaneous horn counts as malignant). InputError if no table or
    picture is there or it has no image_id or label.
    """
    root = Path(root)
    names = {part: [f"derm12345_metadata_{part}.{ending}" for ending in ("csv", "tab", "tsv")]
             for part in ("train", "test")}  # fmt: skip
    found = {part: next((path for name in some for path in sorted(root.rglob(name))), None)
             for part, some in names.items()} if root.is_dir() else {}  # fmt: skip
    if not any(found.values()):
        find_file(root, [name for some in names.values() for name in some])
    pictures, gold = Pictures(root), Gold()
    problems: list[Problem] = []
    cases: dict[str, Case] = {}
    for part, path in found.items():
        if path is None:
            continue
        table = read_csv_table(path)
        check_columns(table, table.columns, ("image_id", "label"))

        def case(row: Row, part: str = part) -> Case:
            return _case(row, part, pictures, gold)

        for line, made in cases_of(table, "image_id", case, problems):
            if (other := cases.setdefault(identity(made.id), made)) is not made:
                problems.append(Problem(table.file, line, made.id, f"stands in the {other.split} part already"))
    return Bundle(
        "derm12345", "1", LICENCE, "Harvard Dataverse, doi:10.7910/DVN/DAXZ7P",
        "Yilmaz A et al. Sci Data 11:1302 (2024)",
        published_or_drawn(list(cases.values()), fractions, "patient_id", seed), root, problems=problems,
        notes=["Classes finer than the term list stand as their type: an acral nevus as a compound or junctional one.",
               "malignancy is the set's own; it counts a cutaneous horn as malignant and actinic keratosis as "
               "indeterminate."],
    )  # fmt: skip


def _case(row: Row, part: str, pictures: Pictures, gold: Gold) -> Case:
    code = present(row["label"]).lower()
    if code not in TAXONOMY:
        close = ", ".join(get_close_matches(code, TAXONOMY, 3, 0.5)) or ", ".join(TAXONOMY)
        raise ValueError(f"label '{row['label']}' is no code of DERM12345 (closest: {close})")
    super_class, main_class, sub_class, names = TAXONOMY[code]
    malignancy = super_class.split()[1]
    stated = present(row.get("malignancy")).lower()
    if stated in ("benign", "malignant", "indeterminate") and stated != malignancy:
        raise ValueError(f"malignancy '{stated}', but label {code} is {malignancy} in the published taxonomy")
    return Case(
        id=present(row["image_id"]),
        images=(Image(pictures.find(present(row["image_id"])), modality="dermoscopic"),),
        patient_id=present(row.get("patient_id")),
        split=part,
        diagnosis=names,
        tags=kept({"dx": code, "malignancy": malignancy, "super_class": super_class, "main_class": main_class,
                   "sub_class": sub_class,
                   "malignant": {"benign": False, "malignant": True}.get(malignancy)}),
        source="DERM12345",
        licence=LICENCE,
        **gold.urgency(names),
    )  # fmt: skip
