"""Train one rung of a ladder on data that all rungs share, unless exactly this one is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..judge.backends.folder import weights_hash
from ..judge.errors import InputError
from ..judge.rubric import Rubric
from .checkpoints import finished, note_finished
from .config import Recipe
from .examples import Example, Pictures, read_rated
from .own_base import Clock, Progress, data_hashes, named_base, told


@dataclass(frozen=True)
class Material:
    """What every rung of a ladder shares: base, rated examples of the training split, pictures, rubric, source."""

    base: Path
    examples: Sequence[Example]
    pictures: Pictures
    rubric: Rubric
    source: str
    data: dict[str, str]


def prepare_data(recipe: Recipe, folder: Path, rubric: Rubric) -> Material:
    """Read a benchmark folder once for several trainings on a base that is there already."""
    benchmark, _, _, examples = read_rated(recipe.data, folder, rubric)
    return Material(
        named_base(recipe.base),
        examples,
        Pictures(benchmark.root, keep=len(benchmark.cases)),
        rubric,
        f"{benchmark.name} {benchmark.version}, {len(benchmark.cases)} cases",
        data_hashes(recipe, folder),
    )


def train_rung(
    recipe: Recipe,
    material: Material,
    out: Path,
    *,
    blind: bool = False,
    labels: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Train one adapter unless exactly this one is there; CPU seconds that it took (or had taken).

    `labels`: see only so many rated narratives, see `rungs.some_labels`. InputError if there are not so many.
    """
    from .rungs import some_labels
    from .sft import start_folder, train_adapter

    examples = material.examples if labels is None else some_labels(material.examples, labels, recipe.seed)
    if labels is not None and len(examples) < labels:
        raise InputError(f"{recipe.name}: {len(examples)} rated narratives to train on, {labels} are wanted")
    start = start_folder(recipe)
    stamp = {
        "recipe": recipe.model_dump(mode="json", exclude_none=True) | {"start": weights_hash(start) if start else ""},
        "labels": labels,
        "data": material.data,
        "blind": blind,
        "base": weights_hash(material.base),
    }
    if done := finished(out, stamp):
        return done["cpu_seconds"]
    clock = Clock()
    tell = partial(told, progress, recipe.name, recipe.sft.steps) if progress else None
    source = material.source
    train_adapter(
        recipe, material.base, out, examples, material.pictures, material.rubric, blind=blind, source=source,
        progress=tell,
    )  # fmt: skip
    clock.lap("rung")
    seconds = clock.laps["rung"][1]
    note_finished(out, stamp, cpu_seconds=seconds)
    return seconds
