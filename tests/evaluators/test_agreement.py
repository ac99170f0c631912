import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

from dermjudge.evaluators.agreement import agree
from dermjudge.evaluators.ratings import read_panel
from dermjudge.evaluators.reliability import icc, krippendorff_alpha
from dermjudge.evaluators.statistics import compare, round_half_up
from dermjudge.judge.errors import InputError

LEVELS = (0, 1, 2, 3, 4, 5)
JUDGE = pl.col("rater_kind") == "judge"


def set_judge(frame, expression):
    return frame.with_columns(pl.when(JUDGE).then(expression).otherwise(pl.col("score")).alias("score"))


@pytest.mark.parametrize("continuous", [False, True])
def test_values_are_those_of_the_plain_functions(simulate, continuous):
    frame = simulate(continuous=continuous)
    result = agree(frame, LEVELS, resamples=64)
    panel = read_panel(frame, LEVELS)
    for d, dimension in enumerate(panel.dimensions):
        found = result.of("j0", dimension)
        x, y = panel.judges[d, :, 0], panel.experts[d]
        rated = np.isfinite(y).any(axis=1)
        mean = np.nanmean(y[rated], axis=1)
        for name, value in compare(x[rated], mean).items():
            assert found[f"item.{name}"].value == pytest.approx(value, abs=1e-9)
        constant = np.abs(mean - np.median(mean)).mean()
        assert found["constant.mae"].value == pytest.approx(constant, abs=1e-9)
        assert found["item.skill"].value == pytest.approx(1 - compare(x[rated], mean)["mae"] / constant, abs=1e-9)
        rounded = round_half_up(x, LEVELS)
        kappas = [
            cohen_kappa_score(rounded[k].astype(int), y[k, r].astype(int), weights="quadratic", labels=list(LEVELS))
            for r in range(3)
            for k in [np.isfinite(y[:, r])]
        ]
        assert found["item.qwk"].value == pytest.approx(np.mean(kappas), abs=1e-9)
        joined = krippendorff_alpha(np.column_stack([y, rounded])[rated])
        assert found["item.alpha_with_judge"].value == pytest.approx(joined, abs=1e-9)
        assert found["item.alpha_without_judge"].value == pytest.approx(krippendorff_alpha(y), abs=1e-9)
        among = result.panel[d].results
        assert among["alpha_interval"].value == pytest.approx(krippendorff_alpha(y, "interval"), abs=1e-9)
        assert among["icc_ak"].value == pytest.approx(icc(y)["icc_ak"], abs=1e-9)
        whole = y[np.isfinite(y).all(axis=1)]
        assert among["complete.icc_c1"].value == pytest.approx(icc(whole)["icc_c1"], abs=1e-9)
        assert among["complete.icc_c1"].n == len(whole)


@pytest.mark.parametrize("continuous", [False, True])
def test_a_resample_is_the_statistic_of_the_repeated_cases(simulate, continuous):
    """The fast path against the naive one: repeat whole cases as often as drawn and compute everything afresh."""
    from dermjudge.evaluators.bootstrap import cluster_weights, resample
    from dermjudge.evaluators.judge_cell import JudgeCell
    from dermjudge.evaluators.panel_cell import PanelCell

    panel = read_panel(simulate(cases=15, continuous=continuous), LEVELS)
    cell, among = JudgeCell(panel, 0, 0, np.ones(len(panel.case), bool)), PanelCell(panel, 0)
    drawn, drawn_panel = resample([cell.cell, among.cell], panel.n_clusters, 5, seed=1)
    weights = cluster_weights(panel.n_clusters, 0, 1)
    x, y = panel.judges[0, :, 0], panel.experts[0]
    for b in range(5):
        rows = np.repeat(np.arange(len(x)), weights[panel.cluster, b].astype(int))
        rows = rows[np.isfinite(y[rows]).any(axis=1)]
        plain = compare(x[rows], np.nanmean(y[rows], axis=1))
        for name, value in plain.items():
            assert drawn[f"item.{name}"][b] == pytest.approx(value, abs=1e-9)
        assert drawn_panel["alpha_ordinal"][b] == pytest.approx(krippendorff_alpha(y[rows]), abs=1e-9)
        assert drawn_panel["icc_a1"][b] == pytest.approx(icc(y[rows])["icc_a1"], abs=1e-9)
        system = panel.system[rows]
        means = [(x[rows][system == s].mean(), np.nanmean(y[rows], axis=1)[system == s].mean()) for s in range(3)]
        assert drawn["system.mae"][b] == pytest.approx(np.mean([abs(a - t) for a, t in means]), abs=1e-9)


