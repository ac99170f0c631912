"""Agreement of one prediction with one target, from weighted sums, for many weightings at once.

Every statistic here is a function of sums over items of weight times feature. A weighting is one resample (or the
data as they are: weights 1), so point estimate and interval come from the same lines. Arrays end in the axis of
the weightings, written B. Undefined is NaN inside this package and None with a reason outside (`bootstrap.Estimate`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import kendalltau

from ..judge.errors import InputError

HALF_WIDTH = 1.96  # limits of agreement: bias -+ 1.96 SD, the convention of Bland and Altman
SLACK = 1e-9  # means of three ratings sit exactly on 1/3, 2/3 and 0.5: float noise must not move them over a limit
TINY = 1e-12  # a variance below this (scale units squared) is that of a constant
MOMENTS = 11  # rows of `moment_features`
MOST_TABULATED = 200  # distinct values up to which a joint table is quicker than sorting


def moment_features(x: np.ndarray, t: np.ndarray, centre: float) -> np.ndarray:
    """Features per item whose weighted sums carry all moment statistics.

    `x`, `t` (items,): prediction and target, NaN where either is missing. `centre`: any value inside the scale; it
    keeps the sums of squares small. Returns (MOMENTS, items), 0 where a value is missing.
    """
    there = np.isfinite(x) & np.isfinite(t)
    x, t = np.where(there, x - centre, 0.0), np.where(there, t - centre, 0.0)
    d = x - t
    size = np.abs(d)
    return np.stack(
        [
            there,
            x,
            t,
            x * x,
            t * t,
            x * t,
            d * d,
            size,
            there & (size <= 0.5 + SLACK),
            there & (size <= 1.0 + SLACK),
            there & (size <= SLACK),
        ]
    ).astype(np.float64)


def moment_statistics(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of the differences, correlation, concordance, ICC of two columns and Bland-Altman.

    `sums` (MOMENTS, ..., B): weighted sums of `moment_features`. Returns arrays (..., B) in scale units:
    bias (prediction minus target), mae, rmse, exact, within_0.5, within_1 (shares), pearson, ccc (Lin 1989, moments
    divided by n), icc_1, icc_a1, icc_c1 (McGraw and Wong 1996, two columns), loa_low, loa_high (bias -+ 1.96 SD with
    n - 1, Bland and Altman 1986), slope (of the difference on the mean of both).
    """
    n, sx, st, sxx, stt, sxt, sdd, size, near, within, same = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        mx, mt = sx / n, st / n
        vx, vt, cov = sxx / n - mx * mx, stt / n - mt * mt, sxt / n - mx * mt
        vx, vt = np.where(vx < TINY, 0.0, vx), np.where(vt < TINY, 0.0, vt)
        bias, mean_square = mx - mt, sdd / n
        var_d = np.maximum(mean_square - bias * bias, 0.0)
        var_sum = np.maximum(vx + vt + 2 * cov, 0.0)  # four times the variance of the mean of both
        unbias = n / np.where(n > 1, n - 1, np.nan)
        sd = np.sqrt(var_d * unbias)
        rows, error, within_rows = var_sum * unbias / 2, var_d * unbias / 2, mean_square / 2
        columns = n * bias * bias / 2
        spread = var_sum > TINY
        total = vx + vt + bias * bias
        return {
            "bias": bias,
            "mae": size / n,
            "rmse": np.sqrt(mean_square),
            "exact": same / n,
            "within_0.5": near / n,
            "within_1": within / n,
            "pearson": ratio(cov, np.sqrt(vx * vt)),
            "ccc": ratio(2 * cov, np.where(total > TINY, total, 0.0)),
            "icc_1": ratio(rows - within_rows, rows + within_rows),
            "icc_a1": ratio(rows - error, rows + error + 2 * (columns - error) / n),
            "icc_c1": ratio(rows - error, rows + error),
            "loa_low": bias - HALF_WIDTH * sd,
            "loa_high": bias + HALF_WIDTH * sd,
            "slope": ratio(2 * (vx - vt), np.where(spread, var_sum, 0.0)),
        }


