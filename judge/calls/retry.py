"""Whether a failed attempt is made again, and after how long: a pure policy, the waiting is done elsewhere."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from ..errors import InputError
from .chat import AGAIN, Kind

_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how soon one item is asked again.

    `attempts`: most attempts in all; `billed_attempts`: most of those that may have been charged (malformed answers,
    timeouts, connections cut off). The wait before attempt n + 1 is drawn uniformly from 0 to min(cap, first x 2^(n-1))
    seconds ("full jitter": Brooker, Exponential Backoff and Jitter, 2015), on top of what the provider asks for;
    a provider that asks for more than `longest` seconds ends the run, which is resumed later. `stop_after`: so many
    items in a row without an answer end it too. `seed` fixes the draws.
    """

    attempts: int = 6
    billed_attempts: int = 3
    first: float = 0.5
    cap: float = 30.0
    longest: float = 600.0
    stop_after: int = 20
    seed: int | None = None

    def __post_init__(self) -> None:
        if min(self.attempts, self.billed_attempts, self.stop_after) < 1:
            raise InputError("attempts, billed_attempts and stop_after of a retry policy must be at least 1")
        if not (0 <= self.first <= self.cap < float("inf") and 0 <= self.longest < float("inf")):
            raise InputError("the waits of a retry policy must be 0 <= first <= cap and 0 <= longest, in seconds")

    def wait(self, kinds: Sequence[Kind], billed: int, retry_after: float | None, rng: random.Random) -> float | None:
        """Seconds to wait before the next attempt, or None if there shall be none.

        `kinds`: how every attempt so far failed, the last one last; `billed`: how many of them may have been charged.

        >>> policy, rng = RetryPolicy(seed=1), random.Random(1)
        >>> policy.wait(["rate_limited"], 0, 7.0, rng) >= 7.0, policy.wait(["bad_request"], 0, None, rng)
        (True, None)
        """
        if kinds[-1] not in AGAIN or len(kinds) >= self.attempts or billed >= self.billed_attempts:
            return None
        backoff = min(self.cap, self.first * 2.0 ** min(len(kinds) - 1, 60))
        return (retry_after or 0.0) + rng.uniform(0.0, backoff)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a response asks to wait, or None: `retry-after-ms`, or `Retry-After` as seconds or HTTP-date.

    A date is read against the server's own `Date` if it sends one, so that a wrong clock here changes nothing. What
    cannot be read counts as not said; a moment that has passed is 0.

    >>> retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:27:30 GMT"})
    30.0
    """
    small = {name.lower(): value.strip() for name, value in headers.items()}
    if _NUMBER.fullmatch(text := small.get("retry-after-ms", "")):
        return float(text) / 1000
    text = small.get("retry-after", "")
    if _NUMBER.fullmatch(text):
        return float(text)
    if (then := _moment(text)) is None:
        return None
    now = _moment(small.get("date", ""))
    return max(0.0, then - (time.time() if now is None else now))


def _moment(text: str) -> float | None:
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
