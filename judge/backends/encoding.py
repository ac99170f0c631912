"""From prompts to tokens, the same way in training and in serving."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from ..errors import InputError
from ..prompt import Prompt
from ..rubric import Rubric

CRITIQUE, SCORES = "Critique:", "\nScores:"  # what stands before and behind a critique that comes before its scores
# While the chat template is applied: the delimiter of a call, so that it is applied once, and the seams between
# segments. Private characters and no white space, which templates trim (Gemma's does).
_NONCE = "\ue01f"
_BREAK = "\ue01e"


class Encoded(NamedTuple):
    """One prompt as tokens.

    `slots`: index of the token after which each level stands; `starts`, `sizes`: where each foreign
    segment begins and how many tokens it has.
    """

    ids: list[int]
    slots: list[int]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    pictures: int
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
        self.prefix = type(processor).__name__ == "PaliGemmaProcessor"  # reads a prompt in both directions
        self.special = sorted({t.content for t in self.tokenizer.added_tokens_decoder.values()}, key=len, reverse=True)
        self.slot_ids, self.levels = self._slot_tokens()
        self._templates: dict[tuple[str, int], list[str]] = {}
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

    def encode(self, prompt: Prompt, pictures: Sequence[Any], words: Sequence[int] = ()) -> Encoded:
        """Tokens of prompt and slots: everything up to the answer, then `words`, then "Name:" per dimension.

        words: token ids of an answer that stands before its scores (see `said`).
        """
        pieces = self.pieces(prompt, len(pictures))
        ids, media = self.head(pieces[0], pictures)
        ids, starts, sizes = list(ids), [], []
        for k, segment in enumerate(prompt.segments):
            if segment.foreign:
                foreign = self.plain(segment.text)
                starts.append(len(ids))
                sizes.append(len(foreign))
                ids += foreign
            if k:
                ids += self.fixed(pieces[k])
        if self.prefix:  # what is written after the prompt is read forwards only
            media = {**media, "token_type_ids": torch.zeros((1, len(ids)), dtype=torch.long)}
        ids += words
        slots = []
        for slot in self.slot_ids:
            ids += slot
            slots.append(len(ids) - 1)
        return Encoded(ids, slots, tuple(starts), tuple(sizes), len(pictures), media)

    def said(self, critique: str) -> list[int]:
        """Token ids of a critique that comes before its scores, from "Critique:" to the line "Scores:"."""
        return self.fixed(CRITIQUE) + self.plain(" " + critique) + self.fixed(f"{SCORES}\n")

    def before(self, encoded: Encoded) -> list[int]:
        """Token ids of an encoded prompt up to the first slot."""
        return encoded.ids[: encoded.slots[0] + 1 - len(self.slot_ids[0])]

    def pieces(self, prompt: Prompt, pictures: int) -> list[str]:
        """What stands between the foreign segments once the chat template is applied, the delimiter put in last."""
        fixed = _BREAK.join("" if s.foreign else s.text.replace(prompt.nonce, _NONCE) for s in prompt.segments)
        if (fixed, pictures) not in self._templates:
            content = [{"type": "image"} for _ in range(pictures)] + [{"type": "text", "text": fixed}]
            text = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            if text.count(_BREAK) != len(prompt.segments) - 1 or text.count(_NONCE) != fixed.count(_NONCE):
                raise InputError(
                    "the chat template of this model changes the text of a message; it cannot be used here"
                )
            self._templates[fixed, pictures] = text.split(_BREAK)
        return [piece.replace(_NONCE, prompt.nonce) for piece in self._templates[fixed, pictures]]

    def batch(
        self, encoded: Sequence[Encoded], device: Any = "cpu", extra: Sequence[Sequence[int]] | None = None
    ) -> dict[str, Any]:
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
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            **_stack([e.media for e in encoded], longest, rows, left, int(self.prefix)),
        }
        return {"slots": slots.to(device), **{k: v.to(device) for k, v in inputs.items()}}

    def head(self, text: str, pictures: Sequence[Any]) -> tuple[list[int], dict[str, torch.Tensor]]:
        """Token ids of what stands before the first foreign text, pictures and all, and the tensors of the pictures."""
        key = (text, *(id(p) for p in pictures))
        if key not in self._heads:
            if pictures:
                out = dict(self.processor(text=[text], images=[list(pictures)], return_tensors="pt"))
                ids = out.pop("input_ids")[0].tolist()
                out.pop("attention_mask", None)
                media = {k: v for k, v in out.items() if k not in ("labels",)}
            else:  # with what the tokenizer puts first, as with pictures
                ids, media = self.tokenizer.encode(text), {}
                if self.prefix:  # whose processor puts it behind the pictures
                    ids = [self.tokenizer.bos_token_id, *ids]
            if (begin := self.tokenizer.bos_token_id) is not None and ids[:2] == [begin, begin]:
                ids, media = ids[1:], {k: v[:, 1:] if k.endswith("token_type_ids") else v for k, v in media.items()}
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


def _stack(
    media: Sequence[Mapping[str, torch.Tensor]], longest: int, rows: Sequence[Sequence[int]], left: bool, rest: int
) -> dict[str, Any]:
    """Join the pictures of a batch; per-token maps (1, tokens) are filled up with `rest`, to the length of the text."""
    result: dict[str, Any] = {}
    for name in media[0]:
        parts = [m[name] for m in media]
        if parts[0].ndim == 2 and name.endswith("token_type_ids"):
            whole = torch.full((len(rows), longest), rest, dtype=parts[0].dtype)
            for i, part in enumerate(parts):
                start = longest - len(rows[i]) if left else 0
                whole[i, start : start + part.shape[1]] = part[0]
            result[name] = whole
            continue
        if parts[0].ndim >= 4 and parts[0].shape[0] == 1:  # (1, pictures, ...): fill up to the same number
            most = max(p.shape[1] for p in parts)
            parts = [
                torch.cat([p, p.new_zeros((1, most - p.shape[1], *p.shape[2:]))], 1) if p.shape[1] < most else p
                for p in parts
            ]
        result[name] = torch.cat(parts, 0)
    return result
