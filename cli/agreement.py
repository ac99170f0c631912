"""The body of `agree`, and how rating files are read by every verb that takes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ..judge.errors import InputError
from ..judge.rubric import Rubric, load_rubric
from ..judge.tables import read_ratings
from . import output
from .agreement_cases import scores_by, where_label_agrees

MOST_JUDGES = 4  # more are compared in pairs only if they are named


class Asked(NamedTuple):
    """What a person wants of `agree` beside the ratings."""

    judge: str | None
    bench: Path | None
    text_only: str | None
    doses: Path | None
    thresholds: Path | None
    population: str
    by: str
    licence: Path | None
    gate: bool
    everything: bool
    resample_raters: bool
    keep_out_of_range: bool
    target: str
    resamples: int
    seed: int
    where_label_agrees: bool = False
    scores_by: str = ""


def agree_files(
    ratings: Sequence[Path], rubric: str, rater_kind: str | None, columns: dict[str, str], asked: Asked, as_json: bool
) -> None:
    """Print licence, checks and agreement; exit code 5 if a gate is wanted and a judge fails it."""
    words = load_rubric(rubric)
    frame = read_files(ratings, words, columns, rater_kind, off_scale=asked.keep_out_of_range)
    experts = frame.filter(pl.col("rater_kind") == "expert")["score"].is_not_null().any()
    if experts and asked.target != "mean":
        frame = _on_consensus(frame, words, asked)
    if experts:
        result, text, passed = _with_experts(ratings, frame, words, asked)
    elif asked.doses or not (asked.where_label_agrees or asked.scores_by):
        result, text, passed = _without(frame, words, asked)
    else:  # scores of a judge alone
        result, text, passed = {}, [], False
        if asked.where_label_agrees:
            text, result["where_label_agrees"] = where_label_agrees(frame, words.scale.levels, None, asked)
    if asked.scores_by:
        lines, result["scores_by"] = scores_by(frame, asked)
        text += lines
    output.emit(result, as_json, lambda: "\n".join(text))
    if asked.gate and not passed:
        output.say("gate: not every dimension is licensed")
        raise SystemExit(output.GATE)


def votes_files(ratings: Sequence[Path], columns: dict[str, str], asked: Asked, as_json: bool) -> None:
    """Categorical votes instead of scores: no rubric, no licence."""
    from ..evaluators.votes import agree_votes
    from ..evaluators.votes_section import votes_section
    from ..judge.tablefile import read_table, rename

    frames = []
    for path in ratings:
        table = read_table(path)
        table = rename(table, {name: ours for name, ours in columns.items() if name in table.columns})
        frames.append(table.strings())
    frame = pl.concat(frames, how="diagonal")
    found = agree_votes(frame, asked.judge, clusters_of(asked.bench), asked.resamples, asked.seed)
    output.emit(found.to_dict(), as_json, lambda: "\n".join(votes_section(found)))


def _with_experts(
    ratings: Sequence[Path], frame: pl.DataFrame, rubric: Rubric, asked: Asked
) -> tuple[dict[str, Any], list[str], bool]:
    from ..evaluators.agreement import agree
    from ..evaluators.agreement_tables import agreement_tables, alternative_section, rater_level_section
    from ..evaluators.alternative import alternative_test
    from ..evaluators.checks_section import checks_section
    from ..evaluators.comparison_sections import judge_comparison_section
    from ..evaluators.licence_section import licence_section
    from ..judge.escape import visible
    from .learnt import learnt_in_runs, no_licence
    from .reporting import agreement_text

    levels, cluster = rubric.scale.levels, clusters_of(asked.bench)
    found = agree(
        frame, levels, asked.judge, cluster, asked.resamples, asked.seed, resample_raters=asked.resample_raters,
        keep_out_of_range=asked.keep_out_of_range,
    )  # fmt: skip
    names = list(dict.fromkeys(f.judge for f in found.judges))
    result = found.to_dict() | {"licences": [], "alternative_test": {}, "judges_compared": []}
    licensed = [name for name in names if name != asked.text_only]
    if asked.licence and len(licensed) != 1:
        raise InputError(
            f"--licence writes that of one judge; name it with --judge, of {', '.join(licensed) or 'none'}"
        )
    text, after, verdicts = list[str](), list[str](), list[bool]()
    if len(names) > MOST_JUDGES:
        text.append(
            f"{len(names)} judges: no licences and no pairs of more than {MOST_JUDGES}; name one with --judge.\n"
        )
    for name in names if len(names) <= MOST_JUDGES else []:
        cases, of = learnt_in_runs(ratings, name) if name in licensed else (0, 0)
        if cases:
            if asked.licence:
                raise InputError(no_licence(name, cases, of))
            text.append(f"{no_licence(visible(name), cases, of)}.\n")
            verdicts.append(False)
        elif name in licensed:
            page = make_licence(ratings, frame, rubric, name, asked)
            result["licences"].append(page.to_dict())
            text += licence_section(page)
            verdicts.append(page.passed())
            if asked.licence:
                page.save(asked.licence)
        if asked.everything:
            tests = alternative_test(
                frame, levels, name, cluster=cluster, resamples=asked.resamples, seed=asked.seed,
                keep_out_of_range=asked.keep_out_of_range,
            )  # fmt: skip
            result["alternative_test"][name] = [t.to_dict() for t in tests]
            after += alternative_section(name, tests)
    text += [*checks_section(found.checks), agreement_text(found), "", *after, *rater_level_section(found)]
    if asked.by:
        lines, groups = _subgroups(frame, levels, names, asked, cluster)
        result["subgroups"] = groups
        text += lines
    if asked.where_label_agrees:
        lines, result["where_label_agrees"] = where_label_agrees(frame, levels, found, asked)
        text += lines
    compared = _pairs(frame, levels, names, cluster, asked)
    if compared:
        result["judges_compared"] = [c.to_dict() for c in compared]
        text += judge_comparison_section(compared)
    if asked.everything:
        text += [*agreement_tables(found), *_leniency(frame, levels, cluster, asked, result)]
    else:
        text += ["", "Every statistic, and the alternative annotator test in full: --all."]
    return result, text, bool(verdicts) and all(verdicts)  # without a licence no gate opens


def _on_consensus(frame: pl.DataFrame, rubric: Rubric, asked: Asked) -> pl.DataFrame:
    """The judges' ratings beside one consensus of the experts; it has no ceiling, being one rater."""
    from ..evaluators.rater_models import consensus
    from ..judge.ratings import with_schema

    told = consensus(frame, rubric.scale.levels, asked.target, clusters_of(asked.bench))
    return pl.concat([with_schema(frame.filter(pl.col("rater_kind") == "judge")), with_schema(told)])


