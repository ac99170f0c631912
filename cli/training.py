"""The bodies of `train` and `figures`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..judge.errors import InputError, MissingExtra
from ..training.card import span
from . import output


def train_recipe(
    recipe: str,
    out: Path,
    data: Path | None,
    not_in: Sequence[Path],
    allow_overlap: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    from ..judge.benchmark import load_benchmark
    from ..training.config import load_recipe
    from ..training.examples import counted_text
    from .held_apart import check_held_apart

    plan = load_recipe(find_recipe(recipe))
    folder = data or (Path(plan.data.folder) if plan.data.folder else None)
    if dry_run:
        stages = {"sft": plan.sft.model_dump()}
        if plan.pretraining:
            stages |= {k: getattr(plan.pretraining, k).model_dump() for k in ("attributes", "claims", "narratives")}
        if plan.label_claims:
            stages["label_claims"] = plan.label_claims.model_dump()
        where = str(folder) if folder else f"synthetic, {plan.data.synthetic_cases} cases"
        way = {"base": plan.base, **({"start": plan.start} if plan.start else {}), "objective": plan.objective}
        result = {"recipe": plan.name, **way, "order": plan.order, "data": where, "stages": stages,
                  "text_only": plan.text_only, "out": str(out)}  # fmt: skip
        if folder:
            result["learnt_from"] = counted_text(_counted(plan, folder))
        for held in not_in:
            load_benchmark(held)
        if plan.base != "pretrained":
            result["memory"] = _memory(plan)
        return output.emit(result, as_json, lambda: "\n".join(f"{k}: {v}" for k, v in result.items()))
    try:
        from ..training.processes import is_main, main_first
        from ..training.train import train
    except ImportError as error:  # pragma: no cover
        raise MissingExtra("training", "train") from error
    with main_first():
        bench = benchmark_of(plan, data, out)
        apart = check_held_apart(bench, plan, not_in, allow_overlap)
    try:
        done = train(plan, bench, out, teller() if is_main() else None, held_apart=apart)
    except KeyboardInterrupt:
        if plan.save_every:
            raise
        output.say("stopped; the steps of this adapter are lost (save_every in the recipe keeps checkpoints)")
        raise SystemExit(130) from None
    if not is_main():
        return
    result = {
        "base": str(done.base),
        "judge": str(done.judge),
        "text_only": str(done.text_only or ""),
        "learnt_from": done.counted,
        "seconds": {k: {"wall": w, "cpu": c} for k, (w, c) in done.seconds.items()},
    }
    output.emit(result, as_json, lambda: _trained_text(result, _next(plan, load_benchmark(bench))))


def _counted(plan: Any, folder: Path) -> dict[str, Any]:
    """What would be learnt from, read as training reads it."""
    from ..judge.rubric import load_rubric
    from ..training.examples import count_examples, read_rated

    rubric = load_rubric(plan.rubric)
    found = read_rated(plan.data, folder, rubric)
    return count_examples(found.examples, found.ratings, found.benchmark.cases, rubric, plan.data.split)


def _memory(plan: Any) -> str:
    """What training will need, by rule, or why that cannot be said."""
    try:
        from ..training.memory import estimate
        from ..training.own_base import named_base

        return str(estimate(named_base(plan.base), plan))
    except ImportError as error:  # pragma: no cover
        raise MissingExtra("training", "train") from error
    except InputError as error:
        return f"not known: {error}"


def benchmark_of(plan: Any, data: Path | None, out: Path) -> Path:
    """The benchmark folder to train on: the given one, the recipe's, or the synthetic one that the recipe wants."""
    if data or plan.data.folder:
        return data or Path(plan.data.folder)
    if not plan.data.synthetic_cases:
        raise InputError(f"recipe {plan.name}: data names neither a folder nor synthetic_cases; or give --data")
    return synthetic_data(plan.data, out / "data")


def synthetic_data(data: Any, folder: Path) -> Path:
    """The recipe's synthetic benchmark, made unless it is there; InputError if another one is there."""
    from ..benchmarks.synthetic import generate, version
    from ..judge.benchmark import load_benchmark

    if not (folder / "benchmark.yaml").exists():
        output.say(f"generating {data.synthetic_cases} synthetic cases in {folder}")
        generate(folder, data.synthetic_cases, data.synthetic_seed, data.counterfactuals, data.panel_seed, data.anchors)
    there = load_benchmark(folder)
    wanted = version(data.synthetic_seed, data.counterfactuals, data.panel_seed, data.anchors)
    if (there.version, len(there.cases)) != (wanted, data.synthetic_cases):
        raise InputError(
            f"{folder} holds {len(there.cases)} cases of version {there.version}, the recipe wants "
            f"{data.synthetic_cases} of {wanted}; remove it or name another --out"
        )
    return folder


def _next(plan: Any, bench: Any) -> str:
    """What to do with a judge: score cases it never saw; "" where the data were rendered, as those of `figures` are."""
    if any("attributes" in case.tags for case in bench.cases):
        return ""
    unseen = [
        split for split in ("test", *sorted(bench.splits)) if bench.splits.get(split) and split != plan.data.split
    ]
    chosen = f" --split {shlex.quote(unseen[0])}" if plan.data.split and unseen else ""
    table = bench.root / plan.data.narratives
    return f"score {shlex.quote(str(bench.root))} {shlex.quote(str(table))}{chosen} --judge"


