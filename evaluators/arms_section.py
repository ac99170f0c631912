"""What each arm is worth as tables: paired differences, answers that flip, first diagnoses that change."""

from __future__ import annotations

from collections.abc import Sequence

from ..judge.escape import escape_markdown
from .arms_effect import ArmDelta, ArmsEffect
from .markdown import NOTHING, Footnotes, bullet, cell, names, paragraph, table

ALL = "*all systems*"  # no system can be called this: the stars of a name would be escaped
_ABOUT = """
Each arm against {base}, on the same case, system and sample. n: pairs with a value under both (in brackets: without one
under one of the two). Difference: arm minus {base}, with 95 % intervals from redrawing patients. To wrong: of those
right under {base}; to right: of those wrong; behind the slash: of how many."""
_ABOUT_FIRST = """
How often the first diagnosis is another one than under {base}, of n pairs in which both name one. Under a wrong context
that is the sensitivity to it."""


def arms_section(effects: Sequence[ArmsEffect], notes: Sequence[str] = ()) -> list[str]:
    """Markdown lines, foreign text escaped: per reference arm a table per measure, and changes of the first diagnosis.

    Lenient measures stand in `ArmsEffect.to_dict` only.
    """
    lines = ["## Arms", ""]
    for found in effects:
        base = escape_markdown(found.base)
        systems = list(dict.fromkeys(row.system for row in found.deltas if row.system is not None))
        label: dict[str | None, str] = {None: ALL}
        label.update(names(systems))
        lines += [f"### Against {base}", "", *paragraph(" ".join(_ABOUT.format(base=base).split()))]
        shown = [row for row in found.deltas if row.system is not None or len(systems) > 1]
        for measure in dict.fromkeys(row.measure for row in shown if not row.measure.startswith("lenient_")):
            lines += [f"#### {escape_markdown(measure)}", ""]
            lines += _deltas([row for row in shown if row.measure == measure], label)
        lines += _first(found, label, len(systems) > 1)
        lines += [line for family in dict.fromkeys(row.family for row in shown)
                  for line in bullet(f"p adjusted: {escape_markdown(family)}.")]  # fmt: skip
        alone = [f"{escape_markdown(arm)} {count}" for arm, count in found.unpaired.items() if count]
        lines += bullet(f"narratives without a partner, left out: {', '.join(alone)}.") if alone else []
        lines.append("")
    return [*lines, *(line for note in notes for line in bullet(escape_markdown(note)))]


def _deltas(rows: Sequence[ArmDelta], label: dict[str | None, str]) -> list[str]:
    foot, cells = Footnotes(), []
    arms = names(list(dict.fromkeys(row.arm for row in rows)))
    for row in rows:
        flips = [
            NOTHING if f is None else cell(f, foot, interval=False) for f in (row.right_to_wrong, row.wrong_to_right)
        ]
        q = row.p_adjusted
        p = NOTHING if q is None else "<0.001" if q < 0.0005 else f"{q:.3f}"
        cells.append([
            arms[row.arm], label[row.system], f"{row.n}" + f" ({row.lost})" * bool(row.lost),
            cell(row.value_base, foot, row.n, False), cell(row.value_arm, foot, row.n, False),
            cell(row.difference, foot, row.n), p, *flips,
        ])  # fmt: skip
    header = ["Arm", "System", "n", "Before", "Arm's", "Difference", "p adj.", "To wrong", "To right"]
    return [*table(header, cells, left=2), *foot.lines()]


def _first(found: ArmsEffect, label: dict[str | None, str], pooled: bool) -> list[str]:
    rows = [row for row in found.first if row.system is not None or pooled]
    if not rows:
        return []
    foot = Footnotes()
    arms = names(list(dict.fromkeys(row.arm for row in rows)))
    cells = [[arms[row.arm], label[row.system], f"{row.n}", f"{row.lost}", cell(row.changed, foot, row.n)]
             for row in rows]  # fmt: skip
    about = " ".join(_ABOUT_FIRST.format(base=escape_markdown(found.base)).split())
    lines = ["#### First diagnosis", "", *paragraph(about)]
    return [*lines, *table(["Arm", "System", "n", "Lost", "Changed"], cells, left=2), *foot.lines()]
