"""What a training draws: counterfactual pictures stay, and a text-only judge never meets them."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
from dermjudge.benchmarks.synthetic import generate
from dermjudge.judge.benchmark import load_benchmark
from dermjudge.judge.records import Case, Image, Narrative
from dermjudge.judge.rubric import load_rubric
from dermjudge.judge.tables import read_narratives
from dermjudge.training.card import card_text
from dermjudge.training.config import Recipe
from dermjudge.training.examples import Example, Pictures
from dermjudge.training.plan_rows import draw_rows
from dermjudge.training.rung_training import prepare_data, train_rung
from dermjudge.training.train import measure_domain
from tests import tiny

RUBRIC = load_rubric("derm6")


def recipe(**more) -> Recipe:
    settings = {"name": "t", "data": {}, "base": "x", "sft": {"steps": 40, "batch": 8, "rate": 0.01}, **more}
    return Recipe.model_validate(settings)


def example(k: int, tag: object) -> Example:
    case = Case(f"c{k}", (Image(f"{k}.png"),), tags={"counterfactual": tag})
    return Example(case, Narrative(case.id, "s", "text"), np.full(6, 3.0), np.zeros((6, 6)), "")


def test_a_picture_is_dropped_beside_its_own_text_and_never_a_counterfactual_one():
    examples = [example(k, tag) for k, tag in enumerate((False, True, "swap", False))]
    rows = draw_rows(recipe(image_dropout=0.6), examples, blind=False)
    looks = {kind: [r.look for r in rows if bool(examples[r.example].case.tags["counterfactual"]) is kind]
             for kind in (True, False)}  # fmt: skip
    assert set(looks[True]) == {"own"} and len(looks[True]) > 100
    assert 0.5 < np.mean([look != "own" for look in looks[False]]) < 0.7
    assert {r.look for r in draw_rows(recipe(image_dropout=0.6), examples, blind=True)} == {"none"}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    root = tmp_path_factory.mktemp("rows")
    generate(root / "data", 60, seed=5, counterfactuals=0.5)
    base = str(tiny.idefics3(root / "base"))
    wanted = recipe(base=base, sft={"steps": 1, "batch": 4, "rate": 0.01}, critiques=0.0)
    return wanted, prepare_data(wanted, root / "data", RUBRIC)


def test_the_text_only_judge_learns_from_natural_cases_only(material, tmp_path):
    wanted, shared = material
    natural = sum(not e.case.tags["counterfactual"] for e in shared.examples)
    assert 0 < natural < len(shared.examples)
    for blind, number in ((True, natural), (False, len(shared.examples))):
        train_rung(wanted, shared, tmp_path / str(blind), blind=blind)
        assert json.loads((tmp_path / str(blind) / "judge.json").read_text())["trained_on"]["narratives"] == number


def test_limits_come_from_pictures_that_are_there_once(material, tmp_path):
    """A set of counterfactual cases shows its pictures many times; the limit must be that of the pictures alone."""
    wanted, shared = material
    judge = tmp_path / "judge"
    train_rung(wanted, shared, judge)
    bench = load_benchmark(shared.base.parent / "data")
    narratives = read_narratives(bench.root / "narratives.jsonl")
    pictures, cases = Pictures(bench.root), bench.cases
    alone = measure_domain(shared.base, judge, cases, narratives, pictures)
    swapped = [replace(c, id=f"{c.id}~swap", tags={"counterfactual": "swap"}) for c in cases]
    grey = [replace(c, id=f"{c.id}~b", images=(Image(f"grey/{c.id}.png"),), tags={"counterfactual": "blank"})
            for c in cases]  # fmt: skip
    again = measure_domain(shared.base, judge, [*cases, *swapped, *grey], narratives, pictures)
    assert alone["picture_distance"] == again["picture_distance"] > 0


def test_the_card_says_when_no_expert_rated(material, tmp_path):
    wanted, shared = material
    train_rung(wanted, shared, tmp_path / "judge")
    card = json.loads((tmp_path / "judge" / "judge.json").read_text())
    assert "expert-rated narratives" in card_text(card) and "SIMULATED-rated" not in card_text(card)
    card["trained_on"]["source"] = "mine, SIMULATED ratings 1, 60 cases"
    assert "SIMULATED-rated" in card_text(card) and "expert-rated" not in card_text(card)
