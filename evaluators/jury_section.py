"""Who sat on a jury, how much each said, and how it was put together."""

from __future__ import annotations

from ..judge.escape import escape_markdown
from .jury import Jury
from .markdown import NOTHING, bullet, number, paragraph, percent, table


def jury_section(found: Jury) -> list[str]:
    """Coverage of every judge, the policy for missing ones, and weights where there are any."""
    lines = ["## The jury", "", *paragraph(f"{escape_markdown(found.rater)}: {found.policy}.")]
    rows = []
    for m in found.members:
        share = NOTHING if m.coverage is None else percent(m.coverage)
        weights = ", ".join(f"{escape_markdown(d)} {number(w)}" for d, w in (m.weights or {}).items()) or NOTHING
        rows.append([escape_markdown(m.judge), f"{m.scored}/{m.planned}", share, str(m.alone_missing), weights])
    lines += table(["Judge", "Scored", "Coverage", "Alone missing", "Weights"], rows)
    lines += paragraph(f"The jury has {found.scored} of {found.planned} scores.")
    return [*lines, *(line for note in found.notes for line in bullet(escape_markdown(note)))]
