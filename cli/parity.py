"""The bodies of `merge` and `parity`: one judge, merged and served in several ways, and whether the scores agree."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..judge.errors import InputError, MissingExtra
from ..judge.records import Score
from ..judge.rubric import Rubric, load_rubric
from . import output
from .remote import Remote, without_private_words
from .scoring import load_pair

if TYPE_CHECKING:
    from ..judge.backends.base import Question

Scores = Mapping[str, Score]
REFERENCE, MERGED, DECISION, SERVE, ENDPOINT = "adapter", "merged", "decision", "serve", "endpoint"


class Agreement(NamedTuple):
    """One way against the reference on one dimension.

    n: slots that both scored; mean, worst: absolute difference in scale units, None without any; missing: slots that
    the reference scored and this way did not.
    """

    way: str
    dimension: str
    n: int
    mean: float | None
    worst: float | None
    missing: int

    def within(self, tolerance: float) -> bool:
        return self.worst is not None and self.worst <= tolerance and not self.missing


class Asked(NamedTuple):
    """What is compared: `merged` an existing merged folder; `serve`, `endpoint`: URL#MODEL of servers, "" for none."""

    judge: str
    rubric: str
    merged: Path | None
    serve: str
    endpoint: str
    tolerance: float
    dtype: str
    limit: int
    seed: int


def merge_judge(judge: str, out: Path, rubric: str, dtype: str | None, as_json: bool) -> None:
    base, adapter = folders(judge)
    if adapter is None:
        raise InputError(f"'{judge}' has no adapter to merge; write local:BASE+ADAPTER, or embedded")
    with _local_extra():
        from ..judge.backends.folder import read_card
        from ..training.merged import merge_adapter
    folder = merge_adapter(base, adapter, out, load_rubric(rubric), dtype)
    reason = read_card(folder).get("decision")
    if reason:
        output.say(f"no decision pipeline for this judge: {reason}")
    output.emit({"folder": str(folder), "decision": reason is None, "reason": reason}, as_json, f"Written: {folder}")


def check_parity(
    bench: Path, narratives: Path | None, asked: Asked, remote: Remote, private: str, as_json: bool
) -> None:
    words = load_rubric(asked.rubric)
    benchmark, texts = load_pair(bench, narratives, asked.limit, {})
    cases: Sequence[Any] = benchmark.cases
    specs = [f"endpoint:{url}" for url in (asked.serve, asked.endpoint) if url]
    if remote.remote_hosts(specs):
        cases, texts, _ = without_private_words(cases, texts, private)
    remote.open()
    remote.permission(specs, cases, texts, benchmark.root)
    with _local_extra(), ExitStack() as stack:
        base, adapter = folders(asked.judge)
        judge = load(base, adapter, words, asked.dtype)
        questions, skipped = _questions(cases, texts, words, judge, benchmark.root, asked.seed)
        if not questions:
            raise InputError(
                f"none of {len(texts)} narratives can be asked: {next(iter(skipped.values()), 'none given')}"
            )
        found, notes = _served(asked, judge, questions, words)  # first: what may refuse does so before the long part
        reference = _local(judge, questions)
        merged = asked.merged
        if merged is None and adapter is not None:
            from ..training.merged import merge_adapter

            whole = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            merged = merge_adapter(base, adapter, whole / "merged", words, asked.dtype)
        del judge
        if merged is not None:
            found[MERGED] = _local(load(merged, None, words, asked.dtype), questions)
        found |= _decided(merged or base, questions, words, asked.dtype, notes)
    rows = [row for way, scores in found.items() for row in compare(way, reference, scores, words)]
    failed = sorted({row.way for row in rows if not row.within(asked.tolerance)})
    result = {
        "judge": asked.judge,
        "reference": REFERENCE if adapter else "the folder itself",
        "dtype": asked.dtype,
        "narratives": len(questions),
        "skipped": skipped,
        "tolerance": asked.tolerance,
        "agreement": [row._asdict() for row in rows],
        "notes": notes,
        "failed": failed,
    }
    head = ("way", "dimension", "n", "mean |difference|", "largest", "not scored")
    for note in notes:
        output.say(note)
    verdict = f"over {asked.tolerance}: {', '.join(failed)}" if failed else f"all within {asked.tolerance}"
    output.emit(
        result, as_json, f"{output.table([_cells(r) for r in rows], head)}\n\n{len(questions)} narratives; {verdict}"
    )
    if failed or not rows:
        raise SystemExit(output.GATE)


def compare(way: str, reference: Sequence[Scores], scores: Sequence[Scores], rubric: Rubric) -> list[Agreement]:
    """Per dimension how far the scores of one way are from those of the reference, narrative by narrative."""
    rows = []
    for name in rubric.names:
        pairs = [(a[name].value, b[name].value) for a, b in zip(reference, scores, strict=True)]
        both = [abs(a - b) for a, b in pairs if a is not None and b is not None]
        missing = sum(a is not None and b is None for a, b in pairs)
        mean, worst = (sum(both) / len(both), max(both)) if both else (None, None)
        rows.append(Agreement(way, name, len(both), mean, worst, missing))
    return rows


