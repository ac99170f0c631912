"""A plan as a page of Markdown: how many cases, what they buy, and what a different design would cost."""

from __future__ import annotations

from ..judge.escape import escape_markdown
from .markdown import NOTHING, Footnotes, bullet, number, paragraph, table
from .planning import Design, Plan


def plan_section(plan: Plan) -> list[str]:
    """The plan of every dimension: pilot, cases needed with their range, half-width at other sizes, other designs."""
    name = escape_markdown(plan.statistic)
    lines = [f"## Cases to rate for {name} within ±{plan.width:g}", ""]
    if plan.cases is None:
        lines += paragraph("No dimension could be planned; each says why below.")
    else:
        most = f"{plan.cases} cases reach a 95 % half-width of {plan.width:g} in every dimension that could be planned"
        lines += paragraph(f"**{most}.** Cases are rated by experts and scored by {escape_markdown(plan.judge)}.")
    foot, rows = Footnotes(), []
    for found in plan.dimensions:
        design = found.design
        here = NOTHING if found.pilot_half_width is None else f"±{number(found.pilot_half_width)}"
        value = NOTHING if found.value is None else number(found.value)
        rows.append([
            escape_markdown(found.dimension), str(found.pilot_cases), value, here, _cases(design, foot),
            NOTHING if design.ratings is None else str(design.ratings),
        ])  # fmt: skip
    lines += table(["Dimension", "Pilot cases", "Value", "Half-width", "Cases needed", "Expert ratings"], rows)
    curves = [(found.dimension, dict(found.curve)) for found in plan.dimensions if found.curve]
    if curves:
        sizes = sorted({size for _, curve in curves for size in curve})
        rows = [
            [escape_markdown(dimension), *(f"±{number(curve[s])}" if s in curve else NOTHING for s in sizes)]
            for dimension, curve in curves
        ]
        lines += ["Half-width of the 95 % interval at other numbers of cases, by simulation from the pilot:", ""]
        lines += table(["Dimension", *map(str, sizes)], rows)
    hardest = max(plan.dimensions, key=lambda found: found.design.cases or 0, default=None)
    if hardest and hardest.alternatives:
        rows = []
        for other in hardest.alternatives:
            per_case = f"{other.systems} narrative{'s' * (other.systems > 1)} a case"
            experts = f"{other.raters} expert{'s' * (other.raters > 1)}" + " (carried on)" * other.extrapolated
            ratings = NOTHING if other.ratings is None else str(other.ratings)
            rows.append([f"{per_case}, {experts}", _cases(other, foot), ratings])
        dimension = escape_markdown(hardest.dimension)
        lines += paragraph(f"Other designs for the same half-width on {dimension}, which needs the most cases:")
        lines += table(["Design", "Cases needed", "Expert ratings"], rows)
    lines += foot.lines()
    return [*lines, *(line for note in plan.notes for line in bullet(escape_markdown(note)))]


def _cases(design: Design, foot: Footnotes) -> str:
    if design.cases is None:
        return NOTHING + foot.mark(design.reason)
    return f"{design.cases}" + (f" [{design.low}, {design.high}]" if design.low is not None else "")
