import json

import numpy as np
import polars as pl
import pytest

from dermjudge.evaluators.calibration import Calibration, calibrate
from dermjudge.evaluators.calibration_checks import assign_folds
from dermjudge.evaluators.calibration_maps import fit_map
from dermjudge.evaluators.statistics import compare
from dermjudge.judge.errors import InputError

LEVELS = (0, 1, 2, 3, 4, 5)
FEW = 100  # resamples


def with_scores(frame: pl.DataFrame, expression: pl.Expr) -> pl.DataFrame:
    """The frame with the judge's scores changed."""
    return frame.with_columns(
        pl.when(pl.col("rater_kind") == "judge").then(expression).otherwise(pl.col("score")).alias("score")
    )


def arrays(found: Calibration, dimension: str = "d0") -> tuple[np.ndarray, ...]:
    rows = found.unseen.filter(pl.col("dimension") == dimension)
    return tuple(rows[name].to_numpy() for name in ("raw", "expert", "calibrated", "fold"))


@pytest.mark.parametrize("method", ["shift", "linear", "isotonic"])
@pytest.mark.parametrize("continuous", [False, True])
def test_cross_fitted_errors_are_those_of_sklearn(simulate, method, continuous):
    """Same folds by case, maps of scikit-learn: MAE, RMSE, bias and Spearman agree."""
    linear_model, isotonic = pytest.importorskip("sklearn.linear_model"), pytest.importorskip("sklearn.isotonic")
    from scipy.stats import spearmanr

    frame = simulate(cases=50, continuous=continuous)
    folds = {f"c{i}": i % 4 for i in range(50)}
    found = calibrate(frame, LEVELS, "j0", method=method, folds=folds, resamples=FEW).of("d1").results

    wide = frame.filter(pl.col("dimension") == "d1").group_by("case_id", "system", maintain_order=True).agg(
        x=pl.col("score").filter(pl.col("rater_kind") == "judge").first(),
        y=pl.col("score").filter(pl.col("rater_kind") == "expert").mean(),
    ).drop_nulls()  # fmt: skip
    x, y = wide["x"].to_numpy(), wide["y"].to_numpy()
    fold = np.array([folds[c] for c in wide["case_id"]])
    z = np.empty(len(x))
    for k in range(4):
        train, test = fold != k, fold == k
        if method == "shift":
            z[test] = x[test] + (y[train] - x[train]).mean()
        elif method == "linear":
            z[test] = linear_model.LinearRegression().fit(x[train, None], y[train]).predict(x[test, None])
        else:
            z[test] = isotonic.IsotonicRegression(out_of_bounds="clip").fit(x[train], y[train]).predict(x[test])
    for name, scores in (("before", x), ("after", z)):
        assert found[f"{name}.mae"].value == pytest.approx(np.abs(scores - y).mean(), abs=1e-9)
        assert found[f"{name}.rmse"].value == pytest.approx(np.sqrt(((scores - y) ** 2).mean()), abs=1e-9)
        assert found[f"{name}.bias"].value == pytest.approx((scores - y).mean(), abs=1e-9)
        assert found[f"{name}.spearman"].value == pytest.approx(spearmanr(scores, y).statistic, abs=1e-9)
    gain = found["after.mae"].value - found["before.mae"].value
    assert found["change.mae"].value == pytest.approx(gain, abs=1e-12)
    assert found["change.mae"].low < gain < found["change.mae"].high


def test_no_label_reaches_the_map_that_is_tested_on_it(simulate):
    """Other expert scores on the cases of a fold leave that fold's calibrated scores as they are, and no others."""
    frame = simulate(cases=40, continuous=True)
    for method in ("linear", "isotonic", "ordinal", "cv"):
        first = calibrate(frame, LEVELS, "j0", method=method, folds=4, resamples=1)
        raw, _, before, fold = arrays(first)
        victims = set(first.unseen.filter(pl.col("fold") == 2)["case_id"])
        hit = pl.col("case_id").is_in(victims) & (pl.col("rater_kind") == "expert")
        other = frame.with_columns(pl.when(hit).then(5 - pl.col("score")).otherwise(pl.col("score")).alias("score"))
        _, _, after, again = arrays(calibrate(other, LEVELS, "j0", method=method, folds=4, resamples=1))
        assert (again == fold).all()
        np.testing.assert_array_equal(after[fold == 2], before[fold == 2])
        assert np.abs(after[fold != 2] - before[fold != 2]).min() > 0


def test_folds_keep_patients_together_and_are_even():
    cluster = np.random.default_rng(0).integers(0, 30, 200)
    fold = assign_folds(cluster, 5, seed=3)
    assert all(len(set(fold[cluster == c])) == 1 for c in range(30))
    assert {len(set(cluster[fold == k])) for k in range(5)} == {6}
    assert (assign_folds(cluster, 5, seed=4) != fold).any()


