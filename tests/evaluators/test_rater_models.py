import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from dermjudge.benchmarks import synthetic
from dermjudge.evaluators.agreement import agree
from dermjudge.evaluators.rater_models import additive_bias, additive_model, consensus, dawid_skene
from dermjudge.evaluators.ratings import read_panel
from dermjudge.judge.errors import InputError
from dermjudge.judge.ratings import ratings_to_frame

LEVELS = (0, 1, 2, 3, 4, 5)
EXPERT = pl.col("rater_kind") == "expert"


def additive_scores(draw, items, biases, noise, missing):
    truth = draw.normal(2.5, 1, items)
    y = truth[:, None] + np.asarray(biases) + draw.normal(0, noise, (items, len(biases)))
    y[draw.random(y.shape) < missing] = np.nan
    return y, truth


def confused_scores(draw, items, confusion, prior, missing):
    """Latent levels and the scores of raters with planted confusion matrices (raters, L, L)."""
    truth = draw.choice(len(prior), items, p=prior)
    cumulated = confusion[:, truth].cumsum(axis=2)
    y = (draw.random((len(confusion), items, 1)) > cumulated).sum(axis=2).T.astype(float)
    y[draw.random(y.shape) < missing] = np.nan
    return y, truth


def planted_confusion(spreads, shifts):
    """A rater sees the true level plus a shift plus normal noise, and gives the nearest of six levels."""
    edges = np.array([-np.inf, 0.5, 1.5, 2.5, 3.5, 4.5, np.inf])
    rows = [
        [np.diff(norm.cdf((edges - level - shift) / spread)) for level in range(6)]
        for spread, shift in zip(spreads, shifts, strict=True)
    ]
    return np.array(rows)


# Additive bias


def test_bias_is_the_dense_least_squares_solution():
    y, _ = additive_scores(np.random.default_rng(0), 40, [0.4, -0.1, 0.3, -0.6], 0.5, 0.4)
    item, rater = np.nonzero(np.isfinite(y))
    design = np.zeros((len(item) + 1, 44))
    design[np.arange(len(item)), item] = design[np.arange(len(item)), 40 + rater] = 1
    design[-1, 40:] = 1  # biases sum to zero
    right = np.append(y[item, rater], 0.0)
    solved = np.linalg.lstsq(design, right)[0]
    assert additive_bias(y) == pytest.approx(solved[40:], abs=1e-9)


@given(st.integers(0, 500), st.floats(-2, 2))
def test_a_shift_of_one_rater_is_found(seed, shift):
    y, _ = additive_scores(np.random.default_rng(seed), 30, [0.0, 0.2, -0.2], 0.4, 0.3)
    moved = y + np.array([shift, 0, 0])
    assert additive_bias(moved) - additive_bias(y) == pytest.approx(shift * np.array([2, -1, -1]) / 3, abs=1e-9)
    assert additive_bias(y).sum() == pytest.approx(0, abs=1e-9)


def test_missing_ratings_do_not_pass_for_bias():
    """A rater who sees only the bad cases is no strict rater; the plain mean of his scores says he is."""
    draw = np.random.default_rng(3)
    y, truth = additive_scores(draw, 400, [0.3, 0.0, -0.3], 0.5, 0.0)
    y[truth > 2.5, 0] = np.nan
    assert np.nanmean(y[:, 0]) < np.nanmean(y[:, 2])
    assert additive_bias(y) == pytest.approx([0.3, 0.0, -0.3], abs=0.1)


def test_raters_who_share_no_item():
    y = np.full((6, 4), np.nan)
    y[:3, :2] = 2
    y[3:, 2:] = 3
    assert additive_bias(y) is None
    y[0, 2] = 2.5
    assert additive_bias(y) == pytest.approx([-0.25, -0.25, 0.25, 0.25])


