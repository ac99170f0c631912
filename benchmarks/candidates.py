"""Narratives of candidate models: several candidates, arms and samples in one run, each paid for once.

Everything that was answered stands in the journal of a run folder before it is used; a killed run asks again what was
in flight and nothing else. Tables are written in the order of the plan, so they do not depend on who answered first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..judge.backends.asking import _CONTROL
from ..judge.backends.replay import narrative_key
from ..judge.calls.budget import Budget, Spent
from ..judge.errors import InputError
from ..judge.files import sha256_file
from ..judge.manifest import hash_value
from ..judge.records import Case, Narrative, identity
from ..judge.run import Run, sigterm_interrupts
from ..judge.tablefile import write_jsonl
from ..judge.tables import write_narratives
from .arms import ARMS, WITH_CONTEXT, View, check_arms, within
from .candidate_prompts import CandidatePrompt
from .degraded_pictures import source_path
from .generation import Item, Work
from .side_by_side import Purse, spent_of
from .structured import answer_schema
from .systems import RecordedSystem, System
from .written import ABSENT, STATES, unpack


class Generated(NamedTuple):
    """What a run came to: narratives planned, per candidate the counts of states, what was spent, and who was stopped.

    `resumed`: results that were there before. `spent`: per candidate calls, tokens and money (None: unknown), over all
    sessions. `stopped`: per candidate why it was ended early; what it left undone is asked by the same command again.
    """

    folder: Path
    planned: int
    states: Mapping[str, Mapping[str, int]]
    missing: int
    complete: bool
    resumed: int
    spent: Mapping[str, Mapping[str, float | None]]
    stopped: Mapping[str, str]


class Limits(NamedTuple):
    """What all candidates of a run may spend together, over all its sessions; None: no limit."""

    calls: int | None = None
    tokens: int | None = None
    money: float | None = None


def generate(
    cases: Sequence[Case],
    systems: Sequence[System],
    out: str | Path,
    *,
    root: str | Path = ".",
    arms: Sequence[str] = ("image_only",),
    samples: int = 1,
    prompt: CandidatePrompt | None = None,
    structured: bool = False,
    seed: int = 0,
    limits: Limits = Limits(),  # noqa: B008 - immutable
    retry: Collection[str] = ("api_error",),
    config: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Generated:
    """Have every system write about every case under every arm, `samples` times, and write the run folder `out`.

    systems: see `open_systems.make_systems`. root: folder that image paths are relative to. prompt: default
    "narrative", or "structured" where `structured` asks for a JSON object (enforced where a server can). retry: states
    asked again when a run is taken up. config: further fields that must be equal to resume; info: what may differ (the
    consent, say). Exports narratives.jsonl in the order of the plan, and not_written.jsonl with what has no narrative
    and why. A candidate that is refused by its server ends, as api_error, and the others go on. InputError for unknown
    arms, a prompt without the slots that they need, and a changed config.
    """
    prompt = prompt or CandidatePrompt("structured" if structured else "narrative")
    items = plan(cases, systems, arms, samples, seed)
    asked = any(not isinstance(system, RecordedSystem) for system in systems)
    if asked and not prompt.context and (blind := [arm for arm in arms if arm in WITH_CONTEXT]):
        raise InputError(f"the prompt '{prompt.name}' has no slot {{context}}, which the arm {blind[0]} needs")
    root = Path(root)
    wanted = {
        "what": "generate",
        "candidates": {s.name: {**s.open(), **s.asking.signature, "sent": s.asking.sent(samples)} for s in systems},
        "arms": list(arms),
        "samples": samples,
        "prompt": prompt.id,
        "schema": hash_value(answer_schema())[:16] if structured else None,
        "texts": hash_value([[i.key, i.view.context, list(i.view.flags)] for i in items if i.sample == 0])[:16],
        "pictures": _pictures_hash(items, root),
        **(config or {}),
    }
    _budget(limits, systems)
    with sigterm_interrupts(), Run.open(out, wanted, [i.key for i in items], seed=seed, info=info) as run:
        old = {e.key: (e.data["state"], e.data["call"]["spent"]) for e in run.results()}
        done = {key for key, (state, _) in old.items() if state not in retry}
        resumed = len(done)
        purse = Purse(_budget(limits, systems, spent_of([spent for _, spent in old.values()])))
        before = {str(key): spent for key, (_, spent) in old.items()}
        work = Work(run, items, done, before, prompt, structured, root, samples)
        work.progress = progress
        work.without_calls()
        stopped = work.ask(systems, purse)
        return _finish(work, systems, resumed, stopped)


def plan(cases: Sequence[Case], systems: Sequence[System], arms: Sequence[str], samples: int, seed: int = 0) -> list[
    Item
]:  # fmt: skip
    """The narratives of a run in their fixed order: case by case, so that a case's pictures are wanted once."""
    check_arms(arms)
    if samples < 1:
        raise InputError(f"every case is asked at least once, not {samples} times")
    if not systems or not cases:
        raise InputError("a run needs at least one candidate and one case")
    if len({identity(case.id) for case in cases}) < len(cases):
        raise InputError("a case stands twice; ids are equal if they differ in case or blanks only")
    for system in systems:
        if isinstance(system, RecordedSystem) and not any(system.has(a, s) for a in arms for s in range(samples)):
            there = sorted({key[1] for key in system.narratives})
            raise InputError(
                f"{system.model} holds narratives of the arm {', '.join(there)}, none of {', '.join(arms)}"
            )
    items, place = [], 0
    for case in cases:
        shown = {arm: _marked(ARMS[arm](case, cases, seed)) for arm in arms}
        for system in systems:
            for arm in arms:
                view = within(shown[arm], system.asking.max_images, system.asking.over_images)
                for sample in range(samples):
                    if not isinstance(system, RecordedSystem) or system.has(arm, sample):
                        key = narrative_key(case.id, system.name, arm, sample)
                        items.append(Item(key, case, system, arm, sample, view, place))
        place += len(case.images)
    return items


