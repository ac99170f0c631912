"""What a judge reaches where the truth is known: fresh synthetic patients, own, swapped, blank pictures. SYNTHETIC."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..evaluators.bootstrap import BLOCK, cluster_weights, interval
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
    from scipy.stats import pearsonr, spearmanr

    rated = [
        n for n in narratives if own[n.case_id, n.system].get(name) is not None and (n.case_id, n.system) in experts
    ]
    cluster = np.array([place[cases[n.case_id].patient_id] for n in rated])
    scored = np.array([own[n.case_id, n.system][name] for n in rated])
    panel = np.array([experts[n.case_id, n.system][name] for n in rated])
    true = np.array([true_scores(cases[n.case_id], n)[name] for n in rated])
    errors = {
        "judge": np.abs(scored - panel),
        "constant": np.abs(np.median(panel) - panel),
        "truth": np.abs(scored - true),
    }
    if blind:
        errors["text_only"] = np.abs(np.array([blind[n.case_id, n.system][name] for n in rated]) - panel)
    sums = {k: np.bincount(cluster, e, len(place)) for k, e in errors.items()}
    number = np.bincount(cluster, minlength=len(place))
    drawn = {k: (s @ weights) / (number @ weights) for k, s in sums.items()}
    found: dict[str, Any] = {
        "n": len(rated),
        "planned": len(narratives),
        "depends_on_picture": name in IMAGE_DIMENSIONS,
    }
    for k, e in errors.items():
        found[f"mae_{k}"] = _estimate(float(e.mean()), drawn[k])
    for other in ("constant", "text_only"):
        if other in errors:
            found[f"ratio_{other}"] = _estimate(
                found["mae_judge"]["value"] / found[f"mae_{other}"]["value"], drawn["judge"] / drawn[other]
            )
            found[f"difference_{other}"] = _estimate(
                found["mae_judge"]["value"] - found[f"mae_{other}"]["value"], drawn["judge"] - drawn[other]
            )
    found["spearman_experts"] = float(spearmanr(scored, panel).statistic)
    found["spearman_truth"] = float(spearmanr(scored, true).statistic)
    rows = probed.filter(pl.col("dimension") == name).iter_rows(named=True)
    changes: dict[str, list[tuple[float, float]]] = {"swap": [], "blank": []}
    told = {(n.case_id, n.system): n for n in narratives}
    for row in rows:
        flags = dict(flag.split(":", 1) for flag in row["flags"] if ":" in flag)
        before = own[row["case_id"], row["system"]].get(name)
        if row["score"] is not None and before is not None:
            case, narrative = cases[row["case_id"]], told[row["case_id"], row["system"]]
            change = true_scores(case, narrative, cases[flags["shown"]])[name] - true_scores(case, narrative)[name]
            changes[flags["probe"]].append((row["score"] - before, change))
    for probe, pairs in changes.items():
        got, due = np.array(pairs).T if pairs else (np.array([]), np.array([]))
        found[probe] = {
            "n": len(pairs),
            "mean_change": float(got.mean()) if len(got) else None,
            "mean_absolute_change": float(np.abs(got).mean()) if len(got) else None,
        }
        if probe == "swap" and len(got) and due.std() > 0:
            found[probe] |= {
                "true_mean_change": float(due.mean()),
                "correlation_with_truth": float(pearsonr(got, due)[0]),
            }
    return found


def targets(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures the embedded judge was built to reach, each with what it came to; nothing is left out."""
    rows = []

    def row(what: str, value: float | None, wanted: str, met: bool) -> None:
        rows.append({"figure": what, "value": None if value is None else round(value, 3), "target": wanted, "met": met})

    for name, d in found["dimensions"].items():
        high = d["difference_constant"]["high"]
        row(f"{name}: MAE judge - constant, upper end", high, "< 0", high < 0)
        if d["depends_on_picture"]:
            row(
                f"{name}: MAE / constant", d["ratio_constant"]["value"], "<= 0.55", d["ratio_constant"]["value"] <= 0.55
            )
            if "ratio_text_only" in d:
                row(
                    f"{name}: MAE / text-only",
                    d["ratio_text_only"]["value"],
                    "<= 0.6",
                    d["ratio_text_only"]["value"] <= 0.6,
                )
            correlation = d["swap"].get("correlation_with_truth")
            row(f"{name}: swap, correlation with the true change", correlation, ">= 0.8", (correlation or 0) >= 0.8)
        else:
            moved = d["swap"]["mean_absolute_change"]
            row(f"{name}: swap, mean absolute change", moved, "<= 0.2", moved is not None and moved <= 0.2)
    return rows


def _estimate(value: float, draws: np.ndarray) -> dict[str, Any]:
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
