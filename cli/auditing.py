"""The body of `data audit`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import output


def audit_benchmarks(
    folders: Sequence[Path],
    max_distance: int | None,
    least_likeness: float | None,
    sheet: Path | None,
    quality: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Audit and say what was found: exit code 5 if something leaks, else 4 if pictures could not be read, else 0.

    Findings other than leaks are for a person to weigh, so they end in 0.
    """
    from ..benchmarks.audit import audit, worst_pairs
    from ..benchmarks.audit_quality import write_qualities
    from ..benchmarks.audit_text import audit_text
    from ..benchmarks.contact_sheet import write_sheet

    limits = {"max_distance": max_distance, "least_likeness": least_likeness}
    given = {name: value for name, value in limits.items() if value is not None}
    with output.progress("pictures") as bar:
        result = audit(folders, quality=quality is not None, threads=threads, progress=bar, **given)  # type: ignore[arg-type]
    if quality is not None:
        write_qualities(result.quality, quality)
        output.say(f"quality of every picture: {quality}")
    if sheet is not None:
        pairs = worst_pairs(result)
        if pairs:
            write_sheet(sheet, pairs)
        output.say(f"{len(pairs)} pairs on {sheet} (it shows patients)" if pairs else f"no pair, so no {sheet}")
    output.emit(result.to_dict(), as_json, lambda: audit_text(result))
    if result.leaks:
        raise SystemExit(output.GATE)
    if result.unreadable:
        raise SystemExit(output.INCOMPLETE)
