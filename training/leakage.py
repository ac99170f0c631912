"""The leakage guard: training data that share patients, lesions, files, series or pictures with what a judge is to be
evaluated on are refused, and what was held apart goes into the card.

Ids mean the same within one benchmark, within one source, and where their form is known the world over (ISIC_0024306).
Equal ids of two sources are the same or chance, and so are series of files: they are suspected, and refused unless a
reason is given.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..judge.benchmark import SUMS, Benchmark
from ..judge.errors import InputError
from ..judge.escape import visible
from ..judge.files import sha256_file
from ..judge.links import published_file, series_of
from ..judge.records import Case, identity
from .known_overlaps import known_overlap

KINDS = {
    "patient": "patients",
    "lesion": "lesions",
    "case": "cases",
    "file": "files",
    "series": "series of files",
    "picture": "pictures",
    "data set": "data sets",
}
_WORLDWIDE = re.compile(r"(?:isic|ip|il|ham)_\d{7}|bcn_\d{10}")
_EVERYWHERE = "*"


class Overlap(NamedTuple):
    """One thing that stands on both sides; `certain`: no chance that two things bear one name.

    `trained`, `held`: ids of a case on either side, or names of the benchmarks.
    """

    kind: str
    name: str
    trained: str
    held: str
    certain: bool = True


class Alike(NamedTuple):
    """What a comparison of pixels found: pairs of (trained picture, evaluation picture, how they are alike), by path.

    `trained`, `held`: how many pictures of either side were compared; `unread`: could not be, so nothing is known of
    them; `rule`: what counts as alike, in words.
    """

    pairs: Sequence[tuple[str, str, str]]
    trained: int
    held: int
    unread: int
    rule: str


class _Tie(NamedTuple):
    kind: str
    name: str
    scope: str
    case: Case


def sides(benchmark: Benchmark, split: str, held: Benchmark) -> tuple[list[Case], list[Case]]:
    """The cases trained on, and those they are held apart from.

    `held` may be the benchmark that is trained on: then its other splits are meant. InputError if nothing is left.
    """
    trained = [case for case in benchmark.cases if not split or case.split == split]
    same = _same(benchmark, held)
    others = [case for case in held.cases if case.split and case.split != split] if same else list(held.cases)
    if same and (not split or not others):
        raise InputError(f"{held.name} is what is trained on, and no other split of it is left to be held apart from")
    return trained, others


def _same(one: Benchmark, other: Benchmark) -> bool:
    """Whether two folders hold one benchmark, though perhaps under another version."""
    if os.path.realpath(one.root) == os.path.realpath(other.root):
        return True
    return one.name == other.name and {case.id for case in one.cases} == {case.id for case in other.cases}


def check_splits(benchmark: Benchmark, split: str) -> list[dict[str, Any]]:
    """Refuse a split that shares patients or lesions with another split of its own benchmark.

    Returns what goes into the card under "held_apart": an entry, or none without another split.
    """
    trained, others = ([c for c in benchmark.cases if c.split == split], [c for c in benchmark.cases if c.split])
    others = [case for case in others if case.split != split]
    if not split or not others:
        return []
    found = _shared(_ties(trained, [""] * len(trained), within=True), _ties(others, [""] * len(others), within=True))
    _refuse(found, f"split '{split}'", f"the other splits of {benchmark.name}", "")
    return [_entry(benchmark, trained, others, {}, [], "")]


def check_apart(
    benchmark: Benchmark,
    split: str,
    held: Benchmark,
    *,
    alike: Alike | None = None,
    names: Sequence[str] = (),
    allow: str = "",
) -> dict[str, Any]:
    """Refuse training data that share anything with the evaluation benchmark `held`.

    alike: what a comparison of all pictures found (None: only files with the same bytes are); names: further data that
    went into the judge, such as its base or what its start was trained on, looked up among data sets that are known to
    overlap; allow: a reason why suspected overlaps are none, written into the card. What is certain (patients, lesions,
    cases and files of one source, pictures) cannot be allowed. Returns the entry for the card. InputError lists what
    is shared.
    """
    trained, others = sides(benchmark, split, held)
    same = _same(benchmark, held)
    series = dict(zip((c.id for c in benchmark.cases), series_of(benchmark.cases), strict=True))
    series_held = dict(zip((c.id for c in held.cases), series_of(held.cases), strict=True))
    mine = _ties(trained, [series[c.id] for c in trained], within=same)
    theirs = _ties(others, [series_held[c.id] for c in others], within=same)
    found = _shared(mine, theirs)
    files, files_held = _file_hashes(benchmark, trained), _file_hashes(held, others)
    pairs = [(files[digest], files_held[digest], "the same file") for digest in files if digest in files_held]
    told = {pair[:2] for pair in pairs}
    pairs += [pair for pair in (alike.pairs if alike else ()) if pair[:2] not in told]
    found += [Overlap("picture", how, one, other) for one, other, how in pairs]
    if not same:
        found += _known([benchmark.name, benchmark.source, *_sources(trained), *names], held, others)
    _refuse(found, f"{benchmark.name} (split '{split}')" if split else benchmark.name, held.name, allow)
    compared: dict[str, list[int]] = {"files": [len(files), len(files_held)]}
    compared["series"] = [len({tie.name for tie in ties if tie.kind == "series"}) for ties in (mine, theirs)]
    if alike:
        compared["pictures"] = [alike.trained, alike.held]
    entry = _entry(held, trained, others, compared, found, allow)
    return entry | ({"rule": alike.rule, "unread": alike.unread} if alike else {})


def data_names(card: Mapping[str, Any]) -> list[str]:
    """Names of everything that a judge's card says went into it: base, data, and the judge it went on from."""
    data = card.get("data") or {}
    said = [card.get("base"), card.get("trained_on", {}).get("source"), data.get("benchmark"), data.get("source")]
    names = [name for name in said if isinstance(name, str) and name]
    return names + (data_names(card["start"]) if isinstance(card.get("start"), Mapping) else [])


