"""A benchmark is a folder: benchmark.yaml, cases.jsonl, images/ and, if it has them, narratives and ratings.

SHA256SUMS lists every other file, in the form that `sha256sum -c` reads; benchmark.yaml holds the digests of
cases.jsonl and of SHA256SUMS, so one word changed anywhere is found.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import InputError
from .files import sha256_file, sync_folder
from .records import Case, identity
from .tablefile import read_text
from .tables import read_cases, write_cases

CARD: Final = "benchmark.yaml"
CASES: Final = "cases.jsonl"
SUMS: Final = "SHA256SUMS"

Source = Path | bytes


class Card(BaseModel):
    """What benchmark.yaml may say."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    licence: str = ""
    source: str = ""
    citation: str = ""
    synthetic: bool = False
    notes: str = ""
    splits: dict[str, int] = {}
    hashes: dict[Literal["cases.jsonl", "SHA256SUMS"], str] = {}


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as loaded. `root` is what image paths are relative to; `splits`: number of cases of each;
    `hashes`: the SHA-256 of cases.jsonl and of SHA256SUMS (hex), empty where benchmark.yaml has none."""

    name: str
    version: str
    licence: str
    source: str
    citation: str
    synthetic: bool
    root: Path
    cases: tuple[Case, ...]
    splits: Mapping[str, int]
    hashes: Mapping[str, str]
    notes: str = ""

    @property
    def cases_sha256(self) -> str:
        """SHA-256 (hex) of cases.jsonl, as benchmark.yaml says or as the file is; OSError if there is none."""
        return self.hashes.get("cases.jsonl") or sha256_file(self.root / "cases.jsonl")

    def select(self, split: str) -> tuple[Case, ...]:
        """The cases of one split; InputError if it has none of that name."""
        if chosen := tuple(case for case in self.cases if case.split == split):
            return chosen
        known = ", ".join(sorted({case.split for case in self.cases} - {""})) or "none"
        raise InputError(f"benchmark {self.name} has no split '{split}'; it has {known}")


def load_benchmark(folder: str | Path) -> Benchmark:
    """Read benchmark.yaml and cases.jsonl of a folder; images are opened when they are needed.

    InputError for a missing or bad file, unknown keys in benchmark.yaml, or a cases.jsonl that was changed after its
    hash was written. A folder written by hand needs no hashes.
    """
    folder = Path(folder)
    card = load_card(folder)
    cases = read_cases(folder / CASES)
    stated = card.hashes.get(CASES, "")
    if stated and (found := sha256_file(folder / CASES)) != stated:
        raise InputError(
            f"{folder / CASES} is not the file that {CARD} describes (SHA-256 {found[:8]}..., there {stated[:8]}...); "
            f"import it anew, or, if the change was meant, take 'hashes' out of {CARD} and raise 'version'"
        )
    return _benchmark(card, folder, cases)


def _benchmark(card: Card, folder: Path, cases: Sequence[Case]) -> Benchmark:
    fields = card.model_dump(exclude={"splits"})
    return Benchmark(**fields, root=folder, cases=tuple(cases), splits=_count_splits(cases))


def load_card(folder: str | Path) -> Card:
    """benchmark.yaml alone, checked; InputError that lists everything wrong with it."""
    folder = Path(folder)
    path = folder / CARD
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; a benchmark is a folder with {CARD}, {CASES} and images/")
    if not path.is_file():
        raise InputError(f"{folder} has no {CARD}; a benchmark is a folder with {CARD}, {CASES} and images/")
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: keys such as name, version and licence are needed")
    try:
        return Card.model_validate(content)
    except ValidationError as error:
        known = ", ".join(Card.model_fields)
        wrong = "\n".join(
            f"{path}: {'.'.join(map(str, e['loc']))}: "
            + (f"unknown key; known: {known}" if e["type"] == "extra_forbidden" else e["msg"]) for e in error.errors()
        )  # fmt: skip
        raise InputError(wrong) from error


def write_benchmark(
    folder: str | Path,
    *,
    name: str,
    version: str,
    licence: str,
    source: str,
    cases: Sequence[Case] | Callable[[], Sequence[Case]],
    images: Mapping[str, Source] | Iterable[tuple[str, Source]] = (),
    citation: str = "",
    synthetic: bool = False,
    notes: str | Callable[[], str] = "",
    extra: Callable[[Path], object] | None = None,
) -> Benchmark:
    """Write a benchmark folder; it is there whole or not at all.

    images: (path relative to the folder, bytes or a file to copy), read one at a time; every image of every case must
    be among them. cases, notes: a function is called once all images are written, for what is only known then.
    `extra` is called after that with the unfinished folder and may write further tables into it. The same arguments
    give the same bytes. InputError if the folder exists and is not empty, for paths that leave it, or if cases and
    images do not fit; whatever is raised on the way, no folder is left.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already; choose another folder or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.part-{secrets.token_hex(4)}")
    draft.mkdir()
    try:
        written: dict[str, str] = {}  # path -> SHA-256 of its bytes, taken on the way so that nothing is read twice
        for path, content in images.items() if isinstance(images, Mapping) else images:
            _check_path(path)
            if path in written:
                raise InputError(f"the image {path} is given twice")
            target = draft / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                target.write_bytes(content)
                written[path] = hashlib.sha256(content).hexdigest()
            else:
                shutil.copyfile(content, target)
                written[path] = sha256_file(target)
        final = cases() if callable(cases) else cases
        wanted = {image.path: case.id for case in final for image in case.images}
        if absent := [path for path in wanted if path not in written]:
            raise InputError(f"case {wanted[absent[0]]}: its image {absent[0]} is not among those given "
                             f"({len(absent)} of {len(wanted)} are missing)")  # fmt: skip
        write_cases(final, draft / CASES)
        written_cases = read_cases(draft / CASES)  # what cannot be read back must not be left behind
        if extra:
            extra(draft)
        sums = "".join(f"{written.get(path) or sha256_file(draft / path)}  {path}\n" for path in _files(draft))
        (draft / SUMS).write_text(sums, "utf-8")
        card = Card(
            name=name, version=version, licence=licence, source=source, citation=citation, synthetic=synthetic,
            notes=notes() if callable(notes) else notes, splits=_count_splits(final),
            hashes={"cases.jsonl": sha256_file(draft / CASES), "SHA256SUMS": sha256_file(draft / SUMS)},
        )  # fmt: skip
        (draft / CARD).write_text(yaml.safe_dump(card.model_dump(), sort_keys=False, allow_unicode=True), "utf-8")
        os.replace(draft, folder)  # takes the place of an empty folder, too
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return _benchmark(card, folder, written_cases)


