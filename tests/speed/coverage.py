"""Do the 95 % intervals of `agree` cover, where truth is planted: python tests/speed/coverage.py [--json].

SYNTHETIC. The simulated experts of the synthetic benchmark (bias, noise, missing ratings) rate narratives of known
truth; a judge scores them with a bias, noise of the narrative and noise of the case. Two populations:

- panel fixed: the same three experts in every draw. The value to cover is that of one very large draw of the same
  panel and judge; intervals that redraw cases should cover it in 95 % of the draws.
- raters redrawn: new experts in every draw. The value to cover is the mean over many panels. Intervals that redraw
  cases alone know nothing of that second lot of chance: they should, and do, cover less. Beside them stand those of
  `resample_raters`, for experts like these.

An interval that is None is counted apart: it claims nothing. One core; some minutes, longer with more --experts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from dermjudge.benchmarks import grammar, synthetic
from dermjudge.evaluators.agreement import AgreementResult, agree
from dermjudge.judge.rubric import load_rubric

DIMENSIONS = ("Accuracy", "Safety")
# Four systems, each a mixture of the best and the worst narrator of the grammar: the chance of the best one.
SYSTEMS = {"ash": 0.9, "beech": 0.65, "chestnut": 0.4, "damson": 0.15}
FAVOUR = np.array([0.0, 0.0, 0.6, 0.0])  # the judge likes chestnut, enough to put it above beech
SLOPE, SHIFT, CASE_SD, ITEM_SD, SPREAD = 0.8, 0.7, 0.4, 0.6, 0.8
JUDGES = ("continuous", "whole")  # one judge, its scores as they are (with distributions) and rounded
PLACES = [grammar.DIMENSIONS.index(d) for d in DIMENSIONS]
RUBRIC = load_rubric("derm6")
LEVELS = RUBRIC.scale.levels
TOLERANCE = 1e-9
KINDS = {"fixed": "panel fixed", "fixed_bca": "fixed, BCa", "redrawn": "raters redrawn", "like_these": "two levels"}


def true_scores(cases: int, rng: np.random.Generator) -> np.ndarray:
    """Planted truth (cases, systems, dimensions) of `cases` new cases."""
    found = np.empty((cases, len(SYSTEMS), len(DIMENSIONS)))
    for c in range(cases):
        world = synthetic._world(rng)
        for s, chance in enumerate(SYSTEMS.values()):
            narrator = "alder" if rng.random() < chance else "dogwood"
            scores = grammar.truth(world, grammar.draw_claims(world, narrator, rng))
            found[c, s] = [scores[d] for d in DIMENSIONS]
    return found


def panel_bias(panel_seed: int) -> np.ndarray:
    """The experts' biases (raters, dimensions), those that `synthetic.make` gives this panel."""
    draw = np.random.default_rng([panel_seed, 11])
    return draw.normal(0, synthetic.BIAS_SD, (len(synthetic.PANEL), len(grammar.DIMENSIONS)))[:, PLACES]