def folders(judge: str) -> tuple[Path, Path | None]:
    """Base and adapter of a judge that runs here; InputError for any other."""
    from ..judge.backends import embedded_folder

    if judge in ("embedded", "embedded-text-only"):
        home = embedded_folder()
        return home / "base", home / ("judge" if judge == "embedded" else "text_only")
    kind, _, rest = judge.partition(":")
    if kind != "local" or not rest:
        raise InputError(f"'{judge}' does not run here; write embedded or local:BASE[+ADAPTER]")
    base, _, adapter = rest.partition("+")
    return Path(base), Path(adapter) if adapter else None


def load(base: Path, adapter: Path | None, rubric: Rubric, dtype: str) -> Any:
    """A LocalJudge with its adapter beside the base's weights, not merged into them, one question at a time."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    from ..judge.backends.local import LocalJudge

    judge = LocalJudge(base, adapter, rubric, name="parity", batch_size=1)
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise InputError(f"--dtype is float32 or bfloat16, not '{dtype}'")
    model = AutoModelForImageTextToText.from_pretrained(
        base, dtype=torch.float32, trust_remote_code=False, local_files_only=True
    )
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    judge.model, judge.dtype = model.to(judge.device, kind).eval(), kind
    return judge


def _local(judge: Any, questions: Sequence[Question]) -> list[Scores]:
    return [judge.answer([question])[0].scores for question in questions]


def _questions(
    cases: Sequence[Any], texts: Sequence[Any], rubric: Rubric, judge: Any, root: Path, seed: int
) -> tuple[list[Question], dict[str, str]]:
    from ..judge.plan import ask, plan

    questions, skipped = [], {}
    for item in plan(cases, texts, seed=seed):
        try:
            questions.append(ask(item, rubric, judge, root, seed))
        except InputError as error:
            skipped[item.key] = str(error)
    if judge.blind:
        questions = [question.__class__(question.key, question.prompt) for question in questions]
    return questions, skipped


def _decided(
    folder: Path, questions: Sequence[Question], rubric: Rubric, dtype: str, notes: list[str]
) -> dict[str, Any]:
    """Scores of transformers' own pipeline on the merged folder; a note where it cannot give them."""
    import torch
    from jinja2 import TemplateError
    from transformers import pipeline

    from ..judge.backends.folder import read_card
    from ..training.decision import CONFIG, decision_request, read_decision

    if not (folder / CONFIG).exists():
        reason = read_card(folder).get("decision", f"{folder.name} holds no {CONFIG}; dermjudge merge writes it")
        notes.append(f"{DECISION}: not compared: {reason}")
        return {}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    decide = pipeline("decision", model=str(folder), dtype=getattr(torch, dtype), device=device)
    try:
        with torch.inference_mode():
            answers = [decide(decision_request(q.prompt, q.pictures, rubric)) for q in questions]
    except TemplateError as error:  # of another judge than the one whose questions these are
        raise InputError(f"{folder.name} cannot be asked this: {error}") from error
    return {DECISION: [read_decision(answer, rubric) for answer in answers]}


def _served(
    asked: Asked, judge: Any, questions: Sequence[Question], rubric: Rubric
) -> tuple[dict[str, list[Scores]], list[str]]:
    """Scores of the servers that were named, and what is to be said about them."""
    found: dict[str, list[Scores]] = {}
    notes: list[str] = []
    if not (asked.serve or asked.endpoint):
        return found, notes
    if judge.order != "scores":
        raise InputError("this judge writes a critique before its scores; its slots cannot be read from a server")
    from ..judge.backends.served import ServedSlots
    from ..judge.calls.chat import CallError
    from ..judge.calls.slot_route import SlotRoute
    from ..training.decision import decision_request, read_decision

    async def through(way: str, spec: str) -> list[Scores]:
        url, _, model = spec.rpartition("#")
        if not url or not model:
            raise InputError(f"--{way} is written URL#MODEL, not '{spec}'")
        route = SlotRoute(url, model)
        slots = ServedSlots(route, judge.encoder)
        try:
            if way == SERVE:
                requests = (decision_request(q.prompt, q.pictures, rubric) for q in questions)
                return [read_decision(await route.decide(request), rubric) for request in requests]
            return [await slots.scores(question) for question in questions]
        except CallError as error:
            raise InputError(f"{route.name}: {error}") from error
        finally:
            await route.close()

    for way, spec in ((SERVE, asked.serve), (ENDPOINT, asked.endpoint)):
        if spec:
            found[way] = asyncio.run(through(way, spec))
    if asked.endpoint:
        slots = ServedSlots(None, judge.encoder)  # type: ignore[arg-type]  # for its tokens only
        if other := sum(not slots.same_tokens(question) for question in questions):
            notes.append(
                f"{ENDPOINT}: a server reads {other} of {len(questions)} prompts in other tokens than the judge was "
                "trained on, since its vocabulary has tokens that reach over a seam; scores differ by as much"
            )
    return found, notes


def _cells(row: Agreement) -> tuple[Any, ...]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.5f}"

    return row.way, row.dimension, row.n, number(row.mean), number(row.worst), row.missing


@contextmanager
def _local_extra() -> Iterator[None]:
    """A library that is missing is named with what installs it; torch's threads wait without spinning."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(f"a local model ({error.name})", "local") from error
