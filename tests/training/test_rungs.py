"""The ladder: each rung does what its name says, goes on from the right adapter, and is taken up when it is there."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
from safetensors.torch import load_file  # noqa: E402

from dermjudge.benchmarks.synthetic import generate  # noqa: E402
from dermjudge.judge.errors import InputError  # noqa: E402
from dermjudge.judge.rubric import load_rubric  # noqa: E402
from dermjudge.training.config import Recipe  # noqa: E402
from dermjudge.training.losses import reward_loss, slot_loss  # noqa: E402
from dermjudge.training.rung_training import Material, prepare_data, train_rung  # noqa: E402
from dermjudge.training.rungs import RUNGS, SAMPLING, length_only  # noqa: E402
from tests import tiny  # noqa: E402

RUBRIC = load_rubric("derm6")
LEVELS = torch.arange(6.0)
IDS = torch.arange(6).expand(2, 6)


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> tuple[Recipe, Material]:
    root = tmp_path_factory.mktemp("rungs")
    base = tiny.idefics3(root / "base")
    generate(root / "data", 60, seed=5)
    recipe = Recipe.model_validate(
        {"name": "t", "data": {}, "base": str(base), "sft": {"steps": 2, "batch": 4, "rate": 0.01}, "critiques": 0.0}
    )
    return recipe, prepare_data(recipe, root / "data", RUBRIC)


def test_the_reward_is_the_exact_expectation_of_the_squared_error():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 9, generator=generator)
    gold = torch.tensor([[0.0, 5.0], [2.5, 3.0], [float("nan"), 1.0]])
    loss, expected = reward_loss(logits, IDS, LEVELS, gold, logits, kl=1.0, off=0.0)  # reference = judge: KL is 0
    p = torch.softmax(logits[:, :, :6], -1)
    draws = torch.multinomial(p.reshape(-1, 6), 200_000, replacement=True, generator=generator).reshape(3, 2, -1)
    sampled = ((draws - gold.unsqueeze(-1)) ** 2).float().mean(-1)
    known = ~torch.isnan(gold)
    assert float(loss) == pytest.approx(float(sampled[known].mean()), rel=0.01)
    assert torch.allclose(expected, p @ LEVELS)
    away, _ = reward_loss(logits, IDS, LEVELS, gold, logits.flip(0), kl=1.0, off=0.0)
    assert float(away) > float(loss)


def test_the_reward_pays_for_sharpening_and_the_regression_loss_does_not():
    """Two slots with the same expected score 2.5 = gold: the reward prefers the narrow one, squared error neither."""
    narrow = torch.full((1, 1, 6), -20.0)
    narrow[0, 0, 2:4] = 0
    wide = torch.zeros(1, 1, 6)
    gold = torch.tensor([[2.5]])
    costs = [float(reward_loss(x, IDS[:1], LEVELS, gold, x, kl=0.0, off=0.0)[0]) for x in (narrow, wide)]
    assert costs[0] == pytest.approx(0.25, abs=1e-4) and costs[1] > 2.9
    flat = torch.full((1, 1, 6), 1 / 6)
    squared = [
        float(slot_loss(x, IDS[:1], LEVELS, gold, target=flat * 0, weight=1.0, off=0.0)[0]) for x in (narrow, wide)
    ]
    assert squared == pytest.approx([0.0, 0.0], abs=1e-6)


def test_every_rung_trains_and_one_that_is_there_is_taken_up(material, tmp_path):
    recipe, shared = material
    shown = [r for r in RUNGS if not r.changes.get("self_critiques") and r.changes.get("objective") not in SAMPLING]
    for rung in shown:  # the others need a judge that already writes
        start = tmp_path / rung.start if rung.start else None
        wanted = rung.recipe(recipe, 1, start)
        train_rung(wanted, shared, tmp_path / rung.name, blind=rung.blind)
        card = json.loads((tmp_path / rung.name / "judge.json").read_text())
        assert card["blind"] is rung.blind and card["recipe"]["objective"] == wanted.objective
        names = load_file(tmp_path / rung.name / "adapter_model.safetensors")
        assert names and not [n for n in names if "reference" in n]  # the frozen copy does not travel
        assert str(tmp_path) not in (tmp_path / rung.name / "adapter_config.json").read_text()
    before = (tmp_path / "reward" / "adapter_model.safetensors").stat().st_mtime_ns
    again = next(r for r in RUNGS if r.name == "reward").recipe(recipe, 1, tmp_path / "regression")
    train_rung(again, shared, tmp_path / "reward")
    assert (tmp_path / "reward" / "adapter_model.safetensors").stat().st_mtime_ns == before
    train_rung(again.model_copy(update={"seed": 2}), shared, tmp_path / "reward")
    assert (tmp_path / "reward" / "adapter_model.safetensors").stat().st_mtime_ns != before


def test_a_reward_goes_on_from_the_judge_it_was_given(material, tmp_path):
    """With a rate of nothing the adapter stays what it was."""
    recipe, shared = material
    train_rung(recipe, shared, tmp_path / "start")
    still = recipe.model_copy(
        update={
            "objective": "reward",
            "start": str(tmp_path / "start"),
            "sft": recipe.sft.model_copy(update={"rate": 1e-30}),
        }
    )
    train_rung(still, shared, tmp_path / "same")
    a, b = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("start", "same"))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_what_does_not_belong_together_is_refused(material, tmp_path):
    recipe, shared = material
    with pytest.raises(InputError, match="name it with start"):
        train_rung(recipe.model_copy(update={"objective": "reward"}), shared, tmp_path / "a")
    train_rung(recipe, shared, tmp_path / "start")
    other = Material(tiny.idefics3(tmp_path / "other", seed=7), shared.examples, shared.pictures, RUBRIC, "", {})
    with pytest.raises(InputError, match="another base"):
        train_rung(recipe.model_copy(update={"start": str(tmp_path / "start")}), other, tmp_path / "b")


def test_length_only_finds_what_length_tells_and_nothing_else(material):
    _, shared = material
    found = length_only(shared.examples, ["word " * 10, "word " * 200])
    assert found.shape == (2, 6) and np.isfinite(found).all()
    gold = np.stack([e.gold for e in shared.examples])
    own = length_only(shared.examples, [e.narrative.judged for e in shared.examples])
    known = np.isfinite(gold)
    assert np.mean((own - gold)[known] ** 2) <= np.nanvar(gold, axis=0).max() + 1e-9


def test_sampled_rungs_draw_where_answers_can_be_read_unless_the_recipe_says_otherwise(material):
    recipe, _ = material
    soreb = next(rung for rung in RUNGS if rung.name == "soreb")
    reward = next(rung for rung in RUNGS if rung.name == "reward")
    assert soreb.recipe(recipe, 0).reward.temperature == 0.5 and reward.recipe(recipe, 0).reward.temperature == 1
    hot = Recipe.model_validate(recipe.model_dump(exclude_unset=True) | {"reward": {"temperature": 0.8}})
    assert soreb.recipe(hot, 0).reward.temperature == 0.8
