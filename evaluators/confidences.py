"""Are the confidences that a differential states to be believed? Brier score, expected calibration error, bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bootstrap import Estimate
from .proportions import mean, rate, resampled

FEWEST_ITEMS = 100  # below: no figure, the bins would hold next to nothing
PER_BIN, MOST_BINS = 20, 10  # items that a bin should hold; bins


@dataclass(frozen=True)
class Bin:
    """A bin of the reliability curve: confidences from `low` to `high`, their mean, and how often they were right."""

    low: float
    high: float
    confidence: float
    accuracy: Estimate

    def to_dict(self) -> dict[str, Any]:
        return {
            "low": self.low, "high": self.high, "confidence": self.confidence, "accuracy": self.accuracy.to_dict()
        }  # fmt: skip


@dataclass(frozen=True)
class Calibration:
    """Stated confidences against what was right, over `n` items of `clusters` patients.

    brier: mean squared difference (Brier 1950); base_brier: the same for the share that was right, stated for every
    item; ece: expected calibration error (Naeini 2015) over `bins` of about equal n; equal confidences share a bin.
    ece is never 0 by chance alone: few items push it up. `without`: items that state none; `off_scale`: items whose
    stated value is no probability (below 0 or above 1). Both are left out.
    """

    n: int
    clusters: int
    without: int
    off_scale: int
    brier: Estimate
    base_brier: Estimate
    ece: Estimate
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n, "clusters": self.clusters, "without": self.without, "off_scale": self.off_scale,
            "brier": self.brier.to_dict(), "base_brier": self.base_brier.to_dict(), "ece": self.ece.to_dict(),
            "bins": [found.to_dict() for found in self.bins],
        }  # fmt: skip


def calibration(
    confidence: Sequence[float | None],
    right: Sequence[bool] | np.ndarray,
    cluster: np.ndarray,
    seed: int = 0,
    resamples: int = 2000,
) -> Calibration:
    """Hold stated confidences (n,), None where there is none, against whether each item was right (n,).

    Intervals of brier and ece from `resamples` redraws of the patients in `cluster` (n,) with the bins held fixed,
    those of the bins by Wilson. Below FEWEST_ITEMS every figure is None with the reason.
    """
    stated = np.array([np.nan if value is None else float(value) for value in confidence], dtype=float)
    given = ~np.isnan(stated)
    usable = given & (stated >= 0) & (stated <= 1)
    x, y, place = stated[usable], np.asarray(right, dtype=float)[usable], np.asarray(cluster)[usable]
    n, clusters = len(x), len(np.unique(place))
    counts = {"without": int((~given).sum()), "off_scale": int((given & ~usable).sum())}
    if n < FEWEST_ITEMS:
        none = Estimate(None, n, reason=f"{n} items state a confidence, {FEWEST_ITEMS} are needed")
        return Calibration(n, clusters, **counts, brier=none, base_brier=none, ece=none, bins=())
    number = bin_numbers(x)
    _, who = np.unique(place, return_inverse=True)
    size = int(number.max()) + 1
    sums = np.zeros((size + 1, clusters))
    np.add.at(sums, (number, who), x - y)
    np.add.at(sums[size], who, 1.0)
    bins = tuple(
        Bin(
            float(x[number == b].min()), float(x[number == b].max()), float(x[number == b].mean()),
            rate(y[number == b] > 0, place[number == b], what="item of the bin"),
        )
        for b in range(size)
    )  # fmt: skip
    return Calibration(
        n,
        clusters,
        **counts,
        brier=mean((x - y) ** 2, place, seed, resamples),
        base_brier=Estimate(float(y.mean() * (1 - y.mean())), n, reason="no interval: a yardstick"),
        ece=resampled(sums, lambda s: np.abs(s[:-1]).sum(axis=0) / s[-1], n, seed, resamples),
        bins=bins,
    )


def bin_numbers(x: np.ndarray) -> np.ndarray:
    """The bin (n,), from 0, of each confidence: as equal in n as equal values allow, about PER_BIN or more in each.

    >>> np.bincount(bin_numbers(np.array([0.5] * 70 + [0.9] * 30))).tolist()
    [70, 30]
    """
    wanted = int(np.clip(len(x) // PER_BIN, 1, MOST_BINS))
    values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2  # a value goes where its middle item falls
    number = np.minimum((middle * wanted / len(x)).astype(int), wanted - 1)
    _, dense = np.unique(number, return_inverse=True)
    return dense[inverse]
