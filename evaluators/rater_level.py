"""A second level of resampling: other experts as well as other cases.

Intervals that redraw cases only speak of these very experts. For statistics against the panel mean the experts are
redrawn too, with replacement, under the same draws of cases. That is never done for agreement among experts (alpha,
ICC, leave-one-out): an expert paired with himself agrees perfectly. There the experts are left out one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri
from scipy.stats import t as student

from .bootstrap import BLOCK, FEWEST_CLUSTERS, Estimate, cluster_weights, estimate, point
from .ceiling import RANKS
from .judge_cell import LEAVE_ONE_OUT, LEVEL_STATISTICS, JudgeCell, item_codes
from .panel_cell import PanelCell
from .ratings import Panel
from .statistics import SLACK, moment_features, moment_statistics, ratio

POPULATIONS = {"results": "new cases, these experts", "experts_like_these": "new cases, experts like these"}
REDRAWN = tuple(
    f"item.{name}"
    for name in (
        *("bias", "mae", "rmse", "within_0.5", "within_1", "pearson", "spearman", "ccc"),
        *("icc_1", "icc_a1", "icc_c1", "loa_low", "loa_high", "slope"),
    )
)
LINEAR = ("item.bias", "item.loa_low", "item.loa_high")  # these move as much as the mean of the experts does
FEWEST_FOR_JACKKNIFE = 4  # with fewer experts the values with each left out stand instead of an interval
FEW_EXPERTS = 10
AT_ONCE = 2**17  # (code, resample) pairs that are held at once


@dataclass(frozen=True)
class RaterLevel:
    """Results for "new cases, experts like these", beside the cases-only ones of the same name.

    `experts`: how many there are. `results`: the value with the wider interval. `without_rater`: expert -> statistic ->
    value with that expert left out of everything, for the statistics whose experts are not redrawn.
    """

    experts: int
    results: Mapping[str, Estimate]
    without_rater: Mapping[str, Mapping[str, float | None]]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "population": POPULATIONS["experts_like_these"],
            "experts": self.experts,
            "results": {name: found.to_dict() for name, found in self.results.items()},
            "without_rater": {rater: dict(values) for rater, values in self.without_rater.items()},
            "notes": list(self.notes),
        }


def judge_level(
    panel: Panel,
    built: JudgeCell,
    cases_only: Mapping[str, Estimate],
    draws: Mapping[str, np.ndarray],
    seed: int,
    alpha: float,
) -> RaterLevel:
    """The second level for one judge on one dimension.

    `cases_only` and `draws`: results and resamples of `built` with the experts held fixed. Redrawn: bias, MAE, RMSE,
    within, Pearson, CCC, ICC and Bland-Altman against the panel mean, and Spearman. Left out one at a time: QWK, alpha,
    AC2 and all leave-one-out results.

    Some experts are drawn twice, so the mean rests on fewer different ones: its error is larger and correlations are
    smaller than in any real panel of this size. The mean of that effect is taken out of the draws. And they vary less
    than new experts do; bias and limits of agreement are `stretched` for it. (200 panels of the simulation in
    tests/speed/coverage.py: with three experts bias covers in 0.94 instead of 0.79, with six in 0.95 instead of 0.91.
    Stretched, correlations, RMSE and shares would cover in 0.97 to 1.00, so they stay as they are. So does MAE: not
    stretched it covers in 0.83 where the judge is biased, in 0.97 where it is not.)
    """
    refused = _refusal(built)
    alone = [name for name in cases_only if name in LEVEL_STATISTICS or name.startswith(LEAVE_ONE_OUT)]
    alone = [name for name in alone if name not in RANKS]
    without = {} if refused else _left_out(panel, built, alone)
    found = {}
    wider = {} if refused or not built.item.n else redrawn_experts(panel, built, len(draws["item.mae"]), seed)
    for name in REDRAWN:
        known = cases_only[name]
        found[name] = _bare(known, refused)
        if not refused and known.value is not None:
            both = np.isfinite(wider[name]) & np.isfinite(draws[name])
            shift = float(np.mean((wider[name] - draws[name])[both])) if both.any() else 0.0
            drawn = wider[name] - shift
            if name in LINEAR:
                drawn = stretched(known.value, drawn, draws[name], len(built.names), built.clusters, alpha)
            found[name] = estimate(known.value, known.n, drawn, built.clusters, alpha)
    for name in alone:
        left = [values[name] for values in without.values()]
        found[name] = _jackknifed(cases_only[name], left, draws[name], built.clusters, alpha, refused)
    return RaterLevel(len(built.names), found, without, _notes(len(built.names), refused))


def panel_level(
    panel: Panel, built: PanelCell, cases_only: Mapping[str, Estimate], draws: Mapping[str, np.ndarray], alpha: float
) -> RaterLevel:
    """The second level for agreement among the experts: each left out in turn, none ever paired with himself."""
    refused = _refusal(built)
    without = {} if refused else _left_out(panel, built, list(cases_only))
    found = {
        name: _jackknifed(
            known, [values[name] for values in without.values()], draws[name], built.clusters, alpha, refused
        )
        for name, known in cases_only.items()
    }
    return RaterLevel(len(built.names), found, without, _notes(len(built.names), refused))


def stretched(
    value: float, wider: np.ndarray, draws: np.ndarray, experts: int, clusters: int, alpha: float
) -> np.ndarray:
    """`wider` (resamples,), over cases and experts, with the spread that a mean of so few experts has: (resamples,).

    `draws` (resamples,): over the same cases with the experts fixed. R experts drawn from R vary (R - 1) / R as much as
    R new ones: the part of the experts, `wider` - `draws`, grows by sqrt(R / (R - 1)). A spread known from R of them
    asks for Student's t: all then grows about `value` by t / z, with the degrees of freedom of Satterthwaite (1946).
    For statistics that are linear in the experts' biases; for others it would be too much.
    """
    spread = draws + np.sqrt(experts / (experts - 1)) * (wider - draws)
    there = np.isfinite(spread)
    over, both = (float(np.var(v[there])) if there.any() else 0.0 for v in (draws, spread))
    if both <= 0 or clusters < 2:
        return spread
    freedom = _freedom(max(both - over, 0.0), over, experts, clusters)
    return value + float(student.ppf(1 - alpha / 2, freedom) / ndtri(1 - alpha / 2)) * (spread - value)


def rater_weights(raters: int, block: int, seed: int) -> np.ndarray:
    """Counts (raters, 64) of the block-th 64 draws of `raters` experts with replacement."""
    draw = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(block, raters))))
    picks = draw.integers(0, raters, size=(BLOCK, raters))
    return np.stack([np.bincount(pick, minlength=raters) for pick in picks], axis=1).astype(float)


def redrawn_experts(panel: Panel, built: JudgeCell, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Statistics of the judge against the mean of redrawn experts over redrawn cases: arrays (resamples,) by name.

    Each resample takes the clusters of `bootstrap.resample` under this seed and as many experts as there are, with
    replacement, the same experts for every judge and dimension that they all rated. An item that none of the experts
    drawn had rated is not in that resample. Ranks are exact.
    """
    x, y = panel.judges[built.d, :, built.j], panel.experts[built.d]
    y = y[:, np.isin(panel.raters, built.names)]
    use = built.kept & np.isfinite(x) & np.isfinite(y).any(axis=1)
    x, y, cluster = x[use], y[use], panel.cluster[use]
    code, first = item_codes(np.column_stack([x, y]))
    x, y = x[first, None], y[first]
    codes = csr_array((np.ones(len(code)), (code, cluster)), shape=(len(first), panel.n_clusters))
    there, centre = np.isfinite(y), (panel.levels[0] + panel.levels[-1]) / 2
    given = np.where(there, y - centre, 0.0)
    width = int(np.clip(AT_ONCE // len(first), 1, BLOCK))
    found: dict[str, list[np.ndarray]] = {}
    for block in range(-(-resamples // BLOCK)):
        clusters, experts = cluster_weights(panel.n_clusters, block, seed), rater_weights(y.shape[1], block, seed)
        for start in range(0, min(BLOCK, resamples - block * BLOCK), width):
            part = slice(start, start + width)
            counts, chosen = codes @ clusters[:, part].astype(float), experts[:, part]
            with np.errstate(invalid="ignore"):
                target = centre + (given @ chosen) / (there @ chosen)
            features = moment_features(np.broadcast_to(x, target.shape), target, centre)
            statistics = moment_statistics(np.einsum("fcb,cb->fb", features, counts))
            statistics["spearman"] = _spearman(x, target, counts)
            for name, values in statistics.items():
                found.setdefault(f"item.{name}", []).append(values)
    return {name: np.concatenate(found[name])[:resamples] for name in REDRAWN}


def _spearman(x: np.ndarray, target: np.ndarray, counts: np.ndarray) -> np.ndarray:
    weights = np.where(np.isfinite(target), counts, 0.0)
    a = _middle_ranks(np.broadcast_to(x, target.shape), weights)
    b = _middle_ranks(np.nan_to_num(target), weights)
    squares = [np.einsum("cb,cb,cb->b", weights, v, v) for v in (a, b)]
    return ratio(np.einsum("cb,cb,cb->b", weights, a, b), np.sqrt(squares[0]) * np.sqrt(squares[1]))


def _middle_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mid-ranks, minus their mean, of each column of `values` (codes, b) where a code stands for `weights` items."""
    order = np.argsort(values, axis=0, kind="stable")
    ordered, weight = np.take_along_axis(values, order, axis=0), np.take_along_axis(weights, order, axis=0)
    upto = np.cumsum(weight, axis=0)
    edge = np.ones((1, values.shape[1]), dtype=bool)
    step = np.diff(ordered, axis=0) > SLACK
    below = np.maximum.accumulate(np.where(np.concatenate([edge, step]), upto - weight, 0.0), axis=0)
    reached = np.where(np.concatenate([step, edge]), upto, np.inf)
    above = np.minimum.accumulate(reached[::-1], axis=0)[::-1]
    ranks = np.empty_like(weights)
    np.put_along_axis(ranks, order, (below + above - upto[-1]) / 2, axis=0)
    return ranks


def _left_out(panel: Panel, built: JudgeCell | PanelCell, names: list[str]) -> dict[str, dict[str, float | None]]:
    found = {}
    for rater in built.names:
        experts = panel.experts.copy()
        experts[:, :, panel.raters.index(rater)] = np.nan
        fewer = replace(panel, experts=experts)
        if isinstance(built, JudgeCell):
            cell = JudgeCell(fewer, built.d, built.j, built.kept).cell
        else:
            cell = PanelCell(fewer, built.d, each_left_out=False).cell
        values = point([cell], panel.n_clusters)[0]
        found[rater] = {k: values[k] if np.isfinite(values.get(k, np.nan)) else None for k in names}
    return found


def _jackknifed(
    known: Estimate, left: list[float | None], draws: np.ndarray, clusters: int, alpha: float, refused: str | None
) -> Estimate:
    """Value -+ t SE, where the squared SE adds the variance over cases (bootstrap) and experts (delete-one jackknife).

    Degrees of freedom after Satterthwaite (1946). What an expert's single ratings scatter counts in both parts, so
    the interval is rather too long.
    """
    values, drawn = [v for v in left if v is not None], draws[np.isfinite(draws)]
    experts = len(left)
    if refused or known.value is None:
        return _bare(known, refused)
    if clusters < FEWEST_CLUSTERS:
        return estimate(known.value, known.n, draws, clusters, alpha)
    if experts < FEWEST_FOR_JACKKNIFE:
        return _bare(known, f"{experts} experts; the values with each of them left out stand instead")
    if len(values) < experts or len(drawn) < 2:
        return _bare(known, "undefined without one of the experts")
    among = (experts - 1) / experts * float(np.sum((np.array(values) - np.mean(values)) ** 2))
    over = float(np.var(drawn, ddof=1))
    if among + over <= 0:
        return Estimate(known.value, known.n, known.value, known.value)
    freedom = _freedom(among, over, experts, clusters)
    half = float(student.ppf(1 - alpha / 2, freedom)) * (among + over) ** 0.5
    return Estimate(known.value, known.n, known.value - half, known.value + half)


def _freedom(among: float, over: float, experts: int, clusters: int) -> float:
    """Degrees of freedom of a sum of the variances among `experts` and over `clusters` (Satterthwaite 1946)."""
    return (among + over) ** 2 / (among**2 / (experts - 1) + over**2 / (clusters - 1))


def _bare(known: Estimate, why: str | None) -> Estimate:
    """The value without an interval; a value that is not there keeps its own reason."""
    return Estimate(known.value, known.n, reason=known.reason if known.value is None else f"no interval: {why}")


def _refusal(built: JudgeCell | PanelCell) -> str | None:
    if not built.identity:
        return "the experts have no identity, so they cannot be redrawn"
    if not built.independent:
        return "the experts' scores were adjudicated and say nothing about other experts"
    return None if len(built.names) > 1 else f"{len(built.names)} expert(s); other experts take at least two"


def _notes(experts: int, refused: str | None) -> tuple[str, ...]:
    if refused:
        return (refused,)
    if experts < FEW_EXPERTS:
        return (
            f"{experts} experts: intervals for experts like these take Student's t for bias and limits of agreement; "
            f"those of other errors can be too short below {FEW_EXPERTS}",
        )
    return ()
