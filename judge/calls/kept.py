"""Results that are dear to make: made once however many threads ask, kept while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """The results used last, up to `limit` in sum of `weight` (bytes, say); a heavier one is handed out, not kept."""

    def __init__(self, limit: int, weight: Callable[[V], int]):
        self.limit = limit
        self.size = 0
        self._weight = weight
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._making: dict[K, Future[V]] = {}
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """What is kept under `key`, or what `make` returns; who asks meanwhile waits for it. Errors are not kept."""
        with self._lock:
            if (value := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return value
            mine = key not in self._making
            future = self._making.setdefault(key, Future())
        if not mine:
            return future.result()
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            if (weight := self._weight(value)) <= self.limit:
                self._kept[key] = value
                self.size += weight
                while self.size > self.limit:
                    self.size -= self._weight(self._kept.popitem(last=False)[1])
        future.set_result(value)
        return value