def test_same_seed_same_result_and_plain_json(simulate):
    frame = simulate(continuous=True)
    first, second = (agree(frame, LEVELS, resamples=100, seed=7).to_dict() for _ in range(2))
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)
    assert json.dumps(first) != json.dumps(agree(frame, LEVELS, resamples=100, seed=8).to_dict())
    assert first["judges"][0]["results"]["item"]["mae"].keys() == {"value", "low", "high", "n", "reason"}


def test_order_of_rows_does_not_matter(simulate):
    frame = simulate()
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=1)
    a, b = agree(frame, LEVELS, resamples=64), agree(shuffled, LEVELS, resamples=64)
    assert a.of("j0", "d1").to_dict() == b.of("j0", "d1").to_dict()


@pytest.mark.parametrize("continuous", [False, True])
def test_the_constant_is_the_best_by_each_criterion(simulate, continuous):
    """Two camps, with the median between them. Of 360 different targets resamples see bins, centred on the value."""
    noise = pl.lit(pl.Series(np.random.default_rng(0).normal(0, 0.2 * continuous, 720)))
    frame = simulate(cases=120, systems=3, dimensions=1, raters=1, missing=0.0)
    score = pl.when(pl.col("score") < 1.5).then(noise.abs()).when(pl.col("score") > 2.5).then(5 - noise.abs())
    score = pl.when(JUDGE).then(4.5).otherwise(score.otherwise(2.5 + noise))
    frame = frame.with_columns(score.alias("score"))
    found = agree(frame, LEVELS, resamples=200).of("j0", "d0")
    t = read_panel(frame, LEVELS).experts[0][:, 0]
    for name, limit in (("within_0.5", 0.5), ("within_1", 1.0)):
        best = max(np.mean(np.abs(t - (low + limit)) <= limit + 1e-9) for low in t)
        constant, gap = found[f"constant.{name}"], found[f"judge_minus_constant.{name}"]
        assert constant.value == pytest.approx(best, abs=1e-9)
        assert best > np.mean(np.abs(t - np.median(t)) <= limit + 1e-9) + 0.03
        assert constant.low <= constant.value <= constant.high
        assert gap.value == pytest.approx(found[f"item.{name}"].value - best)
        assert gap.high <= 1e-9 or continuous  # a judge that gives one number never beats the best one
    assert found["constant.constant"].value == pytest.approx(np.quantile(t, 0.5, method="lower"))


def test_bias_and_shift_are_found(simulate):
    frame = simulate(cases=120, missing=0.0)
    up = agree(set_judge(frame, pl.col("score") * 0 + 4.9), LEVELS, resamples=64).of("j0", "d0")
    panel = read_panel(frame, LEVELS)
    assert up["item.bias"].value == pytest.approx(4.9 - panel.experts[0].mean(), abs=1e-9)
    assert up["judge_minus_constant.mae"].low > 0


def test_a_constant_judge_is_undefined_with_a_reason(simulate):
    result = agree(set_judge(simulate(), pl.lit(3.0)), LEVELS, resamples=64)
    found = result.of("j0", "d0")
    for name in (
        "item.pearson",
        "item.spearman",
        "item.kendall_tau_b",
        "loo_judge.pearson",
        "judge_minus_expert.spearman",
    ):
        assert found[name].value is None
        assert "constant (3)" in found[name].reason
    assert found["item.mae"].value is not None
    assert found["loo_expert.pearson"].value is not None
    assert found["item.pairwise_accuracy"].value == 0.5
    assert any("j0 gives one value only on d0" in note for note in result.notes)
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("cases", "interval", "word"), [(19, False, "no intervals below 20"), (20, True, "too short"), (50, True, None)]
)
def test_few_clusters(simulate, cases, interval, word):
    found = agree(simulate(cases=cases), LEVELS, resamples=200).of("j0", "d0")
    mae = found["item.mae"]
    assert mae.value is not None
    assert (mae.low is not None) == interval
    assert (mae.reason is None) == interval
    assert any("clusters" in note and (word or "") in note for note in found.notes) == (word is not None)


