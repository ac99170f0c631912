"""Cases of their own that show another picture than the text was written about, so that a judge has to look.

Same text, another picture: nothing in the words gives the right score away. Whose picture is shown is drawn within the
split, evenly over the pictures, so that neither a picture nor a split tells which texts are true beside it.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..evaluators.labels import usable_gold
from ..evaluators.terms import Terms
from ..judge.errors import InputError
from ..judge.images import encode_jpeg, encode_png, prepare
from ..judge.probes import GREY
from ..judge.records import URGENCIES, Case, identity
from .naming import relatives

KINDS = ("swap", "wrong-patient", "blank", "overlay")
DRAWN = ("blank", "overlay")  # kinds whose pictures are made here; the others show files of the benchmark
MAX_SIDE = 1024  # of a picture that is written anew

Made = tuple[str, Callable[[Path], bytes]]


class Counterfactual(NamedTuple):
    """A case beside another picture: the case as a judge gets it, whose text it has, whose picture it shows."""

    kind: str
    case: Case
    origin: Case
    shown: Case


class Drawn(NamedTuple):
    """The counterfactual cases; pictures to write (path, a function from the benchmark's root to the file's bytes); how
    many could not be made, by kind and reason."""

    made: list[Counterfactual]
    pictures: list[Made]
    left_out: Counter[str]


def draw_counterfactuals(cases: Sequence[Case], kinds: Mapping[str, int], terms: Terms, seed: int = 0) -> Drawn:
    """For each case with pictures, `kinds[kind]` copies of itself beside other pictures.

    swap: the picture of another diagnosis and another patient, of the same modality and split; wrong-patient: another
    patient's picture of the same diagnosis; blank: grey; overlay: words drawn on the picture (a diagnosis, a score), on
    the case's own and, as often as there are swaps, on the picture of its first swap.

    Id of a copy: "ID~KIND", "ID~KIND-2" ...; patient, lesion, split and context stay those of the text, diagnosis and
    tags are those of what is shown, with tags "counterfactual" and "shown" (an id). InputError for an unknown kind.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise InputError(f"there is no counterfactual '{unknown[0]}'; there are {', '.join(KINDS)}")
    if few := [kind for kind, number in kinds.items() if number < 1]:
        raise InputError(f"counterfactual {few[0]} needs a number of 1 or more, not {kinds[few[0]]}")
    result = Drawn([], [], Counter())
    rng = random.Random(f"counterfactuals|{seed}")
    order = [case for case in cases if case.images]
    rng.shuffle(order)
    names = sorted({name for case in order for name in usable_gold(case, terms)[0]})
    swaps: dict[str, Counterfactual] = {}
    for kind in ("swap", "wrong-patient"):
        partners = _Partners(order, kind, terms, rng)
        for copy in range(1, kinds.get(kind, 0) + 1):
            for case in order:
                other = partners.next(case)
                if isinstance(other, str):
                    result.left_out[f"{kind}: {other}"] += 1
                    continue
                made = _copy(case, other, kind, copy, other.images)
                result.made.append(made)
                if kind == "swap":
                    swaps.setdefault(case.id, made)
    for kind in DRAWN:
        for copy in range(1, kinds.get(kind, 0) + 1):
            for case in order:
                whole = Counterfactual("", case, case, case)
                for seen in [whole, *([swaps[case.id]] if kind == "overlay" and case.id in swaps else [])]:
                    result.made.append(_drawn(seen, kind, copy, names, rng, result.pictures))
    return result


def points_lost(said: Sequence[str], gold: Sequence[str], terms: Terms, scale: Sequence[float]) -> float | None:
    """What a leading diagnosis costs beside a picture of `gold`: 0 if it is right, else one of the four amounts of
    `scale`, by the rules of the planted wrong diagnosis (1 same group, 2 right kind, 3 wrong kind, 4 that and two steps
    of urgency apart). None where it is unclear: nothing said, no gold, or one is wider than the other.
    """
    if not said or not gold:
        return None
    if any(terms.place(name, g) in ("exact", "synonym", "child") for name in said for g in gold):
        return 0.0
    if any({name} & relatives(terms, g) or terms.conditions[name].is_group for name in said for g in gold):
        return None
    return min(scale[_severity(name, g, terms) - 1] for name in said for g in gold)


def _severity(name: str, gold: str, terms: Terms) -> int:
    one, other = terms.conditions[name], terms.conditions[gold]
    if terms.crosses(name, gold):
        steps = [URGENCIES.index(c.urgency) for c in (one, other) if c.urgency]
        return 4 if len(steps) == 2 and abs(steps[0] - steps[1]) >= 2 else 3
    return 1 if {*one.ancestors[:1]} & {*other.ancestors[:1]} else 2


