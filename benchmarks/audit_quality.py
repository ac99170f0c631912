"""Image quality of a benchmark's pictures: a table case by case, and the tag on each picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ..judge.errors import InputError
from ..judge.escape import visible
from ..judge.images import MAX_PIXELS, reduced, stored
from ..judge.quality import MEASURES, TAGS, Quality, Tag, picture_quality, quality_faults, quality_tag
from ..judge.records import Case, identity
from ..judge.tablefile import check_columns, read_table, write_frame
from .picture_prints import in_order

_COLUMNS: list[tuple[str, Any]] = [
    ("benchmark", pl.String),
    ("case_id", pl.String),
    ("picture", pl.String),
    ("tag", pl.String),
    *((name, pl.Int64 if name == "resolution" else pl.Float64) for name in MEASURES),
    ("missing", pl.String),
    ("faults", pl.String),
    ("problem", pl.String),
]


class PictureQuality(NamedTuple):
    """One picture of one case: its measures and tag, or (both None) why it could not be read."""

    case_id: str
    path: str
    quality: Quality | None
    tag: Tag | None
    problem: str = ""

    def to_row(self) -> dict[str, Any]:
        """A flat row for a table: case_id, picture, tag, every measure, faults (names of measures), problem."""
        row: dict[str, Any] = dict.fromkeys(name for name, _ in _COLUMNS[1:])
        row |= {"case_id": self.case_id, "picture": self.path, "tag": self.tag}
        if self.quality is not None:
            row |= self.quality.to_dict()
            row["missing"] = "; ".join(f"{name}: {why}" for name, why in self.quality.missing.items())
            row["faults"] = ", ".join(fault.measure for fault in quality_faults(self.quality))
        return row | {"problem": self.problem}


def picture_qualities(
    root: Path,
    cases: Iterable[Case],
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[PictureQuality]:
    """Measure every picture of every case below `root`, read in a stream, in order; what cannot be read is a row, too.

    Pictures are decoded whole, since noise and resolution are those of the stored pixels.
    """
    places = [(case.id, path) for case in cases for path in dict.fromkeys(image.path for image in case.images)]
    rows = []
    for (case_id, path), found in zip(
        places, in_order(lambda place: _measure(root, place[1]), places, threads), strict=True
    ):
        quality, problem = (None, found) if isinstance(found, str) else (found, "")
        rows.append(PictureQuality(case_id, path, quality, quality_tag(quality) if quality else None, problem))
        if progress:
            progress(len(rows), len(places))
    return rows


def _measure(root: Path, path: str) -> Quality | str:
    try:
        return picture_quality(reduced(stored(root, path), MAX_PIXELS).pixels)
    except InputError as error:
        return str(error)


def tag_pictures(cases: Iterable[Case], tags: Mapping[tuple[str, str], str]) -> list[Case]:
    """The cases with `Image.quality` set from (case id, path) -> tag, for `case_attributes` ("quality").

    A tag that a picture brings along (a person's grade, say) stays; a picture without a tag here stays without.
    """

    def tagged(case: Case) -> Case:
        images = tuple(
            image if image.quality else replace(image, quality=tags.get((identity(case.id), image.path), ""))
            for image in case.images
        )
        return replace(case, images=images)

    return [tagged(case) for case in cases]


def tags_of(rows: Iterable[PictureQuality]) -> dict[tuple[str, str], str]:
    """(case id, path) -> tag of every picture that was measured."""
    return {(identity(row.case_id), row.path): row.tag for row in rows if row.tag}


def write_qualities(qualities: Mapping[str, Sequence[PictureQuality]], path: str | Path) -> None:
    """A table of a row per picture (benchmark, then `to_row`) as .csv or .parquet; InputError for another ending."""
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"{path}: the ending must be .csv or .parquet")
    rows = [{"benchmark": name} | row.to_row() for name, held in qualities.items() for row in held]
    write_frame(pl.DataFrame(rows, schema=_COLUMNS), path)


def read_quality_tags(path: str | Path, benchmark: str = "") -> dict[tuple[str, str], str]:
    """(case id, path) -> tag out of such a table, also one that a person has corrected; of one benchmark, if named.

    InputError for a missing column or a tag that is none of TAGS.
    """
    table = read_table(path)
    check_columns(table, [name for name, _ in _COLUMNS], ("case_id", "picture", "tag"))
    tags = {}
    for line, row in table.dicts():
        if benchmark and row.get("benchmark", benchmark) != benchmark:
            continue
        tag = (row["tag"] or "").strip()
        if tag and tag not in TAGS:
            raise InputError(f"{table.file} line {line}: the tag '{tag}' is none of {', '.join(TAGS)}")
        if tag:
            tags[identity(str(row["case_id"])), str(row["picture"])] = tag
    return tags


def quality_summary(rows: Sequence[PictureQuality]) -> dict[str, Any]:
    """Plain numbers: pictures by tag, unreadable ones, how often each measure is beyond its limit, some poor ones."""
    tags = Counter(row.tag for row in rows if row.tag)
    faults = [(row, fault) for row in rows if row.quality for fault in quality_faults(row.quality)]
    worst = [
        {"case": visible(row.case_id), "picture": visible(row.path), "measure": fault.measure,
         "value": round(fault.value, 4)}
        for row, fault in faults if fault.tag == "poor"
    ]  # fmt: skip
    return {
        "n": len(rows),
        "tags": {tag: tags.get(tag, 0) for tag in ("good", "doubtful", "poor")},
        "unreadable": sum(row.quality is None for row in rows),
        "faults": dict(Counter(f"{fault.measure}: {fault.tag}" for _, fault in faults)),
        "poor": worst[:10],
        "note": "Limits are rules of thumb (judge/quality.yaml) that no clinician has reviewed.",
    }
