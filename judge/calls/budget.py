"""What a run may spend: calls, tokens, money; asked before every call, with what is in flight counted as spent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ..errors import InputError
from .chat import CallError, CallsStopped, Picture, Reply, Request

Price = Callable[[int, int], float | None]  # input tokens, output tokens -> money; None: unknown

PICTURE_TOKENS = 2400  # of a picture of 1568 pixels: what the dearest common encoders take
OUTPUT_TOKENS = 1024  # where a request sets no limit


class Spent(NamedTuple):
    """What was spent; `money` is None where a price is unknown, `guessed` counts calls whose tokens were not told."""

    calls: int = 0
    tokens: int = 0
    money: float | None = 0.0
    guessed: int = 0


class Held(NamedTuple):
    """What is set aside for a call in flight: an estimate at the upper end."""

    input_tokens: int
    output_tokens: int
    money: float

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Budget:
    """Limits of a run; `already` is what earlier sessions of it spent.

    `calls` count attempts, answered or not. A call without a word about its tokens is charged as estimated, and so is
    one that failed but may have been billed. InputError for a limit of money without a `price` that can be told.
    """

    def __init__(self, *, calls: int | None = None, tokens: int | None = None, money: float | None = None,
                 price: Price | None = None, already: Spent = Spent()):  # noqa: B008 - immutable  # fmt: skip
        for what, limit in (("calls", calls), ("tokens", tokens), ("money", money)):
            if limit is not None and not (limit >= 0 and math.isfinite(limit)):
                raise InputError(f"a budget of {what} must be a number from 0, not {limit}")
        if money is not None and (price is None or price(1000, 1000) is None):
            raise InputError("a budget of money needs a price, and the price of this model is unknown: give a price "
                             "list that has it, or set a budget of calls or tokens")  # fmt: skip
        if money is not None and already.money is None:
            raise InputError("what this run has spent before is unknown in money: set a budget of calls or tokens")
        self.calls, self.tokens, self.money = calls, tokens, money
        self._price = price
        self.spent = already
        self._in_flight = 0
        self._held_tokens = 0
        self._held_money = 0.0

    def reserve(self, request: Request) -> Held | None:
        """Set aside what a call may cost; None: wait until a call in flight has ended. CallsStopped if it cannot be."""
        first, second = estimate(request)
        price = self._price(first, second) if self._price is not None else None
        held = Held(first, second, price or 0.0)
        spent = self.spent
        for what, limit, used, aside, more in (
            ("calls", self.calls, spent.calls, self._in_flight, 1),
            ("tokens", self.tokens, spent.tokens, self._held_tokens, held.tokens),
            ("money", self.money, spent.money or 0.0, self._held_money, held.money),
        ):
            if limit is not None and used + aside + more > limit:
                if used + more > limit or not self._in_flight:
                    raise CallsStopped("budget", _used_up(what, limit, used, more))
                return None
        self._in_flight += 1
        self._held_tokens += held.tokens
        self._held_money += held.money
        return held

    def settle(self, held: Held, reply: Reply | None, error: CallError | None = None) -> int | None:
        """A call has ended: charge what it cost; returns its tokens, None if they were not told.

        Without reply and error it was given up in flight, which may have been billed.
        """
        self._in_flight -= 1
        self._held_tokens -= held.tokens
        self._held_money = self._held_money - held.money if self._in_flight else 0.0  # no rest of rounding
        calls, tokens, money, guessed = self.spent
        if reply is None and error is not None and not error.billed:
            self.spent = Spent(calls + 1, tokens, money, guessed)
            return 0
        used = None
        first, second, cost = held.input_tokens, held.output_tokens, None
        if reply is not None:
            cost = reply.cost
            if reply.input_tokens is not None and reply.output_tokens is not None:
                first, second = reply.input_tokens, reply.output_tokens
                used = first + second
        if cost is None and self._price is not None:
            cost = self._price(first, second)
        money = None if money is None or cost is None else money + cost
        self.spent = Spent(calls + 1, tokens + first + second, money, guessed + (used is None))
        return used


def estimate(request: Request) -> tuple[int, int]:
    """Input and output tokens of a call at the upper end: 3 bytes of text a token, the limit of the answer in full.

    >>> estimate(Request("a", ("x" * 300,), settings={"max_tokens": 50}))
    (120, 50)
    """
    texts = [part for part in request.content if not isinstance(part, Picture)]
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in (request.system, *texts))
    pictures = len(request.content) - len(texts)
    limit = request.settings.get("max_tokens") or request.settings.get("max_completion_tokens") or OUTPUT_TOKENS
    return 20 + size // 3 + PICTURE_TOKENS * pictures, int(limit)


def _used_up(what: str, limit: float, used: float, more: float) -> str:
    if what == "money":
        figures = f"{used:.4f} of {limit:.4f} are spent and the next call may cost {more:.4f}"
    else:
        figures = (
            f"{used:,} of {limit:,} are spent and the next call takes {'' if what == 'calls' else 'up to '}{more:,}"
        )
    return f"the budget of {what} is used up: {figures}; raise it and give the same command to go on"
