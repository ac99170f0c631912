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
        *(["license: apache-2.0"] if "synthetic" in trained["source"] else []),  # else base and data decide
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
    lines += ["## What it cannot do", "", *(f"- {limit}" for limit in _limits(card)), ""]
    return "\n".join(lines)


def _limits(card: Mapping[str, Any]) -> list[str]:
    domain = card.get("domain") or {}
    checked = [what for what, key in (("texts", "words"), ("pictures", "picture_distance")) if key in domain]
    flagged = (
        f"far {' and '.join(checked)} are flagged out of domain" if checked else "nothing flags what is far from them"
    )
    found = [
        "It is no medical device and scores no individual patient's care.",
        f"It knows only what it was trained on: {flagged}, and scores of such questions mean nothing.",
    ]
    if "synthetic" in card["trained_on"]["source"]:
        found.append(
            "Training and test narratives were rated by the same three simulated experts, whose biases it has learnt; "
            "beside other experts its error would be larger. The error against the truth is in judge.json (mae_truth)."
        )
    return found


def _figures(figures: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Figures",
        "",
        f"SYNTHETIC: {figures['narratives']} narratives of {figures['patients']} patients it never saw (seed "
        f"{figures['seed']}), against the mean of the simulated experts; 95 % intervals by patient.",
        "",
        "| Dimension | n | MAE | to the truth | constant | text-only | MAE / constant | Spearman | swap, mean change |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, d in figures["dimensions"].items():
        spans = [span(d.get(f"mae_{k}")) for k in ("judge", "truth", "constant", "text_only")]
        rest = [d.get("spearman_experts"), d.get("swap", {}).get("mean_absolute_change")]
        shown = ["–" if value is None else f"{value:.2f}" for value in rest]
        lines.append(f"| {' | '.join([name, str(d['n']), *spans, span(d.get('ratio_constant')), *shown])} |")
    lines += ["", "| Goal | reached | wanted | met |", "|---|--:|--:|---|"]
    lines += [
        f"| {t['figure']} | {t['value']} | {t['target']} | {'yes' if t['met'] else '**no**'} |"
        for t in figures["targets"]
    ]
    return [*lines, ""]


def span(entry: Mapping[str, Any] | None) -> str:
    """A value with its interval, as far as there is one."""
    if entry is None or entry["value"] is None:
        return "–"
    ends = "" if entry["low"] is None or entry["high"] is None else f" [{entry['low']:.2f}, {entry['high']:.2f}]"
    return f"{entry['value']:.2f}{ends}"
