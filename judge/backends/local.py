"""A judge that runs here: a transformers image-text-to-text model, a PEFT adapter, and score slots.

All slots are read in one forward pass: the expected value over the tokens of the rubric's levels after each "Name:".
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils.logging import disable_progress_bar

from ..errors import InputError
from ..prompt import Form, Prompt, template_hash
from ..records import Score
from ..rubric import Rubric
from .base import Answer, Question

disable_progress_bar()  # loading takes a second; a bar for it would stand in the way of ours

CARD = "judge.json"
MASS_FLOOR = 0.5
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.py")
_BREAK = "\x1e"  # marks the seams between segments while the chat template is applied


class Encoded(NamedTuple):
    """One prompt as tokens.

    `slots`: index of the token after which each level stands; `starts`: where each foreign segment begins.
    """

    ids: list[int]
    slots: list[int]
    starts: tuple[int, ...]
    media: Mapping[str, torch.Tensor]


class Encoder:
    """Turns prompts into tokens, the same way in training and in serving.

    Fixed words go through the chat template; foreign text is encoded on its own, split inside every special token it
    imitates, so that it yields no special token and loses no character.
    """

    def __init__(self, processor: Any, rubric: Rubric):
        if not getattr(processor, "chat_template", None):
            raise InputError("the model has no chat template; add chat_template.jinja to its folder")
        self.processor, self.rubric = processor, rubric
        self.tokenizer = processor.tokenizer
        self.special = sorted({t.content for t in self.tokenizer.added_tokens_decoder.values()}, key=len, reverse=True)
        self.slot_ids, self.levels = self._slot_tokens()
        self._heads: OrderedDict[Any, tuple[list[int], dict[str, torch.Tensor]]] = OrderedDict()

    def plain(self, text: str) -> list[int]:
        """Token ids of foreign text: no special token, whatever it says; decodes to the same text."""
        pieces, rest = [], text
        while rest:
            hits = [(rest.find(token), len(token)) for token in self.special if len(token) > 1 and token in rest]
            if not hits:
                break
            at, length = min(hits)
            cut = at + max(1, length // 2)
            pieces.append(rest[:cut])
            rest = rest[cut:]
        pieces.append(rest)
        return [i for piece in pieces if piece for i in self.tokenizer.encode(piece, add_special_tokens=False)]

    def fixed(self, text: str) -> list[int]:
        """Token ids of our own words, special tokens included."""
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []

    def encode(self, prompt: Prompt, pictures: Sequence[Any]) -> Encoded:
        """Tokens of prompt and slots: everything up to the answer, then "Name:" per dimension."""
        words = _BREAK.join("" if segment.foreign else segment.text for segment in prompt.segments)
        content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": words}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        pieces = text.split(_BREAK)
        if len(pieces) != len(prompt.segments):
            raise InputError("the chat template of this model changes the text of a message; it cannot be used here")
        ids, media = self._head(pieces[0], pictures)
        ids, starts = list(ids), []
        for k, segment in enumerate(prompt.segments):
            if segment.foreign:
                starts.append(len(ids))
                ids += self.plain(segment.text)
            if k:
                ids += self.fixed(pieces[k])
        slots = []
        for slot in self.slot_ids:
            ids += slot
            slots.append(len(ids) - 1)
        return Encoded(ids, slots, tuple(starts), media)

    def batch(self, encoded: Sequence[Encoded], device: Any = "cpu", extra: Sequence[Sequence[int]] | None = None) -> dict[str, Any]:  # fmt: skip
        """Pad to one length on the tokenizer's side; `extra` are further token ids behind each (training targets).

        Returns input_ids, attention_mask [batch, length], slots [batch, dimensions] (positions after padding), media.
        """
        rows = [e.ids + list(extra[i] if extra else ()) for i, e in enumerate(encoded)]
        longest, pad = max(map(len, rows)), self.tokenizer.pad_token_id or 0
        left = self.tokenizer.padding_side == "left"
        ids = torch.full((len(rows), longest), pad)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        slots = torch.zeros((len(rows), len(self.slot_ids)), dtype=torch.long)
        for i, row in enumerate(rows):
            start = longest - len(row) if left else 0
            ids[i, start : start + len(row)] = torch.tensor(row)
            mask[i, start : start + len(row)] = 1
            slots[i] = torch.tensor(encoded[i].slots) + start
        inputs = {"input_ids": ids, "attention_mask": mask, **_stack([e.media for e in encoded], longest, rows, left)}
        return {"slots": slots.to(device), **{k: v.to(device) for k, v in inputs.items()}}

    def _head(self, text: str, pictures: Sequence[Any]) -> tuple[list[int], dict[str, torch.Tensor]]:
        key = (text, *(id(p) for p in pictures))
        if key not in self._heads:
            if pictures:
                out = dict(self.processor(text=[text], images=[list(pictures)], return_tensors="pt"))
                ids = out.pop("input_ids")[0].tolist()
                out.pop("attention_mask", None)
                media = {k: v for k, v in out.items() if k not in ("labels",)}
                if (begin := self.tokenizer.bos_token_id) is not None and ids[:2] == [begin, begin]:
                    ids = ids[1:]
            else:
                ids, media = self.fixed(text), {}
            self._heads[key] = (ids, {**media, "_keep": pictures})  # type: ignore[dict-item]  # keeps id() valid
            if len(self._heads) > 32:
                self._heads.popitem(last=False)
        ids, media = self._heads[key]
        return ids, {k: v for k, v in media.items() if k != "_keep"}

    def _slot_tokens(self) -> tuple[list[list[int]], list[list[int]]]:
        """For each dimension the tokens of "Name:" (with what stands before a digit) and those of each level."""
        slots, levels = [], []
        for k, name in enumerate(self.rubric.names):
            text = ("" if k == 0 else "\n") + f"{name}:"
            written = [self.fixed(f"{text} {level}") for level in self.rubric.scale.levels]
            if len({tuple(ids[:-1]) for ids in written}) > 1 or len({ids[-1] for ids in written}) < len(written):
                raise InputError(f"in this model's vocabulary the levels of '{name}' are not single tokens")
            slots.append(written[0][:-1])
            levels.append([ids[-1] for ids in written])
        return slots, levels


def _stack(media: Sequence[Mapping[str, torch.Tensor]], longest: int, rows: Sequence[Sequence[int]], left: bool) -> dict[str, Any]:  # fmt: skip
    """Join the pictures of a batch; per-token maps (1, tokens) are padded with 0 like the text."""
    result: dict[str, Any] = {}
    for name in media[0]:
        parts = [m[name] for m in media]
        if parts[0].ndim == 2 and name.endswith("token_type_ids"):
            whole = torch.zeros((len(rows), longest), dtype=parts[0].dtype)
            for i, part in enumerate(parts):
                start = longest - len(rows[i]) if left else 0
                whole[i, start : start + part.shape[1]] = part[0]
            result[name] = whole
            continue
        if parts[0].ndim >= 4 and parts[0].shape[0] == 1:  # (1, pictures, ...): fill up to the same number
            most = max(p.shape[1] for p in parts)
            parts = [torch.cat([p, p.new_zeros((1, most - p.shape[1], *p.shape[2:]))], 1) if p.shape[1] < most else p
                     for p in parts]  # fmt: skip
        result[name] = torch.cat(parts, 0)
    return result


def read_slots(logits: torch.Tensor, levels: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Expected value over the level tokens.

    logits: float [batch, dimensions, vocabulary]; levels: token ids [dimensions, levels]; values: [levels], scale units.
    Returns expected [batch, dimensions], distribution [batch, dimensions, levels] (sums to 1), mass [batch,
    dimensions] (probability on the level tokens before renormalising).
    """
    wide = logits.float()
    chosen = torch.gather(wide, 2, levels.expand(wide.shape[0], -1, -1))
    mass = torch.exp(torch.logsumexp(chosen, -1) - torch.logsumexp(wide, -1))
    distribution = torch.softmax(chosen, -1)
    return distribution @ values, distribution, mass


