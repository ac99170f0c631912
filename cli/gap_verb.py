"""The verb `gap`: a thin command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Config, Json, Seed


def gap(
    public: Annotated[Path, typer.Argument(help="Public benchmark folder.")],
    local: Annotated[Path, typer.Argument(help="Your own benchmark folder.")],
    public_narratives: Annotated[Path | None, typer.Option(help="Default: those in the folder.")] = None,
    local_narratives: Annotated[Path | None, typer.Option(help="Default: those in the folder.")] = None,
    public_ratings: Annotated[Path | None, typer.Option(help="A judge's ratings, to compare overall scores.")] = None,
    local_ratings: Annotated[
        Path | None, typer.Option(help="The same judge's ratings of the local narratives.")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Whose ratings, where the files hold several raters.")] = None,
    k: Annotated[str, typer.Option("--k", help="Depths, such as 1,3.")] = "1,3",
    cut: Annotated[str, typer.Option(help="Lowest urgency that counts as positive.")] = "urgent",
    arm: Annotated[
        str | None, typer.Option(help="Arm to compare; default the one both have, image_only first.")
    ] = None,
    by: Annotated[str, typer.Option(help="Diagnosis groups of the case mix: malignancy or root.")] = "malignancy",
    least: Annotated[int, typer.Option(min=1, help="Cases a diagnosis group needs on either side.")] = 30,
    terms: Annotated[Path | None, typer.Option(help="Own term list (.csv).")] = None,
    resamples: Annotated[int, typer.Option(min=100)] = 2000,
    seed: Seed = 0,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """From benchmark to bedside: the same systems on public and local cases, and what case mix explains."""
    from .gap import Asked, gap_files

    gap_files(
        (public, public_narratives, public_ratings),
        (local, local_narratives, local_ratings),
        Asked(judge, k, cut, arm, by, least, terms, resamples, seed),
        as_json,
    )
