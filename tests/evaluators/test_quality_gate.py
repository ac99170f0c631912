"""The gate on picture quality: by hand, and what it costs each group."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from dermjudge.evaluators.quality_gate import quality_gate
from dermjudge.judge.errors import InputError


def frame(values) -> pl.DataFrame:
    return pl.DataFrame({
        "case_id": [f"c{i}" for i in range(len(values))], "system": "s", "metric": "top_1",
        "value": np.asarray(values, dtype=float),
    })  # fmt: skip


def test_gates_by_hand() -> None:
    quality = {"c0": "good", "c1": "good", "c2": "doubtful", "c3": "poor"}
    groups = {"c0": "light", "c1": "dark", "c2": "dark", "c3": "dark"}
    (found,) = quality_gate(frame([1, 1, 1, 0, 0]), quality, groups=groups, resamples=20)
    assert (found.all.value, found.all.n, found.unknown) == (0.75, 4, 1)
    assert [(g.threshold, g.cases, g.share, g.value.value, g.gain.value) for g in found.gates] == [
        (0.0, 4, 1.0, 0.75, 0.0), (1.0, 3, 0.75, 1.0, 0.25), (2.0, 2, 0.5, 1.0, 0.25)
    ]  # fmt: skip
    assert found.gates[2].kept_by_group == {"dark": 1 / 3, "light": 1.0}
    # Kept best first: doubled top, then 3, then 4 cases: means 1, 1, 1, .75 over coverages, minus .75
    assert found.mean_gain.value == pytest.approx((1 + 1 + 1 + 0.75) / 4 - 0.75)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_gate_pays_only_where_quality_tells() -> None:
    draw = np.random.default_rng(0)
    grade = draw.random(400)
    quality = {f"c{i}": float(g) for i, g in enumerate(grade)}
    (told,) = quality_gate(frame(draw.random(400) < grade), quality, [0.5], resamples=200)
    assert told.gates[0].gain.low is not None and told.gates[0].gain.low > 0 and (told.mean_gain.low or 0) > 0
    (deaf,) = quality_gate(frame(draw.random(400) < 0.5), quality, resamples=200)
    assert len(deaf.gates) == 10 and deaf.gates[0].share == 1.0
    assert (deaf.mean_gain.low or 0) < 0 < (deaf.mean_gain.high or 0)


def test_nothing_left_is_none_and_bad_quality_refused() -> None:
    (found,) = quality_gate(frame([1, 0]), {"c0": 1.0, "c1": 2.0}, [3.0], resamples=20)
    assert found.gates[0].value.value is None and found.gates[0].share == 0 and found.gates[0].value.reason
    for quality, why in (({"c0": "bad"}, "none of good, doubtful, poor"), ({"c0": np.nan}, "finite"), ({}, "no case")):
        with pytest.raises(InputError, match=why):
            quality_gate(frame([1, 0]), quality)
