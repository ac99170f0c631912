"""The manifest of a run: what was asked, with its signature, and a file in which any changed byte is seen."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__
from .errors import InputError
from .files import write_atomic
from .journal import Key, check_key

MANIFEST, JOURNAL, LOCK = "manifest.json", "journal.jsonl", "lock"  # the names in a run folder
_LIBRARIES = ("numpy", "scipy", "polars", "pydantic", "pillow", "torch", "transformers", "peft", "trl", "safetensors",
              "tokenizers", "accelerate", "datasets", "litellm", "aiohttp")  # fmt: skip


def now() -> str:
    """UTC to the second, as in "2026-01-31T12:00:00+00:00"."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def hash_value(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its fields (hex)."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def hash_keys(keys: Iterable[Key]) -> str:
    """SHA-256 of a set of keys, whatever their order (hex)."""
    return hashlib.sha256("\n".join(sorted(map(_canonical, keys))).encode()).hexdigest()


def asked(config: Mapping[str, Any], planned: Sequence[Key] | int, seed: int | None) -> dict[str, Any]:
    """All that decides the results of a run, as JSON values; InputError for what JSON cannot hold."""
    plain = {}
    for name, value in config.items():
        try:
            plain[str(name)] = json.loads(_canonical(value))
        except (TypeError, ValueError) as error:
            raise InputError(f"config field '{name}' cannot be recorded: {error}") from error
    keys = None
    if not isinstance(planned, int):
        if len(set(planned)) < len(planned):
            twice = next(key for i, key in enumerate(planned) if key in set(planned[:i]))
            raise InputError(f"{twice!r} is planned twice; every planned key must be unique")
        keys, planned = hash_keys(map(check_key, planned)), len(planned)
    minor = ".".join(__version__.split(".")[:2])
    return {"config": plain, "planned": planned, "planned_keys": keys, "seed": seed, "version": minor}


def refuse_changes(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """InputError that names every field in which two results of `asked` differ, with the old and the new value."""
    before, after = _flat(old), _flat(new)
    lines = []
    for path in sorted(before.keys() | after.keys()):
        if (was := before.get(path, "(absent)")) != (is_now := after.get(path, "(absent)")):
            name = ".".join(path[1:] if path[0] == "config" and len(path) > 1 else path)
            lines.append(f"  {name}: was {_short(was)}, now {_short(is_now)}")
    if lines:
        text = "\n".join(lines)
        raise InputError(
            f"{folder} holds a run that was asked differently; use those values or another folder:\n{text}"
        )


def software() -> dict[str, str]:
    """Versions of dermjudge, Python, the platform and the libraries that can move a number, without importing them."""
    versions = {"dermjudge": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest with a check over its content, whole or not at all."""
    write_atomic(path, _render(manifest), private=True)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read what `write_manifest` wrote; InputError if it is missing, was edited, or has rotted."""
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    try:
        manifest = json.loads(text)
        del manifest["check"]
        whole = _render(manifest).encode() == text and manifest["format"] == 1
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise InputError(f"{path} is not as dermjudge {__version__} wrote it: damaged, edited, or of another version")
    return manifest


def _render(manifest: Mapping[str, Any]) -> str:
    return json.dumps({**manifest, "check": hash_value(manifest)}, indent=2, allow_nan=False) + "\n"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _flat(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """Leaves as JSON text, since 1, 1.0 and True are equal in Python; an empty object is a leaf too."""
    if not isinstance(value, Mapping) or not value:
        return {path: _canonical(value)}
    return {place: leaf for name, inner in value.items() for place, leaf in _flat(inner, (*path, name)).items()}


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters, hash {hash_value(text)[:8]})"
