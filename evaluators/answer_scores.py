"""Scores of answers to closed questions from which questions, groups and their intervals are estimated in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .agreement import estimate
from .answer_units import Marked, Unit, matches, plain
from .bootstrap import Estimate
from .proportions import rate
from .ratios import sum_draws
from .terms import Terms

EVERY = "all questions"
RESULTS = {
    "single": ("accuracy", "macro_f1"), "multi": ("partial", "jaccard", "micro_f1", "macro_f1", "exact"),
    "slots": ("partial", "jaccard", "micro_f1", "macro_f1", "exact"), "open": ("exact", "matched"),
}  # fmt: skip
_SHARES = {"accuracy": 2, "exact": 2}  # of whole cases, with a Wilson interval; the feature that holds the hit
_BASE = 8  # features that every unit has, before those of its options
_EXTRA = 5


@dataclass(frozen=True)
class QuestionScores:
    """One system on one question, or on sub-questions scored together (kind "slots"); or on a group, or on all.

    `results`: single: accuracy, macro_f1 (over options that occur in gold or answer); multi and slots: partial (shared
    options over the larger of both sets, the scorer of MEDIQA-MAGIC 2025), jaccard, micro_f1, macro_f1, exact; open:
    exact after normalising, matched where answers are diagnoses; group: credit, the mean of each question's first
    result over its answers. `baseline`: the same of the commonest gold answer `majority`; `above`: the first result
    minus the baseline's. `answered_only`, `when_mentioned`: the first result over the questions that were answered, and
    over those whose gold is not "not mentioned". `counts`: n (gold answers), patients, answered, unanswered, strange
    (with an answer off the options), gold_not_mentioned, said_not_mentioned.
    """

    system: str
    question: str
    kind: str
    group: str
    text: str
    counts: Mapping[str, int]
    results: Mapping[str, Estimate]
    baseline: Mapping[str, Estimate]
    majority: str
    above: Estimate
    answered_only: Estimate
    when_mentioned: Estimate

    @property
    def credit(self) -> Estimate:
        """The first result: accuracy, partial, exact, or a group's credit."""
        return next(iter(self.results.values()))

    def to_dict(self) -> dict[str, Any]:
        own: dict[str, Any] = vars(self) | {"counts": dict(self.counts)}
        for name in ("results", "baseline"):
            own[name] = {key: found.to_dict() for key, found in own[name].items()}
        return {k: v.to_dict() if isinstance(v, Estimate) else v for k, v in own.items()}


class Scored:
    """One system, and beside it the commonest answer, on the cases of one unit that have a gold answer."""

    def __init__(self, system: str, unit: Unit, gold: Marked, said: Marked, patient: np.ndarray, terms: Terms | None):
        self.system, self.unit, self.gold, self.said, self.patient = system, unit, gold, said, patient
        self.matched = terms is not None
        commonest, self.majority = _commonest(unit, gold)
        self.sides = [self._features(side, terms) for side in (said, commonest)]
        self.width = len(self.sides[0])

    def _features(self, said: Marked, terms: Terms | None) -> np.ndarray:
        """(features, n): n, credit, exact, jaccard, shared and all ticks, matched, whether it can be; then per option
        its shared and all ticks."""
        gold, n = self.gold, len(self.patient)
        ones, zeros = np.ones(n), np.zeros(n)
        if self.unit.kind == "open":
            same = [plain(a) == plain(b) for a, b in zip(gold.texts, said.texts, strict=True)]
            exact = np.array(same)
            hit = matches(gold.texts, said.texts, terms) if terms else np.full(n, np.nan)
            there = np.isfinite(hit)
            matched = (np.where(there, hit, 0.0), there * 1.0)
            return np.stack([ones, exact * 1.0, exact * 1.0, zeros, zeros, zeros, *matched])
        shared, ticks = gold.sets & said.sets, gold.sets * 1.0 + said.sets
        both, size, told = shared.sum(axis=1), gold.sets.sum(axis=1), said.sets.sum(axis=1) + said.extra
        exact = (both == size) & (told == size)
        jaccard = both / (size + told - both)
        credit = exact * 1.0 if self.unit.kind == "single" else both / np.maximum(size, told)
        head = np.stack([ones, credit, exact * 1.0, jaccard, both * 1.0, size + told, zeros, zeros])
        return np.concatenate([head, shared.T * 1.0, ticks.T])

    def sums(self, n_patients: int) -> np.ndarray:
        """Features per patient of the system, of the baseline, and of credit where answered and where mentioned."""
        credit, base = self.sides[0][1], self.sides[1][1]
        told = ~self.gold.none
        extra = [credit * self.said.answered, self.said.answered * 1.0, credit * told, told * 1.0, base]
        rows = np.concatenate([*self.sides, np.stack(extra)])
        return np.stack([np.bincount(self.patient, row, n_patients) for row in rows])

    def results(self, s: np.ndarray, draws: np.ndarray, side: int, alpha: float) -> dict[str, Estimate]:
        """Results of the system (side 0) or the baseline (1) from sums per patient and their resampled totals."""
        names = [name for name in RESULTS[self.unit.kind] if name != "matched" or self.matched]
        values, drawn = _statistics(s.sum(axis=1, keepdims=True)), _statistics(draws)
        n, patients, found = int(s[0].sum()), int((s[0] > 0).sum()), {}
        for name in names:
            if name in _SHARES:
                found[name] = rate(self.sides[side][_SHARES[name]], self.patient, alpha)
            elif name == "matched":
                there = self.sides[side][7] > 0
                found[name] = rate(self.sides[side][6][there], self.patient[there], alpha, "gold that the list holds")
            else:
                found[name] = _estimated(values[name][0], n, drawn[name], patients, alpha, "no option is ticked")
        return found

    @property
    def counts(self) -> dict[str, int]:
        answered = int(self.said.answered.sum())
        return {
            "n": len(self.patient), "patients": len(np.unique(self.patient)), "answered": answered,
            "unanswered": len(self.patient) - answered, "strange": int((self.said.extra > 0).sum()),
            "gold_not_mentioned": int(self.gold.none.sum()), "said_not_mentioned": int(self.said.none.sum()),
        }  # fmt: skip


