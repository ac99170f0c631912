"""An adapter folder: weights and settings as peft writes them, and the card that says where they come from."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..judge.backends.card_checks import ADAPTER, FORMAT
from ..judge.backends.folder import CARD, PARTS, base_name, base_revision, part_hash, read_card, weights_hash
from ..judge.benchmark import Benchmark
from ..judge.errors import InputError
from ..judge.files import sha256_file
from ..judge.prompt import template_hash
from ..judge.rubric import Rubric
from .card import card_text
from .config import Recipe
from .decision import write_decision
from .examples import Example

_SOFTWARE = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "pillow")
_OF_START = ("name", "base_weights", "rubric_hash", "trained_on", "data", "held_apart", "start")


def save_adapter(
    model: Any,
    out: Path,
    recipe: Recipe,
    base: Path,
    rubric: Rubric,
    examples: Sequence[Example],
    blind: bool,
    source: str,
) -> Path:
    """Write adapter, judge.json and README.md; all that loading checks (`judge.backends.card_checks`) is in the card.

    Paths inside are relative names, never those of this machine. The folder is there whole or not at all.
    """
    whole, out = out, out.with_name(f".{out.name}.new")
    shutil.rmtree(out, ignore_errors=True)
    model.save_pretrained(out, safe_serialization=True, selected_adapters=["default"])
    name = base_name(base)
    for config in out.glob("adapter_config.json"):
        content = json.loads(config.read_text("utf-8"))
        content["base_model_name_or_path"], content["revision"] = name, base_revision(base)
        config.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
    card = {
        "format": FORMAT,
        "name": recipe.name + ("-text-only" if blind else ""),
        "base": name,
        "base_revision": base_revision(base),
        "base_weights": weights_hash(base),
        **{f"{part}_hash": part_hash(base, part) for part in PARTS},
        "adapter_sha256": sha256_file(out / ADAPTER),
        "rubric": rubric.id,
        "rubric_hash": rubric.hash,
        "form": recipe.form,
        "template": template_hash(rubric, recipe.form),
        "order": recipe.order,
        "max_images": recipe.max_images,
        "images": recipe.images.model_dump(mode="json"),
        "blind": blind,
        "seed": recipe.seed,
        "trained_on": {
            "narratives": len(examples),
            "patients": len({e.case.patient_id or e.case.lesion_id or e.case.id for e in examples}),
            "split": recipe.data.split,
            "source": source,
            "hash": examples_hash(examples),
        },
        "recipe": _portable(recipe),
        "notes": list(recipe.notes),
        "software": {"dermjudge": __version__, "python": platform.python_version(), **_versions()},
    }
    if start := _start_card(recipe):
        card["start"] = start
    if reason := _decision(out, recipe, base, rubric, blind):
        card["decision"] = reason
    (out / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (out / "README.md").write_text(card_text(card), "utf-8")
    shutil.rmtree(whole, ignore_errors=True)
    return out.rename(whole)


def _decision(out: Path, recipe: Recipe, base: Path, rubric: Rubric, blind: bool) -> str:
    """Write what transformers' decision pipeline needs beside the adapter; why not, if it cannot be."""
    if recipe.order == "critique":
        return "its scores stand behind a critique, which the decision pipeline cannot write"
    images = recipe.images.model_dump(mode="json")
    try:
        write_decision(
            out, base, rubric, form=recipe.form, max_images=recipe.max_images, blind=blind, images=images, adapter=True
        )
    except InputError as error:
        return str(error)
    return ""


def examples_hash(examples: Sequence[Example]) -> str:
    """First 16 hex digits of the SHA-256 over what was learnt from: cases, texts, contexts, scores, critiques.

    The order does not count. Pictures are not read for it; `data_facts` has their hashes.
    """
    digests = []
    for e in examples:
        words = [e.case.id, e.case.context, *map(str, e.narrative.key), e.narrative.hash, e.critique]
        one = hashlib.sha256("\x1f".join(words).encode("utf-8", "surrogatepass"))
        for numbers in (e.gold, e.target):
            one.update(np.nan_to_num(np.asarray(numbers, float), nan=-1.0).round(6).tobytes())
        digests.append(one.digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:16]


def data_facts(benchmark: Benchmark) -> dict[str, Any]:
    """What a card says of the benchmark behind the training data; SHA256SUMS stands for every file, pictures too."""
    return {
        "benchmark": benchmark.name,
        "version": benchmark.version,
        "source": benchmark.source,
        "licence": benchmark.licence,
        "synthetic": benchmark.synthetic,
        "splits": dict(benchmark.splits),
        "cases_sha256": benchmark.cases_sha256,
        "sums_sha256": benchmark.hashes.get("SHA256SUMS"),
    }


def refuse_strangers(folder: Path) -> None:
    """Refuse to write over a folder that holds anything but a judge."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / CARD).exists())):
        raise InputError(f"{folder} is there and holds no judge; name another --out, nothing is written over")


def _versions() -> dict[str, str]:
    found = {}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # pragma: no cover
            continue
    return found


def _start_card(recipe: Recipe) -> dict[str, Any]:
    """What the judge that training went on from had seen; {} without one."""
    if not recipe.start:
        return {}
    from ..judge.backends import embedded_folder

    folder = embedded_folder() / "judge" if recipe.start == "embedded" else Path(recipe.start)
    card = read_card(folder)
    return {"adapter_weights": weights_hash(folder)} | {key: card[key] for key in _OF_START if key in card}


def _portable(recipe: Recipe) -> dict[str, Any]:
    """The recipe with the last part of each path only."""
    content = recipe.model_dump(mode="json")
    for part, keys in ((content, ("base", "start", "rubric")), (content["data"], ("folder", "narratives", "ratings"))):
        for key in keys:
            part[key] = Path(part[key]).name
    return content
