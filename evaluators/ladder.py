"""Judges trained by several recipes, each over several seeds, held against each other and against simple baselines.

A rung is a recipe; its ratings carry the rater name "RUNG#SEED". Errors are averaged over the seeds first, so that an
interval speaks of the recipe on new cases (patients redrawn) and the spread over seeds stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from scipy.special import entr

from ..judge.errors import InputError
from .bootstrap import Estimate
from .ceiling import leave_one_out_targets, mean_of_experts
from .multiplicity import adjust
from .probes import cluster_t_test
from .ranking import spearman_within_case
from .ratings import Panel, read_panel
from .ratios import per_cluster, ratios

ALPHA = 0.05
Verdict = Literal["better", "worse", "surer", "undecided"]


@dataclass(frozen=True)
class RungResult:
    """One rung on one dimension.

    `results`: mae, rps (ranked probability score over the levels, in levels), entropy (nats) of its distributions,
    spearman (of the systems within a case, mean over cases), loo_mae (against the experts' leave-one-out targets);
    `seeds`: the value of each seed. `against`: name of another rung or baseline -> difference in mae (this minus that,
    same narratives, same draws) with interval, and `p`: its p-value, adjusted (Holm) over everything in the ladder;
    `against_rps`: the same difference in rps, for those that give distributions.
    """

    rung: str
    dimension: str
    results: Mapping[str, Estimate]
    seeds: Mapping[str, tuple[float | None, ...]]
    against: Mapping[str, Estimate]
    p: Mapping[str, float | None]
    against_rps: Mapping[str, Estimate]

    def verdict(self, other: str) -> Verdict:
        """Against a rung below: "better" or "worse" where interval and adjusted p say so, "surer" for a better error
        bought with a worse rps, else "undecided"."""
        gap, p, rps = self.against[other], self.p[other], self.against_rps.get(other)
        if p is None or p >= ALPHA or gap.low is None or gap.high is None:
            return "undecided"
        if gap.low > 0:
            return "worse"
        if gap.high >= 0:
            return "undecided"
        return "surer" if rps is not None and rps.low is not None and rps.low > 0 else "better"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        return {
            "rung": self.rung, "dimension": self.dimension,
            "results": {k: v.to_dict() for k, v in self.results.items()},
            "seeds": {k: list(v) for k, v in self.seeds.items()},
            "against": {
                k: v.to_dict() | {"p_adjusted": self.p[k], "verdict": self.verdict(k)} for k, v in self.against.items()
            },
            "against_rps": {k: v.to_dict() for k, v in self.against_rps.items()},
        }  # fmt: skip


@dataclass(frozen=True)
class Ladder:
    """All rungs and the baselines beside them; `expert`: the experts' own leave-one-out error per dimension."""

    rungs: tuple[str, ...]
    dimensions: tuple[str, ...]
    results: tuple[RungResult, ...]
    constant: Mapping[str, Estimate]
    expert: Mapping[str, Estimate]
    settings: Mapping[str, Any]
    below: Mapping[str, tuple[str, ...]]

    def recommended(self) -> str | None:
        """The rung to take: from the first that is compared with anything, upwards to each that beats all below it.

        To beat: better in a dimension or more, worse and surer in none. A rung that stands on one that was not taken is
        not taken either, unless it also beats what is compared with nothing (a judge without pictures, say). None if
        there is no such rung.
        """
        best = None
        for rung in self.rungs:
            others = self.below[rung]
            stands_on = [o for o in others if self.below[o]]  # those that are compared with something themselves
            if not others or (len(stands_on) == len(others) and best not in stands_on):
                continue
            seen = {o: {self.of(rung, d).verdict(o) for d in self.dimensions} for o in others}
            if all("better" in v and not v & {"worse", "surer"} for v in seen.values()):
                best = rung
        return best

    def of(self, rung: str, dimension: str) -> RungResult:
        """One cell; InputError if there is none."""
        for found in self.results:
            if (found.rung, found.dimension) == (rung, dimension):
                return found
        raise InputError(f"no rung '{rung}' on '{dimension}'; rungs: {', '.join(self.rungs)}")

    def to_dict(self) -> dict[str, Any]:
        return {
            "rungs": list(self.rungs), "dimensions": list(self.dimensions),
            "results": [r.to_dict() for r in self.results],
            "recommended": self.recommended(),
            "constant": {k: v.to_dict() for k, v in self.constant.items()},
            "expert_leave_one_out": {k: v.to_dict() for k, v in self.expert.items()},
            "settings": dict(self.settings),
        }  # fmt: skip


def ladder(
    frame: pl.DataFrame,
    levels: Sequence[int],
    below: Mapping[str, Sequence[str]],
    cluster: Mapping[str, str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Ladder:
    """Compare rungs with what stands below them.

    `frame`: long ratings of experts and of judges named "RUNG#SEED" (see `ratings.read_panel`). `below`: rung -> the
    rungs (or baselines, which are rungs too) it is compared with; its keys give the order. Only narratives that every
    judge scored enter, so that all stand on the same ones. InputError for an unknown rung.
    """
    panel = read_panel(frame, levels, cluster)
    rung_of = [name.rpartition("#")[0] for name in panel.judge_names]
    members = {rung: [j for j, name in enumerate(rung_of) if name == rung] for rung in below}
    wanted = [*below, *(other for others in below.values() for other in others)]
    if lost := [rung for rung in wanted if not members.get(rung)]:
        raise InputError(f"no ratings of rung '{lost[0]}'; judges here: {', '.join(panel.judge_names)}")
    used = sorted(j for own in members.values() for j in own)
    found: list[dict[str, Any]] = []
    constant, expert = {}, {}
    for d, dimension in enumerate(panel.dimensions):
        y, x = panel.experts[d], panel.judges[d]
        target = mean_of_experts(y)
        kept = np.isfinite(target) & np.isfinite(x[:, used]).all(axis=1)
        constant[dimension] = _mean(np.abs(target - np.median(target[kept])), kept, panel, resamples, seed)
        others = leave_one_out_targets(y)
        own = _row_mean(np.abs(y - others), np.isfinite(others))
        expert[dimension] = _mean(own, kept & np.isfinite(own), panel, resamples, seed)
        error = {r: np.abs(x[:, own_j] - target[:, None]).mean(axis=1) for r, own_j in members.items()}
        measured = {r: [_measures(panel, d, j, target, others, kept) for j in own_j] for r, own_j in members.items()}
        for rung, scores in measured.items():
            results, seeds = {}, {}
            for name in scores[0]:
                each = np.stack([s[name] for s in scores])
                results[name] = _mean(each.mean(axis=0), np.isfinite(each).all(axis=0), panel, resamples, seed)
                seeds[name] = tuple(float(v[np.isfinite(v)].mean()) if np.isfinite(v).any() else None for v in each)
            gaps = {o: _mean(error[rung] - error[o], kept, panel, resamples, seed) for o in below[rung]}
            tests = {}
            for other in below[rung]:
                gap = np.where(kept, error[rung] - error[other], np.nan)
                tests[other] = cluster_t_test(*per_cluster(gap, panel.cluster, panel.n_clusters))
            rps = {
                o: _mean(_over_seeds(scores, "rps") - _over_seeds(measured[o], "rps"), kept, panel, resamples, seed)
                for o in below[rung]
                if "rps" in scores[0] and np.isfinite(_over_seeds(measured[o], "rps")).any()
            }
            found.append(
                {"rung": rung, "dimension": dimension, "results": results, "seeds": seeds, "against": gaps, "p": tests,
                 "against_rps": rps}
            )  # fmt: skip
    adjusted = iter(adjust([p for row in found for p in row["p"].values()], "holm"))
    rows = tuple(RungResult(**{**row, "p": {other: next(adjusted) for other in row["p"]}}) for row in found)
    settings = {
        "resamples": resamples, "seed": seed, "clusters": panel.n_clusters, "interval": "percentile",
        "target": "mean of the experts who rated the narrative", "family": sum(len(r.p) for r in rows),
        "correction": "Holm over all comparisons of the ladder", "seeds": {r: len(m) for r, m in members.items()},
    }  # fmt: skip
    chain = {rung: tuple(others) for rung, others in below.items()}
    return Ladder(tuple(below), panel.dimensions, rows, constant, expert, settings, chain)


def _over_seeds(scores: Sequence[Mapping[str, np.ndarray]], name: str) -> np.ndarray:
    return np.mean([s[name] for s in scores], axis=0)


def _measures(
    panel: Panel, d: int, j: int, target: np.ndarray, others: np.ndarray, kept: np.ndarray
) -> dict[str, np.ndarray]:
    """Per narrative, NaN where undefined; the within-case correlation stands at the first narrative of its case."""
    x, y = np.where(kept, panel.judges[d, :, j], np.nan), panel.experts[d]
    found = {"mae": np.abs(x - target)}
    found["loo_mae"] = _row_mean(np.abs(x[:, None] - others), np.isfinite(others) & kept[:, None])
    found["spearman"] = spearman_within_case(x, target, panel.case)
    if panel.distributions is not None:
        chances = np.where(kept[:, None], panel.distributions[d, :, j], np.nan)
        reached = np.where(np.isfinite(y)[:, :, None], y[:, :, None] <= np.array(panel.levels), np.nan)
        each = ((np.cumsum(chances, axis=1)[:, None, :] - reached) ** 2).sum(axis=2)  # (items, experts)
        found["rps"] = _row_mean(each, np.isfinite(y) & kept[:, None])
        found["entropy"] = np.where(np.isfinite(chances).all(axis=1), entr(chances).sum(axis=1), np.nan)
    return found


def _row_mean(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Mean of the kept values of each row, NaN where there is none."""
    count = kept.sum(axis=1)
    return np.where(count > 0, np.where(kept, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _mean(values: np.ndarray, kept: np.ndarray, panel: Panel, resamples: int, seed: int) -> Estimate:
    total, count = per_cluster(np.where(kept, values, np.nan), panel.cluster, panel.n_clusters)
    return ratios([(total, count)], resamples, seed, ["no narrative has it"])[0]
