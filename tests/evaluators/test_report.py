"""The report as a person and a program read it: complete, in order, escaped, without a silent number."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from markdown_it import MarkdownIt

from dermjudge.benchmarks import synthetic
from dermjudge.evaluators.agreement import agree
from dermjudge.evaluators.bootstrap import Estimate
from dermjudge.evaluators.diagnosis import score_diagnosis
from dermjudge.evaluators.leaderboard import leaderboard
from dermjudge.evaluators.markdown import WIDTH, Footnotes, cell, names, number, paragraph, percent, table, width
from dermjudge.evaluators.probes import summarise_probes
from dermjudge.evaluators.report import INTENDED_USE, write_report
from dermjudge.evaluators.triage import score_triage
from dermjudge.judge.probes import choose_pictures
from dermjudge.judge.ratings import ratings_to_frame
from dermjudge.judge.records import Case, Narrative, Rating, Score
from dermjudge.judge.rubric import load_rubric

RUBRIC = load_rubric("derm6")
NASTY = {
    "alder": "![x](http://e.vil/p.png) | 9.99 |",
    "birch": "org/very-long-model-name-70b-instruct-preview-a\u202e",
    "cedar": "org/very-long-model-name-70b-instruct-preview-b\u202e",
    "dogwood": "# <script>alert(1)</script>\n\n# 皮膚 #",
}


def judged(
    narratives: list[Narrative], cases: dict[str, Case], judge: str, sees: bool, shown: Any = None, missing: float = 0.0
) -> pl.DataFrame:
    """Ratings of a simulated judge: truth and noise, on Accuracy only if it sees; shrunk to the middle as judges do."""
    draw, ratings = np.random.default_rng(7), []
    for narrative in narratives:
        beside = shown[narrative.case_id] if shown else None
        scores = {}
        for dimension, true in synthetic.true_scores(
            cases[narrative.case_id], narrative, beside and beside.case
        ).items():
            value = 2.5 if dimension == "Accuracy" and not sees else true
            value = float(np.clip(0.8 * value + 0.5 + draw.normal(0, 0.4), 0, 5))
            lost = draw.random() < missing
            scores[dimension] = Score(None, "unparsable", "little mass") if lost else Score(value)
        flags = beside.flags if beside else ("picture out of domain",) if draw.random() < 0.05 else ()
        ratings.append(Rating(narrative.case_id, narrative.system, judge, "judge", RUBRIC.id, scores, narrative.arm,
                              narrative.sample, flags=flags, narrative_hash=narrative.hash))  # fmt: skip
    return ratings_to_frame(ratings)


@cache
def sections(cases: int, nasty: bool = False, missing: float = 0.0) -> dict[str, Any]:
    made = synthetic.make(cases, seed=1)
    by_id, clusters = {c.id: c for c in made.cases}, {c.id: c.patient_id for c in made.cases}
    rename = NASTY if nasty else {name: name for name in NASTY}
    narratives = [replace(n, system=rename[n.system]) for n in made.narratives]
    experts = ratings_to_frame([replace(r, system=rename[r.system]) for r in made.ratings])
    judge = "a|judge`<b>" if nasty else "judge"
    own = judged(narratives, by_id, judge, sees=True, missing=missing)
    text = judged(narratives, by_id, "text-only", sees=False)
    probed = judged(narratives, by_id, judge, sees=True, shown=choose_pictures(made.cases, "swap", 1))
    few: dict[str, Any] = {"resamples": 60}
    return {
        "title": "Demo", "data": "synthetic, seed 1",
        "signature": {"judge": judge, "rubric": RUBRIC.id, "nested": {"k": [1]}},
        "board": leaderboard(own, clusters, RUBRIC.names, RUBRIC.scale.levels, **few),
        "text_only": leaderboard(text, clusters, RUBRIC.names, RUBRIC.scale.levels, **few),
        "probes": summarise_probes(own, probed, clusters, RUBRIC.names, **few),
        "diagnosis": score_diagnosis(made.cases, narratives, **few),
        "triage": score_triage(made.cases, narratives, **few),
        "agreement": agree(pl.concat([own, text, experts]), RUBRIC.scale.levels, None, clusters, **few),
    }  # fmt: skip


def section(markdown: str, heading: str) -> str:
    return markdown.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_ratings_made_by_rule_are_no_rendered_lesions() -> None:
    markdown, data = write_report(**sections(60), simulated=True)
    top = markdown.split("\n## ")[0]
    assert "> **SIMULATED RATINGS**" in top and "rendered" not in top
    assert data["labels"] == ["SIMULATED RATINGS"]


def test_a_demo_fits_a_terminal_and_comes_in_order() -> None:
    markdown, _ = write_report(**sections(60), synthetic=True, demonstration=True)
    assert max(width(line) for line in markdown.splitlines()) <= WIDTH
    assert re.findall(r"^## (.*)$", markdown, re.MULTILINE) == [
        "Licence", "Leaderboard by the judge", "The same by the text-only judge",
        "Does the score answer to the picture?", "Top-k diagnosis", "Triage", "Judge beside experts", "Notes",
    ]  # fmt: skip
    top = markdown.split("\n## ")[0]
    facts = [
        "> **SYNTHETIC**", "> **DEMONSTRATION**", "240 narratives of 4 systems, on 60 cases of", "**Judge**: judge",
        "synthetic, seed 1", "1440 of 1440 planned (100 %)", "picture out of domain: ", "rubric derm6@1",
    ]  # fmt: skip
    for fact in facts:
        assert fact in top
    assert "INCOMPLETE" not in markdown
    board = section(markdown, "Leaderboard by the judge")
    assert board.count("|\n") == 6 + 9  # ranking of four, then six dimensions and n, in one part for four systems
    probes = section(markdown, "Does the score answer to the picture?")
    assert re.search(r"Accuracy .*\| +yes \|", probes)
    assert re.search(r"Description Precision .*no evidence \|", probes)
    assert "No clinician has reviewed the term list" in section(markdown, "Notes")


def test_numbers_are_those_of_the_results_and_n_stands_beside() -> None:
    given = sections(60)
    markdown, found = write_report(**given)
    board = given["board"]
    first = board.of(board.ranking[0])
    shown = f"{first.mean.value:.2f} [{first.mean.low:.2f}, {first.mean.high:.2f}] |  60/60 |"
    assert shown in section(markdown, "Leaderboard by the judge")
    experts = section(markdown, "Judge beside experts")
    mae = given["agreement"].of("judge", "Accuracy")["item.mae"]
    n = given["agreement"].of("judge", "Accuracy").counts["items"]
    assert re.search(rf"\| Accuracy +\| {n} \|.*{mae.value:.2f} \[{mae.low:.2f}, {mae.high:.2f}\]", experts)
    assert experts.index("### judge against") < experts.index("### text-only against")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["leaderboard"] == board.to_dict()
    assert found["agreement"]["judges"]
    assert found["signature"]["nested"] == {"k": [1]}
    assert not re.search(r"\b(nan|inf|None)\b", markdown)


def test_missing_scores_show_states_bounds_and_their_own_n() -> None:
    given = sections(60, missing=0.04)
    board = given["board"]
    part = section(write_report(**given)[0], "Leaderboard by the judge")
    lost = board.counts["states"]["unparsable"]
    assert f"Missing: {lost} of 1440 planned scores" in part
    group = board.ranking[0]
    standing = board.of(group, "Accuracy")
    assert f"] /{standing.mean.n} |" in part
    assert standing.bounds is not None
    low, high = standing.bounds
    row = rf"\| {group[0]} +\| Accuracy +\| +{standing.mean.n}/60 \|.*{low:.2f} \| +{high:.2f} \|"
    assert re.search(row, part)
    assert re.search(rf"\| {group[0]} +\| +360 \| +\d+ \| +\d+ \|", part)


def test_too_few_patients_leave_marks_with_reasons_and_no_verdict() -> None:
    markdown, _ = write_report(**sections(12))
    board = section(markdown, "Leaderboard by the judge")
    assert re.search(r"\| \d\.\d\d\(1\) \|", board)
    assert "(1) no interval: " in board
    assert "clusters: no intervals below 20" in markdown.split("\n## ")[0]
    assert "no verdict in any dimension" in section(markdown, "Does the score answer to the picture?")


def test_what_was_not_run_is_said() -> None:
    given = sections(12)
    markdown, found = write_report(**{k: given[k] for k in ("title", "data", "board")}, signature={})
    assert "Whether this judge looks at the picture is unknown" in section(
        markdown, "Does the score answer to the picture?"
    )
    assert "for reporting only" in section(markdown, "Judge beside experts")
    assert section(markdown, "Triage").startswith("\nNot run")
    assert (found["probes"], found["triage"], found["labels"]) == (None, None, [])
    assert INTENDED_USE.split(".")[0] in markdown


def test_an_incomplete_run_is_marked_with_what_is_still_open() -> None:
    given = sections(12)
    board = replace(given["board"], counts=given["board"].counts | {"states": {"scored": 280, "api_error": 8}})
    markdown, found = write_report(title="t", data="d", signature={}, board=board, planned=50)
    assert found["labels"] == ["INCOMPLETE 280/300"]  # 48 narratives of 50, six dimensions each
    assert "> **INCOMPLETE 280/300**: 20 scores are still to be asked for" in markdown


def test_foreign_text_stays_text() -> None:
    given = sections(12, nasty=True) | {
        "title": "# <i>x</i> #",
        "data": "<b>d</b> ![p](http://e.vil/p.png)",
        "notes": ["<u>n</u>\n# n"],
    }
    given["signature"] = {"judge": "a|b`c", "k": "v\n# w " + "x" * 90}
    markdown, found = write_report(**given)
    html = MarkdownIt("commonmark").enable("table").render(markdown)
    elements = set(re.findall(r"<(\w+)", html))
    assert elements <= {
        "h1",
        "h2",
        "h3",
        "p",
        "ul",
        "li",
        "strong",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "code",
    }
    assert html.count("<h1>") == 1
    assert "<h1># &lt;i&gt;x&lt;/i&gt; #</h1>" in html
    assert not re.search("[\u202e\u200b]", markdown)
    assert "{U+202E}" in markdown
    cells = [len(re.findall("<t[hd]", row)) for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)]
    lines = [len(re.findall(r"(?<!\\)\|", line)) - 1 for line in markdown.splitlines() if line.startswith("| ")]
    assert cells == [n for n, line in zip(lines, (x for x in markdown.splitlines() if x.startswith("| ")), strict=True)
                     if not line.startswith("| -")]  # fmt: skip
    for full in NASTY.values():
        assert (
            full in json.dumps(found, ensure_ascii=False).encode().decode("unicode_escape", "ignore")
            or full.isascii() is False
        )


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0.00"), (-0.004, "0.00"), (-0.006, "-0.01"), (2 / 3, "0.67"), (1200, "1200.00")]
)
def test_number(value: float, shown: str) -> None:
    assert number(value) == shown


def test_percent_never_rounds_up_to_all() -> None:
    assert [percent(x) for x in (1.0, 7199 / 7200, 0.9, 0.0)] == ["100 %", "99.9 %", "90.0 %", "0.0 %"]


def test_cells_mark_what_is_not_there() -> None:
    foot = Footnotes()
    assert cell(Estimate(3.417, 10, 3.0, 4.0), foot, 10) == "3.42 [3.00, 4.00]"
    assert cell(Estimate(3.417, 9, 3.0, 4.0), foot, 10) == "3.42 [3.00, 4.00] /9"
    assert cell(Estimate(None, 0, reason="constant | judge"), foot, 10) == "–(1)"
    assert cell(Estimate(1.0, 10, reason="few"), foot, 10) == "1.00(2)"
    assert cell(Estimate(None, 0, reason="constant | judge"), foot, 10) == "–(1)"
    assert cell(Estimate(1.0, 10, reason="few"), foot, 10, interval=False) == "1.00"
    assert foot.lines() == [r"(1) constant \| judge", "", "(2) few", ""]


def test_names_are_short_told_apart_and_escaped() -> None:
    long = ["model-" + "x" * 40 + end for end in ("a", "b")]
    found = names([*long, "short", "a|b", "皮" * 30, "model-" + "y" * 40])
    assert len(set(found.values())) == 6
    assert all(width(short) <= 19 + short.count("\\") for short in found.values())
    assert found["short"] == "short"
    assert found["a|b"] == r"a\|b"


def test_a_wide_table_is_split_into_even_parts_that_fit() -> None:
    header = ["Dimension", *(f"system {i}" for i in range(9))]
    rows = [[f"d{r}", *("3.42 [3.31, 3.53]" for _ in range(9))] for r in range(3)]
    lines = table(header, rows)
    assert all(len(line) <= WIDTH for line in lines)
    assert [line.count("|") - 2 for line in lines if line.startswith("| Dimension")] == [5, 4]
    assert all(len({len(line) for line in part.splitlines()}) == 1 for part in "\n".join(lines).strip().split("\n\n"))
    wide = table(["A", "B"], [["x", "y" * 300]])
    assert len(wide) == 4  # one cell that cannot fit is shown whole


def test_a_wrapped_line_of_foreign_text_opens_no_block() -> None:
    for start in ("# x", "- x", "+ x", "1. x", "=== x"):
        text = "w" * (WIDTH - 2) + " " + start
        lines = paragraph(text)
        html = MarkdownIt("commonmark").render("\n".join(lines))
        assert html.count("<") == 2
        assert html.startswith("<p>")
