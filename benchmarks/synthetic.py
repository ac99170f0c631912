"""The synthetic benchmark: rendered lesions, narratives with planted faults, a simulated expert panel. SYNTHETIC.

Truth is known here, so a judge, an agreement statistic and a calibration can be checked against what was planted.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from PIL import Image as Pillow

from ..judge.benchmark import write_benchmark
from ..judge.errors import InputError
from ..judge.records import Candidate, Case, Image, Narrative, Rating, Score
from ..judge.rubric import load_rubric
from ..judge.tables import write_narratives, write_ratings
from . import grammar, lesions
from .critiques import critique

PANEL = ("expert-1", "expert-2", "expert-3")
BIAS_SD, NOISE_SD, MISSING = 0.3, 0.5, 0.15
SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}


class Synthetic(NamedTuple):
    cases: list[Case]
    narratives: list[Narrative]
    ratings: list[Rating]


def make(
    cases: int, seed: int = 0, counterfactuals: float = 0.0, panel_seed: int = 0, anchors: float = 1.0
) -> Synthetic:
    """Draw `cases` cases of about cases/2 patients with four narratives each and three simulated experts.

    counterfactuals: share of cases (0-1) that stand beside another case's picture; truth and ratings follow the
    picture that is shown. panel_seed fixes the experts' biases, so that two benchmarks can share one panel. anchors:
    how a panel reads the scale's anchors: it feels high (true score / high) ** anchors; above 1 it is stricter.
    """
    if cases < 1 or anchors <= 0:
        raise InputError(f"cases must be 1 or more, not {cases}, and anchors above 0, not {anchors}")
    rng = np.random.default_rng([seed, 7])
    bias = np.random.default_rng([panel_seed, 11]).normal(0, BIAS_SD, (len(PANEL), len(grammar.DIMENSIONS)))
    rubric = load_rubric("derm6")
    patients = _patients(cases, seed, rng)
    worlds = [_world(rng) for _ in range(cases)]
    swapped = rng.random(cases) < counterfactuals
    donors = (np.arange(cases) + rng.integers(1, max(2, cases), cases)) % cases
    result = Synthetic([], [], [])
    for i, (world, patient) in enumerate(zip(worlds, patients, strict=True)):
        shown = worlds[donors[i]]["attributes"] if swapped[i] else world["attributes"]
        drawn = {"picture_seed": int(rng.integers(2**31)), "skin_tone": patient["skin_tone"], "site": world["site"]}
        if swapped[i]:
            drawn |= {"skin_tone": patients[donors[i]]["skin_tone"], "site": worlds[donors[i]]["site"]}
        case = _case(f"syn-{seed}-{i:06d}", world, patient, shown, drawn, bool(swapped[i]))
        result.cases.append(case)
        for system in grammar.SYSTEMS:
            claims = grammar.draw_claims(world, system, rng)
            truth = grammar.truth(world, claims, shown)
            text, spans = grammar.write(world, claims, rng, shown)
            narrative = Narrative(
                case_id=case.id,
                system=system,
                text=text,
                arm="image_context",
                differential=tuple(Candidate(name) for name in claims["differential"] or [claims["diagnosis"]]),
                triage=claims["triage"],
                language="en",
                finish_reason="stop",
                provenance={"synthetic": True, "claims": claims, "truth": truth, "spans": spans},
            )
            result.narratives.append(narrative)
            said = critique(world, claims, text, shown)
            felt = {name: rubric.scale.high * (value / rubric.scale.high) ** anchors for name, value in truth.items()}
            result.ratings.extend(_panel(narrative, felt, said, bias, rubric, rng))
    return result


def picture(case: Case) -> np.ndarray:
    """The case's picture, drawn again from its tags: uint8 [96, 96, 3]."""
    drawn = case.tags["drawn"]
    return lesions.render(case.tags["attributes"], drawn["site"], drawn["skin_tone"], drawn["picture_seed"])


def true_scores(case: Case, narrative: Narrative, shown: Case | None = None) -> dict[str, float]:
    """True score per dimension of this narrative beside the picture of `shown` (default: its own case's)."""
    beside = (shown or case).tags["attributes"]
    return grammar.truth(case.tags["world"], narrative.provenance["claims"], beside)


def true_changes(cases: Sequence[Case], narratives: Sequence[Narrative], probed: pl.DataFrame) -> pl.DataFrame | None:
    """The true scores beside a narrative's own and beside the probe's picture, as `evaluators.probes` takes them.

    probed: ratings of probes (flags "probe:NAME", "shown:CASE"). A blank picture has no truth and is left out. None if
    the narratives were not made by this generator.
    """
    if not all("claims" in narrative.provenance for narrative in narratives):
        return None
    by_id = {case.id: case for case in cases}
    told = {narrative.key: narrative for narrative in narratives}
    rows = []
    keys = probed.select("case_id", "system", "arm", "sample", "flags").unique(maintain_order=True)
    for row in keys.iter_rows(named=True):
        flags = dict(flag.split(":", 1) for flag in row.pop("flags") if ":" in flag)
        if flags["probe"] == "blank":
            continue
        case, narrative = by_id[row["case_id"]], told[tuple(row.values())]
        own, beside = true_scores(case, narrative), true_scores(case, narrative, by_id[flags["shown"]])
        rows += [
            row | {"probe": flags["probe"], "dimension": name, "own": own[name], "probed": beside[name]} for name in own
        ]
    return pl.DataFrame(rows) if rows else None