def test_clusters_of_patients_widen_the_interval(simulate):
    frame = simulate(cases=100)
    twins = pl.concat([frame, frame.with_columns(pl.col("case_id") + "-again")])
    patient = {c: c.removesuffix("-again") for c in twins["case_id"].unique()}
    narrow = agree(twins, LEVELS, resamples=1000).of("j0", "d0")["item.mae"]
    wide = agree(twins, LEVELS, cluster=patient, resamples=1000).of("j0", "d0")["item.mae"]
    assert wide.value == pytest.approx(narrow.value)
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(np.sqrt(2), rel=0.1)
    joined = twins.with_columns(patient_id=pl.col("case_id").replace_strict(patient))
    assert agree(joined, LEVELS, resamples=1000).of("j0", "d0")["item.mae"] == wide


def test_groups(simulate):
    frame = simulate()
    result = agree(frame, LEVELS, resamples=64, by="system")
    alone = agree(frame.filter(pl.col("system") == "s1"), LEVELS, resamples=64)
    assert result.of("j0", "d0", "s1")["item.mae"].value == alone.of("j0", "d0")["item.mae"].value
    tone = {f"c{i}": "dark" if i % 3 == 0 else "light" for i in range(60)}
    result = agree(frame, LEVELS, resamples=64, by=tone)
    counts = [result.of("j0", "d0", g).counts["cases"] for g in ("dark", "light")]
    assert counts == [20, 40]
    with pytest.raises(InputError, match="must be 'system' or a mapping"):
        agree(frame, LEVELS, by="tone")


def test_slots_without_identity_refuse_what_needs_it(simulate):
    frame = simulate().with_columns(pl.when(JUDGE).then(pl.col("rater")).otherwise(pl.lit("")).alias("rater"))
    result = agree(frame, LEVELS, resamples=64)
    assert "no identity" in result.of("j0", "d0")["item.qwk"].reason
    assert "no identity" in result.of("j0", "d0")["loo_rank.judge_beats_expert"].reason
    assert result.of("j0", "d0")["loo_expert.mae"].value is not None
    among = result.panel[0].results
    for form in ("icc_a1", "icc_ak", "icc_c1", "icc_ck", "attenuation_bound", "complete.icc_a1"):
        assert among[form].value is None
        assert "no identity" in among[form].reason
    assert among["icc_1"].value is not None
    assert among["alpha_ordinal"].value is not None


def test_coverage_and_a_judge_without_scores(simulate):
    frame = simulate(judges=(0.5, 0.5))
    gone = (pl.col("rater") == "j0") & (pl.col("case_id") < "c3")
    mute = pl.col("rater") == "j1"
    frame = frame.with_columns(pl.when(gone | mute).then(None).otherwise(pl.col("score")).alias("score"))
    result = agree(frame, LEVELS, resamples=64)
    found = result.of("j0", "d0")
    assert 0 < found.counts["coverage"] < 1
    assert found["item.mae"].n == found.counts["items"] < found.counts["items_rated_by_experts"]
    silent = result.of("j1", "d0")
    assert silent.counts["coverage"] == 0
    assert all(e.value is None and e.reason for e in silent.results.values())
    json.dumps(result.to_dict(), allow_nan=False)


def test_half_steps_and_three_level_scales(simulate):
    frame = simulate(systems=2).with_columns(pl.col("score") / 2)
    found = agree(frame, LEVELS, resamples=64)
    assert found.of("j0", "d0")["item.qwk"].value is not None
    frame = simulate().with_columns(pl.col("score").clip(1, 4))
    assert agree(frame, (1, 2, 3, 4), resamples=64).of("j0", "d0")["item.ccc"].value is not None


def test_dominant_level_is_remarked(simulate):
    frame = simulate().with_columns(pl.when(pl.col("score") < 4.5).then(4.0).otherwise(pl.col("score")).alias("score"))
    assert any("of the expert scores are 4" in note for note in agree(frame, LEVELS, resamples=64).panel[0].notes)


def test_bca_moves_the_interval(simulate):
    frame = simulate()
    plain, corrected = (agree(frame, LEVELS, resamples=500, bca=b).of("j0", "d0")["item.ccc"] for b in (False, True))
    assert plain.value == corrected.value
    assert plain.low != corrected.low
    assert corrected.low < corrected.value < corrected.high


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"judge": "j9"}, "no judge 'j9' in the ratings; there are j0"),
        ({"resamples": 0}, "at least 1"),
        ({"alpha": 5}, "between 0 and 1"),
    ],
)
def test_wrong_settings_are_named(simulate, change, message):
    with pytest.raises(InputError, match=message):
        agree(simulate(cases=5), LEVELS, **change)


