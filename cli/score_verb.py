"""`dermjudge score`: its options, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import remote as r
from .options import Config, Folder, Json, Limit, Map, RubricName, Seed, pairs

ONE = "One case at once"


def score(
    bench: Annotated[Path | None, typer.Argument(help="Benchmark folder.")] = None,
    narratives: Annotated[Path | None, typer.Argument(help="Narratives; default: those of the benchmark.")] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help="embedded, embedded-text-only, local:BASE[+ADAPTER], endpoint:URL#MODEL, litellm:PROVIDER/MODEL, "
            "replay:FILE; several make a jury."
        ),
    ] = None,
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
    repeat: Annotated[int, typer.Option(min=1, help="Ratings of each narrative, for the judge's own noise.")] = 1,
    jury: Annotated[str, typer.Option(help="Of several judges: mean, median or calibrated.")] = "mean",
    calibration: Annotated[
        Path | None, typer.Option(help="File of `calibrate`: also report on the experts' scale.")
    ] = None,
    review_at: Annotated[
        float | None, typer.Option(help="With --calibration: list cases whose interval crosses this score.")
    ] = None,
    licence: Annotated[
        Path | None, typer.Option(help="Licence of this judge (`agree --licence`), to stand first.")
    ] = None,
    split: Annotated[str, typer.Option(help="Only the cases of this split.")] = "",
    limit: Limit = None,
    seed: Seed = 0,
    column_map: Map = None,
    image: Annotated[list[Path] | None, typer.Option(help="Its picture.", rich_help_panel=ONE)] = None,
    text: Annotated[str, typer.Option(help="The narrative, or @FILE.", rich_help_panel=ONE)] = "",
    context: Annotated[str, typer.Option(help="Clinical context.", rich_help_panel=ONE)] = "",
    mode: Annotated[
        str | None, typer.Option(help="image, reference (text only) or both.", rich_help_panel=r.PANEL)
    ] = None,
    read: Annotated[
        str | None,
        typer.Option(help="written numbers, or expected (token log-probabilities).", rich_help_panel=r.PANEL),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Answers whose mean is the score.", rich_help_panel=r.PANEL)
    ] = None,
    again: Annotated[
        int | None, typer.Option(min=0, help="How often a malformed answer is asked again.", rich_help_panel=r.PANEL)
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Have the server enforce a JSON schema.", rich_help_panel=r.PANEL)
    ] = False,
    prompt_file: Annotated[
        Path | None, typer.Option("--prompt", help="Own prompt with {narrative}, {reference}.", rich_help_panel=r.PANEL)
    ] = None,
    canary: Annotated[
        bool, typer.Option("--canary", help="Ask fixed questions before and after the run.", rich_help_panel=r.PANEL)
    ] = False,
    allow_self: Annotated[
        bool, typer.Option("--allow-self", help="Let a model judge its own texts.", rich_help_panel=r.PANEL)
    ] = False,
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Score narratives with a judge, or a jury of several; re-issue the command to resume."""
    from . import scoring

    given = {"mode": mode, "read": read, "samples": samples, "again": again, "prompt_file": prompt_file}
    asking = {name: value for name, value in given.items() if value is not None} | ({"schema": True} if schema else {})
    asked = scoring.Asked(
        judges=tuple(judge or ()), rubric=rubric, out=out, probes=tuple(filter(None, probe.split(","))),
        critique=critique, batch_size=batch_size, retry=tuple(retry.split(",")), split=split,
        limit=limit, seed=seed,
        columns=pairs(column_map), calibration=calibration, review_at=review_at, licence=licence, asking=asking,
        repeats=repeat, canary=canary, allow_self=allow_self, jury=jury, private_words=private_words,
        remote=r.Remote(
            tuple(allow_remote or ()), tuple(consent or ()), proxy, ca_file, prices, max_calls, max_tokens, max_money,
            concurrency, rpm, tpm, allow_alias,
        ),
    )  # fmt: skip
    if text or image:
        scoring.score_one(image or [], text, context, asked, as_json)
    else:
        scoring.score_run(bench, narratives, asked, dry_run, as_json)
