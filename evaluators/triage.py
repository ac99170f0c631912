"""Triage: how urgent a narrative says a case is, against how urgent it is; four levels and a binary cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from ..judge.records import URGENCIES, Case, Narrative, identity
from .bootstrap import Estimate
from .differential import Differential
from .labels import UnusableGold, usable_gold
from .narratives import ReadNarratives, cluster, known_terms, pair, read_narrative
from .proportions import rate, resampled
from .terms import Terms, load_terms
from .triage_call import TriageCall, read_level, read_triage
from .urgency_rules import Derived, Rule, derived_urgency

LIMITS = (
    "Urgency is a property of the patient, not of the name of a disease: age under 3 months, fever, mucosal erosions, "
    "skin pain, rapid spread, immunosuppression, the eye or airway, or more than 30 % of the body surface raise it."
)
CALLS = ("stated", "implied")


@dataclass(frozen=True)
class TriageScores:
    """Calls against gold, over `n` narratives with both; `missing` calls are counted apart, with their reasons.

    Positive: at or above the cut. under, severe_under (two levels or more), over: shares of all n. emergency_recall:
    share called emergent of those that are. kappa: quadratic weights on the four levels. `confusion`: gold level ->
    called level -> count, with "missing" among the called. `worst_case`: the same rates with each missing call
    counted as "routine". `derived`: how many of the n gold levels come from the term list.
    """

    n: int
    clusters: int
    missing: int
    missing_reasons: Mapping[str, int]
    derived: int
    rates: Mapping[str, Estimate]
    kappa: Estimate
    worst_case: Mapping[str, Estimate]
    confusion: Mapping[str, Mapping[str, int]]

    def to_dict(self) -> dict[str, Any]:
        plain = {name: estimate.to_dict() for name, estimate in self.rates.items()}
        worst = {name: estimate.to_dict() for name, estimate in self.worst_case.items()}
        return {
            "n": self.n, "clusters": self.clusters, "missing": self.missing,
            "missing_reasons": dict(self.missing_reasons), "derived": self.derived, **plain,
            "kappa": self.kappa.to_dict(), "worst_case": worst,
            "confusion": {gold: dict(row) for gold, row in self.confusion.items()},
        }  # fmt: skip


@dataclass(frozen=True)
class SystemTriage:
    """One system in one arm: the stated call and, apart from it, the call that its first diagnosis implies.

    `no_gold`: narratives left out since their case has no urgency and none can be derived.
    """

    system: str
    arm: str
    stated: TriageScores
    implied: TriageScores
    no_gold: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "system": self.system, "arm": self.arm, "stated": self.stated.to_dict(), "implied": self.implied.to_dict(),
            "no_gold": self.no_gold,
        }  # fmt: skip


@dataclass(frozen=True)
class TriageResult:
    """Scores per system, one row per narrative with its calls and their reasons, and what a report has to say."""

    systems: tuple[SystemTriage, ...]
    rows: pl.DataFrame
    cut: str
    unusable_gold: tuple[UnusableGold, ...]
    notes: tuple[str, ...]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Everything but the rows, as plain JSON values."""
        return {
            "cut": self.cut, "systems": [system.to_dict() for system in self.systems],
            "unusable_gold": [gold.to_dict() for gold in self.unusable_gold],
            "notes": list(self.notes), "seed": self.seed,
        }  # fmt: skip


