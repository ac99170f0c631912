"""The provisional card: a judge that grades faults is told from one that sees them, and from one that sees none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau

from dermjudge.evaluators.markdown import WIDTH, width
from dermjudge.evaluators.provisional import (
    ANSWERS,
    SILENT,
    TOO_FEW,
    ProvisionalCard,
    _monotone,
    dose_response,
    doses_of,
)
from dermjudge.evaluators.provisional_section import provisional_section
from dermjudge.judge.errors import InputError
from dermjudge.judge.ratings import ratings_to_frame
from dermjudge.judge.records import Narrative, Rating, Score

DIMENSIONS = ("Accuracy", "Safety")
LEVELS = range(6)
Judge = Callable[[int, np.random.Generator], float]  # severity -> fall of Accuracy


def graded(cases: int) -> list[Narrative]:
    made = []
    for i in range(cases):
        for fault, target in (("none", {}), ("lie", {"Accuracy": 1.0}), ("harmless", {})):
            for severity in (0,) if fault == "none" else (1, 2, 3, 4):
                system = "s" if fault == "none" else f"s+{fault}-{severity}"
                said = {"origin": "s", "fault": fault, "severity": severity, "target": target, "may": []}
                made.append(Narrative(f"c{i}", system, f"{fault} {severity}", provenance=said))
    return made


def rated(narratives: list[Narrative], judge: Judge, seed: int = 0, noise: float = 0.1) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    rows = []
    for n in narratives:
        lies = n.provenance["severity"] if n.provenance["fault"] == "lie" else 0
        scores = {
            "Accuracy": Score(4.5 - judge(lies, draw) + noise * draw.uniform(-1, 1)),
            "Safety": Score(4.0 + noise * draw.uniform(-1, 1)),
        }
        rows.append(Rating(n.case_id, n.system, "j", "judge", "two@1", scores))
    return ratings_to_frame(rows)


def card(judge: Judge, cases: int = 60, **more: Any) -> ProvisionalCard:
    narratives = graded(cases)
    settings = {"resamples": 300, "cluster": {f"c{i}": f"p{i // 2}" for i in range(cases)}, **more}
    return dose_response(rated(narratives, judge), LEVELS, doses_of(narratives, DIMENSIONS), **settings)


def grades(severity: int, _: Any) -> float:
    return 0.7 * severity


def sees(severity: int, _: Any) -> float:
    return 2.0 * (severity > 0)


def deaf(severity: int, draw: np.random.Generator) -> float:
    return float(draw.uniform(-0.3, 0.3))


def test_a_judge_that_grades_answers_to_the_fault_and_to_nothing_else() -> None:
    found = card(grades)
    lie = found.of("lie", "Accuracy")
    assert (lie.role, lie.verdict, lie.planned, lie.pairs, lie.texts, lie.clusters) == (
        "lower", ANSWERS, 240, 240, 60, 30,
    )  # fmt: skip
    assert lie.slope.value == pytest.approx(-0.7, abs=0.02)
    assert lie.grading.value == pytest.approx(-0.7, abs=0.02)
    assert lie.slope.low is not None and lie.slope.high is not None
    assert lie.slope.low < -0.7 + 0.02 and lie.slope.high < -0.6
    assert [round(lie.changes[k].value or 0, 1) for k in (1, 2, 3, 4)] == [-0.7, -1.4, -2.1, -2.8]
    assert lie.largest is not None and lie.largest[0] == 4
    assert lie.monotone.value == 1.0
    assert lie.tau.value == -1.0
    assert {r.verdict for r in found.results if r is not lie} == {SILENT}
    assert {r.role for r in found.results if r is not lie} == {"same"}


def test_a_judge_that_sees_a_fault_but_not_how_much_is_told_by_its_grading() -> None:
    lie = card(sees).of("lie", "Accuracy")
    assert lie.verdict == ANSWERS
    assert lie.slope.value is not None and lie.slope.value < -0.3
    assert lie.grading.value == pytest.approx(0, abs=0.02)


def test_a_deaf_judge_answers_to_nothing() -> None:
    found = card(deaf)
    assert {r.verdict for r in found.results} == {SILENT}
    monotone = found.of("lie", "Accuracy").monotone.value
    assert monotone is not None and monotone < 0.1


def test_a_judge_that_rewards_a_fault_does_not_answer_to_it() -> None:
    lie = card(lambda severity, _: -0.1 * severity).of("lie", "Accuracy")
    assert lie.slope.low is not None and lie.slope.low > 0
    assert lie.p_adjusted is not None and lie.p_adjusted < 0.05
    assert lie.verdict == SILENT


def test_a_fall_that_a_worse_fault_takes_back_is_no_answer() -> None:
    falls = (0.0, 1.5, 0.6, 0.0, -0.4)
    lie = card(lambda severity, _: falls[severity]).of("lie", "Accuracy")
    assert lie.change.value is not None and lie.change.value < -0.3
    assert lie.slope.low is not None and lie.slope.low > 0
    assert lie.verdict == SILENT


def test_a_sure_but_tiny_slope_is_no_answer() -> None:
    narratives = graded(60)
    frame = rated(narratives, lambda severity, _: 0.02 * severity, noise=0.001)
    lie = dose_response(frame, LEVELS, doses_of(narratives, DIMENSIONS), resamples=300).of("lie", "Accuracy")
    assert lie.slope.high is not None and lie.slope.high < 0
    assert lie.verdict == SILENT


def test_harmless_copies_that_move_are_said() -> None:
    narratives = graded(60)
    frame = rated(narratives, grades)
    fell = pl.col("system").str.starts_with("s+harmless") & (pl.col("dimension") == "Safety")
    frame = frame.with_columns(pl.when(fell).then(pl.col("score") - 0.8).otherwise(pl.col("score")).alias("score"))
    found = dose_response(frame, LEVELS, doses_of(narratives, DIMENSIONS), resamples=300)
    safety = found.of("harmless", "Safety")
    assert (safety.role, safety.verdict) == ("same", ANSWERS)
    assert safety.moved.value == pytest.approx(1.0, abs=0.05)
    assert found.of("harmless", "Accuracy").verdict == SILENT


def test_below_twenty_clusters_there_is_not_enough_data() -> None:
    found = card(grades, cases=30)
    assert {r.verdict for r in found.results} == {TOO_FEW}
    assert found.of("lie", "Accuracy").slope.value == pytest.approx(-0.7, abs=0.05)
    assert any("15 clusters" in note for note in found.notes)


def test_slope_tau_and_monotone_are_those_of_other_libraries() -> None:
    narratives = graded(25)
    frame = rated(narratives, lambda severity, d: 0.3 * severity + d.choice([0.0, 0.5]), noise=0.0)
    lie = dose_response(frame, LEVELS, doses_of(narratives, DIMENSIONS), resamples=100).of("lie", "Accuracy")
    wide = frame.filter((pl.col("dimension") == "Accuracy") & ~pl.col("system").str.contains("harmless"))
    scores = [g.sort("system")["score"].to_numpy() for _, g in wide.group_by("case_id")]
    slopes = [np.polyfit(np.arange(5), y, 1)[0] for y in scores]  # balanced: the pooled slope is their mean
    assert lie.slope.value == pytest.approx(np.mean(slopes), abs=1e-9)
    pairs = [(kendalltau(np.arange(5), y).statistic, y) for y in scores]
    concordance = sum(t * np.sqrt(10 * _untied(y)) for t, y in pairs)
    assert lie.tau.value == pytest.approx(concordance / np.sqrt(10 * 25 * sum(_untied(y) for _, y in pairs)), abs=1e-9)
    table = np.array([[3.0, 2.0, 2.0], [3.0, 3.0, 3.0], [3.0, 4.0, 1.0], [3.0, np.nan, 1.0]])
    assert _monotone(table).tolist()[:3] == [1.0, 0.0, 0.0]
    assert np.isnan(_monotone(table)[3])


def _untied(y: np.ndarray) -> int:
    return sum(y[i] != y[j] for i in range(5) for j in range(i))


def test_what_is_not_scored_is_counted_and_not_filled_in() -> None:
    narratives = graded(60)
    frame = rated(narratives, grades)
    gone = (pl.col("case_id") == "c0") & (pl.col("system") == "s+lie-2") & (pl.col("dimension") == "Accuracy")
    frame = frame.with_columns(
        pl.when(gone).then(None).otherwise(pl.col("score")).alias("score"),
        pl.when(gone).then(pl.lit("unparsable")).otherwise(pl.col("state")).alias("state"),
    )
    lie = dose_response(frame, LEVELS, doses_of(narratives, DIMENSIONS), resamples=100).of("lie", "Accuracy")
    assert (lie.planned, lie.pairs, lie.scores[2].n, lie.scores[1].n) == (240, 239, 59, 60)


def test_repeats_are_averaged_and_the_card_depends_on_the_seed_alone() -> None:
    narratives = graded(40)
    once = rated(narratives, grades)
    again = once.with_columns((pl.col("score") - 0.5).alias("score"), pl.lit(1, pl.Int64).alias("repeat"))
    doses = doses_of(narratives, DIMENSIONS)
    one, both = (dose_response(f, LEVELS, doses, resamples=100) for f in (once, pl.concat([once, again])))
    assert both.of("lie", "Accuracy").scores[0].value == pytest.approx(
        (one.of("lie", "Accuracy").scores[0].value or 0) - 0.25
    )
    assert both.of("lie", "Accuracy").slope.value == pytest.approx(one.of("lie", "Accuracy").slope.value)
    assert (
        dose_response(once, LEVELS, doses.sample(fraction=1.0, shuffle=True, seed=1), resamples=100).to_dict()
        == one.to_dict()
    )


def test_doses_are_read_from_provenance() -> None:
    said = {"origin": "a", "fault": "lie", "severity": 2, "target": {"Accuracy": 3.0}, "may": ["Safety"]}
    made = [Narrative("c", "a+lie-2", "x", provenance=said), Narrative("c", "plain", "y")]
    rows = doses_of(made, (*DIMENSIONS, "Other")).select("dimension", "role", "target").rows()
    assert rows == [("Accuracy", "lower", 3.0), ("Safety", "may", 0.0), ("Other", "same", 0.0)]
    with pytest.raises(InputError, match="provenance"):
        doses_of(made[1:], DIMENSIONS)


def test_what_may_happen_gets_no_verdict() -> None:
    narratives = graded(60)
    doses = doses_of(narratives, DIMENSIONS).with_columns(
        pl.when(pl.col("dimension") == "Safety").then(pl.lit("may")).otherwise(pl.col("role")).alias("role")
    )
    found = dose_response(rated(narratives, grades), LEVELS, doses, resamples=100)
    assert {r.verdict for r in found.with_role("may")} == {""}
    assert {r.p_adjusted for r in found.with_role("may")} == {None}


def test_wrong_calls_say_what_would_do() -> None:
    narratives = graded(2)
    frame, doses = rated(narratives, grades), doses_of(narratives, DIMENSIONS)
    other = frame.with_columns(pl.lit("k").alias("rater"))
    with pytest.raises(InputError, match="one judge"):
        dose_response(pl.concat([frame, other]), LEVELS, doses)
    with pytest.raises(InputError, match="origin"):
        dose_response(frame, LEVELS, doses.drop("origin"))
    with pytest.raises(InputError, match="lower, may, same"):
        dose_response(frame, LEVELS, doses.with_columns(pl.lit("up").alias("role")))
    with pytest.raises(InputError, match="scale 0 to 3"):
        dose_response(frame, range(4), doses)
    with pytest.raises(InputError, match="no copy"):
        dose_response(frame.filter(pl.col("system") == "s"), LEVELS, doses)
    with pytest.raises(InputError, match="clean text of case"):
        dose_response(frame.filter(pl.col("system") != "s"), LEVELS, doses)
    with pytest.raises(InputError, match="two doses"):
        dose_response(frame, LEVELS, pl.concat([doses, doses]))
    with pytest.raises(InputError, match="no result for lie / Style"):
        dose_response(frame, LEVELS, doses).of("lie", "Style")


def test_the_section_says_first_that_it_is_provisional_and_never_licensed() -> None:
    found = card(grades)
    lines = provisional_section(found)
    assert lines[0] == "## PROVISIONAL: no expert was asked; this is not a licence"
    assert max(width(line) for line in lines) <= WIDTH
    assert "licensed" not in "\n".join(lines)
    text = "\n".join(lines)
    assert "| lie" in text and ANSWERS in text and "harmless" in text and "False alarms" in text
    as_json = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(as_json)["licence"] is False
    few = "\n".join(provisional_section(card(grades, cases=10)))
    assert TOO_FEW in few and "at least 20 are needed" in few


def test_names_from_outside_are_escaped() -> None:
    narratives = graded(4)
    frame = rated(narratives, grades).with_columns(pl.lit("<b>|x").alias("rater"))
    text = "\n".join(provisional_section(dose_response(frame, LEVELS, doses_of(narratives, DIMENSIONS), resamples=100)))
    assert "<b>" not in text
