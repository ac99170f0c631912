"""SOREB: Score-Oriented REINFORCE with an EMA baseline, DermEval's reinforcement learning (arXiv 2511.09195).

As published: one critique with scores is sampled per narrative, it earns minus the squared error of its scores, and the
advantage is taken against an exponential moving average of past rewards. Filled in where nothing is published: decay
and KL weight come from the recipe; the KL is to the judge that training started from. Different from what is published:
scores are read strictly, not by another language model, and a dimension left out costs the worst case (`score_reward`);
the text loss that a figure of the paper shows beside it has no published weight and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .config import Recipe
from .descent import adamw, schedule
from .questions import Earned, Questions, Watch, not_finite

REFERENCE = "reference"  # the frozen copy of the adapter that training started from


class Answers(NamedTuple):
    """Sampled answers of some rows.

    inputs: what the model takes, prompt and answer together; counted: long [rows, tokens], 1 up to and with the end of
    an answer, 0 for the padding behind it.
    """

    inputs: dict[str, Any]
    counted: Any
    earned: Earned


def reinforce(
    model: Any, questions: Questions, recipe: Recipe, after: Callable[[int, dict[str, float]], None], device: str
) -> None:
    """Train `model`, a PeftModel with adapters "default" and REFERENCE, in place.

    Loss of an answer: -(reward - baseline) * log p(answer) + kl * sum over its tokens of KL(judge || start), the KL in
    full over the vocabulary. `after(step, figures)` is called behind every step. Raises as `Watch` does and
    FloatingPointError, with the weights untouched, if a loss is not finite.
    """
    import torch

    model.eval()  # dropout off: an answer is weighed by the probability that it was drawn with
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = adamw(trained, recipe.sft.rate)
    rate, watch, baseline = schedule(optimizer, recipe.sft.steps), Watch(), None
    batch = recipe.sft.batch
    for step in range(recipe.sft.steps):
        parts = [sample(model, questions, range(k, k + batch), recipe, device) for k in _starts(step, recipe)]
        rewards = np.concatenate([part.earned.rewards[:, 0] for part in parts])
        unreadable = float(np.mean([part.earned.unreadable for part in parts]))
        watch.see(Earned(rewards[:, None], unreadable))
        baseline = rewards.mean() if baseline is None else baseline
        optimizer.zero_grad(set_to_none=True)
        total = spent = 0.0
        for part in parts:
            log_p, kl = weigh(model, part, recipe, device)
            advantage = torch.tensor(part.earned.rewards - baseline, dtype=torch.float32, device=device)
            each = recipe.reward.kl * kl - advantage * log_p
            loss = (each * part.counted).sum() / len(rewards)
            if not torch.isfinite(loss):
                raise not_finite("the loss is")
            loss.backward()
            total, spent = total + float(loss.detach()), spent + float((kl.detach() * part.counted).sum())
        if not torch.isfinite(torch.nn.utils.clip_grad_norm_(trained, 1.0)):
            raise not_finite("the gradients are")
        optimizer.step()
        rate.step()
        baseline = recipe.reward.decay * baseline + (1 - recipe.reward.decay) * rewards.mean()
        tokens = sum(int(part.counted.sum()) for part in parts)
        figures = {"loss": total, "reward": rewards.mean(), "baseline": baseline, "kl": spent / tokens}
        figures |= {"unreadable": unreadable, "tokens": tokens / len(rewards)}
        after(step, {name: float(value) for name, value in figures.items()})


def sample(model: Any, questions: Questions, rows: Sequence[int], recipe: Recipe, device: str) -> Answers:
    """One sampled answer per row, and what it earns."""
    import torch

    tokenizer, inputs = questions.encoder.tokenizer, questions.batch(rows, device)
    ends = sorted({tokenizer.eos_token_id, *_several(model.generation_config.eos_token_id)} - {None})
    picture = getattr(model.config, "image_token_id", None)
    with torch.no_grad(), autocast(device):
        whole = model.generate(
            **inputs,
            max_new_tokens=recipe.reward.tokens,
            do_sample=True,
            temperature=recipe.reward.temperature,
            top_k=0,
            top_p=1.0,
            eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id or 0,
            suppress_tokens=None if picture is None else [picture],  # there would be no picture behind it
        )
    drawn = whole[:, inputs["input_ids"].shape[1] :]
    ended = torch.isin(drawn, torch.tensor(ends, device=drawn.device)).long()
    counted = (ended.cumsum(1) - ended == 0).long()
    inputs["input_ids"] = whole
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], counted], 1)
    for name in inputs:
        if name.endswith("token_type_ids"):
            inputs[name] = torch.cat([inputs[name], inputs[name].new_zeros(drawn.shape)], 1)
    return Answers(inputs, counted, questions.earn(rows, tokenizer.batch_decode(drawn, skip_special_tokens=True)))


def weigh(model: Any, answers: Answers, recipe: Recipe, device: str) -> tuple[Any, Any]:
    """Log probability of each token of the answers, and KL(judge || start) there, both [rows, tokens]."""
    import torch

    length = answers.counted.shape[1]

    def log_p() -> Any:
        with autocast(device):
            logits = model(**answers.inputs, logits_to_keep=length + 1, use_cache=False).logits
        return torch.log_softmax(logits[:, -length - 1 : -1].float() / recipe.reward.temperature, -1)

    model.set_adapter(REFERENCE)
    try:
        with torch.no_grad():
            before = log_p()
    finally:
        model.set_adapter("default")
    now = log_p()
    chosen = torch.gather(now, 2, answers.inputs["input_ids"][:, -length:].unsqueeze(-1)).squeeze(-1)
    return chosen, (now.exp() * (now - before)).sum(-1)


def autocast(device: str) -> Any:
    """bf16 on a GPU, none on a CPU."""
    import torch

    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu")


def _starts(step: int, recipe: Recipe) -> list[int]:
    """The first rows of the batches that are added up before one step."""
    first = step * recipe.accumulate
    return [k * recipe.sft.batch for k in range(first, first + recipe.accumulate)]


def _several(value: Any) -> list[int]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
