"""The journal of a run: an append-only file, one result a line, in which any rotten byte is found.

A line is `{"crc":"0a1b2c3d","len":LENGTH,"rec":RECORD}`: JSON, so that any tool reads it; `crc` is the CRC-32 and
`len` the number of bytes of RECORD exactly as it stands in the line. RECORD holds `seq` (0, 1, 2 ... without a gap),
`batch` ([place, size]: the lines of one write count together or not at all), `utc`, `kind`, `key` and `data`.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import threading
import zlib
from collections.abc import Hashable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from .errors import BusyError, InputError
from .files import sync_folder, write_atomic

Key = str | tuple[str | int, ...]
RESULT = "result"

_HEAD = re.compile(rb'\{"crc":"([0-9a-f]{8})","len":([0-9]{1,12}),"rec":')
_encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class Entry(NamedTuple):
    """One line of a journal; `place` and `size` tell its place in the write that it was part of."""

    seq: int
    place: int
    size: int
    utc: str
    kind: str
    key: Key
    data: Any


class Damage(NamedTuple):
    """A line that is not what was written: its number (from 1), its offset in bytes, and what is wrong."""

    line: int
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line} (byte {self.offset}): {self.reason}"


@dataclass
class Scan:
    """What a journal holds: whole writes up to byte `end`, the keys seen by kind, and what is damaged.

    `places`: by kind, the byte at which the last line of each key begins. `damage` are lines that were whole once,
    since a later write follows them. `tail` are bytes after `end`, which may be the last write cut short;
    `tail_damage` says what is wrong there. `again` maps the keys that stand more than once to their last sequence
    number, so that the index stays small.
    """

    end: int = 0
    seq: int = 0
    size: int = 0
    results: int = 0
    places: dict[str, dict[Key, int]] = field(default_factory=dict)
    again: dict[tuple[str, Key], int] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)
    tail_damage: list[Damage] = field(default_factory=list)

    @property
    def tail(self) -> int:
        return self.size - self.end

    @property
    def keys(self) -> dict[str, set[Key]]:
        return {kind: set(known) for kind, known in self.places.items()}

    def note(self, kind: str, key: Key, seq: int, offset: int) -> None:
        known = self.places.setdefault(kind, {})
        if key in known:
            self.again[kind, key] = seq
        known[key] = offset
        self.results += kind == RESULT


def encode(entry: Entry) -> bytes:
    """The line of an entry; ValueError for NaN and infinity, TypeError for what JSON cannot hold."""
    record = {"seq": entry.seq, "batch": [entry.place, entry.size], "utc": entry.utc,
              "kind": entry.kind, "key": entry.key, "data": entry.data}  # fmt: skip
    text = _encoder.encode(record).encode("ascii")
    return b'{"crc":"%08x","len":%d,"rec":%b}\n' % (zlib.crc32(text), len(text), text)


def decode(line: bytes) -> Entry | None:
    """The entry of a line, or None if a single byte of it is not as `encode` wrote it."""
    if (head := _HEAD.match(line)) is None or not line.endswith(b"}\n"):
        return None
    text = line[head.end() : -2]
    if len(text) != int(head[2]) or zlib.crc32(text) != int(head[1], 16):
        return None
    try:
        record = json.loads(text)
        place, size = record["batch"]
        key = record["key"]
        if isinstance(key, list):  # interned, since the names of systems and raters stand in every key
            key = tuple(sys.intern(part) if type(part) is str else part for part in key)
        return Entry(record["seq"], place, size, record["utc"], record["kind"], check_key(key), record["data"])
    except (ValueError, KeyError, TypeError):
        return None


def scan(path: Path) -> Scan:
    """Read a journal line by line (one write of it in memory at a time) and never stop at damage.

    A damaged line counts as part of a torn last write only if no line of a later write follows: every write is on
    the disk before the next one begins, so damage further up is rot.
    """
    found = Scan()
    pending: list[tuple[str, Key, int]] = []  # whole lines of the write that begins at found.seq
    bad: list[Damage] = []  # damage since the last whole write
    offset = number = size = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            offset, found.size = found.size, found.size + len(line)
            if (entry := decode(line)) is None:
                whole = line.endswith(b"\n")
                bad.append(Damage(number, offset, "its bytes are not those written" if whole else "it is cut short"))
                continue
            begin = entry.seq - entry.place
            if begin < found.seq:
                found.damage.append(Damage(number, offset, f"number {entry.seq} stands here a second time"))
                continue
            if begin > found.seq:  # a later write: what is wrong before it is no torn tail
                if not bad:
                    expected = found.seq + len(pending)
                    bad = [Damage(number, offset, f"number {entry.seq} where {expected} should stand: lines are lost")]
                found.damage += bad
                found.seq, pending, bad = begin, [], []
            if entry.place != len(pending):
                if not bad:
                    bad = [Damage(number, offset, f"place {entry.place} of its write where {len(pending)} should be")]
                continue
            pending.append((entry.kind, entry.key, offset))
            size = entry.size
            if len(pending) == size:
                for kind, key, place in pending:
                    found.note(kind, key, found.seq, place)
                    found.seq += 1
                found.end, pending = found.size, []
                found.damage += bad
                bad = []
    if pending and not bad:
        bad = [Damage(number, offset, f"only {len(pending)} of the {size} lines of its write are there")]
    found.tail_damage = bad
    return found


class Recovered(NamedTuple):
    """The end of a journal that was dropped since its write was cut short, and the file that keeps its bytes."""

    lines: int
    bytes: int
    file: Path


def open_journal(path: Path, *, closed_at: int = 0) -> tuple[Journal, Recovered | None]:
    """Create a journal or take it up; a last write that was cut short is moved to a file beside it.

    `closed_at` is the size in bytes at which the run was last closed: up to there nothing can be torn. Raises
    InputError naming line and byte if a line above the torn tail is damaged or missing; nothing is changed then.
    """
    if not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        sync_folder(path.parent)
    found = scan(path)
    if wrong := found.damage or (found.tail_damage if found.end < closed_at else []):
        more = f" ({len(wrong)} such lines)" if len(wrong) > 1 else ""
        raise InputError(f"{path}: {wrong[0]}{more}; put a good copy of the file in its place or begin a new folder")
    if found.end < closed_at:
        raise InputError(f"{path} ends at byte {found.end}, but had {closed_at} when the run was closed: lines are "
                         "lost; put a good copy of the file in its place or begin a new folder")  # fmt: skip
    recovered = None
    if found.tail:
        with path.open("r+b") as file:
            file.seek(found.end)
            dropped = file.read()
            aside = next(p for i in itertools.count(1) if not (p := path.with_name(f"journal.torn-{i}")).exists())
            write_atomic(aside, dropped, private=True)
            file.truncate(found.end)
            os.fsync(file.fileno())
        recovered = Recovered(dropped.count(b"\n") + (not dropped.endswith(b"\n")), len(dropped), aside)
        found.size, found.tail_damage = found.end, []
    return Journal(path, found), recovered


class Journal:
    """A journal opened for writing by the one process that holds the lock of its folder."""

    def __init__(self, path: Path, found: Scan):
        """Take up a journal where `found`, which must have no tail, ends."""
        self.path = path
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._found = found
        self._lock = threading.Lock()

    @property
    def lines(self) -> int:
        return self._found.seq

    @property
    def results(self) -> int:
        """Number of lines of kind "result", with those that a later one replaces."""
        return self._found.results

    def keys(self, kind: str = RESULT) -> AbstractSet[Key]:
        return self._found.places.setdefault(kind, {}).keys()

    def append(self, items: Iterable[tuple[Key, Any]], kind: str = RESULT) -> None:
        """Write all items with one write, on the disk when this returns; after an error none of them is there.

        Raises OSError (disk full: the journal keeps everything up to the write before), BusyError if the file is
        not as this process left it, ValueError or TypeError for what JSON cannot hold.
        """
        with self._lock:
            batch = list(items)
            if not batch:
                return
            found, utc = self._found, datetime.now(UTC).isoformat(timespec="milliseconds")
            lines = [
                encode(Entry(found.seq + place, place, len(batch), utc, kind, check_key(key), value))
                for place, (key, value) in enumerate(batch)
            ]
            data = memoryview(b"".join(lines))
            if (size := os.fstat(self._handle).st_size) != found.end:
                raise BusyError(f"{self.path} has {size} bytes where this process left {found.end}: another process "
                                "writes to it, or a write was interrupted; open the run again")  # fmt: skip
            length = len(data)
            try:
                while data:
                    data = data[os.write(self._handle, data) :]
                os.fsync(self._handle)
            except BaseException as error:
                with suppress(OSError):  # if this fails too, the next opening drops the torn tail
                    os.ftruncate(self._handle, found.end)
                    os.fsync(self._handle)
                if isinstance(error, OSError):
                    text = f"cannot write {self.path}: {error.strerror}; it keeps its {found.seq} lines"
                    raise OSError(error.errno, text) from error
                raise
            offset = found.end
            for place, ((key, _), line) in enumerate(zip(batch, lines, strict=True)):
                found.note(kind, key, found.seq + place, offset)
                offset += len(line)
            found.seq, found.end = found.seq + len(batch), found.end + length

    def entries(self, kind: str = RESULT) -> Iterator[Entry]:
        """The entries of a kind in the order written, of each key the last one only; streams from the disk.

        What is appended while this is read is not seen. Raises InputError if a line has rotted meanwhile.
        """
        return _last(self.path, kind, self._found.end, dict(self._found.again))

    def in_order(self, keys: Iterable[Key], kind: str = RESULT) -> Iterator[Entry]:
        """The last entry of each of these keys, in the order of `keys`; one of them in memory at a time.

        KeyError for a key without an entry, InputError if a line has rotted meanwhile.
        """
        places = self._found.places.get(kind, {})
        with self.path.open("rb") as file:
            for key in keys:
                file.seek(offset := places[key])
                entry = decode(file.readline())
                if entry is None or (entry.kind, entry.key) != (kind, key):
                    raise InputError(f"{self.path}: the line at byte {offset} is not as it was written")
                yield entry

    def close(self) -> None:
        os.close(self._handle)


def _last(path: Path, kind: str, end: int, again: dict[tuple[str, Key], int]) -> Iterator[Entry]:
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if offset >= end:
                return
            if (entry := decode(line)) is None:
                raise InputError(f"{path}: {Damage(number, offset, 'its bytes are not those written')}")
            offset += len(line)
            if entry.kind == kind and again.get((kind, entry.key), entry.seq) == entry.seq:
                yield entry


def check_key(key: Hashable) -> Key:
    """A key as it is, or TypeError: text, or a tuple of texts and whole numbers, which survive JSON unchanged."""
    parts = key if isinstance(key, tuple) else (key,)
    if not parts or not all(type(part) is str or (type(part) is int and isinstance(key, tuple)) for part in parts):
        raise TypeError(f"a key is text or a tuple of texts and whole numbers, not {key!r}")
    return key  # type: ignore[return-value]
