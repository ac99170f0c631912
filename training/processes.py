"""Training in several processes, started by torchrun or accelerate: who writes, and who waits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes and prints."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def main_first() -> Iterator[None]:
    """The main process runs the block while the others wait; then they run it."""
    if processes() == 1:
        yield
        return
    import torch
    from accelerate import PartialState

    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        yield
