"""Does a critique say what is true: planted faults that it names, claims that are false, and whether scores agree.

What is planted is known only where faults were made: the synthetic benchmark, or graded copies of a clean text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from ..judge.critique import check_critique, read_remark
from ..judge.errors import InputError
from ..judge.rubric import Rubric
from .bootstrap import BLOCK, FEWEST_CLUSTERS, Estimate, cluster_weights, estimate
from .proportions import rate

NEAR_TOP = 0.5  # a score at most so far below the top goes with "no fault"
WHOLE = "all"  # the name of what is counted over all dimensions


@dataclass(frozen=True, slots=True)
class Said:
    """A judge's critique of one narrative beside what was planted in it.

    critique: a line per dimension (see `judge.critique`); planted: dimension -> fault -> how often; scores: the
    judge's own, None where there is none; cluster: the patient. complete: nothing is wrong beyond what was planted,
    so that any other claim is false; without it only whether planted faults are named is counted.
    """

    critique: Mapping[str, str]
    planted: Mapping[str, Mapping[str, int]]
    scores: Mapping[str, float | None]
    cluster: str
    complete: bool = True


@dataclass(frozen=True)
class CritiqueFigures:
    """What is found of one dimension, or of all (`dimension` = WHOLE); all shares in [0, 1].

    named: share of the planted faults that the critique names (in these words, of three planted and two named two);
    noticed: share of the dimensions with a planted fault of which it says any fault, in whatever words; false: share of
    the faults it names that were not planted; false_alarm: share of the dimensions without fault of which it says one;
    agrees: share of dimensions with line and score where "no fault" goes with a score at most NEAR_TOP below the top,
    and a fault with a lower one; spearman: of the number of faults it names and the points its score takes off.
    """

    dimension: str
    named: Estimate
    noticed: Estimate
    false: Estimate
    false_alarm: Estimate
    agrees: Estimate
    spearman: Estimate

    def to_dict(self) -> dict[str, Any]:
        return {k: v.to_dict() if isinstance(v, Estimate) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class Critiques:
    """`well_formed`: share of narratives whose critique has a line per dimension, in three parts or without fault;
    `faults`: dimension -> fault -> share of those planted that the critique names; `further`: the faults most often
    named that nobody planted, with how often."""

    narratives: int
    patients: int
    well_formed: Estimate
    whole: CritiqueFigures
    dimensions: tuple[CritiqueFigures, ...]
    faults: Mapping[str, Mapping[str, Estimate]]
    further: Mapping[str, Mapping[str, int]]
    settings: Mapping[str, Any]

    def of(self, dimension: str) -> CritiqueFigures:
        """The figures of one dimension, or of WHOLE; InputError if there is none of that name."""
        for found in (self.whole, *self.dimensions):
            if found.dimension == dimension:
                return found
        names = ", ".join(d.dimension for d in self.dimensions)
        raise InputError(f"no dimension '{dimension}'; there are {names}, and {WHOLE}")

    def to_dict(self) -> dict[str, Any]:
        return {
            "narratives": self.narratives,
            "patients": self.patients,
            "well_formed": self.well_formed.to_dict(),
            "whole": self.whole.to_dict(),
            "dimensions": {d.dimension: d.to_dict() for d in self.dimensions},
            "faults": {d: {f: e.to_dict() for f, e in found.items()} for d, found in self.faults.items()},
            "further": {d: dict(found) for d, found in self.further.items()},
            "settings": dict(self.settings),
        }


@dataclass(frozen=True)
class _Line:
    """One dimension of one narrative. `named`, `planted`: fault -> how often; `written`: whether there is a line."""

    cluster: int
    named: Mapping[str, int]
    planted: Mapping[str, int]
    written: bool
    complete: bool
    lost: float | None

    @property
    def hits(self) -> int:
        return sum(min(n, self.named.get(fault, 0)) for fault, n in self.planted.items())


def check_critiques(said: Iterable[Said], rubric: Rubric, seed: int = 0, resamples: int = 2000) -> Critiques:
    """Hold critiques against what was planted.

    A fault counts as named if its words stand in the finding of its own dimension (case and hyphens aside). A dimension
    without a line names nothing and is left out of agreement. Wilson intervals of the shares, widened where a patient
    has several (see `proportions.rate`); of Spearman's correlation by redrawing patients. InputError without
    narratives, or for planted faults of a dimension that the rubric does not have.
    """
    rows = list(said)
    if not rows:
        raise InputError("there is no critique to check")
    if strange := {d for row in rows for d in row.planted} - set(rubric.names):
        raise InputError(f"faults planted in '{min(strange)}', which {rubric.id} does not have")
    places = {cluster: k for k, cluster in enumerate(dict.fromkeys(row.cluster for row in rows))}
    lines = {name: [_line(row, name, places[row.cluster], rubric) for row in rows] for name in rubric.names}
    blocks = range(-(-resamples // BLOCK))
    weights = np.concatenate([cluster_weights(len(places), b, seed) for b in blocks], axis=1)[:, :resamples]
    formed = [not check_critique(row.critique, rubric) for row in rows]
    return Critiques(
        len(rows),
        len(places),
        rate(formed, [places[row.cluster] for row in rows], what="narrative"),
        _figures(WHOLE, [line for part in lines.values() for line in part], weights),
        tuple(_figures(name, part, weights) for name, part in lines.items()),
        {name: _by_fault(part) for name, part in lines.items()},
        {name: _further(part) for name, part in lines.items()},
        {"seed": seed, "resamples": resamples, "near_top": NEAR_TOP, "rubric": rubric.id},
    )


def _line(row: Said, name: str, cluster: int, rubric: Rubric) -> _Line:
    words = row.critique.get(name, "").strip()
    score = row.scores.get(name)
    return _Line(
        cluster,
        _plain(read_remark(words).faults) if words else {},
        _plain({fault: n for fault, n in row.planted.get(name, {}).items() if n > 0}),
        bool(words),
        row.complete,
        None if score is None else rubric.scale.high - score,
    )


def _plain(faults: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for fault, n in faults.items():
        name = re.sub(r"[\s_-]+", " ", fault).strip(" .").casefold()
        found[name] = found.get(name, 0) + n
    return found


def _figures(name: str, lines: Sequence[_Line], weights: np.ndarray) -> CritiqueFigures:
    planted = [(i < line.hits, line.cluster) for line in lines for i in range(sum(line.planted.values()))]
    whole = [line for line in lines if line.complete]
    claims = [(i >= line.hits, line.cluster) for line in whole for i in range(sum(line.named.values()))]
    both = [line for line in lines if line.written and line.lost is not None]
    agree = [(bool(line.named) == (line.lost > NEAR_TOP), line.cluster) for line in both]  # type: ignore[operator]
    return CritiqueFigures(
        name,
        _share(planted, "planted fault"),
        _share([(bool(line.named), line.cluster) for line in lines if line.planted], "planted fault"),
        _share(claims, "claim of a fault"),
        _share([(bool(line.named), line.cluster) for line in whole if not line.planted], "dimension without fault"),
        _share(agree, "dimension with line and score"),
        _spearman(both, weights),
    )


def _by_fault(lines: Sequence[_Line]) -> dict[str, Estimate]:
    found: dict[str, list[tuple[bool, int]]] = {}
    for line in lines:
        for fault, n in line.planted.items():
            named = line.named.get(fault, 0)
            found.setdefault(fault, []).extend((i < named, line.cluster) for i in range(n))
    return {fault: _share(found[fault], "planted fault") for fault in sorted(found)}


def _further(lines: Sequence[_Line], most: int = 5) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        for fault, n in line.named.items():
            if line.complete and (over := n - line.planted.get(fault, 0)) > 0:
                found[fault] = found.get(fault, 0) + over
    return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))[:most])


def _share(hits: Sequence[tuple[bool, int]], what: str) -> Estimate:
    return rate([hit for hit, _ in hits], [cluster for _, cluster in hits], what=what)


def _spearman(lines: Sequence[_Line], weights: np.ndarray) -> Estimate:
    """Weighted mid-ranks, so that a patient drawn twice counts twice."""
    n = len(lines)
    if n < 3:
        return Estimate(None, n, reason="fewer than three dimensions with line and score")
    place = np.array([line.cluster for line in lines])
    counts, lost = (
        np.unique(np.array(values, float).round(6), return_inverse=True)[1]
        for values in ([sum(line.named.values()) for line in lines], [line.lost for line in lines])
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(_rank_correlation(counts, lost, np.ones((n, 1)))[0])
        if not np.isfinite(value):
            return Estimate(
                None, n, reason="the critiques name the same number of faults everywhere, or scores are equal"
            )
        clusters = len(np.unique(place))
        draws = (
            np.concatenate(
                [_rank_correlation(counts, lost, part[place]) for part in np.array_split(weights, 32, axis=1)]
            )
            if clusters >= FEWEST_CLUSTERS
            else np.empty(0)
        )
    return estimate(value, n, draws, clusters, 0.05)


def _rank_correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spearman's correlation of codes `a`, `b` (items,) under each column of `weights` (items, draws)."""
    ranks = []
    for code in (a, b):
        sums = csr_array((np.ones(len(code)), (code, np.arange(len(code))))) @ weights
        ranks.append((np.cumsum(sums, axis=0) - sums / 2)[code] - weights.sum(axis=0) / 2)
    first, second = ranks
    spread = np.einsum("nb,nb,nb->b", weights, first, first) * np.einsum("nb,nb,nb->b", weights, second, second)
    return np.asarray(np.einsum("nb,nb,nb->b", weights, first, second) / np.sqrt(np.where(spread > 0, spread, np.nan)))
