"""What a run of generation would send and cost, told before anything is sent; estimates lie at the upper end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from ..judge.calls.prices import picture_tokens, text_tokens
from ..judge.journal import RESULT, decode
from ..judge.manifest import JOURNAL
from ..judge.records import Case
from .candidate_prompts import CandidatePrompt
from .candidates import plan
from .structured import answer_schema
from .systems import RecordedSystem, System

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")


def estimate_run(
    cases: Sequence[Case],
    systems: Sequence[System],
    out: str | Path,
    *,
    root: str | Path = ".",
    arms: Sequence[str] = ("image_only",),
    samples: int = 1,
    prompt: CandidatePrompt | None = None,
    structured: bool = False,
    seed: int = 0,
    retry: Collection[str] = ("api_error",),
) -> list[dict[str, Any]]:
    """Per candidate: narratives planned, done (in the folder `out`), skipped, calls to make, pictures, tokens, cost.

    `cached`: the share of the planned that is done. `pictures` counts each time that one is sent. `output_tokens` is
    the limit of every answer in full. `cost` is None where a price is unknown, 0 for what runs here. Opens no
    candidate and sends nothing.
    """
    prompt = prompt or CandidatePrompt("structured" if structured else "narrative")
    items = plan(cases, systems, arms, samples, seed)
    states = _states(Path(out) / JOURNAL)
    sizes: dict[str, tuple[int, int] | None] = {}
    frame = text_tokens(str(answer_schema())) if structured else 0
    rows = {system.name: _row(system) for system in systems}
    words: dict[tuple[str, str], int] = {}
    for item in items:
        row, asking = rows[item.system.name], item.system.asking
        row["planned"] += 1
        if item.key in states and states[item.key] not in retry:
            row["done"] += 1
        elif isinstance(item.system, RecordedSystem):
            continue
        elif item.view.problem:
            row["skipped"] += 1
        else:
            row["calls"] += 1
            row["pictures"] += len(item.view.images)
            row["output_tokens"] += int(asking.sent(samples, item.sample).get("max_tokens") or 2048)
            where = (item.case.id, item.arm)
            if where not in words:
                words[where] = text_tokens(prompt.render(item.view, len(item.case.images)))
            row["input_tokens"] += 20 + frame + words[where]
            for image in item.view.images:
                if image.path not in sizes:
                    sizes[image.path] = _size(Path(root) / image.path)
                row["input_tokens"] += _picture(sizes[image.path], asking.pictures.max_side, item.system.model)
    for system in systems:
        row = rows[system.name]
        price = getattr(system, "price", None)
        if hasattr(system, "price"):
            row["cost"] = price(row["input_tokens"], row["output_tokens"]) if price else None
            row["currency"] = price.currency if price else None
        row["cached"] = round(row["done"] / row["planned"], 4)
    return list(rows.values())


def _row(system: System) -> dict[str, Any]:
    counts = dict.fromkeys(("planned", "done", "skipped", "calls", "pictures", "input_tokens", "output_tokens"), 0)
    return {"candidate": system.name, "model": system.model, **counts, "cost": 0.0}


def _states(journal: Path) -> Mapping[Any, str]:
    """The last state of every narrative that a run folder holds; nothing is changed, nothing is locked."""
    states: dict[Any, str] = {}
    if journal.is_file():
        with journal.open("rb") as lines:
            for line in lines:
                if (entry := decode(line)) is not None and entry.kind == RESULT:
                    states[entry.key] = entry.data["state"]
    return states


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with Pillow.open(path, formats=_FORMATS) as opened:  # the header alone
            return opened.size
    except (OSError, ValueError, Pillow.DecompressionBombError):
        return None


def _picture(size: tuple[int, int] | None, max_side: int, model: str) -> int:
    width, height = size or (max_side, max_side)
    scale = min(1.0, max_side / max(width, height))
    return picture_tokens(max(1, round(width * scale)), max(1, round(height * scale)), model)
