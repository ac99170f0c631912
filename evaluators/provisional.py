"""What a judge without expert ratings can still show: does its score fall with the severity of planted faults?

PROVISIONAL by nature: planted faults are not what models get wrong, and nobody says what a fault should cost. A judge
that answers to none of them is no judge; one that answers to all may still differ from experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from ..judge.errors import InputError
from ..judge.records import Narrative
from .agreement import check_settings, estimate, few_clusters
from .bootstrap import Estimate
from .multiplicity import adjust
from .probes import LEAST, LEVEL, MOVED, cluster_t_test
from .ratings import ITEM, clusters_of_cases, normalise, refuse_duplicates
from .ratios import per_cluster, ratios, sum_draws
from .statistics import SLACK

ANSWERS, SILENT, TOO_FEW = "answers to", "does not answer to", "not enough data"
ROLES = ("lower", "may", "same")  # what a fault should do to a dimension: lower it, perhaps, leave it alone
DOSE_COLUMNS = (*ITEM, "origin", "fault", "severity", "dimension", "role", "target")


@dataclass(frozen=True)
class DoseResponse:
    """One fault and dimension: scores of the copies against those of their own clean texts.

    `role`: what the fault should do ("lower", "may", "same"). `planned`: copies; `pairs`: copies scored whose clean
    text is scored too, of `texts` clean texts of `clusters` cases or patients. `scores`: mean score by severity (0: the
    clean texts), `changes`: mean change by severity, both in scale units. `slope`: change per severity step within
    texts, and `grading` the same without the clean texts (a judge may see that something is wrong and not how much).
    `change`, `absolute_change`: mean over all pairs; `moved`: share that changed by more than 0.5. `monotone`:
    share of texts (scored at two severities or more) whose score never rises with severity and ends lower than it
    began. `tau`: Kendall's tau-b of severity and score within texts, pooled. `p_adjusted`: of the slope (role "lower")
    or of the change ("same"), Holm over all results of that role. `verdict`: ANSWERS, SILENT or TOO_FEW; "" for "may".
    """

    fault: str
    dimension: str
    role: str
    planned: int
    texts: int
    clusters: int
    scores: Mapping[int, Estimate]
    changes: Mapping[int, Estimate]
    slope: Estimate
    grading: Estimate
    change: Estimate
    absolute_change: Estimate
    moved: Estimate
    monotone: Estimate
    tau: Estimate
    p_adjusted: float | None
    verdict: str

    @property
    def pairs(self) -> int:
        return self.change.n

    @property
    def largest(self) -> tuple[int, float] | None:
        """The severity with the largest mean change, and that change."""
        found = [(severity, e.value) for severity, e in self.changes.items() if e.value is not None]
        return max(found, key=lambda pair: abs(pair[1]), default=None)

    def to_dict(self) -> dict[str, Any]:
        row = {name: v.to_dict() if isinstance(v, Estimate) else v for name, v in vars(self).items()}
        for name in ("scores", "changes"):
            row[name] = {str(k): e.to_dict() for k, e in getattr(self, name).items()}
        largest = self.largest
        return row | {"pairs": self.pairs, "largest": None if largest is None else list(largest)}


@dataclass(frozen=True)
class ProvisionalCard:
    """Every fault x dimension of one judge. PROVISIONAL: no expert was asked; this is not a licence."""

    judge: str
    rubric: str
    levels: tuple[int, ...]
    results: tuple[DoseResponse, ...]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def of(self, fault: str, dimension: str) -> DoseResponse:
        """One result; InputError if there is none."""
        for found in self.results:
            if (found.fault, found.dimension) == (fault, dimension):
                return found
        known = sorted({f"{r.fault} / {r.dimension}" for r in self.results})
        raise InputError(f"no result for {fault} / {dimension}; there are {', '.join(known)}")

    def with_role(self, role: Literal["lower", "may", "same"]) -> list[DoseResponse]:
        """The results of one role, in the order of the card."""
        return [found for found in self.results if found.role == role]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        return {
            "provisional": True, "licence": False, "judge": self.judge, "rubric": self.rubric,
            "levels": list(self.levels), "results": [found.to_dict() for found in self.results],
            "settings": dict(self.settings), "notes": list(self.notes),
        }  # fmt: skip


def doses_of(narratives: Iterable[Narrative], dimensions: Sequence[str]) -> pl.DataFrame:
    """The doses that graded narratives carry in their provenance (origin, fault, severity, target, may).

    One row per narrative and dimension, with the columns of DOSE_COLUMNS: `origin` is the system of the clean text,
    `role` one of ROLES, `target` the points that the dimension should lose. Others are left out; InputError if none is
    left.
    """
    rows: list[tuple[Any, ...]] = []
    for narrative in narratives:
        said = narrative.provenance
        if not {"origin", "fault", "severity"} <= set(said):
            continue
        target, may = said.get("target", {}), said.get("may", ())
        for name in dimensions:
            role = "lower" if name in target else "may" if name in may else "same"
            rows.append((*narrative.key[:2], narrative.arm, narrative.sample, said["origin"], said["fault"],
                         said["severity"], name, role, float(target.get(name, 0.0))))  # fmt: skip
    if not rows:
        raise InputError("none of the narratives says in its provenance which fault of which severity it holds")
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


_TYPES = (pl.String, pl.String, pl.String, pl.Int64, pl.String, pl.String, pl.Int64, pl.String, pl.String, pl.Float64)
_SCHEMA = dict(zip(DOSE_COLUMNS, _TYPES, strict=True))


def dose_response(
    frame: pl.DataFrame,
    levels: Sequence[int],
    doses: pl.DataFrame,
    cluster: Mapping[str, str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> ProvisionalCard:
    """How a judge's scores change with the severity of planted faults, each copy against its own clean text.

    `frame`: long ratings (RATINGS_SCHEMA) of one judge; `levels`: of its rubric. `doses`: see `doses_of` (severity 0:
    the clean texts; `target` may be missing). `cluster`: case_id -> patient. Repeats are averaged.

    Verdicts. A dimension that a fault aims at answers to it if the slope's interval lies below 0, a cluster-robust
    t-test of the slope agrees (Holm over all aimed-at pairs), and the mean change is at most -LEAST. One that should
    stay as it is answers to the fault, which speaks against the judge, if its mean change is at least LEAST either way,
    the interval leaves out 0, and the test agrees (Holm over all such pairs). Below 20 clusters: not enough data.

    Raises InputError for several judges, ratings on another scale, missing columns, an unknown role, clean texts that
    are not there, or no rating of any copy.
    """
    check_settings(resamples, 0.05)
    if missing := [name for name in DOSE_COLUMNS[:-1] if name not in doses.columns]:
        raise InputError(f"the doses lack the column(s) {', '.join(missing)}; they need {', '.join(DOSE_COLUMNS[:-1])}")
    if strange := sorted(set(doses["role"]) - set(ROLES)):
        raise InputError(f"role '{strange[0]}' is not known; it is one of {', '.join(ROLES)}")
    frame = normalise(frame.filter(pl.col("rater_kind") == "judge"))
    judges = sorted(set(frame["rater"]))
    if len(judges) != 1:
        raise InputError(f"ratings of one judge are needed; there are {', '.join(judges) or 'none of a judge'}")
    refuse_duplicates(frame)
    off = frame.filter((pl.col("score") < levels[0]) | (pl.col("score") > levels[-1]))
    if off.height:
        raise InputError(f"{off.height} scores lie off the scale {levels[0]} to {levels[-1]}, first {off['score'][0]}")
    pairs = _pairs(frame, doses)
    of_case = clusters_of_cases(pairs, cluster)
    place = {name: number for number, name in enumerate(sorted(set(of_case.values())))}
    pairs = pairs.with_columns(
        pl.col("case_id").replace_strict({c: place[of_case[c]] for c in of_case}).alias("cluster")
    )
    order = frame["dimension"].unique(maintain_order=True).to_list()
    parts = sorted(pairs.group_by("fault", "dimension", "role"), key=lambda p: (order.index(p[0][1]), p[0][0]))
    found = [_response(key, part, len(place), resamples, seed) for key, part in parts]
    adjusted: dict[int, float | None] = {}
    for role in ("lower", "same"):
        mine = [k for k, (response, _) in enumerate(found) if response.role == role]
        adjusted |= dict(zip(mine, adjust([found[k][1] for k in mine], "holm"), strict=True))
    results = tuple(_judged(response, adjusted.get(k)) for k, (response, _) in enumerate(found))
    family = {role: sum(r.role == role for r in results) for role in ROLES}
    settings = {
        "resamples": resamples, "seed": seed, "alpha": 0.05, "least": LEAST, "moved": MOVED,
        "verdict": f"interval leaves out 0; cluster-robust t-test, Holm over {family['lower']} aimed-at and, apart, "
        f"{family['same']} other pairs of fault and dimension, < {LEVEL}; mean change at least {LEAST}",
        "change": "score of the copy minus score of its clean text",
    }  # fmt: skip
    clusters = max((r.clusters for r in results), default=0)
    return ProvisionalCard(judges[0], frame["rubric"][0], tuple(levels), results, settings, few_clusters(clusters))


def _pairs(frame: pl.DataFrame, doses: pl.DataFrame) -> pl.DataFrame:
    """Each copy and dimension with its score and that of its clean text (null where not scored)."""
    known = set(frame["dimension"])
    doses = doses.filter(pl.col("dimension").is_in(known)).with_columns(pl.col("severity").cast(pl.Int64))
    copies = doses.filter(pl.col("severity") > 0)
    if (twice := copies.filter(copies.select(*ITEM, "dimension").is_duplicated())).height:
        raise InputError(f"a copy of case '{twice['case_id'][0]}', system '{twice['system'][0]}', has two doses")
    scores = frame.group_by([*ITEM, "dimension"]).agg(pl.col("score").mean())
    clean_key = ["case_id", "origin", "arm", "sample", "dimension"]
    clean = scores.rename({"system": "origin", "score": "clean"})
    rated = copies.join(scores, on=[*ITEM, "dimension"], how="left", maintain_order="left")
    if rated["score"].null_count() == rated.height:
        raise InputError("no copy with a planted fault is rated; score the graded narratives first")
    there = clean.select("case_id", "origin", "arm", "sample").unique()
    if (lost := copies.join(there, on=["case_id", "origin", "arm", "sample"], how="anti")).height:
        raise InputError(f"the clean text of case '{lost['case_id'][0]}', system '{lost['origin'][0]}' is not rated")
    return rated.join(clean, on=clean_key, how="left", maintain_order="left")


def _response(
    key: tuple[Any, ...], part: pl.DataFrame, n_clusters: int, resamples: int, seed: int
) -> tuple[DoseResponse, float | None]:
    """The result without its verdict, and the p-value of what the verdict rests on."""
    fault, dimension, role = map(str, key)
    planned = part.height
    part = part.filter(pl.col("score").is_not_null() & pl.col("clean").is_not_null())
    text_key = ["case_id", "origin", "arm", "sample"]
    texts = part.select(*text_key).unique(maintain_order=True).with_row_index("text")
    part = part.join(texts, on=text_key, how="left", maintain_order="left")
    severities = sorted(set(part["severity"]))
    text, owner = part["text"].to_numpy(), part["cluster"].to_numpy()
    first = np.unique(text, return_index=True)[1]
    of_text = owner[first]
    table = np.full((texts.height, 1 + len(severities)), np.nan)  # rows: texts; columns: severity 0, 1 ...
    table[:, 0] = part["clean"].to_numpy()[first]
    table[text, 1 + np.searchsorted(severities, part["severity"].to_numpy())] = part["score"].to_numpy()
    dose = np.array([0, *severities], dtype=float)
    change = table[:, 1:] - table[:, :1]
    flat, owners = change.ravel(), np.repeat(of_text, len(severities))
    size = np.where(np.isfinite(flat), np.abs(flat), np.nan)
    moved = np.where(np.isfinite(flat), (size > MOVED + SLACK) * 1.0, np.nan)
    rows = [per_cluster(column, of_text, n_clusters) for column in (*table.T, *change.T, _monotone(table))]
    rows += [per_cluster(values, owners, n_clusters) for values in (flat, size, moved)]
    slope = _slope_sums(table, dose, of_text, n_clusters)
    grading = _slope_sums(table[:, 1:], dose[1:], of_text, n_clusters)
    nothing = "no copy and its clean text are both scored"
    several = "no text is scored at two severities beside the clean one"
    reasons = [nothing] * len(rows)
    reasons[len(dose) + len(severities)] = several
    *estimates, steep, graded = ratios([*rows, slope, grading], resamples, seed, [*reasons, nothing, several])
    k = len(dose)
    mean, size_, share = estimates[-3:]
    response = DoseResponse(
        fault, dimension, role, planned, texts.height, len(np.unique(owner)),
        dict(zip([0, *severities], estimates[:k], strict=True)),
        dict(zip(severities, estimates[k : k + len(severities)], strict=True)),
        replace(steep, n=part.height), replace(graded, n=part.height), mean, size_, share,
        estimates[k + len(severities)],
        _tau(table, of_text, n_clusters, resamples, seed), None, "",
    )  # fmt: skip
    return response, cluster_t_test(*(slope if role == "lower" else rows[-3]))


def _slope_sums(
    table: np.ndarray, dose: np.ndarray, cluster: np.ndarray, n_clusters: int
) -> tuple[np.ndarray, np.ndarray]:
    """Per cluster the sums of products and of squares about each text's own means: their ratio is the slope within
    texts (the fixed-effects estimator of a line with an intercept per text)."""
    there = np.isfinite(table)
    n = np.maximum(there.sum(axis=1, keepdims=True), 1)
    x = np.where(there, dose, 0.0)
    x = np.where(there, x - x.sum(axis=1, keepdims=True) / n, 0.0)
    y = np.where(there, table, 0.0)
    return (
        np.bincount(cluster, (x * y).sum(axis=1), n_clusters),
        np.bincount(cluster, (x * x).sum(axis=1), n_clusters),
    )


def _monotone(table: np.ndarray) -> np.ndarray:
    """1 where a text's score never rises from one severity to the next and ends lower; NaN below two severities."""
    found = np.full(len(table), np.nan)
    for k, row in enumerate(table):
        row = row[np.isfinite(row)]
        if len(row) > 2:
            found[k] = float(bool((np.diff(row) <= SLACK).all()) and row[-1] < row[0] - SLACK)
    return found


