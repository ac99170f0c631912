"""Comparisons as Markdown: they fit a terminal, show the numbers of the results, say why one is missing, stay inert."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from markdown_it import MarkdownIt

from dermjudge.evaluators.compare import compare_judges
from dermjudge.evaluators.compare_systems import EXPERT_MEAN, compare_systems
from dermjudge.evaluators.comparison_sections import judge_comparison_section, subgroup_section
from dermjudge.evaluators.comparison_sections import system_comparison_section as system_section
from dermjudge.evaluators.markdown import WIDTH, width
from dermjudge.evaluators.subgroups import subgroup_gaps

LEVELS = (0, 1, 2, 3, 4, 5)
NASTY = "![x](http://e.vil/p.png)|<b>\u202e`$" + "n" * 40
Simulate = Callable[..., pl.DataFrame]


def groups(cases: int, of: str = "abc", unknown: int = 0) -> dict[str, str]:
    return {f"c{i}": of[i % len(of)] for i in range(cases - unknown)}


def rendered(lines: list[str]) -> tuple[str, str]:
    """The Markdown and its HTML; checks what holds for every section."""
    markdown = "\n".join(lines)
    html = MarkdownIt("commonmark").enable("table").render(markdown)
    assert all(width(line) <= WIDTH for line in lines if line.startswith("|"))
    assert not re.search(r"\b(nan|inf|None)\b", markdown)
    assert set(re.findall(r"<(\w+)", html)) <= {
        "h2", "h3", "p", "ul", "li", "em", "table", "thead", "tbody", "tr", "th", "td", "code",
    }  # fmt: skip
    for mark in set(re.findall(r"(?<=[\w–\]])(\(\d\d?\))(?= +\|)", markdown)):
        assert f"\n{mark} " in markdown, f"{mark} stands in a table without its reason"
    return markdown, html


def test_subgroups_show_values_gaps_and_the_unknown(simulate: Simulate) -> None:
    result = subgroup_gaps(
        simulate(cases=100, dimensions=6), LEVELS, "j0", {"site": groups(100, unknown=10)}, resamples=60
    )
    markdown, _ = rendered(subgroup_section(result))
    row = result.of("site", "b", "d3")
    mae, gap = row.results["mae"], row.results["bias_gap"]
    n = row.counts["items"]
    assert re.search(
        rf"\| d3 +\| b\(1\) +\| {n} \(30\) +\|.*{mae.value:.2f} \[{mae.low:.2f}, {mae.high:.2f}\]", markdown
    )
    tests = rf"{row.p_values['bias']:.3f} \| +{row.p_adjusted['bias']:.3f} \|"
    assert re.search(rf"\| d3 +\| b\(1\) +\| +{gap.value:.2f} \[{gap.low:.2f}, {gap.high:.2f}\] \| {tests}", markdown)
    assert len(re.findall(r"\*unknown\* \| \d+ \(10\) +\|", markdown)) == 6
    assert "no interval: 10 clusters, at least 20 are needed" in markdown
    assert "30 clusters: intervals are too short below 50" in markdown
    assert "holm over 18 tests of a gap in mae" in " ".join(markdown.split())
    largest = next(g for g in result.largest if (g.dimension, g.statistic) == ("d3", "mae"))
    between = f"{largest.highest} over {largest.lowest} | +{largest.by_chance:.2f}"
    assert re.search(rf"\| d3 +\| MAE +\| +{largest.value:.2f} \| {between.replace(' | ', ' [|] ')}", markdown)
    for note in result.notes:
        assert note in " ".join(markdown.split()).replace("\\", "")


def test_too_few_cases_leave_marks_and_no_largest_gap(simulate: Simulate) -> None:
    frame = simulate(cases=30, continuous=True)
    lost = (pl.col("rater") == "j0") & (pl.col("case_id") == "c3")
    frame = frame.with_columns(score=pl.when(~lost).then(pl.col("score")))
    markdown, _ = rendered(
        subgroup_section(subgroup_gaps(frame, LEVELS, "j0", {"sex": groups(30, "fm")}, resamples=20))
    )
    assert "No largest gap: fewer than two groups have at least 20 clusters." in markdown
    assert "Bias gap" not in markdown  # nothing can be tested, so there is no table of gaps
    assert re.search(r"\| d0 +\| m +\| 42/45 \(14\) \|", markdown)


@pytest.mark.parametrize("rater", ["j0", EXPERT_MEAN])
def test_systems_show_every_pair_with_tests_and_losses(simulate: Simulate, rater: str) -> None:
    frame = simulate(cases=60, systems=4, dimensions=6, missing=0.2)
    result = compare_systems(frame, LEVELS, rater, resamples=99)
    markdown, _ = rendered(system_section(result))
    pair = result.pairs[6]
    overall = result.of(pair.a, pair.b)
    d, p = overall.difference, overall.p_adjusted
    shown = r"\\<0.001" if p < 0.0005 else f"{p:.3f}"
    cells = rf"\| +{d.n}\S* \| +{d.value:.2f} \[{d.low:.2f}, {d.high:.2f}\] \| .*{shown} \|"
    assert re.search(rf"\| {overall.a[0]} +\| {overall.b[0]} +{cells}", markdown)
    order = "/".join(str(overall.counts[k]) for k in ("a_higher", "tied", "b_higher"))
    assert f" {order} |" in markdown
    sure = [p for p in result.pairs if p.dimension and p.p_adjusted < 0.05]
    assert markdown.count("† |") == len(sure)
    assert "holm over 36 tests: 6 pairs x 6 dimensions" in " ".join(markdown.split())
    if rater == "j0":
        assert "All narratives are scored on all dimensions." in markdown
    else:
        lost = [r for r in result.lost if r["system"] == "s0"]
        scored = " ".join(rf"\| +{r['scored']}" for r in lost)
        assert re.search(rf"\| s0 +\| +{lost[0]['planned']} {scored} \|", markdown)
        assert "not rated by the same experts" in " ".join(markdown.split())


def test_systems_without_a_test_say_why(simulate: Simulate) -> None:
    few, _ = rendered(system_section(compare_systems(simulate(cases=10), LEVELS, resamples=20)))
    assert "(1) no interval: 10 clusters, at least 20 are needed" in few
    same = simulate(cases=30, systems=1)
    same = pl.concat([same, same.with_columns(system=pl.lit("twin"))])
    markdown, _ = rendered(system_section(compare_systems(same, LEVELS, resamples=20)))
    assert "(1) 30 clusters: intervals are too short below 50" in markdown
    assert "(2) no test: the systems do not differ in any cluster" in markdown


def test_judges_show_errors_difference_ratio_and_what_only_one_scored(simulate: Simulate) -> None:
    frame = simulate(cases=60, judges=(0.4, 0.9)).filter(~((pl.col("rater") == "j1") & (pl.col("case_id") == "c3")))
    found = compare_judges(frame, LEVELS, "j0", "j1", resamples=99)
    markdown, _ = rendered(judge_comparison_section(found))
    results = found[1].results
    d, n = results["difference.mae"], found[1].counts["items"]
    start = rf"\| d1 +\| {n} \| +{results['a.mae'].value:.2f} \| +{results['b.mae'].value:.2f} \|"
    tests = rf"{found[1].p_value:.3f} \| +{found[1].p_adjusted:.3f} \|"
    assert re.search(rf"{start} {d.value:.2f} \[{d.low:.2f}, {d.high:.2f}\] \|.* {tests}", markdown)
    assert "### j0 against j1" in markdown
    assert "only the second scored them: d0 0/" not in markdown
    assert re.search(r"scored them: d0 \d+/0, d1 \d+/0\.", " ".join(markdown.split()))
    few, _ = rendered(
        judge_comparison_section(compare_judges(simulate(cases=10, judges=(1, 1)), LEVELS, "j0", "j1", resamples=20))
    )
    assert "–(1)" in few


def test_foreign_text_stays_text_everywhere(simulate: Simulate) -> None:
    frame = simulate(cases=60, judges=(0.4, 0.9))
    for column, name in (("system", "s0"), ("rater", "j0"), ("dimension", "d0")):
        frame = frame.with_columns(pl.col(column).replace({name: NASTY}))
    named: dict[str, Any] = {NASTY: {f"c{i}": NASTY + "12"[i % 2] for i in range(60)}}
    sections = [
        subgroup_section(subgroup_gaps(frame, LEVELS, NASTY, named, resamples=20)),
        system_section(compare_systems(frame, LEVELS, NASTY, resamples=20)),
        judge_comparison_section(compare_judges(frame, LEVELS, NASTY, "j1", resamples=20)),
    ]
    for lines in sections:
        markdown = "\n".join(lines)
        html = MarkdownIt("commonmark").enable("table").render(markdown)
        assert not re.search(r"<(img|a|b|i|strong)\b", html)
        assert "\u202e" not in markdown
        rows = [len(re.findall("<t[hd]", row)) for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)]
        cut = [re.findall(r"(?<!\\)\|", line) for line in lines if line.startswith("| ") and not line.startswith("| -")]
        assert rows == [len(found) - 1 for found in cut]
    assert sum("Names in full:" in lines for lines in sections) == 2
