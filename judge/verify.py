"""Checking a run folder for rot, tampering and counts that do not add up, without changing anything."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import sha256_file
from .journal import RESULT, Key, scan
from .manifest import JOURNAL, LOCK, MANIFEST, hash_keys, read_manifest


@dataclass(frozen=True)
class VerifyReport:
    """What `verify_run` found: `problems` is empty if every byte is as it was written and the counts add up.

    `planned`, `done` and `lines` are counts of keys, keys with a result, and whole journal lines; `notes` are
    remarks that are no fault.
    """

    folder: Path
    status: str | None
    planned: int | None
    done: int
    lines: int
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


def verify_run(folder: str | Path) -> VerifyReport:
    """Check a run folder and list all that is wrong with it at once; changes nothing.

    Checked: manifest, every journal line and its number, the journal's hash at the last close, the exports' hashes
    and age, and that the results add up to what was planned. InputError only if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")
    problems: list[str] = []
    manifest: dict[str, Any] = {}
    try:
        manifest = read_manifest(folder / MANIFEST)
    except (OSError, InputError) as error:
        problems.append(str(error))
    journal, wanted = folder / JOURNAL, manifest.get("asked", {})
    status, planned, at_close = manifest.get("status"), wanted.get("planned"), manifest.get("journal", {})
    lines, results, done = 0, 0, set[Key]()
    try:
        found = scan(journal)
        lines, results, done = found.seq, found.results, found.keys.get(RESULT, done)
        problems += [f"{JOURNAL}: {damage}" for damage in found.damage + found.tail_damage]
        if at_close and _hash_prefix(journal, at_close["bytes"]) != at_close["sha256"]:
            problems.append(f"{JOURNAL}: its first {at_close['bytes']} bytes are not those of the last close")
    except OSError as error:
        problems.append(f"{JOURNAL} cannot be read: {error.strerror}")
    for name, export in manifest.get("exports", {}).items():
        try:
            if sha256_file(folder / name) != export["sha256"]:
                problems.append(f"{name}: its bytes are not those that were exported")
            elif export["results"] != results:
                problems.append(f"{name} was made from {export['results']} results, the journal now holds {results}")
        except OSError as error:
            problems.append(f"{name} cannot be read: {error.strerror}")
    if planned is not None and (len(done) > planned or (status == "complete" and len(done) < planned)):
        problems.append(f"{len(done)} results, but {planned} were planned")
    elif status == "complete" and wanted["planned_keys"] not in (None, hash_keys(done)):
        problems.append("the keys that have a result are not those that were planned")
    known = {MANIFEST, JOURNAL, LOCK, *manifest.get("exports", {})}
    notes = [f"{path.name} is not in the manifest" for path in sorted(folder.iterdir()) if path.name not in known]
    return VerifyReport(folder, status, planned, len(done), lines, tuple(problems), tuple(notes))


def _hash_prefix(path: Path, length: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while length > 0 and (piece := file.read(min(length, 1 << 20))):
            digest.update(piece)
            length -= len(piece)
    return digest.hexdigest()
