"""Losses on score slots: cross-entropy on soft labels plus squared error, and the exact expectation of a reward."""

from __future__ import annotations

from typing import Any


def soft_labels(gold: Any, levels: Any) -> Any:
    """Linear interpolation of a score between the two levels around it.

    gold: float [...] in scale units; levels: float [L], rising by 1. Returns float [..., L], each row sums to 1.
    """
    import torch

    return torch.clamp(1 - (gold.unsqueeze(-1) - levels).abs(), min=0)


def slot_loss(
    logits: Any,
    level_ids: Any,
    levels: Any,
    gold: Any,
    *,
    target: Any = None,
    weight: float = 0.3,
    off: float = 1.0,
    count: Any = None,
) -> tuple[Any, Any]:
    """Regression-aware loss (RAFT, TRACT) on slots.

    logits: float [batch, dimensions, vocabulary] at the slots; level_ids: [dimensions, levels]; levels: [levels];
    gold: [batch, dimensions], NaN where there is no rating (left out, never imputed); target: [batch, dimensions,
    levels], soft labels, by default interpolated from gold.
    Cross-entropy over the levels + weight * squared error of the expected score + off * (-log of the probability that
    lies on the levels at all); with off = 1 the first and the last are cross-entropy over the whole vocabulary. (With
    0.05 a base that had never seen a score left 80 % of its probability elsewhere after 160 steps.)
    count: known scores to divide the sum by, by default those of gold; more where these rows are a share of a batch.
    Returns the loss (scalar) and the expected scores [batch, dimensions].
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
    return (each * known).sum() / (known.sum() if count is None else count).clamp(min=1), expected


def reward_loss(
    logits: Any,
    level_ids: Any,
    levels: Any,
    gold: Any,
    reference: Any,
    *,
    kl: float = 0.05,
    off: float = 1.0,
    count: Any = None,
) -> tuple[Any, Any]:
    """Minus the expected reward -(level - gold)^2 under the judge's own distribution, plus kl * KL(judge || reference).

    A slot has so few answers that the policy gradient needs no sampling: this is what REINFORCE estimates. Shapes as in
    `slot_loss`; reference: [batch, dimensions, vocabulary], logits of the judge that training started from.
    E[(d-y)^2] = (E[d]-y)^2 + Var(d): the reward also pays for a narrower distribution, whether or not it is right, so
    look at the ranked probability score beside the error. Returns the loss (scalar) and the expected scores.
    """
    import torch

    wide = logits.float()
    index = level_ids.expand(wide.shape[0], -1, -1)
    chosen = torch.gather(wide, 2, index)
    log_mass = torch.logsumexp(chosen, -1) - torch.logsumexp(wide, -1)
    log_p = torch.log_softmax(chosen, -1)
    log_ref = torch.log_softmax(torch.gather(reference.float(), 2, index), -1)
    p = log_p.exp()
    known = ~torch.isnan(gold)
    filled = torch.where(known, gold, torch.zeros_like(gold))
    cost = (p * (levels - filled.unsqueeze(-1)) ** 2).sum(-1)
    each = cost + kl * (p * (log_p - log_ref)).sum(-1) - off * log_mass
    return (each * known).sum() / (known.sum() if count is None else count).clamp(min=1), p @ levels