def estimates(
    scored: Sequence[Scored], n_patients: int, resamples: int, seed: int, alpha: float
) -> tuple[list[QuestionScores], list[QuestionScores]]:
    """Each unit of one system, and each group of several units and all of them; every number on the same resamples."""
    sums = [one.sums(n_patients) for one in scored]
    draws = sum_draws(np.concatenate(sums), resamples, seed)
    parts, start = [], 0
    for rows in sums:
        parts.append((rows, draws[start : start + len(rows)]))
        start += len(rows)
    found = []
    for one, (s, d) in zip(scored, parts, strict=True):
        w, unit = one.width, one.unit
        results, baseline = (one.results(s[k * w : (k + 1) * w], d[k * w : (k + 1) * w], k, alpha) for k in (0, 1))
        found.append(QuestionScores(one.system, unit.name, unit.kind, unit.group, unit.text, one.counts, results,
                                    baseline, one.majority, *_beside(s, d, w, alpha)))  # fmt: skip
    return found, list(_groups(scored, parts, alpha))


def _groups(
    scored: Sequence[Scored], parts: Sequence[tuple[np.ndarray, np.ndarray]], alpha: float
) -> Iterator[QuestionScores]:
    by_group: dict[str, list[int]] = {}
    for k, one in enumerate(scored):
        by_group.setdefault(one.unit.group, []).append(k)
    taken = {one.unit.name for one in scored}
    several = {f"group {name}" if name in taken else name: own for name, own in by_group.items() if len(own) > 1}
    for name, own in {**several, EVERY: list(range(len(scored)))}.items():
        # n and credit lead each unit's features; what stands beside them closes them.
        s, d = (np.sum([np.concatenate([parts[k][i][:2], parts[k][i][-_EXTRA:]]) for k in own], axis=0) for i in (0, 1))
        counts = {key: sum(scored[k].counts[key] for k in own) for key in scored[0].counts}
        counts["patients"] = int((s[0] > 0).sum())
        credit, base = (_ratio(s[row], s[0], d[row], d[0], alpha, "no question has a gold answer") for row in (1, -1))
        yield QuestionScores(scored[0].system, name, "group", name, "", counts, {"credit": credit},
                             {"credit": base}, "", *_beside(s, d, 0, alpha))  # fmt: skip


def _beside(s: np.ndarray, d: np.ndarray, width: int, alpha: float) -> tuple[Estimate, Estimate, Estimate]:
    """Credit minus the baseline's, credit where answered, credit where the gold is mentioned."""
    n, patients = int(s[0].sum()), int((s[0] > 0).sum())
    above = estimate(
        float((s[1] - s[-1]).sum() / n), n, (d[1] - d[-1]) / np.where(d[0] > 0, d[0], np.nan), patients, alpha
    )
    return (
        above,
        _ratio(s[-5], s[-4], d[-5], d[-4], alpha, "no question was answered"),
        _ratio(s[-3], s[-2], d[-3], d[-2], alpha, "every gold answer is 'not mentioned'"),
    )


def _ratio(
    total: np.ndarray, count: np.ndarray, drawn: np.ndarray, drawn_count: np.ndarray, alpha: float, nothing: str
) -> Estimate:
    n = int(count.sum())
    if not n:
        return Estimate(None, 0, reason=nothing)
    ratio = drawn / np.where(drawn_count > 0, drawn_count, np.nan)
    return estimate(float(total.sum() / n), n, ratio, int((count > 0).sum()), alpha)


def _estimated(value: float, n: int, draws: np.ndarray, patients: int, alpha: float, nothing: str) -> Estimate:
    if not np.isfinite(value):
        return Estimate(None, n, reason=nothing)
    return estimate(float(value), n, draws, patients, alpha)


def _statistics(s: np.ndarray) -> dict[str, np.ndarray]:
    """Results by name from totals of the features (features, draws); NaN where there is none."""
    options = (len(s) - _BASE) // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        out = {"partial": s[1] / s[0], "jaccard": s[3] / s[0], "micro_f1": 2 * s[4] / s[5]}
        each = 2 * s[_BASE : _BASE + options] / s[_BASE + options :]
        # An option that neither gold nor answer ticks has no F1 and no part in the mean.
        there = np.isfinite(each)
        return out | {"macro_f1": np.where(there, each, 0.0).sum(axis=0) / there.sum(axis=0)}


def _commonest(unit: Unit, gold: Marked) -> tuple[Marked, str]:
    """The commonest gold answer, given to every case, and in words; of equally common ones the first in order."""
    n = len(gold.extra)
    yes, no = np.ones(n, dtype=bool), np.zeros(n)
    if unit.kind == "open":
        form = min(Counter(map(plain, gold.texts)).items(), key=lambda item: (-item[1], item[0]))[0]
        text = next(text for text in gold.texts if plain(text) == form)
        return Marked(gold.sets, no, yes, no > 0, (text,) * n), text
    ticked = Counter(tuple(row) for row in gold.sets.tolist())
    best = min(ticked.items(), key=lambda item: (-item[1], [not tick for tick in item[0]]))[0]
    words = "; ".join(option for option, tick in zip(unit.options, best, strict=True) if tick)
    return Marked(np.tile(best, (n, 1)), no, yes, no > 0, ("",) * n), words
