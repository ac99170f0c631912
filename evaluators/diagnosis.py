"""Top-k diagnosis: is the gold diagnosis among the first k of a narrative's differential, and how nearly?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from ..judge.records import Case, Narrative, identity
from .bootstrap import Estimate
from .captured import Captured, captured_weight, gold_weights
from .confidences import Calibration, calibration
from .diagnosis_rows import LENIENT, STRICT, Found, Weighed, item_rows, match_gold, narrative_rows, weigh
from .hierarchy import Granularity, granularity
from .labels import UnusableGold, usable_gold
from .narratives import Pairs, ReadNarratives, cluster, known_terms, pair, read_narrative
from .proportions import mean, rate
from .relations import Relations, load_relations
from .safety import SafetyErrors, safety_errors
from .terms import Terms

CURVE = tuple(range(1, 11))  # the depths of a top-k curve


@dataclass(frozen=True)
class SystemDiagnosis:
    """How one system (in one arm) did.

    `n` narratives of cases with a usable gold, of `clusters` patients; all rates are over these n, an abstention
    counts as a miss. strict: exact, synonym or child; lenient: parent too; graded: mean of the best relation weight
    within k; mrr: mean reciprocal rank of the first strict hit, at any rank, 0 without one. `crossing`: over
    narratives whose first item is mapped, the share in which it lies on the other side of malignant or infectious.
    `abstained`, `nothing_found`: narratives that decline, or in which no diagnosis was found; `unmatched`: share of
    items that name nothing in the list. `hedged_hits`, `typo_hits`: strict hits (at any rank) that were; `ambiguous`:
    items that could mean several conditions; `no_gold`: narratives left out since their case has no usable gold;
    `without_narrative`: usable cases that this system did not answer.

    `curve`, `lenient_curve`: strict and lenient top-k for k of CURVE; `levels`: accuracy of the first item by level of
    the tree; `safety`: dangerous errors; `confidence`, `item_confidence`: calibration of what is stated for the first
    item, and for every item, against strict hits; `captured`: the share of a weighted gold differential that is
    caught, None where no case has one.
    """

    system: str
    arm: str
    n: int
    clusters: int
    strict: Mapping[int, Estimate]
    lenient: Mapping[int, Estimate]
    graded: Mapping[int, Estimate]
    mrr: Estimate
    crossing: Estimate
    unmatched: Estimate
    abstained: int
    nothing_found: int
    hedged_hits: int
    typo_hits: int
    ambiguous: int
    no_gold: int
    without_narrative: int
    curve: Mapping[int, Estimate]
    lenient_curve: Mapping[int, Estimate]
    levels: Granularity
    safety: SafetyErrors
    confidence: Calibration
    item_confidence: Calibration
    captured: Captured | None

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = dict(vars(self))
        for name in ("strict", "lenient", "graded", "curve", "lenient_curve"):
            found[name] = {str(k): estimate.to_dict() for k, estimate in found[name].items()}
        return {name: v.to_dict() if hasattr(v, "to_dict") else v for name, v in found.items()}


@dataclass(frozen=True)
class DiagnosisResult:
    """Scores per system; `rows`: one per narrative that says why; `items`: one per ranked item; unusable gold."""

    systems: tuple[SystemDiagnosis, ...]
    rows: pl.DataFrame
    k: tuple[int, ...]
    unusable_gold: tuple[UnusableGold, ...]
    notes: tuple[str, ...]
    seed: int
    items: pl.DataFrame = field(default_factory=pl.DataFrame)
    relations: Relations = field(default_factory=load_relations)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the rows and items, as plain JSON values."""
        return {
            "k": list(self.k),
            "relations": self.relations.to_dict(),
            "systems": [system.to_dict() for system in self.systems],
            "unusable_gold": [gold.to_dict() for gold in self.unusable_gold],
            "notes": list(self.notes),
            "seed": self.seed,
        }


def score_diagnosis(
    cases: Iterable[Case],
    narratives: Iterable[Narrative],
    terms: Terms | None = None,
    k: Iterable[int] = (1, 3, 5),
    seed: int = 0,
    resamples: int = 2000,
    relations: Relations | None = None,
    parsed: ReadNarratives | None = None,
) -> DiagnosisResult:
    """Score the differentials of narratives against the gold diagnoses of their cases.

    A narrative's own `differential` is scored if it has one, else what `parse_differential` reads in its text. Any
    gold name of a case counts. Rates have Wilson intervals (see `proportions.rate`), means percentile intervals from
    `resamples` redraws of patients. Cases without a usable gold are listed and left out. `relations`: weights of your
    own for graded top-k; `parsed`: what `read_narratives` read already, for texts that `score_triage` scores too.
    InputError for a k below 1, a record that stands twice, a narrative without its case.
    """
    terms = known_terms(terms, parsed)
    relations = relations or load_relations()
    depths = tuple(sorted(set(k)))
    if not depths or depths[0] < 1:
        raise InputError(f"k must be whole numbers from 1, such as 1,3,5; got {', '.join(map(str, k)) or 'none'}")
    pairs = pair(cases, narratives)
    gold: dict[str, tuple[str, ...]] = {}
    unusable: list[UnusableGold] = []
    for key, case in pairs.cases.items():
        gold[key], wrong = usable_gold(case, terms)
        unusable += wrong
    weights = {key: gold_weights(case, terms) for key, case in pairs.cases.items()}
    groups = {
        name: [
            weigh(
                narrative,
                case,
                gold[identity(case.id)],
                parsed.of(narrative) if parsed else read_narrative(narrative, terms),
                terms,
                relations,
            )
            for narrative, case in group
        ]
        for name, group in pairs.groups.items()
    }
    everyone = [one for group in groups.values() for one in group]
    frame, items = narrative_rows(everyone, depths, terms), item_rows(everyone)
    systems = tuple(
        _system(name, group, frame, items, pairs, gold, weights, depths, terms, relations, seed, resamples)
        for name, group in groups.items()
    )
    return DiagnosisResult(systems, frame, depths, tuple(unusable), (terms.note,), seed, items, relations)


