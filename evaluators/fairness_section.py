"""Fairness as tables: every metric by group, the distance between groups, and which gaps may be claimed."""

from __future__ import annotations

from ..judge.escape import escape_markdown
from .fairness import CROSS, FEWEST_CASES, FairnessResult
from .fairness_results import GroupValue
from .markdown import NOTHING, Footnotes, bullet, cell, names, number, paragraph, table

UNKNOWN_GROUP = "not known"
LEVEL = 0.05
_ABOUT = f"""
Value: mean over the group's narratives. Gap: the group minus all other cases of a known group; brackets hold 95 %
intervals. p is adjusted within its family (below); where it is missing the group is shown and nothing is claimed of it:
under {FEWEST_CASES} cases, or under 20 patients, on either side."""


def fairness_section(found: FairnessResult) -> list[str]:
    """Markdown lines, foreign text escaped: per system, arm and metric a table of groups and one of distances."""
    lines = ["## Groups of cases", "", *paragraph(" ".join(_ABOUT.split()))]
    for system, arm, metric in dict.fromkeys((g.system, g.arm, g.metric) for g in found.groups):
        own = [g for g in found.groups if (g.system, g.arm, g.metric) == (system, arm, metric)]
        lines += [
            f"### {escape_markdown(metric)}: {escape_markdown(system)}" + (f" / {escape_markdown(arm)}" * bool(arm)),
            "",
        ]
        foot = Footnotes()
        single = [g for g in own if CROSS not in g.attribute]
        lines += [*_groups(single, foot), *foot.lines()]
        crossed = [g for g in own if CROSS in g.attribute and g.group is not None]
        claimed = [g for g in crossed if g.p_adjusted is not None and g.p_adjusted < LEVEL]
        if crossed:
            small = sum(bool(g.shown) for g in crossed)
            text = f"Crossings: {len(crossed)} groups, {small} of them too small for a claim, {len(claimed)} with a gap"
            lines += paragraph(f"{text} (p < {LEVEL}, adjusted)" + (":" if claimed else "."))
        if claimed:
            foot = Footnotes()
            lines += [*_groups(claimed, foot), *foot.lines()]
        lines += _distances(found, (system, arm, metric))
    lines += [line for family in found.families.values() for line in bullet(escape_markdown(family))]
    return [*lines, *(line for note in found.notes for line in bullet(escape_markdown(note)))]


def _groups(groups: list[GroupValue], foot: Footnotes) -> list[str]:
    short = names(list(dict.fromkeys(g.group or UNKNOWN_GROUP for g in groups)))
    rows = []
    for g in groups:
        p = _mark(g, foot) if g.p_adjusted is None else "< 0.001" if g.p_adjusted < 0.001 else f"{g.p_adjusted:.3f}"
        gap = NOTHING if g.gap.value is None else cell(g.gap, foot, g.gap.n)
        n = f"{g.counts['narratives']}/{g.counts['cases']}/{g.counts['patients']}"
        rows.append([escape_markdown(g.attribute), short[g.group or UNKNOWN_GROUP], n,
                     cell(g.value, foot, g.value.n), gap, p])  # fmt: skip
    header = ["Attribute", "Group", "Narratives/cases/patients", "Value", "Gap", "p, adjusted"]
    return table(header, rows, left=2)


def _mark(group: GroupValue, foot: Footnotes) -> str:
    """Why there is no p-value."""
    return NOTHING + foot.mark(group.shown or group.gap.reason)


def _distances(found: FairnessResult, key: tuple[str, str, str]) -> list[str]:
    """Highest minus lowest group per attribute, and under sensitivity the equalised odds."""
    wanted = {key[2]} | ({"equalised_odds"} if key[2] == "sensitivity" else set())
    rows = []
    foot = Footnotes()
    for d in found.disparities:
        if (d.system, d.arm) != key[:2] or d.metric not in wanted or CROSS in d.attribute:
            continue
        name = {"positive_rate": "demographic parity", "equalised_odds": f"equalised odds ({d.of})"}.get(
            d.metric, "range"
        )
        if d.difference is None:
            rows.append([escape_markdown(d.attribute), name, NOTHING + foot.mark(d.reason), NOTHING, NOTHING])
            continue
        chance = NOTHING if d.by_chance is None else f"{number(d.by_chance)} (to {number(d.by_chance_high or 0.0)})"
        worst = NOTHING
        if d.worst is not None and d.worst_value is not None:
            worst = f"{escape_markdown(d.worst)}: {number(d.worst_value)} (n {d.worst_cases})"
        rows.append([escape_markdown(d.attribute), name, number(d.difference), chance, worst])
    if not rows:
        return []
    return [
        *table(["Attribute", "Distance", "Highest - lowest", "By chance", "Worst group"], rows, left=2),
        *foot.lines(),
    ]