def rank_statistics(table: np.ndarray) -> dict[str, np.ndarray]:
    """Spearman (Pearson of mid-ranks) and Kendall tau-b from joint counts.

    `table` (X, T, B): weight of items whose prediction is the x-th and whose target is the t-th smallest value.
    """
    counts = table.astype(np.float64)
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    n = rows.sum(axis=0)
    # Mid-ranks minus their mean; both have mean 0 under the weights.
    rank_x = running_sum(rows.copy()) - rows / 2 - n / 2
    rank_t = running_sum(columns.copy()) - columns / 2 - n / 2
    cov = np.zeros_like(n)
    concordance = np.zeros_like(n)
    # before[t]: weight of items with a smaller prediction and a target up to the t-th.
    before = np.zeros_like(columns)
    for x, row in enumerate(counts):
        cov += rank_x[x] * np.einsum("tb,tb->b", row, rank_t)
        if x:
            # Those with a smaller target minus those with a larger one.
            concordance += np.einsum("tb,tb->b", row, before)
            concordance += np.einsum("tb,tb->b", row[1:], before[:-1])
            concordance -= rows[x] * before[-1]
        before += running_sum(row)
    var_x = np.einsum("xb,xb,xb->b", rows, rank_x, rank_x)
    var_t = np.einsum("tb,tb,tb->b", columns, rank_t, rank_t)
    pairs = n * (n - 1) / 2
    untied_x = pairs - (rows * (rows - 1)).sum(axis=0) / 2
    untied_t = pairs - (columns * (columns - 1)).sum(axis=0) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "spearman": ratio(cov, np.sqrt(var_x) * np.sqrt(var_t)),
            "kendall_tau_b": ratio(concordance, np.sqrt(untied_x) * np.sqrt(untied_t)),
        }


def weighted_quantile(weights: np.ndarray, values: np.ndarray, share: float) -> np.ndarray:
    """The `share` quantile of items repeated as `weights` (V, B) say; `values` (V,) rising. Returns (B,).

    Linear between neighbours, as numpy's default. NaN without items.

    >>> weighted_quantile(np.array([[1.0], [3.0]]), np.array([0.0, 4.0]), 0.25).tolist()
    [3.0]
    """
    upto = np.cumsum(weights, axis=0, dtype=np.float64)
    place = share * (upto[-1] - 1)
    low, high = (np.minimum((upto <= at).sum(axis=0), len(values) - 1) for at in (np.floor(place), np.ceil(place)))
    found = values[low] + (place - np.floor(place)) * (values[high] - values[low])
    return np.where(upto[-1] >= 1, found, np.nan)


def running_sum(values: np.ndarray) -> np.ndarray:
    """Cumulative sum along the first axis, in place: row by row, which numpy's own does not do in wide vectors."""
    for place in range(1, len(values)):
        values[place] += values[place - 1]
    return values