def test_model_of_a_table_recovers_what_was_planted(simulate):
    # conftest plants biases drawn first, after the truth, and noise SD 0.5 before rounding (SD 0.29) and clipping.
    draw = np.random.default_rng(4)
    draw.normal(2.6, 1.1, (300, 3, 2))
    planted = draw.normal(0, 0.3, 3)
    for model in additive_model(simulate(cases=300, seed=4), LEVELS, resamples=300):
        for r, bias in enumerate(planted - planted.mean()):
            found = model.bias[f"e{r}"]
            assert found.value == pytest.approx(bias, abs=0.06)
            assert found.low < found.value < found.high
            assert found.high - found.low < 0.15
        assert model.noise.value == pytest.approx(0.56, abs=0.06)
        assert model.noise.low < model.noise.value < model.noise.high
        json.dumps(model.to_dict(), allow_nan=False)


def test_the_panel_of_the_synthetic_benchmark():
    made = synthetic.make(120, seed=1)
    bias = np.random.default_rng([0, 11]).normal(0, synthetic.BIAS_SD, (3, 6))
    patient = {case.id: case.patient_id for case in made.cases}
    models = additive_model(ratings_to_frame(made.ratings), LEVELS, patient, resamples=200)
    found = np.array([[model.bias[name].value for model in models] for name in synthetic.PANEL])
    # Clipping at the ends of the scale takes a part of every bias away.
    assert np.corrcoef(found.ravel(), (bias - bias.mean(axis=0)).ravel())[0, 1] > 0.97
    assert np.abs(found - (bias - bias.mean(axis=0))).max() < 0.2


def test_intervals_cover_the_planted_bias():
    draw = np.random.default_rng(9)
    hits = []
    for _ in range(150):
        truth = draw.normal(2.5, 1, (60, 1)) + draw.normal(0, 0.5, (60, 2))
        rows = [
            {
                "case_id": f"c{c}",
                "system": f"s{s}",
                "rater": f"e{r}",
                "rater_kind": "expert",
                "dimension": "d",
                "score": v,
            }
            for r, b in enumerate((0.3, 0.0, -0.3))
            for (c, s), v in np.ndenumerate(truth + b + draw.normal(0, 0.5, truth.shape))
            if draw.random() > 0.15
        ]
        (model,) = additive_model(pl.DataFrame(rows), (-9, 19), resamples=300)
        hits += [model.bias[f"e{r}"].low <= b <= model.bias[f"e{r}"].high for r, b in enumerate((0.3, 0.0, -0.3))]
    assert np.mean(hits) >= 0.91


def test_reasons_instead_of_biases(simulate):
    (model, _) = additive_model(simulate(raters=1), LEVELS, resamples=64)
    assert model.bias["e0"].value is None and "1 expert" in model.bias["e0"].reason
    number = pl.col("case_id").str.slice(1).cast(pl.Int64)
    apart = simulate(raters=2).filter(~EXPERT | ((pl.col("rater") == "e0") == (number < 30)))
    (model, _) = additive_model(apart, LEVELS, resamples=64)
    assert "share no item" in model.bias["e1"].reason
    (model, _) = additive_model(simulate(cases=12), LEVELS, resamples=64)
    assert model.bias["e0"].value is not None and "at least 20" in model.bias["e0"].reason
    with pytest.raises(InputError, match="no identity"):
        additive_model(simulate().with_columns(pl.when(~EXPERT).then(pl.col("rater")).alias("rater")), LEVELS)
    with pytest.raises(InputError, match="no expert score"):
        additive_model(simulate().filter(~EXPERT), LEVELS)


# Dawid-Skene


