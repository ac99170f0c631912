"""Tiny real models for tests: transformers architectures from config, random weights, no hub."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = (
    "Findings Diagnosis Triage psoriasis melanoma routine urgent red blue scaly round lesion on the left right palm "
    "Accuracy Safety Medical Groundedness Clinical Coverage Reasoning Coherence Description Precision Critique Context"
)


def tokenizer(size: int = 420):
    from dermjudge.training.pretrain import build_tokenizer

    return build_tokenizer([WORDS] * 20, WORDS.split(), size)


def idefics3(folder: Path, seed: int = 0) -> Path:
    """A saved Idefics3 of about 0.1 M parameters."""
    import torch

    from dermjudge.training.pretrain import build_model, build_processor

    torch.manual_seed(seed)
    tok = tokenizer()
    shape = dict(side=32, patch=8, shuffle=2, vision_width=32, vision_layers=1, width=32, layers=2, feed_forward=64)
    build_model(tok, shape).save_pretrained(folder)
    build_processor(tok, 32, 4).save_pretrained(folder)
    return folder


def llava(folder: Path, seed: int = 0) -> Path:
    """A saved LLaVA (Siglip + Llama) of about 0.1 M parameters."""
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, SiglipImageProcessorPil

    from dermjudge.training.pretrain import TEMPLATE

    torch.manual_seed(seed)
    tok = tokenizer()
    ids = dict(pad_token_id=tok.pad_token_id, bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id)
    config = LlavaConfig(
        vision_config=dict(
            model_type="siglip_vision_model",
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
            vision_use_head=False,
        ),
        text_config=dict(
            model_type="llama",
            vocab_size=len(tok),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            **ids,
        ),
        image_token_id=tok.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
        **ids,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    LlavaProcessor(
        images,
        tok,
        patch_size=16,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return folder


def adapter(base: Path, folder: Path, rubric, *, form: str = "bound", scale: float = 0.5, **card) -> Path:
    """A LoRA adapter with random weights and a judge card, belonging to `base`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    from dermjudge.judge.backends.folder import weights_hash
    from dermjudge.judge.prompt import template_hash

    torch.manual_seed(1)
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    targets = r"^(?!.*vision).*\.(q_proj|v_proj)$"
    model = get_peft_model(model, LoraConfig(r=2, lora_alpha=2, target_modules=targets, task_type="CAUSAL_LM"))
    for name, value in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(value.data, std=scale)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    content = {
        "base_weights": weights_hash(base),
        "rubric": rubric.id,
        "rubric_hash": rubric.hash,
        "form": form,
        "template": template_hash(rubric, form),
        "max_images": 1,
        **card,
    }
    (folder / "judge.json").write_text(json.dumps(content))
    return folder
