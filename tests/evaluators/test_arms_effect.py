"""Paired effects of arms: differences, flips, changes of the first diagnosis, what is lost, what is adjusted."""

import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import ttest_rel

from dermjudge.evaluators.arm_values import is_hit, measures, narrative_values
from dermjudge.evaluators.arms_effect import arms_effect
from dermjudge.evaluators.diagnosis import score_diagnosis
from dermjudge.evaluators.multiplicity import adjust
from dermjudge.evaluators.triage import score_triage
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Candidate, Case, Narrative


def table(base, other, system="s", patients=None, first=None, arms=("image_only", "image_context")):
    """A frame of one measure under two arms; None in a list leaves the value out."""
    n = len(base)
    rows = [
        {"case_id": f"c{k:03d}", "system": system, "arm": arm, "sample": 0,
         "cluster": f"p{k if patients is None else patients[k]:03d}", "top_1": values[k],
         "first": None if first is None else first[a][k]}
        for a, (arm, values) in enumerate(zip(arms, (base, other), strict=True)) for k in range(n)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"top_1": pl.Float64, "first": pl.String})


def test_differences_and_flips_are_counted_on_the_pairs():
    base = [1.0] * 20 + [0.0] * 20 + [None, 1.0]
    other = [0.0] * 5 + [1.0] * 15 + [1.0] * 12 + [0.0] * 8 + [1.0, None]
    found = arms_effect(table(base, other), "image_only").of("image_context", "top_1", "s")
    assert (found.n, found.clusters, found.lost) == (40, 40, 2)
    assert (found.value_base.value, found.value_arm.value) == (0.5, 27 / 40)
    assert found.difference.value == pytest.approx(7 / 40) and found.difference.low < 7 / 40 < found.difference.high
    assert (found.right_to_wrong.value, found.right_to_wrong.n) == (0.25, 20)
    assert (found.wrong_to_right.value, found.wrong_to_right.n) == (0.6, 20)
    pairs = ttest_rel(other[:40], base[:40])
    assert found.p_value == pytest.approx(pairs.pvalue, rel=1e-9)  # one narrative a patient: the paired t test


def test_patients_with_several_narratives_widen_the_interval():
    rng = np.random.default_rng(0)
    base = (rng.random(30) < 0.5).repeat(6).astype(float)
    other = (rng.random(30) < 0.6).repeat(6).astype(float)
    alone = arms_effect(table(base, other), "image_only").of("image_context", "top_1", "s")
    within = arms_effect(table(base, other, patients=np.arange(30).repeat(6)), "image_only")
    found = within.of("image_context", "top_1", "s")
    assert (found.n, found.clusters) == (180, 30) and found.difference.value == alone.difference.value
    assert found.difference.high - found.difference.low > 1.7 * (alone.difference.high - alone.difference.low)


def test_the_first_diagnosis_that_changes_is_the_sensitivity_to_wrong_context():
    first = (["psoriasis"] * 10 + [None], ["psoriasis"] * 6 + ["eczema"] * 3 + [None, "eczema"])
    both = table([1.0] * 11, [1.0] * 11, first=first, arms=("image_context", "image_context-wrong:age"))
    found = {row.system: row for row in arms_effect(both, "image_context").first}
    assert set(found) == {"s", None} and (found["s"].n, found["s"].lost) == (9, 2)
    assert found["s"].changed.value == pytest.approx(3 / 9)


def test_pairs_are_of_one_case_system_and_sample_and_the_others_are_counted():
    frame = table([1.0] * 4, [0.0] * 4).filter(~((pl.col("case_id") == "c000") & (pl.col("arm") == "image_context")))
    found = arms_effect(frame, "image_only")
    assert found.of("image_context", "top_1", "s").n == 3 and found.unpaired == {"image_context": 1}
    other = frame.with_columns(sample=pl.when(pl.col("arm") == "image_only").then(1).otherwise(0).cast(pl.Int64))
    with pytest.raises(InputError, match="no case has a narrative of one system and sample"):
        arms_effect(other, "image_only")


