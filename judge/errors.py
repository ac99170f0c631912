"""The errors that a person meets: each says what, where, and which values would do."""

from __future__ import annotations


class InputError(ValueError):
    """Something that a person gave is wrong: a file, a field, a flag (exit code 2)."""


class BusyError(RuntimeError):
    """Another process writes to this folder (exit code 3)."""


class MissingExtra(ImportError):
    """An optional part of the installation is needed; the text names the command to type."""

    def __init__(self, need: str, extra: str):
        super().__init__(f"{need} is needed for this; install it with: pip install 'dermjudge[{extra}]'")
