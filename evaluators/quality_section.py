"""A gate on picture quality as tables: what each metric would be behind it, how many cases it costs, and whom."""

from __future__ import annotations

from collections.abc import Sequence

from ..judge.escape import escape_markdown
from ..judge.quality import TAGS
from .markdown import NOTHING, Footnotes, cell, number, paragraph, percent, table
from .quality_gate import GateCurve

_GATES = {1.0: "without poor", 2.0: "good only"}
_ABOUT = """
A case counts as its worst picture (poor, doubtful, good). Behind a gate only cases of that quality or better are
answered. n: narratives behind the gate, of those of known quality; kept: their cases' share. Gain: behind the gate
minus all of them, with 95 % intervals from redrawing patients. Poorest first: the mean gain over all shares kept; an
interval above 0 says that quality tells where the system does well."""


def quality_section(curves: Sequence[GateCurve], grouped_by: str = "") -> list[str]:
    """Markdown lines, foreign text escaped: per system and arm the metrics down, each gate's value, gain and price.

    `grouped_by`: the attribute that `kept_by_group` is about. Lenient metrics stand in `GateCurve.to_dict` only.
    """
    lines = ["## Picture quality: a gate and its price", "", *paragraph(" ".join(_ABOUT.split()))]
    for system, arm in dict.fromkeys((curve.system, curve.arm) for curve in curves):
        own, foot, rows = [c for c in curves if (c.system, c.arm) == (system, arm)], Footnotes(), []
        for curve in (c for c in own if not c.metric.startswith("lenient_")):
            for gate in curve.gates:
                if gate.share == 1:  # everything passes: no gate
                    continue
                rows.append([
                    escape_markdown(curve.metric), _name(gate.threshold), f"{gate.value.n} of {curve.all.n}",
                    percent(gate.share), cell(curve.all, foot, curve.all.n, False),
                    cell(gate.value, foot, gate.value.n, False), cell(gate.gain, foot, gate.gain.n),
                    cell(curve.mean_gain, foot, curve.mean_gain.n),
                ])  # fmt: skip
        lines += [f"### {escape_markdown(system)}" + (f" / {escape_markdown(arm)}" * bool(arm)), ""]
        if not rows:
            lines += paragraph("Every case is of one quality, so no gate would leave any out.")
            continue
        header = ["Metric", "Gate", "n", "Kept", "All", "Behind", "Gain", "Poorest first"]
        lines += [*table(header, rows, left=2), *foot.lines(), *_groups(own, grouped_by)]
        if unknown := max(curve.unknown for curve in own):
            lines += paragraph(f"{unknown} cases have pictures of no known quality and stand in no number here.")
    return lines


def _groups(curves: Sequence[GateCurve], grouped_by: str) -> list[str]:
    """On whom the gate falls: the share kept of each group, of the metric that is over the most cases."""
    widest = max(curves, key=lambda curve: curve.all.n)
    groups = list(dict.fromkeys(name for gate in widest.gates for name in gate.kept_by_group))
    if not groups:
        return []
    rows = [[_name(gate.threshold), *(_share(gate.kept_by_group.get(name)) for name in groups)]
            for gate in widest.gates if gate.share < 1]  # fmt: skip
    head = f"Cases kept of each group of {escape_markdown(grouped_by) or 'cases'} ({escape_markdown(widest.metric)}):"
    return [head, "", *table(["Gate", *map(escape_markdown, groups)], rows)]


def _share(share: float | None) -> str:
    return NOTHING if share is None else percent(share)


def _name(threshold: float) -> str:
    return _GATES.get(threshold) or (number(threshold) if threshold else f"{TAGS[-1]} or better")
