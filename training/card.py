"""The model card of an adapter: what it was trained on, what it reaches, and what it cannot do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..judge.backends.card_checks import CALIBRATION
from ..judge.backends.folder import CARD, weights_hash
from ..judge.escape import escape_markdown, visible
from ..judge.files import sha256_file, write_atomic
from .examples import counted_text


def update_card(folder: Path, fields: Mapping[str, Any]) -> None:
    """Add fields to judge.json and write README.md anew from it."""
    file = Path(folder) / CARD
    card = json.loads(file.read_text("utf-8")) | dict(fields)
    write_atomic(file, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    write_atomic(Path(folder) / "README.md", card_text(card))


def add_calibration(folder: Path, record: Path) -> None:
    """Put a calibration record of this judge into its folder, so that both travel together; the card holds its hash.

    InputError for a file that is no calibration record, or of another judge or rubric.
    """
    from ..evaluators.calibration_record import Calibration

    card = json.loads((Path(folder) / CARD).read_text("utf-8"))
    Calibration.load(record, f"local:{card['name']}@{weights_hash(folder)[:8]}", card["rubric"])
    shutil.copyfile(record, Path(folder) / CALIBRATION)
    update_card(folder, {"calibration_sha256": sha256_file(record)})


def card_text(card: Mapping[str, Any]) -> str:
    """The card in words (Hugging Face front matter, Markdown); names from outside are escaped."""
    trained, base = card["trained_on"], visible(card["base"]).replace("`", "'")
    revision = f" at revision `{card['base_revision']}`" if card.get("base_revision") else ""
    order = " It writes a critique first and scores after it." if card.get("order") == "critique" else ""
    front = yaml.safe_dump(_front_matter(card), sort_keys=False, allow_unicode=True, width=1000)
    lines = ["---", front.rstrip("\n"), "---", "", f"# Judge `{_code(card['name'])}`", ""]
    lines += [f"> **{escape_markdown(note)}**" for note in card["notes"]] + [""] * bool(card["notes"])
    lines += [
        "A LoRA adapter that scores a diagnostic narrative beside its picture, reference-free, on the rubric "
        f"`{card['rubric']}` (hash `{card['rubric_hash']}`) and on no other.{order}",
        "",
        f"- Base: `{base}`{revision}, weights `{card['base_weights']}`; any other base is refused.",
        f"- Trained on {trained['narratives']} {_rated(trained)} narratives of {trained['patients']} patients, split "
        f"`{_code(trained['split'])}` ({escape_markdown(trained['source'])}).",
        *_data_lines(card),
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
    if apart := card.get("held_apart"):
        lines += _held_apart(apart)
    if "calibration_sha256" in card:
        lines += ["## Calibration", "", f"`{CALIBRATION}` holds a calibration record of this judge.", ""]
    lines += ["## What it cannot do", "", *(f"- {limit}" for limit in _limits(card)), ""]
    return "\n".join(lines)


def _front_matter(card: Mapping[str, Any]) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": "peft", "base_model": visible(card["base"])}
    if _rated(card["trained_on"]) == "expert-rated" and "synthetic" in card["trained_on"]["source"]:
        front["license"] = "apache-2.0"  # else base and data decide
    front["pipeline_tag"] = "image-text-to-text"
    front["tags"] = ["llm-as-judge", "dermatology", "lora", "dermjudge"]
    if (figures := card.get("figures")) and (metrics := _metrics(figures)):
        data = {
            "type": "dermjudge-synthetic",
            "name": f"SYNTHETIC: {figures['narratives']} narratives of unseen patients, seed {figures['seed']}",
        }
        task = {"type": "image-text-to-text", "name": "scoring diagnostic narratives"}
        results = [{"task": task, "dataset": data, "metrics": metrics}]
        front["model-index"] = [{"name": visible(card["name"]), "results": results}]
    return front


def _metrics(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for dimension, d in figures["dimensions"].items():
        for key, kind, name in (
            ("mae_judge", "mae", "mean absolute error to the experts' mean"),
            ("spearman_experts", "spearmanr", "Spearman to the experts' mean"),
        ):
            if (value := _value(d.get(key))) is not None:
                found.append({"type": kind, "name": f"{dimension}: {name} (n={d['n']})", "value": value})
    return found


def _value(entry: Any) -> float | None:
    return entry.get("value") if isinstance(entry, Mapping) else entry


def _data_lines(card: Mapping[str, Any]) -> list[str]:
    lines = []
    if data := card.get("data"):
        licence = escape_markdown(data["licence"]) or "not stated"
        splits = ", ".join(f"{escape_markdown(name)} {n}" for name, n in data["splits"].items()) or "none"
        lines.append(f"- Licence of the data: {licence}; cases by split: {splits}.")
    if counted := card.get("counted"):
        lines.append(f"- Learnt from {escape_markdown(counted_text(counted))}.")
    if start := card.get("start"):
        before = escape_markdown(start.get("trained_on", {}).get("source", "unknown"))
        lines.append(f"- Went on from judge `{_code(start.get('name', 'unnamed'))}`, trained on: {before}.")
    return lines


def _code(text: str) -> str:
    return visible(text).replace("`", "'")


def _held_apart(apart: list[Mapping[str, Any]]) -> list[str]:
    """What training and evaluation data were compared by; a pair of counts is trained / evaluated."""
    lines = ["## Held apart from", ""]
    for entry in apart:
        counts = [f"{name} {n[0]}/{n[1]}" for name, n in entry["compared"].items()]
        line = (
            f"- {escape_markdown(entry['benchmark'])} {escape_markdown(entry['version'])}, {entry['cases']} cases: "
            f"nothing shared among {', '.join(counts)} (trained/evaluated)."
        )
        if any(unnamed := entry.get("no_patient", ())):
            line += f" No patient is named by {unnamed[0]}/{unnamed[1]} cases, so nothing is known of theirs."
        if "pictures" not in entry["compared"]:
            line += " Pictures were not compared."
        if entry.get("allowed"):
            line += (
                f" **{len(entry['suspected'])} suspected overlaps were allowed: {escape_markdown(entry['allowed'])}**"
            )
        lines.append(line)
    return [*lines, ""]


def _rated(trained: Mapping[str, Any]) -> str:
    """Who rated what was trained on; a folder of planted faults says SIMULATED in its name."""
    return "SIMULATED-rated (planted faults, no expert)" if "SIMULATED" in trained["source"] else "expert-rated"


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
    if never := [name for name, n in card.get("counted", {}).get("rated", {}).items() if not n]:
        found.append(
            f"Nobody rated {escape_markdown(', '.join(never))} in its training data; its scores there say nothing."
        )
    if _rated(card["trained_on"]) == "expert-rated" and "synthetic" in card["trained_on"]["source"]:
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
        rest = [_value(d.get("spearman_experts")), _value(d.get("swap", {}).get("mean_absolute_change"))]
        shown = ["–" if value is None else f"{value:.2f}" for value in rest]
        lines.append(f"| {' | '.join([name, str(d['n']), *spans, span(d.get('ratio_constant')), *shown])} |")
    if whole := (figures.get("critiques") or {}).get("whole"):
        named, wrong = whole["named"], whole["false"]
        lines += ["", f"Its critiques name {span(named)} of {named['n']} planted faults; {span(wrong)} of {wrong['n']} "
                  "claims are false."]  # fmt: skip
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
