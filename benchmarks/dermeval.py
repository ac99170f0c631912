"""The published DermEval record: image, diagnostic_text, evaluation_text, scores (.jsonl, or .json with a list)."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from ..judge.errors import InputError
from ..judge.records import Case, Image, Narrative, Rating, Score
from ..judge.rubric import Rubric, load_rubric
from ..judge.tablefile import Problem, local_file, parse_json, read_text
from .bundle import Bundle, Pictures

_TEXTS = ("diagnostic_text", "candidate_text", "narrative", "answer", "text")
_CRITIQUES = ("evaluation_text", "label_text", "critique")


def read(
    root: str | Path,
    *,
    images: str | Path | None = None,
    system: str = "candidate",
    rater: str = "physician",
    rubric: str = "derm6",
    licence: str = "",
) -> Bundle:
    """Read DermEval records of one file into cases (one per image), narratives and expert ratings.

    images: the folder to which `image` is relative (None: text only). system, rater: names to use where a record has
    no `model` or `rater`. `scores` is an object, a list in the rubric's order, or a field per dimension. A score off
    the rubric's range is kept as out_of_scale; `evaluation_text` goes whole into `answer`, its lines into `critique`.
    InputError if the file cannot be read or no record is usable.
    """
    path = local_file(root)
    words = load_rubric(rubric)
    pictures = Pictures(Path(images)) if images else None
    bundle = Bundle(
        "dermeval", "1", licence, "records in the DermEval form", "Shen et al., arXiv:2511.09195", [],
        Path(images) if images else None)  # fmt: skip
    cases: dict[str, Case] = {}
    taken: Counter[tuple[str, str]] = Counter()
    for line, record in _records(path, bundle.problems):
        try:
            case = _case(record, line, cases, pictures, licence)
            writer = str(record.get("model") or record.get("system") or system)
            narrative = Narrative(case.id, writer, _first(record, _TEXTS), sample=taken[case.id, writer])
            rating = _rating(record, narrative, words, str(record.get("rater") or rater))
        except ValueError as error:
            bundle.problems.append(Problem(path.name, line, str(record.get("id", "")), str(error)))
            continue
        taken[case.id, writer] += 1
        cases.setdefault(str(record["image"]), case)
        bundle.narratives.append(narrative)
        if rating:
            bundle.ratings.append(rating)
    bundle.cases = list(cases.values())
    if not bundle.cases:
        raise InputError(f"{path}: no usable record" + (f"; {bundle.problems[0]}" if bundle.problems else ""))
    odd = sum(score.state == "out_of_scale" for rating in bundle.ratings for score in rating.scores.values())
    bundle.notes = [
        "Experts of these records used their own words for the scale, not those of " + words.id + ".",
        *([f"{odd} scores are off the scale of {words.id} and were set aside (out_of_scale)."] if odd else []),
        *(["Imported without pictures: text only."] if pictures is None else []),
    ]
    return bundle


def _records(path: Path, problems: list[Problem]) -> list[tuple[int, dict[str, Any]]]:
    text = read_text(path)
    if path.suffix.lower() == ".jsonl":
        pieces = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
        found = []
        for line, piece in pieces:
            try:
                found.append((line, parse_json(piece)))
            except ValueError as error:
                problems.append(Problem(path.name, line, "", f"not a JSON object: {error}"))
    else:
        try:
            data = parse_json(text)
        except ValueError as error:
            raise InputError(f"{path} is not JSON: {error}") from error
        data = data.get("data") if isinstance(data, dict) else data
        if not isinstance(data, list):
            raise InputError(f"{path}: a JSON list, an object with a list 'data', or a .jsonl file is needed")
        found = list(enumerate(data, 1))
    problems += [Problem(path.name, n, "", "a JSON object is needed") for n, r in found if not isinstance(r, dict)]
    return [(n, record) for n, record in found if isinstance(record, dict)]


def _first(record: dict[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        if isinstance(record.get(name), str) and record[name].strip():
            return str(record[name])
    raise ValueError(f"none of {', '.join(names)} holds a text")


def _case(record: dict[str, Any], line: int, cases: dict[str, Case], pictures: Pictures | None, licence: str) -> Case:
    image = record.get("image")
    if not isinstance(image, str) or not image.strip():
        raise ValueError("'image' must be a relative path")
    if image in cases:
        return cases[image]
    name = str(record.get("id") or f"record-{line}")
    if any(case.id == name for case in cases.values()):
        raise ValueError(f"the id '{name}' stands already beside another image")
    shown = (Image(pictures.find(image)),) if pictures else ()
    return Case(name, shown, tags={"image": image}, source="DermEval", licence=licence)


def _rating(record: dict[str, Any], narrative: Narrative, rubric: Rubric, rater: str) -> Rating | None:
    scores = record.get("scores")
    if isinstance(scores, list):
        if len(scores) != len(rubric.names):
            raise ValueError(f"'scores' has {len(scores)} numbers; {rubric.id} has {len(rubric.names)} dimensions")
        scores = dict(zip(rubric.names, scores, strict=True))
    elif scores is None:
        scores = {key: value for key, value in record.items() if _plain(key) in map(_plain, rubric.names)}
    if not isinstance(scores, dict):
        raise ValueError("'scores' must be an object or a list")
    given = {_plain(key): value for key, value in scores.items() if _plain(key) != "overall"}
    if unknown := set(given) - set(map(_plain, rubric.names)):
        raise ValueError(f"'{min(unknown)}' is no dimension of {rubric.id}; it has {', '.join(rubric.names)}")
    try:
        answer = _first(record, _CRITIQUES)
    except ValueError:
        answer = ""
    if not given and not answer:
        return None
    return Rating(
        narrative.case_id, narrative.system, rater, "expert", rubric.id,
        {name: _score(name, given.get(_plain(name)), rubric) for name in rubric.names},
        arm=narrative.arm, sample=narrative.sample, critique=_critique(answer, rubric), answer=answer,
        narrative_hash=narrative.hash)  # fmt: skip


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _score(name: str, value: Any, rubric: Rubric) -> Score:
    if value is None:
        return Score(None, "skipped")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}: {value!r} is not a score; a number from {rubric.scale.low} to {rubric.scale.high}")
    if not rubric.scale.holds(value):
        return Score(None, "out_of_scale", f"{value} is not on the scale of {rubric.id}")
    return Score(float(value))


def _critique(text: str, rubric: Rubric) -> dict[str, str]:
    """The words behind "Dimension: 4.0 -" of each line that begins so."""
    found = {}
    for name in rubric.names:
        pattern = rf"(?im)^\s*\**{name.replace(' ', '[ _]')}\**\s*:\s*[0-9.]+(?:/\d+)?\s*[-–—:]\s*(.+)$"
        if match := re.search(pattern, text):
            found[name] = match.group(1).strip()
    return found
