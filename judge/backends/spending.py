"""What the earlier sessions of a run have spent, read from its journal, so that a budget holds for the whole run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..calls.budget import Price, Spent
from ..journal import Entry, decode
from ..manifest import JOURNAL


def spent_before(folder: str | Path, price: Price | None = None) -> Spent:
    """Calls, tokens and money of all that is journalled in a run folder; nothing for a new one.

    price: what tokens cost, where the reply did not say. Money is None if a paid call has no known price. What was in
    flight when a session was killed is not in the journal and not counted.
    """
    path = Path(folder) / JOURNAL
    if not path.exists():
        return Spent()
    seen: set[int] = set()
    calls = tokens = guessed = 0
    money: float | None = 0.0
    with path.open("rb") as file:
        for line in file:
            for call in _calls(decode(line), seen):
                calls += len(call["attempts"])
                first, second, cost = call["input_tokens"], call["output_tokens"], call["cost"]
                known = first is not None and second is not None
                if known:
                    tokens += first + second
                    cost = price(first, second) if cost is None and price is not None else cost
                replied = call["attempts"][-1:] == ["reply"]
                guessed += call["paid"] - (replied and known)
                if replied:
                    money = None if cost is None or money is None else money + cost
    return Spent(calls, tokens, money, guessed)


def _calls(entry: Entry | None, seen: set[int]) -> Iterator[Mapping[str, Any]]:
    """The calls of a line; a result repeats those that have a line of their own, before it."""
    if entry is None:
        return
    if entry.kind == "call" and isinstance(entry.key, tuple):
        seen.add(_mark(*entry.key, entry.data["call"]))
        yield entry.data["call"]
        return
    for call in entry.data.get("log", {}).get("calls", ()):  # of a result, or of the canary
        plain = {name: value for name, value in call.items() if name not in ("sample", "turn")}
        if _mark(entry.key, call["sample"], call["turn"], plain) not in seen:
            yield plain


def _mark(*what: Any) -> int:
    return hash(json.dumps(what, sort_keys=True))