def test_no_expert_and_no_judge(simulate):
    with pytest.raises(InputError, match="no expert score"):
        agree(simulate(cases=5).filter(JUDGE), LEVELS)
    result = agree(simulate(cases=25).filter(~JUDGE), LEVELS, resamples=64)
    assert result.judges == ()
    assert result.panel[0].results["alpha_ordinal"].low is not None


def test_ranked_probability_score_of_a_sure_judge_is_its_error_against_each_expert(simulate):
    frame = simulate(raters=1, missing=0.0)
    sure = [[float(level == score) for level in LEVELS] for score in frame["score"]]
    frame = frame.with_columns(pl.when(JUDGE).then(pl.Series(sure)).alias("distribution"))
    found = agree(frame, LEVELS, resamples=64).of("j0", "d0")
    assert found["item.rps"].value == pytest.approx(found["item.mae"].value)
    assert found["item.rps"].high == pytest.approx(found["item.mae"].high)
    assert "item.rps" not in agree(frame.drop("distribution"), LEVELS, resamples=64).of("j0", "d0").results


def test_percentiles_of_the_differences(simulate):
    for continuous in (False, True):
        frame = simulate(continuous=continuous)
        panel = read_panel(frame, LEVELS)
        y = panel.experts[0]
        rated = np.isfinite(y).any(axis=1)
        d = panel.judges[0, rated, 0] - np.nanmean(y[rated], axis=1)
        found = agree(frame, LEVELS, resamples=200).of("j0", "d0")
        for share in (2.5, 97.5):
            percentile = found[f"item.difference_p{share}"]
            assert percentile.value == pytest.approx(np.percentile(d, share), abs=1e-9)
            assert percentile.low <= percentile.value <= percentile.high


@pytest.mark.parametrize(("cases", "continuous"), [(15, False), (150, True), (400, True)])
def test_percentiles_in_a_resample(simulate, cases, continuous):
    """Exact where a percentile can come to lie, however many differences there are."""
    from dermjudge.evaluators.bootstrap import cluster_weights, resample
    from dermjudge.evaluators.judge_cell import JudgeCell

    panel = read_panel(simulate(cases=cases, continuous=continuous), LEVELS)
    built = JudgeCell(panel, 0, 0, np.ones(len(panel.case), bool))
    drawn = resample([built.cell], panel.n_clusters, 64, seed=1)[0]
    weights = cluster_weights(panel.n_clusters, 0, 1)
    x, y = panel.judges[0, :, 0], panel.experts[0]
    assert len(built.differences) < 600  # of 1,200 in the largest table
    for b in range(64):
        rows = np.repeat(np.arange(len(x)), weights[panel.cluster, b].astype(int))
        rows = rows[np.isfinite(y[rows]).any(axis=1)]
        d = x[rows] - np.nanmean(y[rows], axis=1)
        for share in (2.5, 97.5):
            assert drawn[f"item.difference_p{share}"][b] == pytest.approx(np.percentile(d, share), abs=1e-9)


def test_six_icc_forms_of_judge_and_expert_mean_against_pingouin(simulate):
    pg = pytest.importorskip("pingouin")
    pd = pytest.importorskip("pandas")
    frame = simulate(missing=0.0)
    panel = read_panel(frame, LEVELS)
    x, t = panel.judges[0, :, 0], panel.experts[0].mean(axis=1)
    long = pd.DataFrame({"i": np.tile(np.arange(len(x)), 2), "r": np.repeat(["x", "t"], len(x)), "y": np.r_[x, t]})
    table = pg.intraclass_corr(long, "i", "r", "y").set_index("Type")["ICC"]
    found = agree(frame, LEVELS, resamples=64).of("j0", "d0")
    names = {"(1,1)": "1", "(A,1)": "a1", "(C,1)": "c1", "(1,k)": "k", "(A,k)": "ak", "(C,k)": "ck"}
    for theirs, ours in names.items():
        assert found[f"item.icc_{ours}"].value == pytest.approx(table[f"ICC{theirs}"], abs=1e-9)