def _marked(view: View) -> View:
    """With a flag where a server's chat template may take a word of the context for one of its own."""
    if view.context and _CONTROL.search(view.context):
        return view._replace(flags=(*view.flags, "the context imitates control tokens"))
    return view


def _finish(work: Work, systems: Sequence[System], resumed: int, stopped: Mapping[str, str]) -> Generated:
    """Write the tables and close the run."""
    run, there = work.run, [item.key for item in work.items if item.key in work.run.done]
    states: dict[str, Counter[str]] = {system.name: Counter() for system in systems}
    spent: dict[str, list[Mapping[str, Any]]] = {system.name: [] for system in systems}
    absent: list[dict[str, Any]] = []

    def narratives() -> Iterator[Narrative]:
        for entry in run.in_order(there):
            data = entry.data
            states[data["system"]][data["state"]] += 1
            spent[data["system"]].append(data["call"]["spent"])
            if data["state"] in ABSENT:
                absent.append({k: data[k] for k in ("case_id", "system", "arm", "sample", "state", "reason")})
            else:
                yield unpack(data)

    run.export("narratives.jsonl", lambda path: write_narratives(narratives(), path))
    run.export("not_written.jsonl", lambda path: write_jsonl(absent, path))
    planned, missing = len(work.items), len(work.items) - len(there)
    counts: dict[str, dict[str, int]] = {}
    for name, found in states.items():
        counts[name] = {state: found[state] for state in STATES if found[state]}
    if sum(map(sum, map(dict.values, counts.values()))) + missing != planned:
        raise RuntimeError(f"{counts} and {missing} missing do not add up to {planned} planned narratives")
    complete = not missing and not any("api_error" in found for found in counts.values())
    totals = {name: spent_of(rows)._asdict() for name, rows in spent.items()}
    totals = {name: {k: total[k] for k in ("calls", "tokens", "money")} for name, total in totals.items()}
    run.close(None if complete else "incomplete", summary={"states": counts, "planned": planned, "missing": missing,
                                                           "spent": totals, "stopped": dict(stopped)})  # fmt: skip
    return Generated(run.folder, planned, counts, missing, complete, resumed, totals, dict(stopped))


def _budget(limits: Limits, systems: Sequence[System], already: Spent = Spent()) -> Budget:  # noqa: B008 - immutable
    paid = [system for system in systems if hasattr(system, "price")]
    if limits.money is not None and (dark := [s.name for s in paid if s.price is None]):  # type: ignore[attr-defined]
        raise InputError(f"a budget of money needs the price of every candidate, and that of {', '.join(dark)} is "
                         "unknown: give a price list that has it, or set a budget of calls or tokens")  # fmt: skip
    return Budget(**limits._asdict(), already=already,
                  price=paid[0].price if paid else None)  # type: ignore[attr-defined]  # fmt: skip


def _pictures_hash(items: Sequence[Item], root: Path) -> str:
    """What is in each picture that is shown; a file that cannot be read is named as such."""
    shown = {(item.case.id, image.path): None for item in items
             if not isinstance(item.system, RecordedSystem) for image in item.view.images}  # fmt: skip
    known: dict[str, str] = {}
    for _, path in shown:
        if path not in known:
            file = root / source_path(path)
            inside = file.resolve().is_relative_to(root.resolve()) and file.is_file()
            known[path] = sha256_file(file) if inside else "unreadable"
    return hash_value([[case_id, path, known[path]] for case_id, path in shown])[:16]
