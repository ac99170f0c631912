"""Fine-tune a judge: plain LoRA on the language side of any image-text-to-text model, trained at the score slots.

Losses: see `losses`; the loop, its processes and its checkpoints: see `trainer`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig
from transformers.utils.logging import disable_progress_bar

from ..judge.backends.bases import load_processor
from ..judge.backends.encoding import Encoder
from ..judge.backends.folder import read_card, refuse_unsafe, weights_hash
from ..judge.errors import InputError, MissingExtra
from ..judge.rubric import Rubric
from .adapter_folder import refuse_strangers, save_adapter
from .config import Recipe
from .descent import adamw, schedule
from .examples import Example, Pictures
from .plan_rows import COUNTERFACTUAL, draw_rows

# The libraries' words about one another; nothing that a person could change.
warnings.filterwarnings(
    "ignore", "`((is_)?gradient_checkpointing(_kwargs)?|broadcast_buffers)` is deprecated", FutureWarning
)
disable_progress_bar()  # loading takes a second; a bar for it would stand in the way of ours

SAMPLED = ("soreb", "grpo", "rloo")
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

    blind: the text-only judge, the same recipe without any picture. With `save_every` in the recipe a training that was
    broken off is gone on with when it is asked for again. Started by torchrun or accelerate, the rows of a batch are
    shared among the processes; the result is that of one.
    InputError for examples with more pictures than the recipe takes, longer than the model's positions, or (order
    "critique") without any critique; FloatingPointError, with nothing written, once the loss is not finite.
    """
    if worst := [e.case.id for e in examples if len(e.case.images) > recipe.max_images]:
        raise InputError(
            f"{len(worst)} cases have more than {recipe.max_images} pictures, such as '{worst[0]}'; "
            "raise max_images in the recipe"
        )
    refuse_unsafe(base)
    refuse_strangers(out)
    examples = _natural(examples) if blind else examples
    if recipe.objective in SAMPLED:
        from .policy import train_policy

        return train_policy(
            recipe, base, out, examples, pictures, rubric, blind=blind, source=source, progress=progress
        )
    if recipe.self_critiques:
        from .self_critiques import with_self_critiques

        examples = with_self_critiques(recipe, base, examples, pictures, rubric, blind=blind)
    examples = _fit(recipe, examples)
    try:
        from .checkpoints import Checkpoints
        from .collation import Collator
        from .trainer import JudgeTrainer, numbered, training_arguments
    except ImportError as error:  # pragma: no cover
        raise MissingExtra("training", "train") from error
    args = training_arguments(recipe, out)
    processor = load_processor(base, recipe.images.model_dump())
    encoder = Encoder(processor, rubric)
    rows = draw_rows(recipe, examples, blind)
    collator = Collator(recipe, encoder, examples, pictures, rows)
    model = load_model(recipe, base, rubric, args.device)
    collator.refuse_cut(getattr(model.config.get_text_config(), "max_position_embeddings", None))
    checkpoints = Checkpoints(args, recipe, base, examples, blind)
    optimizer = adamw([p for p in model.parameters() if p.requires_grad], recipe.sft.rate)
    trainer = JudgeTrainer(
        recipe,
        rubric,
        encoder.levels,
        blind,
        progress,
        model=model,
        args=args,
        data_collator=collator,
        train_dataset=numbered(len(rows)),
        processing_class=processor,
        optimizers=(optimizer, schedule(optimizer, recipe.sft.steps)),
    )
    torch.set_num_threads(recipe.threads)  # accelerate has its own idea of them
    with checkpoints:
        trainer.train(resume_from_checkpoint=checkpoints.last())
        if trainer.is_world_process_zero():
            bare = trainer.accelerator.unwrap_model(trainer.model)
            save_adapter(bare, out, recipe, base, rubric, examples, blind, source)
    return out


def _natural(examples: Sequence[Example]) -> Sequence[Example]:
    """The examples whose scores do not follow a picture of another case; all of them if there is no other."""
    return [e for e in examples if not e.case.tags.get(COUNTERFACTUAL)] or examples


def _fit(recipe: Recipe, examples: Sequence[Example]) -> Sequence[Example]:
    """The examples that an order can be learnt from: critique first needs a critique."""
    if recipe.order == "scores":
        return examples
    if recipe.objective == "reward":
        raise InputError(f"recipe {recipe.name}: objective 'reward' is for order 'scores'; take soreb, grpo or rloo")
    if found := [e for e in examples if e.critique]:
        return found
    raise InputError(f"recipe {recipe.name}: order 'critique' needs critiques, and no rating has one")


def load_model(recipe: Recipe, base: Path, rubric: Rubric, device: Any) -> Any:
    """The base with the adapter that is trained (and, for a reward, the frozen one it is held to), on `device`."""
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    start = _start(recipe, base, rubric)
    on_cpu = device.type == "cpu"
    more: dict[str, Any] = {}
    if recipe.quantize:
        more = {"quantization_config": _bits(recipe.quantize), "device_map": {"": device}}
    model = AutoModelForImageTextToText.from_pretrained(
        base,
        dtype=getattr(torch, recipe.dtype),
        trust_remote_code=False,
        local_files_only=True,
        # On a CPU the backward pass of the fused attention takes 40 % of a step.
        attn_implementation="eager" if on_cpu else None,
        **more,
    )
    if start:
        model = PeftModel.from_pretrained(model, str(start), is_trainable=True)
        if recipe.objective == "reward":
            model.load_adapter(str(start), REFERENCE)
    else:
        lora = LoraConfig(
            r=recipe.lora.rank,
            lora_alpha=recipe.lora.alpha,
            lora_dropout=recipe.lora.dropout,
            target_modules=recipe.lora.targets,
            task_type="CAUSAL_LM",
        )
        try:
            model = get_peft_model(model, lora)
        except ValueError as error:  # no layer of that name, or one of a kind that takes no adapter
            raise InputError(f"recipe {recipe.name}: lora.targets do not fit base {base.name}: {error}") from error
    for settings in model.peft_config.values():
        settings.base_model_name_or_path = str(base)  # a bare name would be looked for on the hub when it is saved
    return (model if recipe.quantize else model.to(device)).train()


def _bits(quantize: str) -> BitsAndBytesConfig:
    """How a base is held in 8 or 4 bits; MissingExtra or InputError where that cannot be."""
    if find_spec("bitsandbytes") is None:
        raise MissingExtra(f"bitsandbytes (quantize: {quantize})", "quantize")
    if not torch.cuda.is_available():
        raise InputError(f"quantize: {quantize} needs a GPU, and there is none here; leave it out")
    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip


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
    if not card:
        raise InputError(
            f"start {start} holds no judge.json; name the folder of the adapter itself, such as {start}/judge"
        )
    if card.get("base_weights") not in (None, weights_hash(base)):
        raise InputError(f"start {start.name} belongs to another base than {base.name}; name the base it was made on")
    if card.get("rubric_hash") != rubric.hash:
        raise InputError(f"start {start.name} was trained on rubric {card.get('rubric')}, not {rubric.id}")
    return start