def score_triage(
    cases: Iterable[Case],
    narratives: Iterable[Narrative],
    cut: str = "urgent",
    terms: Terms | None = None,
    seed: int = 0,
    resamples: int = 2000,
    rules: Sequence[Rule] | None = None,
    parsed: ReadNarratives | None = None,
) -> TriageResult:
    """Score the triage calls of narratives against the urgency of their cases.

    A narrative's own `triage` is read if it has one, else its text (`read_triage`). Gold is the urgency that the case
    itself states; else the one by the name of its diagnosis, raised by `rules` (default: the shipped ones, see
    `derived_urgency`), and counted as derived. `cut`: the lowest level that counts as positive. Rates have Wilson
    intervals, kappa a percentile interval from `resamples` redraws of patients. `parsed`: what `read_narratives` read
    already, for texts that `score_diagnosis` scores too. InputError for a cut or an urgency that is no level, a record
    that stands twice, a narrative without its case.
    """
    terms = known_terms(terms, parsed)
    if cut not in URGENCIES[1:]:
        raise InputError(f"cut '{cut}' would do nothing; one of {', '.join(URGENCIES[1:])} does")
    pairs = pair(cases, narratives)
    gold: dict[str, tuple[str, bool]] = {}
    reasons: dict[str, Derived] = {}
    unusable: list[UnusableGold] = []
    for key, case in pairs.cases.items():
        if case.urgency and case.urgency not in URGENCIES:
            raise InputError(f"case '{case.id}': urgency '{case.urgency}' is none of {', '.join(URGENCIES)}")
        derived = case.urgency_derived or not case.urgency
        reasons[key] = derived_urgency(case, terms, rules) if derived else Derived(case.urgency, "")
        level = reasons[key].level
        gold[key] = (level, derived)
        if not level:
            unusable += usable_gold(case, terms)[1] or [UnusableGold(case.id, ", ".join(case.diagnosis), "no urgency")]
    rows: list[dict[str, Any]] = []
    for group in pairs.groups.values():
        for narrative, case in group:
            level, derived = gold[identity(case.id)]
            stated = read_level(narrative.triage) if narrative.triage else read_triage(narrative.text)
            said = parsed.of(narrative) if parsed else read_narrative(narrative, terms)
            implied = implied_call(said, terms)
            why = reasons[identity(case.id)]
            rows.append({
                "case_id": narrative.case_id, "system": narrative.system, "arm": narrative.arm,
                "sample": narrative.sample, "cluster": cluster(case), "gold": level or None,
                "derived": derived if level else None,
                "gold_reason": why.reason if derived else "stated by the case", "rules": list(why.fired),
                "stated": stated.level or None, "stated_reason": stated.reason,
                "implied": implied.level or None, "implied_reason": implied.reason,
            })  # fmt: skip
    schema: dict[str, Any] = dict.fromkeys(rows[0], pl.String) | {
        "sample": pl.Int64, "derived": pl.Boolean, "rules": pl.List(pl.String),
    }  # fmt: skip
    frame = pl.DataFrame(rows, schema=schema)
    systems = []
    for system, arm in pairs.groups:
        own = frame.filter((pl.col("system") == system) & (pl.col("arm") == arm))
        used = own.filter(pl.col("gold").is_not_null())
        stated_scores, implied_scores = (_scores(used, call, cut, seed, resamples) for call in CALLS)
        systems.append(SystemTriage(system, arm, stated_scores, implied_scores, len(own) - len(used)))
    used = frame.filter(pl.col("gold").is_not_null())
    looked_up = int(used["derived"].sum())
    notes = [LIMITS]
    if looked_up:
        notes += [
            f"Gold urgency is derived from the diagnosis by the term list for {looked_up} of {len(used)} narratives.",
            terms.note,
        ]
    raised = used.filter(pl.col("derived") & (pl.col("rules").list.len() > 0)).height
    if raised:
        notes.append(
            f"Rules for age, site and systemic signs spoke for {raised} of them; no clinician has reviewed them."
        )
    return TriageResult(tuple(systems), frame, cut, tuple(unusable), tuple(notes), seed)


def _scores(rows: pl.DataFrame, call: str, cut: str, seed: int, resamples: int) -> TriageScores:
    level = {name: number for number, name in enumerate(URGENCIES)}
    called = rows.filter(pl.col(call).is_not_null())
    absent = rows.filter(pl.col(call).is_null())
    gold = np.array([level[name] for name in called["gold"]], dtype=int)
    said = np.array([level[name] for name in called[call]], dtype=int)
    everyone = np.concatenate([gold, np.array([level[name] for name in absent["gold"]], dtype=int)])
    worst = np.concatenate([said, np.zeros(len(absent), dtype=int)])
    place = called["cluster"].rank("dense").to_numpy() - 1 if len(called) else np.zeros(0, dtype=int)
    confusion = {name: dict.fromkeys((*URGENCIES, "missing"), 0) for name in URGENCIES}
    for true, guess in zip(rows["gold"], rows[call].fill_null("missing"), strict=True):
        confusion[true][guess] += 1
    both = pl.concat([called["cluster"], absent["cluster"]]).to_numpy() if len(rows) else np.zeros(0, dtype=int)
    return TriageScores(
        n=len(called),
        clusters=called["cluster"].n_unique(),
        missing=len(absent),
        missing_reasons=dict(
            Counter(reason.split(":")[0].split(" '")[0] for reason in absent[f"{call}_reason"]).most_common()
        ),
        derived=int(called["derived"].sum()),
        rates=_rates(gold, said, called["cluster"].to_numpy(), level[cut]),
        kappa=_kappa(gold, said, place, seed, resamples),
        worst_case=_rates(everyone, worst, both, level[cut]),
        confusion=confusion,
    )


