"""The bodies of `verify` and `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import output


def verify_folder(folder: Path, as_json: bool) -> None:
    from ..judge.verify import verify_run

    report = verify_run(folder)
    result: dict[str, Any] = {"folder": str(folder), "ok": not report.problems, "problems": list(report.problems)}
    result |= {"status": report.status, "done": report.done, "planned": report.planned, "notes": list(report.notes)}
    counts = f"{report.done} of {report.planned} planned results, {report.status}"

    def text() -> str:
        lines = list(map(str, report.problems)) or ["every byte is as it was written"]
        return "\n".join([*lines, *map(str, report.notes), counts])

    output.emit(result, as_json, text)
    if report.problems:
        raise SystemExit(output.ERROR)
    if report.status != "complete":
        raise SystemExit(output.INCOMPLETE)


def print_findings(findings: Sequence[Any], as_json: bool) -> None:
    """The table of `doctor`; exit code 1 if something needed is broken."""
    rows = [{"name": f.name, "ok": f.ok, "detail": f.detail, "remedy": f.remedy} for f in findings]
    marks = {True: "ok", False: "BROKEN", None: "-"}
    cells = [(row["name"], marks[row["ok"]], row["detail"], row["remedy"]) for row in rows]
    output.emit(rows, as_json, lambda: output.table(cells, ("what", "state", "detail", "remedy")))
    if any(row["ok"] is False for row in rows):
        raise SystemExit(output.ERROR)