def _without(frame: pl.DataFrame, rubric: Rubric, asked: Asked) -> tuple[dict[str, Any], list[str], bool]:
    """No expert rated anything: a provisional card from planted faults, or an error that says what to do."""
    if not asked.doses:
        raise InputError(
            "the ratings hold no expert score: agreement needs rater_kind 'expert' (`rate sheet` writes sheets for "
            "experts). Until then, --doses NARRATIVES (of `data faults --graded`) makes a provisional card"
        )
    from ..evaluators.provisional import dose_response, doses_of
    from ..evaluators.provisional_section import provisional_section
    from ..judge.tables import read_narratives

    doses = doses_of(read_narratives(asked.doses), rubric.names)
    if asked.judge:
        frame = frame.filter(pl.col("rater") == asked.judge)
    card = dose_response(
        frame, rubric.scale.levels, doses, clusters_of(asked.bench), resamples=asked.resamples, seed=asked.seed
    )
    return {"provisional": card.to_dict()}, provisional_section(card), False


def make_licence(ratings: Sequence[Path], frame: pl.DataFrame, rubric: Rubric, judge: str, asked: Asked) -> Any:
    """The licence of one judge, with the image probes that lie beside its ratings."""
    from ..evaluators.licence import license_judge
    from ..evaluators.probes import summarise_probes

    cluster, probes = clusters_of(asked.bench), None
    files = [file for path in ratings for file in sorted(path.parent.glob("probe-*.jsonl"))]
    probed = [read_ratings(file, rubric) for file in files]
    probed = [part for part in probed if judge in set(part["rater"])]
    if probed:
        own = frame.filter((pl.col("rater") == judge) & (pl.col("rater_kind") == "judge"))
        mine = pl.concat(probed).filter(pl.col("rater") == judge)
        probes = summarise_probes(own, mine, cluster, rubric.names, resamples=asked.resamples, seed=asked.seed)
    return license_judge(
        frame, rubric.scale.levels, judge, cluster=cluster,
        text_only=asked.text_only if asked.text_only != judge else None, probes=probes, rules=asked.thresholds,
        signature=judge_signature(ratings, judge), rubric=rubric, population=asked.population,
        date=datetime.now(UTC).date().isoformat(), simulated=_simulated(ratings, asked.bench),
        resamples=asked.resamples, seed=asked.seed,
    )  # fmt: skip


