"""Items that the term list could not place, for a person or a model to judge: a column of its own, overruling nothing.

The asking is done elsewhere. Here stands what is to be asked, under which key an answer is kept, and what the answers
would add beside the scores by the list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from ..judge.errors import InputError
from .bootstrap import Estimate
from .diagnosis import DiagnosisResult
from .proportions import rate
from .relations import RELATIONS

STRICT_RELATIONS = ("same", "synonym", "narrower")


@dataclass(frozen=True)
class Adjudicated:
    """Strict top-k of one system if answers count too, beside what the list alone gives (`SystemDiagnosis.strict`).

    `asked`: distinct questions of its items, `answered` of them; an item without an answer stays a miss.
    """

    system: str
    arm: str
    n: int
    strict: Mapping[int, Estimate]
    asked: int
    answered: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "system": self.system, "arm": self.arm, "n": self.n, "asked": self.asked, "answered": self.answered,
            "strict": {str(k): estimate.to_dict() for k, estimate in self.strict.items()},
        }  # fmt: skip


def item_key(item: str, gold: str) -> str:
    """The key of a question (hex): an item and a gold name, blind to capitals and blanks.

    >>> item_key("Spongiotic  rash", "eczema") == item_key("spongiotic rash", "Eczema")
    True
    """
    said, true = (" ".join(text.casefold().split()) for text in (item, gold))
    return hashlib.sha256(f"{said}\x1f{true}".encode("utf-8", "surrogatepass")).hexdigest()


def unmatched_items(result: DiagnosisResult) -> pl.DataFrame:
    """What is to be asked: each distinct (item, gold) of which the list places no item, the most frequent first.

    Columns: key, item, gold, state (unmatched | ambiguous), times. Items of cases without a usable gold are left out.
    """
    items = _open(result.items).with_columns(_keys())
    return (
        items.group_by("key", maintain_order=True)
        .agg(
            pl.col("name").first().alias("item"), pl.col("gold").first(), pl.col("state").first(),
            pl.len().alias("times"),
        )
        .sort("times", "key", descending=[True, False])
    )  # fmt: skip


def with_adjudication(result: DiagnosisResult, answers: Mapping[str, str]) -> DiagnosisResult:
    """The result with the answers (key -> one of RELATIONS) in columns of their own; keys not asked for are ignored.

    `items` gains `adjudicated` (the relation answered, null elsewhere), `rows` gains `adjudicated_rank` (of the first
    strict hit by the list or an answer of STRICT_RELATIONS) and `adjudicated` (a line per answer). An item that the
    list matched keeps its relation, whatever is answered; scores, ranks and grades by the list do not change.
    InputError for an answer that is no relation.
    """
    for key, answer in answers.items():
        if answer not in RELATIONS:
            raise InputError(f"answer '{answer}' to {key[:12]}... is none of {', '.join(RELATIONS)}")
    told = dict(answers)
    items = result.items.with_columns(_keys())
    asked = pl.col("state").is_in(["unmatched", "ambiguous"]) & pl.col("gold").is_not_null()
    found = pl.when(asked).then(pl.col("key").replace_strict(told, default=None, return_dtype=pl.String))
    items = items.with_columns(found.alias("adjudicated")).drop("key")
    narrative = ["case_id", "system", "arm", "sample"]
    said = items.filter(pl.col("adjudicated").is_not_null())
    line = pl.format("{} '{}': {} of {}", "rank", "name", "adjudicated", "gold")
    hit = pl.col("adjudicated").is_in(STRICT_RELATIONS)
    best = said.group_by(narrative).agg(
        pl.col("rank").filter(hit).min().alias("_rank"), line.alias("adjudicated"),
    )  # fmt: skip
    rows = result.rows.drop("adjudicated", "adjudicated_rank", strict=False)
    rows = rows.join(best, on=narrative, how="left", maintain_order="left")
    rows = rows.with_columns(
        pl.min_horizontal("strict_rank", "_rank").alias("adjudicated_rank"),
        pl.col("adjudicated").fill_null(pl.lit([], dtype=pl.List(pl.String))),
    ).drop("_rank")
    return replace(result, rows=rows, items=items)


def adjudicated_top_k(result: DiagnosisResult, k: Iterable[int] | None = None) -> tuple[Adjudicated, ...]:
    """Strict top-k per system with the answers counted; `k` as scored unless given. InputError without answers."""
    if "adjudicated" not in result.items.columns:
        raise InputError("no answers yet: give them to with_adjudication first")
    found = []
    for system in result.systems:
        own = (pl.col("system") == system.system) & (pl.col("arm") == system.arm)
        used = result.rows.filter(own & (pl.col("state") != "no_gold"))
        asked = _open(result.items.filter(own)).with_columns(_keys()).unique("key")
        place = used["cluster"].rank("dense").to_numpy()
        what = "narrative of a case with a usable gold"
        strict = {
            depth: rate((used["adjudicated_rank"] <= depth).fill_null(False).to_numpy(), place, what=what)
            for depth in (result.k if k is None else sorted(set(k)))
        }
        answered = int(asked["adjudicated"].is_not_null().sum())
        found.append(Adjudicated(system.system, system.arm, len(used), strict, len(asked), answered))
    return tuple(found)


def _open(items: pl.DataFrame) -> pl.DataFrame:
    return items.filter((pl.col("state") != "matched") & pl.col("gold").is_not_null())


def _keys() -> pl.Expr:
    pair = pl.struct("name", "gold")
    return pair.map_elements(
        lambda row: item_key(row["name"], row["gold"] or ""), return_dtype=pl.String
    ).alias("key")  # fmt: skip
