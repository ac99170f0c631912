"""Did the score answer to the picture? Scores of the same text beside another picture against scores beside its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import t as student

from ..judge.errors import InputError
from ..judge.records import STATES
from .agreement import check_settings, estimate, few_clusters
from .bootstrap import Estimate
from .multiplicity import adjust
from .ratings import ITEM, clusters_of_cases, normalise, refuse_duplicates
from .ratios import per_cluster, ratios, sum_draws
from .statistics import SLACK, TINY, moment_features, moment_statistics

MOVED = 0.5  # a score has moved if it changed by more than this
CHANGES = ("mean_change", "mean_absolute_change", "moved", "lowered")
LEVEL = 0.05  # of the test behind a verdict, for all dimensions together
LEAST = 0.1  # scale units; a mean change below this is no answer, however narrow its interval
DECIDES = "swap"  # the probe that a verdict rests on
ANSWERS = "answers to the picture"
NO_EVIDENCE = "no evidence that it looks at the picture"
TRUTH = ("case_id", "system", "arm", "sample", "probe", "dimension", "own", "probed")


@dataclass(frozen=True)
class ProbeResult:
    """One judge, probe and dimension: scores beside the probe's picture minus scores beside the narrative's own.

    `results`: mean_change, mean_absolute_change (scale units), moved (share that changed by more than 0.5), lowered
    (share that fell); where the truth is known also truth_correlation (of predicted with true change), truth_mae (of
    the probed score) and own_mae (of the own score, same narratives). `planned`: narratives probed; `clusters`:
    patients among the pairs in which both are scored; `states`: what became of the probed ones. `p_adjusted`: of the
    mean change, by `cluster_t_test`, Holm over the dimensions. `answers`: whether the score answers to the picture;
    None where there is no verdict.
    """

    judge: str
    probe: str
    dimension: str
    planned: int
    clusters: int
    results: Mapping[str, Estimate]
    states: Mapping[str, int]
    p_adjusted: float | None
    answers: bool | None
    verdict: str

    @property
    def pairs(self) -> int:
        return self.results["mean_change"].n

    def to_dict(self) -> dict[str, Any]:
        results = {name: found.to_dict() for name, found in self.results.items()}
        return vars(self) | {"pairs": self.pairs, "results": results, "states": dict(self.states)}


@dataclass(frozen=True)
class ProbeSummary:
    """Every judge x probe x dimension, and a line in words per judge."""

    results: tuple[ProbeResult, ...]
    lines: Mapping[str, str]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def of(self, judge: str, probe: str, dimension: str) -> ProbeResult:
        """One result; InputError if there is none."""
        for found in self.results:
            if (found.judge, found.probe, found.dimension) == (judge, probe, dimension):
                return found
        known = sorted({f"{f.judge} / {f.probe} / {f.dimension}" for f in self.results})
        raise InputError(f"no probe result for {judge} / {probe} / {dimension}; there are {', '.join(known)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        return {
            "results": [found.to_dict() for found in self.results], "lines": dict(self.lines),
            "settings": dict(self.settings), "notes": list(self.notes),
        }  # fmt: skip


def summarise_probes(
    ratings_frame: pl.DataFrame,
    probes_frame: pl.DataFrame,
    clusters: Mapping[str, str] | None,
    dimensions: Sequence[str],
    resamples: int = 2000,
    seed: int = 0,
    truth: pl.DataFrame | None = None,
) -> ProbeSummary:
    """Compare each narrative's scores beside a probe's picture with those beside its own.

    `ratings_frame`: long ratings beside the own pictures; `probes_frame`: the same beside others, each row flagged
    "probe:NAME". Judges are those of the probes. `clusters`: case_id -> patient. `truth` (synthetic data): columns
    case_id, system, arm, sample, probe, dimension, own, probed: true scores beside both pictures. Repeats are averaged.

    Verdict per dimension, by the swap probe alone: the score answers to the picture if its mean change is at least
    LEAST, the interval leaves out 0, a cluster-robust t-test adjusted for the number of dimensions (Holm) agrees, and
    there are at least 20 clusters. By the interval alone, noise would pass in one of six dimensions every third or
    fourth time.

    Raises InputError for probes without a flag, a judge without ratings, texts that differ between the two frames, a
    truth without its columns, or duplicate rows.
    """
    check_settings(resamples, 0.05)
    probes = _with_probe(probes_frame)
    if truth is not None and (missing := [c for c in TRUTH if c not in truth.columns]):
        raise InputError(f"the truth lacks the column(s) {', '.join(missing)}; it needs {', '.join(TRUTH)}")
    results: list[ProbeResult] = []
    lines: dict[str, str] = {}
    for judge in probes["rater"].unique().sort():
        of_judge = probes.filter(pl.col("rater") == judge)
        own = ratings_frame.filter((pl.col("rater") == judge) & (pl.col("rater_kind") == "judge"))
        if own.is_empty():
            raise InputError(f"judge '{judge}' has probes but no ratings beside the own pictures")
        before = len(results)
        for probe in of_judge["probe"].unique(maintain_order=True):
            results += _probe(own, of_judge.filter(pl.col("probe") == probe), clusters, dimensions, judge, probe,
                              resamples, seed, truth)  # fmt: skip
        lines[judge] = _line(judge, results[before:])
    settings = {
        "resamples": resamples,
        "seed": seed,
        "alpha": 0.05,
        "least": LEAST,
        "verdict": f"interval leaves out 0; cluster-robust t-test, Holm over {len(dimensions)} dimensions, < {LEVEL}",
        "moved": MOVED,
        "decides": DECIDES,
        "change": "score beside the probe's picture minus score beside the narrative's own",
    }
    notes = few_clusters(max((found.clusters for found in results), default=0))
    return ProbeSummary(tuple(results), lines, settings, notes)


def _with_probe(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with a column `probe`, from the flag."""
    if "flags" not in frame.columns or frame.is_empty():
        raise InputError("the probes hold no ratings with flags such as 'probe:swap'")
    flag = pl.element().filter(pl.element().str.starts_with("probe:")).str.strip_prefix("probe:")
    frame = frame.with_columns(pl.col("flags").list.eval(flag).list.first().alias("probe"))
    if lost := frame["probe"].null_count():
        raise InputError(f"{lost} of {frame.height} rows of the probes carry no flag such as 'probe:swap'")
    return frame


