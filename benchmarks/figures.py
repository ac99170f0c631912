"""What a judge reaches where the truth is known: fresh synthetic patients, own, swapped, blank pictures. SYNTHETIC."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy.special import entr
from scipy.stats import pearsonr, spearmanr

from ..evaluators.ceiling import leave_one_out_targets, mean_of_experts
from ..evaluators.critiques import Critiques, check_critiques
from ..evaluators.ranking import spearman_within_case
from ..judge.backends.base import Judge
from ..judge.benchmark import load_benchmark
from ..judge.records import Case, Narrative
from ..judge.rubric import Rubric
from ..judge.score import score
from ..judge.tables import frame_to_ratings, read_narratives, read_ratings
from .critiques import held_against
from .figure_estimates import RESAMPLES, against, correlation, mean, patient_weights
from .grammar import IMAGE_DIMENSIONS
from .synthetic import generate, true_scores

PROBES = ("swap", "blank")
Key = tuple[str, str]


class _Said(NamedTuple):
    """A judge's score and the entropy (nats) of its distribution, None where there is none."""

    score: float | None
    entropy: float | None


class _Scored(NamedTuple):
    """Fresh cases and what judge, text-only judge and experts say of them.

    own, blind: (case, system) -> dimension -> score; probed: frame of the probes; experts: (case, system) -> dimension
    -> one score per expert, NaN where missing; weights: how often each patient is drawn.
    """

    cases: Mapping[str, Case]
    narratives: Sequence[Narrative]
    own: Mapping[Key, Mapping[str, _Said]]
    blind: Mapping[Key, Mapping[str, _Said]]
    probed: pl.DataFrame
    experts: Mapping[Key, Mapping[str, np.ndarray]]
    place: Mapping[str, int]
    weights: np.ndarray


