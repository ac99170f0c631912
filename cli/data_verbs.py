"""`dermjudge data ...`: a thin command per verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Config, Folder, Json, Limit, RubricName, Seed, columns_of, pairs

data_app = typer.Typer(no_args_is_help=True, help="List, import, validate benchmarks.")


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
    images: Annotated[Path | None, typer.Option(help="Where the pictures are, if not beside the tables.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="tabular: YAML with columns, labels, licence ...")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="tabular: ROLE=COLUMN, such as id=image_id; repeatable.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the pictures, where the source names none.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE for this data set (language=en, skin=self, part=test ...); repeatable."),
    ] = None,
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
        **pairs(option),
    }
    if name == "synthetic" and cases is None:
        options["cases"] = 2000
    import_data(name, source, out, {k: v for k, v in options.items() if v is not None}, strict, as_json)


@data_app.command("faults")
def data_faults(
    bench: Annotated[Path, typer.Argument(help="Benchmark folder with references, or with diagnoses.")],
    source: Annotated[
        str, typer.Option("--from", help="reference or metadata; with --graded also narrative.")
    ] = "reference",
    out: Annotated[Path, typer.Option("--out", help="Narratives to write (.jsonl, .csv, .parquet).")] = Path(
        "narratives.jsonl"
    ),
    graded: Annotated[
        bool, typer.Option("--graded", help="Each fault at four severities, for a dose-response.")
    ] = False,
    narratives: Annotated[
        Path | None, typer.Option(help="With --from narrative: clean ones; default: those of the benchmark.")
    ] = None,
    fault: Annotated[list[str] | None, typer.Option(help="With --graded: only this fault; repeatable.")] = None,
    limit: Limit = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Narratives made by rule from references or metadata, with planted faults, to try a judge on real input."""
    from .data import write_faults, write_graded

    if graded:
        write_graded(bench, source, narratives, out, fault, limit, seed, as_json)
    else:
        write_faults(bench, source, out, seed, as_json)


@data_app.command("training-set")
def data_training_set(
    bench: Annotated[Path, typer.Argument(help="Benchmark folder with references, diagnoses or narratives.")],
    out: Folder = Path("training-set"),
    source: Annotated[
        str, typer.Option("--from", help="What is written or taken as clean: reference, metadata or narrative.")
    ] = "reference",
    narratives: Annotated[
        Path | None, typer.Option(help="With --from narrative: clean ones; default: those of the benchmark.")
    ] = None,
    fault: Annotated[list[str] | None, typer.Option(help="Plant only this fault; repeatable (default: all).")] = None,
    counterfactual: Annotated[
        list[str] | None,
        typer.Option(
            help="swap=2, wrong-patient=1, blank=1, overlay=1: copies a case beside another picture; a kind "
            "or none; repeatable."
        ),
    ] = None,
    rubric: RubricName = "derm6",
    split_by: Annotated[str, typer.Option(help="Where no case has a split: patient_id or lesion_id.")] = "patient_id",
    seed: Seed = 0,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Labels without experts: graded faults and counterfactual pictures with SIMULATED ratings, for `train --data`."""
    from .training_set import write_training_set

    write_training_set(bench, out, source, narratives, fault, counterfactual, rubric, split_by, seed, as_json)


@data_app.command("audit")
def data_audit(
    folders: Annotated[list[Path], typer.Argument(help="One or more benchmark folders.")],
    sheet: Annotated[
        Path | None, typer.Option(help="Write the worst pairs side by side (.png, .jpg); it shows patients.")
    ] = None,
    quality: Annotated[
        Path | None, typer.Option(help="Measure every picture's quality and write the table (.csv, .parquet).")
    ] = None,
    max_distance: Annotated[
        int | None, typer.Option(min=0, max=11, help="Bits of 64 within which hashes are looked up (default 8).")
    ] = None,
    least_likeness: Annotated[
        float | None, typer.Option(min=0, max=1, help="Correlation that a near duplicate needs (default 0.95).")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Pictures read at a time (default: one per core, at most 8).")
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Duplicates, leaks, labels that conflict, who is missing, what is new. Exit code 5 if something leaks."""
    from .auditing import audit_benchmarks

    audit_benchmarks(folders, max_distance, least_likeness, sheet, quality, threads, as_json)


@data_app.command("validate")
def data_validate(folder: Path, as_json: Json = False) -> None:
    """Everything that is wrong with a benchmark folder, all at once."""
    from .data import validate_folder

    validate_folder(folder, as_json)
