"""A run is a folder: a manifest, an append-only journal that is the truth, and exports derived from it.

manifest.json   what was asked (config, its signature), status, software, and the hashes of all that was closed
journal.jsonl   one result a line, see `journal`; journal.torn-N keeps what a killed write left
lock            held by the one process that writes
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from .errors import BusyError, InputError
from .files import atomic, remove_leftovers, sha256_file, write_atomic
from .journal import RESULT, Entry, Key, open_journal
from .manifest import (
    JOURNAL,
    LOCK,
    MANIFEST,
    asked,
    hash_keys,
    hash_value,
    now,
    read_manifest,
    refuse_changes,
    software,
    write_manifest,
)

Status = Literal["running", "complete", "incomplete", "interrupted"]
STATUSES: tuple[Status, ...] = Status.__args__  # type: ignore[attr-defined]


class Run:
    """A run folder opened for writing; use it in a `with` block, which closes it whatever happens.

    Left by an exception the run is `incomplete`, by Ctrl-C, SIGTERM (see `sigterm_interrupts`) or SystemExit
    `interrupted`; otherwise `complete` if every planned key has a result. Every status can be resumed.
    """

    def __init__(self, folder: Path, lock: int, wanted: dict[str, Any], info: Mapping[str, Any]):
        """Use `Run.open`."""
        self.folder = folder
        self._lock = lock
        self._closed = False
        path = folder / MANIFEST
        remove_leftovers(folder)
        if path.exists():
            self.manifest = read_manifest(path)
            refuse_changes(folder, self.manifest["asked"], wanted)
        else:
            if others := sorted({p.name for p in folder.iterdir()} - {LOCK}):
                raise InputError(f"{folder} has no {MANIFEST} but holds {', '.join(others[:5])}: "
                                 "it is no run folder; name a new or an empty one")  # fmt: skip
            self.manifest = {
                "format": 1, "id": secrets.token_hex(8), "status": "running", "created": now(),
                "asked": wanted, "signature": hash_value(wanted), "sessions": [], "exports": {},
            }  # fmt: skip
            self._save()
        closed_at = self.manifest.get("journal", {}).get("bytes", 0)
        self._journal, self.recovered = open_journal(folder / JOURNAL, closed_at=closed_at)
        self._session = {"started": now(), "process": f"{os.getpid()} on {socket.gethostname()}",
                         "software": software(), "info": dict(info), "recovered_bytes": 0}  # fmt: skip
        self._begun = False
        if self.recovered:
            self._session["recovered_bytes"] = self.recovered.bytes
        if self.manifest["status"] != "complete" or self.recovered:
            self._begin()

    @classmethod
    def open(cls, folder: str | Path, config: Mapping[str, Any], planned: Sequence[Key] | int, *,
             seed: int | None = None, info: Mapping[str, Any] | None = None) -> Run:  # fmt: skip
        """Begin a run in a new or empty folder, or take up the one that is there.

        `config` is what decides the results (JSON values); `planned` the keys that shall get a result, or how many;
        `info` may differ between resumes (hardware, host). `recovered` tells what a killed write left behind.
        Raises InputError if config, planned, seed or the minor version of dermjudge differ from the folder's, naming
        each field, or if the folder is damaged; BusyError if another process has it open.
        """
        folder = Path(folder)
        wanted = asked(config, planned, seed)
        json.dumps(info or {}, allow_nan=False)  # TypeError or ValueError now rather than at the end
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError as error:
            raise InputError(f"{folder} is a file; a run needs a folder") from error
        lock = _take_lock(folder)
        try:
            return cls(folder, lock, wanted, info or {})
        except BaseException:
            os.close(lock)
            raise

    @property
    def signature(self) -> str:
        """SHA-256 over config, planned keys, seed and minor version (hex)."""
        return self.manifest["signature"]

    @property
    def planned(self) -> int:
        return self.manifest["asked"]["planned"]

    @property
    def done(self) -> AbstractSet[Key]:
        """The keys that have a result; a live view, not to be changed."""
        return self._journal.keys()

    def append(self, key: Key, data: Any, kind: str = RESULT) -> None:
        """Journal one result (or another `kind` of event); it is on the disk when this returns.

        A key that has one already gets a second line, and the last one counts. `data` is any JSON value.
        """
        self.append_many([(key, data)], kind)

    def append_many(self, items: Iterable[tuple[Key, Any]], kind: str = RESULT) -> None:
        """Journal several results with one write: all of them count or, if it is cut short, none.

        Raises OSError on a full disk; the results journalled before are safe and the run can be resumed.
        """
        self._begin()
        self._journal.append(items, kind)

    def results(self, kind: str = RESULT) -> Iterator[Entry]:
        """The last entry of every key, in the order written; streams, and may be read while results are added."""
        return self._journal.entries(kind)

    def in_order(self, keys: Iterable[Key], kind: str = RESULT) -> Iterator[Entry]:
        """The last entry of each of these keys, in the order of `keys`, whatever the order written; streams."""
        return self._journal.in_order(keys, kind)

    def export(self, name: str, content: str | bytes | Callable[[Path], Any]) -> Path:
        """Write a derived file, given as content or as a function that writes to the path it gets.

        The file is there whole or not at all, and its hash stands in the manifest once the run is closed. The path
        that the function gets has the ending of `name`.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name.startswith(("manifest.", "journal.", LOCK)):
            raise ValueError(f"'{name}' cannot be the name of an export: use letters, digits, '.', '_' and '-', and "
                             f"not the names of the run's own files")  # fmt: skip
        self._begin()
        exports, target = self.manifest["exports"], self.folder / name
        if (old := exports.pop(name, None)) is not None:
            self._save()  # a kill between the new file and its new hash must not look like rot
        try:
            with atomic(target, private=True) as temporary:
                if callable(content):
                    content(temporary)
                else:
                    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
                new = {"sha256": sha256_file(temporary), "bytes": temporary.stat().st_size,
                       "results": self._journal.results}  # fmt: skip
        except BaseException:  # Ctrl-C may come before or after the new file took its place
            if old is not None and target.exists() and sha256_file(target) == old["sha256"]:
                exports[name] = old
            raise
        exports[name] = new
        return target

    def close(self, status: Status | None = None, summary: Mapping[str, Any] | None = None) -> None:
        """Record status, journal hash, exports and an optional summary (counts per state ...), and free the folder.

        Without a status it is `complete` if every planned key has a result, else `incomplete`. ValueError for
        `complete` while results are missing. Closing twice does nothing.
        """
        if self._closed:
            return
        if status not in (None, *STATUSES[1:]):
            raise ValueError(f"a run is closed as {', '.join(STATUSES[1:])}, not '{status}'")
        if status == "complete" and not self._is_whole():
            raise ValueError(f"{self.folder}: {len(self.done)} of {self.planned} planned results are there")
        status = status or ("complete" if self._is_whole() else "incomplete")
        try:
            if status != self.manifest["status"] or summary is not None:
                self._begin()
            if self._begun:
                journal = self.folder / JOURNAL
                self._session |= {"ended": now(), "status": status}
                self.manifest |= {
                    "status": status, "closed": now(),
                    "results": {"planned": self.planned, "done": len(self.done), "lines": self._journal.lines},
                    "journal": {"bytes": journal.stat().st_size, "sha256": sha256_file(journal)},
                }  # fmt: skip
                if summary is not None:
                    self.manifest["summary"] = dict(summary)
                self._save()
        finally:
            self._closed = True
            self._journal.close()
            os.close(self._lock)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return self.close()
        if not self._closed:
            self._session["stopped_by"] = type(error).__name__  # no message: it may hold texts of patients
        try:
            self.close("incomplete" if isinstance(error, Exception) else "interrupted")
        except Exception as second:
            error.add_note(f"The run was not closed either ({second}); it can be resumed all the same.")
        return None

    def _is_whole(self) -> bool:
        keys = self.manifest["asked"]["planned_keys"]
        return len(self.done) == self.planned and (keys is None or keys == hash_keys(self.done))

    def _begin(self) -> None:
        """Mark the folder as running; put off on a complete run, which may only have been looked at."""
        if self._closed:
            raise ValueError(f"the run in {self.folder} is closed")
        if not self._begun:
            self._begun = True
            self.manifest["sessions"].append(self._session)
            self.manifest["status"] = "running"
            self._save()

    def _save(self) -> None:
        write_manifest(self.folder / MANIFEST, self.manifest)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does, so that a run is closed; only in the main thread."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt("SIGTERM")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _take_lock(folder: Path) -> int:
    """A lock that the kernel frees when the process ends in whatever way, unlike a file with a process number."""
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(OSError):  # only a help for the person who is told that the folder is in use
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except BlockingIOError as error:
        holder = os.read(handle, 200).decode(errors="replace").strip()
        os.close(handle)
        raise BusyError(
            f"{folder} is in use by {holder or 'another process'}; wait for it or use another folder"
        ) from error
    except OSError as error:
        os.close(handle)
        raise InputError(
            f"{folder} lies on a file system without locks ({error.strerror}); use a local folder"
        ) from error
    return handle


def add_exports(folder: str | Path, contents: Mapping[str, str]) -> None:
    """Write files derived from a closed run (reports) beside it, with their hashes, so that `verify` covers them."""
    folder = Path(folder)
    lock = _take_lock(folder)
    try:
        manifest = read_manifest(folder / MANIFEST)
        for name, content in contents.items():
            manifest["exports"].pop(name, None)
            write_manifest(folder / MANIFEST, manifest)  # a kill between file and hash must not look like rot
            digest = write_atomic(folder / name, content, private=True)
            manifest["exports"][name] = {
                "sha256": digest, "bytes": (folder / name).stat().st_size, "results": manifest["results"]["done"],
            }  # fmt: skip
            write_manifest(folder / MANIFEST, manifest)
    finally:
        os.close(lock)
