"""What an arm is worth: the same case, system and sample under two arms, narrative by narrative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from .arm_values import KEY, is_hit, measures
from .bootstrap import Estimate
from .multiplicity import adjust
from .probes import cluster_t_test
from .proportions import rate
from .ratios import per_cluster, ratios

_SAME = ("case_id", "system", "sample")


@dataclass(frozen=True)
class ArmDelta:
    """One measure of one system under `arm` and under `base`, over the n pairs that have both; system None: all.

    `difference`: arm minus base, as `value_base` and `value_arm` with percentile intervals from redrawing patients.
    `lost`: pairs that one arm has no value for (a skipped case, no call). Of a measure that is right or wrong also
    `right_to_wrong`, of those right under the base, and `wrong_to_right`, of those wrong (Wilson intervals, widened for
    several narratives of a patient). `p_value`: of no difference, `cluster_t_test`; `p_adjusted`: Holm over `family`.
    """

    system: str | None
    arm: str
    measure: str
    n: int
    clusters: int
    lost: int
    value_base: Estimate
    value_arm: Estimate
    difference: Estimate
    right_to_wrong: Estimate | None
    wrong_to_right: Estimate | None
    p_value: float | None
    p_adjusted: float | None
    family: str

    def to_dict(self) -> dict[str, Any]:
        return {name: v.to_dict() if isinstance(v, Estimate) else v for name, v in vars(self).items()}


@dataclass(frozen=True)
class FirstChange:
    """How often the first diagnosis is another one than under the base: of n pairs in which both arms name one.

    Under a wrong context: the sensitivity to it. `lost`: pairs in which one arm names none.
    """

    system: str | None
    arm: str
    n: int
    lost: int
    changed: Estimate

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {"changed": self.changed.to_dict()}


@dataclass(frozen=True)
class ArmsEffect:
    """Every arm against `base`; `unpaired`: per arm, narratives of either arm that the other has no partner for."""

    base: str
    arms: tuple[str, ...]
    deltas: tuple[ArmDelta, ...]
    first: tuple[FirstChange, ...]
    unpaired: dict[str, int]
    seed: int

    def of(self, arm: str, measure: str, system: str | None = None) -> ArmDelta:
        """One row; KeyError if there is none."""
        for row in self.deltas:
            if (row.arm, row.measure, row.system) == (arm, measure, system):
                return row
        raise KeyError((arm, measure, system))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "base": self.base, "arms": list(self.arms), "deltas": [row.to_dict() for row in self.deltas],
            "first_diagnosis_changes": [row.to_dict() for row in self.first], "unpaired": self.unpaired,
            "seed": self.seed,
        }  # fmt: skip


def arms_effect(
    values: pl.DataFrame, base: str, arms: Sequence[str] | None = None, seed: int = 0, resamples: int = 2000
) -> ArmsEffect:
    """Paired differences of every measure between each of `arms` (default: all others) and `base`.

    values: a row per narrative as `arm_values.narrative_values` gives them, or with measures of your own: the columns
    case_id, system, arm, sample, cluster, any numeric columns, and `first` (the first diagnosis) where there is one.
    Holm runs over all arms, measures and systems against this base; the rows over all systems are a family of their
    own. InputError for an arm that no narrative has, a narrative that stands twice, arms without a common narrative.
    """
    there = values["arm"].unique().sort().to_list()
    wanted = tuple(arm for arm in there if arm != base) if arms is None else tuple(arms)
    if unknown := [arm for arm in (base, *wanted) if arm not in there]:
        raise InputError(f"no narrative has the arm '{unknown[0]}'; there are {', '.join(there)}")
    if not wanted or base in wanted:
        raise InputError(f"name an arm to hold against '{base}'; there are {', '.join(there)}")
    if values.select(KEY).is_duplicated().any():
        raise InputError("a narrative stands twice; case, system, arm and sample name it")
    names = measures(values)
    ours = values.filter(pl.col("arm") == base).drop("arm")
    plain: list[dict[str, Any]] = []
    first: list[FirstChange] = []
    unpaired = {}
    for arm in wanted:
        theirs = values.filter(pl.col("arm") == arm).drop("arm", "cluster")
        pairs = ours.join(theirs, on=_SAME, how="inner", suffix="_arm").sort(_SAME)
        if pairs.is_empty():
            raise InputError(f"no case has a narrative of one system and sample under both '{base}' and '{arm}'")
        unpaired[arm] = len(ours) + len(theirs) - 2 * len(pairs)
        for system in (*pairs["system"].unique().sort(), None):
            own = pairs if system is None else pairs.filter(pl.col("system") == system)
            plain += [_delta(own, system, arm, name, seed, resamples) for name in names]
            if "first" in values.columns:
                first.append(_first(own, system, arm))
    return ArmsEffect(base, wanted, tuple(_adjusted(plain, base)), tuple(first), unpaired, seed)


def _delta(pairs: pl.DataFrame, system: str | None, arm: str, name: str, seed: int, resamples: int) -> dict[str, Any]:
    both = pairs.filter(pl.col(name).is_not_null() & pl.col(f"{name}_arm").is_not_null())
    one = pairs.filter(pl.col(name).is_not_null() | pl.col(f"{name}_arm").is_not_null())
    before, after = both[name].cast(pl.Float64).to_numpy(), both[f"{name}_arm"].cast(pl.Float64).to_numpy()
    clusters, place = np.unique(both["cluster"].to_numpy().astype(str), return_inverse=True)
    rows = [per_cluster(x, place, len(clusters)) for x in (before, after, after - before)]
    why = f"no pair of narratives has a value of {name} under both arms"
    found = ratios(rows, resamples, seed, [why] * 3) if len(both) else [Estimate(None, 0, reason=why)] * 3
    flips: list[Estimate | None] = [None, None]
    if is_hit(name):
        right = before == 1
        flips = [rate(after[right] == 0, place[right], what="pair that is right under the base"),
                 rate(after[~right] == 1, place[~right], what="pair that is wrong under the base")]  # fmt: skip
    return {
        "system": system, "arm": arm, "measure": name, "n": len(both), "clusters": len(clusters),
        "lost": len(one) - len(both), "value_base": found[0], "value_arm": found[1], "difference": found[2],
        "right_to_wrong": flips[0], "wrong_to_right": flips[1],
        "p_value": cluster_t_test(*rows[2]) if len(both) else None,
    }  # fmt: skip


def _adjusted(plain: Sequence[dict[str, Any]], base: str) -> list[ArmDelta]:
    adjusted: list[float | None] = [None] * len(plain)
    families = {}
    for pooled in (False, True):
        places = [k for k, row in enumerate(plain) if (row["system"] is None) == pooled]
        for place, p in zip(places, adjust([plain[k]["p_value"] for k in places], "holm"), strict=True):
            adjusted[place] = p
        tests = sum(plain[k]["p_value"] is not None for k in places)
        over = "arms and measures, all systems together" if pooled else "arms, measures and systems"
        families[pooled] = f"holm over {tests} tests against {base}: {over}"
    return [
        ArmDelta(**row, p_adjusted=p, family=families[row["system"] is None])
        for row, p in zip(plain, adjusted, strict=True)
    ]


def _first(pairs: pl.DataFrame, system: str | None, arm: str) -> FirstChange:
    both = pairs.filter(pl.col("first").is_not_null() & pl.col("first_arm").is_not_null())
    changed = (both["first"] != both["first_arm"]).to_numpy()
    named = pairs.filter(pl.col("first").is_not_null() | pl.col("first_arm").is_not_null())
    what = "pair in which both arms name a diagnosis"
    found = rate(changed, both["cluster"].to_numpy().astype(str), what=what)
    return FirstChange(system, arm, len(both), len(named) - len(both), found)
