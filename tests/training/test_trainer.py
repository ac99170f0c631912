"""The trainer: what a step learns from, that it does not matter how a step is cut up, and going on after a break."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoProcessor  # noqa: E402

from dermjudge.benchmarks.synthetic import generate  # noqa: E402
from dermjudge.judge.backends.encoding import Encoder  # noqa: E402
from dermjudge.judge.errors import InputError, MissingExtra  # noqa: E402
from dermjudge.judge.rubric import load_rubric  # noqa: E402
from dermjudge.training.collation import NOTHING, Collator  # noqa: E402
from dermjudge.training.config import Recipe  # noqa: E402
from dermjudge.training.descent import Descent  # noqa: E402
from dermjudge.training.losses import slot_loss  # noqa: E402
from dermjudge.training.plan_rows import Row, draw_rows  # noqa: E402
from dermjudge.training.rung_training import prepare_data  # noqa: E402
from dermjudge.training.sft import load_model, train_adapter  # noqa: E402
from dermjudge.training.trainer import training_arguments  # noqa: E402
from tests import tiny  # noqa: E402

RUBRIC = load_rubric("derm6")
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    root = tmp_path_factory.mktemp("trainer")
    base = tiny.idefics3(root / "base")
    generate(root / "data", 40, seed=5)
    stage = {"steps": 3, "batch": 8, "rate": 0.01}
    content = {"name": "t", "data": {}, "base": str(base), "sft": stage, "critiques": 0.5, "image_dropout": 0.6}
    recipe = Recipe.model_validate(content)
    return recipe, prepare_data(recipe, root / "data", RUBRIC)


def changed(recipe, *, steps=None, batch=None, rate=None, **changes):
    stage = {k: v for k, v in {"steps": steps, "batch": batch, "rate": rate}.items() if v is not None}
    return recipe.model_copy(update={"sft": recipe.sft.model_copy(update=stage), **changes})


def train(recipe, m, out, **more):
    """The weights and what was told on the way."""
    told = []
    more = {"progress": lambda step, figures: told.append((step, dict(figures)))} | more
    train_adapter(recipe, m.base, out, m.examples, m.pictures, RUBRIC, **more)
    return load_file(out / WEIGHTS), told


def collator(recipe, m, blind=False):
    encoder = Encoder(AutoProcessor.from_pretrained(m.base), RUBRIC)
    return Collator(recipe, encoder, m.examples, m.pictures, draw_rows(recipe, m.examples, blind))


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_library_learns_bit_for_bit_what_a_bare_loop_learns(shared, tmp_path):
    """The loop in ten lines: bf16 autocast, the loss of each kind of row by its share, AdamW, warm-up, clipping."""
    recipe, m = shared
    weights, told = train(recipe, m, tmp_path / "a")
    collate = collator(recipe, m)
    model = load_model(recipe, m.base, RUBRIC, torch.device("cpu"))
    descent = Descent(list(model.named_parameters()), recipe.sft.rate, recipe.sft.steps, matrices=False)
    levels, values = torch.tensor(collate.encoder.levels), torch.arange(6.0)
    for step in range(3):
        losses = []
        for part in collate([{"row": 8 * step + k} for k in range(8)])["parts"]:
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(**part["inputs"], use_cache=False).logits
            rows = torch.arange(len(part["gold"]))
            loss, _ = slot_loss(logits[rows[:, None], part["slots"]], levels, values, part["gold"],
                                target=part["target"], weight=recipe.mse_weight)  # fmt: skip
            row, at = (part["labels"] != NOTHING).nonzero(as_tuple=True)
            if len(row):
                words = torch.nn.functional.cross_entropy(logits[row, at - 1].float(), part["labels"][row, at])
                loss = loss + 0.3 * words
            losses.append(loss * len(rows) / 8)
        descent.step(*losses)
    bare = {k.replace(".default", ""): v.detach() for k, v in model.named_parameters() if v.requires_grad}
    assert equal(weights, bare)
    assert [step for step, _ in told] == [0, 1, 2] and set(told[0][1]) == {"loss", *RUBRIC.names}


def test_rows_are_drawn_alike_however_a_step_is_cut(shared):
    recipe, m = shared
    rows = draw_rows(recipe, m.examples, False)
    assert rows == draw_rows(changed(recipe, batch=2, accumulate=4), m.examples, False)
    assert len(rows) == 24 and {row.look for row in rows} == {"own", "blank", "none"}
    assert {row.seed for row in rows[8:16]} == {recipe.seed + 1}
    assert {row.look for row in draw_rows(recipe, m.examples, True)} == {"none"}
    assert any(row.words for row in rows) and not all(row.words for row in rows)


@pytest.mark.parametrize("objective", ["regression", "cross-entropy"])
def test_batches_that_are_added_up_are_one_step(shared, tmp_path, objective):
    """What is left is padding in bf16; a mean over batches in place of the step's own would be off by far more."""
    recipe, m = shared
    (_, whole), (_, cut) = (
        train(changed(recipe, steps=1, objective=objective, batch=8 // n, accumulate=n), m, tmp_path / str(n))
        for n in (1, 4)
    )
    assert len(whole) == len(cut) == 1
    for name, value in whole[0][1].items():
        assert cut[0][1][name] == pytest.approx(value, rel=2e-3), name


def test_cross_entropy_is_that_of_the_rounded_mean_at_the_slots(shared, tmp_path):
    recipe, m = shared
    recipe = changed(recipe, steps=1, objective="cross-entropy", critiques=0.0)
    _, told = train(recipe, m, tmp_path / "a")
    collate = collator(recipe, m)
    model = load_model(recipe, m.base, RUBRIC, torch.device("cpu"))
    costs = []
    for part in collate([{"row": k} for k in range(8)])["parts"]:
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            logs = model(**part["inputs"], use_cache=False).logits.float().log_softmax(-1)
        for i, slots in enumerate(part["slots"].tolist()):
            digits = {at: int(part["labels"][i, at]) for at in (part["labels"][i] != NOTHING).nonzero()[:, 0].tolist()}
            assert set(digits) <= {slot + 1 for slot in slots}
            costs += [-float(logs[i, at - 1, digit]) for at, digit in digits.items()]
    drawn = [m.examples[row.example] for row in collate.rows]
    assert len(costs) == sum(int(np.isfinite(e.gold).sum()) for e in drawn)
    assert told[0][1]["loss"] == pytest.approx(np.mean(costs), rel=1e-3)


def test_a_digit_is_the_level_next_to_the_mean_and_none_where_nobody_rated(shared):
    recipe, m = shared
    collate = collator(recipe, m)
    example = m.examples[0]
    example = type(example)(
        example.case, example.narrative, np.array([2.6, 0.0, np.nan, 5.0, 1.4, 3.0]), example.target, ""
    )
    ids = [collate.encoder.levels[d][k] for d, k in ((0, 3), (1, 0), (3, 5), (4, 1), (5, 3))]
    assert [digit for digit in collate._digits(example) if digit is not None] == ids
    assert collate._digits(example)[2] is None


def test_critique_first_learns_its_words_up_to_the_scores_and_half_the_time_the_digits(shared):
    recipe, m = shared
    recipe = changed(recipe, order="critique")
    collate = collator(recipe, m)
    tokenizer = collate.encoder.tokenizer
    assert 0 < sum(row.written for row in collate.rows) < len(collate.rows)
    k = next(k for k, e in enumerate(m.examples) if e.critique and np.isfinite(e.gold).all())
    example = m.examples[k]
    collate.rows = [Row(k, 0, "own", True, written) for written in (False, True)]
    (part,) = collate([{"row": 0}, {"row": 1}])["parts"]
    said = f"Critique: {example.critique}\nScores:\n"
    learnt = [tokenizer.decode(row[row != NOTHING]) for row in part["labels"]]
    assert learnt[0] == said
    lines = [
        f"{name}: {level}" for name, level in zip(RUBRIC.names, np.floor(example.gold + 0.5).astype(int), strict=True)
    ]
    off = [d for d, gold in enumerate(example.gold) if gold % 1 == 0.5]  # a tie may go either way
    written = learnt[1].removesuffix(tokenizer.eos_token)
    assert written.startswith(said) and learnt[1] != written
    for d, (a, b) in enumerate(zip(written.removeprefix(said).split("\n"), lines, strict=True)):
        assert a == b or d in off
    assert torch.isnan(part["gold"][1]).all() and not torch.isnan(part["gold"][0]).any()
    ids = part["inputs"]["input_ids"]
    assert torch.equal(ids[part["labels"] != NOTHING], part["labels"][part["labels"] != NOTHING])
    for i, slot in enumerate(part["slots"][:, -1].tolist()):
        assert tokenizer.decode(ids[i, : slot + 1]).rstrip().endswith(f"{RUBRIC.names[-1]}:")


def test_critique_first_trains(shared, tmp_path):
    recipe, m = shared
    recipe = changed(recipe, order="critique")
    _, told = train(recipe, m, tmp_path / "a")
    assert len(told) == 3 and "Accuracy" in told[-1][1]
    assert json.loads((tmp_path / "a" / "judge.json").read_text())["order"] == "critique"
    with pytest.raises(InputError, match="for order 'scores'"):
        train(changed(recipe, objective="reward"), m, tmp_path / "b")


class Broken(Exception):
    """The plug was pulled."""


def test_a_training_that_was_broken_off_goes_on_to_the_same_weights(shared, tmp_path):
    recipe, m = shared
    recipe = changed(recipe, steps=4, save_every=2, lora=recipe.lora.model_copy(update={"dropout": 0.2}))
    straight, _ = train(recipe, m, tmp_path / "straight")

    def pull(step, figures):
        if step == 2:
            raise Broken

    with pytest.raises(Broken):
        train(recipe, m, tmp_path / "again", progress=pull)
    hidden = tmp_path / ".again.checkpoints"
    assert (hidden / "checkpoint-2").is_dir() and not (tmp_path / "again").exists()
    (hidden / "checkpoint-3").mkdir()  # one that was being written
    resumed, told = train(recipe, m, tmp_path / "again")
    assert [step for step, _ in told] == [2, 3]
    assert equal(straight, resumed)
    assert not hidden.exists()


def test_a_checkpoint_of_another_training_is_not_gone_on_with(shared, tmp_path):
    recipe, m = shared
    recipe = changed(recipe, save_every=1)

    def pull(step, figures):
        if step == 1:
            raise Broken

    with pytest.raises(Broken):
        train(recipe, m, tmp_path / "a", progress=pull)
    other = changed(recipe, rate=0.02)
    weights, told = train(other, m, tmp_path / "a")
    assert [step for step, _ in told] == [0, 1, 2]
    assert equal(weights, train(changed(other, save_every=0), m, tmp_path / "b")[0])


def test_a_loss_that_is_not_finite_stops_and_the_last_good_checkpoint_stays(shared, tmp_path):
    recipe, m = shared
    recipe = changed(recipe, save_every=1, rate=1e36)
    with pytest.raises(FloatingPointError, match="not finite at step"):
        train(recipe, m, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    (good,) = (tmp_path / ".a.checkpoints").glob("checkpoint-*")
    assert all(torch.isfinite(v).all() for v in load_file(good / WEIGHTS).values())
    with pytest.raises(FloatingPointError):
        train(changed(recipe, save_every=0), m, tmp_path / "b")
    assert not (tmp_path / ".b.checkpoints").exists()


@pytest.mark.slow
def test_activations_computed_again_change_nothing(shared, tmp_path):
    recipe, m = shared
    a, b = (train(changed(recipe, checkpointing=on), m, tmp_path / str(on))[0] for on in (False, True))
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)


@pytest.mark.slow
def test_a_reward_goes_on_after_a_break_too(shared, tmp_path):
    """Its checkpoints hold two adapters."""
    recipe, m = shared
    train(recipe, m, tmp_path / "start")
    recipe = changed(recipe, steps=4, objective="reward", start=str(tmp_path / "start"), save_every=2)
    straight, _ = train(recipe, m, tmp_path / "straight")

    def pull(step, figures):
        if step == 2:
            raise Broken

    with pytest.raises(Broken):
        train(recipe, m, tmp_path / "a", progress=pull)
    assert equal(straight, train(recipe, m, tmp_path / "a")[0])


def test_a_sample_that_would_be_cut_is_refused_by_name(shared, tmp_path):
    recipe, m = shared
    collate = collator(changed(recipe, critiques=1.0), m)
    tokens = {
        row.example: len(collate([{"row": k}])["parts"][0]["inputs"]["input_ids"][0])
        for k, row in enumerate(collate.rows)
        if row.look != "none"
    }
    collate.rows = [row for row in collate.rows if row.look != "none"]
    worst = max(tokens, key=lambda k: tokens[k])
    collate.refuse_cut(None)
    collate.refuse_cut(tokens[worst])
    with pytest.raises(InputError, match=f"takes {tokens[worst] - 1}") as refused:
        collate.refuse_cut(tokens[worst] - 1)
    assert f"case '{m.examples[worst].case.id}', system '{m.examples[worst].narrative.system}'" in str(refused.value)
    config = json.loads((m.base / "config.json").read_text())
    short = tmp_path / "short"
    short.mkdir()
    for file in m.base.iterdir():
        (short / file.name).write_bytes(file.read_bytes())
    config["text_config"]["max_position_embeddings"] = 40
    (short / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="the model takes 40"):
        train_adapter(recipe, short, tmp_path / "a", m.examples, m.pictures, RUBRIC)


def test_what_cannot_be_done_is_said_before_anything_is_loaded(shared, tmp_path, monkeypatch):
    recipe, m = shared
    monkeypatch.setattr("dermjudge.training.sft.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="bitsandbytes"):
        train(changed(recipe, quantize="4bit"), m, tmp_path / "a")
    if not torch.cuda.is_available():
        monkeypatch.setattr("dermjudge.training.sft.find_spec", lambda name: True)
        with pytest.raises(InputError, match="needs a GPU"):
            train(changed(recipe, quantize="8bit"), m, tmp_path / "a")
    with pytest.raises(InputError, match=r"lora\.targets do not fit"):
        train(changed(recipe, lora=recipe.lora.model_copy(update={"targets": "nothing_like_it"})), m, tmp_path / "a")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError, match="8 cannot be shared equally among 3"):
        training_arguments(recipe, tmp_path / "a")


PROGRAM = """
import json, sys
from pathlib import Path
from dermjudge.judge.rubric import load_rubric
from dermjudge.training.config import Recipe
from dermjudge.training.processes import is_main
from dermjudge.training.rung_training import prepare_data
from dermjudge.training.sft import train_adapter
recipe, data, out = Recipe.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
m = prepare_data(recipe, data, load_rubric("derm6"))
told = []
train_adapter(recipe, m.base, out, m.examples, m.pictures, m.rubric, progress=lambda step, f: told.append(dict(f)))
if is_main():
    (out.parent / f"{out.name}.json").write_text(json.dumps(told))
else:
    assert not told
"""


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# On CPUs accelerate starts several processes by MPI only, which is not everywhere; --multi_gpu starts them as on GPUs.
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "launcher"), [("regression", ACCELERATE), ("cross-entropy", TORCHRUN)])
def test_two_processes_learn_what_one_does(shared, tmp_path, objective, launcher):
    recipe, m = shared
    recipe = changed(recipe, steps=4, objective=objective, accumulate=2, rate=0.002)
    weights, told = train(recipe, m, tmp_path / "one")
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-m", *launcher]
    arguments = [
        str(tmp_path / "program.py"),
        recipe.model_dump_json(),
        str(m.base.parent / "data"),
        str(tmp_path / "two"),
    ]
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    both = json.loads(Path(tmp_path / "two.json").read_text())
    assert len(both) == len(told)
    for (_, a), b in zip(told, both, strict=True):
        assert a.keys() == b.keys()
        assert all(b[name] == pytest.approx(a[name], rel=2e-3) for name in a)
    two = load_file(tmp_path / "two" / WEIGHTS)
    moved = load_model(recipe, m.base, RUBRIC, torch.device("cpu")).state_dict()
    for name, value in weights.items():
        start = moved[name.replace(".weight", ".default.weight")]
        assert float((two[name] - value).norm()) < 0.2 * float((value - start).norm()) + 1e-9, name
