"""One step of gradient descent: warm-up, cosine, clipping, and a stop before a loss that is not finite does harm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def schedule(optimizer: Any, steps: int) -> Any:
    """40 steps of warm-up, then a cosine down to 5 % of the rate."""
    import torch

    def factor(k: int) -> float:
        return min(1, (k + 1) / 40) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1, k / steps))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def adamw(parameters: Sequence[Any], rate: float) -> Any:
    """AdamW with the settings that every training here uses."""
    import torch

    return torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.02)


class Descent:
    """Muon (torch.optim) for the weight matrices inside the layers, AdamW for embeddings, norms, biases, convolutions.

    Muon took a third of AdamW's steps to learn the same attributes of a picture. With matrices=False everything goes
    through AdamW, as is usual for LoRA. The rate follows `schedule`.
    """

    def __init__(self, named: Sequence[tuple[str, Any]], rate: float, steps: int, *, matrices: bool = True):
        import torch

        named = [(name, p) for name, p in named if p.requires_grad]
        inner = [p for name, p in named if matrices and p.ndim == 2 and "embed" not in name and name != "weight"]
        chosen = {id(p) for p in inner}
        rest = [p for _, p in named if id(p) not in chosen]
        self.parameters = [*inner, *rest]
        self._parts: list[Any] = [adamw(rest, rate)]
        if inner:
            self._parts.append(
                torch.optim.Muon(inner, lr=2.5 * rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
            )
        self._schedules = [schedule(part, steps) for part in self._parts]

    def step(self, *losses: Any) -> None:
        """Descend along the sum of the losses; FloatingPointError, with the weights untouched, if one is not finite."""
        import torch

        for part in self._parts:
            part.zero_grad(set_to_none=True)
        for loss in losses:
            if not torch.isfinite(loss):
                raise FloatingPointError("the loss is not finite; training stopped before the weights were touched")
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for part in (*self._parts, *self._schedules):
            part.step()
