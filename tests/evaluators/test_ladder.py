"""Rungs over seeds on planted scores: who is better is found, who is not is not claimed, and numbers are by hand."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from dermjudge.evaluators.ladder import ladder
from dermjudge.evaluators.ladder_section import ladder_section
from dermjudge.judge.errors import InputError

LEVELS = (0, 1, 2, 3, 4, 5)


def table(noise: dict[str, float], cases=60, systems=4, seed=0) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    rows = []
    for c in range(cases):
        for s in range(systems):
            truth = draw.uniform(0.5, 4.5)
            key = {"case_id": f"c{c}", "system": f"s{s}", "dimension": "A", "distribution": None}
            for e in range(3):
                score = float(np.clip(np.rint(truth + draw.normal(0, 0.4)), 0, 5))
                rows.append(key | {"rater": f"e{e}", "rater_kind": "expert", "score": score})
            for rung, sd in noise.items():
                for k in range(2):
                    score = float(np.clip(truth + draw.normal(0, sd), 0, 5))
                    p = np.clip(1 - np.abs(score - np.array(LEVELS)), 0, None)
                    rows.append(
                        key
                        | {"rater": f"{rung}#{k}", "rater_kind": "judge", "score": score, "distribution": p.tolist()}
                    )
    return pl.DataFrame(rows, infer_schema_length=None)


def test_a_better_rung_is_found_and_an_equal_one_is_not_claimed():
    found = ladder(
        table({"low": 1.0, "high": 0.3, "same": 1.0}), LEVELS, {"low": (), "high": ("low",), "same": ("low",)}
    )
    better, same = found.of("high", "A"), found.of("same", "A")
    assert better.against["low"].high < 0 and better.p["low"] < 0.001
    assert same.p["low"] > 0.05
    assert better.results["rps"].value < found.of("low", "A").results["rps"].value
    text = "\n".join(ladder_section(found, {"low": [1.0], "high": [2.0], "same": [1.0]}))
    assert "| high − low" in text and max(map(len, text.split("\n"))) <= 120


def test_a_rung_is_recommended_only_if_it_beats_all_below_and_has_not_just_grown_surer():
    frame = table({"low": 1.0, "mid": 0.6, "sure": 0.3})
    worst = pl.when(pl.col("rater").str.starts_with("sure")).then(pl.lit([1.0, 0, 0, 0, 0, 0]))
    sure = frame.with_columns(distribution=worst.otherwise(pl.col("distribution")))
    chain = {"low": (), "mid": ("low",), "sure": ("mid", "low")}
    assert ladder(frame, LEVELS, chain).recommended() == "sure"
    found = ladder(sure, LEVELS, chain)
    assert found.recommended() == "mid" and found.of("sure", "A").verdict("mid") == "surer"
    assert found.of("sure", "A").against["mid"].high < 0 < found.of("sure", "A").against_rps["mid"].low
    assert ladder(frame, LEVELS, {"sure": (), "low": ("sure",)}).recommended() is None
    # a rung on one that was not taken is not taken, though it is better than that one
    above = {"mid": (), "sure": ("mid",), "low": ("sure",), "again": ("low",)}
    more = frame.filter(pl.col("rater").str.starts_with("mid")).with_columns(
        rater=pl.col("rater").str.replace("mid", "again")
    )
    assert ladder(pl.concat([frame, more]), LEVELS, above).recommended() == "sure"
    assert ladder(frame, LEVELS, {"mid": (), "low": ("mid",), "sure": ("low",)}).recommended() is None
    # but one that beats the ground itself is
    assert ladder(frame, LEVELS, {"mid": (), "low": ("mid",), "sure": ("low", "mid")}).recommended() == "sure"


def test_the_numbers_are_those_of_plain_loops():
    frame = table({"one": 0.5}, cases=25)
    found = ladder(frame, LEVELS, {"one": ()}).of("one", "A")
    wide = frame.pivot("rater", index=["case_id", "system"], values="score").sort("case_id", "system")
    experts = wide.select("e0", "e1", "e2").to_numpy()
    target = experts.mean(axis=1)
    errors = [np.abs(wide[f"one#{k}"].to_numpy() - target).mean() for k in range(2)]
    assert found.results["mae"].value == pytest.approx(np.mean(errors), abs=1e-9)
    assert found.seeds["mae"] == pytest.approx(tuple(errors), abs=1e-9)
    within = []
    for k in range(2):
        for _, part in wide.with_columns(t=target).group_by("case_id"):
            within.append(spearmanr(part[f"one#{k}"], part["t"]).statistic)
    assert found.results["spearman"].value == pytest.approx(np.mean(within), abs=1e-9)
    rows = frame.filter(pl.col("rater") == "one#0").sort("case_id", "system")
    p = np.array(rows["distribution"].to_list()).cumsum(axis=1)
    rps = [((p[i] - (y <= np.array(LEVELS))) ** 2).sum() for i in range(len(p)) for y in experts[i]]
    assert found.seeds["rps"][0] == pytest.approx(np.mean(rps), abs=1e-9)


def test_an_unknown_rung_is_named():
    with pytest.raises(InputError, match="no ratings of rung 'two'"):
        ladder(table({"one": 0.5}, cases=20), LEVELS, {"one": ("two",)})
