"""The verb `generate`: a thin command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Config, Folder, Json, Seed
from .remote import (
    PANEL,
    AllowAlias,
    AllowRemote,
    CaFile,
    Concurrency,
    ConsentFile,
    MaxCalls,
    MaxMoney,
    MaxTokens,
    PerMinute,
    Prices,
    Proxy,
    TokensPerMinute,
)


def generate(
    bench: Annotated[Path, typer.Argument(help="Benchmark folder.")],
    candidate: Annotated[
        list[str],
        typer.Option(help="[NAME=]endpoint:URL#MODEL, litellm:provider/model, local:BASE[+ADAPTER], replay:FILE."),
    ],
    arm: Annotated[str, typer.Option(help="image_only,image_context,text_only")] = "image_only",
    out: Folder = Path("generated"),
    samples: Annotated[int, typer.Option(min=1, help="Narratives per case, candidate and arm.")] = 1,
    prompt: Annotated[str, typer.Option(help="narrative, structured, brief, or a file with {pictures}{context}.")] = "",
    structured: Annotated[
        bool, typer.Option("--structured", help="Ask for a JSON object and read it strictly.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE, such as temperature=0.7 or max_tokens=900; null drops."),
    ] = None,
    max_images: Annotated[
        list[str] | None, typer.Option(help="Image budget: a number for all, or NAME=NUMBER for one candidate.")
    ] = None,
    over_images: Annotated[str, typer.Option(help="Cases above the budget: skip, or first (flagged).")] = "skip",
    max_side: Annotated[int, typer.Option(min=32, help="Longest side of a sent picture, in pixels.")] = 1568,
    quality: Annotated[int, typer.Option(min=1, max=95, help="JPEG quality of a sent picture.")] = 85,
    split: Annotated[str, typer.Option(help="Only the cases of this split.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N cases.")] = None,
    retry: Annotated[str, typer.Option(help="States to ask again when a run is taken up.")] = "api_error",
    private_words: Annotated[
        str, typer.Option(help="Contexts with names, dates or numbers, to other machines: refuse, redact, send.")
    ] = "refuse",
    allow_remote: AllowRemote = None,
    consent: ConsentFile = None,
    proxy: Proxy = None,
    ca_file: CaFile = None,
    prices: Prices = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_money: MaxMoney = None,
    concurrency: Concurrency = 32,
    rpm: PerMinute = None,
    tpm: TokensPerMinute = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds per call.", rich_help_panel=PANEL)] = 300.0,
    any_model: Annotated[
        bool, typer.Option("--any-model", help="Take answers of a model of another name.", rich_help_panel=PANEL)
    ] = False,
    allow_alias: AllowAlias = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Of local models; in the signature.")] = 8,
    top: Annotated[int, typer.Option(min=1, help="Lines of a differential from class probabilities.")] = 5,
    seed: Seed = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent and cost, and send nothing.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Have candidate models write narratives; re-issue the command to resume."""
    from .generating import Options, generate_narratives

    options = Options(
        candidates=candidate,
        out=out,
        arms=arm,
        samples=samples,
        prompt=prompt,
        structured=structured,
        settings=settings or (),
        max_images=max_images or (),
        over_images=over_images,
        max_side=max_side,
        quality=quality,
        split=split,
        limit=limit,
        retry=retry,
        allow_remote=allow_remote or (),
        consent=consent or (),
        private_words=private_words,
        prices=prices,
        max_calls=max_calls,
        max_tokens=max_tokens,
        max_money=max_money,
        concurrency=concurrency,
        rpm=rpm,
        tpm=tpm,
        timeout=timeout,
        proxy=proxy,
        ca_file=ca_file,
        any_model=any_model,
        allow_alias=allow_alias,
        batch_size=batch_size,
        top=top,
        seed=seed,
        dry_run=dry_run,
        as_json=as_json,
    )
    generate_narratives(bench, options)
