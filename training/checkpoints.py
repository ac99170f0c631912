"""Checkpoints of a training that may be broken off, and which of them it can go on from."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..judge.backends.folder import weights_hash
from .adapter_folder import examples_hash
from .config import Recipe
from .examples import Example

STAMP = "stamp.json"
DONE = "rung.json"  # in a judge's folder: which training made it


class Checkpoints:
    """The folder that the library writes checkpoints to, emptied unless its stamp says that the same training wrote it.

    As a context: the folder goes when the training is done, and stays for the next attempt when it is broken off.
    """

    def __init__(self, args: Any, recipe: Recipe, base: Path, examples: Sequence[Example], blind: bool):
        self.args, self.folder, self.kept = args, Path(args.output_dir), bool(recipe.save_every)
        with args.main_process_first(local=False):
            if args.process_index:
                return
            stamp = training_stamp(recipe, base, examples, blind) if self.kept else {}
            if not (self.kept and _read(self.folder / STAMP) == stamp):
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(parents=True)
                (self.folder / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", "utf-8")

    def last(self) -> str | None:
        """The newest checkpoint that is whole (its state is written last), or None."""
        whole = [f.parent for f in self.folder.glob("checkpoint-*/trainer_state.json") if _read(f)]
        return str(max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]))) if whole else None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, failed: Any, *_: Any) -> None:
        if not failed:
            with self.args.main_process_first(local=False):
                pass  # nobody reads them any more
        if self.args.process_index == 0 and not (failed and self.kept):
            shutil.rmtree(self.folder, ignore_errors=True)


def training_stamp(recipe: Recipe, base: Path, examples: Sequence[Example], blind: bool) -> dict[str, Any]:
    """What decides the weights that a training ends with (but for the pixels of its pictures)."""
    from .sft import start_folder

    start = start_folder(recipe)
    order = hashlib.sha256(json.dumps([e.narrative.key for e in examples]).encode()).hexdigest()[:16]
    return {
        "recipe": recipe.model_dump(mode="json", exclude_none=True) | {"start": weights_hash(start) if start else ""},
        "base": weights_hash(base),
        "examples": examples_hash(examples),
        "order": order,  # rows are drawn by number
        "blind": blind,
    }


def finished(out: Path, stamp: dict[str, Any]) -> dict[str, Any] | None:
    """What was noted of the judge in `out` when it was done; None unless exactly this training made it."""
    done = _read(out / DONE)
    return done if done and done["stamp"] == stamp and done["weights"] == weights_hash(out) else None


def note_finished(out: Path, stamp: dict[str, Any], **facts: Any) -> None:
    done = {"stamp": stamp, "weights": weights_hash(out), **facts}
    (out / DONE).write_text(json.dumps(done, indent=1) + "\n", "utf-8")


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
