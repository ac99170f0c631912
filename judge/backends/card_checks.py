"""Whether an adapter, the base it is put on, and this version of the program belong together, as its card says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import sha256_file
from ..prompt import template_hash
from ..rubric import Rubric
from .folder import PARTS, part_hash, weights_hash

FORMAT = 1
ORDERS = ("scores", "critique")  # which of the two a judge writes first
ADAPTER = "adapter_model.safetensors"
CALIBRATION = "calibration.json"


def check_card(card: Mapping[str, Any], base: Path, adapter: Path | None, rubric: Rubric) -> str:
    """Check everything that a card states; the hash of the base's weights, which is dear to compute twice.

    What a card does not state is not checked, so that cards of earlier versions load. InputError for the first thing
    that differs: it says what, and what to do.
    """
    if (stated := card.get("format", FORMAT)) != FORMAT:
        raise InputError(f"the judge's card has format {stated}, this version reads {FORMAT}; update dermjudge")
    if (order := card.get("order", "scores")) not in ORDERS:
        raise InputError(f"{Path(adapter or base).name}: order '{order}'; there are {', '.join(ORDERS)}")
    form = card.get("form", "full")
    if form == "bound" and card.get("rubric_hash") != rubric.hash:
        raise InputError(
            f"this judge was trained on rubric {card.get('rubric')} (hash {card.get('rubric_hash')}) and can "
            f"score no other; asked for {rubric.id} (hash {rubric.hash})"
        )
    # In the form "full" the template holds the rubric's words, so that of another rubric is another one by right.
    bound = form == "bound" or ("template" in card and card.get("rubric_hash") == rubric.hash)
    if bound and card.get("template") != template_hash(rubric, form):
        raise InputError("this judge was trained with another prompt template than this version writes; train it anew")
    weights = weights_hash(base)
    if adapter:
        _check_adapter(card, Path(base), Path(adapter), weights)
    return weights


def _check_adapter(card: Mapping[str, Any], base: Path, adapter: Path, weights: str) -> None:
    revision = f" at revision {card['base_revision']}" if card.get("base_revision") else ""
    wanted = f"{card.get('base', 'the base it was trained on')}{revision}"
    if card.get("base_weights") not in (None, weights):
        raise InputError(
            f"adapter {adapter} belongs to a base with weights {card['base_weights']} ({wanted}), but {base} "
            f"has {weights}; name that base"
        )
    for part in PARTS:
        stated = card.get(f"{part}_hash")
        if stated is not None and stated != (found := part_hash(base, part)):
            raise InputError(
                f"adapter {adapter} was trained with another {part} (hash {stated}) than {base} holds (hash {found}), "
                f"though the weights are the same; take {', '.join(_present(base, part))} from {wanted}"
            )
    for name, key in ((ADAPTER, "adapter_sha256"), (CALIBRATION, "calibration_sha256")):
        stated = card.get(key)
        if stated is None:
            continue
        if not (adapter / name).is_file():
            raise InputError(f"{adapter / name} is missing, though the card names it; copy the folder whole")
        if sha256_file(adapter / name) != stated:
            raise InputError(f"{adapter / name} is not the file that its card describes; copy the folder anew")


def _present(base: Path, part: str) -> list[str]:
    return [name for name in PARTS[part] if (base / name).is_file()] or [PARTS[part][0]]
