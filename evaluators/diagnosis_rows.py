"""What matched what: each item of a differential beside the gold diagnoses, with its relation, weight and words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from ..judge.records import Case, Narrative
from .differential import Differential, Item
from .matching import Hit
from .narratives import cluster
from .relations import Relations, load_relations
from .terms import Grade, Terms

STRICT: frozenset[Grade] = frozenset({"exact", "synonym", "child"})
LENIENT: frozenset[Grade] = STRICT | {"parent"}
_ORDER: Mapping[Grade, int] = {"exact": 0, "synonym": 1, "child": 2, "parent": 3, "sibling": 4, "none": 5}
_HOW = {"name": "its name", "alias": "an alias", "reordered": "words reordered", "inside": "inside", "typo": "typo"}


@dataclass(frozen=True, slots=True)
class Found:
    """The best that one item is to the gold: the hit, the gold name it was held against, grade, relation, weight."""

    item: Item
    hit: Hit
    gold: str
    grade: Grade
    relation: str = ""
    weight: float = 0.0

    def __str__(self) -> str:
        return (
            f"item {self.item.rank} '{self.item.name}' -> {self.hit.canonical} "
            f"({_HOW[self.hit.how]}: '{self.hit.alias}'): {self.grade} of {self.gold}"
        )


class Weighed(NamedTuple):
    """One narrative beside its case: the canonical gold names, what it says, the best of each item that names one."""

    narrative: Narrative
    case: Case
    gold: tuple[str, ...]
    said: Differential
    ranked: tuple[Item, ...]
    found: tuple[Found, ...]


def match_gold(
    differential: Differential, gold: Iterable[str], terms: Terms, relations: Relations | None = None
) -> list[Found]:
    """For each ranked item that names something, the best that it is to any of the canonical `gold` names.

    The best by grade (see `Terms.relation`), and of one grade by the weight of the relation.
    """
    relations = relations or load_relations()
    names = tuple(gold)
    best = []
    for item in differential.items:
        if item.rank is None or not item.match.hits:
            continue
        found = []
        for hit in item.match.hits:
            for name in names:
                relation = relations.of(hit, name, terms)
                found.append(Found(item, hit, name, terms.grade(hit, name), relation, relations.weight(relation)))
        if found:
            best.append(min(found, key=lambda f: (_ORDER[f.grade], relations.better(f.relation))))
    return best


def weigh(
    narrative: Narrative, case: Case, gold: tuple[str, ...], said: Differential, terms: Terms, relations: Relations
) -> Weighed:
    """A narrative's differential held against the gold of its case."""
    ranked = tuple(item for item in said.items if item.rank is not None)
    return Weighed(narrative, case, gold, said, ranked, tuple(match_gold(said, gold, terms, relations)))


def narrative_rows(weighed: Sequence[Weighed], depths: Sequence[int], terms: Terms) -> pl.DataFrame:
    """One row per narrative: its state, its best hits and where, and `matches`, what each ranked item matched."""
    rows = [_row(one, depths, terms) for one in weighed]
    text, whole, names = pl.String, pl.Int64, pl.List(pl.String)
    schema: dict[str, Any] = {
        "case_id": text, "system": text, "arm": text, "sample": whole, "cluster": text, "gold": names, "state": text,
        "named": names, "strict_rank": whole, "lenient_rank": whole, "best_grade": text, "relation": text,
        "weight": pl.Float64, "hedged": pl.Boolean, "typo": pl.Boolean, "items": whole, "unmatched": whole,
        "ambiguous": whole, "denied": names, "crosses": pl.Boolean, "why": text, "matches": names,
    } | {f"graded_{depth}": pl.Float64 for depth in depths}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def item_rows(weighed: Sequence[Weighed]) -> pl.DataFrame:
    """One row per ranked item: what it names (by which alias), its relation and weight to the gold, its confidence.

    `state`: matched | unmatched | ambiguous; `gold`, `relation`, `weight`, `strict` are null without a usable gold.
    """
    columns: dict[str, list[Any]] = {name: [] for name in _ITEM_SCHEMA}
    for one in weighed:
        told = (*one.narrative.key, cluster(one.case))
        best = {found.item.rank: found for found in one.found}
        for item in one.ranked:
            found = best.get(item.rank)
            hits = item.match.hits
            state = "matched" if hits else "ambiguous" if item.match.ambiguous else "unmatched"
            values = (
                *told, item.rank, item.name, state, " / ".join(hit.canonical for hit in hits) or None,
                found.hit.alias if found else hits[0].alias if hits else None,
                found.hit.how if found else hits[0].how if hits else None,
                found.gold if found else " / ".join(one.gold) or None,
                found.relation if found else "unmatched" if one.gold else None,
                found.weight if found else 0.0 if one.gold else None,
                (found.grade in STRICT if found else False) if one.gold else None,
                item.weight, item.hedged,
            )  # fmt: skip
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    return pl.DataFrame(columns, schema=_ITEM_SCHEMA)


