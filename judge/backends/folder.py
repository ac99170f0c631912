"""What a model folder may hold, and how it is told from another: safetensors and data, a hash, a card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..errors import InputError

CARD = "judge.json"
# They describe; what of them decides scores is in the signature by itself.
_SAID = (CARD, "pretraining.json", "rung.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.py")


def refuse_unsafe(folder: Path) -> None:
    """Refuse a model folder that holds anything but safetensors and data, or that asks for its own code to run."""
    if not folder.is_dir():
        raise InputError(f"no model folder at {folder}")
    if bad := sorted(f.name for pattern in _PICKLES for f in folder.glob(pattern)):
        raise InputError(
            f"{folder} holds {bad[0]}: only *.safetensors and JSON are loaded, since such a file can run code"
        )
    for file in folder.glob("*.json"):
        if file.name.endswith("config.json") and "auto_map" in json.loads(file.read_text("utf-8")):
            raise InputError(f"{file} asks for code of its own to be run (auto_map); this is refused")


def weights_hash(folder: Path) -> str:
    """First 16 hex digits of the SHA-256 over all *.safetensors of a folder, by name."""
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder} holds no *.safetensors")
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]


def settings_hash(folder: Path) -> str:
    """First 16 hex digits of the SHA-256 over what decides scores beside the weights: configs, tokenizer, template."""
    total = hashlib.sha256()
    for file in sorted(p for p in Path(folder).iterdir() if p.suffix in (".json", ".jinja") and p.name not in _SAID):
        total.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]


def read_card(folder: Path) -> dict[str, Any]:
    """What the judge was trained on and for; {} for a plain model."""
    file = Path(folder) / CARD
    return json.loads(file.read_text("utf-8")) if file.exists() else {}