def test_clusters_of_cases_share_a_fold(simulate):
    patients = {f"c{i}": f"p{i // 4}" for i in range(60)}
    found = calibrate(simulate(cases=60), LEVELS, "j0", patients, resamples=FEW)
    folds = found.unseen.group_by("cluster").agg(pl.col("fold").n_unique())
    assert (folds["fold"] == 1).all()
    assert found.of("d0").counts["clusters"] == 15
    assert found.of("d0").map.method == "shift"  # 15 patients, although there are 60 cases
    with pytest.raises(InputError, match="different folds"):
        calibrate(simulate(cases=60), LEVELS, "j0", patients, folds={f"c{i}": i % 5 for i in range(60)})


def test_what_was_planted_is_undone(simulate):
    """A judge at half the slope and two levels up: calibrated scores are as good as those of the undistorted judge."""
    frame = simulate(cases=150, continuous=True, judges=(0.3,))
    plain = calibrate(frame, LEVELS, "j0", method="linear", resamples=FEW).of("d0")
    found = calibrate(with_scores(frame, pl.col("score") * 0.5 + 2), LEVELS, "j0", resamples=FEW).of("d0")
    assert found.map.method == "linear"
    assert found.results["before.bias"].low > 0.3
    assert found.results["change.rmse"].high < -0.1
    assert found.results["after.bias"].low < 0 < found.results["after.bias"].high
    assert found.results["after.mae"].value == pytest.approx(plain.results["after.mae"].value, abs=1e-9)
    assert found.map.parameters["slope"] == pytest.approx(2 * plain.map.parameters["slope"])
    for b in found.reliability["after"]:
        assert b.expert.low - 0.1 < b.predicted < b.expert.high + 0.1
    assert sum(b.expert.n for b in found.reliability["before"]) == found.counts["items"]
    bottom = found.reliability["before"][0]
    assert bottom.predicted > bottom.expert.high + 0.5


def test_cross_validation_finds_the_bent_map(simulate):
    frame = simulate(cases=70, dimensions=1, continuous=True, judges=(0.2,))
    bent = with_scores(frame, pl.when(pl.col("score") < 2.5).then(0.5 + 0.02 * pl.col("score")).otherwise("score"))
    found = calibrate(bent, LEVELS, "j0", method="cv", resamples=FEW).of("d0")
    assert found.map.method == "isotonic"
    assert found.choice["isotonic"] == min(found.choice.values()) < found.choice["shift"]
    shifted = calibrate(with_scores(frame, pl.col("score") + 1), LEVELS, "j0", method="cv", resamples=FEW)
    assert shifted.of("d0").choice["shift"] - min(shifted.of("d0").choice.values()) < 0.05


def test_groups_of_items_sum_to_the_whole(simulate):
    frame = simulate(cases=60)
    skin = {f"c{i}": "light" if i % 3 else "dark" for i in range(60)}
    found = calibrate(frame, LEVELS, "j0", by=skin, resamples=FEW).of("d0")
    whole = found.results["after.mae"]
    for parts in (found.systems, found.groups):
        total = sum(p["after.mae"].value * p["after.mae"].n for p in parts.values())
        assert total / whole.n == pytest.approx(whole.value)
        assert sum(p["after.mae"].n for p in parts.values()) == whole.n
    assert set(found.groups) == {"light", "dark"}
    raw, y, z, _ = arrays(calibrate(frame, LEVELS, "j0", resamples=1))
    own = calibrate(frame.filter(pl.col("system") == "s1"), LEVELS, "j0", method="shift", resamples=FEW).of("d0")
    alone = own.systems["s1"]
    assert alone["after.rmse"].value == pytest.approx(own.results["after.rmse"].value)
    assert alone["after.rmse"].low == pytest.approx(own.results["after.rmse"].low, abs=1e-3)
    assert own.left_out == {}
    assert compare(z, y)["mae"] == pytest.approx(whole.value)


def test_a_system_left_out_shows_a_bias_that_was_learnt(simulate):
    """The judge flatters s2 by 1.5: shift maps fitted with s2 spread the blame, maps without it leave all to s2."""
    frame = simulate(cases=80, continuous=True, judges=(0.2,))
    flattered = with_scores(frame, pl.col("score") + pl.when(pl.col("system") == "s2").then(1.5).otherwise(0.0))
    found = calibrate(flattered, (*LEVELS, 6, 7), "j0", method="shift", folds=4, resamples=FEW)
    one = found.of("d0")
    assert one.left_out["s2"]["before.bias"] == one.systems["s2"]["before.bias"]
    assert one.left_out["s2"]["after.bias"].value > one.systems["s2"]["after.bias"].value + 0.4
    # By hand: each fold of s2 shifted by the mean difference of the other systems in the other folds.
    rows = found.unseen.filter(pl.col("dimension") == "d0")
    x, y, fold = (rows[name].to_numpy() for name in ("raw", "expert", "fold"))
    own = (rows["system"] == "s2").to_numpy()
    z = x + [(y - x)[~own & (fold != k)].mean() for k in fold]
    assert one.left_out["s2"]["after.mae"].value == pytest.approx(np.abs(z - y)[own].mean(), abs=1e-12)


