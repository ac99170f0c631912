"""The program: a thin command per verb. Each body imports what it calls, so --help stays fast."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..judge.errors import BusyError, InputError, MissingExtra
from . import output
from .answers_verb import answers
from .data_verbs import data_app
from .evaluate_verb import evaluate
from .expert_verbs import agree, calibrate, plan, rate_app
from .gap_verb import gap
from .generate_verb import generate
from .options import Config, Folder, Json, Seed
from .parity_verb import merge, parity
from .score_verb import score

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Score diagnostic narratives about skin images, and say whether the score may be believed.",
)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from .. import __version__

        print(f"dermjudge {__version__}")
        raise typer.Exit()


@app.command()
def demo(
    out: Folder = Path("demo"),
    cases: Annotated[int, typer.Option(min=20, help="Synthetic cases.")] = 120,
    seed: Seed = 2026,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """The main job on the embedded benchmark and judge, offline. SYNTHETIC."""
    from .demo import run_demo

    run_demo(out, cases, seed, as_json)


app.command()(generate)
app.command()(score)
app.command()(evaluate)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Path of a recipe, or the name of a shipped one.")],
    out: Folder = Path("out/trained"),
    data: Annotated[Path | None, typer.Option(help="Benchmark folder, in place of the recipe's.")] = None,
    not_in: Annotated[
        list[Path] | None,
        typer.Option("--not-in", help="Evaluation folder that must share nothing with the training data; repeatable."),
    ] = None,
    allow_overlap: Annotated[
        str, typer.Option(help="Why suspected overlaps (names, series) are none; goes into the card.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Train a judge by a recipe: base (if it builds one), judge, text-only judge, card."""
    from .training import train_recipe

    train_recipe(recipe, out, data, not_in or [], allow_overlap, dry_run, as_json)


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
def ladder(
    recipe: Annotated[str, typer.Argument(help="Recipe of the first rung, by path or name.")] = "ladder",
    out: Folder = Path("out/ladder"),
    data: Annotated[Path | None, typer.Option(help="Benchmark folder, in place of the recipe's.")] = None,
    cases: Annotated[int, typer.Option(min=20, help="Synthetic test cases of patients no rung saw.")] = 200,
    test_seed: Annotated[int, typer.Option(help="Seed of the test cases.")] = 990,
    seeds: Annotated[int, typer.Option(min=1, help="How often each rung is trained.")] = 3,
    only: Annotated[str, typer.Option(help="Only these rungs, comma-separated, and what they go on from.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Train every rung of the ladder and compare each with the one below; re-issue it to go on. SYNTHETIC."""
    from .ladder import run_ladder

    run_ladder(recipe, out, data, cases, test_seed, seeds, only, dry_run, as_json)


app.command()(merge)
app.command()(parity)
app.command()(answers)
app.command()(gap)
app.command()(agree)
app.command()(calibrate)
app.command()(plan)
app.add_typer(rate_app, name="rate")
app.add_typer(data_app, name="data")


@app.command()
def verify(folder: Path, as_json: Json = False) -> None:
    """Check a run folder: journal, hashes, counts. Changes nothing."""
    from .checking import verify_folder

    verify_folder(folder, as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Is everything here that is needed?"""
    from .checking import print_findings
    from .doctor import diagnose

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
