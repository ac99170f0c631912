"""PAD-UFES-20 (Pacheco 2020): 2,298 phone photographs of 1,373 patients with clinical features, published layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evaluators.terms import Terms, load_terms
from ..judge.benchmark import assign_splits
from ..judge.records import Case, Image, identity
from ..judge.tablefile import Problem, check_columns, read_csv_table
from .bundle import SPLITS, Bundle, Pictures, derived_urgency, find_file, number, present, sentence, skin_type

LICENCE = "CC BY 4.0"
DIAGNOSES = {
    "BCC": "basal cell carcinoma", "ACK": "actinic keratosis", "NEV": "melanocytic nevus",
    "SEK": "seborrheic keratosis", "SCC": "squamous cell carcinoma", "MEL": "melanoma",
}  # fmt: skip
_SYMPTOMS = {"itch": "itches", "grew": "grew", "hurt": "hurts", "changed": "changed", "bleed": "bleeds",
             "elevation": "is raised"}  # fmt: skip
_HISTORY = ("smoke", "drink", "pesticide", "skin_cancer_history", "cancer_history", "has_piped_water",
            "has_sewage_system")  # fmt: skip
_ORIGIN = ("background_father", "background_mother")
_COLUMNS = (
    "patient_id", "lesion_id", "img_id", "diagnostic", "age", "gender", "fitspatrick", "region", "diameter_1",
    "diameter_2", "biopsed", *_SYMPTOMS, *_HISTORY, *_ORIGIN,
)  # fmt: skip

Rows = list[tuple[int, dict[str, Any]]]


def read(root: str | Path, *, fractions: Mapping[str, float] = SPLITS, seed: int = 0) -> Bundle:
    """Read PAD-UFES-20 below `root`: metadata.csv and images/imgs_part_{1,2,3}, nested or flattened.

    A case is a lesion with all its pictures. Lesion numbers repeat across patients, so a lesion is the pair of patient
    and lesion; splits are by patient. InputError if the table or the pictures are not there or its columns are others.
    """
    root = Path(root)
    table = read_csv_table(find_file(root, ("metadata.csv",)))
    check_columns(table, _COLUMNS, _COLUMNS[:4])
    pictures, terms = Pictures(root), load_terms()
    problems: list[Problem] = []
    lesions: dict[tuple[str, str], Rows] = {}
    images: dict[int, str] = {}
    seen: dict[str, int] = {}
    for line, row in table.dicts():
        try:
            for name in _COLUMNS[:3]:
                if not present(row[name]):
                    raise ValueError(f"{name} is empty")
            if (first := seen.setdefault(identity(row["img_id"]), line)) != line:
                raise ValueError(f"the image stands already on line {first}")
            if present(row["diagnostic"]) not in DIAGNOSES:
                raise ValueError(f"diagnostic '{row['diagnostic']}' is none of {', '.join(DIAGNOSES)}")
            images[line] = pictures.find(row["img_id"])
            lesions.setdefault((row["patient_id"].strip(), row["lesion_id"].strip()), []).append((line, row))
        except ValueError as error:
            problems.append(Problem(table.file, line, row["img_id"], str(error)))
    cases: list[Case] = []
    differing: set[str] = set()
    for (patient, lesion), rows in lesions.items():
        try:
            cases.append(_case(patient, lesion, rows, images, terms, differing))
        except ValueError as error:
            problems += [Problem(table.file, line, row["img_id"], str(error)) for line, row in rows]
    return Bundle(
        "pad_ufes_20", "1", LICENCE, "Mendeley Data, doi:10.17632/zr7vgbcyr2.1",
        "Pacheco AGC et al. Data in Brief 32:106221 (2020)",
        assign_splits(cases, fractions, "patient_id", seed), root, problems=problems,
        notes=["SCC includes Bowen disease.",
               *(f"{name} differs between pictures of one lesion; left out there." for name in sorted(differing))],
    )  # fmt: skip


def _case(patient: str, lesion: str, rows: Rows, images: Mapping[int, str], terms: Terms, differing: set[str]) -> Case:
    labels = {present(row["diagnostic"]) for _, row in rows}
    if len(labels) > 1:
        raise ValueError(f"lesion {lesion} of {patient} is called {' and '.join(sorted(labels))}; which is it?")

    def agreed(name: str) -> str:
        values = {present(row.get(name)) for _, row in rows} - {""}
        if len(values) > 1:
            differing.add(name)
        return values.pop() if len(values) == 1 else ""

    label = labels.pop()
    urgency, derived = derived_urgency([DIAGNOSES[label]], terms)
    symptoms = {name: _truth(agreed(name)) for name in _SYMPTOMS}
    tags: dict[str, Any] = {
        "dx": label, "age": number(agreed("age")), "sex": agreed("gender").lower(), "site": agreed("region").lower(),
        "fitzpatrick": skin_type(agreed("fitspatrick")), "biopsied": _truth(agreed("biopsed")),
        "diameters_mm": [d for d in (number(agreed("diameter_1")), number(agreed("diameter_2"))) if d is not None],
        **{name: _truth(agreed(name)) for name in _HISTORY}, **symptoms,
        **{name: agreed(name).upper().replace("BRASIL", "BRAZIL") for name in _ORIGIN},
    }  # fmt: skip
    told = ", ".join(word for name, word in _SYMPTOMS.items() if symptoms[name])
    size = " x ".join(map(str, tags["diameters_mm"]))
    facts = {"Age": "" if tags["age"] is None else str(tags["age"]), "Sex": tags["sex"], "Site": tags["site"],
             "Size": size and f"{size} mm", "The lesion": told,
             "Skin cancer before": {True: "yes", False: "no", None: ""}[tags["skin_cancer_history"]]}  # fmt: skip
    return Case(
        id=f"{patient}_{lesion}",
        images=tuple(Image(images[line], modality="clinical", body_site=tags["site"]) for line, _ in rows),
        patient_id=patient,
        lesion_id=f"{patient}_{lesion}",
        context=sentence(facts),
        diagnosis=(DIAGNOSES[label],),
        urgency=urgency,
        urgency_derived=derived,
        tags={key: value for key, value in tags.items() if value not in ("", None, [])},
        source="PAD-UFES-20",
        licence=LICENCE,
    )


def _truth(text: str) -> bool | None:
    if text.lower() not in ("true", "false", ""):
        raise ValueError(f"'{text}' is neither True nor False nor UNK")
    return {"true": True, "false": False}.get(text.lower())
