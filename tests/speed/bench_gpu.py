"""Training and scoring speed of a full-size base on a GPU: random weights, nothing downloaded.

    python tests/speed/bench_gpu.py [--base llava-1.5-7b | qwen2.5-vl-3b] [--batch 4] [--tokens 1024]

The architecture is typed in below. Prints the device's name, the rate of a big bf16 matrix product in the same run,
training tokens a second (LoRA of rank 16 on the language side, bf16, with and without checkpointing), and scoring cases
a second: all slots in one pass against scores that are generated (60 tokens) and a critique before them (200). "Share"
is useful arithmetic over the matrix rate: 2 N a token forwards and 2 N backwards, since frozen weights have no gradient
of their own (the adapter and what checkpointing computes again are not counted), N the weights of the language model's
layers. Without a GPU it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText, LlavaConfig, Qwen2_5_VLConfig

from dermjudge.judge.backends.local import read_slots, slot_logits
from dermjudge.training.config import Lora, Recipe
from dermjudge.training.losses import slot_loss
from dermjudge.training.memory import estimate

SLOTS, LEVELS, SCORES, CRITIQUE = 6, 6, 60, 200
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
IMAGE = 5  # token id


def llava(tiny: bool) -> tuple[Any, int, Callable[[int], dict[str, Any]]]:
    """LLaVA-1.5-7B: CLIP-L/14 at 336 pixels, Llama of 32 layers of 4096."""
    text = {"model_type": "llama", "vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 11008, **IDS}
    text |= {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32}
    vision = {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "patch_size": 14}
    vision |= {"num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "projection_dim": 768}
    if tiny:
        text |= {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        text |= {"num_attention_heads": 2, "num_key_value_heads": 2}
        vision |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        vision |= {"image_size": 56}
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE, tie_word_embeddings=False, **IDS)
    side = vision["image_size"]
    return config, (side // 14) ** 2, lambda rows: {"pixel_values": torch.randn(rows, 3, side, side)}


def qwen(tiny: bool) -> tuple[Any, int, Callable[[int], dict[str, Any]]]:
    """Qwen2.5-VL-3B: 36 layers of 2048, vision of 32 layers of 1280; pictures of 672 x 672."""
    sections = [2, 3, 3] if tiny else [16, 24, 24]
    text = {"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, **IDS}
    text |= {"num_attention_heads": 16, "num_key_value_heads": 2, "tie_word_embeddings": True}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}}
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048}
    vision |= {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112}
    side = 672
    if tiny:
        text |= {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        text |= {"num_attention_heads": 2, "num_key_value_heads": 1}
        vision |= {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
        vision |= {"fullatt_block_indexes": [1]}
        side = 56
    config = Qwen2_5_VLConfig(
        vision_config=vision, text_config=text, image_token_id=IMAGE, video_token_id=6, vision_start_token_id=7,
        vision_end_token_id=8, tie_word_embeddings=True, **IDS,
    )  # fmt: skip
    patches = side // 14

    def pictures(rows: int) -> dict[str, Any]:
        grid = torch.tensor([[1, patches, patches]] * rows)
        return {"pixel_values": torch.randn(rows * patches**2, 3 * 2 * 14 * 14), "image_grid_thw": grid}

    return config, patches**2 // 4, pictures


BASES = {"llava-1.5-7b": llava, "qwen2.5-vl-3b": qwen}


def clock(device: str, work: Callable[[], Any], seconds: float) -> float:
    """Seconds of one call: the median of as many as fit into `seconds`, three at least, after one that warms up."""
    work()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def matrix_rate(device: str, side: int, seconds: float) -> float:
    """Floating-point operations a second of a bf16 product of two square matrices."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / clock(device, lambda: a @ b, seconds)


