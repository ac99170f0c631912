"""What a training will need of the device's memory, estimated by rule before anything is loaded.

It is an estimate: what the CUDA context (about 0.5 GB), fragmentation, the vision tower's passing states and, for
sampled rewards, the cache of generation take comes on top. The terms, for b rows of s tokens and a language model of L
layers of width h, feed-forward width f, H query heads of size d and a vocabulary of V; c = 2 bytes (bf16 autocast):

- weights: parameters * 4 (float32), 2 (bfloat16), or in linear layers 1 (8 bit) or 0.516 (4 bit: NF4 and 0.127 bits for
  its doubly quantized scales; Dettmers et al. 2023, QLoRA, section 3).
- adapter: n = sum of rank * (in + out) over the adapted layers (Hu et al. 2021, LoRA, section 4.1), float32 weights and
  gradients: 8 n; a reward keeps a frozen second one. optimizer: AdamW's two float32 moments: 8 n.
- activations, counted tensor by tensor as autograd saves them, after Korthikanti et al. 2022 (Reducing Activation
  Recomputation in Large Transformer Models, section 4.1), whose 34 h + 5 H s is for GELU and trained weights. Here, per
  layer and token: two RMS norms in float32, 8 h; the inputs of q, k, v, gate and up, 5 c h; queries, keys, values and
  what goes into o, 4 c H d; attention weights where they are written down (on a CPU), (4 + c) H s; gate, its SiLU, up
  and their product, 4 c f. With checkpointing only each layer's input stays, and one layer is whole at a time (section
  5 there). A float32 base under autocast also keeps a bf16 copy of each layer's weights.
- the output: logits and their gradient, 2 c V per position that the losses look at: slots and answer, or, with
  objective "cross-entropy", all.

Checked against what autograd saves (within 10 %, a test) and against the peak of a CPU training of 26 M parameters on
two rows of 868 tokens: rule 1.09 GB, measured 1.22 GB where malloc gives freed blocks back (MALLOC_MMAP_THRESHOLD_ set
to 65536), 1.68 GB as it comes, since small and large blocks share a heap. No GPU has been measured.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from ..judge.errors import InputError
from .config import Recipe

COMPUTE = 2  # bytes of a number under bf16 autocast
ANSWER = 160  # tokens of a critique, where one is learnt
SLOTS = 64  # positions from the first slot to the last, generously
WORDS = 250  # of the narrative that the estimate is made for
PICTURE = (1024, 768)


class Memory(NamedTuple):
    """Bytes, for rows of `tokens` tokens on `device`; `parameters` of the base, `trained` of the adapter."""

    weights: int
    adapter: int
    optimizer: int
    activations: int
    total: int
    tokens: int
    parameters: int
    trained: int
    device: str

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {getattr(self, name) / 1e9:.1f}" for name in self._fields[:4])
        return (
            f"about {self.total / 1e9:.1f} GB ({parts}) on {'a GPU' if self.device == 'cuda' else 'a CPU'} for "
            f"rows of {self.tokens} tokens; an estimate by rule, the device's own needs (0.5 GB and more) come on top"
        )


def estimate(base: Path | Any, recipe: Recipe, *, tokens: int | None = None, device: str = "") -> Memory:
    """The memory that training `recipe` on `base` needs; `base` is a model folder or a transformers config.

    tokens: of a row, the answer included; by default those of a 250-word narrative with as many pictures of 1024 x 768
    as the recipe takes, which needs the folder's processor. device: "cuda" or "cpu", by default what is here. Nothing
    is loaded: the architecture is built without weights. Raises InputError for a base that is not there, a processor
    that cannot be loaded, and an adapter that would be nowhere.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    if isinstance(base, (str, Path)):
        if not (Path(base) / "config.json").is_file():
            raise InputError(f"no base model folder at '{base}': its config.json is needed to estimate the memory")
        config = AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True)
    else:
        config = base
    if tokens is None:
        if config is base:
            raise InputError("for a config without a processor say how many tokens a row has")
        tokens = row_tokens(Path(base), recipe)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    linear = {name: part for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    adapted = [part for name, part in linear.items() if re.fullmatch(recipe.lora.targets, name)]
    if not adapted:
        raise InputError(f"recipe {recipe.name}: lora.targets fits no linear layer of this base")
    trained = sum(recipe.lora.rank * (part.in_features + part.out_features) for part in adapted)
    everything = sum(p.numel() for p in model.parameters())  # tied ones once
    head = model.get_output_embeddings()
    packed = sum(part.weight.numel() for part in linear.values() if part is not head) if recipe.quantize else 0
    wide = 2 if recipe.dtype == "bfloat16" else 4
    each = {"": 0.0, "8bit": 1.0, "4bit": (4 + 0.127) / 8}[recipe.quantize]
    weights = int((everything - packed) * wide + packed * each)
    copies = 1 + (recipe.objective not in ("cross-entropy", "regression"))  # and the reference, which has no gradient
    adapter, optimizer = 4 * trained * (1 + copies), 8 * trained
    cast = sum(part.weight.numel() for part in adapted) if wide == 4 else 0  # what autocast copies
    activations = _activations(config.get_text_config(), recipe, tokens, device, cast)
    total = weights + adapter + optimizer + activations
    return Memory(weights, adapter, optimizer, activations, total, tokens, everything, trained, device)


def _activations(text: Any, recipe: Recipe, tokens: int, device: str, cast: int) -> int:
    """Bytes that autograd saves for one batch of rows; `cast`: weights of the language layers that are copied."""
    h, f, layers = text.hidden_size, text.intermediate_size, text.num_hidden_layers
    heads, c = text.num_attention_heads, COMPUTE
    size = getattr(text, "head_dim", None) or h // heads
    written = (4 + c) * heads * tokens if device == "cpu" else 4 * heads  # fused: one float32 per head and token
    layer = 8 * h + 5 * c * h + 4 * c * heads * size + written + 4 * c * f
    wide = 2 if recipe.dtype == "bfloat16" else 4
    per_token = layers * wide * h + layer if recipe.checkpointing else layers * layer
    looked = tokens if recipe.objective == "cross-entropy" else min(tokens, SLOTS + _answer(recipe))
    copies = c * cast // (layers if recipe.checkpointing else 1)
    return recipe.sft.batch * (tokens * per_token + looked * 2 * c * text.vocab_size) + copies


def _answer(recipe: Recipe) -> int:
    return ANSWER if recipe.critiques or recipe.order == "critique" else 0


def row_tokens(base: Path, recipe: Recipe) -> int:
    """Tokens of a row: a 250-word narrative, the recipe's pictures and prompt, and the answer where one is learnt."""
    from PIL import Image

    from ..judge.backends.bases import load_processor
    from ..judge.backends.encoding import Encoder
    from ..judge.prompt import render
    from ..judge.records import Case, Narrative
    from ..judge.records import Image as Picture
    from ..judge.rubric import load_rubric

    rubric = load_rubric(recipe.rubric)
    encoder = Encoder(load_processor(base, recipe.images.model_dump()), rubric)
    case = Case("c", tuple(Picture(f"{k}.png") for k in range(recipe.max_images)), context="left palm, 54 years")
    words = ("a red scaly plaque with a sharp border and no sign of ulceration is seen on the left palm " * 20).split()
    prompt = render(case, Narrative("c", "s", " ".join(words[:WORDS])), rubric, recipe.form)
    pictures = [Image.new("RGB", PICTURE, (180, 120, 100)) for _ in case.images]
    return len(encoder.encode(prompt, pictures).ids) + _answer(recipe)