def _subgroups(
    frame: pl.DataFrame, levels: Sequence[int], names: Sequence[str], asked: Asked, cluster: Any
) -> tuple[list[str], dict[str, Any]]:
    from ..evaluators.comparison_sections import subgroup_section
    from ..evaluators.subgroups import subgroup_gaps
    from ..judge.benchmark import load_benchmark
    from .evaluating_groups import attributes_of

    if not asked.bench:
        raise InputError("--by needs --bench: age, sex, skin type and the like stand in the cases")
    attributes = attributes_of(load_benchmark(asked.bench).cases, asked.by)
    lines, found = list[str](), dict[str, Any]()
    for name in names:
        gaps = subgroup_gaps(frame, levels, name, attributes, cluster, asked.resamples, asked.seed)
        lines += subgroup_section(gaps)
        found[name] = gaps.to_dict()
    return lines, found


def _leniency(
    frame: pl.DataFrame, levels: Sequence[int], cluster: Any, asked: Asked, result: dict[str, Any]
) -> list[str]:
    """How lenient each expert is, where they have names and share narratives."""
    from ..evaluators.agreement_tables import leniency_table
    from ..evaluators.rater_models import additive_model

    try:
        models = additive_model(frame, levels, cluster, asked.resamples, asked.seed)
    except InputError as error:
        result["rater_bias"] = {"reason": str(error)}
        return []
    result["rater_bias"] = [model.to_dict() for model in models]
    return leniency_table(models)


def _pairs(frame: pl.DataFrame, levels: Sequence[int], names: Sequence[str], cluster: Any, asked: Asked) -> list[Any]:
    from ..evaluators.compare import compare_judges

    chosen = combinations(names, 2) if len(names) <= MOST_JUDGES else []
    return [
        row
        for a, b in chosen
        for row in compare_judges(
            frame, levels, a, b, cluster, asked.resamples, asked.seed, keep_out_of_range=asked.keep_out_of_range
        )
    ]


def clusters_of(bench: Path | None) -> dict[str, str] | None:
    """case_id -> patient of a benchmark folder; None without one."""
    if bench is None:
        return None
    from ..judge.benchmark import load_benchmark
    from .reporting import patients

    return patients(load_benchmark(bench).cases)


def _simulated(ratings: Sequence[Path], bench: Path | None) -> bool:
    """Whether the ratings lie in, or are of, a benchmark that says it is synthetic."""
    from ..judge.benchmark import load_benchmark

    folders = {path.parent for path in ratings if (path.parent / "benchmark.yaml").exists()} | (
        {bench} if bench else set()
    )
    return any(load_benchmark(folder).synthetic for folder in folders)


def read_files(
    ratings: Sequence[Path],
    rubric: Rubric,
    columns: dict[str, str],
    rater_kind: str | None,
    off_scale: bool = False,
) -> pl.DataFrame:
    """The ratings of all files; what was ignored or set aside is said. `off_scale`: such scores stay scores."""
    notes: list[str] = []
    scale, names = (None, rubric.names) if off_scale else (rubric, None)
    frame = read_ratings(list(ratings), scale, columns or None, rater_kind, names, notes)
    for note in notes:
        output.say(note)
    return frame


def judge_signature(ratings: Sequence[Path], judge: str) -> str:
    """What the judge was, as the run folders say that these ratings lie in; "" if none does."""
    from ..judge.manifest import MANIFEST, read_manifest

    found = set()
    for path in ratings:
        if (path.parent / MANIFEST).exists():
            config = read_manifest(path.parent / MANIFEST)["asked"]["config"]
            if config.get("judge") == judge and "judge_signature" in config:
                found.add(config["judge_signature"])
    if len(found) > 1:
        raise InputError(f"ratings of judge '{judge}' come from runs with different signatures ({', '.join(found)})")
    return found.pop() if found else ""
