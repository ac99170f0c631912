"""What ties cases together beside their pixels: patient, lesion, the published file, a series of files.

Across the splits of one benchmark a shared patient or lesion is a leak. Across benchmarks ids mean the same only where
the cases come from the same source; elsewhere a match is a hint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..judge.benchmark import Benchmark
from ..judge.escape import visible
from ..judge.links import published_file, series_name, series_of
from ..judge.records import Case, identity
from .finding import Finding, Severity, case_place, some

Placed = tuple[int, Case]  # the number of the benchmark, the case


def link_findings(benches: Sequence[Benchmark]) -> list[Finding]:
    """Patients, lesions, series and published files that stand in two splits or in two benchmarks."""
    cases = [(number, case) for number, bench in enumerate(benches) for case in bench.cases]
    found = [
        _shared(cases, benches, _patient, "patient-across-splits", "leak", "patients in two splits", False),
        _shared(cases, benches, _lesion, "lesion-across-splits", "leak", "lesions in two splits", False),
        _shared(cases, benches, _series(benches), "series-across-splits", "warning",
                "series of files (a name but for its number) in two splits: often one patient or session", False),
    ]  # fmt: skip
    if len(benches) > 1:
        for kind, key, text in (
            ("patient", _patient, "patients"),
            ("lesion", _lesion, "lesions"),
            ("case", _case, "case ids"),
            ("file", _file, "published files"),
        ):
            same = f"{text} of one source in two benchmarks"
            found.append(_shared(cases, benches, _with_source(key), f"{kind}-across-benchmarks", "leak", same, True))
            hint = f"equal names of {text} in two benchmarks of different sources: the same, or chance"
            found.append(_shared(cases, benches, key, f"{kind}-name-across-benchmarks", "warning", hint, True))
    return [finding for finding in found if finding]


def _shared(
    cases: Iterable[Placed],
    benches: Sequence[Benchmark],
    key: Callable[[int, Case], str],
    kind: str,
    severity: Severity,
    what: str,
    across: bool,
) -> Finding | None:
    """The groups of one key that stand in two splits of one benchmark, or (`across`) in two benchmarks."""
    groups: dict[tuple[int, str], list[Placed]] = defaultdict(list)
    for number, case in cases:
        if name := key(number, case):
            groups[0 if across else number, name].append((number, case))
    hit: list[dict[str, Any]] = []
    for held in groups.values():
        sides: dict[Any, Placed] = {}
        for number, case in held:
            if side := number + 1 if across else case.split:
                sides.setdefault(side, (number, case))
        if len(sides) < 2 or (kind.endswith("-name-across-benchmarks") and len({c.source for _, c in held}) < 2):
            continue
        two = [case_place(number, case, benches) for number, case in list(sides.values())[:2]]
        hit.append({"name": visible(_shown_name(kind, held[0])), "cases": len(held), "for example": two})
    if not hit:
        return None
    return Finding(kind, severity, what, len(hit), "groups", len(groups), "groups", some(hit))


def _shown_name(kind: str, held: Placed) -> str:
    number, case = held
    match kind.split("-")[0]:
        case "patient":
            return case.patient_id
        case "lesion":
            return case.lesion_id
        case "series":
            return series_name(case)
        case "file":
            return published_file(case)
        case _:
            return case.id


def _with_source(key: Callable[[int, Case], str]) -> Callable[[int, Case], str]:
    def keyed(number: int, case: Case) -> str:
        name = key(number, case)
        return f"{identity(case.source)}\0{name}" if name and case.source else ""

    return keyed


def _patient(number: int, case: Case) -> str:
    return identity(case.patient_id)


def _lesion(number: int, case: Case) -> str:
    # One patient's lesions are covered by the patient, and may be numbered anew for each.
    return "" if case.patient_id else identity(case.lesion_id)


def _case(number: int, case: Case) -> str:
    return identity(case.id)


def _file(number: int, case: Case) -> str:
    return identity(published_file(case))


def _series(benches: Sequence[Benchmark]) -> Callable[[int, Case], str]:
    """A key that leaves out names which number a whole set (see `judge.links`)."""
    names = [dict(zip((case.id for case in bench.cases), series_of(bench.cases), strict=True)) for bench in benches]
    return lambda number, case: names[number][case.id]
