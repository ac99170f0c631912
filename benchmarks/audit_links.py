"""What ties cases together beside their pixels: patient, lesion, the published file, a series of files.

Across the splits of one benchmark a shared patient or lesion is a leak. Across benchmarks ids mean the same only where
the cases come from the same source; elsewhere a match is a hint.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from ..judge.benchmark import Benchmark
from ..judge.escape import visible
from ..judge.records import Case, identity
from .finding import Finding, Severity, case_place, some

_NUMBER = re.compile(r"[-_ ]*\d+$")
_SCHEME = (20, 0.1, 0.5)  # a name of more than 20 cases and a tenth, or of half, numbers them all and is no series

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
            return _series_name(case)
        case "file":
            return _file_name(case)
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
    return identity(_file_name(case))


def _file_name(case: Case) -> str:
    """The name under which the picture was published, where the importer kept it: imported files are named anew."""
    told = case.tags.get("image")
    return PurePosixPath(told).name if isinstance(told, str) else ""


def _series_name(case: Case) -> str:
    """The series that the importer found, else the published file's name (or the picture's) without its number.

    >>> _series_name(Case("c", tags={"image": "Acne Photos/acne-cystic-53.jpg"}))
    'acne-cystic'
    """
    if isinstance(told := case.tags.get("series"), str):
        return told
    name = _file_name(case) or (PurePosixPath(case.images[0].path).name if case.images else "")
    stem = PurePosixPath(name).stem
    series = _NUMBER.sub("", stem)
    return series if series != stem else ""


def _series(benches: Sequence[Benchmark]) -> Callable[[int, Case], str]:
    """A key that leaves out names which number a whole set ("ISIC_0024318", "dermbench_0001")."""
    count: dict[tuple[int, str], int] = defaultdict(int)
    for number, bench in enumerate(benches):
        for case in bench.cases:
            count[number, identity(_series_name(case))] += 1

    def key(number: int, case: Case) -> str:
        name = identity(_series_name(case))
        held, n = count[number, name], len(benches[number].cases)
        told = isinstance(case.tags.get("series"), str)
        few, tenth, half = _SCHEME
        return name if told or held <= min(max(few, tenth * n), half * n) else ""

    return key