def slot_logits(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Logits at the slots, float [batch, dimensions, vocabulary]; only the tail of the text goes through the head."""
    inputs = {k: v for k, v in batch.items() if k != "slots"}
    slots, length = batch["slots"], inputs["input_ids"].shape[1]
    keep = length - int(slots.min())
    logits = model(**inputs, logits_to_keep=keep, use_cache=False).logits
    index = (slots - (length - logits.shape[1])).unsqueeze(-1).expand(-1, -1, logits.shape[-1])
    return torch.gather(logits, 1, index)


class LocalJudge:
    """Loads base and adapter (merged), checks that they belong together, and scores batches."""

    def __init__(self, base: Path, adapter: Path | None, rubric: Rubric, *, name: str, batch_size: int = 32,
                 device: str | None = None, critique: bool = False):  # fmt: skip
        for folder in filter(None, (base, adapter)):
            refuse_unsafe(Path(folder))
        card = _card(adapter or base)
        self.name, self.rubric, self.batch_size, self.critique = name, rubric, batch_size, critique
        self.form: Form = card.get("form", "full")
        if self.form == "bound" and card.get("rubric_hash") != rubric.hash:
            raise InputError(f"this judge was trained on rubric {card.get('rubric')} (hash {card.get('rubric_hash')}) and can "
                             f"score no other; asked for {rubric.id} (hash {rubric.hash})")  # fmt: skip
        if self.form == "bound" and card.get("template") != template_hash(rubric, "bound"):
            raise InputError("this judge was trained with another prompt template than this version writes; train it anew")
        self.weights = weights_hash(base)
        if adapter and card.get("base_weights") not in (None, self.weights):
            raise InputError(f"adapter {adapter} belongs to a base with weights {card['base_weights']}, but {base} "
                             f"has {self.weights}")  # fmt: skip
        self.max_images: int | None = card.get("max_images")
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = torch.bfloat16 if self.device != "cpu" or _fast_bf16() else torch.float32
        model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32, trust_remote_code=False, local_files_only=True)  # fmt: skip
        if adapter:
            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        self.model = model.to(self.device, self.dtype).eval()
        self.encoder = Encoder(AutoProcessor.from_pretrained(base, trust_remote_code=False, local_files_only=True), rubric)
        self.levels = torch.tensor(self.encoder.levels, device=self.device)
        self.values = torch.tensor(rubric.scale.levels, dtype=torch.float32, device=self.device)
        self.blind = bool(card.get("blind"))
        self.domain = card.get("domain")
        self.notes = tuple(card.get("notes", ()))
        self.limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.signature = {
            "judge": name, "rubric": f"{rubric.id}:{rubric.hash}", "form": self.form,
            "template": template_hash(rubric, self.form), "base": self.weights,
            "adapter": weights_hash(adapter) if adapter else None, "read": "slots", "critique": critique,
            "mass_floor": MASS_FLOOR, "batch_size": batch_size, "dtype": str(self.dtype).removeprefix("torch."),
            "max_images": self.max_images,
        }  # fmt: skip

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Scores of one batch; pictures and no pictures are run apart, since they cannot share a tensor."""
        results: list[Answer | None] = [None] * len(questions)
        ready: dict[bool, list[tuple[int, Encoded]]] = {True: [], False: []}
        for i, question in enumerate(questions):
            pictures = () if self.blind else question.pictures
            encoded = self.encoder.encode(question.prompt, pictures)
            if self.limit and len(encoded.ids) > self.limit:
                reason = f"{len(encoded.ids)} tokens, the model takes {self.limit}"
                results[i] = Answer(dict.fromkeys(self.rubric.names, Score(None, "input_error", reason)))
            else:
                ready[bool(pictures)].append((i, encoded))
        for group in ready.values():
            if group:
                for (i, _), (scores, feature, critique) in zip(group, self._run([e for _, e in group]), strict=True):
                    flags = self._out_of_domain(questions[i].prompt, feature)
                    results[i] = Answer(scores, critique, "", None, flags)
        return [r for r in results if r is not None]

    def _out_of_domain(self, prompt: Prompt, feature: Any) -> tuple[str, ...]:
        """Which part of a question is far from the judge's training: its text by tokens per word and length, its
        picture by distance. The limits (from the judge's own held-out data) stand in its card."""
        if not self.domain:
            return ()
        text = [s.text for s in prompt.segments if s.foreign][-1]  # the narrative
        words = len(text.split()) or 1
        flags = []
        if words > self.domain["words"] or len(self.encoder.plain(text)) / words > self.domain["tokens_per_word"]:
            flags.append("text out of domain")
        if feature is not None:
            centre, spread = (torch.tensor(self.domain[k], device=feature.device) for k in ("picture_mean", "picture_sd"))
            if float((((feature - centre) / spread) ** 2).mean().sqrt()) > self.domain["picture_distance"]:
                flags.append("picture out of domain")
        return tuple(flags)

    @torch.inference_mode()
    def _run(self, encoded: Sequence[Encoded]) -> list[tuple[dict[str, Score], Any, dict[str, str]]]:
        batch = self.encoder.batch(encoded, self.device)
        batch = {k: v.to(self.dtype) if torch.is_floating_point(v) else v for k, v in batch.items()}
        expected, distribution, mass = read_slots(slot_logits(self.model, batch), self.levels, self.values)
        features = picture_features(self.model, batch) if self.domain else [None] * len(encoded)
        critiques = self._critiques(encoded) if self.critique else [{}] * len(encoded)
        rows = zip(expected.tolist(), distribution.tolist(), mass.tolist(), features, critiques, strict=True)
        return [({name: _score(e[k], d[k], m[k]) for k, name in enumerate(self.rubric.names)}, f, c)
                for e, d, m, f, c in rows]  # fmt: skip

    def _critiques(self, encoded: Sequence[Encoded]) -> list[dict[str, str]]:
        """Words behind the slots, on demand; the scores are those of the same pass without them."""
        lead = self.encoder.fixed("\nCritique:")
        side, self.encoder.tokenizer.padding_side = self.encoder.tokenizer.padding_side, "left"
        batch = self.encoder.batch(encoded, self.device, [lead] * len(encoded))
        self.encoder.tokenizer.padding_side = side
        batch.pop("slots")
        batch = {k: v.to(self.dtype) if torch.is_floating_point(v) else v for k, v in batch.items()}
        out = self.model.generate(**batch, max_new_tokens=160, do_sample=False)
        texts = self.encoder.tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        return [read_critique(text, self.rubric) for text in texts]


def read_critique(text: str, rubric: Rubric) -> dict[str, str]:
    """Lines "Name - words" of a critique, by dimension; other lines are not attributed to any.

    >>> from dermjudge.judge.rubric import load_rubric
    >>> read_critique("Accuracy - colour wrong\\nhm", load_rubric("derm6"))
    {'Accuracy': 'colour wrong'}
    """
    lines = {}
    for line in text.splitlines():
        name, dash, words = line.strip().partition(" - ")
        if dash and name in rubric.names and name not in lines:
            lines[name] = words.strip()
    return lines


def _score(expected: float, distribution: list[float], mass: float) -> Score:
    if not mass == mass or not expected == expected:
        return Score(None, "unparsable", "the model returned a number that is not finite")
    if mass < MASS_FLOOR:
        reason = f"only {mass:.2f} of the probability is on the scale's levels (floor {MASS_FLOOR})"
        return Score(None, "unparsable", reason, tuple(distribution), mass)
    return Score(expected, "scored", "", tuple(distribution), mass)


def picture_features(model: Any, batch: dict[str, Any]) -> list[Any]:
    """Mean vector of each picture after the vision tower, float [width]; None where there is no picture."""
    pixels = batch.get("pixel_values")
    if pixels is None:
        return [None] * batch["input_ids"].shape[0]
    flat = pixels.reshape(-1, *pixels.shape[-3:])
    tower = getattr(model.model, "vision_model", None) or model.model.vision_tower
    states = tower(flat).last_hidden_state.float().mean(1)
    return list(states.reshape(pixels.shape[0], -1, states.shape[-1]).mean(1))


def refuse_unsafe(folder: Path) -> None:
    """Refuse a model folder that holds anything but safetensors and data, or that asks for its own code to run."""
    if not folder.is_dir():
        raise InputError(f"no model folder at {folder}")
    if bad := sorted(f.name for pattern in _PICKLES for f in folder.glob(pattern)):
        raise InputError(f"{folder} holds {bad[0]}: only *.safetensors and JSON are loaded, since such a file can run code")
    for file in folder.glob("*.json"):
        if file.name.endswith("config.json") and "auto_map" in json.loads(file.read_text("utf-8")):
            raise InputError(f"{file} asks for code of its own to be run (auto_map); this is refused")


def weights_hash(folder: Path) -> str:
    """First 16 hex digits of the SHA-256 over all *.safetensors of a folder, by name."""
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder} holds no *.safetensors")
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]


def _card(folder: Path) -> dict[str, Any]:
    file = Path(folder) / CARD
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


def _fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware (AVX-512 BF16 or AMX); elsewhere float32 is faster."""
    flags = Path("/proc/cpuinfo")
    text = flags.read_text() if flags.exists() else ""
    return "avx512_bf16" in text or "amx_bf16" in text