def _check_path(path: str) -> None:
    plain = PurePosixPath(path)
    if plain.parts[:1] != ("images",) or len(plain.parts) < 2 or ".." in plain.parts or str(plain) != path or (
            set(path) & set("\\:")) or not path.isprintable():  # fmt: skip
        raise InputError(f"image path {path!r}: a plain path below images/ is needed, such as images/1.png")


def _files(folder: Path) -> list[str]:
    """Every file below a benchmark folder but benchmark.yaml and SHA256SUMS, as posix paths in order."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path not in (CARD, SUMS))


def _count_splits(cases: Iterable[Case]) -> dict[str, int]:
    return dict(sorted(Counter(case.split for case in cases if case.split).items()))


def check_hashes(folder: str | Path) -> list[tuple[str, str]]:
    """(path, what is wrong) for every file that is not as SHA256SUMS says, is missing, or is not listed there."""
    folder = Path(folder)
    if not (folder / SUMS).is_file():
        return [(SUMS, "is missing, so no file can be checked")]
    wrong = []
    stated = load_card(folder).hashes.get(SUMS, "")
    if stated and sha256_file(folder / SUMS) != stated:
        wrong.append((SUMS, f"is not the file that {CARD} describes"))
    listed = {}
    for line in (folder / SUMS).read_text("utf-8").splitlines():
        digest, _, path = line.partition("  ")
        listed[path] = digest
    present = set(_files(folder))
    wrong += [(path, f"is listed in {SUMS} but not there") for path in sorted(set(listed) - present)]
    wrong += [(path, f"is not listed in {SUMS}") for path in sorted(present - set(listed))]
    changed = [path for path in sorted(present & set(listed)) if sha256_file(folder / path) != listed[path]]
    return wrong + [(path, "was changed after the benchmark was written") for path in changed]


def assign_splits(
    cases: Iterable[Case],
    fractions: Mapping[str, float],
    by: Literal["patient_id", "lesion_id"] = "patient_id",
    seed: int = 0,
) -> list[Case]:
    """Give each case a split; all cases of one patient (or lesion) get the same.

    The split follows from a hash of seed and group id, so it depends neither on the order nor on the other cases;
    shares are met in expectation. A case without that id counts by its other group id, else on its own.
    fractions: shares of the splits, summing to 1. InputError otherwise.

    >>> [case.split for case in assign_splits([Case("a", patient_id="p"), Case("b", patient_id="P")], {"test": 1})]
    ['test', 'test']
    """
    if by not in ("patient_id", "lesion_id"):
        raise InputError(f"cases are split by patient_id or lesion_id, not by '{by}'")
    if not fractions or min(fractions.values()) < 0 or abs(sum(fractions.values()) - 1) > 1e-9:
        raise InputError(f"the shares of the splits must be 0 or more and sum to 1, not {dict(fractions)}")
    return [dataclasses.replace(case, split=_draw(_group(case, by), fractions, seed)) for case in cases]


def _group(case: Case, by: str) -> str:
    other = case.lesion_id if by == "patient_id" else case.patient_id
    return identity(getattr(case, by) or other or case.id)


def _draw(group: str, fractions: Mapping[str, float], seed: int) -> str:
    digest = hashlib.sha256(f"{seed}\0{group}".encode("utf-8", "surrogatepass")).digest()
    point = int.from_bytes(digest[:7]) / 2**56  # 7 bytes: exact as a float, below 1
    passed = 0.0
    positive = [name for name, share in fractions.items() if share > 0]
    for name in positive:
        passed += fractions[name]
        if point < passed:
            return name
    return positive[-1]
