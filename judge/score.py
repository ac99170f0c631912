"""Score narratives with a judge: the main job.

Every planned narrative ends in exactly one state per dimension; results go through the journal of a run folder, a
batch at a time, so that a killed run loses the batch in flight and nothing else.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .backends.base import Answer, Judge, Question
from .backends.replay import narrative_key
from .errors import InputError
from .files import sha256_file
from .images import prepare
from .probes import PROBES, Shown, choose_pictures
from .prompt import render
from .records import STATES, Case, Narrative, Rating, Score, identity
from .rubric import Rubric
from .run import Run, sigterm_interrupts
from .tables import write_ratings


class Scored(NamedTuple):
    """What a run came to: its folder, counts of (narrative, dimension) per state, planned and scored narratives."""

    folder: Path
    states: Mapping[str, int]
    planned: int
    complete: bool
    resumed: int


class Item(NamedTuple):
    """One planned question: a narrative of a case beside the pictures of `shown`."""

    key: str
    case: Case
    narrative: Narrative
    shown: Shown


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
    retry: Collection[str] = ("api_error",),
    config: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scored:
    """Score every narrative on every dimension of the rubric and write the run folder `out`.

    root: folder that image paths are relative to. probes: of "swap", "blank", "wrong-patient", each a further pass with
    the pictures replaced, to see whether the scores answer to the picture. retry: states that are asked again when a
    run is taken up (others are final). config: further fields that must be equal to resume. Exports ratings.jsonl and
    probe-NAME.jsonl for each probe. InputError for narratives without a case, unknown probes or a changed config.
    """
    items = plan(cases, narratives, probes, seed)
    wanted = {
        "what": "score",
        **judge.signature,
        "prompt_seed": seed,
        "probes": list(probes),
        "texts": _texts_hash(items),
        "pictures": _pictures_hash(items, Path(root)),
        **(config or {}),
    }
    with sigterm_interrupts(), Run.open(out, wanted, [item.key for item in items], seed=seed) as run:
        done = {entry.key for entry in run.results() if not _again(entry.data, retry)} if retry else set(run.done)
        resumed = len(done)
        size = judge.batch_size
        for start in range(0, len(items), size):  # the plan fixes the batches: their composition moves scores
            batch = items[start : start + size]
            if any(item.key not in done for item in batch):
                answers = _ask(batch, rubric, judge, Path(root), seed)
                run.append_many(
                    [
                        (item.key, _pack(item, answer, judge, rubric))
                        for item, answer in zip(batch, answers, strict=True)
                        if item.key not in done
                    ]
                )
            if progress:
                progress(min(start + size, len(items)), len(items))
        states, probed = Counter[str](), Counter[str]()
        run.export("ratings.jsonl", lambda path: write_ratings(_ratings(run, states, ""), path))
        for probe in probes:
            rows = _ratings(run, probed, probe)
            run.export(f"probe-{probe}.jsonl", partial(write_ratings, rows))
        planned = len(narratives) * len(rubric.names)
        counts: dict[str, int] = {state: states[state] for state in STATES if states[state]}
        if sum(counts.values()) != planned:
            raise RuntimeError(f"{sum(counts.values())} states for {planned} planned scores")
        complete = not counts.get("api_error") and not probed["api_error"]
        run.close(None if complete else "incomplete", summary={"states": counts, "planned": planned})
        return Scored(run.folder, counts, planned, complete, resumed)


def plan(
    cases: Sequence[Case], narratives: Sequence[Narrative], probes: Sequence[str] = (), seed: int = 0
) -> list[Item]:
    """The questions of a run in their fixed order: all narratives, then each probe over all narratives."""
    if unknown := [p for p in probes if p not in PROBES]:
        raise InputError(f"unknown probe '{unknown[0]}'; there are {', '.join(PROBES)}")
    known = {identity(case.id): case for case in cases}
    if missing := sorted({n.case_id for n in narratives if identity(n.case_id) not in known}):
        raise InputError(
            f"{len(missing)} narratives name cases that the benchmark does not have: {', '.join(missing[:5])}"
        )
    own = [known[identity(n.case_id)] for n in narratives]
    items = [Item(narrative_key(*n.key), case, n, Shown(case, "")) for n, case in zip(narratives, own, strict=True)]
    if len({identity(item.key) for item in items}) < len(items):
        double = [key for key, n in Counter(identity(i.key) for i in items).items() if n > 1]
        raise InputError(
            f"{len(double)} narratives stand twice (same case, system, arm, sample): {', '.join(double[:5])}"
        )
    for probe in probes:
        pictures = choose_pictures(cases, probe, seed)
        items += [
            Item(f"{probe} {narrative_key(*n.key)}", case, n, pictures[case.id])
            for n, case in zip(narratives, own, strict=True)
        ]
    return items


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
            questions.append(_question(item, rubric, judge, root, seed))
        except InputError as error:
            answers[item.key] = Answer(dict.fromkeys(rubric.names, Score(None, "input_error", str(error))))
    for question, answer in zip(questions, judge.answer(questions) if questions else [], strict=True):
        answers[question.key] = answer
    return [answers[item.key] for item in batch]


def _question(item: Item, rubric: Rubric, judge: Judge, root: Path, seed: int) -> Question:
    if judge.max_images is not None and len(item.case.images) > judge.max_images:
        raise InputError(f"the case has {len(item.case.images)} pictures and this judge takes {judge.max_images}")
    if item.shown.problem:
        raise InputError(item.shown.problem)
    pictures = tuple(item.shown.look(prepare(root, image.path).pixels) for image in item.shown.case.images)
    return Question(item.key, render(item.case, item.narrative, rubric, judge.form, seed=seed), pictures)


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
        "rubric": rubric.id,
        "narrative_hash": narrative.hash,
        "scores": {name: answer.scores[name]._asdict() for name in rubric.names},
        "critique": dict(answer.critique),
        "answer": answer.text,
        "cost": answer.cost,
        "flags": [*answer.flags, *item.shown.flags],
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
    rest = {k: v for k, v in data.items() if k not in ("scores", "flags")}
    return Rating(**rest, scores=scores, flags=tuple(data["flags"]), rater_kind="judge")


def _ratings(run: Run, states: Counter[str], probe: str) -> Iterator[Rating]:
    for entry in run.results():
        if str(entry.key).partition("[")[0].rstrip() == probe:
            rating = _unpack(entry.data)
            states.update(score.state for score in rating.scores.values())
            yield rating


def _pictures_hash(items: Sequence[Item], root: Path) -> str:
    """Which picture stands beside which text, and what is in each file; a file that cannot be read is named as such."""
    total, known = hashlib.sha256(), dict[str, str]()
    for item in items:
        for image in item.shown.case.images:
            if image.path not in known:
                inside = (root / image.path).resolve().is_relative_to(root.resolve()) and (root / image.path).is_file()
                known[image.path] = sha256_file(root / image.path) if inside else "unreadable"
            total.update(
                f"{item.key}|{item.shown.case.id}|{image.path}|{known[image.path]}\n".encode("utf-8", "replace")
            )
    return total.hexdigest()[:16]


def _texts_hash(items: Sequence[Item]) -> str:
    total = hashlib.sha256()
    for item in items:
        total.update(f"{item.key}|{item.narrative.hash}|{item.case.context}\n".encode("utf-8", "surrogatepass"))
    return total.hexdigest()[:16]
