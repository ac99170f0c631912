"""SkinCAP (Zhou 2024): 4,000 pictures of Fitzpatrick17k and DDI with a caption by dermatologists each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..evaluators.terms import load_terms
from ..judge.benchmark import assign_splits
from ..judge.records import Case, Image
from ..judge.tablefile import Problem, Table, check_columns
from .bundle import SPLITS, Bundle, Pictures, find_file, present
from .reading import Labels, one_of, read_csv_with_index, reference_narratives, single_type
from .rows import Gold, Row, cases_of, kept, truth

LICENCE = ("conflicting: CC BY 4.0 (project page), research only, no redistribution or derivatives (download page); "
           "take it as not redistributable")  # fmt: skip
SYSTEM = "dermatologist-caption"
_CAPTIONS = {"en": ("caption_zh_polish_en", "caption_en"), "zh": ("caption_zh",)}
_NEEDED = ("id", "skincap_file_path", "disease")
_KNOWN = frozenset({*_NEEDED, "row", "malignant", "fitzpatrick_scale", "fitzpatrick_centaur", "caption_zh_polish",
                    *(name for names in _CAPTIONS.values() for name in names)})  # fmt: skip
_LEAVE_OUT = "do not consider this image"  # a column of the SkinCon concepts


def read(
    root: str | Path,
    *,
    images: str | Path | None = None,
    language: str = "en",
    references: bool = True,
    fractions: Mapping[str, float] = SPLITS,
    seed: int = 0,
) -> Bundle:
    """Read skincap_v240623.csv below `root`; `images`: the folder of pictures (default: `root`).

    language: "en" or "zh", which caption is the reference. references: whether the captions also come as narratives of
    a system "dermatologist-caption". The header is read, not assumed: malignant and fitzpatrick_scale where a copy has
    them; further columns of 0 and 1 are SkinCon concepts, and the tag concepts lists those marked 1. Splits are by
    picture. InputError if the table, its caption or the pictures are not there.
    """
    one_of(language, _CAPTIONS, "language")
    table = read_csv_with_index(find_file(Path(root), ("skincap_v240623.csv", "skincap*.csv")))
    check_columns(table, table.columns, _NEEDED)
    caption = next((name for name in _CAPTIONS[language] if name in table.columns), "")
    if not caption:
        check_columns(table, table.columns, _CAPTIONS[language][:1])
    concepts = _concepts(table)
    pictures, gold = Pictures(Path(images or root)), Gold(load_terms())
    labels = Labels(gold.terms)
    problems: list[Problem] = []

    def make(row: Row) -> Case:
        for name in ("skincap_file_path", caption):
            if not present(row[name]):
                raise ValueError(f"{name} is empty")
        marked = [name for name in concepts if present(row[name]) in ("1", "1.0")]
        if any(name.casefold() == _LEAVE_OUT for name in marked):
            raise ValueError(f"is marked '{_LEAVE_OUT}' by the set itself")
        label = present(row["disease"])
        names, unmapped = labels.split([label])
        tags = {"raw_label": label, "fitzpatrick": single_type(row.get("fitzpatrick_scale"), "fitzpatrick_scale"),
                "malignant": truth(row.get("malignant"), what="malignant"), "unmapped_labels": unmapped,
                "concepts": marked}  # fmt: skip
        return Case(
            id=row["id"].strip().removesuffix(".0"),
            images=(Image(pictures.find(row["skincap_file_path"]), modality="clinical"),),
            reference=row[caption].strip(), diagnosis=names, tags=kept(tags), source="SkinCAP", licence=LICENCE,
            **gold.urgency(names))  # fmt: skip

    made = cases_of(table, "id", make, problems)
    cases = assign_splits([case for _, case in made], fractions, "patient_id", seed)
    return Bundle(
        "skincap", "240623", LICENCE, "https://huggingface.co/datasets/joshuachou/SkinCAP",
        "Zhou J et al., arXiv:2405.18004", cases, Path(images or root), problems=problems,
        narratives=reference_narratives(cases, SYSTEM, language) if references else [],
        notes=[
            "The pictures are those of Fitzpatrick17k and DDI: no test on these after training on SkinCAP, and the "
            "other way round.",
            "Licence statements conflict; do not pass the pictures on.",
            *labels.notes(made, table.file),
        ])  # fmt: skip


def _concepts(table: Table) -> list[str]:
    """Columns beyond the known ones that hold nothing but 0 and 1."""
    values: dict[str, set[str]] = {name: set() for name in table.columns if name not in _KNOWN}
    for _, row in table.dicts():
        for name, found in values.items():
            found.add(present(row[name]))
    return [name for name, found in values.items() if found - {""} and found <= {"", "0", "1", "0.0", "1.0"}]
