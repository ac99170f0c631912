"""Fitzpatrick17k (Groh 2021): 16,577 clinical pictures of two atlases, 114 labels, skin types by crowd workers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..evaluators.terms import load_terms
from ..judge.benchmark import assign_splits
from ..judge.records import Case, Image
from ..judge.tablefile import Problem, check_columns
from .bundle import SPLITS, Bundle, Pictures, find_file, present
from .reading import Labels, one_of, read_csv_with_index, single_type
from .rows import Gold, Row, cases_of, kept

LICENCE = "CC BY-NC-SA 3.0 (annotations; the pictures belong to the two atlases)"
_SKIN = ("fitzpatrick_scale", "fitzpatrick_centaur")
_COLUMNS = ("md5hash", *_SKIN, "label", "nine_partition_label", "three_partition_label", "qc", "url", "url_alphanum")
_WRONG = "3"  # the quality check's own mark for a wrong label


def read(
    root: str | Path,
    *,
    images: str | Path | None = None,
    skin: str = "fitzpatrick_scale",
    fractions: Mapping[str, float] = SPLITS,
    seed: int = 0,
) -> Bundle:
    """Read fitzpatrick17k.csv below `root`; `images`: the folder of pictures (default: `root`).

    skin: the column that becomes the tag fitzpatrick, "fitzpatrick_scale" or "fitzpatrick_centaur"; -1 is missing. A
    picture is called MD5.jpg or by its url_alphanum, whichever is there. Rows that the set's own quality check calls
    wrongly labelled come without a diagnosis. No patients are known, so splits are by picture. InputError if the table
    or the pictures are not there.
    """
    one_of(skin, _SKIN, "skin")
    table = read_csv_with_index(find_file(Path(root), ("fitzpatrick17k.csv",)))
    check_columns(table, ("row", *_COLUMNS), _COLUMNS[:6])
    pictures, gold = Pictures(Path(images or root)), Gold(load_terms())
    labels = Labels(gold.terms)
    problems: list[Problem] = []
    differing = 0

    def make(row: Row) -> Case:
        nonlocal differing
        names = labels.needed(present(row["label"]))
        qc = present(row.get("qc"))
        names = () if qc.startswith(_WRONG) else names
        scale, centaur = (single_type(row[name], name) for name in _SKIN)
        picture = _picture(pictures, row)
        differing += bool(scale and centaur and scale != centaur)
        tags = {"raw_label": row["label"].strip(), "fitzpatrick": scale if skin == _SKIN[0] else centaur,
                "partition": present(row["three_partition_label"]), "partition_9": present(row["nine_partition_label"]),
                "qc": qc}  # fmt: skip
        return Case(
            id=row["md5hash"].strip(), images=(Image(picture, modality="clinical"),), diagnosis=names,
            tags=kept(tags), source="Fitzpatrick17k", licence=LICENCE, **gold.urgency(names))  # fmt: skip

    cases = [case for _, case in cases_of(table, "md5hash", make, problems)]
    wrong = sum(case.tags.get("qc", "").startswith(_WRONG) for case in cases)
    unknown = sum("fitzpatrick" not in case.tags for case in cases)
    return Bundle(
        "fitzpatrick17k", "1", LICENCE, "https://github.com/mattgroh/fitzpatrick17k",
        "Groh M et al. CVPR Workshops (2021), arXiv:2104.09957",
        assign_splits(cases, fractions, "patient_id", seed), Path(images or root), problems=problems,
        notes=[
            f"Skin types are those of the column {skin}; {unknown} of {len(cases)} are unknown, and in {differing} the "
            "two columns differ.",
            "Duplicates and wrong labels are documented (Abhishek et al., Sci Data 2025); splits are by picture.",
            "The partitions call actinic keratosis malignant and prurigo nodularis benign; gold is the label.",
            *([f"{wrong} cases are 'wrongly labelled' by the set's own check and come without a diagnosis."]
              if wrong else []),
        ])  # fmt: skip


def _picture(pictures: Pictures, row: Row) -> str:
    """By either name that copies use; the message says both, since who made the copy chose one."""
    names = [f"{row['md5hash'].strip()}.jpg", present(row.get("url_alphanum"))]
    for name in filter(None, names):
        try:
            return pictures.find(name)
        except ValueError as error:
            if "several images" in str(error):
                raise
    lost = "" if present(row.get("url")) else "; the row has no url to fetch it from"
    raise ValueError(f"no image {' or '.join(filter(None, names))} lies below {pictures.root}{lost}")
