"""Reinforcement learning of a critique-first judge: it writes critique and scores, and is paid for the scores.

Objectives "soreb" (one answer per narrative, moving baseline), "grpo" and "rloo" (several, each against the others).
E[(d-y)^2] = (E[d]-y)^2 + Var(d): the reward also pays for a narrower distribution, whether or not it is right, so look
at the ranked probability score beside the error. The critique itself is not rewarded; the KL to the judge that training
started from is all that holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..judge.backends.bases import load_processor
from ..judge.backends.encoding import Encoder
from ..judge.backends.folder import read_card
from ..judge.errors import InputError
from ..judge.rubric import Rubric
from .adapter_folder import refuse_strangers, save_adapter
from .config import Recipe
from .examples import Example, Pictures
from .processes import processes
from .questions import Questions, not_finite
from .sft import SAMPLED, load_model, start_folder
from .soreb import REFERENCE, reinforce


def train_policy(
    recipe: Recipe,
    base: Path,
    out: Path,
    examples: Sequence[Example],
    pictures: Pictures,
    rubric: Rubric,
    *,
    blind: bool = False,
    source: str = "",
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> Path:
    """Train the adapter `recipe.start` on by a reward on sampled answers and write it to `out`.

    Called by `train_adapter`, which has looked at base, `out` and the number of pictures.

    recipe.sft.batch: answers per step (times `accumulate`), whatever the objective; of "grpo" and "rloo"
    `reward.generations` of them are about one narrative. blind: without any picture. Pictures are never dropped
    (`image_dropout` is for fine-tuning). With `save_every` the judge is also written to OUT.checkpoint on the way, a
    folder that scores as it is; training does not go on from it. progress(step, figures): loss, reward (mean of the
    step, -1 to 0), kl (per token, to the start), unreadable (share of scores that could not be read), tokens (mean
    length of an answer).
    Raises InputError for a recipe that does not fit, and for five steps in a row from which nothing can be learnt;
    FloatingPointError for numbers that are not finite. Then `out` and the last checkpoint stay as they were.
    """
    start = _start(recipe)
    refuse_strangers(checkpoint := out.with_name(out.name + ".checkpoint"))
    model = load_model(recipe, base, rubric, device := torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters() if p.requires_grad):
        raise InputError(f"start {start.name} holds weights that are not finite; train it anew")
    processor = load_processor(base, recipe.images.model_dump())
    each = 1 if recipe.objective == "soreb" else recipe.reward.generations
    rows = recipe.sft.steps * recipe.sft.batch * recipe.accumulate // each
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    encoder = Encoder(processor, rubric)
    questions = Questions(recipe, encoder, examples, pictures, rubric, blind=blind, rows=rows, limit=limit)

    def after(step: int, figures: dict[str, float]) -> None:
        if progress:
            progress(step, figures)
        if recipe.save_every and (step + 1) % recipe.save_every == 0 and step + 1 < recipe.sft.steps:
            save_adapter(model, checkpoint, recipe, base, rubric, examples, blind, source)

    try:
        if recipe.objective == "soreb":
            model.load_adapter(str(start), REFERENCE)
            reinforce(model, questions, recipe, after, device.type)
        else:
            from .group_policy import train_groups

            train_groups(model, questions, recipe, after, device.type)
    except RuntimeError as error:
        if "probability tensor" in str(error):  # torch.multinomial, on logits that are not finite
            raise not_finite("the probabilities of the next token are") from error
        raise
    return save_adapter(model, out, recipe, base, rubric, examples, blind, source)


def _start(recipe: Recipe) -> Path:
    """The judge to go on from; InputError if it, or the recipe, is not for sampled critiques."""
    where = f"recipe {recipe.name}: objective '{recipe.objective}'"
    if recipe.objective not in SAMPLED:
        raise InputError(f"{where} learns from no sampled critique; {', '.join(SAMPLED)} do")
    if recipe.order != "critique":
        raise InputError(f"{where} samples critiques; set order: critique, or objective: reward for score slots")
    if recipe.objective != "soreb" and recipe.sft.batch % recipe.reward.generations:
        raise InputError(
            f"{where} samples {recipe.reward.generations} answers per narrative (reward.generations); sft.batch is "
            f"{recipe.sft.batch} and must be a multiple of it"
        )
    if processes() > 1:
        raise InputError(f"{where} runs in one process; start it without torchrun or accelerate")
    start = start_folder(recipe)
    if start is None:
        raise InputError(f"{where} goes on from a judge that writes critique and scores; name it with start")
    card: dict[str, Any] = read_card(start)
    for name, wanted, usual in (("order", recipe.order, "scores"), ("form", recipe.form, "full")):
        if (found := card.get(name, usual)) != wanted:
            raise InputError(f"start {start.name} was trained with {name}: {found}, the recipe has {name}: {wanted}")
    return start
