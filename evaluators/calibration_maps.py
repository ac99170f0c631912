"""Maps from a judge's score to the experts' scale: shift, linear, isotonic, ordinal thresholds. All are monotone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, log_expit, logit

from ..judge.errors import InputError

METHODS = ("shift", "linear", "isotonic", "ordinal")  # simplest first
SHIFT_UP_TO, LINEAR_UP_TO = 25, 200  # labelled cases; measured on held-out RMSE with one item per case
RIDGE = 1e-6  # on the slope per SD: keeps it finite where the judge separates the levels, moves it by about 1e-5
FALLS = "the experts' scores do not rise with the judge's, so a map that never falls is a constant"


@dataclass(frozen=True)
class ScoreMap:
    """One fitted map.

    `parameters`: shift {shift}; linear {intercept, slope}; isotonic {x, y}: corners, straight lines between, the ends
    outside; ordinal {slope, thresholds, used, values}: P(level <= used[k] | x) = 1 / (1 + exp(slope x - threshold k)).
    `low`, `high`: the judge scores it was fitted on; `items`: on how many. `note`: what to know about this fit, or "".
    """

    method: str
    parameters: Mapping[str, Any]
    low: float
    high: float
    items: int
    note: str = ""

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Expected expert score (n,) of judge scores `x` (n,), scale units; not cut at the ends of the scale."""
        x, p = np.asarray(x, dtype=float), self.parameters
        if self.method == "shift":
            return x + p["shift"]
        if self.method == "linear":
            return p["intercept"] + p["slope"] * x
        if self.method == "isotonic":
            return np.where(np.isnan(x), np.nan, np.interp(x, p["x"], p["y"]))
        return self.distribution(x) @ np.asarray(p["values"], dtype=float)

    def distribution(self, x: np.ndarray) -> np.ndarray:
        """P(expert level) (n, values) of judge scores `x` (n,); ordinal maps only."""
        p = self.parameters
        if self.method != "ordinal":
            raise InputError(f"a {self.method} map gives no distribution; calibrate with method 'ordinal'")
        x = np.asarray(x, dtype=float)
        below = expit(np.asarray(p["thresholds"], dtype=float) - p["slope"] * x[:, None])
        edges = np.column_stack([np.zeros(len(x)), below, np.ones(len(x))])
        found = np.zeros((len(x), len(p["values"])))
        found[:, np.searchsorted(p["values"], p["used"])] = np.diff(edges, axis=1)
        return np.where(np.isnan(x)[:, None], np.nan, found)

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": self.method, "parameters": dict(self.parameters), "low": self.low, "high": self.high,
            "items": self.items, "note": self.note,
        }  # fmt: skip


def method_for(cases: int) -> str:
    """The map that so many labelled cases can carry: shift up to 25, linear up to 200, isotonic beyond.

    >>> method_for(25), method_for(26), method_for(201)
    ('shift', 'linear', 'isotonic')
    """
    return "shift" if cases <= SHIFT_UP_TO else "linear" if cases <= LINEAR_UP_TO else "isotonic"


def why_unfit(method: str, x: np.ndarray, shares: np.ndarray | None) -> str | None:
    """Why no map of this kind can be fitted on these judge scores, or None."""
    if len(x) < 2:
        return f"{len(x)} labelled item(s)"
    if np.ptp(x) == 0:
        return f"the judge is constant ({x[0]:g})"
    if method == "ordinal" and shares is None:
        return "the experts' scores lie on no scale of evenly spaced levels"
    return None


def fit_map(
    method: str,
    x: np.ndarray,
    y: np.ndarray,
    shares: np.ndarray | None = None,
    values: Sequence[float] | np.ndarray | None = None,
) -> ScoreMap:
    """Fit one map by least squares (ordinal: maximum likelihood), each item with weight 1.

    `x`, `y` (items,): judge score and mean of the experts, complete. For `ordinal` also `values` (L,), the levels that
    experts may give, rising, and `shares` (items, L), rows summing to 1: which share of an item's experts gave which.
    Slopes are held at 0 or above: a judge that runs against the experts gets a constant map and a note.
    Ordinal: proportional odds (McCullagh 1980). Isotonic: pool adjacent violators, as scikit-learn's.
    Raises InputError for an unknown method and where `why_unfit` has a reason.

    >>> fit_map("linear", np.array([1.0, 2, 3]), np.array([2.0, 2.5, 3.0])).parameters
    {'intercept': 1.5, 'slope': 0.5}
    """
    if method not in METHODS:
        raise InputError(f"unknown calibration method '{method}'; known: {', '.join(METHODS)}")
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if reason := why_unfit(method, x, shares):
        raise InputError(f"no {method} map: {reason}")
    note = ""
    parameters: dict[str, Any]
    if method == "shift":
        parameters = {"shift": float((y - x).mean())}
    elif method == "linear":
        slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
        note = "" if slope > 0 or np.ptp(y) == 0 else f"least-squares slope {slope:.3g}: {FALLS}"
        slope = max(slope, 0.0)
        parameters = {"intercept": float(y.mean() - slope * x.mean()), "slope": slope}
    elif method == "isotonic":
        parameters = _isotonic(x, y)
        note = FALLS if len(parameters["x"]) == 2 and np.ptp(parameters["y"]) == 0 and np.ptp(y) > 0 else ""
    else:
        parameters, note = _ordinal(x, np.asarray(shares, dtype=float), np.asarray(values, dtype=float))
    return ScoreMap(method, parameters, float(x.min()), float(x.max()), len(x), note)