def test_the_judge_as_one_more_rater(simulate):
    oracle = pytest.importorskip("krippendorff")
    from dermjudge.evaluators.reliability import gwet_ac2

    frame = simulate(continuous=True)
    panel = read_panel(frame, LEVELS)
    x, y = round_half_up(panel.judges[0, :, 0], LEVELS), panel.experts[0]
    rated = np.isfinite(y).any(axis=1)
    joined = np.column_stack([x, y])[rated]
    found = agree(frame, LEVELS, resamples=64).of("j0", "d0")
    for name, metric in (("", "ordinal"), ("nominal_", "nominal"), ("interval_", "interval")):
        theirs = oracle.alpha(joined.T, level_of_measurement=metric)
        assert found[f"item.alpha_{name}with_judge"].value == pytest.approx(theirs, abs=1e-9)
    assert found["item.ac2_with_judge"].value == pytest.approx(gwet_ac2(joined, LEVELS), abs=1e-12)
    assert any("lie between levels" in note and f"{rated.sum()} scores" in note for note in found.notes)
    whole = agree(simulate(), LEVELS, resamples=64)
    assert not any("lie between levels" in note for note in whole.of("j0", "d0").notes)
    assert "halves upwards" in whole.settings["rounding"]


def test_ties_of_pairs_are_stated(simulate):
    frame = simulate(missing=0.0)
    panel = read_panel(frame, LEVELS)
    x, t = panel.judges[0, :, 0], panel.experts[0].mean(axis=1).round(9)
    ranked = tied = by_experts = 0
    for c in range(60):
        i, j = np.triu_indices(3, 1)
        own = np.flatnonzero(panel.case == c)
        dx, dt = x[own][i] - x[own][j], t[own][i] - t[own][j]
        ranked, tied, by_experts = (
            ranked + (dt != 0).sum(),
            tied + ((dt != 0) & (dx == 0)).sum(),
            by_experts + (dt == 0).sum(),
        )
    found = agree(frame, LEVELS, resamples=64).of("j0", "d0")
    assert found["item.pairwise_judge_ties"].value == pytest.approx(tied / ranked)
    assert found["item.pairwise_judge_ties"].n == found["item.pairwise_accuracy"].n == ranked
    assert found.counts["pairs_tied_by_experts"] == by_experts


def test_binary_scores(simulate):
    frame = simulate().with_columns((pl.col("score") > 2.5).cast(pl.Int64).alias("score"))
    result = agree(frame, (0, 1), resamples=64)
    found = result.of("j0", "d0")
    panel = read_panel(frame, (0, 1))
    x, y = panel.judges[0, :, 0], panel.experts[0]
    kappas = [
        cohen_kappa_score(x[k].astype(int), y[k, r].astype(int)) for r in range(3) for k in [np.isfinite(y[:, r])]
    ]
    assert found["item.qwk"].value == pytest.approx(np.mean(kappas), abs=1e-9)
    alpha = [result.panel[0].results[f"alpha_{m}"].value for m in ("nominal", "ordinal", "interval")]
    assert alpha == pytest.approx([krippendorff_alpha(y, "nominal")] * 3, abs=1e-9)
    assert all(e.value is not None for e in found.results.values())
    truth = frame.with_columns((pl.col("score") == 1).alias("score"))
    assert agree(truth, (0, 1), resamples=64).of("j0", "d0").results == found.results


def test_the_place_among_experts_by_error_and_by_order(simulate):
    """A judge that hugs the mean beats every expert on error and orders worse than all of them."""
    frame = simulate(cases=150, systems=1, raters=4, missing=0.0)
    noise = pl.Series(np.random.default_rng(0).normal(2.6, 0.02, frame.height))
    tight = frame.with_columns(pl.when(JUDGE).then(noise).otherwise(2.6 + (pl.col("score") - 2.6) * 0.5).alias("score"))
    found = agree(tight, LEVELS, resamples=64).of("j0", "d0")
    assert found["loo_rank.judge_orders_better"].value == 0.0
    assert found["loo_rank.judge_orders_better"].n == 4
    oracle = agree(set_judge(frame, pl.lit(3.0)), LEVELS, resamples=64).of("j0", "d0")
    assert "constant (3)" in oracle["loo_rank.judge_orders_better"].reason
    assert oracle["loo_rank.judge_beats_expert"].value is not None


