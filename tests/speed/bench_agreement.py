"""Speed of the cluster bootstrap against library loops: python tests/speed/bench_agreement.py [--quick].

5,811 cases x 5 models x 7 dimensions, 3 experts with 20 % missing, 10,000 resamples of cases, 15 statistics per
(model, dimension). CPU seconds of this process; the library loop is timed on a few (cell, resample) in the
same run and multiplied. Prints the measured ratio and the largest difference to the libraries. Measure on an idle
machine: for one core, set OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from dermjudge.evaluators.bootstrap import Cell, Sums, cluster_weights, resample
from dermjudge.evaluators.ceiling import mean_of_experts
from dermjudge.evaluators.judge_cell import item_codes
from dermjudge.evaluators.pair import Pair
from dermjudge.evaluators.reliability import METRICS, alpha_from_coincidences, coincidence_features, level_counts
from dermjudge.evaluators.statistics import moment_features, moment_statistics, quadratic_kappa, round_half_up

LEVELS = np.arange(6.0)
MOMENTS = ("bias", "mae", "rmse", "within_0.5", "within_1", "pearson", "ccc", "icc_a1", "icc_c1")
CENTRE = 2.5


def simulate(cases: int, cells: int, continuous: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """One (judge (cases,), experts (cases, 3)) per cell."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(cells):
        truth = draw.normal(2.8, 1.1, cases)
        experts = np.clip(np.floor(truth[:, None] + draw.normal(0, 0.7, (cases, 3)) + 0.5), 0, 5)
        experts[draw.random(experts.shape) < 0.2] = np.nan
        judge = np.clip(0.8 * truth + 0.9 + draw.normal(0, 0.6, cases), 0, 5)
        found.append((judge if continuous else np.floor(judge + 0.5), experts))
    return found


def moments_cell(x: np.ndarray, y: np.ndarray) -> Cell:
    """Nine moment statistics."""
    mean = mean_of_experts(y)
    use = np.flatnonzero(np.isfinite(mean))
    code, first = item_codes(np.column_stack([x[use], mean[use]]))
    sums = Sums(code, use, len(x))
    sums.add("m", moment_features(x[use][first], mean[use][first], CENTRE))

    def finish(found):
        every = moment_statistics(found["m"])
        return {k: every[k] for k in MOMENTS}

    return Cell((sums,), finish)


def full_cell(x: np.ndarray, y: np.ndarray) -> Cell:
    """Fifteen: nine moments, Spearman, tau-b, QWK of rounded judge and mean, three alphas of the panel."""
    use = np.flatnonzero(np.isfinite(y).any(axis=1))
    # The order of the experts within an item is nothing to these fifteen: sorted ratings share codes.
    x, pattern, n_clusters = x[use], np.sort(y[use], axis=1), len(x)
    code, first = item_codes(np.column_stack([x, pattern]))
    sums = Sums(code, use, n_clusters)
    pair = Pair(sums, "p", x[first], mean_of_experts(pattern[first]), code, CENTRE)
    rounded = round_half_up(x, LEVELS)
    if (rounded == x).all():
        levels, few = sums, first
    else:
        code, few = item_codes(np.column_stack([rounded, pattern]))
        levels = Sums(code, use, n_clusters)
    label = round_half_up(mean_of_experts(pattern[few]), LEVELS).astype(np.int64)
    levels.add_table("kappa", rounded[few].astype(np.int64), label, (6, 6))
    levels.add("o", coincidence_features(level_counts(pattern[few], LEVELS)))

    def finish(found):
        every = pair.statistics(found)
        out = {k: every[k] for k in (*MOMENTS, "spearman", "kendall_tau_b")}
        out["qwk"] = quadratic_kappa(found["kappa"])
        return out | {m: alpha_from_coincidences(found["o"], LEVELS, m) for m in METRICS}

    return Cell((sums,) if levels is sums else (sums, levels), finish)