def expert_scores(truth: np.ndarray, bias: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The simulated experts' ratings (raters, cases, systems, dimensions), NaN where missing."""
    found = np.full((len(synthetic.PANEL), *truth.shape), np.nan)
    narrative = SimpleNamespace(case_id="", system="", arm="", hash="")
    for place in np.ndindex(truth.shape[:2]):
        scores = dict(zip(DIMENSIONS, truth[place], strict=True))
        for rating in synthetic._panel(narrative, scores, {}, bias, RUBRIC, rng):
            found[(synthetic.PANEL.index(rating.rater), *place)] = [rating.scores[d].value for d in DIMENSIONS]
    return found


def judge_scores(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The judge's scores (cases, systems, dimensions): too high, compressed, unfair to systems, wrong by case."""
    cases, systems, dimensions = truth.shape
    noise = rng.normal(0, CASE_SD, (cases, 1, dimensions)) + rng.normal(0, ITEM_SD, truth.shape)
    return np.clip(SLOPE * truth + SHIFT + FAVOUR[:, None] + noise, LEVELS[0], LEVELS[-1])


def table(experts: np.ndarray, judge: np.ndarray) -> pl.DataFrame:
    """Long ratings of the experts and both forms of the judge."""
    cases, systems, dimensions = judge.shape
    c, s, d = (axis.ravel() for axis in np.indices(judge.shape))
    whole = np.floor(judge + 0.5)
    edges = np.array([-np.inf, *(np.array(LEVELS[1:]) - 0.5), np.inf])
    below = stats.norm.cdf((edges - judge.ravel()[:, None]) / SPREAD)
    chances = pl.Series("distribution", np.diff(below), dtype=pl.Array(pl.Float64, len(LEVELS)))
    none = pl.lit(None, dtype=pl.List(pl.Float64)).alias("distribution")
    parts = []
    for rater, kind, scores in [
        *((name, "expert", e) for name, e in zip(synthetic.PANEL, experts, strict=True)),
        *zip(JUDGES, ("judge", "judge"), (judge, whole), strict=True),
    ]:
        frame = pl.DataFrame({"case": c, "system": s, "dimension": d, "score": scores.ravel()}).with_columns(
            pl.lit(rater).alias("rater"),
            pl.lit(kind).alias("rater_kind"),
            chances.cast(pl.List(pl.Float64)) if rater == JUDGES[0] else none,
        )
        parts.append(frame.filter(pl.col("score").is_not_nan()))
    names = {
        "system": dict(enumerate(SYSTEMS)),
        "dimension": dict(enumerate(DIMENSIONS)),
    }
    return pl.concat(parts).select(
        pl.col("case").cast(pl.String).alias("case_id"),
        *(pl.col(name).replace_strict(words) for name, words in names.items()),
        "rater",
        "rater_kind",
        "score",
        "distribution",
    )


def draw_table(cases: int, panel_seed: int, *seed: int) -> pl.DataFrame:
    """New cases, rated by the panel `panel_seed` and scored by the judge."""
    rng = np.random.default_rng([*seed])
    truth = true_scores(cases, rng)
    return table(expert_scores(truth, panel_bias(panel_seed), rng), judge_scores(truth, rng))


def every_result(found: AgreementResult, like_these: bool = False) -> dict[tuple[str, str, str], Any]:
    """(dimension, judge or "experts", statistic) -> Estimate; `like_these`: those for other experts too."""
    out = {}
    for place in (*found.judges, *found.panel):
        level = place.experts_like_these if like_these else place
        name = getattr(place, "judge", "experts")
        out |= {(place.dimension, name, k): e for k, e in level.results.items()} if level else {}
    return out


def values(frame: pl.DataFrame) -> dict[tuple[str, str, str], float | None]:
    return {k: e.value for k, e in every_result(agree(frame, LEVELS, resamples=1)).items()}


def fixed_truth(cases: int, seed: int, parts: int = 10) -> dict[tuple[str, str, str], tuple[float, float]]:
    """Value on one very large draw, and its Monte-Carlo error from `parts` parts of it."""
    frames = []
    for part in range(parts):
        frame = draw_table(cases // parts, 0, seed, 1, part)
        frames.append(frame.with_columns(pl.format("{}-{}", pl.lit(part), "case_id").alias("case_id")))
    pieces = [values(frame) for frame in frames]
    return _with_error(values(pl.concat(frames)), pieces)


def redrawn_truth(panels: int, cases: int, seed: int) -> dict[tuple[str, str, str], tuple[float, float]]:
    """Mean over `panels` panels of three new experts, `cases` new cases each, and its Monte-Carlo error."""
    pieces = [values(draw_table(cases, 10**6 + p, seed, 2, p)) for p in range(panels)]
    means = {k: float(np.mean(v)) if None not in (v := [p[k] for p in pieces]) else None for k in pieces[0]}
    return _with_error(means, pieces)


def _with_error(
    whole: Mapping[Any, float | None], pieces: list[dict[Any, float | None]]
) -> dict[Any, tuple[float, float]]:
    return {
        k: (v, float(np.std(p, ddof=1) / np.sqrt(len(p))))
        for k, v in whole.items()
        if v is not None and None not in (p := [piece[k] for piece in pieces])
    }


class Tally:
    """How often intervals of one kind held the truth."""

    def __init__(self, truth: Mapping[Any, tuple[float, float]]):
        self.truth = truth
        self.rows: dict[Any, list[tuple[float, float, float]]] = {k: [] for k in truth}
        self.absent = dict.fromkeys(truth, 0)

    def add(self, found: AgreementResult, like_these: bool = False) -> None:
        for key, e in every_result(found, like_these).items():
            if key not in self.truth:
                continue
            if e.low is None or e.high is None:
                self.absent[key] += 1
            else:
                self.rows[key].append((e.value, e.low, e.high))

    def of(self, key: Any) -> dict[str, Any]:
        """Coverage, misses below and above, half-width, mean estimate; over the intervals that exist."""
        truth, error = self.truth[key]
        row: dict[str, Any] = {"truth": truth, "mc_error": error, "n": len(self.rows[key]), "absent": self.absent[key]}
        if self.rows[key]:
            value, low, high = np.array(self.rows[key]).T
            too_high, too_low = low > truth + TOLERANCE, high < truth - TOLERANCE
            row |= {
                "coverage": float(1 - (too_high | too_low).mean()),
                "above": float(too_high.mean()),  # the whole interval lies above the truth
                "below": float(too_low.mean()),
                "half_width": float(np.median(high - low) / 2),
                "mean": float(value.mean()),
                "sd": float(value.std(ddof=1)) if len(value) > 1 else None,
            }
        return row


def simulate(draws: int, cases: int, resamples: int, population: int, seed: int, quick: bool = False) -> dict[str, Any]:
    """Everything: a row per (dimension, judge, statistic) with coverage of each kind of interval in each population.

    `quick`: panel fixed and percentile intervals only.
    """
    start = time.process_time()
    fixed = fixed_truth(population, seed)
    tallies = {"fixed": Tally(fixed)}
    if not quick:
        redrawn = redrawn_truth(max(2, population // cases), cases, seed)
        tallies |= {"fixed_bca": Tally(fixed), "redrawn": Tally(redrawn), "like_these": Tally(redrawn)}
    for b in range(draws):
        frame = draw_table(cases, 0, seed, 3, b)
        tallies["fixed"].add(agree(frame, LEVELS, resamples=resamples, seed=b))
        if quick:
            continue
        tallies["fixed_bca"].add(agree(frame, LEVELS, resamples=resamples, seed=b, bca=True))
        frame = draw_table(cases, 1 + b, seed, 4, b)
        found = agree(frame, LEVELS, resamples=resamples, seed=b, resample_raters=True)
        tallies["redrawn"].add(found)
        tallies["like_these"].add(found, like_these=True)
    rows = []
    for key in fixed:
        dimension, judge, statistic = key
        row = {"dimension": dimension, "judge": judge, "statistic": statistic}
        rows.append(row | {kind: tally.of(key) for kind, tally in tallies.items() if key in tally.truth})
    low, high = stats.binom.interval(0.95, draws, 0.95)
    return {
        "experts": len(synthetic.PANEL),
        "draws": draws,
        "cases": cases,
        "resamples": resamples,
        "population": population,
        "band": [low / draws, high / draws],
        "rows": rows,
        "cpu_seconds": time.process_time() - start,
    }


def text(found: Mapping[str, Any]) -> str:
    """The table, and what lies outside the band."""
    kinds = [k for k in KINDS if k in found["rows"][0]]
    lines = [
        f"{found['draws']} draws of {found['cases']} cases x {len(SYSTEMS)} systems, {found['experts']} experts, "
        f"{synthetic.MISSING:.0%} missing, {found['resamples']} resamples; truth from {found['population']} cases; "
        f"band of 95 % for {found['draws']} draws: {found['band'][0]:.3f} to {found['band'][1]:.3f}",
        "SYNTHETIC",
        "",
    ]
    head = f"{'statistic':36} {'truth':>8} {'+-':>7} {'half':>7}" + "".join(f"{KINDS[k]:>18}" for k in kinds)
    block = None
    for row in found["rows"]:
        if block != (block := (row["dimension"], row["judge"])):
            lines += ["", f"{block[0]}, {block[1]}", head]
        first = row["fixed"]
        cells = [
            f"{c['coverage']:.3f}" + (f" ({c['absent']} none)" if c["absent"] else "") if c.get("n") else "-"
            for c in (row.get(k, {}) for k in kinds)
        ]
        half = f"{first['half_width']:7.3f}" if "half_width" in first else f"{'':7}"
        lines.append(
            f"{row['statistic']:36} {first['truth']:8.4f} {first['mc_error']:7.4f} {half}"
            + "".join(f"{c:>18}" for c in cells)
        )
    low = [r for r in found["rows"] if r["fixed"].get("coverage", 1.0) < 0.91]
    there = [r["fixed"]["coverage"] for r in found["rows"] if "coverage" in r["fixed"]]
    lines += [
        "",
        f"panel fixed: {len(there)} statistics, coverage {min(there):.3f} to {max(there):.3f}, "
        f"median {np.median(there):.3f}; below 0.91: {len(low)}",
        *(f"  {r['dimension']}, {r['judge']}, {r['statistic']}: {r['fixed']['coverage']:.3f}" for r in low),
        f"{found['cpu_seconds']:.0f} s CPU",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--cases", type=int, default=200, help="cases of a draw, each with four narratives")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--population", type=int, default=50_000, help="cases of the large draw that stands for truth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--experts", type=int, default=len(synthetic.PANEL), help="how many the panel has")
    parser.add_argument("--quick", action="store_true", help="panel fixed and percentile intervals only")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    synthetic.PANEL = tuple(f"expert-{r + 1}" for r in range(given.experts))
    found = simulate(given.draws, given.cases, given.resamples, given.population, given.seed, given.quick)
    print(json.dumps(found, allow_nan=False) if given.json else text(found))


if __name__ == "__main__":
    main()