def test_too_few_labels_and_a_constant_judge(simulate):
    few = calibrate(simulate(cases=9), LEVELS, "j0", resamples=FEW).of("d0")
    assert (few.map, few.results) == (None, {})
    assert "9 labelled cases" in few.reason
    assert calibrate(simulate(cases=10, missing=0), LEVELS, "j0", resamples=FEW).of("d0").map.method == "shift"
    frame = simulate(cases=30)
    constant = pl.when(pl.col("dimension") == "d0").then(3.0).otherwise("score")
    found = calibrate(with_scores(frame, constant), LEVELS, "j0", resamples=FEW)
    assert found.of("d0").map is None
    assert "constant (3)" in found.of("d0").reason
    assert found.of("d1").map is not None
    assert found.unseen.filter(pl.col("dimension") == "d0")["calibrated"].null_count() > 0
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert "NaN" not in text


def test_a_calibrated_constant_has_no_rank(simulate):
    found = calibrate(with_scores(simulate(cases=60), 5 - pl.col("score")), LEVELS, "j0", resamples=FEW).of("d0")
    assert found.map.parameters["slope"] == 0
    assert any("do not rise" in note for note in found.notes)


def test_adjudicated_and_off_scale_scores_are_said(simulate):
    frame = simulate(cases=30).with_columns(stage=pl.lit("adjudicated"))
    odd = with_scores(frame, pl.when(pl.col("case_id") == "c3").then(7.0).otherwise("score"))
    found = calibrate(odd, LEVELS, "j0", resamples=FEW)
    assert any("adjudicated" in note for note in found.notes)
    assert any("6 scores off the scale" in note for note in found.notes)
    assert found.of("d0").counts["cases"] == 29


@pytest.mark.parametrize("method", ["linear", "isotonic", "ordinal"])
def test_apply(simulate, method):
    frame = simulate(cases=60).with_columns(
        reason=pl.lit(""), distribution=pl.lit([0.0, 0, 0, 1, 0, 0], dtype=pl.List(pl.Float64))
    )
    frame = with_scores(frame, pl.when(pl.col("case_id") == "c7").then(None).otherwise("score"))
    found = calibrate(frame, LEVELS, "j0", method=method, resamples=1)
    done = found.apply(frame)
    mine = pl.col("rater_kind") == "judge"
    assert done.filter(~mine).select(frame.columns).equals(frame.filter(~mine))
    assert done.filter(~mine)["raw_score"].null_count() == done.filter(~mine).height
    judged = done.filter(mine)
    assert judged["raw_score"].equals(frame.filter(mine)["score"])
    assert judged.filter(pl.col("case_id") == "c7")["score"].null_count() == 6
    first = judged.filter((pl.col("dimension") == "d0") & pl.col("score").is_not_null())
    expected = found.of("d0").map.predict(first["raw_score"].to_numpy())
    np.testing.assert_array_equal(first["score"].to_numpy(), expected)
    assert set(first["calibration"]) == {method}
    if method == "ordinal":
        chances = np.array(first["distribution"].to_list())
        np.testing.assert_allclose(chances @ np.arange(6), first["score"].to_numpy())
    else:
        assert first["distribution"].null_count() == first.height
    assert first["raw_distribution"].null_count() == 0
    with pytest.raises(InputError, match="calibrated already"):
        found.apply(done)


def test_apply_says_where_the_map_is_stretched(simulate):
    frame = simulate(cases=60)
    kept = frame.filter((pl.col("rater_kind") == "expert") | pl.col("score").is_between(1, 3))
    found = calibrate(with_scores(kept, pl.col("score") + 1), LEVELS, "j0", method="shift", resamples=1)
    row = frame.filter(pl.col("rater_kind") == "judge").head(1).with_columns(score=pl.lit(0.0))
    row = row.with_columns(reason=pl.lit("as given"))
    notes: list[str] = []
    said = found.apply(row, notes=notes)
    value = said["score"][0]
    assert value < -0.5  # kept as it is
    assert said["reason"][0] == (
        "as given; judge score 0 lies outside the calibrated range 2 to 4; "
        f"calibrated value {value:.4g} is off the scale 0 to 5"
    )
    assert "1 of 1 scores lie outside the calibrated range" in notes[0]
    cut = found.apply(row, cut=True, notes=notes)
    assert (cut["score"][0], cut["reason"][0][-10:]) == (0.0, ", set to 0")
    new = row.with_columns(dimension=pl.lit("tone"))
    notes.clear()
    assert found.apply(new, notes=notes)["calibration"].to_list() == [""]
    assert "tone: 1 scores stay uncalibrated: it was not among" in notes[0]
    with pytest.raises(InputError, match="no row of judge 'j0'"):
        found.apply(row.with_columns(rater=pl.lit("other")))


