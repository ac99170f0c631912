"""Many p-values of one named family: Holm, Benjamini-Hochberg, Benjamini-Yekutieli."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..judge.errors import InputError

METHODS = ("holm", "bh", "by")


def adjust(p_values: Sequence[float | None], method: str = "holm") -> list[float | None]:
    """Adjusted p-values of one family, in the order given; None (no test) stays None and is not counted.

    `holm` controls the chance of any false claim (Holm 1979): for a few planned claims. `bh` controls the share of
    false claims when tests are independent or positively dependent (Benjamini and Hochberg 1995): for screens. `by`
    controls it under any dependence (Benjamini and Yekutieli 2001): tests that share raters or cases.

    Raises InputError on an unknown method or a p-value outside [0, 1].

    >>> [round(p, 3) for p in adjust([0.01, 0.04, 0.03], "holm")]
    [0.03, 0.06, 0.06]
    """
    if method not in METHODS:
        raise InputError(f"unknown correction '{method}'; known: {', '.join(METHODS)}")
    places = [i for i, p in enumerate(p_values) if p is not None]
    p = np.array([p_values[i] for i in places], dtype=float)
    if not np.all((p >= 0) & (p <= 1)):
        raise InputError(f"p-values must lie in [0, 1]; got {p[~((p >= 0) & (p <= 1))][0]}")
    m = len(p)
    order = np.argsort(p, kind="stable")
    rank = np.arange(1, m + 1)
    if method == "holm":
        stepped = np.maximum.accumulate((m - rank + 1) * p[order])
    else:
        factor = np.sum(1.0 / rank) if method == "by" else 1.0
        stepped = np.minimum.accumulate((factor * m / rank * p[order])[::-1])[::-1]
    adjusted: list[float | None] = [None] * len(p_values)
    for place, value in zip(order, np.minimum(stepped, 1.0), strict=True):
        adjusted[places[place]] = float(value)
    return adjusted
