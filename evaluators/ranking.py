"""Does the judge put narratives and systems in the experts' order: pairs within a case, and system means."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from .statistics import SLACK, ratio

FEWEST_SYSTEMS = 3  # two points always correlate perfectly


def within_case_features(
    x: np.ndarray, t: np.ndarray, case: np.ndarray, cluster: np.ndarray, n_clusters: int
) -> np.ndarray:
    """Features (4, clusters) of pairs of narratives of one case: ranked by the experts, ranked alike by the judge
    (a tie of the judge counts one half), tied by the judge among those ranked, tied by the experts.

    `x`, `t`, `case`, `cluster` (items,). Pairs that the experts tie are in the last row only.
    """
    order = np.argsort(case, kind="stable")
    x, t, case, cluster = x[order], t[order], case[order], cluster[order]
    found = np.zeros((4, n_clusters))
    for lag in range(1, len(x)):
        first = np.flatnonzero(case[lag:] == case[:-lag])
        if not len(first):
            break
        dx, dt = x[first + lag] - x[first], t[first + lag] - t[first]
        ranked = np.abs(dt) > SLACK
        tied = np.abs(dx) <= SLACK
        alike = np.where(tied, 0.5, (dx > 0) == (dt > 0))
        for row, weight in enumerate((ranked, ranked * alike, ranked & tied, ~ranked)):
            found[row] += np.bincount(cluster[first], weights=weight, minlength=n_clusters)
    return found


def pairwise_accuracy(sums: np.ndarray) -> np.ndarray:
    """Share of ranked pairs within a case that are ordered alike, from sums (4, B) of `within_case_features`."""
    return ratio(sums[1], sums[0])


def system_features(
    x: np.ndarray, t: np.ndarray, system: np.ndarray, n_systems: int, cluster: np.ndarray, n_clusters: int
) -> np.ndarray:
    """Features (3 S, clusters): per system the number of items and the sums of prediction and target."""
    place = system * n_clusters + cluster
    size = n_systems * n_clusters
    parts = [
        np.bincount(place, weights=w, minlength=size).reshape(n_systems, n_clusters) for w in (np.ones(len(x)), x, t)
    ]
    return np.concatenate(parts)


def system_statistics(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Agreement of system means from sums (3 S, B) of `system_features`; systems are fixed, cases are redrawn.

    Returns arrays (B,): pearson, spearman, kendall_tau_b, accuracy (share of pairs of systems with different expert
    means that are ordered alike; a tie of the judge counts one half) and mae of the means. NaN if a system has no item.
    """
    count, x, t = np.split(sums, 3)
    systems = len(count)
    if systems == 0:
        return dict.fromkeys(
            ("accuracy", "mae", "pearson", "spearman", "kendall_tau_b"), np.full(sums.shape[-1], np.nan)
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        x, t = x / count, t / count
        dx, dt = _signs(x), _signs(t)
        upper = np.triu_indices(systems, 1)
        sx, st = dx[upper], dt[upper]
        complete = np.where(np.all(count > 0, axis=0), 1.0, np.nan)
        ranked = (st != 0).sum(axis=0)
        alike = ((sx == st) & (st != 0)).sum(axis=0) + 0.5 * ((sx == 0) & (st != 0)).sum(axis=0)
        found = {"accuracy": ratio(alike, ranked) * complete, "mae": np.abs(x - t).mean(axis=0) * complete}
        if systems < FEWEST_SYSTEMS:
            return found | dict.fromkeys(("pearson", "spearman", "kendall_tau_b"), np.full(sums.shape[-1], np.nan))
        tau = ratio((sx * st).sum(axis=0), np.sqrt((sx != 0).sum(axis=0)) * np.sqrt((st != 0).sum(axis=0)))
        # A mid-rank is half the sum of signs against all others, up to a constant.
        rho = _correlation(dx.sum(axis=1), dt.sum(axis=1))
        return found | {
            "pearson": _correlation(x, t) * complete,
            "spearman": rho * complete,
            "kendall_tau_b": tau * complete,
        }


def _signs(means: np.ndarray) -> np.ndarray:
    d = means[:, None, :] - means[None, :, :]
    return np.where(np.abs(d) <= SLACK, 0.0, np.sign(d))


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    va, vb = (a * a).sum(axis=0), (b * b).sum(axis=0)
    va, vb = np.where(va > SLACK**2, va, 0.0), np.where(vb > SLACK**2, vb, 0.0)
    return ratio((a * b).sum(axis=0), np.sqrt(va) * np.sqrt(vb))


def spearman_within_case(x: np.ndarray, target: np.ndarray, case: np.ndarray) -> np.ndarray:
    """Spearman's correlation of judge and experts over the narratives of each case (of three or more).

    x, target: float [narratives], NaN where missing; case: int [narratives]. Returns float [narratives]: the value
    stands at the first narrative of its case; NaN elsewhere, and where one of the two is all ties.
    """
    found = np.full(len(x), np.nan)
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(target))
    order = known[np.argsort(case[known], kind="stable")]
    for part in np.split(order, np.flatnonzero(np.diff(case[order])) + 1):
        if len(part) > 2:
            a, b = rankdata(x[part]), rankdata(target[part])
            if a.std() > 0 and b.std() > 0:
                found[part[0]] = float(np.corrcoef(a, b)[0, 1])
    return found
