"""MILK10k (Tschandl 2025): 5,240 lesions, each as a clinical close-up and a dermoscopic picture, published layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..judge.benchmark import assign_splits
from ..judge.records import Case, Image, identity
from ..judge.tablefile import Problem, check_columns, read_csv_table
from .bundle import SPLITS, Bundle, Pictures, find_file, number, present
from .isic import CLASSES, licence_of, modality, named, patient_tags, together, told
from .rows import Gold, Row, cases_of, kept, one_hot, side_table

_CLASSES = ("AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC")
_MALIGNANT = {"BCC": True, "MAL_OTH": True, "MEL": True, "SCCKA": True, "AKIEC": None}  # the others are benign
_MONET = "MONET_"  # probabilities of a model, no truth
_COLUMNS = ("lesion_id", "image_type", "isic_id", "attribution", "copyright_license", "image_manipulation",
            "age_approx", "sex", "skin_tone_class", "site")  # fmt: skip
_SUPPLEMENT = ("isic_id", "diagnosis_full", "diagnosis_confirm_type", "invasion_thickness_interval")
_ORDER = {"clinical": 0, "dermoscopic": 1}


def read(root: str | Path, *, licence: str = "", fractions: Mapping[str, float] = SPLITS, seed: int = 0) -> Bundle:
    """Read MILK10k below `root`: MILK10k_Training_{GroundTruth,Metadata,Supplement}.csv and MILK10k_Training_Input/.

    A case is a lesion with its two pictures, the clinical one first. The gold names are those of the class; where a
    class names no disease (INF, BEN_OTH, MAL_OTH), that of the supplement. skin_tone_class runs from 0 (dark) to 5
    (light), against Fitzpatrick's direction, and stays a tag of its own. Splits are by lesion; the test part has no
    published truth. licence: for copies whose copyright_license was lost. InputError if a table or the pictures are not
    there or a column is missing.
    """
    root = Path(root)
    truth = read_csv_table(find_file(root, ("MILK10k_Training_GroundTruth.csv",)))
    check_columns(truth, ("lesion_id", *_CLASSES), ("lesion_id", *_CLASSES))
    metadata = read_csv_table(find_file(root, ("MILK10k_Training_Metadata.csv",)))
    monet = [name for name in metadata.columns if name.startswith(_MONET)]
    check_columns(metadata, (*_COLUMNS, *monet), ("lesion_id", "isic_id", "image_type"))
    pictures, gold = Pictures(root), Gold()
    problems: list[Problem] = []
    further: dict[str, Row] = {}
    if path := next(iter(sorted(root.rglob("MILK10k_Training_Supplement.csv"))), None):
        supplement = read_csv_table(path)
        check_columns(supplement, _SUPPLEMENT, _SUPPLEMENT[:2])
        further = side_table(supplement, "isic_id", problems)
    shown = _pictures_of(metadata, pictures, licence, problems)
    used: set[str] = set()

    def case(row: Row) -> Case:
        lesion = str(row["lesion_id"]).strip()
        code = one_hot(row, _CLASSES)
        images = shown.get(identity(lesion), [])
        if not images:
            raise ValueError(f"no usable picture of lesion {lesion} stands in {metadata.file}")
        used.add(identity(lesion))
        return _case(lesion, code, sorted(images, key=lambda found: found[0]), further, gold)

    cases = [made for _, made in cases_of(truth, "lesion_id", case, problems)]
    problems += [Problem(metadata.file, found[0][3], lesion, f"lesion {lesion} has no row in {truth.file}")
                 for lesion, found in shown.items() if lesion not in used]  # fmt: skip
    pairs = Counter(tuple(image.modality for image in made.images) for made in cases)
    whole = pairs[("clinical", "dermoscopic")]
    nameless = sum(not made.diagnosis for made in cases)
    notes = [
        "Splits are by lesion: the set does not say which lesions belong to one patient.",
        "skin_tone_class runs from dark (0) to light (5) and is no Fitzpatrick type.",
        *([f"{len(cases) - whole} cases do not have the pair of one clinical and one dermoscopic picture."]
          if whole < len(cases) else []),
        *([f"{nameless} cases have no diagnosis: their class names none and neither does the supplement."]
          if nameless else []),
    ]  # fmt: skip
    return Bundle(
        "milk10k", "1", together([made.licence for made in cases]), "ISIC MILK10k, doi:10.34970/648456",
        "MILK study team. MILK10k. ISIC Archive (2025)", assign_splits(cases, fractions, "lesion_id", seed), root,
        problems=problems, notes=notes,
    )  # fmt: skip


Shown = tuple[int, Image, Row, int]  # place in the case, picture, its row, line


def _pictures_of(table: Any, pictures: Pictures, licence: str, problems: list[Problem]) -> dict[str, list[Shown]]:
    """The pictures of each lesion; a row that cannot be used goes to `problems`."""
    shown: dict[str, list[Shown]] = {}
    seen: dict[str, int] = {}
    for line, row in table.dicts():
        try:
            if (first := seen.setdefault(identity(str(row["isic_id"])), line)) != line:
                raise ValueError(f"the picture stands already on line {first}")
            kind = modality(row["image_type"])
            if kind not in _ORDER:
                raise ValueError(f"image_type '{row['image_type']}' is neither 'clinical: close-up' nor 'dermoscopic'")
            image = Image(pictures.find(str(row["isic_id"])), modality=kind, body_site=present(row.get("site")).lower())
            entry = {**row, "copyright_license": licence_of(row, licence)}
            patient_tags(row)  # a bad age is the row's fault, not the lesion's
            shown.setdefault(identity(str(row["lesion_id"])), []).append((_ORDER[kind], image, entry, line))
        except ValueError as error:
            problems.append(Problem(table.file, line, str(row["isic_id"]), str(error)))
    return shown


def _case(lesion: str, code: str, images: list[Shown], further: Mapping[str, Row], gold: Gold) -> Case:
    rows = [row for _, _, row, _ in images]
    extra: list[Row] = [further.get(identity(str(row["isic_id"])), {}) for row in rows]
    fine = {name for row in extra if (name := named([row.get("diagnosis_full")], gold.terms)[0])}
    names = CLASSES.get(code) or (tuple(fine) if len(fine) == 1 else ())
    agreed = {name: values.pop() for name in rows[0] if len(values := {str(row.get(name, "")) for row in rows}) == 1}
    tags = patient_tags(agreed)
    tone = number(agreed.get("skin_tone_class"))
    full = {present(row.get("diagnosis_full")) for row in extra} - {""}
    confirmed = {present(row.get("diagnosis_confirm_type")) for row in extra} - {""}
    thick = {present(row.get("invasion_thickness_interval")) for row in extra} - {""}
    return Case(
        id=lesion,
        images=tuple(image for _, image, _, _ in images),
        lesion_id=lesion,
        context=told(tags),
        diagnosis=names,
        tags=kept({**tags, "dx": code, "diagnosis_full": "; ".join(sorted(full)),
                   "malignant": _MALIGNANT.get(code, False),
                   "confirmation": "; ".join(sorted(confirmed)), "thickness_mm": "; ".join(sorted(thick)),
                   "skin_tone_class": None if tone is None else str(tone)}),
        source="MILK10k",
        licence=together([row["copyright_license"] for row in rows]),
        **gold.urgency(names),
    )  # fmt: skip
