"""Tiny real models of every architecture that has a recipe, with chat template and special tokens of its kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import tiny

Made = tuple[Any, Any, Callable[[], Any]]  # model, tokenizer, and what makes the processor
SIDE, PATCH = 32, 8  # 16 patches
# What the real checkpoints come with, shortened to one user turn: where the picture stands, what ends a turn, what is
# trimmed or put in between.
TEMPLATES = {
    "idefics3": "<bos>{% for m in messages %}{{ m['role'].capitalize() }}{% if m['content'][0]['type'] == 'image' %}:"
    "{% else %}: {% endif %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}<image>"
    "{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}",
    "llava": "{% for m in messages %}{{ m['role'].upper() + ': ' }}{% for c in m['content'] | selectattr('type', "
    "'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}{% for c in m['content'] | selectattr('type', 'equalto', "
    "'text') %}{{ c['text'] + ' ' }}{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}",
    "gemma3": "{{ bos_token }}{%- for m in messages -%}{{ '<start_of_turn>' + m['role'] + '\n' }}{%- for c in "
    "m['content'] -%}{%- if c['type'] == 'image' -%}{{ '<start_of_image>' }}{%- else -%}{{ c['text'] | trim }}"
    "{%- endif -%}{%- endfor -%}{{ '<end_of_turn>\n' }}{%- endfor -%}{%- if add_generation_prompt -%}"
    "{{ '<start_of_turn>model\n' }}{%- endif -%}",
    "paligemma": "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}",
    "qwen": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' "
    "%}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "internvl": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% for c in m['content'] %}{% if "
    "c['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
}


def build(name: str, folder: Path, seed: int = 0) -> Path:
    """A saved base of one architecture: random weights, a connector that lets the picture through."""
    import torch

    torch.manual_seed(seed)
    model, tok, processor = BASES[name]()
    # A base that has just been made hardly looks (Gemma3's projector starts at zero): what comes out of the connector
    # is made as large as what the embeddings give, as in a trained one.
    with torch.no_grad():
        for part, weight in model.named_parameters():
            if weight.ndim == 2 and ("projector" in part or "connector" in part or "merger" in part):
                torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
            elif "embed_tokens" in part:
                torch.nn.init.normal_(weight, std=0.3)
    model.generation_config.eos_token_id = tok.eos_token_id
    model.generation_config.pad_token_id = tok.pad_token_id
    model.save_pretrained(folder)
    try:
        processor().save_pretrained(folder)
    except ImportError:  # a folder as it comes from somewhere else, whose processor cannot be made here
        tok.save_pretrained(folder)
        kind, images, videos = NEED_TORCHVISION[name]
        config = {
            "processor_class": kind,
            "image_processor": {"image_processor_type": images},
            "video_processor": {"video_processor_type": videos},
        }
        (folder / "processor_config.json").write_text(json.dumps(config))
    return folder


def tokens(begins: bool = False, **named: str) -> Any:
    """The tiny tokenizer, with further special tokens by the name that a processor asks for.

    begins: it puts <bos> before every text, as those of Llama and Gemma do.
    """
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    plain = tiny.tokenizer()
    backend = plain.backend_tokenizer
    if begins:
        backend.post_processor = TemplateProcessing("<bos> $A", special_tokens=[("<bos>", plain.bos_token_id)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens={"image_token": "<image>", **named},
    )


def text(tok: Any, kind: str = "llama", **more: Any) -> dict[str, Any]:
    """A text config; the family's own token ids lie outside a tiny vocabulary."""
    return {
        "model_type": kind,
        "vocab_size": len(tok),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        **ids(tok),
        **more,
    }


def ids(tok: Any) -> dict[str, int]:
    return {"pad_token_id": tok.pad_token_id, "bos_token_id": tok.bos_token_id, "eos_token_id": tok.eos_token_id}


def siglip(**more: Any) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
        "vision_use_head": False,
        **more,
    }


def idefics3(smol: bool = False) -> Made:
    import transformers as t

    tok = tokens(
        begins=True,
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
        end_of_utterance_token="<end_of_utterance>",
    )
    config, model = (
        (t.SmolVLMConfig, t.SmolVLMForConditionalGeneration)
        if smol
        else (t.Idefics3Config, t.Idefics3ForConditionalGeneration)
    )
    vision = siglip()
    for key in ("model_type", "vision_use_head"):
        vision.pop(key)
    made = config(
        vision_config=vision,
        text_config=text(tok),
        scale_factor=2,
        image_token_id=tok.image_token_id,
        tie_word_embeddings=True,
        **ids(tok),
    )
    images = t.Idefics3ImageProcessorPil(size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE})
    template = TEMPLATES["idefics3"]
    return model(made), tok, lambda: t.Idefics3Processor(images, tok, image_seq_len=4, chat_template=template)


def llava() -> Made:
    """LLaVA-1.5's make: CLIP with its class token, states of the last layer but one, a picture cut to its middle."""
    import transformers as t

    tok = tokens(begins=True)
    vision = siglip(model_type="clip_vision_model", num_hidden_layers=3, projection_dim=32)
    vision.pop("vision_use_head")
    config = t.LlavaConfig(
        vision_config=vision,
        text_config=text(tok, tie_word_embeddings=False),
        image_token_id=tok.image_token_id,
        image_seq_length=16,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
        **ids(tok),
    )
    images = t.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor = t.LlavaProcessor(
        images,
        tok,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATES["llava"],
    )
    return t.LlavaForConditionalGeneration(config), tok, lambda: processor


