import json

import numpy as np
import polars as pl
import pytest

from dermjudge.evaluators.agreement import agree
from dermjudge.evaluators.ceiling import mean_of_experts
from dermjudge.evaluators.pilot import Pilot
from dermjudge.evaluators.planning import next_cases, plan
from dermjudge.evaluators.ratings import read_panel
from dermjudge.evaluators.statistics import compare
from dermjudge.judge.errors import InputError

LEVELS = (0, 1, 2, 3, 4, 5)
EXPERT = pl.col("rater_kind") == "expert"
NUMBER = pl.col("case_id").str.slice(1).cast(pl.Int64)


def draw_scores(draw, cases, systems=3, raters=3):
    """Narratives of one case share part of their quality and of the judge's error; 15 % of the ratings are missing.

    Returns the judge's scores (cases, systems) and the experts' (raters, cases, systems).
    """
    truth = draw.normal(2.6, 0.8, (cases, 1)) + draw.normal(0, 0.7, (cases, systems))
    error = draw.normal(0, 0.35, (cases, 1)) + draw.normal(0, 0.4, (cases, systems))
    bias = np.array([0.3, -0.2, 0.1])[:raters, None, None]
    experts = np.clip(np.floor(truth + bias + draw.normal(0, 0.5, (raters, *truth.shape)) + 0.5), 0, 5)
    experts[draw.random(experts.shape) < 0.15] = np.nan
    return np.clip(np.floor(0.8 * truth + 0.7 + error + 0.5), 0, 5), experts


def study(draw, cases, systems=3, raters=3):
    judge, experts = draw_scores(draw, cases, systems, raters)
    columns = [("j", "judge", judge), *((f"e{r}", "expert", y) for r, y in enumerate(experts))]
    case, system = (a.ravel() for a in np.indices(judge.shape))
    return pl.concat(
        pl.DataFrame(
            {
                "case_id": [f"c{i}" for i in case],
                "system": [f"s{i}" for i in system],
                "rater": name,
                "rater_kind": kind,
                "dimension": "d",
                "score": score.ravel(),
            }
        ).with_columns(pl.col("score").fill_nan(None))
        for name, kind, score in columns
    )


def scatter(draw, statistic, cases, repeats, **shape):
    """Half of the central 95 % of a statistic over fresh studies: what a plan predicts."""
    found = []
    for _ in range(repeats):
        judge, experts = draw_scores(draw, cases, **shape)
        target = mean_of_experts(experts.reshape(len(experts), -1).T)
        found.append(compare(judge.ravel(), target)[statistic])
    return np.diff(np.quantile(found, [0.025, 0.975]))[0] / 2


# How many


def test_half_width_halves_when_cases_are_four_times_as_many():
    panel = read_panel(study(np.random.default_rng(0), 120), LEVELS)
    for statistic in ("bias", "mae", "pearson", "icc(A,1)", "spearman", "alpha", "judge_minus_expert.mae"):
        pilot = Pilot(panel, 0, 0, statistic, seed=1)
        small, large = pilot.half_width(150, 3000), pilot.half_width(600, 3000)
        assert small / large == pytest.approx(2, rel=0.1)


def test_half_width_of_a_mean_is_the_formula():
    """1.96 SD / sqrt(n) with the SD of case means: the same number of narratives everywhere, no rater missing."""
    draw = np.random.default_rng(1)
    frame = study(draw, 80, raters=1).with_columns(pl.col("score").fill_null(2.0))
    d = frame.pivot("rater", index=["case_id", "system"], values="score")
    means = d.with_columns(d=pl.col("j") - pl.col("e0")).group_by("case_id").agg(pl.col("d").mean())["d"]
    pilot = Pilot(read_panel(frame, LEVELS), 0, 0, "bias", seed=0)
    assert pilot.half_width(200, 8000) == pytest.approx(1.96 * means.std() / 200**0.5, rel=0.04)
    found = plan(frame, LEVELS, "j", "bias", 0.05)
    assert found.cases == pytest.approx((1.96 * means.std() / 0.05) ** 2, rel=0.1)