def _tau(table: np.ndarray, cluster: np.ndarray, n_clusters: int, resamples: int, seed: int) -> Estimate:
    """Concordant less discordant pairs within texts, over the root of all pairs times those not tied in the score."""
    low, high = np.triu_indices(table.shape[1], 1)  # severities are never tied within a text
    step = table[:, high] - table[:, low]
    there = np.isfinite(step)
    sign = np.where(there & (np.abs(step) > SLACK), np.sign(step), 0.0)
    parts = [row.sum(axis=1) for row in (sign, there * 1.0, np.abs(sign))]
    sums = np.stack([np.bincount(cluster, part, n_clusters) for part in parts])
    n = int(there.any(axis=1).sum())
    order, pairs, untied = sums.sum(axis=1)
    if not untied:
        return Estimate(None, n, reason="the score is the same at every severity" if n else "no pair is scored")
    draws = sum_draws(sums, resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = draws[0] / np.sqrt(draws[1] * draws[2])
    return estimate(float(order / np.sqrt(pairs * untied)), n, drawn, int((sums[1] > 0).sum()), 0.05)


def _judged(found: DoseResponse, p_adjusted: float | None) -> DoseResponse:
    if found.role == "may":
        return found
    rests_on = found.slope if found.role == "lower" else found.change
    if rests_on.low is None or rests_on.high is None or p_adjusted is None or found.change.value is None:
        return replace(found, p_adjusted=p_adjusted, verdict=TOO_FEW)
    sure = p_adjusted < LEVEL and not rests_on.low <= 0 <= rests_on.high
    fell, moved = found.change.value <= -LEAST, abs(found.change.value) >= LEAST
    yes = sure and (rests_on.high < 0 and fell if found.role == "lower" else moved)
    return replace(found, p_adjusted=p_adjusted, verdict=ANSWERS if yes else SILENT)
