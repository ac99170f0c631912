"""The benchmark-to-bedside table in Markdown, with what case mix explains and what context is worth."""

from __future__ import annotations

from collections.abc import Sequence

from ..judge.escape import escape_markdown
from .arms_effect import ArmsEffect
from .gap import Gap
from .gap_parts import GapRow
from .markdown import NOTHING, Footnotes, bullet, cell, names, number, paragraph, percent, table

ALL = "*all systems*"  # no system can be called this: the stars of a name would be escaped
_ABOUT = """
Public: {public} ({arm}). Local: {local}. Gap: public minus local, so a positive one is what is lost on the way. Case
mix: the part that would be there if a system did as well in every diagnosis group as on public cases; within: the rest.
*all systems*: the plain mean of the systems. Brackets hold 95 % intervals; each side's patients are redrawn by
themselves. n: narratives on either side."""
_ABOUT_GROUPS = "Share of the narratives and mean in each diagnosis group, over all systems. n: cases on either side."
_ABOUT_CONTEXT = """
{arm} minus {base} on the same case, system and sample. Lost: pairs without a value under one of the two. Right to
wrong: of those right under {base}; wrong to right: of those wrong. p adjusted: {family}."""


def gap_section(found: Gap) -> list[str]:
    """Per measure the gap and its parts, the groups they rest on, and the effect of context on the local cases."""
    title = f"## {escape_markdown(found.public)} to {escape_markdown(found.local)}"
    about = _ABOUT.format(public=escape_markdown(found.public), local=escape_markdown(found.local),
                          arm=escape_markdown(found.arm))  # fmt: skip
    lines = [title, "", *paragraph(about.strip())]
    label: dict[str | None, str] = {None: ALL}
    label.update(names(found.systems))
    for arm in dict.fromkeys(row.local_arm for row in found.rows):
        rows = [row for row in found.rows if row.local_arm == arm]
        lines += [f"### Local arm: {escape_markdown(arm)}", "", *_rows(rows, label)]
    lines += _groups(found)
    if found.context:
        lines += _context(found.context, label)
    return [*lines, *(line for note in found.notes for line in bullet(escape_markdown(note))), ""]


def _rows(rows: Sequence[GapRow], label: dict[str | None, str]) -> list[str]:
    foot = Footnotes()
    cells = []
    for row in rows:
        n = f"{row.public.n}, {row.local.n}"
        parts = [cell(part, foot, part.n) for part in (row.public, row.local, row.gap, row.mix, row.within)]
        share = (
            NOTHING + foot.mark(row.explained.reason) if row.explained.value is None else number(row.explained.value)
        )
        cells.append([escape_markdown(row.measure), label[row.system], n, *parts, share])
    header = ["Measure", "System", "n", "Public", "Local", "Gap", "Case mix", "Within", "Mix / gap"]
    return [*table(header, cells, left=2), *foot.lines()]


def _groups(found: Gap) -> list[str]:
    """Of the arm that is compared; the JSON has those of the others."""
    cells = [
        [escape_markdown(g.measure), escape_markdown(g.group), f"{g.public_cases}, {g.local_cases}",
         percent(g.public_share), percent(g.local_share), number(g.public_mean), number(g.local_mean)]
        for g in found.groups if g.local_arm == found.arm
    ]  # fmt: skip
    together = {f"{' + '.join(names)} ({measure})" for (measure, arm), names in found.pooled.items()
                if names and arm == found.arm}  # fmt: skip
    lines = ["### Diagnosis groups", "", *paragraph(_ABOUT_GROUPS)]
    lines += table(["Measure", "Group", "n", "Public share", "Local share", "Public mean", "Local mean"], cells, left=2)
    if together:
        said = f"Put together, with fewer than {found.least} cases on a side: {'; '.join(sorted(together))}."
        lines += paragraph(escape_markdown(said))
    return lines


def _context(found: ArmsEffect, label: dict[str | None, str]) -> list[str]:
    foot, cells = Footnotes(), []
    for row in found.deltas:
        flips = [
            NOTHING if flip is None else cell(flip, foot, flip.n) for flip in (row.right_to_wrong, row.wrong_to_right)
        ]
        q = row.p_adjusted
        p = NOTHING if q is None else "<0.001" if q < 0.0005 else f"{q:.3f}"
        cells.append([escape_markdown(row.measure), label[row.system], f"{row.n}", f"{row.lost}",
                      cell(row.value_base, foot, row.n, False), cell(row.value_arm, foot, row.n, False),
                      cell(row.difference, foot, row.n), p, *flips])  # fmt: skip
    arm = found.arms[0]
    own = next((row.family for row in found.deltas if row.system is not None), "")
    about = _ABOUT_CONTEXT.format(
        arm=escape_markdown(arm), base=escape_markdown(found.base), family=escape_markdown(own)
    )
    header = ["Measure", "System", "n", "Lost", "Without", "With", "Difference", "p adjusted", "Right to wrong",
              "Wrong to right"]  # fmt: skip
    lines = [
        "### What context is worth on the local cases",
        "",
        *paragraph(about.strip()),
        *table(header, cells, left=2),
    ]
    return [*lines, *foot.lines()]
