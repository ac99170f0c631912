"""From benchmark to bedside: planted gaps of case mix alone and within groups alone, and what cannot be compared."""

import json

import numpy as np
import polars as pl
import pytest

from dermjudge.evaluators.gap import GapSide, gap, gap_side
from dermjudge.evaluators.gap_parts import pool
from dermjudge.evaluators.gap_section import gap_section
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Candidate, Case, Narrative


def side(name, planted, systems=("a",), arms=("image_only",), measure="top_1"):
    """Narratives by group: planted = {group: (cases, hits)}; the same for every system and arm."""
    rows = [
        {"case_id": f"{name}-{group}-{k:04d}", "system": system, "arm": arm, "sample": 0,
         "cluster": f"p-{group}-{k:04d}",         "first": None, measure: float(k < hits), "group": group}
        for group, (cases, hits) in planted.items() for k in range(cases) for system in systems for arm in arms
    ]  # fmt: skip
    return GapSide(name, pl.DataFrame(rows, schema_overrides={"first": pl.String}))


MIX = (
    side("pub", {"benign": (200, 160), "malignant": (100, 30)}),
    side("loc", {"benign": (60, 48), "malignant": (240, 72)}),
)
WITHIN = (
    side("pub", {"benign": (200, 160), "malignant": (100, 30)}),
    side("loc", {"benign": (160, 80), "malignant": (80, 8)}),
)


def test_a_gap_of_mix_alone_is_explained_wholly():
    row = gap(*MIX).of("top_1")
    assert row.public.value == pytest.approx(190 / 300) and row.local.value == pytest.approx(120 / 300)
    assert row.gap.value == pytest.approx(7 / 30) == pytest.approx(row.mix.value)
    assert row.within.value == pytest.approx(0, abs=1e-12) and row.within.low < 0 < row.within.high
    assert row.explained.value == pytest.approx(1) and row.explained.low < 1 < row.explained.high
    assert (row.public.n, row.local.n, row.gap.n) == (300, 300, 600) and row.mix.low > 0


def test_a_gap_within_groups_is_not_explained_at_all():
    row = gap(*WITHIN).of("top_1")
    assert row.gap.value == pytest.approx(19 / 30 - 88 / 240) == pytest.approx(row.within.value)
    assert row.mix.value == pytest.approx(0, abs=1e-12) and row.mix.low < 0 < row.mix.high
    assert row.explained.value == pytest.approx(0, abs=1e-12) and row.within.low > 0


def test_both_parts_add_up_and_follow_the_formula():
    public, local = side("p", {"x": (100, 70), "y": (50, 10)}), side("l", {"x": (40, 20), "y": (120, 12)})
    row = gap(public, local).of("top_1")
    assert row.mix.value == pytest.approx((100 / 150 - 40 / 160) * 0.7 + (50 / 150 - 120 / 160) * 0.2)
    assert row.within.value == pytest.approx(40 / 160 * (0.7 - 0.5) + 120 / 160 * (0.2 - 0.1))
    assert row.mix.value + row.within.value == pytest.approx(row.gap.value)


def test_the_interval_is_that_of_two_independent_samples():
    """Against the normal approximation, sqrt of the sum of both variances."""
    row = gap(*MIX, resamples=4000).of("top_1")
    (p, n), (q, m) = (190 / 300, 300), (0.4, 300)
    half = 1.96 * np.sqrt(p * (1 - p) / n + q * (1 - q) / m)
    assert row.gap.high - row.gap.low == pytest.approx(2 * half, rel=0.08)


def test_the_mean_over_systems_is_plain_and_keeps_their_draws_together():
    public, local = (side(name, {"x": (80, 40), "y": (80, 20)}, systems=("a", "b")) for name in ("p", "l"))
    found = gap(public, local)
    one, both = found.of("top_1", "a"), found.of("top_1")
    assert both.public.n == 2 * one.public.n and both.gap.value == one.gap.value
    assert (both.gap.low, both.gap.high) == pytest.approx((one.gap.low, one.gap.high))  # b says what a says: no gain


def test_small_groups_stand_together_and_are_named():
    public = side("p", {"x": (90, 45), "y": (60, 30), "rare": (5, 1), "odd": (3, 0)})
    local = side("l", {"x": (70, 35), "y": (50, 20), "rare": (40, 8)})
    found = gap(public, local)
    assert found.pooled["top_1", "image_only"] == ("odd", "rare", "y")
    assert [(g.group, g.public_cases, g.local_cases) for g in found.groups] == [
        ("odd + rare + y", 68, 90),
        ("x", 90, 70),
    ]
    assert sum(g.public_share for g in found.groups) == pytest.approx(1) == sum(g.local_share for g in found.groups)
    few = gap(public, local, least=200)
    row = few.of("top_1")
    assert row.mix.value is None and "fewer than two diagnosis groups have 200" in row.mix.reason and row.gap.value
    assert row.explained.value is None and row.explained.reason == row.mix.reason
    assert pool({"a": 40}, {"a": 40}, 30) == ([["a"]], ()) and pool({"a": 1}, {"b": 1}, 30) == (
        [["a", "b"]],
        ("a", "b"),
    )


