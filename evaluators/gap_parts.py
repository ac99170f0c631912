"""One measure of a gap: both sides' sums by system, diagnosis group and patient, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from .bootstrap import Estimate, estimate
from .ratios import sum_draws

PARTS = ("public", "local", "gap", "mix", "within")


@dataclass(frozen=True)
class GapRow:
    """One measure of one system (None: plain mean of the systems) on both sides; n of `public` and `local` narratives.

    `gap` = public - local = `mix` + `within` (see `gap`). `explained`: mix as share of the gap, None where the gap's
    interval holds 0, or there is none. Intervals: each side's patients redrawn by themselves.
    """

    system: str | None
    measure: str
    local_arm: str
    public: Estimate
    local: Estimate
    gap: Estimate
    mix: Estimate
    within: Estimate
    explained: Estimate

    def to_dict(self) -> dict[str, Any]:
        return {name: v.to_dict() if isinstance(v, Estimate) else v for name, v in vars(self).items()}


@dataclass(frozen=True)
class GapGroup:
    """A diagnosis group of one measure, over all systems: cases, share of the narratives, and mean, on both sides."""

    measure: str
    local_arm: str
    group: str
    public_cases: int
    local_cases: int
    public_share: float
    local_share: float
    public_mean: float
    local_mean: float


class Decomposed(NamedTuple):
    rows: list[GapRow]
    groups: list[GapGroup]
    pooled: tuple[str, ...]


@dataclass(frozen=True)
class Slice:
    """One side of one measure: sums and numbers (systems, groups, patients) of the narratives that have a value.

    `cases`: by group the number of cases, in the system that has the fewest.
    """

    systems: tuple[str, ...]
    groups: tuple[str, ...]
    total: np.ndarray
    count: np.ndarray
    cases: Mapping[str, int]

    @classmethod
    def of(cls, rows: pl.DataFrame, measure: str, systems: Sequence[str]) -> Slice:
        """The slice of the `rows` of one arm."""
        used = rows.filter(pl.col(measure).is_not_null() & pl.col("system").is_in(list(systems)))
        used = used.sort("case_id", "system", "sample")
        groups = tuple(sorted(set(used["group"])))
        patients, cluster = np.unique(used["cluster"].to_numpy().astype(str), return_inverse=True)
        shape = (len(systems), len(groups), len(patients))
        place = np.ravel_multi_index(
            ([systems.index(s) for s in used["system"]], [groups.index(g) for g in used["group"]], cluster), shape
        ) if len(used) else np.zeros(0, int)  # fmt: skip
        total = np.bincount(place, used[measure].to_numpy(), int(np.prod(shape))).reshape(shape)
        count = np.bincount(place, minlength=int(np.prod(shape))).astype(float).reshape(shape)
        n = used.group_by("group", "system").agg(pl.col("case_id").n_unique().alias("n"))
        number = {(group, system): int(many) for group, system, many in n.iter_rows()}
        cases = {group: min(number.get((group, system), 0) for system in systems) for group in groups}
        return cls(tuple(systems), groups, total, count, cases)

    def merged(self, sets: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Sums and numbers (systems, sets, patients) with the groups of each set together."""
        parts = []
        for array in (self.total, self.count):
            places = [[self.groups.index(g) for g in names if g in self.groups] for names in sets]
            parts.append(np.stack([array[:, place].sum(axis=1) for place in places], axis=1))
        return parts[0], parts[1]


def decompose(
    public: Slice, local: Slice, measure: str, local_arm: str, least: int, seed: int, resamples: int
) -> Decomposed:
    """The rows of one measure, one per system and one of their mean, and the groups that they rest on."""
    sets, pooled = pool(public.cases, local.cases, least)
    sides = [side.merged(sets) for side in (public, local)]
    apart = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])  # the two sides must not share their draws
    drawn = [_draws(*side, resamples, s) for side, s in zip(sides, (seed, apart), strict=True)]
    points = [tuple(part.sum(axis=2, keepdims=True) for part in side) for side in sides]
    value, draws = _parts(points[0], points[1]), _parts(drawn[0], drawn[1])  # type: ignore[arg-type]
    rows = []
    for place in range(len(public.systems) + 1):
        pick = slice(None) if place == len(public.systems) else slice(place, place + 1)
        n = [int(side[1][pick].sum()) for side in sides]
        own = [int(side[1][pick].any(axis=(0, 1)).sum()) for side in sides]
        rests = {"public": (n[0], own[0]), "local": (n[1], own[1])}
        patients = min(own)
        found = {
            name: _estimate(value[name][pick].mean(axis=0)[0], *rests.get(name, (sum(n), patients)),
                            draws[name][pick].mean(axis=0), _why(name, measure, sets, least))
            for name in PARTS
        }  # fmt: skip
        explained = _explained(found, draws["mix"][pick].mean(axis=0), draws["gap"][pick].mean(axis=0), patients)
        system = public.systems[place] if place < len(public.systems) else None
        rows.append(GapRow(system, measure, local_arm, **found, explained=explained))
    return Decomposed(rows, _groups(sides, sets, (public, local), measure, local_arm), pooled)


