"""What is found about fairness: values and gaps by group, disparities by attribute, and families of tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..judge.errors import InputError
from .bootstrap import Estimate
from .multiplicity import adjust


@dataclass(frozen=True)
class GroupValue:
    """One metric of one system and arm in one group; `group` is None for the cases whose group is not known.

    `value`: mean of the metric over the group's narratives; `gap`: the group minus all other cases of a known group, on
    the same resamples. `counts`: narratives, cases, patients, other_cases, other_patients. `p_value`, `p_adjusted`: of
    the gap; None where nothing may be claimed, and then `shown` says why.
    """

    system: str
    arm: str
    metric: str
    attribute: str
    group: str | None
    counts: Mapping[str, int]
    value: Estimate
    gap: Estimate
    p_value: float | None
    p_adjusted: float | None
    shown: str = ""

    def to_dict(self) -> dict[str, Any]:
        own = {"counts": dict(self.counts), "value": self.value.to_dict(), "gap": self.gap.to_dict()}
        return vars(self) | own


@dataclass(frozen=True)
class Disparity:
    """The distance between the highest and the lowest group of at least FEWEST_CASES cases, and the worst of them.

    `difference`: highest minus lowest value; `by_chance`, `by_chance_high`: its mean and 1 - alpha quantile if groups
    of these sizes do not differ (resamples centred at each group's own value). For the metric positive_rate it is the
    demographic parity difference; for "equalised_odds" the larger of those of sensitivity and false_positive_rate
    (Hardt et al. 2016, as in fairlearn), of that metric `of`. `worst`: the group with the worst value and its cases,
    None where the metric has no worse side.
    """

    system: str
    arm: str
    metric: str
    attribute: str
    groups: int
    difference: float | None
    highest: str | None
    lowest: str | None
    by_chance: float | None
    by_chance_high: float | None
    worst: str | None = None
    worst_value: float | None = None
    worst_cases: int | None = None
    of: str = ""
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class FairnessResult:
    """Every system x metric x attribute x group, disparities per attribute, and the families p-values belong to."""

    groups: tuple[GroupValue, ...]
    disparities: tuple[Disparity, ...]
    families: Mapping[str, str]
    settings: Mapping[str, Any]
    notes: tuple[str, ...]

    def of(self, metric: str, attribute: str, group: str | None, system: str = "", arm: str = "") -> GroupValue:
        """One group; `system` and `arm` may be left out where there is one. InputError if there is none, or several."""
        found = [
            g for g in self.groups
            if (g.metric, g.attribute, g.group) == (metric, attribute, group)
            and system in ("", g.system) and arm in ("", g.arm)
        ]  # fmt: skip
        if len(found) != 1:
            raise InputError(f"{len(found)} results for {system or 'any system'} / {metric} / {attribute} / {group}; "
                             "one is needed, so name system and arm")  # fmt: skip
        return found[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        return {
            "groups": [g.to_dict() for g in self.groups], "disparities": [d.to_dict() for d in self.disparities],
            "families": dict(self.families), "settings": dict(self.settings), "notes": list(self.notes),
        }  # fmt: skip


def adjusted_groups(
    groups: Sequence[GroupValue], crossed: set[str], correction: str
) -> tuple[list[GroupValue], dict[str, str]]:
    """Adjusted p-values. Where an attribute has two groups, their gaps are one with its sign turned: one test."""
    tests: dict[str, dict[tuple[Any, ...], float | None]] = {}
    keys: list[tuple[str, tuple[Any, ...]]] = []
    filled = Counter((g.system, g.arm, g.metric, g.attribute) for g in groups if g.group is not None)
    for g in groups:
        where = (g.system, g.arm, g.metric, g.attribute)
        family = f"{g.metric}, {'crossings' if g.attribute in crossed else 'attributes'}"
        key = (*where, None if filled[where] == 2 else g.group)
        keys.append((family, key))
        if g.group is not None and g.p_value is not None:
            tests.setdefault(family, {})[key] = g.p_value
    adjusted = {name: dict(zip(t, adjust(list(t.values()), correction), strict=True)) for name, t in tests.items()}
    families = {name: f"{correction} over {len(t)} tests of a gap in {name}" for name, t in tests.items()}
    out = [
        replace(g, p_adjusted=adjusted[family][key]) if g.p_value is not None else g
        for g, (family, key) in zip(groups, keys, strict=True)
    ]
    return out, families


def equalised_odds(disparities: Sequence[Disparity]) -> list[Disparity]:
    """The larger of the differences in sensitivity and in false-positive rate; nothing where either is missing."""
    by = {(d.system, d.arm, d.attribute, d.metric): d for d in disparities}
    found = []
    for (system, arm, attribute, metric), sensitivity in by.items():
        other = by.get((system, arm, attribute, "false_positive_rate"))
        if metric != "sensitivity" or other is None:
            continue
        pair = [d for d in (sensitivity, other) if d.difference is not None]
        if len(pair) == 2:
            larger = max(pair, key=lambda d: d.difference or 0.0)
            found.append(replace(larger, metric="equalised_odds", of=larger.metric))
        else:
            why = sensitivity.reason if sensitivity.difference is None else other.reason
            where = (system, arm, "equalised_odds", attribute, min(sensitivity.groups, other.groups))
            found.append(Disparity(*where, None, None, None, None, None, reason=why))
    return found
