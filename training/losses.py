"""The loss on score slots: cross-entropy on soft labels plus the squared error of the expected score."""

from __future__ import annotations

from typing import Any


def soft_labels(gold: Any, levels: Any) -> Any:
    """Linear interpolation of a score between the two levels around it.

    gold: float [...] in scale units; levels: float [L], rising by 1. Returns float [..., L], each row sums to 1.
    """
    import torch

    return torch.clamp(1 - (gold.unsqueeze(-1) - levels).abs(), min=0)


def slot_loss(
    logits: Any, level_ids: Any, levels: Any, gold: Any, *, target: Any = None, weight: float = 0.3, off: float = 0.05
) -> tuple[Any, Any]:
    """Regression-aware loss (RAFT, TRACT) on slots.

    logits: float [batch, dimensions, vocabulary] at the slots; level_ids: [dimensions, levels]; levels: [levels];
    gold: [batch, dimensions], NaN where there is no rating (left out, never imputed); target: [batch, dimensions,
    levels], soft labels, by default interpolated from gold.
    Cross-entropy over the levels + weight * squared error of the expected score + off * (-log of the probability that
    lies on the levels at all). Returns the loss (scalar) and the expected scores [batch, dimensions].
    """
    import torch

    wide = logits.float()
    chosen = torch.gather(wide, 2, level_ids.expand(wide.shape[0], -1, -1))
    log_mass = torch.logsumexp(chosen, -1) - torch.logsumexp(wide, -1)
    expected = torch.softmax(chosen, -1) @ levels
    known = ~torch.isnan(gold)
    filled = torch.where(known, gold, expected.detach())
    soft = soft_labels(filled, levels) if target is None else target
    entropy = -(soft * torch.log_softmax(chosen, -1)).sum(-1)
    each = entropy + weight * (expected - filled) ** 2 - off * log_mass
    return (each * known).sum() / known.sum().clamp(min=1), expected
