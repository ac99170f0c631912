"""Image probes: the same text beside another picture, to see whether a score answers to the picture at all."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .records import Case, identity

PROBES = ("swap", "blank", "wrong-patient")
GREY = (128, 128, 128)


class Shown(NamedTuple):
    """Whose pictures are shown: a case, the probe they belong to ("" for the case's own), and why there are none."""

    case: Case
    probe: str
    problem: str = ""

    def look(self, picture: Any) -> Any:
        """The picture that is shown: itself, or for the blank probe a grey one of the same size."""
        if self.probe != "blank":
            return picture
        from PIL import Image

        return Image.new("RGB", picture.size, GREY)

    @property
    def flags(self) -> tuple[str, ...]:
        return (f"probe:{self.probe}", f"shown:{self.case.id}") if self.probe else ()


def choose_pictures(cases: Sequence[Case], probe: str, seed: int) -> Mapping[str, Shown]:
    """For each case whose pictures it is shown beside, drawn by `seed`.

    swap: a case of another diagnosis and another patient, same modality; wrong-patient: another patient, same
    diagnosis and modality where there is one, else the same modality; blank: the case's own, painted grey. A case
    without pictures or without a partner gets the reason instead.
    """
    rng = random.Random(f"{probe}|{seed}")
    with_pictures = [case for case in cases if case.images]
    result = {}
    for case in cases:
        if not case.images:
            result[case.id] = Shown(case, probe, "the case has no picture, so nothing can be probed")
        elif probe == "blank":
            result[case.id] = Shown(case, probe)
        else:
            result[case.id] = _partner(case, with_pictures, probe, rng)
    return result


def _partner(case: Case, others: Sequence[Case], probe: str, rng: random.Random) -> Shown:
    fallback = None
    for _ in range(200):  # enough to find a rare partner; linear search only where drawing failed
        other = rng.choice(others)
        if (fit := _fits(case, other, probe)) == 2:
            return Shown(other, probe)
        fallback = fallback or (other if fit else None)
    best = next((other for other in others if _fits(case, other, probe) == 2), fallback)
    return Shown(best, probe) if best else Shown(case, probe, f"no other case fits the probe '{probe}'")


def _fits(case: Case, other: Case, probe: str) -> int:
    """2: fits; 1: will do if there is none better; 0: no."""
    same_patient = identity(case.patient_id or case.lesion_id or case.id) == identity(
        other.patient_id or other.lesion_id or other.id
    )
    same_kind = case.images[0].modality == other.images[0].modality and len(case.images) == len(other.images)
    if same_patient or not same_kind:
        return 0
    here, there = ({identity(name) for name in c.diagnosis} for c in (case, other))
    if probe == "swap":  # of none of the same names; a case without a diagnosis could be of any
        return 2 if here and there and not here & there else 0
    return 2 if here == there else 1
