"""Painted pictures, a tiny random base."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image as Pillow

from dermjudge.benchmarks.synthetic import generate
from dermjudge.judge.backends import open_judge
from dermjudge.judge.backends.folder import weights_hash
from dermjudge.judge.errors import InputError
from dermjudge.judge.records import Case, Image
from dermjudge.judge.rubric import load_rubric
from dermjudge.training.config import Recipe
from dermjudge.training.examples import Pictures
from dermjudge.training.label_claims import learn_label_claims
from dermjudge.training.own_base import _stamp
from dermjudge.training.pretrain import VERDICTS, build_model, build_processor, build_tokenizer
from dermjudge.training.train import train
from tests.tiny import idefics3

COLOURS = {"melanoma": (20, 20, 20), "psoriasis": (240, 60, 60)}


def tiny_base(folder: Path) -> Path:
    import torch

    torch.manual_seed(0)
    tokenizer = build_tokenizer(["The most likely diagnosis is"] * 20, [*VERDICTS, *COLOURS], 420)
    shape = dict(side=32, patch=8, shuffle=2, vision_width=32, vision_layers=1, width=32, layers=2, feed_forward=64)
    build_model(tokenizer, shape).save_pretrained(folder)
    build_processor(tokenizer, 32, 4).save_pretrained(folder)
    return folder


def painted(root: Path, n: int = 12) -> list[Case]:
    found = []
    for k in range(n):
        label = list(COLOURS)[k % 2]
        Pillow.new("RGB", (32, 32), tuple(min(255, c + k) for c in COLOURS[label])).save(root / f"{k}.png")
        split = "train" if k < n - 2 else "test"
        found.append(Case(f"c{k}", (Image(f"{k}.png"),), split=split, diagnosis=(label,)))
    return found


def test_claims_about_two_colours_are_learnt_and_the_vision_side_stays(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    base, cases = tiny_base(tmp_path / "base"), painted(tmp_path)
    told: list[dict[str, float]] = []
    out = learn_label_claims(
        base, tmp_path / "out", cases, Pictures(tmp_path), steps=60, batch=16, rate=2e-2,
        progress=lambda step, figures: told.append(figures),
    )  # fmt: skip
    assert len(told) == 60 and told[-1]["loss"] < 0.35 < told[0]["loss"] and told[-1]["right"] > 0.75
    before, after = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    moved = {name for name in before if not before[name].bfloat16().equal(after[name].bfloat16())}
    assert moved and not any("vision" in name or "connector" in name for name in moved)


def test_one_label_is_too_few_and_counterfactuals_do_not_count(tmp_path: Path) -> None:
    base, cases = idefics3(tmp_path / "base"), painted(tmp_path)
    swapped = [
        Case(c.id, c.images, split=c.split, diagnosis=c.diagnosis, tags={"counterfactual": "swap"}) for c in cases
    ]
    with pytest.raises(InputError, match="0 label"):
        learn_label_claims(base, tmp_path / "out", swapped, Pictures(tmp_path), steps=1, batch=2)
    with pytest.raises(InputError, match="1 label"):
        learn_label_claims(base, tmp_path / "out", cases[::2], Pictures(tmp_path), steps=1, batch=2)
    with pytest.raises(InputError, match="was not built by this project"):
        learn_label_claims(base, tmp_path / "out", cases, Pictures(tmp_path), steps=1, batch=2)
    assert not (tmp_path / "out").exists()


def test_a_recipe_teaches_its_base_once_and_trains_on_it(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    generate(tmp_path / "data", 60, seed=5)
    plan = {
        "name": "t", "data": {}, "base": str(tiny_base(tmp_path / "start")), "text_only": False, "critiques": 0.0,
        "label_claims": {"steps": 3, "batch": 8, "rate": 0.001}, "sft": {"steps": 2, "batch": 4, "rate": 0.01},
    }  # fmt: skip
    recipe = Recipe.model_validate(plan)
    first = train(recipe, tmp_path / "data", tmp_path / "out")
    assert first.base == tmp_path / "out" / "base" and set(first.seconds) == {"label claims", "judge"}
    before, after = (load_file(base / "model.safetensors") for base in (tmp_path / "start", first.base))
    assert any(not before[name].bfloat16().equal(after[name]) for name in before)
    assert open_judge(f"local:{first.base}+{first.judge}", load_rubric("derm6")).signature["adapter"]
    assert set(train(recipe, tmp_path / "data", tmp_path / "out").seconds) == {"judge"}
    more = Recipe.model_validate(plan | {"label_claims": {"steps": 4, "batch": 8, "rate": 0.001}})
    assert "label claims" in train(more, tmp_path / "data", tmp_path / "out").seconds


def test_a_base_is_never_taught_in_its_own_place_nor_over_another_model(tmp_path: Path) -> None:
    generate(tmp_path / "data", 60, seed=5)
    start = tiny_base(tmp_path / "out" / "base")
    plan = {
        "name": "t", "data": {}, "base": str(start), "text_only": False, "critiques": 0.0,
        "label_claims": {"steps": 1, "batch": 4, "rate": 0.001}, "sft": {"steps": 1, "batch": 4, "rate": 0.01},
    }  # fmt: skip
    before = weights_hash(start)
    with pytest.raises(InputError, match="another --out"):
        train(Recipe.model_validate(plan), tmp_path / "data", tmp_path / "out")
    other = tiny_base(tmp_path / "other")
    with pytest.raises(InputError, match="not made here"):
        train(Recipe.model_validate(plan | {"base": str(other)}), tmp_path / "data", tmp_path / "out")
    assert weights_hash(start) == before
    (other / "evil.pkl").write_bytes(b"x")
    with pytest.raises(InputError, match=r"evil\.pkl"):
        train(Recipe.model_validate(plan | {"base": str(other)}), tmp_path / "data", tmp_path / "new")
    assert not (tmp_path / "new" / "base").exists()


def test_another_processor_is_another_base(tmp_path: Path) -> None:
    start, recipe = tiny_base(tmp_path / "base"), Recipe.model_validate(
        {"name": "t", "data": {}, "label_claims": {"steps": 1, "batch": 4, "rate": 0.1},
         "sft": {"steps": 1, "batch": 1, "rate": 0.1}, "base": str(tmp_path / "base")}
    )  # fmt: skip
    before = _stamp(recipe, tmp_path, start)
    file = next(start.glob("*processor_config.json"))
    file.write_text(file.read_text().replace("0.5", "0.4"))
    assert _stamp(recipe, tmp_path, start) != before


def test_a_base_that_was_broken_off_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(tmp_path / "data", 60, seed=5)
    recipe = Recipe.model_validate({
        "name": "t", "data": {}, "base": str(tiny_base(tmp_path / "start")), "text_only": False, "critiques": 0.0,
        "label_claims": {"steps": 1, "batch": 4, "rate": 0.001}, "sft": {"steps": 1, "batch": 4, "rate": 0.01},
    })  # fmt: skip

    def stopped(*args: object, **kwargs: object) -> None:
        learn_label_claims(*args, **kwargs)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("dermjudge.training.label_claims.learn_label_claims", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "data", tmp_path / "out")
    assert (tmp_path / "out" / "base" / "model.safetensors").exists()
    assert "label claims" in train(recipe, tmp_path / "data", tmp_path / "out").seconds
