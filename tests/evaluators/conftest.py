"""A simulated panel of experts and judges with planted bias and noise, as a long ratings table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

LEVELS = (0, 1, 2, 3, 4, 5)


def simulated_panel(
    cases: int = 60,
    systems: int = 3,
    dimensions: int = 2,
    raters: int = 3,
    seed: int = 0,
    missing: float = 0.15,
    continuous: bool = False,
    judges: tuple[float, ...] = (0.5,),
) -> pl.DataFrame:
    """`judges`: noise SD of each judge j0, j1 ...; experts e0, e1 ... have bias SD 0.3 and noise SD 0.5."""
    draw = np.random.default_rng(seed)
    shape = (cases, systems, dimensions)
    truth = draw.normal(2.6, 1.1, shape) + np.linspace(-0.4, 0.4, systems)[None, :, None]
    columns: dict[str, tuple[str, np.ndarray]] = {}
    for r, bias in enumerate(draw.normal(0, 0.3, raters)):
        score = np.clip(np.floor(truth + bias + draw.normal(0, 0.5, shape) + 0.5), 0, 5)
        score[draw.random(shape) < missing] = np.nan
        columns[f"e{r}"] = ("expert", score)
    for j, noise in enumerate(judges):
        score = np.clip(0.8 * truth + 0.7 + draw.normal(0, noise, shape), 0, 5)
        columns[f"j{j}"] = ("judge", score if continuous else np.floor(score + 0.5))
    c, s, d = (axis.ravel() for axis in np.meshgrid(*map(np.arange, shape), indexing="ij"))
    parts = [
        pl.DataFrame(
            {
                "case_id": [f"c{i}" for i in c],
                "system": [f"s{i}" for i in s],
                "rater": rater,
                "rater_kind": kind,
                "dimension": [f"d{i}" for i in d],
                "score": score.ravel(),
            }
        ).with_columns(pl.col("score").fill_nan(None))
        for rater, (kind, score) in columns.items()
    ]
    return pl.concat(parts)


@pytest.fixture
def simulate() -> Callable[..., pl.DataFrame]:
    return simulated_panel