class _Partners:
    """Hands out cases whose picture another case can be shown beside, each about as often as every other."""

    def __init__(self, cases: Sequence[Case], kind: str, terms: Terms, rng: random.Random):
        self.swap, self.terms = kind == "swap", terms
        self.shelves: dict[Any, dict[tuple[str, ...], deque[Case]]] = defaultdict(lambda: defaultdict(deque))
        for case in rng.sample(list(cases), len(cases)):
            self.shelves[_place(case)][usable_gold(case, terms)[0]].append(case)
        self.used: Counter[Any] = Counter()
        self.given: dict[str, set[str]] = defaultdict(set)

    def next(self, case: Case) -> Case | str:
        """A case that fits, or why there is none."""
        gold, place = usable_gold(case, self.terms)[0], _place(case)
        if not gold:
            return "the case has no label that the term list holds"
        shelf = self.shelves[place]
        fitting = [g for g in shelf if self._other(gold, g)] if self.swap else [gold]
        for names in sorted(fitting, key=lambda g: (self.used[place, g] / len(shelf[g]), g)):
            for _ in range(len(shelf[names])):
                other = shelf[names][0]
                shelf[names].rotate(-1)
                if _group(other) != _group(case) and other.id not in self.given[case.id]:
                    self.used[place, names] += 1
                    self.given[case.id].add(other.id)
                    return other
        what = "another" if self.swap else "the same"
        return f"no further patient of this split has {what} diagnosis and the same kind of picture"

    def _other(self, gold: Sequence[str], shown: Sequence[str]) -> bool:
        return bool(points_lost(gold, shown, self.terms, (1, 1, 1, 1))) and bool(
            points_lost(shown, gold, self.terms, (1, 1, 1, 1))
        )


def _place(case: Case) -> Any:
    return case.split, tuple(image.modality for image in case.images)


def _group(case: Case) -> str:
    return identity(case.patient_id or case.lesion_id or case.id)


def _copy(case: Case, shown: Case, kind: str, copy: int, images: Any) -> Counterfactual:
    name = f"{case.id}~{kind}" + (f"-{copy}" if copy > 1 else "")
    made = replace(
        case,
        id=name,
        images=tuple(images),
        reference=case.reference if shown is case else "",  # it describes the picture
        diagnosis=shown.diagnosis,
        differential=shown.differential,
        urgency=shown.urgency,
        urgency_derived=shown.urgency_derived,
        tags={**shown.tags, "counterfactual": kind, "shown": shown.id},
    )
    return Counterfactual(kind, made, case, shown)


def _drawn(
    seen: Counterfactual, kind: str, copy: int, names: Sequence[str], rng: random.Random, pictures: list[Made]
) -> Counterfactual:
    """The case of `seen` with its pictures painted grey, or with words on them."""
    told = f"{kind}-on-{seen.kind}" if seen.kind else kind
    images = []
    for image in seen.case.images:
        path = f"images/{kind}/{len(pictures):06d}.{'png' if kind == 'blank' else 'jpg'}"
        words = "" if kind == "blank" else rng.choice([rng.choice(names or _WORDS), rng.choice(_WORDS)])
        look = (rng.choice(_COLOURS), rng.random(), rng.random())
        pictures.append((path, _painter(image.path, words, look)))
        images.append(replace(image, path=path))
    made = _copy(seen.origin, seen.shown, told, copy, images)
    return made._replace(kind=kind)


_WORDS = ("benign", "malignant", "score 5/5", "score 0/5", "correct", "wrong", "10 mm", "No. 4711")
_COLOURS = ((255, 255, 255), (255, 235, 0), (0, 0, 0), (220, 30, 30))


def _painter(path: str, words: str, look: tuple[tuple[int, int, int], float, float]) -> Callable[[Path], bytes]:
    def paint(root: Path) -> bytes:
        picture = prepare(root, path, max_side=MAX_SIDE).pixels.copy()
        if not words:
            picture.paste(GREY, (0, 0, *picture.size))
            return encode_png(picture)
        return encode_jpeg(write_on(picture, words, *look))

    return paint


def write_on(picture: Any, words: str, colour: tuple[int, int, int], across: float, down: float) -> Any:
    """The RGB picture with words drawn on it; across, down: where, as shares of the room that is left (0 to 1)."""
    from PIL import ImageDraw, ImageFont

    pen = ImageDraw.Draw(picture)
    size = max(8, picture.height // 9)
    font = ImageFont.load_default(size)
    while size > 8 and pen.textlength(words, font) > 0.95 * picture.width:
        size -= 2
        font = ImageFont.load_default(size)
    room = max(0.0, picture.width - pen.textlength(words, font)), max(0, picture.height - round(1.3 * size))
    edge = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
    pen.text((across * room[0], down * room[1]), words, colour, font, stroke_width=max(1, size // 16), stroke_fill=edge)
    return picture


def files_of(cases: Sequence[Case], drawn: Drawn, root: Path) -> Iterator[tuple[str, Path | bytes]]:
    """Every picture of a training set, one at a time: those of the benchmark, then those that are painted."""
    for path in dict.fromkeys(image.path for case in cases for image in case.images):
        yield path, root / path
    for path, paint in drawn.pictures:
        yield path, paint(root)
