"""What a judge reaches where the truth is known: fresh synthetic patients, own, swapped, blank pictures. SYNTHETIC."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import pearsonr, spearmanr

from ..evaluators.bootstrap import BLOCK, FEWEST_CLUSTERS, cluster_weights, interval
from ..judge.backends.base import Judge
from ..judge.benchmark import load_benchmark
from ..judge.records import Case, Narrative
from ..judge.rubric import Rubric
from ..judge.score import score
from ..judge.tables import read_narratives, read_ratings
from .grammar import IMAGE_DIMENSIONS
from .synthetic import generate, true_scores

RESAMPLES = 2048


def figures(
    judge: Judge,
    text_only: Judge | None,
    rubric: Rubric,
    cases: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score `cases` new synthetic cases (four narratives each) and compare with the simulated experts and the truth.

    Per dimension: mae of judge, constant (median of the experts' means) and text-only judge against the experts' mean,
    their ratios and differences with 95 % intervals (patients resampled), Spearman, the response to a swapped and to a
    blank picture against the true change. Plain data; everything in scale units.
    """
    with tempfile.TemporaryDirectory() as folder:
        bench = Path(folder) / "bench"
        made = generate(bench, cases, seed)
        by_id = {case.id: case for case in load_benchmark(bench).cases}
        narratives = read_narratives(bench / "narratives.jsonl")
        probes = ("swap", "blank")
        score(
            list(by_id.values()),
            narratives,
            rubric,
            judge,
            Path(folder) / "run",
            root=bench,
            seed=seed,
            probes=probes,
            progress=progress,
        )
        own = _scores(Path(folder) / "run" / "ratings.jsonl", rubric)
        probed = pl.concat([read_ratings(Path(folder) / "run" / f"probe-{probe}.jsonl", rubric) for probe in probes])
        blind = {}
        if text_only:
            score(
                list(by_id.values()),
                narratives,
                rubric,
                text_only,
                Path(folder) / "blind",
                root=bench,
                seed=seed,
                progress=progress,
            )
            blind = _scores(Path(folder) / "blind" / "ratings.jsonl", rubric)
        experts = _experts(bench / "ratings.parquet")
    patients = sorted({case.patient_id for case in made.cases})
    place = {name: k for k, name in enumerate(patients)}
    weights = np.concatenate([cluster_weights(len(patients), b, seed) for b in range(RESAMPLES // BLOCK)], axis=1)
    result: dict[str, Any] = {
        "synthetic": True,
        "judge": judge.name,
        "signature": dict(judge.signature),
        "seed": seed,
        "cases": cases,
        "patients": len(patients),
        "narratives": len(narratives),
        "resamples": RESAMPLES,
        "text_only": text_only.name if text_only else None,
        "dimensions": {},
    }
    for name in rubric.names:
        result["dimensions"][name] = _dimension(name, narratives, by_id, own, blind, experts, probed, place, weights)
    return result


def _dimension(
    name: str,
    narratives: Sequence[Narrative],
    cases: Mapping[str, Case],
    own: Any,
    blind: Any,
    experts: Any,
    probed: pl.DataFrame,
    place: Mapping[str, int],
    weights: np.ndarray,
) -> dict[str, Any]:
    """All figures of one dimension; what cannot be computed is None with a reason."""
    rated = [
        n for n in narratives if own[n.case_id, n.system].get(name) is not None and (n.case_id, n.system) in experts
    ]
    found: dict[str, Any] = {
        "n": len(rated),
        "planned": len(narratives),
        "depends_on_picture": name in IMAGE_DIMENSIONS,
    }
    if not rated:
        return found | {"reason": "the judge scored no narrative that an expert rated"}
    scored = np.array([own[n.case_id, n.system][name] for n in rated])
    panel = np.array([experts[n.case_id, n.system][name] for n in rated])
    true = np.array([true_scores(cases[n.case_id], n)[name] for n in rated])
    cluster = np.array([place[cases[n.case_id].patient_id] for n in rated])
    mine = np.abs(scored - panel)
    found["mae_judge"] = _mean(mine, cluster, weights)
    found["mae_truth"] = _mean(np.abs(scored - true), cluster, weights)
    found |= _against("constant", mine, np.abs(np.median(panel) - panel), cluster, weights)
    if blind:
        both = np.array([blind[n.case_id, n.system].get(name) is not None for n in rated])
        if both.any():
            kept = [n for n, has in zip(rated, both, strict=True) if has]
            theirs = np.abs(np.array([blind[n.case_id, n.system][name] for n in kept]) - panel[both])
            found |= _against("text_only", mine[both], theirs, cluster[both], weights)
            found["n_text_only"] = len(kept)
    found["spearman_experts"] = _correlation(scored, panel, spearmanr)
    found["spearman_truth"] = _correlation(scored, true, spearmanr)
    return found | _responses(name, narratives, cases, own, probed)


def _responses(
    name: str, narratives: Sequence[Narrative], cases: Mapping[str, Case], own: Any, probed: pl.DataFrame
) -> dict[str, Any]:
    """How the score moved beside the probes' pictures, and how the truth did."""
    told = {(n.case_id, n.system): n for n in narratives}
    changes: dict[str, list[tuple[float, float]]] = {"swap": [], "blank": []}
    for row in probed.filter(pl.col("dimension") == name).iter_rows(named=True):
        flags = dict(flag.split(":", 1) for flag in row["flags"] if ":" in flag)
        before = own[row["case_id"], row["system"]].get(name)
        if row["score"] is not None and before is not None:
            case, narrative = cases[row["case_id"]], told[row["case_id"], row["system"]]
            right = true_scores(case, narrative, cases[flags["shown"]])[name] - true_scores(case, narrative)[name]
            changes[flags["probe"]].append((row["score"] - before, right))
    found: dict[str, Any] = {}
    for probe, pairs in changes.items():
        got, due = np.array(pairs).T if pairs else (np.array([]), np.array([]))
        found[probe] = {
            "n": len(pairs),
            "mean_change": float(got.mean()) if len(got) else None,
            "mean_absolute_change": float(np.abs(got).mean()) if len(got) else None,
        }
        if probe == "swap" and len(got) and due.std() > 0:
            found[probe] |= {"true_mean_change": float(due.mean())}
            found[probe] |= {"correlation_with_truth": _correlation(got, due, pearsonr)}
    return found


def targets(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures the embedded judge was built to reach, each with what it came to; what is undefined is not met."""
    rows = []

    def row(what: str, value: float | None, wanted: str, met: Callable[[float], bool]) -> None:
        shown = None if value is None else round(value, 3)
        rows.append({"figure": what, "value": shown, "target": wanted, "met": value is not None and met(value)})

    for name, d in found["dimensions"].items():
        row(f"{name}: MAE judge - constant, upper end", _get(d, "difference_constant", "high"), "< 0", lambda v: v < 0)
        if d["depends_on_picture"]:
            row(f"{name}: MAE / constant", _get(d, "ratio_constant", "value"), "<= 0.55", lambda v: v <= 0.55)
            if found.get("text_only"):
                row(f"{name}: MAE / text-only", _get(d, "ratio_text_only", "value"), "<= 0.6", lambda v: v <= 0.6)
            correlation = _get(d, "swap", "correlation_with_truth")
            row(f"{name}: swap, correlation with the true change", correlation, ">= 0.8", lambda v: v >= 0.8)
        else:
            moved = _get(d, "swap", "mean_absolute_change")
            row(f"{name}: swap, mean absolute change", moved, "<= 0.2", lambda v: v <= 0.2)
    return rows


def _get(d: Mapping[str, Any], group: str, key: str) -> float | None:
    return (d.get(group) or {}).get(key)


def _correlation(a: np.ndarray, b: np.ndarray, kind: Callable[..., Any]) -> float | None:
    """None where one of the two is constant."""
    return float(kind(a, b).statistic) if len(a) > 2 and a.std() > 0 and b.std() > 0 else None


def _mean(values: np.ndarray, cluster: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    return _estimate(float(values.mean()), _draws(values, cluster, weights), cluster)


def _draws(values: np.ndarray, cluster: np.ndarray, weights: np.ndarray) -> np.ndarray:
    size = len(weights)
    with np.errstate(invalid="ignore"):
        return (np.bincount(cluster, values, size) @ weights) / (np.bincount(cluster, minlength=size) @ weights)


def _against(
    other: str, mine: np.ndarray, theirs: np.ndarray, cluster: np.ndarray, weights: np.ndarray
) -> dict[str, Any]:
    """The other predictor's error, and ratio and difference to it on the same narratives and the same draws."""
    a, b = _draws(mine, cluster, weights), _draws(theirs, cluster, weights)
    value, base = float(mine.mean()), float(theirs.mean())
    return {
        f"mae_{other}": _estimate(base, b, cluster),
        f"ratio_{other}": _estimate(value / base, a / b, cluster) if base > 0 else None,
        f"difference_{other}": _estimate(value - base, a - b, cluster),
    }


def _estimate(value: float, draws: np.ndarray, cluster: np.ndarray) -> dict[str, Any]:
    """Value and 95 % interval; no interval below 20 patients."""
    if (patients := len(np.unique(cluster))) < FEWEST_CLUSTERS:
        return {
            "value": value,
            "low": None,
            "high": None,
            "reason": f"{patients} patients, {FEWEST_CLUSTERS} are needed",
        }
    low, high, _ = interval(draws, 0.05)
    return {"value": value, "low": low, "high": high}


def _scores(path: Path, rubric: Rubric) -> dict[tuple[str, str], dict[str, float | None]]:
    scores: dict[tuple[str, str], dict[str, float | None]] = {}
    for row in read_ratings(path, rubric).iter_rows(named=True):
        scores.setdefault((row["case_id"], row["system"]), {})[row["dimension"]] = row["score"]
    return scores


def _experts(path: Path) -> dict[tuple[str, str], dict[str, float]]:
    frame = read_ratings(path).group_by("case_id", "system", "dimension").agg(pl.col("score").mean())
    means: dict[tuple[str, str], dict[str, float]] = {}
    for row in frame.iter_rows(named=True):
        means.setdefault((row["case_id"], row["system"]), {})[row["dimension"]] = row["score"]
    return means
