"""Training on real, tiny models: the chain holds, what is written can be loaded, and what is wrong is refused."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
from safetensors.torch import load_file  # noqa: E402

from dermjudge.benchmarks.figures import figures, targets  # noqa: E402
from dermjudge.benchmarks.synthetic import generate  # noqa: E402
from dermjudge.judge.backends import open_judge  # noqa: E402
from dermjudge.judge.benchmark import load_benchmark  # noqa: E402
from dermjudge.judge.errors import InputError  # noqa: E402
from dermjudge.judge.records import Case, Image, Narrative, Rating, Score  # noqa: E402
from dermjudge.judge.rubric import load_rubric  # noqa: E402
from dermjudge.judge.score import ask_one  # noqa: E402
from dermjudge.judge.tables import read_narratives  # noqa: E402
from dermjudge.training.card import card_text, update_card  # noqa: E402
from dermjudge.training.config import Recipe, load_recipe  # noqa: E402
from dermjudge.training.descent import Descent  # noqa: E402
from dermjudge.training.examples import (  # noqa: E402
    Pictures,
    build_examples,
    count_examples,
    counted_text,
    read_rated,
)
from dermjudge.training.losses import slot_loss, soft_labels  # noqa: E402
from dermjudge.training.sft import train_adapter  # noqa: E402
from dermjudge.training.train import train  # noqa: E402
from tests import tiny  # noqa: E402

RUBRIC = load_rubric("derm6")
RECIPE = load_recipe("training/recipes/smoke.yaml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    generate(folder / "data", 120, seed=3, counterfactuals=0.3)
    return folder / "data", train(RECIPE, folder / "data", folder / "out")


def test_the_chain_from_random_weights_to_a_judge_that_loads_and_scores(trained):
    data, done = trained
    judge = open_judge(f"local:{done.base}+{done.judge}", RUBRIC)
    blind = open_judge(f"local:{done.base}+{done.text_only}", RUBRIC)
    assert judge.form == "bound" and not judge.blind and blind.blind
    benchmark, narrative = load_benchmark(data), read_narratives(data / "narratives.jsonl")[0]
    case = next(c for c in benchmark.cases if c.id == narrative.case_id)
    rating = ask_one(case, narrative, RUBRIC, judge, benchmark.root)
    assert all(score.state in ("scored", "unparsable") for score in rating.scores.values())
    assert set(done.seconds) == {"attributes", "claims", "narratives", "judge", "text_only"}


def test_an_adapter_folder_holds_no_code_and_no_path_of_this_machine(trained):
    _, done = trained
    for folder in (done.judge, done.text_only):
        assert {f.suffix for f in folder.iterdir()} <= {".safetensors", ".json", ".jinja", ".md"}
        for file in folder.glob("*.json"):
            assert not re.search(r'"/[a-z]', file.read_text()), file
        card = json.loads((folder / "judge.json").read_text())
        assert card["rubric_hash"] == RUBRIC.hash and card["trained_on"]["narratives"] > 100
        assert "SYNTHETIC" in (folder / "README.md").read_text()


def test_only_the_language_side_is_trained(trained):
    names = load_file(trained[1].judge / "adapter_model.safetensors")
    assert names and not [name for name in names if "vision" in name]


def test_figures_are_computed_for_any_judge_and_none_is_left_out(trained, tmp_path):
    _, done = trained
    judge, blind = (open_judge(f"local:{done.base}+{p}", RUBRIC) for p in (done.judge, done.text_only))
    for one in (judge, blind):  # hardly trained: read it all the same
        one.model.float()
    from dermjudge.judge.backends import local

    floor, local.MASS_FLOOR = local.MASS_FLOOR, 0.0
    try:
        found = figures(judge, blind, RUBRIC, 24, seed=4)
    finally:
        local.MASS_FLOOR = floor
    assert found["synthetic"] and found["narratives"] == 96
    for name in RUBRIC.names:
        d = found["dimensions"][name]
        assert d["mae_constant"]["value"] > 0
        assert "patients, 20 are needed" in d["mae_constant"]["reason"]
        assert d["swap"]["n"] == d["blank"]["n"] == d["n"] > 80
    assert len(targets(found)) == 6 * 3 + 5 + 5  # of all, of those about text, of Accuracy with a text-only judge
    found["targets"] = targets(found)
    update_card(done.judge, {"figures": found})
    assert "| Accuracy |" in (done.judge / "README.md").read_text()


def test_soft_labels_sum_to_one_and_keep_the_mean():
    levels = torch.arange(6.0)
    gold = torch.tensor([0.0, 2.25, 5.0])
    soft = soft_labels(gold, levels)
    assert torch.allclose(soft.sum(-1), torch.ones(3)) and torch.allclose(soft @ levels, gold)


def test_loss_falls_towards_the_gold_and_leaves_missing_ratings_out():
    ids, levels = torch.tensor([[0, 1, 2], [0, 1, 2]]), torch.arange(3.0)
    gold = torch.tensor([[2.0, float("nan")]])

    def loss(logits):
        return slot_loss(torch.tensor([[logits, logits]]), ids, levels, gold)[0]

    assert loss([0.0, 0.0, 9.0, 0.0]) < loss([0.0, 0.0, 0.0, 0.0]) < loss([9.0, 0.0, 0.0, 0.0])
    assert loss([0.0, 0.0, 9.0, 0.0]) < loss([0.0, 0.0, 9.0, 20.0])  # mass off the levels costs
    logits = torch.zeros(1, 2, 4, requires_grad=True)
    slot_loss(logits, ids, levels, gold)[0].backward()
    assert logits.grad[0, 0].abs().sum() > 0 and logits.grad[0, 1].abs().sum() == 0


@pytest.mark.parametrize("matrices", [True, False])
def test_descent_learns_and_stops_before_a_loss_that_is_not_finite(matrices):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    x = torch.randn(64, 4)
    y = x[:, :1] * x[:, 1:2]
    descent = Descent(list(model.named_parameters()), 0.02, 120, matrices=matrices)
    first = float(((model(x) - y) ** 2).mean())
    for _ in range(120):
        descent.step(((model(x) - y) ** 2).mean())
    assert float(((model(x) - y) ** 2).mean()) < 0.5 * first
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(FloatingPointError):
        descent.step(model(x).mean() * float("nan"))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_examples_join_experts_and_keep_what_is_missing_missing():
    cases = [Case("a", split="train"), Case("b", split="test")]
    narratives = [Narrative("a", "s", "x"), Narrative("b", "s", "y")]

    def rating(case, rater, accuracy, kind="expert"):
        return Rating(
            case,
            "s",
            rater,
            kind,
            RUBRIC.id,
            {"Accuracy": Score(accuracy) if accuracy is not None else Score(None, "skipped")},
        )

    ratings = [rating("a", "e1", 4.0), rating("a", "e2", 3.0), rating("a", "j", 0.0, "judge"), rating("b", "e1", 1.0)]
    (example,) = build_examples(cases, narratives, ratings, RUBRIC, "train")
    assert example.gold[0] == 3.5 and np.isnan(example.gold[1:]).all()
    assert example.target[0].tolist() == [0, 0, 0, 0.5, 0.5, 0] and example.target[1:].sum() == 0
    with pytest.raises(InputError, match="splits here: test, train"):
        build_examples(cases, narratives, ratings, RUBRIC, "validation")


def test_a_base_that_is_named_is_fine_tuned_on_any_architecture(tmp_path):
    base = tiny.llava(tmp_path / "llava")
    generate(tmp_path / "data", 30, seed=8)
    benchmark = load_benchmark(tmp_path / "data")
    from dermjudge.judge.tables import frame_to_ratings, read_ratings

    ratings = frame_to_ratings(read_ratings(tmp_path / "data" / "ratings.parquet", RUBRIC))
    examples = build_examples(
        benchmark.cases, read_narratives(tmp_path / "data" / "narratives.jsonl"), ratings, RUBRIC, "train"
    )
    recipe = RECIPE.model_copy(update={"pretraining": None, "image_dropout": 0.5})
    seen = []
    out = train_adapter(
        recipe,
        base,
        tmp_path / "a",
        examples,
        Pictures(benchmark.root),
        RUBRIC,
        progress=lambda k, f: seen.append(dict(f)),
    )
    judge = open_judge(f"local:{base}+{out}", RUBRIC)
    assert len(seen) == 3 and judge.signature["adapter"]
    many = examples[0].case
    two = type(examples[0])(
        Case(many.id, (Image("a"), Image("b"))), examples[0].narrative, examples[0].gold, examples[0].target, ""
    )
    with pytest.raises(InputError, match="more than 1 pictures"):
        train_adapter(recipe, base, tmp_path / "b", [two], Pictures(benchmark.root), RUBRIC)


def test_recipes_name_the_key_that_is_wrong(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("name: x\ndata: {}\nsft: {steps: 0, batch: 1, rate: 0.1}\n")
    with pytest.raises(InputError, match="steps"):
        load_recipe(file)
    file.write_text("name: x\ndata: {}\nlearning: fast\nsft: {steps: 1, batch: 1, rate: 0.1}\n")
    with pytest.raises(InputError, match="learning"):
        load_recipe(file)
    assert isinstance(load_recipe("training/recipes/embedded.yaml"), Recipe)


def test_pretraining_needs_what_only_synthetic_data_have(tmp_path):
    generate(tmp_path / "data", 30, seed=8)
    text = (tmp_path / "data" / "narratives.jsonl").read_text()
    (tmp_path / "data" / "narratives.jsonl").write_text(text.replace('"spans"', '"other"'))
    with pytest.raises(InputError, match="name a base model"):
        train(RECIPE, tmp_path / "data", tmp_path / "out")


def test_a_recipe_builds_a_base_or_teaches_one(tmp_path):
    text = Path("training/recipes/smoke.yaml").read_text()
    (tmp_path / "r.yaml").write_text(text + "label_claims: {steps: 1, batch: 8, rate: 0.001}\n")
    with pytest.raises(InputError, match="leave out pretraining"):
        load_recipe(tmp_path / "r.yaml")


def test_nothing_that_is_no_judge_is_written_over(trained, tmp_path):
    data, _ = trained
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "precious.py").write_text("x = 1")
    with pytest.raises(InputError, match="nothing is written over"):
        train(RECIPE, data, tmp_path)
    assert (tmp_path / "judge" / "precious.py").exists()


def test_what_is_done_is_taken_up_only_if_everything_that_made_it_is_equal(trained):
    data, done = trained
    recipe = RECIPE.model_copy(update={"save_every": 2})
    again = train(recipe, data, done.base.parent)
    assert "attributes" not in again.seconds and "judge" in again.seconds  # the base does not hang on checkpoints
    assert train(recipe, data, done.base.parent).seconds == {}
    (done.text_only / "adapter_model.safetensors").write_bytes((done.judge / "adapter_model.safetensors").read_bytes())
    assert set(train(recipe, data, done.base.parent).seconds) == {"text_only"}
    other = RECIPE.model_copy(update={"seed": 1})
    assert set(train(other, data, done.base.parent).seconds) >= {"attributes", "judge", "text_only"}


def test_a_base_is_pre_trained_by_one_process(tmp_path, monkeypatch):
    generate(tmp_path / "data", 30, seed=8)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="one process"):
        train(RECIPE, tmp_path / "data", tmp_path / "out")


def test_the_card_names_its_data_and_signature_moves_with_the_settings(trained, tmp_path):
    data, done = trained
    card = json.loads((done.judge / "judge.json").read_text())
    assert card["trained_on"]["source"] == f"synthetic {load_benchmark(data).version}, 120 cases"
    judge = open_judge(f"local:{done.base}+{done.judge}", RUBRIC)
    assert judge.name.startswith("local:smoke@")
    config = done.judge / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 32', '"lora_alpha": 1'))
    assert open_judge(f"local:{done.base}+{done.judge}", RUBRIC).signature != judge.signature


def test_figures_of_a_judge_that_scores_nothing_say_so(tmp_path):
    base = tiny.idefics3(tmp_path / "base")
    judge = open_judge(f"local:{base}+{tiny.adapter(base, tmp_path / 'a', RUBRIC)}", RUBRIC)
    found = figures(judge, None, RUBRIC, 20, seed=4)
    assert all(d["n"] == 0 and "reason" in d for d in found["dimensions"].values())
    assert not any(row["met"] for row in targets(found))


def test_a_card_claims_no_licence_for_data_it_does_not_know(trained):
    card = json.loads((trained[1].judge / "judge.json").read_text())
    assert "license: apache-2.0" in card_text(card)
    card["trained_on"]["source"] = "hospital 3, 900 cases"
    assert "license" not in card_text(card)


def test_a_base_without_scores_learns_that_a_level_stands_in_a_slot_and_not_which(trained):
    from transformers import AutoModelForImageTextToText

    from dermjudge.judge.backends.bases import load_processor
    from dermjudge.judge.backends.encoding import Encoder
    from dermjudge.training import pretrain

    data, done = trained
    cases, pictures = load_benchmark(data).cases[:8], Pictures(data)
    pixels = np.stack([np.asarray(pictures(case)[0]) for case in cases])
    place = {case.id: k for k, case in enumerate(cases)}
    narratives = [n for n in read_narratives(data / "narratives.jsonl") if n.case_id in place]
    worse = [
        replace(n, provenance={**n.provenance, "truth": dict.fromkeys(n.provenance["truth"], 0)}) for n in narratives
    ]

    def course(told, scores, steps):
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_pretrained(done.base, dtype=torch.float32)
        of = np.array([place[n.case_id] for n in told])
        corpus = pretrain.Corpus(pixels, cases, told, of, [""] * len(told))
        seen = pretrain.picture_tokens(model, corpus)
        kw = dict(steps=steps, batch=4, rate=0.01, seed=0, critiques=0.0, scores=scores)
        encoder = Encoder(load_processor(done.base), RUBRIC)
        return [loss for _, loss, _ in pretrain.learn_narratives(model, encoder, corpus, seen, RUBRIC, **kw)]

    by_lot = course(narratives, False, 40)
    assert by_lot == course(worse, False, 40)  # the truth is not read
    assert course(narratives, True, 2) != course(worse, True, 2)
    assert np.mean(by_lot[-5:]) < 0.8 * by_lot[0]  # that a level stands there is learnt all the same


def test_what_is_learnt_from_is_counted_and_what_fits_nothing_is_named(trained):
    data, _ = trained
    found = read_rated(RECIPE.data, data, RUBRIC)
    cases, ratings = (
        found.benchmark.cases,
        [replace(r, scores={"Accuracy": r.scores["Accuracy"]}) for r in found.ratings],
    )
    kept = [n for n in found.narratives if n.system != "alder"]
    counted = count_examples(build_examples(cases, kept, ratings, RUBRIC, "train"), ratings, cases, RUBRIC, "train")
    split = {case.id for case in cases if case.split == "train"}
    assert counted["unmatched"] == sum(r.system == "alder" and r.case_id in split for r in ratings) > 0
    assert counted["rated"]["Accuracy"] == counted["narratives"] > 0 == counted["rated"]["Safety"]
    assert "ratings of this split fit no narrative" in counted_text(counted)
    elsewhere = [replace(n, arm="elsewhere") for n in found.narratives]
    with pytest.raises(InputError, match=r"arm '.*' and 'elsewhere'"):
        build_examples(cases, elsewhere, ratings, RUBRIC, "train")
    with pytest.raises(InputError, match=r"data: {split: ''} takes all"):
        build_examples([replace(case, split="") for case in cases], found.narratives, ratings, RUBRIC, "train")


def test_a_card_names_the_dimension_that_nobody_rated(trained, tmp_path):
    data, done = trained
    shutil.copytree(done.judge, tmp_path / "judge")
    counted = {"narratives": 5, "patients": None, "experts": 2, "rated": {"Accuracy": 5, "Safety": 0}, "unmatched": 3}
    update_card(tmp_path / "judge", {"counted": counted})
    text = (tmp_path / "judge" / "README.md").read_text()
    assert "Nobody rated Safety" in text and "3 ratings of this split fit no narrative" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strat: embedded\n", "strat: Extra.*sft: Field"),
        ("sft: {steps: 1, batch: 1, rate: 1}\nlora: {targets: '('}\n", "regular"),
        ("\u00dc", "cannot read"),
        ("", "valid dictionary"),
    ],
)
def test_a_slip_in_a_recipe_is_named_before_what_it_leaves_out(tmp_path, text, said):
    (tmp_path / "r.yaml").write_bytes(("name: x\ndata: {}\n" + text if ":" in text else text).encode("latin-1"))
    with pytest.raises(InputError, match=said):
        load_recipe(tmp_path / "r.yaml")
