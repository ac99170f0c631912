"""Blinded rating sheets: a folder per rater to send, and a key to keep (`rating_return` reads what comes back).

A rater sees opaque codes only, drawn anew for every item. Systems, case ids and file names stay in the key.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import secrets
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import polars as pl
from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel, ConfigDict

from ..judge.benchmark import Benchmark
from ..judge.errors import InputError
from ..judge.escape import visible
from ..judge.files import write_atomic
from ..judge.images import encode_jpeg, image_problems, prepare
from ..judge.records import Case, Narrative, identity
from ..judge.rubric import Rubric
from ..judge.tablefile import Problem, refuse, write_frame

SEND: Final = "raters"
KEY: Final = "key-not-for-raters/key.json"
BETWEEN = 5  # items at least, where there are enough, between an item and its hidden repeat
MAX_SIDE = 1024  # pixels; every item carries its picture twice, as a file and in the page
_LETTERS = "BCDFGHJKMNPQRSTVWXZ"  # no vowels, no look-alikes: no word, no date, no number for a spreadsheet to "mend"
FIRST, LAST = ("item",), ("comment", "images", "context", "narrative")  # programs drop empty cells at the end
_BLANKS = re.compile(r"[\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeyItem(_Strict):
    """What a code stands for. `narrative_hash`: of the text that a judge reads; `shown_hash`: of what the rater saw."""

    case_id: str
    system: str
    arm: str
    sample: int
    rater: str
    repeat: int
    narrative_hash: str
    shown_hash: str


class Key(_Strict):
    """The content of key.json; `items`: code -> narrative, in the order in which each rater sees them."""

    what: Literal["dermjudge rating key: not for raters"] = "dermjudge rating key: not for raters"
    benchmark: str
    version: str
    synthetic: bool
    rubric: Rubric
    rubric_hash: str
    seed: int
    raters: tuple[str, ...]
    overlap: float
    repeats: float
    items: dict[str, KeyItem]


class Sheets(NamedTuple):
    """What was written: number of narratives on the sheets, how many of them for all raters, per rater (items, of
    these repeats), and notes on what was left out or may give a system away."""

    folder: Path
    narratives: int
    shared: int
    raters: dict[str, tuple[int, int]]
    notes: list[str]


def make_sheets(
    bench: Benchmark, narratives: Sequence[Narrative], rubric: Rubric, out: str | Path, *, raters: int = 3,
    overlap: float = 0.3, repeats: float = 0.1, seed: int = 0,
) -> Sheets:  # fmt: skip
    """Write a folder of blinded sheets (a .csv to fill, a page to read, pictures) per rater, and the key.

    overlap: share of the narratives that every rater gets; the others go to one rater each, systems spread evenly.
    repeats: share of a rater's items that come a second time under another code. The same arguments give the same
    bytes. InputError for shares outside 0 to 1, a narrative without case, a bad picture, a folder that is not empty.
    """
    out = Path(os.path.abspath(out))
    if raters < 1 or not 0 <= overlap <= 1 or not 0 <= repeats <= 1:
        raise InputError(f"raters must be 1 or more, overlap and repeats 0 to 1, not {raters}, {overlap}, {repeats}")
    if clash := {name.casefold() for name in rubric.names} & {*FIRST, *LAST}:
        raise InputError(f"rubric {rubric.id}: a dimension cannot be called '{min(clash)}', a column of the sheet")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already; choose another folder, so that no key or filled sheet is lost")
    known = {identity(case.id): case for case in bench.cases}
    if lost := [n for n in narratives if identity(n.case_id) not in known]:
        raise InputError(f"{len(lost)} narratives are of no case of {bench.name}, such as '{visible(lost[0].case_id)}'")
    usable = sorted((n for n in narratives if n.judged), key=lambda n: n.key)
    if len(usable) < raters:
        raise InputError(f"{len(usable)} narratives with text are too few for {raters} raters")
    cases = {n.key: known[identity(n.case_id)] for n in usable}
    if bad := image_problems(bench.root, (i.path for case in cases.values() for i in case.images), max_side=MAX_SIDE):
        refuse([Problem(problem.path, 0, "", problem.reason) for problem in bad])
    notes = [f"left out, since there is no text to judge: {k}"] if (k := len(narratives) - len(usable)) else []
    notes += _telling(usable, cases)

    rng = random.Random(seed)
    lists, shared = _assign(usable, raters, overlap, rng)
    names = tuple(f"rater-{k + 1}" for k in range(raters))
    items: dict[str, KeyItem] = {}
    texts: dict[str, tuple[Case, str]] = {}
    orders = [_order(len(own), repeats, rng) for own in lists]
    codes = iter(_codes(sum(map(len, orders)), rng))
    for rater, own, order in zip(names, lists, orders, strict=True):
        for place, k in enumerate(order):
            code, n, text = next(codes), own[k], shown(own[k].judged)
            items[code] = KeyItem(
                case_id=n.case_id, system=n.system, arm=n.arm, sample=n.sample, rater=rater,
                repeat=int(k in order[:place]), narrative_hash=n.hash, shown_hash=shown_hash(text))  # fmt: skip
            texts[code] = (cases[n.key], text)
    key = Key(
        benchmark=bench.name, version=bench.version, synthetic=bench.synthetic, rubric=rubric, rubric_hash=rubric.hash,
        seed=seed, raters=names, overlap=overlap, repeats=repeats, items=items)  # fmt: skip

    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.part-{secrets.token_hex(4)}")
    try:
        for folder in (draft, draft / SEND, (draft / KEY).parent):
            folder.mkdir(mode=0o700)
        write_atomic(draft / KEY, json.dumps(key.model_dump(), indent=1), private=True)
        for rater in names:
            (draft / SEND / rater / "images").mkdir(parents=True)
        pictures = _write_pictures(draft / SEND, bench.root, items, texts)
        for rater in names:
            _write_rater(draft / SEND / rater, rater, key, texts, pictures)
        os.replace(draft, out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    counts = Counter((item.rater, item.repeat) for item in items.values())
    return Sheets(out, len(usable), shared, {r: (counts[r, 0] + counts[r, 1], counts[r, 1]) for r in names}, notes)


def shown(text: str) -> str:
    """Foreign text as raters see it: lines kept, every kind of blank as a space, all else that is hidden as {U+XXXX}.

    >>> shown("5\\u202fmm\\r\\nleft\\u200b")
    '5 mm\\nleft{U+200B}'
    """
    return "\n".join(visible(_BLANKS.sub(" ", line)) for line in re.split(r"\r\n|\r|\n", text))


def shown_hash(text: str) -> str:
    """Hash of the words: a spreadsheet may change line ends and blanks, and drop the ' before a formula sign."""
    words = " ".join(unicodedata.normalize("NFC", text).split()).lstrip("'")
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _telling(narratives: Sequence[Narrative], cases: dict[Any, Case]) -> list[str]:
    """A note on texts that name a system or their own case: they are shown as they are, so the rater may know."""
    systems = {n.system for n in narratives}
    found = []
    for n in narratives:
        text, names = f"{n.judged}\n{cases[n.key].context}".casefold(), {*systems, n.case_id}
        if any(re.search(rf"(?<!\w){re.escape(name.casefold())}(?!\w)", text) for name in names if len(name) > 2):
            found.append(visible(f"{n.case_id} / {n.system}"))
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    what = "a system or the case id is named in what the rater will read, in the narrative's own words or the context"
    return [f"{what}: {len(found)}, {', '.join(found[:5])}{more}"] if found else []


