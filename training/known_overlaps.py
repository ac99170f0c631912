"""Published data sets that are known to hold the same pictures, whatever their copies are called."""

from __future__ import annotations

import re
from typing import NamedTuple


class _Known(NamedTuple):
    """Two groups of names (regular expressions on case-folded text); a name of one overlaps any name of the other."""

    one: tuple[str, ...]
    other: tuple[str, ...]
    why: str


_DERMBENCH = r"\bdermbench"
_HAM = r"\bham[- ]?10000|\bdermamnist|\bisic[- ]?2018"
_DDI = r"\bddi\b|\bdermabench"

# Each line is what the publishers say of where their pictures come from, or can be counted in the published lists.
KNOWN = (
    _Known(
        (r"\bskin[- ]?cot", r"\bdermcot", r"\bskingpt[- ]?r1", r"\bdermnet"),
        (_DERMBENCH,),
        # 4,002 pictures less 2, with the same number in each category but two; SkinCoT's example is dermbench_3479;
        # DermCoT is the corpus of SkinGPT-R1 (arXiv 2511.15242).
        "DermBench is the test half of the public DermNet copy, and SkinCoT and DermCoT are made from DermNet pictures",
    ),
    _Known(
        (r"\bskin[- ]?cot", r"\bdermcot", r"\bskingpt[- ]?r1"),
        (r"\bskin[- ]?cot", r"\bdermcot", r"\bdermnet"),
        "SkinCoT and DermCoT are made from DermNet pictures",
    ),
    _Known(
        (r"\bskin[- ]?cap",),
        (r"\bfitzpatrick[- ]?17k", _DDI),
        "SkinCAP's pictures are those of Fitzpatrick17k and DDI",
    ),
    _Known((r"\bdermabench",), (r"\bddi\b",), "DermaBench asks about the pictures of DDI"),
    _Known(
        (_HAM,),
        (_HAM, r"\bisic[- ]?2019"),
        "ISIC 2018, ISIC 2019 and DermaMNIST hold the pictures of HAM10000",
    ),
    _Known((r"\bbcn[- ]?20000",), (r"\bisic[- ]?2019",), "ISIC 2019 holds the pictures of BCN20000 by other names"),
)


def known_overlap(trained: str, held: str) -> str:
    """Why data sets of these names share pictures, or "" where nothing is known; one and the same name is no overlap.

    >>> known_overlap("SkinCoT (SkinCaRe)", "DermBench")[:31]
    'DermBench is the test half of t'
    >>> known_overlap("DermBench", "DermBench")
    ''
    """
    one, other = trained.casefold().replace("_", " "), held.casefold().replace("_", " ")
    if one == other:
        return ""
    for known in KNOWN:
        for mine, theirs in ((known.one, known.other), (known.other, known.one)):
            if _any(mine, one) and _any(theirs, other):
                return known.why
    return ""


def _any(patterns: tuple[str, ...], text: str) -> bool:
    return any(re.search(pattern, text) for pattern in patterns)
