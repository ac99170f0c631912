"""The verbs about experts (`agree`, `calibrate`, `rate ...`): a thin command each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Config, Folder, Json, Map, RubricName, Seed, pairs

rate_app = typer.Typer(no_args_is_help=True, help="Collect blinded expert ratings.")


def agree(
    ratings: Annotated[list[Path], typer.Argument(help="Ratings of experts and judges (.jsonl, .csv, .parquet).")],
    judge: Annotated[str | None, typer.Option(help="One judge; default all.")] = None,
    rubric: RubricName = "derm6",
    bench: Annotated[Path | None, typer.Option(help="Benchmark, for the patients that cases belong to.")] = None,
    text_only: Annotated[str | None, typer.Option(help="A judge in the ratings that sees no picture.")] = None,
    by: Annotated[str, typer.Option(help="Errors by subgroup: fitzpatrick,age,sex,site,... a tag, or all.")] = "",
    scores_by: Annotated[str, typer.Option(help="A judge's scores by subgroup; needs no expert.")] = "",
    where_label_agrees: Annotated[
        bool,
        typer.Option("--where-label-agrees", help="Also on the cases whose reference concludes with their label."),
    ] = False,
    thresholds: Annotated[Path | None, typer.Option(help="Own licence thresholds (.yaml).")] = None,
    population: Annotated[str, typer.Option(help="Whose cases these are; goes onto the licence.")] = "",
    licence: Annotated[Path | None, typer.Option(help="Write the judge's licence here (.json).")] = None,
    gate: Annotated[bool, typer.Option("--gate", help="Exit with 5 unless every dimension is licensed.")] = False,
    doses: Annotated[
        Path | None, typer.Option(help="Without experts: narratives with graded faults, for a provisional card.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print every statistic.")] = False,
    votes: Annotated[bool, typer.Option("--votes", help="The tables hold votes (A, B, tie ...), not scores.")] = False,
    other_experts: Annotated[
        bool, typer.Option("--other-experts", help="Also intervals for other experts like these.")
    ] = False,
    keep_out_of_range: Annotated[
        bool, typer.Option("--keep-out-of-range", help="Use scores off the scale, to reproduce a publication.")
    ] = False,
    target: Annotated[
        str, typer.Option(help="Of the experts: mean, or one consensus: median, additive, dawid-skene.")
    ] = "mean",
    resamples: Annotated[int, typer.Option(min=100)] = 2000,
    rater_kind: Annotated[str | None, typer.Option(help="expert or judge, where the files do not say.")] = None,
    seed: Seed = 0,
    column_map: Map = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Judge beside experts: licence, data checks, agreement with intervals, constant predictor, expert ceiling."""
    from .agreement import Asked, agree_files, votes_files

    asked = Asked(
        judge, bench, text_only, doses, thresholds, population, by, licence, gate, everything, other_experts,
        keep_out_of_range, target, resamples, seed, where_label_agrees, scores_by,
    )  # fmt: skip
    if votes:
        votes_files(ratings, pairs(column_map), asked, as_json)
    else:
        agree_files(ratings, rubric, rater_kind, pairs(column_map), asked, as_json)


def calibrate(
    ratings: Annotated[list[Path], typer.Argument(help="Ratings of experts and the judge.")],
    judge: Annotated[str, typer.Option(help="The judge to calibrate.")],
    out: Annotated[Path, typer.Option("--out", help="Calibration to write (.json).")] = Path("calibration.json"),
    rubric: RubricName = "derm6",
    bench: Annotated[Path | None, typer.Option(help="Benchmark, for the patients that cases belong to.")] = None,
    method: Annotated[str, typer.Option(help="auto, cv, shift, linear, isotonic or ordinal.")] = "auto",
    coverage: Annotated[float, typer.Option(min=0.5, max=0.99, help="Of the interval round every score.")] = 0.9,
    intervals_by: Annotated[
        str, typer.Option(help="Intervals with quantiles of their own per group: fitzpatrick, age, site ... or a tag.")
    ] = "",
    population: Annotated[str, typer.Option(help="Whose cases these are; goes into the file.")] = "",
    rater_kind: Annotated[str | None, typer.Option(help="expert or judge, where the files do not say.")] = None,
    seed: Seed = 0,
    column_map: Map = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """From judge scores to the experts' scale, per dimension; before and after on unseen cases."""
    from .calibration import calibrate_files

    calibrate_files(
        ratings, judge, out, rubric, bench, method, coverage, population, rater_kind, seed, pairs(column_map), as_json,
        intervals_by,
    )  # fmt: skip


def plan(
    ratings: Annotated[list[Path], typer.Argument(help="A pilot: ratings of experts and the judge.")],
    judge: Annotated[str, typer.Option(help="The judge.")],
    statistic: Annotated[
        str, typer.Option(help="bias, mae, spearman, icc_a1, qwk, judge_minus_expert.mae, alpha (experts) ...")
    ] = "mae",
    width: Annotated[float, typer.Option(min=0.001, help="Wanted half-width of the 95 % interval.")] = 0.1,
    systems: Annotated[str, typer.Option(help="Narratives per case to compare, such as 1,2,4.")] = "",
    raters: Annotated[str, typer.Option(help="Experts per narrative to compare, such as 2,3.")] = "",
    next_n: Annotated[int | None, typer.Option("--next", min=1, help="Instead: which N cases to rate next.")] = None,
    next_out: Annotated[Path | None, typer.Option("--out", help="With --next: write them (.csv, .jsonl).")] = None,
    rubric: RubricName = "derm6",
    bench: Annotated[Path | None, typer.Option(help="Benchmark, for the patients that cases belong to.")] = None,
    rater_kind: Annotated[str | None, typer.Option(help="expert or judge, where the files do not say.")] = None,
    seed: Seed = 0,
    column_map: Map = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """How many cases experts must rate for a wanted precision, by simulation from a pilot; or which ones next."""
    from .planning import plan_files

    plan_files(
        ratings,
        judge,
        statistic,
        width,
        systems,
        raters,
        next_n,
        next_out,
        rubric,
        bench,
        rater_kind,
        seed,
        pairs(column_map),
        as_json,
    )


@rate_app.command("sheet")
def rate_sheet(
    bench: Annotated[Path, typer.Argument(help="Benchmark folder.")],
    narratives: Annotated[Path | None, typer.Argument(help="Narratives; default: those of the benchmark.")] = None,
    rubric: RubricName = "derm6",
    raters: Annotated[int, typer.Option(min=1, help="How many experts.")] = 3,
    overlap: Annotated[float, typer.Option(min=0, max=1, help="Share of narratives that every expert rates.")] = 0.3,
    repeats: Annotated[float, typer.Option(min=0, max=1, help="Share that comes again, hidden.")] = 0.1,
    out: Folder = Path("sheets"),
    seed: Seed = 0,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """A blinded sheet per expert (CSV to fill in, HTML to read along) and a key that no rater may see."""
    from .rating import write_sheets

    write_sheets(bench, narratives, rubric, raters, overlap, repeats, out, seed, as_json)


@rate_app.command("collect")
def rate_collect(
    folder: Annotated[Path, typer.Argument(help="Folder of `rate sheet`, with the sheets filled in.")],
    out: Annotated[Path, typer.Option("--out", help="Ratings to write.")] = Path("ratings.parquet"),
    as_json: Json = False,
) -> None:
    """Read filled sheets back into ratings, with each expert's agreement with themselves."""
    from .rating import collect_sheets

    collect_sheets(folder, out, as_json)
