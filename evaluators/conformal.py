"""Conformal intervals for scores: from how far scores lay from the experts' to an interval that covers a new one.

Exchangeability is per cluster (case, patient), so every quantile counts clusters, not items. For a new cluster the
interval covers a random one of its items (per_case "one", "pooled") or all of them (per_case "largest") with
probability at least 1 - alpha, whatever the judge is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..judge.errors import InputError

PER_CASE = ("one", "pooled", "largest")
NEAR = 1e-9  # counts are sums of shares and alpha (n + 1) is a product of floats: equal means equal to this
EVERYBODY = ""  # the stratum where there are no subgroups


@dataclass(frozen=True)
class Tail:
    """One side's residuals as a step function; only the steps that a draw can choose are kept.

    `sizes` rising; a draw u in (0, 1] gives the last size whose `limits` is below u, u = 1 the plain quantile.
    """

    sizes: tuple[float, ...]
    limits: tuple[float, ...]

    @property
    def quantile(self) -> float:
        """The ceil((n + 1)(1 - alpha))-th smallest residual."""
        return self.sizes[-1]

    def widths(self, draws: np.ndarray) -> np.ndarray:
        """Half widths (n,) for draws (n,); never empty: the smallest size where a draw would leave nothing."""
        place = np.searchsorted(np.array(self.limits), draws, side="left") - 1
        return np.array(self.sizes)[np.maximum(place, 0)]


@dataclass(frozen=True)
class Stratum:
    """The tails of one subgroup, or the `reason` why it has none; `cases` are clusters. `lower` None: symmetric."""

    cases: int
    items: int
    upper: Tail | None
    lower: Tail | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Conformal:
    """A fitted conformal predictor: strata by subgroup name ("" where there are none).

    `scale`: its two ends; `normalised`: fitted with a `spread`.
    """

    alpha: float
    scale: tuple[float, float]
    signed: bool
    randomised: bool
    per_case: str
    normalised: bool
    strata: Mapping[str, Stratum]

    def intervals(
        self,
        predicted: Sequence[float] | np.ndarray,
        group: Sequence[str] | None = None,
        spread: Sequence[float] | np.ndarray | None = None,
        seed: int = 0,
    ) -> tuple[np.ndarray, np.ndarray, list[str | None]]:
        """Lower ends (n,), upper ends (n,), and per item None or why its interval is the whole scale.

        `predicted` (n,): as in fitting; `group` and `spread` are needed if the fit had them. Ends are cut at the
        scale, where all targets lie. `seed` matters for randomised intervals only.
        """
        predicted = np.asarray(predicted, dtype=float)
        n = len(predicted)
        groups = _groups(group, n)
        if (group is None) != (EVERYBODY in self.strata):
            raise InputError("subgroups must be given for new scores exactly if they were given for the labelled ones")
        if (spread is not None) != self.normalised:
            raise InputError("spread must be given for new scores exactly if it was given for the labelled ones")
        size = _spread(spread, n)
        draws = 1.0 - np.random.default_rng(seed).random(n) if self.randomised else np.ones(n)
        low, high = np.full(n, float(self.scale[0])), np.full(n, float(self.scale[1]))
        reasons: list[str | None] = [None] * n
        for name in np.unique(groups):
            here = np.flatnonzero(groups == name)
            stratum = self.strata.get(str(name))
            if stratum is None or stratum.upper is None:
                why = stratum.reason if stratum else _too_few(str(name), 0, self.alpha, self.signed)
                for place in here:
                    reasons[place] = why
                continue
            up = down = stratum.upper.widths(draws[here])
            if stratum.lower:
                down = stratum.lower.widths(draws[here])
            low[here] = np.clip(predicted[here] - down * size[here], *self.scale)
            high[here] = np.clip(predicted[here] + up * size[here], *self.scale)
        low[np.isnan(predicted)] = high[np.isnan(predicted)] = np.nan
        return low, high, reasons

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""

        def tail(side: Tail | None) -> Any:
            return None if side is None else {"sizes": list(side.sizes), "limits": list(side.limits)}

        strata = {name: vars(s) | {"upper": tail(s.upper), "lower": tail(s.lower)} for name, s in self.strata.items()}
        return {
            "alpha": self.alpha, "scale": list(self.scale), "signed": self.signed, "randomised": self.randomised,
            "per_case": self.per_case, "normalised": self.normalised, "strata": strata,
        }  # fmt: skip

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> Conformal:
        def tail(side: Mapping[str, Any] | None) -> Tail | None:
            return None if side is None else Tail(tuple(side["sizes"]), tuple(side["limits"]))

        strata = {
            name: Stratum(s["cases"], s["items"], tail(s["upper"]), tail(s["lower"]), s["reason"])
            for name, s in row["strata"].items()
        }
        rest = {name: row[name] for name in ("alpha", "signed", "randomised", "per_case", "normalised")}
        return Conformal(scale=tuple(row["scale"]), strata=strata, **rest)


def fewest_cases(alpha: float, signed: bool = False) -> int:
    """Clusters without which the interval at this level is the whole scale.

    >>> fewest_cases(0.1), fewest_cases(0.05), fewest_cases(0.1, signed=True)
    (9, 19, 19)
    """
    share = alpha / 2 if signed else alpha
    return int(np.ceil(1 / share - 1 - NEAR))


def conformal_quantile(residuals: Sequence[float] | np.ndarray, alpha: float) -> float | None:
    """The ceil((n + 1)(1 - alpha))-th smallest residual (Vovk et al. 2005); None if n is too small for one.

    >>> conformal_quantile(range(9), 0.1), conformal_quantile(range(8), 0.1), conformal_quantile(range(19), 0.1)
    (8.0, None, 17.0)
    """
    _check(alpha)
    ordered = np.sort(np.asarray(residuals, dtype=float))
    rank = int(np.ceil((len(ordered) + 1) * (1 - alpha) - NEAR))
    return float(ordered[rank - 1]) if rank <= len(ordered) else None


def fit_conformal(
    predicted: Sequence[float] | np.ndarray,
    target: Sequence[float] | np.ndarray,
    alpha: float = 0.1,
    scale: tuple[float, float] = (0.0, 5.0),
    *,
    cluster: Sequence[Any] | np.ndarray | None = None,
    group: Sequence[str] | None = None,
    spread: Sequence[float] | np.ndarray | None = None,
    signed: bool = False,
    randomised: bool = False,
    per_case: Literal["one", "pooled", "largest"] = "pooled",
    seed: int = 0,
) -> Conformal:
    """Split conformal intervals from labelled items that no map was fitted on (or cross-fitted scores).

    `predicted`, `target` (items,): score and experts' mean; items that lack either are not used. `alpha`: 0.1 is 90 %.
    `cluster` (items,): case or patient; default every item its own. Of several items per cluster "one" is drawn, or
    "pooled" counts each 1 / (items of its cluster) (Lee, Barber and Willett 2023), or the "largest" residual
    stands for the cluster. `group` (items,): subgroups that get their own quantile (Mondrian, Vovk 2005); one with
    fewer clusters than `fewest_cases` gets the whole scale and a reason. `spread` (items,) > 0: expected size of the
    error, such as the SD of the judge's repeats; intervals are then wide where it is. `signed`: own quantile for each
    side at alpha / 2, for a judge with a bias. `randomised`: smoothed for residuals with ties (whole-number scores),
    which else cover too much; for scores whose residuals take few values, since new ones are taken to lie on those.

    Raises InputError on shapes, alpha outside (0, 1), non-positive spread, unknown per_case.
    """
    _check(alpha)
    if per_case not in PER_CASE:
        raise InputError(f"per_case must be one of {', '.join(PER_CASE)}; got '{per_case}'")
    x, y = np.asarray(predicted, dtype=float), np.asarray(target, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"predicted and target must be vectors of one length; got shapes {x.shape} and {y.shape}")
    groups, size = _groups(group, len(x)), _spread(spread, len(x))
    unit = np.arange(len(x)) if cluster is None else np.asarray(cluster)
    if len(unit) != len(x):
        raise InputError(f"{len(unit)} clusters are given for {len(x)} items")
    there = np.isfinite(x) & np.isfinite(y)
    residual = (y - x) / size
    names = [EVERYBODY] if group is None else sorted(set(groups.tolist()))
    strata = {}
    for name in names:
        kept = np.flatnonzero(there & (groups == name))
        _, place = np.unique(unit[kept], return_inverse=True)
        cases = int(place.max()) + 1 if len(kept) else 0
        if cases < fewest_cases(alpha, signed):
            strata[name] = Stratum(cases, len(kept), None, reason=_too_few(name, cases, alpha, signed))
            continue
        own = residual[kept]
        if signed:
            # One draw decides which item of a cluster stands on either side.
            upper, lower = (_tail(side, place, cases, alpha / 2, per_case, seed) for side in (own, -own))
            strata[name] = Stratum(cases, len(kept), upper, lower)
        else:
            strata[name] = Stratum(cases, len(kept), _tail(np.abs(own), place, cases, alpha, per_case, seed))
    ends, normalised = (float(scale[0]), float(scale[1])), spread is not None
    return Conformal(alpha, ends, signed, randomised, per_case, normalised, strata)


def distribution_sd(chances: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """SD (n,) of distributions `chances` (n, L) over `levels` (L,), scale units; NaN where there is none."""
    at = np.asarray(levels, dtype=float) - np.mean(levels)
    chances = np.asarray(chances, dtype=float)
    return np.sqrt(np.maximum(chances @ at**2 - (chances @ at) ** 2, 0.0))


def cv_plus(
    by_fold: np.ndarray,
    fold: Sequence[int] | np.ndarray,
    residuals: Sequence[float] | np.ndarray,
    alpha: float = 0.1,
    scale: tuple[float, float] = (0.0, 5.0),
    cluster: Sequence[Any] | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """CV+ intervals (Barber et al. 2021, eq. 11) for few labels: lower and upper ends (n,), cut at the scale.

    `by_fold` (n, folds): scores of new items by the map fitted without each fold; `fold`, `residuals` (items,): of each
    labelled item its fold and |target - score by the map without it|. Covers at least 1 - 2 alpha always and about
    1 - alpha in practice. Items of one `cluster` share its weight. Below `fewest_cases` the whole scale.
    """
    _check(alpha)
    by_fold, size = np.asarray(by_fold, dtype=float), np.asarray(residuals, dtype=float)
    of_item = np.asarray(fold, dtype=np.int64)
    if by_fold.ndim != 2 or size.shape != of_item.shape or (len(size) and of_item.max() >= by_fold.shape[1]):
        raise InputError("by_fold must be (items, folds), fold and residuals vectors of one length with fold < folds")
    unit = np.arange(len(size)) if cluster is None else np.asarray(cluster)
    _, place, count = np.unique(unit, return_inverse=True, return_counts=True)
    low, high = np.full(len(by_fold), float(scale[0])), np.full(len(by_fold), float(scale[1]))
    if len(count) < fewest_cases(alpha):
        return low, high
    weight, wanted = 1.0 / count[place], (1 - alpha) * (len(count) + 1) - NEAR
    for start in range(0, len(by_fold), 1000):
        rows = slice(start, start + 1000)
        centre = by_fold[rows][:, of_item]
        high[rows] = np.clip(_weighted_rank(centre + size, weight, wanted), *scale)
        low[rows] = np.clip(-_weighted_rank(size - centre, weight, wanted), *scale)
    return low, high


def _weighted_rank(values: np.ndarray, weight: np.ndarray, wanted: float) -> np.ndarray:
    """Per row the smallest value at which the weight of those up to it reaches `wanted`."""
    order = np.argsort(values, axis=1)
    place = (np.cumsum(weight[order], axis=1) < wanted).sum(axis=1)
    return np.take_along_axis(values, np.take_along_axis(order, place[:, None], axis=1), axis=1)[:, 0]


def _tail(size: np.ndarray, place: np.ndarray, cases: int, alpha: float, per_case: str, seed: int) -> Tail:
    """Steps of p(s) = (weight above s + u (weight at s + 1)) / (cases + 1) > alpha, which u chooses the last of."""
    weight = 1.0 / np.bincount(place)[place]
    if per_case == "one":
        shuffled = np.random.default_rng(seed).permutation(len(place))
        _, first = np.unique(place[shuffled], return_index=True)
        size, weight = size[shuffled[first]], np.ones(cases)
    elif per_case == "largest":
        largest = np.full(cases, -np.inf)
        np.maximum.at(largest, place, size)
        size, weight = largest, np.ones(cases)
    at, which = np.unique(np.round(size, 12), return_inverse=True)
    equal = np.bincount(which, weight)
    above = cases - np.cumsum(equal)
    limits = (alpha * (cases + 1) - above + NEAR) / (equal + 1)
    # Steps that every draw reaches matter only by their last, those that no draw reaches not at all.
    kept = np.flatnonzero(limits < 1)
    kept = kept[max(int((limits[kept] <= 0).sum()) - 1, 0) :]
    return Tail(tuple(at[kept].tolist()), tuple(limits[kept].tolist()))


def _check(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise InputError(f"alpha must lie between 0 and 1 (0.1 gives 90 % intervals); got {alpha}")


def _too_few(name: str, cases: int, alpha: float, signed: bool) -> str:
    who = f"subgroup '{name}' has" if name != EVERYBODY else "there are"
    need = fewest_cases(alpha, signed)
    return f"{who} {cases} labelled cases; {need} are needed at {1 - alpha:g}: the interval is the whole scale"


def _groups(group: Sequence[str] | None, n: int) -> np.ndarray:
    if group is None:
        return np.full(n, EVERYBODY, dtype=object)
    found = np.array([str(name) for name in group], dtype=object)
    if len(found) != n:
        raise InputError(f"{len(found)} subgroups are given for {n} items")
    if (found == EVERYBODY).any():
        raise InputError("a subgroup has no name; name it, such as 'unknown'")
    return found


def _spread(spread: Sequence[float] | np.ndarray | None, n: int) -> np.ndarray:
    if spread is None:
        return np.ones(n)
    size = np.asarray(spread, dtype=float)
    if size.shape != (n,) or not (size > 0).all():
        raise InputError(f"spread must hold {n} positive numbers")
    return size
