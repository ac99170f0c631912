"""A slot judge that another server runs: scores from the next-token probabilities that it lists behind each slot."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..calls.chat import Picture, TokenChance
from ..errors import InputError
from ..images import encode_png
from ..records import Score
from .base import Question
from .chances import MASS_FLOOR, ROUNDING

if TYPE_CHECKING:
    from ..calls.slot_route import SlotRoute


def slot_texts(encoder: Any) -> list[str]:
    """The words of each slot, such as "\\nSafety: " where the vocabulary writes the space apart from the level.

    encoder: `encoding.Encoder`. InputError where no text gives the slot's tokens.
    """
    texts = []
    for k, name in enumerate(encoder.rubric.names):
        text = ("\n" if k else "") + f"{name}:"
        fit = [text + tail for tail in ("", " ") if encoder.fixed(text + tail) == encoder.slot_ids[k]]
        if not fit:
            raise InputError(f"the tokens before the levels of '{name}' cannot be written as text")
        texts.append(fit[0])
    return texts


class ServedSlots:
    """Reads the slots of a judge through a `SlotRoute`; `encoder` of the same judge, which knows its tokens."""

    def __init__(self, route: SlotRoute, encoder: Any):
        self.route, self.encoder = route, encoder
        texts = slot_texts(encoder)
        self.begun = ["".join(texts[: k + 1]) for k in range(len(texts))]

    async def scores(self, question: Question) -> dict[str, Score]:
        """One score per dimension; a call per dimension. Errors as of `SlotRoute.next_tokens`."""
        pictures = [_picture(pixels) for pixels in question.pictures]
        replies = await self.route.next_tokens([*pictures, question.prompt.text], self.begun)
        rubric, tokenizer, found = self.encoder.rubric, self.encoder.tokenizer, {}
        for name, ids, reply in zip(rubric.names, self.encoder.levels, replies, strict=True):
            names = {f"token_id:{token}": k for k, token in enumerate(ids)}
            names |= {tokenizer.decode([token]): k for k, token in enumerate(ids)}
            found[name] = read_slot(reply.logprobs[0], names, rubric.scale.levels)  # type: ignore[index]
        return found

    def same_tokens(self, question: Question) -> bool:
        """Whether a server that is sent this prompt as text reads the judge's own tokens.

        The judge encodes foreign text and slots on their own; a server encodes the whole text, and a vocabulary may
        have a token for what stands on both sides of a seam.
        """
        encoder, prompt = self.encoder, question.prompt
        encoded = encoder.encode(prompt, question.pictures)
        pieces = encoder.pieces(prompt, len(question.pictures))
        text = "".join(s.text + p if s.foreign else p for s, p in zip(prompt.segments, pieces, strict=True))
        ours = encoder.fixed(pieces[0]) + encoded.ids[encoded.starts[0] :]
        return encoder.fixed(text + self.begun[-1]) == ours


def read_slot(chance: TokenChance, names: Mapping[str, int], levels: tuple[int, ...]) -> Score:
    """The expected score over `levels` from the alternatives listed at one slot.

    names: what the server may call the token of each level. What is not listed counts as no level, so the mass is a
    lower bound; below the floor the state is `unparsable`, as in `LocalJudge`.
    """
    on = [0.0] * len(levels)
    for word, logprob in {chance.token: chance.logprob, **dict(chance.top)}.items():
        if word in names:
            on[names[word]] += math.exp(logprob)
    mass = sum(on)
    if mass > 1 + ROUNDING:
        return Score(None, "unparsable", "the probabilities of its levels sum to more than 1")
    if mass < MASS_FLOOR:
        reason = f"only {mass:.2f} of the probability is on the scale's levels (floor {MASS_FLOOR})"
        return Score(None, "unparsable", reason, None, mass)
    distribution = tuple(part / mass for part in on)
    value = sum(level * part for level, part in zip(levels, distribution, strict=True))
    return Score(value, "scored", "", distribution, mass)


def _picture(pixels: Any) -> Picture:
    data = encode_png(pixels)
    return Picture(data, "image/png", hashlib.sha256(data).hexdigest())
