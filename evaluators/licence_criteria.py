"""The decision: which criteria hold, by the ends of their intervals, and the verdict that follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .bootstrap import Estimate
from .ceiling import FEWEST_ITEMS, leave_one_out_targets
from .licence_record import AFTER, LICENSED, OPEN, REPORT, Criterion
from .licence_rules import LicenceRules
from .probes import DECIDES, LEAST, ProbeResult
from .ratings import Panel


@dataclass(frozen=True)
class Support:
    """What stands behind one dimension: experts with a name and a ceiling, and what two of them rated.

    `clusters`, `cases`: with a narrative that the judge scored and two such experts rated; only clusters (patients) are
    independent. `constant`: the judge gives one value only. `refused`: why no number of cases would help, or "".
    """

    experts: int
    clusters: int
    cases: int
    constant: bool
    refused: str

    @staticmethod
    def of(panel: Panel, d: int, j: int) -> Support:
        x, y = panel.judges[d, :, j], panel.experts[d]
        both = np.isfinite(leave_one_out_targets(y)) & np.isfinite(x)[:, None]
        kept = both[:, both.sum(axis=0) >= FEWEST_ITEMS]
        items = kept.any(axis=1)
        refused = ""
        if panel.stage == "adjudicated":
            refused = "the experts' scores were adjudicated: they agree by construction, so nothing is beside an expert"
        elif not panel.identity:
            refused = "the experts have no identity, so no expert can be left out"
        given = x[np.isfinite(x) & np.isfinite(y).any(axis=1)]
        clusters, cases = (len(np.unique(where[items])) for where in (panel.cluster, panel.case))
        experts = 0 if refused else kept.shape[1]
        return Support(experts, clusters, cases, len(given) > 0 and np.ptp(given) == 0, refused)


def criterion(
    name: str, kind: str, statistic: str, results: Mapping[str, Estimate], least: float | None = None,
    most: float | None = None, strict: bool = False,
) -> Criterion:  # fmt: skip
    """Hold the interval of a statistic against its limits: inside, outside, or neither."""
    found, passed = results[statistic], None
    if found.low is not None and found.high is not None:
        below = most is None or (found.high < most if strict else found.high <= most)
        above = least is None or found.low >= least
        too_high = most is not None and (found.low >= most if strict else found.low > most)
        too_low = least is not None and found.high < least
        passed = True if below and above else False if too_high or too_low else None
    return Criterion(name, kind, statistic, found, least, most, strict, passed)


def counted(name: str, kind: str, value: float, least: float, n: int | None = None) -> Criterion:
    """A number that is counted, not estimated: short of data nothing is decided, short of anything else it fails."""
    passed = True if value >= least else None if kind == "data" else False
    return Criterion(name, kind, "", Estimate(value, int(value) if n is None else n), least, None, False, passed)


def data_criteria(support: Support, rules: LicenceRules) -> list[Criterion]:
    """What has to be there before anything is decided."""
    if support.refused:
        return [Criterion("ratings", "data", "", Estimate(None, 0, reason=support.refused), None, None, False, None)]
    return [
        counted(f"experts with {FEWEST_ITEMS} shared narratives", "data", support.experts, rules.experts),
        counted("independent cases rated by two experts", "data", support.clusters, rules.cases),
    ]


def score_criteria(
    results: Mapping[str, Estimate], constant: bool, rules: LicenceRules, levels: Sequence[int]
) -> list[Criterion]:
    """What the judge's scores have to show beside experts and the best constant."""
    margin, bias = rules.in_levels(levels)
    made = [
        criterion("MAE minus an expert's", "error", "judge_minus_expert.mae", results, None, margin),
        criterion("bias", "error", "item.bias", results, -bias, bias),
        criterion("MAE minus the constant's", "error", "judge_minus_constant.mae", results, None, 0.0, strict=True),
        criterion("r with the other experts", "order", "loo_judge.pearson", results, rules.correlation),
        criterion("r minus an expert's", "order", "judge_minus_expert.pearson", results, -rules.correlation_margin),
    ]
    if not constant:
        return made
    # One value for everything puts nothing in order: known without any interval.
    return [replace(c, passed=False) if c.kind == "order" else c for c in made]


def coverage_criterion(counts: Mapping[str, int | float | None], rules: LicenceRules) -> Criterion:
    """Share of the expert-rated narratives that are scored; no interval, since it is about these very narratives."""
    share, n = counts["coverage"], int(counts["items_rated_by_experts"] or 0)
    if share is None:
        nothing = Estimate(None, 0, reason="no narrative was rated by an expert")
        return Criterion("coverage", "coverage", "", nothing, rules.coverage, None, False, None)
    return counted("coverage", "coverage", float(share), rules.coverage, n)


def picture_criterion(probe: ProbeResult | None) -> Criterion:
    """Under the swap probe the score must answer to the picture, and fall: the interval ends at or below minus LEAST.

    A score that answers has also passed the probes' own test, which allows for the number of dimensions.
    """
    name, statistic = "change beside another picture", f"{DECIDES}.mean_change"
    if probe is None:
        nothing = Estimate(None, 0, reason=f"the {DECIDES} probe was not run")
        return Criterion(name, "picture", statistic, nothing, None, -LEAST, False, None)
    found = criterion(name, "picture", statistic, {statistic: probe.results["mean_change"]}, None, -LEAST)
    return replace(found, passed=None) if found.passed and not probe.answers else found


def all_of(criteria: Sequence[Criterion]) -> bool | None:
    """True if every criterion holds, False if one fails, None if that is open."""
    states = [c.passed for c in criteria]
    return False if False in states else None if None in states else True


def after_calibration(raw: Sequence[Criterion], calibrated: Sequence[Criterion]) -> list[Criterion]:
    """What must hold for calibrated scores: all that no map can mend, and every criterion on calibrated scores."""
    return [*(c for c in raw if c.kind != "error"), *calibrated]


def verdict_of(raw: Sequence[Criterion], calibrated: Sequence[Criterion] | None) -> str:
    """The verdict: by the raw scores, else by calibrated ones; open while either way is.

    `calibrated` None: there is no calibration, so that way is closed.
    """
    if any(c.kind == "data" and c.passed is not True for c in raw):
        return OPEN
    by_raw = all_of(raw)
    if by_raw:
        return LICENSED
    by_calibrated = False if calibrated is None else all_of(after_calibration(raw, calibrated))
    if by_calibrated:
        return AFTER
    return REPORT if by_raw is False and by_calibrated is False else OPEN


def nearest(criteria: Sequence[Criterion]) -> Criterion | None:
    """Of criteria that hold, the one whose interval comes nearest to its limit, in widths of the interval."""

    def slack(c: Criterion) -> float:
        low, high = c.found.low or 0.0, c.found.high or 0.0
        gaps = [c.most - high] if c.most is not None else []
        gaps += [low - c.least] if c.least is not None else []
        return min(gaps) / max(high - low, 1e-12)

    known = [c for c in criteria if c.statistic and c.kind != "picture" and c.found.low is not None]
    return min(known, key=slack, default=None)
