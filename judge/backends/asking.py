"""The narratives that an API judge is being asked about: what was said so far, and what to ask next."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ..calls.chat import Reply, Request
from ..calls.pump import Outcome
from .base import Answer, Job, Part
from .reading import Reading, choose, mean_of

if TYPE_CHECKING:
    from .api import ApiJudge

CallKey = tuple[str, int, int]  # narrative, sample, turn

# What chat templates use to part the turns of a talk; a server may read it as such wherever it stands.
_CONTROL = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|<image>")


class Open:
    """One narrative that is being asked about, with its readings and calls by sample and turn."""

    def __init__(self, job: Job, judge: ApiJudge):
        self.job, self.judge = job, judge
        self.readings: dict[tuple[int, int], Reading] = {}
        self.calls: dict[tuple[int, int], Mapping[str, Any]] = {}
        for _, sample, turn, data in job.paid:
            self.readings[sample, turn] = Reading.from_dict(data["reading"])
            self.calls[sample, turn] = data["call"]
        self.pending = self._missing()
        if not self.pending:  # everything was asked, and it is asked again all the same: afresh
            self.readings, self.calls = {}, {}
            self.pending = self._missing()
        self._nonces: dict[tuple[int, int], str] = {}
        self._flags: tuple[str, ...] = ()

    def make(self, sample: int, turn: int) -> Request:
        """The request of one call; runs in a worker thread. InputError if there can be none."""
        question = self.job.make(turn)
        self._nonces[sample, turn] = question.prompt.nonce
        foreign = [segment.text for segment in question.prompt.segments if segment.foreign]
        self._flags = ("text imitates control tokens",) if any(map(_CONTROL.search, foreign)) else ()
        return self.judge.request(question, sample, turn)

    def take(self, outcome: Outcome, sample: int, turn: int) -> tuple[list[tuple[str, Answer] | Part], int | None]:
        """What is to be journalled after this outcome, and the turn that is to be asked then, if any."""
        self.pending.remove((sample, turn))
        reading = self.judge.reading(outcome, self._nonces.get((sample, turn), ""))
        self.readings[sample, turn], self.calls[sample, turn] = reading, _call(outcome)
        data = {"reading": reading.to_dict(), "call": self.calls[sample, turn]}
        part = [Part(self.job.key, sample, turn, data)] if outcome.reply is not None else []
        if (again := self._next_turn(sample)) is not None:
            self.pending.append((sample, again))
            return [*part], again
        if self.pending:
            return [*part], None
        done = (self.job.key, self._answer())
        # A failed call is made again by the next resume: this paid answer must be there then.
        resumable = any(score.state == "api_error" for score in done[1].scores.values())
        return [*(part if resumable else []), done], None

    def _missing(self) -> list[tuple[int, int]]:
        turns = ((sample, self._next_turn(sample)) for sample in range(self.judge.samples))
        return [(sample, turn) for sample, turn in turns if turn is not None]

    def _next_turn(self, sample: int) -> int | None:
        last = max((turn for at, turn in self.readings if at == sample), default=None)
        if last is None:
            return 0
        return last + 1 if self.readings[sample, last].malformed and last < self.judge.again else None

    def _answer(self) -> Answer:
        readings = sorted(self.readings.items())
        chosen = [choose([r for (at, _), r in readings if at == sample]) for sample in range(self.judge.samples)]
        costs = [call["cost"] for call in self.calls.values() if call["attempts"][-1:] == ["reply"]]
        flags = [*self._flags, *(["asked again"] if any(turn for _, turn in self.readings) else [])]
        calls = [{"sample": s, "turn": t, **call} for (s, t), call in sorted(self.calls.items())]
        texts = {f"{s}.{t}": r.text for (s, t), r in readings if r.text and r.text != chosen[0].text}
        return Answer(
            mean_of(chosen, self.judge.rubric),
            chosen[0].critique,
            chosen[0].text,
            sum(costs) if costs and None not in costs else None,
            tuple(flags),
            {"calls": calls, "texts": texts},
        )


class Feed:
    """The calls of a judge: first what is to be asked again, then the next narrative. It may go on after it ended."""

    def __init__(self, judge: ApiJudge, jobs: Iterable[Job]):
        self.judge, self.jobs = judge, iter(jobs)
        self.waiting: deque[tuple[Open, int, int]] = deque()
        self.open: dict[str, Open] = {}

    def __iter__(self) -> Iterator[tuple[CallKey, Callable[[], Request]]]:
        return self

    def __next__(self) -> tuple[CallKey, Callable[[], Request]]:
        if not self.waiting:
            job = next(self.jobs)
            item = self.open[job.key] = Open(job, self.judge)
            self.waiting += [(item, sample, turn) for sample, turn in item.pending]
        item, sample, turn = self.waiting.popleft()
        return (item.job.key, sample, turn), partial(item.make, sample, turn)

    def take(self, outcomes: Sequence[Outcome]) -> tuple[list[tuple[str, Answer] | Part], list[tuple[Open, int, int]]]:
        """What to journal of these, and what to ask again once that is done."""
        found: list[tuple[str, Answer] | Part] = []
        again = []
        for outcome in outcomes:
            key, sample, turn = cast(CallKey, outcome.key)
            item = self.open[key]
            records, following = item.take(outcome, sample, turn)
            found += records
            if following is not None:
                again.append((item, sample, following))
            elif not item.pending:
                del self.open[key]
        return found, again


def _call(outcome: Outcome) -> dict[str, Any]:
    """What is journalled of one call beside its text; never exported, since it differs from run to run."""
    reply = outcome.reply or Reply("")
    return {
        "model": reply.model,
        "fingerprint": reply.fingerprint,
        "finish_reason": reply.finish_reason,
        "input_tokens": reply.input_tokens,
        "output_tokens": reply.output_tokens,
        "cost": reply.cost,
        "seconds": round(reply.seconds, 4),
        "attempts": list(outcome.attempts),
        "paid": outcome.paid,
        **({"reasoning": reply.reasoning} if reply.reasoning else {}),
    }