def test_the_curve_is_what_agree_reports_for_the_pilot():
    frame = study(np.random.default_rng(2), 100)
    for statistic in ("item.mae", "item.pearson", "item.spearman", "panel.alpha_ordinal"):
        result = agree(frame, LEVELS, resamples=2000)
        estimate = (result.panel[0].results | dict(result.of("j", "d").results))[statistic.removeprefix("panel.")]
        found = plan(frame, LEVELS, "j", statistic, 0.1).of("d")
        assert found.pilot_half_width == pytest.approx((estimate.high - estimate.low) / 2, rel=0.1)
        assert found.value == pytest.approx(estimate.value)
        assert found.pilot_cases == 100


@pytest.mark.parametrize(("statistic", "width"), [("mae", 0.05), ("pearson", 0.06), ("icc_a1", 0.06)])
def test_the_planned_number_gives_the_width(statistic, width):
    """Plans from pilots of 60: fresh studies of the planned size scatter as wide as was asked for."""
    draw = np.random.default_rng(3)
    plans = [plan(study(draw, 60), LEVELS, "j", statistic, width, systems=[], raters=[]).of("d") for _ in range(12)]
    planned = round(np.median([p.design.cases for p in plans]))
    reached = scatter(draw, statistic, planned, 800)
    assert reached == pytest.approx(width, rel=0.15)
    # The truth on this sample: by 1 / sqrt(n) from what was reached.
    needed = planned * (reached / width) ** 2
    assert np.mean([p.design.low <= needed <= p.design.high for p in plans]) >= 0.75
    assert all(p.half_width == pytest.approx(width, rel=0.1) for p in plans)


def test_a_wider_interval_needs_fewer_cases_and_a_larger_pilot_knows_better():
    draw = np.random.default_rng(4)
    frame = study(draw, 200)
    sizes = [plan(frame, LEVELS, "j", "mae", w, systems=[], raters=[]).cases for w in (0.03, 0.06)]
    assert sizes[0] / sizes[1] == pytest.approx(4, rel=0.15)
    large = plan(frame, LEVELS, "j", "mae", 0.03, systems=[], raters=[]).of("d").design
    small = plan(frame.filter(NUMBER < 25), LEVELS, "j", "mae", 0.03, systems=[], raters=[])
    assert small.of("d").design.high / small.of("d").design.low > 1.3 * large.high / large.low
    assert any("25 rated clusters" in note for note in small.notes)


def test_narratives_and_experts_are_weighed_against_cases():
    draw = np.random.default_rng(5)
    found = plan(study(draw, 150), LEVELS, "j", "mae", 0.04, systems=[1, 6], raters=[2]).of("d")
    base = found.design
    one, six, fewer = found.alternatives
    assert (one.systems, six.systems, fewer.raters) == (1, 6, 2)
    assert not one.extrapolated and six.extrapolated and not fewer.extrapolated
    assert one.cases > 1.8 * base.cases > 1.8 * six.cases
    # 15 % of three and of at most two ratings are missing.
    assert base.ratings == pytest.approx(base.cases * 3 * 3 * 0.85, rel=0.05)
    assert fewer.ratings == pytest.approx(fewer.cases * 3 * (2 * 0.939 + 0.057), rel=0.06)
    default = plan(study(draw, 40), LEVELS, "j", "mae", 0.1).of("d").alternatives
    assert [(a.systems, a.raters) for a in default] == [(1, 3), (6, 3), (3, 2), (3, 4)]
    assert default[3].extrapolated


def test_other_numbers_of_narratives_are_those_of_fresh_studies():
    draw = np.random.default_rng(15)
    plans = [plan(study(draw, 100), LEVELS, "j", "mae", 0.04, systems=[1, 6], raters=[]).of("d") for _ in range(7)]
    for place, systems in enumerate((1, 6)):
        planned = np.median([p.alternatives[place].cases for p in plans])
        assert planned == pytest.approx(150 * (scatter(draw, "mae", 150, 800, systems=systems) / 0.04) ** 2, rel=0.25)


def test_what_the_pilot_cannot_tell():
    single = plan(study(np.random.default_rng(6), 40, systems=1, raters=1), LEVELS, "j", "mae", 0.1).of("d")
    more, third = single.alternatives
    assert more.cases is None and "unknown with 2 narrative(s)" in more.reason
    assert third.cases is None and "2 expert(s)" in third.reason
    pair = plan(study(np.random.default_rng(6), 40, raters=2), LEVELS, "j", "alpha", 0.1, systems=[]).of("d")
    assert (pair.alternatives[0].raters, pair.alternatives[0].cases) == (1, None)


