"""From a long table of ratings to arrays, and the checks that come before any number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from ..judge.records import RATER_KINDS, STAGES
from .rating_checks import ITEM, Scores, panel_checks

REQUIRED = ("case_id", "system", "rater", "rater_kind", "dimension", "score")
DEFAULTS: dict[str, Any] = {"arm": "image_only", "sample": 0, "stage": "independent", "repeat": 0}
MOST_SHOWN = 5  # values named in a message


@dataclass(frozen=True)
class Panel:
    """Ratings as arrays; NaN marks "no score" inside this package and never leaves it.

    `experts` (dimensions, items, raters), `judges` (dimensions, items, judges): scores in scale units.
    `case`, `system`, `cluster` (items,): positions in `case_ids`, `systems` and among `n_clusters` clusters.
    `distributions` (dimensions, items, judges, levels) or None. `identity` is False if expert slots have no names;
    `stage` is the stage of the experts' ratings that are used; `checks` is what was found on the way.
    """

    levels: tuple[int, ...]
    dimensions: tuple[str, ...]
    raters: tuple[str, ...]
    judge_names: tuple[str, ...]
    case_ids: tuple[str, ...]
    systems: tuple[str, ...]
    experts: np.ndarray
    judges: np.ndarray
    case: np.ndarray
    system: np.ndarray
    cluster: np.ndarray
    n_clusters: int
    identity: bool
    stage: str
    checks: Mapping[str, Any]
    distributions: np.ndarray | None = None


def read_panel(
    frame: pl.DataFrame,
    levels: Sequence[int],
    cluster: Mapping[str, str] | None = None,
    keep_out_of_range: bool = False,
) -> Panel:
    """Turn a long table of ratings into a `Panel`.

    `frame`: one row per (narrative, rater, stage, repeat, dimension) with case_id, system, rater, rater_kind
    ("expert" or "judge"), dimension, score (number or null); optional arm, sample, stage, repeat, state,
    distribution (probabilities over `levels`) and patient_id. `levels`: the rubric's scale, rising whole numbers.
    `cluster` maps case_id to the unit that is resampled; without it patient_id (where the column exists and
    is filled), else case_id. A score outside the scale is listed and not used unless `keep_out_of_range`.

    Of several repeats an expert's first counts (later ones measure the expert against himself) and a judge's are
    averaged (its score is what it would report). An empty expert name means a slot without identity.
    Independent ratings are used; adjudicated ones only if there are no others.

    Raises InputError on missing columns, NaN scores, unknown kinds or stages, scores that contradict their
    state, duplicate rows, a case in two clusters.
    """
    levels = tuple(int(level) for level in levels)
    if len(levels) < 2 or list(levels) != sorted(set(levels)):
        raise InputError(f"rubric levels must be at least two rising whole numbers, such as (0, 1, 2); got {levels}")
    frame = normalise(frame)
    clusters = clusters_of_cases(frame, cluster)
    low, high = levels[0], levels[-1]
    planned = frame
    if not keep_out_of_range:
        frame = frame.with_columns(pl.when(pl.col("score").is_between(low, high)).then(pl.col("score")).alias("score"))

    is_expert = pl.col("rater_kind") == "expert"
    stages = set(frame.filter(is_expert & pl.col("score").is_not_null())["stage"])
    stage = "adjudicated" if stages == {"adjudicated"} else "independent"
    experts = frame.filter(is_expert & (pl.col("stage") == stage))
    judges = frame.filter(~is_expert)
    identity = not (experts["rater"] == "").any()
    if not identity:
        slot = pl.int_range(pl.len()).over([*ITEM, "dimension", "repeat"])
        experts = experts.with_columns(("#" + (slot + 1).cast(pl.String)).alias("rater"))
    elif (planned.filter(is_expert)["rater"] == "").any():
        raise InputError("column rater is empty in some adjudicated expert rows only; name all experts or none")
    refuse_duplicates(pl.concat([experts, judges]))

    items = frame.select(ITEM).unique().sort(ITEM).with_row_index("item")
    dimensions = tuple(frame["dimension"].unique(maintain_order=True))
    rater_names = tuple(experts["rater"].unique().sort())
    judge_names = tuple(judges["rater"].unique().sort())

    first = (
        experts.filter(pl.col("score").is_not_null()).sort("repeat").unique([*ITEM, "dimension", "rater"], keep="first")
    )
    mean = judges.group_by([*ITEM, "dimension", "rater"]).agg(pl.col("score").mean())
    y = _fill(first, items, dimensions, rater_names)
    x = _fill(mean, items, dimensions, judge_names)
    case_ids = tuple(items["case_id"].unique().sort())
    systems = tuple(items["system"].unique().sort())
    case = _positions(items["case_id"], case_ids)
    names = [clusters[c] for c in case_ids]
    unique_clusters, cluster_of_case = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
    checks = panel_checks(
        planned,
        first,
        Scores("expert", rater_names, y, np.isfinite(y).any(axis=2)),
        Scores("judge", judge_names, x, _planned(judges, items, dimensions)),
        dimensions,
        levels,
        stage,
        identity,
        keep_out_of_range,
    )
    return Panel(
        levels=levels,
        dimensions=dimensions,
        raters=rater_names,
        judge_names=judge_names,
        case_ids=case_ids,
        systems=systems,
        experts=y,
        judges=x,
        case=case,
        system=_positions(items["system"], systems),
        cluster=cluster_of_case[case],
        n_clusters=len(unique_clusters),
        identity=identity,
        stage=stage,
        checks=checks,
        distributions=_distributions(judges, items, dimensions, judge_names, len(levels)),
    )


def normalise(frame: pl.DataFrame) -> pl.DataFrame:
    """A long table of ratings with every column that `read_panel` uses, in one type, with defaults filled in.

    Text columns are strings, score is a float, sample and repeat are whole numbers, an absent expert name is "", state
    is there. Rows and their order stay. Raises InputError as `read_panel` does, duplicates and clusters aside.
    """
    if missing := [name for name in REQUIRED if name not in frame.columns]:
        raise InputError(f"ratings lack the column(s) {', '.join(missing)}; they have {', '.join(frame.columns)}")
    frame = frame.with_columns(
        (pl.col(k).fill_null(v) if k in frame.columns else pl.lit(v)).alias(k) for k, v in DEFAULTS.items()
    )
    if isinstance(frame["score"].dtype, pl.Categorical | pl.Enum):  # a cast would give their codes
        frame = frame.with_columns(pl.col("score").cast(pl.String))
    if words := _words(frame["score"]):
        raise InputError(
            f"column score of the ratings holds {words}, but scores must be numbers; "
            "categories and pairwise votes go to evaluators.votes: agree_votes(frame)"
        )
    try:
        frame = frame.with_columns(pl.col("score").cast(pl.Float64), pl.col("sample", "repeat").cast(pl.Int64))
    except pl.exceptions.PolarsError as error:
        raise InputError(f"columns score, sample and repeat of the ratings must be numbers: {error}") from error
    text = ["case_id", "system", "arm", "rater", "rater_kind", "stage", "dimension"]
    frame = frame.with_columns(pl.col(text).cast(pl.String)).with_columns(pl.col("rater").fill_null(""))
    for name in ("case_id", "system", "rater_kind", "dimension"):
        if frame[name].null_count():
            raise InputError(
                f"column {name} of the ratings is empty in {frame[name].null_count()} of {frame.height} rows"
            )
    for name, known in (("rater_kind", RATER_KINDS), ("stage", STAGES)):
        if unknown := sorted(set(frame[name].unique()) - set(known)):
            raise InputError(f"column {name} of the ratings holds '{unknown[0]}'; known: {', '.join(known)}")
    score = pl.col("score")
    if (bad := frame.filter(score.is_nan() | score.is_infinite())).height:
        raise InputError(
            f"{bad.height} scores are NaN or infinite, first: {_where(bad)}; leave the field empty instead"
        )
    if "state" not in frame.columns:
        return frame.with_columns(
            pl.when(score.is_null()).then(pl.lit("skipped")).otherwise(pl.lit("scored")).alias("state")
        )
    if (bad := frame.filter((pl.col("state") == "scored") != score.is_not_null())).height:
        raise InputError(f"{bad.height} rows have state 'scored' without a score or the reverse, first: {_where(bad)}")
    return frame


def _words(scores: pl.Series) -> str:
    """The first values of a text column that are no numbers, quoted; "" if there are none."""
    if scores.dtype != pl.String:
        return ""
    wrong = scores.filter(scores.is_not_null() & scores.cast(pl.Float64, strict=False).is_null())
    return ", ".join(repr(word[:40]) for word in wrong.unique(maintain_order=True).head(MOST_SHOWN))


def clusters_of_cases(frame: pl.DataFrame, cluster: Mapping[str, str] | None) -> dict[str, str]:
    """The unit that is resampled per case_id: from `cluster`, else the column patient_id, else the case itself.

    `frame`: rows from `normalise`. Raises InputError if `cluster` lacks a case or a case has two patients.
    """
    cases = frame["case_id"].unique(maintain_order=True)
    if cluster is not None:
        if lost := [c for c in cases if c not in cluster]:
            raise InputError(f"no cluster is given for case '{lost[0]}' ({len(lost)} of {len(cases)} cases)")
        return {c: str(cluster[c]) for c in cases}
    if "patient_id" not in frame.columns:
        return {c: c for c in cases}
    pairs = frame.select("case_id", pl.col("patient_id").cast(pl.String).fill_null("")).unique()
    if (twice := pairs.filter(pl.col("case_id").is_duplicated())).height:
        raise InputError(
            f"case '{twice['case_id'][0]}' belongs to more than one patient_id: {twice['patient_id'].to_list()[:4]}"
        )
    # A case without a patient is its own cluster; the prefix keeps it apart from a patient of the same name.
    return {c: f"p:{p}" if p else f"c:{c}" for c, p in pairs.iter_rows()}


def refuse_duplicates(frame: pl.DataFrame) -> None:
    """InputError if two rows from `normalise` rate the same thing: narrative, dimension, rater and repeat."""
    key = [*ITEM, "dimension", "rater", "rater_kind", "repeat"]
    if (twice := frame.filter(pl.struct(key).is_duplicated())).height:
        raise InputError(f"{twice.height} rows share their key ({', '.join(key)}), first: {_where(twice)}")


def _where(frame: pl.DataFrame) -> str:
    row = frame.row(0, named=True)
    return ", ".join(f"{name} {row[name]}" for name in (*ITEM, "rater", "dimension"))


def _positions(column: pl.Series, names: Sequence[str]) -> np.ndarray:
    return np.searchsorted(np.array(names, dtype=object).astype(str), column.to_numpy().astype(str))


def _indexed(frame: pl.DataFrame, items: pl.DataFrame, dimensions: Sequence[str], names: Sequence[str]) -> pl.DataFrame:
    places = pl.DataFrame(
        {"dimension": dimensions, "_d": range(len(dimensions))}, schema_overrides={"dimension": pl.String}
    )
    raters = pl.DataFrame({"rater": names, "_r": range(len(names))}, schema_overrides={"rater": pl.String})
    return frame.join(items, on=ITEM).join(places, on="dimension").join(raters, on="rater")


def _fill(frame: pl.DataFrame, items: pl.DataFrame, dimensions: Sequence[str], names: Sequence[str]) -> np.ndarray:
    table = np.full((len(dimensions), items.height, len(names)), np.nan)
    rows = _indexed(frame, items, dimensions, names)
    table[rows["_d"].to_numpy(), rows["item"].to_numpy(), rows["_r"].to_numpy()] = (
        rows["score"].fill_null(np.nan).to_numpy()
    )
    return table


def _planned(judges: pl.DataFrame, items: pl.DataFrame, dimensions: Sequence[str]) -> np.ndarray:
    names = tuple(judges["rater"].unique().sort())
    table = np.zeros((len(dimensions), items.height, len(names)), dtype=bool)
    rows = _indexed(judges, items, dimensions, names)
    table[rows["_d"].to_numpy(), rows["item"].to_numpy(), rows["_r"].to_numpy()] = True
    return table


def _distributions(
    judges: pl.DataFrame, items: pl.DataFrame, dimensions: Sequence[str], names: Sequence[str], levels: int
) -> np.ndarray | None:
    if "distribution" not in judges.columns or judges["distribution"].null_count() == judges.height:
        return None
    rows = judges.filter(pl.col("distribution").is_not_null() & pl.col("score").is_not_null())
    if (bad := rows.filter(pl.col("distribution").list.len() != levels)).height:
        raise InputError(
            f"a distribution must have one probability per level ({levels}); first wrong row: {_where(bad)}"
        )
    parts = [pl.col("distribution").list.get(k).mean().alias(f"_{k}") for k in range(levels)]
    rows = _indexed(rows.group_by([*ITEM, "dimension", "rater"]).agg(parts), items, dimensions, names)
    table = np.full((len(dimensions), items.height, len(names), levels), np.nan)
    table[rows["_d"].to_numpy(), rows["item"].to_numpy(), rows["_r"].to_numpy()] = rows.select(
        [f"_{k}" for k in range(levels)]
    ).to_numpy()
    return table
