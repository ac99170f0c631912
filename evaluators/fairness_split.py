"""The rows that fairness is computed from, and the groups that an attribute, or a crossing of two, divides them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl

from ..judge.errors import InputError
from ..judge.records import identity
from .case_attributes import refuse_overlap

CROSS = " × "  # between the two attributes, and the two groups, of a crossing
_KEY = ["case_id", "system", "arm", "sample", "metric"]
_SAME = {"fitzpatrick", "fitzpatrick_band"}  # one property in two grains: never crossed


@dataclass(frozen=True)
class Values:
    """`frame`: system, arm, metric, value, case and patient (0-based); `names`: the case_id of each case."""

    frame: pl.DataFrame
    names: list[str]
    patients: int


@dataclass(frozen=True)
class Split:
    """One attribute, or a crossing of two: `place` (cases,) of each case's group, len(groups) where unknown."""

    name: str
    groups: tuple[str, ...]
    place: np.ndarray
    crossed: bool
    notes: tuple[str, ...] = ()


def known_values(values: pl.DataFrame, cluster: Mapping[str, str] | None) -> tuple[Values, list[str]]:
    """The rows with a value, cases and patients as numbers, and notes on what is not used; errors as `fairness`."""
    if missing := [name for name in ("case_id", "system", "metric", "value") if name not in values.columns]:
        raise InputError(f"values lack the column(s) {', '.join(missing)}; they have {', '.join(values.columns)}")
    fill = [pl.lit("").alias("arm")] if "arm" not in values.columns else []
    fill += [pl.lit(0).alias("sample")] if "sample" not in values.columns else []
    frame = values.with_columns(pl.col("value").cast(pl.Float64), *fill)
    if (twice := frame.filter(pl.struct(_KEY).is_duplicated())).height:
        raise InputError(f"a value stands twice for {' / '.join(map(str, twice.select(_KEY).row(0)))}; give it once")
    there = frame.filter(pl.col("value").is_finite())
    if there.is_empty():
        raise InputError(f"none of {frame.height} rows has a value; there is nothing to compare")
    lost = frame.height - there.height
    notes = [f"{lost} of {frame.height} rows have no value and are not used"] if lost else []
    ids = there["case_id"].unique(maintain_order=True).to_list()
    of_case = _patients(there, ids, cluster)
    names: dict[str, int] = {}
    patient = {case: names.setdefault(of_case[case], len(names)) for case in ids}
    number = {case: k for k, case in enumerate(ids)}
    there = there.select(
        "system", "arm", "metric", "value",
        pl.col("case_id").replace_strict(number, return_dtype=pl.Int64).alias("case"),
        pl.col("case_id").replace_strict(patient, return_dtype=pl.Int64).alias("patient"),
    )  # fmt: skip
    return Values(there, ids, len(names)), notes


def _patients(frame: pl.DataFrame, ids: Sequence[str], cluster: Mapping[str, str] | None) -> dict[str, str]:
    if cluster is not None:
        known = {identity(case): patient for case, patient in cluster.items()}
        if lost := [case for case in ids if identity(case) not in known]:
            raise InputError(f"no cluster is given for case '{lost[0]}' ({len(lost)} of {len(ids)} cases)")
        return {case: str(known[identity(case)]) for case in ids}
    if "cluster" not in frame.columns:
        return {case: case for case in ids}
    pairs = frame.select("case_id", pl.col("cluster").cast(pl.String)).unique()
    if pairs["case_id"].is_duplicated().any() or pairs["cluster"].null_count():
        raise InputError("the column cluster must name one patient for each case")
    return dict(pairs.iter_rows())


def splits_of(
    ids: Sequence[str], attributes: Mapping[str, Mapping[str, str]], crossings: Sequence[tuple[str, str]] | None
) -> list[Split]:
    """The attributes and then their crossings (default: all pairs); InputError as `fairness`."""
    single = [_split(name, ids, of_case) for name, of_case in attributes.items()]
    known = {split.name: split for split in single}
    if not any(split.groups for split in single):
        raise InputError(
            f"no case of the values has a group in {', '.join(attributes) or 'any attribute'}; "
            f"attributes map a case_id, such as '{ids[0]}', to a group"
        )
    pairs = list(combinations(known, 2) if crossings is None else crossings)
    if crossings is None:
        pairs = [pair for pair in pairs if set(pair) != _SAME]
    for pair in pairs:
        if strange := [name for name in pair if name not in known]:
            raise InputError(f"no attribute '{strange[0]}' to cross; there are {', '.join(known)}")
        if pair[0] == pair[1] or set(pair) == _SAME:
            raise InputError(f"crossing {pair[0]} with {pair[1]} tells nothing: they are one property of a case")
    return [*single, *(_crossed(known[one], known[other]) for one, other in pairs)]


def _split(name: str, ids: Sequence[str], of_case: Mapping[str, str]) -> Split:
    mapped = {identity(case): str(group).strip() for case, group in of_case.items() if group is not None}
    own = [mapped.get(identity(case), "") for case in ids]
    groups = sorted(set(own) - {""}, key=lambda group: (not group.startswith("<"), group))
    refuse_overlap(name, groups)
    number = {group: k for k, group in enumerate(groups)} | {"": len(groups)}
    notes = []
    if unknown := own.count(""):
        notes.append(f"{name}: not known of {unknown} of {len(own)} cases")
    if len(groups) == 1:
        notes.append(f"{name}: one group only, so there is nothing to compare")
    return Split(name, tuple(groups), np.array([number[group] for group in own]), False, tuple(notes))


def _crossed(one: Split, other: Split) -> Split:
    """The groups of two attributes that occur together; a case of which either is unknown is unknown."""
    both = (one.place < len(one.groups)) & (other.place < len(other.groups))
    joint = one.place * len(other.groups) + other.place
    found, place = np.unique(joint[both], return_inverse=True)
    groups = tuple(
        one.groups[k // len(other.groups)] + CROSS + other.groups[k % len(other.groups)] for k in found.tolist()
    )
    where = np.full(len(both), len(groups))
    where[both] = place
    return Split(one.name + CROSS + other.name, groups, where, True)
