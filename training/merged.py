"""Base and adapter merged into one model folder, for servers and pipelines that load no adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ..judge.backends.bases import load_processor
from ..judge.backends.card_checks import check_card
from ..judge.backends.folder import CARD, read_card, refuse_unsafe, weights_hash
from ..judge.errors import InputError
from ..judge.rubric import Rubric
from .adapter_folder import refuse_strangers
from .decision import write_decision

_COPIED = (".json", ".jinja", ".txt", ".model")  # tokenizer, processor, template: byte by byte as the base has them
_OWN = ("config.json", "pretraining.json", "rung.json", CARD)


def merge_adapter(base: Path, adapter: Path, out: Path, rubric: Rubric, dtype: str | None = None) -> Path:
    """Write the merged model to `out`: safetensors, processor, card, and what the decision pipeline needs.

    dtype: of the weights, by default the base's. The card's "decision" says why there are no decision files, if there
    are none. The pictures' domain check stays with the adapter: servers take every safetensors file for weights.
    InputError for another base, another rubric, or a folder that holds something else.
    """
    import torch

    from ..judge.backends import local  # which keeps the libraries below it quiet

    for folder in (base, adapter):
        refuse_unsafe(folder)
    refuse_strangers(out)
    card = read_card(adapter)
    check_card(card, base, adapter, rubric)
    options = dict(trust_remote_code=False, local_files_only=True)
    model = local.AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32, **options)
    kind = dtype or json.loads((base / "config.json").read_text("utf-8")).get("dtype") or "float32"
    model = local.PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().to(getattr(torch, kind))
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(fresh)
    for file in base.iterdir():
        if file.suffix in _COPIED and file.name not in _OWN and not file.name.endswith(".index.json"):
            shutil.copyfile(file, fresh / file.name)
    if (images := card.get("images")) is not None:  # what loads this folder prepares pictures as the judge does
        load_processor(base, images).save_pretrained(fresh)
    card.pop("calibration_sha256", None)  # a record names the adapter that it was made with
    card |= {"merged": {"adapter_weights": weights_hash(adapter), "dtype": kind}}
    try:
        if card.get("order", "scores") != "scores":
            raise InputError("its scores stand behind a critique, which the decision pipeline cannot write")
        form, pictures, blind = card.get("form", "full"), card.get("max_images"), bool(card.get("blind"))
        write_decision(fresh, fresh, rubric, form=form, max_images=pictures, blind=blind, images=images)
    except InputError as error:
        card["decision"] = str(error)
    (fresh / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (fresh / "README.md").write_text(_readme(card, rubric), "utf-8")
    shutil.rmtree(out, ignore_errors=True)
    return fresh.rename(out)


def _readme(card: dict[str, Any], rubric: Rubric) -> str:
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        "tags: [llm-as-judge, dermatology, dermjudge]",
        "---",
        "",
        f"# Judge `{card.get('name', 'judge')}`, merged",
        "",
        *(f"> **{note}**\n" for note in card.get("notes", ())),
        f"Base `{card.get('base', 'unknown')}` (weights `{card.get('base_weights', 'unknown')}`) with the LoRA adapter "
        f"`{card['merged']['adapter_weights']}` merged in, saved as {card['merged']['dtype']}. It scores a diagnostic "
        f"narrative on the rubric `{rubric.id}` (hash `{rubric.hash}`) and on no other; figures and limits stand in "
        "the adapter's card, a copy of whose data is judge.json.",
        "",
    ]
    return "\n".join(lines)
