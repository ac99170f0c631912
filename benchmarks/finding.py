"""What an audit finds: one thing that is so, how bad it is, how often, and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..judge.benchmark import Benchmark
from ..judge.escape import visible
from ..judge.records import Case

Severity = Literal["leak", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("leak", "warning", "note")
EXAMPLES = 10  # kept of each finding


class Shown(NamedTuple):
    """One picture of one case: the number of its benchmark, the case, the path below the benchmark's root."""

    bench: int
    case: Case
    path: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of thing that was found.

    severity: leak (what is tested was seen in training, or may have been), warning (probably a fault of the data), note
    (worth knowing). `count` things (`unit`) found among `of` others (`among`); `at_least`: there may be more.
    `examples`: plain values, the first EXAMPLES, every foreign text made visible.
    """

    kind: str
    severity: Severity
    what: str
    count: int
    unit: str
    of: int
    among: str
    examples: tuple[dict[str, Any], ...] = ()
    at_least: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "severity": self.severity,
            "what": self.what,
            "count": self.count,
            "unit": self.unit,
            "of": self.of,
            "among": self.among,
            "at_least": self.at_least,
            "examples": list(self.examples),
        }


def pictures(benches: Sequence[Benchmark]) -> list[Shown]:
    """Every picture of every case, in order; one that a case names twice counts once."""
    return [
        Shown(number, case, path)
        for number, bench in enumerate(benches)
        for case in bench.cases
        for path in dict.fromkeys(image.path for image in case.images)
    ]


def place(shown: Shown, benches: Sequence[Benchmark]) -> dict[str, Any]:
    """Where a picture stands, for an example."""
    return case_place(shown.bench, shown.case, benches) | {"picture": visible(shown.path)}


def case_place(bench: int, case: Case, benches: Sequence[Benchmark]) -> dict[str, Any]:
    """Where a case stands, for an example: the benchmark only if there are several, the split only if it has one."""
    found = {"benchmark": visible(benches[bench].name)} if len(benches) > 1 else {}
    found["case"] = visible(case.id)
    if case.split:
        found["split"] = visible(case.split)
    return found


def some(examples: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The first EXAMPLES."""
    return tuple(example for example, _ in zip(examples, range(EXAMPLES), strict=False))


def roots(benches: Sequence[Benchmark], shown: Iterable[Shown]) -> Iterator[tuple[Path, str]]:
    """(root, path) of each picture, as `print_pictures` wants them."""
    return ((benches[picture.bench].root, picture.path) for picture in shown)
