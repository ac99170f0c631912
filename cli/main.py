"""The whole program on one page: a thin command per verb. Each body imports what it calls, so --help stays fast."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..judge.errors import BusyError, InputError, MissingExtra
from . import output
from .options import Config, Folder, Json, Limit, Map, RubricName, Seed, columns_of, pairs

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Score diagnostic narratives about skin images, and say whether the score may be believed.",
)
data_app = typer.Typer(no_args_is_help=True, help="List, import, validate benchmarks.")
app.add_typer(data_app, name="data")
rate_app = typer.Typer(no_args_is_help=True, help="Collect blinded expert ratings.")
app.add_typer(rate_app, name="rate")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from .. import __version__

        print(f"dermjudge {__version__}")
        raise typer.Exit()


@app.command()
def demo(
    out: Folder = Path("demo"),
    cases: Annotated[int, typer.Option(min=20, help="Synthetic cases.")] = 60,
    seed: Seed = 2026,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """The main job on the embedded benchmark and judge, offline. SYNTHETIC."""
    from .demo import run_demo

    run_demo(out, cases, seed, as_json)


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """The data sets that can be imported."""
    from .data import list_importers

    list_importers(as_json)


@data_app.command("import")
def data_import(
    name: Annotated[str, typer.Argument(help="A name of `data list`.")],
    source: Annotated[Path | None, typer.Argument(help="Where the published files are (not for synthetic).")] = None,
    out: Folder = Path("benchmark"),
    cases: Annotated[int | None, typer.Option(min=1, help="synthetic: number of cases (default 2000).")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of what is drawn: splits, the synthetic benchmark.")] = None,
    counterfactuals: Annotated[
        float | None, typer.Option(min=0, max=1, help="synthetic: share shown beside another picture.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="dermbench, dermeval: where the pictures are.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="tabular: YAML with columns, labels, licence ...")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="tabular: ROLE=COLUMN, such as id=image_id; repeatable.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="tabular, dermeval: licence of the pictures.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the import if any row is bad.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Turn a published data set, or any table with images, into a benchmark folder."""
    from .data import import_data

    options: dict[str, Any] = {
        "cases": cases,
        "seed": seed,
        "counterfactuals": counterfactuals,
        "images": images,
        "mapping": mapping,
        "licence": licence,
        "columns": columns_of(column),
    }
    if name == "synthetic" and cases is None:
        options["cases"] = 2000
    import_data(name, source, out, {k: v for k, v in options.items() if v is not None}, strict, as_json)


