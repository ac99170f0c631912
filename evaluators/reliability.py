"""Reliability of a panel of raters with missing ratings: Krippendorff's alpha, Gwet's AC2, the six ICC forms.

As in `statistics`, each is a function of weighted sums of features per item, so that resamples cost no second look
at the ratings. Arrays end in the axis of the weightings, written B.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from ..judge.errors import InputError
from .statistics import SLACK, ratio, running_sum

STEPS = (1.0, 0.5, 0.25, 0.2, 0.1)
METRICS = ("nominal", "ordinal", "interval")
MOST_TABULATED = 64  # distinct values up to which alpha goes by its matrix of coincidences


def scale_values(levels: Sequence[int], scores: np.ndarray) -> np.ndarray | None:
    """All values raters could have given: the scale at the coarsest step that fits `scores`; None if no step fits.

    >>> scale_values((0, 1, 2), np.array([0, 1.5])).tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    given = np.unique(scores[np.isfinite(scores)])
    low = min(levels[0], np.floor(given.min())) if len(given) else levels[0]
    high = max(levels[-1], np.ceil(given.max())) if len(given) else levels[-1]
    for step in STEPS:
        places = (given - low) / step
        if np.all(np.abs(places - np.round(places)) < 1e-6):
            return low + step * np.arange(round((high - low) / step) + 1)
    return None


