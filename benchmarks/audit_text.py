"""An audit as text for a terminal of 120 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..evaluators.markdown import WIDTH, percent, width
from ..judge.escape import visible
from .audit import Audit
from .audit_quality import quality_summary
from .audit_representation import UNKNOWN, Representation
from .finding import Finding

_EXAMPLES = 2  # lines of examples under a finding
_ROWS = 12  # of a table


def audit_text(result: Audit) -> str:
    """The findings with examples, then references, skin tones, novelty and quality, then what was not looked for."""
    cases = sum(len(bench.cases) for bench in result.benchmarks)
    names = ", ".join(visible(bench.name) for bench in result.benchmarks)
    lines = _wrapped(f"Audit of {names}: {cases:,} cases, {len(result.shown):,} pictures", "")
    lines.append("")
    if not result.findings:
        lines.append("Nothing was found.")
    for finding in result.findings:
        lines += _finding(finding)
    lines += _references(result.references)
    for name, found in result.representation.items():
        lines += _tones(visible(name), found)
    lines += _novelty(result) + _quality(result)
    lines += ["", *(line for note in result.notes for line in _wrapped(note, "  ", "- "))]
    return "\n".join(lines)


def _finding(finding: Finding) -> list[str]:
    least = "at least " if finding.at_least else ""
    of = f" of {finding.of:,}" if finding.among == finding.unit else f" in {finding.of:,} {finding.among}"
    told = _wrapped(f"{least}{finding.count:,} {finding.unit}{of}: {finding.what}", " " * 9, f"{finding.severity:<9}")
    for example in finding.examples[:_EXAMPLES]:
        told += _wrapped(_example(example), " " * 13, " " * 11 + "· ", most=2)
    if finding.count > _EXAMPLES and len(finding.examples) > _EXAMPLES:
        told.append(f"{' ' * 11}· and {finding.count - _EXAMPLES:,} more (--json lists {len(finding.examples)})")
    return told


def _example(value: Any) -> str:
    """An example on one line: pairs of places joined by "=", the rest as name value."""
    if isinstance(value, Mapping):
        return ", ".join(part for name, entry in value.items() if (part := _field(name, entry)))
    if isinstance(value, list | tuple):
        joint = " = " if value and isinstance(value[0], Mapping) else " / "
        return joint.join(_example(entry) for entry in value)
    return str(value)


def _field(name: str, value: Any) -> str:
    text = "nothing readable" if value is None else _example(value)
    return text if name in ("pictures", "picture", "case", "for example", "benchmark", "split") else f"{name} {text}"


def _references(table: Mapping[str, Any]) -> list[str]:
    if not table.get("n"):
        return []
    rows = [
        (stance, f"{entry['count']:,}", percent(entry["value"]), _ends(entry["low"], entry["high"]))
        for stance, entry in table["stances"].items()
    ]
    left = ", ".join(f"{count:,} {why}" for why, count in table["left_out"].items())
    title = f"{table['n']:,} references against their label" + (f" (left out: {left})" if left else "")
    return ["", *_wrapped(title, ""), *_table(("reference", "n", "share", "95 %"), rows)]


def _tones(name: str, found: Representation) -> list[str]:
    """Every margin on one line each, then the widest gaps."""
    lines = ["", *_wrapped(f"{name}: {found.n:,} cases by group", "")]
    for axis, margin in found.margins.items():
        groups = sorted(margin.items(), key=lambda entry: (entry[0] == UNKNOWN, -entry[1]))
        told = ", ".join(f"{visible(group)} {count:,}" for group, count in groups[:_ROWS])
        rest = f", {len(groups) - _ROWS} more" if len(groups) > _ROWS else ""
        lines += _wrapped(f"{axis}: {told}{rest}", "    ", "  ", most=3)
    for crossing, cells in found.cells.items():
        gaps = sorted((cell for cell in cells if cell.is_gap), key=lambda cell: cell.cases - cell.expected)[:_ROWS]
        if gaps:
            rows = [(*map(visible, cell.groups.values()), str(cell.cases), f"{cell.expected:.1f}") for cell in gaps]
            lines += _table((*gaps[0].groups, "cases", "expected"), rows, left=len(gaps[0].groups))
            lines.append(f"  of {found.known[crossing]:,} cases with every group known; expected from the margins")
    return lines


def _novelty(result: Audit) -> list[str]:
    if not result.novelty:
        return []
    rows = [
        (visible(found.benchmark), f"{found.pictures:,}", f"{found.seen_exact:,}", f"{found.seen_near:,}",
         _share(found.new_pictures), str(found.diagnoses), str(len(found.new_names)), _share(found.new_cases))
        for found in result.novelty
    ]  # fmt: skip
    header = ("not in the others", "pictures", "same", "near", "new", "diagnoses", "new", "cases of new")
    return ["", *_table(header, rows)]


def _share(found: Any) -> str:
    return "–" if found.value is None else f"{percent(found.value)} {_ends(found.low, found.high)}"


def _ends(low: float, high: float) -> str:
    return f"[{100 * low:.1f}, {100 * high:.1f}] %"


def _quality(result: Audit) -> list[str]:
    lines = []
    for name, rows in result.quality.items():
        if not rows:
            continue
        found = quality_summary(rows)
        tags = ", ".join(f"{tag} {count:,}" for tag, count in found["tags"].items())
        faults = ", ".join(f"{fault} {count:,}" for fault, count in found["faults"].items()) or "nothing"
        told = f"{visible(name)}: quality of {found['n']:,} pictures: {tags}, unreadable {found['unreadable']:,}"
        lines += ["", *_wrapped(told, "  "), *_wrapped(f"beyond a limit: {faults}", "    ", "  ")]
        lines += _wrapped(found["note"], "    ", "  ")
    return lines


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Aligned columns; the first `left` ones cut so that a line fits, the others flushed right."""
    others = sum(max(width(row[c]) for row in (header, *rows)) + 2 for c in range(left, len(header)))
    room = max(8, (WIDTH - 2 - others) // left - 2)
    cells = [[_cut(cell, room) if c < left else cell for c, cell in enumerate(row)] for row in (header, *rows)]
    sizes = [max(width(row[c]) for row in cells) for c in range(len(header))]
    lines = []
    for row in cells:
        parts = [
            cell + " " * (size - width(cell)) if c < left else " " * (size - width(cell)) + cell
            for c, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ]
        lines.append(("  " + "  ".join(parts)).rstrip())
    return lines


def _cut(text: str, room: int) -> str:
    if width(text) <= room:
        return text
    while width(text) >= room:
        text = text[:-1]
    return text + "…"


def _wrapped(text: str, indent: str, first: str = "", most: int = 0) -> list[str]:
    """Lines of at most WIDTH columns, `first` before the first one; `most`: no more lines, the last one cut."""
    room = WIDTH - max(len(indent), len(first))
    lines = [
        piece for line in textwrap.wrap(text, room, break_on_hyphens=False) or [""] for piece in _narrow(line, room)
    ]
    if most and len(lines) > most:
        lines = [*lines[: most - 1], _cut(lines[most - 1] + " …", room)]
    return [f"{indent if number else first}{line}" for number, line in enumerate(lines)]


def _narrow(line: str, room: int) -> Iterable[str]:
    """The line in pieces of at most `room` columns, for scripts whose letters take two."""
    while width(line) > room:
        piece = line
        while width(piece) > room:
            piece = piece[:-1]
        yield piece
        line = line[len(piece) :]
    yield line