def _system(
    name: tuple[str, str],
    weighed: Sequence[Weighed],
    frame: pl.DataFrame,
    items: pl.DataFrame,
    pairs: Pairs,
    gold: Mapping[str, tuple[str, ...]],
    weights: Mapping[str, tuple[dict[str, float], float] | None],
    depths: tuple[int, ...],
    terms: Terms,
    relations: Relations,
    seed: int,
    resamples: int,
) -> SystemDiagnosis:
    own = (pl.col("system") == name[0]) & (pl.col("arm") == name[1])
    rows = frame.filter(own)
    used = rows.filter(pl.col("state") != "no_gold")
    place = used["cluster"].rank("dense").to_numpy()
    strict, lenient = used["strict_rank"], used["lenient_rank"]
    mapped = used.filter(pl.col("crosses").is_not_null())
    counts = used["items"].to_numpy()
    flags = [np.arange(n) < m for n, m in zip(counts, used["unmatched"].to_numpy(), strict=True)]
    answered = {identity(narrative.case_id) for narrative, _ in pairs.groups[name]}
    with_gold = [one for one in weighed if one.gold]
    who = np.array([cluster(one.case) for one in with_gold])
    stated = items.filter(own & pl.col("gold").is_not_null())
    first = stated.filter(pl.col("rank") == 1)
    shares = [(one, found) for one in weighed if (found := weights[identity(one.case.id)]) is not None]

    def within(rank: pl.Series, depth: int) -> Estimate:
        return rate((rank <= depth).fill_null(False).to_numpy(), place, what="narrative of a case with a usable gold")

    def trusted(rows: pl.DataFrame) -> Calibration:
        return calibration(
            rows["confidence"].to_list(), rows["strict"].to_numpy(), rows["cluster"].to_numpy(), seed, resamples
        )

    return SystemDiagnosis(
        system=name[0],
        arm=name[1],
        n=len(used),
        clusters=used["cluster"].n_unique(),
        strict={depth: within(strict, depth) for depth in depths},
        lenient={depth: within(lenient, depth) for depth in depths},
        graded={depth: mean(used[f"graded_{depth}"].to_numpy(), place, seed, resamples) for depth in depths},
        mrr=mean((1 / strict).fill_null(0.0).to_numpy(), place, seed, resamples),
        crossing=rate(
            mapped["crosses"].to_numpy(), mapped["cluster"].to_numpy(), what="narrative with a mapped first item"
        ),
        unmatched=rate(np.concatenate(flags) if flags else counts, np.repeat(place, counts), what="item"),
        abstained=int((used["state"] == "abstained").sum()),
        nothing_found=int((used["state"] == "nothing_found").sum()),
        hedged_hits=int(used["hedged"].sum()),
        typo_hits=int(used["typo"].sum()),
        ambiguous=int(used["ambiguous"].sum()),
        no_gold=len(rows) - len(used),
        without_narrative=sum(bool(names) and key not in answered for key, names in gold.items()),
        curve={depth: within(strict, depth) for depth in CURVE},
        lenient_curve={depth: within(lenient, depth) for depth in CURVE},
        levels=granularity([_names(one)[0] if one.ranked else [] for one in with_gold],
                           [one.gold for one in with_gold], who, terms),
        safety=safety_errors([_names(one) for one in with_gold], [one.gold for one in with_gold], who, depths, terms),
        confidence=trusted(first),
        item_confidence=trusted(stated),
        captured=captured_weight(
            [_names(one) for one, _ in shares], [found for _, found in shares],
            np.array([cluster(one.case) for one, _ in shares]), depths, terms, relations, seed, resamples,
        ) if shares else None,
    )  # fmt: skip


def _names(one: Weighed) -> list[list[str]]:
    """The canonical names of each ranked item."""
    return [[hit.canonical for hit in item.match.hits] for item in one.ranked]


__all__ = [
    "CURVE", "LENIENT", "STRICT", "DiagnosisResult", "Found", "SystemDiagnosis", "match_gold", "score_diagnosis",
]  # fmt: skip
