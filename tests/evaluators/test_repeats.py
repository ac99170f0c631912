"""A judge's own noise from repeated ratings."""

import math

import numpy as np
import polars as pl
import pytest

from dermjudge.evaluators.repeats import judge_noise
from dermjudge.judge.errors import InputError


def table(scores, judge="j"):
    rows = [(f"c{i}", repeat, score) for i, row in enumerate(scores) for repeat, score in enumerate(row)]
    return pl.DataFrame(
        {
            "case_id": [row[0] for row in rows],
            "system": "s",
            "rater": judge,
            "rater_kind": "judge",
            "dimension": "d",
            "repeat": [row[1] for row in rows],
            "score": [row[2] for row in rows],
        },
        schema_overrides={"score": pl.Float64},
    )


def test_noise_of_shrout_and_fleiss():
    """Their one-way ICC(1) = 0.17 and ICC(k) = 0.44 (Shrout and Fleiss 1979, table 4)."""
    found = judge_noise(table([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]))[0]
    assert (found.items, found.ratings) == (6, 24)
    assert round(found.icc_1, 2) == 0.17 and round(found.icc_k, 2) == 0.44
    assert found.sd == pytest.approx(math.sqrt(6.263888888888889))  # their within mean square, 6.26


def test_planted_noise_is_found_with_unequal_repeats():
    rng = np.random.default_rng(1)
    scores = [list(2.5 + rng.normal(0, 1) + rng.normal(0, 0.4, rng.integers(1, 5))) for _ in range(600)]
    found = judge_noise(table(scores))[0]
    assert found.items == sum(len(row) > 1 for row in scores)
    assert found.sd == pytest.approx(0.4, abs=0.03)
    assert found.icc_1 == pytest.approx(1 / 1.16, abs=0.03)


def test_no_repeats_no_noise_no_zero():
    found = judge_noise(table([[1], [2]]))[0]
    assert found.sd is None and found.icc_1 is None and "repeats" in found.reason
    same = judge_noise(table([[3, 3], [3, 3]]))[0]
    assert same.sd == 0.0 and same.icc_1 is None and same.identical == 1.0 and "equal" in same.reason
    with pytest.raises(InputError, match="no ratings of judge 'x'"):
        judge_noise(table([[1, 2]]), "x")
    missing = judge_noise(table([[1, None], [2, 4], [3, 3]]))[0]
    assert (missing.items, missing.ratings, missing.identical) == (2, 4, 0.5)
