"""The record of a licence: a verdict per dimension with every number behind it, and what it is bound to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..judge.errors import InputError
from ..judge.files import write_atomic
from ..judge.manifest import hash_value
from ..judge.rubric import Rubric
from .bootstrap import Estimate
from .calibration_record import _estimate, _estimates, _plain
from .licence_rules import LicenceRules

FORMAT = "dermjudge licence 1"
LICENSED, AFTER, REPORT, OPEN = "licensed", "licensed after calibration", "report only", "not enough data"
VERDICTS = (LICENSED, AFTER, REPORT, OPEN)
SIMULATED = "SIMULATED"
_MARK = f"{SIMULATED}: "


@dataclass(frozen=True)
class Criterion:
    """One requirement: `found` has to lie within `least` to `most` (None: no limit), the whole interval of it.

    `kind`: "data" (what must be there before anything is decided), "coverage", "error" (a calibration may mend it),
    "order" or "picture". `passed`: True or False if the interval lies wholly inside or outside, None if it does
    neither or is not known. `statistic`: its name in `agree`, "" where it is counted. `strict`: `most` itself fails.
    """

    name: str
    kind: str
    statistic: str
    found: Estimate
    least: float | None
    most: float | None
    strict: bool
    passed: bool | None

    @property
    def words(self) -> str:
        """Name, value with interval and n, and what is asked: "bias 0.031 (-0.02 to 0.08; n 240; -0.5 to 0.5)"."""
        found, counted = self.found, not self.statistic
        about = []
        if found.low is not None and found.high is not None:
            about.append(f"{found.low:.3f} to {found.high:.3f}")
        elif found.reason:
            about.append(found.reason)
        if found.n and not (counted and found.n == found.value):
            about.append(f"n {found.n}")
        if self.least is not None and self.most is not None:
            about.append(f"asked: {self.least:g} to {self.most:g}")
        elif self.least is not None:
            about.append(f"asked: at least {self.least:g}")
        elif self.most is not None:
            about.append(f"asked: {'below' if self.strict else 'at most'} {self.most:g}")
        value = "" if found.value is None else f" {found.value:.4g}" if counted else f" {found.value:.3f}"
        return f"{self.name}{value} ({'; '.join(about)})"

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {"found": self.found.to_dict(), "words": self.words}

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> Criterion:
        rest = {name: value for name, value in row.items() if name != "words"}
        return Criterion(**rest | {"found": _estimate(row["found"])})


@dataclass(frozen=True)
class Further:
    """What would decide: `cases` more rated cases (95 % range `low` to `high`), probably `towards` that verdict.

    `cases` None or 0: no number of cases does, and `reason` says what would.
    """

    cases: int | None
    low: int | None
    high: int | None
    towards: str | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class DimensionLicence:
    """One dimension: `verdict` (one of VERDICTS), why, its criteria, and the evidence.

    `criteria`: on the raw scores; `calibrated`: those that a calibration moves, on scores calibrated by maps fitted on
    other cases (empty where it was not needed). `results`, by name: all of `agree`, panel.* (experts among themselves),
    text_only.* and judge_minus_text_only.*, calibration.* (before, after, change), calibrated.*, PROBE.mean_change.
    `alternative`, `text_only`, `calibration`, `picture`: what else was found there, as plain JSON.
    """

    dimension: str
    verdict: str
    reason: str
    simulated: bool
    criteria: tuple[Criterion, ...]
    calibrated: tuple[Criterion, ...]
    further: Further | None
    counts: Mapping[str, Any]
    results: Mapping[str, Estimate]
    alternative: Mapping[str, Any]
    text_only: Mapping[str, Any]
    calibration: Mapping[str, Any]
    picture: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The verdict as it may be shown: a simulated one never without the word."""
        return (_MARK if self.simulated else "") + self.verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN; `verdict` is the label."""
        return vars(self) | {
            "verdict": self.label, "criteria": [c.to_dict() for c in self.criteria],
            "calibrated": [c.to_dict() for c in self.calibrated],
            "further": self.further.to_dict() if self.further else None, "counts": dict(self.counts),
            "results": _plain(self.results), "notes": list(self.notes),
        }  # fmt: skip

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> DimensionLicence:
        found = dict(row)
        found["verdict"] = row["verdict"].removeprefix(_MARK)
        for name in ("criteria", "calibrated"):
            found[name] = tuple(Criterion.from_dict(c) for c in row[name])
        found["further"] = Further(**row["further"]) if row["further"] else None
        found |= {"results": _estimates(row["results"]), "notes": tuple(row["notes"])}
        if found["verdict"] not in VERDICTS:
            raise ValueError(f"no verdict: {found['verdict']}")
        return DimensionLicence(**found)


@dataclass(frozen=True)
class Licence:
    """What a judge may be used for, dimension by dimension, and for which judge, rubric and cases that holds.

    `signature`: everything that moves the judge's scores, as given; `rubric`: its id, `rubric_hash` where it is known;
    `population`, `date`: the caller's words. `stage`: of the experts' ratings. `data_hash`: of the scores behind it.
    `family`: how many claims were made, and at which level. `counts`: cases, clusters, systems, experts, ratings.
    """

    judge: str
    signature: Any
    rubric: str
    rubric_hash: str
    population: str
    date: str
    simulated: bool
    stage: str
    levels: tuple[int, ...]
    rules: LicenceRules
    data_hash: str
    counts: Mapping[str, Any]
    dimensions: tuple[DimensionLicence, ...]
    family: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def signature_hash(self) -> str:
        """First 16 hex digits of the signature's SHA-256, or "" without one."""
        return hash_signature(self.signature)

    def of(self, dimension: str) -> DimensionLicence:
        """One dimension; InputError if there is none."""
        for found in self.dimensions:
            if found.dimension == dimension:
                return found
        known = ", ".join(d.dimension for d in self.dimensions)
        raise InputError(f"the licence has no dimension '{dimension}'; there are {known}")

    def passed(self, dimensions: Sequence[str] | None = None) -> bool:
        """Whether every dimension (default: all that were judged) is licensed, raw or after calibration.

        A licence from simulated ratings passes by its verdicts: the caller shows `label`, which says so.
        """
        wanted = [d.dimension for d in self.dimensions] if dimensions is None else list(dimensions)
        return bool(wanted) and all(self.of(name).verdict in (LICENSED, AFTER) for name in wanted)

    def applies_to(self, signature: Mapping[str, Any] | str, rubric: Rubric | str) -> str | None:
        """Why this licence says nothing of a judge with that signature on that rubric, or None if it does apply.

        Population and date are words: whether they fit stays with the reader.
        """
        if not self.signature_hash:
            return "the licence names no judge signature, so nobody can tell whether this is the judge it speaks of"
        given = hash_signature(signature)
        if not given:
            return "the judge comes without a signature, so nobody can tell whether the licence speaks of it"
        if given != self.signature_hash:
            return f"the licence is for another judge: {_differing(self.signature, signature)}"
        identity = rubric.id if isinstance(rubric, Rubric) else rubric
        if not self.rubric or identity != self.rubric:
            return f"the licence is for rubric '{self.rubric}', not '{identity}'"
        if self.rubric_hash and isinstance(rubric, Rubric) and rubric.hash != self.rubric_hash:
            return f"rubric {identity} has other words than when the judge was licensed"
        return None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without NaN."""
        return vars(self) | {
            "signature_hash": self.signature_hash, "levels": list(self.levels),
            "label": SIMULATED if self.simulated else "", "counts": dict(self.counts),
            "rules": self.rules.model_dump(mode="json") | {"hash": self.rules.hash},
            "dimensions": [d.to_dict() for d in self.dimensions], "settings": dict(self.settings),
            "notes": list(self.notes),
        }  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write as JSON with a check over the content."""
        content = {"format": FORMAT, **self.to_dict()}
        write_atomic(path, json.dumps({**content, "check": hash_value(content)}, indent=1, allow_nan=False) + "\n")