def test_save_and_load(simulate, tmp_path):
    frame = simulate(cases=40).with_columns(rubric=pl.lit("derm6@1"))
    found = calibrate(
        frame, LEVELS, "j0", method="ordinal", signature="abc", population="clinic A", date="2026-05-01", resamples=FEW
    )
    path = tmp_path / "calibration.json"
    found.save(path)
    again = Calibration.load(path, "j0", "derm6@1", "abc")
    assert again == found
    assert again.apply(frame).equals(found.apply(frame))
    assert (again.population, again.date, again.of("d0").counts["cases"]) == ("clinic A", "2026-05-01", 40)
    assert Calibration.load(path, None, None) == found
    for wrong in (("j1", "derm6@1", "abc"), ("j0", "derm6@2", "abc"), ("j0", "derm6@1", "abd")):
        with pytest.raises(InputError, match="calibrat"):
            Calibration.load(path, *wrong)
    with pytest.raises(InputError, match="is for rubric 'derm6@1', but the ratings carry 'derm6@2'"):
        found.apply(frame.with_columns(rubric=pl.lit("derm6@2")))
    path.write_text(path.read_text().replace("clinic A", "clinic B"))
    with pytest.raises(InputError, match="edited"):
        Calibration.load(path, "j0", "derm6@1")
    path.write_text("[1]")
    with pytest.raises(InputError, match="no calibration"):
        Calibration.load(path, "j0", "derm6@1")
    with pytest.raises(InputError, match="cannot read"):
        Calibration.load(tmp_path / "none.json", "j0", "derm6@1")


def test_data_hash(simulate):
    frame = simulate(cases=20)
    found = calibrate(frame, LEVELS, "j0", resamples=1).data_hash
    assert calibrate(frame.sample(fraction=1, shuffle=True, seed=1), LEVELS, "j0", resamples=1).data_hash == found
    one = frame.with_row_index().with_columns(
        pl.when(pl.col("index") == 5).then((pl.col("score") + 1) % 5).otherwise("score").alias("score")
    )
    assert calibrate(one.drop("index"), LEVELS, "j0", resamples=1).data_hash != found


def test_wrong_input(simulate):
    frame = simulate(cases=20)
    with pytest.raises(InputError, match="no judge 'x'"):
        calibrate(frame, LEVELS, "x")
    with pytest.raises(InputError, match="auto, cv, shift"):
        calibrate(frame, LEVELS, "j0", method="spline")
    with pytest.raises(InputError, match="folds must be at least 2"):
        calibrate(frame, LEVELS, "j0", folds=1)
    with pytest.raises(InputError, match="no fold is given for case"):
        calibrate(frame, LEVELS, "j0", folds={"c0": 1})
    with pytest.raises(InputError, match="no expert score"):
        calibrate(frame.filter(pl.col("rater_kind") == "judge"), LEVELS, "j0")
    with pytest.raises(InputError, match="one rubric at a time"):
        calibrate(frame.with_columns(rubric=pl.lit("a@1")), LEVELS, "j0", rubric="b@1")
    with pytest.raises(InputError, match="there are d0, d1"):
        calibrate(frame, LEVELS, "j0", resamples=1).of("d7")


def test_ordinal_counts_every_item_once(simulate):
    """An item rated by three experts weighs as much as one rated by one of them."""
    frame = simulate(cases=60, dimensions=1, missing=0.4)
    found = calibrate(frame, LEVELS, "j0", method="ordinal", resamples=1)
    experts = frame.filter((pl.col("rater_kind") == "expert") & pl.col("score").is_not_null())
    assert experts.group_by("case_id", "system").len()["len"].n_unique() == 3
    judged = frame.filter(pl.col("rater_kind") == "judge").select("case_id", "system", x="score")
    levels = [(pl.col("score") == k).mean().alias(f"{k}") for k in LEVELS]
    items = experts.group_by("case_id", "system").agg(pl.col("score").mean().alias("y"), *levels)
    items = items.join(judged, on=["case_id", "system"])
    shares = items.select([f"{k}" for k in LEVELS]).to_numpy()
    wanted = fit_map("ordinal", items["x"].to_numpy(), items["y"].to_numpy(), shares, np.arange(6.0))
    new = np.linspace(0, 5, 30)
    np.testing.assert_allclose(found.of("d0").map.distribution(new), wanted.distribution(new), atol=1e-6)
