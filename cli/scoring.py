"""The body of `score`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..judge.benchmark import Benchmark, load_benchmark
from ..judge.errors import InputError
from ..judge.records import Case, Image, Narrative, Rating, identity
from ..judge.rubric import Rubric, load_rubric
from ..judge.tables import read_narratives
from . import output
from .learnt import learnt_cases, no_licence
from .remote import Remote, is_remote, without_private_words

if TYPE_CHECKING:
    from ..judge.calls.budget import Spent
    from ..judge.score import Scored


def load_pair(
    bench: Path | None, narratives: Path | None, limit: int | None, columns: dict[str, str], split: str = ""
) -> tuple[Benchmark, list[Narrative]]:
    """A benchmark folder and the narratives to go with it (default: its own), all or those of one split."""
    if bench is None:
        raise InputError("name a benchmark folder and its narratives, or give --image and --text for one case")
    benchmark = load_benchmark(bench)
    path = narratives or bench / "narratives.jsonl"
    if not path.exists():
        raise InputError(f"no narratives at {path}; name the file (.jsonl, .csv, .parquet) behind the benchmark")
    spelled = {identity(case.id): case.id for case in benchmark.cases}
    read = read_narratives(path, columns or None)
    if split:
        chosen = {identity(case.id) for case in benchmark.select(split)}
        read = [n for n in read if identity(n.case_id) in chosen]
        if not read:
            raise InputError(f"{path} has no narrative of a case of split '{split}'")
    read = read[:limit]
    return benchmark, [replace(n, case_id=spelled.get(identity(n.case_id), n.case_id)) for n in read]


class Asked(NamedTuple):
    """What a person wants of `score` beside benchmark and narratives."""

    judges: tuple[str, ...]
    rubric: str
    out: Path
    probes: tuple[str, ...]
    critique: bool
    batch_size: int | None
    retry: tuple[str, ...]
    split: str
    limit: int | None
    seed: int
    columns: dict[str, str]
    calibration: Path | None
    review_at: float | None
    licence: Path | None
    asking: dict[str, Any]
    repeats: int
    canary: bool
    allow_self: bool
    jury: str
    private_words: str
    remote: Remote


def score_run(bench: Path | None, narratives: Path | None, asked: Asked, dry_run: bool, as_json: bool) -> None:
    from ..evaluators.calibration_record import Calibration
    from ..evaluators.families import check_judge
    from ..evaluators.jury import HOWS
    from ..evaluators.licence_record import load_licence
    from ..evaluators.repeats import judge_noise
    from ..judge.backends import KNOWN
    from ..judge.records import STATES
    from ..judge.run import add_exports
    from ..judge.tables import read_ratings

    if not asked.judges:
        raise InputError(f"name the judge with --judge; known: {KNOWN}")
    if wrong := [state for state in asked.retry if state and state not in STATES]:
        raise InputError(f"--retry: unknown state '{wrong[0]}'; there are {', '.join(STATES)}")
    if len(asked.judges) > 1 and (asked.calibration or asked.licence):
        raise InputError("--calibration and --licence are of one judge; a jury has neither")
    if len(asked.judges) > 1 and asked.jury not in HOWS:
        raise InputError(f"--jury is one of {', '.join(HOWS)}, not '{asked.jury}'")
    words = load_rubric(asked.rubric)
    if asked.calibration:  # a file that cannot be used is found before anything is asked
        Calibration.load(asked.calibration, None, words.id)
    if asked.licence:
        load_licence(asked.licence)
    benchmark, texts = load_pair(bench, narratives, asked.limit, asked.columns, asked.split)
    systems = {n.system for n in texts}
    for spec in filter(is_remote, asked.judges):
        for note in check_judge(spec, systems, allow_self=asked.allow_self):
            output.say(note)
    private: dict[str, str] = {}
    if asked.remote.remote_hosts(asked.judges):
        cases, texts, private = without_private_words(benchmark.cases, texts, asked.private_words)
        benchmark = replace(benchmark, cases=tuple(cases))
    if dry_run:
        return _foretell(benchmark, texts, words, asked, as_json)
    asked.remote.open()
    consent = asked.remote.permission(asked.judges, benchmark.cases, texts, benchmark.root)
    if len(asked.judges) > 1:
        from .jury import score_jury

        return score_jury(benchmark, texts, words, asked, consent, as_json)
    done, opened = score_with(asked.judges[0], asked.out, benchmark, texts, words, asked, consent)
    from .reporting import report_run, to_json

    if private:  # stays in the run folder: what the tags in the texts that were sent stand for
        add_exports(done.folder, {"redactions.json": to_json(private)})
    text, report = report_run(
        done.folder, benchmark, texts, words, opened, asked.seed, asked.calibration, asked.review_at, asked.licence
    )
    result = {
        "run": str(done.folder),
        "planned": done.planned,
        "states": dict(done.states),
        "resumed": done.resumed,
        "complete": done.complete,
        "drift": done.drift.to_dict() if done.drift else None,
        "report": report,
    }
    states = ", ".join(f"{count} {state}" for state, count in done.states.items())
    if done.drift:
        output.say(done.drift.note())
    if asked.repeats > 1:
        noise = judge_noise(read_ratings(done.folder / "ratings.jsonl", words))
        result["judge_noise"] = [n.to_dict() for n in noise]
        rows = [(n.dimension, n.items, n.sd, n.icc_1, n.identical) for n in noise]
        head = ("dimension", "narratives", "SD within", "ICC(1)", "identical")
        text += f"\nThe judge's own noise, {asked.repeats} ratings each:\n\n{output.table(rows, head)}\n"
    if not done.states.get("scored"):
        text = _why_nothing(done.folder, words)
    output.emit(result, as_json, f"{text}\n{done.planned} planned scores: {states}. Written: {done.folder}/report.md")
    if not done.complete:
        raise SystemExit(output.INCOMPLETE)


def _why_nothing(folder: Path, rubric: Rubric) -> str:
    """Instead of a report full of empty tables: why not a single score is there."""
    from collections import Counter

    from ..judge.escape import visible
    from ..judge.tables import read_ratings

    rows = read_ratings(folder / "ratings.jsonl", rubric).select("state", "reason").iter_rows()
    common = Counter(f"{state}: {reason}" for state, reason in rows).most_common(5)
    return "\n".join(["Nothing was scored:", *(f"  {visible(why)} ({n} scores)" for why, n in common)])


def score_with(
    spec: str,
    out: Path,
    benchmark: Benchmark,
    texts: Sequence[Narrative],
    rubric: Rubric,
    asked: Asked,
    consent: dict[str, Any],
) -> tuple[Scored, Any]:
    """One run of one judge."""
    from ..judge.backends import open_judge
    from ..judge.manifest import hash_value
    from ..judge.score import score

    more: dict[str, Any] = {}
    if is_remote(spec):
        remote = asked.remote
        budget = remote.budget(spec, _spent(out, asked))
        more = asked.asking | {"route": remote.route(spec), "pace": remote.pace(), "budget": budget}
    opened = open_judge(spec, rubric, batch_size=asked.batch_size, critique=asked.critique, **more)
    for note in opened.notes:
        output.say(note)
    config: dict[str, Any] = {"limited": asked.limit, "judge_signature": hash_value(dict(opened.signature))}
    if asked.split:
        config["split"] = asked.split
    cases, of = learnt_cases(opened, benchmark, texts)
    if cases:
        output.say(no_licence(opened.name, cases, of))
        config["learnt_cases"] = [cases, of]
    with output.progress(f"scoring with {spec}") as tick:
        done = score(
            benchmark.cases,
            texts,
            rubric,
            opened,
            out,
            root=benchmark.root,
            seed=asked.seed,
            probes=asked.probes,
            retry=asked.retry,
            repeats=asked.repeats,
            canary=asked.canary,
            config=config | ({"consent": consent} if consent else {}),
            progress=tick,
        )
    return done, opened


def _spent(out: Path, asked: Asked) -> Spent:
    """What was spent so far: in the run folder `out`, or by the whole jury, which shares one budget."""
    from ..judge.backends.spending import spent_before
    from ..judge.calls.budget import Spent

    folders = (
        {asked.out / slug(spec): spec for spec in asked.judges} if len(asked.judges) > 1 else {out: asked.judges[0]}
    )
    parts = [spent_before(folder, asked.remote.price(spec)) for folder, spec in folders.items() if is_remote(spec)]
    money = [part.money for part in parts]
    return Spent(
        sum(part.calls for part in parts),
        sum(part.tokens for part in parts),
        None if None in money else sum(m for m in money if m is not None),
        sum(part.guessed for part in parts),
    )


def _foretell(benchmark: Benchmark, texts: Sequence[Narrative], rubric: Rubric, asked: Asked, as_json: bool) -> None:
    """--dry-run: what would be asked of whom, what is there already, and what it would cost."""
    from ..judge.calls.prices import picture_tokens, text_tokens
    from ..judge.plan import plan
    from ..judge.prompt import render
    from .remote import dry_run_text

    items = plan(benchmark.cases, texts, asked.probes, asked.seed, asked.repeats)
    rows: dict[str, Any] = {
        "narratives": len(texts),
        "questions": len(items),
        "pictures": sum(len(c.images) for c in benchmark.cases),
        "judge": ", ".join(asked.judges),
        "rubric": rubric.id,
        "out": str(asked.out),
    }
    remote = [spec for spec in asked.judges if is_remote(spec)]
    if not remote:
        rows["cost"] = 0
    shown = 0 if asked.asking.get("mode") == "reference" else 1
    for spec in remote:
        folder = asked.out if len(asked.judges) == 1 else asked.out / slug(spec)
        there = done_in(folder)
        calls = (len(items) - there) * int(asked.asking.get("samples") or 1)
        tokens = sum(
            text_tokens(render(item.case, item.narrative, rubric, seed=asked.seed, pictures=bool(shown)).text)
            + shown * len(item.case.images) * picture_tokens(1568, 1568, spec)
            for item in items
        )
        tokens = round(tokens * calls / max(1, len(items)))
        answers = calls * 800  # tokens of a critique of six dimensions, a guess on the safe side
        price = asked.remote.price(spec)
        cost = price(tokens, answers) if price else None
        name = "" if len(remote) == 1 else f"{spec}: "
        rows |= {
            f"{name}calls": calls,
            f"{name}answered already": f"{there} of {len(items)}",
            f"{name}tokens sent, about": tokens,
            f"{name}tokens answered, about": answers,
            f"{name}cost, about": None if cost is None else round(cost, 2),
        }
    consent = asked.remote.consent_template(asked.judges, benchmark.cases, texts, benchmark.root)
    result = rows | ({"consent_template": consent} if consent else {})
    text = dry_run_text(rows) + (f"\n\nConsent file to be filled in (--consent FILE):\n\n{consent}" if consent else "")
    output.emit(result, as_json, text)


def slug(spec: str) -> str:
    """A folder name for a judge."""
    import hashlib
    import re

    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.rpartition("/")[2])[-40:].strip("-.")
    return f"{plain or 'judge'}-{hashlib.sha256(spec.encode()).hexdigest()[:6]}"


def done_in(folder: Path) -> int:
    """Results in a run folder, 0 if there is none."""
    from ..judge.journal import scan
    from ..judge.manifest import JOURNAL

    path = folder / JOURNAL
    return len(scan(path).places.get("result", {})) if path.exists() else 0


def score_one(images: Sequence[Path], text: str, context: str, asked: Asked, as_json: bool) -> None:
    from ..judge.backends import open_judge
    from ..judge.score import ask_one

    spec = (asked.judges or ("embedded",))[0]
    if is_remote(spec):
        raise InputError("one case at once is for judges on this machine; a paid answer belongs in a run folder")

    if not text:
        raise InputError("give the narrative with --text (a text, or @FILE)")
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the narrative: {error}") from error
    words = load_rubric(asked.rubric)
    root = Path(images[0]).resolve().parent if images else Path(".")
    if any(path.resolve().parent != root for path in images):
        raise InputError("the pictures of one case lie in one folder")
    case = Case("one", tuple(Image(path.name) for path in images), context=context)
    opened = open_judge(spec, words, critique=asked.critique)
    rating = ask_one(case, Narrative("one", "given", text), words, opened, root, asked.seed)
    result = {
        "judge": opened.name,
        "signature": dict(opened.signature),
        "notes": list(opened.notes),
        "flags": list(rating.flags),
        "scores": {
            name: {"value": s.value, "state": s.state, "reason": s.reason, "distribution": s.distribution}
            for name, s in rating.scores.items()
        },
        "overall": rating.overall,
        "critique": dict(rating.critique),
    }
    output.emit(result, as_json, lambda: _one_text(rating, opened.notes))
    if all(score.value is None for score in rating.scores.values()):
        raise SystemExit(output.INCOMPLETE)


def _one_text(rating: Rating, notes: Sequence[str]) -> str:
    from ..judge.escape import visible

    rows: list[tuple[str, float | None, str, str]] = [
        (name, score.value, score.state if score.value is None else "", score.reason)
        for name, score in rating.scores.items()
    ]
    rows.append(("overall", rating.overall, "" if rating.overall is not None else "not all scored", ""))
    lines = [output.table(rows, ("dimension", "score", "state", "why")), ""]
    lines += [f"{name}: {visible(words)}" for name, words in rating.critique.items()]
    return "\n".join([*lines, *(f"! {flag}" for flag in rating.flags), *notes]).rstrip()
