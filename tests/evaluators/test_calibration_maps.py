import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad

from dermjudge.evaluators.calibration_maps import METHODS, ScoreMap, _ordinal_loss, fit_map, method_for
from dermjudge.judge.errors import InputError

VALUES = np.arange(6.0)


def sample(n: int = 300, seed: int = 0, step: float | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Judge scores (rounded to `step`), expert levels and their shares."""
    draw = np.random.default_rng(seed)
    x = draw.normal(2.5, 1.2, n)
    y = np.clip(np.floor(0.7 * x + 0.6 + draw.normal(0, 0.8, n) + 0.5), 0, 5)
    x = x if step is None else np.round(x / step) * step
    return x, y, (y[:, None] == VALUES).astype(float)


@pytest.mark.parametrize("step", [None, 1.0])
def test_linear_and_isotonic_are_those_of_sklearn(step):
    linear_model, isotonic = pytest.importorskip("sklearn.linear_model"), pytest.importorskip("sklearn.isotonic")
    x, y, _ = sample(step=step)
    new = np.linspace(x.min() - 1, x.max() + 1, 401)
    line = linear_model.LinearRegression().fit(x[:, None], y)
    np.testing.assert_allclose(fit_map("linear", x, y).predict(new), line.predict(new[:, None]), atol=1e-9)
    steps = isotonic.IsotonicRegression(out_of_bounds="clip").fit(x, y)
    found = fit_map("isotonic", x, y)
    np.testing.assert_allclose(found.predict(new), steps.predict(new), atol=1e-9)
    assert len(found.parameters["x"]) < len(np.unique(x)) or step  # only corners are kept
    np.testing.assert_allclose(fit_map("shift", x, y).predict(new), new + (y - x).mean(), atol=1e-12)


@pytest.mark.parametrize("step", [None, 0.5])
def test_ordinal_is_the_proportional_odds_model(step):
    ordered = pytest.importorskip("statsmodels.miscmodels.ordinal_model")
    x, y, shares = sample(step=step)
    found = fit_map("ordinal", x, y, shares, VALUES)
    model = ordered.OrderedModel(y.astype(int), x[:, None], distr="logit").fit(method="bfgs", disp=0, gtol=1e-8)
    assert found.parameters["slope"] == pytest.approx(model.params[0], abs=1e-3)
    np.testing.assert_allclose(found.distribution(x), model.predict(x[:, None]), atol=1e-4)
    np.testing.assert_allclose(found.predict(x), found.distribution(x) @ VALUES)
    assert found.note == ""


def test_ordinal_gradient():
    x, _, shares = sample(80)
    loss = _ordinal_loss((x - x.mean()) / x.std(), shares / shares.sum())
    for theta in np.random.default_rng(1).normal(0, 0.5, (5, 6)):
        assert check_grad(lambda t: loss(t)[0], lambda t: loss(t)[1], theta) < 1e-5


def test_ordinal_takes_several_experts_as_shares_of_one_item():
    """Three experts on each item weigh as much as one: repeating every rating changes nothing."""
    x, y, shares = sample(100)
    one = fit_map("ordinal", x, y, shares, VALUES)
    split = shares.copy()
    split[0] = [0, 0, 0.5, 0.5, 0, 0]
    other = fit_map("ordinal", x, y, split, VALUES)
    thrice = fit_map("ordinal", np.tile(x, 3), np.tile(y, 3), np.tile(split, (3, 1)), VALUES)
    np.testing.assert_allclose(other.distribution(x), thrice.distribution(x), atol=1e-5)
    assert np.abs(one.distribution(x) - other.distribution(x)).max() > 1e-4


def test_ordinal_levels_nobody_gave_and_a_perfect_judge():
    x = np.array([0.0, 0, 1, 1, 3, 3])
    shares = (x[:, None] == VALUES).astype(float)
    found = fit_map("ordinal", x, x, shares, VALUES)
    chance = found.distribution(x)
    assert chance[:, [2, 4, 5]].max() == 0
    np.testing.assert_allclose(chance.sum(axis=1), 1)
    np.testing.assert_allclose(found.predict(x), x, atol=0.01)  # separation: the slope stays finite
    alone = fit_map("ordinal", x, np.full(6, 4.0), np.tile(np.eye(6)[4], (6, 1)), VALUES)
    assert alone.predict(np.array([0.0, 3.0])).tolist() == [4.0, 4.0]


@pytest.mark.parametrize("method", ["linear", "isotonic", "ordinal"])
def test_a_judge_that_runs_against_the_experts_gets_a_constant_and_a_note(method):
    x = np.tile(np.arange(6.0), 20)
    y = 5 - x
    found = fit_map(method, x, y, (y[:, None] == VALUES).astype(float), VALUES)
    np.testing.assert_allclose(found.predict(np.array([0.0, 2.0, 5.0])), 2.5, atol=1e-6)
    assert "do not rise" in found.note


def test_outside_the_range():
    x, y, _ = sample(50, step=1.0)
    found = fit_map("isotonic", x, y)
    assert (found.low, found.high) == (x.min(), x.max())
    assert found.predict(np.array([-9.0, 99.0])).tolist() == found.predict(np.array([x.min(), x.max()])).tolist()
    assert np.isnan(found.predict(np.array([np.nan]))).all()


def test_what_cannot_be_fitted():
    x, y, shares = sample(20)
    with pytest.raises(InputError, match="constant"):
        fit_map("linear", np.full(20, 3.0), y)
    with pytest.raises(InputError, match="evenly spaced"):
        fit_map("ordinal", x, y)
    with pytest.raises(InputError, match="known: shift, linear"):
        fit_map("spline", x, y)
    with pytest.raises(InputError, match="no distribution"):
        fit_map("linear", x, y).distribution(x)
    assert [method_for(n) for n in (10, 25, 26, 200, 201)] == ["shift", "shift", "linear", "linear", "isotonic"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), min_size=3, max_size=40),
    st.sampled_from(METHODS),
)
def test_maps_never_fall_and_survive_json(pairs, method):
    x, y = np.array([p[0] / 4 for p in pairs]), np.array([float(p[1]) for p in pairs])
    if np.ptp(x) == 0:
        return
    found = fit_map(method, x, y, (y[:, None] == VALUES).astype(float), VALUES)
    new = np.linspace(-1, 6, 50)
    predicted = found.predict(new)
    assert np.isfinite(predicted).all()
    assert (np.diff(predicted) >= -1e-6).all()
    inside = found.predict(x)
    if method != "shift":
        assert y.min() - 1 <= inside.min() <= inside.max() <= y.max() + 1
    if method in ("linear", "isotonic"):
        assert inside.mean() == pytest.approx(y.mean(), abs=1e-9)
    again = ScoreMap(**found.to_dict())
    np.testing.assert_array_equal(again.predict(new), predicted)
