"""Top-k diagnosis: is the gold diagnosis among the first k of a narrative's differential, and how nearly?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from ..judge.records import Case, Narrative, identity
from .bootstrap import Estimate
from .differential import Differential, Item
from .labels import UnusableGold, usable_gold
from .matching import Hit
from .narratives import Pairs, cluster, pair, read_narrative
from .proportions import mean, rate
from .terms import Grade, Terms, load_terms

# Worth of a grade in graded top-k: DermoBench (arXiv 2601.01868) maps exact and synonym to 1, parent and child to
# 0.85, sibling to 0.7. A crossing between malignant or not, or infectious or not, is graded "none" (see Terms).
GRADE_VALUE: Mapping[Grade, float] = {
    "exact": 1.0, "synonym": 1.0, "child": 0.85, "parent": 0.85, "sibling": 0.7, "none": 0.0,
}  # fmt: skip
STRICT: frozenset[Grade] = frozenset({"exact", "synonym", "child"})
LENIENT: frozenset[Grade] = STRICT | {"parent"}
_ORDER: tuple[Grade, ...] = ("exact", "synonym", "child", "parent", "sibling", "none")


@dataclass(frozen=True)
class SystemDiagnosis:
    """How one system (in one arm) did.

    `n` narratives of cases with a usable gold, of `clusters` patients; all rates are over these n, an abstention
    counts as a miss. strict: exact, synonym or child; lenient: parent too; graded: mean of the best GRADE_VALUE within
    k; mrr: mean reciprocal rank of the first strict hit, at any rank, 0 without one. `crossing`: over narratives whose
    first item is mapped, the share in which it lies on the other side of malignant or infectious. `abstained`,
    `nothing_found`: narratives that decline, or in which no diagnosis was found; `unmatched`: share of items that name
    nothing in the list. `hedged_hits`, `typo_hits`: strict hits (at any rank) that were; `ambiguous`: items that could
    mean several conditions; `no_gold`: narratives left out since their case has no usable gold; `without_narrative`:
    usable cases that this system did not answer.
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

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = dict(vars(self))
        for name in ("strict", "lenient", "graded"):
            found[name] = {str(k): estimate.to_dict() for k, estimate in found[name].items()}
        return {name: v.to_dict() if isinstance(v, Estimate) else v for name, v in found.items()}