def _isotonic(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    at, place, count = np.unique(x, return_inverse=True, return_counts=True)
    fitted = isotonic_regression(np.bincount(place, y) / count, weights=count.astype(float)).x
    # Only the two ends of each flat stretch carry information.
    step = np.diff(fitted) != 0
    corner = np.concatenate([[True], step]) | np.concatenate([step, [True]])
    return {"x": at[corner].tolist(), "y": fitted[corner].tolist()}


def _ordinal(x: np.ndarray, shares: np.ndarray, values: np.ndarray) -> tuple[dict[str, Any], str]:
    """Parameters on the scale of `x`; a level that no expert gave has probability 0 and no threshold."""
    used = values[shares.sum(axis=0) > 0]
    base = {"used": used.tolist(), "values": values.tolist()}
    if len(used) == 1:
        return {"slope": 0.0, "thresholds": [], **base}, ""
    at, place = np.unique(x, return_inverse=True)
    counts = np.zeros((len(at), len(used)))
    np.add.at(counts, place, shares[:, shares.sum(axis=0) > 0])
    centre, spread = x.mean(), x.std()
    loss = _ordinal_loss((at - centre) / spread, counts / counts.sum())
    cuts = logit(np.cumsum(counts.sum(axis=0) / counts.sum())[:-1])
    start = np.concatenate([[0.5, cuts[0]], np.log(np.maximum(np.diff(cuts), 1e-6))])
    limits = [(0.0, None)] + [(None, None)] * (len(start) - 1)
    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits, options=options)
    free = np.where((found.x == 0) & (np.arange(len(start)) == 0) & (found.jac > 0), 0.0, found.jac)
    note = FALLS if found.x[0] == 0 else ""
    if np.abs(free).max() > 1e-4:
        note = "; ".join(filter(None, (note, "the fit of the thresholds did not converge")))
    slope = float(found.x[0] / spread)
    return {"slope": slope, "thresholds": (_cuts(found.x) + slope * centre).tolist(), **base}, note


def _cuts(theta: np.ndarray) -> np.ndarray:
    return theta[1] + np.concatenate([[0.0], np.cumsum(np.exp(theta[2:]))])


def _ordinal_loss(z: np.ndarray, weight: np.ndarray) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Mean negative log likelihood with its gradient in (slope, first threshold, log gaps); `weight` (n, L) sums to 1.

    log P(level k) = log F(u) + log F(-l) + log(1 - exp(l - u)) with u, l the thresholds above and below, which stays
    finite far out in the tails.
    """
    edge = np.full((len(z), 1), np.inf)

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        slope, cuts = theta[0], _cuts(theta)
        inner = cuts - slope * z[:, None]
        upper, lower = np.hstack([inner, edge]), np.hstack([-edge, inner])
        gap = np.concatenate([[np.inf], np.exp(theta[2:]), [np.inf]])
        log_p = log_expit(upper) + log_expit(-lower) + np.log(-np.expm1(-gap))
        with np.errstate(over="ignore"):
            ratio = 1 / np.expm1(gap)
        up, down = weight * (expit(-upper) + ratio), weight * (expit(lower) + ratio)
        at_cut = up[:, :-1] - down[:, 1:]  # d log likelihood / d threshold, per row
        by_cut = at_cut.sum(axis=0)
        later = np.cumsum(by_cut[::-1])[::-1]
        gradient = np.concatenate([[-(at_cut.sum(axis=1) @ z)], [later[0]], np.exp(theta[2:]) * later[1:]])
        value = -float((weight * log_p).sum()) + RIDGE / 2 * slope * slope
        gradient = -gradient
        gradient[0] += RIDGE * slope
        return value, gradient

    return loss