def test_patients_are_redrawn_and_cases_are_reported():
    frame = study(np.random.default_rng(7), 60)
    twins = pl.concat([frame, frame.with_columns(pl.col("case_id") + "-again")])
    patient = {c: c.removesuffix("-again") for c in twins["case_id"].unique()}
    alone = plan(frame, LEVELS, "j", "mae", 0.05, systems=[], raters=[]).of("d")
    found = plan(twins, LEVELS, "j", "mae", 0.05, patient, systems=[], raters=[]).of("d")
    assert found.design.cases == pytest.approx(2 * alone.design.cases, rel=0.05)
    assert (found.pilot_cases, found.pilot_clusters) == (120, 60)


def test_same_seed_same_plan_and_plain_json():
    frame = study(np.random.default_rng(8), 40)
    first, second, other = (plan(frame, LEVELS, "j", "mae", 0.05, seed=s) for s in (1, 1, 2))
    assert json.dumps(first.to_dict(), allow_nan=False) == json.dumps(second.to_dict(), allow_nan=False)
    assert first.to_dict() != other.to_dict()


def test_unrated_cases_are_no_part_of_the_pilot():
    frame = study(np.random.default_rng(9), 100)
    rated = frame.filter(NUMBER < 40)
    whole = plan(frame.filter(~EXPERT | (NUMBER < 40)), LEVELS, "j", "mae", 0.05)
    assert whole.to_dict() == plan(rated, LEVELS, "j", "mae", 0.05).to_dict()
    assert whole.of("d").pilot_cases == 40


def test_the_least_number_is_that_of_an_interval():
    assert plan(study(np.random.default_rng(10), 40), LEVELS, "j", "mae", 3.0).cases == 20


def test_refusals():
    frame = study(np.random.default_rng(11), 30)
    with pytest.raises(InputError, match="the pilot holds 19 cases with expert and judge scores; at least 20"):
        plan(frame.filter(NUMBER < 19), LEVELS, "j", "mae", 0.1)
    for width in (0, -1, float("nan")):
        with pytest.raises(InputError, match="width must be above 0"):
            plan(frame, LEVELS, "j", "mae", width)
    with pytest.raises(InputError, match="no judge 'x'"):
        plan(frame, LEVELS, "x", "mae", 0.1)
    with pytest.raises(
        InputError, match=r"unknown statistic 'maee'; known: icc\(A,1\).*spearman.*panel\.alpha_ordinal"
    ):
        plan(frame, LEVELS, "j", "maee", 0.1)
    with pytest.raises(InputError, match="no expert score"):
        plan(frame.filter(~EXPERT), LEVELS, "j", "mae", 0.1)
    with pytest.raises(InputError, match="whole numbers from 1"):
        plan(frame, LEVELS, "j", "mae", 0.1, systems=[0])
    with pytest.raises(InputError, match="no dimension 'x'; there are d"):
        plan(frame, LEVELS, "j", "mae", 0.1).of("x")


def test_a_constant_judge_has_a_reason():
    frame = study(np.random.default_rng(12), 30)
    flat = frame.with_columns(pl.when(EXPERT).then(pl.col("score")).otherwise(3.0).alias("score"))
    found = plan(flat, LEVELS, "j", "spearman", 0.1)
    assert found.cases is None
    assert "constant (3)" in found.of("d").design.reason
    json.dumps(found.to_dict(), allow_nan=False)
    assert plan(flat, LEVELS, "j", "mae", 0.1).cases is not None
    same = frame.with_columns(score=pl.lit(3.0))
    assert "no spread" in plan(same, LEVELS, "j", "mae", 0.1).of("d").design.reason


# Which ones


def judged(scores, rated=(), distributions=None):
    """One dimension; `scores` (cases, systems) of the judge; experts rated the cases in `rated`."""
    scores = np.asarray(scores, dtype=float)
    rows = [
        {"case_id": f"c{c:03d}", "system": f"s{s}", "rater": "j", "rater_kind": "judge", "dimension": "d", "score": v}
        | ({} if distributions is None else {"distribution": distributions[c]})
        for (c, s), v in np.ndenumerate(scores)
    ]
    rows += [
        {**row, "rater": "e", "rater_kind": "expert", "score": 3.0, **({"distribution": None} if distributions else {})}
        for row in list(rows)
        if int(row["case_id"][1:]) in rated
    ]
    return pl.DataFrame(rows)


