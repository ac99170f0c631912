"""Several candidates at once, each with its own pace: their answers in one stream, their steps not far apart.

Each candidate is asked in a thread of its own, so that one provider's limits or failures slow no other. The caller
alone journals; a candidate goes on once its last answers are safe.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

from ..judge.calls.budget import Budget, Held, Price, Spent
from ..judge.calls.chat import CallError, CallsStopped, Reply, Request
from ..judge.calls.pump import Outcome

PATIENCE = 30.0  # seconds without a step of anyone, after which nobody waits for the slowest


class Source(NamedTuple):
    """What one candidate yields, and how to end it from another thread."""

    lists: Callable[[], Iterator[list[Outcome]]]
    stop: Callable[[], None]


class _Ended(NamedTuple):
    error: BaseException | None


def side_by_side(sources: Mapping[str, Source]) -> Iterator[tuple[str, list[Outcome] | CallsStopped]]:
    """Lists of outcomes with the name of their candidate, in the order in which they come.

    A candidate whose calls make no further sense ends with its CallsStopped, the others go on. Ctrl-C ends all, and
    comes up after what was finished was yielded. Any other error ends all and comes up.
    """
    ready: queue.SimpleQueue[tuple[str, list[Outcome] | _Ended]] = queue.SimpleQueue()
    safe = {name: threading.Semaphore(0) for name in sources}

    def drive(name: str, source: Source) -> None:
        error: BaseException | None = None
        try:
            with closing(source.lists()) as lists:  # type: ignore[type-var]
                for found in lists:
                    ready.put((name, found))
                    safe[name].acquire()
        except BaseException as caught:
            error = caught
        ready.put((name, _Ended(error)))

    threads = [threading.Thread(target=drive, args=pair, name=f"dermjudge {pair[0]}") for pair in sources.items()]
    running, stopping = set(sources), False
    failed: BaseException | None = None

    def stop() -> None:
        for name in running:
            sources[name].stop()

    for thread in threads:
        thread.start()
    try:
        while running:
            try:
                name, found = ready.get()
            except KeyboardInterrupt as interrupt:
                failed, stopping = interrupt, True
                stop()
                continue
            if not isinstance(found, _Ended):
                yield name, found
                safe[name].release()
                continue
            running.discard(name)
            if isinstance(found.error, CallsStopped):
                yield name, found.error
            elif found.error is not None and not stopping:
                failed, stopping = found.error, True
                stop()
    finally:
        if running:
            stop()
            for name in running:
                safe[name].release()
            while running:  # what still comes is given up, as what is in flight
                name, found = ready.get()
                if isinstance(found, _Ended):
                    running.discard(name)
                else:
                    safe[name].release()
        for thread in threads:
            thread.join()
    if failed is not None:
        raise failed


class Lead:
    """Holds the fast back so that no candidate is more than `most` pictures ahead of the slowest.

    Within that distance a picture that was encoded for one is still kept for the next, and is encoded once in all.
    """

    def __init__(self, most: int, patience: float = PATIENCE):
        self.most, self.patience = most, patience
        self._places: dict[str, int] = {}
        self._open = False
        self._moved = threading.Condition()

    def enter(self, name: str) -> None:
        self._places[name] = 0

    def reach(self, name: str, place: int) -> None:
        """`name` comes to a case that begins at picture number `place` of the run; waits while that is too far."""
        with self._moved:
            if place > self._places.get(name, place):
                self._places[name] = place
                self._moved.notify_all()
            while name in self._places and not self._open and place - min(self._places.values()) > self.most:
                if not self._moved.wait(self.patience):
                    slowest = min(self._places, key=self._places.__getitem__)
                    del self._places[slowest]  # it will have to encode its pictures anew, and no more than that

    def leave(self, name: str) -> None:
        """`name` has ended."""
        with self._moved:
            self._places.pop(name, None)
            self._moved.notify_all()

    def release(self) -> None:
        """Nobody waits any longer."""
        with self._moved:
            self._open = True
            self._moved.notify_all()


class Purse:
    """One budget for all candidates of a run, each with its own price."""

    def __init__(self, whole: Budget):
        self.whole = whole
        self.lock = threading.Lock()

    def share(self, price: Price | None) -> Budget:
        return _Share(self, price)


class _Share(Budget):
    """What one candidate's calls see of the purse."""

    def __init__(self, purse: Purse, price: Price | None):
        self._purse, self._own_price, self._mine = purse, price, 0

    def reserve(self, request: Request) -> Held | None:
        with self._purse.lock:
            whole = self._purse.whole
            whole._price = self._own_price
            held = whole.reserve(request)
            if held is None and not self._mine:  # nobody would tell this candidate when another's call has ended
                raise CallsStopped("budget", "what is left of the budget is held by calls of other candidates; give "
                                   "the same command to go on")  # fmt: skip
            self._mine += held is not None
            return held

    def settle(self, held: Held, reply: Reply | None, error: CallError | None = None) -> int | None:
        with self._purse.lock:
            self._mine -= 1
            self._purse.whole._price = self._own_price
            return self._purse.whole.settle(held, reply, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._purse.whole, name)


def spent_of(rows: Iterator[Mapping[str, Any]] | list[Mapping[str, Any]]) -> Spent:
    """What earlier sessions spent, from the journalled sums of each narrative; money is None if one is unknown."""
    calls = tokens = 0
    money: float | None = 0.0
    for row in rows:
        calls += row["calls"]
        tokens += row["tokens"]
        money = None if money is None or row["money"] is None else money + row["money"]
    return Spent(calls, tokens, money)
