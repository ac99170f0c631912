"""Several things at a time, in order, without reading far ahead: Pillow's decoders leave the interpreter to others."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..judge.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_threads() -> int:
    """One a core that this process may use, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None) -> Iterator[Result]:
    """`function` of each item, several at a time, in the order of the items; twice `threads` are read ahead.

    An exception is raised where its result would have come, and what had not begun is dropped.

    >>> list(in_order(abs, [-1, 2, -3], threads=2))
    [1, 2, 3]
    """
    threads = default_threads() if threads is None else threads
    if threads < 1:
        raise InputError(f"threads: {threads}; 1 or more is needed")
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, "pictures")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
