"""Groups of cases: values by hand, scipy and the house's own rates as oracles, planted gaps found, chance gaps not."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy import stats

from dermjudge.evaluators.diagnosis import score_diagnosis
from dermjudge.evaluators.fairness import CROSS, fairness
from dermjudge.evaluators.fairness_rows import (
    case_clusters,
    diagnosis_rows,
    fairness_attributes,
    rate_rows,
    rating_rows,
    triage_rows,
)
from dermjudge.evaluators.fairness_section import fairness_section
from dermjudge.evaluators.group_rates import few, newcombe, score_test, wilson
from dermjudge.evaluators.proportions import rate
from dermjudge.evaluators.triage import score_triage
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Candidate, Case, Image, Narrative


def values(numbers: np.ndarray, metric: str = "top_1", system: str = "s", patient: np.ndarray | None = None):
    """One value per case c0, c1 ..."""
    frame = pl.DataFrame({
        "case_id": [f"c{i}" for i in range(len(numbers))], "system": system, "metric": metric,
        "value": np.asarray(numbers, dtype=float),
    })  # fmt: skip
    return frame if patient is None else frame.with_columns(cluster=pl.Series([f"p{i}" for i in patient]))


def groups(names) -> dict[str, str]:
    return {f"c{i}": str(name) for i, name in enumerate(names)}


def test_values_and_gaps_by_hand() -> None:
    found = fairness(values(np.array([1, 0, 1, 1, 0])), {"g": groups(["x", "x", "y", "y", ""])}, resamples=20)
    x, y, unknown = (found.of("top_1", "g", name) for name in ("x", "y", None))
    assert (x.value.value, y.value.value, unknown.value.value) == (0.5, 1.0, 0.0)
    assert (x.gap.value, y.gap.value, unknown.gap.value) == (-0.5, 0.5, None)
    assert x.counts == {"narratives": 2, "cases": 2, "patients": 2, "other_cases": 2, "other_patients": 2}
    assert "not known" in (unknown.gap.reason or "") and "g: not known of 1 of 5 cases" in found.notes
    assert (x.p_value, x.gap.low) == (None, None) and x.shown == "2 cases, 30 are needed for a claim"
    assert found.disparities[0].difference is None and "fewer than two groups" in (found.disparities[0].reason or "")


def test_several_narratives_and_cases_of_a_patient_are_counted_apart() -> None:
    frame = pl.concat(
        [values(np.ones(4), patient=np.array([0, 0, 1, 2])).with_columns(sample=pl.lit(k)) for k in (0, 1)]
    )
    found = fairness(frame, {"g": groups("xxxy")}, resamples=20).of("top_1", "g", "x")
    assert {k: found.counts[k] for k in ("narratives", "cases", "patients")} == {
        "narratives": 6,
        "cases": 3,
        "patients": 2,
    }


def test_wilson_is_the_rate_of_the_house() -> None:
    draw = np.random.default_rng(1)
    for hit, patient in ((draw.random(60) < 0.3, np.arange(60)), (draw.random(60) < 0.7, np.arange(60) // 3),
                         (np.ones(9), np.arange(9) // 2)):  # fmt: skip
        total, count = np.bincount(patient, hit * 1.0)[None], np.bincount(patient)[None] * 1.0
        mine, theirs = wilson(total, count), rate(hit, patient)
        assert (mine.share[0], mine.low[0], mine.high[0]) == pytest.approx((theirs.value, theirs.low, theirs.high))


def test_newcombe_and_score_test_golden() -> None:
    """Newcombe (1998), table II, method 10: 56/70 - 48/80 gives 0.0524 to 0.3339; 10/10 - 0/10 gives 0.6075 to 1."""

    def side(hits: int, n: int):
        return wilson(np.array([[1.0] * hits + [0.0] * (n - hits)]), np.ones((1, n)))

    low, high = newcombe(side(56, 70), side(48, 80))
    assert (low[0], high[0]) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    low, high = newcombe(side(10, 10), side(0, 10))
    assert (low[0], high[0]) == pytest.approx((0.6075, 1.0), abs=5e-5)
    p = score_test(side(56, 70), side(48, 80), np.array([104 / 150]))[0]
    chi2 = stats.chi2_contingency([[56, 14], [48, 32]], correction=False)
    assert p == pytest.approx(chi2.pvalue)
    assert few(side(3, 60))[0] and not few(side(30, 60))[0]


def test_a_group_that_is_always_right_is_no_discovery() -> None:
    """30 of 30 beside 180 of 200: Welch alone sees no variance in the group and says p < 0.0001."""
    numbers = np.concatenate([np.ones(30), np.arange(200) % 10 > 0])
    found = fairness(values(numbers), {"g": groups(["x"] * 30 + ["y"] * 200)}, resamples=200).of("top_1", "g", "x")
    chi2 = stats.chi2_contingency([[30, 0], [180, 20]], correction=False)
    assert found.p_value == pytest.approx(chi2.pvalue) and found.p_value > 0.05
    assert found.gap.low is not None and found.gap.low < 0 < (found.gap.high or 0)  # Newcombe: resamples never reach 0


def test_a_planted_gap_is_found_and_named_worst() -> None:
    draw = np.random.default_rng(1)
    tone = draw.integers(1, 7, 1200)
    hit = draw.random(1200) < np.where(tone == 6, 0.35, 0.65)
    found = fairness(values(hit), {"fitzpatrick": groups(tone)}, resamples=300)
    dark = found.of("top_1", "fitzpatrick", "6")
    assert dark.p_adjusted is not None and dark.p_adjusted < 0.001 and (dark.gap.high or 0) < -0.15
    others = [found.of("top_1", "fitzpatrick", str(k)) for k in range(1, 6)]
    assert all(abs(g.gap.value or 0) < 0.2 for g in others)
    (d,) = found.disparities
    assert (d.worst, d.lowest, d.worst_cases) == ("6", "6", int((tone == 6).sum()))
    assert d.difference is not None and d.by_chance_high is not None and d.difference > d.by_chance_high
    assert any("worst of several groups is biased" in note for note in found.notes)
    text = "\n".join(fairness_section(found))
    assert "6: 0.38" in text and "< 0.001" in text and max(map(len, text.splitlines())) <= 120


def test_equal_groups_are_rarely_claimed() -> None:
    """60 data sets without a gap, four groups of 40: any claim at 0.05 (Holm) in at most 8 (binomial, 0.5 % beyond)."""
    assert stats.binom.sf(8, 60, 0.05) < 0.005
    draw, claims = np.random.default_rng(5), 0
    for _ in range(60):
        found = fairness(values(draw.random(160) < 0.8), {"g": groups(np.arange(160) % 4)}, resamples=64)
        claims += any(g.p_adjusted is not None and g.p_adjusted < 0.05 for g in found.groups)
    assert claims <= 8


@pytest.mark.parametrize(("cases", "claimed"), [(29, False), (30, True)])
def test_groups_under_thirty_have_a_value_and_no_p(cases: int, claimed: bool) -> None:
    numbers = np.concatenate([np.arange(cases) % 2, np.arange(100) % 2])
    found = fairness(values(numbers), {"g": groups(["x"] * cases + ["y"] * 100)}, resamples=64)
    for name in "xy":  # the other side is as small
        one = found.of("top_1", "g", name)
        assert one.value.value is not None and one.value.low is not None
        assert (one.p_value is not None, one.p_adjusted is not None, one.shown == "") == (claimed,) * 3


def test_thirty_cases_of_few_patients_are_not_claimed() -> None:
    frame = values(np.arange(140) % 2, patient=np.concatenate([np.arange(40) // 4, 100 + np.arange(100)]))
    found = fairness(frame, {"g": groups(["x"] * 40 + ["y"] * 100)}, resamples=64).of("top_1", "g", "x")
    assert found.p_value is None and found.shown == "10 patients, 20 are needed for a claim"


def test_two_groups_are_one_test_and_crossings_a_family_of_their_own() -> None:
    n = 240
    attributes = {"sex": groups(np.arange(n) % 2), "site": groups(np.arange(n) % 3)}
    found = fairness(values(np.arange(n) % 5 == 0), attributes, resamples=64)
    assert found.families == {
        "top_1, attributes": "holm over 4 tests of a gap in top_1, attributes",  # 1 of sex, 3 of site
        "top_1, crossings": "holm over 6 tests of a gap in top_1, crossings",
    }
    one, other = (found.of("top_1", "sex", k) for k in "01")
    assert one.p_value == other.p_value and one.p_adjusted == other.p_adjusted


def test_crossings_are_counted() -> None:
    sex, site = ["f", "f", "m", "m", "m", ""], ["arm", "leg", "arm", "arm", "", "leg"]
    found = fairness(values(np.array([1, 0, 1, 0, 1, 1])), {"sex": groups(sex), "site": groups(site)}, resamples=20)
    cross = {g.group: g.counts["cases"] for g in found.groups if g.attribute == f"sex{CROSS}site"}
    assert cross == {f"f{CROSS}arm": 1, f"f{CROSS}leg": 1, f"m{CROSS}arm": 2, None: 2}
    assert found.of("top_1", f"sex{CROSS}site", f"m{CROSS}arm").value.value == 0.5
    none = fairness(values(np.ones(6)), {"sex": groups(sex), "site": groups(site)}, crossings=[], resamples=20)
    assert {g.attribute for g in none.groups} == {"sex", "site"}


def test_types_and_bands_are_neither_mixed_nor_crossed() -> None:
    with pytest.raises(InputError, match="mixes Fitzpatrick types"):
        fairness(values(np.ones(3)), {"fitzpatrick": groups(["1", "5-6", "2"])})
    both = {"fitzpatrick": groups("123"), "fitzpatrick_band": groups(["1-2", "1-2", "3-4"])}
    assert not any(CROSS in g.attribute for g in fairness(values(np.ones(3)), both, resamples=20).groups)
    with pytest.raises(InputError, match="one property"):
        fairness(values(np.ones(3)), both, crossings=[("fitzpatrick", "fitzpatrick_band")])


def test_rates_of_calls_parity_and_odds_by_hand() -> None:
    """Group a: 38 called of 80, sensitivity 30/40, fpr 8/40; group b: 20 called of 80, 20/40 and 0/40."""
    called = [True] * 30 + [False] * 10 + [True] * 8 + [False] * 32 + [True] * 20 + [False] * 60
    label = ([True] * 40 + [False] * 40) * 2
    frame = pl.DataFrame({"case_id": [f"c{i}" for i in range(160)], "system": "s", "positive": called, "label": label})
    found = fairness(rate_rows(frame), {"g": groups(["a"] * 80 + ["b"] * 80)}, resamples=64)
    seen = {m: [found.of(m, "g", k).value.value for k in "ab"] for m in ("positive_rate", "sensitivity", "specificity")}
    assert seen == {"positive_rate": [0.475, 0.25], "sensitivity": [0.75, 0.5], "specificity": [0.8, 1.0]}
    by = {d.metric: d for d in found.disparities}
    assert by["positive_rate"].difference == pytest.approx(0.225) and by["positive_rate"].worst is None
    odds = by["equalised_odds"]
    assert (odds.difference, odds.of, by["sensitivity"].worst) == (0.25, "sensitivity", "b")
    assert (by["false_positive_rate"].difference, by["false_positive_rate"].worst) == (0.2, "a")
    assert by["no_call"].difference == 0.0


def test_calls_without_a_truth_or_missing_count_where_they_belong() -> None:
    frame = pl.DataFrame(
        {"case_id": list("abc"), "system": "s", "positive": [True, None, False], "label": [True, True, None]}
    )
    count = dict(rate_rows(frame).group_by("metric").len().iter_rows())
    assert count == {"no_call": 3, "positive_rate": 2, "sensitivity": 1}


CASES = [
    Case("a", (Image("1.png", "Dermoscopy"),), "p1", diagnosis=("melanoma",), urgency="urgent",
         tags={"sex": "F", "monk_skin_tone_us": 3}),
    Case("b", (Image("2.png", "clinical"), Image("3.png", "dermoscopy")), diagnosis=("nevus",), urgency="routine",
         tags={"sex": "m", "monk_skin_tone_us": ""}),
]  # fmt: skip


def test_rows_of_diagnosis_and_triage_agree_with_their_own_scores() -> None:
    narratives = [
        Narrative("a", "s", "x", differential=(Candidate("nevus"), Candidate("melanoma")), triage="routine"),
        Narrative("b", "s", "x", differential=(Candidate("nevus"),), triage="urgent"),
    ]
    diagnosis, triage = score_diagnosis(CASES, narratives), score_triage(CASES, narratives)
    rows = pl.concat([diagnosis_rows(diagnosis), triage_rows(triage)])
    mean = {m: v for m, v in rows.group_by("metric").agg(pl.col("value").mean()).iter_rows()}
    own, rates = diagnosis.systems[0], triage.systems[0].stated.rates
    assert [mean[f"top_{k}"] for k in (1, 3, 5)] == [own.strict[k].value for k in (1, 3, 5)] == [0.5, 1.0, 1.0]
    assert [mean[f"lenient_{k}"] for k in (1, 3)] == [own.lenient[k].value for k in (1, 3)]
    for name in ("sensitivity", "specificity", "under", "over", "severe_under"):
        assert mean[name] == rates[name].value, name
    assert (mean["false_positive_rate"], mean["positive_rate"], mean["no_call"]) == (1.0, 0.5, 0.0)
    found = fairness(rows, fairness_attributes(CASES), case_clusters(CASES), resamples=20)
    assert found.of("top_1", "sex", "female").value.value == 0.0
    assert found.settings["patients"] == 2
    json.dumps(found.to_dict(), allow_nan=False)


def test_attributes_know_modality_and_monk() -> None:
    found = fairness_attributes(CASES)
    assert found["modality"] == {"a": "dermoscopy", "b": "mixed"} and found["monk_skin_tone_us"] == {"a": "3"}
    assert found["diagnosis_group"] == {"a": "malignant", "b": "benign"}


def test_scores_of_a_judge_are_averaged_over_repeats() -> None:
    frame = pl.DataFrame({
        "case_id": ["a", "a", "b"], "system": "s", "arm": "", "sample": 0, "rater": "j", "dimension": "Accuracy",
        "score": [1.0, 2.0, None],
    })  # fmt: skip
    rows = rating_rows(frame, "j")
    assert rows.sort("case_id")["value"].to_list() == [1.5, None] and rows["metric"][0] == "score Accuracy"
    found = fairness(rows, {"g": {"a": "x", "b": "y"}}, resamples=20)
    assert "1 of 2 rows have no value and are not used" in found.notes
    with pytest.raises(InputError, match="no rater 'k'; there are j"):
        rating_rows(frame, "k")


def test_results_do_not_depend_on_the_order_of_rows_and_foreign_text_is_escaped() -> None:
    draw = np.random.default_rng(2)
    frame = values(draw.normal(size=120), "score x", "<b>evil|name</b>")
    attributes = {"g": groups(["*a*", "b"] * 60)}
    one = fairness(frame, attributes, {f"c{i}": f"p{i}" for i in range(120)}, resamples=64)
    again = fairness(frame, attributes, {f"c{i}": f"p{i}" for i in range(120)}, resamples=64)
    assert one == again
    text = "\n".join(fairness_section(one))
    assert "<b>" not in text and "*a*" not in text.replace("\\*a\\*", "")


@pytest.mark.parametrize(
    ("frame", "attributes", "why"),
    [
        (pl.DataFrame({"case_id": ["a"]}), {"g": {"a": "x"}}, "lack the column"),
        (pl.concat([values(np.ones(1))] * 2), {"g": {"c0": "x"}}, "stands twice"),
        (values(np.array([np.nan])), {"g": {"c0": "x"}}, "none of 1 rows has a value"),
        (values(np.ones(1)), {"g": {"other": "x"}}, "no case of the values has a group"),
    ],
)
def test_what_cannot_be_compared_is_refused(frame, attributes, why) -> None:
    with pytest.raises(InputError, match=why):
        fairness(frame, attributes)
