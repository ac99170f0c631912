"""The audit of one or more benchmarks: what is twice, what leaks, what contradicts itself, who is missing, what is new.

Nothing is changed. Findings of severity "leak" are what a test result would not survive.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluators.terms import load_terms
from ..judge.benchmark import Benchmark, load_benchmark
from ..judge.errors import InputError
from ..judge.escape import visible
from ..judge.images import ImageProblem
from .audit_duplicates import RELATIONS, Duplicates, duplicate_findings, find_duplicates, near_rows, relation
from .audit_labels import conflict_findings, reference_findings
from .audit_links import link_findings
from .audit_novelty import Novelty, novelty
from .audit_quality import PictureQuality, picture_qualities, quality_summary
from .audit_representation import Representation, representation, representation_findings
from .contact_sheet import SheetPair
from .finding import SEVERITIES, Finding, Shown, pictures, roots
from .near_pairs import LEAST_LIKENESS, MAX_DISTANCE
from .picture_prints import TURNS, print_pictures

LIMITS = (
    "Found are copies of a picture that were re-encoded, scaled, made darker, lighter or grey, mirrored or turned by "
    "90 degrees; most crops that leave 95 % of each side.",
    "Not found are most crops that leave 90 % or less, turns by other angles, other photographs of one lesion.",
)


@dataclass(frozen=True)
class Audit:
    """What was found in `benchmarks` (one or more), the worst first.

    `references`: shares of references that agree with their label, and those left out; `representation`, `quality`: by
    the name of the benchmark (quality: a row a picture, only if it was asked for); `novelty`: empty for a single
    benchmark; `shown`, `duplicates`: every picture, and the rows that are alike; `unreadable`: pictures that nothing is
    known of.
    """

    benchmarks: tuple[Benchmark, ...]
    findings: tuple[Finding, ...]
    references: dict[str, Any]
    representation: dict[str, Representation]
    novelty: tuple[Novelty, ...]
    quality: dict[str, list[PictureQuality]]
    shown: tuple[Shown, ...]
    duplicates: Duplicates
    unreadable: tuple[ImageProblem, ...]
    notes: tuple[str, ...]

    @property
    def leaks(self) -> int:
        """How many findings are leaks."""
        return sum(finding.severity == "leak" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; foreign text is made visible."""
        return {
            "benchmarks": [
                {"name": visible(bench.name), "version": visible(bench.version), "cases": len(bench.cases),
                 "splits": {visible(split): n for split, n in bench.splits.items()}}
                for bench in self.benchmarks
            ],
            "pictures": len(self.shown),
            "compared": self.duplicates.compared,
            "unreadable": [[visible(problem.path), visible(problem.reason)] for problem in self.unreadable],
            "leaks": self.leaks,
            "findings": [finding.to_dict() for finding in self.findings],
            "references": self.references,
            "representation": {visible(name): found.to_dict() for name, found in self.representation.items()},
            "novelty": [found.to_dict() for found in self.novelty],
            "quality": {visible(name): quality_summary(rows) for name, rows in self.quality.items()},
            "notes": list(self.notes),
        }  # fmt: skip