def _ties(cases: Sequence[Case], series: Sequence[str], within: bool) -> list[_Tie]:
    return [tie for case, name in zip(cases, series, strict=True) for tie in _ties_of(case, name, within)]


def _ties_of(case: Case, series: str, within: bool) -> Iterator[_Tie]:
    scope = _EVERYWHERE if within else identity(case.source)
    file = PurePosixPath(published_file(case)).stem or next((PurePosixPath(i.path).stem for i in case.images), "")
    told = (("patient", case.patient_id), ("lesion", case.lesion_id), ("case", case.id), ("file", file))
    for kind, name in told:
        if key := identity(name):
            if kind in ("case", "file") and (known := _WORLDWIDE.search(key)):
                yield _Tie("file", known[0], _EVERYWHERE, case)  # a published picture, whatever an importer called it
            else:
                yield _Tie(kind, key, _EVERYWHERE if _WORLDWIDE.fullmatch(key) else scope, case)
    if series:
        yield _Tie("series", series, scope, case)


def _shared(trained: Sequence[_Tie], held: Sequence[_Tie]) -> list[Overlap]:
    """One overlap for each kind and name that both sides have; a certain one if there is any."""
    index: dict[tuple[str, str], list[_Tie]] = defaultdict(list)
    for tie in _distinct(held):
        index[tie.kind, tie.name].append(tie)
    found: dict[tuple[str, str], Overlap] = {}
    for one in _distinct(trained):
        for other in index.get((one.kind, one.name), ()):
            certain = bool(one.scope) and one.scope == other.scope and one.kind != "series"
            known = found.get((one.kind, one.name))
            if known and (known.certain or not certain):
                continue
            if one.kind in ("case", "file") and not certain:
                continue  # "1" and "1.jpg" are in every data set
            if one.kind == "lesion" and not _WORLDWIDE.fullmatch(one.name) and _strangers(one.case, other.case):
                continue  # numbered anew for each patient
            found[one.kind, one.name] = Overlap(one.kind, one.name, one.case.id, other.case.id, certain)
    return list(found.values())


