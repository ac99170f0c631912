"""How many cases to rate for an interval of a wanted width, from a pilot; and which cases to rate next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .bootstrap import FEW_CLUSTERS, FEWEST_CLUSTERS
from .next_cases import next_cases
from .pilot import Pilot, full_name
from .ratings import read_panel

__all__ = ["Design", "DimensionPlan", "Plan", "next_cases", "plan"]

SIZES = (25, 50, 100, 200, 400, 800)  # clusters of the simulated studies
DRAWS = 1000
CHECK_DRAWS = 3000
REDRAWN_PILOTS, REDRAWN_DRAWS = 60, 384
MOST_SIMULATED = 5000  # clusters; a larger plan is carried on from here by 1 / sqrt(n)


@dataclass(frozen=True)
class Design:
    """A study that reaches the width: cases with so many narratives each and so many experts per narrative.

    `systems` counts the narratives of a case, `raters` the experts of a narrative: at most so many, as in the pilot.
    `low`, `high`: 95 % range of `cases` that follows from the smallness of the pilot (main design only). `ratings`:
    expert ratings in all. `extrapolated`: the pilot has fewer narratives or experts than this, so that the gain of
    more was carried on from the gain up to there. `cases` None: see `reason`.
    """

    systems: int
    raters: int
    cases: int | None
    low: int | None = None
    high: int | None = None
    ratings: int | None = None
    extrapolated: bool = False
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class DimensionPlan:
    """One dimension: the statistic in the pilot, its half-width there and at other sizes, and the designs.

    `curve`: (cases, half-width of the 95 % interval); `design` keeps the pilot's narratives and experts;
    `half_width` is the one simulated at the planned number of cases. `alternatives`: fewer or more narratives per case,
    fewer or more experts.
    """

    dimension: str
    pilot_cases: int
    pilot_clusters: int
    value: float | None
    pilot_half_width: float | None
    curve: tuple[tuple[int, float], ...]
    design: Design
    half_width: float | None
    alternatives: tuple[Design, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        nested = {"design": self.design.to_dict(), "alternatives": [d.to_dict() for d in self.alternatives]}
        return vars(self) | {"curve": [list(pair) for pair in self.curve]} | nested


@dataclass(frozen=True)
class Plan:
    """How many cases must be rated for a 95 % half-width; `cases` is the most that any dimension needs.

    `cases` None: no dimension could be planned; each says why. Cases are rated by experts and scored by the judge.
    """

    judge: str
    statistic: str
    width: float
    cases: int | None
    dimensions: tuple[DimensionPlan, ...]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def of(self, dimension: str) -> DimensionPlan:
        """The plan of one dimension; InputError if there is none."""
        for found in self.dimensions:
            if found.dimension == dimension:
                return found
        raise InputError(f"no dimension '{dimension}'; there are {', '.join(d.dimension for d in self.dimensions)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        return vars(self) | {
            "dimensions": [d.to_dict() for d in self.dimensions],
            "settings": dict(self.settings),
            "notes": list(self.notes),
        }


def plan(
    frame: pl.DataFrame,
    levels: Sequence[int],
    judge: str,
    statistic: str,
    width: float,
    cluster: Mapping[str, str] | None = None,
    seed: int = 0,
    *,
    systems: Sequence[int] | None = None,
    raters: Sequence[int] | None = None,
) -> Plan:
    """How many cases are needed for a 95 % half-width of `width` on a statistic, by simulation from a pilot.

    `frame`, `levels`, `cluster`: the pilot, see `ratings.read_panel`; patients are redrawn where they are known, and
    the answer is in cases. `statistic`: a name of `agree` (bias, mae, pearson, spearman, icc_a1 or icc(A,1), qwk,
    loo_judge.mae, judge_minus_expert.mae, system.spearman ...), or among the experts panel.alpha_ordinal (alpha),
    panel.icc_a1 ... Studies of 25 to 800 clusters are drawn from the pilot with replacement; their half-widths are
    fitted by a / sqrt(n) + b / n and solved for the width; pilots redrawn from the pilot give the range of the answer.
    Fewer experts also change what a statistic measures, since the judge is compared with the mean of those there are.
    `systems`, `raters`: narratives per case and experts per narrative to compare (default: one, half and double; one
    expert less and one more).

    Raises InputError below 20 rated cases (or patients) in every dimension, for an unknown judge or statistic, a width
    that is not positive.
    """
    if not (np.isfinite(width) and width > 0):
        raise InputError(
            f"width must be above 0, the half-width of the 95 % interval in units of {statistic}; got {width}"
        )
    panel = read_panel(frame, levels, cluster)
    if judge not in panel.judge_names:
        raise InputError(f"no judge '{judge}' in the ratings; there are {', '.join(panel.judge_names) or 'none'}")
    if not panel.raters:
        raise InputError("the pilot holds no expert score; a plan needs rater_kind 'expert'")
    j = panel.judge_names.index(judge)
    pilots = [Pilot(panel, d, j, statistic, seed) for d in range(len(panel.dimensions))]
    if all(pilot.clusters < FEWEST_CLUSTERS for pilot in pilots):
        most = max(pilot.clusters for pilot in pilots)
        raise InputError(
            f"the pilot holds {most} cases with expert and judge scores; at least {FEWEST_CLUSTERS} are needed to plan"
        )
    found = tuple(_plan(pilot, width, systems, raters) for pilot in pilots)
    needed = [p.design.cases for p in found if p.design.cases is not None]
    return Plan(
        judge, full_name(statistic), width, max(needed, default=None), found,
        {
            "seed": seed, "sizes": list(SIZES), "draws": DRAWS, "check_draws": CHECK_DRAWS,
            "redrawn_pilots": REDRAWN_PILOTS, "alpha": 0.05, "interval": "percentile", "expert_stage": panel.stage,
        },
        _notes(found),
    )  # fmt: skip


def _plan(pilot: Pilot, width: float, systems: Sequence[int] | None, raters: Sequence[int] | None) -> DimensionPlan:
    if pilot.reason:
        return _without(pilot, pilot.reason)
    widths = np.array([pilot.half_width(n, DRAWS) for n in SIZES])
    known = np.isfinite(widths)
    if known.sum() < 2:
        return _without(pilot, f"{pilot.statistic} is undefined in too many studies of up to {SIZES[-1]} clusters")
    per_cluster = pilot.cases / pilot.clusters
    curve = tuple((round(n * per_cluster), float(w)) for n, w in zip(SIZES, widths, strict=True) if np.isfinite(w))
    now = pilot.half_width(pilot.clusters, DRAWS)
    if not widths[known].max() > 0:
        return _without(pilot, f"{pilot.statistic} is {pilot.value:g} in every study: the pilot shows no spread")
    clusters = _solve(np.array(SIZES)[known], widths[known], width)
    simulated = max(FEWEST_CLUSTERS, min(clusters, MOST_SIMULATED))
    reached = pilot.half_width(simulated, CHECK_DRAWS)

    def design(size: float, n_systems: int, n_raters: int, spread: float | None = None, more: bool = False) -> Design:
        cases = _cases(size, per_cluster)
        low = high = None
        if spread is not None:
            low, high = (_cases(size * np.exp(side * 1.96 * spread), per_cluster) for side in (-1, 1))
        ratings = round(cases * pilot.ratings_per_case(n_systems, n_raters))
        return Design(n_systems, n_raters, cases, low, high, ratings, more)

    spreads = pilot.redrawn_spreads(simulated, REDRAWN_PILOTS, REDRAWN_DRAWS)
    spreads = spreads[spreads > 0]
    doubt = float(2 * np.log(spreads).std()) if len(spreads) > REDRAWN_PILOTS / 2 else None
    others = []
    for n_systems, n_raters in _alternatives(pilot, systems, raters):
        ratio, more = _ratio(pilot, simulated, reached**2, n_systems, n_raters)
        if ratio is None:
            why = f"{pilot.statistic} is undefined or unknown with {n_systems} narrative(s) and {n_raters} expert(s)"
            others.append(Design(n_systems, n_raters, None, reason=why))
        else:
            others.append(design(clusters * ratio, n_systems, n_raters, more=more))
    return DimensionPlan(
        pilot.dimension, pilot.cases, pilot.clusters, pilot.value, now if np.isfinite(now) else None, curve,
        design(clusters, pilot.systems, pilot.raters, doubt),
        float(reached * (simulated / max(clusters, simulated)) ** 0.5) if np.isfinite(reached) else None,
        tuple(others),
    )  # fmt: skip


def _without(pilot: Pilot, reason: str) -> DimensionPlan:
    nothing = Design(pilot.systems, pilot.raters, None, reason=reason)
    return DimensionPlan(pilot.dimension, pilot.cases, pilot.clusters, pilot.value, None, (), nothing, None, ())


def _cases(clusters: float, per_cluster: float) -> int:
    """Cases of a plan; never below the 20 clusters that an interval needs."""
    return int(np.ceil(max(clusters, FEWEST_CLUSTERS) * per_cluster - 1e-9))


def _solve(sizes: np.ndarray, widths: np.ndarray, width: float) -> int:
    """The number at which a / sqrt(n) + b / n, fitted to the half-widths, falls to `width`."""
    root = 1 / np.sqrt(sizes)
    b, a = np.polyfit(root, widths / root, 1)
    inside = a * a + 4 * b * width
    if a <= 0 or inside < 0:
        a, b = float(widths[-1] / root[-1]), 0.0
        inside = a * a
    step = 2 * width / (a + inside**0.5)  # the stable form of the positive root
    return int(np.ceil(1 / step**2))


def _alternatives(pilot: Pilot, systems: Sequence[int] | None, raters: Sequence[int] | None) -> list[tuple[int, int]]:
    for name, asked in (("systems", systems), ("raters", raters)):
        if asked is not None and any(int(k) != k or k < 1 for k in asked):
            raise InputError(f"{name} must be whole numbers from 1; got {list(asked)}")
    m, k = pilot.systems, pilot.raters
    wide = {1, m // 2, 2 * m} if systems is None else {int(s) for s in systems}
    deep = {k - 1, k + 1} if raters is None else {int(r) for r in raters}
    return [(s, k) for s in sorted(wide - {0, m})] + [(m, r) for r in sorted(deep - {0, k})]


def _ratio(pilot: Pilot, clusters: int, here: float, systems: int, raters: int) -> tuple[float | None, bool]:
    """How many times the cases another design needs, and whether that is beyond what the pilot shows.

    `here`: squared half-width of the pilot's design. It is a line in the mean of 1 / narratives (or 1 / experts),
    whose slope is the part that more of them remove.
    """
    if not here > 0:
        return None, False
    if systems <= pilot.systems and raters <= pilot.raters:
        other = pilot.half_width(clusters, CHECK_DRAWS, systems, raters) ** 2
        return (other / here if np.isfinite(other) else None), False
    axis = 0 if systems > pilot.systems else 1
    full = (pilot.systems, pilot.raters)
    for fewer in range(1, full[axis]):
        less = (fewer, full[1]) if axis == 0 else (full[0], fewer)
        other = pilot.half_width(clusters, CHECK_DRAWS, *less) ** 2
        if not np.isfinite(other):
            continue
        near, far = pilot.inverse(*full)[axis], pilot.inverse(*less)[axis]
        slope = min(max((other - here) / (far - near), 0.0), here / near)
        return (here + slope * (pilot.inverse(systems, raters)[axis] - near)) / here, True
    return None, True


def _notes(found: Sequence[DimensionPlan]) -> tuple[str, ...]:
    notes = ["cases are redrawn, the panel of experts is held fixed: the plan says nothing of other experts"]
    smallest = min(p.pilot_clusters for p in found)
    if smallest < FEW_CLUSTERS:
        notes.append(f"the smallest pilot has {smallest} rated clusters: below {FEW_CLUSTERS} a plan is rough")
    return tuple(notes)
