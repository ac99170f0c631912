"""Which cases experts should rate next: those whose judge scores are rarest among the rated, and in doubt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .ratings import Panel, read_panel
from .statistics import round_half_up

EQUAL = 12  # decimals to which priorities are compared before the lot decides


def next_cases(
    frame: pl.DataFrame,
    candidates: Iterable[str] | None = None,
    n: int = 40,
    *,
    levels: Sequence[int],
    judge: str,
    cluster: Mapping[str, str] | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """The `n` cases to rate next (all if there are fewer), in order, by the judge's scores alone.

    `frame`, `levels`, `cluster`: see `ratings.read_panel`; the judge's scores of the candidates and whatever is rated
    already. `candidates`: case ids that may be rated, default all that the judge scored; rated ones are passed over.

    The rule, one case after the other: the narratives of a case fall into cells (dimension, system, nearest level of
    the judge's score), each worth 1 / (1 + narratives in it rated or chosen so far); `spread` is the mean worth, over
    the best candidate's. `doubt` is the mean entropy of the judge's distributions, over the largest of all candidates
    (null without distributions). `priority`: mean of the two, divided by 1 + cases of the same patient rated or chosen
    so far; equal ones by lot from `seed`. Returns order, case_id, priority, spread, doubt, why.

    Cases picked so are good for agreement across the scale, for calibration and for finding faults. They are no random
    sample: means of systems (leaderboard, `ppi.ppi_leaderboard`) must not be estimated from them.

    Raises InputError for an unknown judge or candidate, n below 1, nothing to choose from.
    """
    if n < 1:
        raise InputError(f"n must be at least 1 case; got {n}")
    panel = read_panel(frame, levels, cluster)
    if judge not in panel.judge_names:
        raise InputError(f"no judge '{judge}' in the ratings; there are {', '.join(panel.judge_names) or 'none'}")
    j = panel.judge_names.index(judge)
    x = panel.judges[:, :, j]
    rated = np.isfinite(panel.experts).any(axis=2)
    n_cases, scored = len(panel.case_ids), np.isfinite(x)
    d, item = np.nonzero(scored)
    level = round_half_up(x, panel.levels)[d, item].astype(int) - panel.levels[0]
    width = panel.levels[-1] - panel.levels[0] + 1
    cell = (d * len(panel.systems) + panel.system[item]) * width + level
    n_cells = len(panel.dimensions) * len(panel.systems) * width
    inside = np.bincount(panel.case[item] * n_cells + cell, minlength=n_cases * n_cells).reshape(n_cases, n_cells)
    count = np.bincount(cell[rated[d, item]], minlength=n_cells).astype(float)
    done = np.bincount(panel.case, rated.any(axis=0), n_cases) > 0
    open_cases = np.flatnonzero(_wanted(panel, candidates, inside.sum(axis=1) > 0) & ~done)
    if not len(open_cases):
        raise InputError("no case is left to rate: every candidate is rated already")
    order = np.random.default_rng(seed).permutation(open_cases)
    doubt = _doubt(panel, j, order)
    unit = np.zeros(n_cases, dtype=np.int64)
    unit[panel.case] = panel.cluster
    seen = np.bincount(unit[done], minlength=panel.n_clusters)
    share = inside[order] / inside[order].sum(axis=1, keepdims=True)
    left = np.ones(len(order), dtype=bool)
    rows = []
    for place in range(1, min(n, len(order)) + 1):
        worth = 1 / (1 + count)
        spread = share @ worth
        spread /= spread[left].max()
        priority = spread if doubt is None else (spread + doubt) / 2
        priority = priority / (1 + seen[unit[order]])
        pick = int(np.argmax(np.where(left, np.round(priority, EQUAL), -1)))
        case = order[pick]
        rarest = int(np.argmax(np.where(inside[case] > 0, worth, 0)))
        rows.append(
            {
                "order": place, "case_id": panel.case_ids[case], "priority": float(priority[pick]),
                "spread": float(spread[pick]), "doubt": None if doubt is None else float(doubt[pick]),
                "why": _why(panel, rarest, width, int(count[rarest])),
            }
        )  # fmt: skip
        left[pick] = False
        count += inside[case]
        seen[unit[case]] += 1
    return pl.DataFrame(rows, schema_overrides={"doubt": pl.Float64})


def _wanted(panel: Panel, candidates: Iterable[str] | None, scored: np.ndarray) -> np.ndarray:
    """Mask of the cases that may be rated (cases,)."""
    if candidates is None:
        return scored
    wanted = set(candidates)
    known = {case for case, there in zip(panel.case_ids, scored, strict=True) if there}
    if lost := sorted(wanted - known):
        raise InputError(f"the judge has no score of candidate '{lost[0]}' ({len(lost)} of {len(wanted)} candidates)")
    return np.array([case in wanted for case in panel.case_ids])


def _doubt(panel: Panel, j: int, cases: np.ndarray) -> np.ndarray | None:
    """Mean entropy of each case over the largest (cases,), 0 for a case without distributions; None if none has any."""
    if panel.distributions is None:
        return None
    p = panel.distributions[:, :, j]
    entropy = -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=2)
    there = np.isfinite(entropy)
    case = np.broadcast_to(panel.case, entropy.shape)[there]
    size = np.bincount(case, minlength=len(panel.case_ids))
    mean = np.bincount(case, entropy[there], len(panel.case_ids)) / np.maximum(size, 1)
    largest = mean[cases].max()
    return mean[cases] / largest if largest > 0 else None


def _why(panel: Panel, cell: int, width: int, count: int) -> str:
    rest, level = divmod(cell, width)
    d, system = divmod(rest, len(panel.systems))
    so_far = f"{count} rated or chosen before"
    return f"{panel.dimensions[d]} about {panel.levels[0] + level} for {panel.systems[system]}: {so_far}"
