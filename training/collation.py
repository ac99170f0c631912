"""Rows of a training as tensors, encoded exactly as in serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..judge.backends.encoding import CRITIQUE, Encoded, Encoder
from ..judge.errors import InputError
from ..judge.prompt import render
from .config import Recipe
from .examples import Example, Pictures
from .plan_rows import Look, Row, row_tensors

NOTHING = -100  # a label that no loss looks at
KINDS = (True, False)  # rows with and without pictures cannot share a tensor


class Collator:
    """Rows to one batch: {"parts": one per kind of row, "counts": long [kinds, 3], of rows, known scores, words}.

    A part holds inputs (padded on the right), slots [rows, dimensions], gold, target (see `Example`), labels [rows,
    length] with the words to be learnt (NOTHING elsewhere), keep (how many of the last positions the losses look at).
    """

    def __init__(
        self, recipe: Recipe, encoder: Encoder, examples: Sequence[Example], pictures: Pictures, rows: Sequence[Row]
    ):
        self.recipe, self.encoder, self.examples, self.pictures, self.rows = recipe, encoder, examples, pictures, rows
        encoder.tokenizer.padding_side = "right"
        self.hard = recipe.objective == "cross-entropy"

    def __call__(self, features: Sequence[Mapping[str, int]]) -> dict[str, Any]:
        chosen = [self.rows[f["row"]] for f in features]
        parts, counts = [], torch.zeros((len(KINDS), 3), dtype=torch.long)
        for k, kind in enumerate(KINDS):
            rows = [(row, seen) for row in chosen if bool(seen := self._look(row)) is kind]
            if rows:
                part = self._part(rows) | {"kind": k}
                parts.append(part)
                counts[k, 0] = len(rows)
                counts[k, 1] = (~torch.isnan(part["gold"])).sum()
                counts[k, 2] = (part["labels"] != NOTHING).sum()
        return {"parts": parts, "counts": counts}

    def _look(self, row: Row) -> list[Any]:
        if row.look == "none":
            return []
        seen = self.pictures(self.examples[row.example].case)
        return seen if row.look == "own" else [_grey(picture.size) for picture in seen]

    def _part(self, rows: Sequence[tuple[Row, list[Any]]]) -> dict[str, Any]:
        made = [self._encode(row, seen) for row, seen in rows]
        encoded, behind = [e for e, _, _ in made], [words for _, words, _ in made]
        inputs = self.encoder.batch(encoded, extra=behind)
        slots = inputs.pop("slots")
        length = inputs["input_ids"].shape[1]
        labels = torch.full((len(rows), length), NOTHING)
        for i, (_, _, learnt) in enumerate(made):
            for position, token in learnt:
                labels[i, position] = token
        gold, target = row_tensors([self.examples[row.example] for row, _ in rows])
        if self.hard:
            gold[:] = torch.nan  # all is in the labels
        for i, (row, _) in enumerate(rows):
            if row.written:
                gold[i] = torch.nan
        first = int(slots.min())
        if (labels != NOTHING).any():
            first = min(first, int((labels != NOTHING).any(0).nonzero()[0]) - 1)
        keep = length - first
        return {"inputs": inputs, "slots": slots, "gold": gold, "target": target, "labels": labels, "keep": keep}

    def _encode(self, row: Row, seen: Sequence[Any]) -> tuple[Encoded, list[int], list[tuple[int, int]]]:
        """The prompt with its slots, the words behind them, and what is learnt at which position."""
        example, encoder = self.examples[row.example], self.encoder
        prompt = render(example.case, example.narrative, encoder.rubric, self.recipe.form, seed=row.seed,
                        pictures=bool(seen))  # fmt: skip
        end = [encoder.tokenizer.eos_token_id]
        if self.recipe.order == "critique":
            said = encoder.said(example.critique)
            encoded = encoder.encode(prompt, seen, said)
            start = len(encoder.before(encoded)) - len(said)
            if row.written:
                answer = self._written(example) + end
                ids = encoder.before(encoded)
                slots = [slot + k for k, slot in enumerate(encoded.slots)]  # a digit stands behind each
                return encoded._replace(ids=ids, slots=slots), answer, list(enumerate((*said, *answer), start))
            learnt = list(enumerate(said, start))
            behind = end if self.hard else []
        else:
            encoded, learnt, behind = encoder.encode(prompt, seen), [], end if self.hard else []
            if row.words:
                lead, words = encoder.fixed(f"\n{CRITIQUE}"), encoder.plain(" " + example.critique) + end
                behind = lead + words
                learnt = list(enumerate(words, len(encoded.ids) + len(lead)))
        if self.hard:
            digits = zip(encoded.slots, self._digits(example), strict=True)
            learnt += [(slot + 1, digit) for slot, digit in digits if digit is not None]
        return encoded, behind, learnt

    def _digits(self, example: Example) -> list[int | None]:
        """Token of the level next to the experts' mean, per dimension; None where nobody rated."""
        levels = np.array(self.encoder.rubric.scale.levels, float)
        return [
            None if np.isnan(gold) else self.encoder.levels[d][int(np.abs(levels - gold).argmin())]
            for d, gold in enumerate(example.gold)
        ]

    def _written(self, example: Example) -> list[int]:
        """The answer's scores as tokens: "Accuracy: 3" and so on."""
        pairs = zip(self.encoder.slot_ids, self._digits(example), strict=True)
        return [token for slot, digit in pairs if digit is not None for token in (*slot, digit)]

    def refuse_cut(self, limit: int | None) -> None:
        """InputError naming the first sample, as (case, system), that is longer than the model's positions."""
        if not limit:
            return
        heads: dict[Any, int] = {}
        longest: dict[int, Row] = {}
        for row in self.rows:  # a sample once, as it is longest
            best = longest.get(row.example)
            if best is None or _weight(row) > _weight(best):
                longest[row.example] = row
        for k, row in longest.items():
            example = self.examples[k]
            sizes = tuple(p.size for p in self.pictures(example.case)) if row.look != "none" else ()
            words = f"{example.case.context}{example.narrative.judged}{example.critique}"
            if sizes in heads and heads[sizes] + 2 * len(words.encode()) <= limit:
                continue  # a token is a byte or more; twice that for what a tokenizer may put between
            encoded, behind, _ = self._encode(row, [_grey(size) for size in sizes])
            tokens = len(encoded.ids) + len(behind)
            heads[sizes] = max(heads.get(sizes, 0), tokens)  # fixed words and pictures are less than a whole sample
            if tokens > limit:
                raise InputError(
                    f"the sample of case '{example.case.id}', system '{example.narrative.system}' has {tokens} tokens "
                    f"(pictures, text and answer), the model takes {limit}; shorten it, or name another base"
                )


def _weight(row: Row) -> tuple[bool, bool, bool]:
    return row.look != "none", row.words, row.written


def _grey(size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, (128, 128, 128))


__all__ = ["KINDS", "NOTHING", "Collator", "Look"]
