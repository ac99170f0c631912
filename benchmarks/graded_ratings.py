"""A training set without experts: graded narratives with the scores that their faults leave, beside true and false
pictures.

The scores are SIMULATED: read off the rubric's anchors by rule (MedVAL, arXiv:2507.03152: synthetic degradations as
labels), by a rater that says so in its name. They can train a judge; they can license none.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from ..evaluators.labels import usable_gold
from ..evaluators.terms import Terms, load_terms
from ..judge.benchmark import Benchmark, assign_splits, write_benchmark
from ..judge.critique import NO_FAULT, Remark, write_remark
from ..judge.errors import InputError
from ..judge.records import Case, Narrative, Rating, Score, identity
from ..judge.rubric import Rubric, load_rubric
from ..judge.tables import write_narratives, write_ratings
from .bundle import SPLITS
from .counterfactual_cases import Counterfactual, draw_counterfactuals, files_of, points_lost
from .degrade import FAULTS, FULL, degrade
from .fault_edits import leading_item, named

RATER = "SIMULATED:degradation"
COUNTERFACTUALS: Mapping[str, int] = {"swap": 2, "wrong-patient": 1, "blank": 1, "overlay": 1}
SEEN = "Accuracy"  # the dimension that is checked against the picture
NOTE = (
    "SIMULATED RATINGS: no expert has seen these narratives. They were made by rule, and so were their scores, from "
    "the anchors of the rubric. A judge trained on them is not licensed by agreeing with them."
)
_MAY = "may change along with the fault; by how much nobody knows"
_ELSEWHERE = "depends on a picture that shows something else"
_SHARE = [loses / FULL for loses in FAULTS["wrong-diagnosis"].loses[SEEN]]


@dataclass(frozen=True)
class TrainingSetReport:
    """What a training set holds. `cases`: by kind ("own" or a counterfactual); `rated`, `unrated`: scores by dimension;
    `left_out`: what could not be made, by reason; `graded`: the report of the graded narratives; `splits`: cases."""

    narratives: int
    cases: Mapping[str, int]
    splits: Mapping[str, int]
    rated: Mapping[str, int]
    unrated: Mapping[str, int]
    left_out: Mapping[str, int]
    graded: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=(NOTE,))

    def to_dict(self) -> dict[str, Any]:
        return {
            **{name: dict(getattr(self, name)) for name in ("cases", "splits", "rated", "unrated", "left_out")},
            "narratives": self.narratives,
            "graded": dict(self.graded),
            "notes": list(self.notes),
        }


class _Rated(NamedTuple):
    narrative: Narrative
    rating: Rating


class _Clean(NamedTuple):
    """What is known of a clean narrative: the conditions that it concludes, its true scores ({}: all at the top)."""

    said: tuple[str, ...]
    truth: Mapping[str, float]


def training_set(
    benchmark: Benchmark,
    out: Path,
    source: str = "reference",
    narratives: Sequence[Narrative] | None = None,
    faults: Sequence[str] | None = None,
    counterfactuals: Mapping[str, int] = COUNTERFACTUALS,
    rubric: Rubric | None = None,
    terms: Terms | None = None,
    split_by: str = "patient_id",
    seed: int = 0,
) -> TrainingSetReport:
    """Write a benchmark folder with rated narratives that `train` takes: graded narratives (see `degrade`) beside their
    own pictures, and those whose fault leaves Accuracy alone also beside others (see `draw_counterfactuals`).

    A score is the top of the scale (or, for narratives of known truth, that truth) less what the fault costs, put on
    the scale's step by chance so that its mean is right. Not rated (state skipped): dimensions that may suffer along;
    beside another picture those that a wrong diagnosis may hurt; Accuracy beside a blank one, and beside another
    patient's where the text describes findings. Beside a swapped picture Accuracy falls as by a wrong diagnosis of the
    same distance. Left out: clean narratives that do not conclude their case's label, with all their copies.

    Cases keep their splits; where none has one, they are drawn by `split_by`. InputError if only some have one, if a
    patient or lesion stands in two, or for what `degrade` and `draw_counterfactuals` refuse.
    """
    rubric, terms = rubric or load_rubric("derm6"), terms or load_terms()
    cases = _split(benchmark.cases, split_by, seed)
    graded, report = degrade(cases, narratives, source, faults, terms=terms, rubric=rubric, seed=seed)  # type: ignore[arg-type]
    by_id = {identity(case.id): case for case in cases}
    clean = {n.key: _clean(n, terms) for n in graded if n.provenance["fault"] == "none"}
    left_out: Counter[str] = Counter()
    kept: list[Narrative] = []
    for narrative in graded:
        case = by_id[identity(narrative.case_id)]
        gold = usable_gold(case, terms)[0]
        if gold and points_lost(_origin(narrative, clean).said, gold, terms, _SHARE) != 0:
            left_out["narratives whose clean text does not conclude its label"] += 1
        else:
            kept.append(narrative)
    told = {identity(narrative.case_id) for narrative in kept}
    cases = [case for case in cases if identity(case.id) in told]
    drawn = draw_counterfactuals(cases, counterfactuals, terms, seed)
    rated = [_rate(narrative, _origin(narrative, clean).truth, rubric, {}, seed) for narrative in kept]
    by_case: dict[str, list[Narrative]] = {}
    for narrative in kept:
        if SEEN not in narrative.provenance.get("target", {}) and SEEN not in narrative.provenance.get("may", ()):
            by_case.setdefault(identity(narrative.case_id), []).append(narrative)
    for made in drawn.made:
        for narrative in by_case.get(identity(made.origin.id), []):
            rated.append(_beside(narrative, made, _origin(narrative, clean), rubric, terms, seed))
    every = [*cases, *(made.case for made in drawn.made)]
    write_benchmark(
        out,
        name=f"{benchmark.name}, SIMULATED ratings",
        version=f"{benchmark.version}-{source}-seed{seed}",
        licence=benchmark.licence,
        source=benchmark.source,
        citation=benchmark.citation,
        synthetic=True,  # as far as the ratings go: whatever is decided by them says SIMULATED
        notes=" ".join(filter(None, (NOTE, benchmark.notes))),
        cases=every,
        images=files_of(cases, drawn, benchmark.root),
        extra=lambda folder: _tables(folder, rated),
    )
    left_out.update(drawn.left_out)
    kinds = Counter(made.kind for made in drawn.made)
    scores = [(d, s.value is None) for _, rating in rated for d, s in rating.scores.items()]
    return TrainingSetReport(
        len(rated),
        {"own": len(cases), **kinds},
        dict(sorted(Counter(case.split for case in every).items())),
        {d: scores.count((d, False)) for d in rubric.names},
        {d: scores.count((d, True)) for d in rubric.names},
        dict(sorted(left_out.items())),
        report.to_dict(),
    )


def _split(cases: Sequence[Case], by: str, seed: int) -> list[Case]:
    without = [case for case in cases if not case.split]
    if without and len(without) < len(cases):
        raise InputError(
            f"{len(without)} of {len(cases)} cases have no split, such as '{without[0].id}'; give all one, or none"
        )
    result = assign_splits(cases, SPLITS, by, seed) if without else list(cases)  # type: ignore[arg-type]
    home: dict[tuple[str, str], Case] = {}
    for case in result:
        # Lesions may be numbered anew for each patient.
        kind, name = ("patient", case.patient_id) if case.patient_id else ("lesion", case.lesion_id)
        if name and (first := home.setdefault((kind, identity(name)), case)).split != case.split:
            raise InputError(
                f"{kind} '{name}' stands in two splits ({first.id}: {first.split}, {case.id}: {case.split}); "
                "a judge would be tested on what it was trained on"
            )
    return result


def _clean(narrative: Narrative, terms: Terms) -> _Clean:
    said = tuple(sorted(named(leading_item(narrative.judged, terms))))
    return _Clean(said, narrative.provenance.get("truth") or {})


def _origin(narrative: Narrative, clean: Mapping[Any, _Clean]) -> _Clean:
    """The clean narrative that this one was made of."""
    return clean[narrative.case_id, narrative.provenance["origin"], narrative.arm, narrative.sample]


def _beside(
    narrative: Narrative, made: Counterfactual, clean: _Clean, rubric: Rubric, terms: Terms, seed: int
) -> _Rated:
    """The narrative beside a counterfactual's picture, with what it should lose there."""
    target, may = dict(narrative.provenance.get("target", {})), set(narrative.provenance.get("may", ()))
    unknown: dict[str, str] = {}
    if made.kind == "blank":
        unknown[SEEN] = "nothing can be seen"
    elif made.shown.id != made.origin.id:
        lost = points_lost(clean.said, usable_gold(made.shown, terms)[0], terms, _SHARE)
        if lost != 0:
            unknown |= dict.fromkeys(FAULTS["wrong-diagnosis"].may, _ELSEWHERE)
        if lost and clean.truth.get(SEEN, FULL) == FULL:  # else what was misread may be right beside this picture
            target[SEEN] = lost * (rubric.scale.high - rubric.scale.low)
        elif lost != 0 or narrative.provenance["source"] != "metadata":  # other texts describe what was to be seen
            unknown[SEEN] = _ELSEWHERE
    shown = {"counterfactual": made.kind, "shown": made.shown.id}
    moved = replace(
        narrative,
        case_id=made.case.id,
        provenance={**narrative.provenance, "target": target, "may": sorted(may), **shown},
    )
    return _rate(moved, clean.truth, rubric, unknown, seed)


