"""ISIC challenges 2018 (task 3) and 2019: one-hot truth, a case a picture, in the published layout.

Sources: challenge.isic-archive.com; Codella 2019 (arXiv 1902.03368), Tschandl 2018, Combalia 2019 (arXiv 1908.02288).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..judge.records import Case, Image, identity
from ..judge.tablefile import Problem, check_columns, read_csv_table
from .bundle import SPLITS, Bundle, Pictures, find_file, present
from .isic import CLASSES, patient_tags, told
from .rows import Gold, Row, cases_of, kept, one_hot, published_or_drawn, side_table

LICENCE = "CC BY-NC 4.0"
_PARTS = {"Training": "train", "Validation": "validation", "Test": "test"}
_CLASSES_2018 = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
_CLASSES_2019 = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
_SIDE_2018 = ("image", "lesion_id", "diagnosis_confirm_type")
_SIDE_2019 = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")


def read_2018(root: str | Path, *, fractions: Mapping[str, float] = SPLITS, seed: int = 0) -> Bundle:
    """Read ISIC 2018 task 3 below `root`: ISIC2018_Task3_{Training,Validation,Test}_GroundTruth.csv and _Input folders.

    ISIC2018_Task3_Training_LesionGroupings.csv, if there, gives lesions. The splits are the published ones if more
    than one part is there, else drawn by lesion. InputError if no truth table or no picture is there.
    """
    return _read(
        Path(root), "ISIC2018_Task3_{}_GroundTruth.csv", "ISIC2018_Task3_{}_LesionGroupings.csv", _CLASSES_2018, (),
        _SIDE_2018, fractions, seed, Bundle(
            "isic_2018", "1", LICENCE, "ISIC 2018 challenge, task 3 (challenge.isic-archive.com)",
            "Codella N et al. arXiv:1902.03368 (2019); Tschandl P et al. Sci Data 5:180161 (2018)", [], Path(root),
            notes=["The training pictures are those of HAM10000.",
                   "AKIEC is actinic keratosis or Bowen disease, BKL a benign keratosis or solar lentigo: any member "
                   "counts."]))  # fmt: skip


def read_2019(root: str | Path, *, fractions: Mapping[str, float] = SPLITS, seed: int = 0) -> Bundle:
    """Read ISIC 2019 below `root`: ISIC_2019_{Training,Test}_GroundTruth.csv, _Metadata.csv and _Input folders.

    A picture may lie with or without "_downsampled" at the end of its name. UNK is "none of the others": such a case
    has no diagnosis. Splits as in `read_2018`. InputError if no truth table or no picture is there.
    """
    return _read(
        Path(root), "ISIC_2019_{}_GroundTruth.csv", "ISIC_2019_{}_Metadata.csv", _CLASSES_2019,
        ("score_weight", "validation_weight"), _SIDE_2019, fractions, seed, Bundle(
            "isic_2019", "1", LICENCE, "ISIC 2019 challenge (challenge.isic-archive.com)",
            "Tschandl P et al. Sci Data 5:180161 (2018); Codella N et al. arXiv:1710.05006 (2017); Combalia M et al. "
            "arXiv:1908.02288 (2019)", [], Path(root),
            notes=["The training pictures hold HAM10000 and BCN20000 under ISIC names.",
                   "BKL is a benign keratosis or solar lentigo: any member counts."]))  # fmt: skip


def _read(
    root: Path,
    truth: str,
    side: str,
    classes: tuple[str, ...],
    further: tuple[str, ...],
    side_columns: tuple[str, ...],
    fractions: Mapping[str, float],
    seed: int,
    bundle: Bundle,
) -> Bundle:
    found = {part: next(iter(sorted(root.rglob(truth.format(part)))), None) for part in _PARTS} if root.is_dir() else {}
    if not any(found.values()):
        find_file(root, tuple(truth.format(part) for part in _PARTS))  # says what lies there instead
    pictures, gold = Pictures(root), Gold()
    problems: list[Problem] = bundle.problems
    cases: list[Case] = []
    nameless = 0
    for part, path in found.items():
        if path is None:
            continue
        table = read_csv_table(path)
        check_columns(table, ("image", *classes, *further), ("image", *classes))
        rows = _side(root, side.format(part), side_columns, problems)

        def case(row: Row, part: str = part, rows: Mapping[str, Row] = rows) -> Case:
            return _case(row, one_hot(row, classes), rows, pictures, gold, _PARTS[part], bundle)

        made = [case for _, case in cases_of(table, "image", case, problems)]
        if part == "Training" and not any(case.lesion_id for case in made):
            nameless = len(made)
        cases += made
    ids: dict[str, Case] = {}
    for case_ in cases:
        if (other := ids.setdefault(identity(case_.id), case_)) is not case_:
            problems.append(Problem(truth.format("*"), 0, case_.id, f"stands in {other.split} and in {case_.split}"))
    bundle.cases = published_or_drawn(list(ids.values()), fractions, "lesion_id", seed)
    if nameless:
        bundle.notes.append(f"No lesion is known of {nameless} training pictures ({side.format('Training')} is not "
                            "there), so pictures of one lesion may stand in several splits.")  # fmt: skip
    unknown = sum(not case.diagnosis for case in bundle.cases)
    if unknown:
        bundle.notes.append(f"{unknown} cases are of no named class (UNK) and have no diagnosis.")
    return bundle


def _side(root: Path, name: str, columns: tuple[str, ...], problems: list[Problem]) -> dict[str, Row]:
    path = next(iter(sorted(root.rglob(name))), None)
    if path is None:
        return {}
    table = read_csv_table(path)
    check_columns(table, columns, ("image",))
    return side_table(table, "image", problems)


def _case(row: Row, code: str, rows: Mapping[str, Row], pictures: Pictures, gold: Gold, split: str,
          bundle: Bundle) -> Case:  # fmt: skip
    name = str(row["image"]).strip()
    more: Any = rows.get(identity(name), {})
    tags = patient_tags(more)
    names = CLASSES[code]
    return Case(
        id=name,
        images=(Image(_find(pictures, name), modality="dermoscopic", body_site=tags.get("site", "")),),
        lesion_id=present(more.get("lesion_id")),
        split=split,
        context=told(tags),
        diagnosis=names,
        tags=kept({"dx": code, **tags}),
        source=bundle.name,
        licence=LICENCE,
        **gold.urgency(names),
    )


def _find(pictures: Pictures, name: str) -> str:
    try:
        return pictures.find(name)
    except ValueError:
        if not name.endswith("_downsampled"):
            raise
        return pictures.find(name.removesuffix("_downsampled"))
