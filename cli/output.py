"""How commands speak: results to stdout (JSON on request), logs and progress to stderr, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

OK, ERROR, USAGE, BUSY, INCOMPLETE, GATE = 0, 1, 2, 3, 4, 5


def say(text: str) -> None:
    """A line for the person, on stderr, so that stdout stays machine-readable."""
    print(text, file=sys.stderr, flush=True)


def emit(result: Any, as_json: bool, text: Callable[[], str] | str) -> None:
    """The result on stdout: JSON (no NaN) if asked for, else text."""
    if as_json:
        print(json.dumps(result, ensure_ascii=False, indent=1, allow_nan=False))
    else:
        print(text() if callable(text) else text)


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Aligned columns in plain text: words to the left, numbers to the right, unprintable characters shown."""
    from ..judge.escape import visible

    cells = [
        [visible("–" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell)) for cell in row]
        for row in rows
    ]
    widths = [max(len(line[k]) for line in [list(header), *cells]) for k in range(len(header))]
    right = [bool(rows) and all(isinstance(row[k], int | float | None) for row in rows) for k in range(len(header))]
    lines = [list(header), ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)).rstrip()
        for line in lines
    )


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing in a pipe; call the result with (done, planned)."""
    if not sys.stderr.isatty():
        yield lambda done, planned: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def update(done: int, planned: int) -> None:
            if title not in tasks:
                tasks[title] = bars.add_task(title, total=planned)
            bars.update(tasks[title], completed=done, total=planned)

        yield update
