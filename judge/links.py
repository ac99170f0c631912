"""Names that tie a case to others beside its pixels: the published file, the series of files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from .records import Case, identity

_NUMBER = re.compile(r"[-_ ]*\d+$")
_SCHEME = (20, 0.1, 0.5)  # a name of more than 20 cases and a tenth, or of half, numbers them all and is no series
_NUMBERING = frozenset(
    ("isic", "ham", "bcn", "img", "image", "images", "pic", "picture", "photo", "dsc", "dscn", "case", "lesion")
)


def published_file(case: Case) -> str:
    """The name under which the picture was published, where the importer kept it: imported files are named anew.

    >>> published_file(Case("c", tags={"image": "Acne Photos/acne-cystic-53.jpg"}))
    'acne-cystic-53.jpg'
    """
    told = case.tags.get("image")
    return PurePosixPath(told).name if isinstance(told, str) else ""


def series_name(case: Case) -> str:
    """The series that the importer found, else the published file's name (or the picture's) without its number; or "".

    >>> series_name(Case("c", tags={"image": "Acne Photos/acne-cystic-53.jpg"}))
    'acne-cystic'
    """
    if isinstance(told := case.tags.get("series"), str):
        return told
    name = published_file(case) or (PurePosixPath(case.images[0].path).name if case.images else "")
    stem = PurePosixPath(name).stem
    series = _NUMBER.sub("", stem)
    return series if series != stem else ""


def series_of(cases: Sequence[Case]) -> list[str]:
    """The series of each case of one benchmark as an identity, "" where there is none.

    Names that number a whole set ("dermbench_0001", "ISIC_0024318", "IMG_0001") are no series.
    """
    names = [identity(series_name(case)) for case in cases]
    count, n = Counter(names), len(cases)
    few, tenth, half = _SCHEME
    most = min(max(few, tenth * n), half * n)
    told = [isinstance(case.tags.get("series"), str) for case in cases]
    return [
        name if by_importer or (count[name] <= most and name not in _NUMBERING) else ""
        for name, by_importer in zip(names, told, strict=True)
    ]