def naive_em(y, size, iterations):
    """The equations of the paper in loops, with the same start and pseudo-count."""
    items, raters = y.shape
    votes = [[[float(y[i, r] == k) for k in range(size)] for r in range(raters)] for i in range(items)]
    posterior = [[sum(votes[i][r][k] for r in range(raters)) for k in range(size)] for i in range(items)]
    posterior = [[v / sum(row) for v in row] for row in posterior]
    for _ in range(iterations):
        prior = [(sum(row[k] for row in posterior) + 0.01) / (items + size * 0.01) for k in range(size)]
        confusion = []
        for r in range(raters):
            rows = []
            for k in range(size):
                counts = [0.01 + sum(posterior[i][k] * votes[i][r][g] for i in range(items)) for g in range(size)]
                rows.append([c / sum(counts) for c in counts])
            confusion.append(rows)
        posterior = []
        for i in range(items):
            row = []
            for k in range(size):
                value = prior[k]
                for r in range(raters):
                    for g in range(size):
                        if votes[i][r][g]:
                            value *= confusion[r][k][g]
                row.append(value)
            posterior.append([v / sum(row) for v in row])
    return np.array(prior), np.array(confusion), np.array(posterior)


def test_em_is_that_of_the_paper():
    confusion = np.array([[[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.0, 0.3, 0.7]]] * 3)
    y, _ = confused_scores(np.random.default_rng(0), 60, confusion, [0.5, 0.3, 0.2], 0.1)
    y = y[np.isfinite(y).any(axis=1)]
    prior, rates, posterior = naive_em(y, 3, 7)
    found = dawid_skene(y, (0, 1, 2), most=7)
    assert found.prior == pytest.approx(prior, abs=1e-10)
    assert found.confusion == pytest.approx(rates, abs=1e-10)
    assert found.posterior == pytest.approx(posterior, abs=1e-10)
    assert found.iterations == 7 and not found.converged


def test_likelihood_never_falls():
    y, _ = confused_scores(
        np.random.default_rng(1), 150, planted_confusion([0.6] * 4, [0, 0.5, -0.5, 0]), [1 / 6] * 6, 0.2
    )
    steps = [dawid_skene(y, LEVELS, most=k).log_likelihood for k in (1, 2, 3, 5, 10, 50)]
    assert np.all(np.diff(steps) > 0)


def test_planted_confusion_is_recovered():
    """Two careful raters and three careless ones: the model tells them apart, a vote does not."""
    planted = planted_confusion([0.35, 0.35, 1.3, 1.3, 1.3], [0.0, 0.3, 0.8, -0.8, 0.8])
    prior = np.array([0.1, 0.15, 0.25, 0.25, 0.15, 0.1])
    y, truth = confused_scores(np.random.default_rng(2), 2000, planted, prior, 0.15)
    found = dawid_skene(y, LEVELS)
    assert found.converged and found.iterations < 1000
    assert np.abs(found.confusion - planted)[:, prior > 0.05].max() < 0.12
    assert found.prior == pytest.approx(prior, abs=0.05)
    rated = np.isfinite(y).any(axis=1)
    error = np.abs(found.scores - truth)[rated].mean()
    assert error < 0.7 * np.abs(np.nanmean(y[rated], axis=1) - truth[rated]).mean()
    assert np.isnan(found.scores[~rated]).all()


def test_six_levels_need_thirty_items_per_rater():
    y, _ = confused_scores(np.random.default_rng(3), 31, planted_confusion([0.5] * 3, [0] * 3), [1 / 6] * 6, 0.0)
    dawid_skene(y, LEVELS)
    y[:2, 1] = np.nan
    with pytest.raises(InputError, match=r"needs 30 items per rater; the least busy has 29; use the additive model"):
        dawid_skene(y, LEVELS)
    with pytest.raises(InputError, match="needs 3 raters, not 2"):
        dawid_skene(y[:, :2], LEVELS)
    with pytest.raises(InputError, match="every rating must be one of"):
        dawid_skene(np.nan_to_num(y, nan=2.5), LEVELS)
    with pytest.raises(InputError, match="shape"):
        dawid_skene(y[0], LEVELS)


# Consensus


