"""The base model that a recipe stands on: one that is there, or one that the recipe makes first."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..judge.backends.folder import refuse_unsafe, settings_hash, weights_hash
from ..judge.errors import InputError
from ..judge.files import sha256_file
from ..judge.prompt import template_hash
from ..judge.records import Case
from ..judge.rubric import Rubric, load_rubric
from .config import Pretraining, Recipe
from .examples import Example, Pictures
from .processes import processes

STAMP = "pretraining.json"
STAGES = 2  # raised whenever a stage learns something else: a base made before that is made anew
Progress = Callable[[str, int, int, dict[str, float]], None]


def base_of(
    recipe: Recipe,
    folder: Path,
    cases: Sequence[Case],
    examples: Sequence[Example],
    pictures: Pictures,
    out: Path,
    report: Progress,
    clock: Clock,
) -> Path:
    """The base of a recipe: the folder that it names, or `out`, built or taught there by the data of `folder`.

    What is in `out` is taken up if the same data and settings made it. InputError if the recipe names no base and
    builds none, or builds one in several processes or over a model that was not made here.
    """
    import torch

    if not (recipe.pretraining or recipe.label_claims):
        if recipe.base == "pretrained":
            raise InputError("the recipe names no base: set base to a model folder, or add a pretraining section")
        return named_base(recipe.base)
    start = None if recipe.pretraining else named_base(recipe.base)
    if start:
        refuse_unsafe(start)
        if start.resolve() == out.resolve():
            raise InputError(f"{out} is the base that label_claims start from; name another --out")
    stamp = _stamp(recipe, folder, start)
    if _made_by(out, stamp):
        return out
    if any(out.glob("*.safetensors")) and not (out / STAMP).exists():
        raise InputError(f"{out} holds a model that was not made here; name another --out, nothing is written over")
    if processes() > 1:
        raise InputError("a base is made in one process: run the recipe once without torchrun or accelerate")
    torch.set_num_threads(recipe.threads)
    out.mkdir(parents=True, exist_ok=True)
    (out / STAMP).write_text("{}\n", "utf-8")  # begun: whatever a stop leaves behind is made anew
    if recipe.pretraining:
        _pretrain(recipe, recipe.pretraining, examples, pictures, load_rubric(recipe.rubric), out, report, clock)
    elif recipe.label_claims and start:
        from .label_claims import learn_label_claims

        stage = recipe.label_claims
        tell = partial(told, report, "label claims", stage.steps)
        learn_label_claims(
            start, out, cases, pictures, split=recipe.data.split, **stage.model_dump(),
            seed=recipe.seed, progress=tell,
        )  # fmt: skip
        clock.lap("label claims")
    (out / STAMP).write_text(json.dumps(stamp | {"weights": weights_hash(out)}, indent=1) + "\n", "utf-8")
    return out


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


def _stamp(recipe: Recipe, folder: Path, start: Path | None) -> dict[str, Any]:
    """What decides a base that is made here: settings, data, and what it was made from."""
    made = {"stages": STAGES, "data": data_hashes(recipe, folder), "split": recipe.data.split, "seed": recipe.seed}
    if recipe.pretraining:
        rubric = load_rubric(recipe.rubric)
        built = {"pretraining": recipe.pretraining.model_dump(mode="json"), "rubric": rubric.hash}
        return made | built | {"template": template_hash(rubric, "bound")}
    claims = recipe.label_claims.model_dump(mode="json") if recipe.label_claims else {}
    start = start or named_base(recipe.base)
    return made | {"label_claims": claims, "base": weights_hash(start), "settings": settings_hash(start)}


def data_hashes(recipe: Recipe, folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a benchmark folder that decide what is learnt from it, by name."""
    names = ("SHA256SUMS", "cases.jsonl", recipe.data.narratives, recipe.data.ratings)
    return {name: sha256_file(folder / name) for name in names if (folder / name).exists()}


def _made_by(base: Path, stamp: dict[str, Any]) -> bool:
    """Whether `base` is whole and was made with exactly this stamp."""
    file = base / STAMP
    return file.exists() and json.loads(file.read_text("utf-8")) == stamp | {"weights": weights_hash(base)}


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


def told(report: Progress, stage: str, steps: int, step: int, figures: dict[str, float]) -> None:
    """Progress of one stage, its steps counted from 1."""
    report(stage, step + 1, steps, figures)


class Clock:
    """Wall and CPU seconds per stage."""

    def __init__(self) -> None:
        self.laps: dict[str, tuple[float, float]] = {}
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def lap(self, name: str) -> None:
        """Note what has passed since the last lap under `name`."""
        wall, cpu = time.monotonic(), time.process_time()
        self.laps[name] = (round(wall - self._wall, 1), round(cpu - self._cpu, 1))
        self._wall, self._cpu = wall, cpu
