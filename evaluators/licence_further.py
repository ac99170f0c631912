"""What would decide an open dimension: how many more rated cases, from a simulation, or what else is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import polars as pl
from scipy.special import ndtri

from .bootstrap import FEWEST_CLUSTERS
from .ceiling import FEWEST_ITEMS
from .licence_criteria import Support, after_calibration
from .licence_record import AFTER, LICENSED, REPORT, Criterion, Further
from .licence_rules import LicenceRules
from .planning import plan

MOST_CASES = 5000  # a criterion that needs more lies on its limit


@dataclass(frozen=True)
class Need:
    """More cases until one criterion is decided, with the range from the smallness of the pilot; or why unknown."""

    criterion: Criterion
    cases: int | None
    low: int | None = None
    high: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class _Way:
    """What the raw or the calibrated scores will probably end in, and what decides it; `need` None: it is decided."""

    verdict: str
    need: Need | None


class Planner:
    """Plans one dimension from its own ratings; `frames`: long ratings, and the same with calibrated judge scores."""

    def __init__(
        self, frames: Mapping[bool, pl.DataFrame | None], levels: Sequence[int], judge: str,
        clusters: Mapping[str, str], rules: LicenceRules, seed: int,
    ):  # fmt: skip
        self.frames, self.levels, self.judge, self.clusters, self.seed = frames, levels, judge, clusters, seed
        reach = float(ndtri(1 - rules.alpha / 2))
        # The interval's end must pass the limit with this power; one that just touches it does so half of the time.
        self.share = reach / (reach + float(ndtri(rules.power)))
        self.reach = reach / float(ndtri(0.975))  # `plan` speaks of 95 % intervals

    def width(self, c: Criterion) -> float:
        """The half-width at which `c` is decided, on the side where its value is now."""
        limits = [limit for limit in (c.least, c.most) if limit is not None]
        return 0.0 if c.found.value is None else self.share * min(abs(c.found.value - limit) for limit in limits)

    def growth(self, c: Criterion) -> float:
        """How many times the clusters of now that takes if half-widths fall as 1 / sqrt(n); infinite if unknown."""
        width = self.width(c)
        if c.found.low is None or c.found.high is None or width <= 0:
            return inf
        return ((c.found.high - c.found.low) / 2 / width) ** 2

    def need(self, c: Criterion, calibrated: bool, clusters: int) -> Need:
        """More cases until `c` is decided, by simulation."""
        frame, growth = self.frames[calibrated], self.growth(c)
        if c.found.low is None or frame is None:
            return Need(c, None, reason=f"{c.name}: {c.found.reason or 'not known'}")
        if clusters * growth > MOST_CASES:
            return Need(c, None, reason=f"{c.name} lies on its limit: more than {MOST_CASES} cases would be needed")
        # Calibrated scores off the scale are left out by `plan`; they are few, and the answer is rounded anyway.
        made = plan(frame, self.levels, self.judge, c.statistic, self.width(c) / self.reach, self.clusters, self.seed,
                    systems=[], raters=[]).dimensions[0]  # fmt: skip
        design = made.design
        if design.cases is None:
            return Need(c, None, reason=f"{c.name}: {design.reason}")
        more, low, high = (None if n is None else max(1, n - made.pilot_cases) for n in
                           (design.cases, design.low, design.high))  # fmt: skip
        return Need(c, more, low, high)


def further(
    support: Support, raw: Sequence[Criterion], calibrated: Sequence[Criterion] | None, planner: Planner,
    rules: LicenceRules,
) -> Further:  # fmt: skip
    """What would decide a dimension that is open, in the order in which it has to be met."""
    if support.refused:
        return Further(None, None, None, None, _sentence(["independent ratings by experts with names"]))
    parts, least = [], max(0, rules.cases - support.clusters)
    if support.experts < rules.experts:
        parts.append(f"the same narratives rated by {rules.experts} experts, {FEWEST_ITEMS} at least by each")
    if least:
        text = f"at least {least} more independent cases rated by two experts, since the rules ask for {rules.cases}"
        parts.append(text)
    parts += [_picture(c) for c in raw if c.kind == "picture" and c.passed is None]
    if support.experts < rules.experts or support.clusters < FEWEST_CLUSTERS:
        if support.clusters < FEWEST_CLUSTERS:
            parts.append(f"how many would decide can be planned from {FEWEST_CLUSTERS} such cases on")
        return Further(least or None, None, None, None, _sentence(parts))
    way = _likely(support, raw, calibrated, planner)
    need = way.need
    if need is None:
        return Further(least, None, None, way.verdict, _sentence(parts))
    if need.cases is None:
        return Further(None, None, None, None, _sentence([f"no number of cases can be given ({need.reason})", *parts]))
    low, high = (None if n is None else max(n, least) for n in (need.low, need.high))
    cases = max(need.cases, least)
    span = f" (95 % range {low} to {high})" if low is not None else ""
    text = (
        f"about {cases} more rated cases{span}, with {100 * rules.power:g} % probability if the judge is as it looks "
        f"now (by {need.criterion.name}; towards {way.verdict})"
    )
    return Further(cases, low, high, way.verdict, _sentence([text, *parts]))


def _likely(
    support: Support, raw: Sequence[Criterion], calibrated: Sequence[Criterion] | None, planner: Planner
) -> _Way:
    """A licence by raw scores if they lead to one, else by calibrated ones; else the later of the two refusals."""
    by_raw = _way([(c, False) for c in raw], LICENSED, planner, support.clusters)
    if calibrated is None or by_raw.verdict == LICENSED:
        return by_raw
    moved = {id(c) for c in calibrated}
    both = [(c, id(c) in moved) for c in after_calibration(raw, calibrated)]
    by_calibrated = _way(both, AFTER, planner, support.clusters)
    return by_calibrated if by_calibrated.verdict == AFTER else max(by_raw, by_calibrated, key=_size)


def _way(criteria: Sequence[tuple[Criterion, bool]], verdict: str, planner: Planner, clusters: int) -> _Way:
    if any(c.passed is False for c, _ in criteria):
        return _Way(REPORT, None)
    # Only the criterion that decides is simulated: the last one on the way to a licence, the first to refuse it.
    open_ = [pair for pair in criteria if pair[0].passed is None and pair[0].statistic and pair[0].kind != "picture"]
    against = [pair for pair in open_ if not _inside(pair[0])]
    if against:
        return _Way(REPORT, planner.need(*min(against, key=lambda pair: planner.growth(pair[0])), clusters))
    if not open_:
        return _Way(verdict, None)
    return _Way(verdict, planner.need(*max(open_, key=lambda pair: planner.growth(pair[0])), clusters))


def _inside(c: Criterion) -> bool:
    value = c.found.value
    if value is None:
        return True
    return (c.least is None or value >= c.least) and (c.most is None or value <= c.most)


def _size(way: _Way) -> float:
    if way.need is None:
        return 0
    return inf if way.need.cases is None else way.need.cases


def _picture(c: Criterion) -> str:
    if c.found.value is None:
        return "the swap probe, which needs no expert"
    return "more narratives under the swap probe, whose interval leaves it open; no expert is needed for it"


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return f"What would decide: {text}." if text else ""
