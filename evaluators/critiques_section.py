"""What critiques are worth, as tables: faults named, false claims, and whether the scores agree."""

from __future__ import annotations

from ..judge.escape import escape_markdown
from .critiques import WHOLE, Critiques
from .markdown import Footnotes, cell, paragraph, percent, table

_ABOUT = """
Named: planted faults that the critique names in its own dimension; noticed: dimensions with a planted fault of which it
says any fault; false: faults it names that nobody planted; alarm: dimensions without fault of which it says one.
Agrees: "no fault" goes with a score within half a point of the top, a fault with a lower one. Spearman: number of
faults named and points taken off. Brackets hold 95 % intervals by patient; n stands behind a slash."""


def critiques_section(found: Critiques) -> list[str]:
    """A table of dimensions and one of planted faults."""
    formed = found.well_formed.value
    lines = ["## Critiques", "", *paragraph(_ABOUT.strip())]
    lines += paragraph(
        f"{found.narratives} narratives of {found.patients} patients; "
        f"well formed: {'none to tell' if formed is None else percent(formed)}."
    )
    foot = Footnotes()
    rows = [
        [
            "all" if d.dimension == WHOLE else escape_markdown(d.dimension),
            *(cell(e, foot) for e in (d.named, d.noticed, d.false, d.false_alarm, d.agrees, d.spearman)),
        ]
        for d in (*found.dimensions, found.whole)
    ]
    lines += table(["Dimension", "Named", "Noticed", "False", "Alarm", "Agrees", "Spearman"], rows)
    rows = [
        [escape_markdown(dimension), escape_markdown(fault), cell(share, foot)]
        for dimension, faults in found.faults.items()
        for fault, share in faults.items()
    ]
    if rows:
        lines += ["### Planted faults", "", *table(["Dimension", "Fault", "Named"], rows, left=2)]
    return lines + foot.lines()
