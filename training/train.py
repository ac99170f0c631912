"""Train a judge by a recipe: base (if the recipe builds one), judge, and the text-only judge it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..judge.backends.folder import read_card
from ..judge.errors import InputError
from ..judge.records import Case, Narrative
from ..judge.rubric import load_rubric
from .card import update_card
from .config import Recipe
from .examples import Pictures, count_examples, read_rated
from .own_base import Clock, Progress, base_of, data_hashes, told
from .plan_rows import ALTERED, COUNTERFACTUAL
from .processes import is_main


class Trained(NamedTuple):
    """Folders of what was trained, how long each stage took (wall and CPU seconds), `examples.count_examples`."""

    base: Path
    judge: Path
    text_only: Path | None
    seconds: dict[str, tuple[float, float]]
    counted: dict[str, Any]


def train(
    recipe: Recipe,
    folder: Path,
    out: Path,
    progress: Progress | None = None,
    *,
    held_apart: Sequence[Mapping[str, Any]] = (),
) -> Trained:
    """Run a recipe on a benchmark folder with narratives and expert ratings; write base, judge, text_only to `out`.

    held_apart: what `leakage.check_apart` said of evaluation data, for the card. With `save_every` in the recipe, the
    same call again takes up what a broken-off one has done: base, judge, checkpoints. Raises InputError if the folder
    has nothing to learn from, or if the split to learn from shares patients or lesions with another; FloatingPointError
    if the loss stops being finite.
    """
    from .adapter_folder import data_facts, refuse_strangers
    from .checkpoints import finished, note_finished, training_stamp
    from .leakage import check_splits
    from .sft import train_adapter

    report = progress or (lambda stage, step, steps, figures: None)
    rubric = load_rubric(recipe.rubric)
    benchmark, narratives, ratings, examples = read_rated(recipe.data, folder, rubric)
    apart = [*check_splits(benchmark, recipe.data.split), *held_apart]
    counted = count_examples(examples, ratings, benchmark.cases, rubric, recipe.data.split)
    pictures = Pictures(benchmark.root, keep=len(benchmark.cases))
    for name in ("judge", "text_only"):
        refuse_strangers(out / name)
    if (there := read_card(out / "judge").get("name", recipe.name)) != recipe.name:
        raise InputError(f"{out} holds the judge of recipe {there}; name another --out, nothing is written over")
    clock = Clock()
    base = base_of(recipe, folder, benchmark.cases, examples, pictures, out / "base", report, clock)
    held_out = [case for case in benchmark.cases if case.split == "validation"]
    done = {}
    for name, blind in (("judge", False), ("text_only", True)):
        if blind and not recipe.text_only:
            continue
        done[name] = out / name
        stamp = {}
        if recipe.save_every:
            stamp = training_stamp(recipe, base, examples, blind) | {"data": data_hashes(recipe, folder)}
        if stamp and finished(out / name, stamp):
            if is_main():
                update_card(out / name, {"held_apart": apart})
            continue
        train_adapter(
            recipe,
            base,
            out / name,
            examples,
            pictures,
            rubric,
            blind=blind,
            source=f"{benchmark.name} {benchmark.version}, {len(benchmark.cases)} cases",
            progress=partial(told, report, name, recipe.sft.steps),
        )
        if is_main():
            domain = measure_domain(base, out / name, held_out, narratives, pictures)
            update_card(out / name, {"domain": domain, "data": data_facts(benchmark), "held_apart": apart,
                                         "counted": counted})  # fmt: skip
            if stamp:
                note_finished(out / name, stamp)
        clock.lap(name)
    return Trained(base, done["judge"], done.get("text_only"), clock.laps, counted)


def measure_domain(
    base: Path, judge: Path, cases: Sequence[Case], narratives: Sequence[Narrative], pictures: Pictures
) -> dict[str, Any]:
    """What the judge's own held-out data look like, so that questions far from them can be flagged.

    Returns tokens_per_word and words (99.9 % quantiles over the narratives, with a margin) and, written to
    domain.safetensors of `judge`, mean [2 width] and whitening [2 width, 2 width] of what the vision tower says of the
    first half of the pictures, with picture_distance the 99.5 % quantile over the second half, and a tenth. {} with
    fewer than 50 cases.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForImageTextToText

    from ..judge.backends.bases import load_processor
    from ..judge.backends.domain import FILE, distance, vision_tower, watch_pictures

    chosen = {case.id for case in cases}
    texts = [n.judged for n in narratives if n.case_id in chosen]
    if len(chosen) < 50 or not texts:
        return {}
    local = {"local_files_only": True, "trust_remote_code": False}
    processor = load_processor(base, read_card(judge).get("images"))
    words = [len(text.split()) for text in texts]
    tokens = [len(processor.tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    rates = [t / w for t, w in zip(tokens, words, strict=True)]
    limits: dict[str, Any] = {
        "tokens_per_word": round(float(np.quantile(rates, 0.999)) * 1.05, 3),
        "words": int(np.quantile(words, 0.999) * 1.5),
    }
    # Each picture once, or both halves would hold the same and the limit come out too small.
    natural = [case for case in cases if case.images and case.tags.get(COUNTERFACTUAL) not in ALTERED]
    shown = list({case.images[0].path: case for case in natural}.values())
    if len(shown) < 50 or read_card(judge).get("blind"):
        return limits
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32, **local).eval()
    if vision_tower(model) is None:
        return limits
    features = []
    with torch.inference_mode(), watch_pictures(model) as seen:
        for case in shown:
            pixels = processor.image_processor([pictures(case)], return_tensors="pt")["pixel_values"]
            model.get_image_features(pixels)
            features.append(seen.pop().mean(0))
    first, second = torch.stack(features[::2]), torch.stack(features[1::2])
    covariance = torch.cov(first.T)
    ridge = 1e-3 * covariance.diagonal().mean() * torch.eye(len(covariance))
    # In double: pictures that repeat leave the covariance near singular.
    whiten = torch.linalg.cholesky(torch.linalg.inv((covariance + ridge).double())).float().contiguous()
    save_file({"mean": first.mean(0), "whiten": whiten}, str(judge / FILE))
    far = torch.quantile(distance(second, first.mean(0), whiten), 0.995)
    return limits | {"picture_distance": round(float(far) * 1.1, 3)}
