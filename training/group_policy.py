"""GRPO and RLOO through trl: several answers per narrative, each weighed against the others.

trl builds prompts from messages; a judge is served prompts that its `Encoder` builds, foreign text kept clear of
special tokens. So trl is given messages that hold a row's number, and a processor that turns them into those tokens.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, ProcessorMixin, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from .config import Recipe
from .descent import adamw, schedule
from .questions import Questions, Watch, not_finite


def train_groups(
    model: Any, questions: Questions, recipe: Recipe, after: Callable[[int, dict[str, float]], None], device: str
) -> None:
    """Train `model`, a PeftModel that carries the judge to start from as "default", in place.

    trl copies that adapter to a frozen "ref", which the KL is to. `questions` holds a row per narrative,
    `recipe.sft.batch` / `recipe.reward.generations` of them a batch. Raises as `Watch` does and FloatingPointError,
    with the weights untouched, if a gradient is not finite.
    """
    rows = Dataset.from_dict({"row": list(range(len(questions)))}).with_transform(
        lambda columns: {
            "row": columns["row"],
            "prompt": [[{"role": "user", "content": str(row)}] for row in columns["row"]],
            "images": [questions.look(row) for row in columns["row"]],
        }
    )
    config, method = (GRPOConfig, _Grpo) if recipe.objective == "grpo" else (RLOOConfig, _Rloo)
    optimizer = adamw([p for p in model.parameters() if p.requires_grad], recipe.sft.rate)
    reward = _Reward(questions, recipe.reward.generations)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = method(
            model=model,
            reward_funcs=reward,
            args=config(
                output_dir=scratch,
                seed=recipe.seed,
                max_steps=recipe.sft.steps,
                per_device_train_batch_size=recipe.sft.batch,
                gradient_accumulation_steps=recipe.accumulate,
                max_grad_norm=1.0,
                num_generations=recipe.reward.generations,
                max_completion_length=recipe.reward.tokens,
                temperature=recipe.reward.temperature,
                beta=recipe.reward.kl,
                shuffle_dataset=False,  # the rows are drawn already
                pad_to_multiple_of=None,
                disable_dropout=True,
                bf16=device != "cpu",
                use_cpu=device == "cpu",
                gradient_checkpointing=recipe.checkpointing,
                dataloader_pin_memory=device != "cpu",
                save_strategy="no",
                logging_steps=1,
                logging_nan_inf_filter=False,
                disable_tqdm=True,
                log_level="error",
                report_to="none",
            ),
            train_dataset=rows,
            processing_class=ServedPrompts(questions),
            callbacks=[_Steps(reward, after)],
            optimizers=(optimizer, schedule(optimizer, recipe.sft.steps)),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


class ServedPrompts(ProcessorMixin):
    """Stands where trl expects a processor: for a message that holds a row's number, the tokens of `Questions.encode`.

    Tokens, pictures and what else the model takes come from the judge's own `Encoder`.
    """

    def __init__(self, questions: Questions):
        processor = questions.encoder.processor
        self.questions, self.tokenizer = questions, processor.tokenizer
        self.image_processor, self.chat_template = processor.image_processor, processor.chat_template

    def apply_chat_template(self, conversation: Sequence[Any], tokenize: bool = False, **_: Any) -> Any:
        """The row's number of one conversation or, tokenised, the inputs of several (input_ids not padded)."""
        if isinstance(conversation[0], dict):
            return _number(conversation)
        if not tokenize:
            return [_number(one) for one in conversation]
        rows = [int(_number(one)) for one in conversation]
        return {**self(text=rows), "input_ids": [self.questions.encode(row).ids for row in rows]}

    def __call__(self, images: Any = None, text: Sequence[Any] = (), **_: Any) -> Any:
        return self.questions.batch([int(row) for row in text])

    def batch_decode(self, *args: Any, **kwargs: Any) -> Any:
        return self.tokenizer.batch_decode(*args, **kwargs)


class _Quiet:
    def _send_telemetry(self) -> None:
        """Nothing leaves the machine."""


class _Grpo(_Quiet, GRPOTrainer):
    pass


class _Rloo(_Quiet, RLOOTrainer):
    pass


class _Reward:
    """What trl calls for the rewards; keeps the share of scores that could not be read."""

    __name__ = "score"

    def __init__(self, questions: Questions, generations: int):
        self._questions, self._generations, self._watch = questions, generations, Watch()
        self.figures: dict[str, float] = {}

    def __call__(self, completions: Sequence[Any], row: Sequence[int], **_: Any) -> list[float]:
        texts = [messages[0]["content"] for messages in completions]
        earned = self._questions.earn(row, texts, self._generations)
        self._watch.see(earned)  # trl's own share of RLOO counts the KL in, which is never twice the same
        self.figures = {"unreadable": earned.unreadable, "frac_reward_zero_std": earned.zero_spread}
        return earned.rewards.reshape(-1).tolist()


class _Steps(TrainerCallback):
    """Hands every step on, and ends the run before a gradient that is not finite moves the weights."""

    def __init__(self, reward: _Reward, after: Callable[[int, dict[str, float]], None]):
        self._reward, self._after = reward, after

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            raise not_finite("the gradients are")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "reward" not in logs:  # the summary behind the last step
            return
        names = {"loss": "loss", "reward": "reward", "kl": "kl", "tokens": "completions/mean_length"}
        figures = {name: float(logs[key]) for name, key in names.items() if logs.get(key) is not None}
        self._after(state.global_step - 1, figures | self._reward.figures)


def _number(conversation: Sequence[Any]) -> str:
    content = conversation[-1]["content"]
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")
