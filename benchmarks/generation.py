"""The work of a run of generation: what is asked of whom, and what is journalled of each answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..judge.calls.budget import Budget, estimate
from ..judge.calls.chat import CallsStopped, Request
from ..judge.calls.pictures import PictureSettings
from ..judge.calls.pump import Outcome
from ..judge.records import Case
from ..judge.run import Run
from .arms import View
from .candidate_prompts import CandidatePrompt
from .degraded_pictures import sent
from .shelf import Shelf
from .side_by_side import Lead, Purse, Source, side_by_side, spent_of
from .structured import answer_schema
from .systems import Ask, RecordedSystem, System
from .written import Reading, pack, read_outcome, read_record

LEAD = 24  # pictures that one candidate may be ahead of another
SHELF = 4 * LEAD
RECORDS = 256  # recorded narratives journalled with one write


class Item(NamedTuple):
    """One planned narrative; `place`: how many pictures stand before its case, which number `case`-th is."""

    key: str
    case: Case
    system: System
    arm: str
    sample: int
    view: View
    place: int


class Work:
    """The state of a run that is being worked on; everything in it belongs to the caller's thread but `request`."""

    def __init__(self, run: Run, items: list[Item], done: set[Any], before: Mapping[str, Any],
                 prompt: CandidatePrompt, structured: bool, root: Path, samples: int):  # fmt: skip
        self.run, self.items, self.done, self.before = run, items, done, before
        self.prompt, self.structured, self.root, self.samples = prompt, structured, root, samples
        self.by_key = {item.key: item for item in items}
        self.schema = answer_schema() if structured else None
        self.lead, self.shelf = Lead(LEAD), Shelf(SHELF)
        self.unmade: dict[str, dict[str, Item]] = {}  # by system and key: wanted, and not asked for yet
        self.made: dict[str, tuple[list[str], int]] = {}  # picture hashes and estimated tokens of what is being asked
        self.progress: Callable[[int, int], None] | None = None

    def without_calls(self) -> None:
        """What needs no call: recorded narratives, and what an arm or an image budget rules out."""
        rows: list[tuple[str, Any]] = []
        for item in self.items:
            if item.key in self.done:
                continue
            if isinstance(item.system, RecordedSystem):
                rows.append((item.key, self._recorded(item, item.system)))
            elif item.view.problem:
                rows.append((item.key, self._pack(item, Reading("skipped", item.view.problem), {})))
            if len(rows) >= RECORDS:
                self._journal(rows)
                rows = []
        self._journal(rows)

    def ask(self, systems: Sequence[System], purse: Purse) -> dict[str, str]:
        """Ask every candidate what is missing; returns why a candidate ended early, by its name."""
        sources: dict[str, Source] = {}
        for system in systems:
            own = [item for item in self.items if item.system is system and not item.view.problem]
            asks = [Ask(i.key, partial(self.request, i), i.key not in self.done) for i in own]
            if isinstance(system, RecordedSystem) or not any(ask.wanted for ask in asks):
                continue
            self.unmade[system.name] = {item.key: item for item in own if item.key not in self.done}
            self.shelf.expect(key for item in self.unmade[system.name].values() for key in _pictures(item))
            share = purse.share(getattr(system, "price", None))
            sources[system.name] = Source(partial(self._lists, system, asks, share), partial(self._stop, system))
            self.lead.enter(system.name)
        stopped: dict[str, str] = {}
        with closing(side_by_side(sources)) as events:  # type: ignore[type-var]
            for name, found in events:
                if not isinstance(found, CallsStopped):
                    self._journal([(str(o.key), self._outcome(o)) for o in found])
                    continue
                stopped[name] = str(found)
                if found.kind in ("denied", "not_allowed"):
                    self._journal(self._given_up(name, found))
        return stopped

    def request(self, item: Item) -> Request:
        """The request for one narrative; runs in a worker thread. InputError if there can be none."""
        self.lead.reach(item.system.name, item.place)
        asking, wanted = item.system.asking, self.unmade.get(item.system.name, {}).pop(item.key, None)
        pictures = []
        for path, settings in _pictures(item):
            make = partial(sent, self.root, path, settings)
            pictures.append(self.shelf.take((path, settings), make) if wanted is not None else make())
        text = self.prompt.render(item.view, len(item.case.images) if item.view.images else None)
        request = Request(item.key, (*pictures, text), settings=asking.sent(self.samples, item.sample),
                          schema=self.schema)  # fmt: skip
        self.made[item.key] = ([p.sha256 for p in pictures], sum(estimate(request)))
        return request

    def _lists(self, system: System, asks: Sequence[Ask], budget: Budget) -> Iterator[list[Outcome]]:
        try:
            yield from system.stream(asks, budget)
        finally:
            self.lead.leave(system.name)
            for item in self.unmade.pop(system.name).values():
                self.shelf.forgo(_pictures(item))

    def _stop(self, system: System) -> None:
        self.lead.release()
        system.stop()

    def _journal(self, rows: list[tuple[str, Any]]) -> None:
        self.run.append_many(rows) if rows else None
        self.done |= {key for key, _ in rows}
        if self.progress:
            self.progress(len(self.done), len(self.items))

    def _given_up(self, name: str, why: CallsStopped) -> list[tuple[str, Any]]:
        left = [i for i in self.items if i.system.name == name and i.key not in self.done]
        return [(i.key, self._pack(i, Reading("api_error", f"{why.kind}: {why}"), {})) for i in left]

    def _recorded(self, item: Item, system: RecordedSystem) -> dict[str, Any]:
        narrative = system.find(item.case.id, item.arm, item.sample)
        if narrative is None:
            return self._pack(item, Reading("skipped", "no recorded narrative"), {})
        return self._pack(item, read_record(narrative), {**narrative.provenance, "model": system.model})

    def _outcome(self, outcome: Outcome) -> dict[str, Any]:
        item, reply = self.by_key[str(outcome.key)], outcome.reply
        hashes, guess = self.made.pop(item.key, ([], 0))
        cost, spent = charge(outcome, guess, item.system)
        provenance: dict[str, Any] = {
            "model": item.system.model,
            "prompt": self.prompt.id,
            "settings": item.system.asking.sent(self.samples, item.sample),
            "pictures": hashes,
        }
        call: dict[str, Any] = {"attempts": list(outcome.attempts), "spent": spent}
        if reply is not None:
            call["seconds"] = round(reply.seconds, 4)
            provenance |= {
                "model_returned": reply.model,
                "fingerprint": reply.fingerprint,
                "input_tokens": reply.input_tokens,
                "output_tokens": reply.output_tokens,
                "cost": cost,
                **({"answer": reply.text} if self.structured else {}),
                **({"reasoning": reply.reasoning} if reply.reasoning else {}),
            }
        return self._pack(item, read_outcome(outcome, self.structured), provenance, call)

    def _pack(self, item: Item, reading: Reading, provenance: Mapping[str, Any],
              call: Mapping[str, Any] | None = None) -> dict[str, Any]:  # fmt: skip
        key = {"case_id": item.case.id, "system": item.system.name, "arm": item.arm, "sample": item.sample}
        call = {"spent": {"calls": 0, "tokens": 0, "money": 0.0}, **(call or {})}
        if earlier := self.before.get(item.key):  # spent on the same narrative before
            call["spent"] = spent_of([earlier, call["spent"]])._asdict()
        return pack(key, reading, provenance, item.view.flags, call)


