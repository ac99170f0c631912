"""A judge against experts, and its mean scores, on all cases beside those whose reference fits the label."""

from __future__ import annotations

from ..judge.escape import escape_markdown
from .agreement import DimensionAgreement
from .label_subset import LabelSubset
from .markdown import NOTHING, Footnotes, cell, names, paragraph, table

_SHOWN = ("item.mae", "item.spearman")
_ABOUT = """
A reference can be wrong: it may conclude with another diagnosis than its label, and a judge that reads it, or that
learnt from such texts, is rewarded for repeating that. {agreeing} of the {cases} rated cases have a reference that
concludes with their label, or a wider or narrower name of it, as `data audit` reads it (a second opinion, no truth).
All: every case; agree: those. n: narratives. Brackets hold 95 % intervals from redrawing patients."""


def label_subset_section(found: LabelSubset) -> list[str]:
    """Markdown lines, foreign text escaped."""
    about = " ".join(_ABOUT.format(agreeing=found.agreeing, cases=found.cases).split())
    lines = ["## Where label and reference agree", "", *paragraph(about)]
    if found.everything:
        lines += ["### Judge against experts", "", *_agreement(found)]
    return lines + (["### Mean scores", "", *_means(found)] if found.means else [])


def _agreement(found: LabelSubset) -> list[str]:
    foot, rows = Footnotes(), []
    there = {(one.judge, one.dimension): one for one in found.subset}
    label = names(list(dict.fromkeys(one.judge for one in found.everything)))
    for one in found.everything:
        other = there.get((one.judge, one.dimension))
        whole = [cell(one[name], foot, _n(one)) for name in _SHOWN]
        part = [NOTHING] * 2 if other is None else [cell(other[name], foot, _n(other)) for name in _SHOWN]
        n = f"{_n(one)}, {0 if other is None else _n(other)}"
        rows.append([label[one.judge], escape_markdown(one.dimension), n, whole[0], part[0], whole[1], part[1]])
    head = ["Judge", "Dimension", "n", "MAE, all", "MAE, agree", "Spearman, all", "Spearman, agree"]
    return [*table(head, rows, left=2), *foot.lines()]


def _n(one: DimensionAgreement) -> int:
    return int(one.counts["items"])


def _means(found: LabelSubset) -> list[str]:
    foot, rows = Footnotes(), []
    label = names(list(dict.fromkeys(text for one in found.means for text in (one.judge, one.system))))
    for one in found.means:
        n = f"{one.everything.n}, {one.agreeing.n}"
        both = [cell(part, foot, part.n) for part in (one.everything, one.agreeing)]
        told = [label[one.judge], label[one.system], escape_markdown(one.arm), escape_markdown(one.dimension)]
        rows.append([*told, n, *both])
    return [*table(["Judge", "System", "Arm", "Dimension", "n", "All", "Agree"], rows, left=4), *foot.lines()]