def audit(
    folders: Sequence[str | Path],
    *,
    max_distance: int = MAX_DISTANCE,
    least_likeness: float = LEAST_LIKENESS,
    quality: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Look at one or more benchmark folders, every picture once (twice with `quality`), in a stream.

    `max_distance`, `least_likeness`: what counts as a near duplicate (`near_pairs`); `progress`: called with (pictures
    done, pictures). InputError for a folder that is no benchmark, or that is given twice.
    """
    benches = _load(folders)
    terms = load_terms()
    shown = pictures(benches)
    prints = print_pictures(roots(benches, shown), len(shown), threads, progress)
    found = find_duplicates(prints, max_distance, least_likeness)
    references, shares, _ = reference_findings(benches, terms)
    findings = [
        *duplicate_findings(found, shown, benches),
        *link_findings(benches),
        *conflict_findings(found, shown, benches, terms),
        *references,
    ]
    represented, qualities = {}, {}
    for bench in benches:
        represented[bench.name] = representation(bench.cases, terms)
        prefix = f"{visible(bench.name)}: " if len(benches) > 1 else ""
        findings += [
            replace(finding, what=prefix + finding.what) for finding in representation_findings(represented[bench.name])
        ]
        if quality:
            qualities[bench.name] = picture_qualities(bench.root, bench.cases, threads, progress)
    if prints.problems:
        findings.append(_unreadable(prints.problems, len(shown)))
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Audit(
        benchmarks=tuple(benches),
        findings=tuple(findings),
        references=shares,
        representation=represented,
        novelty=tuple(novelty(benches, shown, prints.read, found, terms)) if len(benches) > 1 else (),
        quality=qualities,
        shown=tuple(shown),
        duplicates=found,
        unreadable=tuple(prints.problems),
        notes=(*_notes(found, shown, prints.read, max_distance, least_likeness), terms.note),
    )


def _load(folders: Sequence[str | Path]) -> list[Benchmark]:
    if not folders:
        raise InputError("name at least one benchmark folder")
    real = [os.path.realpath(folder) for folder in folders]
    if twice := [path for path, count in Counter(real).items() if count > 1]:
        raise InputError(f"{twice[0]} is given twice; it would be found to leak into itself")
    benches = [load_benchmark(folder) for folder in folders]
    names = Counter(bench.name for bench in benches)
    return [
        replace(bench, name=f"{bench.name} ({Path(folder).name}, {number + 1})") if names[bench.name] > 1 else bench
        for number, (bench, folder) in enumerate(zip(benches, folders, strict=True))
    ]


def _unreadable(problems: Sequence[ImageProblem], n: int) -> Finding:
    examples = tuple({"picture": visible(p.path), "reason": visible(p.reason)} for p in problems[:10])
    return Finding("unreadable", "warning", "could not be read, so nothing is known of them", len(problems), "pictures",
                   n, "pictures", examples)  # fmt: skip


def _notes(found: Duplicates, shown: Sequence[Shown], read: np.ndarray, bits: int, likeness: float) -> list[str]:
    if not shown:
        return ["There is no picture, so no duplicate of one was looked for."]
    told = [
        f"Near duplicates differ in at most {bits} of 64 bits of their hash, with a likeness of {likeness:g} or more."
    ]
    told += LIMITS
    if found.near.cut:
        told.append(f"Only the {len(found.near.first):,} likest near pairs were kept; there are more.")
    return told


def worst_pairs(result: Audit, most: int = 24) -> list[SheetPair]:
    """The pairs for a contact sheet: leaks first, and near pairs before copies, which need no eye to be believed."""
    names = [bench.name for bench in result.benchmarks]
    pairs: list[tuple[tuple[int, int, float], SheetPair]] = []

    def add(one: int, other: int, exact: bool, headline: str, likeness: float) -> None:
        a, b = result.shown[one], result.shown[other]
        kind = relation(a, b)
        places = [(result.benchmarks[p.bench].root, p.path) for p in (a, b)]
        captions = [
            " ".join(part for part in (names[p.bench] if len(names) > 1 else "", p.case.split, p.case.id) if part)
            for p in (a, b)
        ]
        title = f"{kind}: {headline}; {_label(a)} / {_label(b)}"
        rank = (list(RELATIONS).index(kind), int(exact), -likeness)
        pairs.append((rank, SheetPair(places[0], places[1], (captions[0], captions[1]), title)))

    for first, second, turn, bits, likeness in near_rows(result.duplicates.near):
        add(first, second, False, f"{TURNS[turn]}, {bits} bits, {likeness:.3f}", likeness)
    for group in result.duplicates.exact:
        add(group[0], group[1], True, f"same pixels, {len(group)} times", 1.0)
    return [pair for _, pair in sorted(pairs, key=lambda entry: entry[0])[:most]]


def _label(picture: Shown) -> str:
    return ", ".join(picture.case.diagnosis) or "no label"