def gemma3() -> Made:
    import transformers as t

    tok = tokens(True, image_token="<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>")
    config = t.Gemma3Config(
        vision_config=siglip(),
        text_config=text(tok, "gemma3_text", head_dim=16, sliding_window=64),
        mm_tokens_per_image=4,
        image_token_index=tok.image_token_id,
        boi_token_index=tok.boi_token_id,
        eoi_token_index=tok.eoi_token_id,
        tie_word_embeddings=True,
        **ids(tok),
    )
    images = t.Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE})
    processor = t.Gemma3Processor(images, tok, image_seq_length=4, chat_template=TEMPLATES["gemma3"])
    return t.Gemma3ForConditionalGeneration(config), tok, lambda: processor


def paligemma() -> Made:
    import transformers as t

    tok = tokens()
    images = t.SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    images.image_seq_length = 16
    processor = t.PaliGemmaProcessor(images, tok, chat_template=TEMPLATES["paligemma"])  # adds its <loc...> tokens
    config = t.PaliGemmaConfig(
        vision_config=siglip(projection_dim=32),
        text_config=text(tok, "gemma", head_dim=16),
        projection_dim=32,
        image_token_id=tok.image_token_id,
        tie_word_embeddings=True,
        **ids(tok),
    )
    return t.PaliGemmaForConditionalGeneration(config), tok, lambda: processor


def qwen(version: int) -> Made:
    """Qwen2.5-VL (2) or Qwen3-VL (3); the processor needs torchvision, for videos that nobody shows it."""
    import transformers as t

    tok = tokens(
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        vision_start_token="<|vision_start|>",
        vision_end_token="<|vision_end|>",
        turn="<|im_start|>",
        end="<|im_end|>",
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}  # sums to half a head
    vision: dict[str, Any] = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64}
    vision |= {"patch_size": PATCH, "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32}
    common: dict[str, Any] = {
        "image_token_id": tok.image_token_id,
        "video_token_id": tok.video_token_id,
        "vision_start_token_id": tok.vision_start_token_id,
        "vision_end_token_id": tok.vision_end_token_id,
        "tie_word_embeddings": True,
        **ids(tok),
    }
    area = {"shortest_edge": SIDE * SIDE, "longest_edge": 4 * SIDE * SIDE}
    sizes = {"size": area, "patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2}
    if version == 2:
        config = t.Qwen2_5_VLConfig(
            vision_config=vision | {"fullatt_block_indexes": [1], "window_size": 2 * PATCH},
            text_config=text(tok, "qwen2_5_vl_text", rope_parameters=rope),
            **common,
        )
        model, processor, videos = t.Qwen2_5_VLForConditionalGeneration, t.Qwen2_5_VLProcessor, t.Qwen2VLVideoProcessor
    else:
        config = t.Qwen3VLConfig(
            vision_config=vision | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
            text_config=text(tok, "qwen3_vl_text", rope_parameters=rope, head_dim=16),
            **common,
        )
        model, processor, videos = t.Qwen3VLForConditionalGeneration, t.Qwen3VLProcessor, t.Qwen3VLVideoProcessor
    images = t.Qwen2VLImageProcessorPil(**sizes)
    return model(config), tok, lambda: processor(images, tok, videos(**sizes), chat_template=TEMPLATES["qwen"])


def internvl() -> Made:
    import transformers as t

    tok = tokens(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
        turn="<|im_start|>",
        end="<|im_end|>",
    )
    config = t.InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": [SIDE, SIDE],
            "patch_size": [PATCH, PATCH],
        },
        text_config=text(tok, "qwen2"),
        image_token_id=tok.context_image_token_id,
        image_seq_length=4,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
        **ids(tok),
    )
    side = {"height": SIDE, "width": SIDE}
    images = t.GotOcr2ImageProcessorPil(size=side, crop_to_patches=True, min_patches=1, max_patches=4)

    def processor() -> Any:
        videos = t.InternVLVideoProcessor(size=side)
        return t.InternVLProcessor(images, tok, videos, image_seq_length=4, chat_template=TEMPLATES["internvl"])

    return t.InternVLForConditionalGeneration(config), tok, processor


BASES: dict[str, Callable[[], Made]] = {
    "idefics3": idefics3,
    "smolvlm": lambda: idefics3(smol=True),
    "llava": llava,
    "gemma3": gemma3,
    "paligemma": paligemma,
    "qwen2.5-vl": lambda: qwen(2),
    "qwen3-vl": lambda: qwen(3),
    "internvl": internvl,
}
NEED_TORCHVISION = {  # for their videos: processor, image processor, video processor
    "qwen2.5-vl": ("Qwen2_5_VLProcessor", "Qwen2VLImageProcessor", "Qwen2VLVideoProcessor"),
    "qwen3-vl": ("Qwen3VLProcessor", "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor"),
    "internvl": ("InternVLProcessor", "GotOcr2ImageProcessor", "InternVLVideoProcessor"),
}
