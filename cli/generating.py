"""The body of `generate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..judge.errors import InputError
from ..judge.records import Case
from . import output
from .options import pairs
from .remote import without_private_words

if TYPE_CHECKING:
    from ..benchmarks.systems import Asking, System


class Options(NamedTuple):
    """What `generate` was told, as the command line gives it."""

    candidates: Sequence[str]
    out: Path
    arms: str = "image_only"
    samples: int = 1
    prompt: str = ""
    structured: bool = False
    settings: Sequence[str] = ()
    max_images: Sequence[str] = ()
    over_images: str = "skip"
    max_side: int = 1568
    quality: int = 85
    split: str = ""
    limit: int | None = None
    retry: str = "api_error"
    allow_remote: Sequence[str] = ()
    consent: Sequence[Path] = ()
    private_words: str = "refuse"
    prices: Path | None = None
    max_calls: int | None = None
    max_tokens: int | None = None
    max_money: float | None = None
    concurrency: int = 32
    rpm: float | None = None
    tpm: float | None = None
    timeout: float = 300.0
    proxy: str | None = None
    ca_file: Path | None = None
    any_model: bool = False
    allow_alias: bool = False
    batch_size: int = 8
    top: int = 5
    seed: int = 0
    dry_run: bool = False
    as_json: bool = False


def generate_narratives(bench: Path, options: Options) -> None:
    """Check, ask, write; or say what would be asked. Ends with INCOMPLETE if a narrative is still to be had."""
    from ..benchmarks.arms import WITH_CONTEXT, WITH_PICTURES, check_arms
    from ..benchmarks.candidate_prompts import CandidatePrompt
    from ..benchmarks.candidates import Limits, generate
    from ..benchmarks.estimates import estimate_run
    from ..benchmarks.open_systems import hosts_of
    from ..benchmarks.written import STATES
    from ..judge.benchmark import load_benchmark
    from ..judge.calls import consent, guard

    arms = check_arms(_names(options.arms))
    retry = _names(options.retry)
    if wrong := [state for state in retry if state not in STATES]:
        raise InputError(f"--retry: unknown state '{wrong[0]}'; there are {', '.join(STATES)}")
    benchmark = load_benchmark(bench)
    cases: Sequence[Case] = benchmark.select(options.split) if options.split else benchmark.cases
    cases = cases[: options.limit]
    prompt = CandidatePrompt(options.prompt or ("structured" if options.structured else "narrative"))
    systems = _systems(options, arms[0])
    hosts = [*hosts_of(options.candidates), *([str(guard.url_host(options.proxy))] if options.proxy else [])]
    remote = [host for host in hosts if not guard.is_loopback(guard.host(host).name)]
    words: Mapping[str, str] = {}
    if remote and set(arms) & WITH_CONTEXT:
        cases, _, words = without_private_words(cases, (), options.private_words)
    data = consent.data_hash(cases, root=benchmark.root if set(arms) & WITH_PICTURES else None) if remote else ""
    how = {"root": benchmark.root, "arms": arms, "samples": options.samples, "prompt": prompt,
           "structured": options.structured, "seed": options.seed, "retry": retry}  # fmt: skip
    if options.dry_run:
        rows = estimate_run(cases, systems, options.out, **how)  # type: ignore[arg-type]
        return _say_plan(rows, remote, data, options.as_json)
    named = {guard.host(name).name for name in options.allow_remote}
    if missing := [host for host in remote if guard.host(host).name not in named]:
        raise InputError(f"{missing[0]} is not this machine; name it with --allow-remote {guard.host(missing[0]).name} "
                         "and give a consent file (--consent FILE); --dry-run prints one to fill in")  # fmt: skip
    guard.quiet_environment()
    guard.allow(options.allow_remote)
    allowed = consent.require(remote, list(options.consent), data)
    limits = Limits(options.max_calls, options.max_tokens, options.max_money)
    with output.progress("generating") as tick:
        done = generate(cases, systems, options.out, **how, limits=limits, progress=tick,  # type: ignore[arg-type]
                        config={"benchmark": f"{benchmark.name}@{benchmark.version}", "limited": options.limit,
                                "split": options.split},
                        info={"consent": allowed, "allow_remote": list(options.allow_remote)})  # fmt: skip
    if words:
        from ..judge.run import add_exports
        from ..judge.tablefile import dump_json

        add_exports(done.folder, {"redactions.json": dump_json(dict(words)) + "\n"})
    for name, why in done.stopped.items():
        output.say(f"{name} was ended early: {why}")
    result = {**done._asdict(), "folder": str(done.folder), "narratives": str(done.folder / "narratives.jsonl")}
    output.emit(result, options.as_json, lambda: _text(result))
    if not done.complete:
        raise SystemExit(output.INCOMPLETE)


def _systems(options: Options, arm: str) -> list[System]:
    from ..benchmarks.open_systems import make_systems
    from ..judge.calls.prices import read_prices

    route: dict[str, Any] = {"proxy": options.proxy, "ca_file": str(options.ca_file) if options.ca_file else None,
                             "timeout": options.timeout, "allow_alias": options.allow_alias}  # fmt: skip
    if options.any_model:
        route["expect_model"] = None
    return make_systems(
        options.candidates,
        asking=_asking(options),
        in_flight=options.concurrency,
        requests_per_minute=options.rpm,
        tokens_per_minute=options.tpm,
        prices=read_prices(options.prices) if options.prices else None,
        route=route,
        batch_size=options.batch_size,
        arm=arm,
        top=options.top,
    )


def _asking(options: Options) -> dict[str, Asking]:
    """Settings for all candidates, and image budgets by name: "8" for all, "NAME=4" for one."""
    from ..benchmarks.systems import Asking
    from ..judge.calls.pictures import PictureSettings
    from ..judge.tablefile import parse_json

    settings: dict[str, Any] = {}
    for name, text in pairs(list(options.settings)).items():
        try:
            settings[name] = parse_json(text)
        except ValueError:
            settings[name] = text
    asking = Asking(settings, None, options.over_images, PictureSettings(options.max_side, options.quality))  # type: ignore[arg-type]
    found = {"": asking}
    for given in options.max_images:
        name, _, number = given.rpartition("=")
        if not number.isascii() or not number.isdigit():
            raise InputError(f"--max-images takes a number, or NAME=NUMBER for one candidate, not '{given}'")
        found[name] = replace(asking, max_images=int(number))
    return found


def _say_plan(rows: list[dict[str, Any]], remote: Sequence[str], data: str, as_json: bool) -> None:
    from ..judge.calls import consent

    result: dict[str, Any] = {"candidates": rows}
    if remote:
        result |= {"hosts": list(remote), "data": data, "consent": consent.template(remote, data)}

    def text() -> str:
        header = ("candidate", "planned", "done", "skipped", "calls", "pictures", "input_tokens", "output_tokens")
        lines = [[*(row[name] for name in header), _cost(row["cost"])] for row in rows]
        lines_text = output.table(lines, (*header, "cost"))
        return f"{lines_text}\n\n{result['consent']}" if remote else lines_text

    output.emit(result, as_json, text)


def _text(result: Mapping[str, Any]) -> str:
    rows = []
    for name, states in result["states"].items():
        spent = result["spent"][name]
        said = ", ".join(f"{count} {state}" for state, count in states.items()) or "nothing yet"
        rows.append((name, said, spent["calls"], spent["tokens"], _cost(spent["money"])))
    lines = output.table(rows, ("candidate", "narratives", "calls", "tokens", "cost"))
    missing = f", {result['missing']} still to be asked" if result["missing"] else ""
    return f"{lines}\n{result['planned']} planned{missing}. Written: {result['narratives']}"


def _cost(money: float | None) -> str:
    return "unknown" if money is None else f"{money:.4f}"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
