import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermjudge.evaluators.reliability import (
    METRICS,
    gwet_ac2,
    icc,
    krippendorff_alpha,
    pair_features,
    scale_values,
)
from dermjudge.judge.errors import InputError

NAN = np.nan
# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", four observers and twelve units.
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T
# Shrout and Fleiss 1979, table 2: six targets, four judges.
SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def panel(items=80, raters=4, missing=0.0, seed=0):
    draw = np.random.default_rng(seed)
    y = draw.normal(2.5, 1, (items, 1)) + draw.normal(0, 0.4, (1, raters)) + draw.normal(0, 0.7, (items, raters))
    y = np.clip(np.round(y), 0, 5)
    y[draw.random(y.shape) < missing] = NAN
    return y


@pytest.mark.parametrize(("metric", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_published_alpha(metric, published):
    assert krippendorff_alpha(KRIPPENDORFF, metric) == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize(
    ("form", "published"),
    [("icc_1", 0.17), ("icc_a1", 0.29), ("icc_c1", 0.71), ("icc_k", 0.44), ("icc_ak", 0.62), ("icc_ck", 0.91)],
)
def test_published_icc(form, published):
    assert icc(SHROUT_FLEISS)[form] == pytest.approx(published, abs=6e-3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_alpha_against_krippendorff(metric, missing):
    oracle = pytest.importorskip("krippendorff")
    y = panel(missing=missing)
    assert krippendorff_alpha(y, metric) == pytest.approx(oracle.alpha(y.T, level_of_measurement=metric), abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_alpha_of_many_distinct_values_against_krippendorff(metric):
    oracle = pytest.importorskip("krippendorff")
    y = panel(items=120) + np.random.default_rng(1).choice([0.0, 0.01, 0.02, 0.03], (120, 4)) * 5
    y[:, 1] = np.where(np.random.default_rng(2).random(120) < 0.3, y[:, 0], y[:, 1])
    y[np.random.default_rng(3).random(y.shape) < 0.3] = NAN
    assert len(np.unique(y[np.isfinite(y)])) <= 64
    fine = y + np.random.default_rng(4).integers(0, 5, (120, 1)) / 1000
    fine[:20, 2] += 1e-4
    assert len(np.unique(fine[np.isfinite(fine)])) > 64
    for scores in (y, fine):
        theirs = oracle.alpha(scores.T, level_of_measurement=metric)
        assert krippendorff_alpha(scores, metric) == pytest.approx(theirs, abs=1e-9)


def test_thousands_of_distinct_values_take_no_table():
    y = np.random.default_rng(0).normal(0, 1, (3000, 1)) + np.random.default_rng(1).normal(0, 1, (3000, 3))
    assert krippendorff_alpha(y, "interval") == pytest.approx(icc(y)["icc_1"], abs=1e-3)
    assert krippendorff_alpha(y, "nominal") == pytest.approx(0.0, abs=1e-3)
    assert krippendorff_alpha(y, "ordinal") == pytest.approx(0.5, abs=0.05)


def test_six_forms_against_pingouin():
    pg = pytest.importorskip("pingouin")
    pd = pytest.importorskip("pandas")
    y = panel()
    items, raters = np.indices(y.shape)
    long = pd.DataFrame({"i": items.ravel(), "r": raters.ravel(), "y": y.ravel()})
    table = pg.intraclass_corr(long, "i", "r", "y").set_index("Type")["ICC"]
    names = {
        "ICC(1,1)": "icc_1",
        "ICC(A,1)": "icc_a1",
        "ICC(C,1)": "icc_c1",
        "ICC(1,k)": "icc_k",
        "ICC(A,k)": "icc_ak",
        "ICC(C,k)": "icc_ck",
    }
    for theirs, ours in names.items():
        assert icc(y)[ours] == pytest.approx(table[theirs], abs=1e-9)


def test_icc_with_missing_ratings_recovers_what_was_planted():
    """Variances 1 (item), 0.09 (rater), 0.49 (error) on unrounded scores, 30 % missing, many raters and items."""
    draw = np.random.default_rng(3)
    y = draw.normal(0, 1, (4000, 1)) + draw.normal(0, 0.7, (4000, 12))
    effects = draw.normal(0, 1, 12)
    y += 0.3 * (effects - effects.mean()) / effects.std(ddof=1)
    y[draw.random(y.shape) < 0.3] = NAN
    found = icc(y)
    assert found["icc_a1"] == pytest.approx(1 / 1.58, abs=0.02)
    assert found["icc_c1"] == pytest.approx(1 / 1.49, abs=0.02)
    assert found["raters_per_item"] == pytest.approx(np.sum(np.isfinite(y).any(1)) / np.sum(1 / np.isfinite(y).sum(1)))


@pytest.mark.slow
def test_icc_with_missing_ratings_against_a_mixed_model():
    """REML (statsmodels, crossed components) is another estimator of the same components: near, not equal."""
    smf = pytest.importorskip("statsmodels.formula.api")
    pd = pytest.importorskip("pandas")
    y = panel(items=120, raters=5, missing=0.25, seed=5)
    items, raters = np.nonzero(np.isfinite(y))
    long = pd.DataFrame({"i": items, "r": raters, "y": y[items, raters], "one": 1})
    model = smf.mixedlm("y ~ 1", long, groups="one", vc_formula={"i": "0 + C(i)", "r": "0 + C(r)"}, re_formula="0")
    fit = model.fit(reml=True)
    item, rater = fit.vcomp
    total = item + rater + fit.scale
    found = icc(y)
    assert found["icc_a1"] == pytest.approx(item / total, abs=0.03)
    assert found["icc_c1"] == pytest.approx(item / (item + fit.scale), abs=0.03)


def slow_ac(ratings, values, weight):
    """Gwet 2014, equations 5.7 and 5.8, item by item."""
    size = len(values)
    shares, agreements = [], []
    for row in ratings:
        counts = np.array([np.sum(row == v) for v in values], float)
        m = counts.sum()
        if m:
            shares.append(counts / m)
        if m > 1:
            near = np.array([sum(weight[k, c] * counts[c] for c in range(size)) for k in range(size)])
            agreements.append(sum(counts[k] * (near[k] - 1) for k in range(size)) / (m * (m - 1)))
    use = np.mean(shares, axis=0)
    chance = weight.sum() / (size * (size - 1)) * np.sum(use * (1 - use))
    return (np.mean(agreements) - chance) / (1 - chance)


def test_ac2_against_the_slow_form_which_meets_the_published_ac1():
    values = np.arange(1.0, 6.0)
    # Gwet 2014 on Krippendorff's data: AC1 0.77544.
    assert slow_ac(KRIPPENDORFF, values, np.eye(5)) == pytest.approx(0.77544, abs=5e-6)
    weight = 1 - ((values[:, None] - values) / 4) ** 2
    assert gwet_ac2(KRIPPENDORFF, values) == pytest.approx(slow_ac(KRIPPENDORFF, values, weight), abs=1e-12)


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=3, max_size=15), st.randoms())
def test_alpha_ignores_who_said_what(rows, random):
    shuffled = [random.sample(row, 3) for row in rows]
    for metric in METRICS:
        a, b = krippendorff_alpha(np.array(rows), metric), krippendorff_alpha(np.array(shuffled), metric)
        assert a == b or a == pytest.approx(b, abs=1e-12)


def test_interval_alpha_and_one_way_icc_meet_as_items_grow():
    gaps = []
    for items in (20, 2000):
        y = panel(items, raters=2)
        gaps.append(abs(krippendorff_alpha(y, "interval") - icc(y)["icc_1"]))
    assert gaps[1] < gaps[0] / 20


def test_nothing_to_agree_on_is_none():
    assert krippendorff_alpha(np.full((4, 2), 3.0)) is None
    assert krippendorff_alpha(np.array([[1, NAN], [NAN, 2]])) is None
    assert icc(np.full((4, 2), 3.0))["icc_a1"] is None
    assert icc(np.full((2, 2), NAN))["icc_1"] is None
    with pytest.raises(InputError, match="nominal, ordinal, interval"):
        krippendorff_alpha(KRIPPENDORFF, "ratio")


def test_negative_icc_is_legal():
    assert icc(np.array([[1.0, 5], [5, 1], [2, 4], [4, 2.5]]))["icc_1"] < 0


def test_pairs_of_raters():
    y = np.array([[1, 1, 2], [3, NAN, 3.5], [NAN, NAN, 1]])
    assert pair_features(y).sum(axis=1).tolist() == [4, 1, 2, 4]


def test_scale_values_take_the_step_that_fits():
    assert scale_values((0, 1, 2), np.array([1.0, NAN])).tolist() == [0, 1, 2]
    assert scale_values((1, 2), np.array([0.0, 1.5])).tolist() == [0, 0.5, 1, 1.5, 2]
    assert scale_values((0, 1), np.array([0.123])) is None