def test_consensus_of_each_method(simulate):
    frame = simulate(cases=80).with_columns(patient_id=pl.lit("p") + pl.col("case_id"))
    panel = read_panel(frame, LEVELS)
    rated = np.isfinite(panel.experts).any(axis=2)
    tables = {m: consensus(frame, LEVELS, m) for m in ("mean", "median", "additive", "dawid-skene")}
    for table in tables.values():
        assert table.height == rated.sum() < rated.size
        assert table["score"].is_not_null().all() and table["score"].is_not_nan().all()
        assert table.filter(pl.col("dimension") == "d0")["patient_id"].to_list()[0].startswith("pc")
        assert table.filter(pl.col("case_id") == "c7")["patient_id"].unique().to_list() == ["pc7"]
    first = tables["mean"].filter(pl.col("dimension") == "d0")
    assert first["score"].to_numpy() == pytest.approx(np.nanmean(panel.experts[0][rated[0]], axis=1))
    assert first["experts"].to_numpy().tolist() == np.isfinite(panel.experts[0][rated[0]]).sum(axis=1).tolist()
    median = tables["median"].filter(pl.col("dimension") == "d1")["score"].to_numpy()
    assert median.tolist() == np.nanmedian(panel.experts[1][rated[1]], axis=1).tolist()
    distributions = np.array(tables["dawid-skene"]["distribution"].to_list())
    assert distributions.sum(axis=1) == pytest.approx(1)
    assert distributions @ np.array(LEVELS) == pytest.approx(tables["dawid-skene"]["score"].to_numpy())


def test_additive_consensus_is_nearer_to_the_truth_when_raters_alternate():
    """Strict and lenient experts rate different cases, so the plain mean carries their bias."""
    draw = np.random.default_rng(6)
    y, truth = additive_scores(draw, 300, [0.8, 0.0, -0.8], 0.3, 0.0)
    y[np.arange(300), np.arange(300) % 3] = np.nan
    bias = additive_bias(y)
    rows = [
        {"case_id": f"c{i:03d}", "system": "s", "rater": f"e{r}", "rater_kind": "expert", "dimension": "d", "score": v}
        for (i, r), v in np.ndenumerate(y)
        if np.isfinite(v)
    ]
    frame = pl.DataFrame(rows)
    plain, model = (consensus(frame, (-9, 19), m)["score"].to_numpy() for m in ("mean", "additive"))
    assert bias == pytest.approx([0.8, 0.0, -0.8], abs=0.1)
    assert np.abs(model - truth).mean() < 0.8 * np.abs(plain - truth).mean()
    (fitted,) = additive_model(frame, (-9, 19), resamples=64)
    assert fitted.items == pytest.approx(model)


def test_a_consensus_is_a_target_for_agree(simulate):
    frame = simulate(cases=60)
    target = consensus(frame, LEVELS, "mean").select(frame.columns)
    joined = pl.concat([target, frame.filter(~EXPERT)])
    found = agree(joined, LEVELS, resamples=64).of("j0", "d0")
    assert found["item.mae"].value == agree(frame, LEVELS, resamples=64).of("j0", "d0")["item.mae"].value
    assert found["loo_judge.mae"].value is None


def test_refusals_of_consensus(simulate):
    frame = simulate(cases=20)
    nameless = frame.with_columns(pl.when(~EXPERT).then(pl.col("rater")).alias("rater"))
    assert consensus(nameless, LEVELS, "median").height
    for method in ("additive", "dawid-skene"):
        with pytest.raises(InputError, match="no identity"):
            consensus(nameless, LEVELS, method)
    with pytest.raises(InputError, match="known: mean, median"):
        consensus(frame, LEVELS, "mode")
    with pytest.raises(InputError, match=r"d0: Dawid-Skene on 6 levels needs 30 items"):
        consensus(simulate(cases=9), LEVELS, "dawid-skene")
    number = pl.col("case_id").str.slice(1).cast(pl.Int64)
    apart = simulate(raters=2).filter(~EXPERT | ((pl.col("rater") == "e0") == (number < 30)))
    with pytest.raises(InputError, match="share no item"):
        consensus(apart, LEVELS, "additive")