def pool(public: Mapping[str, int], local: Mapping[str, int], least: int) -> tuple[list[list[str]], tuple[str, ...]]:
    """Sets of groups with at least `least` cases on both sides, and the names of those that had to be put together.

    The small groups make one set; while that is too small, the smallest of the others joins it.

    >>> pool({"a": 50, "b": 40, "c": 3}, {"a": 60, "b": 35, "d": 2}, 30)
    ([['a'], ['b', 'c', 'd']], ('b', 'c', 'd'))
    """
    size = {g: min(public.get(g, 0), local.get(g, 0)) for g in sorted({*public, *local})}
    large = sorted((g for g in size if size[g] >= least), key=lambda g: (size[g], g), reverse=True)
    small = [g for g in size if size[g] < least]
    while small and large and min(sum(side.get(g, 0) for g in small) for side in (public, local)) < least:
        small.append(large.pop())
    sets = sorted([[g] for g in large] + ([sorted(small)] if small else []))
    return sets, tuple(sorted(small)) if len(small) > 1 else ()


def _draws(total: np.ndarray, count: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    shape = total.shape[:2]
    flat = np.concatenate([part.reshape(-1, part.shape[2]) for part in (total, count)])
    if not flat.shape[1]:
        return np.zeros((*shape, resamples)), np.zeros((*shape, resamples))
    both = sum_draws(flat, resamples, seed)
    return both[: len(both) // 2].reshape(*shape, -1), both[len(both) // 2 :].reshape(*shape, -1)


def _parts(public: tuple[np.ndarray, np.ndarray], local: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    """Each part as (systems, draws) from sums and numbers (systems, groups, draws); NaN where it does not exist."""
    with np.errstate(divide="ignore", invalid="ignore"):
        (m, p), (here, q) = (
            (total / count, count / count.sum(axis=1, keepdims=True)) for total, count in (public, local)
        )
        means = [total.sum(axis=1) / count.sum(axis=1) for total, count in (public, local)]
        mix = ((p - q) * m).sum(axis=1) if m.shape[1] > 1 else np.full(means[0].shape, np.nan)
        within = (q * (m - here)).sum(axis=1) if m.shape[1] > 1 else np.full(means[0].shape, np.nan)
    return {"public": means[0], "local": means[1], "gap": means[0] - means[1], "mix": mix, "within": within}


def _why(name: str, measure: str, sets: Sequence[Sequence[str]], least: int) -> str:
    if name in ("mix", "within") and len(sets) < 2:
        return f"fewer than two diagnosis groups have {least} cases on both sides"
    return f"a side has no narrative with a value of {measure}"


def _estimate(value: float, n: int, patients: int, draws: np.ndarray, why: str) -> Estimate:
    return estimate(float(value), n, draws, patients, 0.05) if np.isfinite(value) else Estimate(None, n, reason=why)


def _explained(found: Mapping[str, Estimate], mix: np.ndarray, whole: np.ndarray, patients: int) -> Estimate:
    gap, part = found["gap"], found["mix"]
    if gap.value is None or part.value is None:
        return Estimate(None, gap.n, reason=gap.reason if gap.value is None else part.reason)
    if gap.low is None or gap.high is None or gap.low <= 0 <= gap.high:
        return Estimate(None, gap.n, reason="no share of a gap whose interval is not known or holds 0")
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimate(part.value / gap.value, gap.n, mix / whole, patients, 0.05)


def _groups(
    sides: Sequence[tuple[np.ndarray, np.ndarray]], sets: Sequence[Sequence[str]], slices: tuple[Slice, Slice],
    measure: str, local_arm: str,
) -> list[GapGroup]:  # fmt: skip
    """Empty where a side has no value in some group (then nothing is decomposed)."""
    (m, p), (here, q) = ((total.sum(axis=(0, 2)), count.sum(axis=(0, 2))) for total, count in sides)
    if not (p.all() and q.all()):
        return []
    cases = [[sum(side.cases.get(g, 0) for g in names) for names in sets] for side in slices]
    return [
        GapGroup(measure, local_arm, " + ".join(names), cases[0][g], cases[1][g], float(p[g] / p.sum()),
                 float(q[g] / q.sum()), float(m[g] / p[g]), float(here[g] / q[g]))
        for g, names in enumerate(sets)
    ]  # fmt: skip