def _rates(gold: np.ndarray, said: np.ndarray, cluster: np.ndarray, cut: int) -> dict[str, Estimate]:
    """Every rate with its own denominator; `gold`, `said` (n,): levels from 0 (routine) to 3 (emergent)."""
    high, called = gold >= cut, said >= cut
    emergent = gold == len(URGENCIES) - 1
    wrong = f"narrative whose case is {URGENCIES[cut]} or above"

    def among(hit: np.ndarray, base: np.ndarray, what: str) -> Estimate:
        return rate(hit[base], cluster[base], what=what)

    everyone = np.ones(len(gold), dtype=bool)
    return {
        "prevalence": among(high, everyone, "narrative with a call"),
        "sensitivity": among(called, high, wrong),
        "specificity": among(~called, ~high, f"narrative whose case is below {URGENCIES[cut]}"),
        "ppv": among(high, called, f"call of {URGENCIES[cut]} or above"),
        "npv": among(~high, ~called, f"call below {URGENCIES[cut]}"),
        "under": among(said < gold, everyone, "narrative with a call"),
        "severe_under": among(said <= gold - 2, everyone, "narrative with a call"),
        "over": among(said > gold, everyone, "narrative with a call"),
        "emergency_recall": among(said == gold, emergent, "narrative whose case is emergent"),
        "accuracy": among(said == gold, everyone, "narrative with a call"),
        "within_one": among(abs(said - gold) <= 1, everyone, "narrative with a call"),
    }


def _kappa(gold: np.ndarray, said: np.ndarray, place: np.ndarray, seed: int, resamples: int) -> Estimate:
    """Cohen's kappa with quadratic weights on the full scale (Cohen 1968), resampled by patient."""
    size = len(URGENCIES)
    weight = (np.arange(size)[:, None] - np.arange(size)[None, :]) ** 2.0

    def statistic(sums: np.ndarray) -> np.ndarray:
        table = sums.reshape(size, size, -1)
        observed = np.einsum("ij,ijb->b", weight, table)
        expected = np.einsum("ij,ib,jb->b", weight, table.sum(axis=1), table.sum(axis=0)) / table.sum(axis=(0, 1))
        return 1 - observed / np.where(expected > 0, expected, np.nan)

    sums = np.zeros((size * size, int(place.max()) + 1 if len(place) else 0))
    np.add.at(sums, (gold * size + said, place), 1)
    return resampled(
        sums,
        statistic,
        len(gold),
        seed,
        resamples,
        undefined="gold and calls are all of one level, or there is no call",
    )


def derive_urgency(case: Case, terms: Terms | None = None, rules: Sequence[Rule] = ()) -> str:
    """The urgency that the term list gives the case's gold diagnosis, the highest of several; "" if it gives none.

    By name alone unless `rules` are given; `derived_urgency` says which of them spoke.

    >>> derive_urgency(Case("c", diagnosis=("nevus", "melanoma")))
    'urgent'
    """
    return derived_urgency(replace(case, urgency=""), terms or load_terms(), rules).level


def implied_call(differential: Differential, terms: Terms) -> TriageCall:
    """The urgency of the first diagnosis of a differential, the highest where it names several."""
    ranked = [item for item in differential.items if item.rank is not None]
    if not ranked:
        return TriageCall("", differential.reason or "no diagnosis found")
    names = [hit.canonical for hit in ranked[0].match.hits]
    levels = [terms.conditions[name].urgency for name in names if terms.conditions[name].urgency]
    if not levels:
        return TriageCall("", f"the list gives no urgency for '{ranked[0].name}'")
    return TriageCall(max(levels, key=URGENCIES.index), f"first diagnosis {' / '.join(names)}")