def rows(config: Any, tokens: int, picture: int, pictures: Any, number: int, device: str) -> dict[str, Any]:
    """A batch of random rows: a picture's tokens, then words; the slots stand at the end."""
    ids = torch.randint(10, config.get_text_config().vocab_size, (number, tokens))
    ids[:, 4 : 4 + picture] = IMAGE
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **pictures(number)}
    if "image_grid_thw" in inputs:
        inputs["mm_token_type_ids"] = (ids == IMAGE).long()
    return {k: v.to(device, torch.bfloat16) if v.is_floating_point() else v.to(device) for k, v in inputs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", choices=BASES, default="llava-1.5-7b")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # that the code runs, anywhere
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.tiny:
        print("no GPU here: nothing measured")
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU, a check that this program runs, no measurement"
    if options.tiny:
        options.tokens, options.seconds, options.batch = 96, 0.1, 2
    torch.manual_seed(0)
    config, picture, pictures = BASES[options.base](options.tiny)
    rate = matrix_rate(device, 256 if options.tiny else 8192, options.seconds / 5)
    print(f"device: {name}; torch {torch.__version__}; bf16 matrix product {rate / 1e12:.3g} TFLOP/s", flush=True)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=Lora().targets, task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)
    layers = sum(p.numel() for n, p in model.named_parameters() if ".layers." in n and "visual" not in n
                 and "vision" not in n and "lora_" not in n)  # fmt: skip
    total = sum(p.numel() for p in model.parameters())
    print(f"base: {options.base}, {total / 1e9:.2f} G parameters, {layers / 1e9:.2f} G in the language model's layers, "
          f"random weights; rows of {options.tokens} tokens, {picture} of them a picture's", flush=True)  # fmt: skip
    batch = rows(config, options.tokens, picture, pictures, options.batch, device)
    slots = torch.arange(options.tokens - 4 * SLOTS, options.tokens, 4, device=device).expand(options.batch, -1)
    levels = torch.arange(20, 20 + LEVELS, device=device).expand(SLOTS, -1)
    values = torch.arange(LEVELS, dtype=torch.float32, device=device)
    train(model, config, options, device, rate, layers, batch, slots, levels, values)
    model = model.merge_and_unload().eval()
    score(model, options, device, rate, layers, batch, slots, levels, values)


def train(model, config, options, device, rate, layers, batch, slots, levels, values) -> None:
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, fused=device == "cuda")
    gold = torch.randint(0, LEVELS, (options.batch, SLOTS), device=device).float()
    target = torch.nn.functional.one_hot(gold.long(), LEVELS).float()
    model.train()

    def step() -> None:
        with torch.autocast(device, torch.bfloat16):
            logits = slot_logits(model, {**batch, "slots": slots})
        loss, _ = slot_loss(logits, levels, values, gold, target=target, weight=0.3)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for checkpointing in (True, False):
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            model.gradient_checkpointing_disable()
        try:
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            took = clock(device, step, options.seconds)
        except torch.OutOfMemoryError:
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            print(f"training, checkpointing {checkpointing}: out of memory at batch {options.batch}", flush=True)
            continue
        tokens = options.batch * options.tokens
        plan = Recipe.model_validate({
            "name": "x", "data": {}, "critiques": 0, "dtype": "bfloat16", "checkpointing": checkpointing,
            "sft": {"steps": 1, "batch": options.batch, "rate": 0.1},
        })  # fmt: skip
        rule = estimate(config, plan, tokens=options.tokens, device=device).total / 1e9
        peak = f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if device == "cuda" else "not measured"
        share = 4 * layers * tokens / took / rate
        speed = f"{tokens / took:.0f} tokens/s, {options.batch / took:.2f} rows/s, share {share:.0%}"
        memory = f"memory {peak} (rule {rule:.1f} GB)"
        print(f"training, checkpointing {checkpointing}: {speed}; {memory}", flush=True)


@torch.inference_mode()
def score(model, options, device, rate, layers, batch, slots, levels, values) -> None:
    def one_pass() -> None:
        read_slots(slot_logits(model, {**batch, "slots": slots}), levels, values)

    def written(number: int) -> Callable[[], Any]:
        return lambda: model.generate(**batch, min_new_tokens=number, max_new_tokens=number, do_sample=False)

    took = clock(device, one_pass, options.seconds)
    share = 2 * layers * options.batch * options.tokens / took / rate
    print(f"scoring in one pass: {options.batch / took:.2f} cases/s, share {share:.0%}", flush=True)
    for number, what in ((SCORES, "scores generated"), (CRITIQUE, "critique generated")):
        number = 8 if options.tiny else number
        slow = clock(device, written(number), options.seconds)
        print(f"{what} ({number} tokens): {options.batch / slow:.2f} cases/s; one pass is {slow / took:.1f} x faster",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