def _probe(
    own: pl.DataFrame, probed: pl.DataFrame, clusters: Mapping[str, str] | None, dimensions: Sequence[str],
    judge: str, probe: str, resamples: int, seed: int, truth: pl.DataFrame | None,
) -> Iterator[ProbeResult]:  # fmt: skip
    own, probed = normalise(own), normalise(probed)
    for frame in (own, probed):
        refuse_duplicates(frame)
    if strange := sorted(set(probed["dimension"]) - set(dimensions)):
        raise InputError(f"'{strange[0]}' is no dimension of these: {', '.join(dimensions)}")
    _refuse_other_texts(own, probed)
    of_case = clusters_of_cases(probed, clusters)
    names = sorted(set(of_case.values()))
    place = {name: number for number, name in enumerate(names)}
    pairs = _means(probed, "probed").join(_means(own, "own"), on=[*ITEM, "dimension"], how="left")
    if truth is not None:
        known = truth.filter(pl.col("probe") == probe).select(
            *ITEM, "dimension", pl.col("own").alias("true_own"), pl.col("probed").alias("true_probed")
        )
        pairs = pairs.join(known, on=[*ITEM, "dimension"], how="left")
    rows, parts = [], []
    for dimension in dimensions:
        planned = pairs.filter(pl.col("dimension") == dimension)
        both = planned.filter(pl.col("own").is_not_null() & pl.col("probed").is_not_null()).sort(ITEM)
        cluster = np.array([place[of_case[c]] for c in both["case_id"]], dtype=np.int64)
        change = both["probed"].to_numpy() - both["own"].to_numpy()
        moved, lowered = np.abs(change) > MOVED + SLACK, change < -SLACK
        rows += [per_cluster(v * 1.0, cluster, len(names)) for v in (change, np.abs(change), moved, lowered)]
        parts.append((dimension, planned.height, both, cluster))
    step, nothing = len(CHANGES), "no narrative is scored beside both pictures"
    found = ratios(rows, resamples, seed, [nothing] * len(rows))
    adjusted = adjust([cluster_t_test(*row) for row in rows[::step]], "holm")
    for number, (dimension, planned_here, both, cluster) in enumerate(parts):
        results = dict(zip(CHANGES, found[number * step : (number + 1) * step], strict=True))
        if truth is not None:
            results |= _against_truth(both, cluster, len(names), resamples, seed, probe)
        states = dict(probed.filter(pl.col("dimension") == dimension).group_by("state").len().iter_rows())
        n_clusters = len(np.unique(cluster))
        p_adjusted = adjusted[number]
        answers, verdict = _verdict(probe, results["mean_change"], p_adjusted)
        kept: dict[str, int] = {state: states[state] for state in STATES if state in states}
        found_here = (planned_here, n_clusters, results, kept, p_adjusted, answers, verdict)
        yield ProbeResult(judge, probe, dimension, *found_here)


