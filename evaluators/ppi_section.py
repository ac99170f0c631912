"""Prediction-powered means beside the judge's own: what the experts would say, from few of their scores."""

from __future__ import annotations

from ..judge.escape import escape_markdown
from .markdown import NOTHING, Footnotes, bullet, cell, number, paragraph, percent, table
from .ppi import PPILeaderboard
from .report_sections import group_names

_ABOUT = """
The mean expert score of every system, estimated from the rated narratives and the judge's scores of all (PPI++). It is
right on average however wrong the judge is, if the rated cases are a random sample; a better judge makes it narrower.
Experts alone: the plain mean of what was rated. Labels saved: how many more ratings without a judge give this width."""


def ppi_section(found: PPILeaderboard) -> list[str]:
    """Overall estimate per system beside the raw means, what the judge saves, and the difference of every two."""
    lines = ["## What the experts would say (prediction-powered)", "", *paragraph(_ABOUT.strip())]
    label, foot = group_names(found.ranking), Footnotes()
    rows = []
    for group in found.ranking:
        mean = found.of(group)
        more = None if mean.equivalent_labels is None else mean.equivalent_labels - mean.estimate.n
        rows.append([
            label[group], cell(mean.estimate, foot), cell(mean.classical, foot), cell(mean.judge, foot),
            NOTHING if mean.lam is None else number(mean.lam),
            NOTHING + foot.mark(mean.fallback) if mean.width_ratio is None else percent(mean.width_ratio),
            NOTHING if more is None else f"{more:.0f}",
        ])  # fmt: skip
    head = ["System", "Estimate", "Experts alone", "Judge alone", "Weight", "Width", "Labels saved"]
    lines += table(head, rows)
    rows = []
    for pair in found.differences:
        if pair.dimension is None:
            low, high = pair.difference.estimate.low, pair.difference.estimate.high
            sure = NOTHING if low is None or high is None else "yes" if low > 0 or high < 0 else "no"
            rows.append([f"{label[pair.first]} − {label[pair.second]}", cell(pair.difference.estimate, foot), sure])
    if rows:
        lines += table(["Overall difference", "Estimate", "Excludes 0"], rows)
    lines += foot.lines()
    return [*lines, *(line for note in found.notes for line in bullet(escape_markdown(note))), ""]
