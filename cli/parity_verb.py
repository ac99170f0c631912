"""`dermjudge merge` and `dermjudge parity`: their options, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import remote as r
from .options import Config, Folder, Json, RubricName, Seed

Judge = Annotated[str, typer.Option(help="embedded, or local:BASE+ADAPTER.")]


def merge(
    judge: Annotated[str, typer.Argument(help="local:BASE+ADAPTER, or embedded.")],
    out: Folder,
    rubric: RubricName = "derm6",
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16; default: as the base.")] = None,
    as_json: Json = False,
) -> None:
    """Base and adapter as one model folder, for vLLM, transformers serve and pipeline("decision")."""
    from .parity import merge_judge

    merge_judge(judge, out, rubric, dtype, as_json)


def parity(
    bench: Annotated[Path, typer.Argument(help="Benchmark folder.")],
    narratives: Annotated[Path | None, typer.Argument(help="Narratives; default: those of the benchmark.")] = None,
    judge: Judge = "embedded",
    rubric: RubricName = "derm6",
    merged: Annotated[
        Path | None, typer.Option(help="Merged folder to check (`merge`); default: made for the check.")
    ] = None,
    serve: Annotated[str, typer.Option(help="URL#MODEL of a `transformers serve` with the merged judge.")] = "",
    endpoint: Annotated[
        str, typer.Option(help="URL#MODEL of a server in the OpenAI format that lists token probabilities.")
    ] = "",
    tolerance: Annotated[float, typer.Option(min=0, help="Largest difference of a score that passes.")] = 0.05,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16, of what runs here.")] = "float32",
    limit: Annotated[int, typer.Option(min=1, help="Only the first N narratives.")] = 32,
    seed: Seed = 0,
    allow_remote: r.AllowRemote = None,
    consent: r.ConsentFile = None,
    private_words: r.PrivateWords = "refuse",
    as_json: Json = False,
    config: Config = None,
) -> None:
    """One judge as adapter, merged, in the decision pipeline and on servers: are the scores the same?"""
    from .parity import Asked, check_parity

    asked = Asked(judge, rubric, merged, serve, endpoint, tolerance, dtype, limit, seed)
    check_parity(
        bench, narratives, asked, r.Remote(tuple(allow_remote or ()), tuple(consent or ())), private_words, as_json
    )
