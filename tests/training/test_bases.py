"""Every architecture that has a recipe, end to end on a tiny checkpoint: train, save, load, score, and look."""

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from accelerate.utils import extract_model_from_parallel  # noqa: E402
from PIL import Image as Pillow  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from dermjudge.judge.backends import bases, local, open_judge  # noqa: E402
from dermjudge.judge.backends.base import Question  # noqa: E402
from dermjudge.judge.backends.encoding import Encoder  # noqa: E402
from dermjudge.judge.errors import InputError  # noqa: E402
from dermjudge.judge.prompt import render  # noqa: E402
from dermjudge.judge.records import Case, Image, Narrative  # noqa: E402
from dermjudge.judge.rubric import load_rubric  # noqa: E402
from dermjudge.training.config import Images, Lora, load_recipe  # noqa: E402
from dermjudge.training.examples import Example  # noqa: E402
from dermjudge.training.sft import train_adapter  # noqa: E402
from tests import tiny_bases  # noqa: E402

RUBRIC = load_rubric("derm6")
ALL = list(tiny_bases.BASES)
RECIPES = {  # recipe: architecture
    "llava-1.5": "llava",
    "qwen2.5-vl": "qwen2.5-vl",
    "qwen3-vl": "qwen3-vl",
    "gemma3": "gemma3",
    "medgemma": "gemma3",
    "smolvlm": "smolvlm",
    "internvl3": "internvl",
    "paligemma": "paligemma",
}
FOLDER = Path(bases.__file__).parents[2] / "training" / "recipes"


def needs(name):
    if name in tiny_bases.NEED_TORCHVISION and not find_spec("torchvision"):
        pytest.skip(f"the processor of {name} needs torchvision")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            made[name] = tiny_bases.build(name, tmp_path_factory.mktemp("base") / name)
        return made[name]

    return get


def picture(seed):
    return Pillow.fromarray(np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8))


def example(k, critique="Accuracy - colour wrong"):
    case = Case(f"c{k}", (Image("a.png"),), patient_id=f"p{k}", context="left palm", split="train")
    gold = np.array([k % 6, 5 - k % 6, 2, 3, 1, 4], float)
    return Example(case, Narrative(case.id, "s", f"red scaly lesion {k}"), gold, np.eye(6)[gold.astype(int)], critique)


def question(text, seen):
    prompt = render(Case("c", (Image("a.png"),), context="left palm"), Narrative("c", "s", text), RUBRIC, "bound")
    return Question("k", prompt, seen)


def recipe_of(name):
    return "smolvlm" if name == "idefics3" else next(r for r, kind in RECIPES.items() if kind == name)


def recipe(name, **changes):
    plan = load_recipe(FOLDER / f"{name}.yaml")
    sft = plan.sft.model_copy(update={"steps": 3, "batch": 4, "rate": 0.02})
    return plan.model_copy(update={"sft": sft, "accumulate": 1, "critiques": 0.5, "image_dropout": 0.3, **changes})


SLOW = [pytest.param(n, "float32", marks=pytest.mark.slow) for n in ALL if n not in ("llava", "paligemma")]


@pytest.mark.parametrize(
    ("name", "dtype"), [("llava", "bfloat16"), ("llava", "float32"), ("paligemma", "float32"), *SLOW]
)
def test_train_save_load_score_same_scores(name, dtype, base, tmp_path, monkeypatch):
    needs(name)
    folder, figures = base(name), []
    kept = {}

    def keep(model, *rest):
        kept["model"] = model
        return saved(model, *rest)

    from dermjudge.training import sft

    saved = sft.save_adapter
    monkeypatch.setattr(sft, "save_adapter", keep)
    plan = recipe(recipe_of(name), dtype=dtype, images=Images())
    out = train_adapter(
        plan,
        folder,
        tmp_path / "judge",
        [example(k) for k in range(8)],
        lambda case: [picture(int(case.id[1:]))],
        RUBRIC,
        progress=lambda step, seen: figures.append(dict(seen)),
    )
    assert len(figures) == 3
    tensors = load_file(out / "adapter_model.safetensors")
    assert any(float(v.abs().max()) > 0 for k, v in tensors.items() if "lora_B" in k)
    monkeypatch.setattr(local, "_fast_bf16", lambda: False)
    judge = open_judge(f"local:{folder}+{out}", RUBRIC)
    asked = [question("red scaly lesion", [picture(1)]), question("blue round lesion on the palm", [picture(2)])]
    batch = judge.encoder.batch([judge.encoder.encode(q.prompt, q.pictures) for q in asked])
    with torch.inference_mode():
        after = local.slot_logits(judge.model, batch)
        trained = extract_model_from_parallel(kept["model"], keep_fp32_wrapper=False)  # else it computes in bf16
        before = local.slot_logits(trained.float().eval(), batch)
    close = 2e-4 if dtype == "float32" else 0.05  # it was trained on a base that is rounded to bf16
    assert torch.allclose(after, before, atol=close), float((after - before).abs().max())
    fresh = open_judge(f"local:{folder}", RUBRIC)
    untrained = local.slot_logits(fresh.model, batch)
    assert (untrained - after).abs().max() > 1e-3  # training has changed what is read
    monkeypatch.setattr(local, "MASS_FLOOR", 0.0)
    one, two = judge.answer(asked), open_judge(f"local:{folder}+{out}", RUBRIC).answer(asked)
    for a, b in zip(one, two, strict=True):
        for dimension in RUBRIC.names:
            assert a.scores[dimension].state == "scored"
            assert a.scores[dimension].value == pytest.approx(b.scores[dimension].value, abs=1e-4)