def best_constant(weights: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """What one number for every item would reach, the best one for each criterion.

    MAE by the median, RMSE by the mean, within 0.5 / 1 by the middle of the heaviest window that is twice as wide:
    max_i F(t_i + 2w) - F(t_i-). `weights` (T, B): weight of each target value; `targets` (T,) rising. It is chosen in
    hindsight on the very items it is scored on, in every resample anew: the strictest such baseline. `constant`, the
    one to show, is the lower median whatever the criterion.

    >>> best = best_constant(np.array([[3.0], [1.0], [2.0], [2.0]]), np.array([0.0, 2.0, 4.0, 5.0]))
    >>> {name: round(float(value[0]), 3) for name, value in best.items()}
    {'mae': 2.0, 'rmse': 2.121, 'within_0.5': 0.5, 'within_1': 0.5, 'constant': 2.0}
    """
    weights = weights.astype(np.float64, copy=False)
    upto = np.cumsum(weights, axis=0)
    n = upto[-1]
    # An item is as far from the median as the gaps between target values that lie between.
    distance = np.diff(targets) @ np.minimum(upto, n - upto)[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = targets @ weights / n
        square = np.maximum((targets**2) @ weights / n - mean**2, 0.0)
        return {
            "mae": distance / n,
            "rmse": np.sqrt(square),
            "within_0.5": _heaviest_window(weights, upto, targets, 1.0) / n,
            "within_1": _heaviest_window(weights, upto, targets, 2.0) / n,
            "constant": np.where(n > 0, targets[np.argmax(upto >= n / 2, axis=0)], np.nan),
        }


def _heaviest_window(weights: np.ndarray, upto: np.ndarray, targets: np.ndarray, width: float) -> np.ndarray:
    """Largest weight of the targets in [t_i, t_i + width] for any i; `upto`: cumulated weights."""
    last = np.searchsorted(targets, targets + width + SLACK, side="right") - 1
    return (upto[last] - upto + weights).max(axis=0)


def quadratic_kappa(table: np.ndarray) -> np.ndarray:
    """Cohen's kappa with quadratic weights (Cohen 1968) from counts on the full scale.

    `table` (L, L, B): one row and one column per level of the scale, used or not.
    """
    counts = table.astype(np.float64, copy=False)
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    place = np.arange(len(counts), dtype=float)
    penalty = (place[:, None] - place[None, :]) ** 2
    seen = np.einsum("ij,ijb->b", penalty, counts)
    chance = np.einsum("ib,ib->b", rows, penalty @ columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1.0 - ratio(seen * rows.sum(axis=0), chance)


def cohen_kappa(table: np.ndarray) -> np.ndarray:
    """Cohen's kappa of categories (Cohen 1960) from counts `table` (K, K, B); NaN where both use one category only.

    >>> cohen_kappa(np.array([[20.0, 5.0], [10.0, 15.0]])[:, :, None]).round(6).tolist()
    [0.4]
    """
    counts = table.astype(np.float64, copy=False)
    n = counts.sum(axis=(0, 1))
    seen = np.einsum("iib->b", counts) * n
    chance = np.einsum("ib,ib->b", counts.sum(axis=1), counts.sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return ratio(seen - chance, n * n - chance)


def ranked_probability_score(distribution: np.ndarray, ratings: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Ranked probability score per item, averaged over the experts who rated it (Epstein 1969; Murphy 1971).

    `distribution` (items, L) over `levels`, `ratings` (items, raters) with NaN for missing. Sum over levels of the
    squared distance of the cumulative distributions, in scale units: for a judge that is sure it is the absolute
    error. NaN where the judge gives no distribution or nobody rated.

    >>> sure, torn = [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]
    >>> ranked_probability_score(np.array([sure, torn]), np.array([[0.0], [1.0]]), (0, 1, 2)).tolist()
    [1.0, 0.5]
    """
    below = np.cumsum(distribution, axis=1)[:, None, :-1]
    reached = ratings[:, :, None] <= np.asarray(levels[:-1], dtype=float) + SLACK
    score = ((below - reached) ** 2).sum(axis=2)
    there = np.isfinite(ratings)
    total = np.where(there, score, 0.0).sum(axis=1)
    return np.where(there.any(axis=1), total / np.maximum(there.sum(axis=1), 1), np.nan)


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, NaN where the bottom is not positive."""
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan)


def round_half_up(scores: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Nearest level, halves upwards, kept on the scale: the stated rounding wherever a statistic needs levels.

    >>> round_half_up(np.array([0.5, 1.49, 2.5, np.nan]), (0, 1, 2, 3)).tolist()
    [1.0, 1.0, 3.0, nan]
    """
    return np.clip(np.floor(scores + 0.5 + SLACK), levels[0], levels[-1])


def joint_table(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Counts (X, T, 1) of the pairs of two complete vectors, values rising."""
    rows, row = np.unique(x, return_inverse=True)
    columns, column = np.unique(t, return_inverse=True)
    counts = np.bincount(row * len(columns) + column, minlength=len(rows) * len(columns))
    return counts.reshape(len(rows), len(columns), 1).astype(float)


def compare(x: Sequence[float] | np.ndarray, t: Sequence[float] | np.ndarray) -> dict[str, float | None]:
    """All moment and rank statistics of prediction `x` against target `t` (items,), NaN where missing.

    None where undefined. Exact whatever the number of distinct values.

    >>> round(compare([1, 2, 3, 5], [1, 2, 4, 4])["mae"], 3), compare([3, 3], [1, 2])["pearson"]
    (0.5, None)
    """
    x, t = np.asarray(x, dtype=float), np.asarray(t, dtype=float)
    if x.shape != t.shape or x.ndim != 1:
        raise InputError(f"prediction and target must be vectors of one length; got shapes {x.shape} and {t.shape}")
    centre = float(np.nanmean(t)) if np.isfinite(t).any() else 0.0
    found = {k: float(v) for k, v in moment_statistics(moment_features(x, t, centre).sum(axis=1)).items()}
    found |= exact_ranks(x, t)
    return {k: v if np.isfinite(v) else None for k, v in found.items()}


def exact_ranks(x: np.ndarray, t: np.ndarray) -> dict[str, float]:
    """Spearman and tau-b of two vectors without any grid; NaN where undefined.

    Values that are equal to 9 decimals tie, as everywhere in this package: 0.1 + 0.2 is 0.3.
    """
    there = np.isfinite(x) & np.isfinite(t)
    x, t = np.round(x[there], 9), np.round(t[there], 9)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(t) == 0:
        return {"spearman": float("nan"), "kendall_tau_b": float("nan")}
    if max(len(np.unique(x)), len(np.unique(t))) <= MOST_TABULATED:
        return {k: float(v[0]) for k, v in rank_statistics(joint_table(x, t)).items()}
    ranks = [np.unique(v, return_inverse=True, return_counts=True)[1:] for v in (x, t)]
    middle = [(np.cumsum(c) - c / 2)[i] - len(x) / 2 for i, c in ranks]
    rho = float(middle[0] @ middle[1] / np.sqrt(middle[0] @ middle[0]) / np.sqrt(middle[1] @ middle[1]))
    return {"spearman": rho, "kendall_tau_b": float(kendalltau(x, t, variant="b").statistic)}
