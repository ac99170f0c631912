"""How fast calls go out: no more at once than the server bears, no more a minute than the account may.

The number in flight follows the answers: halved when many of them say "too much", one more after every round without
(additive increase, multiplicative decrease: Chiu and Jain 1989). A single 429 among many answers makes its own item
wait; many of them are the server's word to all, and nobody calls before the moment that it names.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from ..errors import InputError
from .chat import CallError

TOO_MUCH = 0.3  # share of recent answers; 5 % of stray 429s shall not slow a run, a real limit is far above
RECENT = 16  # answers before that share says anything


class Pace:
    """Says when the next call may go out; keeps no task and no timer, the caller does the waiting.

    `ceiling`: most calls in flight, ever. `requests_per_minute` and `tokens_per_minute` hold in every minute, the
    latter up to one call and as far as the tokens of a call can be told beforehand. The very first call goes alone, so
    that a wrong key or model costs one call. `clock`: seconds that never jump.
    """

    def __init__(self, ceiling: int = 32, *, requests_per_minute: float | None = None,
                 tokens_per_minute: float | None = None, clock: Callable[[], float] = time.monotonic):  # fmt: skip
        if ceiling < 1:
            raise InputError(f"at least 1 call must be allowed in flight, not {ceiling}")
        self.ceiling = ceiling
        self.limit = ceiling
        self.in_flight = 0
        self._clock = clock
        self._requests = _Bucket(requests_per_minute, "requests", clock()) if requests_per_minute is not None else None
        self._tokens = _Bucket(tokens_per_minute, "tokens", clock()) if tokens_per_minute is not None else None
        self._least = min(RECENT, max(2, ceiling))
        self._recent: deque[bool] = deque(maxlen=max(self._least, ceiling))
        self._good = 0  # answers since the limit was last raised
        self._round = 0  # grows with every cut: calls sent before it must not cut again
        self._resume = 0.0
        self._answered = False

    def delay(self, tokens: int = 0) -> float | None:
        """Seconds until the next call may go out; 0.0: now; None: when one in flight has ended."""
        if self.in_flight >= (self.limit if self._answered else 1):
            return None
        now = self._clock()
        wait = self._resume - now
        if self._requests is not None:
            wait = max(wait, self._requests.delay(1, now))
        if self._tokens is not None:
            wait = max(wait, self._tokens.delay(tokens, now))
        return wait if wait > 0.0 else 0.0

    def enter(self, tokens: int = 0) -> int:
        """A call goes out; returns its round, for `note`."""
        self.in_flight += 1
        now = self._clock()
        if self._requests is not None:
            self._requests.take(1, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)
        return self._round

    def note(self, error: CallError | None, sent_in: int, *, estimated: int = 0, used: int | None = None) -> None:
        """A call of round `sent_in` was answered or failed; `used` tokens instead of the `estimated`, if known."""
        self._answered = True
        if self._tokens is not None and used is not None:
            self._tokens.give(estimated - used)
        if error is None or not _says_too_much(error):
            self._recent.append(False)
            self._good += 1
            if self._good >= self.limit:
                self._good = 0
                self.limit = min(self.ceiling, self.limit + 1)
            return
        asked = self._clock() + (error.retry_after or 0.0)
        if sent_in < self._round:
            self._resume = max(self._resume, asked)
            return
        self._recent.append(True)
        if len(self._recent) >= self._least and sum(self._recent) >= TOO_MUCH * len(self._recent):
            self._resume = max(self._resume, asked)
            self.limit = max(1, self.limit // 2)
            self._good = 0
            self._round += 1
            self._recent.clear()

    def leave(self) -> None:
        """The place of a call is free again."""
        self.in_flight -= 1


def _says_too_much(error: CallError) -> bool:
    return error.kind in ("rate_limited", "timeout") or error.status in (503, 529)


class _Bucket:
    """A token bucket that refills evenly; its size is small, so that no minute holds more than `per_minute`."""

    def __init__(self, per_minute: float, what: str, now: float):
        if not 0 < per_minute < float("inf"):
            raise InputError(f"{what} per minute must be a number above 0, not {per_minute}")
        self.size = max(1.0, per_minute / 100)
        self.rate = (per_minute - self.size if self.size > 1 else per_minute) / 60
        self.level = self.size
        self.at = now

    def delay(self, amount: float, now: float) -> float:
        """A call larger than the bucket goes when it is full, and leaves it in debt."""
        missing = min(amount, self.size) - self._level(now)
        return missing / self.rate if missing > 1e-9 else 0.0

    def take(self, amount: float, now: float) -> None:
        self.level, self.at = self._level(now) - amount, now

    def give(self, amount: float) -> None:
        self.level = min(self.size, self.level + amount)

    def _level(self, now: float) -> float:
        return min(self.size, self.level + (now - self.at) * self.rate)