def slots_of(folder, asked, model=None, images=None, side="right"):
    encoder = Encoder(bases.load_processor(folder, images), RUBRIC)
    encoder.tokenizer.padding_side = side
    model = model or local.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return local.slot_logits(model, encoder.batch([encoder.encode(q.prompt, q.pictures) for q in asked]))


@pytest.mark.parametrize("name", ALL)
def test_another_picture_is_another_answer(name, base):
    needs(name)
    asked = [question("red scaly lesion", [picture(k)]) for k in (1, 2)] + [question("red scaly lesion", [picture(1)])]
    one, other, again = slots_of(base(name), asked)
    assert (one - other).abs().max() > 1e-4
    assert torch.allclose(one, again, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_company_and_padding_do_not_change_an_answer(name, base):
    """Rows of other lengths beside it: what belongs to a token (kinds, grids, masks) stays with its token."""
    needs(name)
    asked = [
        question("red", [picture(1)]),
        question("blue round lesion " * 9, [picture(2)]),
        question("x y", [picture(3)]),
    ]
    model = local.AutoModelForImageTextToText.from_pretrained(base(name), dtype=torch.float32).eval()
    alone = torch.cat([slots_of(base(name), [q], model) for q in asked])
    for side in ("right", "left"):
        assert torch.allclose(slots_of(base(name), asked, model, side=side), alone, atol=2e-4), side


@pytest.mark.parametrize("name", ALL)
def test_words_behind_the_slots_are_not_seen_by_them(name, base):
    """PaliGemma reads its prompt in both directions; what is written after it must not be part of that."""
    needs(name)
    encoder = Encoder(bases.load_processor(base(name)), RUBRIC)
    encoder.tokenizer.padding_side = "right"
    model = local.AutoModelForImageTextToText.from_pretrained(base(name), dtype=torch.float32).eval()
    for pictures in ([picture(1)], []):
        encoded = encoder.encode(question("red scaly lesion", pictures).prompt, pictures)
        read = []
        for words in ([], encoder.plain("\nCritique: Accuracy - the lesion is blue")):
            batch = encoder.batch([encoded], extra=[words])
            slots = batch.pop("slots")
            with torch.inference_mode():
                read.append(model(**batch, use_cache=False).logits[0, slots[0]])
        assert torch.allclose(*read, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_the_text_begins_alike_with_and_without_a_picture(name, base):
    needs(name)
    encoder = Encoder(bases.load_processor(base(name)), RUBRIC)
    begin = encoder.tokenizer.bos_token_id
    counts = {
        len(seen): encoder.encode(question("red", seen).prompt, seen).ids.count(begin) for seen in ([], [picture(1)])
    }
    assert len(set(counts.values())) == 1 and max(counts.values()) <= 1
    if name in ("llava", "gemma3", "paligemma", "idefics3", "smolvlm"):
        assert counts[0] == 1


@pytest.mark.parametrize("name", ["gemma3", "qwen2.5-vl", "qwen3-vl"])
def test_the_kinds_of_tokens_stand_at_their_tokens(name, base):
    """Also where a second <bos>, that of the tokenizer beside that of the template, is taken away."""
    needs(name)
    encoder = Encoder(bases.load_processor(base(name)), RUBRIC)
    encoded = encoder.encode(question("red", [picture(1)]).prompt, [picture(1)])
    (kinds,) = (v[0].tolist() for k, v in encoded.media.items() if k.endswith("token_type_ids"))
    image = encoder.tokenizer.image_token_id
    assert kinds == [int(i == image) for i in encoded.ids[: len(kinds)]] and sum(kinds) >= 4


@pytest.mark.parametrize("name", ALL)
def test_adapters_go_to_every_layer_of_the_language_side_and_to_nothing_else(name):
    model = tiny_bases.BASES[name]()[0]
    linear = [n for n, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    hit = {n for n in linear if re.fullmatch(Lora().targets, n)}
    language = {n for n in linear if re.search(r"\.(language_model|text_model)\.", n)}
    assert hit == language and len(hit) == 2 * 7
    assert [n for n in linear if "vision" in n or "visual" in n]
    assert not {n for n, part in model.named_modules() if re.fullmatch(Lora().targets, n)} - hit


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_real_bases(name):
    text = (FOLDER / f"{name}.yaml").read_text("utf-8")
    plan = load_recipe(FOLDER / f"{name}.yaml")
    assert plan.name == name and plan.pretraining is None and plan.lora.targets == Lora().targets
    assert plan.dtype == "bfloat16" and plan.checkpointing and plan.sft.batch * plan.accumulate >= 16
    assert not Path(plan.base).is_absolute() and "/" not in plan.base
    assert re.search(r"^# hub: \S+/\S+ +revision: ", text, re.M) and "licence" in text
    assert not set(yaml.safe_load(text)) & {"start", "labels", "quantize"}


@pytest.mark.skipif(bool(find_spec("torchvision")), reason="torchvision is here")
@pytest.mark.parametrize("name", tiny_bases.NEED_TORCHVISION)
def test_without_torchvision_there_is_one_clear_line(name, base, tmp_path):
    folder = base(name)
    with pytest.raises(
        InputError, match=rf"processor of base {name} needs torchvision.*pip install .*torchvision"
    ) as told:
        bases.load_processor(folder)
    assert "\n" not in str(told.value)
    with pytest.raises(InputError, match="needs torchvision"):
        open_judge(f"local:{folder}", RUBRIC)
    plan = recipe(recipe_of(name))
    with pytest.raises(InputError, match="needs torchvision"):
        train_adapter(plan, folder, tmp_path / "judge", [example(1)], lambda case: [picture(1)], RUBRIC)
    assert not (tmp_path / "judge").exists()


def test_what_is_missing_is_named():
    assert "pip install num2words" in bases._trouble(ImportError("Package `num2words` is required to run"))
    assert bases._trouble(OSError("no file\nand more")) == "cannot be loaded: no file"


def test_a_broken_torchvision_is_named_in_place_of_what_it_breaks(tmp_path, monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    told = bases.import_trouble(ImportError("Could not import module 'AutoProcessor'"), "a local model", "local")
    assert isinstance(told, InputError) and "nms does not exist" in str(told) and "doctor" in str(told)


def test_a_folder_without_a_processor_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    with pytest.raises(InputError, match=f"processor of base {tmp_path.name} cannot be loaded"):
        bases.load_processor(tmp_path)


# The policy for pictures


def views(folder, images):
    processor = bases.load_processor(folder, images)
    asked = question("red", [picture(1)])
    media = Encoder(processor, RUBRIC).encode(asked.prompt, asked.pictures).media
    if "image_grid_thw" in media:
        return int(media["image_grid_thw"].prod())
    return media["pixel_values"].flatten(0, -4).shape[0]


@pytest.mark.parametrize(
    ("name", "policy", "expected"),
    [
        ("idefics3", {"tiles": True}, 5),  # 2 x 2 views and the whole
        ("idefics3", {"tiles": False}, 1),
        ("smolvlm", {"tiles": True, "longest_edge": 96}, 10),
        ("smolvlm", {"longest_edge": 32}, 1),
        ("internvl", {"tiles": True}, 5),
        ("internvl", {"tiles": False}, 1),
        ("qwen2.5-vl", {}, 48),  # patches of 8 x 8 in 64 x 48
        ("qwen2.5-vl", {"longest_edge": 32}, 8),  # 16 x 32 pixels
        ("qwen3-vl", {"longest_edge": 32}, 8),
    ],
)
def test_how_many_views_a_picture_becomes(name, policy, expected, base):
    needs(name)
    assert views(base(name), policy) == expected


def test_pan_and_scan_of_gemma_is_switched(base):
    processor = bases.load_processor(base("gemma3"), {"tiles": True})
    processor.images_kwargs = {**processor.images_kwargs, "pan_and_scan_min_crop_size": 8}
    asked = question("red", [Pillow.new("RGB", (96, 32))])
    assert Encoder(processor, RUBRIC).encode(asked.prompt, asked.pictures).media["pixel_values"].shape[0] > 1
    assert views(base("gemma3"), {"tiles": False}) == 1


def test_nothing_is_cut_away_from_a_picture_whose_size_is_named(base):
    """LLaVA-1.5's own processor shows the middle only: what changes at the edge changes nothing."""
    edge = picture(1).copy()
    edge.paste((0, 255, 0), (0, 0, 4, 48))  # 4 of 64 columns; the middle square has 48
    asked = [question("red", [picture(1)]), question("red", [edge])]
    assert (slots_of(base("llava"), asked, images={}).diff(dim=0)).abs().max() < 1e-5
    assert (slots_of(base("llava"), asked, images={"longest_edge": 32}).diff(dim=0)).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("name", "policy", "told"),
    [
        ("llava", {"tiles": True}, "takes no tiles"),
        ("paligemma", {"longest_edge": 448}, "longest_edge can be 0 or 32"),
        ("idefics3", {"longest_edge": 64}, "32 x 32: 32 \\(or tiles: true\\)"),
        ("idefics3", {"longest_edge": 16, "tiles": True}, "32 or more"),
        ("qwen2.5-vl", {"longest_edge": 8}, "less than 16, one image token"),
    ],
)
def test_what_a_model_cannot_do_with_pictures_is_refused(name, policy, told, base):
    needs(name)
    with pytest.raises(InputError, match=told):
        bases.load_processor(base(name), policy)
