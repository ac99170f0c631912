"""Comparisons as sections of a report: a judge's errors by subgroup, candidate systems in pairs, two judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from ..judge.escape import escape_markdown
from .compare import JudgeComparison
from .compare_systems import SystemComparison, SystemDifference
from .leaderboard import Group
from .markdown import NOTHING, Footnotes, bullet, cell, names, number, paragraph, table
from .report_sections import group_names
from .subgroups import TESTED, GroupErrors, LargestGap, SubgroupResult

SURE = "†"  # an adjusted p-value below alpha
UNKNOWN = "*unknown*"  # no group can be called this: the stars of a name would be escaped
SHORT = {"bias": "Bias", "mae": "MAE"}

_ABOUT_SUBGROUPS = """
Judge: {judge}. n: narratives that it scored; where an expert rated more, their number stands behind a slash. Bias: the
judge minus the mean of the experts; MAE: mean absolute error. Gap: the group minus all other cases of a known group, in
the same resamples. Brackets hold {level} intervals. p: {test}. p adjusted: {families}."""
_ABOUT_LARGEST = """
The largest gap between any two groups is biased upwards: beside it stand the mean and the {level} limit of what groups
of these sizes would show if they did not differ."""
_ABOUT_SYSTEMS = """
Rater: {rater}. First minus second, over the cases in which both are scored; brackets hold {level} intervals. p: {test}.
p adjusted: {family}. Wilcoxon: a check by ranks, not adjusted. Last column: cases in which the first is higher, both
are tied, the second is higher."""
_ABOUT_DIMENSIONS = """
First minus second per dimension. {sure}: p adjusted below {alpha:g}, {family}. Behind a slash: cases in common, where
they are not those of the overall score."""
_ABOUT_JUDGES = """
First: {a}. Second: {b}. Both against the mean of the experts, on the narratives that both scored; MAE: mean absolute
error, lower is better. Brackets hold intervals. p: sign flips of whole clusters, of equal MAE; p adjusted: {family}."""


def subgroup_section(result: SubgroupResult) -> list[str]:
    """Per attribute: errors of every group, its gaps to the others with tests, and the largest gaps."""
    level = _level(result.settings["alpha"])
    about = _ABOUT_SUBGROUPS.format(judge=escape_markdown(result.judge), level=level, test=result.settings["test"],
                                    families="; ".join(result.families.values()))  # fmt: skip
    lines = ["## Does the judge err differently by subgroup?", "", *paragraph(about.strip())]
    for attribute, found in groupby(result.groups, key=lambda row: row.attribute):
        rows = list(found)
        largest = [gap for gap in result.largest if gap.attribute == attribute]
        lines += [f"### {escape_markdown(attribute)}", "", *_subgroup_tables(rows, largest, level)]
    if any("bins of equal count" in note for row in result.groups for note in row.notes):
        lines += paragraph("Continuous scores: intervals of Spearman rest on bins of equal count.")
    return [*lines, *(line for note in result.notes for line in bullet(escape_markdown(note))), ""]


def _subgroup_tables(rows: Sequence[GroupErrors], largest: Sequence[LargestGap], level: str) -> list[str]:
    foot = Footnotes()
    known = list(dict.fromkeys(row.group for row in rows if row.group is not None))
    label: dict[str | None, str] = {None: UNKNOWN}
    label.update(names(known))
    errors, gaps = [], []
    for row in rows:
        n, rated, cases = (row.counts[name] for name in ("items", "items_rated", "cases"))
        few = "".join(foot.mark(note) for note in row.notes if "too short" in note)
        start = [escape_markdown(row.dimension), label[row.group] + few]
        shown = [cell(row.results[name], foot, n) for name in ("bias", "mae", "within_1", "spearman")]
        errors.append([*start, f"{n} ({cases})" if n == rated else f"{n}/{rated} ({cases})", *shown])
        if row.group is None:
            continue
        for name in TESTED:
            gap = row.results[f"{name}_gap"]
            start.append(cell(gap, foot, gap.n))
            start += [_p(p[name], foot, gap.reason) for p in (row.p_values, row.p_adjusted)]
        gaps.append(start)
    lines = table(["Dimension", "Group", "n (cases)", "Bias", "MAE", "Within 1", "Spearman"], errors, left=3)
    if any(row.p_values[name] is not None for row in rows if row.group is not None for name in TESTED):
        header = [part for name in TESTED for part in (f"{SHORT[name]} gap", "p", "p adjusted")]
        lines += table(["Dimension", "Group", *header], gaps, left=2)
    lines += _largest(largest, label, foot, level)
    return [*lines, *foot.lines(), *_in_full(known)]


def _largest(largest: Sequence[LargestGap], label: Mapping[str | None, str], foot: Footnotes, level: str) -> list[str]:
    if all(found.value is None for found in largest):
        reasons = sorted({found.reason for found in largest if found.reason})
        return paragraph(f"No largest gap: {'; '.join(reasons)}.")
    rows = []
    for found in largest:
        between = NOTHING if found.highest is None else f"{label[found.highest]} over {label[found.lowest]}"
        values = (found.value, found.by_chance, found.by_chance_high)
        shown = [number(v) if v is not None else NOTHING + foot.mark(found.reason) for v in values]
        rows.append([escape_markdown(found.dimension), SHORT[found.statistic], shown[0], between, *shown[1:]])
    about = paragraph(_ABOUT_LARGEST.strip().format(level=level))
    return [*about, *table(["Dimension", "Of", "Largest gap", "Between", "By chance", "At most"], rows, left=2)]


def system_comparison_section(result: SystemComparison) -> list[str]:
    """Every pair on the overall score with its tests, every pair per dimension, and what each system lost."""
    label, foot, alpha = group_names(result.systems), Footnotes(), result.settings["alpha"]
    of_pair = {(row.a, row.b): row for row in result.pairs if row.dimension is None}
    about = _ABOUT_SYSTEMS.format(rater=escape_markdown(result.rater), level=_level(alpha),
                                  test=result.settings["test"], family=result.families["overall"])  # fmt: skip
    rows = [_pair_row(found, label, foot) for found in of_pair.values()]
    header = ["First", "Second", "Cases", "First minus second", "p", "p adjusted", "Wilcoxon p", "Higher/tied/lower"]
    lines = ["## Systems in pairs", "", *paragraph(about.strip())]
    lines += [*table(header, rows, left=2), *foot.lines()]
    foot, rows = Footnotes(), []
    for (a, b), overall in of_pair.items():
        own = [result.of(a, b, dimension) for dimension in result.dimensions]
        shown = [
            cell(row.difference, foot, overall.difference.n)
            + (f" {SURE}" if row.p_adjusted is not None and row.p_adjusted < alpha else "")
            for row in own
        ]
        rows.append([label[a], label[b], *shown])
    about = _ABOUT_DIMENSIONS.format(sure=SURE, alpha=alpha, family=result.families["dimensions"])
    lines += paragraph(about.strip())
    lines += [*table(["First", "Second", *map(escape_markdown, result.dimensions)], rows, left=2), *foot.lines()]
    lines += [*_lost(result, label), *(line for note in result.notes for line in paragraph(escape_markdown(note)))]
    return [*lines, *_in_full([system for system, _ in result.systems])]


def _pair_row(found: SystemDifference, label: Mapping[Group, str], foot: Footnotes) -> list[str]:
    n, why = found.difference.n, found.difference.reason
    remarks = "".join(foot.mark(note) for note in found.notes if not note.startswith("no test") and note not in (why,))
    if found.p_value is None:
        why = next((note for note in found.notes if note.startswith("no test")), why)
    tests = [_p(p, foot, why) for p in (found.p_value, found.p_adjusted, found.wilcoxon_p)]
    order = "/".join(str(found.counts[name]) for name in ("a_higher", "tied", "b_higher"))
    return [label[found.a], label[found.b], str(n) + remarks, cell(found.difference, foot, n), *tests, order]


def _lost(result: SystemComparison, label: Mapping[Group, str]) -> list[str]:
    if all(row["planned"] == row["scored"] for row in result.lost):
        return paragraph("All narratives are scored on all dimensions.")
    rows = []
    for group in result.systems:
        own = {row["dimension"]: row for row in result.lost if (row["system"], row["arm"]) == group}
        scored = [str(own[dimension]["scored"]) for dimension in (*result.dimensions, None)]
        rows.append([label[group], str(own[None]["planned"]), *scored])
    lines = paragraph(
        "Scored narratives per system; a case that one of two systems lost is left out of their comparison:"
    )
    return [*lines, *table(["System", "Planned", *map(escape_markdown, result.dimensions), "Overall"], rows)]


def judge_comparison_section(found: Sequence[JudgeComparison]) -> list[str]:
    """Per pair of judges: errors side by side with difference, ratio and test, then differences of other statistics."""
    lines = ["## Judges in pairs", ""]
    for (a, b), group in groupby(found, key=lambda row: (row.judge_a, row.judge_b)):
        rows, foot = list(group), Footnotes()
        lines += [f"### {escape_markdown(a)} against {escape_markdown(b)}", ""]
        about = _ABOUT_JUDGES.format(a=escape_markdown(a), b=escape_markdown(b), family=escape_markdown(rows[0].family))
        lines += paragraph(about.strip())
        errors, others = [], []
        for row in rows:
            start, n = [escape_markdown(row.dimension)], row.counts["items"]

            why = row.results["difference.mae"].reason or "the judges' errors do not differ in any cluster"
            remarks = "".join(foot.mark(note) for note in row.notes if "too short" in note)
            tests = [_p(p, foot, why) for p in (row.p_value, row.p_adjusted)]
            each = [_cell(row, name, foot) for name in ("a.mae", "b.mae", "difference.mae", "ratio.mae")]
            errors.append([*start, str(n) + remarks, *each, *tests])
            kept = ("within_1", "pearson", "spearman", "pairwise_accuracy")
            others.append([*start, *(_cell(row, f"difference.{name}", foot) for name in kept)])
        header = ["Dimension", "n", "MAE first", "MAE second", "First minus second", "Ratio", "p", "p adjusted"]
        lines += [*table(header, errors), *paragraph("First minus second in other statistics (higher is better):")]
        lines += table(["Dimension", "Within 1", "Pearson", "Spearman", "Pairs in order"], others)
        lines += foot.lines()
        lost = [(escape_markdown(r.dimension), *(r.counts[k] - r.counts["items"] for k in ("items_a", "items_b")))
                for r in rows]  # fmt: skip
        if any(first or second for _, first, second in lost):
            words = ", ".join(f"{dimension} {first}/{second}" for dimension, first, second in lost)
            lines += paragraph(f"Left out, since only the first / only the second scored them: {words}.")
    return lines


def _cell(row: JudgeComparison, name: str, foot: Footnotes) -> str:
    found = row.results[name]
    return cell(found, foot, found.n, name not in ("a.mae", "b.mae"))


def _level(alpha: float) -> str:
    return f"{100 * (1 - alpha):g} %"


def _p(p: float | None, foot: Footnotes, reason: str | None) -> str:
    if p is None:
        return NOTHING + foot.mark(reason)
    return r"\<0.001" if p < 0.0005 else f"{p:.3f}"


def _in_full(texts: Sequence[str]) -> list[str]:
    """The names that a table shows cut."""
    cut = [text for text, short in names(list(dict.fromkeys(texts))).items() if short != escape_markdown(text)]
    return ["Names in full:", "", *(line for text in cut for line in bullet(escape_markdown(text))), ""] if cut else []
