"""Critiques a judge wrote itself take the place of the experts'."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
from dataclasses import replace  # noqa: E402

from dermjudge.benchmarks import synthetic  # noqa: E402
from dermjudge.judge.backends import embedded_folder  # noqa: E402
from dermjudge.judge.errors import InputError  # noqa: E402
from dermjudge.judge.rubric import load_rubric  # noqa: E402
from dermjudge.training.config import Recipe  # noqa: E402
from dermjudge.training.examples import Pictures, build_examples  # noqa: E402
from dermjudge.training.self_critiques import with_self_critiques  # noqa: E402
from tests import tiny  # noqa: E402

RUBRIC = load_rubric("derm6")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    made = synthetic.generate(folder, 6, seed=5)
    return build_examples(made.cases, made.narratives, made.ratings, RUBRIC, "")[:9], Pictures(folder)


def recipe(start):
    made = {"name": "t", "data": {}, "base": "b", "sft": {"steps": 1, "batch": 1, "rate": 0.1}, "self_critiques": True}
    return Recipe(**made, start=str(start) if start else "")


def test_the_judges_words_take_the_place_of_the_experts(material):
    examples, pictures = material
    told = []
    plan, base = recipe("embedded"), embedded_folder() / "base"
    mine = with_self_critiques(plan, base, examples, pictures, RUBRIC, progress=lambda *a: told.append(a))
    assert [replace(e, critique="") for e in mine] == [replace(e, critique="") for e in examples]
    assert all(e.critique.startswith("Accuracy - ") for e in mine)
    assert any(new.critique != old.critique for new, old in zip(mine, examples, strict=True))
    assert told[-1] == (len(examples), len(examples))
    again = with_self_critiques(plan, base, examples, pictures, RUBRIC)
    assert [e.critique for e in again] == [e.critique for e in mine]


def test_a_blind_judge_writes_without_pictures(material):
    examples, _ = material

    def none(case):
        raise AssertionError("a picture was loaded")

    blind = with_self_critiques(recipe("embedded"), embedded_folder() / "base", examples[:4], none, RUBRIC, blind=True)
    assert all(e.critique for e in blind)


def test_a_judge_that_ends_none_is_refused(material, tmp_path):
    examples, pictures = material
    base = tiny.idefics3(tmp_path / "base")
    start = tiny.adapter(base, tmp_path / "start", RUBRIC, order="critique", critique_tokens=8)
    with pytest.raises(InputError, match="ends no critique"):
        with_self_critiques(recipe(start), base, examples[:2], pictures, RUBRIC)
    with pytest.raises(InputError, match="name it with start"):
        with_self_critiques(recipe(""), base, examples[:2], pictures, RUBRIC)