def test_holm_runs_over_systems_and_the_mean_row_apart():
    rng = np.random.default_rng(1)
    right = {"a": [[0.3], [0.8]], "b": [[0.3], [0.4]]}
    frames = [table(*(rng.random((2, 40)) < shares).astype(float), system=s) for s, shares in right.items()]
    found = arms_effect(pl.concat(frames), "image_only")
    own = [row for row in found.deltas if row.system is not None]
    assert [row.p_adjusted for row in own] == adjust([row.p_value for row in own])
    pooled = found.of("image_context", "top_1")
    assert pooled.n == 80 and pooled.clusters == 40 and pooled.p_adjusted == pooled.p_value
    assert own[0].family.startswith("holm over 2 tests") and pooled.family.startswith("holm over 1 tests")
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_order_of_rows_does_not_matter():
    rng = np.random.default_rng(2)
    frame = table(rng.random(30), rng.random(30)).rename({"top_1": "overall"})
    one = arms_effect(frame, "image_only", seed=4).to_dict()
    assert one == arms_effect(frame.sample(fraction=1, shuffle=True, seed=5), "image_only", seed=4).to_dict()
    assert one["deltas"][0]["right_to_wrong"] is None  # a score is neither right nor wrong


def test_nothing_to_pair_has_a_reason_and_wrong_names_are_refused():
    found = arms_effect(table([None] * 3, [1.0] * 3), "image_only").of("image_context", "top_1", "s")
    assert found.difference.value is None and "no pair" in found.difference.reason and found.lost == 3
    assert found.p_value is None and found.right_to_wrong.value is None
    frame = table([1.0], [1.0])
    for base, arms in (("blind", None), ("image_only", ["blind"]), ("image_only", ["image_only"]), ("image_only", [])):
        with pytest.raises(InputError, match="image_context, image_only"):
            arms_effect(frame, base, arms)
    with pytest.raises(InputError, match="stands twice"):
        arms_effect(pl.concat([frame, frame]), "image_only")


def test_values_come_from_the_scorers_rows():
    cases = [
        Case("a", diagnosis=("melanoma",), urgency="urgent"),
        Case("b", diagnosis=("psoriasis",), urgency="routine"),
        Case("x", diagnosis=("blorb",)),
    ]
    told = {"a": ("nevus", "melanoma"), "b": ("psoriasis", "eczema"), "x": ("nevus",)}
    texts = [Narrative(c, "s", "", differential=tuple(map(Candidate, names)), triage=call)
             for (c, names), call in zip(told.items(), ("soon", "soon", "urgent"), strict=True)]  # fmt: skip
    scored = score_diagnosis(cases, texts, k=(1, 3)), score_triage(cases, texts)
    frame = narrative_values(*scored, overall={texts[0].key: 3.5})
    rows = {row["case_id"]: row for row in frame.iter_rows(named=True)}
    assert (rows["a"]["top_1"], rows["a"]["top_3"], rows["b"]["top_1"]) == (0.0, 1.0, 1.0)
    assert (rows["a"]["sensitivity"], rows["a"]["specificity"], rows["b"]["sensitivity"], rows["b"]["specificity"]) == (
        0.0, None, None, 1.0)  # fmt: skip
    assert (
        rows["a"]["triage_correct"] == rows["b"]["triage_correct"] == 0.0 and rows["a"]["first"] == "melanocytic nevus"
    )
    assert rows["x"]["top_1"] is None and rows["x"]["sensitivity"] is None and rows["a"]["overall"] == 3.5
    assert [name for name in measures(frame) if not is_hit(name)] == ["overall"]
    for name in ("top_1", "top_3"):
        assert frame[name].mean() == scored[0].systems[0].strict[int(name[-1])].value
    with pytest.raises(InputError, match="no rating is of one"):
        narrative_values(*scored, overall={})
