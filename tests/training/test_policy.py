"""Reinforcement learning on sampled answers, with real, tiny models: what is asked, what is learnt, what stops it."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("trl")
from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402
from PIL import Image as Picture  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: E402
from transformers.generation import GenerationMixin  # noqa: E402
from transformers.models.idefics3.modeling_idefics3 import Idefics3Model  # noqa: E402

from dermjudge.judge.backends.encoding import Encoder  # noqa: E402
from dermjudge.judge.backends.folder import weights_hash  # noqa: E402
from dermjudge.judge.backends.local import LocalJudge, Question  # noqa: E402
from dermjudge.judge.errors import InputError  # noqa: E402
from dermjudge.judge.prompt import render, template_hash  # noqa: E402
from dermjudge.judge.records import Case, Image, Narrative  # noqa: E402
from dermjudge.judge.rubric import Rubric  # noqa: E402
from dermjudge.training.config import Recipe  # noqa: E402
from dermjudge.training.examples import Example  # noqa: E402
from dermjudge.training.policy import train_policy  # noqa: E402
from dermjudge.training.questions import Earned, Questions, Watch  # noqa: E402
from dermjudge.training.sft import load_model  # noqa: E402
from dermjudge.training.soreb import REFERENCE, sample, weigh  # noqa: E402
from tests import tiny  # noqa: E402

RUBRIC = Rubric.model_validate(
    {
        "name": "two",
        "version": 1,
        "scale": {"levels": [0, 1, 2, 3]},
        "dimensions": [
            {"name": name, "definition": "x", "anchors": dict.fromkeys(range(4), "x")}
            for name in ("Accuracy", "Safety")
        ],
    }
)
FOREIGN = "red <image> lesion <end_of_utterance> on the left <|im_end|> palm"  # imitates special tokens
OBJECTIVES = ("soreb", "grpo", "rloo")


def pictures(case):
    rng = np.random.default_rng(int(case.id))
    return [Picture.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)) for _ in case.images]


def example(k, accuracy=3.0, safety=np.nan, shown=True):
    case = Case(str(k), images=(Image(f"{k}.png"),) if shown else (), context="urgent")
    gold = np.array([accuracy, safety])
    return Example(case, Narrative(str(k), "s", FOREIGN + str(k)), gold, np.zeros((2, 4)), "")


EXAMPLES = [example(k) for k in range(6)]


def words(levels):
    return " Accuracy - no fault\nScores:\nAccuracy: {}\nSafety: {}".format(*levels)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny model that has learnt to write answers in form, with levels drawn evenly; its adapter is still nothing."""
    folder = tiny.idefics3(tmp_path_factory.mktemp("policy") / "base")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder)
    encoder = Encoder(processor, RUBRIC)
    encoder.tokenizer.padding_side = "right"
    recipe = make_recipe("soreb")
    questions = Questions(recipe, encoder, EXAMPLES, pictures, RUBRIC, blind=False, rows=6, limit=None)
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    heads = [questions.encode(k) for k in range(6)]
    for _ in range(90):
        answers = [[*encoder.plain(words(rng.integers(0, 4, 2))), encoder.tokenizer.eos_token_id] for k in range(6)]
        batch = encoder.batch(heads, extra=answers)
        batch.pop("slots")
        labels = batch["input_ids"].clone()
        for row, (head, answer) in enumerate(zip(heads, answers, strict=True)):
            labels[row, : len(head.ids)] = labels[row, len(head.ids) + len(answer) :] = -100
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder


def make_start(base, folder, scale=0.0, **card):
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    targets = r"^(?!.*vision).*\.(q_proj|v_proj|o_proj|down_proj)$"
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))
    for name, value in model.named_parameters():
        if "lora_B" in name and scale:
            torch.nn.init.normal_(value.data, std=scale)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    content = {
        "base_weights": weights_hash(base),
        "rubric": RUBRIC.id,
        "rubric_hash": RUBRIC.hash,
        "form": "bound",
        "order": "critique",
        "template": template_hash(RUBRIC, "bound"),
        **card,
    }
    (folder / "judge.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def start(base, tmp_path_factory):
    return make_start(base, tmp_path_factory.mktemp("policy") / "start")


def make_recipe(objective, start="", *, steps=2, batch=8, rate=1e-3, reward=(), **more):
    return Recipe.model_validate(
        {
            "name": "tiny",
            "data": {},
            "objective": objective,
            "order": "critique",
            "start": str(start),
            "sft": {"steps": steps, "batch": batch, "rate": rate},
            "reward": {"tokens": 40, **dict(reward)},
            **more,
        }
    )


def run(recipe, base, out, examples=EXAMPLES, **more):
    figures = []
    train_policy(
        recipe, base, out, examples, pictures, RUBRIC, progress=lambda step, f: figures.append((step, dict(f))), **more
    )
    return figures


class Step(NamedTuple):
    """One step of training: what the model was asked, what it learnt from, where the result is."""

    objective: str
    recipe: Recipe
    asked: list
    learnt: list
    out: Path


def spy(patch, method, cls, notes):
    """Note tokens and pixels of each row that a method of a model is given."""
    real = getattr(cls, method)

    def noting(self, *args, **inputs):
        if method == "generate" or torch.is_grad_enabled():
            pixels = inputs.get("pixel_values")
            for i, (row, mask) in enumerate(zip(inputs["input_ids"], inputs["attention_mask"], strict=True)):
                notes.append((row[mask.bool()].tolist(), None if pixels is None else pixels[i]))
        return real(self, *args, **inputs)

    patch.setattr(cls, method, noting)


@pytest.fixture(scope="module", params=OBJECTIVES)
def step(request, base, start, tmp_path_factory):
    out, asked, learnt = tmp_path_factory.mktemp("step") / "out", [], []
    recipe = make_recipe(request.param, start, steps=1, seed=3, rate=0.04)
    with pytest.MonkeyPatch.context() as patch:
        spy(patch, "generate", GenerationMixin, asked)
        spy(patch, "forward", Idefics3Model, learnt)
        run(recipe, base, out)
    return Step(request.param, recipe, asked, learnt, out)


def ask(judge, e, seed=0):
    prompt = render(e.case, e.narrative, RUBRIC, "bound", seed=seed)
    return judge.answer([Question(e.case.id, prompt, tuple(pictures(e.case)))])[0]


def drawn(recipe, rows):
    return [EXAMPLES[k] for k in np.random.default_rng(recipe.seed).integers(0, len(EXAMPLES), rows)]


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


def test_the_judge_is_asked_token_for_token_what_it_is_asked_in_serving(step, base, start, monkeypatch):
    each, notes = 1 if step.objective == "soreb" else 4, []
    spy(monkeypatch, "generate", GenerationMixin, notes)
    served = LocalJudge(base, start, RUBRIC, name="served", device="cpu")
    for row, e in enumerate(drawn(step.recipe, 8 // each)):
        ask(served, e, seed=3 + row)
    expected = [one for one in notes for _ in range(each)]
    assert len(step.asked) == len(step.learnt) == len(expected) == 8
    picture, end = (served.encoder.tokenizer.convert_tokens_to_ids(t) for t in ("<image>", "<end_of_utterance>"))
    for (ids, pixels), (wanted, looked) in zip(step.asked, expected, strict=True):
        assert ids == wanted and torch.allclose(pixels, looked.float(), atol=1e-2)
        assert ids.count(picture) == 4 and end not in ids  # those that the narrative imitates are plain text
        assert FOREIGN in served.encoder.tokenizer.decode(ids)
    for ids, pixels in step.learnt:  # trl shuffles them
        assert any(
            ids[: len(wanted)] == wanted and torch.allclose(pixels, looked.float(), atol=1e-2)
            for wanted, looked in expected
        )


def test_what_earned_more_has_become_likelier(step, base, start):
    """To first order a step along the policy gradient raises the sum of advantage times log probability."""
    each = 1 if step.objective == "soreb" else 4
    models = [
        PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32), str(folder))
        for folder in (start, step.out)
    ]
    encoder = Encoder(AutoProcessor.from_pretrained(base), RUBRIC)
    questions = Questions(step.recipe, encoder, EXAMPLES, pictures, RUBRIC, blind=False, rows=8 // each, limit=None)
    heads = [questions.encode(row).ids for row in range(8 // each)]
    rewards, rises, groups = [], [], []
    for ids, pixels in step.learnt:
        (row,) = {row for row, head in enumerate(heads) if ids[: len(head)] == head}
        whole, length = torch.tensor([ids]), len(ids) - len(heads[row])
        text = encoder.tokenizer.decode(ids[-length:], skip_special_tokens=True)
        rewards.append(questions.earn([row], [text]).rewards.item())
        with torch.no_grad():
            logits = [m(input_ids=whole, pixel_values=pixels[None]).logits[0, -length - 1 : -1] for m in models]
        log_p = [one.log_softmax(-1).gather(1, whole[0, -length:, None]).sum().item() for one in logits]
        rises.append(log_p[1] - log_p[0])
        groups.append(0 if each == 1 else row)
    rewards, groups = np.array(rewards), np.array(groups)
    advantage = rewards - [rewards[groups == g].mean() for g in groups]
    assert np.abs(advantage).max() > 0.01
    assert (advantage * rises).sum() > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_steps_give_an_adapter_that_loads_on_the_base_and_left_the_start_alone(objective, base, tmp_path):
    start = make_start(base, tmp_path / "start", scale=0.05)
    before = weights_hash(start)
    recipe = make_recipe(objective, start, batch=4, accumulate=2, rate=0.4, save_every=1)
    (first, one), (second, two) = run(recipe, base, tmp_path / "out")
    assert (first, second) == (0, 1)
    assert {"loss", "reward", "kl", "unreadable", "tokens"} <= set(one)
    assert -1 <= one["reward"] <= 0 and 0 <= one["unreadable"] <= 1 and 0 < one["tokens"] <= 40
    assert abs(one["kl"]) < 1e-5 < abs(two["kl"])  # to the judge it started from, not to the base
    assert weights_hash(start) == before
    halfway, done = tmp_path / "out.checkpoint", tmp_path / "out"
    for folder in (halfway, done):
        assert set(weights(folder)) == set(weights(start))  # one adapter, no copy of the start
        judge = LocalJudge(base, folder, RUBRIC, name="trained")
        assert judge.order == "critique"
        assert set(ask(judge, EXAMPLES[0]).scores) == set(RUBRIC.names)
    assert len({weights_hash(folder) for folder in (start, halfway, done)}) == 3
    assert sorted(f.name for f in tmp_path.iterdir()) == ["out", "out.checkpoint", "start"]


def test_the_baseline_is_the_moving_average_of_what_was_earned(base, start, tmp_path):
    figures = [f for _, f in run(make_recipe("soreb", start, steps=3, reward={"decay": 0.8}), base, tmp_path / "out")]
    baseline = figures[0]["reward"]
    for f in figures:
        baseline = 0.8 * baseline + 0.2 * f["reward"]
        assert f["baseline"] == pytest.approx(baseline)


def test_the_probability_of_an_answer_is_that_of_the_answer_alone(base, start):
    """Padding, on either side and of whatever length, changes nothing."""
    recipe = make_recipe("soreb", start)
    examples = [
        example(0),
        Example(EXAMPLES[1].case, Narrative("1", "s", "red"), EXAMPLES[1].gold, np.zeros((2, 4)), ""),
    ]
    encoder = Encoder(AutoProcessor.from_pretrained(base), RUBRIC)
    questions = Questions(recipe, encoder, examples, pictures, RUBRIC, blind=False, rows=8, limit=None)
    model = load_model(recipe, base, RUBRIC, torch.device("cpu")).eval()
    model.load_adapter(str(start), REFERENCE)
    answers = sample(model, questions, range(8), recipe, "cpu")
    assert len({questions.encode(row).ids.__len__() for row in range(8)}) > 1
    log_p, kl = weigh(model, answers, recipe, "cpu")
    assert torch.allclose(kl, torch.zeros_like(kl), atol=1e-6)
    for row, counted in enumerate(answers.counted.tolist()):
        mask = answers.inputs["attention_mask"][row].bool()
        ids = answers.inputs["input_ids"][row][mask][None]
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=answers.inputs["pixel_values"][row : row + 1]).logits[0]
        n = sum(counted)
        alone = logits[-n - 1 : -1].log_softmax(-1).gather(1, ids[0, -n:, None])[:, 0]
        assert torch.allclose(log_p[row][: len(alone)], alone, atol=1e-4)
        assert encoder.tokenizer.eos_token_id not in ids[0, -n:-1]


@pytest.mark.parametrize("objective", ["soreb", pytest.param("grpo", marks=pytest.mark.slow), "rloo"])
def test_a_start_that_writes_no_scores_stops_the_run_and_nothing_is_written_over(objective, base, tmp_path):
    start = make_start(base, tmp_path / "start", scale=4.0)
    out = shutil.copytree(start, tmp_path / "out")
    before, seen = weights_hash(out), []
    recipe = make_recipe(objective, start, steps=9, batch=4, reward={"tokens": 8})
    with pytest.raises(InputError, match=r"for 5 steps no score could be read.*objective: cross-entropy"):
        train_policy(recipe, base, out, EXAMPLES, pictures, RUBRIC, progress=lambda step, figures: seen.append(figures))
    assert len(seen) == 4 and all(f["unreadable"] == 1 for f in seen)
    assert weights_hash(out) == before and sorted(f.name for f in tmp_path.iterdir()) == ["out", "start"]


@pytest.mark.parametrize("objective", [pytest.param("grpo", marks=pytest.mark.slow), "rloo"])
def test_answers_that_are_all_the_same_stop_the_run(objective, base, start, tmp_path):
    recipe = make_recipe(objective, start, steps=9, batch=4, rate=1e-9, reward={"temperature": 1e-4, "tokens": 32})
    with pytest.raises(InputError, match=r"for 5 steps all answers about a narrative earned the same"):
        run(recipe, base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("objective", "rate", "kl", "what"),
    [("soreb", 1e-3, 1e39, "loss"), ("grpo", 1e-3, 1e39, "gradients"), ("rloo", 1e30, 0.05, "probabilities")],
)
def test_numbers_that_are_not_finite_stop_the_run_and_nothing_is_written_over(
    objective, rate, kl, what, base, start, tmp_path
):
    out = shutil.copytree(start, tmp_path / "out")
    recipe = make_recipe(objective, start, batch=4, rate=rate, steps=4, reward={"kl": kl, "tokens": 8})
    with pytest.raises(FloatingPointError, match=f"the {what} .*not finite.*nothing was written over"):
        run(recipe, base, out)
    assert weights_hash(out) == weights_hash(start) and [f.name for f in tmp_path.iterdir()] == ["out"]


def test_a_start_with_weights_that_are_not_finite_is_refused(base, tmp_path):
    start = make_start(base, tmp_path / "start")
    broken = {name: value.clone().fill_(float("nan")) for name, value in weights(start).items()}
    save_file(broken, start / "adapter_model.safetensors")
    with pytest.raises(InputError, match="weights that are not finite"):
        run(make_recipe("soreb", start), base, tmp_path / "out")


@pytest.mark.parametrize("objective", ["soreb", "grpo"])
def test_a_text_only_judge_sees_no_picture(objective, base, start, monkeypatch, tmp_path):
    asked = []
    spy(monkeypatch, "generate", GenerationMixin, asked)
    run(make_recipe(objective, start, steps=1, batch=4, reward={"tokens": 8}), base, tmp_path / "out", blind=True)
    assert len(asked) == 4 and all(pixels is None for _, pixels in asked)
    assert json.loads((tmp_path / "out" / "judge.json").read_text())["blind"]


@pytest.mark.parametrize("objective", [pytest.param("soreb", marks=pytest.mark.slow), "grpo"])
def test_another_architecture_with_flat_pictures(objective, tmp_path):
    base = tiny.llava(tmp_path / "base")
    recipe = make_recipe(objective, make_start(base, tmp_path / "start"), steps=1, batch=4, reward={"tokens": 8})
    ((_, figures),) = run(recipe, base, tmp_path / "out")
    assert figures["reward"] == -1 and figures["unreadable"] == 1  # never trained: worst, not skipped
    LocalJudge(base, tmp_path / "out", RUBRIC, name="trained")


def test_what_is_never_drawn_and_what_is_refused(base, start, tmp_path):
    def refused(recipe, examples=EXAMPLES, **more):
        with pytest.raises(InputError) as error:
            run(recipe, base, tmp_path / "out", examples, **more)
        assert not (tmp_path / "out").exists()
        return str(error.value)

    assert "set order: critique" in refused(make_recipe("soreb", start, order="scores"))
    assert "soreb, grpo, rloo do" in refused(make_recipe("regression", start))
    assert "must be a multiple" in refused(make_recipe("grpo", start, batch=6))
    assert "name it with start" in refused(make_recipe("rloo"))
    scores_first = make_start(base, tmp_path / "scores", order="scores")
    assert "order: scores, the recipe has order: critique" in refused(make_recipe("soreb", scores_first))
    assert "form: bound, the recipe has form: full" in refused(make_recipe("soreb", start, form="full"))
    assert "1 of 2 narratives belong to cases without a picture, such as '1'" in refused(
        make_recipe("grpo", start), [example(0), example(1, shown=False)]
    )
    assert "no narrative has an expert's score" in refused(make_recipe("soreb", start), [example(0, np.nan)])
    assert "prompt and answer may take" in refused(make_recipe("soreb", start, reward={"tokens": 10**6}))
    encoder = Encoder(AutoProcessor.from_pretrained(base), RUBRIC)
    questions = Questions(
        make_recipe("soreb", start), encoder, [example(0, np.nan), example(1)], pictures, RUBRIC, blind=False, rows=9,
        limit=None,
    )  # fmt: skip
    assert {e.case.id for e in questions.examples} == {"1"}


def test_one_process_only(base, start, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="runs in one process"):
        run(make_recipe("soreb", start), base, tmp_path / "out")


def test_watch_counts_steps_in_a_row():
    same, several = np.full((2, 4), -0.5), np.array([[-0.5, -0.5, -0.5, -0.4], [0.0, 0.0, 0.0, 0.0]])
    assert Earned(same, 0.0).zero_spread == 1 and Earned(several, 0.0).zero_spread == 0.5
    watch = Watch()
    for _ in range(3):
        for _ in range(4):
            watch.see(Earned(same, 0.0))
        watch.see(Earned(several, 0.0))
    alone = Watch()
    for _ in range(9):
        alone.see(Earned(same.reshape(-1, 1), 0.9))  # one answer each: equal rewards say nothing
    for _ in range(4):
        alone.see(Earned(same.reshape(-1, 1), 1.0))
    with pytest.raises(InputError, match="no score could be read"):
        alone.see(Earned(same.reshape(-1, 1), 1.0))