def version(seed: int, counterfactuals: float = 0.0, panel_seed: int = 0, anchors: float = 1.0) -> str:
    """What decides a synthetic benchmark beside its number of cases."""
    panel = f"-panel{panel_seed}-anchors{anchors:g}" if (panel_seed, anchors) != (0, 1.0) else ""
    return f"1-seed{seed}" + (f"-counterfactuals{counterfactuals:g}" if counterfactuals else "") + panel


def generate(
    out: Path, cases: int, seed: int = 0, counterfactuals: float = 0.0, panel_seed: int = 0, anchors: float = 1.0
) -> Synthetic:
    """Write the benchmark folder `out`; the same arguments (see `make`) give the same bytes."""
    made = make(cases, seed, counterfactuals, panel_seed, anchors)
    images = ((case.images[0].path, _png(picture(case))) for case in made.cases)
    write_benchmark(
        Path(out),
        name="synthetic",
        version=version(seed, counterfactuals, panel_seed, anchors),
        licence="CC0-1.0",
        source="dermjudge synthetic generator",
        synthetic=True,
        cases=made.cases,
        images=images,
        notes="SYNTHETIC: rendered lesions, grammar-made narratives, simulated experts. No patient, no clinician.",
        extra=lambda folder: _tables(folder, made),
    )
    return made


def _tables(folder: Path, made: Synthetic) -> None:
    write_narratives(made.narratives, folder / "narratives.jsonl")
    write_ratings(made.ratings, folder / "ratings.parquet")


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _patients(cases: int, seed: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """One entry per case; a patient has one to four cases and stays in one split."""
    entries: list[dict[str, Any]] = []
    number = 0
    while len(entries) < cases:
        patient = {
            "id": f"pat-{seed}-{number:06d}",
            "skin_tone": str(rng.choice(lesions.SKIN_TONES)),
            "sex": str(rng.choice(["female", "male"])),
            "age": int(rng.integers(5, 90)),
            "split": str(rng.choice(list(SPLITS), p=list(SPLITS.values()))),
        }
        entries += [patient] * int(rng.integers(1, 5))
        number += 1
    return entries[:cases]


def _world(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "attributes": {name: str(rng.choice(values)) for name, values in lesions.ATTRIBUTES.items()},
        "site": str(rng.choice(lesions.SITES)),
        "side": str(rng.choice(["left", "right"])),
        "red_flag": str(rng.choice(grammar.RED_FLAGS)) if rng.random() < 0.5 else "",
    }


def _case(
    name: str,
    world: dict[str, Any],
    patient: dict[str, Any],
    shown: dict[str, str],
    drawn: dict[str, Any],
    swapped: bool,
) -> Case:
    gold = grammar.diagnosis(shown)
    flag = world["red_flag"] or "nothing alarming"
    return Case(
        id=name,
        images=(Image(f"images/{name}.png", modality="synthetic", body_site=drawn["site"]),),
        patient_id=patient["id"],
        lesion_id=name,
        split=patient["split"],
        context=f"{patient['age']}-year-old {patient['sex']}, {world['side']} {world['site']}. Reported: {flag}.",
        diagnosis=(gold,),
        differential=(Candidate(gold, 1.0),),
        urgency=grammar.urgency(gold, world["red_flag"]),
        tags={
            "synthetic": True,
            "fitzpatrick": drawn["skin_tone"],
            "sex": patient["sex"],
            "age": patient["age"],
            "site": drawn["site"],
            "attributes": shown | {"diagnosis": gold},
            "world": world,
            "drawn": drawn,
            "counterfactual": swapped,
        },
        source="synthetic",
        licence="CC0-1.0",
    )


def _panel(
    narrative: Narrative,
    truth: dict[str, float],
    said: dict[str, str],
    bias: np.ndarray,
    rubric: Any,
    rng: np.random.Generator,
) -> Iterator[Rating]:
    """Each expert: truth + own bias per dimension + noise, on the rubric's step within its scale; some are missing."""
    scale = rubric.scale
    for r, rater in enumerate(PANEL):
        noise = rng.normal(0, NOISE_SD, len(truth))
        if rng.random() < MISSING:
            continue
        scores = {}
        for d, (dimension, value) in enumerate(truth.items()):
            felt = scale.low + round((value + bias[r, d] + noise[d] - scale.low) / scale.step) * scale.step
            scores[dimension] = Score(float(min(max(felt, scale.low), scale.high)))
        yield Rating(
            case_id=narrative.case_id,
            system=narrative.system,
            arm=narrative.arm,
            rater=rater,
            rater_kind="expert",
            rubric=rubric.id,
            scores=scores,
            critique=said,
            narrative_hash=narrative.hash,
        )