def _rate(
    narrative: Narrative, truth: Mapping[str, float], rubric: Rubric, unknown: Mapping[str, str], seed: int
) -> _Rated:
    said, scale = narrative.provenance, rubric.scale
    reasons = dict.fromkeys(said.get("may", ()), _MAY) | dict(unknown)
    scores = {}
    for name in rubric.names:
        if name in reasons:
            scores[name] = Score(None, "skipped", reasons[name])
            continue
        exact = truth.get(name, scale.high) - said.get("target", {}).get(name, 0)
        key = f"{seed}|{narrative.case_id}|{narrative.system}|{narrative.arm}|{narrative.sample}|{name}"
        chance = zlib.crc32(key.encode("utf-8", "surrogatepass")) / 2**32
        step = math.floor((exact - scale.low) / scale.step + chance)
        scores[name] = Score(float(max(scale.low + step * scale.step, scale.low)))  # worse than worst is worst
    words = {name: _words(name, narrative, truth) for name, score in scores.items() if score.value is not None}
    return _Rated(
        narrative,
        Rating(
            case_id=narrative.case_id,
            system=narrative.system,
            arm=narrative.arm,
            sample=narrative.sample,
            rater=RATER,
            rater_kind="expert",  # takes an expert's place; the name says that it is none
            rubric=rubric.id,
            scores=scores,
            critique={name: remark for name, remark in words.items() if remark},
            narrative_hash=narrative.hash,
        ),
    )


def _words(name: str, narrative: Narrative, truth: Mapping[str, float]) -> str:
    """What was planted in a dimension; "" where the clean narrative itself had lost something, nobody says what."""
    said = narrative.provenance
    if truth.get(name, FULL) < FULL:
        return ""
    if name not in said.get("target", {}):
        return NO_FAULT
    if said.get("counterfactual") and name == SEEN:
        return write_remark(Remark("wrong diagnosis", "the picture shows another"))
    return write_remark(Remark(said["fault"].replace("-", " ")))


def _tables(folder: Path, rated: Sequence[_Rated]) -> None:
    def narratives() -> Iterator[Narrative]:
        return (narrative for narrative, _ in rated)

    write_narratives(narratives(), folder / "narratives.jsonl")
    write_ratings([rating for _, rating in rated], folder / "ratings.parquet")