def library(x: np.ndarray, y: np.ndarray, oracles: dict[str, Callable]) -> dict[str, float]:
    """The same statistics from libraries on rows that are already repeated."""
    mean = mean_of_experts(y)
    x, y, mean = x[np.isfinite(mean)], y[np.isfinite(mean)], mean[np.isfinite(mean)]
    found = {
        "pearson": stats.pearsonr(x, mean).statistic,
        "spearman": stats.spearmanr(x, mean).statistic,
        "kendall_tau_b": stats.kendalltau(x, mean).statistic,
        "qwk": cohen_kappa_score(
            round_half_up(x, LEVELS).astype(int),
            round_half_up(mean, LEVELS).astype(int),
            weights="quadratic",
            labels=range(6),
        ),
    }
    if "alpha" in oracles:
        found |= {m: oracles["alpha"](y.T, level_of_measurement=m, value_domain=LEVELS) for m in METRICS}
    if "icc" in oracles:
        table = oracles["icc"](x, mean)
        found |= {"icc_a1": table["ICC(A,1)"], "icc_c1": table["ICC(C,1)"]}
    return found


def find_oracles() -> dict[str, Callable]:
    """GPL programs are used if they happen to be installed."""
    oracles: dict[str, Callable] = {}
    try:
        import krippendorff

        oracles["alpha"] = krippendorff.alpha
    except ImportError:
        print("krippendorff is not installed: no alpha in the library loop")
    try:
        import pandas as pd
        import pingouin

        def icc(x: np.ndarray, t: np.ndarray) -> dict[str, float]:
            long = pd.DataFrame({"i": np.tile(np.arange(len(x)), 2), "r": np.repeat([0, 1], len(x)), "y": np.r_[x, t]})
            return dict(pingouin.intraclass_corr(long, "i", "r", "y").set_index("Type")["ICC"])

        oracles["icc"] = icc
    except ImportError:
        print("pingouin is not installed: no ICC in the library loop")
    return oracles


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="500 cases, 500 resamples")
    quick = parser.parse_args().quick
    cases, cells, resamples, seed = (500 if quick else 5811), 35, (500 if quick else 10_000), 0
    oracles = find_oracles()
    print(f"{cases} cases x {cells} cells, 3 experts, 20 % missing, {resamples} resamples")
    for label, continuous, build in (
        ("integer judge, 15 statistics", False, full_cell),
        ("integer judge, 9 moment statistics", False, moments_cell),
        ("continuous judge, 15 statistics", True, full_cell),
        ("continuous judge, 9 moment statistics", True, moments_cell),
    ):
        data = simulate(cases, cells, continuous)
        start, wall = time.process_time(), time.perf_counter()
        built = [build(x, y) for x, y in data]
        draws = resample(built, cases, resamples, seed)
        spent, wall = time.process_time() - start, time.perf_counter() - wall
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"\n{label}: {spent:.2f} s CPU, {wall:.2f} s wall, peak {peak:.0f} MB so far")

        weights, slow = cluster_weights(cases, 0, seed), 0.0
        worst: dict[str, float] = {}
        for b, (x, y) in enumerate(data[:3]):
            rows = np.repeat(np.arange(cases), weights[:, b].astype(int))
            start = time.process_time()
            theirs = library(x[rows], y[rows], oracles)
            slow += time.process_time() - start
            for name in theirs.keys() & draws[b].keys():
                worst[name] = max(worst.get(name, 0.0), abs(theirs[name] - draws[b][name][b]))
        total = slow / 3 * cells * resamples
        each = slow / 3 * 1000
        print(
            f"library loop: {each:.1f} ms per (cell, resample), {total / 3600:.2f} h CPU, ratio {total / spent:,.0f}x"
        )
        print("largest difference to the libraries: " + ", ".join(f"{k} {v:.0e}" for k, v in sorted(worst.items())))


if __name__ == "__main__":
    main()