@dataclass(frozen=True)
class DiagnosisResult:
    """Scores per system, one row per narrative that says why (`rows`), and the gold labels that could not be used."""

    systems: tuple[SystemDiagnosis, ...]
    rows: pl.DataFrame
    k: tuple[int, ...]
    unusable_gold: tuple[UnusableGold, ...]
    notes: tuple[str, ...]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Everything but the rows, as plain JSON values."""
        return {
            "k": list(self.k),
            "grade_value": dict(GRADE_VALUE),
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
) -> DiagnosisResult:
    """Score the differentials of narratives against the gold diagnoses of their cases.

    A narrative's own `differential` is scored if it has one, else what `parse_differential` reads in its text. Any
    gold name of a case counts. Rates have Wilson intervals (see `proportions.rate`), means percentile intervals from
    `resamples` redraws of patients. Cases without a usable gold are listed and left out. InputError for a k below 1,
    a record that stands twice, a narrative without its case.
    """
    terms = terms or load_terms()
    depths = tuple(sorted(set(k)))
    if not depths or depths[0] < 1:
        raise InputError(f"k must be whole numbers from 1, such as 1,3,5; got {', '.join(map(str, k)) or 'none'}")
    pairs = pair(cases, narratives)
    gold: dict[str, tuple[str, ...]] = {}
    unusable: list[UnusableGold] = []
    for key, case in pairs.cases.items():
        gold[key], wrong = usable_gold(case, terms)
        unusable += wrong
    rows = [
        _row(narrative, case, gold[identity(case.id)], read_narrative(narrative, terms), depths, terms)
        for group in pairs.groups.values()
        for narrative, case in group
    ]
    frame = pl.DataFrame(rows, schema=_schema(depths), orient="row")
    systems = tuple(_system(name, frame, pairs, gold, depths, seed, resamples) for name in pairs.groups)
    return DiagnosisResult(systems, frame, depths, tuple(unusable), (terms.note,), seed)


@dataclass(frozen=True, slots=True)
class Found:
    """The best that one item is to the gold: the hit, the gold name it was held against, the grade."""

    item: Item
    hit: Hit
    gold: str
    grade: Grade

    def __str__(self) -> str:
        how = {
            "name": "its name",
            "alias": "an alias",
            "reordered": "words reordered",
            "inside": "inside",
            "typo": "typo",
        }
        return (
            f"item {self.item.rank} '{self.item.name}' -> {self.hit.canonical} "
            f"({how[self.hit.how]}: '{self.hit.alias}'): {self.grade} of {self.gold}"
        )


def match_gold(differential: Differential, gold: Iterable[str], terms: Terms) -> list[Found]:
    """For each ranked item that names something, the best grade against any of the canonical `gold` names."""
    found = []
    for item in differential.items:
        graded = [Found(item, hit, name, terms.grade(hit, name)) for hit in item.match.hits for name in gold]
        if item.rank is not None and graded:
            found.append(min(graded, key=lambda f: _ORDER.index(f.grade)))
    return found


def _row(
    narrative: Narrative, case: Case, gold: tuple[str, ...], said: Differential, depths: tuple[int, ...], terms: Terms
) -> dict[str, Any]:
    found = match_gold(said, gold, terms)
    strict = next((f for f in found if f.grade in STRICT), None)
    lenient = next((f for f in found if f.grade in LENIENT), None)
    best = min(found, key=lambda f: _ORDER.index(f.grade), default=None)
    ranked = [item for item in said.items if item.rank is not None]
    first = ranked[0].match.hits if ranked else ()
    state = "no_gold" if not gold else "abstained" if said.abstained else "scored" if ranked else "nothing_found"
    row: dict[str, Any] = {
        "case_id": narrative.case_id, "system": narrative.system, "arm": narrative.arm, "sample": narrative.sample,
        "cluster": cluster(case), "gold": list(gold), "state": state,
        "named": [" / ".join(h.canonical for h in item.match.hits) or f"? {item.name}" for item in ranked],
        "strict_rank": strict.item.rank if strict else None, "lenient_rank": lenient.item.rank if lenient else None,
        "best_grade": best.grade if best else "none",
        "hedged": bool(strict and strict.item.hedged), "typo": bool(strict and strict.hit.how == "typo"),
        "items": len(ranked), "unmatched": sum("unmatched" in item.flags for item in ranked),
        "ambiguous": sum("ambiguous" in item.flags for item in ranked),
        "denied": [item.name for item in said.items if item.rank is None],
        "crosses": all(terms.crosses(h.canonical, name) for h in first for name in gold) if first and gold else None,
        "why": str(strict or best) if found else said.reason or "no item names a condition of the list",
    }  # fmt: skip
    for depth in depths:
        within = [GRADE_VALUE[f.grade] for f in found if f.item.rank is not None and f.item.rank <= depth]
        row[f"graded_{depth}"] = max(within, default=0.0) if gold else None
    return row


def _schema(depths: tuple[int, ...]) -> dict[str, Any]:
    text, whole, names = pl.String, pl.Int64, pl.List(pl.String)
    return {
        "case_id": text, "system": text, "arm": text, "sample": whole, "cluster": text, "gold": names, "state": text,
        "named": names, "strict_rank": whole, "lenient_rank": whole, "best_grade": text, "hedged": pl.Boolean,
        "typo": pl.Boolean, "items": whole, "unmatched": whole, "ambiguous": whole, "denied": names,
        "crosses": pl.Boolean, "why": text,
    } | {f"graded_{depth}": pl.Float64 for depth in depths}  # fmt: skip


def _system(
    name: tuple[str, str],
    frame: pl.DataFrame,
    pairs: Pairs,
    gold: Mapping[str, tuple[str, ...]],
    depths: tuple[int, ...],
    seed: int,
    resamples: int,
) -> SystemDiagnosis:
    system, arm = name
    rows = frame.filter((pl.col("system") == system) & (pl.col("arm") == arm))
    used = rows.filter(pl.col("state") != "no_gold")
    place = used["cluster"].rank("dense").to_numpy()
    strict, lenient = used["strict_rank"], used["lenient_rank"]
    reciprocal = (1 / strict).fill_null(0.0).to_numpy()
    mapped = used.filter(pl.col("crosses").is_not_null())
    items = used["items"].to_numpy()
    unmatched = used["unmatched"].to_numpy()
    flags = np.concatenate([np.arange(n) < m for n, m in zip(items, unmatched, strict=True)]) if len(items) else items
    answered = {identity(narrative.case_id) for narrative, _ in pairs.groups[name]}

    def within(rank: pl.Series, depth: int) -> Estimate:
        return rate((rank <= depth).fill_null(False).to_numpy(), place, what="narrative of a case with a usable gold")

    return SystemDiagnosis(
        system=system,
        arm=arm,
        n=len(used),
        clusters=used["cluster"].n_unique(),
        strict={depth: within(strict, depth) for depth in depths},
        lenient={depth: within(lenient, depth) for depth in depths},
        graded={depth: mean(used[f"graded_{depth}"].to_numpy(), place, seed, resamples) for depth in depths},
        mrr=mean(reciprocal, place, seed, resamples),
        crossing=rate(
            mapped["crosses"].to_numpy(), mapped["cluster"].to_numpy(), what="narrative with a mapped first item"
        ),
        unmatched=rate(flags, np.repeat(place, items), what="item"),
        abstained=int((used["state"] == "abstained").sum()),
        nothing_found=int((used["state"] == "nothing_found").sum()),
        hedged_hits=int(used["hedged"].sum()),
        typo_hits=int(used["typo"].sum()),
        ambiguous=int(used["ambiguous"].sum()),
        no_gold=len(rows) - len(used),
        without_narrative=sum(bool(names) and key not in answered for key, names in gold.items()),
    )
