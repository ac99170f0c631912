"""What a judge is asked while it learns from a reward, what its answers earn, and when there is nothing to learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..judge.backends.encoding import CRITIQUE, Encoded, Encoder
from ..judge.errors import InputError
from ..judge.prompt import render
from ..judge.rubric import Rubric
from .config import Recipe
from .examples import Example, Pictures
from .score_reward import read_scores, score_reward

PATIENCE = 5  # steps


@dataclass(frozen=True)
class Earned:
    """What the answers of one step earned.

    rewards: float [narratives, answers each]; unreadable: share of the rated dimensions whose score could not be read.
    """

    rewards: np.ndarray
    unreadable: float

    @property
    def zero_spread(self) -> float:
        """Share of the narratives whose answers all earned the same (trl's frac_reward_zero_std)."""
        return float(np.mean(np.ptp(self.rewards, axis=1) < 1e-6))


class Questions:
    """The rated narratives that a training asks about, one per row, drawn before it begins.

    The same recipe gives the same rows in the same order whatever the objective. Narratives that no expert rated on
    any dimension earn nothing and are never drawn. InputError, before anything is trained, if none is rated, if only
    some cases have pictures, or if a prompt leaves no room for an answer of `recipe.reward.tokens`.
    """

    def __init__(
        self,
        recipe: Recipe,
        encoder: Encoder,
        examples: Sequence[Example],
        pictures: Pictures,
        rubric: Rubric,
        *,
        blind: bool,
        rows: int,
        limit: int | None,
    ):
        rated = [e for e in examples if not np.isnan(e.gold).all()]
        if not rated:
            raise InputError(f"recipe {recipe.name}: no narrative has an expert's score to earn a reward by")
        bare = [e.case.id for e in rated if not e.case.images]
        if not blind and 0 < len(bare) < len(rated):
            raise InputError(
                f"{len(bare)} of {len(rated)} narratives belong to cases without a picture, such as '{bare[0]}'; a "
                "reward on sampled critiques needs all with or all without: leave these out of the split"
            )
        self.encoder, self.rubric, self.recipe, self.blind = encoder, rubric, recipe, blind
        self.pictures = pictures
        drawn = np.random.default_rng(recipe.seed).integers(0, len(rated), rows)
        self.examples = [rated[k] for k in drawn]
        self._lead = encoder.fixed(CRITIQUE)
        if limit:
            self._refuse_long(limit)

    def __len__(self) -> int:
        return len(self.examples)

    def look(self, row: int) -> list[Any]:
        """The pictures of a row, [] for a text-only judge."""
        return [] if self.blind else self.pictures(self.examples[row].case)

    def encode(self, row: int) -> Encoded:
        """Tokens of a row up to where the answer begins: the prompt as it is served, then "Critique:"; no slots."""
        example, seen = self.examples[row], self.look(row)
        prompt = render(
            example.case, example.narrative, self.rubric, self.recipe.form,
            seed=self.recipe.seed + row, pictures=bool(seen),
        )  # fmt: skip
        encoded = self.encoder.encode(prompt, seen)
        return encoded._replace(ids=self.encoder.before(encoded) + self._lead)

    def batch(self, rows: Sequence[int], device: Any = "cpu") -> dict[str, Any]:
        """Model inputs of several rows, padded on the left, as `generate` wants them."""
        self.encoder.tokenizer.padding_side = "left"
        batch = self.encoder.batch([self.encode(row) for row in rows], device)
        return {name: value for name, value in batch.items() if name != "slots"}

    def earn(self, rows: Sequence[int], texts: Sequence[str], each: int = 1) -> Earned:
        """Rewards of answers; `each` of them follow one another for every narrative."""
        rewards, unread, rated = [], 0, 0
        for row, text in zip(rows, texts, strict=True):
            scores, gold = read_scores(text, self.rubric), self.examples[row].gold
            rewards.append(score_reward(scores, gold, self.rubric))
            known = [name for name, expert in zip(self.rubric.names, gold, strict=True) if not np.isnan(expert)]
            rated += len(known)
            unread += sum(scores[name] is None for name in known)
        return Earned(np.array(rewards, float).reshape(-1, each), unread / rated)

    def _refuse_long(self, limit: int) -> None:
        for row in {id(e): row for row, e in enumerate(self.examples)}.values():
            if (length := len(self.encode(row).ids) + self.recipe.reward.tokens) > limit:
                raise InputError(
                    f"case '{self.examples[row].case.id}': prompt and answer may take {length} tokens, the model takes "
                    f"{limit}; lower reward.tokens or leave the narrative out"
                )


class Watch:
    """Stops a training that can learn nothing any more, before it does harm."""

    def __init__(self) -> None:
        self._idle = 0

    def see(self, earned: Earned) -> None:
        """Note one step; InputError once `PATIENCE` steps in a row had nothing to tell a good answer from a bad one."""
        several = earned.rewards.shape[1] > 1
        nothing_read = earned.unreadable == 1
        self._idle = self._idle + 1 if nothing_read or (several and earned.zero_spread == 1) else 0
        if self._idle < PATIENCE:
            return
        if nothing_read:
            raise InputError(
                f"for {PATIENCE} steps no score could be read in any answer, so that none earns more than another; "
                "start from a judge that was trained to write critique and scores (order: critique, objective: "
                "cross-entropy), lower reward.temperature, or raise reward.tokens if answers are cut off. Nothing was "
                "written over"
            )
        raise InputError(
            f"for {PATIENCE} steps all answers about a narrative earned the same (frac_reward_zero_std 1.0): the judge "
            "has settled on one answer and learns nothing more; raise reward.temperature, reward.generations or "
            "reward.kl, lower sft.rate, or take fewer steps. Nothing was written over"
        )


def not_finite(what: str) -> FloatingPointError:
    """The error of a training whose numbers have run away."""
    return FloatingPointError(
        f"{what} not finite; training stopped before they touched the weights, nothing was written over: lower "
        "sft.rate or reward.kl, or check the judge that training starts from"
    )
