"""Strict top-k with the answers about unmatched items counted, beside what the list alone gives."""

from __future__ import annotations

from collections.abc import Sequence

from ..judge.escape import escape_markdown
from .adjudication import Adjudicated
from .diagnosis import DiagnosisResult
from .markdown import Footnotes, cell, names, paragraph, table

_ABOUT = """
{judge} was asked what the list could not place: what an item is to the gold diagnosis. An answer never overrules a
match, and no other number of this report counts it. Answered: of the distinct pairs of item and gold; an item without a
readable answer stays a miss. Strict top-k over n narratives of cases with a usable gold, Wilson intervals."""


def adjudication_section(result: DiagnosisResult, found: Sequence[Adjudicated], judge: str) -> list[str]:
    """Markdown lines, foreign text escaped: a row per system and depth, by the list and with the answers."""
    by_list = {(s.system, s.arm): s.strict for s in result.systems}
    label, foot, rows = names(list(dict.fromkeys(one.system for one in found))), Footnotes(), []
    for one in found:
        for k, with_answers in one.strict.items():
            before = by_list[one.system, one.arm][k]
            rows.append([
                label[one.system], escape_markdown(one.arm), f"{k}", f"{one.n}", f"{one.answered} of {one.asked}",
                cell(before, foot, one.n), cell(with_answers, foot, one.n),
            ])  # fmt: skip
    about = " ".join(_ABOUT.format(judge=escape_markdown(judge)).split())
    header = ["System", "Arm", "Top", "n", "Answered", "By the list", "With answers"]
    return ["## Unmatched items, adjudicated", "", *paragraph(about), *table(header, rows, left=2), *foot.lines()]
