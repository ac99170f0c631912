"""An adapter folder: weights and settings as peft writes them, and the card that says where they come from."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..judge.backends.folder import CARD, weights_hash
from ..judge.errors import InputError
from ..judge.prompt import template_hash
from ..judge.rubric import Rubric
from .config import Recipe
from .examples import Example


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
    """Write adapter and card; paths inside are relative names, never those of this machine."""
    whole, out = out, out.with_name(f".{out.name}.new")
    shutil.rmtree(out, ignore_errors=True)
    model.save_pretrained(out, safe_serialization=True, selected_adapters=["default"])
    for config in out.glob("adapter_config.json"):
        content = json.loads(config.read_text("utf-8"))
        content["base_model_name_or_path"] = base.name
        config.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
    (out / "README.md").unlink(missing_ok=True)
    card = {
        "format": 1,
        "name": recipe.name + ("-text-only" if blind else ""),
        "base": base.name,
        "base_weights": weights_hash(base),
        "rubric": rubric.id,
        "rubric_hash": rubric.hash,
        "form": recipe.form,
        "template": template_hash(rubric, recipe.form),
        "max_images": recipe.max_images,
        "blind": blind,
        "trained_on": {
            "narratives": len(examples),
            "patients": len({e.case.patient_id or e.case.id for e in examples}),
            "split": recipe.data.split,
            "source": source,
        },
        "recipe": _portable(recipe),
        "notes": list(recipe.notes),
        "software": {name: sys.modules[name].__version__ for name in ("torch", "transformers", "peft")},
    }
    (out / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf-8")
    shutil.rmtree(whole, ignore_errors=True)
    return out.rename(whole)


def refuse_strangers(folder: Path) -> None:
    """Refuse to write over a folder that holds anything but a judge."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / CARD).exists())):
        raise InputError(f"{folder} is there and holds no judge; name another --out, nothing is written over")


def _portable(recipe: Recipe) -> dict[str, Any]:
    """The recipe with the last part of each path only."""
    content = recipe.model_dump(mode="json")
    content["base"], content["data"]["folder"] = Path(recipe.base).name, Path(recipe.data.folder).name
    content["start"] = Path(recipe.start).name
    return content
