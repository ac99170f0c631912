"""The words that all parts share: Case, Narrative and Rating.

Experts and judges produce the same `Rating`. Missing text is "", missing numbers are None; a score that is
not there has a state that says why.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

State = Literal[
    "scored",
    "refused",
    "filtered",
    "truncated",
    "unparsable",
    "missing_dimension",
    "out_of_scale",
    "input_error",
    "api_error",
    "skipped",
]
STATES: tuple[State, ...] = State.__args__  # type: ignore[attr-defined]
RATER_KINDS = ("expert", "judge")
STAGES = ("independent", "adjudicated")
URGENCIES = ("routine", "soon", "urgent", "emergent")

NarrativeKey = tuple[str, str, str, int]


class Candidate(NamedTuple):
    """One line of a differential: a diagnosis and its weight or stated confidence (None: not given)."""

    name: str
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """One picture of a case: a path relative to the data root (never pixels) and its tags."""

    path: str
    modality: str = ""
    body_site: str = ""
    quality: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """What is shown to a candidate model: one lesion or consultation of one patient.

    `diagnosis` holds the gold names (several if the source has several), `differential` the gold
    differential in order, `urgency` one of URGENCIES or ""; `urgency_derived` marks an urgency that was
    looked up by the diagnosis rather than judged on the patient. `tags` are subgroups and source fields.
    """

    id: str
    images: tuple[Image, ...] = ()
    patient_id: str = ""
    lesion_id: str = ""
    split: str = ""
    context: str = ""
    reference: str = ""
    diagnosis: tuple[str, ...] = ()
    differential: tuple[Candidate, ...] = ()
    urgency: str = ""
    urgency_derived: bool = False
    tags: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Narrative:
    """What a system wrote about a case. Key: case_id, system, arm, sample.

    `text` is raw; `judged` is what a judge reads (reasoning blocks dropped). `finish_reason` is the
    provider's word ("stop", "length", "content_filter", "refusal") or "" if unknown.
    """

    case_id: str
    system: str
    text: str
    arm: str = "image_only"
    sample: int = 0
    differential: tuple[Candidate, ...] = ()
    triage: str = ""
    language: str = ""
    finish_reason: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> NarrativeKey:
        return (self.case_id, self.system, self.arm, self.sample)

    @cached_property
    def judged(self) -> str:
        """The text for judging: `text` without reasoning blocks."""
        return strip_reasoning(self.text)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the judged text (hex)."""
        return hashlib.sha256(self.judged.encode("utf-8", "surrogatepass")).hexdigest()


class Score(NamedTuple):
    """One dimension of a rating: a value in scale units, or None with the state that says why.

    `distribution`: probability of each level of the rubric's scale, if the score was read from one.
    `mass`: probability on the score tokens before renormalising, in [0, 1].
    """

    value: float | None
    state: State = "scored"
    reason: str = ""
    distribution: tuple[float, ...] | None = None
    mass: float | None = None


@dataclass(frozen=True, slots=True)
class Rating:
    """What one rater thought of one narrative; experts and judges alike.

    Key: the narrative's key, rater, rubric, repeat. `rubric` is "name@version"; `stage` tells independent
    ratings from those made after discussion; `narrative_hash` is the hash of the text that was judged.
    """

    case_id: str
    system: str
    rater: str
    rater_kind: str
    rubric: str
    scores: Mapping[str, Score]
    arm: str = "image_only"
    sample: int = 0
    stage: str = "independent"
    repeat: int = 0
    critique: Mapping[str, str] = field(default_factory=dict)
    answer: str = ""
    cost: float | None = None
    narrative_hash: str = ""
    flags: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str, int, str, str, int]:
        return (self.case_id, self.system, self.arm, self.sample, self.rater, self.rubric, self.repeat)

    @property
    def overall(self) -> float | None:
        """Unweighted mean of the dimensions, computed by us; None unless every dimension is scored.

        >>> Rating("c", "s", "r", "expert", "x@1", {"A": Score(4), "B": Score(2)}).overall
        3.0
        """
        values = [score.value for score in self.scores.values()]
        if not values or any(value is None for value in values):
            return None
        return sum(v for v in values if v is not None) / len(values)


_TAG = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)


def strip_reasoning(text: str) -> str:
    """Drop `<think>` blocks; of a tag without a partner only the tag goes, since its extent is a guess.

    >>> strip_reasoning("<think>maybe BCC</think>Likely melanoma.")
    'Likely melanoma.'
    """
    kept: list[str] = []
    start, opened = 0, False
    for tag in _TAG.finditer(text):
        if not tag[1] and not opened:
            kept.append(text[start : tag.start()])
            start, opened = tag.end(), True
        elif tag[1]:
            if not opened:
                kept.append(text[start : tag.start()])
            start, opened = tag.end(), False
    kept.append(_TAG.sub("\n", text[start:]))
    return "\n".join(kept).strip()


def identity(text: str) -> str:
    """The form in which two ids count as equal: NFC, case-folded, trimmed.

    >>> identity(" Case-7 ") == identity("case-7")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).strip()
