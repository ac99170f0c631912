import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermjudge.evaluators.agreement import agree
from dermjudge.evaluators.ceiling import leave_one_out_targets, mean_of_experts
from dermjudge.evaluators.ratings import read_panel
from dermjudge.evaluators.statistics import compare

LEVELS = range(6)
cell = st.one_of(st.none(), st.integers(0, 5))


@given(st.lists(st.lists(cell, min_size=3, max_size=3), min_size=1, max_size=10))
def test_targets_are_the_mean_of_the_others(rows):
    y = np.array(rows, dtype=float)
    targets = leave_one_out_targets(y)
    for i, row in enumerate(y):
        for r in range(3):
            others = np.delete(row, r)
            others = others[np.isfinite(others)]
            if np.isfinite(row[r]) and len(others):
                assert targets[i, r] == pytest.approx(others.mean())
            else:
                assert np.isnan(targets[i, r])
        known = row[np.isfinite(row)]
        assert (len(known) == 0 and np.isnan(mean_of_experts(y)[i])) or mean_of_experts(y)[i] == pytest.approx(
            known.mean()
        )


@pytest.mark.parametrize("continuous", [False, True])
def test_judge_and_experts_are_scored_on_identical_targets(simulate, continuous):
    frame = simulate(continuous=continuous)
    result = agree(frame, LEVELS, resamples=64).of("j0", "d0")
    panel = read_panel(frame, LEVELS)
    x, y = panel.judges[0, :, 0], panel.experts[0]
    judge, expert, constant, n = [], [], [], 0
    for r in range(3):
        others = np.delete(y, r, axis=1)
        keep = np.isfinite(y[:, r]) & np.isfinite(others).any(axis=1)
        target = np.nanmean(others[keep], axis=1)
        judge.append(compare(x[keep], target))
        expert.append(compare(y[keep, r], target))
        constant.append(np.abs(target - np.median(target)).mean())
        n += int(keep.sum())
    for name in ("mae", "rmse", "within_1", "pearson", "spearman", "kendall_tau_b", "ccc"):
        ours, theirs = np.mean([s[name] for s in judge]), np.mean([s[name] for s in expert])
        assert result[f"loo_judge.{name}"].value == pytest.approx(ours, abs=1e-9)
        assert result[f"loo_expert.{name}"].value == pytest.approx(theirs, abs=1e-9)
        assert result[f"judge_minus_expert.{name}"].value == pytest.approx(ours - theirs, abs=1e-9)
    assert result["loo_constant.mae"].value == pytest.approx(np.mean(constant), abs=1e-9)
    assert result["loo_judge.mae"].n == n
    beaten = np.mean([e["mae"] > j["mae"] for j, e in zip(judge, expert, strict=True)])
    assert result["loo_rank.judge_beats_expert"].value == pytest.approx(beaten)


def test_an_expert_as_judge_reaches_the_ceiling_of_the_others(simulate):
    """A judge that repeats expert e0 word for word must get e0's own figures where e0 is the one left out."""
    import polars as pl

    frame = simulate(raters=2, missing=0.0)
    copy = frame.filter(pl.col("rater") == "e0").with_columns(rater=pl.lit("j0"), rater_kind=pl.lit("judge"))
    frame = pl.concat([frame.filter(pl.col("rater") != "j0"), copy])
    result = agree(frame, LEVELS, resamples=64).of("j0", "d0")
    # Left out e0: target e1, judge = e0. Left out e1: target e0 = judge, error 0. Experts: |e0 - e1| both times.
    assert result["loo_judge.mae"].value == pytest.approx(result["loo_expert.mae"].value / 2)
    assert result["judge_minus_expert.mae"].high < 0


def test_no_ceiling_from_adjudicated_ratings_or_one_expert(simulate):
    import polars as pl

    frame = simulate().with_columns(stage=pl.lit("adjudicated"))
    result = agree(frame, LEVELS, resamples=64)
    estimate = result.of("j0", "d0")["loo_expert.mae"]
    assert (estimate.value, estimate.n) == (None, 0)
    assert "adjudicated" in estimate.reason
    assert result.of("j0", "d0")["item.mae"].value is not None
    assert all(e.value is None and "adjudicated" in e.reason for e in result.panel[0].results.values())
    one = agree(simulate(raters=1, missing=0.0), LEVELS, resamples=64).of("j0", "d0")
    assert "two experts" in one["judge_minus_expert.pearson"].reason


def test_a_rare_expert_is_named_and_left_out(simulate):
    import polars as pl

    frame = simulate(missing=0.0)
    rare = (pl.col("rater") == "e2") & ~pl.col("case_id").is_in(["c1", "c2"])
    result = agree(frame.filter(~rare), LEVELS, resamples=64).of("j0", "d0")
    assert any("expert e2 is left out" in note for note in result.notes)
    assert result["loo_expert.mae"].n == 2 * 60 * 3
