"""Train a judge by a recipe: base (if the recipe builds one), judge, and the text-only judge it is compared with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..judge.backends.folder import read_card, weights_hash
from ..judge.benchmark import load_benchmark
from ..judge.errors import InputError
from ..judge.files import sha256_file
from ..judge.prompt import template_hash
from ..judge.records import Case, Narrative
from ..judge.rubric import Rubric, load_rubric
from ..judge.tables import frame_to_ratings, read_narratives, read_ratings
from .card import update_card
from .config import Pretraining, Recipe
from .examples import Example, Pictures, build_examples
from .plan_rows import ALTERED, COUNTERFACTUAL
from .processes import is_main, processes

STAMP = "pretraining.json"
Progress = Callable[[str, int, int, dict[str, float]], None]


class Trained(NamedTuple):
    """Folders of what was trained, and how long each stage took (wall and CPU seconds)."""

    base: Path
    judge: Path
    text_only: Path | None
    seconds: dict[str, tuple[float, float]]


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
    benchmark = load_benchmark(folder)
    apart = [*check_splits(benchmark, recipe.data.split), *held_apart]
    narratives = read_narratives(folder / recipe.data.narratives)
    ratings = list(frame_to_ratings(read_ratings(folder / recipe.data.ratings, rubric)))
    examples = build_examples(benchmark.cases, narratives, ratings, rubric, recipe.data.split)
    pictures = Pictures(benchmark.root, keep=len(benchmark.cases))
    for name in ("judge", "text_only"):
        refuse_strangers(out / name)
    clock = Clock()
    if recipe.pretraining and _made_by(out / "base", _stamp(recipe, folder)):
        base = out / "base"  # taken up: the same data and settings made it
    elif recipe.pretraining and processes() > 1:
        raise InputError("a base is pre-trained in one process: run the recipe once without torchrun or accelerate")
    elif recipe.pretraining:
        (out / "base" / STAMP).unlink(missing_ok=True)
        base = _pretrain(recipe, recipe.pretraining, examples, pictures, rubric, out / "base", report, clock)
        stamp = _stamp(recipe, folder) | {"weights": weights_hash(base)}
        (base / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", "utf-8")
    elif recipe.base == "pretrained":
        raise InputError("the recipe names no base: set base to a model folder, or add a pretraining section")
    else:
        base = named_base(recipe.base)
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
            update_card(out / name, {"domain": domain, "data": data_facts(benchmark), "held_apart": apart})
            if stamp:
                note_finished(out / name, stamp)
        clock.lap(name)
    return Trained(base, done["judge"], done.get("text_only"), clock.laps)


def told(report: Progress, stage: str, steps: int, step: int, figures: dict[str, float]) -> None:
    report(stage, step + 1, steps, figures)


def named_base(name: str) -> Path:
    """The folder of a base model: "embedded" or a path."""
    if name == "embedded":
        from ..judge.backends import embedded_folder

        return embedded_folder() / "base"
    if not Path(name).is_dir():
        raise InputError(
            f"no base model folder at '{name}'; give a folder with config.json and *.safetensors, or embedded"
        )
    return Path(name)


def _stamp(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """What decides a pre-trained base: settings, rubric, prompt, and every file of the benchmark."""
    plan = recipe.pretraining.model_dump(mode="json") if recipe.pretraining else {}
    rubric = load_rubric(recipe.rubric)
    return {
        "pretraining": plan,
        "data": data_hashes(recipe, folder),
        "split": recipe.data.split,
        "seed": recipe.seed,
        "rubric": rubric.hash,
        "template": template_hash(rubric, "bound"),
    }


def data_hashes(recipe: Recipe, folder: Path) -> dict[str, str]:
    names = ("SHA256SUMS", "cases.jsonl", recipe.data.narratives, recipe.data.ratings)
    return {name: sha256_file(folder / name) for name in names if (folder / name).exists()}


def _made_by(base: Path, stamp: dict[str, Any]) -> bool:
    """Whether `base` is whole and was made with exactly this stamp."""
    file = base / STAMP
    return file.exists() and read_json(file) == stamp | {"weights": weights_hash(base)}


def read_json(file: Path) -> Any:
    return json.loads(file.read_text("utf-8"))


def _pretrain(
    recipe: Recipe,
    plan: Pretraining,
    examples: Sequence[Example],
    pictures: Pictures,
    rubric: Rubric,
    out: Path,
    report: Progress,
    clock: Clock,
) -> Path:
    import torch

    from ..judge.backends.encoding import Encoder
    from . import pretrain as p

    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    corpus = _corpus(examples, pictures)
    attributes = {
        name: sorted({case.tags["attributes"][name] for case in corpus.cases})
        for name in corpus.cases[0].tags["attributes"]
    }
    shape = plan.shape.model_dump()
    fixed = ["\n".join(f"{name}:" for name in rubric.names) + f"\nCritique:\n{rubric.id}\nContext: \nScores:\n"] * 200
    texts = [n.text for n in corpus.narratives[:10_000]] + [c.context for c in corpus.cases[:5_000]]
    words = [value for values in attributes.values() for value in values] + list(p.VERDICTS)
    tokenizer = p.build_tokenizer([*texts, *corpus.critiques[:5_000], *fixed], words, plan.shape.vocabulary)
    model = p.build_model(tokenizer, shape)
    visible = {
        name: values
        for name, values in attributes.items()
        if all(len(tokenizer.encode(f" {value}")) == 1 for value in values)
    }
    stage, kw = plan.attributes, dict(seed=recipe.seed)
    for step, loss, right in p.learn_attributes(
        model, tokenizer, corpus, visible, steps=stage.steps, batch=stage.batch, rate=stage.rate, **kw
    ):
        report("attributes", step + 1, stage.steps, {"loss": loss, **right})
    clock.lap("attributes")
    seen = p.picture_tokens(model, corpus)
    stage = plan.claims
    for step, loss, share in p.learn_claims(
        model, tokenizer, corpus, seen, steps=stage.steps, batch=stage.batch, rate=stage.rate, **kw
    ):
        report("claims", step + 1, stage.steps, {"loss": loss, "right": share})
    clock.lap("claims")
    processor = p.build_processor(tokenizer, plan.shape.side, seen.shape[1])
    stage = plan.narratives
    for step, loss, figures in p.learn_narratives(
        model,
        Encoder(processor, rubric),
        corpus,
        seen,
        rubric,
        steps=stage.steps,
        batch=stage.batch,
        rate=stage.rate,
        critiques=plan.critiques,
        scores=plan.scores,
        **kw,
    ):
        report("narratives", step + 1, stage.steps, {"loss": loss, **figures})
    clock.lap("narratives")
    out.mkdir(parents=True, exist_ok=True)
    model.bfloat16().save_pretrained(out)
    processor.save_pretrained(out)
    return out


def _corpus(examples: Sequence[Example], pictures: Pictures) -> Any:
    from .pretrain import Corpus

    order: dict[str, int] = {}
    cases: list[Case] = []
    for example in examples:
        if "attributes" not in example.case.tags or "spans" not in example.narrative.provenance:
            raise InputError(
                "pre-training a base needs the synthetic benchmark (attributes and spans); "
                "for other data name a base model in the recipe"
            )
        if example.case.id not in order:
            order[example.case.id] = len(cases)
            cases.append(example.case)
    pixels = np.stack([np.asarray(pictures(case)[0]) for case in cases])
    return Corpus(
        pixels,
        cases,
        [e.narrative for e in examples],
        np.array([order[e.case.id] for e in examples]),
        [e.critique for e in examples],
    )


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


class Clock:
    """Wall and CPU seconds per stage."""

    def __init__(self) -> None:
        self.laps: dict[str, tuple[float, float]] = {}
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def lap(self, name: str) -> None:
        wall, cpu = time.monotonic(), time.process_time()
        self.laps[name] = (round(wall - self._wall, 1), round(cpu - self._cpu, 1))
        self._wall, self._cpu = wall, cpu
