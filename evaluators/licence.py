"""The licence of a judge: per dimension, whether its scores may stand in for an expert's, by interval ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..judge.errors import InputError
from ..judge.rubric import Rubric
from .agreement import AgreementResult, agree
from .alternative import alternative_test
from .calibration import calibrate
from .ceiling import mean_of_experts
from .compare import compare_judges
from .licence_dimension import Evidence, license_dimension
from .licence_record import VERDICTS, Criterion, DimensionLicence, Further, Licence, hash_signature, load_licence
from .licence_rules import LicenceRules, load_rules
from .probes import ProbeSummary
from .ratings import Panel, clusters_of_cases, normalise, read_panel

__all__ = ["VERDICTS", "Criterion", "DimensionLicence", "Further", "Licence", "license_judge", "load_licence"]

FOLDS = 5
SAME = 1e-6  # scale units; two readings of the same ratings differ by rounding alone


def license_judge(
    frame: pl.DataFrame,
    levels: Sequence[int],
    judge: str,
    *,
    cluster: Mapping[str, str] | None = None,
    text_only: str | None = None,
    probes: ProbeSummary | None = None,
    rules: LicenceRules | str | Path | None = None,
    agreement: AgreementResult | None = None,
    signature: Mapping[str, Any] | str = "",
    rubric: Rubric | str = "",
    population: str = "",
    date: str = "",
    simulated: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> Licence:
    """Decide per dimension whether a judge is licensed, licensed after calibration, for report only, or still open.

    `frame`, `levels`, `cluster`: ratings of experts and judge, see `ratings.read_panel`. `text_only`: a judge in the
    ratings that sees no picture. `probes`: of this judge, see `probes.summarise_probes`. `rules`: thresholds or their
    file, default data/licence.yaml. `agreement`: what `agree` found on these ratings, to save time. `signature`,
    `rubric`, `population`, `date`: what the licence is bound to; a `Rubric` binds its words too. `simulated`: experts
    or judge are, and every verdict says so.

    A criterion holds if the whole interval meets it and fails if the whole interval misses it; all must hold (an
    intersection-union test, Berger 1982). The judge is not inferior to an expert if its error and its r, against the
    same leave-one-out targets, are within a margin. Scores are calibrated by maps fitted on other cases, never
    in-sample. Dimensions come in the rubric's order, else by name; the order of rows changes nothing.

    Raises InputError on unusable ratings or rules, no expert, an unknown judge, two rubrics, an `agreement` made of
    other ratings or settings, a signature that JSON cannot hold.
    """
    rules = rules if isinstance(rules, LicenceRules) else load_rules(rules)
    hash_signature(signature)  # refuses what cannot be recorded
    unit = "given" if cluster is not None else "patient_id" if "patient_id" in frame.columns else "case_id"
    frame = normalise(frame)
    clusters = clusters_of_cases(frame, cluster)
    known = sorted(set(frame.filter(pl.col("rater_kind") == "judge")["rater"]))
    for name in filter(None, (judge, text_only)):
        if name not in known:
            raise InputError(f"no judge '{name}' in the ratings; there are {', '.join(known) or 'none'}")
    own = frame.filter((pl.col("rater_kind") == "expert") | pl.col("rater").is_in([judge, text_only or judge]))
    panel = read_panel(own, levels, clusters)
    how: dict[str, Any] = {"resamples": resamples, "seed": seed, "alpha": rules.alpha}
    if agreement is None:
        agreement = agree(own, levels, judge, clusters, **how)
    else:
        _refuse_other(agreement, panel, judge, rules)
        how |= {name: agreement.settings[name] for name in ("resamples", "seed")}
    wanted = rubric.id if isinstance(rubric, Rubric) else rubric
    fitted = calibrate(own, levels, judge, clusters, "auto", FOLDS, rubric=wanted, **how)
    against = compare_judges(own, levels, judge, text_only, clusters, **how) if text_only else ()
    tests = alternative_test(own, levels, judge, cluster=clusters, resamples=1, seed=seed)
    evidence = Evidence(
        own, panel, judge, clusters, rules, agreement, fitted, tests, against, probes, simulated, how
    )  # fmt: skip
    order = rubric.names if isinstance(rubric, Rubric) else ()
    found = [license_dimension(evidence, d) for d in range(len(panel.dimensions))]
    found.sort(key=lambda f: (order.index(f.dimension) if f.dimension in order else len(order), f.dimension))
    return Licence(
        judge=judge,
        signature=dict(signature) if isinstance(signature, Mapping) else signature,
        rubric=fitted.rubric,
        rubric_hash=rubric.hash if isinstance(rubric, Rubric) else "",
        population=population,
        date=date,
        simulated=simulated,
        stage=panel.stage,
        levels=panel.levels,
        rules=rules,
        data_hash=fitted.data_hash,
        counts=_counts(panel, judge),
        dimensions=tuple(found),
        family=_family(len(found), rules),
        settings=dict(agreement.settings) | {"resampled_unit": unit, "folds": FOLDS, "text_only": text_only},
        notes=_notes(panel, rules, agreement),
    )


def _refuse_other(agreement: AgreementResult, panel: Panel, judge: str, rules: LicenceRules) -> None:
    asked = {"levels": list(panel.levels), "alpha": rules.alpha, "kept_out_of_range": False}
    for name, value in asked.items():
        if (made := agreement.settings[name]) != value:
            raise InputError(f"the agreement was made with {name} {made}; the licence needs {value}")
    j = panel.judge_names.index(judge)
    for d, name in enumerate(panel.dimensions):
        difference = panel.judges[d, :, j] - mean_of_experts(panel.experts[d])
        difference = difference[np.isfinite(difference)]
        found, n = agreement.of(judge, name)["item.bias"], len(difference)
        if found.n != n or (found.value is not None and abs(found.value - difference.mean()) > SAME):
            raise InputError(f"the agreement on '{name}' was made of other ratings ({found.n} narratives, here {n})")


def _counts(panel: Panel, judge: str) -> dict[str, int]:
    rated = np.isfinite(panel.experts).any(axis=(0, 2))
    used = rated & np.isfinite(panel.judges[:, :, panel.judge_names.index(judge)]).any(axis=0)
    columns = {"cases": panel.case, "clusters": panel.cluster, "systems": panel.system}
    found = {name: len(np.unique(values[used])) for name, values in columns.items()}
    return found | {
        "narratives": int(used.sum()),
        "experts": len(panel.raters) if panel.identity else 0,
        "expert_ratings": int(np.isfinite(panel.experts).sum()),
    }


def _family(dimensions: int, rules: LicenceRules) -> str:
    one, any_ = f"{100 * rules.alpha:g} %", f"{min(100.0, 100 * dimensions * rules.alpha):g} %"
    several = f", at least one of {dimensions} such dimensions with at most {any_}" if dimensions > 1 else ""
    return (
        f"{dimensions} dimension(s) judged, each by the ends of its own {100 - 100 * rules.alpha:g} % intervals. All "
        "criteria of a dimension must hold, so their number needs no correction; raw and calibrated scores are two "
        f"ways, so a judge just off its limit is licensed with a chance of at most about {one}{several}. That all "
        "dimensions are licensed (the gate) needs no correction."
    )


def _notes(panel: Panel, rules: LicenceRules, agreement: AgreementResult) -> tuple[str, ...]:
    notes = [*agreement.notes]
    if rules.picture and not any(rules.needs_picture(name) for name in panel.dimensions):
        notes.append(
            f"no dimension here is one of those that the rules tie to the picture ({', '.join(rules.picture)}), so "
            "nothing here was asked to answer to it"
        )
    return tuple(notes)