def _trained_text(result: dict[str, Any], scoring: str) -> str:
    from ..training.examples import counted_text

    rows = [(stage, seconds["wall"], seconds["cpu"]) for stage, seconds in result["seconds"].items()]
    spec = f"local:{result['base']}+{result['judge']}"
    blind = f" --text-only local:{result['base']}+{result['text_only']}" if result["text_only"] else ""
    stages = output.table(rows, ("stage", "wall s", "CPU s"))
    after = f"{scoring} {spec}" if scoring else f"figures {spec}{blind}"
    learnt = counted_text(result["learnt_from"])
    return f"{stages}\n\nlearnt from {learnt}\nscore with: --judge {spec}\nnext: dermjudge {after}"


def print_figures(judge: str, text_only: str | None, cases: int, seed: int, card: Path | None, as_json: bool) -> None:
    from ..benchmarks.figures import figures, targets
    from ..judge.backends import open_judge
    from ..judge.rubric import load_rubric

    rubric = load_rubric("derm6")
    opened = open_judge(judge, rubric)
    trained = getattr(opened, "card", {}).get("recipe", {}).get("data", {})
    if trained.get("synthetic_cases") and trained.get("synthetic_seed") == seed:
        raise InputError(f"seed {seed} made this judge's training data; name another with --seed")
    if text_only is None and judge == "embedded":
        text_only = "embedded-text-only"
    blind = open_judge(text_only, rubric) if text_only else None
    if blind and not getattr(blind, "blind", False):
        raise InputError(f"{text_only} was not trained without pictures; --text-only takes a text-only judge")
    if blind and blind.signature.get("base") != opened.signature.get("base"):
        raise InputError(f"{text_only} stands on another base than {judge}; compare judges of one recipe")
    # A judge that runs here writes on demand; one behind an API has written, and is not paid twice.
    writer = opened.writing() if hasattr(opened, "writing") and not getattr(opened, "critique", True) else None
    with output.progress("scoring") as tick:
        found = figures(opened, blind, rubric, cases, seed, tick, writer)
    found["targets"] = targets(found)
    if card:
        from ..training.card import update_card

        update_card(card, {"figures": json.loads(json.dumps(found))})
    output.emit(found, as_json, lambda: _figures_text(found))


def _figures_text(found: dict[str, Any]) -> str:
    rows = [
        (
            name,
            d["n"],
            span(d.get("mae_judge")),
            span(d.get("mae_constant")),
            span(d.get("mae_text_only")),
            span(d.get("mae_truth")),
            span(d.get("ratio_constant")),
            d.get("spearman_experts"),
            d.get("swap", {}).get("mean_absolute_change"),
            d.get("swap", {}).get("correlation_with_truth"),
        )
        for name, d in found["dimensions"].items()
    ]
    head = (
        *("dimension", "n", "MAE judge", "MAE constant", "MAE text-only", "MAE to the truth", "judge / constant"),
        *("Spearman", "swap |change|", "swap corr."),
    )
    critiques = f"{output.table(_critique_rows(found), CRITIQUES)}\n\n" if "critiques" in found else ""
    aims = [(t["figure"], t["value"], t["target"], "yes" if t["met"] else "NO") for t in found["targets"]]
    return (
        f"SYNTHETIC: {found['narratives']} narratives of {found['patients']} patients the judge never saw "
        f"(seed {found['seed']}); "
        "against the mean of three simulated experts, 95 % intervals by patient\n\n"
        f"{output.table(rows, head)}\n\n{critiques}"
        f"{output.table(aims, ('figure', 'value', 'target', 'met'))}"
    )


CRITIQUES = ("critique", "planted", "named", "claims", "false", "agrees with the score", "faults and points, Spearman")


def _critique_rows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Per dimension and over all: how many planted faults there are, the share named, how many claims, false ones."""
    parts = found["critiques"]
    return [
        (name, d["named"]["n"], span(d["named"]), d["false"]["n"], span(d["false"]), span(d["agrees"]),
         span(d["spearman"]))
        for name, d in {**parts["dimensions"], "all": parts["whole"]}.items()
    ]  # fmt: skip


def find_recipe(recipe: str) -> Path:
    """Path of a recipe, shipped (by name) or not."""
    shipped = files("dermjudge.training.recipes")
    if not recipe.endswith((".yaml", ".yml")):
        known = sorted(f.name.removesuffix(".yaml") for f in shipped.iterdir() if f.name.endswith(".yaml"))
        if recipe not in known:
            raise InputError(f"unknown recipe '{recipe}'; shipped: {', '.join(known)}, or a path to a .yaml")
        return Path(str(shipped.joinpath(f"{recipe}.yaml")))
    return Path(recipe)


def teller() -> Any:
    """A line every so often per stage; a bar would hide how the figures move."""
    import time

    last = {"at": 0.0}

    def tell(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        if step == steps or time.monotonic() - last["at"] > 20:
            last["at"] = time.monotonic()
            output.say(f"{stage} {step}/{steps}  " + "  ".join(f"{k} {v:.2f}" for k, v in figures.items()))

    return tell