def test_a_gap_that_may_be_none_has_no_share_explained():
    row = gap(side("p", {"x": (60, 30), "y": (60, 20)}), side("l", {"x": (60, 31), "y": (60, 20)})).of("top_1")
    assert row.gap.low < 0 < row.gap.high and row.explained.value is None and "holds 0" in row.explained.reason


def test_few_patients_have_no_interval_and_a_note():
    found = gap(side("p", {"x": (9, 3), "y": (9, 3)}), side("l", {"x": (90, 30), "y": (90, 30)}), least=5)
    row = found.of("top_1")
    assert row.gap.value is not None and row.gap.low is None and "18 clusters" in row.gap.reason
    assert row.public.low is None and row.local.low is not None and any("p: 18 clusters" in n for n in found.notes)


def test_row_order_and_seed():
    shuffled = [GapSide(s.name, s.rows.sample(fraction=1, shuffle=True, seed=3)) for s in MIX]
    assert gap(*MIX, seed=1).to_dict() == gap(*shuffled, seed=1).to_dict()
    assert gap(*MIX, seed=1).of("top_1").gap.value == gap(*MIX, seed=2).of("top_1").gap.value
    assert gap(*MIX, seed=1).of("top_1").gap != gap(*MIX, seed=2).of("top_1").gap


def test_local_context_is_held_against_public_and_against_the_pictures_alone():
    local = side("loc", {"x": (60, 20), "y": (60, 20)}, arms=("image_only", "image_context"))
    helped = (pl.col("arm") == "image_context") & (pl.col("group") == "x")
    local = GapSide("loc", local.rows.with_columns(top_1=pl.when(helped).then(1.0).otherwise(pl.col("top_1"))))
    found = gap(side("pub", {"x": (60, 40), "y": (60, 40)}), local)
    assert found.of("top_1").local.value == pytest.approx(1 / 3)
    assert found.of("top_1", None, "image_context").local.value == pytest.approx(2 / 3)
    assert found.context.of("image_context", "top_1").difference.value == pytest.approx(1 / 3)
    text = "\n".join(gap_section(found))
    assert "What context is worth" in text and "### Local arm: image_context" in text
    assert max(map(len, text.split("\n"))) <= 120
    json.dumps(found.to_dict(), allow_nan=False)


def test_what_cannot_be_compared_is_refused_or_noted():
    public, local = side("p", {"x": (30, 3)}, systems=("a", "b")), side("l", {"x": (30, 3)}, systems=("b", "c"))
    found = gap(public, local)
    assert found.systems == ("b",) and {"only p has a: left out", "only l has c: left out"} <= set(found.notes)
    assert found.context is None and "unknown" in found.notes[-1]
    with pytest.raises(InputError, match="no system in common: a, b there, z here"):
        gap(public, side("l", {"x": (30, 3)}, systems=("z",)))
    with pytest.raises(InputError, match="no arm in common: image_only in p, text_only in l"):
        gap(public, side("l", {"x": (30, 3)}, systems=("a",), arms=("text_only",)))
    two = [side(n, {"x": (30, 3)}, arms=("image_context", "text_only")) for n in "pl"]
    with pytest.raises(InputError, match="several arms in common, image_context, text_only"):
        gap(*two)
    assert gap(*two, arm="text_only").arm == "text_only"
    with pytest.raises(InputError, match="no narrative of the arm 'image_only'"):
        gap(public, two[1], arm="image_only")


def test_names_from_outside_are_escaped():
    hostile = "<b>|*x*"
    sides = [side(hostile, {"x|y": (40, 20), "z": (40, 20)}, systems=(hostile,)) for _ in "pl"]
    text = "\n".join(gap_section(gap(*sides)))
    assert "<b>" not in text and "|*x*" not in text and "x|y" not in text.replace("\\|", "")


def test_a_side_is_scored_and_grouped():
    gold = ("melanoma", "psoriasis", "blorb")
    cases = [Case(f"c{k}", patient_id=f"p{k % 2}", diagnosis=(name,)) for k, name in enumerate(gold)]
    texts = [Narrative(c.id, "s", "", differential=(Candidate("melanoma"),), triage="urgent") for c in cases]
    found = gap_side("b", cases, texts)
    assert found.rows.sort("case_id")["group"].to_list() == ["malignant", "inflammatory", "no group"]
    assert found.rows.sort("case_id")["top_1"].to_list() == [1.0, 0.0, None]
    assert {"top_3", "lenient_1", "lenient_3", "sensitivity", "specificity"} <= set(found.rows.columns)
    roots = gap_side("b", cases, texts, by="root").rows.sort("case_id")["group"].to_list()
    assert len(set(roots)) == 3 and roots[2] == "no group"
    assert any("1 gold" in note for note in found.notes)
    with pytest.raises(InputError, match="malignancy, root"):
        gap_side("b", cases, texts, by="colour")
