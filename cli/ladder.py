"""The body of `ladder`: train every rung over several seeds, score one benchmark with each, and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ..judge.errors import InputError
from ..judge.ratings import with_schema
from ..judge.rubric import Rubric, load_rubric
from ..judge.tables import RATINGS_SCHEMA, read_ratings
from . import output
from .training import benchmark_of, find_recipe, teller

SEEDS = 3


def run_ladder(
    recipe: str,
    out: Path,
    data: Path | None,
    cases: int,
    test_seed: int,
    seeds: int,
    only: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write `out`/RUNG-SEED (adapter, run folder) and ladder.json; what is there already is taken up.

    `only`: rungs, comma-separated; those that they go on from are added.
    """
    from ..evaluators.ladder import ladder
    from ..evaluators.ladder_section import ladder_section
    from ..training.config import load_recipe
    from ..training.rungs import some_rungs

    plan = load_recipe(find_recipe(recipe))
    if plan.pretraining or plan.label_claims:
        raise InputError(f"recipe {plan.name} builds its own base; the ladder compares adapters on one base")
    rungs = some_rungs(plan, [name.strip() for name in only.split(",") if name.strip()])
    if dry_run:
        steps = sum(rung.recipe(plan, 0).sft.steps for rung in rungs if rung.labels != 0) * seeds
        result = {"recipe": plan.name, "rungs": [r.name for r in rungs], "seeds": seeds, "steps": steps,
                  "batch": plan.sft.batch, "test cases": cases, "out": str(out)}  # fmt: skip
        return output.emit(result, as_json, lambda: "\n".join(f"{k}: {v}" for k, v in result.items()))
    rubric = load_rubric(plan.rubric)
    folder = benchmark_of(plan, data, out)
    test = _test_benchmark(out / "test", cases, test_seed, plan.data)
    frames, seconds, scored = _judged(plan, rungs, rubric, folder, test, out, seeds)
    experts = read_ratings(test / "ratings.parquet", rubric).select(list(RATINGS_SCHEMA))
    there = {"length-only", *(rung.name for rung in rungs)}
    below = {"length-only": ()} | {rung.name: tuple(o for o in rung.below if o in there) for rung in rungs}
    found = ladder(pl.concat([experts, *frames]), rubric.scale.levels, below, _patients(test))
    result = found.to_dict() | {"synthetic": True, "recipe": plan.model_dump(mode="json"), "seconds": seconds,
                                "scored": scored}  # fmt: skip
    from .reporting import to_json

    (out / "ladder.json").write_text(to_json(result) + "\n", "utf-8")
    lines = ladder_section(found, seconds, scored)
    output.emit(result, as_json, lambda: "\n".join(["SYNTHETIC: simulated experts, rendered lesions.", "", *lines]))


def _judged(
    plan: Any, rungs: Sequence[Any], rubric: Rubric, folder: Path, test: Path, out: Path, seeds: int
) -> tuple[list[pl.DataFrame], dict[str, list[float]], dict[str, float]]:
    """Ratings of every rung and seed on the test benchmark, under the name RUNG#SEED; CPU seconds of training; the
    share of scores of which a run would have said that they are scores."""
    from ..judge.backends import open_judge
    from ..judge.benchmark import load_benchmark
    from ..judge.score import score
    from ..judge.tables import read_narratives
    from ..training.rung_training import prepare_data, train_rung
    from ..training.rungs import length_only
    from ..training.sft import start_folder

    material = prepare_data(plan, folder, rubric)
    shown, texts = load_benchmark(test), read_narratives(test / "narratives.jsonl")
    frames = [_length_frame(length_only(material.examples, [n.judged for n in texts]), texts, rubric)]
    seconds: dict[str, list[float]] = {}
    scored: dict[str, list[float]] = {}
    for seed in range(seeds):
        for rung in rungs:
            start = out / f"{rung.start}-{seed}" / "judge" if rung.start else None
            home = out / f"{rung.name.replace(' ', '-')}-{seed}"
            wanted, adapter = rung.recipe(plan, seed, start), home / "judge"
            if rung.labels == 0:
                adapter, cost = start_folder(plan) or adapter, 0.0
            else:
                cost = train_rung(wanted, material, adapter, blind=rung.blind, labels=rung.labels, progress=teller())
            seconds.setdefault(rung.name, []).append(cost)
            judge = open_judge(f"local:{material.base}+{adapter}", rubric)
            with output.progress(f"scoring with {rung.name}, seed {seed}") as tick:
                score(shown.cases, texts, rubric, judge, home / "run", root=shown.root, progress=tick)
            frame = read_ratings(home / "run" / "ratings.jsonl", rubric).select(list(RATINGS_SCHEMA))
            scored.setdefault(rung.name, []).append(int(frame["score"].is_not_null().sum()) / max(1, len(frame)))
            frames.append(_expected(frame, rubric).with_columns(pl.lit(f"{rung.name}#{seed}").alias("rater")))
    return frames, seconds, {name: sum(shares) / len(shares) for name, shares in scored.items()}


def _expected(frame: pl.DataFrame, rubric: Rubric) -> pl.DataFrame:
    """Where too little of the probability lay on the scale for a score, the expected value over the levels all the
    same: recipes are compared on all narratives, not on those that every seed of every rung is sure to score."""
    levels = pl.lit(rubric.scale.levels, dtype=pl.List(pl.Float64))
    value = (pl.col("distribution").cast(pl.List(pl.Float64)) * levels).list.sum()
    off = pl.col("score").is_null() & pl.col("distribution").is_not_null()
    return frame.with_columns(
        pl.when(off).then(value).otherwise(pl.col("score")).alias("score"),
        pl.when(off).then(pl.lit("scored")).otherwise(pl.col("state")).alias("state"),
    )


def _length_frame(scores: Any, texts: Any, rubric: Rubric) -> pl.DataFrame:
    rows = [
        {"case_id": n.case_id, "system": n.system, "arm": n.arm, "sample": n.sample, "rater": "length-only#0",
         "rater_kind": "judge", "dimension": name, "score": float(value)}
        for n, row in zip(texts, scores, strict=True)
        for name, value in zip(rubric.names, row, strict=True)
    ]  # fmt: skip
    frame = pl.DataFrame(rows)
    low, high = rubric.scale.levels[0], rubric.scale.levels[-1]
    frame = frame.with_columns(pl.col("score").clip(low, high), pl.lit("scored").alias("state"))
    return with_schema(frame)


def _test_benchmark(folder: Path, cases: int, seed: int, data: Any) -> Path:
    """Fresh cases, rated by the panel that rated the training data."""
    from ..benchmarks.synthetic import generate

    if seed == data.synthetic_seed:
        raise InputError(f"seed {seed} makes the training data; name another with --test-seed")
    if not (folder / "benchmark.yaml").exists():
        generate(folder, cases, seed, 0.0, data.panel_seed, data.anchors)
    return folder


def _patients(folder: Path) -> dict[str, str]:
    from ..judge.benchmark import load_benchmark
    from .reporting import patients

    return patients(load_benchmark(folder).cases)