def _assign(narratives: Sequence[Narrative], raters: int, overlap: float, rng: random.Random) -> tuple[
        list[list[Narrative]], int]:  # fmt: skip
    """Each rater's narratives, and how many are shared; in both parts every system has its share (to within one)."""
    order = rng.sample(narratives, len(narratives))
    order.sort(key=lambda n: (n.system, n.arm))  # stable: drawn within each system
    n, shared = len(order), int(overlap * len(order) + 0.5)
    common = [(k + 1) * shared // n > k * shared // n for k in range(n)]
    both = [x for x, every in zip(order, common, strict=True) if every]
    rest = [x for x, every in zip(order, common, strict=True) if not every]
    return [both + rest[k::raters] for k in range(raters)], shared


def _order(size: int, repeats: float, rng: random.Random) -> list[int]:
    """Items in random order, some of them twice, as far apart as BETWEEN says or as the size allows.

    Repeats are put in one by one: a later one can only move an earlier pair further apart.
    """
    order = rng.sample(range(size), size)
    for item in rng.sample(order, int(repeats * size + 0.5)):
        at = order.index(item)
        between = [at - place if place <= at else place - at - 1 for place in range(len(order) + 1)]
        enough = min(BETWEEN, max(between))
        order.insert(rng.choice([place for place, items in enumerate(between) if items >= enough]), item)
    return order


def _codes(count: int, rng: random.Random) -> list[str]:
    base = len(_LETTERS)
    return ["".join(_LETTERS[n // base**k % base] for k in range(5)) for n in rng.sample(range(base**5), count)]


def _write_pictures(
    send: Path, root: Path, items: dict[str, KeyItem], texts: dict[str, tuple[Case, str]]
) -> dict[str, list[str]]:
    """Each item's pictures under its own code, since a common name would show what is a repeat; code -> names."""
    names: dict[str, list[str]] = {code: [] for code in items}
    for code in sorted(items, key=lambda code: texts[code][0].id):  # a case at a time, so each is decoded once
        for k, image in enumerate(texts[code][0].images, 1):
            name = f"images/{code}-{k}.jpg"
            pixels = prepare(root, image.path, max_side=MAX_SIDE).pixels
            (send / items[code].rater / name).write_bytes(encode_jpeg(pixels))
            names[code].append(name)
    return names


def _write_rater(
    folder: Path, rater: str, key: Key, texts: dict[str, tuple[Case, str]], pictures: dict[str, list[str]]
) -> None:
    codes = [code for code, item in key.items.items() if item.rater == rater]
    rows = [
        {"item": code, **dict.fromkeys(key.rubric.names, ""), "comment": "", "images": " ".join(pictures[code]),
         "context": shown(texts[code][0].context), "narrative": texts[code][1]}
        for code in codes
    ]  # fmt: skip
    table = folder / f"{rater}.csv"
    write_frame(pl.DataFrame(rows, schema=dict.fromkeys((*FIRST, *key.rubric.names, *LAST), pl.String)), table)
    write_atomic(table, b"\xef\xbb\xbf" + table.read_bytes())  # without the mark, Excel takes it for Windows-1252

    def entries() -> Iterator[dict[str, Any]]:  # read back one by one: the page may be larger than memory
        for row in rows:
            encoded = [base64.b64encode((folder / name).read_bytes()).decode() for name in pictures[row["item"]]]
            yield {"code": row["item"], "pictures": encoded, "context": row["context"], "narrative": row["narrative"]}

    templates = files(__package__).joinpath("templates")
    style = templates.joinpath("sheet.css").read_text("utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(
        templates.joinpath("sheet.html.j2").read_text("utf-8"))  # fmt: skip
    page.stream(
        rater=rater, rubric=key.rubric, synthetic=key.synthetic, count=len(rows), items=entries(), style=style,
        style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        several=any(len(pictures[code]) > 1 for code in codes),
    ).dump(str(folder / f"{rater}.html"), "utf-8")  # fmt: skip
