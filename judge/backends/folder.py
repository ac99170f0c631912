"""What a model folder may hold, and how it is told from another: safetensors and data, a hash, a card."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError

CARD = "judge.json"
# They describe; what of them decides scores is in the signature by itself.
_SAID = (CARD, "calibration.json", "decision.json", "decision_template.jinja", "pretraining.json", "rung.json")
# What AutoProcessor reads, by the part it decides; hashed apart, so that a card can say which of them differs.
PARTS: dict[str, tuple[str, ...]] = {
    "config": ("config.json", "generation_config.json"),
    "tokenizer": (
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
        *("vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    ),
    "processor": (
        *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),
        *("chat_template.jinja", "chat_template.json"),
    ),
}
_VOLATILE = ("transformers_version", "_name_or_path", "_commit_hash")  # they say who wrote a config, not what it does
_REVISION = re.compile(r"[0-9a-f]{40}")
_SNAPSHOT = re.compile(r"models--(?P<name>.+)/snapshots/(?P<revision>[0-9a-f]{40})$")
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
    """What the judge was trained on and for; {} for a plain model. InputError for a card that cannot be read."""
    file = Path(folder) / CARD
    if not file.exists():
        return {}
    try:
        card = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}; copy the folder anew") from error
    if not isinstance(card, dict):
        raise InputError(f"{file} holds no card; copy the folder anew")
    return card


def part_hash(folder: Path, part: str) -> str:
    """First 16 hex digits of the SHA-256 over one of PARTS of a base.

    Of a config.json and its like counts what they say, not how they are laid out or which version wrote them.
    """
    total = hashlib.sha256()
    for name in sorted(PARTS[part]):
        if (file := Path(folder) / name).is_file():
            total.update(name.encode() + hashlib.sha256(_content(file)).digest())
    return total.hexdigest()[:16]


def _content(file: Path) -> bytes:
    if not file.name.endswith("config.json"):
        return file.read_bytes()
    try:
        said = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    return json.dumps({k: v for k, v in said.items() if k not in _VOLATILE}, sort_keys=True).encode()


def base_name(folder: Path) -> str:
    """What a base is called without any path of this machine: ORG/NAME in a hub's cache, else the folder's name."""
    found = _SNAPSHOT.search(Path(folder).absolute().as_posix())
    return found["name"].replace("--", "/") if found else Path(folder).resolve().name


def base_revision(folder: Path) -> str | None:
    """The hub's commit a base was fetched at: said by its place in a hub's cache, the record of a download, or its
    config; None if nothing says so."""
    folder = Path(folder)
    if found := _SNAPSHOT.search(folder.absolute().as_posix()):
        return found["revision"]
    record = folder / ".cache/huggingface/download/config.json.metadata"  # `hf download --local-dir`
    said: Sequence[str] = record.read_text("utf-8").splitlines()[:1] if record.is_file() else ()
    if (config := folder / "config.json").is_file():
        said = (*said, str(json.loads(config.read_text("utf-8")).get("_commit_hash") or ""))
    return next((line for line in said if _REVISION.fullmatch(line)), None)