_ITEM_SCHEMA: dict[str, Any] = {
    "case_id": pl.String, "system": pl.String, "arm": pl.String, "sample": pl.Int64, "cluster": pl.String,
    "rank": pl.Int64, "name": pl.String, "state": pl.String, "named": pl.String, "alias": pl.String, "how": pl.String,
    "gold": pl.String, "relation": pl.String, "weight": pl.Float64, "strict": pl.Boolean, "confidence": pl.Float64,
    "hedged": pl.Boolean,
}  # fmt: skip


def _row(one: Weighed, depths: Sequence[int], terms: Terms) -> dict[str, Any]:
    narrative, gold, said, ranked, found = one.narrative, one.gold, one.said, one.ranked, one.found
    strict = next((f for f in found if f.grade in STRICT), None)
    lenient = next((f for f in found if f.grade in LENIENT), None)
    best = min(found, key=lambda f: (_ORDER[f.grade], -f.weight), default=None)
    first = ranked[0].match.hits if ranked else ()
    state = "no_gold" if not gold else "abstained" if said.abstained else "scored" if ranked else "nothing_found"
    row: dict[str, Any] = {
        "case_id": narrative.case_id, "system": narrative.system, "arm": narrative.arm, "sample": narrative.sample,
        "cluster": cluster(one.case), "gold": list(gold), "state": state,
        "named": [" / ".join(h.canonical for h in item.match.hits) or f"? {item.name}" for item in ranked],
        "strict_rank": strict.item.rank if strict else None, "lenient_rank": lenient.item.rank if lenient else None,
        "best_grade": best.grade if best else "none",
        "relation": best.relation if best else "unmatched" if gold else None,
        "weight": best.weight if best else 0.0 if gold else None,
        "hedged": bool(strict and strict.item.hedged), "typo": bool(strict and strict.hit.how == "typo"),
        "items": len(ranked), "unmatched": sum("unmatched" in item.flags for item in ranked),
        "ambiguous": sum("ambiguous" in item.flags for item in ranked),
        "denied": [item.name for item in said.items if item.rank is None],
        "crosses": all(terms.crosses(h.canonical, name) for h in first for name in gold) if first and gold else None,
        "why": str(strict or best) if found else said.reason or "no item names a condition of the list",
        "matches": _matches(one),
    }  # fmt: skip
    for depth in depths:
        within = [f.weight for f in found if f.item.rank is not None and f.item.rank <= depth]
        row[f"graded_{depth}"] = max(within, default=0.0) if gold else None
    return row


def _matches(one: Weighed) -> list[str]:
    """A line per ranked item: "1 'Eczema' -> eczema (its name): wider of nummular eczema, 0.85"."""
    best = {found.item.rank: found for found in one.found}
    lines = []
    for item in one.ranked:
        head = f"{item.rank} '{item.name}' -> "
        if found := best.get(item.rank):
            how = _HOW[found.hit.how] if found.hit.how == "name" else f"{_HOW[found.hit.how]}: '{found.hit.alias}'"
            lines.append(f"{head}{found.hit.canonical} ({how}): {found.relation} of {found.gold}, {found.weight:g}")
        elif item.match.hits:
            lines.append(f"{head}{' / '.join(hit.canonical for hit in item.match.hits)}")
        else:
            lines.append(f"{head}{item.match.ambiguous or 'nothing of the list'}: unmatched, 0")
    return lines
