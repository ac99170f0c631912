"""Which arm is held against which, for `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ..evaluators.arm_values import narrative_values
from ..evaluators.arms_effect import ArmsEffect, arms_effect
from ..evaluators.diagnosis import DiagnosisResult
from ..evaluators.triage import TriageResult
from ..judge.errors import InputError

PLAIN = ("image_only", "image_context", "text_only")  # the first that is there stands for a benchmark's usual arm


def references(arms: Sequence[str], against: str = "") -> dict[str, list[str]]:
    """Reference arm -> the arms held against it: `against` for all, else each variant's plain arm, and the usual one.

    >>> references(["image_only", "image_context", "image_context-wrong:age", "image_only-blur:2"])
    {'image_only': ['image_context', 'image_only-blur:2'], 'image_context': ['image_context-wrong:age']}
    """
    if against and against not in arms:
        raise InputError(f"--arms-against: no narrative has the arm '{against}'; there are {', '.join(arms)}")
    if against and len(arms) < 2:
        raise InputError(f"--arms-against needs narratives of several arms; these are all '{against}'")
    usual = against or next((arm for arm in PLAIN if arm in arms), min(arms))
    found: dict[str, list[str]] = {}
    for arm in arms:
        plain = arm.partition("-")[0]
        base = plain if not against and plain != arm and plain in arms else usual
        if arm != base:
            found.setdefault(base, []).append(arm)
    return found


def arm_effects(
    top: DiagnosisResult, calls: TriageResult, against: str, seed: int
) -> tuple[list[ArmsEffect], list[str]]:
    """The effect of every arm, per reference arm; and which arms share no narrative with theirs. [] for one arm."""
    values = narrative_values(top, calls)
    arms = values["arm"].unique().sort().to_list()
    effects, notes = [], []
    for base, others in references(arms, against).items():
        paired = [arm for arm in others if _shared(values, base, arm)]
        notes += [f"{arm} is not compared: no case has a narrative of one system and sample under it and {base}"
                  for arm in others if arm not in paired]  # fmt: skip
        if paired:
            effects.append(arms_effect(values, base, paired, seed=seed))
    return effects, notes


def _shared(values: pl.DataFrame, base: str, arm: str) -> bool:
    key = ["case_id", "system", "sample"]
    return not values.filter(pl.col("arm") == base).join(values.filter(pl.col("arm") == arm), on=key).is_empty()
