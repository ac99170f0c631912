"""What is remarkable in a table of ratings before any number is made of it: counts, gaps, strays, use of the scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ..judge.records import RATER_KINDS

ITEM = ["case_id", "system", "arm", "sample"]
LISTED = 50  # at most so many offending rows stand in a result; all are counted
DOMINANT = 0.8  # one level above this share: chance-corrected coefficients fall although raters agree


@dataclass(frozen=True)
class Scores:
    """Scores of one kind of rater as used: `table` (dimensions, items, raters), NaN for missing.

    `asked` (dimensions, items, raters) or (dimensions, items): where a score was to be expected. For experts that is
    where any expert rated, since nobody says which items an expert was given.
    """

    kind: str
    names: Sequence[str]
    table: np.ndarray
    asked: np.ndarray


def panel_checks(
    planned: pl.DataFrame,
    used: pl.DataFrame,
    experts: Scores,
    judges: Scores,
    dimensions: Sequence[str],
    levels: Sequence[int],
    stage: str,
    identity: bool,
    keep_out_of_range: bool,
) -> dict[str, Any]:
    """Everything that `Panel.checks` holds, plain JSON without NaN.

    `planned`: all rows as read, `used`: the expert ratings that count, one per (item, dimension, rater).
    """
    score, is_expert = pl.col("score"), pl.col("rater_kind") == "expert"
    scored = planned.filter(score.is_not_null())
    low, high = levels[0], levels[-1]
    outside = planned.filter((score < low) | (score > high))
    settled = scored.filter(is_expert & (pl.col("stage") == "adjudicated")).height
    of_stage = scored.filter(is_expert & (pl.col("stage") == stage))
    if not keep_out_of_range:
        of_stage = of_stage.filter(score.is_between(low, high))
    raters = [*_rater_checks(experts, dimensions, levels), *_rater_checks(judges, dimensions, levels)]
    return {
        "levels": list(levels),
        "cases": planned["case_id"].n_unique(),
        "systems": planned["system"].n_unique(),
        "items": planned.select(ITEM).n_unique(),
        "rows": planned.height,
        "experts": len(experts.names),
        "judges": len(judges.names),
        "expert_ratings": used.height,
        "judge_ratings": int(np.isfinite(judges.table).sum()),
        "expert_repeats_not_used": of_stage.height - used.height,
        "judge_repeats_averaged": scored.filter(~is_expert & (pl.col("repeat") > 0)).height,
        "states": _states(planned),
        "stage": stage,
        "adjudicated": {"ratings": settled, "used": stage == "adjudicated"},
        "identity": identity,
        "without_identity": {
            "ratings": scored.filter(is_expert & (pl.col("rater") == "")).height,
            "slots": 0 if identity else len(experts.names),
        },
        "out_of_range": {
            "count": outside.height,
            "used": bool(outside.height and keep_out_of_range),
            "scale": [low, high],
            "values": outside.group_by("rater_kind", "score").len("count").sort("rater_kind", "score").to_dicts(),
            "rows": outside.select([*ITEM, "rater", "rater_kind", "dimension", "score"]).head(LISTED).to_dicts(),
        },
        "missing": _missing(raters),
        "dimensions": [_use(name, experts.table[d], levels) for d, name in enumerate(dimensions)],
        "raters": raters,
    }


def _states(planned: pl.DataFrame) -> dict[str, dict[str, int]]:
    states = planned.group_by("rater_kind", "state").len().sort("rater_kind", "state")
    return {
        kind: {row["state"]: row["len"] for row in states.filter(pl.col("rater_kind") == kind).to_dicts()}
        for kind in RATER_KINDS
    }


def _rater_checks(scores: Scores, dimensions: Sequence[str], levels: Sequence[int]) -> list[dict[str, Any]]:
    """Per rater and dimension: how many are missing, whether the rater ever varies, ties and use of the levels."""
    found = []
    for r, name in enumerate(scores.names):
        for d, dimension in enumerate(dimensions):
            asked = scores.asked[d] if scores.asked.ndim == 2 else scores.asked[d, :, r]
            given = scores.table[d, :, r]
            given = given[np.isfinite(given)]
            values, counts = np.unique(given, return_counts=True)
            n, n_asked = len(given), int(asked.sum())
            found.append(
                {
                    "rater": name,
                    "kind": scores.kind,
                    "dimension": dimension,
                    "n": n,
                    "planned": n_asked,
                    "missing_share": (n_asked - n) / n_asked if n_asked else None,
                    "constant": n > 0 and len(values) == 1,
                    "distinct_values": len(values),
                    # Share of pairs of items that this rater cannot rank.
                    "tied_share": float((counts * (counts - 1.0)).sum() / (n * (n - 1.0))) if n > 1 else None,
                    "largest_level_share": int(counts.max()) / n if n else None,
                    "level_use": {str(k): int((np.floor(given + 0.5) == k).sum()) for k in levels},
                }
            )
    return found


def _missing(raters: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Missing share per rater over all dimensions."""
    found = []
    for kind, name in dict.fromkeys((row["kind"], row["rater"]) for row in raters):
        own = [row for row in raters if (row["kind"], row["rater"]) == (kind, name)]
        n, asked = sum(row["n"] for row in own), sum(row["planned"] for row in own)
        share = (asked - n) / asked if asked else None
        found.append({"rater": name, "kind": kind, "n": n, "planned": asked, "missing_share": share})
    return found


def _use(dimension: str, table: np.ndarray, levels: Sequence[int]) -> dict[str, Any]:
    """How the experts use the scale on one dimension: entropy in bits, the commonest value, levels never used."""
    given = table[np.isfinite(table)]
    values, counts = np.unique(given, return_counts=True)
    shares = counts / max(1, len(given))
    rounded = np.floor(given + 0.5)
    return {
        "dimension": dimension,
        "n": len(given),
        "items": int(np.isfinite(table).any(axis=1).sum()),
        "items_with_two_ratings": int((np.isfinite(table).sum(axis=1) > 1).sum()),
        "entropy_bits": abs(float(-(shares * np.log2(shares)).sum())) if len(given) else None,
        "commonest_value": float(values[np.argmax(counts)]) if len(given) else None,
        "commonest_share": float(shares.max()) if len(given) else None,
        "dominant": bool(len(given) and shares.max() > DOMINANT),
        "levels_not_used": [int(k) for k in levels if len(given) and not (rounded == k).any()],
    }
