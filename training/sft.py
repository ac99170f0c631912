"""Fine-tune a judge: plain LoRA on the language side of any image-text-to-text model, trained at the score slots.

Loss: cross-entropy on soft labels plus the squared error of the expected score (RAFT, TRACT; see `losses`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText, AutoProcessor

from ..judge.backends.encoding import Encoder
from ..judge.backends.folder import read_card, refuse_unsafe, weights_hash
from ..judge.errors import InputError
from ..judge.prompt import render
from ..judge.rubric import Rubric
from .adapter_folder import refuse_strangers, save_adapter
from .config import Recipe
from .descent import Descent
from .examples import Example, Pictures
from .losses import reward_loss, slot_loss

REFERENCE = "reference"  # the frozen adapter that a reward is held to


def train_adapter(
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
    """Train one LoRA adapter on `base` and write it to `out` (safetensors and JSON only).

    blind: the text-only judge, the same recipe without any picture. Stops on a loss that is not finite, with nothing
    written. Raises InputError for examples with more pictures than the recipe takes.
    """
    if worst := [e.case.id for e in examples if len(e.case.images) > recipe.max_images]:
        raise InputError(
            f"{len(worst)} cases have more than {recipe.max_images} pictures, such as '{worst[0]}'; "
            "raise max_images in the recipe"
        )
    refuse_unsafe(base)
    refuse_strangers(out)
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    rng = np.random.default_rng(recipe.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    processor = AutoProcessor.from_pretrained(base, trust_remote_code=False, local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(
        base, dtype=torch.float32, trust_remote_code=False, local_files_only=True, attn_implementation="eager"
    )
    lora = LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=recipe.lora.targets,
        task_type="CAUSAL_LM",
    )
    start = _start(recipe, base, rubric)
    if start:
        model = PeftModel.from_pretrained(model, str(start), is_trainable=True)
        if recipe.objective == "reward":
            model.load_adapter(str(start), REFERENCE)
    else:
        model = get_peft_model(model, lora)
    model = model.to(device).train()
    encoder = Encoder(processor, rubric)
    encoder.tokenizer.padding_side = "right"
    levels = torch.tensor(encoder.levels, device=device)
    values = torch.tensor(rubric.scale.levels, dtype=torch.float32, device=device)
    descent = Descent(list(model.named_parameters()), recipe.sft.rate, recipe.sft.steps, matrices=False)
    figures: dict[str, float] = {}
    for step in range(recipe.sft.steps):
        chosen = [examples[k] for k in rng.integers(0, len(examples), recipe.sft.batch)]
        groups = [_look(e, pictures, recipe.image_dropout, rng, blind) for e in chosen]
        losses = []
        for has_picture in (True, False):  # pictures and none cannot share a tensor
            part = [(e, g) for e, g in zip(chosen, groups, strict=True) if bool(g) is has_picture]
            if part:
                loss, expected, gold = _loss(model, encoder, part, rubric, recipe, levels, values, device, rng, step)
                losses.append(loss * len(part) / len(chosen))
                if has_picture or blind:  # the few rows without picture are another question
                    _record(figures, rubric, expected, gold, float(loss.detach()))
        descent.step(*losses)
        if progress:
            progress(step, figures)
    return save_adapter(model, out, recipe, base, rubric, examples, blind, source)


def _look(example: Example, pictures: Pictures, dropout: float, rng: np.random.Generator, blind: bool) -> list[Any]:
    """The pictures of one step; a dropped picture is blank or missing, half and half, so that neither is a surprise."""
    if blind:
        return []
    seen = pictures(example.case)
    if seen and (draw := rng.random()) < dropout:
        return [] if draw < dropout / 2 else [Image.new("RGB", picture.size, (128, 128, 128)) for picture in seen]
    return seen


def _loss(
    model: Any,
    encoder: Encoder,
    part: Sequence[tuple[Example, list[Any]]],
    rubric: Rubric,
    recipe: Recipe,
    levels: Any,
    values: Any,
    device: str,
    rng: np.random.Generator,
    step: int,
) -> tuple[Any, Any, Any]:
    encoded = [
        encoder.encode(
            render(e.case, e.narrative, rubric, recipe.form, seed=recipe.seed + step, pictures=bool(seen)), seen
        )
        for e, seen in part
    ]
    lead, end = encoder.fixed("\nCritique:"), [encoder.tokenizer.eos_token_id]
    extra = [
        lead + encoder.plain(" " + e.critique) + end if e.critique and rng.random() < recipe.critiques else []
        for e, _ in part
    ]
    batch = encoder.batch(encoded, device, extra)
    slots = batch.pop("slots")
    with torch.autocast(device, torch.bfloat16):
        logits = model(**batch, use_cache=False).logits
    gold = torch.tensor(np.stack([e.gold for e, _ in part]), dtype=torch.float32, device=device)
    target = torch.tensor(np.stack([e.target for e, _ in part]), dtype=torch.float32, device=device)
    at_slots = logits[torch.arange(len(part))[:, None], slots]
    if recipe.objective == "reward":
        before = _reference(model, batch)[torch.arange(len(part))[:, None], slots]
        loss, expected = reward_loss(at_slots, levels, values, gold, before, kl=recipe.reward.kl)
    else:
        loss, expected = slot_loss(at_slots, levels, values, gold, target=target, weight=recipe.mse_weight)
    marks = [
        (row, len(encoded[row].ids) + k - 1, token)
        for row, words in enumerate(extra)
        for k, token in enumerate(words)
        if k >= len(lead)
    ]
    if marks:
        where = torch.tensor(marks, device=device)
        loss = loss + 0.3 * F.cross_entropy(logits[where[:, 0], where[:, 1]].float(), where[:, 2])
    return loss, expected.detach(), gold


def start_folder(recipe: Recipe) -> Path | None:
    """The adapter folder that a recipe goes on from, if any."""
    if recipe.start == "embedded":
        from ..judge.backends import embedded_folder

        return embedded_folder() / "judge"
    return Path(recipe.start) if recipe.start else None


def _start(recipe: Recipe, base: Path, rubric: Rubric) -> Path | None:
    """The adapter to go on from; InputError if it belongs to another base or rubric, or the objective needs one."""
    start = start_folder(recipe)
    if start is None:
        if recipe.objective == "reward":
            raise InputError(f"recipe {recipe.name}: objective 'reward' goes on from a judge; name it with start")
        return None
    refuse_unsafe(start)
    card = read_card(start)
    if card.get("base_weights") not in (None, weights_hash(base)):
        raise InputError(f"start {start.name} belongs to another base than {base.name}; name the base it was made on")
    if card.get("rubric_hash") != rubric.hash:
        raise InputError(f"start {start.name} was trained on rubric {card.get('rubric')}, not {rubric.id}")
    return start


def _reference(model: Any, batch: dict[str, Any]) -> Any:
    """Logits of the judge that training started from."""
    model.set_adapter(REFERENCE)
    try:
        with torch.no_grad(), torch.autocast(batch["input_ids"].device.type, torch.bfloat16):
            return model(**batch, use_cache=False).logits
    finally:
        model.set_adapter("default")


def _record(figures: dict[str, float], rubric: Rubric, expected: Any, gold: Any, loss: float) -> None:
    figures["loss"] = 0.97 * figures.get("loss", loss) + 0.03 * loss
    for d, name in enumerate(rubric.names):
        error = float(torch.nanmean((expected[:, d] - gold[:, d]).abs()))
        if error == error:
            figures[name] = 0.97 * figures.get(name, error) + 0.03 * error
