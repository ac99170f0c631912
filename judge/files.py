"""Writing files so that a kill, a full disk or a failing writer leaves the old file or the new one, never half."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = ".part-"  # how the name of a file begins while it is being written; its ending stays


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes (hex), read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: str | Path) -> None:
    """Make new names, renames and removals in a folder survive a power loss."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic(path: str | Path, *, private: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to; when the block ends well it takes the place of `path`.

    The temporary file lies in the same folder, since a rename across file systems is not atomic. `private` gives
    mode 600, otherwise the umask decides. If the block raises, the old file stays and the temporary one goes.
    Raises OSError (disk full, no such folder) with a text that names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}.{path.name}")
    try:
        # Created here, so that the mode is right before the first byte of content is there.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
        yield temporary
        handle = os.open(temporary, os.O_RDONLY)
        try:
            if private:  # a writer may have put a file of its own in place
                os.fchmod(handle, 0o600)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        about = "" if error.filename in (None, str(temporary), str(path)) else f" ({error.filename})"
        text = f"cannot write {path}: {error.strerror or error}{about}; what was there before is unchanged"
        raise OSError(error.errno or errno.EIO, text) from error
    except BaseException:
        _remove(temporary)
        raise
    sync_folder(path.parent)


def write_atomic(path: str | Path, content: str | bytes, *, private: bool = False) -> str:
    """Write text (UTF-8) or bytes in the way of `atomic`; returns the SHA-256 of the bytes (hex)."""
    data = content.encode() if isinstance(content, str) else content
    with atomic(path, private=private) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def remove_leftovers(folder: str | Path) -> None:
    """Remove what writers that were killed left in a folder; only for the one process that may write there."""
    for path in Path(folder).glob(f"{TEMPORARY}*"):
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