def figures(
    judge: Judge,
    text_only: Judge | None,
    rubric: Rubric,
    cases: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    writer: Judge | None = None,
) -> dict[str, Any]:
    """Score `cases` new synthetic cases (four narratives each) and compare with the simulated experts and the truth.

    Per dimension: mae of judge, constant (median of the experts' means) and text-only judge against the experts' mean,
    and of the judge and of an expert against the mean of the other experts; ratios and differences with 95 % intervals
    (patients resampled); Spearman over all narratives and within a case; the response to a swapped picture against the
    true change; beside a blank picture the error and the rise in entropy. `writer`: the same judge, opened to write
    critiques, where it writes none by itself; they are held against the planted faults ("critiques", see
    `evaluators.critiques`). Plain data; all in scale units.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = _score(judge, text_only, rubric, cases, seed, Path(folder), progress)
        written = _critiques(writer, data, rubric, seed, Path(folder), progress)
    result: dict[str, Any] = {
        "synthetic": True,
        "judge": judge.name,
        "signature": dict(judge.signature),
        "seed": seed,
        "cases": cases,
        "patients": len(data.place),
        "narratives": len(data.narratives),
        "resamples": RESAMPLES,
        "text_only": text_only.name if text_only else None,
        "dimensions": {},
    }
    for name in rubric.names:
        result["dimensions"][name] = _dimension(name, data)
    if written:
        result["critiques"] = written.to_dict()
    return result


def _critiques(
    writer: Judge | None,
    data: _Scored,
    rubric: Rubric,
    seed: int,
    folder: Path,
    progress: Callable[[int, int], None] | None,
) -> Critiques | None:
    run = folder / ("words" if writer else "run")
    if writer:
        score(list(data.cases.values()), data.narratives, rubric, writer, run, root=folder / "bench", seed=seed,
              progress=progress)  # fmt: skip
    ratings = list(frame_to_ratings(read_ratings(run / "ratings.jsonl", rubric)))
    if not any(rating.critique for rating in ratings):
        return None
    return check_critiques(held_against(data.cases.values(), data.narratives, ratings), rubric, seed)


def _score(
    judge: Judge,
    text_only: Judge | None,
    rubric: Rubric,
    cases: int,
    seed: int,
    folder: Path,
    progress: Callable[[int, int], None] | None,
) -> _Scored:
    bench = folder / "bench"
    made = generate(bench, cases, seed)
    shown = load_benchmark(bench).cases
    narratives = read_narratives(bench / "narratives.jsonl")
    asked = dict(root=bench, seed=seed, progress=progress)
    score(shown, narratives, rubric, judge, folder / "run", probes=PROBES, **asked)  # type: ignore[arg-type]
    blind = {}
    if text_only:
        score(shown, narratives, rubric, text_only, folder / "blind", **asked)  # type: ignore[arg-type]
        blind = _said(read_ratings(folder / "blind" / "ratings.jsonl", rubric))
    patients = sorted({case.patient_id for case in made.cases})
    return _Scored(
        {case.id: case for case in shown},
        narratives,
        _said(read_ratings(folder / "run" / "ratings.jsonl", rubric)),
        blind,
        pl.concat([read_ratings(folder / "run" / f"probe-{probe}.jsonl", rubric) for probe in PROBES]),
        _experts(bench / "ratings.parquet"),
        {name: k for k, name in enumerate(patients)},
        patient_weights(len(patients), seed),
    )


def _dimension(name: str, data: _Scored) -> dict[str, Any]:
    """All figures of one dimension; what cannot be computed is None with a reason."""
    rated = [
        n
        for n in data.narratives
        if data.own[n.case_id, n.system][name].score is not None and name in data.experts.get((n.case_id, n.system), {})
    ]
    found: dict[str, Any] = {
        "n": len(rated),
        "planned": len(data.narratives),
        "depends_on_picture": name in IMAGE_DIMENSIONS,
    }
    if not rated:
        return found | {"reason": "the judge scored no narrative that an expert rated"}
    scored = np.array([data.own[n.case_id, n.system][name].score for n in rated])
    experts = np.stack([data.experts[n.case_id, n.system][name] for n in rated])
    panel = mean_of_experts(experts)
    true = np.array([true_scores(data.cases[n.case_id], n)[name] for n in rated])
    cluster = np.array([data.place[data.cases[n.case_id].patient_id] for n in rated])
    case = np.unique([n.case_id for n in rated], return_inverse=True)[1]
    mine = np.abs(scored - panel)
    found["mae_judge"] = mean(mine, cluster, data.weights)
    found["mae_truth"] = mean(np.abs(scored - true), cluster, data.weights)
    found |= against("constant", mine, np.abs(np.median(panel) - panel), cluster, data.weights)
    found |= _against_an_expert(scored, experts, cluster, data.weights)
    if data.blind:
        both = np.array([data.blind[n.case_id, n.system][name].score is not None for n in rated])
        if both.any():
            kept = [n for n, has in zip(rated, both, strict=True) if has]
            theirs = np.abs(np.array([data.blind[n.case_id, n.system][name].score for n in kept]) - panel[both])
            found |= against("text_only", mine[both], theirs, cluster[both], data.weights)
            found["n_text_only"] = len(kept)
    found["spearman_experts"] = correlation(scored, panel, spearmanr)
    found["spearman_truth"] = correlation(scored, true, spearmanr)
    for key, target in (("within_image", scored), ("within_image_truth", true)):  # the latter: what can be reached
        order = spearman_within_case(target, panel, case)
        there = np.isfinite(order)
        found[f"spearman_{key}"] = mean(order[there], cluster[there], data.weights) if there.any() else None
        found[f"n_{key}"] = int(there.sum())
    return found | _responses(name, data, {(n.case_id, n.system): p for n, p in zip(rated, panel, strict=True)})


def _against_an_expert(
    scored: np.ndarray, experts: np.ndarray, cluster: np.ndarray, weights: np.ndarray
) -> dict[str, Any]:
    """Judge and expert against the mean of the other experts, on the same pairs of narrative and expert."""
    others = leave_one_out_targets(experts)
    row, rater = np.nonzero(np.isfinite(others))
    if not len(row):
        return {}
    judge = np.abs(scored[row] - others[row, rater])
    expert = np.abs(experts[row, rater] - others[row, rater])
    part = against("expert", judge, expert, cluster[row], weights)
    return part | {"mae_leave_one_out": mean(judge, cluster[row], weights), "n_expert": len(row)}


def _responses(name: str, data: _Scored, panel: Mapping[Key, float]) -> dict[str, Any]:
    """How the score moved beside the probes' pictures, and how the truth did; beside a blank one, how sure it is."""
    told = {(n.case_id, n.system): n for n in data.narratives}
    changes: dict[str, list[tuple[float, float]]] = {probe: [] for probe in PROBES}
    blank: list[tuple[float, float, float, int]] = []
    middle = float(np.median(list(panel.values())))
    for row in data.probed.filter(pl.col("dimension") == name).iter_rows(named=True):
        flags = dict(flag.split(":", 1) for flag in row["flags"] if ":" in flag)
        key = row["case_id"], row["system"]
        before = data.own[key].get(name)
        if row["score"] is None or before is None or before.score is None:
            continue
        case, narrative = data.cases[key[0]], told[key]
        right = true_scores(case, narrative, data.cases[flags["shown"]])[name] - true_scores(case, narrative)[name]
        changes[flags["probe"]].append((row["score"] - before.score, right))
        entropy = _entropy(row["distribution"])
        if flags["probe"] == "blank" and key in panel and entropy is not None and before.entropy is not None:
            rise = entropy - before.entropy
            error = abs(row["score"] - panel[key])
            blank.append((error, abs(middle - panel[key]), rise, data.place[case.patient_id]))
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
            found[probe] |= {"correlation_with_truth": correlation(got, due, pearsonr)}
    if blank:
        errors, constant, rises, cluster = (np.array(column) for column in zip(*blank, strict=True))
        found["blank"] |= {"mae": mean(errors, cluster, data.weights)}
        found["blank"] |= against("constant", errors, constant, cluster, data.weights)
        found["blank"] |= {"entropy_rise": mean(rises, cluster, data.weights)}
    return found


