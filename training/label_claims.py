"""Teach a base what the labels of real pictures look like, before a judge learns to score: claims, right or wrong.

"<picture> The most likely diagnosis is melanoma", and at its end whether it is so. Such a text is a tenth of a
narrative and has one answer, so the language side learns in a minute to hold a name against a picture. The vision side
stays as it is: with a few hundred pictures it would learn them by heart.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..judge.errors import InputError
from ..judge.records import Case
from .descent import Descent
from .examples import Pictures
from .pretrain import VERDICTS, hidden_states, picture_head, see, verdict_loss

CLAIMS = ("The most likely diagnosis is {}", "The leading diagnosis is {}", "The most probable diagnosis here is {}")
LISTED = "\n1. {}"
VIEWS = 4  # of each picture: as it is, mirrored, upside down, turned round


def learn_label_claims(
    base: Path,
    out: Path,
    cases: Sequence[Case],
    pictures: Pictures,
    *,
    split: str = "train",
    steps: int = 175,
    batch: int = 64,
    rate: float = 6e-4,
    seed: int = 0,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> Path:
    """Train the language side of `base` on claims about the cases of one split, and write the new base to `out`.

    A case counts by its first diagnosis and first picture; counterfactual cases are left out. Labels are drawn evenly,
    half of the claims are right. Only for bases that this project builds (Idefics3 with the verdict words in the
    vocabulary). InputError for another base, or fewer than two labels.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    from ..judge.backends.bases import load_processor

    chosen = [
        c
        for c in cases
        if (not split or c.split == split) and c.images and c.diagnosis and not c.tags.get("counterfactual")
    ]
    by_label: dict[str, list[int]] = {}
    for k, case in enumerate(chosen):
        by_label.setdefault(case.diagnosis[0], []).append(k)
    if len(by_label) < 2:
        raise InputError(f"split '{split}' has pictures of {len(by_label)} label(s); claims need two or more")
    local = {"local_files_only": True, "trust_remote_code": False}
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32, attn_implementation="eager", **local)
    processor = load_processor(base)
    tokenizer = processor.tokenizer
    verdicts = {name: tokenizer.encode(f" {name}") for name in VERDICTS}
    if not hasattr(model.model, "connector") or any(len(ids) != 1 for ids in verdicts.values()):
        raise InputError(f"base {base.name} was not built by this project; claims need its connector and verdict words")
    verdict = {name: ids[0] for name, ids in verdicts.items()}
    torch.manual_seed(seed)
    rng, labels = random.Random(seed), sorted(by_label)
    seen = _views(model, processor, [pictures(case)[0] for case in chosen])
    head = picture_head(tokenizer, seen.shape[2])
    descent = Descent(list(model.model.text_model.named_parameters()), rate, steps)
    right = 0.5
    for step in range(steps):
        rows, marks, shown = [], [], []
        for row in range(batch):
            label = rng.choice(labels)
            true = rng.random() < 0.5
            said = label if true else rng.choice([other for other in labels if other != label])
            claim = LISTED if rng.random() < 0.5 else f" {rng.choice(CLAIMS)}"
            rows.append(head + tokenizer.encode(claim.format(said), add_special_tokens=False))
            marks.append((row, len(rows[-1]) - 1, verdict["ok" if true else "wrong"]))
            shown.append(seen[rng.choice(by_label[label]), rng.randrange(VIEWS)])
        hidden = hidden_states(model, tokenizer, rows, torch.stack(shown))
        loss, share = verdict_loss(model, hidden, marks, list(verdict.values()))
        right = 0.97 * right + 0.03 * share
        descent.step(loss)
        if progress:
            progress(step, {"loss": float(loss.detach()), "right": right})
    out.mkdir(parents=True, exist_ok=True)
    model.bfloat16().save_pretrained(out)
    processor.save_pretrained(out)
    return out


def _views(model: Any, processor: Any, pictures: Sequence[Any]) -> Any:
    """Picture tokens of every view, bf16 [pictures, VIEWS, tokens, width]."""
    import torch
    from PIL import ImageOps

    made = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for picture in pictures:
            views = [picture, ImageOps.mirror(picture), ImageOps.flip(picture), picture.rotate(180)]
            pixels = processor.image_processor([[view] for view in views], return_tensors="pt")["pixel_values"]
            made.append(see(model, pixels).bfloat16())
    return torch.stack(made).clone()
