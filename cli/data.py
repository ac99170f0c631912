"""The bodies of `data list`, `import`, `validate` and `faults`."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import Any

from ..judge.errors import InputError
from . import output


def list_importers(as_json: bool) -> None:
    from ..benchmarks.catalog import IMPORTERS

    rows = [
        {
            "name": name,
            "title": entry.title,
            "size": entry.size,
            "licence": entry.licence,
            "evaluates": entry.evaluates,
            "layout": entry.layout,
        }
        for name, entry in IMPORTERS.items()
    ]
    columns = ("name", "layout", "size", "licence", "evaluates")
    layouts = ("verified: names and values read in published files; documented: taken from documentation and others' "
               "readers; unverified: neither")  # fmt: skip

    def text() -> str:
        short = [row | {"licence": shorten(row["licence"], 48, placeholder=" ...")} for row in rows]
        return f"{output.table([[row[name] for name in columns] for row in short], columns)}\n\nlayout {layouts}"

    output.emit(rows, as_json, text)


def import_data(
    name: str, source: Path | None, out: Path, options: dict[str, Any], strict: bool, as_json: bool
) -> None:
    """Import and say what came in; exit code 4 if rows were left out, with `strict` nothing is written then."""
    from ..benchmarks.catalog import import_dataset

    with output.progress("pictures") as show:
        report = import_dataset(name, source, out, progress=show, strict=strict, **options)
    bench = report.benchmark
    result = {
        "benchmark": str(out),
        "name": bench.name,
        "cases": len(bench.cases),
        "images": report.images,
        "narratives": report.narratives,
        "ratings": report.ratings,
        "splits": dict(bench.splits),
        "notes": report.notes,
        "problems": [str(problem) for problem in report.problems],
    }

    def text() -> str:
        lines = [
            f"{out}: {len(bench.cases)} cases, {report.images} images, {report.narratives} narratives, "
            f"{report.ratings} ratings; splits {dict(bench.splits) or 'none'}"
        ]
        lines += [f"- {note}" for note in report.notes]
        return "\n".join(
            lines + ([f"{len(report.problems)} left out:\n{_listed(report.problems)}"] if report.problems else [])
        )

    output.emit(result, as_json, text)
    if report.problems:
        raise SystemExit(output.INCOMPLETE)


def validate_folder(folder: Path, as_json: bool) -> None:
    from ..benchmarks.validate import validate

    problems = validate(folder)
    result = {"folder": str(folder), "ok": not problems, "problems": [str(problem) for problem in problems]}
    output.emit(result, as_json, lambda: _listed(problems) if problems else f"{folder}: nothing is wrong")
    if problems:
        raise SystemExit(output.USAGE)


def write_faults(bench: Path, source: str, out: Path, seed: int, as_json: bool) -> None:
    from ..benchmarks.faults import planted_narratives
    from ..benchmarks.naming import naming_shares
    from ..judge.benchmark import load_benchmark
    from ..judge.tables import write_narratives

    if source not in ("reference", "metadata"):
        raise InputError(f"--from takes reference or metadata, not '{source}'")
    benchmark = load_benchmark(bench)
    made = planted_narratives(benchmark.cases, source, seed=seed)  # type: ignore[arg-type]
    write_narratives(made, out)
    systems: dict[str, int] = {}
    for narrative in made:
        systems[narrative.system] = systems.get(narrative.system, 0) + 1
    shares = naming_shares(benchmark.cases) if source == "reference" else None
    result = {
        "written": str(out),
        "narratives": len(made),
        "systems": systems,
        "references_without_their_label": shares,
    }

    def text() -> str:
        lines = [output.table(list(systems.items()), ("system", "narratives"))]
        rows = [
            (part.replace("_", " "), kind, share["not_named"], share["n"], share["value"], share["low"], share["high"])
            for part in ("whole", "judged", "last_500")
            for kind, share in ((shares or {}).get(part) or {}).items()
            if isinstance(share, dict) and share.get("value") is not None
        ]
        if rows:
            head = ("part of the reference", "does not name its label's", "references", "of", "share", "low", "high")
            lines += ["", output.table(rows, head)]
        return "\n".join([*lines, "", f"written: {out} (made by rule, not by a model)"])

    output.emit(result, as_json, text)


def write_graded(
    bench: Path,
    source: str,
    narratives: Path | None,
    out: Path,
    faults: list[str] | None,
    limit: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Each fault at four severities; what could not be made, or did not take, is counted with its reason."""
    from ..benchmarks.degrade import degrade
    from ..judge.benchmark import load_benchmark
    from ..judge.tables import read_narratives, write_narratives

    if source not in ("reference", "metadata", "narrative"):
        raise InputError(f"--from takes reference, metadata or narrative, not '{source}'")
    benchmark = load_benchmark(bench)
    clean = read_narratives(narratives or bench / "narratives.jsonl")[:limit] if source == "narrative" else None
    cases = benchmark.cases if clean is not None else benchmark.cases[:limit]
    made, report = degrade(cases, clean, source, faults or None, seed=seed)  # type: ignore[arg-type]
    write_narratives(made, out)
    result = {"written": str(out), "narratives": len(made)} | report.to_dict()

    def text() -> str:
        levels = sorted({level for row in report.made.values() for level in row})
        rows = [(name, *(row.get(level, 0) for level in levels)) for name, row in report.made.items()]
        lines = [output.table(rows, ("copies per severity", *levels))]
        unmade = (("do not fit the text", report.impossible), ("dropped: the edit did not take", report.dropped))
        for what, found in unmade:
            if count := sum(sum(row.values()) for row in found.values()):
                lines += ["", f"{count} copies {what}; each with its reason: --json"]
        return "\n".join([*lines, "", *report.notes, f"{report.clean} clean, {len(made)} in all: {out} (made by rule)"])

    output.emit(result, as_json, text)


def _listed(problems: Any, most: int = 40) -> str:
    lines = [str(problem) for problem in problems[:most]]
    return "\n".join(lines + ([f"... and {len(problems) - most} more"] if len(problems) > most else []))