def test_an_expert_with_few_ratings_does_not_undo_kappa(simulate):
    frame = simulate(missing=0.0)
    rare = (pl.col("rater") == "e2") & ~((pl.col("case_id") == "c1") & (pl.col("system") == "s0"))
    few, without = frame.filter(~rare), frame.filter(pl.col("rater") != "e2")
    a, b = (agree(f, LEVELS, resamples=64).of("j0", "d0")["item.qwk"] for f in (few, without))
    assert (a.value, a.n) == (b.value, b.n) == (b.value, 2 * 180)


def test_scores_outside_the_scale_that_were_asked_for_widen_it(simulate):
    frame = simulate(missing=0.0)
    frame = set_judge(frame, pl.when(pl.col("case_id") < "c3").then(8.0).otherwise(pl.col("score")))
    found = agree(frame, LEVELS, resamples=64, keep_out_of_range=True).of("j0", "d0")
    panel = read_panel(frame, LEVELS, keep_out_of_range=True)
    x, y = panel.judges[0, :, 0].astype(int), panel.experts[0].astype(int)
    kappas = [cohen_kappa_score(x, y[:, r], weights="quadratic", labels=list(range(9))) for r in range(3)]
    assert found["item.qwk"].value == pytest.approx(np.mean(kappas), abs=1e-9)


def test_interval_alpha_of_experts_on_a_continuous_scale(simulate):
    oracle = pytest.importorskip("krippendorff")
    frame = simulate(cases=40)
    noise = pl.Series(np.random.default_rng(0).normal(0, 0.01, frame.height))
    found = agree(frame.with_columns(pl.col("score") * 0.9 + 0.2 + noise), LEVELS, resamples=200)
    among = found.panel[0].results
    y = read_panel(frame.with_columns(pl.col("score") * 0.9 + 0.2 + noise), LEVELS).experts[0]
    theirs = oracle.alpha(y.T, level_of_measurement="interval")
    assert among["alpha_interval"].value == pytest.approx(theirs, abs=1e-9)
    assert among["alpha_interval"].low < theirs < among["alpha_interval"].high
    assert "evenly spaced" in among["alpha_ordinal"].reason
    assert "evenly spaced" in found.of("j0", "d0")["item.qwk"].reason


def test_each_expert_left_out_of_the_panel(simulate):
    frame = simulate()
    found = agree(frame, LEVELS, resamples=64).panel[0].counts["without_rater"]
    rest = agree(frame.filter(pl.col("rater") != "e1"), LEVELS, resamples=64).panel[0].results
    assert found["e1"]["alpha_ordinal"] == pytest.approx(rest["alpha_ordinal"].value)
    assert found["e1"]["icc_a1"] == pytest.approx(rest["icc_a1"].value)
    assert agree(simulate(raters=2), LEVELS, resamples=64).panel[0].counts["without_rater"] == {}


@pytest.mark.slow
def test_coverage_of_the_intervals_where_truth_is_planted():
    """Panel held fixed, 200 draws of 200 cases: at least 91 % of the 95 % intervals hold a huge sample's value."""
    names = (
        "item.bias",
        "item.mae",
        "item.pearson",
        "item.spearman",
        "item.ccc",
        "item.qwk",
        "loo_expert.mae",
        "judge_minus_expert.mae",
    )
    draw = np.random.default_rng(0)
    bias = [0.2, -0.3, 0.1]

    def table(cases):
        truth = draw.normal(2.6, 1.1, (cases, 2))
        experts = [np.clip(np.floor(truth + b + draw.normal(0, 0.5, truth.shape) + 0.5), 0, 5) for b in bias]
        judge = np.clip(np.floor(0.8 * truth + 0.7 + draw.normal(0, 0.6, truth.shape) + 0.5), 0, 5)
        case, system = (a.ravel() for a in np.indices(truth.shape))
        parts = [("judge", "j", judge), *(("expert", f"e{r}", e) for r, e in enumerate(experts))]
        return pl.concat(
            pl.DataFrame(
                {"case_id": case, "system": system, "rater": r, "rater_kind": k, "dimension": "d", "score": s.ravel()}
            )
            for k, r, s in parts
        )

    truth = agree(table(60_000), LEVELS, resamples=1).of("j", "d")
    hits = dict.fromkeys(names, 0)
    for _ in range(200):
        found = agree(table(200), LEVELS, resamples=500).of("j", "d")
        for name in names:
            hits[name] += found[name].low <= truth[name].value <= found[name].high
    assert min(hits.values()) >= 182, hits
