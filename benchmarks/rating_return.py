"""Filled rating sheets back into ratings, and how well raters agree with their own first scores."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from ..evaluators.bootstrap import FEWEST_CLUSTERS, Estimate
from ..evaluators.proportions import mean, rate
from ..judge.errors import InputError
from ..judge.records import Rating, Score
from ..judge.tablefile import Problem, Table, check_columns, read_csv_table, read_text, refuse
from .rating_sheet import FIRST, KEY, LAST, SEND, Key, KeyItem, shown_hash

_SCORE = re.compile(r"[0-9]+(?:[.,][0-9]+)?")

Filled = dict[str, tuple[str, dict[str, Score], str]]  # code -> where it stands, scores, comment


class Returned(NamedTuple):
    """One rater's items: all of them, completely scored, scored in part, without any score; `file` "" if none came."""

    rater: str
    items: int
    done: int
    partly: int
    empty: int
    file: str


class IntraRater(NamedTuple):
    """How one rater (None: all of them) scores the same narrative twice, from `n` pairs of a dimension.

    `exact`: share of pairs with the same score; `difference`: mean absolute difference in scale units.
    """

    rater: str | None
    dimension: str
    n: int
    exact: Estimate
    difference: Estimate


def read_key(folder: str | Path) -> Key:
    """The key of a folder of sheets; InputError if it is missing or was changed by hand."""
    path = Path(folder) / KEY
    if not path.is_file():
        raise InputError(f"{folder} has no {KEY}; give the folder that `rate sheet` wrote")
    try:
        key = Key.model_validate_json(read_text(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if key.rubric.hash != key.rubric_hash:
        raise InputError(f"{path}: the rubric is not the one that the raters read (hash {key.rubric_hash})")
    return key


def read_sheets(folder: str | Path) -> tuple[list[Rating], list[Returned]]:
    """Every planned item as a Rating (expert, independent; hidden repeats as repeat 1), and how far each rater came.

    Tables may come from any spreadsheet program (comma, semicolon or tab; byte order mark; 3,5 for 3.5). An empty score
    is `skipped`, as is every score of a sheet that did not come back; the comment is the rating's `answer`. InputError
    lists unknown, doubled and missing items, changed narratives and scores off the scale, of all files at once.
    """
    key = read_key(folder)
    problems: list[Problem] = []
    ratings: list[Rating] = []
    returned: list[Returned] = []
    away = {name: Score(None, "skipped", "the sheet did not come back") for name in key.rubric.names}
    for rater in key.raters:
        own = {code: item for code, item in key.items.items() if item.rater == rater}
        there = sorted(p for p in (Path(folder) / SEND / rater).glob("*.*") if not p.name.startswith("."))
        tables = [path for path in there if path.suffix.lower() == ".csv"]
        for path in there:
            if not tables and path.suffix.lower() in (".xlsx", ".xls", ".ods", ".numbers"):
                problems.append(Problem(f"{rater}/{path.name}", 0, "", "is a workbook; save it as 'CSV UTF-8' as well"))
        filled: Filled = {}
        whole = bool(tables)
        for path in tables:
            try:
                table = read_csv_table(path)
                check_columns(table, (*FIRST, *key.rubric.names, *LAST), ("item", *key.rubric.names, "narrative"))
            except InputError as error:
                problems.append(Problem(rater, 0, "", str(error)))
                whole = False
            else:
                problems += _read_rows(table, key, own, filled)
        if whole:
            absent = [code for code in own if code not in filled]
            problems += [Problem(tables[0].name, 0, code, "the row of this item is missing") for code in absent]
        done = partly = 0
        for code, item in own.items():
            _, scores, comment = filled.get(code, ("", away, ""))
            given = sum(score.value is not None for score in scores.values())
            done += given == len(scores)
            partly += 0 < given < len(scores)
            ratings.append(Rating(
                item.case_id, item.system, rater, "expert", key.rubric.id, scores, item.arm, item.sample,
                repeat=item.repeat, answer=comment, narrative_hash=item.narrative_hash))  # fmt: skip
        empty = len(own) - done - partly
        returned.append(Returned(rater, len(own), done, partly, empty, tables[0].name if tables else ""))
    if problems:
        refuse(problems)
    return ratings, returned


def _read_rows(table: Table, key: Key, own: dict[str, KeyItem], filled: Filled) -> list[Problem]:
    """Put the rows of one table into `filled`, and list what is wrong with them."""
    problems = []
    scale = key.rubric.scale
    for line, row in table.dicts():
        code = row["item"].strip().upper()
        if not any(cell.strip() for cell in row.values()):
            continue  # spreadsheets leave empty rows at the end
        if code not in own:
            whose = f"belongs to {key.items[code].rater}" if code in key.items else "is no item of this study"
            problems.append(Problem(table.file, line, "item", f"'{code}' {whose}"))
            continue
        if code in filled:
            problems.append(Problem(table.file, line, code, f"stands already in {filled[code][0]}; keep one of them"))
            continue
        if shown_hash(row["narrative"]) != own[code].shown_hash:
            problems.append(Problem(table.file, line, code, "the narrative was changed or cut after it was sent; take "
                                    "the row's text from the sheet as it was sent"))  # fmt: skip
        scores = {}
        for name in key.rubric.names:
            cell = row[name].strip()
            value = float(cell.replace(",", ".")) if _SCORE.fullmatch(cell) else None
            if cell and (value is None or not scale.holds(value)):
                would_do = f"{scale.low} to {scale.high} in steps of {scale.step:g}, or an empty cell"
                problems.append(Problem(table.file, line, f"{code}, {name}", f"'{cell}' is no score; {would_do}"))
            scores[name] = Score(None, "skipped", "left empty") if value is None else Score(value)
        filled[code] = (f"{table.file} line {line}", scores, row.get("comment", "").strip())
    return problems


def intra_rater(ratings: Iterable[Rating]) -> list[IntraRater]:
    """Agreement of each rater, then of all together, with the rater's own first score of the same narrative.

    A pair is repeat 0 and 1 of one narrative, both scored. Intervals (95 %): `exact` Wilson, `difference` by redrawing
    cases; none below 20 cases with a pair. Without a pair the values are None with the reason.
    """
    ratings = list(ratings)
    first = {rating.key[:-1]: rating for rating in ratings if not rating.repeat}
    pairs: dict[tuple[str | None, str], list[tuple[str, float]]] = defaultdict(list)
    for rating in ratings:
        before = first.get(rating.key[:-1])
        for name, score in rating.scores.items():
            for rater in (rating.rater, None):
                found = pairs[rater, name]
                if rating.repeat == 1 and before and None not in (score.value, before.scores[name].value):
                    found.append((rating.case_id, abs(score.value - before.scores[name].value)))  # type: ignore[operator]
    return [
        IntraRater(rater, name, len(pairs[rater, name]), *_within(pairs[rater, name]))
        for rater, name in sorted(pairs, key=lambda pair: pair[0] is None)
    ]


def _within(pairs: list[tuple[str, float]]) -> tuple[Estimate, Estimate]:
    numbers = {case: k for k, case in enumerate(dict.fromkeys(case for case, _ in pairs))}
    if not pairs:
        return (Estimate(None, 0, reason="no hidden repeat was scored twice"),) * 2
    apart, cluster = [size for _, size in pairs], [numbers[case] for case, _ in pairs]
    exact, difference = rate([size == 0 for size in apart], cluster), mean(apart, cluster)
    if len(numbers) >= FEWEST_CLUSTERS:
        return exact, difference
    few = f"no interval: {len(pairs)} pairs of {len(numbers)} cases, {FEWEST_CLUSTERS} cases are needed"
    return Estimate(exact.value, exact.n, reason=few), Estimate(difference.value, difference.n, reason=few)