def level_counts(ratings: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many raters gave each value: (items, L) from `ratings` (items, raters) with NaN for missing."""
    return (np.abs(ratings[:, :, None] - values) < SLACK * 1000).sum(axis=1).astype(float)


def coincidence_features(counts: np.ndarray) -> np.ndarray:
    """Features (L (L + 1) / 2, items) whose sums are the coincidence matrix of Krippendorff (2019, ch. 12), upper half.

    `counts` (items, L) from `level_counts`; an item with m ratings gives each of its ordered pairs 1 / (m - 1), an
    item with fewer than two gives nothing. Order of rows: np.triu_indices(L).
    """
    m = counts.sum(axis=1)
    share = np.where(m > 1, 1.0 / np.maximum(m - 1, 1), 0.0)
    c, k = np.triu_indices(counts.shape[1])
    return (counts[:, c] * (counts[:, k] - (c == k)) * share[:, None]).T


def alpha_from_coincidences(packed: np.ndarray, values: np.ndarray, metric: str) -> np.ndarray:
    """Krippendorff's alpha, 1 - D_o / D_e, from sums of `coincidence_features` (rows, B); `values` (L,) rising.

    The ordinal metric is taken from the marginals of pairable values of each weighting.
    """
    c, k = np.triu_indices(len(values))
    member = np.zeros((len(values), len(c)))
    member[c, np.arange(len(c))] = member[k, np.arange(len(c))] = 1.0
    marginal = member @ packed
    n = marginal.sum(axis=0)
    if metric == "ordinal":
        # The distance of two levels is that of their mid-ranks among the pairable values.
        place = running_sum(marginal.copy()) - marginal / 2 - n / 2
    else:
        place = np.broadcast_to((values - values.mean())[:, None], marginal.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric == "nominal":
            observed = (c != k).astype(float) @ packed
            expected = (n * n - (marginal * marginal).sum(axis=0)) / 2
        else:
            distance = place[k] - place[c]
            observed = np.einsum("rb,rb,rb->b", packed, distance, distance)
            # Sum over pairs of levels of n_c n_k (p_k - p_c)^2.
            first = np.einsum("lb,lb->b", marginal, place)
            expected = n * np.einsum("lb,lb,lb->b", marginal, place, place) - first * first
            expected = np.where(expected > SLACK * n * n, expected, 0.0)
        return 1.0 - ratio((n - 1) * observed, expected)


def krippendorff_alpha(ratings: np.ndarray, metric: str = "ordinal") -> float | None:
    """Krippendorff's alpha of `ratings` (items, raters), NaN for missing; None if there is nothing to agree on.

    `metric`: nominal, ordinal or interval. Rater identity does not matter.
    Source: Krippendorff 2019, Content Analysis, ch. 12.

    >>> round(krippendorff_alpha(np.array([[1, 1], [2, 2], [3, 3], [1, 2]]), "nominal"), 4)
    0.6667
    """
    if metric not in METRICS:
        raise InputError(f"unknown metric '{metric}'; known: {', '.join(METRICS)}")
    ratings = np.asarray(ratings, dtype=float)
    values = np.unique(ratings[np.isfinite(ratings)])
    if not len(values):
        return None
    if len(values) > MOST_TABULATED:
        if metric == "nominal":
            return _none(_nominal_alpha(ratings))
        places = _places_of_pairable(ratings) if metric == "ordinal" else ratings - values.mean()
        return _none(interval_alpha(interval_alpha_features(places).sum(axis=1, keepdims=True))[0])
    sums = coincidence_features(level_counts(ratings, values)).sum(axis=1, keepdims=True)
    return _none(alpha_from_coincidences(sums, values, metric)[0])


def interval_alpha_features(ratings: np.ndarray) -> np.ndarray:
    """Features (4, items) whose sums give the interval alpha of any real numbers; `ratings` (items, raters) centred."""
    there = np.isfinite(ratings)
    m = there.sum(axis=1)
    y = np.where(there & (m > 1)[:, None], ratings, 0.0)
    first, second = y.sum(axis=1), (y * y).sum(axis=1)
    return np.stack([np.where(m > 1, m, 0.0), first, second, (m * second - first**2) / np.maximum(m - 1, 1)])


def interval_alpha(sums: np.ndarray) -> np.ndarray:
    """Krippendorff's alpha, interval metric, from sums of `interval_alpha_features` (4, B)."""
    n, first, second, within = sums
    expected = n * second - first * first
    return 1.0 - ratio((n - 1) * within, np.where(expected > SLACK * n * n, expected, 0.0))


def _places_of_pairable(ratings: np.ndarray) -> np.ndarray:
    """Mid-ranks among the pairable values, centred: the places whose distance is the ordinal metric."""
    there = np.isfinite(ratings) & (np.isfinite(ratings).sum(axis=1) > 1)[:, None]
    places = np.full(ratings.shape, np.nan)
    places[there] = rankdata(ratings[there]) - (there.sum() + 1) / 2
    return places


def _nominal_alpha(ratings: np.ndarray) -> float:
    there = np.isfinite(ratings) & (np.isfinite(ratings).sum(axis=1) > 1)[:, None]
    n = int(there.sum())
    alike = (ratings[:, :, None] == ratings[:, None, :]) & there[:, :, None]
    m = there.sum(axis=1)
    observed = ((m * m - alike.sum(axis=(1, 2))) / np.maximum(m - 1, 1)).sum()
    use = np.unique(ratings[there], return_counts=True)[1].astype(float)
    expected = n * n - (use**2).sum()
    return 1.0 - (n - 1) * float(observed) / expected if expected > 0 else float("nan")


def pair_features(ratings: np.ndarray) -> np.ndarray:
    """Pairs of raters per item: (4, items) pairs, pairs exactly alike, within 0.5, within 1.0."""
    raters = ratings.shape[1]
    found = np.zeros((4, len(ratings)))
    for a in range(raters):
        for b in range(a + 1, raters):
            d = np.abs(ratings[:, a] - ratings[:, b])
            found += np.stack([np.isfinite(d), d <= SLACK, d <= 0.5 + SLACK, d <= 1 + SLACK])
    return found


def ac2_features(counts: np.ndarray) -> np.ndarray:
    """Features (3 + L, items) for `ac2`: agreement of the item, 1 if >= 2 ratings, 1 if >= 1, shares of the values."""
    size = counts.shape[1]
    m = counts.sum(axis=1)
    near = counts @ _quadratic(size)
    pairs = np.where(m > 1, m * (m - 1), 1.0)
    agreement = np.where(m > 1, (counts * (near - 1)).sum(axis=1) / pairs, 0.0)
    return np.vstack([agreement, m > 1, m > 0, (counts / np.maximum(m, 1)[:, None]).T])


def ac2(sums: np.ndarray) -> np.ndarray:
    """Gwet's AC2 with quadratic weights on the full scale (Gwet 2014, ch. 5) from sums of `ac2_features`."""
    size = len(sums) - 3
    with np.errstate(divide="ignore", invalid="ignore"):
        seen, use = sums[0] / sums[1], sums[3:] / sums[2]
        chance = _quadratic(size).sum() / (size * (size - 1)) * (use * (1 - use)).sum(axis=0)
        return np.where(sums[1] > 0, ratio(seen - chance, 1 - chance), np.nan)


def _quadratic(size: int) -> np.ndarray:
    place = np.arange(size)
    return 1.0 - ((place[:, None] - place[None, :]) / (size - 1.0)) ** 2


def icc_features(ratings: np.ndarray, centre: float) -> np.ndarray:
    """Features (7 + 2 R, items) for `icc_statistics` from `ratings` (items, R), NaN for missing."""
    there = np.isfinite(ratings)
    y = np.where(there, ratings - centre, 0.0)
    m = there.sum(axis=1).astype(float)
    least = np.maximum(m, 1.0)
    rated = m > 0
    head = [m, y.sum(axis=1) ** 2 / least, (y * y).sum(axis=1), m * m, rated, y.sum(axis=1), rated / least]
    return np.vstack([np.stack(head), there.T, y.T]).astype(float)


def icc_statistics(sums: np.ndarray, raters: int) -> dict[str, np.ndarray]:
    """The six ICC forms of McGraw and Wong (1996) from sums of `icc_features` (7 + 2 R, B), missing ratings allowed.

    Two-way forms rest on the variance components of Henderson's method 1 (Searle, Casella and McCulloch 1992,
    ch. 5), which use every rating and equal the ANOVA mean squares where none is missing; the one-way forms on the
    unbalanced one-way ANOVA. k, returned as `raters_per_item`, is the harmonic mean of ratings per item. Negative
    values are legal. icc_1, icc_k one-way; icc_c1, icc_ck consistency; icc_a1, icc_ak absolute agreement.
    """
    total, items_square, squares, sizes, items, plain, inverse = sums[:7]
    n_r, s_r = sums[7 : 7 + raters], sums[7 + raters :]
    with np.errstate(divide="ignore", invalid="ignore"):
        active = (n_r > 0).sum(axis=0)
        raters_square = np.where(n_r > 0, s_r**2 / np.where(n_r > 0, n_r, 1.0), 0.0).sum(axis=0)
        grand = plain**2 / total
        k_items, k_raters = sizes / total, (n_r**2).sum(axis=0) / total
        within = ratio(squares - items_square, total - items)  # rater + error
        across = ratio(squares - raters_square, total - active)  # item + error
        between = items_square - grand
        free = total - k_items - k_raters + 1
        error = ratio((total - k_items) * across + (items - k_raters) * within - between, free)
        item, rater = across - error, within - error
        one_way = ratio(between - (items - 1) * within, total - k_items)
        k = items / inverse
        floor = 1e-12
        return {
            "icc_1": ratio(one_way, _above(one_way + within, floor)),
            "icc_k": ratio(one_way, _above(one_way + within / k, floor)),
            "icc_c1": ratio(item, _above(item + error, floor)),
            "icc_ck": ratio(item, _above(item + error / k, floor)),
            "icc_a1": ratio(item, _above(item + rater + error, floor)),
            "icc_ak": ratio(item, _above(item + (rater + error) / k, floor)),
            "raters_per_item": k,
        }


def _above(values: np.ndarray, floor: float) -> np.ndarray:
    return np.where(values > floor, values, 0.0)


def icc(ratings: np.ndarray) -> dict[str, float | None]:
    """The six ICC forms of `ratings` (items, raters), NaN for missing, and the k of the averaged forms.

    >>> shrout_fleiss = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    >>> round(icc(np.array(shrout_fleiss))["icc_a1"], 2)
    0.29
    """
    ratings = np.asarray(ratings, dtype=float)
    if ratings.ndim != 2:
        raise InputError(f"ratings must be (items, raters); got shape {ratings.shape}")
    centre = float(np.nanmean(ratings)) if np.isfinite(ratings).any() else 0.0
    sums = icc_features(ratings, centre).sum(axis=1, keepdims=True)
    return {k: _none(v[0]) for k, v in icc_statistics(sums, ratings.shape[1]).items()}


def gwet_ac2(ratings: np.ndarray, values: Sequence[float]) -> float | None:
    """Gwet's AC2 with quadratic weights of `ratings` (items, raters), NaN for missing; `values`: the full scale."""
    counts = level_counts(np.asarray(ratings, dtype=float), np.asarray(values, dtype=float))
    return _none(ac2(ac2_features(counts).sum(axis=1, keepdims=True))[0])


def _none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
