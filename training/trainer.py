"""trl's SFTTrainer with the losses of a judge; steps, processes, precision and checkpoints are the library's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn import functional as F
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from ..judge.errors import InputError
from ..judge.rubric import Rubric
from .collation import NOTHING
from .config import Recipe
from .losses import reward_loss, slot_loss
from .processes import processes
from .sft import REFERENCE

WORDS = {"scores": 0.3, "critique": 1.0}  # weight of the learnt words, by the order of an answer


class JudgeTrainer(SFTTrainer):
    """Trains on batches of `collation.Collator`.

    The loss of a step is the mean over its rows, those with and without pictures apart; in each, the mean over the
    known scores plus a share of the mean over the learnt words. The counts are those of the whole step, over all
    processes and all batches that are added up, so that neither changes what is learnt. Objective "cross-entropy" is
    trl's own loss on the labels. FloatingPointError before a step on a loss or gradient that is not finite.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        recipe: Recipe,
        rubric: Rubric,
        level_ids: Sequence[Sequence[int]],
        blind: bool,
        progress: Callable[[int, dict[str, float]], None] | None,
        **settings: Any,
    ):
        super().__init__(**settings)
        self.recipe, self.rubric, self.watched = recipe, rubric, 1 if blind else 0
        self.level_ids = torch.tensor(level_ids, device=self.args.device)
        self.values = torch.tensor(rubric.scale.levels, dtype=torch.float32, device=self.args.device)
        self.figures: dict[str, float] = {}
        self.clear()
        self.remove_callback(PrinterCallback)
        self.add_callback(_Watch(self, progress))

    def clear(self) -> None:
        """Forget the sums of a step: all losses; of the rows that are reported loss and n, per dimension |error|, n."""
        self.sums = torch.zeros(3 + 2 * len(self.rubric.names), device=self.args.device)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        counts, parts = num_items_in_batch, inputs["parts"]
        share = self.accelerator.num_processes  # gradients are averaged over processes; ours are to be added
        losses = []
        if self.recipe.objective == "cross-entropy":
            for part in [*parts, *self._absent(parts, counts)]:
                batch = part["inputs"] | {"labels": part["labels"]}
                losses.append(super().compute_loss(model, batch, num_items_in_batch=counts[:, 2].sum()))
            self.sums[1] += sum(float(loss.detach()) for loss in losses) / share
            self.sums[2] += 1
        else:
            for part in parts:
                rows, known, words = counts[part["kind"]]
                loss, errors = self._slot_loss(model, part, known, words)
                losses.append(loss * rows / counts[:, 0].sum() * share)
                if part["kind"] == self.watched:  # the few rows without picture are another question
                    self.sums[1] += loss.detach()
                    self.sums[2] += 1
                    self.sums[3:] += torch.cat([errors.nansum(0), (~errors.isnan()).sum(0)])
        total = sum(losses[1:], start=losses[0])
        self.sums[0] += total.detach()
        if share > 1:  # every weight has a gradient on every process, or they would wait for one another
            total = total + 0.0 * sum(p.sum() for p in model.parameters() if p.requires_grad)
        return total

    def _slot_loss(self, model: Any, part: dict[str, Any], known: Any, words: Any) -> tuple[Any, Any]:
        """Loss of one part, its sums divided by the whole step's counts; errors of the expected scores, NaN unknown."""
        inputs, keep, gold = part["inputs"], part["keep"], part["gold"]
        before = inputs["input_ids"].shape[1] - keep
        slots = (torch.arange(len(gold), device=gold.device)[:, None], part["slots"] - before)
        logits = model(**inputs, logits_to_keep=keep, use_cache=False).logits
        if self.recipe.objective == "reward":
            frozen = self._reference(inputs, keep)[slots]
            loss, expected = reward_loss(
                logits[slots], self.level_ids, self.values, gold, frozen, kl=self.recipe.reward.kl, count=known
            )
        else:
            loss, expected = slot_loss(
                logits[slots], self.level_ids, self.values, gold, target=part["target"], count=known,
                weight=self.recipe.mse_weight,
            )  # fmt: skip
        labels = part["labels"][:, before + 1 :]
        row, at = (labels != NOTHING).nonzero(as_tuple=True)
        if len(row):
            entropy = F.cross_entropy(logits[row, at].float(), labels[row, at], reduction="sum")
            loss = loss + WORDS[self.recipe.order] * (entropy / words)
        return loss, (expected.detach() - gold).abs()

    def _reference(self, inputs: dict[str, Any], keep: int) -> Any:
        """Logits of the judge that training started from."""
        bare = self.accelerator.unwrap_model(self.model)
        bare.set_adapter(REFERENCE)
        try:
            with torch.no_grad():
                return bare(**inputs, logits_to_keep=keep, use_cache=False).logits
        finally:
            bare.set_adapter("default")

    def _absent(self, parts: Sequence[dict[str, Any]], counts: Any) -> list[dict[str, Any]]:
        """Two tokens for each kind of row that only other processes have: trl gathers figures once a call."""
        here = {part["kind"] for part in parts}
        missing = sum(bool(rows) and kind not in here for kind, rows in enumerate(counts[:, 0].tolist()))
        ids = torch.full((1, 2), self._tokenizer.eos_token_id, device=counts.device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return [{"inputs": dict(inputs), "labels": torch.full_like(ids, NOTHING)} for _ in range(missing)]

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        """Rows, known scores and learnt words of a whole step, by kind of row."""
        counts = sum(batch["counts"] for batch in batch_samples).to(device)
        return self.accelerator.reduce(counts, "sum")

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # not counted

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Ours is written with the adapter."""

    def _send_telemetry(self) -> None:
        """Nothing leaves the machine."""


class _Watch(TrainerCallback):
    """Stops before a step that would do harm, and tells how training goes: running means of loss and |error|."""

    def __init__(self, trainer: JudgeTrainer, progress: Callable[[int, dict[str, float]], None] | None):
        self.trainer, self.progress = trainer, progress

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        sums = self.trainer.accelerator.reduce(self.trainer.sums, "sum")
        grads = [p.grad for p in self.trainer.model.parameters() if p.grad is not None]
        if not torch.isfinite(sums[0] + torch.nn.utils.get_total_norm(grads)):
            raise FloatingPointError(
                f"the loss is not finite at step {state.global_step + 1}; training stopped before the weights were "
                "touched"
            )
        self.trainer.clear()
        _, loss, n, *errors = sums.tolist()
        names, seen = self.trainer.rubric.names, self.trainer.figures
        new = {"loss": loss} if n else {}
        self.trainer._metrics["train"].clear()  # trl's, that nobody reads
        new |= {name: errors[d] / m for d, name in enumerate(names) if (m := errors[d + len(names)])}
        for name, value in new.items():
            seen[name] = 0.97 * seen.get(name, value) + 0.03 * value

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.progress and state.is_world_process_zero:
            self.progress(state.global_step - 1, self.trainer.figures)


def numbered(rows: int) -> Dataset:
    """The rows of a plan by their numbers; the collator makes them up."""
    return Dataset.from_dict({"row": list(range(rows))})


def training_arguments(recipe: Recipe, out: Path) -> SFTConfig:
    """The library's settings for a recipe; checkpoints go to a hidden folder beside `out`.

    InputError if a batch cannot be shared equally among the processes.
    """
    shares = processes()
    if recipe.sft.batch % shares:
        raise InputError(f"a batch of {recipe.sft.batch} cannot be shared equally among {shares} processes")
    on_gpu = torch.cuda.is_available()
    args = SFTConfig(
        output_dir=str(out.with_name(f".{out.name}.checkpoints")),
        max_steps=recipe.sft.steps,
        num_train_epochs=1,
        per_device_train_batch_size=recipe.sft.batch // shares,
        gradient_accumulation_steps=recipe.accumulate,
        learning_rate=recipe.sft.rate,
        max_grad_norm=1.0,
        seed=recipe.seed,
        bf16=not on_gpu or torch.cuda.is_bf16_supported(),
        use_cpu=not on_gpu,
        gradient_checkpointing=recipe.checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        save_strategy="steps" if recipe.save_every else "no",
        save_steps=max(1, recipe.save_every),
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        log_level="error",
        log_level_replica="error",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,  # a step has a forward pass for each kind of row
    )
    if shares == 1 and args.n_gpu > 1:
        args._n_gpu = 1  # more than one is for torchrun or accelerate
    return args