@data_app.command("faults")
def data_faults(
    bench: Annotated[Path, typer.Argument(help="Benchmark folder with references, or with diagnoses.")],
    source: Annotated[str, typer.Option("--from", help="reference or metadata.")] = "reference",
    out: Annotated[Path, typer.Option("--out", help="Narratives to write (.jsonl, .csv, .parquet).")] = Path(
        "narratives.jsonl"
    ),
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Narratives made by rule from references or metadata, with planted faults, to try a judge on real input."""
    from .data import write_faults

    write_faults(bench, source, out, seed, as_json)


@data_app.command("validate")
def data_validate(folder: Path, as_json: Json = False) -> None:
    """Everything that is wrong with a benchmark folder, all at once."""
    from .data import validate_folder

    validate_folder(folder, as_json)


@app.command()
def score(
    bench: Annotated[Path | None, typer.Argument(help="Benchmark folder.")] = None,
    narratives: Annotated[Path | None, typer.Argument(help="Narratives; default: those of the benchmark.")] = None,
    judge: Annotated[
        str, typer.Option(help="embedded, embedded-text-only, local:BASE[+ADAPTER], replay:FILE (recorded answers).")
    ] = "",
    rubric: RubricName = "derm6",
    out: Folder = Path("run"),
    probe: Annotated[str, typer.Option(help="Image probes: swap,blank,wrong-patient.")] = "",
    critique: Annotated[
        bool, typer.Option("--critique", help="Also write a critique; the scores stay the same.")
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Questions per batch of a local judge; in the signature, since it moves scores a little."
        ),
    ] = None,
    retry: Annotated[str, typer.Option(help="States to ask again when a run is taken up.")] = "api_error",
    limit: Limit = None,
    seed: Seed = 0,
    image: Annotated[list[Path] | None, typer.Option(help="One case at once: its picture.")] = None,
    text: Annotated[str, typer.Option(help="One case at once: the narrative.")] = "",
    context: Annotated[str, typer.Option(help="One case at once: clinical context.")] = "",
    column_map: Map = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Score narratives with a judge; re-issue the command to resume."""
    from . import scoring

    if text or image:
        scoring.score_one(image or [], text, context, judge, rubric, critique, seed, as_json)
    else:
        probes = tuple(filter(None, probe.split(",")))
        scoring.score_run(
            bench,
            narratives,
            judge,
            rubric,
            out,
            probes,
            critique,
            batch_size,
            tuple(retry.split(",")),
            limit,
            seed,
            pairs(column_map),
            dry_run,
            as_json,
        )


@app.command()
def evaluate(
    bench: Annotated[Path, typer.Argument(help="Benchmark folder.")],
    narratives: Annotated[Path | None, typer.Argument(help="Narratives; default: those of the benchmark.")] = None,
    k: Annotated[str, typer.Option(help="Top-k, comma-separated.")] = "1,3,5",
    cut: Annotated[str, typer.Option(help="Triage: lowest level that counts as positive.")] = "urgent",
    terms: Annotated[Path | None, typer.Option(help="Own term list (.csv) in place of the shipped one.")] = None,
    explain: Annotated[
        Path | None, typer.Option(help="Write what matched what, per narrative (.csv, .jsonl, .parquet).")
    ] = None,
    limit: Limit = None,
    seed: Seed = 0,
    column_map: Map = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Top-k diagnosis and triage of narratives against the gold of the benchmark."""
    from .scoring import evaluate_narratives

    evaluate_narratives(bench, narratives, k, cut, terms, explain, limit, seed, pairs(column_map), as_json)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Path of a recipe, or the name of a shipped one.")],
    out: Folder = Path("out/trained"),
    data: Annotated[Path | None, typer.Option(help="Benchmark folder, in place of the recipe's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Train a judge by a recipe: base (if it builds one), judge, text-only judge, card."""
    from .training import train_recipe

    train_recipe(recipe, out, data, dry_run, as_json)


@app.command()
def figures(
    judge: Annotated[str, typer.Argument(help="The judge.")] = "embedded",
    text_only: Annotated[
        str | None, typer.Option(help="The same recipe trained without pictures; default: that of the embedded judge.")
    ] = None,
    cases: Annotated[int, typer.Option(min=20, help="Synthetic cases of patients the judge never saw.")] = 200,
    seed: Seed = 990,
    card: Annotated[Path | None, typer.Option(help="Adapter folder whose card shall hold the figures.")] = None,
    as_json: Json = False,
) -> None:
    """What a judge reaches on fresh synthetic patients, where the truth is known. SYNTHETIC."""
    from .training import print_figures

    print_figures(judge, text_only, cases, seed, card, as_json)


@app.command()
def agree(
    ratings: Annotated[list[Path], typer.Argument(help="Ratings of experts and judges (.jsonl, .csv, .parquet).")],
    judge: Annotated[str | None, typer.Option(help="One judge; default all.")] = None,
    rubric: RubricName = "derm6",
    bench: Annotated[Path | None, typer.Option(help="Benchmark, for the patients that cases belong to.")] = None,
    resamples: Annotated[int, typer.Option(min=100)] = 2000,
    rater_kind: Annotated[str | None, typer.Option(help="expert or judge, where the files do not say.")] = None,
    seed: Seed = 0,
    column_map: Map = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Judge beside experts: agreement with intervals, constant predictor and expert leave-one-out."""
    from .agreement import agree_files

    agree_files(ratings, judge, rubric, bench, resamples, rater_kind, seed, pairs(column_map), as_json)


@app.command()
def calibrate(
    ratings: Annotated[list[Path], typer.Argument(help="Ratings of experts and the judge.")],
    judge: Annotated[str, typer.Option(help="The judge to calibrate.")],
    out: Annotated[Path, typer.Option("--out", help="Calibration to write (.json).")] = Path("calibration.json"),
    rubric: RubricName = "derm6",
    bench: Annotated[Path | None, typer.Option(help="Benchmark, for the patients that cases belong to.")] = None,
    method: Annotated[str, typer.Option(help="auto, cv, shift, linear, isotonic or ordinal.")] = "auto",
    population: Annotated[str, typer.Option(help="Whose cases these are; goes into the file.")] = "",
    rater_kind: Annotated[str | None, typer.Option(help="expert or judge, where the files do not say.")] = None,
    seed: Seed = 0,
    column_map: Map = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """From judge scores to the experts' scale, per dimension; before and after on unseen cases."""
    from .agreement import calibrate_files

    calibrate_files(
        ratings, judge, out, rubric, bench, method, population, rater_kind, seed, pairs(column_map), as_json
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


@app.command()
def verify(folder: Path, as_json: Json = False) -> None:
    """Check a run folder: journal, hashes, counts. Changes nothing."""
    from .scoring import verify_folder

    verify_folder(folder, as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Is everything here that is needed?"""
    from .doctor import diagnose
    from .scoring import print_findings

    print_findings(diagnose(), as_json)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: errors become a line on stderr and an exit code."""
    try:
        code = app(arguments, standalone_mode=False)
        if code == 130:  # how typer returns from Ctrl-C
            output.say("stopped; give the same command again to go on")
        sys.exit(code if isinstance(code, int) else output.OK)
    except InputError as error:
        output.say(f"error: {error}")
        sys.exit(output.USAGE)
    except BusyError as error:
        output.say(f"error: {error}")
        sys.exit(output.BUSY)
    except MissingExtra as error:
        output.say(f"error: {error}")
        sys.exit(output.ERROR)
    except KeyboardInterrupt:
        output.say("stopped; give the same command again to go on")
        sys.exit(130)
    except OSError as error:
        output.say(f"error: {error.strerror or error}: {error.filename or ''}")
        sys.exit(output.ERROR)
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is None or not hasattr(error, "exit_code"):
            raise
        output.say(f"error: {usage()}")
        sys.exit(output.USAGE)


if __name__ == "__main__":
    main()
