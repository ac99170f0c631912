"""A judge on the cases whose reference fits the label: planted difference, n, and no expert needed for the means."""

import json

import numpy as np
import polars as pl
import pytest

from dermjudge.evaluators.agreement import agree
from dermjudge.evaluators.label_subset import label_subset
from dermjudge.evaluators.label_subset_section import label_subset_section

LEVELS = (0, 1, 2, 3, 4, 5)
GOOD = [f"c{k}" for k in range(30)]  # here the judge is right; on the other 30 cases it is two points too high


def ratings(experts=True):
    draw, rows = np.random.default_rng(0), []
    for k in range(60):
        for dimension in ("A", "B"):
            truth = float(draw.integers(0, 4))
            said = truth if k < 30 else truth + 2
            row = {"case_id": f"c{k}", "system": "m", "arm": "image_only", "sample": 0, "dimension": dimension}
            rows.append(row | {"rater": "j", "rater_kind": "judge", "score": said})
            if experts:
                rows += [row | {"rater": f"e{e}", "rater_kind": "expert", "score": truth} for e in (1, 2)]
    more = {"rubric": "r", "repeat": 0, "stage": "independent", "state": "scored"}
    return pl.DataFrame([row | more for row in rows])


def test_errors_on_all_cases_and_on_the_subset_stand_side_by_side():
    frame = ratings()
    found = label_subset(
        frame, [c.upper() + " " for c in GOOD], LEVELS, ["j"], agree(frame, LEVELS, "j"), resamples=100
    )
    assert (found.cases, found.agreeing) == (60, 30)
    whole, part = found.everything[0], found.subset[0]
    assert whole["item.mae"].value == pytest.approx(1.0) and part["item.mae"].value == 0.0
    assert (whole.counts["items"], part.counts["items"]) == (60, 30)
    page = "\n".join(label_subset_section(found))
    assert "30 of the 60 rated cases" in page and "60, 30" in page and "1.00 [" in page and "0.00 [" in page
    json.dumps(found.to_dict(), allow_nan=False)


def test_means_need_no_expert():
    frame = ratings(experts=False)
    found = label_subset(frame, GOOD, LEVELS, ["j"], resamples=100)
    assert found.everything == found.subset == ()
    assert [m.dimension for m in found.means] == ["overall", "A", "B"]
    overall = found.means[0]
    inside = frame.filter(pl.col("case_id").is_in(GOOD))["score"].mean()
    assert overall.everything.value == pytest.approx(frame["score"].mean()) and overall.agreeing.n == 30
    assert overall.agreeing.value == pytest.approx(inside)
    assert "### Judge against experts" not in "\n".join(label_subset_section(found))


def test_a_narrative_without_every_score_has_no_overall_and_an_empty_subset_says_so():
    frame = ratings(experts=False)
    first = (pl.col("case_id") == "c0") & (pl.col("dimension") == "A")
    frame = frame.with_columns(pl.when(first).then(None).otherwise(pl.col("score")).alias("score"))
    found = label_subset(frame, [], LEVELS, ["j"], resamples=100)
    assert [m.everything.n for m in found.means] == [59, 59, 60] and found.means[0].agreeing.value is None
    assert found.means[0].agreeing.reason and "–(1)" in "\n".join(label_subset_section(found))


def test_the_subset_may_hold_no_expert_score():
    frame = ratings()
    frame = frame.filter((pl.col("rater_kind") == "judge") | ~pl.col("case_id").is_in(GOOD))
    found = label_subset(frame, GOOD, LEVELS, ["j"], agree(frame, LEVELS, "j", resamples=100), resamples=100)
    assert found.subset == () and "30, 0" in "\n".join(label_subset_section(found))
