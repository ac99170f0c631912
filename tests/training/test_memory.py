"""The estimate of a training's memory against what autograd really saves, and against numbers worked out by hand."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
from peft import LoraConfig, get_peft_model  # noqa: E402

from dermjudge.judge.errors import InputError  # noqa: E402
from dermjudge.training import memory  # noqa: E402
from dermjudge.training.config import Lora, Recipe, load_recipe  # noqa: E402
from dermjudge.training.memory import estimate  # noqa: E402
from tests import tiny_bases  # noqa: E402


def recipe(**changes) -> Recipe:
    sft = {"steps": 1, "batch": changes.pop("batch", 2), "rate": 0.001}
    return Recipe.model_validate({"name": "x", "data": {}, "base": "b", "sft": sft, "critiques": 0, **changes})


def llava(width=64, feed_forward=172, heads=4, layers=2, vocabulary=300):
    from transformers import LlavaConfig

    text = {"model_type": "llama", "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": feed_forward}
    text |= {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": heads}
    text |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False}
    vision = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8, "projection_dim": 32}
    return LlavaConfig(vision_config=vision, text_config=text, image_token_id=5, tie_word_embeddings=False)


def saved(config, batch, tokens, dtype):
    """Bytes of all tensors that a training step keeps for its backward pass, weights apart."""
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration(config).to(dtype)
    model.set_attn_implementation("eager")
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=Lora().targets, task_type="CAUSAL_LM")
    model = get_peft_model(model, lora).train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept, seen = [], {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        kept.append(tensor)  # or another would come to stand at the same place
        return tensor

    ids = torch.randint(10, config.text_config.vocab_size, (batch, tokens))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=4).logits
        logits.float().logsumexp(-1).sum()
    return sum(seen.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("shape", "batch", "tokens"), [({}, 2, 200), ({"width": 128, "feed_forward": 344}, 4, 60)])
def test_what_autograd_saves(dtype, shape, batch, tokens, monkeypatch):
    config = llava(**shape)
    monkeypatch.setattr(memory, "SLOTS", 4)
    rule = estimate(config, recipe(dtype=dtype, batch=batch), tokens=tokens, device="cpu").activations
    assert saved(config, batch, tokens, getattr(torch, dtype)) == pytest.approx(rule, rel=0.1)


@pytest.mark.parametrize("name", tiny_bases.BASES)
def test_parameters_and_adapter_are_counted_exactly(name):
    model = tiny_bases.BASES[name]()[0]
    found = estimate(model.config, recipe(), tokens=50)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=Lora().targets, task_type="CAUSAL_LM")
    adapter = get_peft_model(model, lora)
    assert found.trained == sum(p.numel() for p in adapter.parameters() if p.requires_grad)
    assert found.weights == 4 * found.parameters and found.adapter == found.optimizer == 8 * found.trained
    assert found.total == found.weights + found.adapter + found.optimizer + found.activations


def test_a_seven_billion_model_by_hand():
    """LLaVA-1.5-7B: 7.06 G parameters; rank 16 on 32 layers of 4096 / 11008 = 39,976,960 trained ones."""
    from transformers import LlavaConfig

    config = LlavaConfig(tie_word_embeddings=False)
    config.text_config.vocab_size, config.text_config.tie_word_embeddings = 32064, False
    plain = recipe(dtype="bfloat16", checkpointing=True, batch=4)
    found = estimate(config, plain, tokens=1000, device="cuda")
    assert found.trained == 39_976_960 and 7.05e9 < found.parameters < 7.08e9
    assert found.weights == 2 * found.parameters
    layers = 32 * 2 * 4096 + (8 * 4096 + 10 * 4096 + 8 * 4096 + 4 * 32 + 8 * 11008)
    assert found.activations == 4 * (1000 * layers + 64 * 4 * 32064)
    packed = estimate(config, recipe(dtype="bfloat16", quantize="4bit"), tokens=1000).weights
    assert 3.8e9 < packed < 4.4e9  # QLoRA's 7B bases take about 4 GB
    assert estimate(config, recipe(dtype="bfloat16", quantize="8bit"), tokens=1000).weights > packed * 1.5


def test_more_of_anything_is_more_memory():
    config, less = llava(), estimate(llava(), recipe(), tokens=100, device="cpu")
    assert estimate(config, recipe(batch=4), tokens=100, device="cpu").activations > less.activations * 1.5
    assert estimate(config, recipe(), tokens=200, device="cpu").activations > less.activations * 2  # s * s on a CPU
    assert estimate(config, recipe(), tokens=100, device="cuda").activations < less.activations
    assert estimate(config, recipe(objective="cross-entropy"), tokens=100, device="cpu").activations > less.activations
    assert estimate(config, recipe(checkpointing=True), tokens=100, device="cpu").activations < less.activations
    assert estimate(config, recipe(objective="reward", start="s"), tokens=100).adapter == less.adapter * 3 // 2


def test_of_a_folder_with_the_recipe_that_is_shipped(tmp_path):
    base = tiny_bases.build("smolvlm", tmp_path / "base")
    plan = load_recipe("training/recipes/smolvlm.yaml")
    found = estimate(base, plan)
    words = estimate(
        base, plan.model_copy(update={"images": plan.images.model_copy(update={"tiles": False, "longest_edge": 0})})
    )
    assert found.tokens > words.tokens > 250  # views are tokens
    told = str(found)
    assert "estimate" in told and f"{found.tokens} tokens" in told and "\n" not in told


def test_what_cannot_be_estimated_is_said(tmp_path):
    with pytest.raises(InputError, match="no base model folder"):
        estimate(tmp_path / "none", recipe())
    with pytest.raises(InputError, match="how many tokens"):
        estimate(llava(), recipe())
    with pytest.raises(InputError, match="fits no linear layer"):
        estimate(llava(), recipe(lora={"targets": "nothing"}), tokens=9)