def targets(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures a judge on the synthetic benchmark should reach, each with what it came to; undefined is not met."""
    rows = []

    def row(what: str, value: float | None, wanted: str, met: Callable[[float], bool]) -> None:
        shown = None if value is None else round(value, 3)
        rows.append({"figure": what, "value": shown, "target": wanted, "met": value is not None and met(value)})

    for name, d in found["dimensions"].items():
        row(f"{name}: MAE judge - constant, upper end", _get(d, "difference_constant", "high"), "< 0", lambda v: v < 0)
        row(f"{name}: MAE / constant", _get(d, "ratio_constant", "value"), "<= 0.5", lambda v: v <= 0.5)
        order = _get(d, "spearman_within_image", "value")
        row(f"{name}: Spearman within an image", order, ">= 0.8", lambda v: v >= 0.8)
        if d["depends_on_picture"]:
            row(
                f"{name}: MAE / expert, leave-one-out", _get(d, "ratio_expert", "value"), "<= 1.15", lambda v: v <= 1.15
            )
            if found.get("text_only"):
                row(f"{name}: MAE / text-only", _get(d, "ratio_text_only", "value"), "<= 0.6", lambda v: v <= 0.6)
            response = _get(d, "swap", "correlation_with_truth")
            row(f"{name}: swap, correlation with the true change", response, ">= 0.9", lambda v: v >= 0.9)
            rise = _get(d.get("blank") or {}, "entropy_rise", "low")
            row(f"{name}: blank, rise in entropy, lower end", rise, "> 0", lambda v: v > 0)
            extra = _get(d.get("blank") or {}, "difference_constant", "value")
            row(f"{name}: blank, MAE - constant", extra, "<= 0", lambda v: v <= 0)
        else:
            moved = _get(d, "swap", "mean_absolute_change")
            row(f"{name}: swap, mean absolute change", moved, "<= 0.2", lambda v: v <= 0.2)
    return rows


def _get(d: Mapping[str, Any], group: str, key: str) -> float | None:
    return (d.get(group) or {}).get(key)


def _entropy(chances: Sequence[float] | None) -> float | None:
    return float(entr(np.array(chances)).sum()) if chances is not None else None


def _said(frame: pl.DataFrame) -> dict[Key, dict[str, _Said]]:
    found: dict[Key, dict[str, _Said]] = {}
    for row in frame.iter_rows(named=True):
        said = _Said(row["score"], _entropy(row["distribution"]))
        found.setdefault((row["case_id"], row["system"]), {})[row["dimension"]] = said
    return found


def _experts(path: Path) -> dict[Key, dict[str, np.ndarray]]:
    """One row of scores per narrative and dimension, in the order of the experts' names."""
    frame = read_ratings(path).filter(pl.col("score").is_not_null())
    column = {name: k for k, name in enumerate(sorted(frame["rater"].unique()))}
    found: dict[Key, dict[str, np.ndarray]] = {}
    for row in frame.iter_rows(named=True):
        scores = found.setdefault((row["case_id"], row["system"]), {})
        scores.setdefault(row["dimension"], np.full(len(column), np.nan))[column[row["rater"]]] = row["score"]
    return found