def load_licence(path: str | Path) -> Licence:
    """Read what `Licence.save` wrote; InputError for a file that is damaged, edited or of another version."""
    try:
        row = json.loads(Path(path).read_bytes())
        check = row.pop("check")
        if row["format"] != FORMAT or check != hash_value(row):
            raise ValueError("format or check differs")
        for name in ("format", "signature_hash", "label"):
            row.pop(name)
        row["rules"].pop("hash")
        row["rules"] = LicenceRules.model_validate(row["rules"])
        row["dimensions"] = tuple(DimensionLicence.from_dict(d) for d in row["dimensions"])
        return Licence(**row | {"levels": tuple(row["levels"]), "notes": tuple(row["notes"])})
    except OSError as error:
        raise InputError(f"cannot read licence {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is no licence as this version writes it: damaged, edited or foreign") from error


def hash_signature(signature: Any) -> str:
    """First 16 hex digits of the SHA-256 of a signature, whatever the order of its fields; "" for an empty one."""
    if not signature:
        return ""
    try:
        return hash_value(signature)[:16]
    except (TypeError, ValueError) as error:
        raise InputError(f"the signature cannot be recorded as JSON: {error}") from error


def _differing(mine: Any, other: Any) -> str:
    if isinstance(mine, Mapping) and isinstance(other, Mapping):
        fields = [name for name in sorted({*mine, *other}) if mine.get(name) != other.get(name)]
        return f"its signature differs in {', '.join(map(str, fields))}"
    return f"its signature is '{mine}', this one '{other}'"