def chosen(frame, **options):
    return next_cases(frame, levels=LEVELS, judge="j", **options)


def test_all_levels_are_reached_whatever_their_share():
    """90 of 100 judge scores are 4; a random ten would hardly meet the others."""
    scores = np.full((100, 1), 4.0)
    scores[:10, 0] = [0, 0, 1, 1, 2, 2, 3, 3, 5, 5]
    found = chosen(judged(scores), n=12)
    levels = scores[found["case_id"].str.slice(1).cast(pl.Int64).to_numpy(), 0]
    assert sorted(levels[:6]) == [0, 1, 2, 3, 4, 5]
    assert sorted(levels) == sorted([0, 1, 2, 3, 4, 5] * 2)
    assert found["order"].to_list() == list(range(1, 13))
    assert found["doubt"].null_count() == 12


def test_what_is_rated_already_counts():
    scores = np.repeat([0.0, 2.0, 4.0], 10)[:, None]
    found = chosen(judged(scores, rated=range(8)), n=8)
    levels = scores[found["case_id"].str.slice(1).cast(pl.Int64).to_numpy(), 0]
    assert sorted(levels) == [2.0] * 4 + [4.0] * 4
    assert not set(found["case_id"]) & {f"c{i:03d}" for i in range(8)}
    assert found["why"][0].endswith("for s0: 0 rated or chosen before")


def test_doubtful_cases_come_first_among_equals():
    sure, torn = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.5, 0.5, 0.0]
    scores = np.full((20, 1), 4.0)
    found = chosen(judged(scores, distributions=[torn if c in (3, 11) else sure for c in range(20)]), n=20)
    assert set(found["case_id"][:2]) == {"c003", "c011"}
    assert found["doubt"][0] == pytest.approx(1) and found["doubt"][5] == 0
    assert found["priority"][0] == pytest.approx(1)


def test_systems_are_spread():
    """Each case was scored for one system only."""
    scores = np.full((40, 4), np.nan)
    scores[np.arange(40), np.repeat([0, 0, 0, 0, 0, 0, 0, 1, 2, 3], 4)] = 3
    frame = judged(scores).with_columns(pl.col("score").fill_nan(None))
    found = chosen(frame, n=8)
    case = found["case_id"].str.slice(1).cast(pl.Int64).to_numpy()
    assert sorted(np.isfinite(scores[case]).argmax(axis=1)) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_one_case_of_each_patient_first():
    frame = judged(np.full((12, 1), 3.0))
    patient = {f"c{i:03d}": f"p{i // 3}" for i in range(12)}
    for seed in range(5):
        found = chosen(frame, n=4, cluster=patient, seed=seed)
        assert {patient[c] for c in found["case_id"]} == {"p0", "p1", "p2", "p3"}


def test_candidates_seed_and_order_of_rows():
    frame = judged(np.random.default_rng(0).integers(0, 6, (60, 2)))
    wanted = [f"c{i:03d}" for i in range(0, 60, 3)]
    found = chosen(frame, candidates=wanted, n=10)
    assert found.height == 10 and set(found["case_id"]) <= set(wanted)
    assert found.equals(chosen(frame.sample(fraction=1, shuffle=True, seed=1), candidates=wanted[::-1], n=10))
    assert not found.equals(chosen(frame, candidates=wanted, n=10, seed=1))
    assert chosen(frame, candidates=wanted).height == 20


def test_refusals_of_next_cases():
    frame = judged(np.full((5, 1), 3.0), rated=range(5))
    with pytest.raises(InputError, match="rated already"):
        chosen(frame)
    with pytest.raises(InputError, match="no score of candidate 'c9'"):
        chosen(frame, candidates=["c9"])
    with pytest.raises(InputError, match="at least 1 case"):
        chosen(frame, n=0)
    with pytest.raises(InputError, match="no judge 'x'"):
        next_cases(frame, levels=LEVELS, judge="x")
