"""Pictures of the cases that are being asked about, each kept until the last candidate that needs it has had it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable

from ..judge.calls.chat import Picture


class Shelf:
    """Holds what is still wanted, by key, up to `most` pictures; more are handed out and not held."""

    def __init__(self, most: int):
        self.most = most
        self._wanted: Counter[Hashable] = Counter()
        self._there: dict[Hashable, Picture] = {}
        self._lock = threading.Lock()
        self._making = [threading.Lock() for _ in range(64)]

    def expect(self, keys: Iterable[Hashable]) -> None:
        """Each of these will be taken once more."""
        self._wanted.update(keys)

    def take(self, key: Hashable, make: Callable[[], Picture]) -> Picture:
        """The picture, made if it is not there; who asks for the same one meanwhile waits for it."""
        with self._making[hash(key) % len(self._making)]:
            picture = self._there.get(key) or make()
            with self._lock:
                if self._wanted[key] > 1 and len(self._there) < self.most:
                    self._there[key] = picture
        self.forgo([key])
        return picture

    def forgo(self, keys: Iterable[Hashable]) -> None:
        """Each of these will be taken once less."""
        with self._lock:
            for key in keys:
                self._wanted[key] -= 1
                if self._wanted[key] <= 0:
                    del self._wanted[key]
                    self._there.pop(key, None)
