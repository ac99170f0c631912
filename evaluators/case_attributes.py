"""Which group each case belongs to: skin type, age band, sex, site, picture quality, diagnosis, or any tag."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ..judge.errors import InputError
from ..judge.records import Case, identity
from .labels import usable_gold
from .terms import Terms, load_terms

AGE_BANDS = ((18.0, "<18"), (40.0, "18-39"), (65.0, "40-64"), (float("inf"), "65+"))  # years, below the first number
SKIN_TYPES = ("1", "2", "3", "4", "5", "6")
SKIN_BANDS = ("1-2", "3-4", "5-6")
MIXED = "mixed"  # a case whose pictures, or diagnoses, stand in different groups
_SKIN = re.compile(r"fitz|skin|tone|phototype|fst", re.IGNORECASE)
_ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6"}
_SEX = {"f": "female", "m": "male"}


def case_attributes(cases: Sequence[Case], names: Sequence[str] | None = None) -> dict[str, dict[str, str]]:
    """Groups of cases by attribute, name -> case_id -> group, for `subgroups.subgroup_gaps`.

    fitzpatrick: types "1" to "6" from the tag; fitzpatrick_band: "1-2", "3-4", "5-6", only if a tag names a band, and
    then types stand there in their band; types and bands never share an attribute. age: bands <18, 18-39, 40-64, 65+
    (years) of a tag that is a number. sex: the tag, in small letters. site, quality: tags of the pictures, "mixed"
    where a case's pictures differ. diagnosis_group: malignant, benign ... of the term list, "mixed" where several gold
    diagnoses differ. A case of which nothing is known is left out. `names`: which of these, or the names of other
    tags; default all of these of which something is known.

    Raises InputError for a name of which nothing is known of any case.

    >>> case_attributes([Case("a", tags={"age": 40, "sex": "F"}), Case("b", tags={"age": 7})])
    {'age': {'a': '40-64', 'b': '<18'}, 'sex': {'a': 'female'}}
    """
    terms = load_terms()
    readers: dict[str, Callable[[Case], str]] = {
        "fitzpatrick": lambda case: found if (found := _skin(case)) not in SKIN_BANDS else "",
        "fitzpatrick_band": _band,
        "age": _age_band,
        "sex": _sex,
        "site": lambda case: _one({image.body_site.strip().lower() for image in case.images}),
        "quality": lambda case: _one({image.quality.strip().lower() for image in case.images}),
        "diagnosis_group": lambda case: _diagnosis_group(case, terms),
    }
    if not any(_skin(case) in SKIN_BANDS for case in cases):
        del readers["fitzpatrick_band"]
    found = {}
    for name in readers if names is None else names:
        read = readers.get(name, lambda case, name=name: _text(case, name))  # type: ignore[misc]
        groups = {case.id: group for case in cases if (group := read(case))}
        if groups:
            found[name] = groups
        elif names is not None:
            raise InputError(
                f"nothing is known of '{name}' of any of {len(cases)} cases; known are {', '.join(readers)} and tags"
            )
    return found


def refuse_overlap(name: str, groups: Sequence[str]) -> None:
    """InputError if two groups of an attribute could hold one case: two spellings, or a skin type and its band."""
    spelt: dict[str, str] = {}
    for group in groups:
        if (other := spelt.setdefault(identity(group), group)) != group:
            raise InputError(f"attribute '{name}' spells one group in two ways, '{other}' and '{group}'; use one")
    if not _SKIN.search(name):
        return
    read = {group: skin_type(group) for group in groups}
    types = [group for group, found in read.items() if found in SKIN_TYPES]
    bands = [group for group, found in read.items() if found in SKIN_BANDS]
    if types and bands:
        raise InputError(
            f"attribute '{name}' mixes Fitzpatrick types ('{types[0]}') with bands ('{bands[0]}'), and they overlap; "
            "put every type into its band, or leave the cases with bands out"
        )


def skin_type(text: str) -> str:
    """A Fitzpatrick type as "1" to "6" or a band as "1-2", "3-4" or "5-6"; any other text as it is.

    >>> [skin_type(text) for text in ("IV", "FST2", "3.0", "I-II", "56", "dark")]
    ['4', '2', '3', '1-2', '5-6', 'dark']
    """
    plain = re.sub(r"^(?:fst|type)\s*|\.0$", "", text.strip().casefold())
    parts = "-".join(_ROMAN.get(part.strip(), part.strip()) for part in re.split(r"[-–/]|to", plain))
    parts = f"{parts[0]}-{parts[1]}" if parts in ("12", "34", "56") else parts
    return parts if parts in (*SKIN_TYPES, *SKIN_BANDS) else text.strip()


def _text(case: Case, tag: str) -> str:
    """A tag that is a word, a number or yes or no; "" for anything else."""
    value = case.tags.get(tag)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, (str, int, float)) else ""


def _skin(case: Case) -> str:
    return skin_type(_text(case, "fitzpatrick"))


def _band(case: Case) -> str:
    found = _skin(case)
    if found in SKIN_TYPES:
        return SKIN_BANDS[SKIN_TYPES.index(found) // 2]
    return found if found in SKIN_BANDS else ""


def _age_band(case: Case) -> str:
    try:
        age = float(_text(case, "age"))
    except ValueError:
        return ""
    return next((band for below, band in AGE_BANDS if age < below), "") if age >= 0 else ""


def _sex(case: Case) -> str:
    found = _text(case, "sex").lower()
    return _SEX.get(found, found)


def _one(groups: set[str]) -> str:
    """The one group that is named, "mixed" if several are, "" if none is."""
    groups = groups - {""}
    return MIXED if len(groups) > 1 else next(iter(groups), "")


def _diagnosis_group(case: Case, terms: Terms) -> str:
    names, _ = usable_gold(case, terms)
    return _one({terms.conditions[name].malignancy for name in names})
