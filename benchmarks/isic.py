"""What the data sets of the International Skin Imaging Collaboration share: classes, names, licences, patient fields.

Column names as written by the archive (isic-archive.com) and the challenges; the diagnosis tree is that of
ImageMarkup/isic-metadata (diagnosis_1 to diagnosis_5, coarse to fine).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..evaluators.terms import Terms
from .bundle import number, present, sentence, skin_type
from .rows import Row, kept, truth

# Codes of the challenges. A group stands with all its members: an answer that names any of them is right.
CLASSES: dict[str, tuple[str, ...]] = {
    "MEL": ("melanoma",),
    "NV": ("melanocytic nevus",),
    "BCC": ("basal cell carcinoma",),
    "AK": ("actinic keratosis",),
    "AKIEC": ("actinic keratosis", "squamous cell carcinoma in situ"),
    "BKL": ("benign keratosis", "solar lentigo"),
    "DF": ("dermatofibroma",),
    "VASC": ("vascular lesion",),
    "SCC": ("squamous cell carcinoma",),
    "SCCKA": ("squamous cell carcinoma", "keratoacanthoma"),
    "UNK": (),
}

LICENCES = {"cc-0": "CC0-1.0", "cc-by": "CC BY 4.0", "cc-by-nc": "CC BY-NC 4.0"}

# Names of the archive that the term list spells otherwise. Whole names, in small letters.
_NAMES = {
    "aimp": "", "other": "", "comedo": "",
    "angiofibroma or fibrous papule": "fibrous papule",
    "arterio-venous malformation": "vascular malformation",
    "basal cell carcinoma, fibroeipthelial": "fibroepithelioma of pinkus",
    "basal cell carcinoma, sclerosing or morpheaform": "morpheaform basal cell carcinoma",
    "baso-squamous carcinoma": "basal cell carcinoma",
    "cafe au lait macule or patch": "cafe-au-lait macule",
    "capillary vascular malformation": "port wine stain",
    "cylindoma": "cylindroma",
    "cysts": "cutaneous cyst",
    "infundibular or epidermal cyst": "epidermal cyst",
    "keratinous cyst": "epidermal cyst",
    "lipomatous nevus": "nevus lipomatosus superficialis",
    "lymphocytic proliferations - b-cell": "cutaneous B-cell lymphoma",
    "lymphocytic proliferations - t-cell/nk": "cutaneous T-cell lymphoma",
    "malignant melanocytic proliferations (melanoma)": "melanoma",
    "mast cell proliferations": "cutaneous mastocytosis",
    "melanoma, acral or acral-lentiginous": "acral lentiginous melanoma",
    "melanoma, lentigo maligna type": "lentigo maligna melanoma",
    "melanoma in situ, lentigo maligna type": "lentigo maligna",
    "merkel cell proliferation": "merkel cell carcinoma",
    "mixed tumor": "chondroid syringoma",
    "muluscum": "molluscum contagiosum",
    "nevus, atypical, dysplastic, or clark": "atypical nevus",
    "nevus, compound": "compound nevus",
    "nevus, dermal": "intradermal nevus",
    "nevus, junctional": "junctional nevus",
    "nevus, recurrent or persistent": "recurrent nevus",
    "nevus sebaceus": "nevus sebaceous",
    "paget disease, extra-mammary": "extramammary paget disease",
    "pigmented benign keratosis": "benign keratosis",
    "solar or actinic cheilitis": "actinic cheilitis",
    "solar or actinic keratosis": "actinic keratosis",
    "squamous cell carcinoma, keratoacanthoma-type": "keratoacanthoma",
    "subungual hemorrhage": "subungual hematoma",
    "trichilemmal or isthmic-catagen or pilar cyst": "pilar cyst",
    "vascular spider": "spider angioma",
}  # fmt: skip

_MODALITIES = {"dermoscopic": "dermoscopic", "clinical": "clinical", "tbp tile": "total-body", "rcm": "microscopy"}


def named(levels: Sequence[Any], terms: Terms) -> tuple[str, str]:
    """(name of the term list, label as published) of a diagnosis given coarse to fine; "" for what is not known.

    The finest level that the list holds counts; of a subtype that it does not hold ("Nevus, Agminated") the type.

    >>> from dermjudge.evaluators.terms import load_terms
    >>> named(("Malignant", "Malignant melanocytic proliferations (Melanoma)", "Melanoma, NOS"), load_terms())
    ('melanoma', 'Melanoma, NOS')
    """
    known = [present(level) for level in levels]
    label = next((level for level in reversed(known) if level), "")
    for level in reversed(known):
        parts = [part.strip() for part in re.sub(r"(?i),?\s*\b(NOS|invasive)\b", "", level).split(",")]
        for end in range(len(parts), 0, -1):
            text = ", ".join(parts[:end])
            name = _NAMES.get(text.casefold(), text)
            if name and (found := terms.find(name)) and not found.is_group:
                return found.name, label
    return "", label


def licence_of(row: Row, stated: str = "") -> str:
    """The licence of one picture: the one stated by the user, else its own; ValueError if there is none."""
    text = present(row.get("copyright_license"))
    if not text and not stated:
        raise ValueError("copyright_license is empty; without a licence the picture is not copied (or say licence=...)")
    return stated or LICENCES.get(text.casefold(), text)


def together(licences: Sequence[str]) -> str:
    """One line for a benchmark whose pictures have several licences.

    >>> together(["CC0-1.0", "CC BY-NC 4.0", "CC0-1.0"])
    'per case: CC BY-NC 4.0, CC0-1.0'
    """
    found = sorted(set(licences))
    return found[0] if len(found) == 1 else f"per case: {', '.join(found)}" if found else ""


def modality(value: Any) -> str:
    """The kind of picture from image_type ("clinical: close-up", "TBP tile: close-up" ...); "" if it is not told."""
    text = present(value).casefold()
    return next((name for start, name in _MODALITIES.items() if text.startswith(start)), text)


def patient_tags(row: Row) -> dict[str, Any]:
    """age, sex, site, skin type and history of one row, whatever of them its table has."""
    levels = [present(row.get(f"anatom_site_{k}")) for k in range(1, 6)]
    site = next((text for name in ("anatom_site_general", "anatom_site_general_challenge", "site")
                 if (text := present(row.get(name)))), levels[0])  # fmt: skip
    detail = next((level for level in reversed(levels[1:]) if level), "")
    return kept({
        "age": number(row.get("age_approx")), "sex": present(row.get("sex")).lower(), "site": site.lower(),
        "site_detail": detail.lower(), "site_special": present(row.get("anatom_site_special")).lower(),
        "fitzpatrick": skin_type(row.get("fitzpatrick_skin_type")),
        "personal_history_of_melanoma": truth(row.get("personal_hx_mm"), what="personal_hx_mm"),
        "family_history_of_melanoma": truth(row.get("family_hx_mm"), what="family_hx_mm"),
        "diameter_mm": number(row.get("clin_size_long_diam_mm")),
        "confirmation": present(row.get("diagnosis_confirm_type")), "attribution": present(row.get("attribution")),
    })  # fmt: skip


def told(tags: dict[str, Any]) -> str:
    """The clinical context of a case from its `patient_tags`."""
    words = {True: "yes", False: "no"}
    size = tags.get("diameter_mm")
    return sentence({
        "Age": str(tags.get("age", "")), "Sex": tags.get("sex", ""),
        "Site": tags.get("site_detail") or tags.get("site", ""), "Size": f"{size} mm" if size is not None else "",
        "Melanoma before": words.get(tags.get("personal_history_of_melanoma"), ""),  # type: ignore[arg-type]
        "Melanoma in the family": words.get(tags.get("family_history_of_melanoma"), ""),  # type: ignore[arg-type]
    })  # fmt: skip


def unmapped(labels: Sequence[str]) -> list[str]:
    """A note on diagnoses that the term list does not hold."""
    found = sorted(set(labels) - {""})
    if not found:
        return []
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return [f"{len(labels)} cases have a diagnosis that the term list does not hold, and so none: "
            f"{'; '.join(found[:10])}{more}."]  # fmt: skip
