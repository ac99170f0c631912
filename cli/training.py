"""The bodies of `train` and `figures`."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..judge.errors import InputError, MissingExtra
from . import output


def train_recipe(recipe: str, out: Path, data: Path | None, dry_run: bool, as_json: bool) -> None:
    from ..training.config import load_recipe

    path = _find(recipe)
    plan = load_recipe(path)
    folder = data or (Path(plan.data.folder) if plan.data.folder else None)
    if folder is None and not plan.data.synthetic_cases:
        raise InputError(f"{path}: data names neither a folder nor synthetic_cases; or give --data")
    if dry_run:
        stages = {"sft": plan.sft.model_dump()}
        if plan.pretraining:
            stages |= {k: getattr(plan.pretraining, k).model_dump() for k in ("attributes", "claims", "narratives")}
        where = str(folder) if folder else f"synthetic, {plan.data.synthetic_cases} cases"
        result = {"recipe": plan.name, "data": where, "stages": stages, "text_only": plan.text_only, "out": str(out)}
        return output.emit(result, as_json, lambda: "\n".join(f"{k}: {v}" for k, v in result.items()))
    try:
        from ..training.train import train
    except ImportError as error:  # pragma: no cover
        raise MissingExtra("training", "local") from error
    if folder is None:
        folder = out / "data"
        if not (folder / "benchmark.yaml").exists():
            from ..benchmarks.synthetic import generate

            output.say(f"generating {plan.data.synthetic_cases} synthetic cases in {folder}")
            generate(folder, plan.data.synthetic_cases, plan.data.synthetic_seed, plan.data.counterfactuals)
    done = train(plan, folder, out, _teller())
    result = {
        "base": str(done.base),
        "judge": str(done.judge),
        "text_only": str(done.text_only or ""),
        "seconds": {k: {"wall": w, "cpu": c} for k, (w, c) in done.seconds.items()},
    }
    output.emit(result, as_json, lambda: _trained_text(result))


def _trained_text(result: dict[str, Any]) -> str:
    rows = [(stage, seconds["wall"], seconds["cpu"]) for stage, seconds in result["seconds"].items()]
    spec = f"local:{result['base']}+{result['judge']}"
    stages = output.table(rows, ("stage", "wall s", "CPU s"))
    return f"{stages}\n\nscore with: --judge {spec}\nnext: dermjudge figures {spec}"


def print_figures(judge: str, text_only: str, cases: int, seed: int, card: Path | None, as_json: bool) -> None:
    from ..benchmarks.figures import figures, targets
    from ..judge.backends import open_judge
    from ..judge.rubric import load_rubric

    rubric = load_rubric("derm6")
    with output.progress("scoring") as tick:
        found = figures(
            open_judge(judge, rubric), open_judge(text_only, rubric) if text_only else None, rubric, cases, seed, tick
        )
    found["targets"] = targets(found)
    if card:
        from ..training.card import update_card

        update_card(card, {"figures": json.loads(json.dumps(found))})
    output.emit(found, as_json, lambda: _figures_text(found))


def _figures_text(found: dict[str, Any]) -> str:
    def span(entry: dict[str, Any] | None) -> str:
        return "–" if entry is None else f"{entry['value']:.2f} [{entry['low']:.2f}, {entry['high']:.2f}]"

    rows = [
        (
            name,
            d["n"],
            span(d["mae_judge"]),
            span(d["mae_constant"]),
            span(d.get("mae_text_only")),
            span(d["ratio_constant"]),
            d["spearman_experts"],
            d["swap"]["mean_absolute_change"],
            d["swap"].get("correlation_with_truth"),
        )
        for name, d in found["dimensions"].items()
    ]
    head = (
        "dimension",
        "n",
        "MAE judge",
        "MAE constant",
        "MAE text-only",
        "judge / constant",
        "Spearman",
        "swap |change|",
        "swap corr.",
    )
    aims = [(t["figure"], t["value"], t["target"], "yes" if t["met"] else "NO") for t in found["targets"]]
    return (
        f"SYNTHETIC: {found['narratives']} narratives of {found['patients']} patients the judge never saw "
        f"(seed {found['seed']}); "
        "against the mean of three simulated experts, 95 % intervals by patient\n\n"
        f"{output.table(rows, head)}\n\n{output.table(aims, ('figure', 'value', 'target', 'met'))}"
    )


def _find(recipe: str) -> Path:
    shipped = files("dermjudge.training.recipes")
    if not recipe.endswith((".yaml", ".yml")):
        known = sorted(f.name.removesuffix(".yaml") for f in shipped.iterdir() if f.name.endswith(".yaml"))
        if recipe not in known:
            raise InputError(f"unknown recipe '{recipe}'; shipped: {', '.join(known)}, or a path to a .yaml")
        return Path(str(shipped.joinpath(f"{recipe}.yaml")))
    return Path(recipe)


def _teller() -> Any:
    """A line every so often per stage; a bar would hide how the figures move."""
    import time

    last = {"at": 0.0}

    def tell(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        if step == steps or time.monotonic() - last["at"] > 20:
            last["at"] = time.monotonic()
            output.say(f"{stage} {step}/{steps}  " + "  ".join(f"{k} {v:.2f}" for k, v in figures.items()))

    return tell
