"""Diagnosis beyond exact match, as a section: levels of the tree, dangerous errors, weights caught, confidences."""

from __future__ import annotations

from collections.abc import Sequence

from .diagnosis import DiagnosisResult
from .hierarchy import LEVELS
from .leaderboard import Group
from .markdown import NOTHING, Footnotes, cell, number, paragraph, table
from .report_sections import group_names

_ABOUT = """
Right at a level: the first diagnosis lies in the same branch, group or subgroup of the term list as the gold; each
level is harder than the one before. Dangerous: a benign name first where the gold is malignant, a name that is no
infection where it is one; nowhere: not even within the first items. Captured: share of the gold's weights that is
named. Confidence is calibrated if what is stated as 70 % is right in 70 %."""


def beyond_exact_section(result: DiagnosisResult, order: Sequence[Group] = ()) -> list[str]:
    """Measures down, systems across in the given order."""
    place = {group: number_ for number_, group in enumerate(order)}
    systems = sorted(result.systems, key=lambda s: place.get((s.system, s.arm), len(place)))
    label, foot = group_names([(s.system, s.arm) for s in systems]), Footnotes()
    rows = [[f"Right {name}", *(cell(s.levels.accuracy[name], foot, s.n) for s in systems)] for name in LEVELS]
    for kind in systems[0].safety.first if systems else ():
        rows.append([f"Dangerous: {kind.replace('_', ' ')}", *(cell(s.safety.first[kind], foot) for s in systems)])
        for k in result.k[1:2]:
            rows.append([f"... nowhere in top {k}", *(cell(s.safety.nowhere[k][kind], foot) for s in systems)])
    if any(s.captured for s in systems):
        for k in result.k:
            shown = [NOTHING if s.captured is None else cell(s.captured.strict[k], foot) for s in systems]
            rows.append([f"Weight captured, top {k}", *shown])
    if any(s.confidence.brier is not None and s.confidence.brier.value is not None for s in systems):
        rows.append(["Brier, first item", *(cell(s.confidence.brier, foot) for s in systems)])
        rows.append(["ECE, first item", *(cell(s.confidence.ece, foot) for s in systems)])
    lines = ["## Diagnosis beyond exact match", "", *paragraph(_ABOUT.strip())]
    lines += [*table(["Share /n", *label.values()], rows), *foot.lines()]
    depths = sorted(systems[0].curve) if systems else []
    curves = [[f"top {k}", *(_value(s.curve[k].value) for s in systems)] for k in depths]
    return [*lines, *table(["Strict", *label.values()], curves)]


def _value(value: float | None) -> str:
    return NOTHING if value is None else number(value)
