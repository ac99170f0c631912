"""The licence as it is kept and read: saved whole, bound to one judge, labelled, escaped, on one page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from markdown_it import MarkdownIt

from dermjudge.evaluators.licence import VERDICTS, Licence, license_judge, load_licence
from dermjudge.evaluators.licence_section import licence_section
from dermjudge.evaluators.markdown import WIDTH, width
from dermjudge.judge.errors import InputError
from dermjudge.judge.rubric import load_rubric

LEVELS = (0, 1, 2, 3, 4, 5)
SIGNATURE = {"model": "m", "prompt": "p1", "settings": {"t": 0}}
NAMES = {"d0": "Accuracy", "d1": "Safety", "d2": "Clinical Coverage"}
Simulate = Callable[..., pl.DataFrame]


def ratings(simulate: Simulate) -> pl.DataFrame:
    """Safety can be licensed, Accuracy needs a probe, Clinical Coverage was rated on 15 cases."""
    frame = simulate(60, 2, 3, missing=0.1, judges=(0.4, 0.9)).with_columns(pl.col("dimension").replace(NAMES))
    few = pl.col("case_id").str.contains("^c.$|^c1[0-4]$")
    return frame.filter((pl.col("dimension") != "Clinical Coverage") | few)


@cache
def licensed(simulate: Simulate, simulated: bool = False) -> Licence:
    return license_judge(
        ratings(simulate), LEVELS, "j0", text_only="j1", signature=SIGNATURE, rubric=load_rubric("derm6"),
        population="two clinics", date="2026-12-01", simulated=simulated, resamples=200,
    )  # fmt: skip


def page(licence: Licence) -> str:
    return "\n".join(licence_section(licence))


# Kept


def test_a_licence_survives_its_file(simulate: Simulate, tmp_path: Path) -> None:
    for simulated in (False, True):
        made = licensed(simulate, simulated)
        made.save(tmp_path / "l.json")
        again = load_licence(tmp_path / "l.json")
        assert again == made
        assert again.to_dict() == made.to_dict()
        assert page(again) == page(made)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"verdict": "not enough data"', '"verdict": "licensed"'),
        ('"margin": 0.02', '"margin": 0.2'),
        ("dermjudge licence 1", "dermjudge licence 2"),
        ('"population"', '"populations"'),
        ("{", "["),
    ],
)
def test_an_edited_file_is_refused(simulate: Simulate, tmp_path: Path, old: str, new: str) -> None:
    licensed(simulate).save(tmp_path / "l.json")
    text = (tmp_path / "l.json").read_text("utf-8")
    assert old in text
    (tmp_path / "l.json").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(InputError, match=r"l.json is no licence as this version writes it"):
        load_licence(tmp_path / "l.json")
    with pytest.raises(InputError, match="cannot read licence"):
        load_licence(tmp_path / "none.json")


def test_it_applies_to_one_judge_and_one_rubric(simulate: Simulate) -> None:
    made, rubric = licensed(simulate), load_rubric("derm6")
    assert made.applies_to(dict(reversed(SIGNATURE.items())), rubric) is None
    assert made.applies_to(SIGNATURE, "derm6@1") is None
    other = SIGNATURE | {"prompt": "p2", "settings": {"t": 1}}
    assert made.applies_to(other, rubric) == (
        "the licence is for another judge: its signature differs in prompt, settings"
    )
    assert made.applies_to("m", rubric) is not None
    assert made.applies_to("", rubric) == (
        "the judge comes without a signature, so nobody can tell whether the licence speaks of it"
    )
    assert made.applies_to(SIGNATURE, "derm6@2") == "the licence is for rubric 'derm6@1', not 'derm6@2'"
    reworded = rubric.model_copy(update={"title": "another"})
    assert made.applies_to(SIGNATURE, reworded) == "rubric derm6@1 has other words than when the judge was licensed"
    unbound = replace(made, signature="")
    assert unbound.applies_to("", rubric) is not None
    assert replace(made, rubric="").applies_to(SIGNATURE, "") is not None


def test_the_gate(simulate: Simulate) -> None:
    made = licensed(simulate)
    assert {d.dimension: d.verdict for d in made.dimensions} == {
        "Accuracy": "not enough data",
        "Safety": "licensed",
        "Clinical Coverage": "not enough data",
    }
    assert (made.passed(), made.passed(["Safety"]), made.passed(["Safety", "Accuracy"])) == (False, True, False)
    assert not made.passed([])
    with pytest.raises(InputError, match="no dimension 'Tone'; there are Accuracy, Safety, Clinical Coverage"):
        made.passed(["Tone"])


# Read


def test_a_simulated_licence_says_so_wherever_a_verdict_stands(simulate: Simulate) -> None:
    made = licensed(simulate, True)
    found = made.to_dict()
    assert found["label"] == "SIMULATED"
    assert [d["verdict"] for d in found["dimensions"]] == [f"SIMULATED: {d.verdict}" for d in made.dimensions]
    text = page(made)
    for found in made.dimensions:
        assert re.search(rf"^\| {found.dimension} +\| \*{{0,2}}SIMULATED: {found.verdict}", text, re.MULTILINE)
        assert f"- **{found.dimension}: SIMULATED: {found.verdict}.**" in text
    stated = rf"(\| \*{{0,2}}|\w: |^\*\*|\d )(?={'|'.join(VERDICTS)})"
    places = [match.start() for match in re.finditer(stated, text, re.MULTILINE)]
    summary = text.index("**SIMULATED: 1 of 3 licensed")
    unlabelled = [p for p in places if "SIMULATED" not in text[max(0, p - 12) : p + 12]]
    assert all(summary < p < summary + 240 for p in unlabelled)  # the summary says it once, in front
    assert page(made).startswith("## Licence of j0\n\n> **SIMULATED**")
    assert "SIMULATED" not in page(licensed(simulate))
    assert "SIMULATED" not in json.dumps(licensed(simulate).to_dict())


def test_one_page(simulate: Simulate) -> None:
    for simulated in (False, True):
        lines = licence_section(licensed(simulate, simulated))
        assert max(map(width, lines)) <= WIDTH
        assert len(lines) < 100
        text = "\n".join(lines)
        assert not re.search(r"\bnan\b|\bNone\b|\binf\b", text)
        for piece in (
            "derm6@1",
            "two clinics",
            "2026-12-01",
            "of 2 systems, on 60 cases",
            "default",
            "the swap probe was not run",
        ):
            assert piece in text
    order = [text.index(piece) for piece in ("Verdict", "MAE expert", "Alternative", "### Why", "does not say")]
    assert order == sorted(order)


def test_the_numbers_on_the_page_are_those_of_the_record(simulate: Simulate) -> None:
    made = licensed(simulate)
    row = next(line for line in licence_section(made) if line.startswith("| Safety") and "licensed" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    found = made.of("Safety").results["judge_minus_expert.mae"]
    assert cells[1] == "**licensed**"
    assert cells[2] == "60"
    assert cells[3] == f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]".replace("-0.00", "0.00")


def test_no_alternative_test_without_the_ceiling(simulate: Simulate) -> None:
    made = licensed(simulate)
    for found in made.dimensions:
        assert set(found.alternative["ceiling"]) >= {"loo_judge.pearson", "loo_expert.pearson"}
        assert found.alternative["ceiling"]["loo_expert.mae"] == found.results["loo_expert.mae"].to_dict()
    text = page(made)
    assert text.index("r expert") < text.index("Alternative annotator test")


NASTY = "a|b`<b>x</b>![i](http://e.vil/p.png)\n# c\u202e"


def test_foreign_text_is_shown_and_does_nothing(simulate: Simulate) -> None:
    frame = ratings(simulate).with_columns(
        pl.col("rater").replace({"j0": NASTY, "j1": NASTY + "2", "e0": NASTY + "3"}),
        pl.col("dimension").replace("Accuracy", NASTY + "4"),
        pl.col("case_id") + NASTY,
    )
    made = license_judge(
        frame, LEVELS, NASTY, text_only=NASTY + "2", signature=NASTY, rubric=NASTY, population=NASTY, date=NASTY,
        resamples=20,
    )  # fmt: skip
    lines = licence_section(made)
    text = "\n".join(lines)
    assert "\u202e" not in text
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    kinds = {token.type for token in tokens} | {c.type for token in tokens for c in token.children or ()}
    assert not kinds & {"html_block", "html_inline", "image", "link_open", "code_inline", "fence"}
    headings = [t.content for i, t in enumerate(tokens) if i and tokens[i - 1].type == "heading_open"]
    assert len(headings) == 3
    tables = [t for t in tokens if t.type == "table_open"]
    assert len(tables) >= 4
    json.dumps(made.to_dict(), allow_nan=False)


def test_what_is_not_stated_is_said(simulate: Simulate) -> None:
    text = page(replace(licensed(simulate), signature="", population="", date="", rubric="", rubric_hash=""))
    assert "no signature; rubric no rubric named" in text
    assert "**Population**: not stated; date not stated" in text
