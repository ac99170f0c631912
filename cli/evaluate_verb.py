"""The verb `evaluate`: a thin command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import remote as r
from .options import Config, Json, Limit, Map, Seed, pairs

ITEMS = "Items that the term list cannot place"


def evaluate(
    bench: Annotated[Path, typer.Argument(help="Benchmark folder.")],
    narratives: Annotated[Path | None, typer.Argument(help="Narratives; default: those of the benchmark.")] = None,
    k: Annotated[str, typer.Option(help="Top-k, comma-separated.")] = "1,3,5",
    cut: Annotated[str, typer.Option(help="Triage: lowest level that counts as positive.")] = "urgent",
    terms: Annotated[
        Path | None,
        typer.Option(help="Own term list (.csv) in place of the shipped one; may have columns snomed, icd10."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Own map of the benchmark's labels (.csv: label, canonical, code, confidence)."),
    ] = None,
    relations: Annotated[Path | None, typer.Option(help="Own weights of near misses (.yaml), for graded.")] = None,
    explain: Annotated[
        Path | None, typer.Option(help="Write what matched what, per narrative (.csv, .jsonl, .parquet).")
    ] = None,
    by: Annotated[str, typer.Option(help="Also by subgroup: fitzpatrick,age,sex,site,quality,... a tag, or all.")] = "",
    quality: Annotated[
        Path | None,
        typer.Option(help="Table of `data audit --quality`: what a gate on picture quality would bring and cost."),
    ] = None,
    arms_against: Annotated[
        str, typer.Option(help="Arm that all others are compared with; default: each variant's plain arm.")
    ] = "",
    adjudicate: Annotated[
        str | None,
        typer.Option(help="Ask endpoint:URL#MODEL or litellm:PROVIDER/MODEL about them.", rich_help_panel=ITEMS),
    ] = None,
    adjudication: Annotated[
        Path | None,
        typer.Option(help="File of answers, never paid twice (default adjudication.jsonl).", rich_help_panel=ITEMS),
    ] = None,
    allow_remote: r.AllowRemote = None,
    consent: r.ConsentFile = None,
    private_words: r.PrivateWords = "refuse",
    proxy: r.Proxy = None,
    ca_file: r.CaFile = None,
    prices: r.Prices = None,
    max_calls: r.MaxCalls = None,
    max_tokens: r.MaxTokens = None,
    max_money: r.MaxMoney = None,
    concurrency: r.Concurrency = 32,
    rpm: r.PerMinute = None,
    tpm: r.TokensPerMinute = None,
    allow_alias: r.AllowAlias = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked, and do nothing.")] = False,
    limit: Limit = None,
    seed: Seed = 0,
    column_map: Map = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Top-k diagnosis and triage of narratives against the gold of the benchmark."""
    from .evaluating import Asked, evaluate_narratives

    asked = Asked(
        k, cut, terms, labels, relations, explain, by, quality, arms_against, adjudicate, adjudication, private_words,
        r.Remote(
            tuple(allow_remote or ()), tuple(consent or ()), proxy, ca_file, prices, max_calls, max_tokens, max_money,
            concurrency, rpm, tpm, allow_alias,
        ),
        dry_run, limit, seed, pairs(column_map),
    )  # fmt: skip
    evaluate_narratives(bench, narratives, asked, as_json)
