"""Brier score and expected calibration error against hand-worked values and scikit-learn, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from dermjudge.evaluators.confidences import FEWEST_ITEMS, MOST_BINS, PER_BIN, bin_numbers, calibration
from dermjudge.evaluators.diagnosis import score_diagnosis
from dermjudge.judge.records import Candidate, Case, Narrative


def test_figures_by_hand() -> None:
    stated = [0.9] * 60 + [0.3] * 40
    right = [True] * 48 + [False] * 12 + [True] * 16 + [False] * 24  # 0.8 of those at 0.9, 0.4 of those at 0.3
    found = calibration(stated, right, np.arange(100), resamples=200)
    assert found.n == found.clusters == 100
    assert found.brier.value == pytest.approx(brier_score_loss(right, stated))
    assert found.base_brier.value == pytest.approx(0.64 * 0.36)
    assert found.ece.value == pytest.approx(0.6 * 0.1 + 0.4 * 0.1)
    assert [(b.confidence, b.accuracy.value, b.accuracy.n) for b in found.bins] == [
        (pytest.approx(0.3), 0.4, 40),
        (pytest.approx(0.9), 0.8, 60),
    ]
    assert found.ece.low < found.ece.value < found.ece.high
    json.dumps(found.to_dict(), allow_nan=False)


def test_what_states_nothing_or_no_probability_is_counted_and_left_out() -> None:
    stated = [0.5] * FEWEST_ITEMS + [None, None, 70.0, -0.1]
    found = calibration(stated, [True] * len(stated), np.arange(len(stated)), resamples=64)
    assert (found.n, found.without, found.off_scale) == (FEWEST_ITEMS, 2, 2)


def test_too_few_items_give_no_figure() -> None:
    found = calibration([0.5] * 99, [True] * 99, np.arange(99))
    assert found.brier.value is found.ece.value is None
    assert found.bins == ()
    assert found.brier.reason == "99 items state a confidence, 100 are needed"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(np.linspace(0, 1, 21).tolist()), min_size=FEWEST_ITEMS, max_size=400), st.randoms())
def test_bins_are_whole_ordered_and_share_equal_confidences(stated: list[float], chance) -> None:
    x = np.array(stated)
    number = bin_numbers(x)
    assert set(number) == set(range(number.max() + 1))
    assert number.max() < MOST_BINS
    assert len(set(zip(x.tolist(), number.tolist(), strict=True))) == len(set(stated))
    order = np.argsort(x, kind="stable")
    assert (np.diff(number[order]) >= 0).all()
    right = [chance.random() < 0.5 for _ in stated]
    found = calibration(stated, right, np.arange(len(stated)), resamples=64)
    assert 0 <= found.ece.value <= 1
    assert sum(b.accuracy.n for b in found.bins) == len(stated)


def test_distinct_confidences_fill_bins_evenly() -> None:
    counts = np.bincount(bin_numbers(np.linspace(0, 1, 205)))
    assert len(counts) == 10
    assert min(counts) >= PER_BIN


def test_stated_confidences_of_narratives_are_held_against_strict_hits() -> None:
    cases = [Case(f"c{n}", diagnosis=("psoriasis",)) for n in range(FEWEST_ITEMS)]
    told = [
        Narrative(
            case.id, "s", "", differential=(Candidate(("eczema", "psoriasis")[n % 2], 0.8), Candidate("tinea", 0.2))
        )
        for n, case in enumerate(cases)
    ]
    (found,) = score_diagnosis(cases, told, resamples=64).systems
    assert (found.confidence.n, found.item_confidence.n) == (FEWEST_ITEMS, 2 * FEWEST_ITEMS)
    assert found.confidence.ece.value == pytest.approx(0.3)  # 0.8 stated, 0.5 right
    assert found.confidence.brier.value == pytest.approx(0.5 * 0.04 + 0.5 * 0.64)
    assert found.item_confidence.ece.value == pytest.approx(0.5 * 0.3 + 0.5 * 0.2)
    assert score_diagnosis(cases[:5], told[:5]).systems[0].confidence.brier.value is None