def cluster_t_test(total: np.ndarray, count: np.ndarray) -> float | None:
    """Two-sided p-value of "the mean is 0" from sums and numbers per cluster, with a cluster-robust error.

    Linearised ratio, C - 1 degrees of freedom (Cochran 1977, section 6.4). None below two clusters.
    Percentile intervals are too short for few clusters; this keeps its level there.
    """
    total, count = total[count > 0], count[count > 0]
    clusters, n = len(count), count.sum()
    if clusters < 2:
        return None
    mean = total.sum() / n
    residual = total - mean * count
    error = float(np.sqrt(clusters / (clusters - 1) * (residual @ residual))) / n
    if error < TINY:
        return 0.0 if abs(mean) > SLACK else 1.0
    return float(2 * student.sf(abs(mean) / error, clusters - 1))


def _means(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    return frame.group_by([*ITEM, "dimension"]).agg(pl.col("score").mean().alias(name))


def _refuse_other_texts(own: pl.DataFrame, probed: pl.DataFrame) -> None:
    if "narrative_hash" not in own.columns or "narrative_hash" not in probed.columns:
        return
    hashes = [frame.select(*ITEM, "narrative_hash").unique() for frame in (own, probed)]
    other = hashes[0].join(hashes[1], on=ITEM).filter(
        (pl.col("narrative_hash") != pl.col("narrative_hash_right"))
        & (pl.col("narrative_hash") != "") & (pl.col("narrative_hash_right") != "")
    )  # fmt: skip
    if other.height:
        case, system = other.row(0)[:2]
        raise InputError(f"{other.height} narratives were probed with another text than rated, first: {case}, {system}")


def _against_truth(
    both: pl.DataFrame, cluster: np.ndarray, n_clusters: int, resamples: int, seed: int, probe: str
) -> dict[str, Estimate]:
    known = (both["true_own"].is_not_null() & both["true_probed"].is_not_null()).to_numpy()
    both, cluster = both.filter(known), cluster[known]
    own, probed, true_own, true_probed = (both[c].to_numpy() for c in ("own", "probed", "true_own", "true_probed"))
    why = f"no true score beside the picture of the probe '{probe}'"
    rows = [per_cluster(np.abs(x - t), cluster, n_clusters) for x, t in ((probed, true_probed), (own, true_own))]
    found = dict(zip(("truth_mae", "own_mae"), ratios(rows, resamples, seed, [why] * 2), strict=True))

    said, true, n = probed - own, true_probed - true_own, len(both)
    flat = next((what for what, x in (("true", true), ("predicted", said)) if n and np.var(x) < TINY), None)
    if n < 2 or flat:
        why = f"the {flat} change is the same in every narrative" if flat else why
        return found | {"truth_correlation": Estimate(None, n, reason=why)}
    features = moment_features(said, true, 0.0)
    sums = np.stack([np.bincount(cluster, row, n_clusters) for row in features])
    value = moment_statistics(sums.sum(axis=1, keepdims=True))["pearson"][0]
    draws = moment_statistics(sum_draws(sums, resamples, seed))["pearson"]
    return found | {"truth_correlation": estimate(float(value), n, draws, len(np.unique(cluster)), 0.05)}


def _verdict(probe: str, change: Estimate, p_adjusted: float | None) -> tuple[bool | None, str]:
    if probe != DECIDES:
        return None, f"no verdict by this probe; it rests on {DECIDES}"
    if change.value is None or change.low is None or change.high is None or p_adjusted is None:
        return None, f"no verdict: {change.reason}"  # nothing scored, or fewer than 20 clusters
    if change.low <= 0 <= change.high or p_adjusted >= LEVEL or abs(change.value) < LEAST:
        return False, NO_EVIDENCE
    return True, ANSWERS + (", but rises beside a wrong one" if change.value > 0 else "")


def _line(judge: str, results: Sequence[ProbeResult]) -> str:
    """What the swap probe says of a judge, in a sentence."""
    deciding = [found for found in results if found.probe == DECIDES]
    if not deciding:
        return f"{judge}: the {DECIDES} probe was not run, so nothing is known of whether it looks at the picture."
    yes = [found.dimension for found in deciding if found.answers]
    no = [found.dimension for found in deciding if found.answers is False]
    open_ = [found.dimension for found in deciding if found.answers is None]
    parts = [f"{ANSWERS} in {len(yes)} of {len(deciding)} dimensions ({', '.join(yes)})"] if yes else []
    parts += [f"{NO_EVIDENCE} in " + (", ".join(no) if yes or open_ else "any dimension")] if no else []
    parts += [f"no verdict in {', '.join(open_) if yes or no else 'any dimension'}"] if open_ else []
    return f"{judge}: {'; '.join(parts)}."
