"""Many calls through one route: asked as fast as allowed, again where it makes sense, each item ended in one outcome.

The event loop has a thread of its own: the caller may journal, draw a progress bar or stand in a notebook's own loop
meanwhile, and Ctrl-C meets the caller, never a half-run callback.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Literal, NamedTuple

from ..errors import InputError
from ..escape import visible
from ..journal import Key
from .budget import Budget, Held, estimate
from .chat import CallError, CallsStopped, Kind, Reply, Request, Route
from .pace import Pace
from .retry import RetryPolicy

Job = tuple[Key, Callable[[], Request]]

AHEAD = 8  # requests made before there is room to send them
MAKERS = min(4, os.cpu_count() or 1)  # threads that make requests: pictures are decoded outside Python's lock


class Outcome(NamedTuple):
    """How one item ended: with a reply, or with the kind, status and message of its last error.

    "input_error": its request could not be made. `attempts`: how each attempt ended, "reply" or the kind of error;
    `paid`: how many of them may have been charged. The message holds nothing of prompt, answer or key.
    """

    key: Key
    reply: Reply | None
    kind: Kind | Literal["input_error"] | None = None
    message: str = ""
    status: int | None = None
    attempts: tuple[str, ...] = ()
    paid: int = 0


class Call(NamedTuple):
    """One attempt, for logs and progress: its number from 1, how it ended, and how long until the next one."""

    key: Key
    attempt: int
    ended: str
    status: int | None
    seconds: float
    again_in: float | None = None


def pump(route: Route, jobs: Iterable[Job], *, policy: RetryPolicy | None = None, pace: Pace | None = None,
         budget: Budget | None = None,
         on_call: Callable[[Call], None] | None = None) -> Generator[list[Outcome], None, None]:  # fmt: skip
    """Ask `route` for every job; yields lists of outcomes in the order in which they came, to be journalled at once.

    A job is a key and a function that makes its request; the function runs in a worker thread, and jobs are taken from
    the iterator (in another thread, too) only as there is room. A place in flight is free again once the caller asks
    for the next list, so what a kill loses is never more than `pace.ceiling` calls. Items end in an outcome each, but
    for those that a stop leaves undone: CallsStopped (budget used up, key refused, no answers ...) comes after
    everything in flight has ended and was yielded; Ctrl-C gives up what is in flight, yields what is finished and
    goes on up. Closing the generator gives up what is in flight.
    """
    return _Pump(route, jobs, policy or RetryPolicy(), pace or Pace(), budget or Budget(), on_call).run()


class _Pump:
    def __init__(self, route: Route, jobs: Iterable[Job], policy: RetryPolicy, pace: Pace, budget: Budget,
                 on_call: Callable[[Call], None] | None):  # fmt: skip
        self.route, self.jobs, self.policy, self.pace, self.budget = route, iter(jobs), policy, pace, budget
        self.on_call = on_call
        self.rng = random.Random(policy.seed)
        self.finished: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()  # None: the loop has ended
        self.stop: BaseException | None = None
        self.failed_in_a_row = 0
        self.places = 0  # that calls of this pump hold in `pace`
        self.workers: list[asyncio.Task[None]] = []
        self.freed = asyncio.Event()

    # The caller's thread

    def run(self) -> Generator[list[Outcome], None, None]:
        self.loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._run_loop, name="dermjudge calls", daemon=True)
        thread.start()
        batch: list[Outcome] = []
        try:
            ended = False
            while not ended:
                try:
                    ended = self._take(batch)
                except KeyboardInterrupt as interrupt:
                    self._in_loop(self._halt, interrupt, True)
                    thread.join()
                    self.stop = interrupt
                    ended = self._take(batch)
                if batch:
                    yield batch
                    self._in_loop(self._free, sum(bool(one.attempts) for one in batch))
                    batch = []
            thread.join()
        finally:
            self._in_loop(self._halt, GeneratorExit(), True)
            thread.join()
            self._free(self.places)
        if self.stop is not None:
            raise self.stop

    def _take(self, batch: list[Outcome]) -> bool:
        """Wait for an outcome and add all that are there; whether they were the last."""
        wait = not batch
        with suppress(queue.Empty):
            while (one := self.finished.get(wait)) is not None:
                batch.append(one)
                wait = False
            return True
        return False

    def _in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it all that there was to do
            self.loop.call_soon_threadsafe(function, *arguments)

    # The loop's thread

    def _run_loop(self) -> None:
        try:
            asyncio.set_event_loop(self.loop)
            self.loop.run_until_complete(self._main())
        except BaseException as error:
            self.stop = self.stop or error
        finally:
            with suppress(Exception):
                self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            self.finished.put(None)

    async def _main(self) -> None:
        self.turn = asyncio.Lock()
        self.ahead = asyncio.Semaphore(AHEAD)
        self.sending: set[asyncio.Task[None]] = set()
        self.makers = ThreadPoolExecutor(MAKERS, "dermjudge requests")
        # Twice as many as may be in flight: those that wait before they ask again shall leave no place empty.
        self.workers = [self.loop.create_task(self._worker()) for _ in range(2 * self.pace.ceiling)]
        try:
            await asyncio.wait(self.workers)
        finally:
            self.makers.shutdown(wait=False, cancel_futures=True)
            await self.route.close()

    async def _worker(self) -> None:
        try:
            while self.stop is None:
                await self.ahead.acquire()
                job = next(self.jobs, None) if self.stop is None else None
                if job is None:
                    self.ahead.release()
                    return
                if (outcome := await self._item(*job)) is not None:
                    self._end(outcome)
        except BaseException as error:
            self._halt(error)

    async def _item(self, key: Key, make: Callable[[], Request]) -> Outcome | None:
        """All attempts for one item; None if a stop leaves it undone."""
        try:
            try:
                request = await self.loop.run_in_executor(self.makers, make)
            except InputError as problem:
                return Outcome(key, None, "input_error", str(problem))
            held, sent_in = await self._admit(request)
        finally:
            self.ahead.release()
        kinds: list[Kind] = []
        paid = 0
        while True:
            start = time.monotonic()
            reply, error = await self._send(request, held, sent_in)
            seconds = time.monotonic() - start
            if error is None:
                self._tell(key, kinds, "reply", 200, seconds, None)
                return Outcome(key, reply, attempts=(*kinds, "reply"), paid=paid + 1)
            kinds.append(error.kind)
            paid += error.billed
            wait = self.policy.wait(kinds, paid, error.retry_after, self.rng)
            self._tell(key, kinds[:-1], error.kind, error.status, seconds, wait)
            if error.kind in ("denied", "not_allowed"):
                raise CallsStopped(error.kind, f"{visible(self.route.name)}: {error}")
            if wait is None:
                return Outcome(key, None, error.kind, str(error), error.status, tuple(kinds), paid)
            self._free(1)
            if (error.retry_after or 0.0) > self.policy.longest:
                raise CallsStopped("rate_limited", f"{visible(self.route.name)} asks to wait {error.retry_after:,.0f} "
                                   "seconds; give the same command again then")  # fmt: skip
            if self.stop is not None:
                return None
            await asyncio.sleep(wait)
            held, sent_in = await self._admit(request)

    async def _send(self, request: Request, held: Held, sent_in: int) -> tuple[Reply | None, CallError | None]:
        task = asyncio.current_task()
        reply: Reply | None = None
        error: CallError | None = None
        self.sending.add(task)  # type: ignore[arg-type]
        try:
            reply = await self.route.send(request)
        except CallError as caught:
            error = caught.with_traceback(None)
        finally:
            self.sending.discard(task)  # type: ignore[arg-type]
            used = self.budget.settle(held, reply, error)
        self.pace.note(error, sent_in, estimated=held.tokens, used=used)
        self.freed.set()
        return reply, error

    async def _admit(self, request: Request) -> tuple[Held, int]:
        """Wait, first come first served, until pace and budget let a call go."""
        tokens = sum(estimate(request))
        async with self.turn:
            while True:
                wait = self.pace.delay(tokens)
                if wait == 0.0:
                    if (held := self.budget.reserve(request)) is not None:
                        self.places += 1
                        return held, self.pace.enter(held.tokens)
                    wait = None
                self.freed.clear()
                timer = self.loop.call_later(wait, self.freed.set) if wait is not None else None
                await self.freed.wait()
                if timer is not None:
                    timer.cancel()

    def _end(self, outcome: Outcome) -> None:
        self.finished.put(outcome)
        if outcome.kind in (None, "filtered"):
            self.failed_in_a_row = 0
        elif outcome.kind != "input_error":
            self.failed_in_a_row += 1
            if self.failed_in_a_row >= self.policy.stop_after:
                text = f"{self.failed_in_a_row} items in a row ended without an answer, the last one with: "
                self._halt(CallsStopped("no_answers", f"{visible(self.route.name)}: {text}{outcome.message}"))

    def _free(self, places: int) -> None:
        self.places -= places
        for _ in range(places):
            self.pace.leave()
        self.freed.set()

    def _halt(self, why: BaseException, at_once: bool = False) -> None:
        """Take nothing new; what is in flight may end, unless `at_once`."""
        if self.stop is None:
            self.stop = why
        for task in self.workers:
            if at_once or task not in self.sending:
                task.cancel()

    def _tell(self, key: Key, before: list[Kind], ended: str, status: int | None, seconds: float,
              again_in: float | None) -> None:  # fmt: skip
        if self.on_call is not None:
            self.on_call(Call(key, len(before) + 1, ended, status, seconds, again_in))
