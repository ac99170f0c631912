"""Score narratives with a judge: the main job.

Every planned narrative ends in exactly one state per dimension; results go through the journal of a run folder, so that
a killed run loses what was in flight and nothing else. Tables are written in the order of the plan, whatever the order
in which answers came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from .backends.base import Answer, Job, Judge, Part, Question
from .backends.replay import narrative_key
from .canary import Drift, ask_canary, compare
from .errors import InputError
from .plan import Item, ask, case_by_case, pictures_hash, plan, texts_hash
from .probes import Shown
from .records import STATES, Case, Narrative, Rating, Score
from .rubric import Rubric
from .run import Run, sigterm_interrupts
from .tables import write_ratings

CALL, CANARY = "call", "canary"  # kinds of journal lines beside the results


class Scored(NamedTuple):
    """What a run came to: its folder, counts of (narrative, repeat, dimension) per state, how many were planned.

    `resumed`: questions answered before. `drift`: of the judge from begin to end of the run, where that was watched.
    """

    folder: Path
    states: Mapping[str, int]
    planned: int
    complete: bool
    resumed: int
    drift: Drift | None = None


def score(
    cases: Sequence[Case],
    narratives: Sequence[Narrative],
    rubric: Rubric,
    judge: Judge,
    out: str | Path,
    *,
    root: str | Path = ".",
    seed: int = 0,
    probes: Sequence[str] = (),
    repeats: int = 1,
    canary: bool = False,
    retry: Collection[str] = ("api_error",),
    config: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scored:
    """Score every narrative on every dimension of the rubric and write the run folder `out`.

    root: folder that image paths are relative to. probes: of "swap", "blank", "wrong-patient", each a further pass with
    the pictures replaced, to see whether the scores answer to the picture. repeats: separate ratings of each narrative,
    for the judge's own noise. canary: ask a few fixed questions before and after, to see whether the judge changed.
    retry: states that are asked again when a run is taken up (others are final). config: further fields that must be
    equal to resume. Exports ratings.jsonl and probe-NAME.jsonl for each probe. A judge with `stream` is asked case by
    case, any other in the plan's batches. InputError for narratives without a case, unknown probes or a changed config.
    """
    if probes and getattr(judge, "stream", None) and getattr(judge, "blind", False):
        raise InputError(f"{judge.name} is shown no picture, so a picture probe says nothing about it")
    items = plan(cases, narratives, probes, seed, repeats)
    wanted = {
        "what": "score",
        **judge.signature,
        "prompt_seed": seed,
        "probes": list(probes),
        "texts": texts_hash(items, getattr(judge, "mode", "image") != "image"),
        "pictures": pictures_hash(items, Path(root)),
        **({"repeats": repeats} if repeats > 1 else {}),
        **({"canary": True} if canary else {}),
        **(config or {}),
    }
    with sigterm_interrupts(), Run.open(out, wanted, [item.key for item in items], seed=seed) as run:
        done = {entry.key for entry in run.results() if not _again(entry.data, retry)} if retry else set(run.done)
        resumed = len(done)
        put = _stream if getattr(judge, "stream", None) else _batches
        if fresh := resumed < len(items):
            if canary:
                _watch(run, "before", rubric, judge, seed)
            put(run, items, done, rubric, judge, Path(root), seed, progress)
        elif progress:
            progress(len(items), len(items))
        drift = _watch(run, "after", rubric, judge, seed, fresh) if canary else None
        states, probed = Counter[str](), Counter[str]()
        own = [item for item in items if not item.shown.probe]
        run.export("ratings.jsonl", lambda path: write_ratings(_ratings(run, own, states), path))
        for probe in probes:
            rows = _ratings(run, [item for item in items if item.shown.probe == probe], probed)
            run.export(f"probe-{probe}.jsonl", partial(write_ratings, rows))
        planned = len(own) * len(rubric.names)
        counts: dict[str, int] = {state: states[state] for state in STATES if states[state]}
        if sum(counts.values()) != planned:
            raise RuntimeError(f"{sum(counts.values())} states for {planned} planned scores")
        complete = not counts.get("api_error") and not probed["api_error"]
        summary = {"states": counts, "planned": planned, **({"drift": drift.to_dict()} if drift else {})}
        run.close(None if complete else "incomplete", summary=summary)
        return Scored(run.folder, counts, planned, complete, resumed, drift)


def ask_one(
    case: Case, narrative: Narrative, rubric: Rubric, judge: Judge, root: str | Path = ".", seed: int = 0
) -> Rating:
    """Score one narrative at once, without a run folder."""
    item = Item(narrative_key(*narrative.key), case, narrative, Shown(case, ""))
    answer = _ask([item], rubric, judge, Path(root), seed)[0]
    return _unpack(_pack(item, answer, judge, rubric))


def _ask(batch: Sequence[Item], rubric: Rubric, judge: Judge, root: Path, seed: int) -> list[Answer]:
    questions: list[Question] = []
    answers: dict[str, Answer] = {}
    for item in batch:
        try:
            questions.append(ask(item, rubric, judge, root, seed))
        except InputError as error:
            answers[item.key] = Answer(dict.fromkeys(rubric.names, Score(None, "input_error", str(error))))
    for question, answer in zip(questions, judge.answer(questions) if questions else [], strict=True):
        answers[question.key] = answer
    return [answers[item.key] for item in batch]


def _batches(
    run: Run,
    items: Sequence[Item],
    done: Collection[Any],
    rubric: Rubric,
    judge: Judge,
    root: Path,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    size = judge.batch_size
    for start in range(0, len(items), size):  # the plan fixes the batches: their composition moves scores
        batch = items[start : start + size]
        if any(item.key not in done for item in batch):
            answers = _ask(batch, rubric, judge, root, seed)
            run.append_many(
                [
                    (item.key, _pack(item, answer, judge, rubric))
                    for item, answer in zip(batch, answers, strict=True)
                    if item.key not in done
                ]
            )
        if progress:
            progress(min(start + size, len(items)), len(items))


def _stream(
    run: Run,
    items: Sequence[Item],
    done: Collection[Any],
    rubric: Rubric,
    judge: Any,
    root: Path,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    todo = {item.key: item for item in items if item.key not in done}
    paid = _paid(run, todo)
    jobs = (
        Job(item.key, partial(ask, item, rubric, judge, root, seed), paid.get(item.key, ()))
        for item in case_by_case(list(todo.values()))
    )
    answered = len(items) - len(todo)
    with closing(judge.stream(jobs)) as stream:
        for found in stream:
            run.append_many([((p.key, p.sample, p.turn), p.data) for p in found if isinstance(p, Part)], CALL)
            ended = [one for one in found if not isinstance(one, Part)]
            run.append_many([(key, _pack(todo[key], answer, judge, rubric)) for key, answer in ended])
            answered += len(ended)
            if progress:
                progress(answered, len(items))


def _paid(run: Run, todo: Mapping[str, Item]) -> dict[str, list[Part]]:
    """Paid answers of questions that have no final one, or whose final one is a call that failed."""
    final = {e.key for e in run.results() if e.key in todo and not _again(e.data, ("api_error",))}
    paid: dict[str, list[Part]] = {}
    for entry in run.results(CALL):
        key, sample, turn = cast(tuple[str, int, int], entry.key)
        if key in todo and key not in final:
            paid.setdefault(key, []).append(Part(key, sample, turn, entry.data))
    return paid


def _watch(run: Run, when: str, rubric: Rubric, judge: Judge, seed: int, ask: bool = False) -> Drift | None:
    """Ask the canary where it is due, journal what it said, and compare the end of the run with its begin."""
    known = {entry.key: entry.data for entry in run.results(CANARY)}
    if (ask and when == "after") or not any(key[0] == when for key in known):
        asked = {(when, name): data for name, data in ask_canary(judge, rubric, seed).items()}
        run.append_many(list(asked.items()), CANARY)
        known |= asked
    before, after = ({str(k[1]): v for k, v in known.items() if k[0] == name} for name in ("before", "after"))
    return compare(before, after, rubric) if after else None


def _again(data: Mapping[str, Any], retry: Collection[str]) -> bool:
    return any(row["state"] in retry for row in data["scores"].values())


def _pack(item: Item, answer: Answer, judge: Judge, rubric: Rubric) -> dict[str, Any]:
    """The rating as journalled: plain JSON."""
    narrative = item.narrative
    return {
        "case_id": item.case.id,
        "system": narrative.system,
        "arm": narrative.arm,
        "sample": narrative.sample,
        "rater": judge.name,
        "repeat": item.repeat,
        "rubric": rubric.id,
        "narrative_hash": narrative.hash,
        "scores": {name: answer.scores[name]._asdict() for name in rubric.names},
        "critique": dict(answer.critique),
        "answer": answer.text,
        "cost": answer.cost,
        "flags": [*answer.flags, *item.shown.flags],
        **({"log": dict(answer.log)} if answer.log else {}),
    }


def _unpack(data: Mapping[str, Any]) -> Rating:
    scores = {
        name: Score(
            row["value"],
            row["state"],
            row["reason"],
            tuple(row["distribution"]) if row["distribution"] else None,
            row["mass"],
        )
        for name, row in data["scores"].items()
    }
    rest = {k: v for k, v in data.items() if k not in ("scores", "flags", "log")}
    return Rating(**rest, scores=scores, flags=tuple(data["flags"]), rater_kind="judge")


def _ratings(run: Run, items: Sequence[Item], states: Counter[str]) -> Iterator[Rating]:
    for entry in run.in_order(item.key for item in items):
        rating = _unpack(entry.data)
        states.update(score.state for score in rating.scores.values())
        yield rating
