"""Is a question like those the judge was trained on? Texts by tokens per word and length, pictures by distance.

The limits come from held-out data of the judge's own training (`training.train.measure_domain`): numbers in the card
under "domain", the pictures' mean and whitening matrix in domain.safetensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

FILE = "domain.safetensors"


class Domain:
    """Limits of one judge; without any, nothing is flagged."""

    def __init__(self, folder: Path, limits: Mapping[str, Any] | None, device: str):
        self.limits = limits or {}
        file = Path(folder) / FILE
        self.pictures = {k: v.to(device) for k, v in load_file(file).items()} if file.exists() else {}

    def flags(self, text: str, tokens: int, feature: torch.Tensor | None) -> tuple[str, ...]:
        """What is far: `text` with its number of `tokens`, and the picture's `feature` (see `watch_pictures`)."""
        found = []
        words = len(text.split()) or 1
        if self.limits and (words > self.limits["words"] or tokens / words > self.limits["tokens_per_word"]):
            found.append("text out of domain")
        if (
            self.pictures
            and feature is not None
            and distance(feature, **self.pictures) > self.limits["picture_distance"]
        ):
            found.append("picture out of domain")
        return tuple(found)


def distance(feature: torch.Tensor, mean: torch.Tensor, whiten: torch.Tensor) -> torch.Tensor:
    """Root mean square of the whitened deviation (Mahalanobis distance over the root of the width), float [...]."""
    return ((feature - mean) @ whiten).square().mean(-1).sqrt()


def vision_tower(model: Any) -> Any:
    """The part that reads the pictures, None where it is not of a form whose states can be pooled."""
    return getattr(model.model, "vision_model", None) or getattr(model.model, "vision_tower", None)


@contextmanager
def watch_pictures(model: Any, wanted: bool = True) -> Iterator[list[torch.Tensor]]:
    """Collects what the vision tower says of the pictures of a pass.

    Each entry: float [pictures, 2 * width], mean and standard deviation of the tower's states over a picture's places.
    """
    seen: list[torch.Tensor] = []

    def keep(module: Any, given: Any, out: Any) -> None:
        states = out.last_hidden_state.float()
        seen.append(torch.cat([states.mean(1), states.std(1)], 1))

    if not wanted or vision_tower(model) is None:
        yield seen
        return
    hook = vision_tower(model).register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()


def pooled(seen: Sequence[torch.Tensor], pictures: Sequence[int]) -> list[Any]:
    """One vector per row (the mean of its pictures), None where the pictures cannot be told apart by row.

    pictures: how many each row has; only rows of one number can be told apart.
    """
    rows = len(pictures)
    if not seen or len(set(pictures)) > 1 or seen[0].shape[0] % rows:
        return [None] * rows
    return list(seen[0].reshape(rows, -1, seen[0].shape[-1]).mean(1))