def _distinct(ties: Sequence[_Tie]) -> list[_Tie]:
    """One tie for each name and scope (of a lesion: and patient), so that what follows takes no longer than this."""
    first: dict[tuple[str, ...], _Tie] = {}
    for tie in ties:
        first.setdefault((*tie[:3], identity(tie.case.patient_id) if tie.kind == "lesion" else ""), tie)
    return list(first.values())


def _strangers(one: Case, other: Case) -> bool:
    patients = {identity(one.patient_id), identity(other.patient_id)}
    return "" not in patients and len(patients) == 2


def _known(names: Sequence[str], held: Benchmark, others: Sequence[Case]) -> list[Overlap]:
    found: dict[str, Overlap] = {}
    for theirs in (held.name, held.source, *_sources(others)):
        for mine in names:
            if why := known_overlap(mine, theirs):
                found.setdefault(why, Overlap("data set", why, mine, theirs, False))
    return list(found.values())


def _sources(cases: Sequence[Case]) -> list[str]:
    return sorted({case.source for case in cases if case.source})


def _file_hashes(benchmark: Benchmark, cases: Sequence[Case]) -> dict[str, str]:
    """SHA-256 -> path of each picture; as written down where the benchmark says so (what is changed is found by
    `check_hashes`), else read. Pictures that are not there are left out."""
    listed: dict[str, str] = {}
    if (benchmark.root / SUMS).is_file():
        for line in (benchmark.root / SUMS).read_text("utf-8").splitlines():
            digest, _, path = line.partition("  ")
            listed[path] = digest
    found: dict[str, str] = {}
    for path in dict.fromkeys(image.path for case in cases for image in case.images):
        file = Path(benchmark.root) / path
        if path in listed or file.is_file():
            found.setdefault(listed.get(path) or sha256_file(file), path)
    return found


def _refuse(found: Sequence[Overlap], trained: str, held: str, allow: str) -> None:
    hard = [overlap for overlap in found if overlap.certain]
    open_ = hard or ([] if allow.strip() else found)
    if not open_:
        return
    counts = Counter(overlap.kind for overlap in open_)
    lines = [f"{trained} shares with {held}: " + ", ".join(f"{n} {KINDS[kind]}" for kind, n in counts.items())]
    for kind in counts:
        for overlap in [overlap for overlap in open_ if overlap.kind == kind][:3]:
            kind_name = visible(f"{kind} '{overlap.name}'" if kind != "data set" else overlap.name)
            lines.append(f"  {kind_name} (trained: {visible(overlap.trained)}, evaluated: {visible(overlap.held)})")
    lines.append(
        "take these cases out of one of the two, or split anew by patient; a judge is not evaluated on what it learnt"
        if hard
        else "the same, or chance: if it is chance, say so with --allow-overlap REASON, which goes into the card"
    )
    raise InputError("\n".join(lines))


def _entry(
    held: Benchmark,
    trained: Sequence[Case],
    others: Sequence[Case],
    compared: Mapping[str, list[int]],
    suspected: Sequence[Overlap],
    allow: str,
) -> dict[str, Any]:
    """What the card says: with what was compared, by what (distinct names on either side), and what was allowed.

    `no_patient`: cases of either side that name no patient, of whom nothing is known.
    """
    ids = {
        name: [len({identity(getattr(c, field)) for c in cases} - {""}) for cases in (trained, others)]
        for name, field in (("patients", "patient_id"), ("lesions", "lesion_id"))
    }
    entry: dict[str, Any] = {
        "benchmark": held.name,
        "version": held.version,
        "splits": dict(sorted(Counter(case.split for case in others).items())),
        "cases_sha256": held.cases_sha256,
        "trained_cases": len(trained),
        "cases": len(others),
        "no_patient": [sum(not case.patient_id for case in cases) for cases in (trained, others)],
        "compared": {**ids, **compared},
    }
    if suspected:
        entry |= {"allowed": allow.strip(), "suspected": [[o.kind, visible(o.name)] for o in suspected[:20]]}
    return entry