def _pictures(item: Item) -> list[tuple[str, PictureSettings]]:
    return [(image.path, item.system.asking.pictures) for image in item.view.images]


def charge(outcome: Outcome, guess: int, system: System) -> tuple[float | None, dict[str, Any]]:
    """The cost of an answer (None: unknown), and what all attempts for it took: calls, tokens, money.

    An attempt that failed and may have been billed, or an answer without a count, is charged with `guess` tokens.
    """
    price = getattr(system, "price", None)
    local, reply = not hasattr(system, "price"), outcome.reply
    failed = guess * (outcome.paid - (reply is not None and outcome.paid > 0))
    tokens, cost = failed, 0.0 if local else None
    if reply is not None:
        known = reply.input_tokens is not None and reply.output_tokens is not None
        if not local:
            cost = reply.cost if reply.cost is not None or not (price and known) else \
                price(reply.input_tokens, reply.output_tokens)  # fmt: skip
        tokens += (reply.input_tokens or 0) + (reply.output_tokens or 0) if known else guess
    lost = 0.0 if local or not failed else price(failed, 0) if price else None
    money = 0.0 if not outcome.paid and reply is None else cost if reply is not None else lost
    if reply is not None and failed:
        money = None if cost is None or lost is None else cost + lost
    return cost, {"calls": len(outcome.attempts), "tokens": tokens, "money": money}
