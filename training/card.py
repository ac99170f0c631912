"""The model card of an adapter: what it was trained on, what it reaches, and what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..judge.backends.folder import CARD
from ..judge.files import write_atomic


def update_card(folder: Path, fields: Mapping[str, Any]) -> None:
    """Add fields to judge.json and write README.md anew from it."""
    file = Path(folder) / CARD
    card = json.loads(file.read_text("utf-8")) | dict(fields)
    write_atomic(file, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    write_atomic(Path(folder) / "README.md", card_text(card))


def card_text(card: Mapping[str, Any]) -> str:
    """The card in words (Hugging Face front matter, Markdown)."""
    trained = card["trained_on"]
    lines = [
        "---",
        "library_name: peft",
        f"base_model: {card['base']}",
        "license: apache-2.0",
        "tags: [llm-as-judge, dermatology, lora, dermjudge]",
        "---",
        "",
        f"# Judge `{card['name']}`",
        "",
    ]
    lines += [f"> **{note}**" for note in card["notes"]] + [""] * bool(card["notes"])
    lines += [
        "A LoRA adapter that scores a diagnostic narrative beside its picture, reference-free, on the rubric "
        f"`{card['rubric']}` (hash `{card['rubric_hash']}`) and on no other.",
        "",
        f"- Base: `{card['base']}`, weights `{card['base_weights']}`; any other base is refused.",
        f"- Trained on {trained['narratives']} expert-rated narratives of {trained['patients']} patients, split "
        f"`{trained['split']}` ({trained['source']}).",
        f"- Prompt form `{card['form']}`, template `{card['template']}`; at most {card['max_images']} picture a case"
        + (
            ". It is shown no picture: this is the text-only judge that the judge is compared with."
            if card["blind"]
            else "."
        ),
        "- " + ", ".join(f"{name} {version}" for name, version in card["software"].items()),
        "",
    ]
    if figures := card.get("figures"):
        lines += _figures(figures)
    lines += ["## What it cannot do", "", *(f"- {limit}" for limit in card.get("limits", _LIMITS)), ""]
    return "\n".join(lines)


_LIMITS = (
    "It is no medical device and scores no individual patient's care.",
    "It knows only pictures and texts like those it was trained on; others are flagged out of domain, and their scores "
    "mean nothing.",
)


def _figures(figures: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Figures",
        "",
        f"SYNTHETIC: {figures['narratives']} narratives of {figures['patients']} patients it never saw (seed "
        f"{figures['seed']}), against the mean of the simulated experts; 95 % intervals by patient.",
        "",
        "| Dimension | n | MAE | constant | text-only | MAE / constant | Spearman | swap, mean absolute change |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, d in figures["dimensions"].items():
        blind = d.get("mae_text_only")
        lines.append(
            f"| {name} | {d['n']} | {_span(d['mae_judge'])} | {_span(d['mae_constant'])} | {_span(blind)} | "
            f"{_span(d['ratio_constant'])} | {d['spearman_experts']:.2f} | {d['swap']['mean_absolute_change']:.2f} |"
        )
    lines += ["", "| Goal | reached | wanted | met |", "|---|--:|--:|---|"]
    lines += [
        f"| {t['figure']} | {t['value']} | {t['target']} | {'yes' if t['met'] else '**no**'} |"
        for t in figures["targets"]
    ]
    return [*lines, ""]


def _span(entry: Mapping[str, float] | None) -> str:
    return "–" if entry is None else f"{entry['value']:.2f} [{entry['low']:.2f}, {entry['high']:.2f}]"
